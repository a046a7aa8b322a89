//! A seeded simulation of the real engine and the real SQLite store: a virtual clock, a gateway whose ledger is the oracle, and
//! a crash at any await. After each run docs/protocol.md's invariants I1 to I12 are checked.
//!
//! `REBILLD_SIM_RUNS` sets how many seeds are run, `REBILLD_SIM_SEED` runs one and prints its log.

#[path = "simulation/book.rs"]
mod book;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/gateway.rs"]
mod gateway;
#[path = "simulation/ledger.rs"]
mod ledger;
#[path = "simulation/logs.rs"]
mod logs;
#[path = "simulation/operator.rs"]
mod operator;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/process.rs"]
mod process;
#[path = "simulation/restore.rs"]
mod restore;
#[path = "simulation/stage.rs"]
mod stage;
#[path = "simulation/store.rs"]
mod store;
#[path = "simulation/tally.rs"]
mod tally;
#[path = "simulation/world.rs"]
mod world;

use disk::Disk;
use faults::Swarm;
use tally::Counts;
use world::{Outcome, World};

fn run(seed: u64, swarm: Swarm) -> Outcome {
    simulate(seed, swarm, async |world| world.run().await)
}

/// Has a world of its own do something, on this thread.
fn simulate<T>(seed: u64, swarm: Swarm, what: impl AsyncFnOnce(World) -> T) -> T {
    let world = World::new(Swarm { seed, ..swarm }, Disk::new());
    let stage = std::sync::Arc::clone(&world.shared.stage);
    stage.run(what(world))
}

#[expect(clippy::disallowed_methods, reason = "the size of a campaign comes from the environment")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn complain(seed: u64, outcome: &Outcome) -> Option<String> {
    let broken: Vec<String> = outcome
        .verdicts
        .iter()
        .filter(|verdict| !verdict.holds())
        .map(|verdict| format!("  {} {}: {:#?}", verdict.name, verdict.says, verdict.broken))
        .collect();
    (!broken.is_empty())
        .then(|| format!("seed {seed} ({:?})\n{}\nagain: REBILLD_SIM_SEED={seed}", outcome.swarm, broken.join("\n")))
}

#[test]
fn no_seed_breaks_an_invariant() {
    logs::capture();
    let seeds: Vec<u64> = match setting("REBILLD_SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..setting("REBILLD_SIM_RUNS").unwrap_or(120)).collect(),
    };
    let threads = 2.min(seeds.len());
    let outcomes: Vec<(u64, Outcome)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                let seeds = &seeds;
                scope.spawn(move || {
                    seeds
                        .iter()
                        .skip(thread)
                        .step_by(threads)
                        .map(|seed| (*seed, run(*seed, Swarm::of(*seed))))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        handles.into_iter().flat_map(|handle| handle.join().unwrap()).collect()
    });
    let complaints: Vec<String> = outcomes.iter().filter_map(|(seed, outcome)| complain(*seed, outcome)).collect();
    summary(&outcomes);
    assert!(complaints.is_empty(), "{} of {} seeds broke an invariant:\n{}", complaints.len(), seeds.len(), complaints[0]);
}

fn summary(outcomes: &[(u64, Outcome)]) {
    let mut counts = Counts::new();
    for (_, outcome) in outcomes {
        tally::add(&mut counts, &outcome.counts);
        for (state, count) in &outcome.states {
            *counts.entry(format!("state: {state}")).or_default() += count;
        }
    }
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(|(_, outcome)| of(outcome)).sum::<u64>();
    println!(
        "{} seeds, {} subscription-months, {} charges, {} crashes, {} incidents\n{counts:#?}",
        outcomes.len(),
        sum(|outcome| outcome.months),
        sum(|outcome| outcome.charges),
        sum(|outcome| outcome.crashes),
        sum(|outcome| outcome.incidents.len() as u64),
    );
}

#[test]
fn the_same_seed_has_the_same_history() {
    for seed in [3, 11] {
        let (one, other) = (run(seed, Swarm::of(seed)).history, run(seed, Swarm::of(seed)).history);
        let differs = one.lines().zip(other.lines()).find(|(one, other)| one != other);
        assert!(one == other, "seed {seed}: {differs:#?}");
    }
}
