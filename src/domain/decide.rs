//! The one function that decides.
//!
//! Every billing rule of docs/protocol.md stands here, in one match over the charge's state and a fact. It is pure; the whole
//! table is a snapshot (`tests/decide.rs`) that a non-programmer can review. The rules that several arms share are in
//! [`super::rules`] and [`super::doubt`].

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::attempt::{AttemptState, Hint, IdNumber, SendEnd, SendId};
use super::charge::{Charge, ChargeState, IdMode, Waiting};
use super::classify::Rules;
use super::decline::Class;
use super::dunning::{self, Dunnings, KeyStop};
use super::event::{Event, EventKind};
use super::outcome::{DoubtCause, Findings, Found, Mismatch, NotSent, Outcome, Record, RecordStatus};
use super::subscription::Status;
use super::{doubt, rules};

/// The numbers that the rules take.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    quiet: SignedDuration,
    /// When declined charges are tried again.
    pub dunning: Dunnings,
    /// The operator's rules for reading refusals.
    pub declines: Arc<Rules>,
    /// Waits after sends in a row that did not leave: the last one repeats.
    pub backoff: Vec<SignedDuration>,
}

impl Policy {
    /// Q of R2 may never be shorter: it has to outlast a stalled process, the gateway's delay and its visibility lag.
    pub const SHORTEST_QUIET: SignedDuration = SignedDuration::from_mins(45);
    /// Between the two look-ups of R3.
    pub const QUIET_GAP: SignedDuration = SignedDuration::from_mins(5);
    /// R4: resends of one attempt after proven losses.
    pub const RESENDS: u8 = 2;
    /// R5: a doubt of any cause goes to review after that long.
    pub const REVIEW_AFTER: SignedDuration = SignedDuration::from_hours(24);
    /// R5: and alarms after that long.
    pub const ALARM_AFTER: SignedDuration = SignedDuration::from_hours(2);
    /// R7: before the next id, when a look-up and not an answer ended the doubt; and at least that long between two tries
    /// of one card, whatever the ladder says after a delay.
    pub const NEXT_ID_AFTER: SignedDuration = SignedDuration::from_hours(24);
    /// R6: how long closed charges are still looked up.
    pub const SWEEP_FOR: SignedDuration = SignedDuration::from_hours(35 * 24);
    /// Declined tries of one charge that nothing can raise: see [`dunning`].
    pub const MOST_TRIES: u8 = dunning::MOST_TRIES;
    /// After a refusal for the merchant's own trouble: its account is paused meanwhile.
    pub const MERCHANT_WAIT: SignedDuration = SignedDuration::from_mins(10);

    /// `None` if `quiet` is shorter than [`Policy::SHORTEST_QUIET`].
    pub fn new(quiet: SignedDuration) -> Option<Self> {
        (quiet >= Self::SHORTEST_QUIET).then(|| Self { quiet, ..Self::default() })
    }

    /// For tests that show what Q is for. A release build has no way below the bound.
    #[cfg(debug_assertions)]
    pub fn without_quiet() -> Self {
        Self { quiet: SignedDuration::ZERO, ..Self::default() }
    }

    /// Q: a look-up has to begin this long after the newest send before its "not paid" counts.
    pub fn quiet(&self) -> SignedDuration {
        self.quiet
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            quiet: SignedDuration::from_mins(60),
            dunning: Dunnings::default(),
            declines: Arc::default(),
            backoff: [5, 15, 60, 300, 900].map(SignedDuration::from_secs).to_vec(),
        }
    }
}

/// Something that became known about a charge.
#[expect(clippy::large_enum_variant, reason = "facts are made once and judged at once; a box would only hide the words")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// What a POST came to.
    Answered { send: SendId, id_number: IdNumber, customer_uid: String, outcome: Outcome },
    /// All records under all ids of the charge. Before a send (E1) it is only looked at if the gateway shows a record
    /// that we do not know.
    LookedUp(Findings),
    /// The gateway could not be asked.
    LookUpFailed,
    /// A claim ended with a send still open: the worker died or stalled.
    Interrupted,
    /// The request breaks the gateway's own rules; nothing was committed.
    Unsendable(String),
    /// It was looked at while it still waits for a new billing key.
    CardNotReplaced,
    /// Its subscription was paused: it waits, with whatever was tried so far.
    SubscriptionPaused,
    /// Its subscription was cancelled before this charge was paid.
    SubscriptionCancelled,
    /// Its subscription was resumed within a day of the last try, or a new card came before R7 allows the next id.
    ResumedEarly,
    /// The payer has another card now, and no send of the live attempt ever left.
    CardChanged,
    /// Its billing key may not be asked now (W2): a cap, another charge to it, or refused for good.
    CardStopped { stop: KeyStop, until: Timestamp, customer_uid: String },
    /// The day's budget is used up.
    OverBudget { until: Timestamp },
    /// The account's fuse does not let it through.
    Fused { until: Timestamp },
    /// It is due, and no charge may start before then.
    WindowClosed { until: Timestamp },
    /// An operator's ruling (R8), with the look-up that none of them skips.
    Ruled(Ruling, Findings),
}

/// What an operator may say of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// It was paid by this payment: believed once the look-up shows it.
    Paid {
        imp_uid: String,
    },
    Unpaid,
    /// Send again under the same id.
    Resend,
    Void,
    /// Try again now instead of at the ladder's next step.
    Retry,
}

/// What happens to the live attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveChange {
    Keep,
    Hint(Hint),
    /// Lost for certain, or an operator asks: the next send is a resend of the same id and bytes, and no hint is left.
    Resend,
    End {
        state: AttemptState,
        imp_uid: Option<String>,
    },
}

/// An attempt that a record proves and that this database had not recorded as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    pub id_number: IdNumber,
    pub state: AttemptState,
    pub imp_uid: String,
    pub customer_uid: String,
}

/// Something that must not happen, for a person to look at, with an alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    pub kind: IncidentKind,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IncidentKind {
    DoubleCharge,
    WrongPayment,
    UnknownPayment,
    MissingPayment,
    FuseBlown,
}

impl Incident {
    /// A payment beside the one that settled the charge, in the words in which it was first told.
    pub fn of_second_payment(charge: &Charge, found: &Found) -> Self {
        match found.mismatch {
            Some(mismatch) => Self { kind: IncidentKind::WrongPayment, detail: wrong_payment_detail(&found.record, mismatch) },
            None => Self {
                kind: IncidentKind::DoubleCharge,
                detail: double_charge_detail(charge.paid_imp_uid.as_deref().unwrap_or_default(), &found.record.imp_uid),
            },
        }
    }
}

impl IncidentKind {
    pub const ALL: [Self; 5] =
        [Self::DoubleCharge, Self::WrongPayment, Self::UnknownPayment, Self::MissingPayment, Self::FuseBlown];

    pub fn name(self) -> &'static str {
        match self {
            Self::DoubleCharge => "double_charge",
            Self::WrongPayment => "wrong_payment",
            Self::UnknownPayment => "unknown_payment",
            Self::MissingPayment => "missing_payment",
            Self::FuseBlown => "fuse_blown",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What is to be written, all in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The rule that decided, for the story of the charge.
    pub rule: &'static str,
    /// The charge as it is from now on.
    pub charge: Charge,
    pub live: LiveChange,
    pub adopt: Vec<Adopted>,
    pub send: Option<(SendId, SendEnd)>,
    pub events: Vec<Event>,
    pub incidents: Vec<Incident>,
    /// The class of the refusal that ended an attempt, whether or not it counts as a try.
    pub refusal: Option<Class>,
    /// The charge was given up, and its dunning gives the subscription this status.
    pub end: Option<Status>,
    /// Between a first decline and the subscription's state `past_due`, by its ladder.
    pub grace: SignedDuration,
    /// The account is to be paused, for this reason: the merchant's contract is the trouble, so nobody is charged.
    pub pause: Option<String>,
    /// Writing `paid` needs no claim; every other conclusion does.
    pub is_truth: bool,
}

/// Why a fact changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the answer is to a send that has ended")]
    Stale,
    #[error("the charge is final")]
    Final,
    #[error("the gateway shows no such paid payment under an id of this charge")]
    NoSuchPayment,
    #[error(
        "two look-ups, the first one at least Q after the newest send and five minutes apart, have to show nothing first (R2, R3)"
    )]
    NotQuiet,
    #[error("the gateway shows a payment that is paid, ready or cancelled")]
    GatewayShowsMore,
    #[error("only a charge in review can be ruled on")]
    NotInReview,
    #[error("the charge has been tried as often as a period may be ({})", Policy::MOST_TRIES)]
    TooManyTries,
    #[error("the charge is being asked about: wait until its doubt has ended")]
    InDoubt,
    #[error("the same card is not asked twice in 24 hours for one charge, nor within 24 hours of what closed the charge (R7)")]
    TooSoon,
}

/// Decides what a fact means for a charge.
pub fn decide(charge: &Charge, fact: &Fact, now: Timestamp, policy: &Policy) -> Result<Decision, Refusal> {
    let decision = judge(charge, fact, now, policy)?;
    Ok(Decision { grace: policy.dunning.grace(&charge.plan), ..rules::settle_elsewhere(decision) })
}

fn judge(charge: &Charge, fact: &Fact, now: Timestamp, policy: &Policy) -> Result<Decision, Refusal> {
    use ChargeState::{Doubt, Due, Paid, Review, Unpaid, Void};
    let decision = match (charge.state, fact) {
        // Truths: believed at once, whatever the state (R1, R6).
        (_, Fact::Answered { id_number, customer_uid, outcome: Outcome::Paid(record), .. }) => {
            rules::settle(charge, "R1 the answer says paid", record, *id_number, customer_uid, SendEnd::Answered)
        }
        (_, Fact::Answered { send, id_number, outcome: Outcome::PaidWrong(record, mismatch), .. }) => {
            rules::paid_wrong(charge, Some(*send), *id_number, record, *mismatch, now)
        }

        // Anything else about a send that is not the open one is history.
        (_, Fact::Answered { send, .. }) if !rules::is_open(charge, *send) => return Err(Refusal::Stale),
        (Paid | Unpaid | Void, Fact::Answered { .. }) => return Err(Refusal::Final),
        (Due | Doubt | Review, Fact::Answered { outcome, .. }) => answered(charge, outcome, now, policy),

        // A send without a proven end is a doubt, whatever the row says: only the rules of doubt may end it.
        (Due, Fact::LookedUp(findings)) if charge.in_doubt() => {
            doubt::looked_up(&rules::as_doubt(charge, now), findings, now, policy)
        }
        (Due, Fact::LookUpFailed) if charge.in_doubt() => {
            doubt::still_in_doubt(&rules::as_doubt(charge, now), "R5 the look-up failed", now)
        }
        (
            Due,
            Fact::Unsendable(_)
            | Fact::OverBudget { .. }
            | Fact::Fused { .. }
            | Fact::CardStopped { .. }
            | Fact::WindowClosed { .. }
            | Fact::CardNotReplaced
            | Fact::SubscriptionPaused
            | Fact::ResumedEarly
            | Fact::CardChanged
            | Fact::SubscriptionCancelled,
        ) if charge.in_doubt() => return Err(Refusal::InDoubt),

        // A look-up before a send (E1): the gateway shows a record that we do not know.
        (Due, Fact::LookedUp(findings)) => doubt::probed(charge, findings, now, policy),
        (Due, Fact::LookUpFailed) => rules::wait(charge, "E1 the look-up failed: not sent", now, policy),
        (Doubt | Review, Fact::LookedUp(findings)) => doubt::looked_up(charge, findings, now, policy),
        (Doubt | Review, Fact::LookUpFailed) => doubt::still_in_doubt(charge, "R5 the look-up failed", now),
        (Unpaid | Void | Paid, Fact::LookedUp(findings)) => doubt::swept(charge, findings, now),
        (Unpaid | Void, Fact::LookUpFailed) => doubt::sweep_later(charge, "R6 the look-up failed", now),
        (Paid, Fact::LookUpFailed) => return Err(Refusal::Final),

        (Due, Fact::Interrupted) if charge.in_doubt() => rules::into_doubt(charge, "a send was left open", LiveChange::Keep, now),
        (_, Fact::Interrupted) => return Err(Refusal::Stale),

        (Due, Fact::Unsendable(why)) => rules::into_review(charge, "the request breaks the gateway's rules", why, now),
        (Due, Fact::OverBudget { until }) => rules::over_budget(charge, *until),
        (Due, Fact::Fused { until }) => rules::fused(charge, *until),
        (Due, Fact::CardStopped { stop, until, customer_uid }) => {
            rules::card_stopped(charge, *stop, *until, customer_uid, now, policy)
        }
        (Due, Fact::WindowClosed { until }) => rules::window_closed(charge, *until),
        (Due, Fact::CardNotReplaced) => rules::card_not_replaced(charge, now, policy),
        (Due, Fact::SubscriptionPaused) => rules::paused(charge),
        (Due, Fact::ResumedEarly) => rules::resumed_early(charge),
        (Due, Fact::CardChanged) => rules::card_changed(charge, now),
        (Due, Fact::SubscriptionCancelled) => rules::close(charge, "the subscription was cancelled", ChargeState::Void, now),
        (
            Doubt | Review | Paid | Unpaid | Void,
            Fact::Unsendable(_)
            | Fact::OverBudget { .. }
            | Fact::Fused { .. }
            | Fact::CardStopped { .. }
            | Fact::WindowClosed { .. }
            | Fact::CardNotReplaced
            | Fact::SubscriptionPaused
            | Fact::ResumedEarly
            | Fact::CardChanged
            | Fact::SubscriptionCancelled,
        ) => return Err(Refusal::Stale),

        (_, Fact::Ruled(ruling, findings)) => ruled(charge, ruling, findings, now, policy)?,
    };
    Ok(decision)
}

/// What the answer to the open send means (docs/protocol.md, What an answer means). `paid` has been handled.
fn answered(charge: &Charge, outcome: &Outcome, now: Timestamp, policy: &Policy) -> Decision {
    match outcome {
        Outcome::Paid(_) | Outcome::PaidWrong(..) => rules::into_doubt(charge, "unreachable", LiveChange::Keep, now),
        Outcome::Declined(record, class) => {
            let text = record.fail_reason.as_deref().unwrap_or_default();
            let imp_uid = Some(record.imp_uid.clone());
            rules::declined(charge, "the answer says failed", *class, text, imp_uid, SendEnd::Answered, now, policy)
        }
        Outcome::Refused { key, .. } => {
            let hint = if *key { Hint::RefusedKey } else { Hint::RefusedRequest };
            rules::into_doubt(charge, "refused: one look-up will end it", LiveChange::Hint(hint), now)
        }
        Outcome::NotSent(why) => rules::not_sent(charge, why, now, policy),
        Outcome::Doubt { cause, detail, .. } => {
            let live = match cause {
                DoubtCause::Code(class) => LiveChange::Hint(Hint::Text(*class)),
                DoubtCause::AmbiguousDecline => LiveChange::Hint(Hint::Text(Class::Ambiguous)),
                _ => LiveChange::Keep,
            };
            if *cause == DoubtCause::Cancelled {
                return rules::into_review(charge, "the gateway says cancelled", "the payment was cancelled", now);
            }
            let mut decision = rules::into_doubt(charge, "the answer proves nothing", live, now);
            if *cause == DoubtCause::Code(Class::Merchant) {
                decision.pause = Some(rules::merchant_trouble(detail));
            }
            decision
        }
    }
}

/// An operator's ruling (R8). None skips the look-up.
fn ruled(charge: &Charge, ruling: &Ruling, findings: &Findings, now: Timestamp, policy: &Policy) -> Result<Decision, Refusal> {
    // nobody owes what was paid and cancelled, and nothing is charged for it by itself: it may be closed as void, no more
    let over = |status: &RecordStatus| match status {
        RecordStatus::Failed => true,
        RecordStatus::Cancelled => *ruling == Ruling::Void,
        _ => false,
    };
    let shows_more = findings.records.iter().any(|found| !over(&found.record.status));
    let quiet = charge.doubt.quiet_twice || doubt::confirms_quiet(charge, findings, policy);
    let open = charge.live.as_ref().and_then(|live| live.open_send);
    let send = open.map(|send| (send.id, doubt::end_unpaid(charge, findings)));
    let closed = |rule, state| Decision { send, ..rules::close(charge, rule, state, now) };
    match ruling {
        Ruling::Paid { imp_uid } => {
            let paid = |found: &&Found| found.record.imp_uid == *imp_uid && found.record.status == RecordStatus::Paid;
            let found = findings.records.iter().find(paid).ok_or(Refusal::NoSuchPayment)?;
            let customer = found.record.customer_uid.clone().unwrap_or_default();
            let rule = "R8 an operator ruled: paid";
            Ok(rules::settle(charge, rule, &found.record, found.id_number, &customer, SendEnd::Found))
        }
        _ if charge.state == ChargeState::Paid => Err(Refusal::Final),
        _ if shows_more => Err(Refusal::GatewayShowsMore),
        Ruling::Retry if charge.tries >= Policy::MOST_TRIES => Err(Refusal::TooManyTries),
        Ruling::Retry if charge.in_doubt() || charge.state == ChargeState::Doubt => Err(Refusal::InDoubt),
        Ruling::Retry if rules::asked_today(charge, now) => Err(Refusal::TooSoon),
        Ruling::Retry => Ok(rules::send_now(charge, "an operator asked for a retry", LiveChange::Keep, None, now)),
        Ruling::Void if charge.state == ChargeState::Due && !charge.in_doubt() => {
            Ok(rules::close(charge, "an operator ruled: void", ChargeState::Void, now))
        }
        _ if charge.state != ChargeState::Review => Err(Refusal::NotInReview),
        _ if charge.in_doubt() && !quiet => Err(Refusal::NotQuiet),
        Ruling::Unpaid if !quiet => Err(Refusal::NotQuiet),
        Ruling::Unpaid => Ok(closed("R8 an operator ruled: unpaid", ChargeState::Unpaid)),
        Ruling::Void => Ok(closed("R8 an operator ruled: void", ChargeState::Void)),
        Ruling::Resend => {
            let rule = "R8 an operator ruled: resend";
            match doubt::newest_unknown_failure(charge, findings) {
                // a failed record has used the id up: the attempt was declined, and R7 holds for the next one whoever asks for it
                Some(found) if charge.mode == IdMode::PerAttempt => {
                    let imp_uid = Some(found.record.imp_uid.clone());
                    let live = LiveChange::End { state: AttemptState::Declined, imp_uid };
                    let mut decision = rules::send_now(charge, rule, live, send, now);
                    rules::advance_id(&mut decision, found.id_number);
                    let customer = charge.live.as_ref().map(|live| live.customer_uid.as_str());
                    rules::count_try(&mut decision.charge, customer, now);
                    if decision.charge.tries >= Policy::MOST_TRIES {
                        return Err(Refusal::TooManyTries);
                    }
                    rules::keep_r7(&mut decision, now);
                    (decision.charge.waiting, decision.charge.next_at) = (Waiting::Retry, decision.charge.next_id_from());
                    Ok(decision)
                }
                // the attempt goes on under its id, with the bytes of its send, and what was said of that send says nothing of the next; where
                // one id is for a period and has failed, the look-up before the send ends the attempt
                _ => Ok(rules::send_now(charge, rule, LiveChange::Resend, send, now)),
            }
        }
    }
}

impl Decision {
    /// Nothing changes but the charge's own row.
    pub(super) fn of(rule: &'static str, charge: Charge) -> Self {
        Self {
            rule,
            charge,
            live: LiveChange::Keep,
            adopt: Vec::new(),
            send: None,
            events: Vec::new(),
            incidents: Vec::new(),
            refusal: None,
            end: None,
            grace: SignedDuration::ZERO,
            pause: None,
            is_truth: false,
        }
    }

    /// Whether this would tell once more what stands in `now` already: the COMMIT of `before`, which was decided of the same fact, was made, and
    /// nobody heard of it.
    pub fn was_told(&self, now: &Charge, before: &Self) -> bool {
        let ids = |decision: &Self| decision.events.iter().map(|event| event.id.clone()).collect::<Vec<_>>();
        let told = ids(self);
        let same = !told.is_empty() && told == ids(before);
        // others may have put it into review for something else: only `alarmed` says that a payment was told
        same && now.doubt.alarmed && self.charge.state == now.state && self.send.is_none()
    }

    pub(super) fn event(&mut self, kind: EventKind, fact: &str, extra: serde_json::Value) {
        self.events.push(Event::of_charge(kind, &self.charge, fact, extra));
    }

    pub(super) fn incident(&mut self, kind: IncidentKind, detail: String) {
        self.event(
            EventKind::IncidentOpened,
            &format!("{} {detail}", kind.name()),
            json!({ "incident": kind.name(), "detail": detail }),
        );
        self.incidents.push(Incident { kind, detail });
    }
}

/// The words for a second payment.
pub(super) fn double_charge_detail(first: &str, second: &str) -> String {
    format!("{first} and {second} are both paid")
}

/// The words for a wrong payment, without personal fields.
pub(super) fn wrong_payment_detail(record: &Record, mismatch: Mismatch) -> String {
    let amount = record.amount.map_or_else(|| "unreadable".to_owned(), |amount| amount.to_string());
    format!("{} under {} is paid ({amount}), but its {} is not ours", record.imp_uid, record.merchant_uid, mismatch.name())
}

/// The words for a send that did not leave.
pub(super) fn not_sent_rule(why: &NotSent) -> &'static str {
    match why {
        NotSent::Unreachable(_) => "not sent: the gateway could not be reached",
        NotSent::Unauthorized { .. } => "not sent: the token was refused",
        NotSent::Gate(_) => "not sent: the gate was closed",
    }
}
