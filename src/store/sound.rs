//! Whether a database that was opened is still the one that was opened, and still keeps what it acknowledges.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Database;
use super::db::Fault;
use super::open::{Target, durable};
use super::sql::accounts;

/// Which file a path led to: its device and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

impl FileId {
    /// `None`: there is no such file.
    pub fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self(found.dev(), found.ino()))
    }
}

impl Database {
    /// # Errors
    /// A SQLite file is no longer where it was opened: whoever begins anew would find another one there, or none, and what is written meanwhile is
    /// lost to it. It may be put back.
    pub(super) fn in_place(&self) -> Result<(), Fault> {
        let Target::Sqlite(path) = &self.target else { return Ok(()) };
        if self.file == FileId::of(path) {
            return Ok(());
        }
        Err(Fault::Unavailable(format!(
            "the file that was opened is no longer {}: put it back, or stop the daemon before a database is moved or restored",
            path.display()
        )))
    }

    /// # Errors
    /// It does not answer; or it may lose what it acknowledges, as a server that has taken another one's place, or was set up anew, may.
    pub async fn is_durable(&self) -> Result<(), Fault> {
        if !self.is_postgres() {
            // its pragmas are ours, and were read back on each connection's first day
            return self.in_place();
        }
        for row in &self.read(&accounts::DURABILITY, &[]).await? {
            durable(row).map_err(|why| Fault::Unavailable(why.to_string()))?;
        }
        Ok(())
    }

    /// How many connections were made so far: another number may mean another server.
    pub fn connections_made(&self) -> u64 {
        self.db.connections()
    }
}
