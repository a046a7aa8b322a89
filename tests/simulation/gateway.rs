//! The gateway and its ledger: the oracle. It is never told what the daemon believes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rebilld::domain::attempt::MerchantUid;
use rebilld::domain::money::{Currency, Money};
use rebilld::domain::outcome::{Record, RecordStatus};
use rebilld::domain::proof;
use rebilld::gateway::portone::{self, Wire};
use rebilld::ports::clock::Clock;
use rebilld::ports::gateway::{Answer, ChargeRequest, DurableAttempt, Gateway, InvalidRequest, ListPage, Unavailable};
use rebilld::time::SimulatedClock;
use serde_json::json;

use crate::crash::Crash;
use crate::faults::{Fault, Swarm, rng};

/// A payment record with when it comes into being and when it can be seen.
#[derive(Debug, Clone)]
pub struct Payment {
    pub record: Record,
    pub amount: i64,
    pub customer_uid: String,
    visible_from: Timestamp,
}

#[derive(Debug, Clone)]
struct Late {
    at: Timestamp,
    post: proof::LedgerPost,
}

#[derive(Debug, Default)]
pub struct Ledger {
    pub posts: Vec<proof::LedgerPost>,
    pub payments: Vec<Payment>,
    late: Vec<Late>,
    sends: HashMap<String, usize>,
    /// How often each kind of fault was played.
    pub played: HashMap<&'static str, u64>,
}

/// One account at the gateway.
pub struct SimulatedGateway {
    pub seed: u64,
    pub clock: Arc<SimulatedClock>,
    pub start: Timestamp,
    pub swarm: Mutex<Option<Swarm>>,
    pub ledger: Mutex<Ledger>,
    pub crash: Arc<Crash>,
    /// Of a thousand charges that a card declines, by card.
    pub cards: HashMap<String, u32>,
}

const FUNDS: &str = "[1254][실시간빌링실패|잔액부족]";
const EXPIRED: &str = "[1204][실시간빌링실패|유효기간 만료(기간오류)]";
const TIMEOUT: &str = "[1210][실시간빌링실패|카드사 거래 TIMEOUT]";
const STRANGE: &str = "[9Z9Z][실시간빌링실패|알 수 없는 사유]";

impl SimulatedGateway {
    fn plan(&self) -> Option<Swarm> {
        self.swarm.lock().unwrap().clone()
    }

    fn fault(&self, uid: &str, nth: usize) -> Fault {
        self.plan().map_or(Fault::None, |swarm| swarm.fault(uid, nth))
    }

    /// What has come into being by now.
    fn settle(&self, ledger: &mut Ledger) {
        let now = self.clock.now();
        let mut due: Vec<Late> = Vec::new();
        ledger.late.retain(|late| {
            let is_due = late.at <= now;
            if is_due {
                due.push(late.clone());
            }
            !is_due
        });
        due.sort_by_key(|late| late.at);
        for late in due {
            self.process(ledger, &late.post, late.at, SignedDuration::ZERO);
        }
    }

    /// Processes a POST atomically, as PortOne is taken to do: a paid record refuses every later one under its id.
    fn process(&self, ledger: &mut Ledger, post: &proof::LedgerPost, at: Timestamp, hidden: SignedDuration) -> serde_json::Value {
        let uid = &post.merchant_uid;
        let existing = ledger.payments.iter().filter(|payment| payment.record.merchant_uid == *uid);
        if existing.clone().any(|payment| payment.record.status != RecordStatus::Failed) {
            let message = "이미 주문이 이루어진 건입니다. (동일한 merchant_uid로 결제 또는 취소된 기록이 있습니다)";
            return json!({ "code": 1, "message": message, "response": null });
        }
        let Some(declines) = self.cards.get(&post.customer_uid) else {
            return json!({ "code": 1, "message": "등록되지 않은 구매자입니다.", "response": null });
        };
        let nth = existing.count();
        let mut rng = rng(self.seed, &["card", uid, &nth.to_string()]);
        let reason = (rng.random_range(0..1000) < *declines)
            .then(|| [FUNDS, FUNDS, FUNDS, EXPIRED, TIMEOUT, STRANGE][rng.random_range(0..6)]);
        let imp_uid = format!("imps_{}_{nth}", uid);
        let status = if reason.is_some() { RecordStatus::Failed } else { RecordStatus::Paid };
        let record = Record {
            imp_uid: imp_uid.clone(),
            merchant_uid: uid.clone(),
            status,
            amount: Some(Money::new(post.amount, Currency::KRW)),
            customer_uid: Some(post.customer_uid.clone()),
            fail_reason: reason.map(str::to_owned),
            pg_provider: Some("html5_inicis".to_owned()),
            pg_tid: None,
            at: Some(at),
            cancelled_amount: 0,
        };
        let visible_from = at.checked_add(hidden).unwrap();
        let (amount, customer_uid) = (post.amount, post.customer_uid.clone());
        ledger.payments.push(Payment { record, amount, customer_uid, visible_from });
        json!({ "code": 0, "message": null, "response": {
            "imp_uid": imp_uid, "merchant_uid": uid, "amount": post.amount, "cancel_amount": 0, "currency": "KRW",
            "status": if reason.is_some() { "failed" } else { "paid" }, "sandbox": false, "customer_uid": post.customer_uid,
            "fail_reason": reason, "pg_provider": "html5_inicis", "buyer_name": "CANARY-NAME",
            "paid_at": if reason.is_some() { 0 } else { at.as_second() }, "failed_at": if reason.is_some() { at.as_second() } else { 0 },
        }})
    }

    /// The records that a look-up shows now, newest first.
    fn visible(&self, uid: &str) -> Vec<Record> {
        let mut ledger = self.ledger.lock().unwrap();
        self.settle(&mut ledger);
        let now = self.clock.now();
        let shown = |payment: &&Payment| payment.record.merchant_uid == uid && payment.visible_from <= now;
        let mut records: Vec<Record> = ledger.payments.iter().filter(shown).map(|payment| payment.record.clone()).collect();
        records.reverse();
        records
    }

    /// Fails look-ups as the seed says.
    async fn look(&self, what: &str) -> Result<(), Unavailable> {
        self.crash.point().await;
        let Some(swarm) = self.plan() else { return Ok(()) };
        let hours = self.clock.now().duration_since(self.start).as_hours();
        let down = swarm.look_up_down.is_some_and(|(from, long)| (from..from + long).contains(&hours));
        let unlucky = rng(self.seed, &["look", what, &self.clock.now().to_string()]).random_range(0..1000) < swarm.look_up_rate;
        if down || unlucky {
            *self.ledger.lock().unwrap().played.entry("look-up down").or_default() += 1;
            return Err(Unavailable::Overload(503));
        }
        Ok(())
    }

    /// What the ledger holds at the end.
    pub fn books(&self) -> proof::Ledger {
        let mut ledger = self.ledger.lock().unwrap();
        self.settle(&mut ledger);
        let payments = ledger.payments.iter().map(|payment| proof::LedgerPayment {
            imp_uid: payment.record.imp_uid.clone(),
            merchant_uid: payment.record.merchant_uid.clone(),
            customer_uid: payment.customer_uid.clone(),
            amount: payment.amount,
            status: match payment.record.status {
                RecordStatus::Paid => proof::LedgerStatus::Paid,
                RecordStatus::Failed => proof::LedgerStatus::Failed,
                _ => proof::LedgerStatus::Other,
            },
        });
        proof::Ledger { payments: payments.collect(), posts: ledger.posts.clone() }
    }
}

#[async_trait]
impl Gateway for SimulatedGateway {
    fn compose(&self, request: &ChargeRequest<'_>) -> Result<String, InvalidRequest> {
        portone::compose(request)
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        self.crash.point().await;
        Ok(())
    }

    async fn charge(&self, attempt: DurableAttempt) -> Answer {
        self.crash.point().await;
        let post = proof::LedgerPost {
            merchant_uid: attempt.merchant_uid().as_str().to_owned(),
            customer_uid: attempt.customer_uid().to_owned(),
            amount: attempt.amount().minor(),
            at: self.clock.now(),
            processed: true,
        };
        let (fault, body) = {
            let mut ledger = self.ledger.lock().unwrap();
            self.settle(&mut ledger);
            let nth = ledger.sends.entry(post.merchant_uid.clone()).or_default();
            *nth += 1;
            let fault = self.fault(&post.merchant_uid, *nth);
            let name = match fault {
                Fault::None => "none",
                Fault::LostBefore => "lost before",
                Fault::LostAfter => "lost after",
                Fault::Unreachable => "unreachable",
                Fault::Late(_) => "late",
                Fault::Invisible(_) => "invisible",
                Fault::ErrorBefore => "500 before",
                Fault::ErrorAfter => "500 after",
                Fault::Unauthorized => "401",
                Fault::Malformed => "malformed",
                Fault::CutOff => "cut off",
                Fault::Foreign => "foreign",
                Fault::WrongAmount => "wrong amount",
            };
            *ledger.played.entry(name).or_default() += 1;
            if !matches!(fault, Fault::LostBefore | Fault::Unreachable) {
                let processed = !matches!(fault, Fault::ErrorBefore | Fault::Unauthorized);
                ledger.posts.push(proof::LedgerPost { processed, ..post.clone() });
            }
            let now = self.clock.now();
            let body = match fault {
                Fault::LostBefore | Fault::Unreachable | Fault::ErrorBefore | Fault::Unauthorized => None,
                Fault::Late(seconds) => {
                    let at = now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
                    ledger.late.push(Late { at, post: post.clone() });
                    None
                }
                Fault::Invisible(seconds) => Some(self.process(&mut ledger, &post, now, SignedDuration::from_secs(seconds))),
                _ => Some(self.process(&mut ledger, &post, now, SignedDuration::ZERO)),
            };
            (fault, body)
        };
        self.crash.point().await;
        let mut body = body.unwrap_or(serde_json::Value::Null);
        let text = match fault {
            Fault::None | Fault::Invisible(_) => body.to_string(),
            Fault::LostBefore | Fault::LostAfter | Fault::Late(_) => return portone::judge(&attempt, Wire::Broken("reset"), 1),
            Fault::Unreachable => return portone::judge(&attempt, Wire::Unreachable("refused"), 1),
            Fault::ErrorBefore | Fault::ErrorAfter => return portone::judge(&attempt, Wire::Answer(500, b"oops"), 1),
            Fault::Unauthorized => return portone::judge(&attempt, Wire::Answer(401, b"{}"), 1),
            Fault::Malformed => "<html>busy</html>".to_owned(),
            Fault::CutOff => body.to_string().chars().take(40).collect(),
            Fault::Foreign => {
                body["response"]["merchant_uid"] = json!("rbaaaaaaaaaaaaaaaaaaaaaaaaaa01");
                body.to_string()
            }
            Fault::WrongAmount => {
                body["response"]["amount"] = json!(1);
                body.to_string()
            }
        };
        portone::judge(&attempt, Wire::Answer(200, text.as_bytes()), 1)
    }

    async fn look_up(&self, ids: &[MerchantUid]) -> Result<Vec<Record>, Unavailable> {
        self.look(&format!("{ids:?}")).await?;
        Ok(ids.iter().filter_map(|id| self.visible(id.as_str()).into_iter().next()).collect())
    }

    async fn find_all(&self, id: &MerchantUid) -> Result<Vec<Record>, Unavailable> {
        self.look(id.as_str()).await?;
        Ok(self.visible(id.as_str()))
    }

    async fn list(&self, from: Timestamp, to: Timestamp, page: u32) -> Result<ListPage, Unavailable> {
        self.look(&page.to_string()).await?;
        let mut ledger = self.ledger.lock().unwrap();
        self.settle(&mut ledger);
        let now = self.clock.now();
        let in_span =
            |payment: &&Payment| payment.visible_from <= now && payment.record.at.is_some_and(|at| from <= at && at < to);
        let records: Vec<Record> = ledger.payments.iter().filter(in_span).map(|payment| payment.record.clone()).collect();
        let total = records.len() as u64;
        let size = 20;
        let skip = (page as usize - 1) * size;
        let next = (records.len() > skip + size).then_some(page + 1);
        Ok(ListPage { records: records.into_iter().skip(skip).take(size).collect(), next, total })
    }
}
