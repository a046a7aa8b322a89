//! What is to come of a subscription: the charges that follow from its row, its schedule and its unresolved charges.
//!
//! Nothing here has an opinion of its own on dates, amounts or waits: the function that opens periods ([`super::open`]) is asked
//! what it would do, at one instant after the other. `forecast`, `config plan` and `explain` all look ahead through this file.

use std::fmt;

use jiff::Timestamp;

use super::InForce;
use super::open::{seed, step};
use crate::domain::charge::{ChargeId, ChargeState, Waiting};
use crate::domain::dunning::{KeyTry, Local, key_may_be_asked};
use crate::domain::lifecycle::Ending;
use crate::domain::money::Money;
use crate::domain::period::Period;
use crate::domain::plan::WhilePastDue;
use crate::domain::subscription::Status;
use crate::ports::store::{Pending, ScheduleAction, Standing};

/// Steps that are looked ahead at most: a period a day for a century.
const MOST_STEPS: u32 = 80_000;

/// Kinds of stops of a billing key that a try can cause, one after the other.
const STOPS: usize = 5;

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

impl fmt::Display for End {
    /// Why no further charge is to come.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Horizon => f.write_str("none in these days"),
            Self::Paused => f.write_str("it is paused"),
            Self::Ended(why) => write!(f, "it has ended ({})", why.name()),
            Self::InReview => f.write_str("a charge is in review"),
            Self::Missed(periods) => write!(f, "{periods} missed periods wait for an operator"),
            Self::Problem(problem) => f.write_str(problem),
        }
    }
}

/// What is to come of one subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    pub charges: Vec<Coming>,
    /// Charges that nothing is sent for, because their billing key was refused for good: each would be sent then with a new one.
    pub without_card: Vec<Coming>,
    /// Charges in doubt or in review: they may have been paid.
    pub undecided: Vec<Pending>,
    pub end: End,
}

/// Looks ahead to `until`.
///
/// It takes every try for paid at the first go: then a period that waits for another charge opens at that charge's next
/// try. A doubt is taken for ended now. No new card is taken for granted: a charge that waits for one is taken for given up when its
/// time is over, and so is one whose billing key may not be asked.
pub fn outlook(standing: &Standing, in_force: &InForce, now: Timestamp, until: Timestamp) -> Outlook {
    let mut ahead = Outlook { charges: Vec::new(), without_card: Vec::new(), undecided: Vec::new(), end: End::Horizon };
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
    let key = Key {
        tries: &standing.key_tries,
        local: in_force.tuning.policy.dunning.of(&terms.account, &terms.plan, terms.zone.as_deref()),
    };
    let gives_up = key.local.dunning.end.status();
    let (mut free_from, mut in_review) = (now, false);
    // a charge that is given up may pause or cancel the subscription
    let mut stops_at: Option<Timestamp> = None;
    let stop = |stops_at: &mut Option<Timestamp>, at: Timestamp| {
        *stops_at = gives_up.map(|_| stops_at.map_or(at, |earlier| earlier.min(at)));
    };
    for pending in &standing.pending {
        let at = pending.next_at.unwrap_or(now).max(now);
        let kind = if pending.tries > 0 { Kind::Retry } else { Kind::Opened };
        let Pending { period, due_at, amount, .. } = *pending;
        let coming = |at| Coming { at, due_at, period, amount, kind };
        match (pending.state, pending.waiting) {
            (ChargeState::Due, Waiting::Card) => {
                ahead.without_card.push(coming(now));
                stop(&mut stops_at, at);
                free_from = free_from.max(at);
            }
            (ChargeState::Due, _) => match key.asked(Some(pending), starts(at), starts) {
                Ok(at) => {
                    free_from = free_from.max(at);
                    if at < until {
                        ahead.charges.push(coming(at));
                    }
                }
                Err(stopped) => {
                    free_from = free_from.max(stopped.given_up);
                    stop(&mut stops_at, stopped.given_up);
                    if stopped.at < until {
                        ahead.without_card.push(coming(stopped.at));
                    }
                }
            },
            (state, _) => {
                in_review |= state == ChargeState::Review;
                ahead.undecided.push(pending.clone());
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
                let asked = key.asked(None, start, starts);
                let start = asked.unwrap_or_else(|stopped| stopped.at);
                if start >= until {
                    break;
                }
                if stops_at.is_some_and(|stop| stop <= start) {
                    ahead.end = if gives_up == Some(Status::Cancelled) { End::Ended(Ending::Cancelled) } else { End::Paused };
                    break;
                }
                let coming =
                    Coming { at: start, due_at: next.due_at, period: next.period, amount: next.amount, kind: Kind::Period };
                let done = match asked {
                    Ok(at) => {
                        ahead.charges.push(coming);
                        at
                    }
                    Err(stopped) => {
                        ahead.without_card.push(coming);
                        stop(&mut stops_at, stopped.given_up);
                        stopped.given_up
                    }
                };
                if holds {
                    at = at.max(done);
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

/// The billing key, as W2 will see it.
struct Key<'a> {
    tries: &'a [(ChargeId, KeyTry)],
    local: Local,
}

/// A charge whose billing key is not asked.
#[derive(Debug, Clone, Copy)]
struct Stopped {
    at: Timestamp,
    given_up: Timestamp,
}

impl Key<'_> {
    /// When a charge that could start at `at` is asked for. Without tries the answer is at hand: nearly all keys have none.
    fn asked(
        &self,
        charge: Option<&Pending>,
        at: Timestamp,
        starts: impl Fn(Timestamp) -> Timestamp,
    ) -> Result<Timestamp, Stopped> {
        if self.tries.is_empty() {
            return Ok(at);
        }
        let own = charge.map(|charge| charge.id);
        let tries: Vec<KeyTry> = self.tries.iter().map(|(of, one)| KeyTry { own: Some(*of) == own, ..*one }).collect();
        let mut at = at;
        // each stop ends when one of the tries leaves its window
        for _ in 0..=tries.len() * STOPS {
            let Err((stop, until)) = key_may_be_asked(&tries, at) else { return Ok(at) };
            let given_up = self.local.give_up_at(charge.and_then(|charge| charge.first_declined_at).unwrap_or(at)).max(at);
            if !stop.passes(until, given_up) {
                return Err(Stopped { at, given_up });
            }
            at = starts(until.max(at));
        }
        Ok(at)
    }
}
