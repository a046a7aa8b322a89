//! What a look costs with few and with many subscriptions: it has to stay flat.
//!
//! `cargo bench --bench scale` with `REBILLD_BENCH_SIZES=10000,1000000` (10,000,000 once by hand) and
//! `REBILLD_BENCH_ONLY=postgres|sqlite`; `REBILLD_BENCH_KEEP=1` leaves a SQLite file behind and says where. Prints the medians of the calls that the worker makes each tick, and of claiming 256.
#![expect(clippy::float_arithmetic, reason = "figures for people, never money")]

#[path = "rig/mod.rs"]
mod rig;

use jiff::Timestamp;
use rebilld::ports::store::{Claim, ClaimToken, Lane, Store};
use rebilld::store::identity::AccountConfig;
use rebilld::store::{Database, OpenOptions};
use rig::{median, now};
use sqlx::{Connection, PgConnection, SqliteConnection};

#[expect(clippy::disallowed_methods, reason = "sizes come from the environment")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[tokio::main]
async fn main() {
    let sizes = setting("REBILLD_BENCH_SIZES").unwrap_or_else(|| "10000,1000000".to_owned());
    let only = setting("REBILLD_BENCH_ONLY");
    println!(
        "milliseconds, medians of 21; every subscription has a paid charge and a period in the future; 8,192 charges are due"
    );
    println!(
        "{:<9} {:>13} {:>13} {:>13} {:>13} {:>13}",
        "database", "subscriptions", "next due", "due schedules", "claim 256", "claim nothing"
    );
    for database in ["postgres", "sqlite"].into_iter().filter(|name| only.as_deref().is_none_or(|only| only == *name)) {
        for size in sizes.split(',') {
            measure(database, size.parse().unwrap()).await;
        }
    }
}

async fn measure(name: &str, size: u64) {
    let mut directory = tempfile::tempdir().unwrap();
    if setting("REBILLD_BENCH_KEEP").is_some() {
        directory.disable_cleanup(true);
        println!("{} is kept", directory.path().display());
    }
    let postgres = (name == "postgres").then(|| rig::support::postgres::Server::start(&[("max_wal_size", "8GB")]));
    let url = match &postgres {
        Some(server) => server.database().await.url,
        None => format!("sqlite:{}", directory.path().join("bench.db").display()),
    };
    let options = OpenOptions { create: true, ..OpenOptions::default() };
    let database = Database::open(&url, options).await.unwrap();
    database.migrate().await.unwrap();
    let start: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap();
    database.bind_identity("sb".parse().unwrap(), "bench", start).await.unwrap();
    let config = AccountConfig { name: "main".into(), fingerprint: "f".into(), base_url: "http://127.0.0.1".into(), tier: None };
    let account = database.sync_accounts(&[config], start).await.unwrap().remove(0).id;
    fill(&url, size, start.as_microsecond()).await;

    let (mut next, mut due, mut claim, mut empty) = (vec![], vec![], vec![], vec![]);
    for n in 0..21 {
        let began = now();
        database.next_due(start).await.unwrap();
        next.push(began.elapsed().as_secs_f64() * 1000.0);
        let began = now();
        assert!(database.due_schedules(start, 256).await.unwrap().is_empty());
        due.push(began.elapsed().as_secs_f64() * 1000.0);
        let wanted = |lane, token: String| Claim {
            account,
            lane,
            token: ClaimToken(token),
            now: start,
            due_until: start,
            claim_until: start + jiff::SignedDuration::from_secs(120),
            limit: 256,
        };
        let began = now();
        assert_eq!(database.claim(&wanted(Lane::Send, format!("t{n}"))).await.unwrap().len(), 256);
        claim.push(began.elapsed().as_secs_f64() * 1000.0);
        let began = now();
        assert!(database.claim(&wanted(Lane::LookUp, format!("l{n}"))).await.unwrap().is_empty());
        empty.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    println!("{name:<9} {size:>13} {:>13.3} {:>13.3} {:>13.3} {:>13.3}", median(next), median(due), median(claim), median(empty));
    database.close().await;
}

async fn fill(url: &str, size: u64, now: i64) {
    let due = 8192.min(size);
    if url.starts_with("postgres") {
        let mut connection = PgConnection::connect(url).await.unwrap();
        for sql in [
            "ALTER TABLE subscriptions DISABLE TRIGGER USER".to_owned(),
            "ALTER TABLE charges DISABLE TRIGGER USER".to_owned(),
            format!(
                "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor)
                 SELECT 'main', 'sub-' || n, 'monthly', 'card-' || n, '2026-01-01' FROM generate_series(1, {size}) n"
            ),
            "INSERT INTO schedules (subscription_id, next_look_at, opened_until)
             SELECT id, '2027-01-01'::timestamptz + (id % 86400) * interval '1 second', '2027-01-01' FROM subscriptions"
                .to_owned(),
            "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state, waiting, paid_at, imp_uid)
             SELECT id, 1, '2026-10-01', '2026-11-01', '2026-10-01', 9900, 'KRW', 'per_attempt', 'paid', 'nothing', '2026-10-01', 'imp_' || id FROM subscriptions"
                .to_owned(),
            format!(
                "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state, waiting, next_at)
                 SELECT id, 1, '2026-11-01', '2026-12-01', '2026-11-01', 9900, 'KRW', 'per_attempt', 'due', 'turn', '2026-11-01' FROM subscriptions ORDER BY id LIMIT {due}"
            ),
            "ALTER TABLE subscriptions ENABLE TRIGGER USER".to_owned(),
            "ALTER TABLE charges ENABLE TRIGGER USER".to_owned(),
            "VACUUM ANALYZE".to_owned(),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
    } else {
        let mut connection = SqliteConnection::connect(url).await.unwrap();
        let numbers = format!("WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {size})");
        let (later, before) = (now + 40 * 86_400_000_000, now - 50 * 86_400_000_000);
        for sql in [
            "PRAGMA busy_timeout = 60000".to_owned(),
            "DROP TRIGGER charges_no_overlap".to_owned(),
            format!(
                "{numbers} INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor)
                 SELECT 'main', 'sub-' || n, 'monthly', 'card-' || n, '2026-01-01' FROM n"
            ),
            format!("UPDATE schedules SET next_look_at = {later} + (subscription_id % 86400) * 1000000, opened_until = '2027-01-01'"),
            format!(
                "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state, waiting, paid_at, imp_uid)
                 SELECT id, 1, '2026-10-01', '2026-11-01', {before}, 9900, 'KRW', 'per_attempt', 'paid', 'nothing', {before}, 'imp_' || id FROM subscriptions"
            ),
            format!(
                "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state, waiting, next_at)
                 SELECT id, 1, '2026-11-01', '2026-12-01', {now} - 1000000, 9900, 'KRW', 'per_attempt', 'due', 'turn', {now} - 1000000
                 FROM subscriptions ORDER BY id LIMIT {due}"
            ),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
    }
}
