//! The rules that several arms of [`super::decide`] share: settling, declining, waiting, closing. Doubt is in [`super::doubt`].

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::attempt::{AttemptState, IdNumber, SendEnd, SendId};
use super::charge::{Charge, ChargeState, Doubt, IdMode, PaidElsewhere, Waiting};
use super::decide::{
    Adopted, Decision, IncidentKind, LiveChange, Policy, double_charge_detail, not_sent_rule, wrong_payment_detail,
};
use super::decline::Class;
use super::doubt::next_look_up;
use super::dunning::{self, KeyStop};
use super::event::{EventKind, decline_fields};
use super::outcome::{Mismatch, NotSent, Record};

pub(super) fn is_open(charge: &Charge, send: SendId) -> bool {
    open_send(charge).is_some_and(|open| open.id == send)
}

pub(super) fn open_send(charge: &Charge) -> Option<super::attempt::Send> {
    charge.live.as_ref().and_then(|live| live.open_send)
}

/// A payment that matches in every field: R1, from whatever source.
pub(super) fn settle(
    charge: &Charge,
    rule: &'static str,
    record: &Record,
    id_number: IdNumber,
    customer_uid: &str,
    end: SendEnd,
) -> Decision {
    let mut decision = Decision::of(rule, charge.clone());
    decision.is_truth = true;
    if charge.state == ChargeState::Paid {
        // said once: the incident stays open until a person closes it
        if charge.paid_imp_uid.as_deref() != Some(record.imp_uid.as_str()) && !charge.doubt.alarmed {
            double_charge(&mut decision, &record.imp_uid);
        }
        return decision;
    }
    let adopted = |state| Adopted { id_number, state, imp_uid: record.imp_uid.clone(), customer_uid: customer_uid.to_owned() };
    match &charge.live {
        Some(live) if live.id_number == id_number => {
            decision.live = LiveChange::End { state: AttemptState::Paid, imp_uid: Some(record.imp_uid.clone()) };
            decision.send = live.open_send.map(|send| (send.id, end));
        }
        // the later attempt may still turn out paid: it is settled when that send ends
        Some(live) if live.open_send.is_some() => {
            decision.rule = "R1 paid under another id: settled when the open send ends";
            decision.charge.paid_elsewhere = Some(PaidElsewhere { imp_uid: record.imp_uid.clone(), id_number });
            return decision;
        }
        Some(_) => {
            decision.live = LiveChange::End { state: AttemptState::Void, imp_uid: None };
            decision.adopt.push(adopted(AttemptState::Paid));
        }
        None => decision.adopt.push(adopted(AttemptState::Paid)),
    }
    mark_paid(&mut decision, charge, &record.imp_uid);
    decision
}

fn mark_paid(decision: &mut Decision, before: &Charge, imp_uid: &str) {
    let charge = &mut decision.charge;
    charge.state = ChargeState::Paid;
    charge.waiting = Waiting::Nothing;
    charge.next_at = None;
    charge.doubt = Doubt::default();
    charge.refused_customer = None;
    charge.paid_imp_uid = Some(imp_uid.to_owned());
    let elsewhere = charge.paid_elsewhere.take();
    let late = !matches!(before.state, ChargeState::Due | ChargeState::Doubt);
    decision.event(EventKind::ChargePaid, "", json!({ "imp_uid": imp_uid, "late": late }));
    if let Some(elsewhere) = elsewhere
        && elsewhere.imp_uid != imp_uid
    {
        double_charge(decision, &elsewhere.imp_uid);
    }
}

pub(super) fn double_charge(decision: &mut Decision, second: &str) {
    decision.charge.doubt.alarmed = true;
    let first = decision.charge.paid_imp_uid.clone().unwrap_or_default();
    decision.incident(IncidentKind::DoubleCharge, double_charge_detail(&first, second));
}

/// Once no send is open any more, a payment that turned up under another id settles the charge.
pub(super) fn settle_elsewhere(mut decision: Decision) -> Decision {
    let still_open = open_send(&decision.charge).is_some() && decision.send.is_none();
    if decision.charge.state == ChargeState::Paid || still_open {
        return decision;
    }
    let Some(elsewhere) = decision.charge.paid_elsewhere.clone() else { return decision };
    let before = decision.charge.clone();
    if !matches!(decision.live, LiveChange::End { .. }) && before.live.is_some() {
        decision.live = LiveChange::End { state: AttemptState::Void, imp_uid: None };
    }
    let customer_uid = before.live.as_ref().map(|live| live.customer_uid.clone()).unwrap_or_default();
    let PaidElsewhere { imp_uid, id_number } = elsewhere;
    decision.adopt.push(Adopted { id_number, state: AttemptState::Paid, imp_uid: imp_uid.clone(), customer_uid });
    decision.rule = "the open send has ended: settled by the payment under another id";
    decision.is_truth = true;
    decision.events.clear();
    // the decline that ends the ladder is no reason to pause or cancel what has been paid
    decision.end = None;
    mark_paid(&mut decision, &before, &imp_uid);
    decision
}

/// Paid, but not what was asked for: stored, reviewed, alarmed; never charged again by itself.
pub(super) fn paid_wrong(
    charge: &Charge,
    send: Option<SendId>,
    id_number: IdNumber,
    record: &Record,
    mismatch: Mismatch,
    now: Timestamp,
) -> Decision {
    let detail = wrong_payment_detail(record, mismatch);
    let mut decision = Decision::of("paid, but not what was asked for", charge.clone());
    decision.is_truth = true;
    let ours = charge.live.as_ref().is_some_and(|live| live.id_number == id_number);
    if ours && send.is_some_and(|send| is_open(charge, send)) {
        decision.send = send.map(|send| (send, SendEnd::Answered));
    }
    if charge.state != ChargeState::Paid {
        review(&mut decision, "wrong payment", &detail, now);
    }
    // said once: while it stays in review, the same record is no news
    decision.charge.doubt.alarmed = true;
    decision.incident(IncidentKind::WrongPayment, detail);
    decision
}

/// The card was asked and refused, or the refusal's text proves as much.
#[expect(clippy::too_many_arguments, reason = "each is a fact of its own, and a struct would only rename them")]
pub(super) fn declined(
    charge: &Charge,
    rule: &'static str,
    class: Class,
    text: &str,
    imp_uid: Option<String>,
    end: SendEnd,
    now: Timestamp,
    policy: &Policy,
) -> Decision {
    let mut decision = Decision::of(rule, charge.clone());
    let has_record = imp_uid.is_some();
    let id_number = charge.live.as_ref().map_or(charge.id_number, |live| live.id_number);
    decision.send = open_send(charge).map(|send| (send.id, end));
    let customer = charge.live.as_ref().map(|live| live.customer_uid.clone());
    // R7: where a look-up ended the doubt, the next id is a day away, so an outage is over by then or it is no outage
    let soon = end == SendEnd::Answered || charge.mode == IdMode::PerPeriod;
    let again = if soon { no_try_used(&mut decision.charge, class, now) } else { None };
    let state = if again.is_some() { AttemptState::Refused } else { AttemptState::Declined };
    decision.live = LiveChange::End { state, imp_uid };
    decision.refusal = Some(class);
    decision.charge.not_sent = 0;
    if has_record {
        advance_id(&mut decision, id_number);
    }
    match again {
        Some(wait) => try_again_soon(&mut decision, class, text, wait, now),
        None => {
            count_try(&mut decision.charge, customer.as_deref(), now);
            after_decline(&mut decision, class, text, customer, now, policy);
        }
    }
    if has_record && end == SendEnd::Found {
        keep_r7(&mut decision, now);
    }
    decision
}

/// One more declined try. The first one of a new billing key restarts the ladder, once.
pub(super) fn count_try(charge: &mut Charge, customer: Option<&str>, now: Timestamp) {
    let is_new = customer.is_some() && charge.course.declined_customer.as_deref().is_some_and(|last| Some(last) != customer);
    if is_new && charge.course.restarted_after.is_none() {
        charge.course.restarted_after = Some(charge.tries);
        charge.first_declined_at = None;
    }
    charge.tries = charge.tries.saturating_add(1);
    charge.first_declined_at.get_or_insert(now);
    if let Some(customer) = customer {
        charge.course.declined_customer = Some(customer.to_owned());
    }
}

/// How long a refusal waits that is not the card's doing and uses up no try. `None`: it counts like any other, because the card
/// was asked, or because the day's cap of outages is reached.
fn no_try_used(charge: &mut Charge, class: Class, now: Timestamp) -> Option<SignedDuration> {
    if class.uses_up_a_try() {
        return None;
    }
    if class == Class::Merchant {
        return Some(Policy::MERCHANT_WAIT);
    }
    let course = &mut charge.course;
    if course.transient_since.is_none_or(|since| now.duration_since(since) >= dunning::DAY) {
        (course.transients, course.transient_since) = (0, Some(now));
    }
    course.transients = course.transients.saturating_add(1);
    let seed = dunning::seed(&format!("{} {}", charge.base.as_str(), charge.attempts));
    dunning::transient_wait(course.transients, seed)
}

/// The same card again in minutes or hours.
fn try_again_soon(decision: &mut Decision, class: Class, text: &str, wait: SignedDuration, now: Timestamp) {
    if class == Class::Merchant {
        decision.pause = Some(merchant_trouble(text));
    }
    let next = after(now, wait);
    let charge = &mut decision.charge;
    charge.doubt = Doubt::default();
    charge.state = ChargeState::Due;
    charge.next_at = Some(next);
    (charge.waiting, charge.refused_customer) = (Waiting::Retry, None);
    let fact = told(charge);
    decision.event(EventKind::ChargeDeclined, &fact, decline_fields(class, text, Some(next)));
}

/// Why an account is paused whose contract or MID is the trouble.
pub(super) fn merchant_trouble(text: &str) -> String {
    format!("the gateway refuses the merchant, not the card (MERCHANT): {text}; settle it, then `rebilld hold release --account`")
}

/// R7 for a charge that goes on, now or with a new card: that may come at any time, the next id not before its day has passed.
pub(super) fn keep_r7(decision: &mut Decision, now: Timestamp) {
    let charge = &mut decision.charge;
    if charge.state == ChargeState::Due && charge.mode == IdMode::PerAttempt {
        charge.doubt.since = Some(now);
    }
}

/// A failed record uses its id up, unless ids last for the whole period.
pub(super) fn advance_id(decision: &mut Decision, used: IdNumber) {
    let charge = &mut decision.charge;
    if charge.mode == IdMode::PerPeriod {
        return;
    }
    // beyond 99 the number stays; the next intent finds the id used and the charge goes to review
    charge.id_number = charge.id_number.max(used.next().unwrap_or(used));
}

/// Dunning: what follows a decline.
pub(super) fn after_decline(
    decision: &mut Decision,
    class: Class,
    text: &str,
    customer: Option<String>,
    now: Timestamp,
    policy: &Policy,
) {
    if class == Class::Merchant {
        decision.pause = Some(merchant_trouble(text));
    }
    let charge = &mut decision.charge;
    charge.doubt = Doubt::default();
    let first_at = charge.first_declined_at.unwrap_or(now);
    if class == Class::Request {
        review(decision, "request refused", text, now);
        return;
    }
    let ids_used_up =
        charge.mode == IdMode::PerAttempt && charge.id_number == charge.live_id() && charge.id_number.next().is_none();
    if ids_used_up {
        review(decision, "all 99 ids are used", text, now);
        return;
    }
    let local = policy.dunning.of_charge(charge);
    let next = match class {
        _ if charge.tries >= Policy::MOST_TRIES => None,
        Class::HardCard => Some(local.give_up_at(first_at)).filter(|until| *until > now),
        _ => {
            let seed = dunning::seed(charge.base.as_str());
            local.next_try(&dunning::Declined { class, rung: charge.rung(), first_at, now, seed })
        }
    };
    let Some(next) = next else {
        let fact = told(charge);
        shut(decision, ChargeState::Unpaid, now);
        decision.end = local.dunning.end.status();
        decision.event(EventKind::ChargeDeclined, &fact, decline_fields(class, text, None));
        decision.event(EventKind::ChargeUnpaid, &fact, decline_fields(class, text, None));
        return;
    };
    charge.state = ChargeState::Due;
    charge.next_at = Some(next.max(now));
    (charge.waiting, charge.refused_customer) =
        if class == Class::HardCard { (Waiting::Card, customer) } else { (Waiting::Retry, None) };
    let shown = (class != Class::HardCard).then_some(next);
    let fact = told(charge);
    decision.event(EventKind::ChargeDeclined, &fact, decline_fields(class, text, shown));
}

/// Tells apart what is told of one charge several times: a refused billing key is an attempt, but no try.
fn told(charge: &Charge) -> String {
    format!("{} {}", charge.tries, charge.attempts)
}

/// Proven not to have left: the same id after a backoff, no waiting for Q, and no try is used up.
pub(super) fn not_sent(charge: &Charge, why: &NotSent, now: Timestamp, policy: &Policy) -> Decision {
    let mut decision = wait(charge, not_sent_rule(why), now, policy);
    decision.send = open_send(charge).map(|send| (send.id, SendEnd::NotSent));
    decision.charge.doubt = Doubt::default();
    if matches!(why, NotSent::Unauthorized { .. }) {
        // nothing was wrong with the gateway: its turn comes again at once. Behind a gate that stays closed it would spin
        decision.charge.not_sent = charge.not_sent;
        decision.charge.next_at = Some(now);
        decision.charge.waiting = Waiting::Turn;
    }
    decision
}

/// Not sent, and nothing to resolve: the same charge after a backoff.
pub(super) fn wait(charge: &Charge, rule: &'static str, now: Timestamp, policy: &Policy) -> Decision {
    let mut decision = Decision::of(rule, charge.clone());
    let step = usize::from(charge.not_sent).min(policy.backoff.len().saturating_sub(1));
    let pause = policy.backoff.get(step).copied().unwrap_or(SignedDuration::from_mins(1));
    decision.charge.state = ChargeState::Due;
    decision.charge.waiting = Waiting::Backoff;
    decision.charge.not_sent = charge.not_sent.saturating_add(1);
    decision.charge.next_at = Some(after(now, pause));
    decision
}

pub(super) fn over_budget(charge: &Charge, until: Timestamp) -> Decision {
    let mut decision = Decision::of("the day's budget is used up", charge.clone());
    decision.charge.waiting = Waiting::Budget;
    decision.charge.next_at = Some(until);
    decision
}

pub(super) fn fused(charge: &Charge, until: Timestamp) -> Decision {
    let mut decision = Decision::of("the account's fuse does not let it through", charge.clone());
    decision.charge.waiting = Waiting::Fuse;
    decision.charge.next_at = Some(until);
    decision
}

pub(super) fn window_closed(charge: &Charge, until: Timestamp) -> Decision {
    let mut decision = Decision::of("no charge may start at this hour", charge.clone());
    decision.charge.waiting = Waiting::Window;
    decision.charge.next_at = Some(until);
    decision
}

/// Still the refused card: waits on until the ladder's end.
pub(super) fn card_not_replaced(charge: &Charge, now: Timestamp, policy: &Policy) -> Decision {
    let local = policy.dunning.of_charge(charge);
    let until = charge.first_declined_at.map(|first| local.give_up_at(first)).filter(|until| *until > now);
    let Some(until) = until else {
        let mut decision = close(charge, "no new card came in time", ChargeState::Unpaid, now);
        decision.end = local.dunning.end.status();
        return decision;
    };
    let mut decision = Decision::of("still the refused card", charge.clone());
    // it may have been paused meanwhile; only a new card wakes it now
    decision.charge.waiting = Waiting::Card;
    decision.charge.next_at = Some(until);
    decision
}

/// W2 refused to ask the billing key. Within the charge's life it waits; beyond it, only another card helps.
pub(super) fn card_stopped(
    charge: &Charge,
    stop: KeyStop,
    until: Timestamp,
    customer_uid: &str,
    now: Timestamp,
    policy: &Policy,
) -> Decision {
    let rule = match stop {
        KeyStop::Spacing => "another charge to this card was sent just now",
        KeyStop::Day => "the same card is not asked twice in 24 hours for one charge",
        KeyStop::Month => "this card has been declined as often as it may be in 30 days",
        KeyStop::Transient => "outages have refused this card as often as it may be asked in a day",
        KeyStop::Refused => "this card was refused for good, for another charge",
        KeyStop::Booked => "PortOne's own schedule is going to charge this card",
    };
    let mut decision = Decision::of(rule, charge.clone());
    let charge = &mut decision.charge;
    let give_up = policy.dunning.of_charge(charge).give_up_at(charge.first_declined_at.unwrap_or(now));
    if stop.passes(until, give_up) {
        charge.waiting = Waiting::CardRest;
        charge.next_at = Some(until.max(now));
        return decision;
    }
    // as after a refused billing key: no try was used up, and its life begins
    charge.first_declined_at.get_or_insert(now);
    charge.waiting = Waiting::Card;
    charge.refused_customer = Some(customer_uid.to_owned());
    charge.next_at = Some(give_up.max(now));
    // an operator may send it into the same stop again
    let fact = format!("{} stopped {now}", told(charge));
    decision.event(EventKind::ChargeDeclined, &fact, decline_fields(Class::HardCard, rule, None));
    decision
}

/// Until the subscription's status changes.
pub(super) fn paused(charge: &Charge) -> Decision {
    let mut decision = Decision::of("the subscription is paused", charge.clone());
    decision.charge.waiting = Waiting::Paused;
    decision.charge.next_at = None;
    decision
}

/// A due charge whose send was left open, as the doubt that it is.
pub(super) fn as_doubt(charge: &Charge, now: Timestamp) -> Charge {
    into_doubt(charge, "a send was left open", LiveChange::Keep, now).charge
}

/// Whether a card was asked for this charge within the last day.
pub(super) fn asked_today(charge: &Charge, now: Timestamp) -> bool {
    let asked = charge.newest_send_at.filter(|_| charge.tries > 0).map(|sent| after(sent, Policy::NEXT_ID_AFTER));
    asked.max(charge.next_id_from()).max(charge.next_id_from_closed()).is_some_and(|until| until > now)
}

/// A new attempt for the new card. The id stays: all sends under it have ended, and none was processed.
pub(super) fn card_changed(charge: &Charge, now: Timestamp) -> Decision {
    let live = match charge.live {
        Some(_) => LiveChange::End { state: AttemptState::Void, imp_uid: None },
        None => LiveChange::Keep,
    };
    send_now(charge, "the card has changed before anything left", live, None, now)
}

/// Resumed, but the card was asked within the last day.
pub(super) fn resumed_early(charge: &Charge) -> Decision {
    let mut decision =
        Decision::of("too early: the card is asked once a day, the next id comes a day after a doubt", charge.clone());
    decision.charge.waiting = Waiting::Retry;
    let asked = charge.newest_send_at.map(|sent| after(sent, Policy::NEXT_ID_AFTER));
    decision.charge.next_at = charge.next_id_from().or(asked);
    decision
}

/// From now on the gateway is asked until it is clear.
pub(super) fn into_doubt(charge: &Charge, rule: &'static str, live: LiveChange, now: Timestamp) -> Decision {
    let mut decision = Decision::of(rule, charge.clone());
    decision.live = live;
    let charge = &mut decision.charge;
    if charge.state != ChargeState::Review {
        charge.state = ChargeState::Doubt;
        charge.waiting = Waiting::LookUp;
    }
    let since = open_send(charge).map_or(now, |send| send.begun_at);
    charge.doubt = Doubt { since: Some(since), ..Doubt::default() };
    charge.not_sent = 0;
    charge.next_at = Some(now);
    decision
}

pub(super) fn into_review(charge: &Charge, rule: &'static str, why: &str, now: Timestamp) -> Decision {
    let mut decision = Decision::of(rule, charge.clone());
    review(&mut decision, rule, why, now);
    decision
}

/// For a person, with an alarm; still looked up.
pub(super) fn review(decision: &mut Decision, cause: &str, why: &str, now: Timestamp) {
    let charge = &mut decision.charge;
    charge.state = ChargeState::Review;
    charge.waiting = Waiting::Operator;
    charge.doubt.since.get_or_insert(now);
    // from here on it says that a wrong payment has been told; that the doubt lasted is no news of what shows up
    charge.doubt.alarmed = false;
    charge.next_at = Some(next_look_up(charge, now));
    // ruled to be due it may come back with nothing sent in between: adopted failures are tries, and the rest has its own beginning
    let [sent, since] = [charge.newest_send_at, charge.doubt.since].map(|at| at.map(|at| at.to_string()).unwrap_or_default());
    let fact = format!("{cause} {} {sent} {since}", told(charge));
    decision.event(EventKind::ChargeReview, &fact, json!({ "cause": cause, "detail": why }));
}

/// Closed without payment; swept for a late `paid` (R6).
pub(super) fn close(charge: &Charge, rule: &'static str, state: ChargeState, now: Timestamp) -> Decision {
    let mut decision = Decision::of(rule, charge.clone());
    decision.send = open_send(charge).map(|send| (send.id, SendEnd::Absent));
    if charge.live.is_some() {
        decision.live = LiveChange::End { state: AttemptState::Void, imp_uid: None };
    }
    shut(&mut decision, state, now);
    let kind = if state == ChargeState::Void { EventKind::ChargeVoid } else { EventKind::ChargeUnpaid };
    // an operator may have it sent once more, and close it again before it was
    let fact = format!("{} closed {now}", told(charge));
    decision.event(kind, &fact, json!({ "reason": rule }));
    decision
}

fn shut(decision: &mut Decision, state: ChargeState, now: Timestamp) {
    let charge = &mut decision.charge;
    charge.state = state;
    charge.waiting = Waiting::Nothing;
    charge.refused_customer = None;
    charge.doubt = Doubt { since: Some(now), ..Doubt::default() };
    charge.next_at = (charge.newest_send_at.is_some()).then(|| after(now, SignedDuration::from_hours(1)));
}

/// Its turn is now; the look-up before the send still stands between it and the gateway.
pub(super) fn send_now(
    charge: &Charge,
    rule: &'static str,
    live: LiveChange,
    send: Option<(SendId, SendEnd)>,
    now: Timestamp,
) -> Decision {
    let mut decision = Decision::of(rule, charge.clone());
    decision.live = live;
    decision.send = send;
    decision.charge.state = ChargeState::Due;
    decision.charge.waiting = Waiting::Turn;
    decision.charge.doubt = Doubt::default();
    decision.charge.refused_customer = None;
    decision.charge.next_at = Some(now);
    decision
}

pub(super) fn after(instant: Timestamp, wait: SignedDuration) -> Timestamp {
    instant.checked_add(wait).unwrap_or(Timestamp::MAX)
}
