//! What this process has done for one account, counted as it does it: an addition or two, and no lock that anybody waits for.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::charge::{Charge, ChargeState};
use crate::domain::decline::Class;
use crate::domain::money::Money;
use crate::ports::metrics::list::LATENESS_BOUNDS;
use crate::ports::metrics::{Counter, Gauge, Histogram};

/// Plans that are told apart; charges of all others are counted as [`OTHER`].
const MOST_PLANS: usize = 50;
/// Currencies that are told apart. There are some 180; an account charges in a few.
const MOST_CURRENCIES: usize = 200;
pub const OTHER: &str = "other";

/// What became of a charge, or of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Paid,
    Doubt,
    Review,
    Unpaid,
    Void,
    /// One try.
    Declined(Class),
}

impl End {
    /// Ends without a class, in the order of their places.
    const PLAIN: [Self; 5] = [Self::Paid, Self::Doubt, Self::Review, Self::Unpaid, Self::Void];
    const PLACES: usize = Self::PLAIN.len() + Class::ALL.len();

    /// What a charge that has come to `state` counts as; `None`: it is on its way.
    pub fn of(state: ChargeState) -> Option<Self> {
        Some(match state {
            ChargeState::Due => return None,
            ChargeState::Doubt => Self::Doubt,
            ChargeState::Review => Self::Review,
            ChargeState::Paid => Self::Paid,
            ChargeState::Unpaid => Self::Unpaid,
            ChargeState::Void => Self::Void,
        })
    }

    pub fn outcome(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Doubt => "doubt",
            Self::Review => "review",
            Self::Unpaid => "unpaid",
            Self::Void => "void",
            Self::Declined(_) => "declined",
        }
    }

    pub fn class(self) -> &'static str {
        match self {
            Self::Declined(class) => class.name(),
            _ => "none",
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        Self::PLAIN.into_iter().chain(Class::ALL.into_iter().map(Self::Declined))
    }

    fn place(self) -> usize {
        Self::all().position(|end| end == self).unwrap_or_default()
    }
}

/// Counters by place of the end.
type Counts = [Counter; End::PLACES];

/// Counters by a name, of which there are so many at most.
#[derive(Debug, Default)]
struct Named(RwLock<BTreeMap<String, Arc<Counts>>>);

impl Named {
    fn add(&self, name: &str, most: usize, end: End, n: u64) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone);
        let counts = known.unwrap_or_else(|| {
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            let name = if all.len() < most || all.contains_key(name) { name } else { OTHER };
            Arc::clone(all.entry(name.to_owned()).or_default())
        });
        if let Some(counter) = counts.get(end.place()) {
            counter.add(n);
        }
    }

    /// Everything that is above 0.
    fn seen(&self) -> Vec<(String, End, u64)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let of = |(name, counts): (&String, &Arc<Counts>)| {
            let ends = End::all().zip(counts.iter()).map(|(end, counter)| (name.clone(), end, counter.get()));
            ends.filter(|(_, _, count)| *count > 0).collect::<Vec<_>>()
        };
        all.iter().flat_map(of).collect()
    }
}

/// Of one account, since this process started.
#[derive(Debug)]
pub struct Meters {
    /// POSTs made.
    pub sends: Counter,
    /// From when a charge was due to when it was sent.
    pub lateness: Histogram,
    /// When nothing was left to be looked up, in microseconds since the epoch; 0: not yet.
    pub reconciled: Gauge,
    plans: Named,
    amounts: Named,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            sends: Counter::default(),
            lateness: Histogram::new(LATENESS_BOUNDS),
            reconciled: Gauge::default(),
            plans: Named::default(),
            amounts: Named::default(),
        }
    }
}

impl Meters {
    /// Counts a send that leaves at `now`. `charge`: as it was claimed.
    pub fn sent(&self, charge: &Charge, now: Timestamp) {
        self.sends.add(1);
        let due_at = charge.next_at.unwrap_or(charge.due_at);
        // "at once", written by hand, does not say since when
        if due_at > Timestamp::UNIX_EPOCH {
            self.lateness.observe(Duration::try_from(now.duration_since(due_at)).unwrap_or(Duration::ZERO));
        }
    }

    /// Counts one end of a charge of a plan.
    pub fn count(&self, plan: &str, end: End, amount: Money) {
        self.plans.add(plan, MOST_PLANS, end, 1);
        let minor = u64::try_from(amount.minor()).unwrap_or_default();
        self.amounts.add(amount.currency().code(), MOST_CURRENCIES, end, minor);
    }

    /// How many charges of each plan came to each end.
    pub fn plans(&self) -> Vec<(String, End, u64)> {
        self.plans.seen()
    }

    /// Minor units of each currency, by outcome.
    pub fn amounts(&self) -> BTreeMap<(String, &'static str), u64> {
        let mut sums = BTreeMap::new();
        for (currency, end, minor) in self.amounts.seen() {
            *sums.entry((currency, end.outcome())).or_default() += minor;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_by_plan_and_class_and_amounts_by_outcome() {
        let meters = Meters::default();
        meters.count("monthly", End::Paid, Money::krw(9_900));
        meters.count("monthly", End::Declined(Class::SoftFunds), Money::krw(9_900));
        meters.count("yearly", End::Declined(Class::HardCard), Money::krw(99_000));
        let plans: Vec<_> =
            meters.plans().into_iter().map(|(plan, end, count)| (plan, end.outcome(), end.class(), count)).collect();
        let expected =
            [("monthly", "paid", "none", 1), ("monthly", "declined", "SOFT_FUNDS", 1), ("yearly", "declined", "HARD_CARD", 1)];
        assert_eq!(plans, expected.map(|(plan, outcome, class, count)| (plan.to_owned(), outcome, class, count)));
        let amounts = meters.amounts();
        assert_eq!(amounts[&("KRW".to_owned(), "paid")], 9_900);
        assert_eq!(amounts[&("KRW".to_owned(), "declined")], 108_900);
    }

    #[test]
    fn the_fifty_first_plan_and_all_after_it_are_counted_together() {
        let meters = Meters::default();
        for n in 0..200 {
            meters.count(&format!("plan-{n}"), End::Paid, Money::krw(1));
        }
        meters.count("plan-0", End::Paid, Money::krw(1));
        let plans = meters.plans();
        assert_eq!(plans.len(), MOST_PLANS + 1);
        assert!(plans.contains(&("plan-0".to_owned(), End::Paid, 2)));
        assert!(plans.contains(&(OTHER.to_owned(), End::Paid, 150)));
    }
}
