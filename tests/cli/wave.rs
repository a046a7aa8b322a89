//! `rebilld wave`: what is shown, what is refused, and what is journaled.

use serde_json::Value;

use super::rig::Rig;

/// Three charges that are due, and a fuse that has blown.
async fn blown() -> [Rig; 2] {
    let rigs = Rig::both().await;
    for rig in &rigs {
        let rows: Vec<String> = (1..=3).map(|n| format!("('main', 'sub-{n}', 'monthly', 'card-{n}', '2026-01-31')")).collect();
        let rows =
            format!("INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor) VALUES {}", rows.join(", "));
        rig.sql(&rows, &rows).await;
        let charges = |due_at: &str| {
            format!(
                "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state, waiting, next_at)
                    SELECT s.id, a.id, '2026-01-31', '2026-02-28', {due_at}, CASE WHEN s.external_ref = 'sub-2' THEN 99000 ELSE 9900 END, 'KRW',
                        'per_attempt', 'due', 'turn', {due_at}
                    FROM subscriptions s JOIN accounts a ON a.name = s.account"
            )
        };
        rig.sql(&charges("1770000000000000"), &charges("'2026-02-02T02:40:00Z'")).await;
        let audited = "UPDATE accounts SET audited_incarnation = (SELECT incarnation FROM settings)";
        rig.sql(audited, audited).await;
        blow(rig, "main").await;
    }
    rigs
}

async fn blow(rig: &Rig, account: &str) {
    let blow = |at: &str| {
        format!(
            "UPDATE accounts SET fuse = 'blown', fuse_why = '501 charges in an hour, 500 at most', fuse_at = {at}, fuse_approvers = 1 WHERE name = '{account}'"
        )
    };
    rig.sql(&blow("1770000000000000"), &blow("'2026-02-02T02:40:00Z'")).await;
}

fn hash(rig: &Rig) -> String {
    rig.json(&["wave", "show", "--account", "main"])[0]["hash"].as_str().unwrap().to_owned()
}

const KIM: [&str; 4] = ["--by", "kim", "--why", "it is the 25th"];

fn approve(hash: &str) -> Vec<&str> {
    [&["wave", "approve", hash][..], &KIM].concat()
}

/// Under a config that asks for two operators.
fn with_two<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["--config", "rebilld.toml", "--config", "two.toml"], arguments].concat()
}

fn journaled(rig: &Rig) -> Value {
    rig.json(&["journal", "list", "--about", "account main"])
}

#[tokio::test]
async fn a_wave_is_shown_as_it_would_be_sent() {
    for rig in blown().await {
        let shown = rig.json(&["wave", "show"]);
        let wave = &shown[0];
        assert_eq!(shown.as_array().unwrap().len(), 1);
        assert_eq!((&wave["account"], &wave["state"], &wave["count"]), (&"main".into(), &"blown".into(), &3.into()));
        assert_eq!((&wave["sums"]["KRW"], &wave["why"]), (&118_800.into(), &"501 charges in an hour, 500 at most".into()));
        let uid = wave["charges"][0]["merchant_uid"].as_str().unwrap();
        assert!(uid.starts_with("sb") && uid.ends_with("01") && uid.len() == 30, "{uid}");
        let text = rig.ok(&["wave", "show"]);
        for expected in [
            "account main: the fuse has blown at 2026-02-02 11:40:00 KST: 501 charges in an hour, 500 at most",
            "3 charges, 118,800 KRW together, the largest 99,000 KRW (sub-2)",
            "sub-3",
            uid,
            " --account main --by NAME --why TEXT",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(!text.contains("card-1"), "no billing key");
        let rows = rig.csv(&["wave", "show"]);
        assert!(rows.len() == 4 && rows.iter().any(|row| row[2] == "sub-1"), "{rows:?}");
        assert_eq!(rig.json(&["hold", "status"])[1]["state"], "fuse blown");
        assert!(rig.ok(&["explain", "sub-1"]).contains("the account's fuse has blown (501 charges in an hour, 500 at most)"));
        assert!(rig.ok(&["charges", "show", "sub-1:2026-01-31"]).contains("But the account's fuse has blown (501 charges"));
    }
}

#[tokio::test]
async fn an_approval_releases_what_was_shown_and_says_what_comes_next() {
    for rig in blown().await {
        let hash = hash(&rig);
        let told = rig.ok(&approve(&hash));
        assert!(told.starts_with("exactly these 3 charges of account main are sent, until "), "{told}");
        let entry = &journaled(&rig)[0];
        assert_eq!((&entry["action"], &entry["reason"]), (&"wave approve".into(), &"it is the 25th".into()));
        assert!(entry["who"].as_str().unwrap().starts_with("kim ("), "{entry}");
        assert_eq!((&entry["detail"]["hash"], &entry["detail"]["sums"]["KRW"]), (&hash.as_str().into(), &"118800".into()));
        assert_eq!(rig.json(&["hold", "status"])[1]["state"], "sends a wave");
        assert!(rig.fails(65, &approve(&hash)).contains("a wave of account main is approved already, until "));
        assert!(rig.ok(&["wave", "show"]).contains("exactly the charges of an approved wave are sent until "));
    }
}

#[tokio::test]
async fn whatever_has_changed_voids_what_was_shown() {
    for rig in blown().await {
        let before = hash(&rig);
        for (change, back) in [
            (
                "UPDATE subscriptions SET customer_uid = 'x' WHERE external_ref = 'sub-1'",
                "UPDATE subscriptions SET customer_uid = 'card-1' WHERE external_ref = 'sub-1'",
            ),
            ("UPDATE charges SET id_number = 2 WHERE amount = 99000", "UPDATE charges SET id_number = 1 WHERE amount = 99000"),
            ("UPDATE charges SET state = 'void' WHERE amount = 99000", "UPDATE charges SET state = 'due' WHERE amount = 99000"),
        ] {
            rig.sql(change, change).await;
            let error = rig.fails(65, &approve(&before));
            assert!(error.contains("what is due of account main is not what was shown: "), "{change}: {error}");
            rig.sql(back, back).await;
        }
        assert_eq!(journaled(&rig).as_array().unwrap().len(), 0, "nothing was approved");
        rig.ok(&approve(&before));
    }
}

#[tokio::test]
async fn an_approval_needs_a_hash_a_name_and_a_blown_fuse() {
    for rig in blown().await {
        let right = hash(&rig);
        for wrong in ["", "abc", "abcdefghijklmnopqrst", "abcdefghijklmnopqrst-now"] {
            assert!(rig.fails(64, &approve(wrong)).contains("no hash of a wave"), "{wrong}");
        }
        let other = format!("abcdefghijklmnopqrst-{}", right.split_once('-').unwrap().1);
        assert!(rig.fails(65, &approve(&other)).contains("is not what was shown: 3 charges are due now (118,800 KRW)"));
        rig.fails(64, &["wave", "approve", &right, "--why", "x"]);
        rig.fails(64, &["wave", "approve", &right, "--by", "kim"]);
        assert!(rig.fails(64, &["wave", "approve", &right, "--by", " ", "--why", "x"]).contains("--by is empty"));
        assert!(rig.fails(64, &["wave", "approve", &right, "--by", "kim", "--why", " "]).contains("is empty"));
        let at = |name| [&approve(&right)[..], &["--account", name]].concat();
        assert!(rig.fails(65, &at("second")).contains("the fuse of account second has not blown"));
        assert!(rig.fails(65, &at("third")).contains("there is no account `third`"));
        blow(&rig, "second").await;
        assert!(rig.fails(64, &approve(&right)).contains("the fuses of main and second have blown: add --account"));
        rig.ok(&at("main"));
        let whole = "UPDATE accounts SET fuse = NULL";
        rig.sql(whole, whole).await;
        assert!(rig.fails(65, &approve(&right)).contains("no fuse has blown: nothing waits for an approval"));
        assert!(rig.fails(65, &["wave", "reject", "--by", "kim", "--why", "x"]).contains("no fuse has blown"));
        assert!(rig.ok(&["wave", "show"]).contains("no fuse has blown"));
        assert_eq!(rig.json(&["wave", "show"]).as_array().unwrap().len(), 0);
    }
}

#[tokio::test]
async fn where_two_have_to_approve_one_is_not_enough() {
    for rig in blown().await {
        rig.write("two.toml", "[accounts.main.fuse]\napprovers = 2\n");
        let right = hash(&rig);
        let told = rig.ok(&with_two(&approve(&right)));
        assert!(told.starts_with("approved by kim: one more operator has to approve "), "{told}");
        assert_eq!(rig.json(&["hold", "status"])[1]["state"], "fuse blown");
        let again = ["wave", "approve", &right, "--by", "KIM", "--why", "me again"];
        assert!(
            rig.fails(65, &with_two(&again))
                .contains("KIM has approved this wave already: the second approval has to come from somebody else")
        );
        let second = ["wave", "approve", &right, "--by", "lee", "--why", "I have looked too"];
        rig.ok(&with_two(&second));
        let actions: Vec<String> =
            journaled(&rig).as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap().to_owned()).collect();
        assert_eq!(actions, ["wave approve", "wave approve (1 of 2)"]);
        assert_eq!(rig.json(&["hold", "status"])[1]["state"], "sends a wave");
    }
}

#[tokio::test]
async fn a_rejection_says_what_comes_next_and_an_empty_wave_mends_the_fuse() {
    for rig in blown().await {
        let told = rig.ok(&["wave", "reject", "--by", "kim", "--why", "wrong prices"]);
        assert!(told.contains("account main stays stopped") && told.contains("rebilld wave show --account main"), "{told}");
        assert_eq!(rig.json(&["hold", "status"])[1]["state"], "wave rejected");
        assert!(rig.ok(&["wave", "show"]).starts_with("account main: rejected by kim: wrong prices; before that: 501 charges"));
        assert_eq!(journaled(&rig)[0]["action"], "wave reject");
        let gone = "UPDATE subscriptions SET status = 'cancelled'";
        rig.sql(gone, gone).await;
        assert!(rig.ok(&["wave", "show"]).contains("Nothing that can be sent was due by "));
        let empty = hash(&rig);
        assert!(rig.ok(&approve(&empty)).contains("nothing was due: account main sends again"));
        assert_eq!(rig.json(&["hold", "status"])[1]["fuse"], Value::Null);
    }
}
