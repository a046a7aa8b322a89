//! Access tokens: one request for a new one at a time, whoever waits.
//!
//! PortOne's tokens live for 30 minutes. Asking again hands back the same one; asking within its last 60 s makes it live
//! 5 minutes longer. So one with less than 60 s left is asked for again, and no refresh ever happens inside a charge.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::json;

use super::client::{Http, Reply, Request, SMALL_ANSWER};
use super::wire::{self, Envelope, Nonsense};
use crate::ports::clock::Clock;
use crate::ports::gateway::Unavailable;
use crate::ports::metrics::Call;
use crate::ports::retry::RetryPolicy;
use crate::ports::secret::Secret;

/// What has to be left of a token before a charge is begun with it (E2).
const IN_HAND: SignedDuration = SignedDuration::from_secs(60);

/// The gateway's `now` is in whole seconds: a token may live this much shorter than it seems.
const ROUNDING: SignedDuration = SignedDuration::from_secs(1);

/// A token that the gateway gave us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// `Bearer …`, marked as sensitive: its `Debug` does not show it.
    pub header: HeaderValue,
    /// Counts the tokens of this process; an extended token keeps its number.
    pub generation: u64,
    expires_at: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Token>,
    generation: u64,
    /// How many refreshes have ended, and how the last one did.
    ended: u64,
    last: Option<Unavailable>,
}

#[derive(Debug)]
pub(super) struct Keys {
    pub imp_key: Secret,
    pub imp_secret: Secret,
}

pub(super) struct Tokens {
    http: Arc<Http>,
    clock: Arc<dyn Clock>,
    keys: Keys,
    timeout: Duration,
    retry: RetryPolicy,
    state: Mutex<State>,
    /// Held by the one who asks.
    asking: tokio::sync::Mutex<()>,
}

impl Tokens {
    pub fn new(http: Arc<Http>, clock: Arc<dyn Clock>, keys: Keys, timeout: Duration, retry: RetryPolicy) -> Self {
        Self { http, clock, keys, timeout, retry, state: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// The token that [`Tokens::ensure`] made sure of, however much is left of it; otherwise the number of the last one.
    pub fn in_hand(&self) -> Result<Token, u64> {
        let state = self.state();
        state.held.clone().ok_or(state.generation)
    }

    /// The gateway refused the token of this generation. A newer one is not concerned.
    pub fn invalidate(&self, generation: u64) {
        let mut state = self.state();
        if state.held.as_ref().is_some_and(|held| held.generation == generation) {
            state.held = None;
            self.http.times.token(None);
        }
    }

    /// A token with at least 60 s left. Whoever comes while somebody is asking waits for that answer, good or bad.
    pub async fn ensure(&self) -> Result<Token, Unavailable> {
        let ended = match self.usable() {
            Ok(token) => return Ok(token),
            Err(ended) => ended,
        };
        let _asking = self.asking.lock().await;
        if let Ok(token) = self.usable() {
            return Ok(token);
        }
        // somebody's refresh failed while we waited for it: it was ours too
        {
            let state = self.state();
            if let Some(why) = state.last.as_ref().filter(|_| state.ended != ended) {
                return Err(why.clone());
            }
        }
        let granted = self.refresh().await;
        let mut state = self.state();
        state.ended += 1;
        state.last = granted.as_ref().err().cloned();
        self.http.times.asked_for_token(granted.is_ok());
        granted
    }

    /// The token in hand if enough is left of it, otherwise how many refreshes have ended.
    fn usable(&self) -> Result<Token, u64> {
        let now = self.clock.now();
        let state = self.state();
        let enough = |token: &&Token| token.expires_at.duration_since(now) >= IN_HAND;
        state.held.as_ref().filter(enough).cloned().ok_or(state.ended)
    }

    async fn refresh(&self) -> Result<Token, Unavailable> {
        let seed = self.clock.now().as_microsecond().unsigned_abs();
        let ask = || async {
            let token = self.ask().await?;
            let left = token.expires_at.duration_since(self.clock.now());
            // within its last minute asking once more extends it
            if left < IN_HAND { Err(Asked::TooShort) } else { Ok(token) }
        };
        let again = |asked: &Asked| match asked {
            Asked::TooShort | Asked::Unavailable(Unavailable::Unreachable(_)) => true,
            Asked::Unavailable(Unavailable::Overload(status)) => *status != 429,
            Asked::Unavailable(_) => false,
        };
        self.retry.run(seed, again, ask).await.map_err(|asked| match asked {
            Asked::Unavailable(why) => why,
            Asked::TooShort => Unavailable::Nonsense("its tokens live for less than a minute".to_owned()),
        })
    }

    /// `POST /users/getToken`, once.
    async fn ask(&self) -> Result<Token, Asked> {
        let body = json!({ "imp_key": self.keys.imp_key.reveal(), "imp_secret": self.keys.imp_secret.reveal() });
        let began = self.clock.now();
        let request = Request {
            call: Call::Token,
            method: Method::POST,
            url: self.http.url(&["users", "getToken"], []),
            token: None,
            body: Some(body.to_string()),
            timeout: self.timeout,
            limit: SMALL_ANSWER,
        };
        let reply = self.http.exchange(request).await.map_err(Unavailable::from)?;
        // our own clock counts it down, from before we asked
        let (header, lifetime) = granted(&reply)?;
        let expires_at = began.checked_add(lifetime).unwrap_or(began);
        let mut state = self.state();
        let extended = state.held.as_ref().is_some_and(|held| held.header == header);
        if !extended {
            state.generation += 1;
            self.http.times.token(Some(self.clock.boot()));
        }
        let token = Token { header, generation: state.generation, expires_at };
        state.held = Some(token.clone());
        Ok(token)
    }

    /// Puts a token in hand where there is no server to ask.
    #[cfg(test)]
    pub fn hold(&self, text: &str) {
        let mut state = self.state();
        state.generation += 1;
        let header = HeaderValue::try_from(format!("Bearer {text}")).expect("a header");
        let expires_at = self.clock.now() + SignedDuration::from_mins(30);
        state.held = Some(Token { header, generation: state.generation, expires_at });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

/// How a call for a token failed.
enum Asked {
    Unavailable(Unavailable),
    TooShort,
}

impl From<Unavailable> for Asked {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(why)
    }
}

/// A token as it is sent, and how long it lives: by the gateway's two times.
pub(super) fn granted(reply: &Reply) -> Result<(HeaderValue, SignedDuration), Unavailable> {
    let granted = read(reply)?;
    let mut header = HeaderValue::try_from(format!("Bearer {}", granted.access_token))
        .map_err(|_| Unavailable::Nonsense("the token has characters that no header may have".to_owned()))?;
    header.set_sensitive(true);
    let lifetime = SignedDuration::from_secs(granted.expired_at.saturating_sub(granted.now)).saturating_sub(ROUNDING);
    Ok((header, lifetime))
}

fn read(reply: &Reply) -> Result<wire::Granted, Unavailable> {
    match reply.status {
        401 => return Err(Unavailable::Unauthorized),
        status if reply.is_overload() => return Err(Unavailable::Overload(status)),
        200 => {}
        status => return Err(Unavailable::Nonsense(format!("HTTP {status}"))),
    }
    let granted = Envelope::read(&reply.body).and_then(|envelope| wire::granted(envelope.processed()?)).and_then(|granted| {
        let good = !granted.access_token.is_empty() && granted.now > 0 && granted.expired_at > granted.now;
        if good { Ok(granted) } else { Err(Nonsense::new("the token is empty or has ended already")) }
    });
    granted.map_err(|Nonsense(why)| Unavailable::Nonsense(why))
}
