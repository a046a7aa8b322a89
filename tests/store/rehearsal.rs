//! A dry run in the database: all of W0 to W2, and nothing of it stays.

use rebilld::ports::rehearsal::Rehearsal;
use rebilld::ports::store::{Lane, NotBegun, Store};

use super::deeds::{begin_of, claim_of, day, open_step};
use super::rig::{Engine, World, both, now};

impl World {
    async fn everything(&self) -> Vec<i64> {
        let mut counts = Vec::new();
        for what in [
            "charges",
            "charges WHERE claim_token IS NOT NULL",
            "ids",
            "attempts",
            "sends",
            "events",
            "deliveries",
            "budgets",
            "card_tries",
            "schedules WHERE next_look_at IS NOT NULL AND opened_until IS NULL",
            "subscriptions",
        ] {
            counts.push(self.count(&format!("SELECT count(*) AS n FROM {what}")).await);
        }
        counts.push(self.count("SELECT CAST(COALESCE(sum(version), 0) AS BIGINT) AS n FROM schedules").await);
        counts.push(self.count("SELECT CAST(COALESCE(sum(version), 0) AS BIGINT) AS n FROM charges").await);
        counts.push(self.count("SELECT high_water AS n FROM settings").await);
        counts
    }
}

both! {
    async fn a_rehearsal_goes_all_the_way_and_leaves_nothing(world: World) {
        world.open_charges(3).await;
        let before = world.everything().await;
        let mut stage = world.db.rehearsal().await.unwrap();
            let claimed = stage.claim(&claim_of(&world, Lane::Send, "t", 10)).await.unwrap();
            assert_eq!(claimed.len(), 3);
            let mut batch = begin_of(&world, "t", &claimed);
            batch.budget_count = Some(2);
            assert_eq!(stage.begin(&batch).await.unwrap(), [None, None, Some(NotBegun::OverBudget)]);
            assert!(stage.claim(&claim_of(&world, Lane::Send, "u", 10)).await.unwrap().is_empty(), "it sees what it has done itself");
        stage.end().await.unwrap();
        assert_eq!(world.everything().await, before);
        let claimed = world.db.claim(&claim_of(&world, Lane::Send, "t", 10)).await.unwrap();
        assert_eq!(claimed.len(), 3, "a real run misses nothing");
        let begun = world.db.begin(begin_of(&world, "t", &claimed)).await.unwrap();
        assert!(begun.attempts.iter().all(Result::is_ok), "and no budget is used up");
    }

    async fn periods_open_in_it_and_stay_closed(world: World) {
        world.subscribe("s", 1..=2).await;
        let before = world.everything().await;
        let mut stage = world.db.rehearsal().await.unwrap();
            let due = stage.due_schedules(now(), 10).await.unwrap();
            assert_eq!(due.len(), 2);
            let steps: Vec<_> = due.iter().map(|due| open_step(due, day(1), now())).collect();
            stage.step_schedules(now(), &steps).await.unwrap();
            assert!(stage.due_schedules(now(), 10).await.unwrap().is_empty());
            assert_eq!(stage.claim(&claim_of(&world, Lane::Send, "t", 10)).await.unwrap().len(), 2);
        stage.end().await.unwrap();
        assert_eq!(world.everything().await, before);
        assert_eq!(world.db.due_schedules(now(), 10).await.unwrap().len(), 2);
    }

    async fn what_brakes_stop_is_rehearsed_all_the_same(world: World) {
        world.open_charges(1).await;
        world.sql("UPDATE settings SET killed = TRUE, held = TRUE").await.unwrap();
        world.sql("UPDATE accounts SET paused = TRUE, armed_incarnation = NULL").await.unwrap();
        let mut stage = world.db.rehearsal().await.unwrap();
            let claimed = stage.claim(&claim_of(&world, Lane::Send, "t", 10)).await.unwrap();
            assert_eq!(stage.begin(&begin_of(&world, "t", &claimed)).await.unwrap(), [None]);
        stage.end().await.unwrap();
        let claimed = world.db.claim(&claim_of(&world, Lane::Send, "t", 10)).await.unwrap();
        let begun = world.db.begin(begin_of(&world, "t", &claimed)).await.unwrap();
        assert_eq!(begun.attempts[0].as_ref().err(), Some(&NotBegun::Killed), "the real one heeds them");
    }
}
