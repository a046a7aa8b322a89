//! Webhooks in: PortOne says that something happened to a payment, and nobody can tell whether it was PortOne.
//!
//! So nothing of it is believed. Of the body only `merchant_uid` is read, and all that follows is that the next look-up of that charge is
//! moved to now; what a look-up may conclude, and when, is not changed by when it is made (R2, R3). A flood costs little: what comes in is
//! gathered in a bounded set ([`waiting`]) and taken up once a second, with one read, at most one write, and at most
//! [`waiting::LOOK_UPS`] look-ups an account. Whoever sends one learns nothing: the answer does not wait for the database, and is the
//! same for an id that exists and for one that does not.

pub mod waiting;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{DefaultBodyLimit, Form, FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::domain::attempt::{MerchantUid, Tag};
use crate::domain::charge::AccountId;
use crate::ports::clock::Clock;
use crate::ports::metrics::Metrics;
use crate::ports::secret::Secret;
use crate::ports::wake::Wake;
use crate::store::Database;
use waiting::{Found, Waiting};

/// The largest body, in bytes. PortOne's have about 150.
const LARGEST: usize = 16 * 1024;
const FORM: &str = "application/x-www-form-urlencoded";
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// What has come in is taken up so often.
const EVERY: Duration = Duration::from_secs(1);
/// Tokens that were read from the database so long ago are read again when the next webhook comes.
const TOKENS_AGE: Duration = Duration::from_secs(10);
/// The answer does not wait longer for them; those of before serve on.
const TOKENS_PATIENCE: Duration = Duration::from_secs(2);

/// What a webhook was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 200: whatever it says will be looked at.
    Accepted,
    /// 400: its body names no `merchant_uid`.
    Malformed,
    /// 408: its body did not arrive in time, or not whole.
    Slow,
    /// 413: its body is too large.
    TooLarge,
    /// 429: more of them a second than `http.webhooks_per_second`, or more than are kept.
    Limited,
    /// 404: another token than the account's, or no such account.
    Unknown,
}

impl Answer {
    /// As in the metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Malformed => "malformed",
            Self::Slow => "slow",
            Self::TooLarge => "too_large",
            Self::Limited => "limited",
            Self::Unknown => "unknown",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Accepted => StatusCode::OK,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Limited => StatusCode::TOO_MANY_REQUESTS,
            Self::Unknown => StatusCode::NOT_FOUND,
        }
    }
}

/// What the inbox needs from the daemon.
pub struct Parts {
    pub database: Arc<Database>,
    /// The engine's own.
    pub clock: Arc<dyn Clock>,
    pub wake: Wake,
    pub metrics: Arc<Metrics>,
    /// Ids are made under it; others are nobody's.
    pub tag: Tag,
    /// Webhooks of one account that are taken in a second, at most.
    pub per_second: u32,
}

/// Where webhooks come in.
pub struct Inbox {
    parts: Parts,
    tokens: Mutex<Tokens>,
    /// Held by the one who reads tokens.
    reading: tokio::sync::Mutex<()>,
    waiting: Mutex<BTreeMap<AccountId, Waiting>>,
    came: Notify,
}

/// Hashes of the tokens, by account; comparing those takes the same time for every text.
#[derive(Default)]
struct Tokens {
    hashes: BTreeMap<String, (AccountId, [u8; 32])>,
    read_at: Option<Duration>,
}

/// What is read of a body.
#[derive(Deserialize)]
struct Told {
    merchant_uid: String,
}

/// `POST /webhooks/portone/{account}/{unguessable}`. Every other path of its own answers as a wrong token does.
pub fn router(inbox: Arc<Inbox>) -> Router {
    let path = "/webhooks/portone/{account}/{unguessable}";
    // the body is read by hand, after the token, with a bound of its own
    Router::new().route(path, post(take)).layer(DefaultBodyLimit::disable()).with_state(inbox)
}

/// The path of an account's webhooks.
pub fn path(account: &str, token: &Secret) -> String {
    // names may have letters that a path has to spell out
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let spell = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    format!("/webhooks/portone/{}/{}", account.bytes().map(spell).collect::<String>(), token.reveal())
}

async fn take(State(inbox): State<Arc<Inbox>>, path: Result<Path<(String, String)>, PathError>, request: Request) -> StatusCode {
    // a path that is no text is as wrong as any other
    let (account, token) = path.map(|Path(parts)| parts).unwrap_or_default();
    let answer = match inbox.account_of(&account, &token).await {
        None => Answer::Unknown,
        Some(id) => match tokio::time::timeout(PATIENCE, read(request)).await {
            Ok(Ok(merchant_uid)) => inbox.put(id, merchant_uid),
            Ok(Err(answer)) => answer,
            Err(_) => Answer::Slow,
        },
    };
    inbox.count(&account, answer);
    answer.status()
}

type PathError = axum::extract::rejection::PathRejection;

/// The `merchant_uid` of a body, in either form that PortOne knows.
async fn read(request: Request) -> Result<String, Answer> {
    let (parts, body) = request.into_parts();
    let length = parts.headers.get(axum::http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > LARGEST) {
        return Err(Answer::TooLarge);
    }
    let body: Bytes = to_bytes(body, LARGEST).await.map_err(|error| {
        let too_large = std::error::Error::source(&error).is_some_and(|why| why.to_string().contains("limit"));
        if too_large { Answer::TooLarge } else { Answer::Slow }
    })?;
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    named(kind, body).await.ok_or(Answer::Malformed)
}

/// The `merchant_uid` that a body of this content type names; what is no form is taken for JSON. Nothing in here waits.
pub async fn named(kind: &str, body: Bytes) -> Option<String> {
    let told: Option<Told> = if kind.starts_with(FORM) {
        let request = Request::post("/").header(CONTENT_TYPE, FORM).body(Body::from(body)).ok()?;
        Form::from_request(request, &()).await.ok().map(|Form(told)| told)
    } else {
        serde_json::from_slice(&body).ok()
    };
    told.map(|told| told.merchant_uid)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Takes the same time wherever they differ.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |different, (one, other)| different | (one ^ other)) == 0
}

impl Inbox {
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            tokens: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            waiting: Mutex::default(),
            came: Notify::new(),
        })
    }

    /// Takes up what comes in, until it is dropped. While nothing comes it does nothing.
    pub async fn keep(self: Arc<Self>) {
        let mut failing = false;
        loop {
            if lock(&self.waiting).values().all(Waiting::is_empty) {
                self.came.notified().await;
            }
            let taken = self.take_up().await;
            if let Err(why) = &taken
                && !failing
            {
                warn!(%why, "webhooks wait: the database does not answer");
            }
            failing = taken.is_err();
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Looks at what has come in, once. Returns how many look-ups were moved to now.
    ///
    /// # Errors
    /// The database cannot be asked: what has come in is kept.
    pub async fn take_up(&self) -> Result<usize, crate::store::db::Fault> {
        let accounts: Vec<AccountId> = lock(&self.waiting).keys().copied().collect();
        let mut moved = 0;
        for account in accounts {
            moved += self.take_up_of(account).await?;
        }
        if moved > 0 {
            self.parts.wake.ring();
        }
        Ok(moved)
    }

    async fn take_up_of(&self, account: AccountId) -> Result<usize, crate::store::db::Fault> {
        let (now, boot) = (self.parts.clock.now(), self.parts.clock.boot());
        let with = |work: &mut dyn FnMut(&mut Waiting)| lock(&self.waiting).get_mut(&account).into_iter().for_each(work);
        let mut asked = Vec::new();
        with(&mut |waiting| asked = waiting.ripe(boot));
        if asked.is_empty() {
            return Ok(0);
        }
        let found = self.parts.database.hinted(account, asked.clone()).await?;
        let mut to_move = Vec::new();
        with(&mut |waiting| {
            to_move = waiting.sort_out(&asked, boot, |uid| match found.get(uid) {
                Some(hinted) if hinted.looked_up => match hinted.claim_until.is_some_and(|until| until > now) {
                    true => Found::InHand,
                    false if hinted.next_at.is_some_and(|next| next <= now) => Found::Due,
                    false => Found::Waits(hinted.charge),
                },
                // nobody's, or nothing that is looked up
                _ => Found::Nothing,
            });
        });
        if to_move.is_empty() {
            return Ok(0);
        }
        let charges: Vec<_> = to_move.iter().map(|(_, charge)| *charge).collect();
        let moved = self.parts.database.look_up_soon(&charges, now).await?;
        with(&mut |waiting| waiting.moved(&to_move, &moved, boot));
        if !moved.is_empty() {
            info!(account.id = account.0, charges = moved.len(), "webhooks: these charges are looked up now");
        }
        Ok(moved.len())
    }

    /// The account whose token this is.
    async fn account_of(&self, account: &str, token: &str) -> Option<AccountId> {
        self.refresh().await;
        let given = hash(token);
        let known = lock(&self.tokens).hashes.get(account).copied();
        // an account that does not exist is compared with as well
        let (id, hash) = known.unwrap_or((AccountId(0), [0; 32]));
        let same = same(&given, &hash);
        known.and(Some(id)).filter(|_| same)
    }

    /// Reads the tokens again if that was long ago, so that all replicas heed a rotation soon and nobody asks while nothing comes in.
    async fn refresh(&self) {
        let is_old = || {
            let boot = self.parts.clock.boot();
            lock(&self.tokens).read_at.is_none_or(|read| boot.saturating_sub(read) >= TOKENS_AGE)
        };
        if !is_old() {
            return;
        }
        let read = async {
            let _reading = self.reading.lock().await;
            // somebody has, while we waited
            if !is_old() {
                return;
            }
            let boot = self.parts.clock.boot();
            let tokens = match tokio::time::timeout(TOKENS_PATIENCE, self.parts.database.webhook_tokens()).await {
                Ok(Ok(tokens)) => Some(tokens),
                _ => None,
            };
            let mut kept = lock(&self.tokens);
            // also when nobody answered: a flood must not ask more often
            kept.read_at = Some(boot);
            if let Some(tokens) = tokens {
                kept.hashes = tokens.into_iter().map(|row| (row.name, (row.account, hash(row.token.reveal())))).collect();
            }
        };
        read.await;
    }

    fn put(&self, account: AccountId, merchant_uid: String) -> Answer {
        let boot = self.parts.clock.boot();
        let mut waiting = lock(&self.waiting);
        let waiting = waiting.entry(account).or_default();
        if !waiting.admits(boot, self.parts.per_second) {
            return Answer::Limited;
        }
        // what cannot be an id of ours is answered like one that might be
        if MerchantUid::is_ours(&merchant_uid, self.parts.tag) {
            waiting.add(merchant_uid, boot);
            self.came.notify_one();
        }
        Answer::Accepted
    }

    fn count(&self, account: &str, answer: Answer) {
        // whoever makes names up must not make new rows of the metric
        let known = lock(&self.tokens).hashes.contains_key(account);
        self.parts.metrics.webhook_received(if known { account } else { "unknown" }, answer.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_korean_name_is_spelled_out() {
        assert_eq!(path("본점-1_a", &Secret::new("t")), "/webhooks/portone/%EB%B3%B8%EC%A0%90-1_a/t");
    }

    #[test]
    fn hashes_are_compared_to_their_last_byte() {
        let mut other = hash("abc");
        assert!(same(&hash("abc"), &other));
        other[31] ^= 1;
        assert!(!same(&hash("abc"), &other));
    }
}
