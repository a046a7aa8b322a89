//! What the engine asks of a payment gateway.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::attempt::{AttemptId, IdNumber, MerchantUid, SendId};
use crate::domain::charge::ChargeId;
use crate::domain::money::Money;
use crate::domain::outcome::{Outcome, Record};
use crate::domain::subscription::ChargeOptions;
use crate::ports::metrics::GatewayTimes;

/// A charge as it will be asked for, before anything is committed.
#[derive(Debug, Clone, PartialEq)]
pub struct ChargeRequest<'a> {
    pub merchant_uid: &'a MerchantUid,
    pub customer_uid: &'a str,
    pub amount: Money,
    pub tax_free: Option<i64>,
    pub vat_amount: Option<i64>,
    /// The order title that the payer sees.
    pub name: &'a str,
    pub options: &'a ChargeOptions,
}

/// Why a request cannot be sent: it breaks a rule of the gateway's API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {rule}")]
pub struct InvalidRequest {
    pub field: &'static str,
    /// What the API wants, without the value: it may be personal.
    pub rule: String,
}

/// An attempt whose intent is committed. Only the store makes one, after COMMIT; the gateway takes it by value. So
/// charging without intent, or twice from one intent, does not compile.
#[derive(Debug)]
pub struct DurableAttempt {
    charge: ChargeId,
    attempt: AttemptId,
    send: SendId,
    begun_at: Timestamp,
    id_number: IdNumber,
    merchant_uid: MerchantUid,
    customer_uid: String,
    amount: Money,
    body: String,
}

/// What an intent consists of, once its rows have their ids.
#[derive(Debug, Clone)]
pub struct CommittedIntent {
    pub charge: ChargeId,
    pub attempt: AttemptId,
    pub send: SendId,
    pub begun_at: Timestamp,
    pub id_number: IdNumber,
    pub merchant_uid: MerchantUid,
    pub customer_uid: String,
    pub amount: Money,
    pub body: String,
}

impl DurableAttempt {
    /// To be called by the store alone, and only once COMMIT has been acknowledged (`tests/tidy.rs` checks who calls).
    pub(crate) fn after_commit(intent: CommittedIntent) -> Self {
        let CommittedIntent { charge, attempt, send, begun_at, id_number, merchant_uid, customer_uid, amount, body } = intent;
        Self { charge, attempt, send, begun_at, id_number, merchant_uid, customer_uid, amount, body }
    }

    pub fn charge(&self) -> ChargeId {
        self.charge
    }

    pub fn attempt(&self) -> AttemptId {
        self.attempt
    }

    pub fn send(&self) -> SendId {
        self.send
    }

    /// When the intent was committed, by the database clock.
    pub fn begun_at(&self) -> Timestamp {
        self.begun_at
    }

    pub fn id_number(&self) -> IdNumber {
        self.id_number
    }

    pub fn merchant_uid(&self) -> &MerchantUid {
        &self.merchant_uid
    }

    pub fn customer_uid(&self) -> &str {
        &self.customer_uid
    }

    pub fn amount(&self) -> Money {
        self.amount
    }

    /// The exact bytes to send.
    pub fn body(&self) -> &str {
        &self.body
    }
}

/// An answer to a POST: its outcome, and what is kept of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub outcome: Outcome,
    /// JSON of the fields that are kept: no secrets, no personal fields.
    pub kept: serde_json::Value,
}

/// Why the gateway could not be asked. It never means that something was not paid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("the gateway cannot be reached: {0}")]
    Unreachable(String),
    #[error("the gateway is overloaded or down (HTTP {0})")]
    Overload(u16),
    #[error("the gateway refused the key or the token (HTTP 401)")]
    Unauthorized,
    #[error("the gateway's answer makes no sense: {0}")]
    Nonsense(String),
}

/// One page of the gateway's list of payments.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListPage {
    pub records: Vec<Record>,
    /// The next page's number, if there is one.
    pub next: Option<u32>,
    pub total: u64,
}

/// A charge that the gateway is going to make by itself, out of its own schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking {
    pub merchant_uid: Option<String>,
    /// When it is due.
    pub at: Option<Timestamp>,
}

/// One account at one gateway.
#[async_trait]
pub trait Gateway: Send + Sync + 'static {
    /// The exact body of a charge, checked against the gateway's own rules. Pure: nothing is sent.
    fn compose(&self, request: &ChargeRequest<'_>) -> Result<String, InvalidRequest>;

    /// Has an access token with at least 60 s left in hand (E2); [`Gateway::charge`] uses that one.
    async fn ready(&self) -> Result<(), Unavailable>;

    /// One POST, once (E3). Whatever happens, there is an outcome.
    async fn charge(&self, attempt: DurableAttempt) -> Answer;

    /// The records that the gateway shows for each of at most 100 ids; ids without a record are left out.
    async fn look_up(&self, ids: &[MerchantUid]) -> Result<Vec<Record>, Unavailable>;

    /// Every record under one id, all pages; empty if there is none.
    async fn find_all(&self, id: &MerchantUid) -> Result<Vec<Record>, Unavailable>;

    /// One page (from 1) of all payments of any status that began in `[from, to)`, oldest first.
    async fn list(&self, from: Timestamp, to: Timestamp, page: u32) -> Result<ListPage, Unavailable>;

    /// What the gateway's own schedule is going to charge to a billing key in `[from, to)`, at most 90 days: enough of it to know
    /// whether there is any. A gateway without a schedule says that it cannot be asked.
    async fn bookings(&self, _customer_uid: &str, _from: Timestamp, _to: Timestamp) -> Result<Vec<Booking>, Unavailable> {
        Err(Unavailable::Nonsense("this gateway has no schedule of its own".to_owned()))
    }

    /// Takes all bookings of a billing key out of the gateway's own schedule: one POST, never repeated by itself. Returns how many it
    /// says it took; 0: there were none.
    async fn unschedule(&self, _customer_uid: &str) -> Result<u64, Unavailable> {
        Err(Unavailable::Nonsense("this gateway has no schedule of its own".to_owned()))
    }

    /// How long its calls take, where that is measured.
    fn times(&self) -> Option<&GatewayTimes> {
        None
    }

    /// A channel whose payments the look-ups of this account may read as absent, if there is one: then nothing may be sent.
    async fn blind_spot(&self) -> Result<Option<String>, Unavailable> {
        Ok(None)
    }
}
