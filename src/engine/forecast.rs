//! Expected charges and sums, added up. Only sums are kept: ten million subscriptions take no more room than ten.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

use super::InForce;
use super::outlook::{Coming, End, Kind, outlook};
use crate::domain::forecast::Sum;
use crate::domain::lifecycle::Ending;
use crate::domain::money::Currency;
use crate::ports::store::Standing;

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
    /// That come to their end before the horizon, or have: the charges before it are counted.
    pub ended: u64,
    /// Subscriptions whose missed periods wait for an operator, and how many periods.
    pub missed: u64,
    pub missed_periods: u64,
    /// By what is wrong with the row or the config.
    pub problems: BTreeMap<String, u64>,
    /// Subscriptions whose next period waits for a person's ruling.
    pub in_review: u64,
    /// Charges in doubt or in review: they may have been paid.
    pub unclear: BTreeMap<Currency, Sum>,
    /// Charges that wait for a new card, or will.
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
    pub fn add(&mut self, standing: &Standing, in_force: &InForce) {
        let terms = &standing.schedule.terms;
        let ahead = outlook(standing, in_force, self.now, self.until);
        self.subscriptions += 1;
        let zone = in_force.catalog.zone_of_charge(&terms.account, &terms.plan, terms.zone.as_deref());
        for coming in &ahead.charges {
            let bucket = self.bucket(standing, coming, &zone);
            let currency = coming.amount.currency();
            for line in [self.lines.entry((bucket, currency)).or_default(), self.total.entry(currency).or_default()] {
                let sum = if coming.kind == Kind::Retry { &mut line.retries } else { &mut line.expected };
                sum.add(coming.amount.minor());
            }
        }
        let not = &mut self.not_counted;
        for coming in &ahead.without_card {
            not.without_card.entry(coming.amount.currency()).or_default().add(coming.amount.minor());
        }
        for pending in &ahead.undecided {
            not.unclear.entry(pending.amount.currency()).or_default().add(pending.amount.minor());
        }
        match ahead.end {
            End::Horizon => {}
            End::Paused => not.paused += 1,
            End::Ended(Ending::Cancelled) => not.cancelled += 1,
            End::Ended(_) => not.ended += 1,
            End::Missed(periods) => {
                not.missed += 1;
                not.missed_periods += u64::from(periods);
            }
            End::InReview => not.in_review += 1,
            End::Problem(problem) => *not.problems.entry(problem).or_default() += 1,
        }
    }

    fn bucket(&self, standing: &Standing, coming: &Coming, zone: &TimeZone) -> String {
        let day = || coming.at.to_zoned(zone.clone()).date();
        match self.by {
            By::Day => day().to_string(),
            By::Week => monday(day()).to_string(),
            By::Month => day().strftime("%Y-%m").to_string(),
            By::Plan => standing.schedule.terms.plan.clone(),
            By::Account => standing.schedule.terms.account.clone(),
        }
    }
}

fn monday(day: Date) -> Date {
    let since = day.weekday().since(Weekday::Monday);
    day.checked_sub(jiff::Span::new().days(since)).unwrap_or(day)
}
