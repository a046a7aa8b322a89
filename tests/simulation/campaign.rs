//! Many seeds, side by side: what they come to together, kept in a file between sittings.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::faults::Swarm;
use crate::shrink;
use crate::stage;
use crate::tally::{self, Counts};
use crate::world::Outcome;

/// What all seeds so far have come to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// The seed to go on with.
    pub next: u64,
    pub seeds: u64,
    pub months: u64,
    pub charges: u64,
    pub crashes: u64,
    pub incidents: u64,
    pub counts: Counts,
}

/// The seeds that follow, until their books have so many subscription-months together.
fn seeds(totals: &Totals, months: u64) -> Vec<u64> {
    let (mut seeds, mut sum) = (Vec::new(), totals.months);
    for seed in totals.next.. {
        if sum >= months {
            break;
        }
        sum += Swarm::of(seed).months();
        seeds.push(seed);
    }
    seeds
}

/// A seed and the threads of its databases wait for each other at every statement: on one processor that takes half the time.
fn stay_on_one_processor(thread: usize) {
    stage::begin_beside();
    let Ok(may) = sched_getaffinity(None) else { return };
    let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| may.is_set(*cpu)).collect();
    let mut one = CpuSet::new();
    one.set(all[thread % all.len()]);
    // where that is forbidden, it is slower
    let _ = sched_setaffinity(None, &one);
}

/// One seed; a panic is a complaint like any other.
pub fn attempt(swarm: &Swarm, run: fn(u64, Swarm) -> Outcome) -> Result<Outcome, String> {
    let done = catch_unwind(AssertUnwindSafe(|| run(swarm.seed, swarm.clone())));
    done.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("seed {} panicked: {}", swarm.seed, text.unwrap_or_default())
    })
}

/// Runs seeds until they have so many months, a few at a time. `state`: where the totals are kept between sittings.
pub fn run(months: u64, threads: usize, state: Option<PathBuf>, one: fn(u64, Swarm) -> Outcome) -> Totals {
    let kept = state.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    let mut totals: Totals = kept.map(|text| serde_json::from_str(&text).unwrap()).unwrap_or_default();
    let seeds = seeds(&totals, months);
    // the totals are written after each part
    let part = if state.is_some() { 32 } else { seeds.len().max(1) };
    for some in seeds.chunks(part) {
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        // the largest first: at the end no processor waits long for another's
        let mut some = some.to_vec();
        some.sort_by_key(|seed| std::cmp::Reverse(Swarm::of(*seed).months()));
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (next, done, some) = (&next, &done, &some);
                scope.spawn(move || {
                    stay_on_one_processor(thread);
                    while let Some(seed) = some.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let outcome = attempt(&Swarm::of(*seed), one);
                        done.lock().unwrap().push((*seed, outcome));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap();
        done.sort_by_key(|(seed, _)| *seed);
        for (seed, outcome) in done {
            let complaint = match &outcome {
                Ok(outcome) => crate::complain(seed, outcome),
                Err(why) => Some(why.clone()),
            };
            if let Some(complaint) = complaint {
                totals.print();
                panic!("{complaint}\nagain: REBILLD_SIM_SEED={seed}\n{}", shrink::shrunk(&Swarm::of(seed), one));
            }
            if let Ok(outcome) = outcome {
                totals.add(&outcome);
            }
            totals.next = seed + 1;
        }
        if let Some(path) = &state {
            std::fs::write(path, serde_json::to_string_pretty(&totals).unwrap()).unwrap();
        }
    }
    totals
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.months += outcome.months;
        self.charges += outcome.charges;
        self.crashes += outcome.crashes;
        self.incidents += outcome.incidents.len() as u64;
        tally::add(&mut self.counts, &outcome.counts);
        for (state, count) in &outcome.states {
            *self.counts.entry(format!("state: {state}")).or_default() += count;
        }
    }

    pub fn print(&self) {
        println!(
            "{} seeds, {} subscription-months, {} charges, {} crashes, {} incidents\n{:#?}",
            self.seeds, self.months, self.charges, self.crashes, self.incidents, self.counts
        );
    }
}
