//! Charges over real connections. They are here and not in `tests/`, because only inside the crate a test can make a
//! [`DurableAttempt`]; look-ups and tokens are in `tests/gateway.rs`.

mod charges;
mod compose;
mod cuts;
#[path = "../../../../tests/gateway/server.rs"]
pub mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{PortOne, PortOneConfig};
use crate::domain::attempt::{AttemptId, IdNumber, MerchantUid, SendId};
use crate::domain::charge::ChargeId;
use crate::domain::money::Money;
use crate::ports::gateway::{Answer, CommittedIntent, DurableAttempt, Gateway};
use crate::ports::retry::RetryPolicy;
use crate::ports::secret::Secret;
use crate::time::SimulatedClock;

impl server::Seen {
    fn merchant_uid(&self) -> String {
        self.json()["merchant_uid"].as_str().unwrap_or_default().to_owned()
    }

    fn is_charge(&self) -> bool {
        self.method == "POST" && self.path.ends_with("/subscribe/payments/again")
    }
}

impl server::Server {
    /// Complete charges per merchant_uid.
    fn charges(&self) -> BTreeMap<String, usize> {
        let mut charges = BTreeMap::new();
        for seen in self.seen().iter().filter(|seen| seen.is_charge()) {
            *charges.entry(seen.merchant_uid()).or_default() += 1;
        }
        charges
    }
}

const START: &str = "2026-12-01T01:00:00Z";

fn clock() -> Arc<SimulatedClock> {
    Arc::new(SimulatedClock::new(START.parse().unwrap()))
}

fn config(url: &str) -> PortOneConfig {
    PortOneConfig {
        retry: RetryPolicy::at_once(2),
        ..PortOneConfig::new("main", url, Secret::new("the-key"), Secret::new("the-secret"))
    }
}

fn gateway(url: &str) -> PortOne {
    PortOne::new(config(url), clock()).unwrap()
}

/// With a charge timeout short enough to wait for.
fn hasty(url: &str) -> PortOne {
    PortOne::new(PortOneConfig { charge_timeout: Duration::from_millis(150), ..config(url) }, clock()).unwrap()
}

/// 9,900 won from `cus-0001`, committed.
fn attempt(merchant_uid: &str) -> DurableAttempt {
    let body =
        serde_json::json!({ "customer_uid": "cus-0001", "merchant_uid": merchant_uid, "amount": 9900, "name": "Pro plan" });
    DurableAttempt::after_commit(CommittedIntent {
        charge: ChargeId(1),
        attempt: AttemptId(1),
        send: SendId(1),
        begun_at: START.parse::<Timestamp>().unwrap(),
        id_number: IdNumber::FIRST,
        merchant_uid: MerchantUid::stored(merchant_uid),
        customer_uid: "cus-0001".to_owned(),
        amount: Money::krw(9900),
        body: body.to_string(),
    })
}

async fn charge(gateway: &PortOne, merchant_uid: &str) -> Answer {
    gateway.ready().await.unwrap();
    gateway.charge(attempt(merchant_uid)).await
}
