//! Doubt: what a look-up means, and how a charge leaves doubt (R1 to R6).

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::attempt::{AttemptState, Hint, Send, SendEnd};
use super::charge::{Charge, ChargeState, Doubt, Waiting};
use super::decide::{Adopted, Decision, IncidentKind, LiveChange, Policy, wrong_payment_detail};
use super::decline::Class;
use super::event::EventKind;
use super::outcome::{Findings, Found, Mismatch, RecordStatus};
use super::rules::{
    advance_id, after, after_decline, count_try, declined, double_charge, into_review, keep_r7, open_send, paid_wrong, review,
    send_now, settle,
};

/// R5: minutes after a doubt began at which it is looked up; hourly after the last.
const LOOK_UP_MINUTES: [i64; 8] = [0, 1, 2, 5, 10, 20, 40, 60];

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
            let known = decision.charge.paid_imp_uid.as_deref() == Some(other.record.imp_uid.as_str());
            if decision.charge.state == ChargeState::Paid && !known {
                double_charge(&mut decision, &other.record.imp_uid);
            }
        }
        if charge.state == ChargeState::Paid {
            for found in wrong {
                let mismatch = found.mismatch.unwrap_or(Mismatch::Amount);
                decision.incident(IncidentKind::WrongPayment, wrong_payment_detail(&found.record, mismatch));
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
    // once it is in review only the rest counts, so that R2 and R3 may come to hold for an operator's `void`
    if let Some(found) = with(RecordStatus::Cancelled).next().filter(|_| charge.state != ChargeState::Review) {
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
        let class = found.record.class(&policy.declines);
        return declined(charge, rule, class, &text, Some(imp_uid), SendEnd::Found, now, policy);
    }
    let customer_uid = found.record.customer_uid.clone().unwrap_or_default();
    let mut decision = Decision::of(rule, charge.clone());
    let class = found.record.class(&policy.declines);
    decision.refusal = Some(class);
    decision.adopt.push(Adopted {
        id_number: found.id_number,
        state: AttemptState::Declined,
        imp_uid,
        customer_uid: customer_uid.clone(),
    });
    count_try(&mut decision.charge, Some(customer_uid.as_str()).filter(|customer| !customer.is_empty()), now);
    advance_id(&mut decision, found.id_number);
    after_decline(&mut decision, class, &text, Some(customer_uid), now, policy);
    keep_r7(&mut decision, now);
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

/// What the gateway shows of the send that is open.
fn of_send<'a>(charge: &Charge, findings: &'a Findings) -> impl Iterator<Item = &'a Found> {
    let id = charge.live_id();
    findings.records.iter().filter(move |found| !found.known && found.id_number == id)
}

/// How the open send ends that has not been paid: what has a record was not lost, and nobody says so.
pub(super) fn end_unpaid(charge: &Charge, findings: &Findings) -> SendEnd {
    if of_send(charge, findings).next().is_some() { SendEnd::Found } else { SendEnd::Absent }
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
        let settled = decision.charge.state == ChargeState::Paid || !decision.incidents.is_empty();
        return match open_send(charge) {
            Some(send) if decision.is_truth && !settled => paid_elsewhere(decision, send, findings, now, policy),
            _ => decision,
        };
    }
    let failure = newest_unknown_failure(charge, findings);
    if let Some(decision) = refusal_confirmed(charge, findings, failure, now, policy) {
        return decision;
    }
    if confirms_quiet(charge, findings, policy) {
        return conclude(charge, failure, now, policy);
    }
    not_yet(charge, findings, now, policy)
}

/// Looked up again when R2 and R3 may first hold.
fn not_yet(charge: &Charge, findings: &Findings, now: Timestamp, policy: &Policy) -> Decision {
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

/// Paid under another id while a send is open: that send ends like any other (R2, R3), and then the payment settles the charge.
fn paid_elsewhere(mut decision: Decision, send: Send, findings: &Findings, now: Timestamp, policy: &Policy) -> Decision {
    let over = |found: &Found| matches!(found.record.status, RecordStatus::Failed | RecordStatus::Cancelled);
    if !of_send(&decision.charge, findings).all(over) {
        let mut waits = still_in_doubt(&decision.charge, decision.rule, now);
        (waits.charge.doubt.quiet_since, waits.is_truth) = (None, true);
        return waits;
    }
    if !confirms_quiet(&decision.charge, findings, policy) {
        return Decision { rule: decision.rule, is_truth: true, ..not_yet(&decision.charge, findings, now, policy) };
    }
    decision.send = Some((send.id, end_unpaid(&decision.charge, findings)));
    if let Some(failed) = of_send(&decision.charge, findings).filter(|found| found.record.status == RecordStatus::Failed).last() {
        decision.live = LiveChange::End { state: AttemptState::Declined, imp_uid: Some(failed.record.imp_uid.clone()) };
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
        decision.refusal = Some(Class::HardCard);
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
        if charge.live.is_none() {
            return adopt_failure(charge, "R4 only failed records", found, now, policy);
        }
        // with a live attempt, it is that one's
        let class =
            if hint == Some(Hint::Text(Class::Ambiguous)) { Class::Ambiguous } else { found.record.class(&policy.declines) };
        let text = found.record.fail_reason.clone().unwrap_or_default();
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
            && !(charge.doubt.alarmed && found.mismatch.is_some() && charge.state != ChargeState::Paid)
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
pub(super) fn next_look_up(charge: &Charge, now: Timestamp) -> Timestamp {
    let since = charge.doubt.since.unwrap_or(now);
    let minutes = now.duration_since(since).as_secs() / 60;
    let next = LOOK_UP_MINUTES.into_iter().find(|at| *at > minutes).unwrap_or((minutes / 60 + 1) * 60);
    after(since, SignedDuration::from_mins(next))
}
