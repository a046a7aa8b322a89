//! What a new config does to money, before it does it: every subscription's next charge and what is to come of it within 35
//! days, before and after. Only sums and the largest changes are kept.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::InForce;
use super::outlook::{Coming, End, Outlook, outlook};
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

/// One subscription of which a charge to come changes: its next one or, if that stays, the first that does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub subscription: SubscriptionId,
    pub account: String,
    pub external_ref: String,
    pub plan: String,
    pub before: Next,
    pub after: Next,
    /// By how much the charges of the days ahead differ.
    ahead: BTreeMap<Currency, i128>,
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
    /// Subscriptions of which a charge to come is another one: the next one, or one within 35 days is moved, of another
    /// amount, or for another period. What follows counts the first such charge of each.
    pub changed: u64,
    pub moved: u64,
    pub repriced: u64,
    /// That could be billed before and cannot be any more; and the other way round.
    pub stopped: u64,
    pub started: u64,
    /// First charges that change.
    pub next: BTreeMap<Currency, Pair>,
    /// By how much these differ, up and down added up.
    pub difference: BTreeMap<Currency, i128>,
    /// By how much single charges within 35 days differ, up and down added up: the first with the first, and so on. One that
    /// the other config does not make within them counts whole.
    pub ahead: BTreeMap<Currency, i128>,
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
        let after = outlook(standing, new, now, until);
        if is_same(standing, old, new) {
            self.add_days(standing, new, &after.charges, |pair, minor| {
                pair.before.add(minor);
                pair.after.add(minor);
            });
            return;
        }
        let before = outlook(standing, old, now, until);
        self.add_days(standing, old, &before.charges, |pair, minor| pair.before.add(minor));
        self.add_days(standing, new, &after.charges, |pair, minor| pair.after.add(minor));
        let mut first = (next(standing, old, now), next(standing, new, now));
        if first.0 == first.1 || matches!(first, (Next::None { .. }, Next::None { .. })) {
            let zones = [old, new].map(|in_force| zone(standing, in_force));
            let Some(differing) = first_difference((&before, &zones[0]), (&after, &zones[1])) else { return };
            first = differing;
        }
        self.count(Change {
            subscription: terms.id,
            account: terms.account.clone(),
            external_ref: terms.external_ref.clone(),
            plan: terms.coming_plan().to_owned(),
            before: first.0,
            after: first.1,
            ahead: differences_ahead(&before.charges, &after.charges),
        });
    }

    fn add_days(&mut self, standing: &Standing, in_force: &InForce, charges: &[Coming], add: impl Fn(&mut Pair, i64)) {
        let zone = zone(standing, in_force);
        for coming in charges {
            let day = coming.at.to_zoned(zone.clone()).date();
            add(self.days.entry((day, coming.amount.currency())).or_default(), coming.amount.minor());
        }
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
        for (currency, minor) in differences(change.before.amount(), change.after.amount()) {
            *self.difference.entry(currency).or_default() += minor;
        }
        for (currency, minor) in &change.ahead {
            *self.ahead.entry(*currency).or_default() += minor;
        }
        let rank = change.rank();
        let place = self.largest.partition_point(|known| known.rank() >= rank);
        if place < NAMED {
            self.largest.insert(place, change);
            self.largest.truncate(NAMED);
        }
    }

    /// By how much charges differ, for each currency: the first ones that change or all within 35 days, whichever is more.
    pub fn weight(&self) -> BTreeMap<Currency, i128> {
        let mut most = self.ahead.clone();
        for (currency, minor) in &self.difference {
            let known = most.entry(*currency).or_default();
            *known = (*known).max(*minor);
        }
        most
    }

    /// Whether it is more than may be taken without an operator's word.
    pub fn exceeds(&self, count: u64, sum: i64) -> bool {
        self.changed > count || self.weight().values().any(|minor| *minor > i128::from(sum))
    }
}

impl Change {
    /// First by money, then by time.
    fn rank(&self) -> (i128, i64) {
        let first = differences(self.before.amount(), self.after.amount());
        let money = first.iter().map(|(_, minor)| minor).chain(self.ahead.values()).max().copied().unwrap_or(0);
        let seconds = match (self.before.due_at(), self.after.due_at()) {
            (Some(before), Some(after)) => after.duration_since(before).as_secs().abs(),
            _ => i64::MAX,
        };
        (money, seconds)
    }
}

/// By how much one charge differs from another, or from none: in each currency, if that changes too.
fn differences(before: Option<Money>, after: Option<Money>) -> Vec<(Currency, i128)> {
    match (before, after) {
        (Some(before), Some(after)) if before.currency() == after.currency() => {
            vec![(before.currency(), i128::from(after.minor().abs_diff(before.minor())))]
        }
        _ => [before, after].into_iter().flatten().map(|amount| (amount.currency(), i128::from(amount.minor()))).collect(),
    }
}

fn differences_ahead(before: &[Coming], after: &[Coming]) -> BTreeMap<Currency, i128> {
    let mut sums = BTreeMap::new();
    let amount = |charges: &[Coming], place: usize| charges.get(place).map(|coming| coming.amount);
    for place in 0..before.len().max(after.len()) {
        for (currency, minor) in differences(amount(before, place), amount(after, place)) {
            *sums.entry(currency).or_default() += minor;
        }
    }
    sums
}

/// The first place at which two outlooks part: by period, amount, due time, or the local day on which it is asked for.
fn first_difference((before, old_zone): (&Outlook, &TimeZone), (after, new_zone): (&Outlook, &TimeZone)) -> Option<(Next, Next)> {
    let what =
        |coming: &Coming, zone: &TimeZone| (coming.period, coming.amount, coming.due_at, coming.at.to_zoned(zone.clone()).date());
    let told = |coming: Option<&Coming>, end: &End, by_day: bool| match coming {
        Some(Coming { at, due_at, period, amount, .. }) => {
            Next::Charge { due_at: if by_day { *at } else { *due_at }, amount: *amount, period: *period }
        }
        None => Next::None { problem: end.to_string() },
    };
    for place in 0..before.charges.len().max(after.charges.len()) {
        let (one, other) = (before.charges.get(place), after.charges.get(place));
        if one.map(|coming| what(coming, old_zone)) != other.map(|coming| what(coming, new_zone)) {
            // what falls due as before and has to wait for another day
            let by_day = one.map(|one| (one.due_at, one.amount)) == other.map(|other| (other.due_at, other.amount));
            return Some((told(one, &before.end, by_day), told(other, &after.end, by_day)));
        }
    }
    None
}

/// The zone of the days on which a subscription is charged.
fn zone(standing: &Standing, in_force: &InForce) -> TimeZone {
    let terms = &standing.schedule.terms;
    in_force.catalog.zone_of_charge(&terms.account, &terms.plan, terms.zone.as_deref())
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
