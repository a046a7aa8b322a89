//! From a seed that fails to the little of it that has to be there. First what it has in store: kinds of faults go one by one, the book
//! is halved, time is shortened, for as long as it still fails. Then what has befallen it: the list of single operations is cut until
//! none can be left out. What is left is printed as a test.

use crate::campaign::attempt;
use crate::faults::Swarm;
use crate::operations::{self, Operations};
use crate::world::Outcome;

/// Runs at most: each is a whole history. Those of the list are short ones by then.
const MOST_RUNS: usize = 80;
const MOST_RUNS_OF_LISTS: usize = 300;
/// Days at least, so that a period falls due.
const SHORTEST: i64 = 40;

type Step = fn(&mut Swarm);

const STEPS: [Step; 17] = [
    |swarm| swarm.autumn = false,
    |swarm| swarm.restores.clear(),
    |swarm| swarm.jumps.clear(),
    |swarm| swarm.replicas = 1,
    |swarm| swarm.crashes = None,
    |swarm| swarm.stalls = 0,
    |swarm| swarm.slow = 0,
    |swarm| swarm.storm = None,
    |swarm| swarm.look_up_down = None,
    |swarm| swarm.look_up_rate = 0,
    |swarm| swarm.late_approvals = 0,
    |swarm| swarm.lost_commits = 0,
    |swarm| swarm.lost_acknowledgements = 0,
    |swarm| swarm.full_disk = 0,
    |swarm| swarm.acts.clear(),
    |swarm| swarm.rate = 0,
    |swarm| swarm.declining = 0,
];

/// What a run came to.
#[derive(Debug, Default)]
pub struct Ran {
    /// The invariants that it breaks, or its panic.
    pub breaks: Vec<String>,
    /// What befell it, if that was to be written down.
    pub operations: Vec<String>,
}

fn ran(swarm: &Swarm, one: fn(u64, Swarm) -> Outcome) -> Ran {
    let breaks = match attempt(swarm, one) {
        Err(_) => vec!["panic".to_owned()],
        Ok(outcome) => {
            outcome.verdicts.iter().filter(|verdict| !verdict.holds()).map(|verdict| verdict.name.to_owned()).collect()
        }
    };
    Ran { breaks, operations: operations::happened() }
}

/// Smaller and smaller, as long as one of the same invariants breaks. Returns the text of a test.
pub fn shrunk(swarm: &Swarm, one: fn(u64, Swarm) -> Outcome) -> String {
    let (least, runs) = shrink(swarm, &mut |swarm| ran(swarm, one));
    format!("shrunk in {runs} runs; as a test:\n\n{}", as_test(&least))
}

/// The search itself, by what a run comes to.
pub fn shrink(swarm: &Swarm, run: &mut dyn FnMut(&Swarm) -> Ran) -> (Swarm, usize) {
    let wanted = run(swarm).breaks;
    let mut search = Search { run, wanted, runs: 1, most: MOST_RUNS };
    let mut least = search.settings(swarm.clone());
    search.most = search.runs + MOST_RUNS_OF_LISTS;
    let all = Swarm { operations: Operations::Told, ..least.clone() };
    let befell = (search.run)(&all);
    search.runs += 1;
    if search.is_wanted(&befell) {
        least = search.operations(all, befell.operations);
        // what nothing of the list came from is not needed either
        search.most = search.runs + MOST_RUNS;
        least = search.settings(least);
    }
    (least, search.runs)
}

struct Search<'a> {
    run: &'a mut dyn FnMut(&Swarm) -> Ran,
    wanted: Vec<String>,
    runs: usize,
    most: usize,
}

impl Search<'_> {
    fn is_wanted(&self, ran: &Ran) -> bool {
        ran.breaks.iter().any(|name| self.wanted.contains(name))
    }

    fn still(&mut self, next: Swarm, least: &mut Swarm) -> bool {
        if next == *least || self.runs >= self.most {
            return false;
        }
        self.runs += 1;
        let ran = (self.run)(&next);
        let still = self.is_wanted(&ran);
        if still {
            *least = next;
        }
        still
    }

    /// Cuts halves out of the list, then quarters, and single operations in the end, until none of them can go.
    fn operations(&mut self, all: Swarm, befell: Vec<String>) -> Swarm {
        let (mut left, mut least) = (befell, all);
        let with =
            |operations: &[String], least: &Swarm| Swarm { operations: Operations::Only(operations.to_vec()), ..least.clone() };
        if !self.still(with(&left, &least), &mut least) {
            // nothing but rates makes it fail
            return least;
        }
        let mut size = left.len().div_ceil(2);
        while size > 0 {
            let (mut place, before) = (0, left.len());
            while place < left.len() {
                let mut fewer = left.clone();
                fewer.drain(place..(place + size).min(left.len()));
                if self.still(with(&fewer, &least), &mut least) {
                    left = fewer;
                } else {
                    place += size;
                }
            }
            // what has gone may have held others
            size = if size == 1 && left.len() < before { 1 } else { size / 2 };
        }
        least
    }

    fn settings(&mut self, mut least: Swarm) -> Swarm {
        let mut try_it = |next: Swarm, least: &mut Swarm| self.still(next, least);
        loop {
            let before = least.clone();
            while try_it(Swarm { subscriptions: least.subscriptions.div_ceil(2), ..least.clone() }, &mut least) {}
            while try_it(Swarm { days: (least.days / 2).max(SHORTEST).min(least.days), ..least.clone() }, &mut least) {}
            for step in STEPS {
                let mut next = least.clone();
                step(&mut next);
                try_it(next, &mut least);
            }
            for place in (0..least.kinds.len()).rev() {
                let mut next = least.clone();
                next.kinds.remove(place);
                try_it(next, &mut least);
            }
            for place in (0..least.acts.len()).rev() {
                let mut next = least.clone();
                next.acts.remove(place);
                try_it(next, &mut least);
            }
            for place in (0..least.restores.len()).rev() {
                let mut next = least.clone();
                next.restores.remove(place);
                try_it(next, &mut least);
            }
            if least == before {
                return least;
            }
        }
    }
}

/// A test that can be pasted: only what differs from a swarm without faults.
pub fn as_test(swarm: &Swarm) -> String {
    let none = Swarm::default();
    let mut fields = Vec::new();
    let mut field = |name: &str, differs: bool, value: String| {
        if differs {
            fields.push(format!("{name}: {value}"));
        }
    };
    let of = |kind: &str, names: Vec<String>| {
        format!("vec![{}]", names.into_iter().map(|name| format!("{kind}::{name}")).collect::<Vec<_>>().join(", "))
    };
    let kinds = swarm.kinds.iter().map(|kind| format!("{kind:?}")).collect();
    let acts = swarm.acts.iter().map(|act| format!("{act:?}")).collect();
    field("seed", true, swarm.seed.to_string());
    field("subscriptions", true, swarm.subscriptions.to_string());
    field("days", true, swarm.days.to_string());
    field("replicas", true, swarm.replicas.to_string());
    field("kinds", !swarm.kinds.is_empty(), of("Fault", kinds));
    field("rate", swarm.rate != none.rate, swarm.rate.to_string());
    field("declining", swarm.declining != none.declining, swarm.declining.to_string());
    field("look_up_rate", swarm.look_up_rate != none.look_up_rate, swarm.look_up_rate.to_string());
    field("late_approvals", swarm.late_approvals > 0, swarm.late_approvals.to_string());
    field("look_up_down", swarm.look_up_down.is_some(), format!("{:?}", swarm.look_up_down));
    field("storm", swarm.storm.is_some(), format!("{:?}", swarm.storm));
    field("crashes", swarm.crashes.is_some(), format!("{:?}", swarm.crashes));
    field("lost_commits", swarm.lost_commits > 0, swarm.lost_commits.to_string());
    field("lost_acknowledgements", swarm.lost_acknowledgements > 0, swarm.lost_acknowledgements.to_string());
    field("full_disk", swarm.full_disk > 0, swarm.full_disk.to_string());
    field("slow", swarm.slow > 0, swarm.slow.to_string());
    field("stalls", swarm.stalls > 0, swarm.stalls.to_string());
    field("stall_seconds", swarm.stalls > 0, swarm.stall_seconds.to_string());
    field("jumps", !swarm.jumps.is_empty(), format!("vec!{:?}", swarm.jumps));
    field("restores", !swarm.restores.is_empty(), format!("vec!{:?}", swarm.restores));
    field("autumn", swarm.autumn, swarm.autumn.to_string());
    field("acts", !swarm.acts.is_empty(), of("Act", acts));
    if let Operations::Only(names) = &swarm.operations {
        // one on each line: they are the story
        let names: Vec<String> = names.iter().map(|name| format!("\n        {name:?}")).collect();
        field("operations", true, format!("operations::Operations::only(&[{}])", names.join(",")));
    }
    format!("#[test]\nfn seed_{}_holds() {{\n    holds(Swarm {{ {}, ..Swarm::default() }});\n}}\n", swarm.seed, fields.join(", "))
}

#[test]
fn what_a_failure_does_not_need_is_taken_away() {
    use crate::faults::{Act, Fault};
    // fails whenever an answer is lost while two replicas work
    let mut failure = |swarm: &Swarm| {
        let fails = swarm.kinds.contains(&Fault::LostAfter) && swarm.replicas > 1 && swarm.subscriptions >= 3;
        Ran { breaks: if fails { vec!["I1".to_owned()] } else { vec![] }, operations: vec![] }
    };
    let kinds = vec![Fault::Late, Fault::LostAfter, Fault::Slow];
    let large = Swarm {
        seed: 7,
        subscriptions: 40,
        days: 300,
        replicas: 2,
        kinds,
        rate: 50,
        crashes: Some(100),
        jumps: vec![(5, 3600)],
        acts: vec![Act::Kill, Act::Card],
        ..Swarm::default()
    };
    let (least, _) = shrink(&large, &mut failure);
    let expected = Swarm { seed: 7, subscriptions: 3, days: 40, replicas: 2, kinds: vec![Fault::LostAfter], ..Swarm::default() };
    assert_eq!(Swarm { operations: Operations::All, ..least.clone() }, expected);
    assert_eq!(least.operations, Operations::only(&[]), "nothing was told of that befell it");
    let least = Swarm { operations: Operations::All, ..least };
    let text = "#[test]\nfn seed_7_holds() {\n    holds(Swarm { seed: 7, subscriptions: 3, days: 40, replicas: 2, kinds: vec![Fault::LostAfter], ..Swarm::default() });\n}\n";
    assert_eq!(as_test(&least), text);
}

/// A real run with everything on, and something that only one operation of it brings about.
#[test]
fn a_failure_is_cut_down_to_the_operations_that_it_needs() {
    use crate::faults::Fault;
    let kinds = vec![Fault::WrongCustomer, Fault::LostAfter, Fault::Slow, Fault::CodeFunds];
    let swarm = Swarm {
        seed: 35,
        subscriptions: 6,
        days: 40,
        replicas: 2,
        kinds,
        rate: 500,
        declining: 10,
        crashes: Some(300),
        lost_acknowledgements: 20,
        slow: 10,
        ..Swarm::default()
    };
    let mut run = |swarm: &Swarm| {
        let outcome = crate::run(swarm.seed, swarm.clone());
        let is_seen = outcome.counts.contains_key("answer: paid, by another card");
        Ran { breaks: if is_seen { vec!["another card".to_owned()] } else { vec![] }, operations: operations::happened() }
    };
    let (least, runs) = shrink(&swarm, &mut run);
    println!("{runs} runs\n{}", as_test(&least));
    let Operations::Only(names) = &least.operations else { panic!("no list: {least:?}") };
    assert!(names.len() == 1 && names[0].starts_with("POST 1 of ") && names[0].ends_with(" is WrongCustomer"), "{names:?}");
    assert!(least.replicas == 1 && least.crashes.is_none() && least.lost_acknowledgements == 0, "{least:?}");
    assert!(
        as_test(&least).contains(&format!("operations: operations::Operations::only(&[\n        {:?}])", names[0])),
        "{}",
        as_test(&least)
    );
    // the list is all of it, and none of it is too much
    assert_eq!(run(&least).breaks, ["another card"]);
    assert!(run(&Swarm { operations: Operations::only(&[]), ..least }).breaks.is_empty());
}
