//! The charge protocol (docs/protocol.md), explored state by state: what the product concludes (`domain::decide`) under
//! everything that two workers, an unreliable wire and a slow gateway can do to it. docs/proof.md says what that proves.
//!
//! The safe worlds are searched completely, and every shortcut has to be refuted by a history. `REBILLD_MODEL=large` searches
//! larger worlds too; `REBILLD_MODEL_TRACE=1` prints the history that refutes each shortcut.

mod model {
    pub mod check;
    pub mod config;
    pub mod judge;
    pub mod state;
    pub mod steps;
    pub mod table;
}

use std::collections::BTreeSet;

use model::check::ONE_PAYMENT;
use model::config::{Config, Restore};
use model::steps::Step;
use model::table::{self, HEAD, TIMINGS};
use rebilld::domain::charge::IdMode;
use stateright::{Checker, HasDiscoveries, Model, Path};

type History = Path<model::state::State, Step>;

#[expect(clippy::disallowed_methods, reason = "asked for on the command line of a test; `config` is not under test")]
fn asked_for(name: &str, value: &str) -> bool {
    std::env::var(name).is_ok_and(|given| given == value)
}

/// Searches a world to its end.
fn holds(config: Config) -> usize {
    // never ends early: a property that holds is never discovered
    let checker = config.checker().threads(2).finish_when(HasDiscoveries::All).spawn_bfs().join();
    let discoveries = checker.discoveries();
    for property in config.properties() {
        let found = discoveries.get(property.name);
        let failed = property.expectation.discovery_is_failure() == found.is_some();
        if let Some(history) = found.filter(|_| failed) {
            print_history(history);
        }
        assert!(!failed, "{config:?}: {}", property.name);
    }
    let states = checker.unique_state_count();
    println!("{}", table::line(&config, states, checker.max_depth(), "holds"));
    states
}

/// The shortest history that breaks a property.
fn breaks(config: Config, property: &'static str) -> History {
    let until = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    // one thread: then breadth first means that no history is shorter
    let checker = config.checker().threads(1).finish_when(until).spawn_bfs().join();
    let history = checker.discovery(property);
    let steps = history.as_ref().map_or(0, |history| history.clone().into_actions().len());
    let result = if history.is_some() { format!("refuted in {steps} steps: {property}") } else { "not refuted".to_owned() };
    println!("{}", table::line(&config, checker.unique_state_count(), checker.max_depth(), &result));
    let history = history.unwrap_or_else(|| panic!("nothing breaks `{property}` in {config:?}"));
    if asked_for("REBILLD_MODEL_TRACE", "1") {
        print_history(&history);
    }
    history
}

fn print_history(history: &History) {
    for (state, step) in history.clone().into_vec() {
        println!("    {}", table::in_words(&state));
        if let Some(step) = step {
            println!("      {step:?}");
        }
    }
}

#[test]
fn the_protocol_holds_in_every_state_of_every_world() {
    println!("{HEAD}");
    let worlds = table::safe(asked_for("REBILLD_MODEL", "large"));
    let count = worlds.len();
    let states: usize = worlds.into_iter().map(holds).sum();
    println!("{count} worlds, {states} states: all invariants hold in all of them");
    assert!(states > 1_000_000, "{states} states are too few to mean much");
}

#[test]
fn r2_and_r3_cover_each_other() {
    println!("{HEAD}");
    table::layers().into_iter().for_each(|config| {
        holds(config);
    });
}

#[test]
fn every_shortcut_is_refuted_by_a_history() {
    println!("{HEAD}");
    for (config, cost) in table::shortcuts() {
        breaks(config, cost);
    }
}

#[test]
fn q_has_to_outlast_stall_delay_and_lag_together_and_one_tick_more_is_enough() {
    println!("{HEAD}");
    for (stall, delay, lag, quiet) in TIMINGS {
        assert_eq!(stall + delay + lag + 1, quiet);
        breaks(
            Config::safe("Q no longer than what it has to outlast", IdMode::PerAttempt).timed(stall, delay, lag, quiet - 1),
            ONE_PAYMENT,
        );
    }
}

/// README, What cannot be designed away: the model finds it too, so it does not look away there.
#[test]
fn what_no_protocol_can_rule_out_is_found_as_well() {
    println!("{HEAD}");
    let frozen = Config::safe("a process frozen for longer than Q", IdMode::PerAttempt).timed(5, 0, 0, 4);
    breaks(frozen, ONE_PAYMENT);
    let restored = Config { restore: Restore::Unnoticed, ..Config::safe("a restore that nobody notices", IdMode::PerAttempt) };
    breaks(restored, ONE_PAYMENT);
}
