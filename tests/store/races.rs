//! Several workers on one database: what one does never harms what another has done.

use std::collections::HashSet;

use rebilld::domain::attempt::AttemptState;
use rebilld::domain::charge::{ChargeId, ChargeState};
use rebilld::domain::decide::{Adopted, LiveChange};
use rebilld::ports::store::{Delivered, Fence, Lane, NotBegun, Recorded, ScheduleStep, Stepped, Store};
use rebilld::store::sql::Statement;

use super::deeds::{begin_of, claim_of, day, decided, entry, open_step, paid, token};
use super::rig::{Engine, World, both, later, now};

both! {
    async fn two_replicas_claim_different_charges(world: World) {
        world.open_charges(200).await;
        let (one, two) = (world.replica().await, world.replica().await);
        let mut seen = HashSet::new();
        for round in 0..5 {
            let claims = [format!("a{round}"), format!("b{round}")].map(|text| claim_of(&world, Lane::Send, &text, 20));
            let (first, second) = tokio::join!(one.claim(&claims[0]), two.claim(&claims[1]));
            for claimed in first.unwrap().into_iter().chain(second.unwrap()) {
                assert!(seen.insert(claimed.charge.id), "claimed twice");
            }
        }
        assert_eq!(seen.len(), 200);
        assert!(world.db.claim(&claim_of(&world, Lane::Send, "c", 20)).await.unwrap().is_empty());
        let mut late = claim_of(&world, Lane::Send, "d", 500);
        (late.now, late.due_until, late.claim_until) = (later(60), later(60), later(120));
        assert_eq!(world.db.claim(&late).await.unwrap().len(), 200, "an ended claim is free");
    }

    async fn a_lost_claim_begins_nothing(world: World) {
        let claimed = world.claimed(1, "t").await;
        let mut late = claim_of(&world, Lane::Send, "u", 1);
        (late.now, late.claim_until) = (later(60), later(120));
        world.db.claim(&late).await.unwrap();
        let begun = world.db.begin(begin_of(&world, "t", &claimed)).await.unwrap();
        assert_eq!(begun.attempts[0].as_ref().unwrap_err(), &NotBegun::ClaimLost);
        assert_eq!(world.count("SELECT count(*) AS n FROM attempts").await, 0);
        assert_eq!(world.count("SELECT count(*) AS n FROM ids").await, 1, "that of the period, from its opening");
        assert_eq!(world.count("SELECT high_water AS n FROM settings").await, 0);
    }

    async fn an_intent_is_begun_once(world: World) {
        let claimed = world.claimed(50, "t").await;
        let (one, two) = (world.replica().await, world.replica().await);
        let (first, second) = tokio::join!(one.begin(begin_of(&world, "t", &claimed)), two.begin(begin_of(&world, "t", &claimed)));
        let (first, second) = (first.unwrap(), second.unwrap());
        for (first, second) in first.attempts.iter().zip(&second.attempts) {
            assert!(first.is_ok() != second.is_ok());
        }
        assert_eq!(world.count("SELECT count(*) AS n FROM sends").await, 50);
    }

    async fn a_brake_stops_the_next_intent(world: World) {
        let claimed = world.claimed(1, "t").await;
        for (on, off, why) in [
            ("UPDATE settings SET killed = TRUE", "UPDATE settings SET killed = FALSE", NotBegun::Killed),
            ("UPDATE settings SET held = TRUE", "UPDATE settings SET held = FALSE", NotBegun::Held),
            ("UPDATE accounts SET killed = TRUE", "UPDATE accounts SET killed = FALSE", NotBegun::Killed),
            ("UPDATE accounts SET held = TRUE", "UPDATE accounts SET held = FALSE", NotBegun::Held),
            ("UPDATE accounts SET paused = TRUE", "UPDATE accounts SET paused = FALSE", NotBegun::Paused),
            (
                "UPDATE accounts SET armed_incarnation = NULL",
                "UPDATE accounts SET armed_incarnation = 'incarnation-1'",
                NotBegun::Unarmed,
            ),
            (
                "UPDATE accounts SET armed_incarnation = 'incarnation-0'",
                "UPDATE accounts SET armed_incarnation = 'incarnation-1'",
                NotBegun::Unarmed,
            ),
            ("UPDATE accounts SET endpoint_id = endpoint_id + 1", "UPDATE accounts SET endpoint_id = endpoint_id - 1", NotBegun::Held),
            ("UPDATE settings SET incarnation = 'x'", "UPDATE settings SET incarnation = 'incarnation-1'", NotBegun::Held),
        ] {
            world.sql(on).await.unwrap();
            assert_eq!(world.db.brakes().await.unwrap().stop(world.account.id, world.account.endpoint), Some(why), "{on}");
            let begun = world.db.begin(begin_of(&world, "t", &claimed)).await.unwrap();
            assert_eq!(begun.attempts[0].as_ref().unwrap_err(), &why, "{on}");
            world.sql(off).await.unwrap();
        }
        assert!(world.db.begin(begin_of(&world, "t", &claimed)).await.unwrap().attempts[0].is_ok());
    }

    async fn a_brake_that_is_pulled_after_it_was_read_stops_the_commit(world: World) {
        let claimed = world.claimed(2, "t").await;
        // somebody pulls it in the middle of W2, as far as W2 can tell
        let pull = "CREATE FUNCTION pull() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN UPDATE settings SET killed = TRUE; RETURN NEW; END $$";
        world.sql_of("SELECT 1 AS n", pull).await.unwrap();
        world
            .sql_of(
                "CREATE TRIGGER pull AFTER INSERT ON sends BEGIN UPDATE settings SET killed = TRUE; END",
                "CREATE TRIGGER pull AFTER INSERT ON sends FOR EACH ROW EXECUTE FUNCTION pull()",
            )
            .await
            .unwrap();
        let begun = world.db.begin(begin_of(&world, "t", &claimed)).await.unwrap();
        assert!(begun.attempts.iter().all(Result::is_err), "{:?}", begun.attempts);
        assert_eq!(world.count("SELECT count(*) AS n FROM sends").await, 0);
        assert_eq!(world.count("SELECT high_water AS n FROM settings").await, 0);
    }

    async fn two_batches_use_the_budget_up_exactly(world: World) {
        let claimed = world.claimed(100, "t").await;
        let (left, right) = claimed.split_at(50);
        let (one, two) = (world.replica().await, world.replica().await);
        let batch = |part: &[_]| {
            let mut batch = begin_of(&world, "t", part);
            (batch.budget_count, batch.budget_sum) = (Some(80), Some(70 * 9_900 + 1));
            batch
        };
        let (first, second) = tokio::join!(one.begin(batch(left)), two.begin(batch(right)));
        let all: Vec<_> = first.unwrap().attempts.into_iter().chain(second.unwrap().attempts).collect();
        assert_eq!(all.iter().filter(|begun| begun.is_ok()).count(), 70);
        assert!(all.iter().filter_map(|begun| begun.as_ref().err()).all(|why| *why == NotBegun::OverBudget));
        assert_eq!(world.count("SELECT sum AS n FROM budgets").await, 70 * 9_900);
    }

    async fn an_id_of_another_charge_is_refused_and_its_neighbours_are_not(world: World) {
        let mut claimed = world.claimed(256, "t").await;
        // the first id of a charge is its own from the opening of its period
        claimed[7].charge.id_number = rebilld::domain::attempt::IdNumber::new(2).unwrap();
        let uid = claimed[7].charge.base.number(claimed[7].charge.id_number);
        world.sql(&format!("INSERT INTO ids (merchant_uid, charge_id) VALUES ('{uid}', 999999)")).await.unwrap();
        let begun = world.db.begin(begin_of(&world, "t", &claimed)).await.unwrap();
        for (index, attempt) in begun.attempts.iter().enumerate() {
            assert_eq!(attempt.as_ref().err(), (index == 7).then_some(&NotBegun::IdTaken));
        }
    }

    async fn an_intent_that_breaks_a_rule_stands_alone(world: World) {
        let claimed = world.claimed(20, "t").await;
        let mut batch = begin_of(&world, "t", &claimed);
        // a rule that the store does not know stands in for what nobody foresaw
        world
            .sql_of(
                "CREATE TRIGGER unforeseen BEFORE INSERT ON attempts WHEN NEW.customer_uid = 'bad' BEGIN SELECT RAISE(ABORT, 'unforeseen'); END",
                "ALTER TABLE attempts ADD CHECK (customer_uid <> 'bad')",
            )
            .await
            .unwrap();
        batch.intents[3].customer_uid = "bad".to_owned();
        let begun = world.db.begin(batch).await.unwrap();
        for (index, attempt) in begun.attempts.iter().enumerate() {
            assert_eq!(attempt.is_err(), index == 3);
        }
        assert_eq!(world.count("SELECT count(*) AS n FROM sends").await, 19);
    }

    async fn without_the_claim_only_the_observation_is_stored(world: World) {
        let (_, loaded) = world.one_begun("t").await;
        let mut late = claim_of(&world, Lane::Send, "u", 1);
        (late.now, late.claim_until) = (later(60), later(120));
        world.db.claim(&late).await.unwrap();
        let doubt = decided(&loaded, |decision| decision.charge.state = ChargeState::Unpaid);
        let lost = world.db.record(now(), &[entry(&loaded, Fence::Claim(token("t")), doubt)]).await.unwrap();
        assert_eq!(lost, [Recorded::FenceLost]);
        assert_eq!(world.count("SELECT count(*) AS n FROM observations WHERE rule IS NULL").await, 1);
        let now_there = world.db.load(&[loaded.id]).await.unwrap().remove(0);
        assert_eq!(now_there.state, ChargeState::Due);
        // a truth needs no claim, only that the charge is as it was judged
        let stale = entry(&loaded, Fence::Version(loaded.version), paid(&loaded, "imp_1"));
        assert_eq!(world.db.record(now(), &[stale]).await.unwrap(), [Recorded::FenceLost]);
        let truth = entry(&now_there, Fence::Version(now_there.version), paid(&now_there, "imp_1"));
        let both = world.db.record(now(), &[truth.clone(), truth]).await.unwrap();
        assert_eq!(both, [Recorded::Written, Recorded::FenceLost], "once, even within a batch");
    }

    async fn one_refused_outcome_among_many_harms_nobody(world: World) {
        let (_, loaded) = world.begun(256, "t").await;
        let entries: Vec<_> = loaded
            .iter()
            .enumerate()
            .map(|(index, charge)| {
                let imp_uid = if index == 9 { "imp_0".to_owned() } else { format!("imp_{index}") };
                entry(charge, Fence::Claim(token("t")), paid(charge, &imp_uid))
            })
            .collect();
        let recorded = world.db.record(now(), &entries).await.unwrap();
        for (index, result) in recorded.iter().enumerate() {
            let expected = if index == 9 { Recorded::ImpUidTaken } else { Recorded::Written };
            assert_eq!(*result, expected);
        }
        assert_eq!(world.count("SELECT count(*) AS n FROM observations").await, 256);
    }

    async fn an_outcome_that_breaks_a_rule_stands_alone(world: World) {
        let (_, loaded) = world.begun(20, "t").await;
        let mut entries: Vec<_> = loaded
            .iter()
            .map(|charge| entry(charge, Fence::Claim(token("t")), paid(charge, &format!("imp_{}", charge.id))))
            .collect();
        // a second paid attempt: THE index refuses it
        let adopted = Adopted {
            id_number: loaded[4].id_number,
            state: AttemptState::Paid,
            imp_uid: "imp_x".to_owned(),
            customer_uid: String::new(),
        };
        entries[4].decision.as_mut().unwrap().adopt.push(adopted);
        let recorded = world.db.record(now(), &entries).await.unwrap();
        for (index, result) in recorded.iter().enumerate() {
            assert_eq!(*result, if index == 4 { Recorded::Refused } else { Recorded::Written });
        }
        assert_eq!(world.count("SELECT count(*) AS n FROM charges WHERE state = 'paid'").await, 19);
        assert_eq!(world.count("SELECT count(*) AS n FROM observations").await, 20);
    }

    async fn a_payment_under_an_earlier_id_is_adopted(world: World) {
        let (_, loaded) = world.one_begun("t").await;
        let open = loaded.live.as_ref().unwrap().open_send.unwrap();
        let settled = decided(&loaded, |decision| {
            decision.send = Some((open.id, rebilld::domain::attempt::SendEnd::Found));
            decision.live = LiveChange::End { state: AttemptState::Void, imp_uid: None };
            decision.adopt.push(Adopted {
                id_number: rebilld::domain::attempt::IdNumber::new(2).unwrap(),
                state: AttemptState::Paid,
                imp_uid: "imp_2".to_owned(),
                customer_uid: "card".to_owned(),
            });
            decision.charge.state = ChargeState::Paid;
            decision.charge.paid_imp_uid = Some("imp_2".to_owned());
        });
        let written = world.db.record(now(), &[entry(&loaded, Fence::Version(loaded.version), settled)]).await.unwrap();
        assert_eq!(written, [Recorded::Written]);
        let past = world.db.attempts_of(&[loaded.id]).await.unwrap();
        assert_eq!(past.iter().map(|past| past.state).collect::<Vec<_>>(), [AttemptState::Void, AttemptState::Paid]);
        assert_eq!(world.count("SELECT attempts AS n FROM charges").await, 2);
        assert_eq!(world.count("SELECT count(*) AS n FROM ids").await, 2);
        let booked = world.db.booked(world.account.id, now(), later(1), ChargeId(0), 9).await.unwrap();
        assert!(booked[0].merchant_uid.ends_with("02"));
    }

    async fn deliveries_of_one_subscription_keep_their_order(world: World) {
        let (_, loaded) = world.begun(2, "t").await;
        for charge in &loaded {
            let mut decision = paid(charge, &format!("imp_{}", charge.id));
            decision.events.push(decision.events[0].clone());
            world.db.record(now(), &[entry(charge, Fence::Claim(token("t")), decision)]).await.unwrap();
        }
        let first = world.db.due_deliveries(now(), later(30), 10).await.unwrap();
        assert_eq!(first.len(), 2, "the oldest of each subscription");
        assert!(world.db.due_deliveries(now(), later(30), 10).await.unwrap().is_empty());
        let failed = Delivered { id: first[0].id, error: Some("503".to_owned()), next_at: Some(later(600)) };
        let accepted = Delivered { id: first[1].id, error: None, next_at: None };
        world.db.delivered(later(1), &[failed, accepted]).await.unwrap();
        let second = world.db.due_deliveries(later(1), later(31), 10).await.unwrap();
        assert_eq!(second.len(), 1, "the other one's next event; the failed one keeps its own back");
        world.db.delivered(later(2), &[Delivered { id: second[0].id, error: None, next_at: None }]).await.unwrap();
        assert!(world.db.due_deliveries(later(599), later(700), 10).await.unwrap().is_empty());
        let third = world.db.due_deliveries(later(600), later(700), 10).await.unwrap();
        assert_eq!((third[0].id, third[0].tries), (first[0].id, 1));
        world.db.delivered(later(601), &[Delivered { id: third[0].id, error: Some("gone".to_owned()), next_at: None }]).await.unwrap();
        assert_eq!(world.db.due_deliveries(later(601), later(700), 10).await.unwrap().len(), 1);
    }
}

/// An operator's open transaction at the head of what is due does not hold up whoever stands behind it. SQLite has one writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_another_session_holds_are_read_past() {
    let world = World::new(Engine::Postgres).await;
    world.subscribe("s", 1..=6).await;
    let look = async || {
        let due = world.db.due_schedules(now(), 3).await.unwrap();
        let steps: Vec<ScheduleStep> = due.iter().map(|due| open_step(due, day(1), now())).collect();
        (due, world.db.step_schedules(now(), &steps).await.unwrap())
    };
    let head: Vec<i64> = world.db.due_schedules(now(), 3).await.unwrap().iter().map(|due| due.terms.id.0).collect();
    let operator = world.replica().await;
    let mut tx = operator.begin_write().await.unwrap();
    let hold = "UPDATE schedules SET missed = missed WHERE subscription_id = ANY ($1)";
    tx.execute(&Statement::same("hold", hold), &[head.clone().into()]).await.unwrap();
    assert_eq!(look().await.1, [Stepped::Stale; 3], "the first look meets them");
    let (due, stepped) = look().await;
    assert!(due.iter().all(|due| !head.contains(&due.terms.id.0)) && stepped == [Stepped::Done; 3], "{stepped:?}");
    assert!(look().await.0.is_empty(), "what is held is left alone");
    tx.commit().await.unwrap();
    assert_eq!(look().await.1, [Stepped::Done; 3], "and is there once it is free");
}
