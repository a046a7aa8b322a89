//! F3: the database. One implementation of [`crate::ports::store::Store`] over two engines.
//!
//! The logic is written once, above [`db`] (pools and transactions of either engine) and [`codec`] (values). All SQL stands in
//! [`sql`], by name, in both spellings. Writes come in batches: a batch is columns on Postgres and one JSON text on SQLite ([`batch`]), so that the number of statements
//! in a transaction does not grow with the number of charges.

mod ahead;
mod alarms;
mod backup;
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
pub mod deeds;
pub mod desk;
mod figures;
mod fuse;
mod group;
pub mod identity;
mod inbox;
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
mod rules;
mod schedules;
mod session;
mod slots;
mod sound;
pub mod sql;
mod states;
mod terms;
mod versions;

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::OnceCell;

use crate::domain::attempt::Tag;
use crate::ports::metrics::DatabaseTimes;
pub use alarms::Watch;
pub use backup::{BackupError, Copied};
pub use chores::{Taken, Undecided};
use codec::{Param, Row};
pub use copy::ResultRow;
use db::{Db, Fault};
pub use figures::{AccountFigures, Figures};
pub use inbox::{Hinted, WebhookToken};
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
    /// The SQLite file that was opened; `None`: it is no file.
    file: Option<sound::FileId>,
    /// Where a Postgres server tells of rows; `None`: nowhere, because a pooler swallows what it says.
    listens_at: Option<Box<PgConnectOptions>>,
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
        let file = match &target {
            Target::Sqlite(path) => sound::FileId::of(path),
            Target::Postgres(_) => None,
        };
        migrations::applied(&db).await?;
        let listens_at = match (&options.listen_url, &target) {
            (Some(url), Target::Postgres(_)) => match Target::from_str(url)? {
                Target::Postgres(connect) => Some(connect),
                Target::Sqlite(_) => None,
            },
            (None, Target::Postgres(connect)) if !options.pooled => Some(connect.clone()),
            _ => None,
        };
        let (endpoints, tag) = (options.endpoints.into(), Arc::default());
        Ok(Self { db, target, file, listens_at, endpoints, tag, reads_past: Arc::default(), times: Arc::default() })
    }

    pub fn is_postgres(&self) -> bool {
        self.db.is_postgres()
    }

    /// Brings the schema up to date. Doing it again changes nothing.
    pub async fn migrate(&self) -> Result<(), OpenError> {
        if let Target::Postgres(connect) = &self.target {
            let direct = self.listens_at.as_deref();
            ahead::build(direct.unwrap_or(connect), direct.is_some())
                .await
                .map_err(|error| migrations::failed(MigrateError::Execute(error)))?;
        }
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
