//! How many charges a second, beside a bare loop that sends the same bodies at the same concurrency.
//!
//! `cargo bench --bench throughput` runs every case three times and prints medians. Real processes: a minimal server, the bare
//! loop, the daemon as an operator runs it, Postgres with default durability. A timing never decides a test.
//!
//! `REBILLD_BENCH_N` charges (100,000), `REBILLD_BENCH_ROUNDS` rounds (3), `REBILLD_BENCH_ONLY=postgres|sqlite`, and
//! `REBILLD_BENCH_CASES=0x64,20x64,200x1024` (latency in ms x in flight).
#![expect(clippy::float_arithmetic, reason = "figures for people, never money")]

#[path = "rig/mod.rs"]
mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rig::{Process, counts, cpu, cpu_tree, median, now, peak_memory, role, until};
use sqlx::{Connection, PgConnection, SqliteConnection};

#[expect(clippy::disallowed_methods, reason = "sizes come from the environment")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("serve") => rig::server::serve(Duration::from_millis(arguments[2].parse().unwrap())).await,
        Some("bare") => bare(&arguments[2], arguments[3].parse().unwrap(), arguments[4].parse().unwrap()).await,
        _ => measure().await,
    }
}

/// The naive loop: the same bodies, the same client settings, nothing recorded.
async fn bare(port: &str, charges: usize, in_flight: usize) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).pool_max_idle_per_host(2048).build().unwrap();
    let next = Arc::new(AtomicUsize::new(0));
    let url = format!("http://127.0.0.1:{port}/subscribe/payments/again");
    println!("ready");
    let start = now();
    let loops = (0..in_flight).map(|_| {
        let (client, next, url) = (client.clone(), Arc::clone(&next), url.clone());
        tokio::spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= charges {
                    return;
                }
                let body = format!(
                    r#"{{"customer_uid":"card-{n}","merchant_uid":"sbaaaaaaaaaaaaaaaaaa{n:08}01","currency":"KRW","amount":9900,"name":"Pro","buyer_name":"김민준","buyer_tel":"010-1234-5678","buyer_email":"payer@example.com"}}"#
                );
                let request = client.post(&url).header("authorization", "Bearer bench").header("content-type", "application/json");
                let answer = request.body(body).send().await.unwrap().bytes().await.unwrap();
                let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
                assert_eq!(answer["response"]["status"], "paid");
            }
        })
    });
    for one in loops.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    println!("{} {} {}", start.elapsed().as_secs_f64(), cpu(std::process::id()), peak_memory(std::process::id()));
}

#[derive(Default, Clone, Copy)]
struct Figures {
    per_second: f64,
    ratio: f64,
    cpu_daemon: f64,
    cpu_bare: f64,
    cpu_database: f64,
    transactions: f64,
    log_bytes: f64,
    memory: f64,
}

async fn measure() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let charges: usize = setting("REBILLD_BENCH_N").and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let rounds: usize = setting("REBILLD_BENCH_ROUNDS").and_then(|n| n.parse().ok()).unwrap_or(3);
    let only = setting("REBILLD_BENCH_ONLY");
    let cases = setting("REBILLD_BENCH_CASES").unwrap_or_else(|| "0x64,20x64,200x1024".to_owned());
    let cases: Vec<(u64, usize)> = cases
        .split(',')
        .filter_map(|case| case.split_once('x'))
        .map(|(latency, in_flight)| (latency.parse().unwrap(), in_flight.parse().unwrap()))
        .collect();
    println!(
        "{charges} charges due at once, medians of {rounds}; bare: a reqwest loop that sends the same bodies and records nothing"
    );
    println!(
        "{:<9} {:>12} {:>10} {:>7} {:>14} {:>12} {:>12} {:>10} {:>10} {:>8}",
        "database", "latency x", "charges/s", "ratio", "CPU s/1000", "of the bare", "CPU s/1000", "tx", "log bytes", "peak"
    );
    println!(
        "{:<9} {:>12} {:>10} {:>7} {:>14} {:>12} {:>12} {:>10} {:>10} {:>8}",
        "", "in flight", "", "", "daemon", "loop's CPU", "database", "a charge", "a charge", "MiB"
    );
    for database in ["postgres", "sqlite"].into_iter().filter(|name| only.as_deref().is_none_or(|only| only == *name)) {
        for (latency, in_flight) in &cases {
            let mut all = Vec::new();
            for _ in 0..rounds {
                all.push(round(database, charges, *latency, *in_flight).await);
            }
            let of = |pick: fn(&Figures) -> f64| median(all.iter().map(pick).collect());
            println!(
                "{database:<9} {:>12} {:>10.0} {:>7.2} {:>14.3} {:>11.1}x {:>12.3} {:>10.4} {:>10.0} {:>8.1}",
                format!("{latency} ms x {in_flight}"),
                of(|one| one.per_second),
                of(|one| one.ratio),
                of(|one| one.cpu_daemon),
                of(|one| one.cpu_daemon / one.cpu_bare),
                of(|one| one.cpu_database),
                of(|one| one.transactions),
                of(|one| one.log_bytes),
                of(|one| one.memory),
            );
        }
    }
}

/// One bare run and one daemon run, side by side in time so that both meet the same machine.
async fn round(database: &str, charges: usize, latency: u64, in_flight: usize) -> Figures {
    let mut figures = Figures::default();
    {
        let (_server, port) = role(&["serve", &latency.to_string()]);
        let (mut process, _) = role(&["bare", &port, &charges.to_string(), &in_flight.to_string()]);
        let mut text = String::new();
        std::io::Read::read_to_string(process.0.stdout.as_mut().unwrap(), &mut text).unwrap();
        let mut numbers = text.split_whitespace().map(|number| number.parse::<f64>().unwrap());
        let seconds = numbers.next().unwrap();
        figures.ratio = charges as f64 / seconds;
        figures.cpu_bare = numbers.next().unwrap() / charges as f64 * 1000.0;
    }
    let (_server, port) = role(&["serve", &latency.to_string()]);
    let directory = tempfile::tempdir().unwrap();
    let mut postgres = (database == "postgres").then(|| rig::support::postgres::Server::start(&[]));
    let url = match &mut postgres {
        Some(server) => server.database().await.url,
        None => format!("sqlite:{}", directory.path().join("bench.db").display()),
    };
    let config = rig::config(directory.path(), &url, &port, in_flight, 100_000, "");
    migrate(&config);
    insert(&url, charges).await;
    let before = Meter::read(&url, postgres.as_ref()).await;
    let daemon = rig::daemon(&config);
    until("charging", || async { counts(&port).await["posts"].as_u64() >= Some(charges as u64) }).await;
    until("recording", || async { paid(&url).await >= charges as i64 }).await;
    let told = counts(&port).await;
    let recorded = last_recorded(&url).await.max(told["last"].as_f64().unwrap());
    let seconds = (recorded - told["first"].as_f64().unwrap()) / 1e6;
    figures.per_second = charges as f64 / seconds;
    figures.ratio = figures.per_second / figures.ratio;
    figures.cpu_daemon = cpu(daemon.id()) / charges as f64 * 1000.0;
    figures.memory = peak_memory(daemon.id());
    stop(daemon);
    let after = Meter::read(&url, postgres.as_ref()).await;
    figures.cpu_database = (after.cpu - before.cpu) / charges as f64 * 1000.0;
    figures.transactions = (after.transactions - before.transactions) / charges as f64;
    figures.log_bytes = (after.log_bytes - before.log_bytes) / charges as f64;
    figures
}

fn migrate(config: &std::path::Path) {
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_rebilld"))
        .args(["--quiet", "--config", config.to_str().unwrap(), "migrate"])
        .status()
        .unwrap();
    assert!(status.success());
}

fn stop(mut daemon: Process) {
    std::process::Command::new("kill").arg(daemon.id().to_string()).status().unwrap();
    daemon.0.wait().unwrap();
}

/// Subscriptions by the operator's own SQL: all due since midnight in Seoul.
async fn insert(url: &str, charges: usize) {
    let columns = "(account, external_ref, plan, customer_uid, anchor, starts_on, buyer_name, buyer_tel, buyer_email)";
    let today = "date('now', '+9 hours')";
    if url.starts_with("postgres") {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let sql = format!(
            "INSERT INTO subscriptions {columns} SELECT 'main', 'sub-' || n, 'monthly', 'card-' || n,
             (now() AT TIME ZONE 'Asia/Seoul')::date, (now() AT TIME ZONE 'Asia/Seoul')::date, '김민준', '010-1234-5678',
             'payer@example.com' FROM generate_series(1, {charges}) n"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        sqlx::query("ANALYZE").execute(&mut connection).await.unwrap();
        sqlx::query("CHECKPOINT").execute(&mut connection).await.unwrap();
    } else {
        let mut connection = SqliteConnection::connect(url).await.unwrap();
        let sql = format!(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {charges})
             INSERT INTO subscriptions {columns} SELECT 'main', 'sub-' || n, 'monthly', 'card-' || n, {today}, {today},
             '김민준', '010-1234-5678', 'payer@example.com' FROM n"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

async fn paid(url: &str) -> i64 {
    number(url, "SELECT count(*) FROM charges WHERE state = 'paid'", "SELECT count(*) FROM charges WHERE state = 'paid'").await
}

/// When the last outcome was recorded, in microseconds.
async fn last_recorded(url: &str) -> f64 {
    let postgres = "SELECT (extract(epoch FROM max(paid_at)) * 1000000)::bigint FROM charges";
    number(url, postgres, "SELECT max(paid_at) FROM charges").await as f64
}

async fn number(url: &str, postgres: &'static str, sqlite: &'static str) -> i64 {
    if url.starts_with("postgres") {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::query_scalar(postgres).fetch_one(&mut connection).await.unwrap()
    } else {
        let mut connection = SqliteConnection::connect(url).await.unwrap();
        sqlx::query_scalar(sqlite).fetch_one(&mut connection).await.unwrap()
    }
}

/// What the database has cost so far.
#[derive(Default)]
struct Meter {
    cpu: f64,
    transactions: f64,
    log_bytes: f64,
}

impl Meter {
    async fn read(url: &str, server: Option<&rig::support::postgres::Server>) -> Self {
        let Some(server) = server else { return Self::default() };
        // statistics of backends arrive a little late
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let transactions = number(url, "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()", "").await;
        let log = number(url, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint", "").await;
        Self { cpu: cpu_tree(server.pid()), transactions: transactions as f64, log_bytes: log as f64 }
    }
}
