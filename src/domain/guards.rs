//! What looks wrong with an import: amounts, billing keys and dates that a slip of the hand would make.
//!
//! Only imports of many rows are weighed. A single sign-up is what it is, and is charged at once.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::money::{Currency, Money};

/// An import is weighed if more rows than this are new or change.
pub const ROWS: usize = 20;
/// An amount is far from another one if it is more than so many times as much, or less than that part of it.
pub const FAR: i64 = 3;
/// From so many amounts on there is a median to compare with.
pub const MEDIAN_OF: usize = 10;
/// A first charge within this time leaves nobody the time to look.
pub const SOON: SignedDuration = SignedDuration::from_hours(24);
/// First charges within this time of each other fall due together; more than half of all new rows is everything at once.
pub const TOGETHER: SignedDuration = SignedDuration::from_hours(1);

/// A row that is new or changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub plan: String,
    /// What a period costs, if this row sets it anew.
    pub amount: Option<Money>,
    /// What it would cost at the plan's own price.
    pub of_plan: Option<Money>,
    /// The billing key, if it is new to this row.
    pub key: Option<String>,
    /// Another subscription has it already.
    pub key_elsewhere: bool,
    /// When the first charge of a new row falls due.
    pub first_due: Option<Timestamp>,
}

/// Why a row is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suspicion {
    FarFromPlan { amount: Money, of_plan: Money },
    FarFromMedian { amount: Money, median: Money },
    KeyElsewhere,
    KeyTwice,
    AllAtOnce { together: usize, of: usize, at: Timestamp },
    Soon { at: Timestamp },
}

impl Suspicion {
    /// One word for machines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::FarFromPlan { .. } => "far_from_plan",
            Self::FarFromMedian { .. } => "far_from_median",
            Self::KeyElsewhere => "key_elsewhere",
            Self::KeyTwice => "key_twice",
            Self::AllAtOnce { .. } => "all_at_once",
            Self::Soon { .. } => "soon",
        }
    }
}

/// Weighs the new and changed rows of an import: what looks wrong with each, in their order.
pub fn weigh(candidates: &[Candidate], now: Timestamp) -> Vec<Vec<Suspicion>> {
    if candidates.len() <= ROWS {
        return vec![Vec::new(); candidates.len()];
    }
    let medians = medians(candidates);
    let mut keys: HashMap<&str, usize> = HashMap::new();
    for key in candidates.iter().filter_map(|candidate| candidate.key.as_deref()) {
        *keys.entry(key).or_default() += 1;
    }
    let mut dues: Vec<Timestamp> = candidates.iter().filter_map(|candidate| candidate.first_due).collect();
    dues.sort_unstable();
    let crowd = crowd(&dues).filter(|(_, together)| dues.len() > ROWS && together * 2 > dues.len());
    let soon = now.checked_add(SOON).unwrap_or(now);
    let of = |candidate: &Candidate| {
        let mut found = Vec::new();
        match (candidate.amount, candidate.of_plan) {
            (Some(amount), Some(of_plan)) if is_far(amount, of_plan) => {
                found.push(Suspicion::FarFromPlan { amount, of_plan });
            }
            (Some(amount), None) => {
                let median = medians.get(&(candidate.plan.as_str(), amount.currency().code().to_owned())).copied();
                if let Some(median) = median.filter(|median| is_far(amount, *median)) {
                    found.push(Suspicion::FarFromMedian { amount, median });
                }
            }
            _ => {}
        }
        if candidate.key_elsewhere {
            found.push(Suspicion::KeyElsewhere);
        }
        if candidate.key.as_deref().is_some_and(|key| keys.get(key).is_some_and(|count| *count > 1)) {
            found.push(Suspicion::KeyTwice);
        }
        if let Some(due) = candidate.first_due {
            if let Some((from, together)) = crowd
                && due >= from
                && due.duration_since(from) < TOGETHER
            {
                found.push(Suspicion::AllAtOnce { together, of: dues.len(), at: from });
            }
            if due < soon {
                found.push(Suspicion::Soon { at: due });
            }
        }
        found
    };
    candidates.iter().map(of).collect()
}

fn is_far(amount: Money, other: Money) -> bool {
    let (amount, other) = (i128::from(amount.minor()), i128::from(other.minor()));
    amount > other * i128::from(FAR) || amount * i128::from(FAR) < other
}

/// The median amount of each plan and currency whose own price is not known.
fn medians(candidates: &[Candidate]) -> BTreeMap<(&str, String), Money> {
    let mut amounts: BTreeMap<(&str, String), (Currency, Vec<i64>)> = BTreeMap::new();
    for candidate in candidates.iter().filter(|candidate| candidate.of_plan.is_none()) {
        let Some(amount) = candidate.amount else { continue };
        let currency = amount.currency();
        let all = amounts.entry((candidate.plan.as_str(), currency.code().to_owned())).or_insert((currency, Vec::new()));
        all.1.push(amount.minor());
    }
    let median = |(key, (currency, mut all)): (_, (Currency, Vec<i64>))| {
        if all.len() < MEDIAN_OF {
            return None;
        }
        all.sort_unstable();
        Some((key, Money::new(all[all.len() / 2], currency)))
    };
    amounts.into_iter().filter_map(median).collect()
}

/// The span of [`TOGETHER`] that most of some sorted instants lie in: where it begins, and how many there are.
fn crowd(dues: &[Timestamp]) -> Option<(Timestamp, usize)> {
    let mut until = 0;
    let counted = dues.iter().enumerate().map(|(from, due)| {
        while dues.get(until).is_some_and(|later| later.duration_since(*due) < TOGETHER) {
            until += 1;
        }
        (*due, until - from)
    });
    // the earliest of equals
    counted.fold(None, |best, one| if best.is_none_or(|(_, most)| one.1 > most) { Some(one) } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn won(minor: i64) -> Money {
        Money::new(minor, Currency::KRW)
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_796_086_800).unwrap()
    }

    /// Rows that nothing is wrong with: one a day, from two days on.
    fn fine(count: usize) -> Vec<Candidate> {
        let candidate = |n: usize| Candidate {
            plan: "monthly".to_owned(),
            amount: Some(won(9_900)),
            of_plan: Some(won(9_900)),
            key: Some(format!("card-{n}")),
            key_elsewhere: false,
            first_due: Some(now() + SignedDuration::from_hours(48 + 24 * n as i64)),
        };
        (0..count).map(candidate).collect()
    }

    /// What is found, by row.
    fn found(candidates: &[Candidate]) -> Vec<(usize, &'static str)> {
        let weighed = weigh(candidates, now());
        weighed.iter().enumerate().flat_map(|(row, all)| all.iter().map(move |one| (row, one.name()))).collect()
    }

    #[test]
    fn what_is_fine_is_not_held() {
        assert_eq!(found(&fine(500)), []);
    }

    #[test]
    fn twenty_rows_are_taken_as_they_are() {
        let wrong = |count| {
            let mut rows = fine(count);
            rows[3].amount = Some(won(99_000_000));
            rows
        };
        assert_eq!(found(&wrong(20)), []);
        assert_eq!(found(&wrong(21)), [(3, "far_from_plan")]);
    }

    #[test]
    fn an_amount_is_far_beyond_three_times_and_below_a_third() {
        for (amount, far) in [(29_700, false), (29_701, true), (3_300, false), (3_299, true), (99_000, true), (990, true)] {
            let mut rows = fine(30);
            rows[7].amount = Some(won(amount));
            assert_eq!(!found(&rows).is_empty(), far, "{amount} against 9900");
        }
    }

    #[test]
    fn without_a_price_of_the_plan_the_median_is_what_is_usual() {
        let mut rows = fine(30);
        for row in &mut rows {
            row.of_plan = None;
        }
        rows[4].amount = Some(won(990_000));
        assert_eq!(found(&rows), [(4, "far_from_median")]);
        // of another plan there are too few to say what is usual
        rows[4].plan = "own".to_owned();
        assert_eq!(found(&rows), []);
    }

    #[test]
    fn a_key_of_another_subscription_and_one_that_is_there_twice_are_held() {
        let mut rows = fine(30);
        rows[2].key_elsewhere = true;
        rows[9].key = Some("card-8".to_owned());
        assert_eq!(found(&rows), [(2, "key_elsewhere"), (8, "key_twice"), (9, "key_twice")]);
    }

    #[test]
    fn a_first_charge_within_a_day_is_held() {
        let mut rows = fine(30);
        rows[0].first_due = Some(now() + SOON);
        rows[1].first_due = Some(now() + SOON - SignedDuration::from_secs(1));
        rows[2].first_due = Some(now() - SignedDuration::from_hours(1000));
        assert_eq!(found(&rows), [(1, "soon"), (2, "soon")]);
    }

    #[test]
    fn more_than_half_within_an_hour_is_everything_at_once() {
        let mut rows = fine(40);
        let noon = now() + SignedDuration::from_hours(2000);
        for (n, row) in rows.iter_mut().take(20).enumerate() {
            row.first_due = Some(noon + SignedDuration::from_mins(n as i64));
        }
        assert_eq!(found(&rows), [], "half is not more than half");
        rows[20].first_due = Some(noon + SignedDuration::from_mins(59));
        assert_eq!(found(&rows), (0..21).map(|row| (row, "all_at_once")).collect::<Vec<_>>());
        rows[20].first_due = Some(noon + SignedDuration::from_mins(60));
        assert_eq!(found(&rows), []);
    }
}
