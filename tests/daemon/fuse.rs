//! The fuse of a real daemon, with an operator at the command line.

use jiff::SignedDuration;
use rebilld::gateway::sandbox::Fault;
use rebilld::ports::clock::Clock;
use rebilld::time::SystemClock;
use serde_json::Value;

use crate::metrics::until_counted;
use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};

/// What was on its way as a process was killed arrives within it.
const SKEW: SignedDuration = SignedDuration::from_millis(250);
const KIM: [&str; 4] = ["--by", "kim", "--why", "they are all ours"];

/// A rig whose account has a fuse of its own.
fn rig(fuse: &str) -> Rig {
    let mut rig = Rig::new(None);
    rig.home.layer("fuse", &format!("[accounts.main.fuse]\n{fuse}\n"));
    rig
}

async fn until_blown(rig: &Rig) {
    until("the fuse has blown", SOON, async || (rig.status("account main")["state"] == "fuse blown").then_some(())).await;
}

/// Until everything is opened and nothing is under way.
async fn until_quiet(rig: &Rig, opened: usize) {
    until("all is opened, and what was begun has ended", SOON, async || {
        let charges = rig.home.books().await.charges;
        let shown = rig.home.json(&["wave", "show"])[0]["count"].as_u64().unwrap_or_default() as usize;
        (charges.len() == opened && rig.paid().await + shown == opened).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_wave_too_many_is_stopped_shown_and_released_as_shown() {
    let mut rig = rig("hour_count = 5");
    rig.insert(12).await;
    let _daemon = Daemon::start(&rig.home, "daemon");
    until_blown(&rig).await;
    until_quiet(&rig, 12).await;
    let sent = rig.gateway.charges();
    assert!(sent <= 5, "{sent} were sent");
    let hash = |wave: &Value| wave["hash"].as_str().unwrap().to_owned();
    let before = hash(&rig.home.json(&["wave", "show"])[0]);
    // two rows more, which fell due this morning as well
    rig.insert(2).await;
    until_quiet(&rig, 14).await;
    let (code, said) = rig.fails(&[&["wave", "approve", &before][..], &KIM].concat());
    assert_eq!(code, 65, "{said}");
    assert!(said.contains("is not what was shown: "), "{said}");
    let wave = rig.home.json(&["wave", "show"])[0].clone();
    assert_eq!(wave["count"], 14 - sent);
    let mut approved: Vec<String> =
        wave["charges"].as_array().unwrap().iter().map(|one| one["merchant_uid"].as_str().unwrap().to_owned()).collect();
    rig.done(&[&["wave", "approve", &hash(&wave)][..], &KIM].concat());
    rig.until_paid(14).await;
    let ledger = rig.gateway.ledger();
    let mut asked: Vec<String> = ledger.charges().skip(sent).map(|post| post.merchant_uid.clone().unwrap_or_default()).collect();
    asked.sort();
    approved.sort();
    assert_eq!((asked, rig.status("account main")["state"].clone()), (approved, "sends".into()));
}

#[tokio::test]
async fn a_charge_too_large_is_not_sent_and_a_changed_one_voids_the_approval() {
    let mut rig = rig("amount = 5000");
    rig.insert(3).await;
    rig.home.sql("UPDATE subscriptions SET amount = 1000000 WHERE external_ref = 'sub-1'").await;
    let _daemon = Daemon::start(&rig.home, "daemon");
    until_blown(&rig).await;
    until_quiet(&rig, 3).await;
    assert!(rig.status("account main")["why"].as_str().unwrap().contains("a charge of 1,000,000 KRW is above the most"));
    let hash = rig.home.json(&["wave", "show"])[0]["hash"].as_str().unwrap().to_owned();
    rig.home.sql("UPDATE subscriptions SET customer_uid = 'good-other' WHERE external_ref = 'sub-1'").await;
    let (code, said) = rig.fails(&[&["wave", "approve", &hash][..], &KIM].concat());
    assert_eq!(code, 65, "{said}");
    assert!(said.contains("is not what was shown"), "{said}");
    assert!(rig.gateway.ledger().payments.iter().all(|payment| payment.amount_minor < 5000), "the large one was never sent");
}

#[tokio::test]
async fn too_many_declines_pause_the_account_until_an_operator_releases_it() {
    let mut rig = rig("decline_rate = 0.5\nsample = 6\nday_from = 1000000").listens();
    rig.insert(40).await;
    rig.home.sql("UPDATE subscriptions SET customer_uid = replace(customer_uid, 'good', 'limit')").await;
    let _daemon = Daemon::start(&rig.home, "daemon");
    until("the account is paused", SOON, async || (rig.status("account main")["state"] == "paused").then_some(())).await;
    let why = rig.status("account main")["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("first tries in the last hour were declined"), "{why}");
    let address = rig.address().await;
    for told in ["rebilld_paused", "rebilld_paused_by_rates"] {
        until_counted(address, &format!("{told}{{account=\"main\"}}"), 1.0).await;
    }
    rig.done(&["hold", "release", "--account", "main", "--reason", "the cards were test cards"]);
    until("it goes on", SOON, async || (rig.status("account main")["state"] != "paused").then_some(())).await;
}

#[tokio::test]
async fn too_many_doubts_pause_the_account() {
    let mut rig = rig("doubt_rate = 0.3\nsample = 6\nday_from = 1000000");
    rig.spoil(vec![Fault::DropResponse], None);
    rig.insert(30).await;
    let _daemon = Daemon::start(&rig.home, "daemon");
    until("the account is paused", SOON, async || (rig.status("account main")["state"] == "paused").then_some(())).await;
    let why = rig.status("account main")["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("sends in the last hour got no clear answer"), "{why}");
}

/// Half of the answers are lost: the account is paused with charges in doubt, and then the daemon is killed.
#[tokio::test]
async fn killed_while_paused_it_comes_up_paused_looks_up_what_is_in_doubt_and_sends_nothing() {
    let mut rig = rig("doubt_rate = 0.3\nsample = 6\nday_from = 1000000");
    rig.spoil(vec![Fault::DropResponse], None);
    rig.insert(60).await;
    let daemon = Daemon::start(&rig.home, "before");
    until("the account is paused", SOON, async || (rig.status("account main")["state"] == "paused").then_some(())).await;
    let why = rig.status("account main")["why"].clone();
    daemon.kill();
    rig.spoil(vec![], None);
    let claimed = rig.home.sql("SELECT count(*) AS n FROM charges WHERE claim_token IS NOT NULL").await[0]
        .int("n")
        .expect("a count") as usize;
    // what was asked for and is in hand still is looked up after its claim, two minutes: they have passed
    rig.home.sql("UPDATE charges SET claim_until = 1 WHERE claim_token IS NOT NULL").await;
    let started = SystemClock::new().now();
    let _daemon = Daemon::start(&rig.home, "daemon");
    until("three seconds of looking", SOON, async || {
        (SystemClock::new().now() > started + SignedDuration::from_secs(3)).then_some(())
    })
    .await;
    let asked = rig.gateway.charges();
    assert!(asked < 60, "there was more to send: {asked}");
    // every one of them was processed: a look-up finds it, and that is all that a paused account may do
    rig.until_paid(asked).await;
    let status = rig.status("account main");
    assert_eq!((&status["state"], &status["why"]), (&"paused".into(), &why), "a kill is no release");
    let late = rig.gateway.ledger().charges().filter(|post| post.received_at > started + SKEW).count();
    assert_eq!(late, 0, "nothing was sent while it was paused");
    rig.done(&["hold", "release", "--account", "main", "--reason", "the line is mended"]);
    // what was claimed and not asked for waits until the claim would have ended
    rig.until_paid(60 - claimed).await;
    let ledger = rig.gateway.ledger();
    let paid: std::collections::BTreeSet<_> = ledger.payments.iter().map(|payment| &payment.merchant_uid).collect();
    assert_eq!((ledger.payments.len(), ledger.charges().count()), (paid.len(), paid.len()), "each once");
}
