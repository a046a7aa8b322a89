//! Faults of the machine under real daemons: a disk that is full, syncs that fail, power that is cut, a network that drops everything, a
//! clock that jumps, memory that is short. At the end of each run PROTOCOL.md's invariants I1 to I12 over the gateway's ledger.
//!
//! What this machine cannot do is told as a warning; docs/proof.md, "Faults of the machine", lists it. `REBILLD_MACHINE=large` makes the sizes
//! large (`scripts/prove machine`).

#[path = "crash/book.rs"]
mod book;
#[path = "machine/clock.rs"]
mod clock;
#[path = "machine/disk.rs"]
mod disk;
#[path = "crash/finish.rs"]
mod finish;
#[path = "machine/memory.rs"]
mod memory;
#[path = "machine/needs.rs"]
mod needs;
#[path = "crash/places.rs"]
mod places;
#[path = "machine/power.rs"]
mod power;
#[path = "support/processes.rs"]
mod processes;
#[path = "machine/recording.rs"]
mod recording;
#[path = "machine/server.rs"]
mod server;
mod support;
#[path = "machine/world.rs"]
mod world;

use needs::{Need, alone, is_large};

#[test]
fn what_this_machine_cannot_do_is_told_and_documented() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/proof.md")).expect("docs/proof.md");
    for need in Need::ALL {
        let row = format!("| {} | {} |", need.name(), need.tests());
        assert!(page.contains(&row), "docs/proof.md has no row `{row}`");
    }
    let missing: Vec<Need> = Need::ALL.into_iter().filter(|need| !need.or_tell()).collect();
    println!("missing here: {missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_waits_for_room_on_a_full_disk_and_goes_on_by_itself() {
    if Need::Mounts.or_tell() && alone("a_daemon_waits_for_room_on_a_full_disk_and_goes_on_by_itself", &[]) {
        disk::fills_up_and_is_emptied_again().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_power_cut_leaves_on_the_disk_knows_every_charge_that_had_left() {
    if Need::Preload.or_tell() {
        power::is_cut_again_and_again().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_on_a_commit_whose_sync_failed() {
    if Need::Preload.or_tell() {
        power::goes_after_syncs_had_failed(power::Syncs::Database).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_while_the_mark_cannot_be_made_durable() {
    if Need::Preload.or_tell() {
        power::goes_after_syncs_had_failed(power::Syncs::StateDirectory).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_sends_nothing_while_postgres_cannot_be_heard() {
    if Need::Network.or_tell() && alone("a_daemon_sends_nothing_while_postgres_cannot_be_heard", &["--net"]) {
        server::is_restarted_and_falls_silent().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_forward_stops_every_send_for_q() {
    if Need::FakeTime.or_tell() {
        clock::jumps("a day forward", 24 * 3600).await;
        if is_large() {
            clock::jumps("an hour forward", 3600).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_back_stops_every_send_for_q() {
    if Need::FakeTime.or_tell() {
        clock::jumps("an hour back", -3600).await;
        if is_large() {
            clock::jumps("a day back", -24 * 3600).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_short_of_memory_loses_nothing() {
    if Need::MemoryGroup.or_tell() {
        memory::is_bounded().await;
    }
}
