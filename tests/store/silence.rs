//! A server that answers nothing any more, on connections that nobody closes: a machine that is gone, a failover, a frozen process.

use std::time::Duration;

use rebilld::ports::clock::Clock;
use rebilld::store::db::Fault;
use rebilld::store::sql::{Statement, accounts};
use rebilld::store::{Database, OpenOptions};
use rebilld::time::SystemClock;

use super::rig::options;
use crate::support::postgres;
use crate::wire::Wire;

const BOUND: Duration = Duration::from_secs(3);
/// No test waits so long for the bound: a machine that is busy with other tests is slow, not silent.
const FAR: Duration = Duration::from_secs(30);

const ADD: Statement = Statement::same("add", "INSERT INTO things (id) VALUES (1)");
const COUNT: Statement = Statement::same("count", "SELECT count(*) AS n FROM things");
const MAKE: Statement = Statement::same("make", "CREATE TABLE things (id BIGINT)");

/// A database over a wire, with as many connections open and idle as it may have.
async fn over_a_wire() -> (Database, Wire) {
    let database = postgres::database().await;
    let (_, place) = database.url.rsplit_once('@').unwrap();
    let (server, name) = place.split_once('/').unwrap();
    let wire = Wire::to(server.parse().unwrap()).await;
    let url = format!("postgres://postgres@{}/{name}", wire.address);
    // what only prepares the test is in no hurry
    let patient = Database::open(&database.url, options()).await.unwrap();
    let mut tx = patient.begin_write().await.unwrap();
    tx.execute(&MAKE, &[]).await.unwrap();
    tx.commit().await.unwrap();
    patient.close().await;
    let options = OpenOptions { answer_within: BOUND, ..options() };
    let open = Database::open(&url, options).await.unwrap();
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(open.begin_write().await.unwrap());
    }
    for tx in all {
        tx.commit().await.unwrap();
    }
    (open, wire)
}

async fn count(open: &Database) -> i64 {
    open.read(&COUNT, &[]).await.unwrap()[0].int("n").unwrap()
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let clock = SystemClock::new();
    let before = clock.boot();
    let done = tokio::time::timeout(FAR, work).await.expect("nothing is waited for without a bound");
    (done, clock.boot() - before)
}

fn unavailable<T: std::fmt::Debug>(done: Result<T, Fault>) -> String {
    match done.unwrap_err() {
        Fault::Unavailable(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_without_an_answer_ends_and_the_next_one_is_served() {
    let (open, wire) = over_a_wire().await;
    let before = wire.connections();
    wire.falls_silent(false);
    let (done, took) = timed(open.read(&accounts::CLOCK, &[])).await;
    let why = unavailable(done);
    assert!(why.contains("no answer") && why.contains("unknown"), "{why}");
    assert!(took >= BOUND, "{took:?}");
    // the other connections are as dead, and nobody waits for each of them
    let (served, took) = timed(async {
        for _ in 0..3 {
            open.read(&accounts::CLOCK, &[]).await.unwrap();
        }
    })
    .await;
    assert_eq!((served, took < BOUND * 3), ((), true), "{took:?}");
    assert!(wire.connections() > before, "by a new connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_unknown_and_may_have_been_made() {
    let (open, wire) = over_a_wire().await;
    let mut tx = open.begin_write().await.unwrap();
    tx.execute(&ADD, &[]).await.unwrap();
    wire.falls_silent(true);
    let (done, took) = timed(tx.commit()).await;
    let why = unavailable(done);
    assert!(why.contains("commit") && why.contains("unknown"), "{why}");
    assert!(took >= BOUND, "{took:?}");
    // only the database knows
    let made = async {
        while count(&open).await != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(FAR, made).await.expect("it was made");

    let mut tx = open.begin_write().await.unwrap();
    tx.execute(&ADD, &[]).await.unwrap();
    wire.falls_silent(false);
    unavailable(timed(tx.commit()).await.0);
    assert_eq!(count(&open).await, 1, "and this one was not, for the same error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_on_a_silent_connection_holds_no_other_up() {
    let (open, wire) = over_a_wire().await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut tx = open.begin_write().await.unwrap();
        tx.execute(&ADD, &[]).await.unwrap();
        held.push(tx);
    }
    wire.falls_silent(false);
    // each wants to be undone, and nobody answers
    drop(held);
    let (done, _) = timed(open.read(&COUNT, &[])).await;
    assert_eq!(done.unwrap()[0].int("n").unwrap(), 0);
}
