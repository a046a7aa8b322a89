//! The gateway's ledger: the oracle. It is never told what the daemon believes.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rebilld::domain::money::{Currency, Money};
use rebilld::domain::outcome::{Record, RecordStatus};
use rebilld::domain::proof;
use serde_json::json;

use crate::faults::{Fault, rng};
use crate::operations::happens;

/// A payment record with when it can be seen.
#[derive(Debug, Clone)]
pub struct Payment {
    pub record: Record,
    pub amount: i64,
    pub customer_uid: String,
    visible_from: Timestamp,
}

/// What has yet to happen at the gateway.
#[derive(Debug, Clone)]
enum Later {
    /// A request that took its time is processed.
    /// Seen so much later.
    Process(proof::LedgerPost, SignedDuration),
    /// A record becomes something else.
    Become(String, usize, RecordStatus),
    /// What had failed is approved, under a record of its own.
    Approve(proof::LedgerPost),
    /// The same, days later, unless the charge was asked for again.
    ApproveAtLast(proof::LedgerPost),
}

/// How the gateway processes one request.
#[derive(Debug, Clone, Copy)]
pub struct How {
    pub fault: Fault,
    pub hidden: SignedDuration,
    /// Whether a `ready` record stays so.
    pub for_good: bool,
    pub after: SignedDuration,
}

#[derive(Debug, Default)]
pub struct Ledger {
    seed: u64,
    pub posts: Vec<proof::LedgerPost>,
    payments: HashMap<String, Vec<Payment>>,
    later: BTreeMap<(Timestamp, u64), Later>,
    number: u64,
    /// POSTs of each id so far.
    sends: HashMap<String, usize>,
    /// Of a thousand charges that a card declines; a card that is not here is not registered.
    cards: HashMap<String, u32>,
    /// Payments in the order in which they were made, for answers that name the wrong one.
    made: Vec<(Timestamp, String)>,
    /// Ids, and when a request under them made a record.
    pub filed: Vec<(String, Timestamp)>,
    newest: Option<Record>,
    /// Of a thousand declined records, those that are approved after all, days later, if nothing has followed.
    late_approvals: u32,
}

const FUNDS: &str = "[1254][실시간빌링실패|잔액부족]";
const EXPIRED: &str = "[1204][실시간빌링실패|유효기간 만료(기간오류)]";
const TIMEOUT: &str = "[1210][실시간빌링실패|카드사 거래 TIMEOUT]";
const STRANGE: &str = "[9Z9Z][실시간빌링실패|알 수 없는 사유]";
const CONTACT: &str = "카드사에 문의하시기 바랍니다";
const OUTAGE: &str = "[1241][실시간빌링실패|VAN 통신장애]";
const REQUEST: &str = "[1213][실시간빌링실패|금액 오류]";

impl Ledger {
    pub fn new(seed: u64, cards: HashMap<String, u32>, late_approvals: u32) -> Self {
        Self { seed, cards, late_approvals, ..Self::default() }
    }

    /// Counts a POST of an id.
    pub fn arrive(&mut self, merchant_uid: &str) -> usize {
        let nth = self.sends.entry(merchant_uid.to_owned()).or_default();
        *nth += 1;
        *nth
    }

    /// Nothing that is declined from now on is approved after all.
    pub fn calm(&mut self) {
        self.late_approvals = 0;
    }

    fn schedule(&mut self, at: Timestamp, later: Later) {
        self.number += 1;
        self.later.insert((at, self.number), later);
    }

    pub fn process_later(&mut self, at: Timestamp, post: &proof::LedgerPost, hidden: SignedDuration) {
        self.schedule(at, Later::Process(post.clone(), hidden));
    }

    /// What is `ready` of a charge fails.
    pub fn give_up(&mut self, base: &str) {
        let payments = self.payments.iter_mut().filter(|(uid, _)| uid.starts_with(base)).flat_map(|(_, payments)| payments);
        for payment in payments.filter(|payment| payment.record.status == RecordStatus::Ready) {
            payment.record.status = RecordStatus::Failed;
        }
    }

    /// What has come into being by now.
    pub fn settle(&mut self, now: Timestamp) {
        let plain = How { fault: Fault::None, hidden: SignedDuration::ZERO, for_good: false, after: SignedDuration::ZERO };
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            let at = entry.key().0;
            match entry.remove() {
                Later::Process(post, hidden) => drop(self.process(&post, at, How { hidden, ..plain })),
                Later::Become(uid, index, status) => {
                    let payment = self.payments.get_mut(&uid).and_then(|payments| payments.get_mut(index));
                    // what an operator had the gateway end stays so
                    if let Some(payment) = payment.filter(|payment| payment.record.status == RecordStatus::Ready) {
                        payment.record.status = status;
                        payment.record.at = Some(at);
                    }
                }
                Later::ApproveAtLast(post) if self.is_followed(&post) => {}
                Later::ApproveAtLast(post) => {
                    self.file(&post, at, RecordStatus::Paid, None, at);
                }
                Later::Approve(post) => {
                    // the gateway guards its ids: what was paid meanwhile is not paid again
                    let of_id = self.payments.entry(post.merchant_uid.clone()).or_default();
                    if of_id.iter().all(|payment| payment.record.status == RecordStatus::Failed) {
                        self.file(&post, at, RecordStatus::Paid, None, at);
                    }
                }
            }
        }
    }

    /// Whether a charge was asked for again after this, or has anything but failures: the gateway guards ids, not charges.
    fn is_followed(&self, post: &proof::LedgerPost) -> bool {
        let base = post.merchant_uid.get(..28).unwrap_or_default();
        let of_base = |uid: &str| uid.starts_with(base);
        self.posts.iter().rev().take_while(|later| later.at > post.at).any(|later| of_base(&later.merchant_uid))
            || (1..=99)
                .map(|n| format!("{base}{n:02}"))
                .filter_map(|uid| self.payments.get(&uid))
                .flatten()
                .any(|payment| payment.record.status != RecordStatus::Failed)
    }

    /// The record that was filed last.
    pub fn newest(&self) -> Option<&Record> {
        self.newest.as_ref()
    }

    /// Files a record; returns its `imp_uid`.
    fn file(
        &mut self,
        post: &proof::LedgerPost,
        at: Timestamp,
        status: RecordStatus,
        reason: Option<&str>,
        seen: Timestamp,
    ) -> String {
        let of_id = self.payments.entry(post.merchant_uid.clone()).or_default();
        let imp_uid = format!("imps_{}_{}", post.merchant_uid, of_id.len());
        if status == RecordStatus::Paid {
            self.made.push((at, imp_uid.clone()));
        }
        let record = Record {
            imp_uid: imp_uid.clone(),
            merchant_uid: post.merchant_uid.clone(),
            status,
            amount: Some(Money::new(post.amount, Currency::KRW)),
            customer_uid: Some(post.customer_uid.clone()),
            fail_reason: reason.map(str::to_owned),
            pg_provider: Some("html5_inicis".to_owned()),
            pg_tid: None,
            at: Some(at),
            cancelled_amount: 0,
        };
        self.newest = Some(record.clone());
        of_id.push(Payment { record, amount: post.amount, customer_uid: post.customer_uid.clone(), visible_from: seen });
        imp_uid
    }

    /// What the card says to the `nth` request under an id.
    fn reason(&self, uid: &str, nth: usize, declines: u32) -> Option<&'static str> {
        let mut rng = rng(self.seed, &["card", uid, &nth.to_string()]);
        (rng.random_range(0..1000) < declines && happens(|| format!("the card declines request {nth} under {uid}"))).then(|| {
            let texts = [FUNDS, FUNDS, FUNDS, EXPIRED, TIMEOUT, STRANGE, CONTACT, OUTAGE];
            if rng.random_range(0..40) == 0 { REQUEST } else { texts[rng.random_range(0..texts.len())] }
        })
    }

    /// Processes a POST atomically, as PortOne is taken to do: a record that has not failed refuses every later one under its id.
    /// Returns the body of the answer.
    pub fn process(&mut self, post: &proof::LedgerPost, at: Timestamp, how: How) -> serde_json::Value {
        let uid = &post.merchant_uid;
        let existing = self.payments.get(uid).map(Vec::as_slice).unwrap_or_default();
        if existing.iter().any(|payment| payment.record.status != RecordStatus::Failed) {
            let message = "이미 주문이 이루어진 건입니다. (동일한 merchant_uid로 결제 또는 취소된 기록이 있습니다)";
            return json!({ "code": 1, "message": message, "response": null });
        }
        let Some(declines) = self.cards.get(&post.customer_uid).copied() else {
            return json!({ "code": 1, "message": "등록되지 않은 구매자입니다.", "response": null });
        };
        let nth = existing.len();
        let refused = |message: &str| json!({ "code": 1, "message": message, "response": null });
        let mut reason = self.reason(uid, nth, declines);
        match how.fault {
            Fault::CodeCard => return refused("유효기간이 지난 카드입니다"),
            Fault::CodeFunds => return refused("잔액이 부족합니다"),
            Fault::CodeOdd => return refused("알 수 없는 오류"),
            Fault::CodeMerchant => return refused("미등록 가맹점"),
            Fault::CodeAndFailed => reason = Some(reason.unwrap_or(FUNDS)),
            Fault::FailedThenPaid => reason = Some(TIMEOUT),
            Fault::Ready | Fault::Cancelled | Fault::CodeAndPaid => reason = None,
            _ => {}
        }
        let status = match (how.fault, reason) {
            (Fault::Ready, _) => RecordStatus::Ready,
            (_, Some(_)) => RecordStatus::Failed,
            (Fault::Cancelled, _) => RecordStatus::Cancelled,
            _ => RecordStatus::Paid,
        };
        let index = nth;
        let word = match &status {
            RecordStatus::Failed => "failed",
            RecordStatus::Ready => "ready",
            RecordStatus::Cancelled => "cancelled",
            _ if how.fault == Fault::OddWord => "verified",
            _ => "paid",
        };
        let is_ready = status == RecordStatus::Ready;
        let is_declined = how.fault == Fault::None && status == RecordStatus::Failed;
        let imp_uid = self.file(post, at, status, reason, at + how.hidden);
        self.filed.push((uid.clone(), at));
        if is_declined && self.late_approvals > 0 {
            let mut rng = rng(self.seed, &["at last", uid, &nth.to_string()]);
            if rng.random_range(0..1000) < self.late_approvals
                && happens(|| format!("request {nth} under {uid} is approved at last"))
            {
                let late = at + SignedDuration::from_hours(rng.random_range(8 * 24..20 * 24));
                self.schedule(late, Later::ApproveAtLast(post.clone()));
            }
        }
        let later = at + how.after;
        if is_ready && !how.for_good {
            let status = if self.reason(uid, nth, declines).is_some() { RecordStatus::Failed } else { RecordStatus::Paid };
            self.schedule(later, Later::Become(uid.clone(), index, status));
        }
        if how.fault == Fault::FailedThenPaid {
            self.schedule(later, Later::Approve(post.clone()));
        }
        if matches!(how.fault, Fault::CodeAndFailed | Fault::CodeAndPaid) {
            return refused("결제 처리 중 오류가 발생하였습니다");
        }
        let second = |is: bool| if is { at.as_second() } else { 0 };
        json!({ "code": 0, "message": null, "response": {
            "imp_uid": imp_uid, "merchant_uid": uid, "amount": post.amount, "cancel_amount": 0, "currency": "KRW",
            "status": word, "sandbox": false, "customer_uid": post.customer_uid,
            "fail_reason": reason, "pg_provider": "html5_inicis", "buyer_name": "CANARY-NAME",
            "paid_at": second(word == "paid"), "failed_at": second(word == "failed"), "cancelled_at": second(word == "cancelled"),
        }})
    }

    /// A payment of somebody that was made days ago: one that is about to be booked could not be told from the right one.
    pub fn somebodys(&self, now: Timestamp) -> Option<&str> {
        let old = self.made.partition_point(|(at, _)| *at < now - SignedDuration::from_hours(5 * 24));
        self.made[..old].last().map(|(_, imp_uid)| imp_uid.as_str())
    }

    /// The records that a look-up shows, newest first.
    pub fn visible(&mut self, uid: &str, now: Timestamp) -> Vec<Record> {
        self.settle(now);
        let of_id = self.payments.get(uid).map(Vec::as_slice).unwrap_or_default();
        of_id.iter().rev().filter(|payment| payment.visible_from <= now).map(|payment| payment.record.clone()).collect()
    }

    /// The records that the list shows of a span of time, oldest first.
    pub fn listed(&mut self, now: Timestamp, from: Timestamp, to: Timestamp) -> Vec<Record> {
        self.settle(now);
        let inside =
            |payment: &&Payment| payment.visible_from <= now && payment.record.at.is_some_and(|at| from <= at && at < to);
        let mut records: Vec<Record> =
            self.payments.values().flatten().filter(inside).map(|payment| payment.record.clone()).collect();
        records.sort_by(|one, other| (one.at, &one.imp_uid).cmp(&(other.at, &other.imp_uid)));
        records
    }

    /// What the ledger holds at the end.
    pub fn books(&mut self, now: Timestamp) -> proof::Ledger {
        self.settle(now);
        let mut payments: Vec<_> = self
            .payments
            .values()
            .flatten()
            .map(|payment| proof::LedgerPayment {
                imp_uid: payment.record.imp_uid.clone(),
                merchant_uid: payment.record.merchant_uid.clone(),
                customer_uid: payment.customer_uid.clone(),
                amount: payment.amount,
                status: match payment.record.status {
                    RecordStatus::Paid => proof::LedgerStatus::Paid,
                    RecordStatus::Failed => proof::LedgerStatus::Failed,
                    _ => proof::LedgerStatus::Other,
                },
            })
            .collect();
        payments.sort_by(|one, other| one.imp_uid.cmp(&other.imp_uid));
        proof::Ledger { payments, posts: self.posts.clone() }
    }
}
