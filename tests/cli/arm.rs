//! Arming a live account: `second` is at PortOne itself, `main` at a sandbox.

use super::rig::Rig;

#[tokio::test]
async fn a_live_account_is_armed_by_its_name_and_nothing_else() {
    for rig in Rig::both().await {
        let row = |what: &str| {
            let rows = rig.json(&["hold", "status"]);
            rows.as_array().unwrap().iter().find(|row| row["what"] == what).unwrap().clone()
        };
        assert_eq!((&row("account second")["live"], &row("account second")["armed"]), (&true.into(), &false.into()));
        assert!(row("account second")["why"].as_str().unwrap().contains("`rebilld arm --account second`"));
        assert_eq!((&row("account main")["live"], &row("account main")["armed"]), (&false.into(), &true.into()));

        let arm = ["arm", "--account", "second", "--reason", "we go live"];
        let with = |more: &[&'static str]| [&arm[..], more].concat();
        assert!(rig.fails(64, &arm).contains("add --confirm second"), "nobody is there to be asked");
        assert!(rig.fails(65, &with(&["--confirm", "main"])).contains("`main` is not the account's name: nothing is armed"));
        let wrong = ["arm", "--account", "secnd", "--confirm", "secnd", "--reason", "x"];
        assert!(rig.fails(65, &wrong).contains("did you mean `second`?"));
        rig.fails(64, &["arm", "--account", "second", "--confirm", "second", "--reason", " "]);
        rig.ok(&["hold", "set", "--reason", "is it the right one?", "--quiet"]);
        assert!(rig.fails(75, &with(&["--confirm", "second"])).contains("`rebilld hold release` first"));
        assert_eq!(row("account second")["armed"], false);
        rig.sql("UPDATE settings SET held = 0", "UPDATE settings SET held = false").await;

        let sandbox = rig.json(&["arm", "--account", "main", "--reason", "why not"]);
        assert!(sandbox["done"].as_str().unwrap().contains("needs no arming"), "{sandbox}");
        assert!(rig.ok(&with(&["--confirm", "second", "--as", "kim"])).contains("account second is armed"));
        assert_eq!(row("account second")["armed"], true);
        assert!(rig.ok(&arm).contains("is armed already since"), "and nobody is asked twice");
        let journal = rig.json(&["journal", "list"]);
        let entry = journal.as_array().unwrap().iter().find(|entry| entry["action"] == "arm").unwrap();
        assert_eq!((&entry["subject"], &entry["reason"]), (&"account second".into(), &"we go live".into()));
        assert!(entry["who"].as_str().unwrap().starts_with("kim ("), "{entry}");
        assert_eq!(entry["detail"]["base_url"], "https://api.iamport.kr");
        assert_eq!(journal.as_array().unwrap().iter().filter(|entry| entry["action"] == "arm").count(), 1);
    }
}

#[tokio::test]
async fn an_account_that_moved_is_confirmed_before_it_is_armed() {
    for rig in Rig::both().await {
        rig.sql("UPDATE accounts SET live = 0 WHERE name = 'second'", "UPDATE accounts SET live = false WHERE name = 'second'")
            .await;
        let arm = ["arm", "--account", "second", "--confirm", "second", "--reason", "we go live"];
        assert!(rig.fails(75, &arm).contains("then `rebilld hold release --account second`, then arm it"));
    }
}
