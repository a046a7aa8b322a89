//! What operators do at the command line: import, change, look, brake. Each change is written to the journal (who, what,
//! why) in its own transaction.

mod brakes;
mod chain;
mod charges;
pub mod columns;
mod holds;
mod import;
mod incidents;
mod outbox;
pub mod sql;
mod story;
mod subscriptions;
mod takeover;
mod terms;
mod wave;
mod webhooks;

use jiff::Timestamp;
use serde_json::Value;

use super::Database;
use super::db::Fault;

pub use brakes::{AccountStatus, Reach, Status};
pub(super) use chain::journal;
pub use chain::{Broken, Whole};
pub use charges::{ChargeFilter, ChargeRow, Reference};
pub use holds::{HeldRow, Ruled, before_hash, hash_of, hash_of_held, hashes};
pub use import::{FieldChange, Given, Import, Imported, Tally, Verdict};
pub use incidents::{Closing, Incidence, IncidentFilter};
pub use outbox::{EventRow, Replay};
pub use story::{AttemptRow, DeliveryRow, IncidentRow, ObservationRow, SendRow, Story, StoryEvent};
pub use subscriptions::{SubscriptionFilter, SubscriptionRow, terms_of};
pub use takeover::{BookedKey, Key, WaitingCharge};
pub use terms::{CatchUpStep, TermsChange};
pub use wave::{Approved, BlownFuse, NotApproved, Wave, WaveCharge, WaveHash};

/// Who changes something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub who: String,
    pub reason: String,
}

/// What the journal calls the thing that was changed.
pub mod subject {
    pub const DATABASE: &str = "database";

    pub fn account(name: &str) -> String {
        format!("account {name}")
    }

    pub fn subscription(account: &str, external_ref: &str) -> String {
        format!("subscription {account}/{external_ref}")
    }

    pub fn charge(id: i64) -> String {
        format!("charge {id}")
    }

    pub fn incident(id: i64) -> String {
        format!("incident {id}")
    }
}

/// The operators' view of a database.
#[derive(Debug, Clone, Copy)]
pub struct Desk<'a> {
    database: &'a Database,
}

impl Database {
    pub fn desk(&self) -> Desk<'_> {
        Desk { database: self }
    }
}

impl Desk<'_> {
    /// The database's clock.
    pub async fn clock(&self) -> Result<Timestamp, Fault> {
        let rows = self.database.read(&super::sql::accounts::CLOCK, &[]).await?;
        rows.first().ok_or_else(|| Fault::Corrupt("the database does not tell the time".to_owned()))?.at("now")
    }

    /// Writes to the journal alone, for something that was changed elsewhere.
    pub async fn note(&self, now: Timestamp, signed: &Signed, action: &str, subject: &str, detail: &Value) -> Result<(), Fault> {
        let mut tx = self.database.begin_write().await?;
        journal(&mut tx, now, signed, action, subject, detail).await?;
        tx.commit().await
    }
}
