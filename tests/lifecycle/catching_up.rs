//! What becomes of periods that fell due while nobody was there.

use rebilld::domain::lifecycle::missed;
use rebilld::domain::plan::CatchUp;
use rebilld::store::desk::{CatchUpStep, Signed};

use super::rig::{Engine, World, both, plan};

async fn after_three_months_of_downtime(engine: Engine, catch_up: CatchUp) -> World {
    let mut monthly = plan("monthly", "1 month", 9_900);
    monthly.catch_up = catch_up;
    let world = World::new(engine, "2028-01-01T12:00", [monthly]).await;
    world.subscribe("s", "monthly", "2028-01-15", &[]).await;
    world.live_until("2028-01-20T00:00").await;
    world.sleep_until("2028-04-20T00:00");
    world.live_until("2028-04-21T00:00").await;
    world
}

fn signed() -> Signed {
    Signed { who: "tester".to_owned(), reason: "downtime".to_owned() }
}

both! {
    async fn several_missed_periods_wait_for_an_operator_who_opens_them(engine) {
        let world = after_three_months_of_downtime(engine, CatchUp::default()).await;
        assert_eq!(world.periods("s").await.len(), 1, "nobody is charged three times without a word");
        let problems = world.events("subscription.problem").await;
        let problem = "3 periods were missed, from 2028-02-15 to 2028-04-15, 29,700 KRW: `rebilld catch-up` opens or skips them";
        assert_eq!((problems.len(), &problems[0]["problem"]), (1, &problem.into()));
        let held = world.db.desk().missed(0, 10).await.unwrap();
        assert_eq!((held.len(), held[0].missed), (1, Some(3)));
        let found = missed(&world.catalog, &held[0].terms().unwrap(), &held[0].progress, rebilld_now(&world)).unwrap().unwrap();
        assert_eq!((found.count, found.sum.unwrap().minor()), (3, 29_700));
        let until = found.latest.start.tomorrow().unwrap();
        let steps = [(&held[0], CatchUpStep::Open { until })];
        assert_eq!(world.db.desk().catch_up(rebilld_now(&world), &steps, &signed()).await.unwrap().len(), 1);
        assert!(world.db.desk().catch_up(rebilld_now(&world), &steps, &signed()).await.unwrap().is_empty(), "it has changed since");
        world.live_until("2028-04-22T00:00").await;
        let all = ["2028-01-15..2028-02-15 9900", "2028-02-15..2028-03-15 9900", "2028-03-15..2028-04-15 9900", "2028-04-15..2028-05-15 9900"];
        assert_eq!(world.periods("s").await, all);
        assert_eq!(world.count("SELECT count(*) AS n FROM journal WHERE action = 'catch-up open'").await, 1);
        // a later downtime asks again
        world.sleep_until("2028-07-20T00:00");
        world.live_until("2028-07-21T00:00").await;
        assert_eq!((world.periods("s").await.len(), world.db.desk().missed(0, 10).await.unwrap().len()), (4, 1));
    }

    async fn an_operator_may_skip_what_was_missed(engine) {
        let world = after_three_months_of_downtime(engine, CatchUp::Hold).await;
        let held = world.db.desk().missed(0, 10).await.unwrap();
        let found = missed(&world.catalog, &held[0].terms().unwrap(), &held[0].progress, rebilld_now(&world)).unwrap().unwrap();
        let passed = found.skip_all(false);
        world.db.desk().catch_up(rebilld_now(&world), &[(&held[0], CatchUpStep::Skip(passed))], &signed()).await.unwrap();
        world.live_until("2028-05-16T00:00").await;
        assert_eq!(world.periods("s").await, ["2028-01-15..2028-02-15 9900", "2028-05-15..2028-06-15 9900"]);
        let skipped = world.events("subscription.skipped").await;
        assert_eq!((&skipped[0]["periods"], &skipped[0]["until"]), (&3.into(), &"2028-05-15".into()));
    }

    async fn latest_only_charges_one_and_tells_of_the_others(engine) {
        let world = after_three_months_of_downtime(engine, CatchUp::LatestOnly).await;
        assert_eq!(world.periods("s").await, ["2028-01-15..2028-02-15 9900", "2028-04-15..2028-05-15 9900"]);
        let skipped = world.events("subscription.skipped").await;
        assert_eq!(skipped.len(), 1);
        assert_eq!(
            (&skipped[0]["why"], &skipped[0]["periods"], &skipped[0]["from"], &skipped[0]["until"]),
            (&"missed".into(), &2.into(), &"2028-02-15".into(), &"2028-04-15".into()),
        );
        assert_eq!(world.events("subscription.problem").await.len(), 0);
    }

    async fn all_opens_as_many_as_it_may_and_no_more(engine) {
        let world = after_three_months_of_downtime(engine, CatchUp::All { most: 3 }).await;
        assert_eq!(world.periods("s").await.len(), 4);
        let held = after_three_months_of_downtime(engine, CatchUp::All { most: 2 }).await;
        assert_eq!((held.periods("s").await.len(), held.db.desk().missed(0, 10).await.unwrap().len()), (1, 1));
    }

    async fn one_missed_period_is_charged_late_and_a_start_in_the_past_means_it(engine) {
        let world = World::new(engine, "2028-01-01T12:00", [plan("monthly", "1 month", 9_900)]).await;
        world.subscribe("s", "monthly", "2028-01-15", &[]).await;
        world.live_until("2028-01-20T00:00").await;
        world.sleep_until("2028-03-10T00:00");
        // nobody has missed what was due before the row came
        world.subscribe("past", "monthly", "2028-01-01", &[("starts_on", "'2028-01-01'")]).await;
        world.live_until("2028-03-11T00:00").await;
        assert_eq!(world.periods("s").await.len(), 2);
        assert_eq!(world.periods("past").await.len(), 3);
        assert_eq!(world.db.desk().missed(0, 10).await.unwrap().len(), 0);
    }
}

fn rebilld_now(world: &World) -> jiff::Timestamp {
    rebilld::ports::clock::Clock::now(&*world.clock)
}
