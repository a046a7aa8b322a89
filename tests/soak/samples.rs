//! What processes hold, sample by sample: memory, descriptors, connections of their database.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor, Row};

use crate::processes::until;

/// Of all samples, in percent: pools, caches and the allocator fill until here, and nothing is said of it.
const WARM_UP: usize = 30;
/// The first of these and the last of these are compared by their medians.
const WINDOW: usize = 20;
/// How much more memory the last window may have than the first, in percent.
const GROWTH: u64 = 5;
/// How many more sockets to the gateway and to receivers the last window may have: at any moment some requests are under way, and some
/// connections wait for the next.
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
    descriptors: Vec<Descriptors>,
}

/// What a process has open.
#[derive(Debug, Clone, Copy, Default)]
struct Descriptors {
    database: u64,
    /// Connections to anybody else: the gateway, receivers of events.
    requests: u64,
    /// Files, pipes, timers, and the sockets that nobody is connected to.
    others: u64,
}

pub struct Samples {
    of: Vec<Held>,
    /// Those of all processes, at the database.
    connections: Vec<u64>,
    witness: PgConnection,
    database_port: u16,
}

impl Samples {
    pub async fn new(database: &str, pids: Vec<u32>) -> Self {
        let of = pids.into_iter().map(|pid| Held { pid, memory: Vec::new(), descriptors: Vec::new() }).collect();
        let witness = PgConnection::connect(database).await.expect("the server is up");
        let options: PgConnectOptions = database.parse().expect("a database of the tests");
        Self { of, connections: Vec::new(), witness, database_port: options.get_port() }
    }

    pub async fn take(&mut self) {
        for held in &mut self.of {
            held.memory.push(memory(held.pid));
            held.descriptors.push(descriptors(held.pid, self.database_port));
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
        for (n, held) in self.of.iter().enumerate() {
            let (first, last) = windows(&held.memory);
            assert!(last * 100 <= first * (100 + GROWTH), "replica {n} grew from {first} KiB to {last} KiB: {:?}", held.memory);
            let (first, last) = held.count(|open| open.others);
            assert!(last <= first, "replica {n} had {first} files and the like open, then {last}: {:?}", held.descriptors);
            let (first, last) = held.count(|open| open.requests);
            assert!(last <= first + SLACK, "replica {n} had {first} connections to others, then {last}: {:?}", held.descriptors);
            let (_, last) = held.count(|open| open.database);
            assert!(last <= CONNECTIONS, "replica {n} has {last} connections to its database: {:?}", held.descriptors);
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
                let (memory, then) = windows(&held.memory);
                let told = |of: fn(&Descriptors) -> u64| {
                    let (first, last) = held.count(of);
                    format!("{first} to {last}")
                };
                let tenths = (i128::from(then) - i128::from(memory)) * 1000 / i128::from(memory.max(1));
                let sign = if tenths < 0 { '-' } else { '+' };
                let (whole, tenth) = (tenths.abs() / 10, tenths.abs() % 10);
                let (files, database, requests) =
                    (told(|open| open.others), told(|open| open.database), told(|open| open.requests));
                format!(
                    "memory {memory} to {then} KiB ({sign}{whole}.{tenth} %), files and the like {files}, connections to the \
                     database {database}, to others {requests}"
                )
            })
            .collect();
        let (connections, later) = windows(&self.connections);
        write!(f, "medians of {} samples: {}; connections {connections} to {later}", self.connections.len(), told.join("; "))
    }
}

impl Held {
    /// In the first window and in the last one.
    fn count(&self, of: fn(&Descriptors) -> u64) -> (u64, u64) {
        windows(&self.descriptors.iter().map(of).collect::<Vec<_>>())
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

/// What a process has open now. What it closes meanwhile is not counted.
fn descriptors(pid: u32, database_port: u16) -> Descriptors {
    let peers = peers(pid);
    let mut open = Descriptors::default();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("a process").flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let inode =
            target.to_string_lossy().strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')?.parse::<u64>().ok());
        match inode.and_then(|inode| peers.get(&inode)) {
            None | Some(0) => open.others += 1,
            Some(port) if *port == database_port => open.database += 1,
            Some(_) => open.requests += 1,
        }
    }
    open
}

/// The port at the other end of each TCP socket by its inode; 0: there is no other end.
fn peers(pid: u32) -> BTreeMap<u64, u16> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("a process");
    let peer = |line: &str| {
        let mut columns = line.split_whitespace();
        let port = u16::from_str_radix(columns.nth(2)?.rsplit_once(':')?.1, 16).ok()?;
        Some((columns.nth(6)?.parse().ok()?, port))
    };
    table.lines().skip(1).filter_map(peer).collect()
}
