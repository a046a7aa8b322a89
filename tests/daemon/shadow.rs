//! `rebilld run --shadow`, beside an old system that charges: it reports, and charges nothing (I9).

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rebilld::gateway::sandbox::{Details, PaymentRecord, PaymentStatus};
use rebilld::ports::clock::Clock;
use rebilld::ports::metrics::list::METRICS;
use rebilld::time::SystemClock;
use serde_json::{Value, json};

use crate::ask::{get, until_says};
use crate::exposition::read;
use crate::metrics::OF_SHADOW;
use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};
use crate::support::postgres;

/// The last day that is over for an hour, in the account's zone.
fn yesterday() -> Date {
    let seoul = TimeZone::get("Asia/Seoul").expect("the account's zone");
    let settled = SystemClock::new().now() - SignedDuration::from_hours(1);
    settled.to_zoned(seoul).date().yesterday().expect("a day before")
}

fn noon(day: Date) -> Timestamp {
    day.at(12, 0, 0, 0).in_tz("Asia/Seoul").expect("a noon").timestamp()
}

/// What the old system asked for on that day: card, amount, and whether it was paid.
fn ledger(day: Date, charges: &[(&str, i64, bool)]) -> String {
    let line = |(n, (card, amount, paid)): (usize, &(&str, i64, bool))| {
        let payment = PaymentRecord {
            imp_uid: format!("imps_old{n}"),
            post: n as u64,
            imp_key: "sandbox-key".to_owned(),
            tier: None,
            merchant_uid: format!("old-cron-{n}"),
            customer_uid: (*card).to_owned(),
            amount_minor: *amount,
            currency: "KRW".to_owned(),
            status: if *paid { PaymentStatus::Paid } else { PaymentStatus::Failed },
            at: noon(day),
            visible_from: noon(day),
            fail_reason: (!paid).then(|| "[1254][실시간빌링실패|잔액부족]".to_owned()),
            cancellations: Vec::new(),
            sandbox: true,
            details: Details::default(),
        };
        json!({ "payment": payment }).to_string() + "\n"
    };
    charges.iter().enumerate().map(line).collect()
}

async fn subscribe(rig: &Rig, day: Date, names: &[&str]) {
    let rows: Vec<String> =
        names.iter().map(|name| format!("('main', 'sub-{name}', 'weekly', 'good-{name}', '{day}', '{day}')")).collect();
    let columns = "account, external_ref, plan, customer_uid, anchor, starts_on";
    rig.home.sql(&format!("INSERT INTO subscriptions ({columns}) VALUES {}", rows.join(", "))).await;
}

async fn untouched(rig: &Rig) -> bool {
    let books = rig.home.books().await;
    books.charges.is_empty() && books.sends.is_empty() && rig.gateway.charges() == 0
}

async fn differences_are_told(database: Option<&str>) {
    let day = yesterday();
    let charged = [
        ("good-a", 7_000, true),
        ("good-b", 9_000, true),
        ("good-d", 7_000, false),
        ("good-x", 700, true),
        ("stranger", 5, true),
    ];
    let rig = Rig::over(database, &ledger(day, &charged));
    subscribe(&rig, day, &["a", "b", "c", "d", "x"]).await;
    rig.done(&["subscriptions", "cancel", "sub-x", "--reason", "left"]);
    let (code, text) = rig.fails(&["run", "--shadow", "--days", "2", "--output", "json"]);
    assert_eq!(code, 65, "{text}");
    let (json, complaint) = text.rsplit_once("]\n").expect("JSON, and a complaint");
    assert!(complaint.contains("differs from what was charged"), "{complaint}");
    let told: Value = serde_json::from_str(&format!("{json}]")).expect("JSON");
    assert_eq!(told[0]["counts"], json!({ "match": 1, "declined": 1, "other_amount": 1, "missing": 1, "extra": 2 }), "{told}");
    let line = |card: &str| {
        let lines = told[0]["lines"].as_array().expect("lines");
        lines.iter().find(|line| line["customer_uid"] == card).unwrap_or_else(|| panic!("no {card} in {told}")).clone()
    };
    for (card, verdict, reference, would, was) in [
        ("good-a", "match", json!("sub-a"), json!(7_000), json!(7_000)),
        ("good-b", "other_amount", json!("sub-b"), json!(7_000), json!(9_000)),
        ("good-c", "missing", json!("sub-c"), json!(7_000), json!(null)),
        ("good-d", "declined", json!("sub-d"), json!(7_000), json!(7_000)),
        ("good-x", "extra", json!("sub-x"), json!(null), json!(700)),
        ("stranger", "extra", json!(null), json!(null), json!(5)),
    ] {
        let line = line(card);
        assert_eq!((&line["verdict"], &line["external_ref"]), (&json!(verdict), &reference), "{line}");
        assert_eq!((&line["would_charge"], &line["was_charged"]), (&would, &was), "{line}");
        assert_eq!(line["day"], day.to_string(), "{line}");
    }
    let (code, text) = rig.fails(&["run", "--shadow", "--days", "1"]);
    assert_eq!(code, 65, "{text}");
    assert!(!text.contains("sub-a ") && text.contains("1 match, 1 declined, 1 other amount, 1 missing, 2 extra"), "{text}");
    let (_, text) = rig.fails(&["run", "--shadow", "--days", "1", "--output", "csv"]);
    assert_eq!(text.lines().filter(|line| line.starts_with("main,")).count(), 6, "{text}");
    assert!(untouched(&rig).await, "nothing was opened and nothing was sent");

    let mut rig = rig.listens();
    let mut daemon = Daemon::start_with(&rig.home, "daemon", &["--shadow"]);
    let address = rig.address().await;
    rig.until_logged("what would have been charged differs from what was charged").await;
    rig.until_logged("sub-c").await;
    let ready = until_says(address, "/readyz", 200).await.json();
    assert_eq!((&ready["ready"], &ready["state"]), (&json!(true), &json!("shadow: nothing is charged")));
    assert_eq!(
        (get(address, "/livez").status, get(address, "/version").json()["version"].clone()),
        (200, json!(env!("CARGO_PKG_VERSION")))
    );
    let told = get(address, "/metrics").body;
    for (verdict, count) in [("match", 1), ("declined", 1), ("other_amount", 1), ("missing", 1), ("extra", 2)] {
        let sample = format!("rebilld_shadow_charges{{account=\"main\",verdict=\"{verdict}\"}} {count}\n");
        assert!(told.contains(&sample), "{sample} in {told}");
    }
    for metric in METRICS.iter().filter(|metric| metric.name.starts_with(OF_SHADOW)) {
        assert!(read(&told, false).families.contains(metric.name), "{} is not told: {told}", metric.name);
    }
    // one more, whose port is taken
    rig.home.layer("taken", &format!("[http]\nlisten = \"{address}\"\n"));
    let mut second = Daemon::start_with(&rig.home, "second", &["--shadow"]);
    until("it says so and goes on", SOON, async || {
        let log = rig.home.log("second");
        (log.contains("health and metrics are not answered") && log.contains("rebilld is up in shadow mode")).then_some(())
    })
    .await;
    second.terminate();
    assert!(second.ended(SOON).await.success());
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    assert!(untouched(&rig).await, "the daemon of the shadow neither");
    rig.gateway.stop();
    assert_eq!(rig.fails(&["run", "--shadow", "--days", "1"]).0, 69, "without the list nothing is compared");
}

#[tokio::test]
async fn a_day_of_the_old_system_is_compared_card_by_card_on_sqlite() {
    differences_are_told(None).await;
}

#[tokio::test]
async fn a_day_of_the_old_system_is_compared_card_by_card_on_postgres() {
    let database = postgres::database().await;
    differences_are_told(Some(&database.url)).await;
}

#[tokio::test]
async fn two_systems_that_agree_are_told_to_agree() {
    let day = yesterday();
    let rig = Rig::over(None, &ledger(day, &[("good-a", 7_000, true), ("good-b", 7_000, false)]));
    subscribe(&rig, day, &["a", "b"]).await;
    // as the day was: what has opened here meanwhile counts the same
    let said = rig.done(&["run", "--shadow", "--days", "3"]);
    assert!(said.contains("1 match, 1 declined, 0 other amount, 0 missing, 0 extra"), "{said}");
    rig.done(&["kill", "on", "--reason", "the old system charges"]);
    let mut daemon = Daemon::start(&rig.home, "daemon");
    until("both are opened", SOON, async || (rig.home.books().await.charges.len() == 2).then_some(())).await;
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    assert_eq!(rig.done(&["run", "--shadow", "--days", "3"]), said);
    assert_eq!(rig.gateway.charges(), 0);
    for wrong in [&["run", "--shadow", "--dry-run"][..], &["run", "--days", "3"], &["run", "--at", "2027-01-01T00:00:00Z"]] {
        assert_eq!(rig.fails(wrong).0, 64, "{wrong:?}");
    }
}
