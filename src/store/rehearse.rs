//! A dry run in one transaction that is never committed.

use async_trait::async_trait;
use jiff::Timestamp;

use super::Database;
use super::claims::claim_params;
use super::db::{Fault, Tx};
use super::rows;
use super::sql::{charges, schedules};
use crate::ports::rehearsal::Rehearsal;
use crate::ports::store::{Begin, Claim, Claimed, DueSchedule, NotBegun, ScheduleStep, Stepped, StoreError};

/// See [`Rehearsal`]. Its transaction is its own and there is no way to commit it.
pub struct Stage<'a> {
    database: &'a Database,
    tx: Tx,
}

impl Database {
    /// Begins a rehearsal. As long as it lives, the rows that it has touched are locked: on SQLite nobody else writes.
    pub async fn rehearsal(&self) -> Result<Stage<'_>, StoreError> {
        Ok(Stage { database: self, tx: self.db.begin().await? })
    }
}

impl Stage<'_> {
    /// Takes everything back and gives the rows free. Dropped without it, the same happens a moment later.
    pub async fn end(self) -> Result<(), StoreError> {
        Ok(self.tx.rollback().await?)
    }

    async fn due(&mut self, now: Timestamp, limit: u32) -> Result<Vec<DueSchedule>, Fault> {
        let found = self.tx.query(&schedules::DUE_SCHEDULES, &[now.into(), limit.into()]).await?;
        let mut due = Vec::with_capacity(found.len());
        for row in &found {
            match rows::due_schedule(row) {
                Ok(schedule) => due.push(schedule),
                Err(fault) => self.database.park_in(&mut self.tx, now, row, &fault).await?,
            }
        }
        self.database.complete_in(&mut self.tx, due.iter_mut().map(|schedule| &mut schedule.terms)).await?;
        Ok(due)
    }

    async fn claimed(&mut self, claim: &Claim) -> Result<Vec<Claimed>, Fault> {
        let tag = self.database.tag().await?;
        let ids = self.tx.query(&charges::CLAIM_TO_SEND, &claim_params(claim)).await?;
        let ids = ids.iter().map(|row| row.int("id")).collect::<Result<Vec<i64>, _>>()?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.tx.query(&charges::LOAD_CLAIMED, &[ids.into()]).await?;
        // one that cannot be read back is left alone by the daemon too, which says so in its log
        Ok(found.iter().filter_map(|row| rows::claimed(row, tag).ok()).collect())
    }
}

#[async_trait]
impl Rehearsal for Stage<'_> {
    async fn due_schedules(&mut self, now: Timestamp, limit: u32) -> Result<Vec<DueSchedule>, StoreError> {
        Ok(self.due(now, limit).await?)
    }

    async fn step_schedules(&mut self, now: Timestamp, steps: &[ScheduleStep]) -> Result<Vec<Stepped>, StoreError> {
        Ok(self.database.step_once(&mut self.tx, now, steps, false).await?)
    }

    async fn claim(&mut self, claim: &Claim) -> Result<Vec<Claimed>, StoreError> {
        Ok(self.claimed(claim).await?)
    }

    async fn begin(&mut self, batch: &Begin) -> Result<Vec<Option<NotBegun>>, StoreError> {
        let planned = self.database.plan(&mut self.tx, batch, &batch.intents, false).await?;
        Ok(planned.into_iter().map(Result::err).collect())
    }
}
