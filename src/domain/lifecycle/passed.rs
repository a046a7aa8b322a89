//! Periods that are never charged, and why.

use jiff::civil::Date;

use super::{Missed, Progress};

/// Periods that are passed over, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    pub why: PassedWhy,
    pub first: Date,
    /// Where the last of them ends.
    pub until: Date,
    pub count: u32,
    pub after: Progress,
    /// The adjustments that are used up by it.
    pub adjustments: Vec<i64>,
    /// `next_plan` takes effect with the first of them.
    pub changes_plan: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PassedWhy {
    /// Missed, and only the latest is charged: of the plan, or of an operator.
    Missed,
    /// Discounts leave nothing to charge.
    Free,
    /// They started during a pause, or between an end and its being taken back.
    Paused,
}

impl Missed {
    /// All of them are passed over.
    pub fn skip_all(&self, changes_plan: bool) -> Passed {
        self.passed(self.latest.end, self.count, self.past_all, changes_plan)
    }

    /// The latest is charged, the others are passed over; `None`: there are no others.
    pub fn keep_latest(&self, changes_plan: bool) -> Option<Passed> {
        (self.count > 1).then(|| self.passed(self.latest.start, self.count - 1, self.at_latest, changes_plan))
    }

    fn passed(&self, until: Date, count: u32, after: Progress, changes_plan: bool) -> Passed {
        let (why, first, adjustments) = (PassedWhy::Missed, self.first.start, Vec::new());
        Passed { why, first, until, count, after, adjustments, changes_plan }
    }
}
