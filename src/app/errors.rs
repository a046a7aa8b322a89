//! What can keep the daemon from starting, named for what to do next, with its exit code.

use crate::config::ConfigErrors;
use crate::courier::EndpointError;
use crate::gateway::portone::ConfigError;
use crate::ports::store::StoreError;
use crate::store::OpenError;
use crate::time::cron::TickError;

/// Why the daemon, or a command that needs the gateway, cannot go on.
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
    #[error("there is no account `{0}` in the config")]
    NoAccount(String),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the state directory {path} cannot be used: {why}. Set `state_dir`, or make it writable for this user")]
    StateDir { path: String, why: std::io::Error },
    #[error("{0}")]
    Gateway(String),
    #[error("{0}")]
    Refused(String),
    #[error("stopped after {0} s with charges still under way: they are in doubt and will be looked up")]
    NotDrained(u64),
}

impl AppError {
    /// The exit code, by sysexits: 65 data, 69 unavailable, 70 internal, 75 try later, 78 config.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Account { .. } | Self::Webhook(_) | Self::Ticks(_) | Self::Quiet | Self::NoAccount(_) => 78,
            Self::Open(why) => match why {
                OpenError::Unreachable(_) => 69,
                OpenError::Locked(_) => 75,
                OpenError::MigrationFailed(_) => 70,
                _ => 78,
            },
            Self::Store(StoreError::Unavailable(_)) | Self::Gateway(_) => 69,
            Self::Store(StoreError::Corrupt(_)) => 70,
            Self::StateDir { .. } => 78,
            Self::Refused(_) => 65,
            Self::NotDrained(_) => 75,
        }
    }
}
