//! The rules that several arms of [`super::decide`] share: settling, declining, leaving doubt (R1 to R8).

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::attempt::{AttemptState, Hint, IdNumber, SendEnd, SendId};
use super::charge::{Charge, ChargeState, Doubt, IdMode, PaidElsewhere, Waiting};
use super::decide::{Adopted, Decision, IncidentKind, LiveChange, Policy, not_sent_rule, wrong_payment_detail};
use super::decline::Class;
use super::event::{EventKind, decline_fields};
use super::outcome::{Findings, Found, Mismatch, NotSent, Record, RecordStatus};

/// R5: minutes after a doubt began at which it is looked up; hourly after the last.
const LOOK_UP_MINUTES: [i64; 8] = [0, 1, 2, 5, 10, 20, 40, 60];

pub(super) fn is_open(charge: &Charge, send: SendId) -> bool {
    open_send(charge).is_some_and(|open| open.id == send)
}

fn open_send(charge: &Charge) -> Option<super::attempt::Send> {
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

fn double_charge(decision: &mut Decision, second: &str) {
    decision.charge.doubt.alarmed = true;
    let first = decision.charge.paid_imp_uid.clone().unwrap_or_default();
    decision.incident(IncidentKind::DoubleCharge, format!("{first} and {second} are both paid"));
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
    decision.live = LiveChange::End { state: AttemptState::Declined, imp_uid };
    let customer = charge.live.as_ref().map(|live| live.customer_uid.clone());
    decision.charge.tries = charge.tries.saturating_add(1);
    decision.charge.first_declined_at.get_or_insert(now);
    decision.charge.not_sent = 0;
    if has_record {
        advance_id(&mut decision, id_number);
    }
    after_decline(&mut decision, class, text, customer, now, policy);
    decision
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
fn after_decline(decision: &mut Decision, class: Class, text: &str, customer: Option<String>, now: Timestamp, policy: &Policy) {
    let charge = &mut decision.charge;
    charge.doubt = Doubt::default();
    let first = charge.first_declined_at.unwrap_or(now);
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
    let next = match class {
        _ if charge.tries >= Policy::MOST_TRIES => None,
        Class::HardCard => Some(policy.ladder.give_up_at(first)).filter(|until| *until > now),
        _ => policy.ladder.next_try(charge.tries, first, class),
    };
    let Some(mut next) = next else {
        let fact = charge.tries.to_string();
        shut(decision, ChargeState::Unpaid, now);
        decision.event(EventKind::ChargeDeclined, &fact, decline_fields(class, text, None));
        decision.event(EventKind::ChargeUnpaid, &fact, decline_fields(class, text, None));
        return;
    };
    if class != Class::HardCard {
        // R7 asks for a day before the next id where a look-up ended the doubt; the same card is asked once a day anyway
        next = next.max(after(now, Policy::NEXT_ID_AFTER));
    }
    charge.state = ChargeState::Due;
    charge.next_at = Some(next.max(now));
    (charge.waiting, charge.refused_customer) =
        if class == Class::HardCard { (Waiting::Card, customer) } else { (Waiting::Retry, None) };
    let shown = (class != Class::HardCard).then_some(next);
    let fact = charge.tries.to_string();
    decision.event(EventKind::ChargeDeclined, &fact, decline_fields(class, text, shown));
}

/// Proven not to have left: the same id after a backoff, no waiting for Q, and no try is used up.
pub(super) fn not_sent(charge: &Charge, why: &NotSent, now: Timestamp, policy: &Policy) -> Decision {
    let mut decision = wait(charge, not_sent_rule(why), now, policy);
    decision.send = open_send(charge).map(|send| (send.id, SendEnd::NotSent));
    decision.charge.doubt = Doubt::default();
    if !matches!(why, NotSent::Unreachable(_)) {
        // nothing was wrong with the gateway: its turn comes again at once
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

/// Still the refused card: waits on until the ladder's end.
pub(super) fn card_not_replaced(charge: &Charge, now: Timestamp, policy: &Policy) -> Decision {
    let until = charge.first_declined_at.map(|first| policy.ladder.give_up_at(first)).filter(|until| *until > now);
    let Some(until) = until else {
        return close(charge, "no new card came in time", ChargeState::Unpaid, now);
    };
    let mut decision = Decision::of("still the refused card", charge.clone());
    decision.charge.next_at = Some(until);
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
fn review(decision: &mut Decision, cause: &str, why: &str, now: Timestamp) {
    let charge = &mut decision.charge;
    charge.state = ChargeState::Review;
    charge.waiting = Waiting::Operator;
    charge.doubt.since.get_or_insert(now);
    charge.next_at = Some(next_look_up(charge, now));
    let sent = charge.newest_send_at.map(|at| at.to_string()).unwrap_or_default();
    let fact = format!("{cause} {} {sent}", charge.attempts);
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
    decision.event(kind, &charge.tries.to_string(), json!({ "reason": rule }));
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

/// What the gateway shows for certain, before "not paid" is considered. `None`: nothing, or only failed records.
fn shown(charge: &Charge, findings: &Findings, now: Timestamp) -> Option<Decision> {
    let with = |status: RecordStatus| findings.records.iter().filter(move |found| found.record.status == status);
    let (wrong, paid): (Vec<&Found>, Vec<&Found>) = with(RecordStatus::Paid).partition(|found| found.mismatch.is_some());
    let live_id = charge.live.as_ref().map(|live| live.id_number);
    let first = paid.iter().find(|found| Some(found.id_number) == live_id).or(paid.first());
    if let Some(first) = first {
        let customer = first.record.customer_uid.clone().unwrap_or_default();
        let rule = "R1 a look-up shows it paid";
        let mut decision = settle(charge, rule, &first.record, first.id_number, &customer, SendEnd::Found);
        for other in paid.iter().filter(|found| found.record.imp_uid != first.record.imp_uid) {
            if decision.charge.state == ChargeState::Paid {
                double_charge(&mut decision, &other.record.imp_uid);
            }
        }
        return Some(decision);
    }
    if let Some(found) = wrong.first() {
        let mismatch = found.mismatch.unwrap_or(Mismatch::Amount);
        if charge.state == ChargeState::Review && charge.doubt.alarmed {
            return Some(still_in_doubt(charge, "paid, but not what was asked for", now));
        }
        return Some(paid_wrong(charge, None, found.id_number, &found.record, mismatch, now));
    }
    if let Some(found) = with(RecordStatus::Cancelled).find(|found| !found.known) {
        if charge.state == ChargeState::Review {
            return Some(still_in_doubt(charge, "the gateway shows it cancelled", now));
        }
        let why = format!("{} under {} is cancelled", found.record.imp_uid, found.record.merchant_uid);
        return Some(into_review(charge, "the gateway shows it cancelled", &why, now));
    }
    let unclear = |status: &RecordStatus| matches!(status, RecordStatus::Ready | RecordStatus::Unknown(_));
    findings.records.iter().any(|found| unclear(&found.record.status)).then(|| {
        let mut decision = still_in_doubt(charge, "ready is never unpaid", now);
        decision.charge.doubt.quiet_since = None;
        decision.charge.doubt.quiet_twice = false;
        decision
    })
}

/// A look-up before a send (E1) that showed a record which we do not know.
pub(super) fn probed(charge: &Charge, findings: &Findings, now: Timestamp, policy: &Policy) -> Decision {
    if let Some(mut decision) = shown(charge, findings, now) {
        if decision.charge.state == ChargeState::Due {
            // something is under way at the gateway that we know nothing of
            decision.charge.state = ChargeState::Doubt;
            decision.charge.waiting = Waiting::LookUp;
            decision.charge.doubt = Doubt { since: Some(now), looks: 1, ..Doubt::default() };
            decision.charge.next_at = Some(next_look_up(&decision.charge, now));
        }
        return decision;
    }
    match newest_unknown_failure(charge, findings) {
        Some(found) => adopt_failure(charge, "E1 the id has been used", found, now, policy),
        None => send_now(charge, "E1 nothing new", LiveChange::Keep, None, now),
    }
}

/// A failed record that no attempt of ours carries: a decline that this database had not recorded.
fn adopt_failure(charge: &Charge, rule: &'static str, found: &Found, now: Timestamp, policy: &Policy) -> Decision {
    let text = found.record.fail_reason.clone().unwrap_or_default();
    let imp_uid = found.record.imp_uid.clone();
    if charge.live.as_ref().is_some_and(|live| live.id_number == found.id_number) {
        let class = found.record.class();
        return declined(charge, rule, class, &text, Some(imp_uid), SendEnd::Found, now, policy);
    }
    let customer_uid = found.record.customer_uid.clone().unwrap_or_default();
    let mut decision = Decision::of(rule, charge.clone());
    decision.adopt.push(Adopted {
        id_number: found.id_number,
        state: AttemptState::Declined,
        imp_uid,
        customer_uid: customer_uid.clone(),
    });
    decision.charge.tries = charge.tries.saturating_add(1);
    decision.charge.first_declined_at.get_or_insert(now);
    advance_id(&mut decision, found.id_number);
    after_decline(&mut decision, found.record.class(), &text, Some(customer_uid), now, policy);
    decision
}

/// The newest failed record under the id of the live attempt (or, without one, of the next) that we do not know.
pub(super) fn newest_unknown_failure<'a>(charge: &Charge, findings: &'a Findings) -> Option<&'a Found> {
    let id = charge.live.as_ref().map(|live| live.id_number);
    findings
        .records
        .iter()
        .filter(|found| !found.known && found.record.status == RecordStatus::Failed)
        .filter(|found| id.map_or(found.id_number >= charge.id_number, |id| found.id_number == id))
        .max_by_key(|found| (found.id_number, found.record.at))
}

/// R2: a look-up may be believed to show "not paid" only if it BEGAN at least Q after the newest send.
fn may_be_believed(charge: &Charge, findings: &Findings, policy: &Policy) -> bool {
    let newest = charge.newest_send_at.max(open_send(charge).map(|send| send.begun_at));
    newest.is_none_or(|newest| findings.began_at >= after(newest, policy.quiet()))
}

/// R3: two such look-ups, five minutes apart.
pub(super) fn confirms_quiet(charge: &Charge, findings: &Findings, policy: &Policy) -> bool {
    let first = charge.doubt.quiet_since;
    may_be_believed(charge, findings, policy) && first.is_some_and(|first| findings.began_at >= after(first, Policy::QUIET_GAP))
}

/// A look-up of a charge in doubt or in review.
pub(super) fn looked_up(charge: &Charge, findings: &Findings, now: Timestamp, policy: &Policy) -> Decision {
    if let Some(decision) = shown(charge, findings, now) {
        return decision;
    }
    let failure = newest_unknown_failure(charge, findings);
    if let Some(decision) = refusal_confirmed(charge, findings, failure, now, policy) {
        return decision;
    }
    if confirms_quiet(charge, findings, policy) {
        return conclude(charge, failure, now, policy);
    }
    let mut decision = still_in_doubt(charge, "R2 too early to believe that it is not paid", now);
    let charge = &mut decision.charge;
    if may_be_believed(charge, findings, policy) {
        decision.rule = "R3 not paid, seen once";
        let first = *charge.doubt.quiet_since.get_or_insert(findings.began_at);
        if charge.state == ChargeState::Doubt {
            charge.next_at = Some(after(first, Policy::QUIET_GAP).max(now));
        }
    } else if let Some(newest) = charge.newest_send_at {
        // be there when it may first be believed
        let believable = after(newest, policy.quiet());
        charge.next_at = charge.next_at.map(|next| if believable > now { next.min(believable) } else { next });
    }
    decision
}

/// A listed refusal is definite: one later look-up without a record ends it, no waiting and no resend.
fn refusal_confirmed(
    charge: &Charge,
    findings: &Findings,
    failure: Option<&Found>,
    now: Timestamp,
    policy: &Policy,
) -> Option<Decision> {
    let live = charge.live.as_ref()?;
    let send = live.open_send?;
    let key = match live.hint {
        Some(Hint::RefusedKey) => true,
        Some(Hint::RefusedRequest) => false,
        _ => return None,
    };
    if charge.state != ChargeState::Doubt || live.resends > 0 || failure.is_some() || findings.began_at < send.begun_at {
        return None;
    }
    let mut decision = Decision::of("refused, and a look-up shows no record", charge.clone());
    decision.send = Some((send.id, SendEnd::Answered));
    decision.live = LiveChange::End { state: AttemptState::Refused, imp_uid: None };
    if key {
        decision.charge.first_declined_at.get_or_insert(now);
        let text = "the gateway does not know this customer_uid";
        after_decline(&mut decision, Class::HardCard, text, Some(live.customer_uid.clone()), now, policy);
    } else {
        decision.charge.doubt = Doubt::default();
        review(&mut decision, "request refused", "the gateway refused the request itself", now);
    }
    Some(decision)
}

/// R4: two believable look-ups show nothing, or only failed records.
fn conclude(charge: &Charge, failure: Option<&Found>, now: Timestamp, policy: &Policy) -> Decision {
    if charge.state == ChargeState::Review {
        let mut decision = still_in_doubt(charge, "R3 not paid, seen twice: an operator may rule", now);
        decision.charge.doubt.quiet_twice = true;
        return decision;
    }
    let hint = charge.live.as_ref().and_then(|live| live.hint);
    if let Some(found) = failure {
        let class = if hint == Some(Hint::Text(Class::Ambiguous)) { Class::Ambiguous } else { found.record.class() };
        let text = found.record.fail_reason.clone().unwrap_or_default();
        if charge.live.as_ref().is_none_or(|live| live.id_number != found.id_number) {
            return adopt_failure(charge, "R4 only failed records", found, now, policy);
        }
        let imp_uid = Some(found.record.imp_uid.clone());
        return declined(charge, "R4 only failed records", class, &text, imp_uid, SendEnd::Found, now, policy);
    }
    let Some(live) = &charge.live else {
        return send_now(charge, "R4 nothing was under way", LiveChange::Keep, None, now);
    };
    match hint {
        Some(Hint::Text(class)) if class.is_card_or_funds() => {
            declined(charge, "R4 no record, and the text is about the card", class, "", None, SendEnd::Found, now, policy)
        }
        Some(_) => {
            let mut decision = into_review(charge, "R4 refused without a record", "the refusal's text is no card reason", now);
            decision.charge.doubt.quiet_twice = true;
            decision
        }
        None if live.resends < Policy::RESENDS => {
            let send = live.open_send.map(|send| (send.id, SendEnd::Absent));
            let mut decision = send_now(charge, "R4 lost: the same id again", LiveChange::Resend, send, now);
            decision.charge.waiting = Waiting::Resend;
            decision
        }
        None => {
            let mut decision = into_review(charge, "R4 lost three times", "the send never arrives", now);
            decision.charge.doubt.quiet_twice = true;
            decision
        }
    }
}

/// Nothing is clear: asked again later (R5), with an alarm after two hours and a review after a day.
pub(super) fn still_in_doubt(charge: &Charge, rule: &'static str, now: Timestamp) -> Decision {
    let mut decision = Decision::of(rule, charge.clone());
    let charge = &mut decision.charge;
    let since = *charge.doubt.since.get_or_insert(now);
    charge.doubt.looks = charge.doubt.looks.saturating_add(1);
    charge.next_at = Some(next_look_up(charge, now));
    let age = now.duration_since(since);
    if charge.state == ChargeState::Doubt && age >= Policy::REVIEW_AFTER {
        review(&mut decision, "in doubt for a day", rule, now);
    } else if charge.state == ChargeState::Doubt && age >= Policy::ALARM_AFTER && !charge.doubt.alarmed {
        charge.doubt.alarmed = true;
        decision.event(EventKind::ChargeDoubtOverdue, &since.to_string(), json!({ "since": since, "rule": rule }));
    }
    decision
}

/// R6: a closed charge is looked up once more. A late `paid` overrides it; everything else leaves it closed.
pub(super) fn swept(charge: &Charge, findings: &Findings, now: Timestamp) -> Decision {
    let news = |found: &&Found| {
        found.record.status == RecordStatus::Paid
            && charge.paid_imp_uid.as_deref() != Some(found.record.imp_uid.as_str())
            && !(charge.doubt.alarmed && found.mismatch.is_some())
    };
    if findings.records.iter().any(|found| news(&found))
        && let Some(decision) = shown(charge, findings, now)
    {
        return decision;
    }
    sweep_later(charge, "R6 swept: still closed", now)
}

pub(super) fn sweep_later(charge: &Charge, rule: &'static str, now: Timestamp) -> Decision {
    let mut decision = Decision::of(rule, charge.clone());
    let since = charge.doubt.since.unwrap_or(now);
    let next = after(now, SignedDuration::from_hours(24));
    let over = charge.state == ChargeState::Paid || next > after(since, Policy::SWEEP_FOR);
    decision.charge.next_at = (!over).then_some(next);
    decision
}

/// R5: the first moment of the ladder after now.
fn next_look_up(charge: &Charge, now: Timestamp) -> Timestamp {
    let since = charge.doubt.since.unwrap_or(now);
    let minutes = now.duration_since(since).as_secs() / 60;
    let next = LOOK_UP_MINUTES.into_iter().find(|at| *at > minutes).unwrap_or((minutes / 60 + 1) * 60);
    after(since, SignedDuration::from_mins(next))
}

pub(super) fn after(instant: Timestamp, wait: SignedDuration) -> Timestamp {
    instant.checked_add(wait).unwrap_or(Timestamp::MAX)
}
