//! From a seed that fails to the little of it that has to be there: faults go one by one, the book is halved, time is shortened, for
//! as long as it still fails; what is left is printed as a test.

use crate::campaign::attempt;
use crate::faults::Swarm;
use crate::world::Outcome;

/// Runs at most: each is a whole history.
const MOST_RUNS: usize = 80;
/// Days at least, so that a period falls due.
const SHORTEST: i64 = 40;

type Step = fn(&mut Swarm);

const STEPS: [Step; 16] = [
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
    |swarm| swarm.lost_commits = 0,
    |swarm| swarm.lost_acknowledgements = 0,
    |swarm| swarm.full_disk = 0,
    |swarm| swarm.acts.clear(),
    |swarm| swarm.rate = 0,
    |swarm| swarm.declining = 0,
];

/// What a run fails by: the invariants that it breaks, or its panic.
fn failure(swarm: &Swarm, one: fn(u64, Swarm) -> Outcome) -> Vec<String> {
    match attempt(swarm, one) {
        Err(_) => vec!["panic".to_owned()],
        Ok(outcome) => {
            outcome.verdicts.iter().filter(|verdict| !verdict.holds()).map(|verdict| verdict.name.to_owned()).collect()
        }
    }
}

/// Smaller and smaller, as long as one of the same invariants breaks. Returns the text of a test.
pub fn shrunk(swarm: &Swarm, one: fn(u64, Swarm) -> Outcome) -> String {
    let (least, runs) = shrink(swarm, &mut |swarm| failure(swarm, one));
    format!("shrunk in {runs} runs; as a test:\n\n{}", as_test(&least))
}

/// The search itself, by what a run fails by.
pub fn shrink(swarm: &Swarm, failure: &mut dyn FnMut(&Swarm) -> Vec<String>) -> (Swarm, usize) {
    let wanted = failure(swarm);
    let (mut least, mut runs) = (swarm.clone(), 1);
    let mut try_it = |next: Swarm, least: &mut Swarm| {
        if next == *least || runs >= MOST_RUNS {
            return false;
        }
        runs += 1;
        let still = failure(&next).iter().any(|name| wanted.contains(name));
        if still {
            *least = next;
        }
        still
    };
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
        if least == before {
            return (least, runs);
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
    format!("#[test]\nfn seed_{}_holds() {{\n    holds(Swarm {{ {}, ..Swarm::default() }});\n}}\n", swarm.seed, fields.join(", "))
}

#[test]
fn what_a_failure_does_not_need_is_taken_away() {
    use crate::faults::{Act, Fault};
    // fails whenever an answer is lost while two replicas work
    let mut failure = |swarm: &Swarm| {
        let fails = swarm.kinds.contains(&Fault::LostAfter) && swarm.replicas > 1 && swarm.subscriptions >= 3;
        if fails { vec!["I1".to_owned()] } else { vec![] }
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
    assert_eq!(least, expected);
    let text = "#[test]\nfn seed_7_holds() {\n    holds(Swarm { seed: 7, subscriptions: 3, days: 40, replicas: 2, kinds: vec![Fault::LostAfter], ..Swarm::default() });\n}\n";
    assert_eq!(as_test(&least), text);
}
