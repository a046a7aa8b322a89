//! Expected charges and sums, added up. Only sums are kept: ten million subscriptions take no more room than ten.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

use super::charge::ChargeState;
use super::money::Currency;
use super::outlook::{Coming, End, Kind, Standing, outlook};
use super::plan::Plan;

/// What the lines of a forecast stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum By {
    Day,
    /// By the Monday that it begins with.
    Week,
    Month,
    Plan,
    Account,
}

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

/// One line of a forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    /// First tries.
    pub expected: Sum,
    /// Next tries of charges that are in dunning now, at their full amounts.
    pub retries: Sum,
}

/// What is not counted, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NotCounted {
    pub paused: u64,
    pub cancelled: u64,
    /// By what is wrong with the row or the config.
    pub problems: BTreeMap<String, u64>,
    /// Subscriptions whose next period waits for a person's ruling.
    pub in_review: u64,
    /// Charges in doubt or in review: they may have been paid.
    pub unclear: BTreeMap<Currency, Sum>,
    /// Charges that wait for a new card.
    pub without_card: BTreeMap<Currency, Sum>,
}

/// Expected charges from `now` up to `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    pub by: By,
    pub now: Timestamp,
    pub until: Timestamp,
    pub lines: BTreeMap<(String, Currency), Line>,
    pub total: BTreeMap<Currency, Line>,
    pub subscriptions: u64,
    pub not_counted: NotCounted,
}

impl Forecast {
    pub fn new(by: By, now: Timestamp, until: Timestamp) -> Self {
        Self {
            by,
            now,
            until,
            lines: BTreeMap::new(),
            total: BTreeMap::new(),
            subscriptions: 0,
            not_counted: NotCounted::default(),
        }
    }

    /// Adds what is to come of one subscription.
    pub fn add(&mut self, standing: &Standing, plans: &BTreeMap<String, Plan>) {
        let plan = plans.get(&standing.terms.plan);
        let ahead = outlook(standing, plan, self.now, self.until);
        self.subscriptions += 1;
        let zone = plan.and_then(|plan| standing.terms.zone(plan).ok()).unwrap_or(TimeZone::UTC);
        for coming in &ahead.charges {
            let bucket = self.bucket(standing, coming, &zone);
            let currency = coming.amount.currency();
            for line in [self.lines.entry((bucket, currency)).or_default(), self.total.entry(currency).or_default()] {
                let sum = if coming.kind == Kind::Retry { &mut line.retries } else { &mut line.expected };
                sum.add(coming.amount.minor());
            }
        }
        let not = &mut self.not_counted;
        for pending in &ahead.unclear {
            let sums = if pending.state == ChargeState::Due { &mut not.without_card } else { &mut not.unclear };
            sums.entry(pending.amount.currency()).or_default().add(pending.amount.minor());
        }
        match ahead.end {
            End::Horizon => {}
            End::Paused => not.paused += 1,
            End::Cancelled => not.cancelled += 1,
            End::InReview => not.in_review += 1,
            End::Problem(problem) => *not.problems.entry(problem.to_string()).or_default() += 1,
            End::NoPlan(name) => *not.problems.entry(no_plan(&name)).or_default() += 1,
        }
    }

    fn bucket(&self, standing: &Standing, coming: &Coming, zone: &TimeZone) -> String {
        let day = || coming.at.to_zoned(zone.clone()).date();
        match self.by {
            By::Day => day().to_string(),
            By::Week => monday(day()).to_string(),
            By::Month => day().strftime("%Y-%m").to_string(),
            By::Plan => standing.terms.plan.clone(),
            By::Account => standing.terms.account.clone(),
        }
    }
}

/// What is wrong with a subscription whose plan the config does not have.
pub fn no_plan(name: &str) -> String {
    format!("there is no plan `{name}` in the config")
}

fn monday(day: Date) -> Date {
    let since = day.weekday().since(Weekday::Monday);
    day.checked_sub(jiff::Span::new().days(since)).unwrap_or(day)
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
