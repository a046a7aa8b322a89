//! A seeded simulation of the real engine and the real SQLite store: a virtual clock, a gateway whose ledger is the oracle, and
//! a crash at any await. After each run docs/protocol.md's invariants I1 to I12 are checked.
//!
//! `REBILLD_SIM_RUNS` sets how many seeds are run, `REBILLD_SIM_SEED` runs one and prints its log.

#[path = "simulation/crash.rs"]
mod crash;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/gateway.rs"]
mod gateway;
#[path = "simulation/jump.rs"]
mod jump;
#[path = "simulation/logs.rs"]
mod logs;
#[path = "simulation/restore.rs"]
mod restore;
#[path = "simulation/world.rs"]
mod world;

use std::collections::BTreeMap;

use faults::Swarm;
use world::{Outcome, World};

fn run(seed: u64, swarm: Swarm) -> Outcome {
    simulate(seed, swarm, async |world| world.run().await)
}

/// Has a world of its own do something.
fn simulate<T>(seed: u64, swarm: Swarm, what: impl AsyncFnOnce(World) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("sim.db").display());
    runtime.block_on(async { what(World::new(seed, &url, swarm).await).await })
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
    if seeds.len() >= 100 {
        // the machinery has to reach the places that it is there for
        let mut rules: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, outcome) in &outcomes {
            for (rule, count) in &outcome.rules {
                *rules.entry(rule).or_default() += count;
            }
        }
        for rule in
            ["R1 the answer says paid", "R1 a look-up shows it paid", "R4 lost: the same id again", "the answer says failed"]
        {
            assert!(rules.get(rule).copied().unwrap_or(0) >= 20, "{rule} was hardly reached: {rules:#?}");
        }
    }
}

fn summary(outcomes: &[(u64, Outcome)]) {
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    let mut played: BTreeMap<&str, u64> = BTreeMap::new();
    let mut rules: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, outcome) in outcomes {
        outcome.states.iter().for_each(|(state, count)| *states.entry(state).or_default() += count);
        outcome.played.iter().for_each(|(fault, count)| *played.entry(fault).or_default() += count);
        outcome.rules.iter().for_each(|(rule, count)| *rules.entry(rule).or_default() += count);
    }
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(|(_, outcome)| of(outcome)).sum::<u64>();
    println!(
        "{} seeds, {} subscription-months, {} charges, {} crashes, {} incidents",
        outcomes.len(),
        sum(|outcome| outcome.months),
        sum(|outcome| outcome.charges),
        sum(|outcome| outcome.crashes),
        sum(|outcome| outcome.incidents.len() as u64),
    );
    println!("states: {states:?}\nPOSTs by fault: {played:?}\nrules: {rules:#?}");
}

/// With the faults that are drawn by id and time. What becomes of a commit whose caller is dropped in the middle, and which
/// outcomes share a transaction, is decided by SQLite's own thread: faults that count commits do not repeat to the letter.
#[test]
fn the_same_seed_has_the_same_history() {
    for seed in [3, 11] {
        let calm = || Swarm { crashes: None, lost_acknowledgements: 0, full_disk: 0, ..Swarm::of(seed) };
        let (one, other) = (run(seed, calm()).history, run(seed, calm()).history);
        let differs = one.lines().zip(other.lines()).find(|(one, other)| one != other);
        assert!(one == other, "seed {seed}: {differs:#?}");
    }
}

#[test]
fn an_old_copy_of_the_database_breaks_no_invariant() {
    logs::capture();
    let seeds: Vec<u64> = match setting("REBILLD_SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..setting("REBILLD_SIM_RESTORES").unwrap_or(12)).map(|seed| 5_000 + seed).collect(),
    };
    let mut held = 0;
    for seed in &seeds {
        let (outcome, was_held) = simulate(*seed, Swarm::of(*seed), async |mut world| {
            let was_held = world.be_restored().await;
            (world.run().await, was_held)
        });
        held += u64::from(was_held);
        if let Some(complaint) = complain(*seed, &outcome) {
            panic!("{complaint}");
        }
    }
    assert!(seeds.len() < 10 || held >= 6, "only {held} of {} copies were behind what had been sent", seeds.len());
}

#[test]
fn a_clock_jump_holds_every_life_until_q_has_passed() {
    logs::capture();
    let mut sent_after = 0;
    for seed in 6_000..6_006 {
        let calm = Swarm { crashes: None, look_up_down: None, look_up_rate: 0, lost_acknowledgements: 0, ..Swarm::of(seed) };
        let (held, after) = simulate(seed, calm, async |mut world| world.meet_a_jump().await);
        assert_eq!(held, 0, "seed {seed}: nothing is sent within Q");
        sent_after += after;
    }
    // not of each seed: the card of what was due may have been refused for good before
    assert!(sent_after > 0, "what was due is sent after it");
}
