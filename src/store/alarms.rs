//! What alarms are judged by, what was told, and who looks.

use jiff::{SignedDuration, Timestamp};

use super::Database;
use super::codec::Row;
use super::db::Fault;
use super::sql::alarms as sql;
use crate::domain::alarm::{
    AccountFacts, AlarmKey, AlarmKind, Condition, DOUBT_OLD, Facts, MOST_INCIDENTS, OpenIncident, Standing, Step, Turn,
    Unresolved, Waiting,
};
use crate::domain::decide::IncidentKind;

/// Rows of daemons that were not seen for so long say nothing of now.
const GONE_AFTER: SignedDuration = SignedDuration::from_mins(3);

/// Between the names of channels in a row, and around them.
const BAR: char = '|';

/// Which daemon looks, and until when it said so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watch {
    pub holder: Option<String>,
    pub until: Option<Timestamp>,
}

impl Database {
    /// What stops sends, and who looks after alarms.
    pub async fn stops(&self, now: Timestamp) -> Result<(Watch, Facts), Fault> {
        let rows = self.db.read(&sql::STOPS, &[before(now, GONE_AFTER).into()]).await?;
        let (mut watch, mut facts) = (Watch::default(), Facts::default());
        for row in &rows {
            watch = Watch { holder: row.text_opt("holder")?, until: row.at_opt("until")? };
            facts.killed = why(row, "all_killed", "all_kill_reason")?;
            facts.held = since(why(row, "all_held", "all_hold_reason")?, row.at_opt("all_held_at")?);
            facts.unsteady_until = row.at_opt("unsteady_until")?;
            facts.daemons = row.text_opt("daemons")?.unwrap_or_default().lines().map(str::to_owned).collect();
            if row.text_opt("name")?.is_some() {
                facts.accounts.push(account(row)?);
            }
        }
        Ok((watch, facts))
    }

    /// Takes the right to look and tell until then, or keeps it. Returns whether it is this daemon's.
    pub async fn take_watch(&self, instance: &str, until: Timestamp, now: Timestamp) -> Result<bool, Fault> {
        Ok(self.db.write(&sql::TAKE_WATCH, &[instance.into(), until.into(), now.into()]).await? > 0)
    }

    /// Another daemon may look at once.
    pub async fn leave_watch(&self, instance: &str) -> Result<(), Fault> {
        self.db.write(&sql::LEAVE_WATCH, &[instance.into()]).await.map(drop)
    }

    /// Adds to `facts` what the rest of the database says.
    pub async fn troubles(&self, now: Timestamp, facts: &mut Facts) -> Result<(), Fault> {
        let most = i64::try_from(MOST_INCIDENTS).unwrap_or(i64::MAX).saturating_add(1);
        for row in &self.db.read(&sql::INCIDENTS, &[most.into()]).await? {
            facts.incidents.push(OpenIncident {
                id: row.int("id")?,
                kind: row.word("kind", IncidentKind::from_name)?,
                account: row.text("account")?,
                detail: row.text("detail")?,
                opened_at: row.at("opened_at")?,
                charge: row.int_opt("charge")?.map(|charge| waiting(row, charge)).transpose()?,
            });
        }
        let old = before(now, DOUBT_OLD);
        for row in &self.db.read(&sql::UNRESOLVED, &[old.into()]).await? {
            for (review, charges, state) in [(true, row.int("reviews")?, "review"), (false, row.int("doubts")?, "doubt")] {
                if charges > 0 {
                    let oldest = self.db.read(&sql::OLDEST, &[row.int("id")?.into(), state.into()]).await?;
                    facts.unresolved.push(Unresolved {
                        account: row.text("name")?,
                        review,
                        charges,
                        oldest_at: oldest.first().map_or(Ok(None), |row| row.at_opt("doubt_since"))?,
                        oldest: oldest.iter().map(|row| waiting(row, row.int("id")?)).collect::<Result<_, Fault>>()?,
                    });
                }
            }
        }
        Ok(())
    }

    /// Alarms that last, and those whose last word some channel has not taken yet.
    pub async fn standing_alarms(&self) -> Result<Vec<Standing>, Fault> {
        let rows = self.db.read(&sql::STANDING, &[]).await?;
        known(&rows)
    }

    /// Alarms that last and those that are over, the newest word first.
    pub async fn told_alarms(&self, limit: u32) -> Result<Vec<Standing>, Fault> {
        let rows = self.db.read(&sql::TOLD, &[limit.into()]).await?;
        known(&rows)
    }

    /// Writes down what is about to be said, and which channels are to hear it. `false`: another process was faster, and says it.
    pub async fn say(&self, step: &Step, now: Timestamp, owed: &[&str]) -> Result<bool, Fault> {
        let Condition { key, what, concerns, next_step, .. } = &step.condition;
        let owed = owed.iter().fold(BAR.to_string(), |text, name| format!("{text}{name}{BAR}"));
        let (kind, account, subject) = (key.kind.name(), key.account.as_str(), key.subject.as_str());
        let concerns = concerns.to_string();
        let told =
            [kind.into(), account.into(), subject.into(), what.as_str().into(), next_step.as_str().into(), concerns.into()];
        let written = match step.seen {
            None => {
                let raised = [step.since.into(), now.into(), owed.into()];
                self.db.write(&sql::RAISE, &[told.as_slice(), &raised].concat()).await?
            }
            Some(seen) => {
                let said = [step.turn.name().into(), now.into(), owed.into(), seen.into()];
                self.db.write(&sql::SAY, &[told.as_slice(), &said].concat()).await?
            }
        };
        Ok(written > 0)
    }

    /// A channel has taken what was told then, or it was given up.
    pub async fn alarm_taken(&self, key: &AlarmKey, told_at: Timestamp, channel: &str) -> Result<(), Fault> {
        let name = format!("{BAR}{channel}{BAR}");
        let params =
            [key.kind.name().into(), key.account.as_str().into(), key.subject.as_str().into(), told_at.into(), name.into()];
        self.db.write(&sql::TAKEN, &params).await.map(drop)
    }
}

fn before(now: Timestamp, ago: SignedDuration) -> Timestamp {
    now.checked_sub(ago).unwrap_or(Timestamp::MIN)
}

fn why(row: &Row, flag: &str, reason: &str) -> Result<Option<String>, Fault> {
    Ok(if row.flag(flag)? { Some(row.text_opt(reason)?.unwrap_or_default()) } else { None })
}

fn since(why: Option<String>, at: Option<Timestamp>) -> Option<(String, Option<Timestamp>)> {
    why.map(|why| (why, at))
}

fn account(row: &Row) -> Result<AccountFacts, Fault> {
    let fuse = super::fuse::state_of(row)?;
    let differences = |summary: &serde_json::Value| summary["incidents"].as_i64().unwrap_or(0);
    let (audited_at, summary) = (row.at_opt("audited_quick_at")?, row.json_opt("audit_summary")?);
    Ok(AccountFacts {
        name: row.text("name")?,
        killed: why(row, "killed", "kill_reason")?,
        held: since(why(row, "held", "hold_reason")?, row.at_opt("held_at")?),
        paused: since(why(row, "paused", "pause_reason")?, row.at_opt("paused_at")?),
        fuse: match fuse {
            Some(state) => Some((state, row.text_opt("fuse_why")?.unwrap_or_default(), row.at_opt("fuse_at")?)),
            None => None,
        },
        audited: audited_at.zip(summary.as_ref().map(differences)),
    })
}

fn waiting(row: &Row, charge: i64) -> Result<Waiting, Fault> {
    Ok(Waiting { charge, amount: row.int("amount")?, currency: row.text("currency")? })
}

/// A row of a newer release, of a kind that this one does not know, is that one's business.
fn known(rows: &[Row]) -> Result<Vec<Standing>, Fault> {
    let mut standing = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(kind) = AlarmKind::from_name(&row.text("kind")?) else { continue };
        let since = row.at("since")?;
        let condition = Condition {
            key: AlarmKey { kind, account: row.text("account")?, subject: row.text("subject")? },
            what: row.text("what")?,
            since: Some(since),
            concerns: row.json("concerns")?,
            next_step: row.text("next_step")?,
        };
        let owed = row.text("owed")?.split(BAR).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        standing.push(Standing { condition, since, told_at: row.at("told_at")?, turn: row.word("turn", Turn::from_name)?, owed });
    }
    Ok(standing)
}
