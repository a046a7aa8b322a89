//! The single things that befall a run: each fault that hits, each thing that an operator does. What a seed says is a rate; what a
//! failure needs is a handful of these, and a shrunk failure is their list (shrink.rs).
//!
//! Each has a name that stays the same while others are left out: the id of a charge and the number of its POST, a life and the number of
//! its port call. One seed runs on one thread, so what a run has come to stands there.

use std::cell::RefCell;
use std::collections::HashSet;

/// Which of the things that a seed has in store befall a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Operations {
    #[default]
    All,
    /// All of them, and each is written down.
    Told,
    /// These alone.
    Only(Vec<String>),
}

impl Operations {
    pub fn only(names: &[&str]) -> Self {
        Self::Only(names.iter().map(|name| (*name).to_owned()).collect())
    }
}

#[derive(Default)]
struct Run {
    only: Option<HashSet<String>>,
    /// `None`: nobody asks.
    happened: Option<Vec<String>>,
}

thread_local! {
    static RUN: RefCell<Run> = RefCell::default();
}

/// A run begins on this thread.
pub fn begin(operations: &Operations) {
    let run = match operations {
        Operations::All => Run::default(),
        Operations::Told => Run { only: None, happened: Some(vec![]) },
        Operations::Only(names) => Run { only: Some(names.iter().cloned().collect()), happened: Some(vec![]) },
    };
    RUN.set(run);
}

/// Whether what the seed has in store befalls this run.
pub fn happens(name: impl FnOnce() -> String) -> bool {
    RUN.with_borrow_mut(|run| {
        let Some(happened) = &mut run.happened else { return true };
        let name = name();
        if run.only.as_ref().is_some_and(|only| !only.contains(&name)) {
            return false;
        }
        happened.push(name);
        true
    })
}

/// What has befallen the last run of this thread, in its order, if it was to be written down. A run that panicked has it too.
pub fn happened() -> Vec<String> {
    RUN.with_borrow(|run| run.happened.clone().unwrap_or_default())
}
