//! A sandbox with a simulated clock, and a client that checks each answer.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rebilld::gateway::sandbox::{LedgerSnapshot, Sandbox, SandboxAccount, SandboxOptions};
use rebilld::time::SimulatedClock;
use serde_json::{Value, json};

use crate::spec;

pub const START: &str = "2026-11-22T00:00:00Z";

pub struct World {
    pub clock: Arc<SimulatedClock>,
    pub sandbox: Sandbox,
    pub http: reqwest::Client,
    pub token: String,
    pub tier: Option<&'static str>,
}

pub fn client() -> reqwest::Client {
    // a second installation is refused, and the first one serves
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().retry(reqwest::retry::never()).no_proxy();
    client.redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut SandboxOptions)) -> Self {
        let clock = Arc::new(SimulatedClock::new(START.parse().unwrap()));
        let mut options = SandboxOptions::new(clock.clone());
        options.accounts =
            vec![SandboxAccount::new("key", "secret").tier("AAA"), SandboxAccount::new("other-key", "other-secret")];
        change(&mut options);
        let sandbox = Sandbox::start(options).await.unwrap();
        let mut world = Self { clock, sandbox, http: client(), token: String::new(), tier: None };
        world.renew().await;
        world
    }

    pub async fn renew(&mut self) {
        self.token = self.new_token("key", "secret").await["access_token"].as_str().unwrap().to_owned();
    }

    pub async fn new_token(&self, imp_key: &str, imp_secret: &str) -> Value {
        let (status, mut answer) = self.post("/users/getToken", &json!({"imp_key": imp_key, "imp_secret": imp_secret})).await;
        assert_eq!((status, &answer["code"]), (200, &json!(0)));
        answer["response"].take()
    }

    pub fn now(&self) -> Timestamp {
        use rebilld::ports::clock::Clock;
        self.clock.now()
    }

    pub fn pass(&self, seconds: i64) {
        self.clock.move_to(self.now() + SignedDuration::from_secs(seconds));
    }

    pub fn ledger(&self) -> LedgerSnapshot {
        self.sandbox.ledger()
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.sandbox.url()));
        let request = request.header("Authorization", format!("Bearer {}", self.token));
        if let Some(tier) = self.tier { request.header("Tier", tier) } else { request }
    }

    /// Sends without looking at the answer.
    pub async fn raw(&self, method: &str, path: &str, body: Option<&Value>) -> reqwest::Result<(u16, String)> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    async fn checked(&self, method: &str, path: &str, request: reqwest::RequestBuilder) -> (u16, Value) {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(spec::fault_of(method, path, status, &answer), None);
        (status, answer)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.checked("GET", path, self.request("GET", path)).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        self.checked("DELETE", path, self.request("DELETE", path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.checked("POST", path, self.request("POST", path).json(body)).await
    }

    pub async fn post_form(&self, path: &str, form: &str) -> (u16, Value) {
        let request = self.request("POST", path).body(form.to_owned());
        self.checked("POST", path, request.header("Content-Type", "application/x-www-form-urlencoded")).await
    }

    /// A charge that is answered with HTTP 200 in the documented shape.
    pub async fn charge(&self, merchant_uid: &str, customer_uid: &str) -> Value {
        let (status, answer) = self.post("/subscribe/payments/again", &order(merchant_uid, customer_uid)).await;
        assert_eq!(status, 200);
        answer
    }

    pub async fn raw_charge(&self, merchant_uid: &str, customer_uid: &str) -> reqwest::Result<(u16, String)> {
        self.raw("POST", "/subscribe/payments/again", Some(&order(merchant_uid, customer_uid))).await
    }
}

pub fn order(merchant_uid: &str, customer_uid: &str) -> Value {
    json!({"merchant_uid": merchant_uid, "customer_uid": customer_uid, "amount": 9900, "name": "Pro plan",
        "buyer_name": "홍길동", "custom_data": "attempt-1"})
}

/// The imp_uids of a list.
pub fn uids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|payment| payment["imp_uid"].as_str().unwrap()).collect()
}
