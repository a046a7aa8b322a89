//! `/livez`, `/readyz` and `/version`.
//!
//! Live: the dispatch loop beats. The database is never asked, because restarting a daemon does not mend a database. Ready: the
//! database answers, and at least one account may be charged for. Both are asked often, so neither costs more than a look at
//! memory, but for one look at the database in [`FRESH`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::ports::clock::Clock;
use crate::ports::metrics::GatewayTimes;
use crate::ports::store::{NotBegun, StoreError};

/// A reading of the database is good for so long.
pub const FRESH: Duration = Duration::from_secs(2);
/// A database that takes longer does not answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// A loop that has not beaten for so long is stuck.
pub const STUCK: Duration = Duration::from_secs(30);

/// What the health of a daemon follows from.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    engine: OnceLock<Arc<Engine>>,
    draining: AtomicBool,
    /// When the database was last read for this, by CLOCK_BOOTTIME, and what came of it. Held while it is read: whoever comes
    /// meanwhile waits for the same answer.
    read: tokio::sync::Mutex<Option<(Duration, Readiness)>>,
}

/// The answer to `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    pub ready: bool,
    /// `ready`, or what keeps it from that.
    pub state: String,
    /// `ok`, or what is wrong with it; left out if it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// `ok`, or what stops each account; left out if that is not known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub accounts: BTreeMap<String, &'static str>,
}

impl Health {
    /// Of a daemon that is starting.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let inner =
            Inner { clock, engine: OnceLock::new(), draining: AtomicBool::new(false), read: tokio::sync::Mutex::default() };
        Self(Arc::new(inner))
    }

    /// The engine is there, and about to work.
    pub fn up(&self, engine: Arc<Engine>) {
        // it is put together once
        let _ = self.0.engine.set(engine);
    }

    /// From now on nothing new is begun.
    pub fn draining(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    pub fn routes(&self) -> Router {
        Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/version", get(version))
            .with_state(self.clone())
    }

    /// Whether the daemon can do its work. The database is read at most once in [`FRESH`], however many ask.
    async fn ready(&self) -> Readiness {
        if self.0.draining.load(Ordering::Acquire) {
            return Readiness::not("draining");
        }
        let Some(engine) = self.0.engine.get() else { return Readiness::not("starting") };
        let mut read = self.0.read.lock().await;
        let now = self.0.clock.boot();
        let fresh = read.as_ref().filter(|(at, _)| now.saturating_sub(*at) < FRESH).map(|(_, seen)| seen.clone());
        if let Some(seen) = fresh {
            return seen;
        }
        let seen = look(engine).await;
        *read = Some((self.0.clock.boot(), seen.clone()));
        seen
    }

    /// What is wrong with the dispatch loop. `Err`: it is stuck, and a restart would help.
    fn live(&self) -> Result<&'static str, String> {
        if self.0.draining.load(Ordering::Acquire) {
            // it ends by itself
            return Ok("draining");
        }
        let Some(engine) = self.0.engine.get() else { return Ok("starting") };
        match engine.pulse.age(self.0.clock.boot()) {
            Some(age) if age > STUCK => Err(format!("the dispatch loop has not moved for {} s", age.as_secs())),
            Some(_) => Ok("ok"),
            None => Ok("starting"),
        }
    }
}

impl Readiness {
    /// Before the daemon is up, or once it is on its way out.
    fn not(word: &str) -> Self {
        Self { ready: false, state: word.to_owned(), database: None, accounts: BTreeMap::new() }
    }
}

async fn livez(State(health): State<Health>) -> (StatusCode, String) {
    match health.live() {
        Ok(word) => (StatusCode::OK, format!("{word}\n")),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn readyz(State(health): State<Health>) -> (StatusCode, Json<Readiness>) {
    let readiness = health.ready().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

pub(super) async fn version() -> Json<Value> {
    Json(json!({ "version": VERSION, "commit": COMMIT }))
}

/// Reads the database, once.
async fn look(engine: &Engine) -> Readiness {
    let asked = async {
        let stops = engine.stops().await?;
        // before their first audit accounts are stopped without a word of the database
        if !engine.reads_brakes() {
            engine.store.clock().await?;
        }
        Ok::<_, StoreError>(stops)
    };
    let stops = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(stops)) => stops,
        Ok(Err(_)) => return Readiness { database: Some("does not answer".to_owned()), ..Readiness::not("not ready") },
        Err(_) => {
            let slow = format!("does not answer within {} s", PATIENCE.as_secs());
            return Readiness { database: Some(slow), ..Readiness::not("not ready") };
        }
    };
    let no_token = |name: &str| {
        let of = engine.accounts.iter().find(|account| account.account.name == name);
        of.and_then(|account| account.account.gateway.times()).is_some_and(GatewayTimes::token_refused)
    };
    let word = |(name, stop): (String, Option<NotBegun>)| {
        let word = match stop {
            Some(NotBegun::Killed) => "kill switch on",
            // without one there is no audit either, and until that an account is on hold
            _ if no_token(&name) => "no access token",
            Some(NotBegun::Held) => "on hold",
            // what an operator has still to do, or has done on purpose, is no fault of this process
            Some(NotBegun::Paused) => "paused",
            Some(NotBegun::Unarmed) => "not armed",
            Some(NotBegun::Fuse { .. }) => "fuse blown",
            _ => "ok",
        };
        (name, word)
    };
    let accounts: BTreeMap<String, &'static str> = stops.into_iter().map(word).collect();
    let fit = |word: &&str| !["kill switch on", "on hold", "no access token"].contains(word);
    let ready = accounts.values().any(fit);
    let state = if ready { "ready" } else { "no account can be charged for" };
    Readiness { ready, state: state.to_owned(), database: Some("ok".to_owned()), accounts }
}

/// The release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from, if whoever built it said so, or git did (`build.rs`).
pub const COMMIT: Option<&str> = option_env!("REBILLD_COMMIT");
