//! What a subscription has come to: a state that follows from facts, and from nothing else.
//!
//! Nobody sets it. [`follow`] derives it anew whenever one of the facts changes or a time has come; what is stored is only there
//! so that a change is noticed, and told once.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::charge::{ChargeState, Waiting};
use super::event::{Event, EventKind};
use super::subscription::Status;

/// A state is derived once more so long after it has turned to owing: another process may have recorded a payment in that very
/// moment, without either seeing the other.
pub const LOOK_AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// What a subscription has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubscriptionState {
    /// Its trial is under way, and nothing of it has been charged yet.
    Trialing,
    /// All is well, or nothing is owed for longer than the grace.
    Active,
    /// A charge was declined, the grace is over, and it is still being tried or looked into.
    PastDue,
    /// Paused: by an operator, or by the end of a ladder.
    Paused,
    /// The newest charge that has ended was given up, and none after it has been paid.
    Unpaid,
    /// Nothing is billed any more: cancelled, or at its end.
    Cancelled,
}

impl SubscriptionState {
    pub const ALL: [Self; 6] = [Self::Trialing, Self::Active, Self::PastDue, Self::Paused, Self::Unpaid, Self::Cancelled];
    pub const NAMES: [&'static str; 6] = ["trialing", "active", "past_due", "paused", "unpaid", "cancelled"];

    /// As it stands in the database and in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trialing => "trialing",
            Self::Active => "active",
            Self::PastDue => "past_due",
            Self::Paused => "paused",
            Self::Unpaid => "unpaid",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A charge that has been declined and has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    pub first_declined_at: Timestamp,
    /// Its ladder began anew with a new billing key: the grace is given once.
    pub restarted: bool,
    pub state: ChargeState,
    pub waiting: Waiting,
    pub next_at: Option<Timestamp>,
}

/// Everything that a state follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub status: Status,
    /// Its last period is over, as its row and its plan say (docs/subscriptions.md, Ends).
    pub ended: bool,
    /// When the trial ends; `None`: it has none, or a period has opened.
    pub trial_until: Option<Timestamp>,
    pub owed: Vec<Owed>,
    /// The newest of its charges that were paid or given up was given up.
    pub closed_unpaid: bool,
    /// Between the first decline and `past_due`, by its ladder.
    pub grace: SignedDuration,
    /// What a charge has just come to, if that is why the state is looked at.
    pub just: Option<Just>,
}

/// What has just become of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Just {
    pub state: ChargeState,
    /// Its ladder's `end` has paused or cancelled the subscription.
    pub ended_it: bool,
}

/// Why a state has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    TrialStarted,
    TrialEnded,
    Declined,
    GraceOver,
    GivenUp,
    Paid,
    Void,
    Paused,
    Resumed,
    Cancelled,
    Ended,
}

impl Reason {
    pub const NAMES: [&'static str; 11] = [
        "trial_started",
        "trial_ended",
        "declined",
        "grace_over",
        "given_up",
        "paid",
        "void",
        "paused",
        "resumed",
        "cancelled",
        "ended",
    ];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// What comes next for a subscription in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NextStep {
    /// The first charge, once the trial has ended.
    TrialEnd,
    /// Its next period, when that falls due.
    NextPeriod,
    /// The owed charge is tried again.
    Retry,
    /// The payer has to register another card; the charge waits for it until then.
    NewCard,
    /// The gateway is asked whether the owed charge was paid.
    LookUp,
    /// An operator has to rule on the owed charge.
    Operator,
    /// Somebody has to resume it.
    Resume,
    Nothing,
}

impl NextStep {
    pub const NAMES: [&'static str; 8] =
        ["trial_end", "next_period", "retry", "new_card", "look_up", "operator", "resume", "nothing"];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// What follows from the facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Followed {
    pub state: SubscriptionState,
    pub next: NextStep,
    /// When that is, where it has a time.
    pub next_at: Option<Timestamp>,
    /// Why the state is another one than before; `None`: it is the same, or the first one that needs no telling.
    pub reason: Option<Reason>,
    /// When time alone may change it; `None`: only a fact does.
    pub look_at: Option<Timestamp>,
}

/// Derives a state. `before`: as it was last told; `None`: nothing was told of it yet.
pub fn follow(before: Option<SubscriptionState>, facts: &Facts, now: Timestamp) -> Followed {
    let past_due_at = facts.owed.iter().map(|owed| past_due_at(owed, facts.grace)).min();
    let trial_until = facts.trial_until.filter(|until| *until > now);
    let state = match facts.status {
        Status::Cancelled => SubscriptionState::Cancelled,
        Status::Paused => SubscriptionState::Paused,
        // what was owed at the end is still tried and told of
        Status::Active if facts.ended && facts.owed.is_empty() => SubscriptionState::Cancelled,
        Status::Active if facts.closed_unpaid => SubscriptionState::Unpaid,
        Status::Active if past_due_at.is_some_and(|at| at <= now) => SubscriptionState::PastDue,
        Status::Active if trial_until.is_some() => SubscriptionState::Trialing,
        Status::Active => SubscriptionState::Active,
    };
    let (next, next_at) = next(state, facts);
    let is_first = before.is_none() && state == SubscriptionState::Active;
    let changes = before != Some(state) && !is_first;
    let again = now.saturating_add(LOOK_AGAIN).ok().filter(|_| changes);
    let look_at = match state {
        SubscriptionState::Trialing => trial_until,
        SubscriptionState::Active => past_due_at,
        SubscriptionState::PastDue | SubscriptionState::Unpaid => again,
        SubscriptionState::Paused | SubscriptionState::Cancelled => None,
    };
    let reason = changes.then(|| reason(before, state, facts));
    Followed { state, next, next_at, reason, look_at }
}

fn past_due_at(owed: &Owed, grace: SignedDuration) -> Timestamp {
    let grace = if owed.restarted { SignedDuration::ZERO } else { grace };
    owed.first_declined_at.saturating_add(grace).unwrap_or(Timestamp::MAX)
}

fn next(state: SubscriptionState, facts: &Facts) -> (NextStep, Option<Timestamp>) {
    match state {
        SubscriptionState::Trialing => (NextStep::TrialEnd, facts.trial_until),
        SubscriptionState::Paused => (NextStep::Resume, None),
        SubscriptionState::Cancelled => (NextStep::Nothing, None),
        SubscriptionState::Active | SubscriptionState::PastDue | SubscriptionState::Unpaid => {
            let soonest = facts.owed.iter().min_by_key(|owed| owed.next_at.unwrap_or(Timestamp::MAX));
            soonest.map_or((NextStep::NextPeriod, None), |owed| match (owed.state, owed.waiting) {
                (ChargeState::Doubt, _) => (NextStep::LookUp, owed.next_at),
                (ChargeState::Review, _) => (NextStep::Operator, None),
                (_, Waiting::Card) => (NextStep::NewCard, owed.next_at),
                _ => (NextStep::Retry, owed.next_at),
            })
        }
    }
}

fn reason(before: Option<SubscriptionState>, state: SubscriptionState, facts: &Facts) -> Reason {
    use SubscriptionState::{Active, Cancelled, PastDue, Paused, Trialing, Unpaid};
    let just = |state| facts.just.is_some_and(|just| just.state == state);
    match (before, state) {
        (_, Paused | Cancelled) if facts.just.is_some_and(|just| just.ended_it) => Reason::GivenUp,
        (_, Paused) => Reason::Paused,
        (_, Cancelled) if facts.status == Status::Cancelled => Reason::Cancelled,
        (_, Cancelled) => Reason::Ended,
        (Some(Paused | Cancelled), _) => Reason::Resumed,
        (_, Unpaid) => Reason::GivenUp,
        (_, PastDue) if facts.grace.is_zero() || facts.owed.iter().all(|owed| owed.restarted) => Reason::Declined,
        (_, PastDue) => Reason::GraceOver,
        (_, Trialing) => Reason::TrialStarted,
        (Some(Trialing), Active) => Reason::TrialEnded,
        (_, Active) if just(ChargeState::Void) => Reason::Void,
        (_, Active) => Reason::Paid,
    }
}

impl Followed {
    /// What is told of the change, with a sentence for the payer; `None`: nothing has changed.
    pub fn event(&self, account: &str, external_ref: &str, before: Option<SubscriptionState>, now: Timestamp) -> Option<Event> {
        let reason = self.reason?;
        let (ko, en) = self.payer_message(reason);
        let data = json!({
            "account": account,
            "external_ref": external_ref,
            "from": before.map(SubscriptionState::name),
            "to": self.state.name(),
            "reason": reason.name(),
            "next_step": self.next.name(),
            "next_at": self.next_at,
            "payer_message": { "ko": ko, "en": en },
        });
        Some(Event::new(EventKind::SubscriptionStateChanged, &[account, external_ref, self.state.name(), &now.to_string()], data))
    }

    /// In Korean and English, without card or bank detail.
    fn payer_message(&self, reason: Reason) -> (&'static str, &'static str) {
        match (self.state, reason, self.next) {
            (_, Reason::TrialStarted, _) => (
                "무료 체험이 시작되었습니다. 체험 기간이 끝나면 첫 결제가 이루어집니다.",
                "Your free trial has begun. The first payment is made when it ends.",
            ),
            (_, Reason::TrialEnded, _) => {
                ("무료 체험 기간이 끝나 구독이 시작됩니다.", "Your free trial has ended and your subscription begins.")
            }
            (_, Reason::Resumed, _) => ("구독이 다시 시작되었습니다.", "Your subscription has been resumed."),
            (SubscriptionState::Paused, Reason::GivenUp, _) => (
                "결제가 완료되지 않아 구독이 일시 중지되었습니다. 결제 수단을 확인해 주세요.",
                "Your subscription is paused because the payment was not completed. Please check your payment method.",
            ),
            (SubscriptionState::Paused, ..) => ("구독이 일시 중지되었습니다.", "Your subscription has been paused."),
            (SubscriptionState::Cancelled, Reason::GivenUp, _) => (
                "결제가 완료되지 않아 구독이 해지되었습니다.",
                "Your subscription has been cancelled because the payment was not completed.",
            ),
            (SubscriptionState::Cancelled, Reason::Ended, _) => ("구독 기간이 종료되었습니다.", "Your subscription has ended."),
            (SubscriptionState::Cancelled, ..) => ("구독이 해지되었습니다.", "Your subscription has been cancelled."),
            (SubscriptionState::PastDue | SubscriptionState::Unpaid, _, NextStep::NewCard) => (
                "등록하신 카드로 결제할 수 없습니다. 다른 카드를 등록해 주세요.",
                "Your card cannot be charged. Please register another card.",
            ),
            (SubscriptionState::PastDue | SubscriptionState::Unpaid, _, NextStep::LookUp | NextStep::Operator) => {
                ("결제 결과를 확인하고 있습니다.", "We are checking the result of the payment.")
            }
            (SubscriptionState::PastDue, ..) => (
                "결제가 완료되지 않았습니다. 예정된 날에 다시 결제를 시도합니다.",
                "The payment was not completed. It will be tried again on the planned day.",
            ),
            (SubscriptionState::Unpaid, ..) => (
                "이번 결제가 완료되지 않았습니다. 결제 수단을 확인해 주세요.",
                "The payment was not completed. Please check your payment method.",
            ),
            (_, Reason::Paid, _) => {
                ("결제가 확인되어 구독이 계속됩니다.", "The payment has arrived and your subscription continues.")
            }
            (SubscriptionState::Active | SubscriptionState::Trialing, ..) => {
                ("구독이 정상적으로 계속됩니다.", "Your subscription continues as usual.")
            }
        }
    }
}

#[cfg(test)]
mod tests;
