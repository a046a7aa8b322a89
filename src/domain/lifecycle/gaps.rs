//! Days that are never charged for: those of a pause, and those between an end and its being taken back.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;

/// From the day on which a pause began up to the day of the return. A period that starts in it is passed over; one that
/// started before is owed, however long it has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gap {
    pub from: Date,
    pub until: Date,
    /// What it passes over has been told, and the anchor has moved if it was to.
    pub told: bool,
}

/// Pauses in a row whose owed periods can all wait at once: a further one is joined to the last.
const MOST: usize = 4;

/// The gaps that periods which have not opened may still run into, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Gaps([Option<Gap>; MOST]);

impl Gaps {
    /// Adds one after the others. Nothing is added if no day lies in it.
    pub fn add(&mut self, from: Date, until: Date) {
        if from >= until {
            return;
        }
        let gap = Gap { from, until, told: false };
        match self.0.iter_mut().find(|place| place.is_none()) {
            Some(free) => *free = Some(gap),
            None => {
                if let Some(Some(last)) = self.0.last_mut() {
                    *last = Gap { from: last.from, ..gap };
                }
            }
        }
    }

    /// The gap that a day lies in.
    pub fn around(&self, day: Date) -> Option<Gap> {
        self.0.iter().flatten().copied().find(|gap| gap.from <= day && day < gap.until)
    }

    /// Remembers that what a gap passes over has been told.
    pub(super) fn tell(&mut self, told: Gap) {
        for gap in self.0.iter_mut().flatten().filter(|gap| **gap == told) {
            gap.told = true;
        }
    }

    /// Forgets those that end on a day or before it.
    pub(super) fn forget_until(&mut self, day: Date) {
        let mut kept = self.0.into_iter().flatten().filter(|gap| gap.until > day);
        self.0 = std::array::from_fn(|_| kept.next());
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// As the schedule's row has it: `2026-02-10..2026-02-12 told, 2026-03-05..2026-03-20`.
impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, gap) in self.0.iter().flatten().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            let told = if gap.told { " told" } else { "" };
            write!(f, "{comma}{}..{}{told}", gap.from, gap.until)?;
        }
        Ok(())
    }
}

/// The text is not one that [`Gaps`] writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a list of days such as 2026-02-10..2026-02-12")]
pub struct NoGaps(String);

impl FromStr for Gaps {
    type Err = NoGaps;

    fn from_str(text: &str) -> Result<Self, NoGaps> {
        let gap = |part: &str| {
            let (days, told) = part.strip_suffix(" told").map_or((part, false), |days| (days, true));
            let (from, until) = days.split_once("..")?;
            Some(Gap { from: from.parse().ok()?, until: until.parse().ok()?, told })
        };
        let all: Option<Vec<Gap>> = text.split(", ").filter(|part| !part.is_empty()).map(gap).collect();
        let all = all.filter(|all| all.len() <= MOST).ok_or_else(|| NoGaps(text.to_owned()))?;
        Ok(Self(std::array::from_fn(|place| all.get(place).copied())))
    }
}
