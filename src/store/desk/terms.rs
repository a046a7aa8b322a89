//! Dated prices, one-off adjustments, and periods that were missed.

use std::collections::HashSet;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::json;

use super::chain::{Deed, journal_all};
use super::subscriptions::SubscriptionRow;
use super::{Desk, Signed, journal, sql, subject};
use crate::domain::event::{Event, EventKind};
use crate::domain::lifecycle::Progress;
use crate::domain::plan::Price;
use crate::ports::store::Passed;
use crate::store::db::{Fault, Tx};
use crate::store::outbox::Told;
use crate::store::schedules::skipped;
use crate::store::sql::terms;

/// What an operator does to the terms of one subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TermsChange {
    /// From its day on; replaces a price from the same day.
    Price(Price),
    RemovePrice(Date),
    /// Of the next charge, in minor units.
    Adjust {
        amount: i64,
        name: Option<String>,
    },
    /// One that no period has used.
    RemoveAdjustment(i64),
}

/// What becomes of a subscription's missed periods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatchUpStep {
    /// Those that start before that day are opened, one after the other.
    Open { until: Date },
    /// These are passed over.
    Skip(Passed),
}

impl Desk<'_> {
    /// Changes dated prices or adjustments, with a journal entry and an event. `false`: there was nothing to remove.
    pub async fn change_terms(
        &self,
        now: Timestamp,
        row: &SubscriptionRow,
        change: &TermsChange,
        signed: &Signed,
    ) -> Result<bool, Fault> {
        let mut tx = self.database.begin_write().await?;
        // as every change of a subscription: its row first, then its schedule
        tx.query(&sql::LOCK_SUBSCRIPTION, &[row.id.into()]).await?;
        let (statement, params, table, action, detail) = match change {
            TermsChange::Price(Price { from, amount, tax_free, vat_amount }) => {
                let params = vec![row.id.into(), (*from).into(), (*amount).into(), (*tax_free).into(), (*vat_amount).into()];
                let detail = json!({ "from": from, "amount": amount, "tax_free": tax_free, "vat_amount": vat_amount });
                (&terms::SET_PRICE, params, "price_changes", "subscriptions price", detail)
            }
            TermsChange::RemovePrice(from) => {
                let params = vec![row.id.into(), (*from).into()];
                (&terms::REMOVE_PRICE, params, "price_changes", "subscriptions price", json!({ "from": from, "removed": true }))
            }
            TermsChange::Adjust { amount, name } => {
                let params = vec![row.id.into(), (*amount).into(), name.as_deref().into()];
                let detail = json!({ "amount": amount, "name": name });
                (&terms::ADD_ADJUSTMENT, params, "adjustments", "subscriptions adjust", detail)
            }
            TermsChange::RemoveAdjustment(id) => {
                let params = vec![row.id.into(), (*id).into()];
                let detail = json!({ "adjustment": id, "removed": true });
                (&terms::REMOVE_ADJUSTMENT, params, "adjustments", "subscriptions adjust", detail)
            }
        };
        if tx.query(statement, &params).await?.is_empty() {
            return Ok(false);
        }
        let (account, external_ref) = (row.account(), row.external_ref());
        journal(&mut tx, now, signed, action, &subject::subscription(account, external_ref), &detail).await?;
        let status = row.value(super::columns::STATUS);
        let data = json!({ "account": account, "external_ref": external_ref, "status": status, "changed": [table] });
        let event = Event::new(EventKind::SubscriptionChanged, &[account, external_ref, table, &now.to_string()], data);
        self.database.tell(&mut tx, now, &[Told { event: &event, subscription: Some(row.id), charge: None }]).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Subscriptions whose missed periods wait for an operator, by id, after the last one of the page before.
    pub async fn missed(&self, after: i64, limit: u32) -> Result<Vec<SubscriptionRow>, Fault> {
        let rows = self.database.read(&sql::MISSED_SUBSCRIPTIONS, &[after.into(), limit.into()]).await?;
        self.with_dated(&rows).await
    }

    /// Decides on missed periods, all in one transaction. Returns the ids of those that were as they had been read.
    pub async fn catch_up(
        &self,
        now: Timestamp,
        steps: &[(&SubscriptionRow, CatchUpStep)],
        signed: &Signed,
    ) -> Result<HashSet<i64>, Fault> {
        let mut tx = self.database.begin_write().await?;
        let changing = |step: &CatchUpStep| matches!(step, CatchUpStep::Skip(passed) if passed.changes_plan);
        let plans: Vec<i64> = steps.iter().filter(|(_, step)| changing(step)).map(|(row, _)| row.id).collect();
        if !plans.is_empty() {
            tx.query(&terms::LOCK_SUBSCRIPTIONS, &[plans.clone().into()]).await?;
        }
        let mut batch = tx.json_batch();
        for (row, step) in steps {
            let (after, until) = match step {
                CatchUpStep::Open { until } => (row.progress, Some(*until)),
                CatchUpStep::Skip(passed) => (passed.after, row.caught_up),
            };
            let Progress { opened_until, anchor, .. } = after;
            batch
                .row()
                .int("id", row.id)
                .int("version", row.version)
                .day("opened_until", opened_until)
                .day("anchor", anchor)
                .day("caught_up", until);
        }
        let written = tx.query(&terms::CATCH_UP, &[batch.param(), Timestamp::UNIX_EPOCH.into()]).await?;
        let done = written.iter().map(|row| row.int("subscription_id")).collect::<Result<HashSet<i64>, _>>()?;
        let plans: Vec<i64> = plans.into_iter().filter(|id| done.contains(id)).collect();
        if !plans.is_empty() {
            tx.execute(&terms::TAKE_PLANS, &[plans.into(), now.into()]).await?;
        }
        let mut deeds = Vec::new();
        for (row, step) in steps.iter().filter(|(row, _)| done.contains(&row.id)) {
            deeds.push(self.tell_catch_up(&mut tx, now, row, step).await?);
        }
        journal_all(&mut tx, now, signed, deeds).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// Tells receivers of a step. Returns what the journal says of it.
    async fn tell_catch_up(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        row: &SubscriptionRow,
        step: &CatchUpStep,
    ) -> Result<Deed<'static>, Fault> {
        let (account, external_ref) = (row.account(), row.external_ref());
        let (action, detail) = match step {
            CatchUpStep::Open { until } => ("catch-up open", json!({ "missed": row.missed, "until": until })),
            CatchUpStep::Skip(passed) => {
                let event = skipped(account, external_ref, passed);
                self.database.tell(tx, now, &[Told { event: &event, subscription: Some(row.id), charge: None }]).await?;
                ("catch-up skip", json!({ "periods": passed.count, "from": passed.first, "until": passed.until }))
            }
        };
        Ok(Deed { action, subject: subject::subscription(account, external_ref), detail })
    }
}
