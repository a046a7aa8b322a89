//! How late a POST leaves after it falls due, with work falling due at 50 a second; and what an idle daemon costs.
//!
//! `cargo bench --bench punctuality`. The charges are opened ahead, as they would be; only their due times are set by SQL to
//! fall at even distances. `REBILLD_BENCH_SECONDS` (30), `REBILLD_BENCH_ONLY=postgres|sqlite`.
#![expect(clippy::float_arithmetic, reason = "figures for people, never money")]

#[path = "rig/mod.rs"]
mod rig;

use std::time::{Duration, SystemTime};

use rig::{counts, cpu, now, role, until};
use sqlx::{Connection, PgConnection, SqliteConnection};

const A_SECOND: u64 = 50;

#[expect(clippy::disallowed_methods, reason = "sizes come from the environment")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[expect(clippy::disallowed_methods, reason = "a measurement of real time")]
fn micros() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(0)
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let _ = rustls::crypto::ring::default_provider().install_default();
    if arguments.get(1).map(String::as_str) == Some("serve") {
        return rig::server::serve(Duration::ZERO).await;
    }
    let seconds: u64 = setting("REBILLD_BENCH_SECONDS").and_then(|n| n.parse().ok()).unwrap_or(30);
    let only = setting("REBILLD_BENCH_ONLY");
    println!("{A_SECOND} charges a second falling due for {seconds} s, default config, account limit 200/s");
    println!(
        "{:<9} {:>8} {:>8} {:>8} {:>8} {:>7} {:>16} {:>14}",
        "database", "p50 ms", "p90 ms", "p99 ms", "max ms", "early", "idle % of a core", "idle tx/s"
    );
    for database in ["postgres", "sqlite"].into_iter().filter(|name| only.as_deref().is_none_or(|only| only == *name)) {
        measure(database, seconds).await;
    }
}

async fn measure(database: &str, seconds: u64) {
    let (_server, port) = role(&["serve"]);
    let directory = tempfile::tempdir().unwrap();
    let postgres = (database == "postgres").then(|| rig::support::postgres::Server::start(&[]));
    let url = match &postgres {
        Some(server) => server.database().await.url,
        None => format!("sqlite:{}", directory.path().join("bench.db").display()),
    };
    let config = rig::config(directory.path(), &url, &port, 16, 200, "");
    let migrated = std::process::Command::new(env!("CARGO_BIN_EXE_rebilld"))
        .args(["--quiet", "--config", config.to_str().unwrap(), "migrate"])
        .status()
        .unwrap();
    assert!(migrated.success());
    let daemon = rig::daemon(&config);
    // its first audit is over once it says so in the database
    tokio::time::sleep(Duration::from_secs(3)).await;
    let count = seconds * A_SECOND;
    let first = micros() + 3_000_000;
    insert(&url, count, first).await;
    until("charging", || async { counts(&port).await["posts"].as_u64() >= Some(count) }).await;
    let told = counts(&port).await;
    let late: Vec<f64> = told["lateness"].as_array().unwrap().iter().map(|late| late.as_f64().unwrap() / 1000.0).collect();
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize];
    let early = late.iter().filter(|late| **late < 0.0).count();
    // then nothing is due, and the daemon is watched while it waits
    // (what the busy time cost is only then reported in full by the server)
    tokio::time::sleep(Duration::from_secs(15)).await;
    let (cpu_before, tx_before, start) = (cpu(daemon.id()), transactions(&url).await, now());
    tokio::time::sleep(Duration::from_secs(20)).await;
    let idle = start.elapsed().as_secs_f64();
    let cpu_idle = (cpu(daemon.id()) - cpu_before) / idle * 100.0;
    let tx_idle = (transactions(&url).await - tx_before - 1.0) / idle;
    println!(
        "{database:<9} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {early:>7} {cpu_idle:>16.2} {:>14}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        if postgres.is_some() { format!("{tx_idle:.2}") } else { "-".to_owned() },
    );
}

/// Charges that are opened already and fall due at even distances. The due time travels in `custom_data`.
async fn insert(url: &str, count: u64, first: i64) {
    let step = 1_000_000 / i64::try_from(A_SECOND).unwrap();
    let subscriptions = |values: &str| {
        format!(
            "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor, starts_on, custom_data)
             SELECT 'main', 'sub-' || n, 'monthly', 'card-' || n, '2030-01-01', '2030-01-01', {values}"
        )
    };
    if url.starts_with("postgres") {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let mut tx = connection.begin().await.unwrap();
        let sql = format!("{} FROM generate_series(0, {count} - 1) n", subscriptions(&format!("({first} + n * {step})::text")));
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *tx).await.unwrap();
        let sql = "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state, waiting, next_at)
             SELECT id, 1, '2026-01-01', '2026-02-01', t, 9900, 'KRW', 'per_attempt', 'due', 'turn', t
             FROM (SELECT id, 'epoch'::timestamptz + custom_data::bigint * interval '1 microsecond' AS t FROM subscriptions) s";
        sqlx::query(sql).execute(&mut *tx).await.unwrap();
        sqlx::query("UPDATE schedules SET next_look_at = NULL, parked = 'ended'").execute(&mut *tx).await.unwrap();
        sqlx::query("NOTIFY rebilld").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        sqlx::query("ANALYZE").execute(&mut connection).await.unwrap();
    } else {
        let mut connection = SqliteConnection::connect(url).await.unwrap();
        sqlx::query("PRAGMA busy_timeout = 5000").execute(&mut connection).await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
        let numbers = format!("WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < {count} - 1)");
        let sql = format!("{numbers} {} FROM n", subscriptions(&format!("CAST({first} + n * {step} AS TEXT)")));
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        let sql = "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state, waiting, next_at)
             SELECT id, 1, '2026-01-01', '2026-02-01', CAST(custom_data AS INTEGER), 9900, 'KRW', 'per_attempt', 'due', 'turn',
             CAST(custom_data AS INTEGER) FROM subscriptions";
        sqlx::query(sql).execute(&mut connection).await.unwrap();
        sqlx::query("UPDATE schedules SET next_look_at = NULL, parked = 'ended'").execute(&mut connection).await.unwrap();
        sqlx::query("COMMIT").execute(&mut connection).await.unwrap();
    }
}

async fn transactions(url: &str) -> f64 {
    if !url.starts_with("postgres") {
        return 0.0;
    }
    let mut connection = PgConnection::connect(url).await.unwrap();
    let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    count as f64
}
