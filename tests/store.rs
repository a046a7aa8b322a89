//! The store's conformance suite: each test runs on SQLite, on Postgres, and on Postgres behind pgbouncer in transaction mode.

#[path = "support/bouncer.rs"]
mod bouncer;
mod support;
#[path = "support/wire.rs"]
mod wire;

mod store {
    pub mod alarms;
    pub mod arming;
    pub mod books;
    pub mod cards;
    pub mod deeds;
    pub mod figures;
    pub mod flow;
    pub mod fuse;
    pub mod journal;
    pub mod lost;
    pub mod migrating;
    pub mod missed;
    pub mod opening;
    pub mod plan_rows;
    pub mod plans;
    pub mod races;
    pub mod rehearsal;
    pub mod rig;
    pub mod rules;
    pub mod silence;
    pub mod states;
    pub mod terms;
    pub mod versions;
}
