//! The parts of a subscription's terms that stand in tables of their own.

use std::collections::HashMap;

use super::Database;
use super::codec::Row;
use super::db::{Fault, Tx};
use super::sql::terms;
use crate::domain::plan::Price;
use crate::domain::subscription::{Adjustment, Terms};

/// What is dated, or used once, of a subscription's terms.
#[derive(Debug, Default)]
pub(super) struct Dated {
    /// In the order of their days.
    pub prices: Vec<Price>,
    /// Those that no period has used.
    pub adjustments: Vec<Adjustment>,
    /// Why one of them could not be read. The others are here all the same, to be shown.
    pub unreadable: Option<String>,
}

impl Dated {
    fn fails(&mut self, subscription: i64, table: &str, row: &Row, fault: &Fault) {
        let id = row.int("id").unwrap_or_default();
        tracing::error!(subscription.id = subscription, row.id = id, error = %fault, "a row of {table} cannot be read");
        self.unreadable = Some(format!("row {id} of `{table}` cannot be read ({fault}): put it right or delete it"));
    }
}

impl Database {
    /// The dated parts of some subscriptions, by their ids. A row that cannot be read concerns its own subscription alone.
    pub(super) async fn dated_of(&self, ids: Vec<i64>) -> Result<HashMap<i64, Dated>, Fault> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let prices = self.read(&terms::PRICES_OF, &[ids.clone().into()]).await?;
        dated_of(&prices, &self.read(&terms::ADJUSTMENTS_OF, &[ids.into()]).await?)
    }

    /// Adds the dated parts to terms that were read without them.
    pub(super) async fn complete<'a>(&self, rows: impl Iterator<Item = &'a mut Terms>) -> Result<(), Fault> {
        let rows: Vec<&mut Terms> = rows.collect();
        let dated = self.dated_of(rows.iter().map(|terms| terms.id.0).collect()).await?;
        complete(rows, dated);
        Ok(())
    }

    /// The same, as a transaction sees them.
    pub(super) async fn complete_in<'a>(&self, tx: &mut Tx, rows: impl Iterator<Item = &'a mut Terms>) -> Result<(), Fault> {
        let rows: Vec<&mut Terms> = rows.collect();
        let ids: Vec<i64> = rows.iter().map(|terms| terms.id.0).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let prices = tx.query(&terms::PRICES_OF, &[ids.clone().into()]).await?;
        let adjustments = tx.query(&terms::ADJUSTMENTS_OF, &[ids.into()]).await?;
        complete(rows, dated_of(&prices, &adjustments)?);
        Ok(())
    }
}

fn dated_of(prices: &[Row], adjustments: &[Row]) -> Result<HashMap<i64, Dated>, Fault> {
    let mut dated: HashMap<i64, Dated> = HashMap::new();
    for row in prices {
        let subscription = row.int("subscription_id")?;
        let of_one = dated.entry(subscription).or_default();
        match price(row) {
            Ok(price) => of_one.prices.push(price),
            Err(fault) => of_one.fails(subscription, "price_changes", row, &fault),
        }
    }
    for row in adjustments {
        let subscription = row.int("subscription_id")?;
        let of_one = dated.entry(subscription).or_default();
        match adjustment(row) {
            Ok(adjustment) => of_one.adjustments.push(adjustment),
            Err(fault) => of_one.fails(subscription, "adjustments", row, &fault),
        }
    }
    Ok(dated)
}

fn complete(rows: Vec<&mut Terms>, mut dated: HashMap<i64, Dated>) {
    if dated.is_empty() {
        return;
    }
    for terms in rows {
        let of_one = dated.remove(&terms.id.0).unwrap_or_default();
        (terms.prices, terms.adjustments, terms.unreadable) = (of_one.prices, of_one.adjustments, of_one.unreadable);
    }
}

fn price(row: &Row) -> Result<Price, Fault> {
    Ok(Price {
        from: row.day("from_date")?,
        amount: row.int("amount")?,
        tax_free: row.int_opt("tax_free")?,
        vat_amount: row.int_opt("vat_amount")?,
    })
}

fn adjustment(row: &Row) -> Result<Adjustment, Fault> {
    Ok(Adjustment { id: row.int("id")?, amount: row.int("amount")? })
}
