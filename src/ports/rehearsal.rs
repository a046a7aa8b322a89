//! A dry run's view of the database: everything that a real run would write, and nothing of it stays.

use async_trait::async_trait;
use jiff::Timestamp;

use super::store::{Begin, Claim, Claimed, DueSchedule, NotBegun, ScheduleStep, Stepped, StoreError};

/// One transaction in which a wave is opened, claimed and begun up to COMMIT. It has no commit: when it is dropped, all of it is
/// taken back. What is written in it is seen by nobody else, and is seen by what comes after it in the same rehearsal: budgets and
/// the caps of billing keys count up as they would.
#[async_trait]
pub trait Rehearsal: Send {
    /// Schedules to be looked at, as they stand after the steps so far.
    async fn due_schedules(&mut self, now: Timestamp, limit: u32) -> Result<Vec<DueSchedule>, StoreError>;

    /// W0.
    async fn step_schedules(&mut self, now: Timestamp, steps: &[ScheduleStep]) -> Result<Vec<Stepped>, StoreError>;

    /// W1.
    async fn claim(&mut self, claim: &Claim) -> Result<Vec<Claimed>, StoreError>;

    /// W2 without its brakes, which the caller shows apart. `None`: it would be committed. In the order of the intents.
    async fn begin(&mut self, batch: &Begin) -> Result<Vec<Option<NotBegun>>, StoreError>;
}
