//! `rebilld backup`.

use std::path::PathBuf;

use serde_json::json;

use super::context::Context;
use super::failure::{Code, Failure};
use super::output::{Output, print_json, say};
use crate::store::BackupError;

/// Copies a SQLite database while the daemon works: whole, consistent, and without the state directory
#[derive(Debug, clap::Args)]
pub struct Backup {
    /// The file to make; it must not exist yet
    #[arg(value_name = "TO")]
    to: PathBuf,
}

impl Backup {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let opened = context.open().await?;
        let copied = opened.database.backup(&self.to).await?;
        let shown = self.to.display().to_string();
        match context.output {
            Output::Json => print_json(&json!({ "file": shown, "bytes": copied.bytes, "high_water": copied.high_water })),
            _ if context.quiet => Ok(()),
            _ => say(&format!(
                "{shown}: {} bytes, checked. Keep the state directory out of backups; the way back is in docs/backup.md",
                copied.bytes
            )),
        }
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let code = match &error {
            BackupError::NotSqlite | BackupError::Exists(_) => Code::Data,
            BackupError::Unwritable { .. } => Code::Unavailable,
            BackupError::Damaged { .. } => Code::Internal,
            BackupError::Fault(fault) => return fault.clone().into(),
        };
        Self::new(code, error.to_string())
    }
}
