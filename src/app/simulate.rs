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
use crate::domain::charge::{AccountId, ChargeState};
use crate::domain::forecast::Sum;
use crate::domain::fuse::Fuse;
use crate::engine::{Account, Engine, Parts, worker};
use crate::gateway::portone::{PortOne, PortOneConfig};
use crate::gateway::sandbox::{Sandbox, SandboxOptions};
use crate::ports::clock::Clock;
use crate::ports::courier::{Courier, Handover};
use crate::ports::secret::Secret;
use crate::ports::store::{Delivery, SeenSend};
use crate::ports::wake::Wake;
use crate::ports::watermark::Watermark;
use crate::store::identity::AccountConfig;
use crate::store::{Database, OpenOptions, ResultRow};
use crate::time::SimulatedClock;

/// The keys of the sandbox's one account.
const KEYS: (&str, &str) = ("sandbox-key", "sandbox-secret");
/// Charges that are added up together.
const PAGE: u32 = 10_000;
/// Days after the first decline by which recovered charges are counted; the rest comes later.
pub const DAYS: [i64; 5] = [1, 3, 5, 7, 14];

/// What to simulate.
#[derive(Debug, Clone)]
pub struct SimulateOptions {
    pub until: Timestamp,
    /// Percent of first tries that are declined, 0 to 40.
    pub declines: u32,
    /// Which charges are the bad ones.
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
    /// By the name of the `[dunning.NAME]` that its plan names, or `default`.
    pub ladders: BTreeMap<String, Recovery>,
}

/// What one ladder brought back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Charges that were declined, or whose billing key was refused.
    pub declined: u64,
    pub recovered: u64,
    pub unpaid: u64,
    /// Not decided at the end of the run.
    pub open: u64,
    /// How many were paid at which try; the declined one was the first.
    pub by_try: BTreeMap<u8, u64>,
    /// How many were paid by each of [`DAYS`] after the first decline, and later.
    pub by_day: [u64; DAYS.len() + 1],
}

impl Recovery {
    /// Tenths of a percent of those that are decided; `None`: none is.
    pub fn rate(&self) -> Option<u64> {
        let decided = self.recovered + self.unpaid;
        (decided > 0).then(|| (self.recovered * 2000 + decided) / (decided * 2))
    }

    fn count(&mut self, row: &ResultRow, first_declined_at: Timestamp) {
        self.declined += 1;
        match row.state {
            ChargeState::Paid => {
                self.recovered += 1;
                *self.by_try.entry(row.tries.saturating_add(1)).or_default() += 1;
                let after = row.paid_at.unwrap_or(first_declined_at).duration_since(first_declined_at);
                // a try on the third day may start some hours into it
                let within = |days: &i64| after < SignedDuration::from_hours((days + 1) * 24);
                self.by_day[DAYS.iter().position(within).unwrap_or(DAYS.len())] += 1;
            }
            ChargeState::Unpaid | ChargeState::Void => self.unpaid += 1,
            ChargeState::Due | ChargeState::Doubt | ChargeState::Review => self.open += 1,
        }
    }
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
    format!("mixed-{declines}-{seed}-{subscription}")
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
    async fn raise(&self, _mark: i64, _newest: SeenSend) -> std::io::Result<()> {
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
        switch: Arc::new(crate::ports::switch::NoSwitch),
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
    let mut report = tally(&copy, settings, &zone).await?;
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

async fn tally(copy: &Database, settings: &Settings, zone: &TimeZone) -> Result<Simulated, AppError> {
    let mut report = Simulated::default();
    let mut after = 0;
    loop {
        let rows = copy.results(after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(report) };
        after = last.id;
        for row in &rows {
            if let Some(at) = row.first_declined_at {
                let ladder = settings.plans.get(&row.plan).and_then(|plan| plan.dunning.clone());
                report.ladders.entry(ladder.unwrap_or_else(|| "default".to_owned())).or_default().count(row, at);
            }
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
    fn what_a_ladder_recovers_is_counted_by_try_and_by_day() {
        let at = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let row = |state, tries, paid: Option<i64>| ResultRow {
            id: 1,
            due_at: at(0),
            amount: 9_900,
            currency: "KRW".to_owned(),
            plan: "monthly".to_owned(),
            state,
            tries,
            paid_at: paid.map(at),
            first_declined_at: Some(at(0)),
        };
        let mut recovery = Recovery::default();
        assert_eq!(recovery.rate(), None);
        for row in [
            row(ChargeState::Paid, 1, Some(24)),
            row(ChargeState::Paid, 2, Some(75)),
            row(ChargeState::Paid, 4, Some(400)),
            row(ChargeState::Unpaid, 5, None),
            row(ChargeState::Due, 1, None),
        ] {
            recovery.count(&row, at(0));
        }
        assert_eq!((recovery.declined, recovery.recovered, recovery.unpaid, recovery.open), (5, 3, 1, 1));
        assert_eq!((recovery.rate(), recovery.by_day), (Some(750), [1, 1, 0, 0, 0, 1]));
        assert_eq!(recovery.by_try.into_iter().collect::<Vec<_>>(), [(2, 1), (3, 1), (5, 1)]);
    }
}
