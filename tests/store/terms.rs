//! The tables of terms: what the schema refuses, what rings, what a step writes.

use jiff::civil::date;
use rebilld::domain::lifecycle::Progress;
use rebilld::domain::plan::Price;
use rebilld::domain::subscription::Adjustment;
use rebilld::ports::store::{DueSchedule, Passed, PassedWhy, ScheduleAction, ScheduleStep, Stepped, Store};

use super::deeds::{day, open_step};
use super::rig::{Engine, World, both, later, now};

async fn one_due(world: &World) -> DueSchedule {
    world.db.due_schedules(now(), 10).await.unwrap().remove(0)
}

/// Opens the first month, with whatever the subscription has.
async fn open(world: &World, change: impl FnOnce(&mut ScheduleStep)) -> Stepped {
    let due = one_due(world).await;
    let mut step = open_step(&due, day(1), now());
    change(&mut step);
    world.db.step_schedules(now(), &[step]).await.unwrap()[0]
}

const ADJUST: &str = "INSERT INTO adjustments (subscription_id, amount, name) SELECT id, -500, 'sorry' FROM subscriptions";

both! {
    async fn terms_that_cannot_be_meant_are_refused(world: World) {
        world.subscribe("s", 1..=1).await;
        for set in [
            "quantity = 0", "quantity = 1000001", "trial_days = -1", "trial_anchor = 'never'", "resume = 'maybe'", "max_periods = 0",
            "next_plan = ''", "ends_on = '2026-02-30'", "trial_until = 'soon'",
        ] {
            world.sql(&format!("UPDATE subscriptions SET {set}")).await.expect_err(set);
        }
        for (table, columns, values) in [
            ("price_changes", "from_date, amount", "'2027-01-01', 0"),
            ("price_changes", "from_date, amount", "'2027-02-30', 5"),
            ("price_changes", "from_date, amount, tax_free, vat_amount", "'2027-01-01', 5, 3, 3"),
            ("adjustments", "amount", "0"),
        ] {
            let sql = format!("INSERT INTO {table} (subscription_id, {columns}) SELECT id, {values} FROM subscriptions");
            world.sql(&sql).await.expect_err(values);
        }
        let nobody = "INSERT INTO adjustments (subscription_id, amount) VALUES (4711, 5)";
        world.sql(nobody).await.expect_err("a subscription that does not exist");
        let price = "INSERT INTO price_changes (subscription_id, from_date, amount) SELECT id, '2027-01-01', 5 FROM subscriptions";
        world.sql(price).await.unwrap();
        world.sql(price).await.expect_err("two prices from one day on");
    }

    async fn rows_written_by_hand_are_read_with_the_terms_and_ring(world: World) {
        world.subscribe("s", 1..=1).await;
        let version = one_due(&world).await.version;
        for (n, sql) in [
            "INSERT INTO price_changes (subscription_id, from_date, amount, vat_amount) SELECT id, '2027-03-01', 700, 63 FROM subscriptions",
            "INSERT INTO price_changes (subscription_id, from_date, amount) SELECT id, '2027-01-01', 500 FROM subscriptions",
            "UPDATE price_changes SET amount = 600 WHERE from_date = '2027-01-01'",
            ADJUST,
            "UPDATE adjustments SET amount = -400",
            ADJUST,
            "DELETE FROM adjustments WHERE amount = -500",
        ]
        .into_iter()
        .enumerate()
        {
            let parked = "UPDATE schedules SET next_look_at = NULL, parked = 'problem'";
            world.sql(parked).await.unwrap();
            world.sql(sql).await.unwrap();
            let due = one_due(&world).await;
            assert!(due.version > version + i64::try_from(n).unwrap(), "{sql}");
        }
        let terms = one_due(&world).await.terms;
        let price = |from, amount, vat_amount| Price { from, amount, tax_free: None, vat_amount };
        assert_eq!(terms.prices, [price(date(2027, 1, 1), 600, None), price(date(2027, 3, 1), 700, Some(63))]);
        assert_eq!(terms.adjustments.iter().map(|adjustment| adjustment.amount).collect::<Vec<_>>(), [-400]);
    }

    async fn an_adjustment_is_used_once_and_stays(world: World) {
        world.subscribe("s", 1..=1).await;
        world.sql(ADJUST).await.unwrap();
        let Adjustment { id, .. } = one_due(&world).await.terms.adjustments[0];
        let stepped = open(&world, |step| {
            if let ScheduleAction::Open { next, .. } = &mut step.action {
                next.adjustments = vec![id];
            }
        })
        .await;
        assert_eq!(stepped, Stepped::Done);
        let used = "SELECT count(*) AS n FROM adjustments a JOIN charges c ON c.id = a.charge_id WHERE a.used_on = c.period_start";
        assert_eq!(world.count(used).await, 1);
        world.sql("UPDATE adjustments SET amount = -9").await.expect_err("used");
        world.sql("UPDATE adjustments SET used_on = NULL").await.expect_err("used");
        world.sql("DELETE FROM adjustments").await.expect_err("used");
        world.poke_schedules().await;
        assert!(one_due(&world).await.terms.adjustments.is_empty());
    }

    async fn a_step_that_was_read_before_the_terms_changed_is_stale(world: World) {
        world.subscribe("s", 1..=1).await;
        let due = one_due(&world).await;
        world.sql(ADJUST).await.unwrap();
        let step = open_step(&due, day(1), now());
        assert_eq!(world.db.step_schedules(now(), &[step]).await.unwrap(), [Stepped::Stale]);
        assert_eq!(world.count("SELECT count(*) AS n FROM charges").await, 0);
    }

    async fn a_change_of_plan_is_written_to_the_row_with_its_period(world: World) {
        world.subscribe("s", 1..=1).await;
        world.sql("UPDATE subscriptions SET next_plan = 'yearly'").await.unwrap();
        let counted_from = date(2026, 12, 5);
        let stepped = open(&world, |step| {
            if let ScheduleAction::Open { next, after, .. } = &mut step.action {
                next.changes_plan = true;
                after.anchor = Some(counted_from);
            }
        })
        .await;
        assert_eq!(stepped, Stepped::Done);
        assert_eq!(world.count("SELECT count(*) AS n FROM subscriptions WHERE plan = 'yearly' AND next_plan IS NULL").await, 1);
        let looked_at = "SELECT count(*) AS n FROM schedules WHERE next_look_at IS NOT NULL AND parked IS NULL AND periods = 1";
        assert_eq!(world.count(looked_at).await, 1);
        assert!(world.db.due_schedules(now(), 10).await.unwrap().is_empty(), "the change is our own and rings for nobody");
        world.poke_schedules().await;
        assert_eq!(one_due(&world).await.progress.anchor, Some(counted_from));
        world.sql("UPDATE subscriptions SET anchor = '2026-12-09'").await.unwrap();
        assert_eq!(one_due(&world).await.progress.anchor, None, "an anchor by hand is counted from at once");
    }

    async fn periods_that_are_passed_over_are_told_and_leave_no_charge(world: World) {
        world.subscribe("s", 1..=1).await;
        world.sql(ADJUST).await.unwrap();
        let due = one_due(&world).await;
        let passed = Passed {
            why: PassedWhy::Free,
            first: day(1),
            until: day(2),
            count: 1,
            after: Progress { opened_until: Some(day(2)), periods: 1, ..due.progress },
            adjustments: due.terms.adjustments.iter().map(|adjustment| adjustment.id).collect(),
            changes_plan: false,
        };
        let action = ScheduleAction::Pass(passed);
        let step = ScheduleStep { subscription: due.terms.id, version: due.version, progress: due.progress, action };
        assert_eq!(world.db.step_schedules(now(), &[step]).await.unwrap(), [Stepped::Done]);
        let after = one_due(&world).await;
        assert_eq!((after.progress.opened_until, after.progress.periods), (Some(day(2)), 1));
        assert!(after.terms.adjustments.is_empty());
        assert_eq!(world.count("SELECT count(*) AS n FROM charges").await, 0);
        assert_eq!(world.count("SELECT count(*) AS n FROM events WHERE kind = 'subscription.skipped'").await, 1);
    }

    async fn a_subscription_without_charges_goes_with_its_terms(world: World) {
        world.subscribe("s", 1..=1).await;
        world.sql(ADJUST).await.unwrap();
        world.sql("INSERT INTO price_changes (subscription_id, from_date, amount) SELECT id, '2027-01-01', 5 FROM subscriptions").await.unwrap();
        world.sql("DELETE FROM subscriptions").await.unwrap();
        let left = "SELECT (SELECT count(*) FROM adjustments) + (SELECT count(*) FROM price_changes) + (SELECT count(*) FROM schedules) AS n";
        assert_eq!(world.count(left).await, 0);
    }

    async fn a_charge_that_waits_for_its_window_is_missed_only_after_it(world: World) {
        world.subscribe("s", 1..=1).await;
        let opens = later(12 * 3600);
        let stepped = open(&world, |step| {
            if let ScheduleAction::Open { first_at, .. } = &mut step.action {
                *first_at = opens;
            }
        })
        .await;
        assert_eq!(stepped, Stepped::Done);
        assert_eq!(world.count("SELECT count(*) AS n FROM charges WHERE waiting = 'window' AND next_at > due_at").await, 1);
        let grace = jiff::SignedDuration::from_hours(2);
        let missed = async |seconds: i64| world.db.missed(later(seconds), grace).await.unwrap().sends;
        assert_eq!((missed(13 * 3600).await, missed(14 * 3600 + 1).await), (0, 1));
    }
}
