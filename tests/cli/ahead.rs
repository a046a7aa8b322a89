//! What looks ahead: `forecast`, `explain`, `config plan`, `simulate`.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use rebilld::ports::clock::Clock;
use rebilld::time::SystemClock;
use serde_json::{Value, json};

use super::rig::{CONFIG, Rig};

const BOOK: &str = "account,external_ref,plan,customer_uid,anchor,starts_on,amount,status,buyer_name,name\n\
    main,f-1,monthly,card-1,2030-01-31,2030-01-31,,,CANARY,N\n\
    main,f-2,monthly,card-2,2030-01-05,2030-01-05,,,,N\n\
    second,f-3,own,card-3,2030-01-01,2030-01-01,5000,,,N\n\
    main,f-4,dollars,card-4,2030-03-01,2030-03-01,12000,,,N\n\
    main,f-5,monthly,card-5,2030-01-01,2030-01-01,,paused,,N\n";

fn filled(rigs: [Rig; 2], book: &str) -> [Rig; 2] {
    for rig in &rigs {
        rig.write("book.csv", book);
        let imported = rig.import("book.csv");
        if let (Some(hash), true) = (imported["held_hash"].as_str(), imported["held"] != 0) {
            rig.ok(&["imports", "confirm", hash, "--reason", "made up, cards and all", "--quiet"]);
        }
    }
    rigs
}

fn seoul() -> TimeZone {
    TimeZone::get("Asia/Seoul").unwrap()
}

#[tokio::test]
async fn a_forecast_names_charges_sums_and_what_is_left_out() {
    for rig in filled(Rig::both().await, BOOK) {
        let forecast = ["forecast", "--days", "90", "--at", "2029-12-31T00:00:00Z"];
        let line = |month: &str, currency: &str, charges: u64, sum: i64| json!({ "month": month, "currency": currency, "charges": charges, "sum": sum, "retries": 0, "retry_sum": 0 });
        let told = rig.json(&forecast);
        let wanted = json!({
            "from": "2029-12-31T00:00:00Z", "until": "2030-03-31T00:00:00Z", "by": "month", "days": 90, "subscriptions": 5,
            "lines": [
                line("2030-01", "KRW", 5, 34_800), line("2030-02", "KRW", 4, 29_800), line("2030-03", "KRW", 3, 19_900),
                line("2030-03", "USD", 1, 12_000),
            ],
            "total": [
                { "currency": "KRW", "charges": 12, "sum": 84_500, "retries": 0, "retry_sum": 0 },
                { "currency": "USD", "charges": 1, "sum": 12_000, "retries": 0, "retry_sum": 0 },
            ],
            "not_counted": {
                "paused": 1, "cancelled": 0, "ended": 0, "missed": 0, "missed_periods": 0, "in_review": 0, "problems": [],
                "unclear": [], "without_card": [],
            },
            "braked": [],
        });
        assert_eq!(told, wanted);
        let by = |by: &str| rig.csv(&[&forecast[..], &["--by", by]].concat());
        assert_eq!(
            by("account")[1..],
            [
                ["main", "KRW", "5", "49500", "0", "0"],
                ["main", "USD", "1", "12000", "0", "0"],
                ["second", "KRW", "7", "35000", "0", "0"]
            ]
        );
        assert_eq!(by("plan").len(), 4);
        assert_eq!(by("day")[1], ["2030-01-01", "KRW", "1", "5000", "0", "0"]);
        assert_eq!(by("week")[1], ["2029-12-31", "KRW", "2", "14900", "0", "0"], "the week of the Monday");
        let table = rig.ok(&forecast);
        assert!(table.contains("2030-01") && table.contains("34,800 KRW") && table.contains("██████"), "{table}");
        assert!(table.contains("1 subscription paused"), "{table}");
    }
}

#[tokio::test]
async fn a_subscription_is_explained_rule_by_rule() {
    for rig in filled(Rig::both().await, BOOK) {
        let told = rig.json(&["explain", "f-1"]);
        assert_eq!(told["verdict"], "9,900 KRW is charged on Thu 31 Jan 2030 10:00 KST.");
        assert_eq!(told["next"][1]["due_at"], "2030-02-28T01:00:00Z");
        assert_eq!((&told["config"], &told["zone"], &told["charge"]), (&Value::Null, &"Asia/Seoul".into(), &Value::Null));
        let says = |told: &Value, rule: &str| -> String {
            let reasons = told["reasons"].as_array().unwrap().clone();
            let found = reasons.iter().find(|reason| reason["rule"] == rule);
            found.unwrap_or_else(|| panic!("{rule} in {told}"))["says"].as_str().unwrap().to_owned()
        };
        assert_eq!(says(&told, "status"), "The subscription is active.");
        assert!(says(&told, "next period").contains("2030-01-31"), "{told}");
        assert!(rig.json(&["explain", "f-5"])["verdict"].as_str().unwrap().contains("paused"));
        let at = rig.json(&["explain", "f-2", "--at", "2030-02-10"]);
        assert!(says(&at, "period").contains("2030-02-05 to 2030-03-05 has not opened yet"), "{at}");
        let before = rig.json(&["explain", "f-2", "--at", "2029-06-01"]);
        assert!(says(&before, "period").contains("periods before 2030-01-05 are not charged for"), "{before}");
        assert!(rig.fails(65, &["explain", "f-1", "--at", "soon"]).contains("2026-12-01"));
        assert!(rig.fails(65, &["explain", "nobody"]).contains("there is no subscription `nobody`"));
        let text = rig.ok(&["explain", "f-1"]);
        assert!(text.contains("to come") && text.contains("Thu 28 Feb 2030 10:00 KST") && !text.contains("CANARY"), "{text}");
        rig.ok(&["kill", "on", "--reason", "test", "--quiet"]);
    }
}

#[tokio::test]
async fn a_charge_is_explained_with_what_was_decided() {
    for rig in filled(Rig::both().await, BOOK) {
        let rows = |at: &dyn Fn(i64) -> String| {
            format!(
                "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state, waiting, next_at, attempts, tries, first_declined_at)
                    SELECT s.id, a.id, '2030-01-05', '2030-02-05', {due}, 9900, 'KRW', 'per_attempt', 'due', 'retry', {next}, 1, 1, {due}
                    FROM subscriptions s, accounts a WHERE s.external_ref = 'f-2' AND a.name = 'main';
                INSERT INTO observations (charge_id, source, began_at, at, detail, rule)
                    VALUES (1, 'answer', {due}, {due}, '{{\"fail_reason\": \"[1254][잔액부족]\"}}', 'the answer says failed');
                UPDATE schedules SET opened_until = '2030-02-05' WHERE subscription_id = (SELECT id FROM subscriptions WHERE external_ref = 'f-2')",
                due = at(1_893_805_200),
                next = at(1_893_891_600),
            )
        };
        rig.sql(&rows(&|second| format!("{second}000000")), &rows(&|second| format!("to_timestamp({second})"))).await;
        let told = rig.json(&["explain", "f-2"]);
        assert_eq!(told["verdict"], "9,900 KRW is charged on Sun 6 Jan 2030 10:00 KST again, after a decline.");
        let text = rig.ok(&["explain", "f-2"]);
        for part in [
            "is open; it fell due on Sat 5 Jan 2030 10:00 KST",
            "older than the numbering of configs",
            "the gateway answered ([1254][잔액부족]). Rule: the answer says failed.",
            "it was declined once and is tried again on Sun 6 Jan 2030",
            "The next period waits for it (while_past_due = \"hold\")",
            "The last opened period ends on 2030-02-05, and the next one starts there.",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let forecast = rig.json(&["forecast", "--days", "30", "--at", "2029-12-31T00:00:00Z"]);
        assert_eq!((&forecast["total"][0]["retries"], &forecast["total"][0]["retry_sum"]), (&1.into(), &9_900.into()));
    }
}

/// Billing keys that a charge of long ago was refused for good with.
async fn refused_for_good(rig: &Rig, references: &[&str], second: i64) {
    for (place, reference) in references.iter().enumerate() {
        let id = 7_000 + place;
        let rows = |at: &str, own_id: &str| {
            format!(
                "INSERT INTO attempts (id, charge_id, number, id_number, amount, customer_uid, state) {own_id}
                    SELECT {id}, {id}, 1, 1, 100, customer_uid, 'declined' FROM subscriptions WHERE external_ref = '{reference}';
                INSERT INTO card_tries (attempt_id, account_id, customer_uid, charge_id, at, class)
                    SELECT {id}, a.id, s.customer_uid, {id}, {at}, 'HARD_CARD' FROM subscriptions s JOIN accounts a ON a.name = s.account
                    WHERE s.external_ref = '{reference}'"
            )
        };
        let postgres = rows(&format!("to_timestamp({second})"), "OVERRIDING SYSTEM VALUE");
        rig.sql(&rows(&format!("{second}000000"), ""), &postgres).await;
    }
}

fn forecast_of(sums: &Value, currency: &Value) -> i64 {
    let of_it = sums.as_array().unwrap().iter().find(|sum| sum["currency"] == *currency);
    of_it.map_or(0, |sum| sum["charges"].as_i64().unwrap_or_else(|| panic!("{sum}")))
}

#[tokio::test]
async fn a_billing_key_that_was_refused_for_good_is_explained_before_its_next_charge() {
    for rig in filled(Rig::both().await, BOOK) {
        // a week before its first charge
        refused_for_good(&rig, &["f-2"], 1_893_200_400).await;
        let told = rig.json(&["explain", "f-2"]);
        let verdict = "9,900 KRW for 2030-01-05 waits for a new billing key, because the card company refused this one for good; \
                       without one, 9,900 KRW is charged on Tue 5 Feb 2030 10:00 KST.";
        assert_eq!(told["verdict"], verdict);
        let text = rig.ok(&["explain", "f-2"]);
        assert!(text.contains("subscriptions set REF --customer-uid"), "{text}");
        rig.ok(&["subscriptions", "set", "f-2", "--customer-uid", "another", "--reason", "a new card", "--quiet"]);
        assert_eq!(rig.json(&["explain", "f-2"])["verdict"], "9,900 KRW is charged on Sat 5 Jan 2030 10:00 KST.");
    }
}

/// Figures that are counted here by other means: dates by jiff's own calendar, prices by hand.
#[tokio::test]
async fn a_plan_is_what_an_independent_count_comes_to() {
    let today = SystemClock::new().now().to_zoned(seoul()).date();
    let day = |n: i32| today.checked_add(Span::new().days(n)).unwrap();
    let mut book = "account,external_ref,plan,customer_uid,anchor,starts_on,amount,name\n".to_owned();
    for n in 1..=30 {
        let own = if n % 5 == 0 { "7000" } else { "" };
        book += &format!("main,m-{n},monthly,card,{0},{0},{own},N\n", day(n));
    }
    for n in 1..=10 {
        book += &format!("second,o-{n},own,card,{0},{0},{1},N\n", day(n), n * 1_000);
    }
    for rig in filled(Rig::both().await, &book) {
        let new = CONFIG
            .replace("amount = 9900", "amount = 12900")
            .replace("every = \"2 weeks\"", "every = \"2 weeks\"\ncharge_time = \"14:00\"")
            + "[jobs]\naudit = \"0 30 4 * * *\"\n";
        rig.write("new.toml", &new);
        let told = rig.json(&["config", "plan", "--file", "new.toml"]);

        let own: i64 = (1..=10).map(|n| n * 1_000).sum();
        let counts = ["changed", "moved", "repriced", "stopped", "started"].map(|name| told[name].as_i64().unwrap());
        assert_eq!(counts, [34, 10, 24, 0, 0]);
        let next = json!([{
            "currency": "KRW", "before": 24 * 9_900 + own, "after": 24 * 12_900 + own, "count_before": 34, "count_after": 34,
            "difference": 24 * 3_000,
        }]);
        assert_eq!(told["next_charges"], next);
        assert_eq!(
            (&told["needs_confirmation"], &told["needs_restart"], &told["in_force"]),
            (&false.into(), &json!([]), &Value::Null)
        );

        let now: Timestamp = SystemClock::new().now();
        let until = now + Span::new().hours(35 * 24);
        let mut days: BTreeMap<Date, [i64; 4]> = BTreeMap::new();
        let mut due = |date: Date, hours: [i8; 2], amounts: [i64; 2]| {
            for (place, (hour, amount)) in hours.into_iter().zip(amounts).enumerate() {
                if date.at(hour, 0, 0, 0).to_zoned(seoul()).unwrap().timestamp() < until {
                    let sums = days.entry(date).or_default();
                    sums[2 * place] += 1;
                    sums[2 * place + 1] += amount;
                }
            }
        };
        for n in 1..=30 {
            let amounts = if n % 5 == 0 { [7_000, 7_000] } else { [9_900, 12_900] };
            for months in 0..3 {
                due(day(n).checked_add(Span::new().months(months)).unwrap(), [10, 10], amounts);
            }
        }
        for n in 1..=10 {
            for weeks in 0..4 {
                let amount = i64::from(n) * 1_000;
                due(day(n).checked_add(Span::new().weeks(2 * weeks)).unwrap(), [10, 14], [amount, amount]);
            }
        }
        let counted: Vec<Value> = days
            .iter()
            .map(|(day, [count_before, before, count_after, after])| {
                json!({
                    "day": day, "currency": "KRW", "count_before": count_before, "before": before, "count_after": count_after,
                    "after": after,
                })
            })
            .collect();
        assert_eq!(told["days"], Value::Array(counted));

        let largest = told["largest"].as_array().unwrap();
        assert_eq!(largest.len(), 10);
        // between 10:00 and 14:00 in Seoul a charge of the last day is among those looked at before, and not after
        let (dearer, moved): (Vec<&Value>, Vec<&Value>) = largest.iter().partition(|change| change["plan"] == "monthly");
        assert!(dearer.iter().all(|change| change["after"].as_i64().unwrap() - change["before"].as_i64().unwrap() == 3_000));
        assert!(moved.len() <= 1 && moved.iter().all(|change| change["due_after"] != change["due_before"]), "{moved:#?}");
        assert_eq!((&told["jobs"][0]["job"], told["jobs"].as_array().unwrap().len()), (&"audit".into(), 1));
        assert!(told["jobs"][0]["after"].as_str().unwrap().ends_with("T04:30:00Z"));

        // beyond the bound in force, and what only a restart can change
        rig.write("bound.toml", new.replace("amount = 12900", "amount = 90000") + "[reload]\nmax_change_sum = 1\n");
        let large = rig.json(&["config", "plan", "--file", "bound.toml"]);
        assert_eq!(large["needs_confirmation"], true, "24 x 80,100 is more than the million of the config in place");
        assert!(rig.ok(&["config", "plan", "--file", "bound.toml"]).contains("config apply --confirm"));
        assert!(rig.fails(65, &["config", "apply", "--file", "bound.toml", "--reason", "x"]).contains("nothing was applied"));
        rig.write("moved.toml", new.replace("http://127.0.0.1:8765", "http://127.0.0.1:8766"));
        let moved = rig.json(&["config", "plan", "--file", "moved.toml"]);
        assert_eq!(moved["needs_restart"], json!(["accounts.main.base_url"]));
        assert!(rig.fails(78, &["config", "apply", "--file", "moved.toml", "--reason", "x"]).contains("accounts.main.base_url"));
        assert!(rig.ok(&["config", "apply", "--file", "new.toml", "--reason", "x"]).contains("no daemon runs at the moment"));
        let removed = new.replace("[plans.own]", "[plans.other]");
        rig.write("removed.toml", removed);
        assert_eq!(rig.json(&["config", "plan", "--file", "removed.toml"])["stopped"], 10);
    }
}

#[tokio::test]
async fn a_simulation_charges_what_the_forecast_says_and_reaches_nobody() {
    let today = SystemClock::new().now().to_zoned(seoul()).date();
    let day = |n: i32| today.checked_add(Span::new().days(n)).unwrap();
    let mut book = "account,external_ref,plan,customer_uid,anchor,starts_on,amount,charge_time,buyer_name,name\n".to_owned();
    for n in 1..=60 {
        let (account, plan) = [("main", "monthly"), ("second", "own"), ("main", "dollars")][n as usize % 3];
        let at = if n % 7 == 0 { "03:30" } else { "" };
        book += &format!("{account},s-{n},{plan},card-{n},{0},{0},{1},{at},CANARY,N\n", day(n), 1_000 + n);
    }
    // whoever connects to what the config names is counted
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    std::thread::spawn({
        let connections = Arc::clone(&connections);
        move || {
            listener.incoming().for_each(|_| {
                connections.fetch_add(1, Ordering::SeqCst);
            })
        }
    });
    for rig in filled(Rig::both().await, &book) {
        let config = CONFIG.replace("127.0.0.1:8765", &address.to_string());
        rig.write(
            "rebilld.toml",
            config.replace("[accounts.second]", &format!("[accounts.second]\nbase_url = \"http://{address}\"")),
        );
        refused_for_good(&rig, &["s-3", "s-6", "s-10"], SystemClock::new().now().as_second()).await;
        // no key can be read: a simulation needs none
        for name in ["main.key", "main.secret", "hook.secret"] {
            std::fs::remove_file(rig.path().join(name)).unwrap();
        }
        let simulated = rig.json(&["simulate", "--months", "2", "--declines", "0"]);
        let date = |name: &str| simulated[name].as_str().unwrap().parse::<Date>().unwrap();
        let days = (date("until") - date("from")).get_days().to_string();
        let forecast_book = rig.json(&["forecast", "--days", &days]);
        assert_eq!(simulated["subscriptions"], 60);
        let mut without_card = 0;
        for (simulated, forecast) in simulated["total"].as_array().unwrap().iter().zip(forecast_book["total"].as_array().unwrap())
        {
            assert_eq!(simulated["currency"], forecast["currency"]);
            assert_eq!((&simulated["charged"], &simulated["charged_sum"]), (&forecast["charges"], &forecast["sum"]));
            assert_eq!(simulated["declined"], 0);
            let stopped = forecast_of(&forecast_book["not_counted"]["without_card"], &forecast["currency"]);
            assert_eq!(simulated["unpaid"].as_i64().unwrap() + simulated["open"].as_i64().unwrap(), stopped, "{simulated}");
            without_card += stopped;
            assert!(simulated["charged"].as_i64().unwrap() > 10, "{simulated}");
        }
        assert_eq!(simulated["total"].as_array().unwrap().len(), 2);
        assert!(without_card >= 3, "keys that were refused for good: {forecast_book}");

        let declined = rig.json(&["simulate", "--months", "2", "--declines", "40"]);
        let total = &declined["total"][0];
        let of = |name: &str| total[name].as_i64().unwrap();
        assert!(of("declined") > 0 && of("recovered") > 0, "{total}");
        assert_eq!(of("due"), of("charged") + of("recovered") + of("unpaid") + of("open"));
        assert_eq!(rig.json(&["simulate", "--months", "2", "--declines", "40"]), declined, "the same seed, the same run");
        let ladders = declined["ladders"].as_array().unwrap();
        assert!(ladders.iter().any(|ladder| ladder["recovered"].as_i64() > Some(0)), "{ladders:?}");
        for ladder in ladders {
            let of = |name: &str| ladder[name].as_i64().unwrap();
            assert_eq!(of("declined"), of("recovered") + of("unpaid") + of("open"), "{ladder}");
        }
        let csv = rig.csv(&["simulate", "--months", "2", "--declines", "40", "--by", "ladder"]);
        assert_eq!((csv[0][0].as_str(), csv.len()), ("ladder", ladders.len() + 1));
        assert!(rig.ok(&["simulate", "--months", "1"]).contains("nothing left this machine"));
        // the book itself is as it was
        assert_eq!(rig.json(&["charges", "list"]), json!([]));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}
