//! The parts of a subscription's terms that stand in tables of their own.

use std::collections::HashMap;

use super::Database;
use super::db::Fault;
use super::sql::terms;
use crate::domain::plan::Price;
use crate::domain::subscription::{Adjustment, Terms};

/// Dated prices, in the order of their days, and adjustments that no period has used.
pub(super) type Dated = (Vec<Price>, Vec<Adjustment>);

impl Database {
    /// The dated parts of some subscriptions, by their ids.
    pub(super) async fn dated_of(&self, ids: Vec<i64>) -> Result<HashMap<i64, Dated>, Fault> {
        let mut dated: HashMap<i64, Dated> = HashMap::new();
        if ids.is_empty() {
            return Ok(dated);
        }
        for row in &self.read(&terms::PRICES_OF, &[ids.clone().into()]).await? {
            dated.entry(row.int("subscription_id")?).or_default().0.push(Price {
                from: row.day("from_date")?,
                amount: row.int("amount")?,
                tax_free: row.int_opt("tax_free")?,
                vat_amount: row.int_opt("vat_amount")?,
            });
        }
        for row in &self.read(&terms::ADJUSTMENTS_OF, &[ids.into()]).await? {
            let adjustment = Adjustment { id: row.int("id")?, amount: row.int("amount")? };
            dated.entry(row.int("subscription_id")?).or_default().1.push(adjustment);
        }
        Ok(dated)
    }

    /// Adds the dated parts to terms that were read without them.
    pub(super) async fn complete<'a>(&self, rows: impl Iterator<Item = &'a mut Terms>) -> Result<(), Fault> {
        let rows: Vec<&mut Terms> = rows.collect();
        let mut dated = self.dated_of(rows.iter().map(|terms| terms.id.0).collect()).await?;
        if !dated.is_empty() {
            for terms in rows {
                (terms.prices, terms.adjustments) = dated.remove(&terms.id.0).unwrap_or_default();
            }
        }
        Ok(())
    }
}
