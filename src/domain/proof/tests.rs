//! One good world, and one broken world for each invariant.

use super::*;

fn at(minutes: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
}

const BASE: &str = "rb2kszxgvi2za4qxdk4pph4h33mf";

fn uid(n: u8) -> String {
    format!("{BASE}{n:02}")
}

fn payment(imp_uid: &str, n: u8, status: LedgerStatus) -> LedgerPayment {
    let (imp_uid, customer_uid) = (imp_uid.to_owned(), "card".to_owned());
    LedgerPayment { imp_uid, merchant_uid: uid(n), customer_uid, amount: 100, status }
}

fn expected(base: &str) -> Expected {
    Expected { base: base.into(), external_ref: "a".into(), due_at: at(0) }
}

/// One charge, declined once, then paid.
fn good() -> (Ledger, Books, Circumstances) {
    let post = |n, minute| LedgerPost {
        merchant_uid: uid(n),
        customer_uid: "card".into(),
        amount: 100,
        at: at(minute),
        processed: true,
    };
    let ledger = Ledger {
        posts: vec![post(1, 1), post(2, 1442)],
        payments: vec![payment("imp_1", 1, LedgerStatus::Failed), payment("imp_2", 2, LedgerStatus::Paid)],
    };
    let attempt = |id: i64, state, imp_uid: &str| BookAttempt {
        id,
        charge: 1,
        number: u16::try_from(id).unwrap(),
        id_number: u8::try_from(id).unwrap(),
        customer_uid: "card".into(),
        state,
        imp_uid: Some(imp_uid.into()),
    };
    let send = |attempt, begun, ended| BookSend { attempt, begun_at: at(begun), ended_at: Some(at(ended)), not_sent: false };
    let event = |id: &str, kind: &str| BookEvent { id: id.into(), kind: kind.into(), charge: Some(1) };
    let books = Books {
        charges: vec![BookCharge {
            id: 1,
            base: BASE.into(),
            external_ref: "a".into(),
            due_at: at(0),
            amount: 100,
            state: ChargeState::Paid,
            waiting: Waiting::Nothing,
            next_at: None,
            tries: 1,
            imp_uid: Some("imp_2".into()),
        }],
        attempts: vec![attempt(1, AttemptState::Declined, "imp_1"), attempt(2, AttemptState::Paid, "imp_2")],
        sends: vec![send(1, 1, 2), send(2, 1442, 1443)],
        events: vec![event("evt_1", "charge.declined"), event("evt_2", "charge.paid")],
        observed: HashSet::new(),
        incidents: vec![],
    };
    let around = Circumstances { end: at(9999), expected: vec![expected(BASE)], ..Circumstances::default() };
    (ledger, books, around)
}

fn broken(ledger: &Ledger, books: &Books, around: &Circumstances) -> Vec<&'static str> {
    check(ledger, books, around).into_iter().filter(|verdict| !verdict.holds()).map(|verdict| verdict.name).collect()
}

#[test]
fn a_good_run_holds() {
    let (ledger, books, around) = good();
    assert_eq!(broken(&ledger, &books, &around), Vec::<&str>::new());
}

/// A gateway that processes one request twice answers it once: what the second came to is nobody's answer, unless it is paid.
#[test]
fn what_failed_beside_the_one_answer_to_a_request_need_not_be_known() {
    let (mut ledger, books, around) = good();
    ledger.payments.push(payment("imp_4", 1, LedgerStatus::Failed));
    assert_eq!(broken(&ledger, &books, &around), Vec::<&str>::new());
    ledger.payments.push(payment("imp_5", 1, LedgerStatus::Failed));
    ledger.posts.push(ledger.posts[0].clone());
    assert!(broken(&ledger, &books, &around).contains(&"I11"));
}

/// Each invariant can fail: one broken world for each.
#[test]
fn each_invariant_can_fail() {
    type Break = fn(&mut Ledger, &mut Books, &mut Circumstances);
    let breaks: [(&str, Break); 20] = [
        ("I1", |ledger, _, _| ledger.payments.push(payment("imp_3", 3, LedgerStatus::Paid))),
        ("I2", |_, books, _| books.charges[0].amount = 99),
        ("I2", |_, books, _| books.charges[0].imp_uid = Some("imp_9".into())),
        ("I3", |_, books, _| books.charges[0].state = ChargeState::Unpaid),
        ("I4", |_, _, around| around.expected.push(expected("missing"))),
        ("I4", |_, books, _| books.charges[0].state = ChargeState::Due),
        ("I4", |_, books, around| {
            // nobody looks it up any more
            around.may_wait = true;
            (books.charges[0].state, books.charges[0].waiting) = (ChargeState::Doubt, Waiting::LookUp);
        }),
        ("I4", |_, books, _| {
            let other =
                BookCharge { id: 2, base: "nobody counts on it".into(), state: ChargeState::Doubt, ..books.charges[0].clone() };
            books.charges.push(other);
        }),
        ("I5", |_, books, _| books.sends[1].begun_at = at(1450)),
        ("I5", |_, books, _| books.sends[1].not_sent = true),
        ("I6", |ledger, _, _| ledger.posts.push(LedgerPost { amount: 5, ..ledger.posts[0].clone() })),
        ("I6", |ledger, _, _| ledger.posts[1].customer_uid = "another card".into()),
        ("I7", |_, books, _| books.sends[0].ended_at = None),
        ("I8", |_, books, _| books.sends[1].begun_at = at(1000)),
        ("I8", |_, books, _| {
            for (id, minute) in (3..).zip(0..7) {
                let attempt = BookAttempt { id, state: AttemptState::Refused, ..books.attempts[0].clone() };
                books.attempts.push(attempt);
                books.sends.push(BookSend { attempt: id, begun_at: at(minute), ..books.sends[0].clone() });
            }
        }),
        ("I8", |_, books, _| {
            for id in 3..14 {
                let charge = id;
                let attempt = BookAttempt { id, charge, state: AttemptState::Declined, ..books.attempts[0].clone() };
                books.attempts.push(attempt);
                books.sends.push(BookSend { attempt: id, ..books.sends[0].clone() });
            }
        }),
        ("I9", |_, _, around| around.braked.push((at(0), at(5)))),
        ("I10", |_, books, _| books.events[1].kind = "charge.declined".into()),
        ("I11", |ledger, _, _| {
            ledger.posts.push(ledger.posts[1].clone());
            ledger.payments.push(payment("imp_4", 2, LedgerStatus::Failed));
        }),
        ("I11", |ledger, _, _| ledger.payments.push(payment("imp_4", 2, LedgerStatus::Paid))),
    ];
    for (name, break_it) in breaks {
        let (mut ledger, mut books, mut around) = good();
        break_it(&mut ledger, &mut books, &mut around);
        assert!(broken(&ledger, &books, &around).contains(&name), "{name} did not notice");
    }
    let (ledger, books, mut around) = good();
    around.received = Some(HashSet::from(["evt_1".to_owned()]));
    around.leaks.push("a token in a log".into());
    assert_eq!(broken(&ledger, &books, &around), ["I10", "I12"]);
}
