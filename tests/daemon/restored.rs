//! An old copy of the database comes back.

use std::path::PathBuf;

use rustix::process::Signal;

use crate::notify::tell;
use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};

/// The database as it was once.
struct Copy(PathBuf);

impl Copy {
    /// Of what a daemon leaves behind that has charged so many.
    async fn after(rig: &mut Rig, paid: usize) -> Self {
        let mut daemon = Daemon::start(&rig.home, "daemon");
        rig.insert(paid).await;
        rig.until_paid(paid).await;
        daemon.terminate();
        assert!(daemon.ended(SOON).await.success());
        let copy = rig.home.path("backup.db");
        std::fs::copy(rig.home.path("rebilld.db"), &copy).expect("a copy");
        Self(copy)
    }

    fn comes_back(&self, rig: &Rig) {
        std::fs::copy(&self.0, rig.home.path("rebilld.db")).expect("the copy comes back");
        for rest in ["rebilld.db-wal", "rebilld.db-shm"] {
            let _ = std::fs::remove_file(rig.home.path(rest));
        }
    }
}

#[tokio::test]
async fn a_restored_backup_comes_up_on_hold() {
    let mut rig = Rig::new(None);
    let copy = Copy::after(&mut rig, 2).await;
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(3).await;
    rig.until_paid(5).await;
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());

    // the same three rows are due again as far as the backup knows, and have been paid
    copy.comes_back(&rig);
    rig.home.sql("UPDATE accounts SET armed_incarnation = (SELECT incarnation FROM settings)").await;
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.rewind(3);
    rig.insert(3).await;
    until("the rows are opened again", SOON, async || (rig.home.books().await.charges.len() == 5).then_some(())).await;
    let status = rig.status("database");
    assert_eq!(status["state"], "held");
    let why = status["why"].as_str().unwrap_or_default();
    assert!(why.contains("the state directory remembers sends that the database does not"), "{why}");
    let armed = rig.home.sql("SELECT count(*) AS n FROM accounts WHERE armed_incarnation IS NOT NULL").await;
    assert_eq!(armed[0].int("n").expect("a number"), 0, "and no live account is armed any more");
    let (code, said) = rig.fails(&["hold", "release", "--reason", "I know what I do"]);
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("Q (60 min) has not passed"), "{said}");
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    let ledger = rig.gateway.ledger();
    assert_eq!((ledger.charges().count(), ledger.payments.len()), (5, 5), "nothing was sent twice");
}

/// Nothing was sent since the copy was made, so the mark fits.
#[tokio::test]
async fn a_copy_that_has_forgotten_the_kill_switch_comes_up_on_hold() {
    let mut rig = Rig::new(None);
    let copy = Copy::after(&mut rig, 2).await;
    let mut daemon = Daemon::start(&rig.home, "second");
    until("it is up", SOON, async || rig.home.log("second").contains("rebilld is up").then_some(())).await;
    tell(&daemon, Signal::USR1);
    until("the switch is on", SOON, async || (rig.status("database")["state"] == "killed").then_some(())).await;
    let remembered = rig.home.path("state").join("rebilld.journal");
    until("the daemon has seen it", SOON, async || remembered.exists().then_some(())).await;
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());

    copy.comes_back(&rig);
    let (code, said) = rig.fails(&["doctor"]);
    assert!(
        code != 0 && said.contains("remembers what an operator did (entry 1 of the journal: kill on: database, at 2"),
        "{said}"
    );
    rig.insert(3).await;
    let mut daemon = Daemon::start(&rig.home, "daemon");
    until("the rows are opened", SOON, async || (rig.home.books().await.charges.len() == 5).then_some(())).await;
    let status = rig.status("database");
    assert_eq!(status["state"], "held", "{status}");
    let why = status["why"].as_str().unwrap_or_default();
    assert!(why.contains("remembers what an operator did (entry 1 of the journal: kill on: database, at 2"), "{why}");
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    assert_eq!(rig.gateway.charges(), 2, "nothing was sent past the switch");
}

/// A command remembers too: an operator may stop what no daemon watches. One that meets a copy that has forgotten something says so.
#[tokio::test]
async fn what_was_stopped_while_no_daemon_ran_is_remembered_until_an_operator_has_looked() {
    let mut rig = Rig::new(None);
    let copy = Copy::after(&mut rig, 2).await;
    let said = rig.done(&["hold", "set", "--account", "main", "--reason", "wrong prices"]);
    assert!(!said.contains("warning"), "{said}");
    copy.comes_back(&rig);
    assert_eq!(rig.status("database")["state"], "sends", "nobody has looked yet");
    let said = rig.done(&["kill", "on", "--reason", "once more"]);
    assert!(
        said.contains(
            "warning: the state directory remembers what an operator did (entry 1 of the journal: hold set: account main, at 2"
        ),
        "{said}"
    );
    assert!(rig.status("database")["why"].as_str().is_some_and(|why| why.contains("remembers what an operator did")));
    rig.done(&["kill", "off", "--reason", "it is on hold"]);
    rig.insert(3).await;
    let mut daemon = Daemon::start(&rig.home, "daemon");
    until("the rows are opened", SOON, async || (rig.home.books().await.charges.len() == 5).then_some(())).await;
    assert_eq!(rig.status("database")["state"], "held");

    // as a copy would have it that was made while it was on hold for something else, long ago
    rig.home.sql("UPDATE settings SET held_at = 1, hold_reason = 'a look at prices'").await;
    let (code, said) = rig.fails(&["hold", "release", "--reason", "prices are fine"]);
    assert!(
        code == 75 && said.contains("entry 1 of the journal: hold set: account main") && said.contains("Q counts from now on"),
        "{said}"
    );
    let why = rig.status("database")["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("entry 1 of the journal") && why.starts_with("a look at prices Also: "), "{why}");
    // Q is an hour
    rig.home.sql("UPDATE settings SET held_at = 1").await;
    let told = rig.done(&["hold", "release", "--reason", "restored on purpose"]);
    assert!(told.contains("the hold is over") && !told.contains("warning"), "{told}");
    rig.until_paid(5).await;
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    // what was forgotten once is not held against it again
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(1).await;
    rig.until_paid(6).await;
    assert_eq!(rig.status("database")["state"], "sends");
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
}

/// Most copies that come back lack sends as well: that must not hide what was stopped.
#[tokio::test]
async fn a_copy_that_lacks_sends_tells_what_an_operator_did_too() {
    let mut rig = Rig::new(None);
    let copy = Copy::after(&mut rig, 2).await;
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(1).await;
    rig.until_paid(3).await;
    rig.done(&["kill", "on", "--reason", "wrong prices"]);
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    copy.comes_back(&rig);
    let mut daemon = Daemon::start(&rig.home, "daemon");
    until("it holds", SOON, async || (rig.status("database")["state"] == "held").then_some(())).await;
    let why = rig.status("database")["why"].as_str().unwrap_or_default().to_owned();
    assert!(
        why.contains("remembers sends that the database does not")
            && why.contains("(entry 1 of the journal: kill on: database, at 2"),
        "{why}"
    );
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    // each is told once, however often it is found
    let mut daemon = Daemon::start(&rig.home, "again");
    until("it is up", SOON, async || rig.home.log("again").contains("rebilld is up").then_some(())).await;
    assert_eq!(rig.status("database")["why"], why.as_str());
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
}

/// A trial on a copy, with the config and the state directory of the original.
#[tokio::test]
async fn a_command_on_a_copy_leaves_the_original_alone() {
    let mut rig = Rig::new(None);
    let copy = Copy::after(&mut rig, 2).await;
    let url = format!("sqlite:{}", copy.0.display());
    rig.done(&["--database", &url, "kill", "on", "--reason", "a trial"]);
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(1).await;
    rig.until_paid(3).await;
    rig.done(&["kill", "on", "--reason", "in earnest"]);
    assert_eq!(rig.status("database")["why"], "in earnest");
}

#[tokio::test]
async fn a_replica_that_died_with_its_primary_still_has_its_lost_sends_missed() {
    let mut rig = Rig::new(None);
    let copy = Copy::after(&mut rig, 2).await;
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(1).await;
    rig.until_paid(3).await;
    daemon.kill();
    copy.comes_back(&rig);
    // the other replicas have sent on, and raised the mark past what this one's file says
    rig.home.sql("UPDATE settings SET high_water = high_water + 100").await;
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.rewind(1);
    rig.insert(1).await;
    until("the row is opened again", SOON, async || (rig.home.books().await.charges.len() == 3).then_some(())).await;
    let status = rig.status("database");
    assert_eq!(status["state"], "held");
    let why = status["why"].as_str().unwrap_or_default();
    assert!(why.contains("the state directory remembers sends that the database does not (its newest one, mark "), "{why}");
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    assert_eq!(rig.gateway.charges(), 3, "nothing was sent twice");
}

#[tokio::test]
async fn a_payment_that_nobody_here_asked_for_holds_until_its_incident_is_closed() {
    let mut rig = Rig::new(None);
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(1).await;
    rig.until_paid(1).await;
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());

    // a database made anew, as far as the gateway is concerned somebody else's
    for file in ["rebilld.db", "rebilld.db-wal", "rebilld.db-shm", "state/rebilld.mark"] {
        let _ = std::fs::remove_file(rig.home.path(file));
    }
    rig.done(&["migrate"]);
    let _daemon = Daemon::start(&rig.home, "daemon");
    until("the audit has seen it", SOON, async || (rig.status("database")["state"] == "held").then_some(())).await;
    let why = rig.status("database")["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("the gateway shows payments of ours that this database does not know"), "{why}");
    rig.insert(1).await;
    until("it is opened", SOON, async || (rig.home.books().await.charges.len() == 1).then_some(())).await;
    let incidents = rig.home.json(&["incidents", "list"]);
    assert_eq!((&incidents[0]["kind"], incidents.as_array().map(Vec::len)), (&"unknown_payment".into(), Some(1)));
    // Q is an hour
    rig.home.sql("UPDATE settings SET held_at = 1").await;
    let (code, said) = rig.fails(&["hold", "release", "--reason", "it is a test"]);
    assert_eq!(code, 65, "{said}");
    assert!(said.contains("rebilld incidents list"), "{said}");
    rig.done(&["incidents", "close", &incidents[0]["id"].to_string(), "--reason", "a payment of the old file"]);
    // who releases it is told what else is pulled, and nothing is sent for as long as it is
    rig.done(&["kill", "on", "--reason", "not before noon"]);
    let told = rig.done(&["hold", "release", "--reason", "its payment is known"]);
    assert!(told.contains("the hold is over") && told.contains("still stopped"), "{told}");
    assert!(told.contains("the kill switch is on") && !told.contains("sent again"), "{told}");
    assert_eq!(rig.gateway.charges(), 1, "the first file's");
    rig.done(&["kill", "off", "--reason", "noon"]);
    rig.until_paid(1).await;
    // and the audits to come keep out of it
    let audited = rig.home.json(&["audit"]);
    assert_eq!((&audited[0]["clean"], &audited[0]["summary"]["known"]), (&true.into(), &1.into()), "{audited}");
    assert_eq!(rig.status("database")["state"], "sends");
    assert_eq!(rig.gateway.ledger().payments.len(), 2, "one of each file");
}

/// What the state directory remembers is written before and after what a command reads of the database: a wave in between is no restore.
#[tokio::test]
async fn a_command_in_the_middle_of_a_wave_holds_nothing() {
    let mut rig = Rig::new(None);
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    rig.insert(400).await;
    rig.until_paid(1).await;
    let mut said = 0;
    until("the wave is over", SOON, async || {
        let told = rig.done(&["kill", "off", "--account", "main", "--reason", "it is off"]);
        assert!(!told.contains("warning"), "{told}");
        said += 1;
        (rig.paid().await == 400).then_some(())
    })
    .await;
    assert!(said > 0, "the wave was over before anything was said");
    assert_eq!(rig.status("database")["state"], "sends");
}
