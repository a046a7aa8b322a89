//! What is owed from before a pause, from before an end, and from while a row was wrong; and what is not.

use rebilld::domain::plan::{CatchUp, Plan, Resume};
use rebilld::store::desk::{SubscriptionFilter, SubscriptionRow};
use serde_json::Value;

use super::rig::{Engine, World, both, plan};

fn plans() -> [Plan; 3] {
    [
        plan("monthly", "1 month", 9_900),
        Plan { resume: Resume::Anchor, catch_up: CatchUp::All { most: 3 }, ..plan("anew", "1 month", 9_900) },
        Plan { catch_up: CatchUp::All { most: 3 }, ..plan("all", "1 month", 9_900) },
    ]
}

/// January is not settled, so February waits since its first day.
async fn blocked(engine: Engine, name: &str) -> World {
    let world = World::new(engine, "2027-12-31T12:00", plans()).await;
    world.subscribe("s", name, "2028-01-01", &[]).await;
    world.has_funds("s", false);
    // the ladder of days would be over by February: an operator has it
    world.live_until("2028-01-01T12:00").await;
    world.sql("UPDATE charges SET state = 'review', waiting = 'operator', next_at = NULL").await;
    world.live_until("2028-02-02T12:00").await;
    assert_eq!(world.count("SELECT count(*) AS n FROM schedules WHERE parked = 'blocked'").await, 1);
    world.live_until("2028-02-10T12:00").await;
    world
}

/// January is paid at last.
async fn pays(world: &World) {
    world.has_funds("s", true);
    let other = "UPDATE charges SET state = 'due', waiting = 'turn', next_at = due_at WHERE state = 'review'";
    world.sql(other).await;
}

/// `why periods from..until`.
fn skipped(events: &[Value]) -> Vec<String> {
    let text = |data: &Value| {
        let word = |name: &str| data[name].as_str().unwrap().to_owned();
        format!("{} {} {}..{}", word("why"), data["periods"], word("from"), word("until"))
    };
    events.iter().map(text).collect()
}

both! {
    async fn a_period_that_waited_before_a_pause_is_still_owed(engine) {
        let world = blocked(engine, "monthly").await;
        world.sql("UPDATE subscriptions SET status = 'paused'").await;
        world.live_until("2028-02-12T12:00").await;
        world.sql("UPDATE subscriptions SET status = 'active'").await;
        world.live_until("2028-02-14T12:00").await;
        assert_eq!(world.count("SELECT count(*) AS n FROM schedules WHERE parked = 'blocked'").await, 1, "it waits on");
        pays(&world).await;
        world.live_until("2028-03-02T12:00").await;
        let periods = ["2028-01-01..2028-02-01 9900", "2028-02-01..2028-03-01 9900", "2028-03-01..2028-04-01 9900"];
        assert_eq!(world.periods("s").await, periods);
        assert_eq!(world.events("subscription.skipped").await.len(), 0, "no period started during the pause");
    }

    async fn of_a_long_pause_only_what_starts_in_it_is_passed_over_and_told(engine) {
        for (name, next) in [("monthly", "2028-05-01..2028-06-01 9900"), ("anew", "2028-04-12..2028-05-12 9900")] {
            let world = blocked(engine, name).await;
            world.sql("UPDATE subscriptions SET status = 'paused'").await;
            world.live_until("2028-04-12T12:00").await;
            world.sql("UPDATE subscriptions SET status = 'active'").await;
            world.live_until("2028-04-14T12:00").await;
            pays(&world).await;
            world.live_until("2028-05-02T12:00").await;
            assert_eq!(world.periods("s").await, ["2028-01-01..2028-02-01 9900", "2028-02-01..2028-03-01 9900", next], "{name}");
            let until = &next[..10];
            assert_eq!(skipped(&world.events("subscription.skipped").await), [format!("paused 2 2028-03-01..{until}")], "{name}");
        }
    }

    async fn two_pauses_while_a_charge_is_unresolved_leave_what_started_between_them(engine) {
        let world = blocked(engine, "all").await;
        for (paused, active) in [("2028-02-20T12:00", "2028-03-05T12:00"), ("2028-04-20T12:00", "2028-05-05T12:00")] {
            world.live_until(paused).await;
            world.sql("UPDATE subscriptions SET status = 'paused'").await;
            world.live_until(active).await;
            world.sql("UPDATE subscriptions SET status = 'active'").await;
        }
        world.live_until("2028-05-06T12:00").await;
        pays(&world).await;
        world.live_until("2028-06-02T12:00").await;
        let starts: Vec<String> =
            world.periods("s").await.iter().map(|period| period[..10].to_owned()).collect();
        assert_eq!(starts, ["2028-01-01", "2028-02-01", "2028-04-01", "2028-06-01"]);
        let told = ["paused 1 2028-03-01..2028-04-01", "paused 1 2028-05-01..2028-06-01"];
        assert_eq!(skipped(&world.events("subscription.skipped").await), told);
    }

    async fn missed_periods_still_wait_for_an_operator_after_a_pause(engine) {
        let world = World::new(engine, "2027-12-31T12:00", plans()).await;
        world.subscribe("s", "monthly", "2028-01-01", &[]).await;
        world.live_until("2028-01-02T12:00").await;
        world.sleep_until("2028-04-10T12:00");
        world.live_until("2028-04-11T12:00").await;
        assert_eq!(world.db.desk().missed(0, 10).await.unwrap()[0].missed, Some(3));
        world.sql("UPDATE subscriptions SET status = 'paused'").await;
        world.live_until("2028-05-12T12:00").await;
        world.sql("UPDATE subscriptions SET status = 'active'").await;
        world.live_until("2028-06-02T12:00").await;
        let held = world.db.desk().missed(0, 10).await.unwrap();
        assert_eq!(held[0].missed, Some(3), "February to April; May started during the pause");
        assert_eq!(world.periods("s").await.len(), 1);
    }

    async fn a_period_that_waited_is_owed_after_an_end_that_is_taken_back(engine) {
        let world = blocked(engine, "monthly").await;
        world.sql("UPDATE subscriptions SET cancel_at_period_end = TRUE").await;
        world.live_until("2028-02-11T12:00").await;
        // a change of an ended row is no return
        world.sql("UPDATE subscriptions SET name = 'x'").await;
        world.live_until("2028-02-12T12:00").await;
        assert_eq!(world.events("subscription.ended").await.len(), 1);
        world.sql("UPDATE subscriptions SET cancel_at_period_end = NULL").await;
        world.live_until("2028-02-13T12:00").await;
        pays(&world).await;
        world.live_until("2028-02-20T12:00").await;
        assert_eq!(world.periods("s").await, ["2028-01-01..2028-02-01 9900", "2028-02-01..2028-03-01 9900"]);
    }

    async fn what_an_ordinary_pause_passes_over_is_told(engine) {
        let world = World::new(engine, "2027-12-31T12:00", plans()).await;
        world.subscribe("s", "monthly", "2028-01-01", &[("starts_on", "'2028-01-01'")]).await;
        world.live_until("2028-01-10T12:00").await;
        world.sql("UPDATE subscriptions SET status = 'paused'").await;
        world.live_until("2028-04-10T12:00").await;
        world.sql("UPDATE subscriptions SET status = 'active'").await;
        world.live_until("2028-04-11T12:00").await;
        assert_eq!(skipped(&world.events("subscription.skipped").await), ["paused 3 2028-02-01..2028-05-01"]);
        // taking a start back brings no day of the pause back
        world.sql("UPDATE subscriptions SET starts_on = NULL").await;
        world.live_until("2028-05-02T12:00").await;
        assert_eq!(world.periods("s").await, ["2028-01-01..2028-02-01 9900", "2028-05-01..2028-06-01 9900"]);
        assert_eq!(world.events("subscription.skipped").await.len(), 1);
    }

    async fn a_start_that_is_taken_back_skips_nothing(engine) {
        let world = World::new(engine, "2027-12-31T12:00", plans()).await;
        world.subscribe("s", "monthly", "2028-01-01", &[("starts_on", "'2028-01-01'")]).await;
        world.live_until("2028-01-10T12:00").await;
        world.sleep_until("2028-02-05T12:00");
        world.sql("UPDATE subscriptions SET starts_on = NULL").await;
        world.live_until("2028-02-06T12:00").await;
        assert_eq!(world.periods("s").await, ["2028-01-01..2028-02-01 9900", "2028-02-01..2028-03-01 9900"]);
    }

    async fn what_falls_due_while_a_new_row_waits_to_be_put_right_is_owed(engine) {
        let world = World::new(engine, "2028-01-10T12:00", plans()).await;
        world.subscribe("no-plan", "nothing", "2028-01-15", &[]).await;
        world.subscribe("old", "nothing", "2020-03-31", &[]).await;
        world.live_until("2028-01-20T12:00").await;
        world.sql("UPDATE subscriptions SET plan = 'monthly'").await;
        // nor is anything lost when nobody is there
        world.subscribe("alone", "monthly", "2028-01-20", &[]).await;
        world.sleep_until("2028-01-22T12:00");
        world.live_until("2028-02-01T12:00").await;
        assert_eq!(world.periods("no-plan").await, ["2028-01-15..2028-02-15 9900"]);
        assert_eq!(world.periods("alone").await, ["2028-01-20..2028-02-20 9900"]);
        assert_eq!(world.periods("old").await, ["2028-01-31..2028-02-29 9900"], "nothing from before the row was written");
    }

    async fn a_second_end_is_told_as_one_of_its_own(engine) {
        let world = World::new(engine, "2027-12-31T12:00", plans()).await;
        world.subscribe("s", "monthly", "2028-01-01", &[]).await;
        world.live_until("2028-01-10T12:00").await;
        for (ends, until) in [("'2028-02-01'", "2028-02-03T12:00"), ("NULL", "2028-02-05T12:00"), ("'2028-02-01'", "2028-03-03T12:00")] {
            world.sql(&format!("UPDATE subscriptions SET ends_on = {ends}")).await;
            world.live_until(until).await;
        }
        let ended = world.sql("SELECT id, data FROM events WHERE kind = 'subscription.ended' ORDER BY seq").await;
        let ids: std::collections::BTreeSet<String> = ended.iter().map(|row| row.text("id").unwrap()).collect();
        let days: Vec<Value> = ended.iter().map(|row| row.json("data").unwrap()["ended_on"].clone()).collect();
        assert_eq!(days, ["2028-02-01", "2028-02-01"]);
        assert_eq!(ids.len(), 2);
    }

    async fn a_row_that_cannot_be_read_stops_its_own_subscription_alone(engine) {
        let world = World::new(engine, "2028-01-01T12:00", plans()).await;
        for name in ["good", "price", "row"] {
            world.subscribe(name, "monthly", "2028-01-10", &[]).await;
        }
        let (price, row) = match engine {
            Engine::Postgres => ("'infinity'", "created_at = '290000-01-01'"),
            Engine::Sqlite => ("'20270-01-01'", "created_at = 9000000000000000000"),
        };
        let insert = format!("INSERT INTO price_changes (subscription_id, from_date, amount) SELECT id, {price}, 5 FROM subscriptions WHERE external_ref = 'price'");
        assert!(world.refuses(&insert).await, "no new row can hold such a day");
        // one from before there was a check
        let (off, on) = match engine {
            Engine::Postgres => ("ALTER TABLE price_changes DROP CONSTRAINT price_changes_days", "SELECT 1"),
            Engine::Sqlite => ("PRAGMA ignore_check_constraints = ON", "PRAGMA ignore_check_constraints = OFF"),
        };
        world.sql_together(&[off, &insert, on]).await;
        world.sql(&format!("UPDATE subscriptions SET {row} WHERE external_ref = 'row'")).await;
        world.live_until("2028-01-11T12:00").await;
        assert_eq!(world.periods("good").await, ["2028-01-10..2028-02-10 9900"]);
        let mut problems: Vec<String> = world.events("subscription.problem").await.iter().map(|data| {
            format!("{}: {}", data["external_ref"].as_str().unwrap(), data["problem"].as_str().unwrap())
        }).collect();
        problems.sort();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains(" of `price_changes` cannot be read (") && problems[0].contains("from_date"), "{problems:?}");
        assert!(problems[1].starts_with("row: the subscription cannot be read (") && problems[1].contains("created_at"), "{problems:?}");
        assert_eq!(world.count("SELECT count(*) AS n FROM schedules WHERE parked = 'problem' AND next_look_at IS NULL").await, 2);
        // what is listed shows them, and what looks ahead names them
        let listed = world.db.desk().subscriptions(&SubscriptionFilter { limit: 10, ..Default::default() }).await.unwrap();
        let unreadable: Vec<&str> = listed.iter().filter(|row| row.unreadable.is_some()).map(SubscriptionRow::external_ref).collect();
        assert_eq!((listed.len(), unreadable), (3, vec!["price", "row"]));
        let page = world.db.standing(0, 10).await.unwrap();
        assert_eq!((page.subscriptions.len(), page.unreadable), (2, 1));
        // put right, they are billed, and nothing was lost
        world.sql("DELETE FROM price_changes").await;
        world.sql("UPDATE subscriptions SET created_at = updated_at, starts_on = '2028-01-10' WHERE external_ref = 'row'").await;
        world.live_until("2028-01-12T12:00").await;
        for name in ["price", "row"] {
            assert_eq!(world.periods(name).await, ["2028-01-10..2028-02-10 9900"], "{name}");
        }
    }

    async fn no_day_that_cannot_be_counted_is_taken(engine) {
        let world = World::new(engine, "2028-01-01T12:00", plans()).await;
        world.subscribe("s", "monthly", "2028-01-10", &[]).await;
        for column in ["anchor", "starts_on", "ends_on", "trial_until"] {
            for day in ["infinity", "-infinity", "10000-01-01", "20270-01-01"] {
                assert!(world.refuses(&format!("UPDATE subscriptions SET {column} = '{day}'")).await, "{column} {day}");
            }
            world.sql(&format!("UPDATE subscriptions SET {column} = '9999-12-31'")).await;
        }
    }
}
