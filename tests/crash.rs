//! Real daemons and their database, killed at random moments, on both databases and as replicas; a sandbox gateway with faults in a
//! process of its own, which outlives them, behind a proxy that spoils requests; and at the end PROTOCOL.md's invariants I1 to I12
//! over its ledger.
//!
//! `REBILLD_KILLS` sets how many kills each of these worlds sees, `REBILLD_CRASH_SEED` when, `REBILLD_KILLS_STATE` a file in which what
//! was proven is added up over sittings.

#[path = "crash/book.rs"]
mod book;
#[path = "crash/finish.rs"]
mod finish;
#[path = "crash/frozen.rs"]
mod frozen;
#[path = "crash/kills.rs"]
mod kills;
#[path = "crash/lives.rs"]
mod lives;
#[path = "crash/places.rs"]
mod places;
#[path = "crash/points.rs"]
mod points;
#[path = "support/processes.rs"]
mod processes;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "crash/stops.rs"]
mod stops;
mod support;
#[path = "crash/tally.rs"]
mod tally;

use lives::World;
use support::postgres;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_daemon_loses_and_repeats_nothing_on_sqlite() {
    for (seed, kills) in tally::rounds("SQLite", 1) {
        World::new("SQLite", seed, None).await.one_daemon(kills).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_daemon_or_database_loses_and_repeats_nothing_on_postgres() {
    for (seed, kills) in tally::rounds("Postgres", 2) {
        World::over("Postgres", seed).await.one_daemon(kills).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_are_killed_frozen_and_cut_off_share_the_work_and_repeat_nothing() {
    for (seed, kills) in tally::rounds("three replicas", 3) {
        World::over("three replicas", seed).await.replicas(3, kills).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stop_cannot_wait_for_is_in_doubt_and_found_by_the_next_daemon() {
    World::stopped_too_soon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_interrupt_ends_a_daemon_at_once_and_the_next_one_finds_what_it_left() {
    World::stopped_twice().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_stopped_as_soon_as_it_is_up_ends_in_good_order() {
    World::stopped_at_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_killed_at_any_boundary_loses_and_repeats_nothing_on_sqlite() {
    let points = World::new("SQLite, by points", 4, None).await.points().await;
    World::new("SQLite, by points", 4, None).await.killed_at(points, "SQLite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_killed_at_any_boundary_loses_and_repeats_nothing_on_postgres() {
    let (tells, database) = (postgres::database().await, postgres::database().await);
    let points = World::new("Postgres, by points", 5, Some(&tells.url)).await.points().await;
    World::new("Postgres, by points", 5, Some(&database.url)).await.killed_at(points, "PostgreSQL").await;
}
