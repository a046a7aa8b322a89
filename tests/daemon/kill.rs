//! The kill switch outside of the database: a file, and a signal.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use rebilld::ports::clock::Clock;
use rebilld::time::SystemClock;
use rustix::process::{Pid, Signal, kill_process};

use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};
use crate::support::postgres;

/// Clocks of two processes may differ, and what has passed the gate needs a moment on a busy machine.
const SKEW: SignedDuration = SignedDuration::from_secs(1);
const ROWS: usize = 160;

/// A home whose account may send eight charges a second, with more to send than a test lasts.
async fn slow(database: Option<&str>) -> Rig {
    let mut rig = Rig::new(database);
    rig.home.layer("slow", "[accounts.main]\nrate = 8\n");
    rig.insert(ROWS).await;
    rig
}

fn file(rig: &Rig, name: &str) -> PathBuf {
    rig.home.path("state").join(name)
}

/// When the gateway got the charges of payers whose key begins like this.
fn asked(rig: &Rig, payers: &str) -> Vec<Timestamp> {
    let of = |uid: &Option<String>| uid.as_deref().is_some_and(|uid| uid.starts_with(payers));
    rig.gateway.ledger().charges().filter(|post| of(&post.customer_uid)).map(|post| post.received_at).collect()
}

/// Watches the gateway for three seconds: nothing arrives once one second is over.
async fn stops(rig: &Rig, payers: &str, pulled: Timestamp) {
    let clock = SystemClock::new();
    until("three seconds of looking", SOON, async || (clock.now() > pulled + SignedDuration::from_secs(3)).then_some(())).await;
    let late = asked(rig, payers).into_iter().filter(|at| *at > pulled + SignedDuration::from_secs(1) + SKEW).count();
    assert_eq!(late, 0, "charges were asked for later than a second after");
    assert!(asked(rig, payers).len() < ROWS, "there was more to send");
}

async fn goes_on(rig: &Rig, payers: &str) {
    let before = asked(rig, payers).len();
    until("charges are asked for again", SOON, async || (asked(rig, payers).len() >= before + 5).then_some(())).await;
    let ledger = rig.gateway.ledger();
    assert_eq!(ledger.payments.len(), ledger.charges().filter(|post| post.processed.is_some()).count(), "each once");
}

fn pull(daemon: &Daemon) {
    let pid = i32::try_from(daemon.pid()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::USR1).expect("the daemon can be told");
}

#[tokio::test]
async fn a_file_stops_sends_within_a_second_and_its_removal_lets_them_go_on() {
    let rig = slow(None).await;
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_asked(5).await;
    std::fs::write(file(&rig, "kill"), "").expect("a file");
    stops(&rig, "good-", SystemClock::new().now()).await;
    let status = rig.status("database");
    assert_eq!((&status["state"], &status["killed"]), (&"killed".into(), &true.into()));
    assert!(status["why"].as_str().is_some_and(|why| why.contains("state/kill exists")), "{status}");
    assert!(rig.home.log("daemon").contains("nothing is sent: the kill file"), "it is said at once");
    let explained = rig.done(&["explain", "sub-159"]);
    assert!(explained.contains("state/kill exists"), "{explained}");
    // whoever looks from another machine is told by the daemon
    let told = until("the daemon's row says so", SOON, async || {
        let rows = rig.home.json(&["kill", "status"]);
        rows.as_array().and_then(|rows| rows.iter().find(|row| row["state"] == "braked").cloned())
    });
    assert!(told.await["why"].as_str().is_some_and(|why| why.contains("state/kill exists")));
    let lifted = rig.done(&["kill", "off", "--reason", "the file stays"]);
    assert!(lifted.contains("still stopped: the kill file"), "{lifted}");
    std::fs::remove_file(file(&rig, "kill")).expect("the file goes");
    goes_on(&rig, "good-").await;
    assert_eq!(rig.status("database")["state"], "sends");
}

#[tokio::test]
async fn a_file_that_is_there_at_the_start_lets_nothing_out() {
    let mut rig = slow(None).await;
    rig.home.layer("elsewhere", &format!("kill_file = \"{}\"\n", rig.home.path("STOP").display()));
    std::fs::write(rig.home.path("STOP"), "").expect("a file");
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("nothing is sent: the kill file").await;
    rig.until_logged("both ledgers agree").await;
    daemon.terminate();
    assert_eq!(daemon.ended(SOON).await.code(), Some(0));
    assert_eq!(rig.gateway.charges(), 0);
}

#[tokio::test]
async fn a_directory_that_is_gone_stops_sends() {
    let mut rig = slow(None).await;
    let place = rig.beside("switch");
    rig.home.layer("elsewhere", &format!("kill_file = \"{}\"\n", place.join("kill").display()));
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_asked(5).await;
    std::fs::remove_dir(&place).expect("an empty directory");
    stops(&rig, "good-", SystemClock::new().now()).await;
    rig.until_logged("cannot be told").await;
    std::fs::create_dir(&place).expect("it is back");
    goes_on(&rig, "good-").await;
}

#[tokio::test]
async fn the_file_of_an_account_stops_that_account_alone() {
    let mut rig = slow(None).await;
    let keys = format!(
        "imp_key_file = \"{}\"\nimp_secret_file = \"{}\"",
        rig.home.path("key").display(),
        rig.home.path("secret").display()
    );
    let second = format!("[accounts.second]\nbase_url = \"{}\"\n{keys}\ninclude_sandbox = true\nrate = 8\n", rig.gateway.url());
    rig.home.layer("second", &second);
    rig.done(&["migrate"]);
    let today = SystemClock::new().now().to_zoned(jiff::tz::TimeZone::get("Asia/Seoul").expect("a zone")).date();
    let rows: Vec<String> =
        (0..ROWS).map(|n| format!("('second', 'other-{n}', 'daily', 'good-other-{n}', '{today}', '{today}')")).collect();
    let columns = "account, external_ref, plan, customer_uid, anchor, starts_on";
    rig.home.sql(&format!("INSERT INTO subscriptions ({columns}) VALUES {}", rows.join(", "))).await;
    rig.home.sql("UPDATE subscriptions SET customer_uid = 'good-main-' || id WHERE account = 'main'").await;
    let _daemon = Daemon::start(&rig.home, "daemon");
    for payers in ["good-main-", "good-other-"] {
        until("both send", SOON, async || (asked(&rig, payers).len() >= 5).then_some(())).await;
    }
    std::fs::write(file(&rig, "kill.second"), "").expect("a file");
    let pulled = SystemClock::new().now();
    stops(&rig, "good-other-", pulled).await;
    goes_on(&rig, "good-main-").await;
    assert_eq!(
        (&rig.status("account second")["state"], &rig.status("account main")["state"]),
        (&"killed".into(), &"sends".into())
    );
    std::fs::remove_file(file(&rig, "kill.second")).expect("the file goes");
    goes_on(&rig, "good-other-").await;
}

#[tokio::test]
async fn a_signal_stops_all_daemons_and_outlives_a_restart() {
    let database = postgres::database().await;
    let rig = slow(Some(&database.url)).await;
    let mut daemon = Daemon::start(&rig.home, "daemon");
    let _other = Daemon::start(&rig.home, "other");
    rig.until_asked(5).await;
    pull(&daemon);
    // the other daemon learns of it from the database
    until("it stands in the database", SOON, async || (rig.status("database")["state"] == "killed").then_some(())).await;
    stops(&rig, "good-", SystemClock::new().now()).await;
    assert!(rig.home.log("daemon").contains("SIGUSR1"));
    assert!(rig.home.log("other").contains("the kill switch is on"), "the other one says so too");
    let status = rig.status("database");
    assert!(status["state"] == "killed" && status["why"].as_str().is_some_and(|why| why.contains("SIGUSR1")), "{status}");
    let entry = &rig.home.json(&["journal", "list"])[0];
    assert_eq!((&entry["who"], &entry["action"]), (&"signal".into(), &"kill on".into()));
    daemon.terminate();
    assert_eq!(daemon.ended(SOON).await.code(), Some(0));
    let _again = Daemon::start(&rig.home, "again");
    until("it says so at its start", SOON, async || rig.home.log("again").contains("the kill switch is on").then_some(())).await;
    stops(&rig, "good-", SystemClock::new().now()).await;
    rig.done(&["kill", "off", "--reason", "all is well"]);
    goes_on(&rig, "good-").await;
}

#[tokio::test]
async fn a_signal_stops_a_daemon_on_sqlite_too() {
    let rig = slow(None).await;
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_asked(5).await;
    pull(&daemon);
    stops(&rig, "good-", SystemClock::new().now()).await;
    assert_eq!(rig.status("database")["state"], "killed");
    rig.done(&["kill", "off", "--reason", "all is well"]);
    goes_on(&rig, "good-").await;
}

/// The daemon waits for a lock on its own row, to say what stops an account that nothing is due for.
#[tokio::test]
async fn a_signal_is_heard_while_the_database_is_slow() {
    let database = postgres::database().await;
    let mut rig = slow(Some(&database.url)).await;
    let keys = format!(
        "imp_key_file = \"{}\"\nimp_secret_file = \"{}\"",
        rig.home.path("key").display(),
        rig.home.path("secret").display()
    );
    let second = format!("[accounts.second]\nbase_url = \"{}\"\n{keys}\ninclude_sandbox = true\n", rig.gateway.url());
    rig.home.layer("second", &second);
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_asked(5).await;
    let mut locking = database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE config_daemons IN ACCESS EXCLUSIVE MODE").execute(&mut locking).await.expect("the lock");
    std::fs::write(file(&rig, "kill.second"), "").expect("a file");
    let mut looking = database.connect().await;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE config_daemons SET stopped_by%'";
    until("it waits for its row", SOON, async || {
        let waiting: i64 = sqlx::query_scalar(waits).fetch_one(&mut looking).await.expect("a number");
        (waiting > 0).then_some(())
    })
    .await;
    pull(&daemon);
    stops(&rig, "good-", SystemClock::new().now()).await;
    assert!(rig.home.log("daemon").contains("SIGUSR1"));
    drop(locking);
    until("the others know", SOON, async || (rig.status("database")["state"] == "killed").then_some(())).await;
}

#[tokio::test]
async fn a_signal_that_the_database_has_not_heard_of_outlives_the_process() {
    let mut server = postgres::Server::start(&[]);
    let database = server.database().await;
    let rig = slow(Some(&database.url)).await;
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_asked(5).await;
    server.kill9();
    pull(&daemon);
    until("the file stands for it", SOON, async || file(&rig, "kill").exists().then_some(())).await;
    daemon.kill();
    server.restart();
    let again = Daemon::start(&rig.home, "again");
    until("it is up", SOON, async || rig.home.log("again").contains("rebilld is up").then_some(())).await;
    stops(&rig, "good-", SystemClock::new().now()).await;
    std::fs::remove_file(file(&rig, "kill")).expect("the operator takes it away");
    goes_on(&rig, "good-").await;
    // and one that the database hears of late is its row in the end
    server.kill9();
    pull(&again);
    until("the file stands for it", SOON, async || file(&rig, "kill").exists().then_some(())).await;
    server.restart();
    until("the row says so, and the file is gone", SOON, async || {
        let output = rig.home.command(&["kill", "status", "--output", "json"]);
        let told = output.status.success() && String::from_utf8_lossy(&output.stdout).contains("SIGUSR1");
        (told && !file(&rig, "kill").exists()).then_some(())
    })
    .await;
    drop(database);
}
