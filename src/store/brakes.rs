//! What stops sends, and what audits allow.

use jiff::Timestamp;
use serde_json::json;

use super::Database;
use super::codec::Row;
use super::db::{Fault, Tx};
use super::outbox::Told;
use super::sql::accounts;
use crate::domain::charge::AccountId;
use crate::domain::event::{Event, EventKind};
use crate::ports::store::{AccountBrakes, AuditResult, Brakes, SeenEntry};

/// What cannot be a seal is told by `rebilld journal verify`, and is nothing to remember.
fn seen_entry(row: &Row) -> Result<Option<SeenEntry>, Fault> {
    let (Some(id), Some(seal)) = (row.int_opt("entry")?, row.text_opt("seal")?) else { return Ok(None) };
    let Ok(seal) = seal.parse() else { return Ok(None) };
    Ok(Some(SeenEntry::of(id, seal, &row.text("done")?, &row.text("done_to")?, row.at("done_at")?)))
}

pub(super) fn brakes_of(rows: &[Row]) -> Result<Brakes, Fault> {
    let mut brakes = Brakes::default();
    for row in rows {
        brakes.killed = row.flag("all_killed")?;
        brakes.held = row.flag("all_held")?;
        if let Some(account) = row.int_opt("id")? {
            let of_account = AccountBrakes {
                killed: row.flag("killed")?,
                held: row.flag("held")?,
                paused: row.flag("paused")?,
                audited: row.flag_opt("audited")? == Some(true),
                armed: row.flag_opt("armed")? == Some(true),
                endpoint: row.int_opt("endpoint_id")?,
                fuse: super::fuse::state_of(row)?,
            };
            brakes.accounts.insert(AccountId(account), of_account);
        }
    }
    Ok(brakes)
}

impl Database {
    pub(super) async fn read_brakes(&self) -> Result<Brakes, Fault> {
        let rows = self.db.read(&accounts::BRAKES, &[]).await?;
        if rows.is_empty() {
            return Err(Fault::Corrupt("the database is not bound to a tag yet: start the daemon once".to_owned()));
        }
        let high_water = rows.first().map_or(Ok(0), |row| row.int("high_water"))?;
        let newest_entry = rows.first().map_or(Ok(None), seen_entry)?;
        Ok(Brakes { high_water, newest_entry, ..brakes_of(&rows)? })
    }

    pub(super) async fn pause(&self, account: AccountId, now: Timestamp, why: &str) -> Result<(), Fault> {
        let mut tx = self.db.begin().await?;
        self.pause_in(&mut tx, account, now, why).await?;
        tx.commit().await
    }

    /// An account that is paused already stays so, with its first reason.
    pub(super) async fn pause_in(&self, tx: &mut Tx, account: AccountId, now: Timestamp, why: &str) -> Result<(), Fault> {
        let paused = tx.query(&accounts::PAUSE_ACCOUNT, &[account.0.into(), why.into(), now.into()]).await?;
        if let Some(row) = paused.first() {
            let name = row.text("name")?;
            let data = json!({ "account": name, "reason": why });
            let event = Event::new(EventKind::AccountPaused, &[&name, &now.to_string()], data);
            self.tell(tx, now, &[Told { event: &event, subscription: None, charge: None }]).await?;
        }
        Ok(())
    }

    pub(super) async fn hold_all(&self, now: Timestamp, why: &str) -> Result<bool, Fault> {
        Ok(self.db.write(&accounts::HOLD, &[why.into(), now.into()]).await? > 0)
    }

    pub(super) async fn held_for_clock(&self) -> Result<Option<Timestamp>, Fault> {
        let rows = self.db.read(&accounts::UNSTEADY_UNTIL, &[]).await?;
        rows.first().map_or(Ok(None), |row| row.at_opt("unsteady_until"))
    }

    pub(super) async fn write_clock_hold(&self, until: Timestamp) -> Result<(), Fault> {
        self.db.write(&accounts::HOLD_FOR_CLOCK, &[until.into()]).await.map(drop)
    }

    pub(super) async fn write_audit(&self, result: &AuditResult) -> Result<(), Fault> {
        let params = [
            result.account.0.into(),
            result.at.into(),
            result.complete.into(),
            (result.complete && result.clean).into(),
            result.summary.to_string().into(),
        ];
        self.db.write(&accounts::AUDITED, &params).await.map(drop)
    }

    pub(super) async fn read_audits(&self, account: AccountId) -> Result<(Option<Timestamp>, Option<Timestamp>), Fault> {
        let rows = self.db.read(&accounts::LAST_AUDITS, &[account.0.into()]).await?;
        match rows.first() {
            Some(row) => Ok((row.at_opt("audited_quick_at")?, row.at_opt("audited_at")?)),
            None => Ok((None, None)),
        }
    }
}
