//! Edges of how attempts and charges end, which the table does not show: what events and incidents say, and instants that are equal.

use super::*;
use rebilld::domain::attempt::{AttemptState, SendEnd};
use rebilld::domain::event::{Event, EventKind};

fn policy() -> Policy {
    Policy::default()
}

fn told(decision: &Decision, kind: EventKind) -> &Event {
    decision.events.iter().find(|event| event.kind == kind).unwrap()
}

fn declined(class: Class) -> Fact {
    answered(Outcome::Declined(record("imp_failed", 1, RecordStatus::Failed, "[1254][실시간빌링실패|잔액부족]"), class))
}

fn paid(imp_uid: &str) -> Fact {
    answered(Outcome::Paid(record(imp_uid, 1, RecordStatus::Paid, "")))
}

#[test]
fn an_event_says_whether_a_payment_came_after_the_charge_was_given_up() {
    let unpaid = doubt(|charge| (charge.state, charge.live) = (ChargeState::Unpaid, None));
    for (charge, late) in [(sent(), false), (doubt(|_| {}), false), (unpaid, true)] {
        let decision = decide(&charge, &paid("imp_new"), at(1), &policy()).unwrap();
        assert_eq!(told(&decision, EventKind::ChargePaid).data["late"], late, "{:?}", charge.state);
    }
}

#[test]
fn a_second_payment_is_told_once_and_the_first_one_is_none() {
    let charge = |alarmed| Charge {
        state: ChargeState::Paid,
        paid_imp_uid: Some("imp_own".to_owned()),
        doubt: Doubt { alarmed, ..Doubt::default() },
        next_at: None,
        ..fresh()
    };
    let incidents = |charge: &Charge, imp_uid| decide(charge, &paid(imp_uid), at(1), &policy()).unwrap().incidents.len();
    assert_eq!(incidents(&charge(false), "imp_own"), 0);
    assert_eq!(incidents(&charge(false), "imp_second"), 1);
    assert_eq!(incidents(&charge(true), "imp_second"), 0, "said before");
}

/// The process was frozen over the answer. What it wrote may have been written and not acknowledged; or it was not, and others have put
/// the charge into review meanwhile for something else.
#[test]
fn a_wrong_payment_is_taken_for_told_only_where_one_was_told() {
    let wrong = answered(Outcome::PaidWrong(record("imp_wrong", 1, RecordStatus::Paid, ""), Mismatch::Amount));
    let judge = |charge: &Charge| decide(charge, &wrong, at(70), &policy()).unwrap();
    let ended = |mut charge: Charge| {
        charge.live.as_mut().unwrap().open_send = None;
        charge
    };
    let first = judge(&sent());
    let written = ended(first.charge.clone());
    let again = judge(&written);
    assert!(again.was_told(&written, &first));

    let review = ended(doubt(|charge| charge.state = ChargeState::Review));
    assert_eq!(judge(&review).incidents.len(), 1);
    assert!(!judge(&review).was_told(&review, &first), "look-ups have ended the send without any payment");

    let silent = |decision: &Decision| Decision { events: Vec::new(), ..decision.clone() };
    assert!(!again.was_told(&written, &silent(&first)), "something else was told");
    assert!(!silent(&again).was_told(&written, &silent(&first)), "nothing was told");
    let unheard = Charge { doubt: Doubt { alarmed: false, ..written.doubt }, ..written.clone() };
    assert!(!again.was_told(&unheard, &first), "no payment was told");
    let moved = Charge { state: ChargeState::Paid, ..written.clone() };
    assert!(!again.was_told(&moved, &first), "the charge is somewhere else by now");
    let ends = Decision { send: Some((SEND, SendEnd::Answered)), ..again.clone() };
    assert!(!ends.was_told(&written, &first), "a send has yet to be ended");
}

#[test]
fn a_wrong_payment_ends_the_open_send_only_if_it_answers_that_one() {
    let ends = |charge: &Charge, send, id_number| {
        let outcome = Outcome::PaidWrong(record("imp_wrong", 1, RecordStatus::Paid, ""), Mismatch::Amount);
        let fact = Fact::Answered { send, id_number, customer_uid: "card-1".to_owned(), outcome };
        decide(charge, &fact, at(1), &policy()).unwrap().send
    };
    assert_eq!(ends(&sent(), SEND, IdNumber::FIRST), Some((SEND, SendEnd::Answered)));
    assert_eq!(ends(&sent(), SendId(1), IdNumber::FIRST), None, "an earlier send, of a resend");
    assert_eq!(ends(&sent(), SEND, IdNumber::new(2).unwrap()), None, "of another attempt");
}

#[test]
fn why_an_account_is_paused_names_the_gateways_text_and_the_remedy() {
    let answer =
        answered(Outcome::Doubt { cause: DoubtCause::Code(Class::Merchant), detail: "no contract".to_owned(), record: None });
    for fact in [declined(Class::Merchant), answer] {
        let why = decide(&sent(), &fact, at(1), &policy()).unwrap().pause.unwrap();
        assert!(why.contains("MERCHANT") && why.contains("rebilld hold release --account"), "{why}");
        assert!(why.contains("잔액부족") || why.contains("no contract"), "{why}");
    }
}

#[test]
fn a_decline_tells_when_the_card_is_tried_again_and_a_card_that_is_refused_is_not() {
    let next = |class| {
        let decision = decide(&sent(), &declined(class), at(1), &policy()).unwrap();
        let next = decision.charge.next_at.unwrap();
        (told(&decision, EventKind::ChargeDeclined).data["next_try_at"].clone(), next.to_string())
    };
    let (shown, next_at) = next(Class::SoftFunds);
    assert_eq!(shown.as_str(), Some(next_at.as_str()));
    assert!(next(Class::HardCard).0.is_null(), "it only waits for another card");
}

#[test]
fn a_doubt_is_as_old_as_its_send() {
    let charge = decide(&sent(), &doubtful(DoubtCause::Transport), at(2), &policy()).unwrap().charge;
    assert_eq!((charge.state, charge.doubt.since), (ChargeState::Doubt, Some(start())));
}

#[test]
fn a_closed_charge_is_swept_from_when_it_was_closed() {
    let mut policy = policy();
    policy.dunning.default = std::sync::Arc::new(Dunning { ladder: Ladder::After(Vec::new()), ..Dunning::default() });
    let charge = decide(&sent(), &declined(Class::SoftFunds), at(2), &policy).unwrap().charge;
    assert_eq!((charge.state, charge.doubt.since), (ChargeState::Unpaid, Some(at(2))));
}

#[test]
fn r7_is_about_the_next_id_so_one_id_a_period_is_free_of_it() {
    for (mode, from) in [(IdMode::PerPeriod, None), (IdMode::PerAttempt, Some(at(66 + 24 * 60)))] {
        let charge = doubt(|charge| (charge.mode, charge.doubt.quiet_since) = (mode, Some(at(61))));
        let failed = record("imp_f", 1, RecordStatus::Failed, "[1254][실시간빌링실패|잔액부족]");
        let fact = Fact::LookedUp(findings(66, vec![(1, failed, false, None)]));
        let charge = decide(&charge, &fact, at(66), &policy()).unwrap().charge;
        assert_eq!((charge.state, charge.waiting, charge.next_id_from()), (ChargeState::Due, Waiting::Retry, from), "{mode:?}");
    }
}

#[test]
fn the_99th_id_is_used_and_after_it_a_person_decides() {
    let declined = |n, mode| {
        let id_number = IdNumber::new(n).unwrap();
        let charge = Charge { mode, id_number, live: Some(Attempt { id_number, ..live(true) }), ..sent() };
        decide(&charge, &declined(Class::SoftFunds), at(1), &policy()).unwrap().charge
    };
    let next = declined(98, IdMode::PerAttempt);
    assert_eq!((next.state, next.id_number.get()), (ChargeState::Due, 99));
    assert_eq!(declined(99, IdMode::PerAttempt).state, ChargeState::Review);
    assert_eq!(declined(99, IdMode::PerPeriod).state, ChargeState::Due, "no further id is needed");
}

#[test]
fn no_ladder_tries_more_often_than_a_period_may_be() {
    let mut policy = policy();
    let many = Ladder::After((1..=30).map(|day| SignedDuration::from_hours(24 * day)).collect());
    let give_up = SignedDuration::from_hours(24 * 60);
    policy.dunning.default = std::sync::Arc::new(Dunning { ladder: many, give_up, ..Dunning::default() });
    let after = |tries| {
        let charge = Charge { tries: tries - 1, first_declined_at: Some(start()), ..sent() };
        decide(&charge, &declined(Class::SoftFunds), at(1), &policy).unwrap().charge.state
    };
    assert_eq!(after(Policy::MOST_TRIES - 1), ChargeState::Due);
    assert_eq!(after(Policy::MOST_TRIES), ChargeState::Unpaid);
}

#[test]
fn a_charge_is_given_up_at_the_instant_at_which_its_life_ends() {
    let life = SignedDuration::from_hours(14 * 24);
    let state = |ended: SignedDuration| {
        let first_declined_at = Some(at(1) - life - ended);
        let refused = decide(&Charge { tries: 1, first_declined_at, ..sent() }, &declined(Class::HardCard), at(1), &policy());
        let waits = Charge { waiting: Waiting::Card, tries: 1, first_declined_at, ..fresh() };
        let waited = decide(&waits, &Fact::CardNotReplaced, at(1), &policy());
        (refused.unwrap().charge.state, waited.unwrap().charge.state)
    };
    assert_eq!(state(SignedDuration::ZERO), (ChargeState::Unpaid, ChargeState::Unpaid));
    assert_eq!(state(SignedDuration::from_mins(-1)), (ChargeState::Due, ChargeState::Due));
}

#[test]
fn an_operator_may_retry_a_day_after_a_card_was_asked_and_at_once_if_none_was() {
    let retry = |tries, sent: Timestamp| {
        let charge = Charge { waiting: Waiting::Retry, tries, newest_send_at: Some(sent), ..fresh() };
        decide(&charge, &Fact::Ruled(Ruling::Retry, findings(70, vec![])), at(70), &policy())
            .map(|decision| decision.charge.waiting)
    };
    let day = SignedDuration::from_hours(24);
    assert_eq!(retry(1, at(71) - day), Err(Refusal::TooSoon));
    assert_eq!(retry(1, at(70) - day), Ok(Waiting::Turn));
    assert_eq!(retry(0, at(69)), Ok(Waiting::Turn), "nothing that was sent reached a card");
}

#[test]
fn without_an_open_send_a_payment_under_another_id_settles_at_once_for_the_card_that_it_names() {
    let two = IdNumber::new(2).unwrap();
    let unsent = Attempt { number: 2, id_number: two, ..live(false) };
    let charge = Charge { attempts: 2, id_number: two, live: Some(unsent), ..sent() };
    let late = Record { customer_uid: Some("card-0".to_owned()), ..record("imp_late", 1, RecordStatus::Paid, "") };
    let decision = decide(&charge, &Fact::LookedUp(findings(70, vec![(1, late, false, None)])), at(70), &policy()).unwrap();
    assert_eq!((decision.charge.state, decision.rule), (ChargeState::Paid, "R1 a look-up shows it paid"));
    assert_eq!(decision.live, LiveChange::End { state: AttemptState::Void, imp_uid: None });
    let of: Vec<_> = decision.adopt.iter().map(|paid| (paid.imp_uid.as_str(), paid.customer_uid.as_str())).collect();
    assert_eq!(of, [("imp_late", "card-0")]);
}

/// Whoever receives events drops an id that it has seen: a review that went unheard would wait for ever. Found by the simulation
/// (seed 100004): what an old copy of the database had forgotten was adopted with nothing sent in between.
#[test]
fn each_time_a_charge_comes_to_review_is_told_under_an_id_of_its_own() {
    let reviewed = |charge: &Charge, fact: &Fact, minute: i64| {
        let decision = decide(charge, fact, at(minute), &policy()).unwrap();
        assert_eq!(decision.charge.state, ChargeState::Review);
        (told(&decision, EventKind::ChargeReview).id.clone(), decision.charge)
    };
    let refused = |imp_uid: &str| {
        let failed = record(imp_uid, 1, RecordStatus::Failed, "[1213][실시간빌링실패|금액 오류]");
        Fact::LookedUp(findings(70, vec![(1, failed, false, None)]))
    };
    let due_again = |charge: Charge| Charge { state: ChargeState::Due, doubt: Doubt::default(), ..charge };
    let one_id = Charge { mode: IdMode::PerPeriod, ..fresh() };
    let (first, charge) = reviewed(&one_id, &refused("imp_one"), 70);
    let (second, _) = reviewed(&due_again(charge), &refused("imp_two"), 70);
    assert_ne!(first, second, "adopted one after the other, with nothing sent");
    let unsendable = Fact::Unsendable("the name is too long".to_owned());
    let (first, charge) = reviewed(&fresh(), &unsendable, 70);
    let (second, _) = reviewed(&due_again(charge.clone()), &unsendable, 71);
    assert_ne!(first, second, "ruled to be sent, and never sent");
    // the same facts have the same id: what is judged again is not told again
    assert_eq!(first, reviewed(&fresh(), &unsendable, 70).0);
}
