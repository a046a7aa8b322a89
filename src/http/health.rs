//! `/livez`, `/readyz` and `/version`.
//!
//! Live: the dispatch loop beats. The database is never asked, because restarting a daemon does not mend a database. Ready: the
//! database answers, and at least one account may be charged for. Both are asked often, so neither costs more than a look at
//! memory, but for one look at the database in [`FRESH`].

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
    /// `ok`, or what is wrong.
    pub database: String,
    pub token: String,
    pub hold: String,
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

async fn livez(State(health): State<Health>) -> (StatusCode, String) {
    match health.live() {
        Ok(word) => (StatusCode::OK, format!("{word}\n")),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn readyz(State(_health): State<Health>) -> (StatusCode, Json<Value>) {
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false })))
}

async fn version() -> Json<Value> {
    Json(json!({ "version": VERSION, "commit": COMMIT }))
}

/// The release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from, if whoever built it said so (`REBILLD_COMMIT`).
pub const COMMIT: Option<&str> = option_env!("REBILLD_COMMIT");
