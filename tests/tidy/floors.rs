//! Imports go down only, third-party crates stay at home, and ARCHITECTURE.md says the same.

use std::fmt::Write as _;

use super::rules::{AFTER_COMMIT, DOMAIN_CRATES, HOMES, Imports, MODULES, Module, TOP};
use super::source::Source;

const BEGIN: &str = "<!-- floors:begin -->";
const END: &str = "<!-- floors:end -->";

/// Modules that no floor knows, and references that go up or sideways.
pub fn imports(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources {
        let Some(module) = module_of(source) else {
            wrong.push(format!("{}: this module stands on no floor: give it one in tests/tidy/rules.rs", source.path));
            continue;
        };
        let Imports::Only(allowed) = &module.may_import else { continue };
        for reference in source.references() {
            let known = MODULES.iter().find(|known| known.name == reference.module);
            // a name that is no module is an item of lib.rs
            let Some(target) = known.filter(|target| target.name != module.name) else { continue };
            let excused = source.in_tests(reference.at) && module.floor > 0;
            if !excused && !allowed.contains(&target.name) {
                let place = source.place(reference.at);
                let (from, to) = (module.name, target.name);
                let (floor, target_floor) = (label(module.floor), label(target.floor));
                wrong.push(format!("{place}: `{from}` ({floor}) may not import `{to}` ({target_floor})"));
            }
        }
    }
    wrong
}

/// Third-party crates away from home. `dependencies` are those of Cargo.toml, in its spelling.
pub fn crates(sources: &[Source], dependencies: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources {
        for home in HOMES.iter().filter(|home| !home.places.iter().any(|place| source.is_under(place))) {
            for at in source.mentions(home.krate) {
                wrong.push(format!("{}: `{}` may only be named in {}", source.place(at), home.krate, home.places.join(", ")));
            }
        }
        if source.module() == Some("domain") {
            for dependency in dependencies.iter().map(|dependency| dependency.replace('-', "_")) {
                // one with a home has been named above
                let free = DOMAIN_CRATES.contains(&dependency.as_str()) || HOMES.iter().any(|home| home.krate == dependency);
                for at in source.mentions(&dependency).into_iter().filter(|_| !free) {
                    let allowed = DOMAIN_CRATES.join(", ");
                    wrong.push(format!("{}: the domain is pure: `{dependency}` is not among {allowed}", source.place(at)));
                }
            }
        }
    }
    wrong
}

/// Whoever claims that an intent is durable without being the store.
pub fn durable_attempts(sources: &[Source]) -> Vec<String> {
    let (constructor, home) = AFTER_COMMIT;
    let mut wrong = Vec::new();
    for source in sources.iter().filter(|source| !source.is_under(home)) {
        for at in source.words(constructor) {
            let definition = source.code[..at].trim_end().ends_with("fn");
            if !definition && !source.in_tests(at) {
                wrong.push(format!("{}: only {home} may say that an intent is durable (`{constructor}`)", source.place(at)));
            }
        }
    }
    wrong
}

/// The floors as a Markdown table, the highest first.
pub fn table() -> String {
    let mut table = String::from(
        "| floor | module | what it is | may import | third-party crates that live only here |\n|---|---|---|---|---|\n",
    );
    let mut modules: Vec<&Module> = MODULES.iter().collect();
    modules.sort_by_key(|module| std::cmp::Reverse(module.floor));
    for module in modules {
        let imports = match module.may_import {
            Imports::Everything => "everything".to_owned(),
            Imports::Only([]) => "nothing".to_owned(),
            Imports::Only(names) => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        };
        let (floor, name, what) = (label(module.floor), module.name, module.what);
        // writing to a string does not fail
        let _ = writeln!(table, "| {floor} | `{name}` | {what} | {imports} | {} |", lives_in(name));
    }
    let allowed: Vec<String> = DOMAIN_CRATES.iter().map(|name| format!("`{name}`")).collect();
    let _ = writeln!(table, "\nOf all dependencies, `domain` may name only {}.", allowed.join(", "));
    table
}

/// `document` with the table between its markers brought up to date; an error if there are no markers.
pub fn with_table(document: &str) -> Result<String, String> {
    let markers = || format!("ARCHITECTURE.md has no `{BEGIN}` … `{END}` for the table of floors");
    let (head, rest) = document.split_once(BEGIN).ok_or_else(markers)?;
    let (_, tail) = rest.split_once(END).ok_or_else(markers)?;
    Ok(format!("{head}{BEGIN}\n{}{END}{tail}", table()))
}

fn module_of(source: &Source) -> Option<&'static Module> {
    let name = source.module()?;
    MODULES.iter().find(|module| module.name == name)
}

fn label(floor: u8) -> String {
    if floor == TOP { "top".to_owned() } else { format!("F{floor}") }
}

fn lives_in(module: &str) -> String {
    let mut names = Vec::new();
    for home in HOMES {
        for place in home.places.iter().filter_map(|place| place.strip_prefix("src/")) {
            match place.split_once('/') {
                None if place == module => names.push(format!("`{}`", home.krate)),
                Some((top, _)) if top == module => names.push(format!("`{}` (in `{place}`)", home.krate)),
                _ => {}
            }
        }
    }
    names.join(", ")
}

#[cfg(test)]
fn sources(files: &[(&str, &str)]) -> Vec<Source> {
    files.iter().map(|(path, text)| Source::new(path, text)).collect()
}

#[test]
fn imports_up_or_sideways_are_found() {
    for (path, text) in [
        ("src/domain/charge.rs", "use crate::ports::clock::Clock;"),
        ("src/domain/charge.rs", "#[cfg(test)] mod tests { use crate::time::SimulatedClock; }"),
        ("src/ports/store.rs", "fn f() -> crate::store::X {}"),
        ("src/engine/worker.rs", "use crate::{domain, store::Sqlite};"),
        ("src/store/sqlite.rs", "use super::super::gateway::portone;"),
        ("src/store/mod.rs", "use crate::engine;"),
        ("src/courier.rs", "use super::config::Settings;"),
        ("src/helpers.rs", ""),
    ] {
        assert_eq!(imports(&sources(&[(path, text)])).len(), 1, "{path}: {text}");
    }
}

#[test]
fn imports_down_are_fine() {
    let fine = sources(&[
        ("src/engine/worker.rs", "use crate::{domain::money, ports}; use super::claim; // use crate::store;"),
        (
            "src/store/sqlite.rs",
            "use super::sql; #[cfg(test)] mod tests { use super::super::sql; use crate::time::SystemClock; }",
        ),
        ("src/gateway/sandbox/mod.rs", "use crate::gateway::portone; use crate::Error;"),
        ("src/cli/run.rs", "use crate::config; use crate::app; use crate::store;"),
        ("src/lib.rs", "pub mod domain;"),
    ]);
    assert_eq!(imports(&fine), Vec::<String>::new());
}

#[test]
fn crates_away_from_home_are_found() {
    let dependencies = ["tokio", "sqlx", "serde", "tracing-subscriber"].map(str::to_owned);
    for (path, text) in [
        ("src/engine/claim.rs", "use sqlx::Row;"),
        ("src/domain/charge.rs", "#[derive(sqlx::Type)] struct A;"),
        ("src/domain/charge.rs", "use tokio::time::sleep;"),
        ("src/domain/charge.rs", "fn f() { tracing_subscriber::fmt() }"),
        ("src/gateway/sandbox/server.rs", "use reqwest::Client;"),
        ("src/gateway/portone/token.rs", "use ::backoff::ExponentialBackoff;"),
        ("src/app.rs", "use config::Config;"),
        ("src/main.rs", "use indicatif;"),
    ] {
        assert_eq!(crates(&sources(&[(path, text)]), &dependencies).len(), 1, "{path}: {text}");
    }
    let fine = sources(&[
        ("src/store/sqlite.rs", "use sqlx::Row;"),
        ("src/ports/retry.rs", "use backoff::ExponentialBackoff;"),
        ("src/courier/mod.rs", "use crate::gateway::backoff::x; use reqwest::Client;"),
        ("src/domain/charge.rs", "use serde::Serialize; use std::fmt; // tokio::spawn"),
        ("src/app.rs", "use crate::config; fn f() -> config::Settings {}"),
    ]);
    assert_eq!(crates(&fine, &dependencies), Vec::<String>::new());
}

#[test]
fn only_the_store_makes_a_durable_attempt() {
    let call = "fn f() { DurableAttempt::after_commit(attempt) }";
    assert_eq!(durable_attempts(&sources(&[("src/engine/charge.rs", call)])).len(), 1);
    let as_value = "attempts.map(DurableAttempt::after_commit)";
    assert_eq!(durable_attempts(&sources(&[("src/gateway/portone/client.rs", as_value)])).len(), 1);
    let fine = [("src/store/begin.rs", call), ("src/ports/store.rs", "pub fn after_commit() {}"), ("src/engine/tests.rs", call)];
    assert_eq!(durable_attempts(&sources(&fine)), Vec::<String>::new());
}

#[test]
fn the_table_is_replaced_between_its_markers() {
    let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
    let blessed = with_table(&document).unwrap();
    assert!(blessed.starts_with("before\n") && blessed.ends_with("\nafter\n") && !blessed.contains("old"));
    assert_eq!(with_table(&blessed).unwrap(), blessed);
    assert!(blessed.contains("| F3 | `store` | all SQL, on both engines | `domain`, `ports` | `sqlx` |"));
    assert!(with_table("no markers").is_err());
}
