//! How much waits, for `/metrics`.

use jiff::{SignedDuration, Timestamp};

use super::Database;
use super::db::Fault;
use super::sql::figures;
use crate::domain::fuse::is_of_rates;

/// Doubts and reviews are looked up at least once an hour.
const NEXT_LOOK_UP: SignedDuration = SignedDuration::from_hours(2);

/// How much waits, all accounts together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Figures {
    pub accounts: Vec<AccountFigures>,
    /// Open incidents by kind, up to 10,000 each.
    pub incidents: Vec<(String, i64)>,
    /// Deliveries that no endpoint has accepted yet, up to 20,000.
    pub outbox_waiting: i64,
    /// When the oldest event among them happened.
    pub outbox_oldest: Option<Timestamp>,
}

/// How much waits of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFigures {
    pub name: String,
    /// Up to 100,000.
    pub due: i64,
    /// Since when the first of them has been due, as far as that is known.
    pub oldest_due: Option<Timestamp>,
    /// Up to 20,000, together with those in review.
    pub doubt: i64,
    pub oldest_doubt: Option<Timestamp>,
    pub review: i64,
    /// When both ledgers were last compared.
    pub audited_at: Option<Timestamp>,
    /// Whether it is paused because far too much was declined or in doubt.
    pub paused_by_rates: bool,
}

impl Database {
    /// Reads no more than so many rows of each index, whatever the size of the database.
    pub async fn figures(&self, now: Timestamp) -> Result<Figures, Fault> {
        let soon = now.checked_add(NEXT_LOOK_UP).unwrap_or(now);
        let rows = self.db.read(&figures::ACCOUNTS, &[now.into(), Timestamp::UNIX_EPOCH.into(), soon.into()]).await?;
        let accounts = rows.iter().map(|row| {
            Ok::<_, Fault>(AccountFigures {
                name: row.text("name")?,
                due: row.int("due")?,
                oldest_due: row.at_opt("oldest_due")?,
                doubt: row.int("doubt")?,
                oldest_doubt: row.at_opt("oldest_doubt")?,
                review: row.int("review")?,
                audited_at: row.at_opt("audited_at")?,
                paused_by_rates: row.flag("paused")? && row.text_opt("pause_reason")?.is_some_and(|why| is_of_rates(&why)),
            })
        });
        let mut told = Figures { accounts: accounts.collect::<Result<_, _>>()?, ..Figures::default() };
        if let Some(row) = self.db.read(&figures::OUTBOX, &[]).await?.first() {
            told.outbox_waiting = row.int("waiting")?;
            told.outbox_oldest = row.at_opt("oldest_at")?;
        }
        for row in &self.db.read(&figures::INCIDENTS, &[]).await? {
            told.incidents.push((row.text("kind")?, row.int("open")?));
        }
        Ok(told)
    }
}
