//! Kill switch, hold and pause, as operators see and set them.

use jiff::Timestamp;
use serde_json::json;

use super::{Desk, Signed, journal, sql, subject};
use crate::domain::fuse::FuseState;
use crate::domain::place::is_live;
use crate::store::codec::Param;
use crate::store::db::{Fault, Tx};

/// The whole database's brakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub tag: String,
    pub incarnation: String,
    pub high_water: i64,
    pub killed: bool,
    pub kill_reason: Option<String>,
    pub held: bool,
    pub hold_reason: Option<String>,
    pub held_at: Option<Timestamp>,
    /// Until when a jump of the database clock holds sends; may be past.
    pub unsteady_until: Option<Timestamp>,
}

/// An account's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountStatus {
    pub name: String,
    /// Where it sends; `None` until the daemon has seen it.
    pub base_url: Option<String>,
    pub killed: bool,
    pub kill_reason: Option<String>,
    pub held: bool,
    pub hold_reason: Option<String>,
    pub held_at: Option<Timestamp>,
    pub paused: bool,
    pub pause_reason: Option<String>,
    pub paused_at: Option<Timestamp>,
    /// How its fuse stands; `None`: whole.
    pub fuse: Option<FuseState>,
    pub fuse_why: Option<String>,
    pub fuse_at: Option<Timestamp>,
    /// Whether a complete audit has been made in this incarnation of the database.
    pub audited: bool,
    pub audited_at: Option<Timestamp>,
    pub audited_quick_at: Option<Timestamp>,
    /// Whether it sends anywhere but to this machine, as far as the database knows.
    pub live: bool,
    /// Whether it may charge from this incarnation of the database; a sandbox always may.
    pub armed: bool,
    pub armed_at: Option<Timestamp>,
}

/// What a brake is set on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    Database,
    Account(String),
}

impl Reach {
    fn subject(&self) -> String {
        match self {
            Self::Database => subject::DATABASE.to_owned(),
            Self::Account(name) => subject::account(name),
        }
    }
}

impl Desk<'_> {
    /// `None` if no daemon and no `migrate` has bound the database yet.
    pub async fn status(&self) -> Result<Option<Status>, Fault> {
        let rows = self.database.read(&sql::STATUS, &[]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Status {
            tag: row.text("tag")?,
            incarnation: row.text("incarnation")?,
            high_water: row.int("high_water")?,
            killed: row.flag("killed")?,
            kill_reason: row.text_opt("kill_reason")?,
            held: row.flag("held")?,
            hold_reason: row.text_opt("hold_reason")?,
            held_at: row.at_opt("held_at")?,
            unsteady_until: row.at_opt("unsteady_until")?,
        }))
    }

    pub async fn accounts(&self) -> Result<Vec<AccountStatus>, Fault> {
        let rows = self.database.read(&sql::ACCOUNTS, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(AccountStatus {
                    name: row.text("name")?,
                    base_url: row.text_opt("base_url")?,
                    killed: row.flag("killed")?,
                    kill_reason: row.text_opt("kill_reason")?,
                    held: row.flag("held")?,
                    hold_reason: row.text_opt("hold_reason")?,
                    held_at: row.at_opt("held_at")?,
                    paused: row.flag("paused")?,
                    pause_reason: row.text_opt("pause_reason")?,
                    paused_at: row.at_opt("paused_at")?,
                    fuse: crate::store::fuse::state_of(row)?,
                    fuse_why: row.text_opt("fuse_why")?,
                    fuse_at: row.at_opt("fuse_at")?,
                    audited: row.flag("audited")?,
                    audited_at: row.at_opt("audited_at")?,
                    audited_quick_at: row.at_opt("audited_quick_at")?,
                    live: row.flag("live")?,
                    armed: row.flag("armed")?,
                    armed_at: row.at_opt("armed_at")?,
                })
            })
            .collect()
    }

    /// Accounts of the config, each with its base URL, become known to the database, so that operators' own SQL may name them.
    pub async fn add_accounts(&self, accounts: &[(String, String)]) -> Result<(), Fault> {
        let mut tx = self.database.begin_write().await?;
        for (name, base_url) in accounts {
            tx.execute(&crate::store::sql::accounts::ADD_ACCOUNT, &[name.as_str().into(), is_live(base_url).into()]).await?;
        }
        tx.commit().await
    }

    /// Turns the kill switch. `false`: there is no such account, or the database is not bound yet.
    pub async fn kill(&self, now: Timestamp, reach: &Reach, on: bool, signed: &Signed) -> Result<bool, Fault> {
        let reason = if on { Some(signed.reason.as_str()) } else { None };
        let mut tx = self.database.begin_write().await?;
        let changed = match reach {
            Reach::Database => tx.execute(&sql::KILL, &[on.into(), reason.into()]).await?,
            Reach::Account(name) => tx.execute(&sql::KILL_ACCOUNT, &[on.into(), reason.into(), name.as_str().into()]).await?,
        };
        signed_off(tx, changed, now, signed, if on { "kill on" } else { "kill off" }, reach).await
    }

    /// Sets a hold. `false`: there is no such account, or the database is not bound yet.
    pub async fn set_hold(&self, now: Timestamp, reach: &Reach, signed: &Signed) -> Result<bool, Fault> {
        let mut tx = self.database.begin_write().await?;
        let mut params: Vec<Param> = vec![true.into(), signed.reason.as_str().into(), now.into()];
        let changed = match reach {
            Reach::Database => tx.execute(&sql::HOLD, &params).await?,
            Reach::Account(name) => {
                params.push(name.as_str().into());
                tx.execute(&sql::HOLD_ACCOUNT, &params).await?
            }
        };
        signed_off(tx, changed, now, signed, "hold set", reach).await
    }

    /// Lets a live account charge from this database. `false`: it is armed already, or the database takes it for no live account.
    pub async fn arm(&self, now: Timestamp, account: &str, base_url: &str, signed: &Signed) -> Result<bool, Fault> {
        let mut tx = self.database.begin_write().await?;
        let changed = tx.execute(&sql::ARM, &[account.into(), now.into()]).await?;
        if changed == 0 {
            return Ok(false);
        }
        journal(&mut tx, now, signed, "arm", &subject::account(account), &json!({ "base_url": base_url })).await?;
        tx.query(&sql::WAKE, &[]).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Ends the hold of the whole database that began then. `false`: it is another one by now, or none.
    pub async fn release_database(&self, now: Timestamp, held_at: Option<Timestamp>, signed: &Signed) -> Result<bool, Fault> {
        let mut tx = self.database.begin_write().await?;
        let changed = tx.execute(&sql::RELEASE_DATABASE, &[held_at.into()]).await?;
        signed_off(tx, changed, now, signed, "hold release", &Reach::Database).await
    }

    /// Ends a hold, and an account's pause. Whether it may be ended is for the caller to know (docs/protocol.md: audited, Q passed).
    pub async fn release_hold(&self, now: Timestamp, reach: &Reach, signed: &Signed) -> Result<bool, Fault> {
        let mut tx = self.database.begin_write().await?;
        let changed = match reach {
            Reach::Database => tx.execute(&sql::HOLD, &[false.into(), Param::Text(None), Param::At(None)]).await?,
            Reach::Account(name) => tx.execute(&sql::RELEASE_ACCOUNT, &[name.as_str().into()]).await?,
        };
        signed_off(tx, changed, now, signed, "hold release", reach).await
    }
}

/// Journals a change of a brake, commits it, and wakes the daemon.
async fn signed_off(
    mut tx: Tx,
    changed: u64,
    now: Timestamp,
    signed: &Signed,
    action: &str,
    reach: &Reach,
) -> Result<bool, Fault> {
    if changed == 0 {
        return Ok(false);
    }
    journal(&mut tx, now, signed, action, &reach.subject(), &json!({})).await?;
    tx.query(&sql::WAKE, &[]).await?;
    tx.commit().await?;
    Ok(true)
}
