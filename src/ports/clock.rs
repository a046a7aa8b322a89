//! Time, as an argument: what the worker may know of it, and how it waits.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

/// The time as this process sees it. One clock serves a whole daemon; tests and the demo move a simulated one.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, brought in line with the database's (ages use the database clock: docs/protocol.md).
    fn now(&self) -> Timestamp;

    /// Time since boot that no operator and no NTP step moves, sleep included (CLOCK_BOOTTIME).
    fn boot(&self) -> Duration;

    /// This machine's wall clock as it is, whatever the database says: to tell how far apart they are.
    fn wall(&self) -> Timestamp {
        self.now()
    }

    /// Takes over what the database clock says. A simulated clock, which nothing moves but waiting, ignores it.
    fn correct(&self, database: Timestamp) {
        let _ = database;
    }

    /// Waits until [`Clock::now`] has reached `until`.
    ///
    /// `busy` says that work is under way in this process: a simulated clock then waits for ever (the work's end wakes
    /// the caller by other means), and otherwise moves to `until` at once. A real clock ignores it.
    async fn sleep_until(&self, until: Timestamp, busy: bool);

    /// Waits for so long, whatever becomes of [`Clock::now`] meanwhile.
    async fn pause(&self, length: Duration) {
        tokio::time::sleep(length).await;
    }
}
