//! Indexes that a migration would have to build over a large table, built before it while others write.
//!
//! `CREATE INDEX` in a migration's transaction holds up every writer of the table until all of it is read, and the session's
//! `statement_timeout` ends it first: a daemon that starts again would begin anew each time. Built concurrently it holds up nobody, but
//! that cannot be done in a transaction. The migration itself then says `IF NOT EXISTS`, which is for databases that are new.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor, Row};

use super::session::session_options;

struct Index {
    name: &'static str,
    /// What it is on, from `CREATE INDEX CONCURRENTLY` on.
    statement: &'static str,
    drop: &'static str,
    /// Whether its table is there, and whether the index is: `NULL` where it is not, false where a build of it was cut off.
    state: &'static str,
}

macro_rules! index {
    ($name:literal, $table:literal, $on:literal) => {
        Index {
            name: $name,
            statement: concat!("CREATE INDEX CONCURRENTLY IF NOT EXISTS ", $name, " ON ", $table, " ", $on),
            drop: concat!("DROP INDEX CONCURRENTLY IF EXISTS ", $name),
            state: concat!(
                "SELECT to_regclass('",
                $table,
                "') IS NOT NULL, (SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass('",
                $name,
                "'))"
            ),
        }
    };
}

/// The same as in the migrations, each with its first version there.
const INDEXES: &[Index] = &[
    // 0016
    index!("charges_troubled", "charges", "(account_id, state, doubt_since) WHERE state IN ('doubt', 'review')"),
];

/// Taken by whoever builds. It is asked for again and again, because a session that waits for it in a statement would be waited for by
/// the build.
const LOCK: &str = "SELECT pg_try_advisory_lock(7236839)";
const PAUSE: Duration = Duration::from_millis(250);
/// The wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Builds what is missing on tables that are there. `direct`: past a pooler, where a session keeps its lock.
pub(super) async fn build(connect: &PgConnectOptions, direct: bool) -> Result<(), sqlx::Error> {
    // behind a pooler two may build at once: the second finds the first's index, whole or not, and builds none
    let connect = session_options(connect, !direct);
    let connecting = tokio::time::timeout(CONNECT, PgConnection::connect_with(&connect)).await;
    let mut connection = connecting.map_err(|late| sqlx::Error::Io(std::io::Error::from(late)))??;
    let built = build_on(&mut connection, direct).await;
    // ends the lock with the session
    let closed = connection.close().await;
    built.and(closed)
}

async fn build_on(connection: &mut PgConnection, direct: bool) -> Result<(), sqlx::Error> {
    for index in INDEXES {
        if is_there(connection, index).await? {
            continue;
        }
        if direct {
            sqlx::raw_sql("SET statement_timeout = 0; SET lock_timeout = 0").execute(&mut *connection).await?;
            while !connection.fetch_one(LOCK).await?.try_get::<bool, _>(0)? {
                tokio::time::sleep(PAUSE).await;
            }
            // another one may just have built it
            if is_there(connection, index).await? {
                continue;
            }
        }
        tracing::info!(index = index.name, "an index is being built; replicas of the release before work on meanwhile");
        if direct {
            // what a build that was cut off has left
            sqlx::raw_sql(index.drop).execute(&mut *connection).await?;
        }
        sqlx::raw_sql(index.statement).execute(&mut *connection).await?;
        tracing::info!(index = index.name, "the index is built");
    }
    Ok(())
}

async fn is_there(connection: &mut PgConnection, index: &Index) -> Result<bool, sqlx::Error> {
    let row = connection.fetch_one(index.state).await?;
    Ok(!row.try_get::<bool, _>(0)? || row.try_get::<Option<bool>, _>(1)? == Some(true))
}
