//! What it is there for.

use std::sync::Arc;
use std::time::Duration;

use rebilld::gateway::sandbox::Fault;
use rebilld::http::receiver::Receiver;
use rebilld::ports::clock::Clock;
use rebilld::ports::secret::Secret;
use rebilld::time::SystemClock;

use crate::processes::{Daemon, WEBHOOK_SECRET, until};
use crate::rig::{Rig, SOON};
use crate::support::postgres;

/// Nothing rings but a changed row: no job, and the safety net minutes away.
const QUIET_JOBS: &str = r#"
[jobs]
charge = "0 0 0 1 1 *"
reconcile = "0 0 0 1 1 *"
relay = "0 0 0 1 1 *"
audit = "0 0 0 1 1 *"
[worker]
interval = "10m"
"#;

#[tokio::test]
async fn a_row_written_by_hand_is_charged_on_sqlite() {
    let mut rig = Rig::new(None);
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    rig.insert(1).await;
    rig.until_paid(1).await;
    let ledger = rig.gateway.ledger();
    assert_eq!((ledger.charges().count(), ledger.payments.len()), (1, 1));
    assert_eq!(ledger.payments[0].amount_minor, 1000);
    rig.until_logged("a charge changed state").await;
    let log = rig.home.log("daemon");
    let line = log.lines().find(|line| line.contains("a charge changed state")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["from"], &line["to"]), (&"due".into(), &"paid".into()));
    assert!(line.get("next_at").is_none(), "nothing comes after it: {line}");
}

#[tokio::test]
async fn a_row_written_by_hand_wakes_an_idle_daemon_on_postgres() {
    let database = postgres::database().await;
    a_row_written_by_hand_wakes_an_idle_daemon(Rig::new(Some(&database.url))).await;
}

#[tokio::test]
async fn a_row_written_by_hand_wakes_an_idle_daemon_on_sqlite() {
    a_row_written_by_hand_wakes_an_idle_daemon(Rig::new(None)).await;
}

async fn a_row_written_by_hand_wakes_an_idle_daemon(mut rig: Rig) {
    rig.home.layer("quiet", QUIET_JOBS);
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("both ledgers agree").await;
    let clock = SystemClock::new();
    let inserted = clock.boot();
    rig.insert(1).await;
    rig.until_asked(1).await;
    let took = clock.boot() - inserted;
    rig.until_paid(1).await;
    println!("{took:?} from INSERT to POST");
    assert!(took < Duration::from_secs(60), "{took:?}: found by chance, and not because it was written");
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_flight() {
    let mut rig = Rig::new(None);
    rig.spoil(vec![Fault::DelayBefore { millis: 1500 }], None);
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(3).await;
    rig.until_asked(1).await;
    daemon.terminate();
    let status = daemon.ended(Duration::from_secs(20)).await;
    assert_eq!(status.code(), Some(0), "{}", rig.home.log("daemon"));
    assert!(rig.home.log("daemon").contains("nothing is under way"));
    let (books, ledger) = (rig.home.books().await, rig.gateway.ledger());
    assert!(books.sends.iter().all(|send| send.ended_at.is_some()), "{:?}", books.sends);
    assert_eq!(rig.paid().await, ledger.payments.len(), "all that was asked for is booked");
    assert!(!ledger.payments.is_empty());
    // the next one takes the rest
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_paid(3).await;
    assert_eq!(rig.gateway.ledger().payments.len(), 3);
}

#[tokio::test]
async fn events_arrive_signed_and_once() {
    let clock = Arc::new(SystemClock::new());
    let receiver = Receiver::start(Secret::new(WEBHOOK_SECRET), clock as _).await.expect("a receiver");
    let mut rig = Rig::new(None);
    let (url, secret) = (receiver.url(), rig.home.path("webhook"));
    let secret = secret.display();
    let webhook = format!("[[webhooks]]\nname = \"app\"\nurl = \"{url}\"\nsecret_file = \"{secret}\"\nallow_private = true\n");
    rig.home.layer("webhook", &webhook);
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(3).await;
    let received = until("three events of paid charges", SOON, async || {
        let received = receiver.received();
        (received.kinds.get("charge.paid") == Some(&3)).then_some(received)
    })
    .await;
    assert_eq!((received.forged, received.repeats), (0, 0));
    let told: Vec<String> = rig.home.books().await.events.into_iter().map(|event| event.id).collect();
    assert!(received.ids.iter().all(|id| told.contains(id)));
}
