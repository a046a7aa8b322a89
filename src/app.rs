//! F5: the composition root. Puts settings, store, gateways, engine and clock together, and takes them down again.

use crate::config::{ConfigErrors, Loaded};
use crate::domain::decide::Ruling;
use crate::store::desk::{Reach, Signed};

/// Why something that needs the engine did not happen, named for the exit code.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Open(#[from] crate::store::OpenError),
    /// The database or the gateway cannot be reached.
    #[error("{0}")]
    Unavailable(String),
    /// The same may succeed later: Q has not passed, an audit is missing, another daemon works on the file.
    #[error("{0}")]
    TryLater(String),
    /// What was asked for does not fit what is there.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Internal(String),
}

/// How `rebilld run` runs.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Look up and plan, send nothing.
    pub dry_run: bool,
    /// Bring the schema up to date first.
    pub migrate: bool,
}

/// How `rebilld demo` runs.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    pub seed: u64,
    pub subscriptions: u32,
    pub months: u32,
    /// Keeps the database and the ledger there.
    pub keep: Option<std::path::PathBuf>,
    /// One JSON document instead of a progress display and a summary.
    pub json: bool,
    pub quiet: bool,
}

fn not_yet(what: &str) -> AppError {
    AppError::Internal(format!("{what} is not built into this binary yet"))
}

/// The daemon, until it is told to stop.
pub async fn run(_loaded: Loaded, _options: RunOptions) -> Result<(), AppError> {
    Err(not_yet("the daemon"))
}

/// The demo. `false`: an invariant does not hold.
pub async fn demo(_options: DemoOptions) -> Result<bool, AppError> {
    Err(not_yet("the demo"))
}

/// An operator's ruling on a charge (R8), after the look-up that none of them skips. Returns what became of it.
pub async fn rule(_loaded: &Loaded, _charge: i64, _ruling: Ruling, _signed: &Signed) -> Result<String, AppError> {
    Err(not_yet("ruling on a charge"))
}

/// Looks up what is in doubt, now. Returns how many charges were looked up and how many left doubt.
pub async fn reconcile(_loaded: &Loaded, _account: Option<&str>) -> Result<(u64, u64), AppError> {
    Err(not_yet("reconcile"))
}

/// What an audit of one account came to.
#[derive(Debug, Clone)]
pub struct Audited {
    pub account: String,
    pub clean: bool,
    /// Counts and findings, without personal data.
    pub summary: serde_json::Value,
}

/// Compares both ledgers over so many days.
pub async fn audit(_loaded: &Loaded, _account: Option<&str>, _days: u32) -> Result<Vec<Audited>, AppError> {
    Err(not_yet("the audit"))
}

/// Ends a hold, once the audit has read far enough and Q has passed (PROTOCOL.md, Clock, restore, audit). Returns what to tell
/// the operator.
pub async fn release_hold(_loaded: &Loaded, _reach: &Reach, _signed: &Signed) -> Result<String, AppError> {
    Err(not_yet("ending a hold"))
}
