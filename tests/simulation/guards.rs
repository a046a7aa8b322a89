//! Each guard of the charge protocol taken out, one at a time, in the simulation's own world: its faults, its replicas, its operator. Some
//! seed has to notice, and the same seed passes with the guard in its place. (`tests/guards.rs` plays each guard's mishap by itself.)
//!
//! Small runs take the seeds that are known to notice. `REBILLD_SIM_GUARDS=1000` searches that many for each guard, from the first.

use rebilld::ports::guard::{self, Guard};

use crate::disk::Disk;
use crate::faults::Swarm;
use crate::world::Outcome;
use crate::{campaign, number, on};

/// How a guard is taken out: by the product's own switch, or by a change of the database.
pub struct Taken {
    pub out: &'static [Guard],
    pub sql: &'static str,
    /// A seed that is known to notice, and the invariant that it breaks.
    pub known: u64,
    pub breaks: &'static str,
}

/// The world of a seed, with a book and a time that leave room for many seeds.
fn small(seed: u64) -> Swarm {
    let swarm = Swarm::of(seed);
    Swarm { subscriptions: swarm.subscriptions.min(12), days: swarm.days.min(60), ..swarm }
}

/// The same world on a database that lacks a rule.
fn spoilt(sql: &'static str, swarm: Swarm) -> Outcome {
    let disk = Disk::file();
    disk.spoil(sql);
    on(disk, swarm, async |world| world.run().await)
}

/// What is wrong at the end of a seed: names of invariants, or a panic.
fn broken(taken: Option<&Taken>, seed: u64) -> Vec<String> {
    let done = match taken {
        Some(taken) => {
            let run = || std::panic::catch_unwind(|| guard::without(taken.out, || spoilt(taken.sql, small(seed))));
            run().map_err(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
            })
        }
        None => campaign::attempt(&small(seed), crate::run),
    };
    match done {
        Ok(outcome) => {
            let broken = outcome.verdicts.iter().filter(|verdict| !verdict.holds());
            broken.map(|verdict| format!("{}: {}", verdict.name, verdict.broken.first().cloned().unwrap_or_default())).collect()
        }
        Err(why) => vec![format!("panic: {}", why.lines().next().unwrap_or_default())],
    }
}

impl Taken {
    /// Fails unless a seed notices, and unless the same seed passes with the guard in its place.
    pub fn has_to_be_noticed(&self) {
        crate::logs::capture();
        let most = number("REBILLD_SIM_GUARDS");
        let seeds = most.map_or(self.known..self.known + 1, |most| 0..most);
        for seed in seeds.clone() {
            let broken = broken(Some(self), seed);
            let Some(first) = broken.iter().find(|what| what.starts_with(self.breaks)) else {
                if let (true, Some(other)) = (most.is_some(), broken.first()) {
                    println!("    {:?} {}: seed {seed} breaks something else: {other}", self.out, self.sql);
                }
                continue;
            };
            println!("    without {:?} {}: seed {seed}: {first} ({} things are wrong)", self.out, self.sql, broken.len());
            assert_eq!(self::broken(None, seed), Vec::<String>::new(), "seed {seed}, with the guard in its place");
            return;
        }
        panic!("nobody notices that {:?} {} is gone, in seeds {seeds:?}", self.out, self.sql);
    }
}
