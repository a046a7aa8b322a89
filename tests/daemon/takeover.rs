//! Taking a book over from PortOne's own schedule.

use rebilld::gateway::sandbox::{Endpoint, Fault, FaultPlan, Matcher, Rule};
use serde_json::{Value, json};

use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};
use crate::support::postgres;

async fn waiting(rig: &Rig) -> Vec<String> {
    let rows = rig.home.sql("SELECT waiting FROM charges WHERE state = 'due' AND next_at IS NOT NULL").await;
    rows.iter().map(|row| row.text("waiting").expect("a word")).collect()
}

async fn a_booked_key_is_left_alone(database: Option<&str>) {
    let mut rig = Rig::new(database);
    rig.gateway.book("good-0", "old-1");
    rig.gateway.book("good-0", "old-2");
    rig.insert(2).await;
    // as a script would read it: exit 65 says that there are some
    let (code, said) = rig.fails(&["takeover", "check", "--output", "csv"]);
    assert_eq!(code, 65, "{said}");
    assert!(said.contains("\nmain,good-0,2,") && !said.contains("good-1"), "{said}");
    assert!(said.contains("`rebilld takeover unschedule`"), "{said}");
    let text = rig.done(&["run", "--dry-run", "--output", "json"]);
    let line: Value = serde_json::from_str(text.lines().find(|line| line.contains("good-0")).expect("its line")).expect("JSON");
    assert_eq!((&line["fate"], &line["why"]), (&"waits".into(), &"its bookings in PortOne's own schedule to go".into()));

    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_paid(1).await;
    until("the other one rests", SOON, async || (waiting(&rig).await == ["card_rest"]).then_some(())).await;
    let ledger = rig.gateway.ledger();
    assert!(ledger.charges().all(|post| post.customer_uid.as_deref() == Some("good-1")), "the booked key was asked");
    for shown in [rig.done(&["explain", "sub-0"]), rig.done(&["charges", "show", "sub-0"])] {
        assert!(shown.contains("Its billing key has 2 bookings in PortOne's own schedule"), "{shown}");
        assert!(!shown.contains("it is tried"), "nothing is tried before they are gone: {shown}");
    }

    let unschedule = ["takeover", "unschedule", "--reason", "rebilld charges them now"];
    let with = |more: &[&'static str]| [&unschedule[..], more].concat();
    let (code, said) = rig.fails(&unschedule);
    assert_eq!(code, 75, "{said}");
    let hash = said.split("--confirm ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a hash").to_owned();
    assert_eq!(rig.fails(&with(&["--confirm", "nothing"])).0, 65);
    assert_eq!(rig.fails(&with(&["--customer-uid", "good-1"])).0, 65, "nothing is known of its bookings");
    assert_eq!(
        rig.gateway.ledger().posts.iter().filter(|post| post.body.contains("good-0")).count(),
        2,
        "nothing was taken away"
    );
    let said = rig.done(&[&unschedule[..], &["--confirm", &hash]].concat());
    assert!(said.contains("good-0") && said.contains("gone"), "{said}");
    rig.until_paid(2).await;

    let journal = rig.home.json(&["journal", "list"]);
    let entry =
        journal.as_array().and_then(|rows| rows.iter().find(|row| row["action"] == "takeover unschedule")).expect("an entry");
    assert_eq!((&entry["subject"], &entry["reason"]), (&"account main".into(), &"rebilld charges them now".into()));
    assert_eq!((&entry["detail"]["customer_uid"], &entry["detail"]["bookings"]), (&"good-0".into(), &2.into()));
    let checked = rig.home.json(&["takeover", "check"]);
    assert_eq!((&checked["keys"], &checked["booked"], &checked["failed"]), (&2.into(), &json!([]), &json!([])));
    assert_eq!(rig.gateway.ledger().payments.len(), 2, "each once");
}

#[tokio::test]
async fn a_booked_key_is_left_alone_until_its_bookings_are_gone_on_sqlite() {
    a_booked_key_is_left_alone(None).await;
}

#[tokio::test]
async fn a_booked_key_is_left_alone_until_its_bookings_are_gone_on_postgres() {
    let database = postgres::database().await;
    a_booked_key_is_left_alone(Some(&database.url)).await;
}

#[tokio::test]
async fn a_key_that_portone_may_have_charged_waits_for_an_operator() {
    let mut rig = Rig::new(None);
    rig.gateway.book("good-0", "old-1");
    rig.gateway.book("good-1", "old-2");
    rig.insert(2).await;
    assert_eq!(rig.fails(&["takeover", "check"]).0, 65);
    // their time comes, and PortOne carries them out: its list of what is to come shows none
    rig.home.sql("UPDATE key_bookings SET first_at = checked_at - 1000000").await;
    for card in ["good-0", "good-1"] {
        rig.gateway.ask("/subscribe/payments/unschedule", &json!({ "customer_uid": card }));
    }
    let _daemon = Daemon::start(&rig.home, "daemon");
    until("both rest", SOON, async || (waiting(&rig).await == ["card_rest", "card_rest"]).then_some(())).await;
    let told = "PortOne may have charged this card on ";
    let release = "look at the gateway, then `rebilld takeover release good-0 --reason …`";
    let (code, said) = rig.fails(&["takeover", "check"]);
    assert!(code == 65 && said.contains(told) && said.contains(release), "{said}");
    let (code, said) = rig.fails(&["takeover", "unschedule", "--yes", "--reason", "rebilld charges them now"]);
    assert!(code == 69 && said.contains(told) && said.contains(release), "{said}");
    let said = rig.done(&["explain", "sub-0"]);
    assert!(said.contains(told) && said.contains(release), "{said}");
    assert_eq!((waiting(&rig).await.len(), rig.gateway.charges()), (2, 0), "nothing was sent");
    rig.home.sql("UPDATE charges SET due_at = due_at - 7200000000").await;
    let row = rig.status("bookings of main");
    assert_eq!((&row["state"], &row["killed"]), (&"2 charges wait".into(), &false.into()), "{row}");
    assert!(row["why"].as_str().is_some_and(|why| why.contains("rebilld takeover check")), "{row}");

    let reason = ["--reason", "looked at the gateway"];
    let with = |uid: &'static str, more: &[&'static str]| [&["takeover", "release", uid][..], more, &reason].concat();
    assert_eq!(rig.fails(&with("good-7", &[])).0, 65, "nothing is known of it");
    let (code, said) = rig.fails(&with("good-0", &[]));
    assert!(code == 75 && said.contains("sub-0") && said.contains("void"), "{said}");
    // the one was charged there, the other was not
    let today = rig.home.sql("SELECT CAST(period_start AS TEXT) AS day FROM charges").await[0].text("day").expect("a day");
    rig.done(&[&["review", "rule", &format!("sub-0:{today}"), "void"][..], &reason].concat());
    rig.done(&with("good-0", &[]));
    let said = rig.done(&with("good-1", &["--send"]));
    assert!(said.contains("charged from here again; 1 charge waited"), "{said}");
    rig.until_paid(1).await;
    let ledger = rig.gateway.ledger();
    assert!(ledger.charges().all(|post| post.customer_uid.as_deref() == Some("good-1")), "the other was charged by PortOne");
    assert_eq!(rig.fails(&["takeover", "check"]).0, 0);
}

#[tokio::test]
async fn a_key_whose_bookings_were_taken_away_elsewhere_is_not_released_into_a_send() {
    let mut rig = Rig::new(None);
    rig.gateway.book("good-0", "old-1");
    rig.insert(1).await;
    assert_eq!(rig.fails(&["takeover", "check"]).0, 65);
    let _daemon = Daemon::start(&rig.home, "daemon");
    until("it rests", SOON, async || (waiting(&rig).await == ["card_rest"]).then_some(())).await;
    // in PortOne's console, a week before their time
    rig.gateway.ask("/subscribe/payments/unschedule", &json!({ "customer_uid": "good-0" }));
    let release = ["takeover", "release", "good-0", "--reason", "taken away in the console"];
    let (code, said) = rig.fails(&release);
    assert!(code == 75 && said.contains("sub-0"), "{code}: {said}");
    assert_eq!((waiting(&rig).await, rig.gateway.charges()), (vec!["card_rest".to_owned()], 0), "nothing was sent");
    let released = || {
        let journal = rig.home.json(&["journal", "list"]);
        journal.as_array().expect("entries").iter().filter(|row| row["action"] == "takeover release").count()
    };
    assert_eq!(released(), 0);
    rig.done(&[&release[..], &["--send"]].concat());
    rig.until_paid(1).await;
    assert_eq!(released(), 1, "whoever lets it be sent stands in the journal");
}

#[tokio::test]
async fn bookings_that_are_gone_are_in_the_journal_whatever_became_of_the_answer() {
    let mut rig = Rig::new(None);
    rig.gateway.book("good-0", "old-1");
    rig.insert(1).await;
    assert_eq!(rig.fails(&["takeover", "check"]).0, 65);
    let lost = Rule { when: Matcher::endpoint(Endpoint::Unschedule), faults: vec![Fault::DropResponse], times: None };
    rig.gateway.set_faults(&FaultPlan::rules(vec![lost]));
    let said = rig.done(&["takeover", "unschedule", "--yes", "--reason", "rebilld charges them now"]);
    assert!(said.contains("gone"), "{said}");
    let journal = rig.home.json(&["journal", "list"]);
    let entry = journal.as_array().and_then(|rows| rows.iter().find(|row| row["action"] == "takeover unschedule"));
    assert_eq!(entry.map(|entry| &entry["detail"]["customer_uid"]), Some(&"good-0".into()), "{journal}");
}

#[tokio::test]
async fn a_gateway_that_cannot_be_asked_frees_no_key() {
    let mut rig = Rig::new(None);
    rig.gateway.book("good-0", "old-1");
    rig.insert(1).await;
    assert_eq!(rig.fails(&["takeover", "check"]).0, 65);
    rig.gateway.stop();
    let (code, said) = rig.fails(&["takeover", "check"]);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("what was known of them stays"), "{said}");
    let (code, said) = rig.fails(&["takeover", "unschedule", "--yes", "--reason", "now"]);
    assert_eq!(code, 69, "{said}");
    let known = rig.home.sql("SELECT CAST(count(*) AS BIGINT) AS n FROM key_bookings").await;
    assert_eq!(known[0].int("n").expect("a number"), 1);
    rig.gateway.start_again();
    // another card, and nothing is known of its bookings
    rig.done(&["subscriptions", "set", "sub-0", "--customer-uid", "good-9", "--reason", "a new card"]);
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_paid(1).await;
}
