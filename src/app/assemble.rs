//! From settings to an engine: the database bound and guarded, a client per account, the courier, the limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use rand::TryRng;
use rand::rngs::SysRng;
use tracing::{error, warn};

use super::errors::AppError;
use super::guard::{self, Start};
use super::kill_files::KillFiles;
use crate::config::{ConfigErrors, Loaded, Settings};
use crate::courier::{Endpoint, WebhookCourier, delay};
use crate::domain::attempt::{base32, digest};
use crate::domain::charge::{AccountId, IdMode};
use crate::domain::decide::Policy;
use crate::engine::{Account, Bounds, Engine, InForce, Parts, Tuning};
use crate::gateway::portone::{PortOne, PortOneConfig};
use crate::ports::clock::Clock;
use crate::ports::secret::Secret;
use crate::ports::wake::Wake;
use crate::store::identity::{AccountConfig, AccountRow};
use crate::store::{Database, OpenOptions};

/// Everything that a running daemon consists of.
pub struct Assembled {
    pub engine: Arc<Engine>,
    pub database: Arc<Database>,
    pub accounts: Vec<Arc<Account>>,
    /// Accounts whose config points elsewhere than before: held, and not asked.
    pub moved: Vec<AccountRow>,
    pub wake: Wake,
}

/// A random text of 130 bits, 26 letters and digits: claim tokens, incarnations, addresses that nobody can guess.
pub fn random() -> String {
    let mut bytes = [0; 17];
    SysRng.try_fill_bytes(&mut bytes).expect("the system's random numbers are always there");
    base32(&bytes, 26)
}

/// How the configured database is opened by a command. `create` makes a missing SQLite file.
///
/// # Errors
/// The file of the password cannot be read.
pub fn open_options(settings: &Settings, create: bool) -> Result<OpenOptions, ConfigErrors> {
    let database = &settings.database;
    let listen_url = settings.listen_url()?;
    Ok(OpenOptions {
        endpoints: settings.webhooks.iter().map(|webhook| webhook.name.clone()).collect(),
        create,
        max_connections: database.max_connections,
        pooled: database.pooled,
        listen_url,
        ..OpenOptions::default()
    })
}

/// Opens the configured database for the daemon, which never waits for long.
pub(super) async fn open(settings: &Settings, create: bool) -> Result<Arc<Database>, AppError> {
    let options = OpenOptions { answer_within: settings.database.answer_timeout, ..open_options(settings, create)? };
    Ok(Arc::new(Database::open(&settings.database_url()?, options).await?))
}

/// Tells one place to send to from another: docs/protocol.md wants a hash of imp_key, tier and base URL.
pub(super) fn fingerprint(imp_key: &str, tier: Option<&str>, base_url: &str) -> String {
    base32(&digest(&["endpoint/1", imp_key, tier.unwrap_or_default(), base_url]), 26)
}

/// Puts the engine together on an opened, migrated database. `guarded` raises the high-water mark's file: the daemon does,
/// an operator's command does not (it never sends). `adjust` has the last word on how the engine works.
pub async fn assemble(
    loaded: &Loaded,
    database: Arc<Database>,
    clock: Arc<dyn Clock>,
    guarded: bool,
    adjust: impl FnOnce(&mut Tuning),
) -> Result<Assembled, AppError> {
    let settings = &loaded.settings;
    let secrets = loaded.secrets()?;
    let now = clock.now();
    let identity = database.bind_identity(settings.tag, &random(), now).await?;
    let Start { mark, audit_first } = guard::check(settings, &database, &identity, now, guarded).await?;
    let configured: Vec<AccountConfig> = settings
        .accounts
        .values()
        .filter_map(|account| {
            let keys = secrets.accounts.get(&account.name)?;
            let fingerprint = fingerprint(keys.imp_key.reveal(), account.tier.as_deref(), &account.base_url);
            let (name, base_url, tier) = (account.name.clone(), account.base_url.clone(), account.tier.clone());
            Some(AccountConfig { name, fingerprint, base_url, tier })
        })
        .collect();
    let rows = database.sync_accounts(&configured, now).await?;
    if guarded {
        // the config may have been put right: a schedule that is parked for it is looked at by nobody else
        database.retry_problems(now).await?;
    }
    let mode = |row: &AccountRow| settings.accounts.get(&row.name).map(|account| (row.id, account.id_mode));
    let id_modes: BTreeMap<AccountId, IdMode> = rows.iter().filter_map(mode).collect();
    let (mut accounts, mut moved) = (Vec::new(), Vec::new());
    for row in rows {
        if row.fingerprint_changed {
            // its open sends can only be resolved where they were made: nothing is asked and nothing is sent
            error!(account = %row.name, "imp_key, tier or base_url of this account have changed: it is held until `rebilld hold release --account` confirms it");
            moved.push(row);
            continue;
        }
        accounts.push(account(settings, &secrets, &row, Arc::clone(&clock))?);
    }
    if accounts.is_empty() {
        warn!("no account may be charged for: see `rebilld hold status`");
    }
    let plans = database.plan_rows().await?;
    let mut tuning = tuning(settings)?;
    // on SQLite more would only queue up at the one writer
    tuning.recorders = if database.is_postgres() { 2 } else { 1 };
    adjust(&mut tuning);
    let courier = WebhookCourier::new(endpoints(settings, &secrets), Arc::clone(&clock))?;
    let wake = Wake::default();
    let engine = Engine::new(Parts {
        store: Arc::clone(&database) as _,
        clock,
        courier: Arc::new(courier),
        watermark: mark,
        switch: Arc::new(KillFiles::new(&settings.kill_file)),
        accounts: accounts.iter().map(copy).collect(),
        catalog: settings.with_rows(&plans.rows).catalog(),
        id_modes,
        tuning,
        wake: wake.clone(),
        audit_first,
        tokens: Box::new(random),
        delivery_delay: delay,
    });
    Ok(Assembled { engine, database, accounts: accounts.into_iter().map(Arc::new).collect(), moved, wake })
}

fn copy(account: &Account) -> Account {
    Account {
        name: account.name.clone(),
        gateway: Arc::clone(&account.gateway),
        budget_zone: account.budget_zone.clone(),
        fuse: account.fuse.clone(),
        ..*account
    }
}

/// An account's client, which has asked nothing yet.
pub(super) fn client(
    settings: &Settings,
    config: &crate::config::Account,
    keys: &crate::config::AccountKeys,
    clock: Arc<dyn Clock>,
) -> Result<PortOne, AppError> {
    let mut portone = PortOneConfig::new(
        &config.name,
        &config.base_url,
        Secret::new(keys.imp_key.reveal()),
        Secret::new(keys.imp_secret.reveal()),
    );
    portone.tier = config.tier.clone();
    portone.include_sandbox = config.include_sandbox;
    portone.declines = Arc::clone(&settings.declines);
    PortOne::new(portone, clock).map_err(|why| AppError::Account { account: config.name.clone(), why })
}

fn account(
    settings: &Settings,
    secrets: &crate::config::Secrets,
    row: &AccountRow,
    clock: Arc<dyn Clock>,
) -> Result<Account, AppError> {
    let config = settings.accounts.get(&row.name).ok_or_else(|| AppError::NoAccount(row.name.clone()))?;
    let keys = secrets.accounts.get(&row.name).ok_or_else(|| AppError::NoAccount(row.name.clone()))?;
    let gateway = client(settings, config, keys, clock)?;
    Ok(Account {
        id: row.id,
        name: row.name.clone(),
        endpoint: row.endpoint,
        gateway: Arc::new(gateway),
        rate: Some(config.rate).filter(|rate| *rate > 0),
        in_flight: config.in_flight as usize,
        budget_count: config.budget_count,
        budget_sum: config.budget_sum,
        budget_zone: config.timezone.clone(),
        fuse: config.fuse.clone(),
    })
}

pub(super) fn endpoints(settings: &Settings, secrets: &crate::config::Secrets) -> Vec<Endpoint> {
    settings
        .webhooks
        .iter()
        .filter_map(|webhook| {
            let secret = Secret::new(secrets.webhooks.get(&webhook.name)?.reveal());
            let (name, url) = (webhook.name.clone(), webhook.url.clone());
            Some(Endpoint { name, url, secret, allow_private: webhook.allow_private, timeout: webhook.timeout })
        })
        .collect()
}

/// What of the settings, with the plans of the database among them, may change while the engine works. `accounts`: by name, as the database knows them.
pub(super) fn in_force(settings: &Settings, accounts: &[(String, AccountId)], version: Option<i64>) -> Result<InForce, AppError> {
    let configured = |(name, id): &(String, AccountId)| Some((*id, settings.accounts.get(name)?));
    let bounds = |account: &crate::config::Account| Bounds {
        rate: Some(account.rate).filter(|rate| *rate > 0),
        budget_count: account.budget_count,
        budget_sum: account.budget_sum,
        budget_zone: account.timezone.clone(),
        fuse: account.fuse.clone(),
    };
    Ok(InForce {
        version,
        plans: None,
        catalog: settings.catalog(),
        id_modes: accounts.iter().filter_map(configured).map(|(id, account)| (id, account.id_mode)).collect(),
        bounds: accounts.iter().filter_map(configured).map(|(id, account)| (id, bounds(account))).collect(),
        tuning: tuning(settings)?,
    })
}

fn tuning(settings: &Settings) -> Result<Tuning, AppError> {
    let worker = &settings.worker;
    let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    let mut tuning = Tuning::new(settings.tag);
    tuning.batch = worker.batch;
    tuning.flights = worker.flights as usize;
    tuning.interval = worker.interval;
    tuning.windows = settings.windows.clone();
    tuning.open_ahead = signed(worker.open_ahead);
    tuning.policy = Policy::new(signed(worker.quiet)).ok_or(AppError::Quiet)?;
    tuning.policy.dunning = settings.dunnings();
    tuning.policy.declines = Arc::clone(&settings.declines);
    Ok(tuning)
}
