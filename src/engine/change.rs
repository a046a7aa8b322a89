//! What a new config does to money, before it does it: every subscription's next charge, before and after. Only sums and the
//! largest changes are kept.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;

use super::InForce;
use super::outlook::outlook;
use crate::domain::charge::SubscriptionId;
use crate::domain::forecast::Sum;
use crate::domain::lifecycle::{self, next_period, seen};
use crate::domain::money::{Currency, Money};
use crate::domain::period::Period;
use crate::domain::subscription::Status;
use crate::ports::store::Standing;

/// The largest changes that are named.
const NAMED: usize = 10;
/// How far the comparison by day looks ahead.
pub const DAYS: i64 = 35;

/// A charge to come, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Charge { due_at: Timestamp, amount: Money, period: Period },
    None { problem: String },
}

impl Next {
    pub fn amount(&self) -> Option<Money> {
        match self {
            Self::Charge { amount, .. } => Some(*amount),
            Self::None { .. } => None,
        }
    }

    pub fn due_at(&self) -> Option<Timestamp> {
        match self {
            Self::Charge { due_at, .. } => Some(*due_at),
            Self::None { .. } => None,
        }
    }
}

/// One subscription whose next charge changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub subscription: SubscriptionId,
    pub account: String,
    pub external_ref: String,
    pub plan: String,
    pub before: Next,
    pub after: Next,
}

/// Minor units before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pair {
    pub before: Sum,
    pub after: Sum,
}

/// What a change of config comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effect {
    pub subscriptions: u64,
    /// Subscriptions whose next charge is another one: moved, of another amount, or for another period.
    pub changed: u64,
    pub moved: u64,
    pub repriced: u64,
    /// That could be billed before and cannot be any more; and the other way round.
    pub stopped: u64,
    pub started: u64,
    /// Next charges of those that change.
    pub next: BTreeMap<Currency, Pair>,
    /// By how much single next charges differ, up and down added up.
    pub difference: BTreeMap<Currency, i128>,
    /// Everything that is due within 35 days, by local day.
    pub days: BTreeMap<(Date, Currency), Pair>,
    /// The largest, largest first.
    pub largest: Vec<Change>,
}

impl Effect {
    /// Compares one subscription under two configs.
    pub fn add(&mut self, standing: &Standing, old: &InForce, new: &InForce, now: Timestamp) {
        self.subscriptions += 1;
        let terms = &standing.schedule.terms;
        if terms.status != Status::Active {
            return;
        }
        let until = now.checked_add(jiff::SignedDuration::from_hours(24 * DAYS)).unwrap_or(Timestamp::MAX);
        let same = is_same(standing, old, new);
        for (in_force, is_new) in [(old, false), (new, true)].into_iter().skip(usize::from(same)) {
            let zone = in_force.catalog.zone_of_charge(&terms.account, &terms.plan, terms.zone.as_deref());
            for coming in outlook(standing, in_force, now, until).charges {
                let day = coming.at.to_zoned(zone.clone()).date();
                let pair = self.days.entry((day, coming.amount.currency())).or_default();
                if is_new { &mut pair.after } else { &mut pair.before }.add(coming.amount.minor());
                if same {
                    pair.before.add(coming.amount.minor());
                }
            }
        }
        if same {
            return;
        }
        let (before, after) = (next(standing, old, now), next(standing, new, now));
        if before == after || matches!((&before, &after), (Next::None { .. }, Next::None { .. })) {
            return;
        }
        self.count(Change {
            subscription: terms.id,
            account: terms.account.clone(),
            external_ref: terms.external_ref.clone(),
            plan: terms.coming_plan().to_owned(),
            before,
            after,
        });
    }

    fn count(&mut self, change: Change) {
        self.changed += 1;
        match (&change.before, &change.after) {
            (Next::None { .. }, _) => self.started += 1,
            (_, Next::None { .. }) => self.stopped += 1,
            (before, after) => {
                self.moved += u64::from(before.due_at() != after.due_at());
                self.repriced += u64::from(before.amount() != after.amount());
            }
        }
        for (next, is_new) in [(&change.before, false), (&change.after, true)] {
            let Some(amount) = next.amount() else { continue };
            let pair = self.next.entry(amount.currency()).or_default();
            if is_new { &mut pair.after } else { &mut pair.before }.add(amount.minor());
        }
        for (currency, minor) in change.differences() {
            *self.difference.entry(currency).or_default() += minor;
        }
        let rank = change.rank();
        let place = self.largest.partition_point(|known| known.rank() >= rank);
        if place < NAMED {
            self.largest.insert(place, change);
            self.largest.truncate(NAMED);
        }
    }

    /// Whether it is more than may be taken without an operator's word.
    pub fn exceeds(&self, count: u64, sum: i64) -> bool {
        self.changed > count || self.difference.values().any(|difference| *difference > i128::from(sum))
    }
}

impl Change {
    /// By how much the next charge differs: in each currency, if that changes too.
    fn differences(&self) -> Vec<(Currency, i128)> {
        let (before, after) = (self.before.amount(), self.after.amount());
        match (before, after) {
            (Some(before), Some(after)) if before.currency() == after.currency() => {
                vec![(before.currency(), i128::from(after.minor().abs_diff(before.minor())))]
            }
            _ => [before, after].into_iter().flatten().map(|amount| (amount.currency(), i128::from(amount.minor()))).collect(),
        }
    }

    /// First by money, then by time.
    fn rank(&self) -> (i128, i64) {
        let money = self.differences().iter().map(|(_, minor)| *minor).max().unwrap_or(0);
        let seconds = match (self.before.due_at(), self.after.due_at()) {
            (Some(before), Some(after)) => after.duration_since(before).as_secs().abs(),
            _ => i64::MAX,
        };
        (money, seconds)
    }
}

/// Whether two configs say the same of a subscription.
pub fn is_same(standing: &Standing, old: &InForce, new: &InForce) -> bool {
    let terms = &standing.schedule.terms;
    let of =
        |in_force: &InForce| (in_force.catalog.plan(terms).ok().cloned(), in_force.catalog.accounts.get(&terms.account).cloned());
    of(old) == of(new) && old.tuning.windows == new.tuning.windows
}

/// The next period that opens under a config.
pub fn next(standing: &Standing, in_force: &InForce, now: Timestamp) -> Next {
    let (schedule, catalog) = (&standing.schedule, &in_force.catalog);
    let none = |problem: String| Next::None { problem };
    let progress = match seen(catalog, &schedule.terms, schedule.progress, schedule.known_since, schedule.was_paused, now) {
        Ok(progress) => progress,
        Err(problem) => return none(problem.to_string()),
    };
    match next_period(catalog, &schedule.terms, &progress) {
        Ok(lifecycle::Next::Period(next, _)) => Next::Charge { due_at: next.due_at, amount: next.amount, period: next.period },
        Ok(lifecycle::Next::Paused) => none("it is paused".to_owned()),
        Ok(lifecycle::Next::Ended { why, .. }) => none(format!("it has ended ({})", why.name())),
        Err(problem) => none(problem.to_string()),
    }
}
