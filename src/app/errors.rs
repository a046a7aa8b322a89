//! What can keep the daemon from starting, or a command from being carried out, named for what to do next.

use crate::config::{ConfigErrors, Settings};
use crate::courier::EndpointError;
use crate::domain::decide::Refusal;
use crate::engine::audit::AuditError;
use crate::engine::rule::RuleError;
use crate::gateway::portone::ConfigError;
use crate::ports::store::StoreError;
use crate::store::OpenError;
use crate::time::cron::TickError;

/// Why the daemon, or a command that needs the engine, cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("accounts.{account}: {why}")]
    Account { account: String, why: ConfigError },
    #[error(transparent)]
    Webhook(#[from] EndpointError),
    #[error(transparent)]
    Ticks(#[from] TickError),
    #[error("worker.quiet has to be at least 45 minutes: it outlasts a stalled process, the gateway's delay and its lag")]
    Quiet,
    /// A running daemon has refused it as too large a change, and nobody has approved it since.
    #[error(
        "the config {hash} was refused while the daemon ran, and a start does not take it either: {why}. Or put back what was in force ({in_force})"
    )]
    Unconfirmed { hash: String, why: String, in_force: String },
    #[error("there is no account `{0}` that may be asked: check its section in the config, and `rebilld hold status`")]
    NoAccount(String),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path} cannot be used: {why}. Set `state_dir`, or make it writable for this user")]
    StateDir { path: String, why: std::io::Error },
    /// Another program listens there, or this one may not.
    #[error("cannot listen on {address}: {why}. Name another `ADDRESS:PORT` in `http.listen`, or \"off\"")]
    Listen { address: std::net::SocketAddr, why: std::io::Error },
    /// The gateway cannot be reached.
    #[error("{0}")]
    Unavailable(String),
    /// The same may succeed later: Q has not passed, the worker has the charge in hand.
    #[error("{0}")]
    TryLater(String),
    /// What was asked for does not fit what is there.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Internal(String),
    /// What a stop could not wait for.
    #[error("stopped {why} with {charges} charges still under way: they are in doubt and will be looked up")]
    NotDrained { why: String, charges: usize },
}

impl From<crate::store::db::Fault> for AppError {
    fn from(fault: crate::store::db::Fault) -> Self {
        Self::Store(fault.into())
    }
}

impl From<RuleError> for AppError {
    fn from(error: RuleError) -> Self {
        match error {
            RuleError::InHand | RuleError::Changed | RuleError::ClockJumped { .. } => Self::TryLater(error.to_string()),
            RuleError::Gateway(_) => Self::Unavailable(error.to_string()),
            RuleError::Store(why) => Self::Store(why),
            RuleError::Refused(Refusal::NotQuiet | Refusal::InDoubt | Refusal::TooSoon) => Self::TryLater(error.to_string()),
            RuleError::Refused(_) => Self::Refused(error.to_string()),
        }
    }
}

impl From<AuditError> for AppError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Gateway(why) => Self::Unavailable(format!("the audit could not be finished: {why}")),
            AuditError::Store(why) => Self::Store(why),
        }
    }
}

impl AppError {
    /// The state directory cannot be read or written.
    pub(super) fn state_dir(settings: &Settings, why: std::io::Error) -> Self {
        Self::StateDir { path: settings.state_dir.display().to_string(), why }
    }
}
