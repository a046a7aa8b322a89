//! Looks ahead: reads the whole book page by page, without holding anything.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use super::Database;
use super::cards::try_of;
use super::codec::Row;
use super::db::Fault;
use super::rows;
use super::sql::{cards, outlook};
use crate::domain::charge::{AccountId, ChargeId, ChargeState, SubscriptionId, Waiting};
use crate::domain::dunning::KeyTry;
use crate::domain::forecast::{History, Sum};
use crate::domain::money::{Currency, Money};
use crate::domain::period::Period;
use crate::ports::store::{Pending, Standing};

/// How many of the newest charges a history is made of, at most.
const HISTORY: u32 = 100_000;

/// A page of subscriptions, in the order of their rows.
#[derive(Debug, Default)]
pub struct Page {
    pub subscriptions: Vec<Standing>,
    /// Rows that could not be read; each has been logged.
    pub unreadable: u64,
    /// Where the next page begins; `None`: this was the last one.
    pub next: Option<i64>,
}

/// A charge that has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub subscription: SubscriptionId,
    pub external_ref: String,
    pub plan: String,
    pub due_at: Timestamp,
    pub amount: Money,
}

impl Database {
    /// The next page of the book after a subscription's row (0: from the beginning). Each page is a snapshot of its own.
    pub async fn standing(&self, after: i64, limit: u32) -> Result<Page, Fault> {
        self.page(self.db.patient().read(&outlook::STANDING, &[after.into(), limit.into()]).await?, limit).await
    }

    /// The same, of subscriptions whose next period opens under one of these plans.
    pub async fn standing_of_plans(&self, after: i64, limit: u32, plans: &[String]) -> Result<Page, Fault> {
        let params = [after.into(), limit.into(), plans.to_vec().into()];
        self.page(self.db.patient().read(&outlook::STANDING_OF, &params).await?, limit).await
    }

    async fn page(&self, found: Vec<Row>, limit: u32) -> Result<Page, Fault> {
        let Some(last) = found.last() else { return Ok(Page::default()) };
        let last = last.int("subscription_id")?;
        let mut page = self.stand(&found).await?;
        page.next = (found.len() as u64 >= u64::from(limit)).then_some(last);
        Ok(page)
    }

    /// One subscription as it stands; `None` if there is none.
    pub async fn standing_of(&self, subscription: i64) -> Result<Option<Standing>, Fault> {
        let found = self.db.patient().read(&outlook::STANDING_ONE, &[subscription.into()]).await?;
        let page = self.stand(&found).await?;
        Ok(page.subscriptions.into_iter().next())
    }

    async fn stand(&self, found: &[Row]) -> Result<Page, Fault> {
        let mut page = Page::default();
        let (mut pending, mut unreadable): (HashMap<i64, Vec<Pending>>, HashSet<i64>) = Default::default();
        let ids = found.iter().map(|row| row.int("subscription_id")).collect::<Result<Vec<i64>, _>>()?;
        // after the schedules: a period that opens in between is then seen twice, and told apart by its start
        for row in &self.db.patient().read(&outlook::PENDING, &[ids.clone().into()]).await? {
            let subscription = row.int("subscription_id")?;
            match pending_of(row) {
                Ok(one) => pending.entry(subscription).or_default().push(one),
                Err(fault) => {
                    tracing::error!(subscription.id = subscription, error = %fault, "a charge cannot be read");
                    unreadable.insert(subscription);
                }
            }
        }
        // one row that is wrong, or newer than this release, stops the count of its own subscription alone
        let mut tries: HashMap<i64, Vec<(ChargeId, KeyTry)>> = HashMap::new();
        for row in &self.db.patient().read(&cards::TRIES_OF_SUBSCRIPTIONS, &[ids.into()]).await? {
            tries.entry(row.int("subscription_id")?).or_default().extend(try_of(row)?);
        }
        for of_one in pending.values_mut() {
            of_one.sort_by_key(|pending| pending.period.start);
        }
        for row in found {
            match rows::standing(row) {
                Ok(schedule) if unreadable.contains(&schedule.terms.id.0) => page.unreadable += 1,
                Ok(schedule) => {
                    let id = schedule.terms.id.0;
                    page.subscriptions.push(Standing {
                        pending: pending.remove(&id).unwrap_or_default(),
                        key_tries: tries.remove(&id).unwrap_or_default(),
                        schedule,
                    });
                }
                Err(fault) => {
                    page.unreadable += 1;
                    let subscription = row.int("subscription_id").unwrap_or_default();
                    tracing::error!(subscription.id = subscription, error = %fault, "a subscription cannot be read");
                }
            }
        }
        self.complete(page.subscriptions.iter_mut().map(|standing| &mut standing.schedule.terms)).await?;
        Ok(page)
    }

    /// Charges that have opened and fell due in `[from, to)`, without their cards.
    pub async fn opened_between(&self, account: AccountId, from: Timestamp, to: Timestamp) -> Result<Vec<Opened>, Fault> {
        let rows = self.db.patient().read(&outlook::OPENED_BETWEEN, &[account.0.into(), from.into(), to.into()]).await?;
        let opened = |row: &Row| {
            Ok(Opened {
                subscription: SubscriptionId(row.int("subscription_id")?),
                external_ref: row.text("external_ref")?,
                plan: row.text("plan")?,
                due_at: row.at("due_at")?,
                amount: rows::money(row)?,
            })
        };
        rows.iter().map(opened).collect()
    }

    /// The billing keys of subscriptions.
    pub async fn cards_of(&self, subscriptions: Vec<i64>) -> Result<HashMap<i64, String>, Fault> {
        let rows = self.db.patient().read(&outlook::CARDS_OF, &[subscriptions.into()]).await?;
        rows.iter().map(|row| Ok((row.int("id")?, row.text("customer_uid")?))).collect()
    }

    /// Your own reference of a subscription for each of these billing keys; of several the first by name.
    pub async fn references_of(&self, account: &str, cards: Vec<String>) -> Result<HashMap<String, String>, Fault> {
        let rows = self.db.patient().read(&outlook::REFERENCES_OF, &[account.into(), cards.into()]).await?;
        rows.iter().map(|row| Ok((row.text("customer_uid")?, row.text("external_ref")?))).collect()
    }

    /// The highest number of a subscription's row: where the last page ends, for a progress display.
    pub async fn last_subscription(&self) -> Result<i64, Fault> {
        let rows = self.db.patient().read(&outlook::LAST_SUBSCRIPTION, &[]).await?;
        rows.first().map_or(Ok(0), |row| row.int("last"))
    }

    /// What became of the newest charges, by currency.
    pub async fn history(&self) -> Result<BTreeMap<Currency, History>, Fault> {
        let rows = self.db.patient().read(&outlook::HISTORY, &[HISTORY.into()]).await?;
        let sum = |row: &Row, name: &str| {
            let count = u64::try_from(row.int(name)?).unwrap_or(0);
            Ok::<_, Fault>(Sum { count, sum: row.int(&format!("{name}_sum"))?.into() })
        };
        let history = |row: &Row| {
            let currency = row.word("currency", |code| code.parse().ok())?;
            let history =
                History { closed: sum(row, "closed")?, declined: sum(row, "declined")?, recovered: sum(row, "recovered")? };
            Ok((currency, history))
        };
        rows.iter().map(history).collect()
    }
}

fn pending_of(row: &Row) -> Result<Pending, Fault> {
    Ok(Pending {
        id: ChargeId(row.int("id")?),
        period: Period { start: row.day("period_start")?, end: row.day("period_end")? },
        due_at: row.at("due_at")?,
        amount: rows::money(row)?,
        state: row.word("state", ChargeState::from_name)?,
        waiting: row.word("waiting", Waiting::from_name)?,
        next_at: row.at_opt("next_at")?,
        tries: row.small("tries")?,
        first_declined_at: row.at_opt("first_declined_at")?,
    })
}
