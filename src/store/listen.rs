//! Hears of rows that operators write.

use std::path::Path;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Executor};

use super::Database;
use super::open::Target;
use crate::ports::wake::Wake;

/// Between two tries to listen. Nothing is missed meanwhile for longer than the worker's own interval.
const PAUSE: Duration = Duration::from_secs(5);
/// How often a SQLite file is asked whether anybody has written to it: a read of shared memory, no transaction.
const GLANCE: Duration = Duration::from_secs(1);

/// How often rows are looked for where nobody tells of them.
const POLL: Duration = Duration::from_secs(10);
/// A connection that has said nothing for so long is asked whether it still lives: a dead one hears nothing either.
const SILENCE: Duration = Duration::from_secs(30);
/// The wait for that answer, and for a connection.
const ANSWER: Duration = Duration::from_secs(10);

/// What the schema's triggers notify.
const CHANNEL: &str = "rebilld";
/// What they say when it was a plan.
const PLANS: &str = "plans";

impl Database {
    /// Rings `wake` whenever a subscription's row is written, and `plans` whenever a plan's is: at once on Postgres, within a second
    /// on SQLite, where any commit rings both. Behind a pooler that swallows notifications, and without a URL past it, both ring every
    /// 10 s. Runs until it is dropped.
    pub async fn listen(&self, wake: Wake, plans: Wake) {
        loop {
            let ended = match (&self.target, &self.listens_at) {
                (Target::Postgres(_), Some(connect)) => notified(connect, &wake, &plans).await,
                (Target::Postgres(_), None) => polled(&wake, &plans).await,
                (Target::Sqlite(path), _) => watched(path, &wake, &plans).await,
            };
            if let Err(error) = ended {
                tracing::warn!(error = %error, "not listening for changed rows for now: they are found by the interval");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn notified(connect: &PgConnectOptions, wake: &Wake, plans: &Wake) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ANSWER).connect_with(connect.clone()).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    // what was notified before we listened, or while the connection was broken, is unknown
    let mut heard = None;
    loop {
        wake.ring();
        if heard.as_ref().is_none_or(|heard: &PgNotification| heard.payload() == PLANS) {
            plans.ring();
        }
        heard = loop {
            match tokio::time::timeout(SILENCE, listener.try_recv()).await {
                Ok(heard) => break heard?,
                Err(_) => {
                    tokio::time::timeout(ANSWER, listener.execute("SELECT 1")).await.map_err(std::io::Error::from)?.map(drop)?
                }
            }
        };
    }
}

async fn polled(wake: &Wake, plans: &Wake) -> Result<(), sqlx::Error> {
    loop {
        wake.ring();
        plans.ring();
        tokio::time::sleep(POLL).await;
    }
}

/// SQLite tells nobody, but counts the commits of others for each connection. Those of this daemon's writer count too: a busy
/// daemon looks anyway, and a look that finds nothing writes nothing.
async fn watched(path: &Path, wake: &Wake, plans: &Wake) -> Result<(), sqlx::Error> {
    let connect = SqliteConnectOptions::new().filename(path).pragma("query_only", "ON").disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&connect).await?;
    let mut seen = None;
    loop {
        let version: i64 = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut connection).await?;
        if seen.replace(version) != Some(version) {
            wake.ring();
            plans.ring();
        }
        tokio::time::sleep(GLANCE).await;
    }
}
