//! The store's conformance suite: each test runs on SQLite and on Postgres.

mod support;

mod store {
    pub mod opening;
    pub mod rig;
}
