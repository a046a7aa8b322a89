//! A charge's way through the store: opened, claimed, begun, recorded.

use rebilld::domain::attempt::{AttemptState, SendEnd};
use rebilld::domain::charge::{ChargeState, Waiting};
use rebilld::domain::decide::LiveChange;
use rebilld::domain::lifecycle::Progress;
use rebilld::ports::store::{Fence, Lane, NotBegun, Recorded, Stepped, Store};

use super::deeds::{begin_of, claim_of, day, decided, entry, open_step, paid, token};
use super::rig::{Engine, World, both, later, now};

both! {
    async fn a_row_written_by_hand_becomes_a_paid_charge(world: World) {
        world.subscribe("s", 1..=1).await;
        let due = world.db.due_schedules(now(), 10).await.unwrap();
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].terms.external_ref, "s-1");
        assert_eq!((due[0].progress.opened_until, due[0].was_paused), (None, false));
        assert_eq!(world.db.next_due(now()).await.unwrap().first(), Some(jiff::Timestamp::UNIX_EPOCH));
        let stepped = world.db.step_schedules(now(), &[open_step(&due[0], day(1), now())]).await.unwrap();
        assert_eq!(stepped, [Stepped::Done]);
        assert!(world.db.due_schedules(now(), 10).await.unwrap().is_empty());
        assert_eq!(world.db.next_due(now()).await.unwrap().first(), Some(now()));
        let one_more = world.db.next_due(now().checked_sub(jiff::SignedDuration::from_secs(1)).unwrap()).await.unwrap();
        assert_eq!(one_more.send_later, Some(now()), "what is not due yet is told beside what is");

        let claimed = world.db.claim(&claim_of(&world, Lane::Send, "t", 10)).await.unwrap();
        assert_eq!(claimed.len(), 1);
        let charge = &claimed[0].charge;
        assert_eq!((charge.state, charge.waiting, charge.attempts), (ChargeState::Due, Waiting::Turn, 0));
        assert_eq!(charge.base.as_str().len(), 28);
        assert_eq!(claimed[0].payer.customer_uid, "card-s-1");
        assert_eq!(claimed[0].payer.options.extra, Some(serde_json::json!({ "naverUseCfm": "20270101" })));
        assert_eq!(world.db.next_due(now()).await.unwrap().first(), Some(later(60)), "when the claim ends, for want of anything else");

        let begun = world.db.begin(begin_of(&world, "t", &claimed)).await.unwrap();
        assert_eq!(begun.high_water, 1);
        let attempt = begun.attempts[0].as_ref().unwrap();
        assert_eq!((attempt.charge(), attempt.body()), (charge.id, "{\"n\":\"s-1\"}"));

        let loaded = world.db.load(&[charge.id]).await.unwrap().remove(0);
        assert!(loaded.in_doubt(), "an open send is doubt, without a write");
        assert_eq!((loaded.attempts, loaded.newest_send_at), (1, Some(now())));
        let again = world.db.begin(begin_of(&world, "t", &claimed)).await.unwrap();
        assert_eq!(again.attempts[0].as_ref().unwrap_err(), &NotBegun::Unresolved);

        let paid = paid(&loaded, "imp_1");
        let written = world.db.record(later(1), &[entry(&loaded, Fence::Claim(token("t")), paid)]).await.unwrap();
        assert_eq!(written, [Recorded::Written]);
        let after = world.db.load(&[charge.id]).await.unwrap().remove(0);
        assert_eq!((after.state, after.paid_imp_uid.as_deref()), (ChargeState::Paid, Some("imp_1")));
        assert_eq!(after.live, None);
        assert_eq!(world.count("SELECT count(*) AS n FROM sends WHERE state = 'answered' AND body IS NULL").await, 1);
        assert_eq!(world.count("SELECT count(*) AS n FROM observations WHERE rule IS NOT NULL").await, 1);
        assert_eq!(world.count("SELECT count(*) AS n FROM deliveries d JOIN events e ON e.seq = d.event_seq").await, 1);
        let booked = world.db.booked(world.account.id, now(), later(60), rebilld::domain::charge::ChargeId(0), 10).await.unwrap();
        assert_eq!(booked[0].merchant_uid, after.base.number(after.id_number).as_str());
        assert!(world.db.booked(world.account.id, now(), later(60), charge.id, 10).await.unwrap().is_empty());
        assert_eq!(world.db.attempts_of(&[charge.id]).await.unwrap()[0].state, AttemptState::Paid);
        let owner = world.db.charges_of(&[booked[0].merchant_uid.clone(), "nobody".to_owned()]).await.unwrap();
        assert_eq!(owner.into_values().collect::<Vec<_>>(), [charge.id]);
    }

    async fn a_send_that_did_not_leave_keeps_its_bytes_until_its_attempt_ends(world: World) {
        let (claimed, loaded) = world.one_begun("t").await;
        let open = loaded.live.as_ref().unwrap().open_send.unwrap();
        let lost = decided(&loaded, |decision| {
            decision.send = Some((open.id, SendEnd::Absent));
            decision.live = LiveChange::Resend;
            decision.charge.waiting = Waiting::Resend;
        });
        let fence = Fence::Claim(token("t"));
        assert_eq!(world.db.record(now(), &[entry(&loaded, fence, lost)]).await.unwrap(), [Recorded::Written]);

        let claimed_again = world.db.claim(&claim_of(&world, Lane::Send, "u", 10)).await.unwrap();
        assert_eq!(claimed_again[0].last_body.as_deref(), Some("{\"n\":\"s-1\"}"));
        assert_eq!(claimed_again[0].charge.live.as_ref().unwrap().resends, 1);
        assert_eq!(claimed_again[0].charge.id, claimed[0].charge.id);
        let mut batch = begin_of(&world, "u", &claimed_again);
        batch.budget_count = Some(0);
        let begun = world.db.begin(batch).await.unwrap();
        assert!(begun.attempts[0].is_ok(), "a resend is no new attempt and needs no budget: {begun:?}");
        let loaded = world.db.load(&[claimed[0].charge.id]).await.unwrap().remove(0);
        let paid = paid(&loaded, "imp_1");
        let fence = Fence::Claim(token("u"));
        assert_eq!(world.db.record(now(), &[entry(&loaded, fence, paid)]).await.unwrap(), [Recorded::Written]);
        assert_eq!(world.count("SELECT count(*) AS n FROM sends WHERE body IS NOT NULL").await, 0);
        assert_eq!(world.count("SELECT count(*) AS n FROM sends").await, 2);
    }

    async fn an_interrupted_send_is_looked_up(world: World) {
        let (claimed, _) = world.one_begun("t").await;
        assert_eq!(world.db.adopt_interrupted(now(), 10).await.unwrap(), 0, "its claim still runs");
        assert_eq!(world.db.adopt_interrupted(later(61), 10).await.unwrap(), 1);
        assert_eq!(world.db.adopt_interrupted(later(61), 10).await.unwrap(), 0);
        let mut claim = claim_of(&world, Lane::LookUp, "u", 10);
        (claim.now, claim.due_until, claim.claim_until) = (later(61), later(61), later(120));
        let doubted = world.db.claim(&claim).await.unwrap();
        assert_eq!(doubted[0].charge.id, claimed[0].charge.id);
        assert_eq!(doubted[0].charge.state, ChargeState::Doubt);
        assert!(doubted[0].charge.in_doubt());
        world.db.release(&token("u"), &[claimed[0].charge.id]).await.unwrap();
        claim.token = token("v");
        assert_eq!(world.db.claim(&claim).await.unwrap().len(), 1, "a claim given back is free at once");
    }

    async fn a_held_period_waits_for_the_last_one(world: World) {
        let (_, loaded) = world.one_begun("t").await;
        world.sql("UPDATE schedules SET next_look_at = NULL").await.unwrap();
        world.poke_schedules().await;
        let due = world.db.due_schedules(now(), 10).await.unwrap();
        let step = open_step(&due[0], day(2), now());
        assert_eq!(world.db.step_schedules(now(), std::slice::from_ref(&step)).await.unwrap(), [Stepped::Blocked]);
        assert_eq!(world.db.step_schedules(now(), std::slice::from_ref(&step)).await.unwrap(), [Stepped::Stale]);
        assert!(world.db.due_schedules(now(), 10).await.unwrap().is_empty());
        let paid = paid(&loaded, "imp_1");
        world.db.record(later(1), &[entry(&loaded, Fence::Version(loaded.version), paid)]).await.unwrap();
        let due = world.db.due_schedules(later(1), 10).await.unwrap();
        assert_eq!(due.len(), 1, "the end of the charge lets the schedule go on");
        assert_eq!(world.db.step_schedules(now(), &[open_step(&due[0], day(2), now())]).await.unwrap(), [Stepped::Done]);
    }

    async fn a_step_that_overlaps_is_refused_and_one_that_exists_is_put_right(world: World) {
        let (_, loaded) = world.one_begun("t").await;
        let paid = paid(&loaded, "imp_1");
        world.db.record(now(), &[entry(&loaded, Fence::Version(loaded.version), paid)]).await.unwrap();
        world.subscribe("other", 1..=1).await;
        world.poke_schedules().await;
        let due = world.db.due_schedules(now(), 10).await.unwrap();
        let (mine, other) = due.iter().partition::<Vec<_>, _>(|due| due.terms.external_ref == "s-1");
        let mut overlap = open_step(mine[0], day(1), now());
        if let rebilld::ports::store::ScheduleAction::Open { next, .. } = &mut overlap.action {
            next.period.start = jiff::civil::date(2026, 12, 2);
        }
        let neighbour = open_step(other[0], day(1), now());
        assert_eq!(world.db.step_schedules(now(), &[overlap, neighbour]).await.unwrap(), [Stepped::Refused, Stepped::Done]);
        let same = open_step(mine[0], day(1), now());
        assert_eq!(world.db.step_schedules(now(), &[same]).await.unwrap(), [Stepped::Stale]);
        let due = world.db.due_schedules(now(), 10).await.unwrap();
        assert_eq!(due[0].progress.opened_until, Some(loaded.period.end));
        assert_eq!(world.count("SELECT count(*) AS n FROM charges").await, 2);
    }

    async fn a_problem_is_told_once(world: World) {
        world.subscribe("s", 1..=1).await;
        for (text, told) in [("no zone", 1), ("no zone", 1), ("no amount", 2)] {
            world.poke_schedules().await;
            let due = world.db.due_schedules(now(), 10).await.unwrap().remove(0);
            let action = rebilld::ports::store::ScheduleAction::Problem { text: text.to_owned() };
            let step = rebilld::ports::store::ScheduleStep {
                subscription: due.terms.id,
                version: due.version,
                progress: due.progress,
                action,
            };
            assert_eq!(world.db.step_schedules(now(), &[step]).await.unwrap(), [Stepped::Done]);
            assert_eq!(world.count("SELECT count(*) AS n FROM events WHERE kind = 'subscription.problem'").await, told);
        }
        assert!(world.db.due_schedules(now(), 10).await.unwrap().is_empty());
        assert_eq!(world.db.retry_problems(now()).await.unwrap(), 1);
        assert_eq!(world.db.due_schedules(now(), 10).await.unwrap().len(), 1);
    }

    async fn a_new_card_wakes_a_charge_that_waits_for_one(world: World) {
        let (_, loaded) = world.one_begun("t").await;
        let open = loaded.live.as_ref().unwrap().open_send.unwrap();
        let refused = decided(&loaded, |decision| {
            decision.send = Some((open.id, SendEnd::Answered));
            decision.live = LiveChange::End { state: AttemptState::Declined, imp_uid: Some("imp_f".to_owned()) };
            decision.charge.waiting = Waiting::Card;
            decision.charge.refused_customer = Some("card-s-1".to_owned());
            decision.charge.next_at = Some(later(86_400));
        });
        world.db.record(now(), &[entry(&loaded, Fence::Version(loaded.version), refused)]).await.unwrap();
        world.sql("UPDATE subscriptions SET plan = 'other'").await.unwrap();
        assert!(world.db.claim(&claim_of(&world, Lane::Send, "u", 10)).await.unwrap().is_empty());
        world.sql("UPDATE subscriptions SET customer_uid = 'new-card'").await.unwrap();
        let woken = world.db.claim(&claim_of(&world, Lane::Send, "u", 10)).await.unwrap();
        assert_eq!(woken[0].payer.customer_uid, "new-card");

        // the card may also be replaced while its decline is on the way
        let again = decided(&woken[0].charge, |decision| decision.charge.next_at = Some(later(86_400)));
        let fence = Fence::Claim(token("u"));
        world.db.record(now(), &[entry(&woken[0].charge, fence, again)]).await.unwrap();
        assert_eq!(world.db.claim(&claim_of(&world, Lane::Send, "v", 10)).await.unwrap().len(), 1);
    }

    async fn a_changed_status_pokes_but_does_not_shorten_the_ladder(world: World) {
        let (_, loaded) = world.one_begun("t").await;
        let open = loaded.live.as_ref().unwrap().open_send.unwrap();
        let declined = decided(&loaded, |decision| {
            decision.send = Some((open.id, SendEnd::Answered));
            decision.live = LiveChange::End { state: AttemptState::Declined, imp_uid: None };
            decision.charge.waiting = Waiting::Retry;
            decision.charge.next_at = Some(later(86_400));
        });
        world.db.record(now(), &[entry(&loaded, Fence::Version(loaded.version), declined)]).await.unwrap();
        for status in ["paused", "active"] {
            world.sql(&format!("UPDATE subscriptions SET status = '{status}'")).await.unwrap();
            assert!(world.db.claim(&claim_of(&world, Lane::Send, "u", 10)).await.unwrap().is_empty());
            assert_eq!(world.db.due_schedules(now(), 10).await.unwrap().len(), 1);
        }
        world.sql("UPDATE subscriptions SET status = 'cancelled'").await.unwrap();
        assert_eq!(world.db.claim(&claim_of(&world, Lane::Send, "u", 10)).await.unwrap().len(), 1);
    }

    async fn what_ended_starts_anew_and_a_new_start_is_heeded(world: World) {
        world.subscribe("s", 1..=1).await;
        let due = world.db.due_schedules(now(), 10).await.unwrap().remove(0);
        let seen = Some(day(3));
        let step = |due: &rebilld::ports::store::DueSchedule| rebilld::ports::store::ScheduleStep {
            subscription: due.terms.id,
            version: due.version,
            progress: Progress { not_before: seen, ..due.progress },
            action: rebilld::ports::store::ScheduleAction::Park { paused: false },
        };
        world.db.step_schedules(now(), &[step(&due)]).await.unwrap();
        world.sql("UPDATE subscriptions SET status = 'active'").await.unwrap();
        let due = world.db.due_schedules(now(), 10).await.unwrap().remove(0);
        assert_eq!((due.was_paused, due.progress.not_before), (true, seen), "nothing is owed for the time between");
        world.sql("UPDATE subscriptions SET starts_on = '2026-12-01'").await.unwrap();
        let due = world.db.due_schedules(now(), 10).await.unwrap().remove(0);
        assert_eq!((due.terms.starts_on, due.progress.not_before), (Some(day(1)), None));
    }
}
