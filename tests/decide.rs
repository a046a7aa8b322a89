//! The whole decision table as one snapshot, for a person to review: every situation of a charge against every fact.
//!
//! `tests/decide.table.txt` is the reviewed table. After a change of rules, `REBILLD_BLESS=1 cargo test --test decide` writes it
//! anew; its diff is what the review reads.

#[path = "decide/edges.rs"]
mod edges;
#[path = "decide/ends.rs"]
mod ends;

use std::fmt::Write as _;

use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};
use rebilld::domain::attempt::{Attempt, AttemptId, Hint, IdBase, IdNumber, Send, SendEnd, SendId};
use rebilld::domain::charge::{
    AccountId, Charge, ChargeId, ChargeState, Course, Doubt, IdMode, PaidElsewhere, SubscriptionId, Waiting,
};
use rebilld::domain::decide::{Decision, Fact, LiveChange, Policy, Refusal, Ruling, decide};
use rebilld::domain::decline::Class;
use rebilld::domain::dunning::{Dunning, End, KeyStop, Ladder};
use rebilld::domain::money::Money;
use rebilld::domain::outcome::{DoubtCause, Findings, Found, Mismatch, NotSent, Outcome, Record, RecordStatus};
use rebilld::domain::period::Period;
use rebilld::domain::subscription::Status;

const AMOUNT: Money = Money::krw(9_900);
const SEND: SendId = SendId(7);

fn start() -> Timestamp {
    "2026-12-01T01:00:00Z".parse().unwrap()
}

fn at(minutes: i64) -> Timestamp {
    start() + SignedDuration::from_mins(minutes)
}

fn base() -> IdBase {
    IdBase::derive("rb".parse().unwrap(), "main", "sub-0001", date(2026, 12, 1))
}

fn fresh() -> Charge {
    Charge {
        id: ChargeId(1),
        account: AccountId(1),
        account_name: "main".to_owned(),
        subscription: SubscriptionId(1),
        external_ref: "sub-0001".to_owned(),
        plan: "monthly".to_owned(),
        zone: None,
        base: base(),
        mode: IdMode::PerAttempt,
        period: Period { start: date(2026, 12, 1), end: date(2027, 1, 1) },
        due_at: start(),
        amount: AMOUNT,
        tax_free: None,
        vat_amount: None,
        state: ChargeState::Due,
        waiting: Waiting::Turn,
        next_at: Some(start()),
        id_number: IdNumber::FIRST,
        attempts: 0,
        tries: 0,
        first_declined_at: None,
        refused_customer: None,
        course: Course::default(),
        not_sent: 0,
        doubt: Doubt::default(),
        newest_send_at: None,
        paid_elsewhere: None,
        paid_imp_uid: None,
        live: None,
        version: 1,
    }
}

fn live(open: bool) -> Attempt {
    Attempt {
        id: AttemptId(1),
        number: 1,
        id_number: IdNumber::FIRST,
        customer_uid: "card-1".to_owned(),
        resends: 0,
        hint: None,
        open_send: open.then(|| Send { id: SEND, begun_at: start() }),
    }
}

fn sent() -> Charge {
    Charge { attempts: 1, newest_send_at: Some(start()), live: Some(live(true)), ..fresh() }
}

fn doubt(change: impl FnOnce(&mut Charge)) -> Charge {
    let mut charge = sent();
    charge.state = ChargeState::Doubt;
    charge.waiting = Waiting::LookUp;
    charge.doubt.since = Some(start());
    change(&mut charge);
    charge
}

fn hinted(hint: Hint) -> Charge {
    doubt(|charge| charge.live.as_mut().unwrap().hint = Some(hint))
}

/// Every kind of place in which a charge can be when a fact arrives.
fn situations() -> Vec<(&'static str, Charge)> {
    let quiet = |charge: &mut Charge| charge.doubt.quiet_since = Some(at(61));
    let closed = |state| Charge {
        state,
        waiting: Waiting::Nothing,
        attempts: 1,
        tries: 1,
        newest_send_at: Some(start()),
        doubt: Doubt { since: Some(at(5)), ..Doubt::default() },
        ..fresh()
    };
    vec![
        ("due, never sent", fresh()),
        ("due, in flight", sent()),
        ("due, live attempt without an open send", Charge { live: Some(live(false)), ..sent() }),
        ("due, in flight, two declined tries", Charge { tries: 2, first_declined_at: Some(at(-4320)), ..sent() }),
        ("due, in flight, last try", Charge { tries: 4, first_declined_at: Some(at(-10_080)), ..sent() }),
        ("due, in flight, five outages today", {
            let course = Course { transients: 5, transient_since: Some(at(-300)), ..Course::default() };
            Charge { course, attempts: 6, ..sent() }
        }),
        ("due, in flight, a new card after two declined tries", {
            let course = Course { declined_customer: Some("card-0".to_owned()), ..Course::default() };
            Charge { course, tries: 2, first_declined_at: Some(at(-4320)), ..sent() }
        }),
        ("due, in flight, one id a period", Charge { mode: IdMode::PerPeriod, ..sent() }),
        (
            "due, attempt 2 in flight, 01 turned out paid",
            Charge {
                attempts: 2,
                id_number: IdNumber::new(2).unwrap(),
                live: Some(Attempt { number: 2, id_number: IdNumber::new(2).unwrap(), ..live(true) }),
                paid_elsewhere: Some(PaidElsewhere { imp_uid: "imp_elsewhere".to_owned(), id_number: IdNumber::FIRST }),
                ..sent()
            },
        ),
        (
            "due, waits for a card",
            Charge {
                waiting: Waiting::Card,
                refused_customer: Some("card-1".to_owned()),
                tries: 1,
                first_declined_at: Some(start()),
                attempts: 1,
                ..fresh()
            },
        ),
        ("doubt", doubt(|_| {})),
        ("doubt, quiet once", doubt(quiet)),
        (
            "doubt, quiet once, resent twice",
            doubt(|charge| {
                quiet(charge);
                charge.live.as_mut().unwrap().resends = 2;
            }),
        ),
        ("doubt, refused: key", hinted(Hint::RefusedKey)),
        ("doubt, refused: request", hinted(Hint::RefusedRequest)),
        ("doubt, code with a funds text, quiet once", {
            let mut charge = hinted(Hint::Text(Class::SoftFunds));
            quiet(&mut charge);
            charge
        }),
        ("doubt, code with an unknown text, quiet once", {
            let mut charge = hinted(Hint::Text(Class::Unknown));
            quiet(&mut charge);
            charge
        }),
        ("doubt, ambiguous decline, quiet once", {
            let mut charge = hinted(Hint::Text(Class::Ambiguous));
            quiet(&mut charge);
            charge
        }),
        ("doubt without an attempt, quiet once", {
            let mut charge = doubt(quiet);
            charge.live = None;
            charge
        }),
        ("doubt for a day", doubt(|charge| charge.doubt.since = Some(at(-1_440)))),
        ("doubt for three hours", doubt(|charge| charge.doubt.since = Some(at(-120)))),
        ("review", doubt(|charge| charge.state = ChargeState::Review)),
        (
            "review, quiet twice",
            doubt(|charge| {
                charge.state = ChargeState::Review;
                charge.doubt.quiet_twice = true;
            }),
        ),
        ("paid", Charge { paid_imp_uid: Some("imp_paid".to_owned()), ..closed(ChargeState::Paid) }),
        ("unpaid", closed(ChargeState::Unpaid)),
        ("void", closed(ChargeState::Void)),
    ]
}

fn record(imp_uid: &str, n: u8, status: RecordStatus, reason: &str) -> Record {
    Record {
        imp_uid: imp_uid.to_owned(),
        merchant_uid: base().number(IdNumber::new(n).unwrap()).as_str().to_owned(),
        status,
        amount: Some(AMOUNT),
        customer_uid: Some("card-1".to_owned()),
        fail_reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        pg_provider: Some("html5_inicis".to_owned()),
        pg_tid: None,
        at: Some(start()),
        cancelled_amount: 0,
    }
}

fn answered(outcome: Outcome) -> Fact {
    Fact::Answered { send: SEND, id_number: IdNumber::FIRST, customer_uid: "card-1".to_owned(), outcome }
}

fn doubtful(cause: DoubtCause) -> Fact {
    answered(Outcome::Doubt { cause, detail: String::new(), record: None })
}

fn findings(began: i64, records: Vec<(u8, Record, bool, Option<Mismatch>)>) -> Findings {
    let records = records
        .into_iter()
        .map(|(n, record, known, mismatch)| Found { id_number: IdNumber::new(n).unwrap(), record, known, mismatch })
        .collect();
    Findings { began_at: at(began), records }
}

fn stopped(stop: KeyStop, until: i64) -> Fact {
    Fact::CardStopped { stop, until: at(until), customer_uid: "card-1".to_owned() }
}

fn facts() -> Vec<(&'static str, Fact)> {
    let paid = || record("imp_new", 1, RecordStatus::Paid, "");
    let failed = || record("imp_failed", 1, RecordStatus::Failed, "[1254][실시간빌링실패|잔액부족]");
    let declined = |class, reason| answered(Outcome::Declined(record("imp_failed", 1, RecordStatus::Failed, reason), class));
    let none = || findings(70, vec![]);
    vec![
        ("answer: paid", answered(Outcome::Paid(paid()))),
        ("answer: paid, wrong amount", answered(Outcome::PaidWrong(paid(), Mismatch::Amount))),
        ("answer: declined, funds", declined(Class::SoftFunds, "[1254][실시간빌링실패|잔액부족]")),
        ("answer: declined, hard", declined(Class::HardCard, "[1204][실시간빌링실패|유효기간 만료]")),
        ("answer: declined, contact", declined(Class::SoftContact, "[1270][전화요망]")),
        ("answer: declined, outage", declined(Class::Transient, "[1235][카드사 통신장애]")),
        ("answer: declined, merchant", declined(Class::Merchant, "[1207][거래정지 가맹점]")),
        ("answer: declined, unknown text", declined(Class::Unknown, "?")),
        ("answer: declined, request", declined(Class::Request, "[1213][금액 오류]")),
        ("answer: refused, key", answered(Outcome::Refused { key: true, code: 1, message: String::new() })),
        ("answer: refused, request", answered(Outcome::Refused { key: false, code: 1, message: String::new() })),
        ("answer: transport", doubtful(DoubtCause::Transport)),
        ("answer: code, funds text", doubtful(DoubtCause::Code(Class::SoftFunds))),
        ("answer: code, merchant text", doubtful(DoubtCause::Code(Class::Merchant))),
        ("answer: ambiguous decline", doubtful(DoubtCause::AmbiguousDecline)),
        ("answer: cancelled", doubtful(DoubtCause::Cancelled)),
        ("answer: unreachable", answered(Outcome::NotSent(NotSent::Unreachable("refused".to_owned())))),
        ("answer: gate", answered(Outcome::NotSent(NotSent::Gate("stopping")))),
        (
            "answer to another send: declined",
            Fact::Answered {
                send: SendId(1),
                id_number: IdNumber::FIRST,
                customer_uid: "card-1".to_owned(),
                outcome: Outcome::Declined(failed(), Class::SoftFunds),
            },
        ),
        ("look-up after 59 min: nothing", Fact::LookedUp(findings(59, vec![]))),
        ("look-up after 70 min: nothing", Fact::LookedUp(none())),
        ("look-up after 70 min: failed", Fact::LookedUp(findings(70, vec![(1, failed(), false, None)]))),
        (
            "look-up after 70 min: outage",
            Fact::LookedUp(findings(70, vec![(1, record("imp_failed", 1, RecordStatus::Failed, "[1235][장애]"), false, None)])),
        ),
        ("look-up after 59 min: failed", Fact::LookedUp(findings(59, vec![(1, failed(), false, None)]))),
        ("look-up: known failed", Fact::LookedUp(findings(70, vec![(1, failed(), true, None)]))),
        ("look-up: paid", Fact::LookedUp(findings(1, vec![(1, paid(), false, None)]))),
        (
            "look-up: paid, a newer one failed",
            Fact::LookedUp(findings(1, vec![(1, failed(), false, None), (1, paid(), false, None)])),
        ),
        (
            "look-up: paid twice",
            Fact::LookedUp(findings(
                1,
                vec![(1, paid(), false, None), (2, record("imp_second", 2, RecordStatus::Paid, ""), false, None)],
            )),
        ),
        ("look-up: paid, wrong amount", Fact::LookedUp(findings(1, vec![(1, paid(), false, Some(Mismatch::Amount))]))),
        ("look-up: ready", Fact::LookedUp(findings(70, vec![(1, record("imp_r", 1, RecordStatus::Ready, ""), false, None)]))),
        (
            "look-up: unknown status",
            Fact::LookedUp(findings(
                70,
                vec![(1, record("imp_u", 1, RecordStatus::Unknown("held".to_owned()), ""), false, None)],
            )),
        ),
        (
            "look-up: cancelled",
            Fact::LookedUp(findings(70, vec![(1, record("imp_c", 1, RecordStatus::Cancelled, ""), false, None)])),
        ),
        ("look-up failed", Fact::LookUpFailed),
        ("interrupted", Fact::Interrupted),
        ("unsendable", Fact::Unsendable("`name` is too long".to_owned())),
        ("over budget", Fact::OverBudget { until: at(300) }),
        ("stopped by the fuse", Fact::Fused { until: at(300) }),
        ("card rests: another charge to it", stopped(KeyStop::Spacing, 80)),
        ("card rests: declined ten times", stopped(KeyStop::Month, 70 + 3 * 1440)),
        ("card rests: for longer than it lives", stopped(KeyStop::Month, 70 + 20 * 1440)),
        ("card rests: booked at PortOne", stopped(KeyStop::Booked, 70 + 60)),
        ("card refused for another charge", stopped(KeyStop::Refused, 70 + 30 * 1440)),
        ("outside its window", Fact::WindowClosed { until: at(300) }),
        ("card not replaced", Fact::CardNotReplaced),
        ("subscription paused", Fact::SubscriptionPaused),
        ("subscription cancelled", Fact::SubscriptionCancelled),
        ("resumed within a day", Fact::ResumedEarly),
        ("another card before anything left", Fact::CardChanged),
        ("ruling: unpaid, nothing shown", Fact::Ruled(Ruling::Unpaid, none())),
        ("ruling: resend, nothing shown", Fact::Ruled(Ruling::Resend, none())),
        ("ruling: resend, failed shown", Fact::Ruled(Ruling::Resend, findings(70, vec![(1, failed(), false, None)]))),
        ("ruling: void, nothing shown", Fact::Ruled(Ruling::Void, none())),
        ("ruling: retry, nothing shown", Fact::Ruled(Ruling::Retry, none())),
        (
            "ruling: unpaid, ready shown",
            Fact::Ruled(Ruling::Unpaid, findings(70, vec![(1, record("imp_r", 1, RecordStatus::Ready, ""), false, None)])),
        ),
        (
            "ruling: paid, shown",
            Fact::Ruled(Ruling::Paid { imp_uid: "imp_new".to_owned() }, findings(1, vec![(1, paid(), false, None)])),
        ),
        ("ruling: paid, not shown", Fact::Ruled(Ruling::Paid { imp_uid: "imp_new".to_owned() }, none())),
    ]
}

fn line(before: &Charge, decision: &Decision) -> String {
    let charge = &decision.charge;
    let mut line = charge.state.name().to_owned();
    if charge.waiting != Waiting::Nothing {
        write!(line, "/{}", charge.waiting.name()).unwrap();
    }
    match charge.next_at {
        Some(next) if charge.next_at != before.next_at || charge.state != before.state => {
            let minutes = next.duration_since(at(70)).as_mins();
            write!(line, " in {minutes} min").unwrap();
        }
        Some(_) => line.push_str(" as before"),
        None => line.push_str(" never again"),
    }
    match &decision.live {
        LiveChange::Keep => {}
        LiveChange::Hint(hint) => write!(line, ", hint {hint:?}").unwrap(),
        LiveChange::Resend => line.push_str(", resend"),
        LiveChange::End { state, imp_uid } => {
            write!(line, ", attempt {state:?} {}", imp_uid.as_deref().unwrap_or("-")).unwrap();
        }
    }
    if let Some((_, end)) = decision.send {
        write!(line, ", send {end:?}").unwrap();
    }
    for adopted in &decision.adopt {
        write!(line, ", adopt {:02} {:?} {}", adopted.id_number.get(), adopted.state, adopted.imp_uid).unwrap();
    }
    if charge.tries != before.tries {
        write!(line, ", try {}", charge.tries).unwrap();
    }
    if charge.id_number != before.id_number {
        write!(line, ", next id {:02}", charge.id_number.get()).unwrap();
    }
    if charge.paid_elsewhere != before.paid_elsewhere {
        write!(line, ", elsewhere {}", charge.paid_elsewhere.as_ref().map_or("-", |paid| paid.imp_uid.as_str())).unwrap();
    }
    if charge.rung() != before.rung() && charge.course.restarted_after != before.course.restarted_after {
        line.push_str(", ladder restarted");
    }
    if decision.pause.is_some() {
        line.push_str(", PAUSE the account");
    }
    for event in &decision.events {
        write!(line, ", «{}»", event.kind.name()).unwrap();
    }
    for incident in &decision.incidents {
        write!(line, ", INCIDENT {}", incident.kind.name()).unwrap();
    }
    if decision.is_truth {
        line.push_str(", needs no claim");
    }
    write!(line, "  [{}]", decision.rule).unwrap();
    line
}

fn table() -> String {
    let policy = Policy::default();
    let mut table = String::from(
        "The decision table: for each situation, what each fact leads to. Sent at 0 min, judged at 70 min.\n\
         Facts that change nothing are listed with the reason.\n",
    );
    for (name, charge) in situations() {
        writeln!(table, "\n== {name}").unwrap();
        for (fact_name, fact) in facts() {
            let what = match decide(&charge, &fact, at(70), &policy) {
                Ok(decision) => line(&charge, &decision),
                Err(refusal) => format!("-- {refusal}"),
            };
            writeln!(table, "{fact_name:<36} {what}").unwrap();
        }
    }
    table
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the one switch that writes the reviewed table anew")]
fn the_table_is_the_reviewed_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/decide.table.txt");
    let now = table();
    if std::env::var("REBILLD_BLESS").is_ok() {
        std::fs::write(path, &now).unwrap();
    }
    let reviewed = std::fs::read_to_string(path).unwrap_or_default();
    if reviewed != now {
        let differs = reviewed.lines().zip(now.lines()).find(|(old, new)| old != new);
        panic!("the decision table has changed; first difference: {differs:#?}\nreview it with REBILLD_BLESS=1 and git diff");
    }
}

/// The protocol's hard lines, asked of the whole table at once: these hold whatever the table says.
#[test]
fn no_decision_breaks_a_hard_line() {
    let policy = Policy::default();
    let in_mode = |mode| situations().into_iter().map(move |(name, charge)| (name, Charge { mode, ..charge }));
    for (name, charge) in in_mode(IdMode::PerAttempt).chain(in_mode(IdMode::PerPeriod)) {
        for (fact_name, fact) in facts() {
            let Ok(decision) = decide(&charge, &fact, at(70), &policy) else { continue };
            let place = format!("{name} / {fact_name} / {:?}", charge.mode);
            if let (Some((_, SendEnd::Absent)), Fact::LookedUp(shown) | Fact::Ruled(_, shown)) = (&decision.send, &fact) {
                let live = charge.live.as_ref().unwrap().id_number;
                let of_send = |found: &&Found| !found.known && found.id_number == live;
                assert_eq!(shown.records.iter().find(of_send), None, "{place}: what has a record is not absent");
            }
            if charge.state == ChargeState::Paid {
                assert_eq!(decision.charge.state, ChargeState::Paid, "{place}: paid is final");
            }
            let open_before = charge.in_doubt();
            let still_open = open_before && decision.send.is_none();
            if still_open {
                let closed = [ChargeState::Unpaid, ChargeState::Void, ChargeState::Paid];
                assert!(!closed.contains(&decision.charge.state), "{place}: closed with an open send");
                assert!(
                    decision.charge.state != ChargeState::Due || charge.state == ChargeState::Due,
                    "{place}: from doubt back to due with an open send"
                );
                assert!(!matches!(decision.live, LiveChange::End { .. }), "{place}: the attempt ended, its send did not");
            }
            let not_paid = open_before && decision.send.is_some() && decision.charge.state != ChargeState::Paid;
            if not_paid && !matches!(fact, Fact::Answered { .. }) {
                let quiet = charge.doubt.quiet_since.is_some() || charge.doubt.quiet_twice;
                let refused = matches!(charge.live.as_ref().unwrap().hint, Some(Hint::RefusedKey | Hint::RefusedRequest));
                assert!(quiet || refused, "{place}: a send ended as not paid without R2 and R3");
            }
            if decision.charge.id_number > charge.id_number {
                let failed = matches!(&fact, Fact::Answered { outcome: Outcome::Declined(..), .. })
                    || matches!(&fact, Fact::LookedUp(found) | Fact::Ruled(_, found) if !found.records.is_empty());
                assert!(failed, "{place}: a new id without a failed record of the old one");
            }
        }
    }
}

/// Attempt 02 is in doubt, and a look-up shows 01 paid and nothing under 02.
fn paid_under_another_id(state: ChargeState, began: i64) -> (Charge, Fact) {
    let two = IdNumber::new(2).unwrap();
    let charge = doubt(|charge| {
        charge.state = state;
        (charge.attempts, charge.id_number) = (2, two);
        charge.live = Some(Attempt { number: 2, id_number: two, ..live(true) });
        charge.next_at = Some(at(began));
    });
    let late = record("imp_late", 1, RecordStatus::Paid, "");
    (charge, Fact::LookedUp(findings(began, vec![(1, late, false, None)])))
}

#[test]
fn a_payment_under_another_id_waits_for_the_open_send_and_then_settles() {
    for state in [ChargeState::Doubt, ChargeState::Review] {
        let (charge, fact) = paid_under_another_id(state, 10);
        let first = decide(&charge, &fact, at(10), &Policy::default()).unwrap();
        assert_eq!(first.charge.paid_elsewhere.as_ref().unwrap().imp_uid, "imp_late");
        assert_eq!((first.charge.state, first.send), (state, None), "02 may still turn out paid");
        assert!(first.charge.next_at > Some(at(10)), "it is not looked up again at once, for ever");
        let (_, fact) = paid_under_another_id(state, 61);
        let second = decide(&first.charge, &fact, at(61), &Policy::default()).unwrap();
        assert_eq!((second.charge.state, second.charge.doubt.quiet_since), (state, Some(at(61))));
        let (_, fact) = paid_under_another_id(state, 66);
        let third = decide(&second.charge, &fact, at(66), &Policy::default()).unwrap();
        assert_eq!((third.charge.state, third.charge.paid_imp_uid.as_deref()), (ChargeState::Paid, Some("imp_late")));
        assert_eq!((third.send.is_some(), third.adopt.len(), third.incidents.len()), (true, 1, 0));
    }
}

#[test]
fn of_a_paid_charge_each_other_payment_is_told_and_its_own_is_not() {
    let paid = |imp_uid: &str, n| record(imp_uid, n, RecordStatus::Paid, "");
    let mut charge = Charge { state: ChargeState::Paid, paid_imp_uid: Some("imp_own".into()), next_at: None, ..fresh() };
    let other = Some(Mismatch::Amount);
    let records =
        vec![(1, paid("imp_a", 1), true, None), (2, paid("imp_own", 2), true, None), (3, paid("imp_b", 3), true, other)];
    let decision = decide(&charge, &Fact::LookedUp(findings(10, records)), at(10), &Policy::default()).unwrap();
    let told: Vec<&str> = decision.incidents.iter().map(|incident| incident.detail.as_str()).collect();
    assert_eq!((told.len(), told[0]), (2, "imp_own and imp_a are both paid"), "{told:?}");
    assert!(told[1].starts_with("imp_b under ") && told[1].ends_with("its amount is not ours"), "{told:?}");
    charge.doubt.alarmed = true;
    let wrong = vec![(2, paid("imp_own", 2), true, None), (3, paid("imp_b", 3), true, other)];
    let decision = decide(&charge, &Fact::LookedUp(findings(10, wrong)), at(10), &Policy::default()).unwrap();
    assert_eq!(decision.incidents.len(), 1, "something else was told before");
}

#[test]
fn the_end_of_a_ladder_does_not_cancel_what_was_paid_under_another_id() {
    let mut policy = Policy::default();
    let cancels = Dunning { ladder: Ladder::After(Vec::new()), end: End::Cancel, ..Dunning::default() };
    policy.dunning.default = std::sync::Arc::new(cancels);
    let declined = |charge: &Charge| {
        let two = record("imp_two", 2, RecordStatus::Failed, "[1254][실시간빌링실패|잔액부족]");
        let id_number = IdNumber::new(2).unwrap();
        let outcome = Outcome::Declined(two, Class::SoftFunds);
        let fact = Fact::Answered { send: SEND, id_number, customer_uid: "card-1".to_owned(), outcome };
        decide(charge, &fact, at(2), &policy).unwrap()
    };
    let (_, charge) = situations().into_iter().find(|(name, _)| name.contains("01 turned out paid")).unwrap();
    let decision = declined(&charge);
    assert_eq!((decision.charge.state, decision.end), (ChargeState::Paid, None));
    let unpaid = declined(&Charge { paid_elsewhere: None, ..charge });
    assert_eq!((unpaid.charge.state, unpaid.end), (ChargeState::Unpaid, Some(Status::Cancelled)));
}

#[test]
fn each_refused_card_is_told_apart() {
    let refused = |attempt: u16| {
        let mut charge = hinted(Hint::RefusedKey);
        charge.attempts = attempt;
        decide(&charge, &Fact::LookedUp(findings(1, vec![])), at(1), &Policy::default()).unwrap().events.remove(0).id
    };
    assert_ne!(refused(1), refused(2));
}

#[test]
fn a_cancelled_payment_may_be_closed_as_void_and_as_nothing_else() {
    let cancelled = |began| findings(began, vec![(1, record("imp_c", 1, RecordStatus::Cancelled, ""), true, None)]);
    let policy = Policy::default();
    // the answer said cancelled: the send is open, and has to be proven to have ended
    let mut charge = doubt(|charge| (charge.state, charge.waiting) = (ChargeState::Review, Waiting::Operator));
    let rule = |charge: &Charge, ruling, began| decide(charge, &Fact::Ruled(ruling, cancelled(began)), at(began), &policy);
    assert!(rule(&charge, Ruling::Void, 61).is_err(), "seen once");
    for began in [61, 66] {
        charge = decide(&charge, &Fact::LookedUp(cancelled(began)), at(began), &policy).unwrap().charge;
        assert_eq!(charge.state, ChargeState::Review);
    }
    for ruling in [Ruling::Unpaid, Ruling::Resend, Ruling::Retry] {
        assert!(rule(&charge, ruling, 70).is_err());
    }
    let closed = rule(&charge, Ruling::Void, 70).unwrap();
    assert_eq!((closed.charge.state, closed.send.map(|(_, end)| end)), (ChargeState::Void, Some(SendEnd::Absent)));
    // where the record is the send's own, nobody says that it was lost
    let own = findings(70, vec![(1, record("imp_new", 1, RecordStatus::Cancelled, ""), false, None)]);
    let closed = decide(&charge, &Fact::Ruled(Ruling::Void, own), at(70), &policy).unwrap();
    assert_eq!(closed.send.map(|(_, end)| end), Some(SendEnd::Found));
    let due = decide(&fresh(), &Fact::LookedUp(cancelled(1)), at(1), &policy).unwrap();
    assert_eq!(due.charge.state, ChargeState::Review, "a payment that we know as declined was paid and cancelled since");
}

#[test]
fn a_refused_card_stays_refused_over_a_pause() {
    let charge = Charge {
        waiting: Waiting::Paused,
        refused_customer: Some("card-1".to_owned()),
        tries: 1,
        first_declined_at: Some(start()),
        ..fresh()
    };
    let decision = decide(&charge, &Fact::CardNotReplaced, at(60), &Policy::default()).unwrap();
    assert_eq!((decision.charge.state, decision.charge.waiting), (ChargeState::Due, Waiting::Card));
}

#[test]
fn a_new_card_does_not_shorten_the_day_before_the_next_id() {
    let policy = Policy::default();
    let charge = doubt(|charge| charge.doubt.quiet_since = Some(at(61)));
    let hard = record("imp_f", 1, RecordStatus::Failed, "[1204][실시간빌링실패|유효기간 만료]");
    let fact = Fact::LookedUp(findings(66, vec![(1, hard.clone(), false, None)]));
    let declined = decide(&charge, &fact, at(66), &policy).unwrap().charge;
    assert_eq!((declined.waiting, declined.id_number), (Waiting::Card, IdNumber::new(2).unwrap()));
    assert_eq!(declined.next_id_from(), Some(at(66 + 24 * 60)), "R7");
    let declined = Charge { live: None, ..declined };
    let early = decide(&declined, &Fact::ResumedEarly, at(70), &policy).unwrap().charge;
    assert_eq!((early.waiting, early.next_at), (Waiting::Retry, Some(at(66 + 24 * 60))));
    // its own answer says so: a new card may be asked at once
    let answer = answered(Outcome::Declined(hard, Class::HardCard));
    assert_eq!(decide(&sent(), &answer, at(1), &policy).unwrap().charge.next_id_from(), None);
}
