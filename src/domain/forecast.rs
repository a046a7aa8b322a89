//! Sums, and what the past says of declines to come.

/// So many charges of so much together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    pub count: u64,
    /// Minor units.
    pub sum: i128,
}

impl Sum {
    pub fn add(&mut self, minor: i64) {
        self.count += 1;
        self.sum += i128::from(minor);
    }
}

/// What became of the newest closed charges: the only ground on which declines to come are ever estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// Paid or unpaid in the end.
    pub closed: Sum,
    /// Of them, declined at least once.
    pub declined: Sum,
    /// Of those, paid in the end.
    pub recovered: Sum,
}

impl History {
    /// Fewer closed charges say nothing about the next ones.
    pub const ENOUGH: u64 = 100;

    /// Minor units of `first` that are expected to be declined at their first try, and what of `declined` money is expected
    /// to come in all the same; `None` without enough history. Shares are of money, rounded down.
    pub fn estimate(&self, first: i128, in_dunning: i128) -> Option<Estimate> {
        if self.closed.count < Self::ENOUGH {
            return None;
        }
        let share = |sum: i128, part: i128, whole: i128| if whole == 0 { 0 } else { sum * part / whole };
        let declines = share(first, self.declined.sum, self.closed.sum);
        let recovers = |sum| share(sum, self.recovered.sum, self.declined.sum);
        Some(Estimate { declines, recovered_of_them: recovers(declines), recovered_of_dunning: recovers(in_dunning) })
    }
}

/// What history leads to expect, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    pub declines: i128,
    pub recovered_of_them: i128,
    pub recovered_of_dunning: i128,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declines_to_come_are_estimated_by_shares_of_money_and_only_from_enough_of_them() {
        let sum = |count, sum| Sum { count, sum };
        let history = History { closed: sum(200, 2_000_000), declined: sum(20, 200_000), recovered: sum(10, 150_000) };
        let estimate = Estimate { declines: 100_000, recovered_of_them: 75_000, recovered_of_dunning: 30_000 };
        assert_eq!(history.estimate(1_000_000, 40_000), Some(estimate));
        let few = History { closed: sum(History::ENOUGH - 1, 2_000_000), ..history };
        assert_eq!(few.estimate(1_000_000, 40_000), None);
        let never = History { declined: Sum::default(), recovered: Sum::default(), ..history };
        let none = Estimate { declines: 0, recovered_of_them: 0, recovered_of_dunning: 0 };
        assert_eq!(never.estimate(1_000_000, 40_000), Some(none), "nothing was ever declined: nothing is known of recoveries");
    }
}
