//! Audits, refunds, incidents; crashes before COMMIT; hearing of changed rows.

use std::time::Duration;

use rebilld::domain::decide::{Incident, IncidentKind};
use rebilld::domain::event::{Event, EventKind};
use rebilld::ports::store::{AuditResult, Fence, IncidentState, Store};
use rebilld::ports::wake::Wake;
use serde_json::json;

use super::deeds::{begin_of, entry, paid, token};
use super::rig::{Engine, World, both, now};

both! {
    async fn only_a_complete_clean_audit_lets_an_account_send(world: World) {
        world.db.renew_incarnation("incarnation-2").await.unwrap();
        let account = world.account.id;
        for (complete, clean, audited) in [(false, true, false), (true, false, false), (true, true, true), (true, false, true)] {
            let result = AuditResult { account, from: now(), at: now(), complete, clean, summary: json!({ "seen": 1 }) };
            world.db.audited(&result).await.unwrap();
            assert_eq!(world.db.brakes().await.unwrap().accounts[&account].audited, audited);
        }
        assert_eq!(world.db.last_audits(account).await.unwrap(), (Some(now()), Some(now())));
    }

    async fn refunds_and_incidents_are_told_once(world: World) {
        let (_, loaded) = world.one_begun("t").await;
        let written = entry(&loaded, Fence::Claim(token("t")), paid(&loaded, "imp_1"));
        world.db.record(now(), &[written]).await.unwrap();
        let event = Event::of_charge(EventKind::ChargeRefunded, &loaded, "", json!({}));
        for (total, is_news) in [(1_000, true), (1_000, false), (3_000, true), (9_900, true), (3_000, false)] {
            assert_eq!(world.db.refunded(now(), loaded.id, total, event.clone()).await.unwrap(), is_news, "{total}");
        }
        assert_eq!(world.count("SELECT refunded_amount AS n FROM charges WHERE refunded").await, 9_900);
        let incident = Incident { kind: IncidentKind::MissingPayment, detail: "imp_1".to_owned() };
        assert_eq!(world.db.incident_state(loaded.account, &incident).await.unwrap(), IncidentState::New);
        for state in [IncidentState::New, IncidentState::Open] {
            let opened = world.db.open_incident(now(), loaded.account, Some(loaded.id), &incident, event.clone()).await;
            assert_eq!(opened.unwrap(), state);
        }
        world.sql("UPDATE incidents SET closed_at = opened_at").await.unwrap();
        let again = world.db.open_incident(now(), loaded.account, None, &incident, event).await.unwrap();
        assert_eq!(again, IncidentState::Closed, "a person has closed it: it is known");
        assert_eq!(world.db.incident_state(loaded.account, &incident).await.unwrap(), IncidentState::Closed);
        assert_eq!(world.count("SELECT count(*) AS n FROM events").await, 5, "paid, three refunds, one incident");
        assert!(world.db.hold(now(), "restored").await.unwrap());
        assert!(!world.db.hold(now(), "restored").await.unwrap());
        world.db.pause_account(loaded.account, now(), "401 twice").await.unwrap();
        world.db.pause_account(loaded.account, now(), "401 twice").await.unwrap();
        assert_eq!(world.count("SELECT count(*) AS n FROM events WHERE kind = 'account.paused'").await, 1);
    }

    async fn an_intent_that_is_given_up_midway_leaves_all_or_nothing(world: World) {
        let claimed = world.claimed(64, "t").await;
        for micros in (0..12_000).step_by(600) {
            let begun = world.db.begin(begin_of(&world, "t", &claimed));
            let done = tokio::time::timeout(Duration::from_micros(micros), begun).await;
            // in one snapshot: a COMMIT may still be on its way
            let both = "SELECT 1000 * (SELECT count(*) FROM sends) + (SELECT count(*) FROM attempts) AS n";
            let (open, attempts) = { let n = world.count(both).await; (n / 1000, n % 1000) };
            assert_eq!(open, attempts);
            assert!(open == 0 || open == 64, "{open} of 64 sends were committed");
            if done.is_ok() || open == 64 {
                assert_eq!(open, 64, "acknowledged, and therefore there");
                break;
            }
        }
    }

    async fn the_database_tells_the_time(world: World) {
        let first = world.db.clock().await.unwrap();
        assert!(world.db.clock().await.unwrap() >= first);
    }
}

#[tokio::test]
async fn a_row_written_by_hand_rings_the_bell() {
    let world = World::new(Engine::Postgres).await;
    let (wake, plans) = (Wake::default(), Wake::default());
    let listening = tokio::spawn({
        let (db, wake, plans) = (world.db.clone(), wake.clone(), plans.clone());
        async move { db.listen(wake, plans).await }
    });
    wake.heard().await;
    plans.heard().await;
    world.subscribe("s", 1..=1).await;
    tokio::time::timeout(Duration::from_secs(10), wake.heard()).await.expect("the insert is heard of");
    world.sql("UPDATE subscriptions SET status = 'paused'").await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), wake.heard()).await.expect("the update is heard of");
    let quiet = tokio::time::timeout(Duration::from_millis(20), plans.heard()).await;
    assert!(quiet.is_err(), "a subscription is no plan");
    world.sql("INSERT INTO plans (name, every) VALUES ('gold', '1 month')").await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), plans.heard()).await.expect("the plan is heard of");
    listening.abort();
    let quiet = World::new(Engine::Sqlite).await;
    assert!(tokio::time::timeout(Duration::from_millis(20), quiet.db.listen(Wake::default(), Wake::default())).await.is_err());
}
