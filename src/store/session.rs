//! Postgres through a pool, where nothing is waited for without a bound.
//!
//! A server that is frozen, or gone without a word, answers nothing and closes nothing: whoever only waits, waits until the kernel
//! gives up, which takes a quarter of an hour, or for ever. So each answer has a bound here. What was not answered by then is unknown:
//! it may have been done, and its connection is closed at once, because an answer that comes late would pass for that of the next
//! statement.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgPool, PgPoolOptions, PgRow, PgSeverity};
use sqlx::{Connection, Executor, Postgres, SqlSafeStr};

use super::codec::{Param, bind_postgres};
use super::db::{Fault, fault};
use super::sql::Statement;

/// The wait for a connection, at most.
const ACQUIRE: Duration = Duration::from_secs(10);
/// A connection that has idled for longer is asked whether it still lives before it is used. Longer than an idle daemon's looks are
/// apart, or each of them would cost the server two transactions; one that has died since fails its statement, which is made again.
const FRESH: Duration = Duration::from_secs(15);
/// The wait for the answer to that, and for a connection that goes back.
const PING: Duration = Duration::from_secs(3);

/// For what reads a whole book: longer than the server's own `statement_timeout`, which then tells more.
pub(super) const PATIENT: Duration = Duration::from_secs(65);

/// What each session is told. All statements are written for loops over indexes, so a plan that was made while a table was small
/// stays right once it has grown; and a session that hangs lets go of its rows. `$local` is `LOCAL` where a session is shared with
/// strangers after each transaction.
macro_rules! settings {
    ($local:literal) => {
        concat!(
            "SET ",
            $local,
            " enable_seqscan = off; SET ",
            $local,
            " enable_hashjoin = off; ",
            "SET ",
            $local,
            " enable_mergejoin = off; SET ",
            $local,
            " enable_bitmapscan = off; ",
            "SET ",
            $local,
            " enable_material = off; SET ",
            $local,
            " jit = off; ",
            "SET ",
            $local,
            " TIME ZONE 'UTC'; SET ",
            $local,
            " statement_timeout = '60s'; ",
            "SET ",
            $local,
            " lock_timeout = '10s'; SET ",
            $local,
            " idle_in_transaction_session_timeout = '30s'"
        )
    };
}

const SESSION: &str = settings!("");
/// A server from version 14 on ends a statement that nobody waits for any more. Older ones do not know it.
const CHECK_CLIENT: &str = "SET client_connection_check_interval = '5s'";
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
/// One message, one answer.
const BEGIN_POOLED: &str = concat!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; ", settings!("LOCAL"));

/// Some callers cannot but name their statements, and behind a pooler the session that knows the names goes on to somebody else.
pub(super) const FORGET_NAMES: &str = "DO $$ DECLARE known text; BEGIN
    FOR known IN SELECT name FROM pg_prepared_statements WHERE name LIKE 'sqlx\\_s\\_%' LOOP
        EXECUTE 'DEALLOCATE ' || quote_ident(known);
    END LOOP;
END $$";

/// A server behind its pool. Clones share the pool.
#[derive(Debug, Clone)]
pub struct Server {
    pool: PgPool,
    /// A pooler in between gives each transaction another session: nothing may be kept in one.
    pooled: bool,
    /// The wait for one answer, at most.
    patience: Duration,
    /// Connections that were made so far.
    connections: Arc<AtomicU64>,
}

impl Server {
    pub(super) async fn connect(
        connect: &PgConnectOptions,
        pooled: bool,
        most: u32,
        patience: Duration,
    ) -> Result<Self, sqlx::Error> {
        let connect = session_options(connect, pooled);
        // a pool repeats a refused connection until its time is up: one try first, which tells at once
        let first = async { PgConnection::connect_with(&connect).await?.close().await };
        tokio::time::timeout(ACQUIRE, first).await.map_err(|_| silent("connect", ACQUIRE))??;
        let connections = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&connections);
        let pool = PgPoolOptions::new()
            .max_connections(most.max(1))
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .before_acquire(|connection: &mut PgConnection, meta| {
                Box::pin(async move {
                    if meta.idle_for < FRESH {
                        return Ok(true);
                    }
                    Ok(matches!(tokio::time::timeout(PING, connection.ping()).await, Ok(Ok(()))))
                })
            })
            .after_connect(move |connection: &mut PgConnection, _| {
                count.fetch_add(1, Ordering::AcqRel);
                Box::pin(async move {
                    if !pooled {
                        sqlx::raw_sql(SESSION).execute(&mut *connection).await?;
                        let _ = sqlx::raw_sql(CHECK_CLIENT).execute(connection).await;
                    }
                    Ok(())
                })
            });
        Ok(Self { pool: pool.connect_with(connect).await?, pooled, patience, connections })
    }

    /// The same server, waited for as long as it may work on one statement.
    pub(super) fn patient(&self) -> Self {
        Self { patience: self.patience.max(PATIENT), ..self.clone() }
    }

    /// Connections that were made so far: another number means that one was lost, or that there are more.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Acquire)
    }

    pub(super) fn is_pooled(&self) -> bool {
        self.pooled
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Reads in a snapshot of its own.
    pub(super) async fn read(&self, statement: &Statement, params: &[Param]) -> Result<Vec<PgRow>, Fault> {
        if !self.pooled {
            return self.session().await?.query(statement, params).await;
        }
        // without a transaction, the pooler may give the statement to one session and its parameters to the next
        let mut session = self.begin().await?;
        let rows = session.query(statement, params).await?;
        session.commit().await?;
        Ok(rows)
    }

    /// Lets the server prepare a statement, and forget it.
    pub(super) async fn prepare(&self, statement: &Statement) -> Result<(), Fault> {
        let mut session = self.begin().await?;
        let prepare = async |connection: &mut PgConnection| connection.prepare(statement.postgres.into_sql_str()).await.map(drop);
        session.ask(statement.name, prepare).await?;
        session.command("forget names", FORGET_NAMES).await?;
        session.rollback().await
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<Session, Fault> {
        let mut session = self.session().await?;
        session.is_open = true;
        match session.command("begin", if self.pooled { BEGIN_POOLED } else { BEGIN }).await {
            Ok(()) => Ok(session),
            // a standby, which may be promoted any moment
            Err(Fault::Corrupt(why)) => Err(Fault::Unavailable(why)),
            Err(other) => Err(other),
        }
    }

    async fn session(&self) -> Result<Session, Fault> {
        match self.pool.acquire().await {
            Ok(connection) => Ok(Session { connection: Some(connection), server: self.clone(), is_sound: true, is_open: false }),
            Err(error) => {
                self.distrust();
                Err(fault("connect", &error))
            }
        }
    }

    /// One connection has died: those that idle beside it are most likely dead as well, and to find out would take a wait for each.
    fn distrust(&self) {
        while let Some(idle) = self.pool.try_acquire() {
            drop(idle.detach());
        }
    }
}

/// What a connection says of itself. Statements have names only where the session that knows them stays ours.
pub(super) fn session_options(connect: &PgConnectOptions, pooled: bool) -> PgConnectOptions {
    match pooled {
        // poolers refuse what they do not know at the start of a session
        true => connect.clone().statement_cache_capacity(0).extra_float_digits(None),
        false => connect.clone(),
    }
}

/// Whether a session is over with this error.
fn has_ended(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => true,
        sqlx::Error::Database(inner) => inner
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|told| matches!(told.severity(), PgSeverity::Fatal | PgSeverity::Panic)),
        // the server has answered, or nothing was sent
        _ => false,
    }
}

fn silent(what: &str, within: Duration) -> sqlx::Error {
    let text = format!("no answer to {what} within {} s: whether it was done is unknown", within.as_secs_f32());
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}

/// A connection in use, inside a transaction or not. Dropped inside one, it is undone.
#[derive(Debug)]
pub struct Session {
    connection: Option<PoolConnection<Postgres>>,
    server: Server,
    /// Nothing is under way on it, and all that was is answered.
    is_sound: bool,
    is_open: bool,
}

impl Session {
    pub(super) async fn query(&mut self, statement: &Statement, params: &[Param]) -> Result<Vec<PgRow>, Fault> {
        let query = bind_postgres(sqlx::query(statement.postgres).persistent(!self.server.pooled), params);
        self.ask(statement.name, async |connection| query.fetch_all(connection).await).await
    }

    /// Returns how many rows were changed.
    pub(super) async fn execute(&mut self, statement: &Statement, params: &[Param]) -> Result<u64, Fault> {
        let query = bind_postgres(sqlx::query(statement.postgres).persistent(!self.server.pooled), params);
        let done = self.ask(statement.name, async |connection| query.execute(connection).await).await?;
        Ok(done.rows_affected())
    }

    /// # Errors
    /// Without an answer it may have been made all the same: nobody may go on as if it was, nor as if it was not, before the
    /// database itself has been asked.
    pub(super) async fn commit(mut self) -> Result<(), Fault> {
        self.command("commit", "COMMIT").await?;
        self.is_open = false;
        Ok(())
    }

    pub(super) async fn rollback(mut self) -> Result<(), Fault> {
        self.command("rollback", "ROLLBACK").await?;
        self.is_open = false;
        Ok(())
    }

    async fn command(&mut self, name: &str, text: &'static str) -> Result<(), Fault> {
        self.ask(name, async |connection| sqlx::raw_sql(text).execute(connection).await.map(drop)).await
    }

    async fn ask<T>(
        &mut self,
        name: &str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Fault> {
        let patience = self.server.patience;
        let Some(connection) = self.connection.as_mut().filter(|_| self.is_sound) else {
            return Err(Fault::Unavailable(format!("{name}: the connection was lost before")));
        };
        // also for whoever drops this future half-way
        self.is_sound = false;
        let error = match tokio::time::timeout(patience, work(connection)).await {
            Ok(Ok(done)) => {
                self.is_sound = true;
                return Ok(done);
            }
            Ok(Err(error)) => error,
            Err(_) => silent(name, patience),
        };
        if has_ended(&error) {
            self.server.distrust();
        } else {
            self.is_sound = true;
        }
        Err(fault(name, &error))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current().map_err(drop) else {
            return drop(connection.detach());
        };
        if !self.is_sound {
            return drop(connection.detach());
        }
        let is_open = self.is_open;
        runtime.spawn(async move {
            if is_open {
                let undone = sqlx::raw_sql("ROLLBACK").execute(&mut *connection);
                if !matches!(tokio::time::timeout(PING, undone).await, Ok(Ok(_))) {
                    return drop(connection.detach());
                }
            }
            // it is asked first whether it lives; if that takes too long, it is closed
            let _ = tokio::time::timeout(PING, connection.return_to_pool()).await;
        });
    }
}
