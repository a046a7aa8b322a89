//! The rules that the schema keeps by itself, against an operator's own SQL from several sessions.

use rebilld::ports::store::Store;

use super::deeds::{entry, paid};
use super::rig::{Engine, World, both, now};

/// Inserts a charge by hand.
fn charge(start: &str, end: &str, sqlite: bool) -> String {
    let due = if sqlite { "0" } else { "now()" };
    format!(
        "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state, waiting)
            SELECT id, 1, '{start}', '{end}', {due}, 9900, 'KRW', 'per_attempt', 'due', 'turn' FROM subscriptions"
    )
}

async fn insert(world: &World, db: &rebilld::store::Database, start: &str, end: &str) -> Result<(), String> {
    world.on(db, &charge(start, end, true), &charge(start, end, false)).await.map(drop)
}

both! {
    async fn a_row_that_breaks_a_rule_is_told_which(world: World) {
        let row = |rest: &str| format!("INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor, amount) VALUES {rest}");
        world.sql(&row("('main', 'a', 'monthly', 'card', '2026-12-01', 100)")).await.unwrap();
        for (wrong, rule) in [
            ("('main', 'a', 'monthly', 'card', '2026-12-01', 100)", "external_ref"),
            ("('main', 'b', 'monthly', 'card', '2026-12-01', 0)", "amount"),
            ("('main', 'b', 'monthly', '', '2026-12-01', 100)", "customer_uid"),
            ("('nobody', 'b', 'monthly', 'card', '2026-12-01', 100)", "constraint"),
        ] {
            let refused = world.sql(&row(wrong)).await.unwrap_err();
            assert!(refused.to_lowercase().contains(rule), "{refused}");
        }
        assert!(world.sql(&row("('main', 'b', 'monthly', 'card', '2026-13-01', 100)")).await.is_err());
        for change in ["external_ref = 'z'", "account = 'z'"] {
            let refused = world.sql(&format!("UPDATE subscriptions SET {change}")).await.unwrap_err();
            assert!(refused.contains("never change"), "{refused}");
        }
        world.sql("UPDATE subscriptions SET external_ref = 'a', plan = 'yearly'").await.unwrap();
    }

    async fn periods_of_one_subscription_never_overlap(world: World) {
        world.subscribe("s", 1..=1).await;
        insert(&world, &world.db, "2026-12-01", "2027-01-01").await.unwrap();
        insert(&world, &world.db, "2027-02-01", "2027-03-01").await.unwrap();
        for (start, end) in [
            ("2026-12-01", "2027-01-01"),
            ("2026-12-15", "2027-01-15"),
            ("2026-11-01", "2026-12-02"),
            ("2026-12-31", "2027-01-01"),
            ("2026-11-01", "2027-06-01"),
            ("2027-01-01", "2027-02-02"),
            ("2027-03-01", "2027-03-01"),
        ] {
            assert!(insert(&world, &world.db, start, end).await.is_err(), "{start} to {end}");
        }
        insert(&world, &world.db, "2027-01-01", "2027-02-01").await.unwrap();
    }

    async fn overlapping_periods_from_two_sessions_give_one(world: World) {
        for round in 1..=8 {
            world.sql(&format!("UPDATE subscriptions SET plan = 'p{round}'")).await.unwrap();
            if round == 1 {
                world.subscribe("s", 1..=1).await;
            }
            let (one, two) = (world.replica().await, world.replica().await);
            let year = 2030 + round;
            let (start, end) = (format!("{year}-01-01"), format!("{year}-02-01"));
            let (start_2, end_2) = (format!("{year}-01-15"), format!("{year}-02-15"));
            let (first, second) = tokio::join!(insert(&world, &one, &start, &end), insert(&world, &two, &start_2, &end_2));
            assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        }
    }

    async fn one_live_or_paid_attempt_a_charge(world: World) {
        let (_, loaded) = world.one_begun("t").await;
        let id = loaded.id;
        for state in ["live", "paid"] {
            let attempt = format!(
                "INSERT INTO attempts (charge_id, number, id_number, amount, customer_uid, state) VALUES ({id}, 2, 2, 9900, 'card', '{state}')"
            );
            let (one, two) = (world.replica().await, world.replica().await);
            let (first, second) = tokio::join!(world.on(&one, &attempt, &attempt), world.on(&two, &attempt, &attempt));
            assert!(first.is_err() && second.is_err(), "a second {state} attempt");
        }
        let send = "INSERT INTO sends (attempt_id, endpoint_id, state, begun_at, body_hash) SELECT attempt_id, 1, 'open', begun_at, 'x' FROM sends";
        assert!(world.sql(send).await.is_err(), "a second open send");
        assert!(world.sql("UPDATE ids SET charge_id = 99").await.is_err());
        assert!(world.sql("DELETE FROM ids").await.is_err());
    }

    async fn what_is_written_stays(world: World) {
        let (_, loaded) = world.one_begun("t").await;
        let paid = paid(&loaded, "imp_1");
        let fence = rebilld::ports::store::Fence::Version(loaded.version);
        world.db.record(now(), &[entry(&loaded, fence, paid)]).await.unwrap();
        for wrong in [
            "DELETE FROM charges",
            "DELETE FROM attempts",
            "DELETE FROM sends",
            "DELETE FROM observations",
            "DELETE FROM subscriptions",
            "UPDATE observations SET source = 'x'",
            "UPDATE charges SET amount = 1",
            "UPDATE charges SET period_end = '2027-06-01'",
            "UPDATE charges SET state = 'due'",
            "UPDATE charges SET imp_uid = 'other'",
            "UPDATE attempts SET state = 'void'",
            "UPDATE attempts SET amount = 1",
            "UPDATE attempts SET id_number = 9",
            "UPDATE attempts SET imp_uid = 'other'",
            "UPDATE sends SET state = 'open'",
            "UPDATE sends SET body_hash = 'x'",
            "UPDATE events SET kind = 'x'",
        ] {
            assert!(world.sql(wrong).await.is_err(), "{wrong}");
        }
        let twice = "INSERT INTO attempts (charge_id, number, id_number, amount, customer_uid, state, imp_uid) VALUES (77, 1, 1, 1, 'c', 'declined', 'imp_1')";
        assert!(world.sql(twice).await.is_err(), "an imp_uid is booked once");
    }
}
