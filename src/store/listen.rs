//! Hears of rows that operators write.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgNotification, PgPoolOptions};

use super::Database;
use super::open::Target;
use crate::ports::wake::Wake;

/// Between two tries to listen. Nothing is missed meanwhile for longer than the worker's own interval.
const PAUSE: Duration = Duration::from_secs(5);

/// What the schema's triggers notify.
const CHANNEL: &str = "rebilld";
/// What they say when it was a plan.
const PLANS: &str = "plans";

impl Database {
    /// Rings `wake` whenever a subscription's row is written, and `plans` whenever a plan's is. Runs until it is dropped; on
    /// SQLite nothing is ever heard.
    pub async fn listen(&self, wake: Wake, plans: Wake) {
        let Target::Postgres(connect) = &self.target else { return std::future::pending().await };
        loop {
            let heard = async {
                let pool = PgPoolOptions::new().max_connections(1).connect_with(connect.as_ref().clone()).await?;
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
            };
            let ended: Result<(), sqlx::Error> = heard.await;
            if let Err(error) = ended {
                tracing::warn!(error = %error, "not listening for changed rows for now: they are found by the interval");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
