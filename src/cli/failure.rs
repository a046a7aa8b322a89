//! How a command fails: one clear sentence, and a code of sysexits.h that scripts and systemd can tell apart.

use std::fmt;

use crate::app::AppError;
use crate::config::ConfigErrors;
use crate::ports::store::StoreError;
use crate::store::OpenError;
use crate::store::db::Fault;

/// What kind of failure it is, by its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// The reader of our output has gone: nothing is wrong.
    Fine = 0,
    /// The command line is wrong.
    Usage = 64,
    /// What was given or asked for does not fit: a bad file, an unknown reference, a refused change.
    Data = 65,
    /// The database or the gateway cannot be reached.
    Unavailable = 69,
    /// A fault of rebilld's own.
    Internal = 70,
    /// The same command may succeed later.
    TryLater = 75,
    /// The config is wrong, or does not fit this database.
    Config = 78,
}

#[derive(Debug)]
pub struct Failure {
    pub code: Code,
    /// For people; may have several lines. Empty: nothing is to be said.
    pub text: String,
}

impl Failure {
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    pub fn data(text: impl Into<String>) -> Self {
        Self::new(Code::Data, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        let count = errors.0.len();
        let s = if count == 1 { "" } else { "s" };
        Self::new(Code::Config, format!("the config has {count} error{s}:\n{errors}"))
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let code = match &error {
            OpenError::Missing(_) | OpenError::Unreachable(_) | OpenError::ReadOnly(_) | OpenError::LockFile { .. } => {
                Code::Unavailable
            }
            OpenError::Locked(_) | OpenError::Busy(_) => Code::TryLater,
            OpenError::MigrationFailed(_) => Code::Internal,
            OpenError::Store(StoreError::Unavailable(_)) => Code::Unavailable,
            OpenError::Store(StoreError::Corrupt(_)) => Code::Internal,
            _ => Code::Config,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        OpenError::from(error).into()
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let code = match &fault {
            Fault::Unavailable(_) => Code::Unavailable,
            Fault::Conflict(_) | Fault::Busy(_) => Code::TryLater,
            Fault::Integrity(_) => Code::Data,
            Fault::Corrupt(_) => Code::Internal,
        };
        Self::new(code, fault.to_string())
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        let code = match error {
            AppError::Config(errors) => return errors.into(),
            AppError::Open(error) => return error.into(),
            AppError::Store(error) => return error.into(),
            AppError::Account { .. } | AppError::Webhook(_) | AppError::Ticks(_) | AppError::Quiet | AppError::NoAccount(_) => {
                Code::Config
            }
            // the daemon before this one may still be on its way out
            AppError::Listen { ref why, .. } if why.kind() == std::io::ErrorKind::AddrInUse => Code::Unavailable,
            AppError::Listen { .. } => Code::Config,
            AppError::StateDir { .. } | AppError::Unconfirmed { .. } => Code::Config,
            AppError::Unavailable(_) => Code::Unavailable,
            AppError::TryLater(_) | AppError::NotDrained { .. } => Code::TryLater,
            AppError::Refused(_) => Code::Data,
            AppError::Internal(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    /// Of our own output.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::new(Code::Fine, ""),
            _ => Self::new(Code::Unavailable, format!("the output cannot be written: {error}")),
        }
    }
}
