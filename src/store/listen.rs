//! Hears of rows that operators write.

use std::path::Path;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::Database;
use super::open::Target;
use crate::ports::wake::Wake;

/// Between two tries to listen. Nothing is missed meanwhile for longer than the worker's own interval.
const PAUSE: Duration = Duration::from_secs(5);
/// How often a SQLite file is asked whether anybody has written to it: a read of shared memory, no transaction.
const GLANCE: Duration = Duration::from_secs(1);

/// What the schema's triggers notify.
const CHANNEL: &str = "rebilld";
/// What they say when it was a plan.
const PLANS: &str = "plans";

impl Database {
    /// Rings `wake` whenever a subscription's row is written, and `plans` whenever a plan's is: at once on Postgres, within a second
    /// on SQLite, where any commit rings both. Runs until it is dropped.
    pub async fn listen(&self, wake: Wake, plans: Wake) {
        loop {
            let ended = match &self.target {
                Target::Postgres(connect) => notified(connect, &wake, &plans).await,
                Target::Sqlite(path) => watched(path, &wake, &plans).await,
            };
            if let Err(error) = ended {
                tracing::warn!(error = %error, "not listening for changed rows for now: they are found by the interval");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn notified(connect: &PgConnectOptions, wake: &Wake, plans: &Wake) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).connect_with(connect.clone()).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    // what was notified before we listened, or while the connection was broken, is unknown
    let mut heard = None;
    loop {
        wake.ring();
        if heard.as_ref().is_none_or(|heard: &PgNotification| heard.payload() == PLANS) {
            plans.ring();
        }
        heard = listener.try_recv().await?;
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
