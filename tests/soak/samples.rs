//! What processes hold, sample by sample: memory, descriptors, connections of their database.

use std::fmt;
use std::fs;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, Row};

use crate::processes::until;

/// Of all samples, in percent: pools, caches and the allocator fill until here, and nothing is said of it.
const WARM_UP: usize = 30;
/// The first of these and the last of these are compared by their medians.
const WINDOW: usize = 20;
/// A run of so many samples, one a second, is a long one.
const LONG: usize = 600;
/// How much more memory the last window may have than the first, in percent. In a minute the allocator has not come to rest: there only
/// what would be gigabytes by tomorrow is told apart from it.
const GROWTH: u64 = 5;
const GROWTH_OF_A_MINUTE: u64 = 10;
/// How many more descriptors the last window may have: at any moment some requests are under way, and each of them has one.
const SLACK: u64 = 8;
/// A pool of four, and the one that listens.
const CONNECTIONS: u64 = 5;
/// The test's own, of a moment ago, which the server has not ended yet.
const OURS: u64 = 2;

/// One process.
struct Held {
    pid: u32,
    /// In KiB.
    memory: Vec<u64>,
    descriptors: Vec<u64>,
}

pub struct Samples {
    of: Vec<Held>,
    /// Those of all processes, at the database.
    connections: Vec<u64>,
    witness: PgConnection,
}

impl Samples {
    pub async fn new(database: &str, pids: Vec<u32>) -> Self {
        let of = pids.into_iter().map(|pid| Held { pid, memory: Vec::new(), descriptors: Vec::new() }).collect();
        let witness = PgConnection::connect(database).await.expect("the server is up");
        Self { of, connections: Vec::new(), witness }
    }

    pub async fn take(&mut self) {
        for held in &mut self.of {
            held.memory.push(memory(held.pid));
            held.descriptors.push(fs::read_dir(format!("/proc/{}/fd", held.pid)).expect("a process").count() as u64);
        }
        let connections = self.count_connections().await;
        self.connections.push(connections);
    }

    async fn count_connections(&mut self) -> u64 {
        let others = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let row = self.witness.fetch_one(others).await.expect("the server's own tables");
        row.get::<i64, _>(0).unsigned_abs()
    }

    /// Fails if the last window holds more than the first.
    pub fn assert_steady(&self) {
        let most = if self.connections.len() >= LONG { GROWTH } else { GROWTH_OF_A_MINUTE };
        for (n, held) in self.of.iter().enumerate() {
            let (first, last) = windows(&held.memory);
            assert!(last * 100 <= first * (100 + most), "replica {n} grew from {first} KiB to {last} KiB: {:?}", held.memory);
            let (first, last) = windows(&held.descriptors);
            assert!(last <= first + SLACK, "replica {n} had {first} descriptors, then {last}: {:?}", held.descriptors);
        }
        let (_, last) = windows(&self.connections);
        let bound = CONNECTIONS * self.of.len() as u64 + OURS;
        assert!(last <= bound, "{last} connections, where {bound} at most are meant to be: {:?}", self.connections);
    }

    /// Fails if a process that has ended has left a connection behind.
    pub async fn assert_all_gone(mut self) {
        let patience = Duration::from_secs(60);
        until("all connections are gone", patience, async || (self.count_connections().await == 0).then_some(())).await;
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<String> = self
            .of
            .iter()
            .map(|held| {
                let ((memory, then), (descriptors, later)) = (windows(&held.memory), windows(&held.descriptors));
                let tenths = (i128::from(then) - i128::from(memory)) * 1000 / i128::from(memory.max(1));
                let sign = if tenths < 0 { '-' } else { '+' };
                let (whole, tenth) = (tenths.abs() / 10, tenths.abs() % 10);
                format!("memory {memory} to {then} KiB ({sign}{whole}.{tenth} %), descriptors {descriptors} to {later}")
            })
            .collect();
        let (connections, later) = windows(&self.connections);
        write!(f, "medians of {} samples: {}; connections {connections} to {later}", self.connections.len(), told.join("; "))
    }
}

/// The medians of the first window after the warm-up and of the last one.
fn windows(samples: &[u64]) -> (u64, u64) {
    let (warm, window) = (samples.len() * WARM_UP / 100, (samples.len() * WINDOW / 100).max(1));
    (median(&samples[warm..warm + window]), median(&samples[samples.len() - window..]))
}

fn median(samples: &[u64]) -> u64 {
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    samples[samples.len() / 2]
}

/// What is resident, in KiB.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
