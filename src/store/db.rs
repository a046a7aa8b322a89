//! Either engine behind one seam: pools, transactions, and what their errors mean.

use sqlx::sqlite::SqlitePool;
use sqlx::{Executor, SqlSafeStr};

use super::batch::Batch;
use super::codec::{Param, Row, bind_sqlite};
use super::group::{Member, Writer};
use super::session::{Server, Session};
use super::sql::Statement;
use crate::ports::crash::Trail;
use crate::ports::store::StoreError;

/// What a statement can come to, apart from rows.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A SQLite file: another connection has held it for longer than is waited for.
    #[error("another program holds the database file: {0}")]
    Busy(String),
    /// Deadlock or serialisation failure: the whole transaction may be repeated.
    #[error("another session was faster: {0}")]
    Conflict(String),
    /// A rule of the schema was about to be broken.
    #[error("{0}")]
    Integrity(String),
    #[error("the database holds what it should not: {0}")]
    Corrupt(String),
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unavailable(why) | Fault::Conflict(why) => Self::Unavailable(why),
            Fault::Busy(_) => Self::Unavailable(fault.to_string()),
            Fault::Integrity(why) | Fault::Corrupt(why) => Self::Corrupt(why),
        }
    }
}

/// An error of one statement, named. Parameters never appear in it: they may be personal.
pub(super) fn fault(name: &str, error: &sqlx::Error) -> Fault {
    let told = |text: &str| format!("{name}: {text}");
    let sqlx::Error::Database(inner) = error else {
        return match error {
            sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::TypeNotFound { .. } => Fault::Corrupt(told(&error.to_string())),
            _ => Fault::Unavailable(told(&error.to_string())),
        };
    };
    let message = told(inner.message());
    let code = inner.code().unwrap_or_default();
    if inner.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        // the low byte is the primary result code
        return match code.parse::<i32>().unwrap_or_default() & 0xff {
            // SQLITE_BUSY, SQLITE_LOCKED
            5 | 6 => Fault::Busy(message),
            19 => Fault::Integrity(message),
            // SQLITE_ERROR, SQLITE_CORRUPT, SQLITE_MISMATCH, SQLITE_NOTADB
            1 | 11 | 20 | 26 => Fault::Corrupt(message),
            _ => Fault::Unavailable(message),
        };
    }
    match code.as_ref() {
        "40001" | "40P01" => Fault::Conflict(message),
        // canceled, lock not available, admin shutdown, and whatever the server lacks: try again
        code if ["57", "53", "55", "58", "08", "25"].contains(&code.get(..2).unwrap_or_default()) => Fault::Unavailable(message),
        code if code.starts_with("23") => Fault::Integrity(message),
        _ => Fault::Corrupt(message),
    }
}

/// A database that is open.
#[derive(Debug, Clone)]
pub enum Db {
    /// One connection writes, some read.
    Sqlite {
        writer: Writer,
        reader: SqlitePool,
    },
    Postgres(Server),
}

impl Db {
    pub fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// An empty batch in this engine's spelling.
    pub fn batch(&self) -> Batch {
        Batch::new(self.is_postgres())
    }

    /// The same database, waited for longer: for what reads or changes very much at once.
    pub fn patient(&self) -> Self {
        match self {
            Self::Sqlite { .. } => self.clone(),
            Self::Postgres(server) => Self::Postgres(server.patient()),
        }
    }

    /// How many connections to a server were made so far; a SQLite file has none.
    pub fn connections(&self) -> u64 {
        match self {
            Self::Sqlite { .. } => 0,
            Self::Postgres(server) => server.connections(),
        }
    }

    /// Runs a statement that only reads, in a snapshot of its own.
    pub async fn read(&self, statement: &Statement, params: &[Param]) -> Result<Vec<Row>, Fault> {
        match self {
            Self::Sqlite { reader, .. } => bind_sqlite(sqlx::query(statement.sqlite), params)
                .fetch_all(reader)
                .await
                .map(|rows| rows.into_iter().map(Row::Sqlite).collect())
                .map_err(|error| fault(statement.name, &error)),
            Self::Postgres(server) => Ok(server.read(statement, params).await?.into_iter().map(Row::Postgres).collect()),
        }
    }

    /// Begins a transaction that writes. Each statement in it sees what others have committed before it (READ COMMITTED); on
    /// SQLite it is the only writer.
    pub async fn begin(&self) -> Result<Tx, Fault> {
        let open = match self {
            Self::Sqlite { writer, .. } => Open::Sqlite(writer.begin().await?),
            Self::Postgres(server) => Open::Postgres(server.begin().await?),
        };
        Ok(Tx::of(open))
    }

    /// Runs one statement that writes, in a transaction of its own. Returns how many rows it changed.
    pub async fn write(&self, statement: &Statement, params: &[Param]) -> Result<u64, Fault> {
        let mut tx = self.begin().await?;
        let changed = tx.execute(statement, params).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// Lets the engine prepare a statement, without running it.
    pub async fn prepare(&self, statement: &Statement) -> Result<(), Fault> {
        match self {
            Self::Sqlite { reader, .. } => {
                let prepared = reader.prepare(statement.sqlite.into_sql_str()).await;
                prepared.map(drop).map_err(|error| fault(statement.name, &error))
            }
            Self::Postgres(server) => server.prepare(statement).await,
        }
    }

    pub async fn close(&self) {
        match self {
            Self::Sqlite { writer, reader } => {
                reader.close().await;
                writer.close().await;
            }
            Self::Postgres(server) => server.pool().close().await,
        }
    }
}

/// A transaction. Dropped without [`Tx::commit`], nothing of it happened.
#[derive(Debug)]
pub struct Tx {
    open: Open,
    trail: Trail,
}

impl Tx {
    fn of(open: Open) -> Self {
        Self { open, trail: Trail::default() }
    }

    pub fn batch(&self) -> Batch {
        Batch::new(matches!(self.open, Open::Postgres(_)))
    }

    /// A batch that is one JSON text on either engine.
    pub fn json_batch(&self) -> Batch {
        Batch::json_text(matches!(self.open, Open::Postgres(_)))
    }

    pub async fn query(&mut self, statement: &Statement, params: &[Param]) -> Result<Vec<Row>, Fault> {
        let rows = self.open.query(statement, params).await?;
        self.trail.ran(statement.name);
        Ok(rows)
    }

    /// Returns how many rows were changed.
    pub async fn execute(&mut self, statement: &Statement, params: &[Param]) -> Result<u64, Fault> {
        let changed = self.open.execute(statement, params).await?;
        self.trail.ran(statement.name);
        Ok(changed)
    }

    /// Undoes it now. A transaction that is dropped is undone too, a moment later.
    pub async fn rollback(self) -> Result<(), Fault> {
        self.open.rollback().await
    }

    /// A commit whose acknowledgement is lost is an error, and may have happened all the same.
    pub async fn commit(self) -> Result<(), Fault> {
        self.open.commit().await?;
        self.trail.committed();
        Ok(())
    }
}

/// The same, of either engine.
#[derive(Debug)]
enum Open {
    Sqlite(Member),
    Postgres(Session),
}

impl Open {
    async fn query(&mut self, statement: &Statement, params: &[Param]) -> Result<Vec<Row>, Fault> {
        let rows = match self {
            Self::Sqlite(tx) => match tx.connection() {
                Ok(connection) => bind_sqlite(sqlx::query(statement.sqlite), params)
                    .fetch_all(connection)
                    .await
                    .map(|rows| rows.into_iter().map(Row::Sqlite).collect()),
                Err(error) => Err(error),
            },
            Self::Postgres(tx) => return Ok(tx.query(statement, params).await?.into_iter().map(Row::Postgres).collect()),
        };
        rows.map_err(|error| fault(statement.name, &error))
    }

    async fn execute(&mut self, statement: &Statement, params: &[Param]) -> Result<u64, Fault> {
        let changed = match self {
            Self::Sqlite(tx) => match tx.connection() {
                Ok(connection) => {
                    bind_sqlite(sqlx::query(statement.sqlite), params).execute(connection).await.map(|done| done.rows_affected())
                }
                Err(error) => Err(error),
            },
            Self::Postgres(tx) => return tx.execute(statement, params).await,
        };
        changed.map_err(|error| fault(statement.name, &error))
    }

    async fn rollback(self) -> Result<(), Fault> {
        match self {
            // whoever begins after this waits until it is undone
            Self::Sqlite(tx) => drop(tx),
            Self::Postgres(tx) => tx.rollback().await?,
        }
        Ok(())
    }

    async fn commit(self) -> Result<(), Fault> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await.map_err(|fault| match fault {
                Fault::Corrupt(why) => Fault::Unavailable(why),
                other => other,
            }),
        }
    }
}
