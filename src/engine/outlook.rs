//! What is to come of a subscription: the charges that follow from its row, its schedule and its unresolved charges.
//!
//! Nothing here has an opinion of its own on dates, amounts or waits: the function that opens periods ([`super::open`]) is asked
//! what it would do, at one instant after the other. `forecast`, `config plan` and `explain` all look ahead through this file.

use jiff::Timestamp;

use super::InForce;
use super::open::{seed, step};
use crate::domain::charge::{ChargeState, Waiting};
use crate::domain::lifecycle::Ending;
use crate::domain::money::Money;
use crate::domain::period::Period;
use crate::domain::plan::WhilePastDue;
use crate::domain::subscription::Status;
use crate::ports::store::{Pending, ScheduleAction, Standing};

/// Steps that are looked ahead at most: a period a day for a century.
const MOST_STEPS: u32 = 80_000;

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
    /// When it will be asked for, if nothing stops it: its due time, or later if it has to wait for another charge or for the
    /// hours of `[windows]`.
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
    Ended(Ending),
    /// A charge is in review and the plan holds the next period until a person has decided.
    InReview,
    /// So many periods were missed: an operator decides.
    Missed(u32),
    /// The row or the config is wrong.
    Problem(String),
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
pub fn outlook(standing: &Standing, in_force: &InForce, now: Timestamp, until: Timestamp) -> Outlook {
    let mut ahead = Outlook { charges: Vec::new(), unclear: Vec::new(), end: End::Horizon };
    let terms = &standing.schedule.terms;
    match terms.status {
        Status::Active => {}
        Status::Paused => {
            ahead.end = End::Paused;
            return ahead;
        }
        Status::Cancelled => {
            ahead.end = End::Ended(Ending::Cancelled);
            return ahead;
        }
    }
    let (windows, catalog) = (&in_force.tuning.windows, &in_force.catalog);
    let zone = catalog.zone_of_charge(&terms.account, &terms.plan, terms.zone.as_deref());
    let starts = |at: Timestamp| {
        if windows.is_open(at, &zone) { at } else { windows.first_start(at, &zone, seed(&terms.account, &terms.external_ref)) }
    };
    let (mut free_from, mut in_review) = (now, false);
    for pending in &standing.pending {
        let at = pending.next_at.unwrap_or(now).max(now);
        match (pending.state, pending.waiting) {
            (ChargeState::Due, Waiting::Card) => {
                ahead.unclear.push(pending.clone());
                free_from = free_from.max(at);
            }
            (ChargeState::Due, _) => {
                let at = starts(at);
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
    let holds = match catalog.plan(terms) {
        Ok(plan) => plan.while_past_due == WhilePastDue::Hold,
        Err(problem) => {
            ahead.end = End::Problem(problem.to_string());
            return ahead;
        }
    };
    if holds && in_review {
        ahead.end = End::InReview;
        return ahead;
    }
    let mut schedule = standing.schedule.clone();
    let mut at = if holds { free_from } else { now };
    for _ in 0..MOST_STEPS {
        let step = step(in_force, &schedule, at);
        schedule.progress = step.progress;
        (schedule.was_paused, schedule.was_waiting) = (false, false);
        match step.action {
            ScheduleAction::Open { next, first_at, after, .. } => {
                schedule.progress = after;
                // read a moment later than the schedule, a period may have opened meanwhile
                if standing.pending.iter().any(|pending| pending.period.start == next.period.start) {
                    continue;
                }
                let start = starts(first_at.max(at));
                if start >= until {
                    break;
                }
                let (due_at, period, amount) = (next.due_at, next.period, next.amount);
                ahead.charges.push(Coming { at: start, due_at, period, amount, kind: Kind::Period });
                if holds {
                    at = at.max(start);
                }
            }
            ScheduleAction::Pass(passed) => schedule.progress = passed.after,
            ScheduleAction::Wait { until: look, .. } if look < until && look > at => at = look,
            ScheduleAction::Wait { .. } => break,
            ScheduleAction::Hold { missed, .. } => {
                ahead.end = End::Missed(missed);
                break;
            }
            ScheduleAction::End { why, .. } => {
                ahead.end = End::Ended(why);
                break;
            }
            ScheduleAction::Problem { text } => {
                ahead.end = End::Problem(text);
                break;
            }
            ScheduleAction::Park { .. } => break,
        }
    }
    ahead
}
