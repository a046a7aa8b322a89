//! What happens while something around the daemon is down or full.

use std::fs;

use rebilld::ports::crash::BREAK;

use crate::metrics::until_counted;
use crate::processes::{Daemon, until};
use crate::refusals::may_mount;
use crate::rig::{Rig, SOON};

/// What runs beside the dispatch loop.
const HELPERS: [&str; 8] = ["alarms", "kill switch", "signal", "config", "expectations", "rows", "webhooks", "service manager"];

/// Until so many charges are shown as waiting for a later moment.
async fn until_waiting(rig: &Rig, count: usize) {
    until("the charges are shown as waiting", SOON, async || {
        let rows = rig.home.json(&["charges", "list", "--state", "due"]);
        let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
        let wait = rows.iter().filter(|row| row["waiting"] == "backoff" && row["next_at"].is_string());
        (wait.count() == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn charges_wait_visibly_for_a_gateway_that_is_down() {
    let mut rig = Rig::new(None);
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("both ledgers agree").await;
    rig.gateway.stop();
    rig.insert(5).await;
    until_waiting(&rig, 5).await;
    rig.gateway.start_again();
    rig.until_paid(5).await;
    let ledger = rig.gateway.ledger();
    assert_eq!((ledger.charges().count(), ledger.payments.len()), (5, 5), "each is charged once");
}

/// A daemon without its ears or without its voice looks well from outside, so it ends and is started again.
#[tokio::test]
async fn a_helper_that_ends_by_itself_ends_the_daemon() {
    let mut rig = Rig::new(None).listens();
    rig.insert(1).await;
    for helper in HELPERS {
        let mut daemon = Daemon::start_under(&rig.home, helper, &[(BREAK, helper), ("NOTIFY_SOCKET", "@nobody-listens-here")]);
        assert_eq!(daemon.ended(SOON).await.code(), Some(70), "{helper}");
        let log = rig.home.log(helper);
        assert!(log.contains(&format!("the helper `{helper}` ended by itself")), "{helper}: {log}");
    }
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.until_paid(1).await;
    daemon.terminate();
    assert_eq!(daemon.ended(SOON).await.code(), Some(0));
    let ledger = rig.gateway.ledger();
    assert_eq!((ledger.payments.len(), ledger.charges().count()), (1, 1), "what was under way was finished");
}

#[tokio::test]
async fn nothing_is_sent_while_the_state_directory_is_full() {
    if !may_mount("a full disk") {
        return;
    }
    let mut rig = Rig::new(None);
    let state = rig.beside("state");
    rig.home.layer("state", &format!("state_dir = \"{}\"\n", state.display()));
    rig.insert(2).await;
    let script = format!(
        "mount -t tmpfs -o size=64k tmpfs {0}; head -c 1000000 /dev/zero >{0}/fill 2>/dev/null || true; exec \"$@\"",
        state.display()
    );
    let daemon = Daemon::wrapped(&rig.home, "daemon", &script);
    rig.until_logged("the high-water mark cannot be written to the state directory").await;
    until_waiting(&rig, 2).await;
    assert_eq!(rig.gateway.charges(), 0, "nothing was sent");
    // seen from outside, its directory lies behind its process
    let inside = format!("/proc/{}/root{}/fill", daemon.pid(), state.display());
    fs::remove_file(inside).expect("the disk can be emptied");
    rig.until_paid(2).await;
    let ledger = rig.gateway.ledger();
    assert_eq!((ledger.charges().count(), ledger.payments.len()), (2, 2));
    let sends = rig.home.books().await.sends.len();
    assert!(sends <= 20, "{sends} intents for 2 charges: it tried again without a pause");
}

#[tokio::test]
async fn a_gateway_that_is_gone_is_shown_left_alone_and_taken_up_again() {
    let mut rig = Rig::new(None).listens();
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("both ledgers agree").await;
    rig.gateway.stop();
    rig.insert(20).await;
    rig.until_logged("sends pause, then a look-up probes it").await;
    until_counted(rig.address().await, r#"rebilld_breaker_open{account="main"}"#, 1.0).await;
    let shown = async || {
        let rows = rig.home.json(&["kill", "status"]);
        rows.as_array().and_then(|rows| rows.iter().find(|row| row["state"] == "braked").cloned())
    };
    let row = until("the daemon's row says so", SOON, shown).await;
    assert!(row["why"].as_str().is_some_and(|why| why.contains("account main: the gateway fails as a whole")), "{row}");
    rig.gateway.start_again();
    rig.until_paid(20).await;
    for said in ["the gateway answers again: sends resume", "sends go at full speed again"] {
        rig.until_logged(said).await;
    }
    until("and nothing is shown", SOON, async || {
        let rows = rig.home.json(&["kill", "status"]);
        rows.as_array().and_then(|rows| rows.iter().all(|row| row["state"] != "braked").then_some(()))
    })
    .await;
    let ledger = rig.gateway.ledger();
    assert_eq!((ledger.payments.len(), ledger.charges().count()), (20, 20), "each was asked for once");
}
