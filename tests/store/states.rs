//! States of subscriptions: kept once, told once, and nothing of it for a charge that is simply paid.

use rebilld::domain::attempt::{AttemptState, SendEnd};
use rebilld::domain::charge::Waiting;
use rebilld::domain::decide::LiveChange;
use rebilld::domain::decline::Class;
use rebilld::domain::state::{SubscriptionState, follow};
use rebilld::ports::store::{Fence, StateFacts, StateStep, Store};

use super::deeds::{decided, entry, paid, token};
use super::rig::{Engine, World, both, later, now};

fn step(seen: StateFacts) -> StateStep {
    StateStep { followed: follow(seen.before, &seen.facts, now()), seen }
}

async fn told(world: &World) -> i64 {
    world.count("SELECT count(*) AS n FROM events WHERE kind = 'subscription.state_changed'").await
}

both! {
    async fn a_charge_that_is_simply_paid_writes_nothing_about_states(world: World) {
        let (_, loaded) = world.one_begun("t").await;
        world.db.record(now(), &[entry(&loaded, Fence::Claim(token("t")), paid(&loaded, "imp_1"))]).await.unwrap();
        assert_eq!((world.count("SELECT count(*) AS n FROM subscription_states").await, told(&world).await), (0, 0));
        assert_eq!(world.db.next_due(now()).await.unwrap().state, None);
    }

    async fn a_state_that_two_replicas_see_change_is_told_once(world: World) {
        world.one_begun("t").await;
        world.sql("UPDATE subscriptions SET status = 'paused'").await.unwrap();
        assert!(world.db.next_due(now()).await.unwrap().state.is_some());
        let replica = world.replica().await;
        let (one, other) = (world.db.due_states(now(), 10).await.unwrap(), replica.due_states(now(), 10).await.unwrap());
        assert_eq!((one.len(), &one), (1, &other));
        let steps = |due: Vec<StateFacts>| due.into_iter().map(step).collect::<Vec<_>>();
        assert_eq!(world.db.keep_states(now(), &steps(one)).await.unwrap(), 1);
        assert_eq!(replica.keep_states(now(), &steps(other)).await.unwrap(), 0);
        assert_eq!(told(&world).await, 1);
        assert_eq!(world.db.due_states(now(), 10).await.unwrap(), []);
    }

    async fn what_is_derived_from_facts_that_have_changed_since_is_not_kept(world: World) {
        world.one_begun("t").await;
        world.sql("UPDATE subscriptions SET status = 'paused'").await.unwrap();
        let due = world.db.due_states(now(), 10).await.unwrap();
        world.sql("UPDATE subscriptions SET status = 'active'").await.unwrap();
        let steps: Vec<StateStep> = due.into_iter().map(step).collect();
        assert_eq!(world.db.keep_states(now(), &steps).await.unwrap(), 0);
        let again = world.db.due_states(now(), 10).await.unwrap().remove(0);
        assert_eq!(step(again).followed.state, SubscriptionState::Active);
        assert_eq!(told(&world).await, 0, "paused and taken up again before anybody looked");
    }

    async fn a_decline_and_the_state_that_follows_are_one_transaction(world: World) {
        let (_, loaded) = world.one_begun("t").await;
        let decision = decided(&loaded, |decision| {
            let live = loaded.live.as_ref().unwrap();
            decision.live = LiveChange::End { state: AttemptState::Declined, imp_uid: Some("imp_1".to_owned()) };
            decision.send = live.open_send.map(|send| (send.id, SendEnd::Answered));
            decision.refusal = Some(Class::SoftFunds);
            decision.charge.waiting = Waiting::Retry;
            decision.charge.next_at = Some(later(86_400));
            decision.charge.tries = 1;
            decision.charge.first_declined_at = Some(now());
            decision.events.push(rebilld::domain::event::Event::of_charge(
                rebilld::domain::event::EventKind::ChargeDeclined, &decision.charge, "1", serde_json::json!({}),
            ));
        });
        world.db.record(now(), &[entry(&loaded, Fence::Claim(token("t")), decision)]).await.unwrap();
        let kept = world.db.state_facts(&[loaded.subscription.0]).await.unwrap().remove(0);
        assert_eq!((kept.before, kept.since), (Some(SubscriptionState::PastDue), Some(now())));
        assert_eq!(told(&world).await, 1);
        // looked at once more, in case another process has recorded a payment meanwhile
        assert_eq!(kept.look_at, Some(now() + rebilld::domain::state::LOOK_AGAIN));
        world.sql("DELETE FROM subscription_states").await.unwrap();
        assert_eq!(world.db.due_states(later(86_400), 10).await.unwrap(), []);
    }
}
