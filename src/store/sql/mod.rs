//! Every statement, by name, in the spelling of both engines. A test prepares each of them on both.
//!
//! Parameters are `$1`, `$2`, … on both. Where the two texts differ, the comment starts "Differs because".

pub mod accounts;
pub mod cards;
pub mod charges;
pub mod chores;
pub mod copy;
pub mod figures;
pub mod fuse;
pub mod imports;
pub mod missed;
pub mod outbox;
pub mod outlook;
pub mod plans;
pub mod schedules;
pub mod states;
pub mod terms;
pub mod versions;
pub mod writes;

/// A statement in both spellings.
#[derive(Debug)]
pub struct Statement {
    /// As it stands in error messages.
    pub name: &'static str,
    pub sqlite: &'static str,
    pub postgres: &'static str,
}

impl Statement {
    /// One text serves both engines.
    pub const fn same(name: &'static str, sql: &'static str) -> Self {
        Self { name, sqlite: sql, postgres: sql }
    }

    pub const fn two(name: &'static str, sqlite: &'static str, postgres: &'static str) -> Self {
        Self { name, sqlite, postgres }
    }
}

/// All statements, by the file that they stand in.
pub const ALL: &[&[&Statement]] = &[
    accounts::ALL,
    cards::ALL,
    charges::ALL,
    figures::ALL,
    fuse::ALL,
    imports::ALL,
    missed::ALL,
    schedules::ALL,
    states::ALL,
    terms::ALL,
    writes::ALL,
    outbox::ALL,
    outlook::ALL,
    plans::ALL,
    chores::ALL,
    copy::ALL,
    versions::ALL,
    super::desk::sql::ALL,
];
