//! F3: the database. One implementation of [`crate::ports::store::Store`] over two engines.
//!
//! The logic is written once, above [`db`] (pools and transactions of either engine) and [`codec`] (values). All SQL stands in
//! [`sql`], by name, in both spellings. Writes come in batches: a batch is columns on Postgres and one JSON text on SQLite ([`batch`]), so that the number of statements
//! in a transaction does not grow with the number of charges.

mod batch;
mod begin;
pub mod books;
mod brakes;
mod cards;
mod chores;
mod claims;
pub mod codec;
mod copy;
pub mod db;
pub mod desk;
mod figures;
mod fuse;
mod group;
pub mod identity;
mod listen;
pub mod mark;
mod migrations;
mod missed;
pub mod open;
mod outbox;
mod outlook;
mod plans;
mod port;
mod record;
mod rehearse;
mod rows;
mod schedules;
pub mod sql;
mod states;
mod terms;
mod versions;

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tokio::sync::OnceCell;

use crate::domain::attempt::Tag;
use crate::ports::metrics::DatabaseTimes;
pub use chores::{Taken, Undecided};
use codec::{Param, Row};
pub use copy::ResultRow;
use db::{Db, Fault};
pub use figures::{AccountFigures, Figures};
use open::Target;
pub use open::{DaemonLock, OpenError, OpenOptions};
pub use plans::{PlanRows, UNREADABLE};
pub use rehearse::Stage;
use sql::Statement;
pub use versions::{Approval, DaemonRow, StoredVersion, Unconfirmed};

/// An open database. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Database {
    db: Db,
    target: Target,
    /// Names of the webhook endpoints.
    endpoints: Arc<[String]>,
    tag: Arc<OnceCell<Tag>>,
    /// Looks at schedules that are still to read past rows which another session holds.
    reads_past: Arc<AtomicU32>,
    /// How long the worker's calls take.
    pub times: Arc<DatabaseTimes>,
}

impl Database {
    /// Opens `sqlite:PATH` or `postgres://…`, and refuses a database that is not durable or that a newer binary has migrated.
    pub async fn open(url: &str, options: OpenOptions) -> Result<Self, OpenError> {
        let target = Target::from_str(url)?;
        let db = match &target {
            Target::Sqlite(path) => open::sqlite(path, &options).await?,
            Target::Postgres(connect) => open::postgres(connect, &options).await?,
        };
        migrations::applied(&db).await?;
        let endpoints = options.endpoints.into();
        Ok(Self { db, target, endpoints, tag: Arc::default(), reads_past: Arc::default(), times: Arc::default() })
    }

    pub fn is_postgres(&self) -> bool {
        self.db.is_postgres()
    }

    /// Brings the schema up to date. Doing it again changes nothing.
    pub async fn migrate(&self) -> Result<(), OpenError> {
        migrations::run(&self.db).await
    }

    /// Versions, with their names, that the database lacks.
    pub async fn pending_migrations(&self) -> Result<Vec<(i64, String)>, OpenError> {
        migrations::pending(&self.db).await
    }

    /// Takes the sole right to be the daemon of a SQLite file. The command line does not need it.
    pub fn lock_for_daemon(&self) -> Result<DaemonLock, OpenError> {
        match &self.target {
            Target::Sqlite(path) => DaemonLock::beside(path),
            Target::Postgres(_) => Ok(DaemonLock::not_needed()),
        }
    }

    /// Runs a statement that only reads.
    pub async fn read(&self, statement: &Statement, params: &[Param]) -> Result<Vec<Row>, Fault> {
        self.db.read(statement, params).await
    }

    /// Asks the engine to prepare a statement, without running it.
    pub async fn prepare(&self, statement: &Statement) -> Result<(), Fault> {
        self.db.prepare(statement).await
    }

    /// Begins a transaction that writes.
    pub async fn begin_write(&self) -> Result<db::Tx, Fault> {
        self.db.begin().await
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
