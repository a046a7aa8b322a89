//! The rules of the house as constants. ARCHITECTURE.md's table of floors is rendered from them.

/// A top-level module of `src`: where it stands and what it may import from its siblings there.
pub struct Module {
    pub name: &'static str,
    pub floor: u8,
    pub may_import: Imports,
    pub what: &'static str,
}

pub enum Imports {
    /// Only these modules. Unit tests may import more, except in the domain.
    Only(&'static [&'static str]),
    /// Where everything is put together.
    Everything,
}

/// `main` and `lib` are no floor: they stand on top of all.
pub const TOP: u8 = 6;

pub const MODULES: &[Module] = &[
    Module {
        name: "domain",
        floor: 0,
        may_import: Imports::Only(&[]),
        what: "what billing is: pure, no clock, no I/O, no async, no logs",
    },
    Module {
        name: "ports",
        floor: 1,
        may_import: Imports::Only(&["domain"]),
        what: "what the engine needs from the world, as traits",
    },
    Module { name: "engine", floor: 2, may_import: Imports::Only(&["domain", "ports"]), what: "fetch, decide, act, record" },
    // an adapter knows the traits it implements, not the engine that uses them and not its siblings
    Module { name: "store", floor: 3, may_import: Imports::Only(&["domain", "ports"]), what: "all SQL, on both engines" },
    Module {
        name: "gateway",
        floor: 3,
        may_import: Imports::Only(&["domain", "ports"]),
        what: "PortOne's client, and a sandbox that answers as PortOne does",
    },
    Module {
        name: "courier",
        floor: 3,
        may_import: Imports::Only(&["domain", "ports"]),
        what: "delivers events to webhook receivers",
    },
    Module { name: "time", floor: 3, may_import: Imports::Only(&["domain", "ports"]), what: "clocks and cron ticks" },
    Module { name: "http", floor: 4, may_import: Imports::Everything, what: "health, metrics, webhooks in" },
    Module { name: "cli", floor: 4, may_import: Imports::Everything, what: "commands" },
    Module { name: "config", floor: 5, may_import: Imports::Everything, what: "settings: layered, validated, secrets redacted" },
    Module { name: "app", floor: 5, may_import: Imports::Everything, what: "composition root, start and stop" },
    Module { name: "main", floor: TOP, may_import: Imports::Everything, what: "the program" },
    Module { name: "lib", floor: TOP, may_import: Imports::Everything, what: "the list of modules" },
];

/// A third-party crate and the only places that may name it, so that replacing it is a change of one module.
pub struct Home {
    /// As code spells it, with underscores.
    pub krate: &'static str,
    /// Paths without `.rs`: a directory or a file.
    pub places: &'static [&'static str],
}

pub const HOMES: &[Home] = &[
    Home { krate: "sqlx", places: &["src/store"] },
    Home { krate: "reqwest", places: &["src/gateway/portone", "src/courier"] },
    // unmaintained (deny.toml): one file wraps it behind our own policy
    Home { krate: "backoff", places: &["src/ports/retry"] },
    Home { krate: "tokio_cron_scheduler", places: &["src/time"] },
    // the one dependency of the domain with a home: it reads cron expressions, and its search for instants is not used
    Home { krate: "croner", places: &["src/domain/cron"] },
    Home { krate: "axum", places: &["src/http", "src/gateway/sandbox"] },
    Home { krate: "hyper", places: &["src/http"] },
    Home { krate: "hyper_util", places: &["src/http"] },
    Home { krate: "config", places: &["src/config"] },
    Home { krate: "clap", places: &["src/cli", "src/main"] },
    Home { krate: "clap_mangen", places: &["src/cli/generate"] },
    Home { krate: "clap_complete", places: &["src/cli/generate"] },
    Home { krate: "comfy_table", places: &["src/cli"] },
    Home { krate: "indicatif", places: &["src/cli"] },
];

/// The only dependencies that the domain may name; its tests also have the dev-dependencies.
pub const DOMAIN_CRATES: &[&str] = &["serde", "serde_json", "thiserror", "jiff", "sha2"];

/// Longest file in `src` and `tests`, in lines.
pub const LONGEST_FILE: usize = 600;

/// What no code may contain, tests and benches included, and what to do instead.
pub const BANNED: &[(&str, &str)] = &[
    ("todo!", "finish it, or return an error that says so"),
    ("unimplemented!", "finish it, or return an error that says so"),
    ("dbg!", "log it with `tracing`, or remove it"),
    ("#[ignore", "a test that cannot run here says so in its output"),
    ("#[allow(", "use `#[expect(…, reason = \"…\")]`"),
    ("#![allow(", "use `#![expect(…, reason = \"…\")]`"),
];

/// What `src` may not contain outside its tests, where it is welcome all the same, and what to do instead.
pub const BANNED_IN_SRC: &[(&str, &[&str], &str)] = &[
    ("println!", &["src/cli", "src/main"], "log it with `tracing`"),
    ("eprintln!", &["src/cli", "src/main"], "log it with `tracing`"),
    ("print!", &["src/cli", "src/main"], "log it with `tracing`"),
    (".unwrap()", &[], "handle it, or `expect` with the reason why it cannot happen"),
    // a statement is a `&'static str`, and sqlx takes nothing else: these are the ways around that
    ("AssertSqlSafe", &[], "statements are constants of src/store/sql, and what varies is bound"),
    (".leak()", &[], "a text made at run time must not become a statement: bind what varies"),
    ("Box::leak", &[], "a text made at run time must not become a statement: bind what varies"),
];

/// The one constructor of the right to charge, and the one place that may call it: after its commit.
pub const AFTER_COMMIT: (&str, &str) = ("after_commit", "src/store");

/// Beginnings of paths that exist on a developer's machine only. Split, so that this file does not contain them.
pub const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/")];
