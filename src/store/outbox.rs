//! Events, and their way to the operator's own system: at least once, in order for each subscription and endpoint.

use jiff::Timestamp;

use super::Database;
use super::db::{Fault, Tx};
use super::sql::{outbox, writes};
use crate::domain::charge::{AccountId, ChargeId};
use crate::domain::decide::Incident;
use crate::domain::event::Event;
use crate::ports::store::{Delivered, Delivery, IncidentState};

/// An event with the rows that it tells of.
pub(super) struct Told<'a> {
    pub event: &'a Event,
    pub subscription: Option<i64>,
    pub charge: Option<i64>,
}

/// How often more deliveries are looked for when those found have to wait for older ones.
const LOOKS: usize = 8;

impl Database {
    /// Writes events with a delivery to each endpoint, in their order.
    pub(super) async fn tell(&self, tx: &mut Tx, now: Timestamp, told: &[Told<'_>]) -> Result<(), Fault> {
        if told.is_empty() {
            return Ok(());
        }
        let mut events = tx.batch();
        for Told { event, subscription, charge } in told {
            events
                .row()
                .text("id", event.id.as_str())
                .text("kind", event.kind.name())
                .int("subscription", *subscription)
                .int("charge", *charge)
                .json("data", &event.data);
        }
        if self.endpoints.is_empty() {
            tx.execute(&outbox::INSERT_EVENTS, &events.params([now.into()])).await?;
            return Ok(());
        }
        let written = tx.query(&outbox::INSERT_EVENTS_TO_DELIVER, &events.params([now.into()])).await?;
        let mut deliveries = tx.batch();
        for row in &written {
            let (seq, subscription) = (row.int("seq")?, row.int_opt("subscription_id")?.unwrap_or(0));
            for endpoint in self.endpoints.iter() {
                deliveries.row().int("seq", seq).text("endpoint", endpoint.as_str()).int("subscription", subscription);
            }
        }
        tx.execute(&outbox::INSERT_DELIVERIES, &deliveries.params([now.into()])).await?;
        Ok(())
    }

    /// Claims deliveries by moving their time. One that has to wait for an older one is moved to that one's time, so that it
    /// does not stand in the way of others.
    pub(super) async fn claim_deliveries(&self, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Delivery>, Fault> {
        let mut tx = self.db.begin().await?;
        let mut claimed = Vec::new();
        for _ in 0..LOOKS {
            let rows = tx.query(&outbox::DUE_DELIVERIES, &[now.into(), limit.into()]).await?;
            if rows.is_empty() {
                break;
            }
            let mut moved = tx.batch();
            for row in &rows {
                let older_at = row.at_opt("older_at")?;
                let id = row.int("id")?;
                let room = claimed.len() < usize::try_from(limit).unwrap_or(usize::MAX);
                if older_at.is_none() && !room {
                    continue;
                }
                moved.row().int("id", id).at("next_at", older_at.map_or(until, |older| older.max(until)));
                if older_at.is_none() {
                    claimed.push(Delivery {
                        id,
                        endpoint: row.text("endpoint")?,
                        event_id: row.text("event_id")?,
                        kind: row.text("kind")?,
                        at: row.at("at")?,
                        data: row.json("data")?,
                        tries: row.small("tries")?,
                    });
                }
            }
            if moved.is_empty() {
                break;
            }
            tx.execute(&outbox::MOVE_DELIVERIES, &moved.params([])).await?;
        }
        tx.commit().await?;
        Ok(claimed)
    }

    pub(super) async fn end_deliveries(&self, now: Timestamp, results: &[Delivered]) -> Result<(), Fault> {
        if results.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        let mut ends = tx.batch();
        let mut ended = Vec::new();
        for result in results {
            let state = match (&result.error, result.next_at) {
                (None, _) => "delivered",
                (Some(_), Some(_)) => "pending",
                (Some(_), None) => "failed",
            };
            if state != "pending" {
                ended.push(result.id);
            }
            let next_at = result.next_at.filter(|_| result.error.is_some());
            ends.row().int("id", result.id).text("state", state).at("next_at", next_at).text("error", result.error.as_deref());
        }
        tx.execute(&outbox::END_DELIVERIES, &ends.params([now.into()])).await?;
        if !ended.is_empty() {
            tx.execute(&outbox::PULL_FOLLOWERS, &[ended.into(), now.into()]).await?;
        }
        tx.commit().await
    }

    pub(super) async fn new_incident(
        &self,
        now: Timestamp,
        account: AccountId,
        charge: Option<ChargeId>,
        incident: &Incident,
        event: &Event,
    ) -> Result<IncidentState, Fault> {
        let mut tx = self.db.begin().await?;
        let params = [
            account.0.into(),
            charge.map(|charge| charge.0).into(),
            incident.kind.name().into(),
            incident.detail.as_str().into(),
            now.into(),
        ];
        let is_new = tx.execute(&outbox::OPEN_INCIDENT, &params).await? > 0;
        if is_new {
            let subscription = match charge {
                Some(charge) => tx.query(&writes::LOCK_CHARGES, &[vec![charge.0].into()]).await?,
                None => Vec::new(),
            };
            let subscription = subscription.first().map(|row| row.int("subscription_id")).transpose()?;
            self.tell(&mut tx, now, &[Told { event, subscription, charge: charge.map(|charge| charge.0) }]).await?;
        }
        tx.commit().await?;
        if is_new { Ok(IncidentState::New) } else { self.known_incident(account, incident).await }
    }

    pub(super) async fn known_incident(&self, account: AccountId, incident: &Incident) -> Result<IncidentState, Fault> {
        let params = [account.0.into(), incident.kind.name().into(), incident.detail.as_str().into()];
        Ok(match self.db.read(&outbox::KNOWN_INCIDENT, &params).await?.first() {
            None => IncidentState::New,
            Some(row) if row.at_opt("closed_at")?.is_some() => IncidentState::Closed,
            Some(_) => IncidentState::Open,
        })
    }

    pub(super) async fn mark_refunded(&self, now: Timestamp, charge: ChargeId, total: i64, event: &Event) -> Result<bool, Fault> {
        let mut tx = self.db.begin().await?;
        let marked = tx.query(&writes::REFUNDED, &[charge.0.into(), total.into()]).await?;
        let Some(row) = marked.first() else { return Ok(false) };
        let subscription = Some(row.int("subscription_id")?);
        self.tell(&mut tx, now, &[Told { event, subscription, charge: Some(charge.0) }]).await?;
        tx.commit().await?;
        Ok(true)
    }
}
