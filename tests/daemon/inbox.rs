//! Webhooks in, from the sandbox's own to the daemon's listener, and what `rebilld doctor` says beside a running daemon.

use rebilld::gateway::sandbox::Fault;
use serde_json::Value;

use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};
use crate::support::postgres;

/// Where the daemon says that it listens.
async fn address(rig: &Rig) -> String {
    until("the daemon says where it listens", SOON, async || {
        let log = rig.home.log("daemon");
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| Some(line["address"].as_str()?.to_owned())).next_back()
    })
    .await
}

fn url(rig: &Rig, address: &str) -> String {
    rig.done(&["webhooks", "url", "--account", "main", "--base", &format!("http://{address}")]).trim().to_owned()
}

/// A payment that is lost on its way back and shows up seconds later. By the ladder of doubt it would be looked up after a minute.
async fn settled_by_a_webhook(database: Option<&str>) {
    let mut rig = Rig::new(database);
    rig.home.layer("http", "[http]\nlisten = \"127.0.0.1:0\"\n");
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    rig.until_logged("both ledgers agree").await;
    let url = url(&rig, &address(&rig).await);
    std::fs::write(rig.gateway.ledger_file.with_file_name("webhook.url"), &url).expect("a file can be written");
    rig.spoil(vec![Fault::DropResponse, Fault::Invisible { seconds: 4 }], None);
    rig.insert(1).await;
    rig.until_asked(1).await;
    rig.until_paid(1).await;
    let (ledger, log) = (rig.gateway.ledger(), rig.home.log("daemon"));
    assert_eq!((ledger.charges().count(), ledger.payments.len()), (1, 1), "it was looked up, and not charged again");
    assert!(log.contains("webhooks: these charges are looked up now"), "by the webhook, and not by its time");
    let token = url.rsplit('/').next().expect("the part that nobody guesses");
    assert!(token.len() == 26 && !log.contains(token), "which is in no log");
}

#[tokio::test]
async fn a_doubt_is_settled_by_the_sandboxs_webhook_on_sqlite() {
    settled_by_a_webhook(None).await;
}

#[tokio::test]
async fn a_doubt_is_settled_by_the_sandboxs_webhook_on_postgres() {
    let database = postgres::database().await;
    settled_by_a_webhook(Some(&database.url)).await;
}

#[tokio::test]
async fn the_doctor_asks_a_daemon_that_runs_and_its_address_outside() {
    let mut rig = Rig::new(None);
    rig.home.layer("http", "[http]\nlisten = \"127.0.0.1:0\"\n");
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("both ledgers agree").await;
    let address = address(&rig).await;
    rig.home.layer("outside", &format!("[http]\nlisten = \"{address}\"\npublic_url = \"http://{address}\"\n"));
    let rows = rig.home.json(&["doctor"]);
    let found = |rows: &Value, check: &str| -> (String, String) {
        let row = rows.as_array().and_then(|rows| rows.iter().find(|row| row["check"] == check)).cloned();
        let row = row.unwrap_or_else(|| panic!("no {check} in {rows}"));
        (row["result"].as_str().unwrap_or_default().to_owned(), row["what"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(found(&rows, "listener"), ("ok".to_owned(), "the daemon answers, and its loop beats".to_owned()));
    assert_eq!(found(&rows, "webhooks").0, "ok", "{rows}");
    assert_eq!(found(&rows, "daemons").1, "1 at work on this database");
    let (code, text) = rig.fails(&["doctor"]);
    assert_eq!(code, 0, "{text}");
    let token = url(&rig, "x").rsplit('/').next().expect("a token").to_owned();
    assert!(!text.contains(&token) && !rows.to_string().contains(&token), "the address outside is asked, and not shown");
    // a daemon that hangs is one that does not answer
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(daemon.pid()).expect("a pid")).expect("a pid"),
        rustix::process::Signal::KILL,
    )
    .expect("it can be killed");
    drop(daemon);
    let (code, text) = rig.fails(&["doctor"]);
    assert_eq!(code, 69, "the database still takes it for running: {text}");
    assert!(text.contains("a daemon runs on this machine, and does not answer"), "{text}");
}
