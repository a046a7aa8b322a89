//! Delivers events to the operator's webhook receivers, signed as Standard Webhooks says.
//!
//! One delivery is one POST: no repeats (the outbox tries again over days, see [`delay`]), no redirects, no proxy from the
//! environment, and no connection to an address inside the operator's network unless the endpoint allows it.

mod address;
pub mod alarms;
mod knock;
mod signature;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url, redirect, retry};

pub use knock::knock;
pub use signature::{SECRET_PREFIX, sign, verify};

use crate::domain::event::envelope;
use crate::ports::clock::Clock;
use crate::ports::courier::{Courier, Handover};
use crate::ports::retry::RetryPolicy;
use crate::ports::secret::Secret;
use crate::ports::store::Delivery;
use address::Guard;
use signature::Key;

/// So much of an answer is read, for the connection's sake; what it says is of no interest.
const ANSWER: usize = 64 * 1024;

/// 5 s, 20 s, 80 s, 5 min, 21 min, 85 min, 6 h, 23 h, then daily: about four days in all, a tenth up or down.
const DELIVERIES: RetryPolicy = RetryPolicy {
    tries: 12,
    first: Duration::from_secs(5),
    factor: 4,
    longest: Duration::from_secs(24 * 3600),
    jitter_percent: 10,
};

/// How long to wait after so many failed tries of a delivery; `None`: it is given up. The seed tells deliveries apart.
pub fn delay(tries: u32, seed: u64) -> Option<SignedDuration> {
    SignedDuration::try_from(DELIVERIES.pause(tries, seed)?).ok()
}

/// One receiver (`[[webhooks]]`).
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub name: String,
    /// https; plain http only together with `allow_private`.
    pub url: String,
    /// `whsec_` and base64, of 24 bytes at least.
    pub secret: Secret,
    /// It may be inside the operator's network, or on this machine.
    pub allow_private: bool,
    /// For the whole delivery.
    pub timeout: Duration,
}

/// What is wrong with an endpoint's settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("webhook `{endpoint}`: {why}")]
pub struct EndpointError {
    pub endpoint: String,
    pub why: String,
}

struct Receiver {
    url: Url,
    key: Key,
    timeout: Duration,
    client: Client,
}

/// Carries events to all configured endpoints.
pub struct WebhookCourier {
    receivers: HashMap<String, Receiver>,
    clock: Arc<dyn Clock>,
}

impl WebhookCourier {
    /// Checks the endpoints; nothing is sent yet.
    pub fn new(endpoints: Vec<Endpoint>, clock: Arc<dyn Clock>) -> Result<Self, EndpointError> {
        let [public, private] = [false, true].map(client);
        let mut receivers = HashMap::new();
        for endpoint in endpoints {
            let wrong = |why: &str| EndpointError { endpoint: endpoint.name.clone(), why: why.to_owned() };
            let url = address::url(&endpoint.url, endpoint.allow_private).map_err(wrong)?;
            let key =
                Key::read(&endpoint.secret).ok_or_else(|| wrong("its secret is not `whsec_` and base64 of at least 24 bytes"))?;
            let client = if endpoint.allow_private { &private } else { &public };
            let client = client.clone().map_err(|why| wrong(&why))?;
            let receiver = Receiver { url, key, timeout: endpoint.timeout, client };
            if receivers.insert(endpoint.name.clone(), receiver).is_some() {
                return Err(wrong("there are two of this name"));
            }
        }
        Ok(Self { receivers, clock })
    }
}

/// The rules are the same for all endpoints but for the addresses.
fn client(allow_private: bool) -> Result<Client, String> {
    // reqwest panics without a provider; whoever came first may have installed it already
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .retry(retry::never())
        .redirect(redirect::Policy::none())
        .no_proxy()
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(10))
        // literal addresses never come to the resolver: `address::url` has checked those
        .dns_resolver(Guard { allow_private })
        .user_agent(concat!("rebilld/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(describe)
}

#[async_trait]
impl Courier for WebhookCourier {
    async fn deliver(&self, delivery: &Delivery) -> Handover {
        let Some(receiver) = self.receivers.get(&delivery.endpoint) else { return Handover::UnknownEndpoint };
        let body = envelope(&delivery.event_id, &delivery.kind, delivery.at, &delivery.data).to_string();
        // the time of this try, not of the event: receivers refuse old ones
        let timestamp = self.clock.now().as_second();
        let signature = receiver.key.sign(&delivery.event_id, timestamp, body.as_bytes());
        let request = receiver
            .client
            .post(receiver.url.clone())
            .timeout(receiver.timeout)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("webhook-id", &delivery.event_id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Handover::Failed(describe(error)),
        };
        let status = response.status();
        let mut read = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            read += chunk.len();
            if read > ANSWER {
                break;
            }
        }
        if status.is_success() { Handover::Accepted } else { Handover::Failed(format!("HTTP {}", status.as_u16())) }
    }
}

/// The error and its causes without the URL: its path and query may be secrets.
fn describe(error: reqwest::Error) -> String {
    if error.is_timeout() && !error.is_connect() {
        return "no answer in time".to_owned();
    }
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // writing to a string does not fail
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text.chars().take(300).collect()
}
