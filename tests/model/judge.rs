//! Between the model's small row and the product: every conclusion is drawn by `domain::decide`, on a real [`Charge`].
//!
//! Ages in ticks become instants before a fixed `now`. Whatever the protocol only uses to wait (when a ladder's next step
//! is, how often was looked) is left out: the model lets everything happen at any time, which allows more than the product does.

use std::cell::RefCell;
use std::collections::HashMap;

use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};
use rebilld::domain::attempt::{Attempt, AttemptId, IdBase, IdNumber, Send, SendId};
use rebilld::domain::charge::{
    AccountId, Charge, ChargeId, ChargeState, Course, Doubt, IdMode, PaidElsewhere, SubscriptionId, Waiting,
};
use rebilld::domain::decide::{Decision, Fact, LiveChange, Policy, decide};
use rebilld::domain::decline::Class;
use rebilld::domain::dunning::{Dunning, Dunnings, Ladder};
use rebilld::domain::money::Money;
use rebilld::domain::outcome::{self, DoubtCause, Findings, Found, NotSent, Outcome, RecordStatus};
use rebilld::domain::period::Period;

use super::config::Config;
use super::state::{Answer, Live, Row, Seen, Status};

/// A tick: the shortest Q that the product takes is three of them.
const TICK: SignedDuration = SignedDuration::from_mins(15);
const AMOUNT: Money = Money::krw(9_900);
const CARD: &str = "card-1";

/// Something that became known, in the model's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    Answered {
        send: u8,
        id: u8,
        answer: Answer,
    },
    /// Nothing came, or nothing that proves anything.
    NoAnswer {
        send: u8,
        id: u8,
    },
    /// The gate closed before the write.
    NotSent {
        send: u8,
        id: u8,
    },
    /// `age`: ticks since the look-up began. `ids`: of each record shown, four bits.
    LookedUp {
        age: u8,
        seen: Seen,
        ids: u32,
    },
    Interrupted,
}

/// The row after a decision, and whether it may be written without the claim.
#[derive(Debug, Clone)]
pub struct Judged {
    pub row: Row,
    pub is_truth: bool,
}

/// A row without its claim, what became known, whether the doubt is old, and what of the world `decide` is told.
type Asked = (Row, Told, bool, IdMode, u8);

thread_local! {
    // `decide` is pure: the same row and fact are judged again and again in a search
    static JUDGED: RefCell<HashMap<Asked, Option<Judged>>> = RefCell::default();
}

/// What the product concludes. `old`: the doubt has lasted for a day. `None`: it changes nothing.
pub fn judge(config: &Config, row: &Row, told: Told, old: bool) -> Option<Judged> {
    let key = (Row { claim: None, ..row.clone() }, told, old, config.mode, config.quiet);
    if let Some(known) = JUDGED.with_borrow(|judged| judged.get(&key).cloned()) {
        return known;
    }
    let judged = ask(config, &key.0, told, old);
    JUDGED.with_borrow_mut(|all| all.insert(key, judged.clone()));
    judged
}

pub fn policy(config: &Config) -> Policy {
    let quiet = SignedDuration::from_mins(15 * i64::from(config.quiet));
    let mut policy = Policy::new(quiet).expect("no shorter than the product allows");
    // one more try after the first decline: closing a charge unpaid is part of every history with two declines
    let day = SignedDuration::from_hours(24);
    let dunning = Dunning { ladder: Ladder::After(vec![day]), ..Dunning::default() };
    policy.dunning = Dunnings { default: dunning.into(), ..Dunnings::default() };
    policy
}

fn now() -> Timestamp {
    "2026-12-02T01:00:00Z".parse().expect("an instant")
}

fn ago(ticks: u8) -> Timestamp {
    now() - TICK * i32::from(ticks)
}

fn yesterday() -> Timestamp {
    now() - SignedDuration::from_hours(25)
}

fn number(id: u8) -> IdNumber {
    IdNumber::new(id).expect("a model has few ids")
}

fn ask(config: &Config, row: &Row, told: Told, old: bool) -> Option<Judged> {
    let charge = charge_of(config, row, old);
    let decision = decide(&charge, &fact_of(row, told), now(), &policy(config)).ok()?;
    Some(Judged { row: row_of(row, &decision), is_truth: decision.is_truth })
}

fn charge_of(config: &Config, row: &Row, old: bool) -> Charge {
    let waiting = match row.state {
        ChargeState::Due => Waiting::Turn,
        ChargeState::Doubt => Waiting::LookUp,
        ChargeState::Review => Waiting::Operator,
        _ => Waiting::Nothing,
    };
    let attempt = |live: &Live| Attempt {
        id: AttemptId(1),
        number: 1,
        id_number: number(live.id),
        customer_uid: CARD.to_owned(),
        resends: live.resends,
        hint: live.hint,
        open_send: live.open.map(|send| Send { id: SendId(i64::from(send)), begun_at: ago(row.newest.unwrap_or(0)) }),
    };
    Charge {
        id: ChargeId(1),
        account: AccountId(1),
        account_name: "main".to_owned(),
        subscription: SubscriptionId(1),
        external_ref: "sub-0001".to_owned(),
        plan: "monthly".to_owned(),
        zone: None,
        base: IdBase::derive("rb".parse().expect("a tag"), "main", "sub-0001", date(2026, 12, 1)),
        mode: config.mode,
        period: Period { start: date(2026, 12, 1), end: date(2027, 1, 1) },
        due_at: yesterday(),
        amount: AMOUNT,
        tax_free: None,
        vat_amount: None,
        state: row.state,
        waiting,
        next_at: Some(now()),
        id_number: number(row.id),
        attempts: u16::from(row.tries),
        tries: row.tries,
        first_declined_at: (row.tries > 0).then(|| now() - SignedDuration::from_hours(1)),
        refused_customer: None,
        course: Course::default(),
        not_sent: 0,
        doubt: Doubt {
            since: (row.state != ChargeState::Due).then(|| if old { yesterday() } else { now() }),
            looks: 0,
            // R3's five minutes are shorter than a tick: a second look-up is always far enough from the first
            quiet_since: row.quiet_once.then(yesterday),
            quiet_twice: row.quiet_twice,
            alarmed: false,
        },
        newest_send_at: row.newest.map(ago),
        paid_elsewhere: row.elsewhere.map(|(record, id)| PaidElsewhere { imp_uid: imp_uid(record), id_number: number(id) }),
        paid_imp_uid: row.paid.map(imp_uid),
        live: row.live.as_ref().map(attempt),
        version: 0,
    }
}

fn fact_of(row: &Row, told: Told) -> Fact {
    let answered = |send: u8, id: u8, outcome| Fact::Answered {
        send: SendId(i64::from(send)),
        id_number: number(id),
        customer_uid: CARD.to_owned(),
        outcome,
    };
    let doubt = |cause, record| Outcome::Doubt { cause, detail: String::new(), record };
    match told {
        Told::Answered { send, id, answer } => answered(
            send,
            id,
            match answer {
                Answer::Paid(place) => Outcome::Paid(record(place, id, Status::Paid)),
                Answer::Failed(place) => Outcome::Declined(record(place, id, Status::Failed), Class::SoftFunds),
                Answer::Ambiguous(place) => doubt(DoubtCause::AmbiguousDecline, Some(record(place, id, Status::Failed))),
                Answer::Pending(place) => doubt(DoubtCause::Pending, Some(record(place, id, Status::Ready))),
                Answer::Unclear => doubt(DoubtCause::Code(Class::SoftFunds), None),
                Answer::Already => doubt(DoubtCause::Code(Class::Request), None),
            },
        ),
        Told::NoAnswer { send, id } => answered(send, id, doubt(DoubtCause::Transport, None)),
        Told::NotSent { send, id } => answered(send, id, Outcome::NotSent(NotSent::Gate("claimed too long ago"))),
        Told::LookedUp { age, seen, ids } => {
            let found = |(place, status): (u8, Status)| {
                let id = u8::try_from(ids >> (place * 4) & 15).expect("four bits");
                Found { id_number: number(id), record: record(place, id, status), known: row.knows(place), mismatch: None }
            };
            Fact::LookedUp(Findings { began_at: ago(age), records: seen.all().map(found).collect() })
        }
        Told::Interrupted => Fact::Interrupted,
    }
}

fn record(place: u8, id: u8, status: Status) -> outcome::Record {
    outcome::Record {
        imp_uid: imp_uid(place),
        merchant_uid: format!("id-{id:02}"),
        status: match status {
            Status::Failed => RecordStatus::Failed,
            Status::Paid => RecordStatus::Paid,
            Status::Ready => RecordStatus::Ready,
        },
        amount: Some(AMOUNT),
        customer_uid: Some(CARD.to_owned()),
        fail_reason: (status == Status::Failed).then(|| "잔액부족".to_owned()),
        pg_provider: None,
        pg_tid: None,
        at: Some(yesterday() + SignedDuration::from_secs(i64::from(place))),
        cancelled_amount: 0,
    }
}

fn imp_uid(place: u8) -> String {
    format!("imp_{place}")
}

fn place(imp_uid: &str) -> u8 {
    imp_uid.strip_prefix("imp_").and_then(|digits| digits.parse().ok()).expect("an imp_uid of the model")
}

/// What the store writes of a decision.
fn row_of(before: &Row, decision: &Decision) -> Row {
    let charge = &decision.charge;
    let mut row = Row {
        state: charge.state,
        id: charge.id_number.get(),
        tries: charge.tries,
        newest: before.newest,
        quiet_once: charge.doubt.quiet_since.is_some(),
        quiet_twice: charge.doubt.quiet_twice,
        elsewhere: charge.paid_elsewhere.as_ref().map(|other| (place(&other.imp_uid), other.id_number.get())),
        paid: charge.paid_imp_uid.as_deref().map(place),
        live: before.live,
        used: before.used,
        known: before.known,
        claim: None,
    };
    if decision.send.is_some()
        && let Some(live) = &mut row.live
    {
        live.open = None;
    }
    match (&decision.live, &mut row.live) {
        (LiveChange::Hint(hint), Some(live)) => live.hint = Some(*hint),
        (LiveChange::Resend, Some(live)) => live.resends += 1,
        (LiveChange::End { imp_uid, .. }, live) => {
            *live = None;
            row.known |= imp_uid.as_deref().map_or(0, |imp_uid| 1 << place(imp_uid));
        }
        _ => {}
    }
    for adopted in &decision.adopt {
        row.used |= 1 << adopted.id_number.get();
        row.known |= 1 << place(&adopted.imp_uid);
    }
    row
}
