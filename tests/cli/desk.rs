//! Changes, brakes, journal, events.

use super::rig::Rig;

async fn filled() -> [Rig; 2] {
    let rigs = Rig::both().await;
    for rig in &rigs {
        rig.write("s.csv", "account,external_ref,plan,customer_uid,anchor\nmain,sub-1,monthly,card-1,2026-01-31\nmain,both,monthly,card-1,2026-01-31\nsecond,both,monthly,card-1,2026-01-31\n");
        rig.ok(&["subscriptions", "import", "s.csv", "--quiet"]);
    }
    rigs
}

#[tokio::test]
async fn a_change_is_journaled_and_told_as_an_event() {
    for rig in filled().await {
        let arguments = [
            "subscriptions",
            "set",
            "sub-1",
            "--amount",
            "12900",
            "--name",
            "Pro",
            "--next-date",
            "2030-01-31",
            "--reason",
            "new price",
        ];
        let json = rig.json(&arguments);
        assert_eq!((&json["next_period"], &json["changes"].as_array().unwrap().len()), (&"2030-01-31".into(), &3));
        let entry = &rig.json(&["journal", "list", "--about", "main/sub-1"])[0];
        assert_eq!((&entry["action"], &entry["detail"]["amount"]["new"]), (&"subscriptions set".into(), &"12900".into()));
        let event = &rig.json(&["events", "list"])[0];
        assert_eq!(
            (&event["type"], &event["pending"], &event["data"]["changed"][0]),
            (&"subscription.changed".into(), &1.into(), &"amount".into())
        );
        assert!(rig.ok(&arguments).contains("nothing changes"));
        assert_eq!(rig.json(&["events", "list"]).as_array().unwrap().len(), 1);
        // an empty text takes a value back
        rig.ok(&["subscriptions", "set", "sub-1", "--amount", "", "--reason", "back", "--quiet"]);
        assert!(rig.ok(&["subscriptions", "show", "sub-1"]).contains("9,900 KRW"));
    }
}

#[tokio::test]
async fn a_bad_change_is_refused_and_leaves_no_trace() {
    for rig in filled().await {
        for (change, expected) in [
            (&["--amount", "0"][..], "amount: 0 is too little"),
            (&["--amount", "-5"], "amount: -5 is too little"),
            (&["--amount", "9900.5"], "amount: `9900.5` has a fraction"),
            (&["--name", "12345678901234567890123456789012345678901"], "name: has 41 characters"),
            (&["--next-date", "2025-02-29"], "starts_on: `2025-02-29` is not in the calendar"),
            (&["--customer-uid", ""], "customer_uid: cannot be empty"),
            (&["--plan", "montly"], "plan: there is no plan `montly`: did you mean `monthly`?"),
            (&["--plan", "own"], "amount: is empty, and plan `own` has none"),
            (&["--vat-amount", "9901"], "vat_amount: tax_free and vat_amount are 9901 together"),
            (&["--column", "account=second"], "`account` of a subscription never changes"),
        ] {
            let error = rig.fails(65, &[&["subscriptions", "set", "sub-1", "--reason", "x"], change].concat());
            assert!(error.contains(expected), "{expected} in {error}");
        }
        assert!(rig.fails(64, &["subscriptions", "set", "sub-1", "--reason", "x"]).contains("nothing is to be set"));
        assert!(rig.fails(65, &["subscriptions", "pause", "gone", "--reason", "x"]).contains("there is no subscription `gone`"));
        assert!(
            rig.fails(65, &["subscriptions", "pause", "both", "--reason", "x"])
                .contains("accounts main, second have a subscription `both`: add --account")
        );
        rig.ok(&["subscriptions", "pause", "both", "--account", "second", "--reason", "x"]);
        assert_eq!(rig.json(&["journal", "list"]).as_array().unwrap().len(), 2, "the import and the one pause");
        let rows = rig.json(&["subscriptions", "list", "--status", "paused"]);
        assert_eq!((rows.as_array().unwrap().len(), &rows[0]["account"]), (1, &"second".into()));
        rig.ok(&["subscriptions", "cancel", "both", "--account", "second", "--reason", "x"]);
        assert!(
            rig.fails(65, &["subscriptions", "resume", "both", "--account", "second", "--reason", "x"]).contains("is cancelled")
        );
    }
}

#[tokio::test]
async fn brakes_are_set_shown_and_journaled() {
    for rig in filled().await {
        rig.ok(&["kill", "on", "--reason", "wrong prices", "--quiet"]);
        rig.ok(&["hold", "set", "--account", "second", "--reason", "new key", "--quiet"]);
        let rows = rig.csv(&["kill", "status"]);
        assert_eq!(rows[1][..3], ["database", "killed", "true"]);
        assert_eq!(rows[2][..2], ["account main", "killed with the database"]);
        assert_eq!(rows[3][..2], ["account second", "held"]);
        assert_eq!(rig.csv(&["kill", "status", "--account", "main"])[1][1], "killed with the database");
        assert!(rig.ok(&["hold", "status"]).contains("wrong prices"));
        rig.ok(&["kill", "off", "--reason", "prices are right again", "--quiet"]);
        assert_eq!(rig.json(&["kill", "status"])[0]["killed"], false);
        rig.ok(&["hold", "set", "--reason", "is this the right file?", "--quiet"]);
        let rows = rig.csv(&["hold", "status"]);
        assert_eq!([&rows[1][1], &rows[2][1], &rows[3][1]], ["held", "held with the database", "held"]);
        let actions: Vec<String> =
            rig.csv(&["journal", "list"])[1..].iter().map(|row| format!("{} {}", row[3], row[4])).collect();
        assert_eq!(actions[1..4], ["kill off database", "hold set account second", "kill on database"]);
        assert!(rig.fails(65, &["kill", "on", "--account", "mian", "--reason", "x"]).contains("did you mean `main`?"));
    }
}

#[tokio::test]
async fn events_are_replayed_to_all_or_one_endpoint() {
    for rig in filled().await {
        rig.ok(&["subscriptions", "pause", "sub-1", "--reason", "x", "--quiet"]);
        let seq = rig.json(&["events", "list"])[0]["seq"].to_string();
        let done = "UPDATE deliveries SET state = 'delivered', tries = 3";
        rig.sql(done, done).await;
        assert_eq!(rig.json(&["events", "list", "--open"]).as_array().unwrap().len(), 0);
        assert!(rig.ok(&["events", "replay", "--from", &seq, "--failed", "--reason", "lost"]).starts_with("0 "));
        assert!(rig.ok(&["events", "replay", "--from", &seq, "--endpoint", "crm", "--reason", "lost"]).starts_with("1 "));
        assert_eq!(rig.json(&["events", "list", "--open"])[0]["pending"], 1);
        assert!(
            rig.fails(65, &["events", "replay", "--from", &seq, "--endpoint", "crn", "--reason", "x"])
                .contains("did you mean `crm`?")
        );
        // an endpoint that was added later gets it too
        rig.write(
            "more.toml",
            "[[webhooks]]\nname = \"late\"\nurl = \"https://late.example.com\"\nsecret_file = \"hook.secret\"\n",
        );
        let replay = [
            "--config",
            "rebilld.toml",
            "--config",
            "more.toml",
            "events",
            "replay",
            "--from",
            &seq,
            "--endpoint",
            "late",
            "--reason",
            "new",
        ];
        assert!(rig.ok(&replay).starts_with("1 "));
        assert_eq!(rig.json(&["events", "list"])[0]["pending"], 2);
    }
}

#[test]
fn a_signature_is_verified() {
    let rig = Rig::sqlite();
    let secret = rebilld::ports::secret::Secret::new("whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg==");
    let body = br#"{"id":"evt_1"}"#;
    let signature = rebilld::courier::sign(&secret, "evt_1", 1_790_000_000, body).unwrap();
    let arguments = ["events", "verify", "--id", "evt_1", "--timestamp", "1790000000", "--signature", &signature];
    let fits = [&arguments[..], &["--endpoint", "crm", "--any-time"]].concat();
    assert_eq!(rig.run_with_input(&fits, body).code, 0);
    assert_eq!(rig.run_with_input(&fits, b"{}").code, 65);
    let by_file = [&arguments[..], &["--secret-file", "hook.secret", "--any-time"]].concat();
    assert_eq!(rig.run_with_input(&by_file, body).code, 0);
    rig.mode("hook.secret", 0o644);
    assert_eq!(rig.run_with_input(&by_file, body).code, 78);
}

#[tokio::test]
async fn migrate_says_what_is_missing_and_may_be_repeated() {
    for rig in [Rig::sqlite(), Rig::postgres().await] {
        if rig.database.is_some() {
            assert_eq!(rig.json(&["migrate", "--status"])[0]["version"], 1);
            let error = rig.fails(78, &["kill", "on", "--reason", "x"]);
            assert!(error.contains("run `rebilld migrate`"), "{error}");
            assert!(rig.fails(78, &["journal", "list"]).contains("run `rebilld migrate`"));
        }
        assert!(rig.ok(&["migrate"]).contains("0001 start: done"));
        assert!(!rig.ok(&["migrate"]).contains("0001 start"));
        assert_eq!(rig.json(&["migrate", "--status"]).as_array().unwrap().len(), 0);
        assert_eq!(rig.json(&["hold", "status"]).as_array().unwrap().len(), 3, "the database and its two accounts");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let rig = Rig::sqlite();
    let mut child = rig.command(&["config", "reference"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
