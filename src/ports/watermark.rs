//! The high-water mark outside the database: it tells a restored database from the one that last sent.

use async_trait::async_trait;

use super::store::SeenSend;

/// A small file in the state directory that is ahead of a restored database.
#[async_trait]
pub trait Watermark: Send + Sync + 'static {
    /// Makes `mark` durable, unless a higher one is already, and the newest send that was committed with it. Returns only after fsync.
    async fn raise(&self, mark: i64, newest: SeenSend) -> std::io::Result<()>;
}
