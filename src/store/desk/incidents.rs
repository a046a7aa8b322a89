//! Incidents: what must not happen, for a person to look at and to close.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::json;

use super::chain::stored;
use super::story::IncidentRow;
use super::{Desk, Signed, journal, sql, subject};
use crate::domain::journal::Stored;
use crate::store::codec::Row;
use crate::store::db::Fault;

/// An incident with what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incidence {
    pub account: String,
    pub incident: IncidentRow,
    /// Its charge; `None`: the payment belongs to no charge of this database.
    pub charge: Option<i64>,
    pub external_ref: Option<String>,
    pub period_start: Option<Date>,
}

/// Which incidents to list.
#[derive(Debug, Clone, Default)]
pub struct IncidentFilter {
    pub account: Option<String>,
    pub kind: Option<String>,
    /// Closed ones too.
    pub all: bool,
    pub limit: u32,
}

/// What became of a request to close an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closing {
    Closed(Incidence),
    /// Somebody has closed it before.
    Already(Timestamp),
    NoSuch,
}

impl Incidence {
    fn of(row: &Row) -> Result<Self, Fault> {
        Ok(Self {
            account: row.text("account")?,
            incident: IncidentRow::of(row)?,
            charge: row.int_opt("charge_id")?,
            external_ref: row.text_opt("external_ref")?,
            period_start: row.day_opt("period_start")?,
        })
    }
}

impl Desk<'_> {
    /// The newest first.
    pub async fn incidents(&self, filter: &IncidentFilter) -> Result<Vec<Incidence>, Fault> {
        let params = [
            filter.account.as_deref().into(),
            filter.kind.as_deref().into(),
            i64::from(filter.all).into(),
            0i64.into(),
            filter.limit.into(),
        ];
        let rows = self.database.read(&sql::INCIDENT_LIST, &params).await?;
        rows.iter().map(Incidence::of).collect()
    }

    pub async fn incident(&self, id: i64) -> Result<Option<Incidence>, Fault> {
        let params = [None::<&str>.into(), None::<&str>.into(), 1i64.into(), id.into(), 1i64.into()];
        let rows = self.database.read(&sql::INCIDENT_LIST, &params).await?;
        rows.first().map(Incidence::of).transpose()
    }

    /// What operators said of an incident.
    pub async fn incident_journal(&self, id: i64) -> Result<Vec<Stored>, Fault> {
        let rows = self.database.read(&sql::JOURNAL_OF, &[vec![subject::incident(id)].into()]).await?;
        rows.iter().map(stored).collect()
    }

    /// From now on audits know it.
    pub async fn close_incident(&self, now: Timestamp, id: i64, signed: &Signed) -> Result<Closing, Fault> {
        let Some(found) = self.incident(id).await? else { return Ok(Closing::NoSuch) };
        let mut tx = self.database.begin_write().await?;
        if tx.execute(&sql::CLOSE_INCIDENT, &[id.into(), now.into()]).await? == 0 {
            return Ok(Closing::Already(found.incident.closed_at.unwrap_or(now)));
        }
        let detail = json!({
            "account": found.account, "kind": found.incident.kind, "detail": found.incident.detail, "charge": found.charge,
        });
        journal(&mut tx, now, signed, "incidents close", &subject::incident(id), &detail).await?;
        tx.commit().await?;
        Ok(Closing::Closed(found))
    }
}
