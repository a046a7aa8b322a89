//! What is to come of a subscription: the charges that follow from its row, its schedule and its unresolved charges.
//!
//! Nothing here has an opinion of its own on dates or amounts: the function that opens periods is asked for one period after
//! the other. `forecast`, `config plan` and `explain` all look ahead through this file.

use jiff::Timestamp;
use jiff::civil::Date;

use super::charge::{ChargeState, Waiting};
use super::money::Money;
use super::period::Period;
use super::plan::{Plan, WhilePastDue};
use super::subscription::{Problem, Status, Terms};

/// A charge that has opened and is not final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub period: Period,
    pub due_at: Timestamp,
    pub amount: Money,
    pub state: ChargeState,
    pub waiting: Waiting,
    pub next_at: Option<Timestamp>,
    /// Declined tries so far.
    pub tries: u8,
}

/// A subscription as it stands: everything that its future follows from, apart from its plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    pub terms: Terms,
    /// Where the last opened period ends.
    pub opened_until: Option<Date>,
    pub not_before: Option<Date>,
    /// Whether its schedule is parked because it was paused or cancelled.
    pub was_paused: bool,
    /// Oldest period first.
    pub pending: Vec<Pending>,
}

/// What kind of charge is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Its period has not opened yet.
    Period,
    /// Its period has opened; no try has been declined.
    Opened,
    /// A try was declined: the next step of the ladder.
    Retry,
}

/// A charge to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coming {
    /// When it will be asked for, if nothing stops it: its due time, or later if it has to wait for another charge.
    pub at: Timestamp,
    pub due_at: Timestamp,
    pub period: Period,
    pub amount: Money,
    pub kind: Kind,
}

/// Why nothing more is to come before the horizon, or at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Horizon,
    Paused,
    Cancelled,
    /// A charge is in review and the plan holds the next period until a person has decided.
    InReview,
    Problem(Problem),
    NoPlan(String),
}

/// What is to come of one subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    pub charges: Vec<Coming>,
    /// Charges that may or may not be paid: in doubt, in review, waiting for a new card.
    pub unclear: Vec<Pending>,
    pub end: End,
}

/// Looks ahead to `until`.
///
/// It takes every try for paid at the first go: then a period that waits for another charge opens at that charge's next
/// try. A doubt is taken for ended now; a charge that waits for a new card is taken for given up when its time is over.
pub fn outlook(standing: &Standing, plan: Option<&Plan>, now: Timestamp, until: Timestamp) -> Outlook {
    let mut ahead = Outlook { charges: Vec::new(), unclear: Vec::new(), end: End::Horizon };
    match standing.terms.status {
        Status::Active => {}
        Status::Paused => {
            ahead.end = End::Paused;
            return ahead;
        }
        Status::Cancelled => {
            ahead.end = End::Cancelled;
            return ahead;
        }
    }
    let (mut free_from, mut in_review) = (now, false);
    for pending in &standing.pending {
        let at = pending.next_at.unwrap_or(now).max(now);
        match (pending.state, pending.waiting) {
            (ChargeState::Due, Waiting::Card) => {
                ahead.unclear.push(pending.clone());
                free_from = free_from.max(at);
            }
            (ChargeState::Due, _) => {
                let kind = if pending.tries > 0 { Kind::Retry } else { Kind::Opened };
                free_from = free_from.max(at);
                if at < until {
                    let Pending { period, due_at, amount, .. } = *pending;
                    ahead.charges.push(Coming { at, due_at, period, amount, kind });
                }
            }
            (state, _) => {
                in_review |= state == ChargeState::Review;
                ahead.unclear.push(pending.clone());
            }
        }
    }
    let Some(plan) = plan else {
        ahead.end = End::NoPlan(standing.terms.plan.clone());
        return ahead;
    };
    let holds = plan.while_past_due == WhilePastDue::Hold;
    if holds && in_review {
        ahead.end = End::InReview;
        return ahead;
    }
    let mut free_from = if holds { free_from } else { now };
    match Ahead::begin(standing, plan, now) {
        Err(problem) => ahead.end = End::Problem(problem),
        Ok(periods) => {
            for next in periods {
                let next = match next {
                    Ok(next) => next,
                    // the calendar's end ends the schedule, not the charges before it
                    Err(problem) => {
                        ahead.end = End::Problem(problem);
                        break;
                    }
                };
                let at = next.due_at.max(free_from);
                if at >= until {
                    break;
                }
                // read a moment later than the schedule, a period may have opened meanwhile
                if standing.pending.iter().any(|pending| pending.period.start == next.period.start) {
                    continue;
                }
                free_from = if holds { at } else { now };
                let super::subscription::NextPeriod { period, due_at, amount, .. } = next;
                ahead.charges.push(Coming { at, due_at, period, amount, kind: Kind::Period });
            }
        }
    }
    ahead
}

/// The periods of a subscription that have not opened, one after the other.
pub struct Ahead<'a> {
    terms: &'a Terms,
    plan: &'a Plan,
    opened_until: Option<Date>,
    not_before: Date,
    ended: bool,
}

impl<'a> Ahead<'a> {
    /// As the engine would see it if it looked at `now`.
    pub fn begin(standing: &'a Standing, plan: &'a Plan, now: Timestamp) -> Result<Self, Problem> {
        let Standing { terms, opened_until, not_before, was_paused, .. } = standing;
        let today = now.to_zoned(terms.zone(plan)?).date();
        let not_before = terms.not_before(*not_before, *was_paused, today);
        Ok(Self { terms, plan, opened_until: *opened_until, not_before, ended: false })
    }
}

impl Iterator for Ahead<'_> {
    type Item = Result<super::subscription::NextPeriod, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.terms.next_period(self.plan, self.opened_until, self.not_before);
        match &next {
            Ok(next) => self.opened_until = Some(next.period.end),
            Err(_) => self.ended = true,
        }
        Some(next)
    }
}
