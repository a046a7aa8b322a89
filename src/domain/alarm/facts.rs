//! What alarms are judged by.

use jiff::Timestamp;

use crate::domain::decide::IncidentKind;
use crate::domain::fuse::FuseState;

/// The state of things, as one process reads it. Nothing in it is personal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Why the kill switch is on for all accounts.
    pub killed: Option<String>,
    /// Why the whole database is on hold, and since when.
    pub held: Option<(String, Option<Timestamp>)>,
    /// Until when a jump of the database's clock holds sends; may be past.
    pub unsteady_until: Option<Timestamp>,
    /// What stops single daemons, a line each, as they write it into their rows.
    pub daemons: Vec<String>,
    pub accounts: Vec<AccountFacts>,
    /// The oldest open ones: of each kind one more than [`super::MOST_INCIDENTS`] at most.
    pub incidents: Vec<OpenIncident>,
    pub unresolved: Vec<Unresolved>,
    pub missed: Option<MissedFacts>,
}

/// What stops an account, and how its last audit ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountFacts {
    pub name: String,
    pub killed: Option<String>,
    pub held: Option<(String, Option<Timestamp>)>,
    pub paused: Option<(String, Option<Timestamp>)>,
    pub fuse: Option<(FuseState, String, Option<Timestamp>)>,
    /// When the last audit was made, and how many differences it has found that nobody has closed.
    pub audited: Option<(Timestamp, i64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIncident {
    pub id: i64,
    pub kind: IncidentKind,
    pub account: String,
    pub detail: String,
    pub opened_at: Timestamp,
    pub charge: Option<Waiting>,
}

/// A charge, as far as an alarm names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub charge: i64,
    /// Minor units.
    pub amount: i64,
    pub currency: String,
}

/// Charges of an account that wait for a person, or that were in doubt for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    pub account: String,
    /// In review; otherwise in doubt for longer than [`super::DOUBT_OLD`].
    pub review: bool,
    /// Counted up to a thousand.
    pub charges: i64,
    pub oldest_at: Option<Timestamp>,
    /// The oldest of them, five at most.
    pub oldest: Vec<Waiting>,
}

/// What the independent count has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissedFacts {
    /// Past due by two hours, and waiting for nothing that is shown.
    pub unexplained: u64,
    /// Past due by two hours, of billing keys that PortOne's own schedule has, or may have charged.
    pub booked: u64,
    /// Past due by a day, and put off by the budget or the fuse.
    pub bounded: u64,
    /// How long ago that was counted, in seconds.
    pub age: u64,
}
