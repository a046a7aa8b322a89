//! What looks after the database: the daily line, and what is no longer kept. Money records are never among it.

use jiff::Timestamp;

use super::Database;
use super::Statement;
use super::db::Fault;
use super::sql::chores;

/// Rows that one transaction looks at.
const RANGE: i64 = 20_000;

/// What an account took in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub account: String,
    pub currency: String,
    pub charges: i64,
    /// Minor units.
    pub sum: i64,
    /// Charges that had been declined before.
    pub recovered: i64,
}

/// What is not decided yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Undecided {
    pub dunning: i64,
    pub doubt: i64,
    pub review: i64,
}

impl Database {
    /// What has been paid since an instant, and what waits.
    pub async fn summary(&self, since: Timestamp) -> Result<(Vec<Taken>, Undecided), Fault> {
        let rows = self.db.patient().read(&chores::PAID_SINCE, &[since.into()]).await?;
        let taken = rows.iter().map(|row| {
            Ok::<_, Fault>(Taken {
                account: row.text("name")?,
                currency: row.text("currency")?,
                charges: row.int("charges")?,
                sum: row.int("sum")?,
                recovered: row.int("recovered")?,
            })
        });
        let taken = taken.collect::<Result<_, _>>()?;
        let rows = self.db.patient().read(&chores::UNRESOLVED_NOW, &[]).await?;
        let undecided = match rows.first() {
            Some(row) => Undecided { dunning: row.int("dunning")?, doubt: row.int("doubt")?, review: row.int("review")? },
            None => Undecided::default(),
        };
        Ok((taken, undecided))
    }

    /// Removes rows of the outbox that were delivered before an instant; events stay. Returns how many.
    pub async fn prune_deliveries(&self, before: Timestamp) -> Result<u64, Fault> {
        self.in_ranges(&chores::LAST_DELIVERY, &chores::PRUNE_DELIVERIES, before).await
    }

    /// Empties the personal fields of subscriptions that were cancelled, and not touched since an instant, and owe nothing.
    /// Returns how many.
    pub async fn prune_personal(&self, before: Timestamp) -> Result<u64, Fault> {
        self.in_ranges(&chores::LAST_ROW, &chores::PRUNE_PERSONAL, before).await
    }

    /// A statement over all rows, a range of ids in each transaction.
    async fn in_ranges(&self, last: &Statement, statement: &Statement, before: Timestamp) -> Result<u64, Fault> {
        let last = self.db.patient().read(last, &[]).await?.first().map_or(Ok(0), |row| row.int("last"))?;
        let (mut after, mut changed) = (0, 0);
        while after < last {
            let until = (after + RANGE).min(last);
            changed += self.db.patient().write(statement, &[after.into(), until.into(), before.into()]).await?;
            after = until;
            tokio::task::yield_now().await;
        }
        Ok(changed)
    }
}
