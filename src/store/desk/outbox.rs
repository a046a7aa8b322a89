//! Events on their way out.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Desk, Signed, journal, sql, subject};
use crate::store::db::Fault;

/// An event, with how far its deliveries have come.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    pub seq: i64,
    pub id: String,
    pub kind: String,
    pub at: Timestamp,
    pub data: Value,
    pub pending: i64,
    pub delivered: i64,
    pub failed: i64,
}

/// Which deliveries to make again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The first and last event, by their sequence numbers.
    pub first: i64,
    pub last: i64,
    /// One endpoint, or all.
    pub endpoint: Option<String>,
    /// Only those that were given up.
    pub failed_only: bool,
}

impl Desk<'_> {
    /// The newest first.
    pub async fn events(&self, kind: Option<&str>, id: Option<&str>, open: bool, limit: u32) -> Result<Vec<EventRow>, Fault> {
        let rows = self.database.read(&sql::EVENTS, &[kind.into(), id.into(), i64::from(open).into(), limit.into()]).await?;
        rows.iter()
            .map(|row| {
                Ok(EventRow {
                    seq: row.int("seq")?,
                    id: row.text("id")?,
                    kind: row.text("kind")?,
                    at: row.at("at")?,
                    data: row.json("data")?,
                    pending: row.int("pending")?,
                    delivered: row.int("delivered")?,
                    failed: row.int("failed")?,
                })
            })
            .collect()
    }

    /// Makes deliveries due again, also to endpoints that the config did not have then. Returns how many.
    pub async fn replay(&self, now: Timestamp, replay: &Replay, signed: &Signed) -> Result<u64, Fault> {
        let mut tx = self.database.begin_write().await?;
        let params = [
            now.into(),
            replay.first.into(),
            replay.last.into(),
            replay.endpoint.as_deref().into(),
            i64::from(replay.failed_only).into(),
        ];
        let mut due = tx.execute(&sql::REPLAY, &params).await?;
        let endpoints: Vec<String> = match &replay.endpoint {
            Some(one) => vec![one.clone()],
            None => self.database.endpoints.to_vec(),
        };
        if !replay.failed_only && !endpoints.is_empty() {
            let params = [now.into(), replay.first.into(), replay.last.into(), endpoints.into()];
            due += tx.execute(&sql::REPLAY_TO_NEW, &params).await?;
        }
        if due > 0 {
            let detail = json!({ "first": replay.first, "last": replay.last, "endpoint": replay.endpoint, "deliveries": due });
            journal(&mut tx, now, signed, "events replay", subject::DATABASE, &detail).await?;
            tx.query(&sql::WAKE, &[]).await?;
        }
        tx.commit().await?;
        Ok(due)
    }
}
