//! Imports of many rows: what looks wrong is held until exactly that is confirmed.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use rebilld::ports::clock::Clock;
use rebilld::time::SystemClock;
use serde_json::Value;

use super::rig::Rig;

const HEADER: &str = "account,external_ref,plan,customer_uid,anchor,amount\n";

/// The day so many days from today, where the plans are.
fn day(ahead: i64) -> Date {
    let now: Timestamp = SystemClock::new().now();
    now.to_zoned(TimeZone::get("Asia/Seoul").unwrap()).date() + Span::new().days(ahead)
}

/// So many rows that nothing is wrong with: one begins each day, from three days on.
fn rows(count: i64) -> Vec<String> {
    (0..count).map(|n| format!("main,sub-{n},monthly,card-{n},{},", day(3 + n))).collect()
}

fn file(rig: &Rig, rows: &[String]) {
    rig.write("s.csv", format!("{HEADER}{}\n", rows.join("\n")));
}

fn import(rig: &Rig) -> Value {
    rig.import("s.csv")
}

fn known(rig: &Rig) -> usize {
    rig.json(&["subscriptions", "list", "--limit", "1000"]).as_array().unwrap().len()
}

fn entries(rig: &Rig) -> usize {
    rig.json(&["journal", "list"]).as_array().unwrap().len()
}

/// Thirty rows of which five look wrong, each for its own reason, after one subscription that is there already.
fn mixed(rig: &Rig) -> Vec<String> {
    rig.write("first.csv", format!("{HEADER}main,before,monthly,card-before,{},\n", day(9)));
    rig.ok(&["subscriptions", "import", "first.csv", "--quiet"]);
    let mut rows = rows(30);
    rows[4] = format!("main,sub-4,monthly,card-4,{},990000", day(7));
    rows[5] = format!("main,sub-5,monthly,card-before,{},", day(8));
    rows[6] = format!("main,sub-6,monthly,card-7,{},", day(9));
    rows[8] = format!("main,sub-8,monthly,card-8,{},", day(0));
    file(rig, &rows);
    rows
}

#[tokio::test]
async fn what_looks_wrong_is_held_and_imported_once_exactly_that_is_confirmed() {
    for rig in Rig::both().await {
        mixed(&rig);
        let told = import(&rig);
        assert_eq!((&told["new"], &told["held"]), (&25.into(), &5.into()), "{told}");
        let reasons = serde_json::json!({ "far_from_plan": 1, "key_elsewhere": 1, "key_twice": 2, "soon": 1 });
        assert_eq!(told["held_reasons"], reasons);
        let hash = told["held_hash"].as_str().unwrap().to_owned();
        let held = rig.json(&["imports", "list"]);
        let held: Vec<(String, String)> = held
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                assert_eq!(row["hash"], hash.as_str());
                (row["external_ref"].as_str().unwrap().to_owned(), row["reasons"].as_str().unwrap().to_owned())
            })
            .collect();
        for ((found, why), (expected, words)) in held.iter().zip([
            ("sub-4", "costs 990,000 KRW, the plan 9,900 KRW"),
            ("sub-5", "another subscription has its billing key"),
            ("sub-6", "another row has its billing key"),
            ("sub-7", "another row has its billing key"),
            ("sub-8", "due"),
        ]) {
            assert_eq!(found, expected);
            assert!(why.contains(words), "{found}: {why}");
        }
        assert_eq!((known(&rig), entries(&rig)), (26, 2));

        // the same file twice changes nothing, and holds the same rows under the same hash
        let again = import(&rig);
        assert_eq!((&again["new"], &again["unchanged"], &again["held"]), (&0.into(), &25.into(), &5.into()));
        assert_eq!((&again["held_hash"], known(&rig), entries(&rig)), (&hash.as_str().into(), 26, 2));

        let (wrong, short) = (rig.fails(65, &["imports", "confirm", "00000000", "--reason", "x"]), &hash[..12]);
        assert!(wrong.contains(&hash), "{wrong}");
        let done = rig.json(&["imports", "confirm", short, "--reason", "looked at each", "--as", "kim"]);
        assert_eq!((&done["new"], &done["changed"]), (&5.into(), &0.into()));
        assert_eq!((known(&rig), rig.json(&["imports", "list"]).as_array().unwrap().len()), (31, 0));
        let entry = &rig.json(&["journal", "list"])[0];
        assert_eq!((&entry["action"], &entry["reason"]), (&"imports confirm".into(), &"looked at each".into()));
        assert_eq!((&entry["detail"]["hash"], &entry["detail"]["rows"]), (&hash.as_str().into(), &5.into()));
        assert_eq!(rig.json(&["subscriptions", "show", "sub-4"])["amount"], 990_000);
        assert!(rig.fails(65, &["imports", "confirm", &hash, "--reason", "again"]).contains("nothing is held"));
        let after = import(&rig);
        assert_eq!((&after["unchanged"], &after["held"]), (&30.into(), &0.into()));
    }
}

#[tokio::test]
async fn what_is_rejected_stays_out_of_files_until_it_changes_or_comes_alone() {
    for rig in Rig::both().await {
        let rows = mixed(&rig);
        let hash = import(&rig)["held_hash"].as_str().unwrap().to_owned();
        assert!(rig.ok(&["imports", "reject", &hash, "--reason", "a slip"]).contains("dropped: 5 rows"));
        assert_eq!((known(&rig), rig.json(&["imports", "list"]).as_array().unwrap().len()), (26, 0));
        // the job that sends the same file each night does not bring them in
        let again = import(&rig);
        assert_eq!((&again["new"], &again["unchanged"], &again["rejected"]), (&0.into(), &25.into(), &5.into()));
        assert_eq!(known(&rig), 26);
        let mut better = rows.clone();
        better[4] = rows[4].replace("990000", "9900");
        file(&rig, &better);
        let told = import(&rig);
        assert_eq!((&told["new"], &told["rejected"]), (&1.into(), &4.into()), "one that was put right is a row like any other");
        file(&rig, &rows[5..6]);
        assert_eq!(import(&rig)["new"], 1, "whoever sends it alone means it");
    }
}

#[tokio::test]
async fn twenty_rows_and_a_single_sign_up_are_taken_at_once() {
    for rig in Rig::both().await {
        let mut rows = rows(20);
        rows[3] = format!("main,sub-3,monthly,card-2,{},9900000", day(-1));
        file(&rig, &rows);
        let told = import(&rig);
        assert_eq!((&told["new"], &told["held"], &told["held_hash"]), (&20.into(), &0.into(), &Value::Null));
    }
}

#[tokio::test]
async fn a_hash_is_void_once_one_of_its_rows_is_put_right() {
    for rig in Rig::both().await {
        let rows = mixed(&rig);
        let hash = import(&rig)["held_hash"].as_str().unwrap().to_owned();
        file(&rig, &[rows[4].replace("990000", "9900")]);
        let told = import(&rig);
        assert_eq!((&told["new"], &told["held"]), (&1.into(), &0.into()));
        let error = rig.fails(65, &["imports", "confirm", &hash, "--reason", "x"]);
        assert!(error.contains("void once one of its rows has changed"), "{error}");
        let held = rig.json(&["imports", "list"]);
        assert_eq!(held.as_array().unwrap().len(), 4);
        let hash = held[0]["hash"].as_str().unwrap();
        assert_eq!(rig.json(&["imports", "confirm", hash, "--reason", "the rest is right"])["new"], 4);
        assert_eq!(rig.json(&["subscriptions", "show", "sub-4"])["amount"], 9900);
    }
}

#[tokio::test]
async fn the_hash_that_an_import_names_confirms_the_rows_that_it_showed() {
    for rig in Rig::both().await {
        let rows = mixed(&rig);
        let first = import(&rig)["held_hash"].as_str().unwrap().to_owned();
        // a file of two of them, unchanged: what it shows is confirmed by what it names
        file(&rig, &rows[4..6]);
        let told = import(&rig);
        assert_eq!((&told["new"], &told["held"]), (&0.into(), &2.into()));
        let two = told["held_hash"].as_str().unwrap().to_owned();
        assert_ne!(two, first);
        let rest = rig.json(&["imports", "list"]);
        let rest: Vec<&Value> = rest.as_array().unwrap().iter().filter(|row| row["hash"] != two.as_str()).collect();
        assert_eq!(rest.len(), 3, "the others stay as they are");
        let rest = rest[0]["hash"].as_str().unwrap().to_owned();
        // and one file over both groups is one group again
        file(&rig, &rows);
        assert_eq!(import(&rig)["held_hash"], first.as_str());
        assert!(rig.fails(65, &["imports", "confirm", &two, "--reason", "x"]).contains(&first));
        assert!(rig.fails(65, &["imports", "confirm", &rest, "--reason", "x"]).contains(&first));
        file(&rig, &rows[4..6]);
        assert_eq!(import(&rig)["held_hash"], two.as_str());
        assert_eq!(rig.json(&["imports", "confirm", &two, "--reason", "looked at both"])["new"], 2);
        assert_eq!(rig.json(&["imports", "confirm", &rest, "--reason", "and at the rest"])["new"], 3);
    }
}

#[tokio::test]
async fn everything_at_once_is_shown_first_and_confirmed_with_the_import() {
    for rig in Rig::both().await {
        let rows: Vec<String> = (0..40).map(|n| format!("main,sub-{n},monthly,card-{n},{},", day(40))).collect();
        file(&rig, &rows);
        let said = rig.ok(&["subscriptions", "import", "s.csv", "--dry-run"]);
        assert!(
            said.contains("40 would be held and not imported")
                && said.contains("40 of 40 new rows fall due first within one hour"),
            "{said}"
        );
        assert_eq!((known(&rig), rig.json(&["imports", "list"]).as_array().unwrap().len()), (0, 0), "--dry-run holds nothing");
        let dry = rig.json(&["subscriptions", "import", "s.csv", "--dry-run"]);
        let hash = dry["held_hash"].as_str().unwrap().to_owned();
        assert!(said.contains(&format!("--confirm {hash}")));
        let error = rig.fails(65, &["subscriptions", "import", "s.csv", "--confirm", "aaaaaaaaaa"]);
        assert!(error.contains(&hash) && error.contains("nothing was imported"), "{error}");
        let told = rig.json(&["subscriptions", "import", "s.csv", "--confirm", &hash, "--reason", "the launch"]);
        assert_eq!((&told["new"], &told["held"]), (&40.into(), &0.into()));
        let entry = &rig.json(&["journal", "list"])[0];
        assert_eq!((&entry["reason"], &entry["detail"]["hash"]), (&"the launch".into(), &hash.as_str().into()));
        let error = rig.fails(65, &["subscriptions", "import", "s.csv", "--confirm", &hash]);
        assert!(error.contains("looks wrong any more"), "{error}");
    }
}

#[tokio::test]
async fn a_changed_row_that_is_held_keeps_its_old_terms_until_it_is_confirmed() {
    for rig in Rig::both().await {
        let rows = rows(25);
        file(&rig, &rows);
        assert_eq!(import(&rig)["held"], 0);
        let dearer: Vec<String> = rows.iter().map(|row| format!("{row}99000")).collect();
        file(&rig, &dearer);
        let told = import(&rig);
        assert_eq!((&told["changed"], &told["held"]), (&0.into(), &25.into()));
        assert_eq!(rig.json(&["subscriptions", "show", "sub-3"])["amount"], Value::Null);
        let hash = told["held_hash"].as_str().unwrap();
        assert_eq!(rig.json(&["imports", "confirm", hash, "--reason", "the new price"])["changed"], 25);
        assert_eq!(rig.json(&["subscriptions", "show", "sub-3"])["amount"], 99_000);
    }
}

#[tokio::test]
async fn a_held_row_does_not_undo_what_has_become_of_its_subscription_since() {
    let cancel = ["subscriptions", "cancel", "sub-3", "--reason", "asked for it", "--quiet"];
    let card = ["subscriptions", "set", "sub-3", "--customer-uid", "card-new", "--reason", "a new card", "--quiet"];
    for by_hand in [None, Some(&cancel), Some(&card)] as [Option<&[&str]>; 3] {
        for rig in Rig::both().await {
            let header = "account,external_ref,plan,customer_uid,anchor,status,amount";
            let rows: Vec<String> = (0..25).map(|n| format!("main,sub-{n},monthly,card-{n},{},active,", day(3 + n))).collect();
            rig.write("s.csv", format!("{header}\n{}\n", rows.join("\n")));
            assert_eq!(import(&rig)["held"], 0);
            let dearer: Vec<String> = rows.iter().map(|row| format!("{row}99000")).collect();
            rig.write("s.csv", format!("{header}\n{}\n", dearer.join("\n")));
            let hash = import(&rig)["held_hash"].as_str().unwrap().to_owned();
            match by_hand {
                Some(command) => drop(rig.ok(command)),
                None => {
                    // written by hand, it says of itself that nothing has changed
                    let sql = "UPDATE subscriptions SET status = 'cancelled' WHERE external_ref = 'sub-3'";
                    rig.sql(sql, sql).await;
                }
            }
            let before = rig.json(&["subscriptions", "show", "sub-3"]);
            let error = rig.fails(65, &["imports", "confirm", &hash, "--reason", "the new price"]);
            assert!(error.contains("main/sub-3") && error.contains("import") && !error.contains("sub-4"), "{error}");
            let after = rig.json(&["subscriptions", "show", "sub-3"]);
            for column in ["status", "customer_uid", "amount"] {
                assert_eq!(after[column], before[column], "{column}");
            }
            assert_eq!(rig.json(&["subscriptions", "show", "sub-4"])["amount"], Value::Null, "all or nothing");
            // the way out: the file again, and somebody who looks again
            let again = import(&rig);
            assert_eq!((&again["changed"], &again["held"]), (&0.into(), &25.into()));
            let void = rig.fails(65, &["imports", "confirm", &hash, "--reason", "the new price"]);
            assert!(void.contains("void once one of its rows has changed"), "{void}");
            let held = rig.json(&["imports", "list"]);
            for row in held.as_array().unwrap() {
                let changed = row["reasons"].as_str().unwrap().contains("its subscription has changed since");
                assert_eq!((changed, &row["hash"]), (row["external_ref"] == "sub-3", &again["held_hash"]), "{row}");
            }
            assert_eq!(import(&rig)["held_hash"], again["held_hash"], "the same file twice changes nothing");
            let hash = again["held_hash"].as_str().unwrap();
            assert_eq!(rig.json(&["imports", "confirm", hash, "--reason", "looked at sub-3"])["changed"], 25);
        }
    }
}

#[tokio::test]
async fn a_held_new_row_does_not_change_a_subscription_that_has_appeared_since() {
    for rig in Rig::both().await {
        mixed(&rig);
        let hash = import(&rig)["held_hash"].as_str().unwrap().to_owned();
        let sql = format!(
            "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor) VALUES ('main', 'sub-4', 'monthly', 'own-card', '{}')",
            day(20)
        );
        rig.sql(&sql, &sql).await;
        let error = rig.fails(65, &["imports", "confirm", &hash, "--reason", "x"]);
        assert!(error.contains("main/sub-4") && !error.contains("sub-5"), "{error}");
        assert_eq!(known(&rig), 27);
        assert!(rig.ok(&["imports", "reject", &hash, "--reason", "x"]).contains("dropped: 5 rows"));
    }
}

#[tokio::test]
async fn rows_that_are_held_fail_the_import_and_stand_in_hold_status_after_two_hours() {
    for rig in Rig::both().await {
        mixed(&rig);
        rig.ok(&["subscriptions", "import", "s.csv", "--dry-run", "--quiet"]);
        for nightly in [&["subscriptions", "import", "s.csv"] as &[&str], &["subscriptions", "import", "s.csv", "--quiet"]] {
            let said = rig.fails(75, nightly);
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(
                said.contains("s.csv: 5 rows look wrong, and are held") && said.contains("rebilld imports confirm "),
                "{said}"
            );
        }
        let brakes = || {
            let rows = rig.json(&["hold", "status"]);
            let of_imports = rows.as_array().unwrap().iter().filter(|row| row["what"] == "imports");
            of_imports.map(|row| (row["state"].clone(), row["why"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(brakes(), [], "somebody may be looking at them");
        let (sqlite, postgres) = ("held_at - 7200000000", "held_at - INTERVAL '2 hours'");
        rig.sql(&format!("UPDATE import_holds SET held_at = {sqlite}"), &format!("UPDATE import_holds SET held_at = {postgres}"))
            .await;
        let told = brakes();
        assert_eq!((told.len(), &told[0].0), (1, &"5 rows held".into()));
        assert!(told[0].1.as_str().unwrap().contains("rebilld imports list"), "{told:?}");
        // a file that holds one more does not make the others new
        let mut more = rows(30);
        more[4] = format!("main,sub-4,monthly,card-4,{},990000", day(7));
        more[20] = format!("main,sub-20,monthly,card-20,{},990000", day(23));
        file(&rig, &more);
        rig.import("s.csv");
        assert_eq!(brakes()[0].0, "2 rows held", "sub-4 and sub-7: the others were put right");
        let hash = rig.json(&["imports", "list"])[0]["hash"].as_str().unwrap().to_owned();
        rig.ok(&["imports", "reject", &hash, "--reason", "a slip", "--quiet"]);
        assert_eq!(brakes(), []);
    }
}

#[tokio::test]
async fn a_held_row_without_what_it_needs_is_refused_like_any_other() {
    for rig in Rig::both().await {
        let mut rows: Vec<String> = rows(29).iter().map(|row| row.trim_end_matches(',').to_owned()).collect();
        rows.push(format!("main,sub-29,own,card-2,{}", day(60)));
        rig.write("s.csv", format!("account,external_ref,plan,customer_uid,anchor\n{}\n", rows.join("\n")));
        let error = rig.fails(65, &["subscriptions", "import", "s.csv"]);
        assert!(error.contains("s.csv:31: amount: a new subscription needs it"), "{error}");
        assert_eq!((known(&rig), rig.json(&["imports", "list"]).as_array().unwrap().len()), (0, 0));
    }
}
