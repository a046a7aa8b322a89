//! PortOne's V1 API: one account, its token, its charges and look-ups.
//!
//! A charge is one POST, whatever happens ([`client`]), and always has an outcome ([`classify`]). Look-ups and tokens
//! cannot charge, so they are repeated for a moment. No error, log line or kept answer holds a key, a token or a
//! personal field ([`wire`] does not even read those).

mod bookings;
mod classify;
mod client;
mod compose;
mod lookup;
mod scrub;
mod survey;
mod token;
mod wire;
mod wire_judge;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::Method;

pub use compose::compose;
pub use survey::Survey;
pub use wire::Channel;
pub use wire_judge::{AskedFor, LookedUp, Wire, judge, judge_answer, judge_look_up, judge_token};

use crate::domain::attempt::MerchantUid;
use crate::domain::classify::Rules;
use crate::domain::outcome::{NotSent, Outcome, Record};
use crate::ports::clock::Clock;
use crate::ports::gateway::{Answer, Booking, ChargeRequest, DurableAttempt, Gateway, InvalidRequest, ListPage, Unavailable};
use crate::ports::metrics::{Call, GatewayTimes};
use crate::ports::retry::RetryPolicy;
use crate::ports::secret::Secret;
use classify::Asked;
use client::{Http, Request, SMALL_ANSWER};
use token::{Keys, Tokens};

/// Where the V1 API lives.
pub const LIVE_URL: &str = "https://api.iamport.kr";

/// One account at PortOne, and how it is asked.
#[derive(Debug, Clone)]
pub struct PortOneConfig {
    /// Its name here, for logs.
    pub account: String,
    /// https, or plain http on this machine.
    pub base_url: String,
    pub imp_key: Secret,
    pub imp_secret: Secret,
    /// Three characters that address a sub-merchant of an agency.
    pub tier: Option<String>,
    /// The account charges on a test channel: look-ups are told to show its payments.
    pub include_sandbox: bool,
    /// How refusals are read: the operator's rules.
    pub declines: Arc<Rules>,
    /// Within it a connection stands, TLS included; otherwise nothing was sent.
    pub connect_timeout: Duration,
    /// From the first step of a charge to the last byte of its answer. PortOne keeps working for a minute after all.
    pub charge_timeout: Duration,
    /// The same for a look-up or a token.
    pub lookup_timeout: Duration,
    pub user_agent: String,
    /// For look-ups and tokens. Its pauses are real ones.
    pub retry: RetryPolicy,
}

impl PortOneConfig {
    /// 10 s to connect, 65 s for a charge, 30 s for a look-up.
    pub fn new(account: impl Into<String>, base_url: impl Into<String>, imp_key: Secret, imp_secret: Secret) -> Self {
        Self {
            account: account.into(),
            base_url: base_url.into(),
            imp_key,
            imp_secret,
            tier: None,
            include_sandbox: false,
            declines: Arc::default(),
            connect_timeout: Duration::from_secs(10),
            charge_timeout: Duration::from_secs(65),
            lookup_timeout: Duration::from_secs(30),
            user_agent: concat!("rebilld/", env!("CARGO_PKG_VERSION")).to_owned(),
            retry: RetryPolicy::BRIEF,
        }
    }
}

/// What is wrong with an account's settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("the base URL {0}")]
    BaseUrl(&'static str),
    #[error("a tier has three characters")]
    Tier,
    #[error("imp_key and imp_secret are required")]
    Keys,
    #[error("no HTTP client can be made: {0}")]
    Http(String),
}

/// One account at PortOne.
pub struct PortOne {
    config: PortOneConfig,
    http: Arc<Http>,
    tokens: Tokens,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for PortOne {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortOne").field("account", &self.config.account).finish_non_exhaustive()
    }
}

impl PortOne {
    /// Checks the settings; nothing is sent yet.
    pub fn new(config: PortOneConfig, clock: Arc<dyn Clock>) -> Result<Self, ConfigError> {
        if config.imp_key.is_empty() || config.imp_secret.is_empty() {
            return Err(ConfigError::Keys);
        }
        let http = Arc::new(Http::new(&config)?);
        let keys = Keys { imp_key: config.imp_key.clone(), imp_secret: config.imp_secret.clone() };
        let tokens = Tokens::new(http.clone(), clock.clone(), keys, config.lookup_timeout, config.retry);
        Ok(Self { config, http, tokens, clock })
    }
}

#[async_trait]
impl Gateway for PortOne {
    fn compose(&self, request: &ChargeRequest<'_>) -> Result<String, InvalidRequest> {
        compose::compose(request)
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        self.tokens.ensure().await.map(drop)
    }

    async fn charge(&self, attempt: DurableAttempt) -> Answer {
        let token = match self.tokens.in_hand() {
            Ok(token) => token,
            Err(generation) => return classify::without_token(generation),
        };
        let request = Request {
            call: Call::Charge,
            method: Method::POST,
            url: self.http.url(&["subscribe", "payments", "again"], []),
            token: Some(&token.header),
            body: Some(attempt.body().to_owned()),
            timeout: self.config.charge_timeout,
            limit: SMALL_ANSWER,
        };
        let came = self.http.exchange(request).await;
        let asked = Asked {
            merchant_uid: attempt.merchant_uid(),
            customer_uid: attempt.customer_uid(),
            amount: attempt.amount(),
            token: token.generation,
            declines: &self.config.declines,
        };
        let answer = classify::answer(&asked, came);
        if let Outcome::NotSent(NotSent::Unauthorized { token }) = answer.outcome {
            self.tokens.invalidate(token);
        }
        answer
    }

    async fn look_up(&self, ids: &[MerchantUid]) -> Result<Vec<Record>, Unavailable> {
        self.look_up_batch(ids).await
    }

    async fn find_all(&self, id: &MerchantUid) -> Result<Vec<Record>, Unavailable> {
        self.look_up_all(id).await
    }

    async fn list(&self, from: Timestamp, to: Timestamp, page: u32) -> Result<ListPage, Unavailable> {
        self.list_page(from, to, page).await
    }

    async fn bookings(&self, customer_uid: &str, from: Timestamp, to: Timestamp) -> Result<Vec<Booking>, Unavailable> {
        self.booked(customer_uid, from, to).await
    }

    async fn unschedule(&self, customer_uid: &str) -> Result<u64, Unavailable> {
        self.revoke(customer_uid).await
    }

    fn times(&self) -> Option<&GatewayTimes> {
        Some(&self.http.times)
    }

    async fn blind_spot(&self) -> Result<Option<String>, Unavailable> {
        if self.config.include_sandbox {
            return Ok(None);
        }
        let test = self.channels().await?.into_iter().find(|channel| channel.sandbox);
        Ok(test.map(|channel| format!("{} {}", channel.pg_provider, channel.channel_name.unwrap_or(channel.pg_id))))
    }
}
