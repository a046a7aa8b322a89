//! What stops sends, as an operator uses it.

use std::time::Duration;

use jiff::SignedDuration;
use rebilld::gateway::sandbox::Fault;
use rebilld::ports::clock::Clock;
use rebilld::time::SystemClock;

use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};

/// Clocks of two processes may differ by so much.
const SKEW: SignedDuration = SignedDuration::from_millis(250);

/// A daemon that is in the middle of many slow charges.
async fn busy() -> (Rig, Daemon) {
    let mut rig = Rig::new(None);
    rig.home.layer("slow", "[accounts.main]\nrate = 8\n");
    rig.insert(120).await;
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_asked(5).await;
    (rig, daemon)
}

/// Pulls a brake and watches the gateway for three seconds: nothing arrives once one second is over.
async fn brakes(rig: &Rig, command: &[&str]) {
    rig.done(command);
    let clock = SystemClock::new();
    let pulled = clock.now();
    until("three seconds of looking", SOON, async || (clock.now() > pulled + SignedDuration::from_secs(3)).then_some(())).await;
    let ledger = rig.gateway.ledger();
    let late: Vec<_> = ledger.charges().filter(|post| post.received_at > pulled + SignedDuration::from_secs(1) + SKEW).collect();
    assert!(late.is_empty(), "{} charges were asked for after {command:?}", late.len());
    assert!(ledger.charges().count() < 120, "there was more to send");
}

#[tokio::test]
async fn the_kill_switch_stops_within_a_second_and_lets_go() {
    let (rig, _daemon) = busy().await;
    brakes(&rig, &["kill", "on", "--reason", "too many calls"]).await;
    let status = rig.status("database");
    assert_eq!((&status["state"], &status["why"]), (&"killed".into(), &"too many calls".into()));
    let before = rig.gateway.charges();
    rig.done(&["kill", "off", "--reason", "all is well"]);
    rig.until_asked(before + 5).await;
    let ledger = rig.gateway.ledger();
    assert_eq!(ledger.payments.len(), ledger.charges().filter(|post| post.processed.is_some()).count(), "each once");
}

#[tokio::test]
async fn the_accounts_own_switch_stops_it_too() {
    let (rig, _daemon) = busy().await;
    brakes(&rig, &["kill", "on", "--account", "main", "--reason", "test"]).await;
    assert_eq!(rig.status("account main")["state"], "killed");
    assert_eq!(rig.status("database")["state"], "sends");
}

#[tokio::test]
async fn a_hold_lasts_for_q() {
    let (rig, _daemon) = busy().await;
    brakes(&rig, &["hold", "set", "--reason", "something is odd"]).await;
    let status = rig.status("database");
    assert_eq!((&status["state"], &status["why"]), (&"held".into(), &"something is odd".into()));
    let (code, said) = rig.fails(&["hold", "release", "--reason", "now"]);
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("Q (60 min) has not passed"), "{said}");
    assert_eq!(rig.status("database")["state"], "held");
}

#[tokio::test]
async fn a_clock_jump_holds_the_next_process_too() {
    let mut rig = Rig::new(None);
    rig.done(&["kill", "on", "--reason", "until it is opened"]);
    let mut daemon = Daemon::start(&rig.home, "before");
    rig.insert(1).await;
    until("it is opened", SOON, async || (rig.home.books().await.charges.len() == 1).then_some(())).await;
    daemon.terminate();
    assert_eq!(daemon.ended(SOON).await.code(), Some(0));
    rig.done(&["kill", "off", "--reason", "it is opened"]);
    rig.home.sql("UPDATE settings SET unsteady_until = (unixepoch() + 1800) * 1000000").await;
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(1).await;
    rig.until_logged("both ledgers agree").await;
    for what in ["database", "account main"] {
        let status = rig.status(what);
        assert_eq!(status["state"], "clock jumped", "{what}");
        assert!(status["why"].as_str().is_some_and(|why| why.contains("has jumped: held until")), "{status}");
    }
    for ruling in [&["charges", "retry", "sub-0"][..], &["review", "rule", "sub-0", "void"]] {
        let (code, said) = rig.fails(&[ruling, &["--reason", "the payer is waiting"]].concat());
        assert_eq!(code, 75, "{said}");
        assert!(said.contains("the database clock has jumped: nothing is sent"), "{said}");
    }
    daemon.terminate();
    assert_eq!(daemon.ended(SOON).await.code(), Some(0));
    assert_eq!(rig.gateway.charges(), 0, "nothing was sent");
    assert_eq!(rig.home.books().await.charges.len(), 1, "and nothing opened by a clock that is not to be trusted");
    assert!(rig.home.log("daemon").contains("the database clock has jumped a while ago"));
    rig.home.sql("UPDATE settings SET unsteady_until = (unixepoch() - 1) * 1000000").await;
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_paid(2).await;
    assert_eq!(rig.status("database")["state"], "sends");
}

#[tokio::test]
async fn two_refused_tokens_pause_the_account() {
    let mut rig = Rig::new(None);
    rig.spoil(vec![Fault::StatusBefore { status: 401 }], Some(2));
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(1).await;
    until("the account is paused", SOON, async || (rig.status("account main")["paused"] == true).then_some(())).await;
    let why = rig.status("account main")["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("401") && why.contains("imp_secret"), "{why}");
    let ledger = rig.gateway.ledger();
    assert_eq!(ledger.charges().count(), 2, "the first 401 is no reason to stop, the second one is");
    assert!(ledger.payments.is_empty());
    rig.done(&["hold", "release", "--account", "main", "--reason", "the keys are right again"]);
    rig.until_paid(1).await;
    assert_eq!(rig.gateway.ledger().payments.len(), 1);
}

#[tokio::test]
async fn an_account_that_would_not_see_its_test_payments_does_not_send() {
    let mut rig = Rig::new(None);
    rig.home.layer("blind", "[accounts.main]\ninclude_sandbox = false\n");
    rig.insert(1).await;
    let mut daemon = Daemon::start(&rig.home, "daemon");
    until("the account is paused", SOON, async || (rig.status("account main")["paused"] == true).then_some(())).await;
    let why = rig.status("account main")["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("test channel") && why.contains("include_sandbox = true"), "{why}");
    let (code, said) = rig.fails(&["hold", "release", "--account", "main", "--reason", "I want it to"]);
    assert_eq!(code, 65, "{said}");
    assert!(said.contains("include_sandbox = true"), "{said}");
    rig.until_logged("both ledgers agree").await;
    daemon.terminate();
    assert_eq!(daemon.ended(SOON).await.code(), Some(0));
    assert_eq!(rig.gateway.charges(), 0, "nothing was sent");
    rig.home.layer("seeing", "[accounts.main]\ninclude_sandbox = true\n");
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.done(&["hold", "release", "--account", "main", "--reason", "the config is right now"]);
    rig.until_paid(1).await;
}

#[tokio::test]
async fn a_live_account_that_is_not_armed_sends_nothing() {
    let mut rig = Rig::new(None);
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("both ledgers agree").await;
    // the daemon knows its sandbox by its address: from here on it is told otherwise
    rig.home.sql("UPDATE accounts SET live = TRUE").await;
    until("it is shown", SOON, async || (rig.status("account main")["state"] == "not armed").then_some(())).await;
    let status = rig.status("account main");
    assert!(status["why"].as_str().is_some_and(|why| why.contains("`rebilld arm --account main`")), "{status}");
    let clock = SystemClock::new();
    let since = clock.now();
    until("two seconds", SOON, async || (clock.now() > since + SignedDuration::from_secs(2)).then_some(())).await;
    rig.insert(2).await;
    until("both are opened", SOON, async || (rig.home.books().await.charges.len() == 2).then_some(())).await;
    let (explained, told) = (rig.done(&["explain", "sub-0"]), rig.done(&["charges", "show", "sub-0"]));
    for said in [explained, told] {
        assert!(said.contains("is not armed in this database") && said.contains("rebilld arm --account main"), "{said}");
    }
    let since = clock.now();
    until("two more", SOON, async || (clock.now() > since + SignedDuration::from_secs(2)).then_some(())).await;
    assert_eq!(rig.gateway.charges(), 0, "nothing was sent");
    rig.home.sql("UPDATE accounts SET armed_incarnation = (SELECT incarnation FROM settings)").await;
    rig.until_paid(2).await;
}

#[tokio::test]
async fn another_imp_key_holds_the_account() {
    let mut rig = Rig::new(None);
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(1).await;
    rig.until_paid(1).await;
    daemon.terminate();
    daemon.ended(SOON).await;
    let key = rig.home.path("other-key");
    std::fs::copy(rig.home.path("key"), &key).expect("a file with the mode of the key");
    std::fs::write(&key, "other-key").expect("another key");
    rig.home.layer("other", &format!("[accounts.main]\nimp_key_file = \"{}\"\n", key.display()));
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(2).await;
    // they are opened, and stay where they are
    until("both are opened", SOON, async || (rig.home.books().await.charges.len() == 3).then_some(())).await;
    let status = rig.status("account main");
    assert_eq!(status["state"], "held");
    assert!(status["why"].as_str().is_some_and(|why| why.contains("has changed: confirm it")), "{status}");
    daemon.terminate();
    assert_eq!(daemon.ended(Duration::from_secs(20)).await.code(), Some(0));
    assert_eq!(rig.gateway.charges(), 1, "nothing was sent with the new key");
    assert!(rig.home.log("daemon").contains("rebilld hold release --account"), "the log says what to do");
    let told = rig.done(&["hold", "release", "--account", "main", "--reason", "a new contract"]);
    assert!(told.contains("sends to its new place"), "{told}");
}
