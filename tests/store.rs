//! The store's conformance suite: each test runs on SQLite and on Postgres.

mod support;

mod store {
    pub mod arming;
    pub mod books;
    pub mod cards;
    pub mod deeds;
    pub mod figures;
    pub mod flow;
    pub mod fuse;
    pub mod journal;
    pub mod missed;
    pub mod opening;
    pub mod plan_rows;
    pub mod plans;
    pub mod races;
    pub mod rehearsal;
    pub mod rig;
    pub mod rules;
    pub mod states;
    pub mod terms;
    pub mod versions;
}
