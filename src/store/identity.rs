//! Which database this is, and where its accounts send.

use jiff::Timestamp;

use super::Database;
use super::db::Fault;
use super::open::OpenError;
use super::sql::accounts;
use crate::domain::attempt::Tag;
use crate::domain::charge::AccountId;
use crate::domain::place::is_live;
use crate::ports::store::StoreError;

/// What tells one database from its copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub tag: Tag,
    /// Random, made anew whenever an operator accepts a restored database.
    pub incarnation: String,
    /// The Postgres cluster that it was bound in.
    pub system_identifier: Option<String>,
    /// The Postgres cluster that it stands in now: another one is a restored or copied database, to be held.
    pub system_identifier_now: Option<String>,
    /// Grows with each committed batch of intents.
    pub high_water: i64,
}

impl Identity {
    /// Whether the database stands in another Postgres cluster than the one it was bound in.
    pub fn has_moved(&self) -> bool {
        self.system_identifier.is_some()
            && self.system_identifier_now.is_some()
            && self.system_identifier != self.system_identifier_now
    }
}

/// An account of the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountConfig {
    pub name: String,
    /// A hash of imp_key, tier and base URL.
    pub fingerprint: String,
    pub base_url: String,
    pub tier: Option<String>,
}

/// An account as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    pub id: AccountId,
    pub name: String,
    /// Where it sends until an operator confirms another one.
    pub endpoint: i64,
    /// Where the config says that it sends.
    pub configured: i64,
    /// The config points elsewhere than before: the account is held.
    pub fingerprint_changed: bool,
}

impl Database {
    /// Binds the database to a tag on first use, and verifies it later. `new_incarnation` is a fresh random text; it is used
    /// on first use only.
    pub async fn bind_identity(&self, tag: Tag, new_incarnation: &str, now: Timestamp) -> Result<Identity, OpenError> {
        let system = self.system_identifier().await?;
        let params = [tag.as_str().into(), new_incarnation.into(), system.into(), now.into()];
        self.db.write(&accounts::BIND_SETTINGS, &params).await?;
        let identity = self.identity().await?;
        if identity.tag != tag {
            return Err(OpenError::WrongTag { database: identity.tag.to_string(), config: tag.to_string() });
        }
        Ok(identity)
    }

    /// Which database this is. An error if it has not been bound yet.
    pub async fn identity(&self) -> Result<Identity, StoreError> {
        let rows = self.db.read(&accounts::SETTINGS, &[]).await?;
        let Some(row) = rows.first() else {
            return Err(StoreError::Corrupt("the database is not bound to a tag yet: start the daemon once".to_owned()));
        };
        Ok(Identity {
            tag: row.word("tag", |text| text.parse().ok())?,
            incarnation: row.text("incarnation")?,
            system_identifier: row.text_opt("system_identifier")?,
            system_identifier_now: self.system_identifier().await?,
            high_water: row.int("high_water")?,
        })
    }

    /// The tag that ids carry; read once.
    pub(super) async fn tag(&self) -> Result<Tag, Fault> {
        let read = || async {
            let rows = self.db.read(&accounts::SETTINGS, &[]).await?;
            let unbound = || Fault::Corrupt("the database is not bound to a tag yet: start the daemon once".to_owned());
            rows.first().ok_or_else(unbound)?.word("tag", |text| text.parse().ok())
        };
        self.tag.get_or_try_init(read).await.copied()
    }

    /// `None` where the server does not tell.
    async fn system_identifier(&self) -> Result<Option<String>, Fault> {
        match self.db.read(&accounts::SYSTEM_IDENTIFIER, &[]).await {
            Ok(rows) => rows.first().map_or(Ok(None), |row| row.text_opt("system_identifier")),
            // some hosted servers forbid the question
            Err(Fault::Corrupt(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// An operator has accepted this copy of the database: all accounts need a new audit before they send.
    pub async fn renew_incarnation(&self, new: &str) -> Result<(), StoreError> {
        let system = self.system_identifier().await?;
        self.db.write(&accounts::RENEW_INCARNATION, &[new.into(), system.into()]).await?;
        Ok(())
    }

    /// Brings the accounts of the config into the database. An account that now sends elsewhere is held, and keeps its old
    /// endpoint until [`Database::confirm_endpoint`].
    pub async fn sync_accounts(&self, configs: &[AccountConfig], now: Timestamp) -> Result<Vec<AccountRow>, StoreError> {
        let mut tx = self.db.begin().await?;
        let mut known = Vec::with_capacity(configs.len());
        for config in configs {
            tx.execute(&accounts::ADD_ACCOUNT, &[config.name.as_str().into(), is_live(&config.base_url).into()]).await?;
            let rows = tx.query(&accounts::LOCK_ACCOUNT, &[config.name.as_str().into()]).await?;
            let vanished = || Fault::Corrupt(format!("account {} is not there after it was added", config.name));
            let account = rows.first().ok_or_else(vanished)?;
            let id = account.int("id")?;
            let params = [
                id.into(),
                config.fingerprint.as_str().into(),
                config.base_url.as_str().into(),
                config.tier.as_deref().into(),
                now.into(),
            ];
            tx.execute(&accounts::ADD_ENDPOINT, &params).await?;
            let found = tx.query(&accounts::FIND_ENDPOINT, &[id.into(), config.fingerprint.as_str().into()]).await?;
            let configured = found.first().ok_or_else(vanished)?.int("id")?;
            let endpoint = match account.int_opt("endpoint_id")? {
                Some(endpoint) => endpoint,
                None => {
                    tx.execute(&accounts::USE_ENDPOINT, &[id.into(), configured.into()]).await?;
                    configured
                }
            };
            let fingerprint_changed = endpoint != configured;
            if !fingerprint_changed {
                tx.execute(&accounts::PLACE, &[id.into(), is_live(&config.base_url).into()]).await?;
            }
            if fingerprint_changed {
                let why = "its key, tier or base URL has changed: confirm it";
                tx.execute(&accounts::HOLD_ACCOUNT, &[id.into(), why.into(), now.into()]).await?;
            }
            known.push(AccountRow { id: AccountId(id), name: config.name.clone(), endpoint, configured, fingerprint_changed });
        }
        tx.commit().await?;
        Ok(known)
    }

    /// An operator has confirmed where an account sends from now on. The hold is released apart, and what was armed for a sandbox
    /// is not armed for a live place: `base_url` is that of the endpoint.
    pub async fn confirm_endpoint(&self, account: AccountId, endpoint: i64, base_url: &str) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        tx.execute(&accounts::PLACE, &[account.0.into(), is_live(base_url).into()]).await?;
        tx.execute(&accounts::USE_ENDPOINT, &[account.0.into(), endpoint.into()]).await?;
        Ok(tx.commit().await?)
    }

    /// The database looks restored or copied: no live account is charged from it before an operator has armed it again. Returns
    /// how many were armed.
    pub async fn disarm_all(&self) -> Result<u64, StoreError> {
        Ok(self.db.write(&accounts::DISARM_ALL, &[]).await?)
    }
}
