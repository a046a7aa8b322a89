//! `rebilld run --dry-run`: it shows what a real run then does, and does nothing itself (I9).

use serde_json::Value;

use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};
use crate::support::postgres;

/// The lines of a dry run, and its summary.
fn dry_run(rig: &Rig, more: &[&str]) -> (Vec<Value>, Value) {
    let text = rig.done(&[&["run", "--dry-run", "--output", "json"], more].concat());
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    let summary = lines.pop().expect("a summary")["summary"].take();
    (lines, summary)
}

async fn counts(rig: &Rig) -> (usize, usize, i64) {
    let books = rig.home.books().await;
    let schedules = rig.home.sql("SELECT CAST(COALESCE(sum(version), 0) AS BIGINT) AS n FROM schedules").await;
    (books.charges.len(), books.sends.len(), schedules[0].int("n").expect("a number"))
}

async fn shows_what_is_then_sent(database: Option<&str>) {
    let mut rig = Rig::new(database);
    rig.insert(3).await;
    let before = counts(&rig).await;
    let (lines, summary) = dry_run(&rig, &[]);
    assert_eq!(lines.len(), 3);
    for line in &lines {
        assert_eq!((&line["fate"], &line["amount"], &line["attempt"]), (&"sent".into(), &1000.into(), &1.into()), "{line}");
        assert!(line["customer_uid"].as_str().is_some_and(|uid| uid.starts_with("good-")), "{line}");
    }
    assert_eq!(summary["would_be_sent"]["main"], serde_json::json!({ "charges": 3, "sums": { "KRW": 3000 } }));
    assert_eq!(summary["braked"], serde_json::json!(["main"]), "it was never audited");
    let table = rig.done(&["run", "--dry-run"]);
    assert!(table.contains("account main would send 3 charges, 3,000 KRW"), "{table}");
    assert!(table.contains("nothing was sent and nothing was written"), "{table}");
    assert_eq!(counts(&rig).await, before, "nothing was written");
    assert_eq!(rig.gateway.charges(), 0, "nothing was sent");

    rig.home.layer("budget", "[accounts.main]\nbudget.count = 2\n");
    let (lines, summary) = dry_run(&rig, &[]);
    assert_eq!(lines.iter().filter(|line| line["fate"] == "sent").count(), 2);
    assert_eq!(summary["not_sent"]["waits for the budget"]["charges"], 1);
    rig.home.forget_layers();

    rig.done(&["kill", "on", "--reason", "prices are looked at first"]);
    let (lines, _) = dry_run(&rig, &["--limit", "2"]);
    assert_eq!(lines.iter().filter(|line| line["fate"] == "sent").count(), 2, "a brake is told, and hides nothing");
    rig.done(&["kill", "off", "--reason", "they are right"]);

    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_paid(3).await;
    let ledger = rig.gateway.ledger();
    let sent: Vec<&str> = ledger.payments.iter().map(|payment| payment.merchant_uid.as_str()).collect();
    let (_, summary) = dry_run(&rig, &[]);
    assert_eq!((&summary["would_be_sent"], &summary["braked"]), (&serde_json::json!({}), &serde_json::json!([])), "{summary}");
    assert_eq!(sent.len(), 3);
    for line in &lines {
        assert!(line["merchant_uid"].as_str().is_some_and(|uid| sent.contains(&uid)), "{line} was promised, {sent:?} were sent");
    }
}

#[tokio::test]
async fn a_dry_run_shows_what_is_then_sent_on_sqlite() {
    shows_what_is_then_sent(None).await;
}

#[tokio::test]
async fn a_dry_run_shows_what_is_then_sent_on_postgres() {
    let database = postgres::database().await;
    shows_what_is_then_sent(Some(&database.url)).await;
}

#[tokio::test]
async fn it_tells_what_the_gateway_and_the_hours_say() {
    let mut rig = Rig::new(None);
    rig.insert(1).await;
    rig.home.layer("hours", "[windows]\nhours = \"09:00-10:00\"\n");
    // 05:00 in Seoul, two days from now
    let later = rig.home.sql("SELECT strftime('%Y-%m-%dT20:00:00Z', 'now', '+1 days') AS at").await;
    let later = later[0].text("at").expect("an instant");
    let (lines, summary) = dry_run(&rig, &["--at", &later]);
    assert!(lines.iter().all(|line| line["fate"] == "waits" && line["why"] == "its window"), "{lines:?}");
    assert!(!lines.is_empty() && summary["would_be_sent"] == serde_json::json!({}));
    rig.home.forget_layers();

    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.until_paid(1).await;
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    // a database made anew does not know of the payment: the gateway does
    for file in ["rebilld.db", "rebilld.db-wal", "rebilld.db-shm"] {
        let _ = std::fs::remove_file(rig.home.path(file));
    }
    rig.done(&["migrate"]);
    rig.rewind(1);
    rig.insert(1).await;
    let (lines, _) = dry_run(&rig, &[]);
    let why = lines[0]["why"].as_str().unwrap_or_default();
    assert!(why.contains("the gateway shows it paid under this id already: imp"), "{lines:?}");
    rig.gateway.stop();
    let (lines, _) = dry_run(&rig, &[]);
    let why = lines[0]["why"].as_str().unwrap_or_default();
    assert!(why.contains("it cannot be looked up before the send"), "{lines:?}");
}

#[tokio::test]
async fn a_dry_run_disturbs_no_daemon_beside_it() {
    let mut rig = Rig::new(None);
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("both ledgers agree").await;
    rig.done(&["kill", "on", "--reason", "a look first"]);
    rig.insert(5).await;
    until("they are opened", SOON, async || (rig.home.books().await.charges.len() == 5).then_some(())).await;
    let (lines, summary) = dry_run(&rig, &[]);
    assert_eq!((lines.len(), &summary["braked"]), (5, &serde_json::json!(["main"])));
    assert_eq!(rig.gateway.charges(), 0);
    rig.done(&["kill", "off", "--reason", "looked at"]);
    rig.until_paid(5).await;
    assert_eq!(rig.gateway.charges(), 5, "each once");
}
