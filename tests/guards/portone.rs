//! A gateway with a ledger that goes wrong in the ways that guards are for. The ledger is the oracle: it is never told what the daemon
//! believes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rebilld::domain::attempt::{MerchantUid, digest};
use rebilld::domain::money::{Currency, Money};
use rebilld::domain::outcome::{Record, RecordStatus};
use rebilld::domain::proof;
use rebilld::gateway::portone::{self, Wire};
use rebilld::ports::clock::Clock;
use rebilld::ports::gateway::{Answer, ChargeRequest, DurableAttempt, Gateway, InvalidRequest, ListPage, Unavailable};
use rebilld::ports::store::SeenSend;
use rebilld::ports::watermark::Watermark;
use rebilld::time::SimulatedClock;
use serde_json::{Value, json};

const NO_FUNDS: &str = "[1254][실시간빌링실패|잔액부족]";
/// Says that this card will never be charged.
const EXPIRED: &str = "[1204][실시간빌링실패|유효기간 만료(기간오류)]";

/// What becomes of one POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Play {
    Pay,
    /// Never arrives.
    LostBefore,
    /// Is paid; the answer is lost.
    LostAfter,
    /// The caller hangs up; it is processed between the two, in seconds later.
    Late(i64, i64),
    /// Paid, but no look-up shows it for up to so many seconds; the answer is lost.
    Hidden(i64),
    Decline,
    /// Declined for good, and approved up to so many seconds later.
    ExpireFirst(i64),
    /// Reported as failed, and approved up to so many seconds later.
    ApproveLater(i64),
    /// Another amount is taken, or another card asked: what the answer says is true.
    WrongAmount,
    WrongCard,
    /// Does nothing, and answers with somebody else's payment.
    Foreign,
}

struct Payment {
    record: Record,
    post: proof::LedgerPost,
    visible_from: Timestamp,
    approved_at: Option<Timestamp>,
}

struct Late {
    at: Timestamp,
    post: proof::LedgerPost,
    play: Play,
}

#[derive(Default)]
struct Ledger {
    posts: Vec<proof::LedgerPost>,
    payments: Vec<Payment>,
    late: Vec<Late>,
    sends: HashMap<String, u32>,
}

pub fn rng(seed: u64, parts: &[&str]) -> ChaCha8Rng {
    let text = seed.to_string();
    let mut all = vec!["guards", text.as_str()];
    all.extend_from_slice(parts);
    ChaCha8Rng::from_seed(digest(&all))
}

/// The gateway itself, which every line leads to.
pub struct PortOne {
    pub seed: u64,
    pub clock: Arc<SimulatedClock>,
    /// What may happen to a POST while mishaps last; each is as likely as the others.
    pub plays: Vec<Play>,
    pub mishaps: Mutex<bool>,
    /// Which id was looked up, and when somebody asked.
    pub asked: Mutex<Vec<(String, Timestamp)>>,
    ledger: Mutex<Ledger>,
}

impl PortOne {
    pub fn new(seed: u64, clock: Arc<SimulatedClock>, plays: &[Play]) -> Arc<Self> {
        Arc::new(Self {
            seed,
            clock,
            plays: plays.to_vec(),
            mishaps: Mutex::new(true),
            asked: Mutex::default(),
            ledger: Mutex::default(),
        })
    }

    pub fn calm(&self) {
        *self.mishaps.lock().unwrap() = false;
    }

    /// What came in, and what it made. A payment that nobody asked for is no payment of that charge.
    pub fn books(&self) -> proof::Ledger {
        let mut ledger = self.ledger.lock().unwrap();
        self.settle(&mut ledger);
        let payments = ledger.payments.iter().map(|payment| {
            let as_asked = payment.record.amount == Some(Money::krw(payment.post.amount))
                && payment.record.customer_uid.as_ref() == Some(&payment.post.customer_uid);
            proof::LedgerPayment {
                imp_uid: payment.record.imp_uid.clone(),
                merchant_uid: payment.record.merchant_uid.clone(),
                customer_uid: payment.post.customer_uid.clone(),
                amount: payment.post.amount,
                status: match payment.record.status {
                    RecordStatus::Paid if as_asked => proof::LedgerStatus::Paid,
                    RecordStatus::Failed => proof::LedgerStatus::Failed,
                    _ => proof::LedgerStatus::Other,
                },
            }
        });
        proof::Ledger { payments: payments.collect(), posts: ledger.posts.clone() }
    }

    /// Which POST made each record: its id, and when it came in.
    pub fn made(&self) -> Vec<(String, Timestamp)> {
        let ledger = self.ledger.lock().unwrap();
        ledger.payments.iter().map(|payment| (payment.post.merchant_uid.clone(), payment.post.at)).collect()
    }

    fn play(&self, uid: &str, nth: u32) -> Play {
        if !*self.mishaps.lock().unwrap() {
            return Play::Pay;
        }
        self.plays[self.rng("play", uid, nth).random_range(0..self.plays.len())]
    }

    fn rng(&self, what: &str, uid: &str, nth: u32) -> ChaCha8Rng {
        rng(self.seed, &[what, uid, &nth.to_string()])
    }

    /// What has come into being by now.
    fn settle(&self, ledger: &mut Ledger) {
        let now = self.clock.now();
        let (mut due, later): (Vec<Late>, Vec<Late>) = ledger.late.drain(..).partition(|late| late.at <= now);
        ledger.late = later;
        due.sort_by_key(|late| late.at);
        for late in due {
            self.process(ledger, &late.post, late.play, late.at);
        }
        for payment in &mut ledger.payments {
            if payment.approved_at.is_some_and(|at| at <= now) {
                payment.approved_at = None;
                payment.record.status = RecordStatus::Paid;
            }
        }
    }

    /// Processes a POST atomically: a paid record refuses every later one under its id.
    fn process(&self, ledger: &mut Ledger, post: &proof::LedgerPost, play: Play, at: Timestamp) -> Value {
        let uid = &post.merchant_uid;
        let under = ledger.payments.iter().filter(|payment| payment.record.merchant_uid == *uid);
        if under.clone().any(|payment| payment.record.status != RecordStatus::Failed) {
            let message = "이미 주문이 이루어진 건입니다. (동일한 merchant_uid로 결제 또는 취소된 기록이 있습니다)";
            return json!({ "code": 1, "message": message, "response": null });
        }
        let nth = u32::try_from(under.count()).unwrap();
        let mut rng = self.rng("process", uid, nth);
        let reason = match play {
            Play::Decline | Play::ApproveLater(_) => Some(NO_FUNDS),
            Play::ExpireFirst(_) => Some(EXPIRED),
            _ => None,
        };
        let seconds = |most: i64, rng: &mut ChaCha8Rng| SignedDuration::from_secs(rng.random_range(1..=most));
        let record = Record {
            imp_uid: format!("imps_{uid}_{nth}"),
            merchant_uid: uid.clone(),
            status: if reason.is_some() { RecordStatus::Failed } else { RecordStatus::Paid },
            amount: Some(Money::new(if play == Play::WrongAmount { post.amount / 100 } else { post.amount }, Currency::KRW)),
            customer_uid: Some(if play == Play::WrongCard { "card-of-another".to_owned() } else { post.customer_uid.clone() }),
            fail_reason: reason.map(str::to_owned),
            pg_provider: Some("html5_inicis".to_owned()),
            pg_tid: None,
            at: Some(at),
            cancelled_amount: 0,
        };
        let answer = answer(&record);
        let hidden = if let Play::Hidden(most) = play { seconds(most, &mut rng) } else { SignedDuration::ZERO };
        let approved_at =
            if let Play::ApproveLater(most) | Play::ExpireFirst(most) = play { Some(at + seconds(most, &mut rng)) } else { None };
        ledger.payments.push(Payment { record, post: post.clone(), visible_from: at + hidden, approved_at });
        answer
    }

    /// The records that a look-up shows now, newest first.
    fn visible(&self, uid: &str) -> Vec<Record> {
        let mut ledger = self.ledger.lock().unwrap();
        self.settle(&mut ledger);
        let now = self.clock.now();
        let shown = ledger.payments.iter().filter(|payment| payment.record.merchant_uid == uid && payment.visible_from <= now);
        shown.rev().map(|payment| payment.record.clone()).collect()
    }

    /// Takes a POST in. `None`: its answer is lost.
    fn take(&self, post: proof::LedgerPost) -> Option<Value> {
        let mut ledger = self.ledger.lock().unwrap();
        self.settle(&mut ledger);
        let nth = ledger.sends.entry(post.merchant_uid.clone()).or_default();
        *nth += 1;
        let nth = *nth;
        let play = self.play(&post.merchant_uid, nth);
        if play == Play::LostBefore {
            return None;
        }
        let (uid, now) = (post.merchant_uid.clone(), post.at);
        ledger.posts.push(proof::LedgerPost { processed: play != Play::Foreign, ..post.clone() });
        match play {
            Play::Late(from, to) => {
                let after = SignedDuration::from_secs(self.rng("late", &uid, nth).random_range(from..to));
                // what arrives late is paid, or declined for want of funds
                let play = if self.rng("late", &uid, nth + 100).random_bool(0.5) { Play::Pay } else { Play::Decline };
                ledger.late.push(Late { at: now + after, post, play });
                None
            }
            Play::LostAfter | Play::Hidden(_) => {
                self.process(&mut ledger, &post, play, now);
                None
            }
            Play::Foreign => {
                let amount = Some(Money::krw(post.amount));
                let imp_uid = format!("imps_of_another_{uid}_{nth}");
                let merchant_uid = "rbaaaaaaaaaaaaaaaaaaaaaaaaaa01".to_owned();
                let status = RecordStatus::Paid;
                Some(answer(&Record {
                    imp_uid,
                    merchant_uid,
                    status,
                    amount,
                    customer_uid: Some(post.customer_uid),
                    fail_reason: None,
                    pg_provider: None,
                    pg_tid: None,
                    at: Some(now),
                    cancelled_amount: 0,
                }))
            }
            play => Some(self.process(&mut ledger, &post, play, now)),
        }
    }
}

fn answer(record: &Record) -> Value {
    let (failed, at) = (record.status == RecordStatus::Failed, record.at.map_or(0, Timestamp::as_second));
    json!({ "code": 0, "message": null, "response": {
        "imp_uid": record.imp_uid, "merchant_uid": record.merchant_uid, "cancel_amount": 0, "currency": "KRW",
        "amount": record.amount.map(|amount| amount.minor()), "status": if failed { "failed" } else { "paid" }, "sandbox": false,
        "customer_uid": record.customer_uid, "fail_reason": record.fail_reason, "pg_provider": "html5_inicis",
        "paid_at": if failed { 0 } else { at }, "failed_at": if failed { at } else { 0 },
    }})
}

/// Where a process may be frozen, or something else may happen in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The look-up before the send has been answered.
    Looked,
    /// W2 is committed, and the gate not yet passed.
    Committed,
    /// The answer to a POST is on its way back.
    Answered,
}

pub type Deed = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// Something that happens the first time a process comes to a place, from an instant on.
#[derive(Default)]
pub struct Interlude(Mutex<Option<(Place, Timestamp, Deed)>>);

impl Interlude {
    pub fn at(place: Place, from: Timestamp, deed: Deed) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some((place, from, deed)))))
    }

    async fn come_to(&self, place: Place, now: Timestamp) {
        let deed = {
            let mut waiting = self.0.lock().unwrap();
            let is_it = waiting.as_ref().is_some_and(|(at, from, _)| *at == place && *from <= now);
            if is_it { waiting.take() } else { None }
        };
        if let Some((.., deed)) = deed {
            deed().await;
        }
    }
}

/// The way of one process to the gateway.
pub struct Line {
    pub portone: Arc<PortOne>,
    pub interlude: Arc<Interlude>,
}

impl Line {
    async fn come_to(&self, place: Place) {
        self.interlude.come_to(place, self.portone.clock.now()).await;
    }
}

#[async_trait]
impl Gateway for Line {
    fn compose(&self, request: &ChargeRequest<'_>) -> Result<String, InvalidRequest> {
        portone::compose(request)
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        Ok(())
    }

    async fn charge(&self, attempt: DurableAttempt) -> Answer {
        let post = proof::LedgerPost {
            merchant_uid: attempt.merchant_uid().as_str().to_owned(),
            customer_uid: attempt.customer_uid().to_owned(),
            amount: attempt.amount().minor(),
            at: self.portone.clock.now(),
            processed: true,
        };
        let answer = self.portone.take(post);
        self.come_to(Place::Answered).await;
        match answer {
            None => portone::judge(&attempt, Wire::Broken("reset"), 1),
            Some(answer) => portone::judge(&attempt, Wire::Answer(200, answer.to_string().as_bytes()), 1),
        }
    }

    async fn look_up(&self, ids: &[MerchantUid]) -> Result<Vec<Record>, Unavailable> {
        let now = self.portone.clock.now();
        self.portone.asked.lock().unwrap().extend(ids.iter().map(|id| (id.as_str().to_owned(), now)));
        let newest = ids.iter().filter_map(|id| self.portone.visible(id.as_str()).into_iter().next()).collect();
        self.come_to(Place::Looked).await;
        Ok(newest)
    }

    async fn find_all(&self, id: &MerchantUid) -> Result<Vec<Record>, Unavailable> {
        Ok(self.portone.visible(id.as_str()))
    }

    async fn list(&self, from: Timestamp, to: Timestamp, _page: u32) -> Result<ListPage, Unavailable> {
        let mut ledger = self.portone.ledger.lock().unwrap();
        self.portone.settle(&mut ledger);
        let now = self.portone.clock.now();
        let in_span =
            |payment: &&Payment| payment.visible_from <= now && payment.record.at.is_some_and(|at| from <= at && at < to);
        let records: Vec<Record> = ledger.payments.iter().filter(in_span).map(|payment| payment.record.clone()).collect();
        let total = records.len() as u64;
        Ok(ListPage { records, next: None, total })
    }
}

/// The state directory, between W2 and the gate.
pub struct Directory {
    pub clock: Arc<SimulatedClock>,
    pub interlude: Arc<Interlude>,
}

#[async_trait]
impl Watermark for Directory {
    async fn raise(&self, _mark: i64, _newest: SeenSend) -> std::io::Result<()> {
        self.interlude.come_to(Place::Committed, self.clock.now()).await;
        Ok(())
    }
}
