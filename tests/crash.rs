//! Real daemons, killed with SIGKILL at random moments, on both databases and as replicas; a sandbox gateway with faults in a
//! process of its own, which outlives them; and at the end PROTOCOL.md's invariants I1 to I12 over its ledger.
//!
//! `REBILLD_KILLS` sets how often each database sees its daemon killed, `REBILLD_CRASH_SEED` when.

#[path = "crash/book.rs"]
mod book;
#[path = "crash/finish.rs"]
mod finish;
#[path = "crash/lives.rs"]
mod lives;
#[path = "crash/points.rs"]
mod points;
#[path = "support/processes.rs"]
mod processes;
mod support;

use lives::World;
use support::postgres;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_daemon_loses_and_repeats_nothing_on_sqlite() {
    World::new("SQLite", 1, None).await.one_daemon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_daemon_loses_and_repeats_nothing_on_postgres() {
    let database = postgres::database().await;
    World::new("Postgres", 2, Some(&database.url)).await.one_daemon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_replicas_share_the_work_and_repeat_nothing() {
    let database = postgres::database().await;
    World::new("three replicas", 3, Some(&database.url)).await.replicas(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_killed_at_any_boundary_loses_and_repeats_nothing_on_sqlite() {
    let points = World::new("SQLite, by points", 4, None).await.points().await;
    World::new("SQLite, by points", 4, None).await.killed_at(points).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_killed_at_any_boundary_loses_and_repeats_nothing_on_postgres() {
    let (tells, database) = (postgres::database().await, postgres::database().await);
    let points = World::new("Postgres, by points", 5, Some(&tells.url)).await.points().await;
    World::new("Postgres, by points", 5, Some(&database.url)).await.killed_at(points).await;
}
