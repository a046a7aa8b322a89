//! Alarms: what a person has to hear of at once, when it begins, again while it lasts, and when it is over.
//!
//! [`judge`] finds what is wrong in [`Facts`] that others have read, [`steps`] compares that with what has been told already. What
//! is sent is an [`Alarm`], in [`tell`].

mod facts;
mod judge;
mod tell;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

pub use facts::{AccountFacts, Facts, MissedFacts, OpenIncident, Unresolved, Waiting};
pub use judge::{MOST_INCIDENTS, judge};
pub use tell::{Alarm, Turn};

/// A doubt that is older than this is told.
pub const DOUBT_OLD: SignedDuration = SignedDuration::from_hours(2);

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Somebody should look today.
    Warning,
    /// Money is wrong, or nothing is charged.
    Critical,
}

impl Severity {
    pub const NAMES: [&str; 2] = ["warning", "critical"];

    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Warning, Self::Critical].into_iter().find(|severity| severity.name() == name)
    }
}

/// What an alarm is about. Each kind has a page of its name in docs/runbooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    DoubleCharge,
    WrongAmount,
    ReviewWaiting,
    DoubtOld,
    MissedCharges,
    Fuse,
    Hold,
    KillSwitch,
    Breaker,
    AuditDifference,
    DeclineRate,
    Database,
    Clock,
}

impl AlarmKind {
    pub const ALL: [Self; 13] = [
        Self::DoubleCharge,
        Self::WrongAmount,
        Self::ReviewWaiting,
        Self::DoubtOld,
        Self::MissedCharges,
        Self::Fuse,
        Self::Hold,
        Self::KillSwitch,
        Self::Breaker,
        Self::AuditDifference,
        Self::DeclineRate,
        Self::Database,
        Self::Clock,
    ];

    /// Their names, in that order.
    pub const NAMES: [&str; 13] = [
        "double-charge",
        "wrong-amount",
        "review-waiting",
        "doubt-old",
        "missed-charges",
        "fuse",
        "hold",
        "kill-switch",
        "breaker",
        "audit-difference",
        "decline-rate",
        "database",
        "clock",
    ];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub fn severity(self) -> Severity {
        match self {
            Self::ReviewWaiting | Self::DoubtOld | Self::KillSwitch | Self::Breaker => Severity::Warning,
            _ => Severity::Critical,
        }
    }

    /// Where it is explained.
    pub fn runbook(self) -> String {
        format!("docs/runbooks/{}.md", self.name())
    }
}

/// Tells one alarm from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlarmKey {
    pub kind: AlarmKind,
    /// Empty: it is no single account's.
    pub account: String,
    /// Tells apart several of one kind and account, such as incidents; mostly empty.
    pub subject: String,
}

/// Something that is wrong at the moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub key: AlarmKey,
    /// One sentence, without personal data.
    pub what: String,
    /// `None`: since it was first seen.
    pub since: Option<Timestamp>,
    /// Ids of charges and amounts, as JSON.
    pub concerns: Value,
    /// The command to run next.
    pub next_step: String,
}

/// An alarm as it was last told, on its row.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    pub condition: Condition,
    pub since: Timestamp,
    /// When and what was said last.
    pub told_at: Timestamp,
    pub turn: Turn,
    /// Names of the channels that have not taken it yet.
    pub owed: Vec<String>,
}

impl Standing {
    pub fn is_over(&self) -> bool {
        self.turn == Turn::Resolved
    }

    /// What is to be said of it.
    pub fn alarm(&self) -> Alarm {
        Alarm::of(&self.condition, self.since, self.told_at, self.turn)
    }
}

/// What is to be written and said now.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub turn: Turn,
    pub condition: Condition,
    pub since: Timestamp,
    /// When it was told last, for whoever writes it: another process may have been faster. `None`: never, or it was over.
    pub seen: Option<Timestamp>,
}

/// What has begun, lasts for `repeat` since it was told last, or is over. `standing`: what was told, over or not.
pub fn steps(standing: &[Standing], conditions: &[Condition], now: Timestamp, repeat: SignedDuration) -> Vec<Step> {
    let begun = conditions.iter().filter_map(|condition| {
        let told = standing.iter().find(|told| told.condition.key == condition.key && !told.is_over());
        let step = |turn, since, seen| Some(Step { turn, condition: condition.clone(), since, seen });
        match told {
            None => step(Turn::Raised, condition.since.unwrap_or(now), None),
            Some(told) if now.duration_since(told.told_at) >= repeat => step(Turn::Repeated, told.since, Some(told.told_at)),
            Some(_) => None,
        }
    });
    let over = standing.iter().filter(|told| !told.is_over()).filter(|told| {
        let lasts = conditions.iter().any(|condition| condition.key == told.condition.key);
        !lasts
    });
    let over = over.map(|told| {
        let (condition, since) = (told.condition.clone(), told.since);
        Step { turn: Turn::Resolved, condition, since, seen: Some(told.told_at) }
    });
    begun.chain(over).collect()
}
