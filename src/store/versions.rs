//! Configs: those that were in force, what operators approved, and what each running daemon goes by.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Database;
use super::codec::{Param, Row};
use super::db::Fault;
use super::desk::{Signed, journal};
use super::sql::versions as sql;

/// A daemon that was not seen for so long is gone.
const GONE_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// One that was not seen for so long is not counted on.
const RUNS: SignedDuration = SignedDuration::from_mins(3);

/// A config that was in force, with the plans of the database.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredVersion {
    pub id: i64,
    /// Of the config alone, as its file gives it.
    pub hash: String,
    /// What matters for money, without secrets.
    pub body: Value,
    /// The plans of the database, as [`super::PlanRows`] has them.
    pub plans: BTreeMap<String, Value>,
    pub loaded_at: Timestamp,
    pub who: String,
}

/// An operator's word that a config may be taken, whatever its effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    pub id: i64,
    pub hash: String,
    /// What was in force when its effect was looked at: it counts for a change from there only.
    pub base: Option<String>,
    pub at: Timestamp,
}

/// A config that a daemon did not take because of what it would do to money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unconfirmed {
    /// `None` if that daemon has refused another one since.
    pub why: Option<String>,
    pub at: Timestamp,
}

/// A running daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonRow {
    pub instance: String,
    pub version: i64,
    pub hash: String,
    pub taken_at: Timestamp,
    pub seen_at: Timestamp,
    /// It ended as it should.
    pub stopped_at: Option<Timestamp>,
    /// `None` for a file that could not be read as a config.
    pub refused_hash: Option<String>,
    pub refused_why: Option<String>,
    pub refused_at: Option<Timestamp>,
    /// What stops this daemon alone, for people: a line each.
    pub stopped_by: Option<String>,
}

impl DaemonRow {
    /// Whether it is at work, as far as the database knows.
    pub fn runs(&self, now: Timestamp) -> bool {
        self.stopped_at.is_none() && now.duration_since(self.seen_at) < RUNS
    }
}

impl Database {
    /// The number of a config; it gets one when it is first loaded.
    pub async fn remember_config(&self, hash: &str, body: &Value, now: Timestamp, who: &str) -> Result<i64, Fault> {
        self.remember_version((hash, hash), (body, &BTreeMap::new()), now, who).await
    }

    /// The number of a config together with the plans of the database. `hash`: of both.
    pub async fn remember_version(
        &self,
        (hash, config_hash): (&str, &str),
        (body, plans): (&Value, &BTreeMap<String, Value>),
        now: Timestamp,
        who: &str,
    ) -> Result<i64, Fault> {
        if let Some(known) = self.config_of(hash).await? {
            return Ok(known.id);
        }
        let config_hash = Some(config_hash).filter(|config_hash| *config_hash != hash);
        let plans = (!plans.is_empty()).then(|| json!(plans).to_string());
        let params =
            [hash.into(), config_hash.into(), Param::Text(Some(body.to_string())), Param::Text(plans), now.into(), who.into()];
        self.db.write(&sql::REMEMBER, &params).await?;
        let written = self.config_of(hash).await?;
        written.map(|version| version.id).ok_or_else(|| Fault::Corrupt("a config was not stored".to_owned()))
    }

    async fn config_of(&self, hash: &str) -> Result<Option<StoredVersion>, Fault> {
        self.one_config(&sql::VERSION_OF, &[hash.into()]).await
    }

    pub async fn config_version(&self, id: i64) -> Result<Option<StoredVersion>, Fault> {
        self.one_config(&sql::VERSION, &[id.into()]).await
    }

    /// What the daemon that was seen last goes by; `None` if none has ever run.
    pub async fn config_in_force(&self) -> Result<Option<StoredVersion>, Fault> {
        self.one_config(&sql::IN_FORCE, &[]).await
    }

    /// The config that all schedules were last brought in line with.
    pub async fn settled_config(&self) -> Result<Option<StoredVersion>, Fault> {
        self.one_config(&sql::LAST_SETTLED, &[]).await
    }

    async fn one_config(&self, statement: &super::Statement, params: &[Param]) -> Result<Option<StoredVersion>, Fault> {
        self.db.read(statement, params).await?.first().map(stored).transpose()
    }

    /// A daemon goes by a config from now on. Its schedules are not yet in line with it.
    pub async fn config_taken(&self, instance: &str, version: i64, now: Timestamp) -> Result<(), Fault> {
        let mut tx = self.db.begin().await?;
        tx.execute(&sql::BEGIN_SETTLING, &[version.into()]).await?;
        tx.execute(&sql::TAKEN, &[instance.into(), version.into(), now.into()]).await?;
        let long_ago = now.checked_sub(GONE_AFTER).unwrap_or(Timestamp::MIN);
        tx.execute(&sql::FORGET_DAEMONS, &[long_ago.into()]).await?;
        tx.commit().await
    }

    pub async fn config_settled(&self, version: i64, now: Timestamp) -> Result<(), Fault> {
        self.db.write(&sql::SETTLED, &[version.into(), now.into()]).await.map(drop)
    }

    /// `unconfirmed`: because of what it would do to money, so that an operator's word is asked for, by a start too.
    pub async fn config_refused(
        &self,
        instance: &str,
        hash: Option<&str>,
        (why, unconfirmed): (&str, bool),
        now: Timestamp,
    ) -> Result<(), Fault> {
        let params = [instance.into(), hash.into(), why.into(), now.into(), hash.filter(|_| unconfirmed).into()];
        self.db.write(&sql::REFUSED, &params).await.map(drop)
    }

    /// Whether a config stands as refused by any daemon because of what it would do to money.
    pub async fn unconfirmed(&self, hash: &str) -> Result<Option<Unconfirmed>, Fault> {
        let rows = self.db.read(&sql::UNCONFIRMED, &[hash.into()]).await?;
        rows.first().map(|row| Ok(Unconfirmed { why: row.text_opt("why")?, at: row.at("refused_at")? })).transpose()
    }

    pub async fn daemon_seen(&self, instance: &str, now: Timestamp) -> Result<(), Fault> {
        self.db.write(&sql::SEEN, &[instance.into(), now.into()]).await.map(drop)
    }

    /// A daemon ends as it should.
    pub async fn daemon_stopped(&self, instance: &str, now: Timestamp) -> Result<(), Fault> {
        self.db.write(&sql::STOPPED, &[instance.into(), now.into()]).await.map(drop)
    }

    /// What stops a daemon alone; `None`: nothing does.
    pub async fn daemon_stopped_by(&self, instance: &str, what: Option<&str>) -> Result<(), Fault> {
        self.db.write(&sql::STOPPED_BY, &[instance.into(), what.into()]).await.map(drop)
    }

    pub async fn daemons(&self) -> Result<Vec<DaemonRow>, Fault> {
        let rows = self.db.read(&sql::DAEMONS, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(DaemonRow {
                    instance: row.text("instance")?,
                    version: row.int("version_id")?,
                    hash: row.text("hash")?,
                    taken_at: row.at("taken_at")?,
                    seen_at: row.at("seen_at")?,
                    stopped_at: row.at_opt("stopped_at")?,
                    refused_hash: row.text_opt("refused_hash")?,
                    refused_why: row.text_opt("refused_why")?,
                    refused_at: row.at_opt("refused_at")?,
                    stopped_by: row.text_opt("stopped_by")?,
                })
            })
            .collect()
    }

    /// An operator approves a change from `base` to a config, with a journal entry.
    pub async fn approve_config(
        &self,
        now: Timestamp,
        signed: &Signed,
        (hash, base): (&str, Option<&str>),
        effect: &Value,
    ) -> Result<(), Fault> {
        let mut tx = self.db.begin().await?;
        let params = [hash.into(), base.into(), now.into(), signed.who.as_str().into(), signed.reason.as_str().into()];
        tx.execute(&sql::APPROVE, &params).await?;
        let detail = json!({ "hash": hash, "base": base, "effect": effect });
        journal(&mut tx, now, signed, "config apply", "config", &detail).await?;
        tx.commit().await
    }

    pub async fn last_approval(&self) -> Result<Option<Approval>, Fault> {
        let rows = self.db.read(&sql::LAST_APPROVAL, &[]).await?;
        let approval = |row: &Row| {
            let (id, hash, base) = (row.int("id")?, row.text("hash")?, row.text_opt("base")?);
            Ok(Approval { id, hash, base, at: row.at("approved_at")? })
        };
        rows.first().map(approval).transpose()
    }

    /// Lets schedules be looked at now instead of later, or instead of never if they have ended: their next period may have moved.
    pub async fn look_again(&self, subscriptions: Vec<i64>, now: Timestamp) -> Result<u64, Fault> {
        if subscriptions.is_empty() {
            return Ok(0);
        }
        self.db.write(&sql::LOOK_AGAIN, &[subscriptions.into(), now.into()]).await
    }
}

fn stored(row: &Row) -> Result<StoredVersion, Fault> {
    Ok(StoredVersion {
        id: row.int("id")?,
        hash: row.text("hash")?,
        body: row.json("body")?,
        plans: match row.json_opt("plans")? {
            Some(Value::Object(plans)) => plans.into_iter().collect(),
            _ => BTreeMap::new(),
        },
        loaded_at: row.at("loaded_at")?,
        who: row.text("who")?,
    })
}
