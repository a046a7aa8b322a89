//! The high-water mark outside the database: it tells a restored database from the one that last sent.

use async_trait::async_trait;

use super::store::{Brakes, SeenEntry, SeenSend};

/// A small file in the state directory that is ahead of a restored database.
#[async_trait]
pub trait Watermark: Send + Sync + 'static {
    /// Makes `mark` durable, unless a higher one is already, and the newest send that was committed with it. Returns only after fsync.
    async fn raise(&self, mark: i64, newest: SeenSend) -> std::io::Result<()>;

    /// Who is on hold because the database has forgotten something keeps what was remembered until an operator has ended that, here or from
    /// another machine.
    fn suspect(&self) {}

    /// What was remembered last, by whichever process. `None`: nothing, or the database is known to lack it.
    async fn remembered(&self) -> Option<SeenEntry> {
        None
    }

    /// Makes durable what an operator did last, as the database tells it together with its brakes: while the whole database is on hold, what
    /// was remembered before may be the reason. Who never sends remembers nothing.
    async fn remember(&self, _entry: &SeenEntry, _brakes: &Brakes) -> std::io::Result<()> {
        Ok(())
    }
}
