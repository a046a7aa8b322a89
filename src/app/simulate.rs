//! `rebilld simulate`: a copy of the operator's own book, under the operator's own config, over months of simulated time.
//!
//! It cannot reach a real gateway: the one function here that makes a client takes a running [`Sandbox`], and takes address and
//! keys from it. Neither the accounts' addresses nor their credentials are read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::assemble::in_force;
use super::errors::AppError;
use crate::config::Settings;
use crate::domain::attempt::digest;
use crate::domain::charge::{AccountId, ChargeState};
use crate::domain::forecast::Sum;
use crate::domain::fuse::Fuse;
use crate::engine::{Account, Engine, Parts, worker};
use crate::gateway::portone::{PortOne, PortOneConfig};
use crate::gateway::sandbox::{Sandbox, SandboxOptions};
use crate::ports::clock::Clock;
use crate::ports::courier::{Courier, Handover};
use crate::ports::secret::Secret;
use crate::ports::store::Delivery;
use crate::ports::wake::Wake;
use crate::ports::watermark::Watermark;
use crate::store::identity::AccountConfig;
use crate::store::{Database, OpenOptions};
use crate::time::SimulatedClock;

/// The keys of the sandbox's one account.
const KEYS: (&str, &str) = ("sandbox-key", "sandbox-secret");
/// Charges that are added up together.
const PAGE: u32 = 10_000;
/// Of ten thousand cards: how many of each kind for each percent of first tries that is to be declined. A flaky card declines
/// three tries in ten, so it takes 200 of them for 60 declines; with 30 and 10 that always decline it makes 100.
const CARDS: [(&str, u32); 3] = [("flaky", 200), ("insufficient", 30), ("expired", 10)];

/// What to simulate.
#[derive(Debug, Clone)]
pub struct SimulateOptions {
    pub until: Timestamp,
    /// Percent of first tries that are declined, 0 to 40.
    pub declines: u32,
    /// Which cards are the bad ones.
    pub seed: u64,
}

/// One calendar month of due charges, of one currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Month {
    pub due: Sum,
    /// Paid at the first try.
    pub charged: Sum,
    /// Declined at least once.
    pub declined: Sum,
    /// Of them, paid in the end.
    pub recovered: Sum,
    pub unpaid: Sum,
    /// Not decided at the end of the run.
    pub open: Sum,
}

/// How it went.
#[derive(Debug, Clone, Default)]
pub struct Simulated {
    pub subscriptions: u64,
    /// By `YYYY-MM` of the due date and currency.
    pub months: BTreeMap<(String, String), Month>,
    pub total: BTreeMap<String, Month>,
}

/// What a progress display shows.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Copied(u64, u64),
    /// Seconds of simulated time, of so many.
    Lived(u64, u64),
}

/// Which card a subscription has: the same for the same seed.
fn card(seed: u64, declines: u32, subscription: i64) -> String {
    let hash = digest(&["simulate/1", &seed.to_string(), &subscription.to_string()]);
    let mut place = (u32::from(hash[0]) << 16 | u32::from(hash[1]) << 8 | u32::from(hash[2])) % 10_000;
    for (kind, for_each) in CARDS {
        let share = for_each * declines;
        if place < share {
            return format!("{kind}-{subscription}");
        }
        place -= share;
    }
    format!("good-{subscription}")
}

/// The only client that a simulation can make: one of the sandbox.
fn client(sandbox: &Sandbox, account: &str, clock: &Arc<SimulatedClock>) -> Result<PortOne, AppError> {
    let (key, secret) = KEYS;
    let mut config = PortOneConfig::new(account, sandbox.url(), Secret::new(key), Secret::new(secret));
    config.include_sandbox = true;
    PortOne::new(config, Arc::clone(clock) as _).map_err(|why| AppError::Account { account: account.to_owned(), why })
}

/// Nobody is told of what never happened.
struct Nobody;

#[async_trait]
impl Courier for Nobody {
    async fn deliver(&self, _delivery: &Delivery) -> Handover {
        Handover::Accepted
    }
}

/// The file is thrown away: there is nothing to tell it from.
struct NoMark;

#[async_trait]
impl Watermark for NoMark {
    async fn raise(&self, _mark: i64) -> std::io::Result<()> {
        Ok(())
    }
}

/// Copies the book of `source` into `directory` and runs it from `now` on.
pub async fn simulate(
    source: &Database,
    settings: &Settings,
    directory: &Path,
    now: Timestamp,
    options: &SimulateOptions,
    mut progress: impl FnMut(Step),
) -> Result<Simulated, AppError> {
    let url = format!("sqlite:{}", directory.join("simulation.db").display());
    let open = OpenOptions { create: true, ..OpenOptions::default() };
    let copy = Arc::new(Database::open(&url, open).await?);
    copy.migrate().await?;
    copy.bind_identity(settings.tag, "simulation", now).await?;
    let names = source.desk().accounts().await?.into_iter().map(|account| account.name);
    let names: Vec<String> = names.collect();
    let clock = Arc::new(SimulatedClock::new(now));
    let sandbox = Sandbox::start(SandboxOptions::new(Arc::clone(&clock) as _))
        .await
        .map_err(|why| AppError::Internal(format!("the sandbox gateway cannot listen on loopback: {why}")))?;
    let configured = |name: &String| AccountConfig {
        name: name.clone(),
        fingerprint: "simulation".to_owned(),
        base_url: sandbox.url(),
        tier: None,
    };
    let configs: Vec<AccountConfig> = names.iter().map(configured).collect();
    let rows = copy.sync_accounts(&configs, now).await?;
    let ids: Vec<(String, AccountId)> = rows.iter().map(|row| (row.name.clone(), row.id)).collect();
    let subscriptions = source
        .copy_book(&copy, |id| card(options.seed, options.declines, id), |done, of| progress(Step::Copied(done, of)))
        .await?;
    let settings = &settings.with_rows(&source.plan_rows().await?.rows);
    let mut in_force = in_force(settings, &ids, None)?;
    let tuning = &mut in_force.tuning;
    // under a simulated clock every look costs a turn, and there is nobody to be punctual for
    tuning.interval = std::time::Duration::from_secs(24 * 3600);
    tuning.lead = SignedDuration::ZERO;
    tuning.clock_check = None;
    // the first audit, of an empty ledger, lets the accounts send
    tuning.audit_quick_every = SignedDuration::from_hours(24 * 366 * 20);
    tuning.audit_complete_every = tuning.audit_quick_every;
    let mut accounts = Vec::new();
    for row in &rows {
        // an account that the config does not have is not charged for
        let Some(account) = settings.accounts.get(&row.name) else { continue };
        accounts.push(Account {
            id: row.id,
            name: row.name.clone(),
            endpoint: row.endpoint,
            gateway: Arc::new(client(&sandbox, &row.name, &clock)?),
            rate: None,
            in_flight: 32,
            budget_count: account.budget_count,
            budget_sum: account.budget_sum,
            budget_zone: account.timezone.clone(),
            // a look ahead is stopped by nobody
            fuse: Fuse::NONE,
        });
    }
    // a rate would be waited for in simulated time, one charge after the other
    in_force.bounds.clear();
    copy.retry_problems(now).await?;
    let engine = Engine::new(Parts {
        store: Arc::clone(&copy) as _,
        clock: Arc::clone(&clock) as _,
        courier: Arc::new(Nobody),
        watermark: Arc::new(NoMark),
        accounts,
        catalog: in_force.catalog.clone(),
        id_modes: in_force.id_modes.clone(),
        tuning: in_force.tuning.clone(),
        wake: Wake::default(),
        audit_first: false,
        tokens: Box::new(super::assemble::random),
        delivery_delay: |_, _| None,
    });
    clock.set_horizon(options.until);
    let running = tokio::spawn(worker::run(Arc::clone(&engine)));
    watch(&clock, (now, options.until), &mut progress).await;
    engine.stop();
    running.await.map_err(|why| AppError::Internal(format!("the simulated worker crashed: {why}")))?;
    let zone = settings.accounts.values().next().map_or(TimeZone::UTC, |account| account.timezone.clone());
    let mut report = tally(&copy, &zone).await?;
    report.subscriptions = subscriptions;
    copy.close().await;
    sandbox.stop().await;
    Ok(report)
}

/// Tells how far the simulated time has come, until it is over.
async fn watch(clock: &SimulatedClock, (from, until): (Timestamp, Timestamp), progress: &mut impl FnMut(Step)) {
    let seconds = |at: Timestamp| u64::try_from(at.duration_since(from).as_secs()).unwrap_or(0);
    let mut over = std::pin::pin!(clock.horizon_reached());
    loop {
        let is_over = tokio::select! {
            () = &mut over => true,
            () = tokio::time::sleep(std::time::Duration::from_millis(100)) => false,
        };
        progress(Step::Lived(seconds(clock.now()), seconds(until)));
        if is_over {
            return;
        }
    }
}

async fn tally(copy: &Database, zone: &TimeZone) -> Result<Simulated, AppError> {
    let mut report = Simulated::default();
    let mut after = 0;
    loop {
        let rows = copy.results(after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(report) };
        after = last.id;
        for row in &rows {
            let month = row.due_at.to_zoned(zone.clone()).strftime("%Y-%m").to_string();
            let total = report.total.entry(row.currency.clone()).or_default();
            for month in [report.months.entry((month, row.currency.clone())).or_default(), total] {
                month.due.add(row.amount);
                if row.tries > 0 {
                    month.declined.add(row.amount);
                }
                match row.state {
                    ChargeState::Paid if row.tries > 0 => month.recovered.add(row.amount),
                    ChargeState::Paid => month.charged.add(row.amount),
                    ChargeState::Unpaid | ChargeState::Void => month.unpaid.add(row.amount),
                    ChargeState::Due | ChargeState::Doubt | ChargeState::Review => month.open.add(row.amount),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_first_tries_are_declined_as_was_asked_for() {
        assert!((0..5_000).all(|id| card(1, 0, id).starts_with("good-")));
        let of_ten_thousand = |declines: u32| {
            let kinds = (0..100_000).map(|id| card(7, declines, id));
            kinds.fold(0_u32, |sum, card| {
                sum + match card.split('-').next() {
                    Some("flaky") => 3,
                    Some("good") => 0,
                    _ => 10,
                }
            }) / 100
        };
        for declines in [1, 7, 40] {
            let (got, wanted) = (of_ten_thousand(declines), declines * 100);
            assert!(got.abs_diff(wanted) < 60, "{declines} %: {got} of 10,000");
        }
    }
}
