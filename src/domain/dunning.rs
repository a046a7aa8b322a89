//! Dunning: the days-long schedule of tries after a decline.

use jiff::{SignedDuration, Timestamp};

use super::decline::Class;

/// When to try again, as offsets from the first decline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    steps: Vec<SignedDuration>,
}

impl Default for Ladder {
    /// 1, 3, 5 and 7 days from the first decline.
    fn default() -> Self {
        Self { steps: [1, 3, 5, 7].map(|days| SignedDuration::from_hours(days * 24)).to_vec() }
    }
}

impl Ladder {
    /// When the try after `tried` declined ones falls due. `None` once the ladder is used up: the charge becomes unpaid.
    ///
    /// With the default ladder: 1 day, 3 days, 5 days, 7 days after the first decline, then `None`. Texts that nobody
    /// knows, and those that had to be looked up, get the shortest ladder: its first step only.
    pub fn next_try(&self, tried: u8, first_declined_at: Timestamp, class: Class) -> Option<Timestamp> {
        let steps = match class {
            Class::Unknown | Class::Ambiguous => self.steps.get(..1).unwrap_or_default(),
            _ => self.steps.as_slice(),
        };
        let step = steps.get(usize::from(tried.checked_sub(1)?))?;
        first_declined_at.checked_add(*step).ok()
    }

    /// Until when a charge waits for a new card before it becomes unpaid.
    pub fn give_up_at(&self, first_declined_at: Timestamp) -> Timestamp {
        let last = self.steps.last().copied().unwrap_or(SignedDuration::ZERO);
        first_declined_at.checked_add(last).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_counts_from_the_first_decline() {
        let first: Timestamp = "2026-12-01T01:00:00Z".parse().unwrap();
        let ladder = Ladder::default();
        let days = |tried, class| ladder.next_try(tried, first, class).map(|at| at.duration_since(first).as_hours() / 24);
        assert_eq!([1, 2, 3, 4, 5].map(|tried| days(tried, Class::SoftFunds)), [Some(1), Some(3), Some(5), Some(7), None]);
        assert_eq!([1, 2].map(|tried| days(tried, Class::Unknown)), [Some(1), None]);
        assert_eq!(days(0, Class::SoftFunds), None);
    }
}
