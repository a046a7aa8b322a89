//! Plans: what the worker asks all the time goes by an index, with few rows and with many.

use std::sync::atomic::{AtomicU32, Ordering};

use rebilld::ports::store::Store;
use rebilld::store::sql::{
    Statement, alarms, cards, charges, chores, figures, fuse, inbox, missed, outlook, schedules, states, writes,
};

use super::rig::{Engine, World, now};

const HOT: &[(&Statement, &str)] = &[
    (&charges::CLAIM_TO_SEND, "charges_send"),
    (&charges::CLAIM_TO_LOOK_UP, "charges_look_up"),
    (&charges::LOAD_CLAIMED, "attempts_one"),
    (&charges::NEXT_DUE, "charges_send"),
    (&charges::NEXT_CLAIM_END, "charges_look_up"),
    (&charges::INTERRUPTED, "sends_open"),
    (&missed::MISSED, "charges_unresolved"),
    (&missed::MISSED, "schedules_lost"),
    (&missed::MISSED, "schedules_blocked"),
    (&missed::MISSED, "import_holds_waiting"),
    (&missed::MISSED_BY_ACCOUNT, "charges_unresolved"),
    (&missed::RESTING, "charges_"),
    (&missed::RESTING, "key_bookings"),
    (&missed::FRESH, "charges_send"),
    (&figures::ACCOUNTS, "charges_send"),
    (&figures::ACCOUNTS, "charges_look_up"),
    (&figures::OUTBOX, "deliveries_next"),
    (&figures::INCIDENTS, "incidents_open"),
    (&missed::UNSCHEDULED, "schedules"),
    (&charges::BOOKED, "charges_paid"),
    (&schedules::DUE_SCHEDULES, "schedules_next"),
    (&schedules::FREE_SCHEDULES, "schedules_next"),
    (&schedules::UNRESOLVED, "charges_unresolved"),
    (&outlook::PENDING, "charges_unresolved"),
    (&chores::PAID_SINCE, "charges_paid"),
    (&chores::UNRESOLVED_NOW, "charges_unresolved"),
    (&writes::LOCK_TO_BEGIN, "charges"),
    (&states::DUE_STATES, "subscription_states_look"),
    (&charges::NEXT_DUE, "subscription_states_look"),
    (&states::STATE_FACTS, "charges_unresolved"),
    (&writes::LOCK_TO_RECORD, "subscription_states"),
    (&cards::TRIES_OF_CARDS, "card_tries_of"),
    (&cards::TRIES_OF_CARDS, "shared_cards"),
    (&writes::LIVE_ATTEMPTS, "attempts_one"),
    (&fuse::SPENT, "fuse_spent"),
    (&fuse::SPENT, "fuse_expected"),
    (&fuse::DUE_WAVE, "charges_send"),
    (&fuse::WAVE_OPEN, "wave_charges"),
    (&cards::TRIES_OF_CARDS, "card_tries"),
    (&cards::TRIES_OF_CARDS, "key_bookings"),
    (&writes::UPDATE_CHARGES, "charges"),
    (&writes::UPDATE_ATTEMPTS, "attempts"),
    (&writes::END_SENDS, "sends"),
    (&inbox::HINTED, "merchant_uid"),
    (&inbox::LOOK_UP_SOON, "charges"),
    (&alarms::INCIDENTS, "incidents_open"),
    (&alarms::UNRESOLVED, "charges_troubled"),
    (&alarms::OLDEST, "charges_troubled"),
    (&alarms::STANDING, "alarms_standing"),
];

async fn explained(world: &World, statement: &Statement) -> String {
    let rows = match world.db.is_postgres() {
        true => {
            // parameters stay unknown, as in a plan that is kept
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = format!("plan_{}", NEXT.fetch_add(1, Ordering::Relaxed));
            let nulls = (1..60).rev().find(|n| statement.postgres.contains(&format!("${n}"))).unwrap_or(0);
            let nulls = vec!["NULL"; nulls].join(", ");
            let arguments = if nulls.is_empty() { String::new() } else { format!("({nulls})") };
            let prepare = format!("PREPARE {name} AS {}", statement.postgres);
            let steps = [
                "SET LOCAL plan_cache_mode = force_generic_plan".to_owned(),
                prepare,
                format!("EXPLAIN EXECUTE {name}{arguments}"),
            ];
            world.explain(&steps).await
        }
        false => world.explain(&[format!("EXPLAIN QUERY PLAN {}", statement.sqlite)]).await,
    };
    rows.join("\n")
}

async fn all_go_by_index(world: &World, when: &str) {
    for (statement, index) in HOT {
        let plan = explained(world, statement).await;
        assert!(plan.contains(index), "{when}: {} does not use {index}:\n{plan}", statement.name);
        let scans = if world.db.is_postgres() { "Seq Scan on" } else { "SCAN charges\n" };
        let allowed =
            plan.lines().filter(|line| ["accounts", "settings", "plans_version"].iter().any(|one| line.contains(one))).count();
        let found = plan.lines().filter(|line| line.contains(scans)).count();
        assert!(found <= allowed, "{when}: {} reads a whole table:\n{plan}", statement.name);
    }
    // each engine has its own name for the index of a unique constraint
    let index = if world.db.is_postgres() { "charges_subscription_id_period_start_key" } else { "sqlite_autoindex_charges_1" };
    let plan = explained(world, &writes::LOCK_TO_BEGIN).await;
    assert!(plan.contains(index), "{when}: what was paid last is not found by {index}:\n{plan}");
}

async fn grow(world: &World) {
    world
        .sql_of(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
                INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor)
                SELECT 'main', 'many-' || i, 'monthly', 'card', '2026-12-01' FROM n",
            "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor)
                SELECT 'main', 'many-' || i, 'monthly', 'card', DATE '2026-12-01' FROM generate_series(1, 200000) i",
        )
        .await
        .unwrap();
    world
        .sql_of(
            "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state, waiting, next_at)
                SELECT id, 1, '2026-12-01', '2027-01-01', id, 9900, 'KRW', 'per_attempt', 'due', 'turn', id + 1796086800000000 FROM subscriptions",
            "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state, waiting, next_at)
                SELECT id, 1, '2026-12-01', '2027-01-01', now(), 9900, 'KRW', 'per_attempt', 'due', 'turn', now() + id * interval '1 second' FROM subscriptions",
        )
        .await
        .unwrap();
    for sql in [
        "INSERT INTO subscription_states (subscription_id, state, since)
            SELECT id, CASE WHEN id % 100 = 0 THEN 'past_due' ELSE 'paused' END, created_at FROM subscriptions WHERE id % 5 = 0",
        "INSERT INTO attempts (charge_id, number, id_number, amount, customer_uid, state)
            SELECT id, 1, 1, amount, 'card', 'live' FROM charges",
        "INSERT INTO card_tries (attempt_id, account_id, customer_uid, charge_id, at)
            SELECT a.id, 1, 'card-' || a.id, a.charge_id, c.due_at FROM attempts a JOIN charges c ON c.id = a.charge_id
            WHERE a.id % 10 = 0",
        "INSERT INTO key_bookings (account_id, customer_uid, bookings, checked_at)
            SELECT 1, 'card-' || id, 1, created_at FROM subscriptions WHERE id % 2 = 0",
        "UPDATE charges SET waiting = CASE WHEN id % 3 = 0 THEN 'card_rest' ELSE 'budget' END WHERE id % 10 = 0",
        "INSERT INTO shared_cards (account, customer_uid)
            SELECT 'main', 'card-' || id FROM subscriptions WHERE id % 10 = 0",
        "INSERT INTO sends (attempt_id, endpoint_id, state, begun_at, body_hash)
            SELECT a.id, 1, CASE WHEN a.id < 500 THEN 'open' ELSE 'answered' END, c.due_at, 'x'
            FROM attempts a JOIN charges c ON c.id = a.charge_id",
    ] {
        world.sql(sql).await.unwrap();
    }
}

async fn few_and_many(engine: Engine) {
    let world = World::new(engine).await;
    all_go_by_index(&world, "empty").await;
    grow(&world).await;
    all_go_by_index(&world, "many rows, old statistics").await;
    world.sql("ANALYZE").await.unwrap();
    all_go_by_index(&world, "many rows").await;
    assert!(world.db.next_due(now()).await.unwrap().first().is_some());
}

#[tokio::test]
async fn few_and_many_rows_on_sqlite() {
    few_and_many(Engine::Sqlite).await;
}

#[tokio::test]
async fn few_and_many_rows_on_postgres() {
    few_and_many(Engine::Postgres).await;
}
