//! The journal, as an operator verifies it.

use super::rig::Rig;

#[tokio::test]
async fn a_journal_is_verified_and_what_was_tampered_with_is_named() {
    for rig in Rig::both().await {
        for (word, reason) in [("on", "wrong prices"), ("off", "right prices"), ("on", "wrong again")] {
            rig.ok(&["kill", word, "--reason", reason, "--quiet"]);
        }
        let told = rig.json(&["journal", "verify"]);
        assert_eq!((&told["whole"], &told["entries"], &told["sealed"]), (&true.into(), &3.into(), &3.into()));
        let kept = told["head"].as_str().unwrap().to_owned();
        assert!(rig.ok(&["journal", "verify"]).contains(&kept));
        assert_eq!(rig.json(&["journal", "list"])[0]["hash"], kept.as_str());
        rig.ok(&["kill", "off", "--reason", "done", "--quiet"]);
        let told = rig.json(&["journal", "verify", "--expect", &kept]);
        assert_eq!((&told["expected"]["entry"], &told["expected"]["added_since"]), (&3.into(), &1.into()));
        assert!(rig.fails(64, &["journal", "verify", "--expect", "abc"]).contains("64 digits"));

        rig.sql("DROP TRIGGER journal_not_changed", "DROP TRIGGER journal_append_only ON journal").await;
        rig.sql("DROP TRIGGER journal_not_deleted", "SELECT 1").await;
        let cut = "DELETE FROM journal WHERE id > 2";
        rig.sql(cut, cut).await;
        rig.ok(&["journal", "verify", "--quiet"]);
        let said = rig.fails(65, &["journal", "verify", "--expect", &kept]);
        assert!(said.contains("its end was cut off") && said.contains("ends with entry 2"), "{said}");

        let change = "UPDATE journal SET who = 'nobody' WHERE id = 1";
        rig.sql(change, change).await;
        let said = rig.fails(65, &["journal", "verify"]);
        for words in
            ["entry 1 of the journal", "kill on by nobody", "was changed after it had been written", "backup", "--after 1"]
        {
            assert!(said.contains(words), "{words} in {said}");
        }
        let done = rig.run(&["journal", "verify", "--output", "json"]);
        let told: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!((done.code, &told["whole"], &told["entry"], &told["harm"]), (65, &false.into(), &1.into(), &"changed".into()));
        assert!(rig.ok(&["journal", "verify", "--after", "1"]).contains("1 entry behind entry 1"));
        let delete = "DELETE FROM journal WHERE id = 1";
        rig.sql(delete, delete).await;
        assert!(rig.fails(65, &["journal", "verify"]).contains("at least one entry between them was removed"));
        assert!(rig.fails(65, &["journal", "verify", "--after", "1"]).contains("no entry 1 with a hash"));
    }
}
