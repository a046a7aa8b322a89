//! `rebilld run --dry-run`: what a real run would send, and nothing of it happens.

use jiff::Timestamp;

use super::errors::AppError;
use super::operate::assembled;
use crate::config::Loaded;
use crate::engine::rehearse::Wave;
use crate::ports::store::Store;

/// What a dry run came to.
#[derive(Debug, Clone)]
pub struct DryRun {
    pub at: Timestamp,
    pub wave: Wave,
    /// Accounts that would send nothing at all now.
    pub braked: Vec<String>,
    /// Of them, those whose place is not confirmed: they are not even looked at.
    pub moved: Vec<String>,
}

/// Rehearses what is due at `at` (now, if not given), at most `most` charges. No intent is committed and no charge is asked for; the
/// gateway is only looked up. The rows are locked for as long as the database needs, never while the gateway is asked.
pub async fn dry_run(loaded: &Loaded, at: Option<Timestamp>, most: usize) -> Result<DryRun, AppError> {
    loaded.runnable()?;
    let assembled = assembled(loaded).await?;
    let database = &assembled.database;
    let at = at.unwrap_or(database.clock().await?);
    let mut stage = database.rehearsal().await?;
    let rehearsed = assembled.engine.rehearse(&mut stage, at, most).await;
    stage.end().await?;
    let mut wave = rehearsed?;
    assembled.engine.look_before_rehearsed(&mut wave.charges).await?;
    let brakes = database.brakes().await?;
    let stopped = assembled.accounts.iter().filter(|account| brakes.stop(account.id, account.endpoint).is_some());
    let braked = stopped.map(|account| account.name.clone()).collect();
    let moved = assembled.moved.iter().map(|row| row.name.clone()).collect();
    database.close().await;
    Ok(DryRun { at, wave, braked, moved })
}
