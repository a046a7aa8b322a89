//! Edges of the rules that the table does not show: each was found by a change of the code that the table did not notice.

use super::*;
use rebilld::domain::attempt::{AttemptState, SendEnd};
use rebilld::domain::decide::IncidentKind;

fn policy() -> Policy {
    Policy::default()
}

fn hours(hours: i64) -> i64 {
    hours * 60
}

fn review(change: impl FnOnce(&mut Charge)) -> Charge {
    doubt(|charge| {
        (charge.state, charge.waiting) = (ChargeState::Review, Waiting::Operator);
        change(charge);
    })
}

#[test]
fn q_below_its_bound_is_refused() {
    assert!(Policy::new(SignedDuration::from_mins(44)).is_none());
    assert!(Policy::new(SignedDuration::from_mins(45)).is_some());
}

#[cfg(debug_assertions)]
#[test]
fn the_q_of_tests_that_show_what_q_is_for_is_nothing() {
    assert_eq!(Policy::without_quiet().quiet(), SignedDuration::ZERO);
}

#[test]
fn a_closed_charge_is_swept_once_a_day_for_35_days() {
    let closed = Charge {
        state: ChargeState::Unpaid,
        waiting: Waiting::Nothing,
        doubt: Doubt { since: Some(start()), ..Doubt::default() },
        newest_send_at: Some(start()),
        ..fresh()
    };
    let swept = |began| decide(&closed, &Fact::LookedUp(findings(began, vec![])), at(began), &policy()).unwrap().charge.next_at;
    assert_eq!(swept(hours(20 * 24)), Some(at(hours(21 * 24))));
    assert_eq!(swept(hours(34 * 24)), Some(at(hours(35 * 24))), "the last one");
    assert_eq!(swept(hours(34 * 24) + 1), None);
}

#[test]
fn incidents_are_read_back_by_their_names() {
    for kind in IncidentKind::ALL {
        assert_eq!(IncidentKind::from_name(kind.name()), Some(kind));
    }
    assert_eq!(IncidentKind::from_name("nothing"), None);
}

#[test]
fn a_decision_carries_the_grace_of_its_ladder() {
    let mut policy = policy();
    let grace = SignedDuration::from_hours(48);
    policy.dunning.default = std::sync::Arc::new(Dunning { grace, ..Dunning::default() });
    assert_eq!(decide(&fresh(), &Fact::SubscriptionPaused, at(1), &policy).unwrap().grace, grace);
}

#[test]
fn an_operator_cannot_try_more_often_than_a_period_may_be() {
    let tried = |tries| {
        review(|charge| {
            (charge.tries, charge.live, charge.newest_send_at) = (tries, None, Some(at(-hours(48))));
            charge.doubt.since = Some(at(-hours(24)));
        })
    };
    let retry = |charge: &Charge| decide(charge, &Fact::Ruled(Ruling::Retry, findings(70, vec![])), at(70), &policy());
    assert!(retry(&tried(Policy::MOST_TRIES - 1)).is_ok());
    assert_eq!(retry(&tried(Policy::MOST_TRIES)), Err(Refusal::TooManyTries));
}

#[test]
fn unpaid_has_to_be_seen_twice_even_where_no_send_is_open() {
    let charge = review(|charge| charge.live = Some(live(false)));
    let unpaid = |charge: &Charge| decide(charge, &Fact::Ruled(Ruling::Unpaid, findings(70, vec![])), at(70), &policy());
    assert_eq!(unpaid(&charge), Err(Refusal::NotQuiet));
    let quiet = Charge { doubt: Doubt { quiet_twice: true, ..charge.doubt }, ..charge };
    assert_eq!(unpaid(&quiet).unwrap().charge.state, ChargeState::Unpaid);
}

#[test]
fn a_ruling_of_paid_names_a_payment_that_is_paid() {
    let rule = |imp_uid: &str| {
        let records = vec![
            (1, record("imp_failed", 1, RecordStatus::Failed, "?"), false, None),
            (2, record("imp_other", 2, RecordStatus::Paid, ""), false, None),
        ];
        let ruling = Ruling::Paid { imp_uid: imp_uid.to_owned() };
        decide(&review(|_| {}), &Fact::Ruled(ruling, findings(70, records)), at(70), &policy())
    };
    assert_eq!(rule("imp_failed"), Err(Refusal::NoSuchPayment), "it is shown, and not paid");
    assert_eq!(rule("imp_new"), Err(Refusal::NoSuchPayment), "another one is paid");
    assert!(rule("imp_other").is_ok());
}

#[test]
fn a_failure_of_an_earlier_id_is_no_record_of_the_send_that_is_closed() {
    let two = IdNumber::new(2).unwrap();
    let charge = review(|charge| {
        (charge.attempts, charge.id_number, charge.doubt.quiet_twice) = (2, two, true);
        charge.live = Some(Attempt { number: 2, id_number: two, ..live(true) });
    });
    let end = |id| {
        let failed = record("imp_failed", id, RecordStatus::Failed, "[1254][실시간빌링실패|잔액부족]");
        let fact = Fact::Ruled(Ruling::Void, findings(70, vec![(id, failed, false, None)]));
        decide(&charge, &fact, at(70), &policy()).unwrap().send.map(|(_, end)| end)
    };
    assert_eq!([1, 2].map(end), [SendEnd::Absent, SendEnd::Found].map(Some));
}

#[test]
fn with_one_id_a_period_a_resend_keeps_its_attempt() {
    let ruled = |mode, records| {
        let charge = review(|charge| (charge.mode, charge.doubt.quiet_twice) = (mode, true));
        decide(&charge, &Fact::Ruled(Ruling::Resend, findings(70, records)), at(70), &policy()).unwrap()
    };
    let failed = || vec![(1, record("imp_failed", 1, RecordStatus::Failed, "[1254][실시간빌링실패|잔액부족]"), false, None)];
    let resend = |mode| ruled(mode, failed());
    // seed 193 of the simulation, on PostgreSQL: the books said `absent` of it
    let kept = resend(IdMode::PerPeriod);
    assert_eq!((kept.live, kept.send.map(|(_, end)| end)), (LiveChange::Resend, Some(SendEnd::Found)));
    // its send leaves its bytes to the attempt
    let lost = ruled(IdMode::PerPeriod, vec![]);
    assert_eq!((lost.live, lost.send.map(|(_, end)| end)), (LiveChange::Resend, Some(SendEnd::Absent)));
    let declined = resend(IdMode::PerAttempt);
    assert_eq!(declined.send.map(|(_, end)| end), Some(SendEnd::Found), "it has a record");
    assert!(matches!(declined.live, LiveChange::End { .. }));
    // seed 10 of the simulation: what had failed when the operator looked was paid within the hour, under both ids
    assert_eq!(declined.charge.next_at, Some(at(70 + 24 * 60)), "R7 for the next id, whoever asks for it");
    assert_eq!((declined.charge.tries, declined.charge.waiting), (1, Waiting::Retry), "and it was a try");
}

/// The last rung's failure was seen a day after it was sent: its sends are old, and what ended them is new.
#[test]
fn a_retry_of_a_closed_charge_keeps_r7() {
    let retry = |change: &dyn Fn(&mut Charge), minute| {
        let mut charge = Charge {
            state: ChargeState::Unpaid,
            waiting: Waiting::Nothing,
            attempts: 2,
            tries: 2,
            newest_send_at: Some(start()),
            doubt: Doubt { since: Some(at(hours(23))), ..Doubt::default() },
            id_number: IdNumber::new(3).unwrap(),
            ..fresh()
        };
        change(&mut charge);
        decide(&charge, &Fact::Ruled(Ruling::Retry, findings(minute, vec![])), at(minute), &policy()).map(|_| ())
    };
    let review = |charge: &mut Charge| (charge.state, charge.waiting) = (ChargeState::Review, Waiting::Operator);
    let early = hours(23 + 24) - 1;
    assert_eq!(retry(&|_| {}, early), Err(Refusal::TooSoon));
    assert_eq!(retry(&review, early), Err(Refusal::TooSoon));
    assert_eq!(retry(&|_| {}, early + 1), Ok(()));
    assert_eq!(retry(&review, early + 1), Ok(()));
    assert_eq!(retry(&|charge| charge.mode = IdMode::PerPeriod, early), Ok(()), "there is no next id");
    assert_eq!(retry(&|charge| charge.tries = 0, early), Ok(()), "no card was asked, so the id is the same");
}

#[test]
fn a_resend_is_no_way_around_the_cap_of_tries() {
    let charge = review(|charge| {
        (charge.mode, charge.doubt.quiet_twice) = (IdMode::PerAttempt, true);
        charge.tries = Policy::MOST_TRIES - 1;
    });
    let failed = record("imp_failed", 1, RecordStatus::Failed, "[1254][실시간빌링실패|잔액부족]");
    let fact = Fact::Ruled(Ruling::Resend, findings(70, vec![(1, failed, false, None)]));
    assert_eq!(decide(&charge, &fact, at(70), &policy()).unwrap_err(), Refusal::TooManyTries);
}

#[test]
fn a_wrong_payment_is_told_once_and_only_in_review() {
    let wrong = || {
        let record = record("imp_wrong", 1, RecordStatus::Paid, "");
        Fact::LookedUp(findings(70, vec![(1, record, false, Some(Mismatch::Amount))]))
    };
    let first = decide(&doubt(|_| {}), &wrong(), at(70), &policy()).unwrap();
    assert_eq!((first.charge.state, first.incidents.len()), (ChargeState::Review, 1));
    let again = decide(&first.charge, &wrong(), at(130), &policy()).unwrap();
    assert_eq!((again.charge.state, again.incidents.len()), (ChargeState::Review, 0));
    // an alarm for another reason (two hours of doubt) does not swallow it
    let alarmed = doubt(|charge| charge.doubt.alarmed = true);
    assert_eq!(decide(&alarmed, &wrong(), at(70), &policy()).unwrap().incidents.len(), 1);
}

#[test]
fn what_a_look_before_the_send_shows_as_pending_is_a_doubt_that_begins_now() {
    let ready = Fact::LookedUp(findings(70, vec![(1, record("imp_r", 1, RecordStatus::Ready, ""), false, None)]));
    let charge = decide(&fresh(), &ready, at(70), &policy()).unwrap().charge;
    assert_eq!((charge.state, charge.doubt.since, charge.doubt.looks), (ChargeState::Doubt, Some(at(70)), 1));
}

#[test]
fn a_failure_of_a_lost_life_counts_for_the_card_that_was_asked() {
    // the id has been used, and this database knows nothing of it: `customer_uid` says whose card it was
    let used = |customer: Option<&str>| {
        let mut failed = record("imp_failed", 1, RecordStatus::Failed, "[1254][실시간빌링실패|잔액부족]");
        failed.customer_uid = customer.map(str::to_owned);
        let fact = Fact::LookedUp(findings(70, vec![(1, failed, false, None)]));
        decide(&fresh(), &fact, at(70), &policy()).unwrap().charge
    };
    assert_eq!(used(Some("card-9")).course.declined_customer.as_deref(), Some("card-9"));
    assert_eq!((used(None).tries, used(None).course.declined_customer), (1, None), "nobody knows whose");
    assert_eq!(used(Some("")).course.declined_customer, None, "nobody knows whose");
}

#[test]
fn a_charge_in_doubt_is_looked_up_again_when_it_may_first_be_believed() {
    let next =
        |began| decide(&doubt(|_| {}), &Fact::LookedUp(findings(began, vec![])), at(began), &policy()).unwrap().charge.next_at;
    assert_eq!(next(41), Some(at(60)), "the ladder of look-ups comes to it as well");
    let late = |minutes| {
        let mut charge = doubt(|charge| charge.newest_send_at = Some(at(minutes)));
        charge.live.as_mut().unwrap().open_send = Some(Send { id: SEND, begun_at: at(minutes) });
        decide(&charge, &Fact::LookedUp(findings(61, vec![])), at(61), &policy()).unwrap().charge.next_at
    };
    assert_eq!(late(10), Some(at(70)), "Q after the newest send, long before the hour is full");
    // a look-up that began early, and is judged when Q is over: the ladder, and not an instant that has passed
    let judged = decide(&doubt(|_| {}), &Fact::LookedUp(findings(59, vec![])), at(75), &policy()).unwrap().charge;
    assert_eq!(judged.next_at, Some(at(120)));
}

#[test]
fn a_closed_gate_is_not_run_into_without_end() {
    let shut = |not_sent| {
        let charge = Charge { not_sent, ..sent() };
        let fact = answered(Outcome::NotSent(NotSent::Gate("the state directory is not writable")));
        decide(&charge, &fact, at(1), &Policy::default()).unwrap().charge
    };
    assert_eq!(shut(0).next_at, Some(at(1) + SignedDuration::from_secs(5)));
    assert_eq!((shut(9).next_at, shut(9).not_sent), (Some(at(16)), 10));
}

#[test]
fn at_the_instant_at_which_q_ends_the_ladder_of_look_ups_goes_on() {
    let judged = decide(&doubt(|_| {}), &Fact::LookedUp(findings(59, vec![])), at(60), &policy()).unwrap().charge;
    assert_eq!(judged.next_at, Some(at(120)));
}

#[test]
fn a_listed_refusal_is_ended_by_a_look_up_from_after_it_of_its_first_send_in_doubt() {
    for hint in [Hint::RefusedKey, Hint::RefusedRequest] {
        let look = |began, change: &dyn Fn(&mut Charge)| {
            let mut charge = hinted(hint);
            change(&mut charge);
            decide(&charge, &Fact::LookedUp(findings(began, vec![])), at(3), &policy()).unwrap()
        };
        let ended = |decision: &Decision| decision.live == LiveChange::End { state: AttemptState::Refused, imp_uid: None };
        assert!(ended(&look(1, &|_| {})));
        assert!(ended(&look(0, &|_| {})), "it began at the instant of the send: what came of the send was known");
        assert!(!ended(&look(-1, &|_| {})), "it began before the send");
        assert!(!ended(&look(1, &|charge| charge.live.as_mut().unwrap().resends = 1)), "a send before it may have arrived");
        assert!(!ended(&look(1, &|charge| charge.state = ChargeState::Review)), "an operator rules on it");
    }
}

/// A look-up that shows 01 paid, beside what it shows of 02, whose send is open and was seen as not paid once.
fn paid_beside(records: Vec<(u8, Record, bool, Option<Mismatch>)>) -> Decision {
    let (mut charge, _) = paid_under_another_id(ChargeState::Doubt, 66);
    charge.doubt.quiet_since = Some(at(61));
    let late = (1, record("imp_late", 1, RecordStatus::Paid, ""), false, None);
    decide(&charge, &Fact::LookedUp(findings(66, [vec![late], records].concat())), at(66), &policy()).unwrap()
}

#[test]
fn beside_a_payment_under_another_id_the_open_send_ends_as_what_its_own_records_say() {
    let two = |imp_uid, status, known| (2, record(imp_uid, 2, status, "?"), known, None);
    let ends = |records| {
        let decision = paid_beside(records);
        assert_eq!(decision.charge.state, ChargeState::Paid);
        (decision.send.unwrap().1, decision.live)
    };
    let declined = |imp_uid: &str| LiveChange::End { state: AttemptState::Declined, imp_uid: Some(imp_uid.to_owned()) };
    let void = LiveChange::End { state: AttemptState::Void, imp_uid: None };
    let failed = |imp_uid, known| two(imp_uid, RecordStatus::Failed, known);
    assert_eq!(ends(vec![failed("imp_02", false)]), (SendEnd::Found, declined("imp_02")));
    let cancelled = two("imp_cancelled", RecordStatus::Cancelled, false);
    assert_eq!(ends(vec![failed("imp_02", false), cancelled.clone()]), (SendEnd::Found, declined("imp_02")));
    assert_eq!(ends(vec![cancelled]), (SendEnd::Found, void.clone()));
    assert_eq!(ends(vec![failed("imp_known", true)]), (SendEnd::Absent, void), "what is known is no record of this send");
    let pending = paid_beside(vec![two("imp_ready", RecordStatus::Ready, false)]);
    assert_eq!((pending.charge.state, pending.send), (ChargeState::Doubt, None), "ready is never unpaid");
}

#[test]
fn two_payments_under_other_ids_are_no_incident_before_the_open_send_has_ended() {
    let three = IdNumber::new(3).unwrap();
    let charge = doubt(|charge| {
        (charge.attempts, charge.id_number) = (3, three);
        charge.live = Some(Attempt { number: 3, id_number: three, ..live(true) });
    });
    let paid = |imp_uid: &str, n| (n, record(imp_uid, n, RecordStatus::Paid, ""), false, None);
    let looked = Fact::LookedUp(findings(10, vec![paid("imp_1", 1), paid("imp_2", 2)]));
    let decision = decide(&charge, &looked, at(10), &policy()).unwrap();
    assert_eq!((decision.charge.state, decision.incidents), (ChargeState::Doubt, vec![]));
}

#[test]
fn a_late_payment_of_a_closed_charge_is_believed_though_another_one_was_wrong() {
    let closed = |change: fn(&mut Charge)| {
        let mut charge = doubt(|charge| {
            (charge.state, charge.waiting, charge.live) = (ChargeState::Unpaid, Waiting::Nothing, None);
            charge.doubt.alarmed = true;
        });
        change(&mut charge);
        charge
    };
    let look = |charge: &Charge, mismatch| {
        let late = record("imp_late", 1, RecordStatus::Paid, "");
        decide(charge, &Fact::LookedUp(findings(70, vec![(1, late, false, mismatch)])), at(70), &policy()).unwrap()
    };
    assert_eq!(look(&closed(|_| {}), None).charge.state, ChargeState::Paid);
    assert!(look(&closed(|_| {}), Some(Mismatch::Amount)).incidents.is_empty(), "told before");
    assert_eq!(look(&closed(|charge| charge.doubt.alarmed = false), Some(Mismatch::Amount)).incidents.len(), 1);
}

#[test]
fn a_decline_whose_answer_was_ambiguous_stays_so_whatever_its_record_says() {
    let class = |hint: Option<Hint>| {
        let mut charge = doubt(|charge| charge.doubt.quiet_since = Some(at(61)));
        charge.live.as_mut().unwrap().hint = hint;
        let failed = record("imp_failed", 1, RecordStatus::Failed, "[1254][실시간빌링실패|잔액부족]");
        let fact = Fact::LookedUp(findings(70, vec![(1, failed, false, None)]));
        decide(&charge, &fact, at(70), &policy()).unwrap().refusal
    };
    assert_eq!(class(Some(Hint::Text(Class::Ambiguous))), Some(Class::Ambiguous));
    assert_eq!(class(None), Some(Class::SoftFunds));
}
