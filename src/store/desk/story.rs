//! Everything that is known of one charge.

use jiff::Timestamp;
use serde_json::Value;

use super::chain::stored;
use super::charges::ChargeRow;
use super::{Desk, sql, subject};
use crate::domain::journal::Entry;
use crate::store::codec::Row;
use crate::store::db::Fault;

/// A charge with its whole history, each part in its own order.
#[derive(Debug, Clone, PartialEq)]
pub struct Story {
    pub charge: ChargeRow,
    pub attempts: Vec<AttemptRow>,
    pub sends: Vec<SendRow>,
    pub observations: Vec<ObservationRow>,
    pub events: Vec<StoryEvent>,
    pub incidents: Vec<IncidentRow>,
    /// What operators did to it and to its subscription.
    pub journal: Vec<Entry>,
    /// The subscription's neighbouring charges, newest first.
    pub neighbours: Vec<ChargeRow>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    pub id: i64,
    pub number: i64,
    pub id_number: u8,
    pub customer_uid: String,
    pub state: String,
    pub hint: Option<String>,
    pub resends: i64,
    pub imp_uid: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendRow {
    pub id: i64,
    pub attempt: i64,
    pub state: String,
    pub begun_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub body_hash: String,
    pub base_url: Option<String>,
    pub tier: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ObservationRow {
    pub id: i64,
    pub send: Option<i64>,
    pub source: String,
    pub began_at: Timestamp,
    pub at: Timestamp,
    pub detail: Value,
    /// The rule that decided on it, if one did.
    pub rule: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct StoryEvent {
    pub seq: i64,
    pub id: String,
    pub kind: String,
    pub at: Timestamp,
    pub data: Value,
    pub deliveries: Vec<DeliveryRow>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    pub event: i64,
    pub endpoint: String,
    pub state: String,
    pub tries: i64,
    pub next_at: Timestamp,
    pub last_error: Option<String>,
    pub delivered_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentRow {
    pub id: i64,
    pub kind: String,
    pub detail: String,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
}

impl IncidentRow {
    pub(super) fn of(row: &Row) -> Result<Self, Fault> {
        Ok(Self {
            id: row.int("id")?,
            kind: row.text("kind")?,
            detail: row.text("detail")?,
            opened_at: row.at("opened_at")?,
            closed_at: row.at_opt("closed_at")?,
        })
    }
}

impl Desk<'_> {
    /// Reads a charge's history.
    pub async fn story(&self, charge: ChargeRow) -> Result<Story, Fault> {
        let of_charge = [charge.id.into()];
        let rows = self.database.read(&sql::ATTEMPTS, &of_charge).await?;
        let attempts = rows.iter().map(|row| {
            Ok(AttemptRow {
                id: row.int("id")?,
                number: row.int("number")?,
                id_number: row.small("id_number")?,
                customer_uid: row.text("customer_uid")?,
                state: row.text("state")?,
                hint: row.text_opt("hint")?,
                resends: row.int("resends")?,
                imp_uid: row.text_opt("imp_uid")?,
            })
        });
        let attempts = attempts.collect::<Result<Vec<_>, Fault>>()?;
        let rows = self.database.read(&sql::SENDS, &of_charge).await?;
        let sends = rows.iter().map(|row| {
            Ok(SendRow {
                id: row.int("id")?,
                attempt: row.int("attempt_id")?,
                state: row.text("state")?,
                begun_at: row.at("begun_at")?,
                ended_at: row.at_opt("ended_at")?,
                body_hash: row.text("body_hash")?,
                base_url: row.text_opt("base_url")?,
                tier: row.text_opt("tier")?,
            })
        });
        let sends = sends.collect::<Result<Vec<_>, Fault>>()?;
        let rows = self.database.read(&sql::OBSERVATIONS, &of_charge).await?;
        let observations = rows.iter().map(|row| {
            Ok(ObservationRow {
                id: row.int("id")?,
                send: row.int_opt("send_id")?,
                source: row.text("source")?,
                began_at: row.at("began_at")?,
                at: row.at("at")?,
                detail: row.json("detail")?,
                rule: row.text_opt("rule")?,
            })
        });
        let observations = observations.collect::<Result<Vec<_>, Fault>>()?;
        let rows = self.database.read(&sql::INCIDENTS, &of_charge).await?;
        let incidents = rows.iter().map(IncidentRow::of).collect::<Result<Vec<_>, Fault>>()?;
        let events = self.story_events(charge.id).await?;
        let mut subjects = vec![subject::charge(charge.id), subject::subscription(&charge.account, &charge.external_ref)];
        subjects.extend(incidents.iter().map(|incident| subject::incident(incident.id)));
        let rows = self.database.read(&sql::JOURNAL_OF, &[subjects.into()]).await?;
        let journal = rows.iter().map(|row| Ok(stored(row)?.entry)).collect::<Result<Vec<_>, Fault>>()?;
        let near = [
            None::<&str>.into(),
            None::<&str>.into(),
            (charge.period_start.checked_sub(jiff::Span::new().days(400)).ok()).into(),
            None::<jiff::civil::Date>.into(),
            6i64.into(),
            vec![charge.subscription].into(),
        ];
        let rows = self.database.read(&sql::CHARGES_OF, &near).await?;
        let neighbours = rows.iter().map(ChargeRow::of).collect::<Result<Vec<_>, _>>()?;
        Ok(Story { charge, attempts, sends, observations, events, incidents, journal, neighbours })
    }

    async fn story_events(&self, charge: i64) -> Result<Vec<StoryEvent>, Fault> {
        let rows = self.database.read(&sql::STORY_EVENTS, &[charge.into()]).await?;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            events.push(StoryEvent {
                seq: row.int("seq")?,
                id: row.text("id")?,
                kind: row.text("kind")?,
                at: row.at("at")?,
                data: row.json("data")?,
                deliveries: Vec::new(),
            });
        }
        let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
        for row in self.database.read(&sql::DELIVERIES, &[seqs.into()]).await? {
            let delivery = DeliveryRow {
                event: row.int("event_seq")?,
                endpoint: row.text("endpoint")?,
                state: row.text("state")?,
                tries: row.int("tries")?,
                next_at: row.at("next_at")?,
                last_error: row.text_opt("last_error")?,
                delivered_at: row.at_opt("delivered_at")?,
            };
            if let Some(event) = events.iter_mut().find(|event| event.seq == delivery.event) {
                event.deliveries.push(delivery);
            }
        }
        Ok(events)
    }
}
