//! Many seeds, side by side: what they come to together, kept in a file between sittings.

use std::io::{BufRead, BufReader, Lines, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::faults::Swarm;
use crate::shrink;
use crate::stage;
use crate::tally::{self, Counts};
use crate::world::Outcome;

/// As many seeds at a time as there are processors.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, Into::into)
}

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
    /// Which seeds the code of which commit ran: the first, and the one after the last.
    #[serde(default)]
    pub sittings: Vec<(String, u64, u64)>,
}

/// What is run, as git names it. What campaigns have kept is no part of it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let said = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        said.map_or_else(|_| "unknown".to_owned(), |said| String::from_utf8_lossy(&said.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--", ".", ":!tests/simulation/totals-*.json"]);
    format!("{}{}", git(&["describe", "--always"]), if changed.is_empty() { "" } else { "-dirty" })
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
fn stay_on_one_processor(number: usize) {
    stage::begin_beside();
    let Ok(may) = sched_getaffinity(None) else { return };
    let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| may.is_set(*cpu)).collect();
    let mut one = CpuSet::new();
    one.set(all[number % all.len()]);
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

/// Why a seed has no figures.
#[derive(Debug, Serialize, Deserialize)]
enum Trouble {
    /// An invariant is broken, or it panicked.
    Wrong(String),
    /// Its process has ended. In this one it might do the same.
    Died(String),
}

type Report = Result<Totals, Trouble>;

fn report(seed: u64, one: fn(u64, Swarm) -> Outcome) -> Report {
    let outcome = attempt(&Swarm::of(seed), one).map_err(Trouble::Wrong)?;
    crate::complain(seed, &outcome).map_or_else(|| Ok(Totals::of(&outcome)), |why| Err(Trouble::Wrong(why)))
}

/// Begins a line on which a helper says what a seed came to.
const SAYS: &str = "a seed's report: ";

/// Says to a process that it is a helper, and which one.
const HELPER: &str = "REBILLD_SIM_HELPER";

/// A process of this program that takes seeds and reports. Seeds that share a process wait for SQLite's and the allocator's locks: in
/// processes of their own the same seeds take half the time on two processors.
struct Helper {
    process: Child,
    /// Closed to end it.
    orders: Option<ChildStdin>,
    reports: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    fn start(number: usize, test: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(HELPER, number.to_string());
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (orders, reports) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, orders: Some(orders), reports: BufReader::new(reports).lines() }
    }

    fn run(&mut self, seed: u64) -> Report {
        let died = |why: &dyn std::fmt::Display| Trouble::Died(format!("seed {seed}: its process has ended: {why}"));
        writeln!(self.orders.as_ref().unwrap(), "{seed}").map_err(|why| died(&why))?;
        loop {
            let line = self.reports.next().ok_or_else(|| died(&"no report"))?.map_err(|why| died(&why))?;
            // the harness talks too, and the first report comes on the same line
            if let Some((_, said)) = line.split_once(SAYS) {
                return serde_json::from_str(said).map_err(|why| died(&why))?;
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.process.wait();
    }
}

/// What a helper does, until nobody has a seed for it.
fn help(number: usize, one: fn(u64, Swarm) -> Outcome) {
    stay_on_one_processor(number);
    for seed in std::io::stdin().lines() {
        let said = serde_json::to_string(&report(seed.unwrap().parse().unwrap(), one)).unwrap();
        println!("{SAYS}{said}");
    }
}

/// Runs seeds until they have so many months, as many at a time as there are processors. `test` is the name of the test that calls:
/// it is called in helpers too, and what it returns there is nothing to be judged. `state`: where the totals are kept between sittings.
pub fn run(test: &str, months: u64, state: Option<PathBuf>, one: fn(u64, Swarm) -> Outcome) -> Option<Totals> {
    if let Some(number) = crate::number(HELPER) {
        help(usize::try_from(number).unwrap(), one);
        return None;
    }
    let logged = crate::setting("REBILLD_SIM_LOG").is_some() && crate::setting("REBILLD_SIM_SEED").is_none();
    assert!(!logged, "REBILLD_SIM_LOG shows the log of one seed: say which one with REBILLD_SIM_SEED");
    let kept = state.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    let mut totals: Totals = kept.map(|text| serde_json::from_str(&text).unwrap()).unwrap_or_default();
    let seeds = seeds(&totals, months);
    // the totals are written after each part
    let part = if state.is_some() { 32 } else { seeds.len().max(1) };
    if let Some(path) = state.as_ref().filter(|_| seeds.is_empty()) {
        panic!(
            "nothing to run: {} has {} of {months} months; ask for more, or begin anew without it",
            path.display(),
            totals.months
        );
    }
    let (commit, begun) = (commit(), totals.next);
    let mut helpers: Vec<Helper> = (0..processors().min(seeds.len())).map(|number| Helper::start(number, test)).collect();
    for some in seeds.chunks(part) {
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        // the largest first: at the end no processor waits long for another's
        let mut some = some.to_vec();
        some.sort_by_key(|seed| std::cmp::Reverse(Swarm::of(*seed).months()));
        std::thread::scope(|scope| {
            for helper in &mut helpers {
                let (next, done, some) = (&next, &done, &some);
                scope.spawn(move || {
                    while let Some(seed) = some.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let report = helper.run(*seed);
                        let died = matches!(report, Err(Trouble::Died(_)));
                        done.lock().unwrap().push((*seed, report));
                        if died {
                            break;
                        }
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap();
        done.sort_by_key(|(seed, _)| *seed);
        for (seed, report) in done {
            match report {
                Ok(of_seed) => totals.add(&of_seed),
                Err(Trouble::Died(why)) => panic!("{why}\nagain: REBILLD_SIM_SEED={seed}"),
                Err(Trouble::Wrong(why)) => {
                    totals.print();
                    // shrinking takes minutes
                    eprintln!("{why}\nagain: REBILLD_SIM_SEED={seed}");
                    panic!("{why}\nagain: REBILLD_SIM_SEED={seed}\n{}", shrink::shrunk(&Swarm::of(seed), one));
                }
            }
            totals.next = seed + 1;
        }
        totals.sat(&commit, begun);
        if let Some(path) = &state {
            totals.keep(path);
        }
    }
    Some(totals)
}

impl Totals {
    fn of(outcome: &Outcome) -> Self {
        let mut counts = outcome.counts.clone();
        counts.extend(outcome.verdicts.iter().map(|verdict| (format!("checked: {}", verdict.name), verdict.checked as u64)));
        counts.extend(outcome.states.iter().map(|(state, count)| (format!("state: {state}"), *count)));
        Self {
            next: outcome.swarm.seed + 1,
            seeds: 1,
            months: outcome.months,
            charges: outcome.charges,
            crashes: outcome.crashes,
            incidents: outcome.incidents.len() as u64,
            counts,
            sittings: vec![],
        }
    }

    fn sat(&mut self, commit: &str, begun: u64) {
        self.sittings.retain(|(_, from, _)| *from != begun);
        self.sittings.push((commit.to_owned(), begun, self.next));
    }

    fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.months += other.months;
        self.charges += other.charges;
        self.crashes += other.crashes;
        self.incidents += other.incidents;
        tally::add(&mut self.counts, &other.counts);
    }

    /// A campaign that is killed while it writes has its totals of before.
    fn keep(&self, path: &Path) {
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_string_pretty(self).unwrap() + "\n").unwrap();
        std::fs::rename(new, path).unwrap();
    }

    pub fn print(&self) {
        println!(
            "{} seeds, {} subscription-months, {} charges, {} crashes, {} incidents\n{:#?}",
            self.seeds, self.months, self.charges, self.crashes, self.incidents, self.counts
        );
    }
}
