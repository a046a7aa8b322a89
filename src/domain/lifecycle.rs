//! What a subscription does next: the one function that says so, for the daemon, a forecast and a person who asks why.
//!
//! [`next_period`] is pure and needs no database. It takes where a subscription stands ([`Progress`]) and returns the period
//! that opens next together with where the subscription stands after it, so that years can be walked through.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::calendar::{self, due_at};
use super::money::Money;
use super::period::Period;
use super::plan::{Catalog, Plan, Resume, TrialAnchor};
use super::price::{Cost, cost};
use super::subscription::{Status, Terms};

/// Where a subscription stands: what its schedule's row holds, and what a walk over its periods hands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Progress {
    /// Where the last opened period ends; `None`: none has opened.
    pub opened_until: Option<Date>,
    /// Periods before this local date are not opened: set when the row is first seen, and at the end of a pause.
    pub not_before: Option<Date>,
    /// What periods are counted from instead of the row's anchor: the end of a trial, of a pause, a change of plan.
    pub anchor: Option<Date>,
    /// Periods opened so far. Those that catching up has passed over do not count.
    pub periods: u32,
    /// A period has opened on the way since the terms were read: their adjustments are used up and `next_plan` is in force.
    /// Not kept: the rows say it.
    pub walked: bool,
}

/// What comes next for a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This period, and where the subscription stands once it has opened.
    Period(NextPeriod, Progress),
    /// Nothing, until the row changes.
    Paused,
    /// Nothing any more, from that local day on; `None`: from now on.
    Ended { why: Ending, on: Option<Date> },
}

/// Why nothing is billed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    Cancelled,
    CancelledAtPeriodEnd,
    EndsOn,
    MaxPeriods,
}

impl Ending {
    /// As it stands in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::CancelledAtPeriodEnd => "cancel_at_period_end",
            Self::EndsOn => "ends_on",
            Self::MaxPeriods => "max_periods",
        }
    }
}

/// The next period of a subscription, ready to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextPeriod {
    pub period: Period,
    pub due_at: Timestamp,
    /// Zero: discounts leave nothing, and the period is passed over without a charge.
    pub amount: Money,
    pub tax_free: Option<i64>,
    pub vat_amount: Option<i64>,
    /// The first charge of a trial: the day on which it ends.
    pub trial_end: Option<Date>,
    /// `next_plan` takes effect with this period.
    pub changes_plan: bool,
    /// The adjustments that it uses up.
    pub adjustments: Vec<i64>,
}

/// Why a subscription's row gives no next period: it waits until the row or the config is put right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("there is no plan `{0}`, neither in the config nor in the database")]
    NoPlan(String),
    #[error("plan `{plan}` of the database is wrong: {why}")]
    WrongPlan { plan: String, why: String },
    #[error("neither the subscription nor plan `{plan}` has a time zone, and account `{account}` is not in the config")]
    NoZone { plan: String, account: String },
    #[error("there is no time zone `{0}`")]
    UnknownZone(String),
    #[error("charge time `{0}` is not a time of day such as 10:00")]
    ChargeTime(String),
    #[error("neither the subscription nor its plan `{0}` has an amount")]
    NoAmount(String),
    #[error("the amount has to be above 0, and is {0}")]
    Amount(i64),
    #[error("tax_free and vat_amount are {parts} together, more than the amount of {amount}")]
    TaxParts { parts: i64, amount: i64 },
    #[error("discounts of {by} are larger than the next charge of {amount}: take one back, or give a smaller one")]
    Discounts { amount: Money, by: Money },
    #[error("the amount is too large to hold")]
    TooLarge,
    #[error("{0}")]
    Currency(String),
    #[error("the schedule leaves the calendar")]
    OffTheCalendar,
}

impl Catalog {
    /// The plan under which the next period of a subscription opens.
    ///
    /// # Errors
    /// No plan has that name, or its row in the database is wrong.
    pub fn plan(&self, terms: &Terms) -> Result<&Plan, Problem> {
        let name = terms.coming_plan();
        self.plans.get(name).ok_or_else(|| match self.wrong.get(name) {
            Some(why) => Problem::WrongPlan { plan: name.to_owned(), why: why.clone() },
            None => Problem::NoPlan(name.to_owned()),
        })
    }

    /// The zone in which a subscription's days are counted: its own, else the plan's, else the account's.
    ///
    /// # Errors
    /// It has none, or one that does not exist.
    pub fn zone(&self, terms: &Terms) -> Result<TimeZone, Problem> {
        let plan = self.plan(terms)?;
        match (&terms.zone, &plan.zone, self.accounts.get(&terms.account)) {
            (Some(name), _, _) => TimeZone::get(name).map_err(|_| Problem::UnknownZone(name.clone())),
            (None, Some(zone), _) => Ok(zone.clone()),
            (None, None, Some(account)) => Ok(account.zone.clone()),
            (None, None, None) => Err(Problem::NoZone { plan: plan.name.clone(), account: terms.account.clone() }),
        }
    }
}

impl Catalog {
    /// The zone in which a charge's hours are meant, whatever has become of its row and its plan since it opened.
    pub fn zone_of_charge(&self, account: &str, plan: &str, own: Option<&str>) -> TimeZone {
        let own = own.and_then(|name| TimeZone::get(name).ok());
        let of_plan = || self.plans.get(plan).and_then(|plan| plan.zone.clone());
        let of_account = || self.accounts.get(account).map(|account| account.zone.clone());
        own.or_else(of_plan).or_else(of_account).unwrap_or(TimeZone::UTC)
    }
}

/// The first day after the trial of a subscription that has never been billed; `None`: it has no trial.
pub fn trial_end(plan: &Plan, terms: &Terms) -> Option<Date> {
    // what the row says wins as a whole: `trial_days = 0` takes the plan's trial away
    let end = match (terms.trial_until, terms.trial_days) {
        (Some(until), _) => Some(until),
        (None, Some(days)) => calendar::trial_end(terms.anchor, days),
        (None, None) => plan.trial_until.or_else(|| calendar::trial_end(terms.anchor, plan.trial_days)),
    };
    end.filter(|end| *end > terms.anchor)
}

/// Where a subscription stands when it is looked at on a day. `resumed`: it was paused, or had ended, when it was last looked
/// at. The days of a pause are never charged for, not even once the pause is long over.
///
/// # Errors
/// Its days cannot be counted: there is no plan or no zone.
pub fn seen(catalog: &Catalog, terms: &Terms, progress: Progress, resumed: bool, now: Timestamp) -> Result<Progress, Problem> {
    let plan = catalog.plan(terms)?;
    let today = now.to_zoned(catalog.zone(terms)?).date();
    let not_before = match terms.starts_on.max(progress.not_before) {
        Some(day) if resumed => day.max(today),
        Some(day) => day,
        None if resumed => today,
        None => today.max(terms.anchor),
    };
    let mut progress = Progress { not_before: Some(not_before), ..progress };
    if resumed && terms.resume.unwrap_or(plan.resume) == Resume::Anchor && not_before == today {
        // only if days were lost: what is paid for, or free of charge, still runs its course
        let begins = || trial_end(plan, terms).unwrap_or(terms.anchor);
        let runs_until = progress.opened_until.unwrap_or_else(begins);
        if today > runs_until {
            progress.anchor = Some(today);
        }
    }
    Ok(progress)
}

/// The one function that says what a subscription does next.
///
/// - The next period starts where the last opened one ends, whatever has changed since. For a subscription that has never
///   been billed it is the end of its trial, or the first boundary on or after `not_before`; after a pause the latter too.
/// - `next_plan` counts from the day on which it takes effect, unless that is one of its boundaries anyway.
/// - An end wins over a period that would start on it.
///
/// # Errors
/// The row or the config is wrong.
pub fn next_period(catalog: &Catalog, terms: &Terms, progress: &Progress) -> Result<Next, Problem> {
    match terms.status {
        Status::Active => {}
        Status::Paused => return Ok(Next::Paused),
        Status::Cancelled => return Ok(Next::Ended { why: Ending::Cancelled, on: None }),
    }
    let plan = catalog.plan(terms)?;
    let trial_end = if progress.opened_until.is_none() { trial_end(plan, terms) } else { None };
    if terms.cancel_at_period_end {
        return Ok(Next::Ended { why: Ending::CancelledAtPeriodEnd, on: progress.opened_until.or(trial_end) });
    }
    if terms.max_periods.or(plan.max_periods).is_some_and(|most| progress.periods >= most) {
        return Ok(Next::Ended { why: Ending::MaxPeriods, on: progress.opened_until });
    }
    let (start, anchor) = start(plan, terms, progress, trial_end)?;
    if let Some(ends_on) = terms.ends_on.filter(|ends_on| start >= *ends_on) {
        return Ok(Next::Ended { why: Ending::EndsOn, on: Some(ends_on) });
    }
    let period = plan.recurrence.period_starting(anchor, start).ok_or(Problem::OffTheCalendar)?;
    let time = match &terms.charge_time {
        None => plan.charge_time,
        Some(text) => text.parse::<Time>().map_err(|_| Problem::ChargeTime(text.clone()))?,
    };
    let zone = catalog.zone(terms)?;
    let due_at = due_at(period.start, time, &zone, plan.banking, &plan.holidays).ok_or(Problem::OffTheCalendar)?;
    let adjustments = if progress.walked { &[] } else { terms.adjustments.as_slice() };
    let account = catalog.accounts.get(&terms.account);
    let Cost { amount, tax_free, vat_amount } =
        cost(plan, terms, account, period.start, adjustments.iter().map(|adjustment| adjustment.amount))?;
    let next = NextPeriod {
        period,
        due_at,
        amount,
        tax_free,
        vat_amount,
        trial_end: trial_end.filter(|end| *end == period.start),
        changes_plan: terms.next_plan.is_some() && !progress.walked,
        adjustments: adjustments.iter().map(|adjustment| adjustment.id).collect(),
    };
    let after = Progress {
        opened_until: Some(period.end),
        not_before: progress.not_before,
        anchor: (anchor != terms.anchor).then_some(anchor),
        periods: progress.periods.saturating_add(1),
        walked: true,
    };
    Ok(Next::Period(next, after))
}

/// Where the next period starts, and what it is counted from.
fn start(plan: &Plan, terms: &Terms, progress: &Progress, trial_end: Option<Date>) -> Result<(Date, Date), Problem> {
    let keeps_anchor = terms.trial_anchor.unwrap_or(plan.trial_anchor) == TrialAnchor::Keep;
    let anchor = progress.anchor.unwrap_or(match trial_end {
        Some(end) if !keeps_anchor => end,
        _ => terms.anchor,
    });
    let first_from = |date: Date| plan.recurrence.first_start_from(anchor, date).ok_or(Problem::OffTheCalendar);
    let not_before = progress.not_before.or(terms.starts_on).unwrap_or(anchor);
    match (progress.opened_until, trial_end) {
        (Some(end), _) if end >= not_before => {
            let counts_anew = terms.next_plan.is_some() && first_from(end)? != end;
            Ok((end, if counts_anew { end } else { anchor }))
        }
        (None, Some(end)) if not_before <= end && progress.anchor.is_none() => Ok((end, anchor)),
        _ => Ok((first_from(not_before)?, anchor)),
    }
}

/// Periods that fell due while nobody opened them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// How many, the latest included.
    pub count: u32,
    pub first: Period,
    pub latest: Period,
    /// What all of them would be charged; `None`: more than can be held.
    pub sum: Option<Money>,
    /// The same without the latest.
    pub before_latest: Option<Money>,
    /// Where the subscription stands if all but the latest are passed over, and if all are.
    pub at_latest: Progress,
    pub past_all: Progress,
}

/// Longer than any row is left alone: a period a day for 27 years.
const MOST_MISSED: u32 = 10_000;

/// The periods that have fallen due by `now` from where a subscription stands. `None`: none has.
///
/// Passing over uses up no adjustment and counts for no maximum, so both results keep what `progress` says of those.
///
/// # Errors
/// The row or the config is wrong.
pub fn missed(catalog: &Catalog, terms: &Terms, progress: &Progress, now: Timestamp) -> Result<Option<Missed>, Problem> {
    let mut found: Option<Missed> = None;
    let mut at = *progress;
    while let Next::Period(next, after) = next_period(catalog, terms, &at)? {
        if next.due_at > now || found.as_ref().is_some_and(|found| found.count >= MOST_MISSED) {
            break;
        }
        let kept = |at: &Progress| Progress { periods: progress.periods, walked: progress.walked, ..*at };
        let (at_latest, past_all) = (kept(&at), kept(&after));
        let period = next.period;
        found = Some(match found {
            None => Missed {
                count: 1,
                first: period,
                latest: period,
                sum: Some(next.amount),
                before_latest: None,
                at_latest,
                past_all,
            },
            Some(before) => Missed {
                count: before.count + 1,
                latest: period,
                before_latest: before.sum,
                sum: before.sum.and_then(|sum| sum.checked_add(next.amount).ok()),
                at_latest,
                past_all,
                ..before
            },
        });
        at = after;
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
