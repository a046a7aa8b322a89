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

mod gaps;
mod passed;

pub use gaps::{Gap, Gaps, NoGaps};
pub use passed::{Passed, PassedWhy};

/// Where a subscription stands: what its schedule's row holds, and what a walk over its periods hands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Progress {
    /// Where the last opened period ends; `None`: none has opened.
    pub opened_until: Option<Date>,
    /// Periods before this local date are not opened: the day on which the row was written, unless it says another; after a
    /// pause that has passed periods over, the day of the return.
    pub not_before: Option<Date>,
    /// The day on which it was paused or ended, while it is.
    pub stopped_on: Option<Date>,
    /// The days of pauses that are over, as long as a period could still start in them.
    pub gaps: Gaps,
    /// What periods are counted from instead of the row's anchor: the end of a trial, of a pause, a change of plan.
    pub anchor: Option<Date>,
    /// Periods opened so far. Those that catching up has passed over do not count.
    pub periods: u32,
    /// A period has opened on the way since the terms were read: their adjustments are used up and `next_plan` is in force.
    /// Not kept: the rows say it.
    pub walked: bool,
}

impl Progress {
    /// The local day before which no further period starts, if it is later than where the last one ends.
    pub fn first_day(&self, terms: &Terms) -> Option<Date> {
        let day = terms.starts_on.max(self.not_before);
        let gap = self.opened_until.max(day).and_then(|from| self.gaps.around(from));
        day.max(gap.map(|gap| gap.until))
    }

    /// Taken up again on a day: a period that starts from the day of the pause on and before that day is never charged.
    pub fn resumed(mut self, today: Date) -> Self {
        // one that a release before this one has parked: that owed nothing at all
        let from = self.stopped_on.take().or(self.opened_until).unwrap_or(Date::MIN);
        self.gaps.add(from, today);
        self
    }
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
    #[error("{0}")]
    Unreadable(String),
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
    /// No plan has that name, its row in the database is wrong, or the terms could not be read as a whole.
    pub fn plan(&self, terms: &Terms) -> Result<&Plan, Problem> {
        if let Some(why) = &terms.unreadable {
            return Err(Problem::Unreadable(why.clone()));
        }
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

/// Where a subscription stands when it is looked at. `written`: when its row was made. `resumed`: it was paused, or had ended,
/// when it was last looked at.
///
/// # Errors
/// Its days cannot be counted: there is no plan or no zone.
pub fn seen(
    catalog: &Catalog,
    terms: &Terms,
    progress: Progress,
    written: Timestamp,
    resumed: bool,
    now: Timestamp,
) -> Result<Progress, Problem> {
    let zone = catalog.zone(terms)?;
    let day_of = |at: Timestamp| at.to_zoned(zone.clone()).date();
    // what falls due while a row waits to be put right is owed, and so is what follows a period that has opened
    let first = || progress.opened_until.unwrap_or_else(|| day_of(written).max(terms.anchor));
    let not_before = terms.starts_on.max(progress.not_before).unwrap_or_else(first);
    let progress = Progress { not_before: Some(not_before), ..progress };
    Ok(if resumed { progress.resumed(day_of(now)) } else { progress })
}

/// The one function that says what a subscription does next.
///
/// - The next period starts where the last opened one ends, whatever has changed since. For a subscription that has never
///   been billed it is the end of its trial, or the first boundary on or after `not_before`.
/// - A start in a gap is passed over: the next one is the first boundary after the gap, or the day of the return.
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
    let Settled { start, anchor, gaps, not_before, .. } = settle(plan, terms, progress, trial_end)?;
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
        not_before,
        stopped_on: progress.stopped_on,
        gaps,
        anchor: (anchor != terms.anchor).then_some(anchor),
        periods: progress.periods.saturating_add(1),
        walked: true,
    };
    Ok(Next::Period(next, after))
}

/// Periods that start in a gap, and are never charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassedOver {
    pub count: u32,
    pub first: Date,
    /// Where the next period starts.
    pub until: Date,
    /// Where the subscription stands once that has been told.
    pub after: Progress,
}

/// What the gaps of a subscription pass over next and nobody has been told of. `None`: nothing, or a period from before the
/// gap comes first.
///
/// # Errors
/// The row or the config is wrong.
pub fn passed_over(catalog: &Catalog, terms: &Terms, progress: &Progress) -> Result<Option<PassedOver>, Problem> {
    if progress.gaps.is_empty() {
        return Ok(None);
    }
    let plan = catalog.plan(terms)?;
    let trial_end = if progress.opened_until.is_none() { trial_end(plan, terms) } else { None };
    let settled = settle(plan, terms, progress, trial_end)?;
    let after =
        Progress { not_before: settled.not_before, gaps: settled.gaps, anchor: settled.moved.or(progress.anchor), ..*progress };
    Ok(settled.passed.map(|(count, first)| PassedOver { count, first, until: settled.start, after }))
}

/// Where the next period starts.
struct Settled {
    start: Date,
    /// What it is counted from.
    anchor: Date,
    /// The anchor that the end of a pause has set.
    moved: Option<Date>,
    /// The gaps and the first day from then on.
    gaps: Gaps,
    not_before: Option<Date>,
    /// Periods that are passed over and have not been told, and the start of the first one.
    passed: Option<(u32, Date)>,
}

fn settle(plan: &Plan, terms: &Terms, progress: &Progress, trial_end: Option<Date>) -> Result<Settled, Problem> {
    let mut at = *progress;
    let (mut passed, mut moved, mut floor) = (None, None, Date::MIN);
    let (start, anchor) = loop {
        let (start, anchor) = start(plan, terms, &at, trial_end, floor)?;
        let Some(gap) = at.gaps.around(start) else { break (start, anchor) };
        floor = gap.until;
        if gap.told {
            continue;
        }
        let (mut count, mut day) = (0, start);
        while day < gap.until && count < MOST_MISSED {
            day = plan.recurrence.period_starting(anchor, day).ok_or(Problem::OffTheCalendar)?.end;
            count += 1;
        }
        let (before, first) = passed.unwrap_or((0, start));
        passed = Some((before + count, first));
        at.gaps.tell(gap);
        at.not_before = at.not_before.max(Some(gap.until));
        if terms.resume.unwrap_or(plan.resume) == Resume::Anchor {
            // only here, where days were lost: what is paid for, or free of charge, runs its course
            moved = Some(gap.until);
            at.anchor = moved;
        }
    };
    if let Some(end) = at.opened_until {
        at.gaps.forget_until(end);
    }
    Ok(Settled { start, anchor, moved, gaps: at.gaps, not_before: at.not_before, passed })
}

/// Where the next period starts if no gap is in the way, and what it is counted from. Not before `floor`.
fn start(plan: &Plan, terms: &Terms, progress: &Progress, trial_end: Option<Date>, floor: Date) -> Result<(Date, Date), Problem> {
    let keeps_anchor = terms.trial_anchor.unwrap_or(plan.trial_anchor) == TrialAnchor::Keep;
    let anchor = progress.anchor.unwrap_or(match trial_end {
        Some(end) if !keeps_anchor => end,
        _ => terms.anchor,
    });
    let first_from = |date: Date| plan.recurrence.first_start_from(anchor, date).ok_or(Problem::OffTheCalendar);
    let not_before = progress.not_before.or(terms.starts_on).unwrap_or(anchor).max(floor);
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
