//! A changed config is taken while the daemon works: as a whole or not at all.
//!
//! SIGHUP, an operator's approval in the database (`rebilld config apply`) and, if the config asks for it, a changed file only
//! say "read it again". Whatever does not pass leaves the old one in force, and the daemon's row in `config_daemons` says why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::Signal;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, info, warn};

use super::assemble::{Assembled, in_force};
use super::errors::AppError;
use super::notify::Supervisor;
use super::{ahead, chores};
use crate::config::{DatabasePlans, Loaded, Settings, Sources, USUAL_FILES, Version, load, revive};
use crate::domain::attempt::{base32, digest};
use crate::domain::charge::AccountId;
use crate::domain::money::{Currency, Money};
use crate::domain::plan::Catalog;
use crate::engine::change::{DAYS, Effect};
use crate::engine::{Engine, InForce};
use crate::ports::wake::Wake;
use crate::store::db::Fault;
use crate::store::{Database, PlanRows};
use crate::time::cron::{Ring, Ticks};

/// How often the database is asked for an operator's approval.
const LOOK_FOR_APPROVALS: Duration = Duration::from_secs(3);
/// How often the daemon says that it is there.
const SAY_SO: u32 = 15;

/// Why a config is not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("{0}")]
    Wrong(String),
    #[error("{} cannot change while the daemon runs: restart it, or put {} back", .0.join(", "), if .0.len() == 1 { "it" } else { "them" })]
    NeedsRestart(Vec<String>),
    #[error("{0}. Look at it with `rebilld config plan`, then `rebilld config apply --confirm {1}`")]
    TooMuch(String, String),
    #[error(
        "an operator approved the config {approved}, and the files of this daemon hold {ours}: it is taken once they hold the same"
    )]
    AnotherFile { approved: String, ours: String },
    #[error(transparent)]
    App(#[from] AppError),
}

impl From<Fault> for NotTaken {
    fn from(fault: Fault) -> Self {
        Self::App(fault.into())
    }
}

/// Holds the config that is in force in this process.
pub(super) struct Reloader {
    sources: Sources,
    running: Loaded,
    /// The plans of the database as they are in force.
    plans: PlanRows,
    /// Of the config alone.
    hash: String,
    engine: Arc<Engine>,
    database: Arc<Database>,
    wake: Wake,
    supervisor: Arc<Supervisor>,
    accounts: Vec<(String, AccountId)>,
    instance: String,
    ticks: Ticks,
    /// A digest of the files when they were last looked at.
    seen: Option<String>,
    /// The newest approval that has been dealt with.
    approval: i64,
    /// The newest approval that the config was read again for.
    tried: i64,
}

impl Reloader {
    /// Takes the config that the daemon starts with.
    pub async fn begin(
        loaded: Loaded,
        sources: Sources,
        (assembled, supervisor): (&Assembled, &Arc<Supervisor>),
    ) -> Result<Self, AppError> {
        let Assembled { engine, database, accounts, moved, wake } = assembled;
        let all = accounts.iter().map(|account| (account.name.clone(), account.id));
        let all = all.chain(moved.iter().map(|account| (account.name.clone(), account.id))).collect();
        let plans = database.plan_rows().await?;
        told(&BTreeMap::new(), &loaded.check_plans(&plans.rows)?);
        let ticks = start_ticks(&loaded, engine, wake, database).await?;
        let mut reloader = Self {
            plans,
            seen: None,
            tried: 0,
            hash: String::new(),
            approval: database.last_approval().await?.map_or(0, |approval| approval.id),
            engine: Arc::clone(engine),
            database: Arc::clone(database),
            wake: wake.clone(),
            supervisor: Arc::clone(supervisor),
            accounts: all,
            instance: instance(),
            ticks,
            running: loaded,
            sources,
        };
        reloader.seen = reloader.files();
        let version = reloader.running.version();
        reloader.put_in_force(&version, "start").await?;
        Ok(reloader)
    }

    /// Runs until it is dropped.
    pub async fn run(mut self, mut hangup: Signal) {
        self.settle().await;
        let mut approvals = tokio::time::interval(LOOK_FOR_APPROVALS);
        approvals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds: u32 = 0;
        let plans = self.engine.plans_changed.clone();
        // outlives the other branches: a wait that each of them began anew would never end
        let mut looked = Instant::now();
        loop {
            let watch = self.running.settings.reload.watch;
            let every = self.running.settings.reload.every;
            tokio::select! {
                _ = hangup.recv() => {
                    info!("SIGHUP: the config is read again");
                    self.supervisor.reloading();
                    self.seen = self.files();
                    self.attempt("SIGHUP").await;
                    self.supervisor.reloaded();
                }
                () = tokio::time::sleep_until(looked + every), if watch => {
                    looked = Instant::now();
                    self.look_at_files("watch").await;
                }
                () = plans.heard() => self.look_at_plans().await,
                _ = approvals.tick() => {
                    rounds = rounds.wrapping_add(1);
                    let net = rounds.is_multiple_of(SAY_SO);
                    if net {
                        // changed plans ring; this is for a ring that got lost
                        self.look_at_plans().await;
                    }
                    self.look_for_approvals(net).await;
                }
            }
        }
    }

    /// Reads the config again if the bytes of its files differ from those that were last looked at.
    async fn look_at_files(&mut self, who: &str) {
        let now = self.files();
        if now != self.seen {
            self.seen = now;
            self.attempt(who).await;
        }
    }

    /// A digest of all files; a file that is not there counts as empty. Links are followed at each look, so that a link that
    /// points elsewhere is another file.
    fn files(&self) -> Option<String> {
        let usual = || USUAL_FILES.iter().map(std::path::PathBuf::from).find(|path| path.is_file()).into_iter().collect();
        let files: Vec<std::path::PathBuf> = if self.sources.files.is_empty() { usual() } else { self.sources.files.clone() };
        let texts: Vec<String> = files
            .iter()
            .map(|path| {
                std::fs::read(path).map_or_else(|why| why.to_string(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        Some(base32(&digest(&texts), 26))
    }

    async fn look_for_approvals(&mut self, say_so: bool) {
        let looked = async {
            if say_so {
                self.database.daemon_seen(&self.instance, self.now()).await?;
            }
            self.database.last_approval().await
        };
        match looked.await {
            Ok(Some(approval)) if approval.id > self.approval => {
                if approval.hash == self.hash {
                    self.approval = approval.id;
                } else if approval.id > self.tried {
                    self.tried = approval.id;
                    self.seen = self.files();
                    self.attempt("apply").await;
                } else {
                    // the approved file may be on its way: it is taken as soon as it is here
                    self.look_at_files("apply").await;
                }
            }
            Ok(_) => {}
            Err(why) => warn!(%why, "approvals of configs cannot be read for now"),
        }
    }

    /// Takes the plans of the database if they have changed. Costs one row if they have not.
    async fn look_at_plans(&mut self) {
        let looked = async {
            if self.database.plans_version().await? == self.plans.version {
                return Ok(None);
            }
            self.database.plan_rows().await.map(Some)
        };
        let taken = match looked.await {
            Ok(None) => return,
            Ok(Some(rows)) => self.take_plans(rows).await,
            Err(why) => Err(why.into()),
        };
        if let Err(why) = taken {
            warn!(%why, "the plans of the database cannot be taken for now: no period opens, under any plan, until they can");
        }
    }

    async fn take_plans(&mut self, rows: PlanRows) -> Result<(), AppError> {
        let before = std::mem::replace(&mut self.plans, rows);
        let version = self.running.version();
        if let Err(why) = self.put_in_force(&version, "plans").await {
            self.plans = before;
            return Err(why);
        }
        let settings = &self.running.settings;
        let (old, new) = (settings.database_plans(&before.rows), settings.database_plans(&self.plans.rows));
        told(&old.wrong, &new);
        info!(plans = new.plans.len(), version = self.plans.version, "the plans of the database are in force");
        self.settle().await;
        Ok(())
    }

    /// The settings that are in force, with the plans of the database among them.
    fn settings(&self, of: &Loaded) -> Settings {
        of.settings.with_rows(&self.plans.rows)
    }

    /// Reads the config, and takes it or says why not.
    async fn attempt(&mut self, who: &str) {
        self.look_at_plans().await;
        let (hash, taken) = match load(&self.sources) {
            Err(errors) => (None, Err(NotTaken::Wrong(errors.to_string()))),
            Ok(loaded) => (Some(loaded.version().hash), self.consider(loaded, who).await),
        };
        self.supervisor.refused(taken.is_err());
        if let Err(why) = taken {
            self.refuse(hash.as_deref(), &why).await;
        }
    }

    async fn consider(&mut self, loaded: Loaded, who: &str) -> Result<(), NotTaken> {
        loaded.runnable().map_err(|errors| NotTaken::Wrong(errors.to_string()))?;
        loaded.check_plans(&self.plans.rows).map_err(|errors| NotTaken::Wrong(errors.to_string()))?;
        let version = loaded.version();
        let fixed = loaded.needs_restart(&self.running);
        if !fixed.is_empty() {
            return Err(NotTaken::NeedsRestart(fixed));
        }
        let approval = self.database.last_approval().await?.filter(|approval| approval.id > self.approval);
        if version.hash == self.hash {
            if let Some(approval) = approval.filter(|approval| approval.hash != self.hash) {
                let ours = Version::short(&self.hash).to_owned();
                return Err(NotTaken::AnotherFile { approved: Version::short(&approval.hash).to_owned(), ours });
            }
            info!(config = Version::short(&version.hash), "the config is the one that is in force");
            // what was refused before is not there any more
            let known = self.remember(&version, who).await?;
            self.database.config_taken(&self.instance, known, self.now()).await?;
            self.database.config_settled(known, self.now()).await?;
            return Ok(());
        }
        let from_here = |base: &Option<String>| base.as_deref().is_none_or(|base| base == self.hash);
        let approved = approval.is_some_and(|approval| approval.hash == version.hash && from_here(&approval.base));
        let (old, new) = (ahead::in_force(&self.settings(&self.running))?, ahead::in_force(&self.settings(&loaded))?);
        if !approved && !same_schedules(&old, &new) {
            let effect = ahead::effect(&self.database, (&old, &new), self.now(), |_, _| {}).await?;
            let bound = &self.running.settings.reload;
            if effect.exceeds(bound.max_change_count, bound.max_change_sum) {
                return Err(NotTaken::TooMuch(too_much(&effect), Version::short(&version.hash).to_owned()));
            }
        }
        let ticks = |settings: &Settings| (settings.jobs.clone(), settings.retention.clone());
        let ticks = match ticks(&loaded.settings) != ticks(&self.running.settings) {
            true => Some(start_ticks(&loaded, &self.engine, &self.wake, &self.database).await?),
            false => None,
        };
        let before = std::mem::replace(&mut self.running, loaded);
        let taken = self.put_in_force(&version, who).await;
        if taken.is_err() {
            // or the next swap, of plans, would bring in a config that everybody was told is not in force
            self.running = before;
        }
        // the new ones ring from now on, or never: both at once do no harm
        let over = ticks.map(|ticks| if taken.is_ok() { std::mem::replace(&mut self.ticks, ticks) } else { ticks });
        if let Some(ticks) = over {
            ticks.stop().await;
        }
        taken?;
        self.settle().await;
        Ok(())
    }

    /// The number of a config together with the plans of the database.
    async fn remember(&self, version: &Version, who: &str) -> Result<i64, Fault> {
        let hash = version.hash_with(&self.plans.rows);
        let parts = (&version.body, &self.plans.rows);
        self.database.remember_version((&hash, &version.hash), parts, self.now(), who).await
    }

    /// The swap itself.
    async fn put_in_force(&mut self, version: &Version, who: &str) -> Result<(), AppError> {
        let now = self.now();
        let who = format!("{} ({who})", self.instance);
        let id = self.remember(version, &who).await?;
        let before = self.engine.in_force();
        let mut next = in_force(&self.settings(&self.running), &self.accounts, Some(id))?;
        next.plans = Some(self.plans.version);
        // what no config says stays as this process was put together
        next.tuning = crate::engine::Tuning {
            lead: before.tuning.lead,
            clock_check: before.tuning.clock_check,
            one_at_a_time: before.tuning.one_at_a_time,
            ..next.tuning
        };
        self.database.config_taken(&self.instance, id, now).await?;
        self.engine.take(next);
        self.hash.clone_from(&version.hash);
        info!(config = Version::short(&version.hash), version = id, "the config is in force");
        Ok(())
    }

    /// Brings the schedules in line with what is in force: those whose next period has moved are looked at now.
    async fn settle(&self) {
        let settled = async {
            let now = self.now();
            let id = self.engine.in_force().version.unwrap_or_default();
            self.database.retry_problems(now).await?;
            let before = self.database.settled_config().await?.filter(|before| before.id != id);
            // a config of a newer release cannot be read: every schedule is looked at when its time comes
            if let Some((before, old)) = before.and_then(|before| revive(&before.body).ok().map(|old| (before, old))) {
                let old = ahead::in_force(&old.with_rows(&before.plans))?;
                let new = ahead::in_force(&self.settings(&self.running))?;
                let same = same_schedules(&old, &new);
                // an app may change its plans often: then only their own subscriptions are looked through
                let plans = (before.hash == self.hash).then(|| differing(&old.catalog, &new.catalog));
                let both = (&old, &new);
                let moved = if same { 0 } else { ahead::look_again(&self.database, both, plans.as_deref(), now).await? };
                if moved > 0 {
                    info!(schedules = moved, "the next periods of these schedules have moved with the config");
                    self.wake.ring();
                }
            }
            self.database.config_settled(id, now).await?;
            Ok::<(), AppError>(())
        };
        if let Err(why) = settled.await {
            warn!(%why, "the schedules could not all be brought in line with the config: tried again at the next start");
        }
    }

    async fn refuse(&self, hash: Option<&str>, why: &NotTaken) {
        let text = why.to_string();
        error!(in_force = Version::short(&self.hash), refused = hash.map(Version::short), why = %text, "the config is not taken: the old one stays in force");
        let unconfirmed = matches!(why, NotTaken::TooMuch(..));
        if let Err(why) = self.database.config_refused(&self.instance, hash, (&text, unconfirmed), self.now()).await {
            warn!(%why, "the database could not be told why a config was not taken");
        }
    }

    fn now(&self) -> Timestamp {
        self.engine.time()
    }
}

/// Refuses to start with a config that a running daemon did not take because of what it would do to money, unless an operator has
/// approved it since: whatever ended that daemon was no word for it.
pub(super) async fn confirmed(database: &Database, loaded: &Loaded) -> Result<(), AppError> {
    let hash = loaded.version().hash;
    let Some(refused) = database.unconfirmed(&hash).await? else { return Ok(()) };
    let in_force = database.config_in_force().await?.map(|stored| stored.hash);
    let from_here = |base: &Option<String>| base.is_none() || *base == in_force;
    let approval = database.last_approval().await?;
    let approved =
        approval.is_some_and(|approval| approval.hash == hash && approval.at >= refused.at && from_here(&approval.base));
    if approved || in_force.as_ref() == Some(&hash) {
        return Ok(());
    }
    let short = Version::short(&hash).to_owned();
    let why = refused
        .why
        .unwrap_or_else(|| format!("look at it with `rebilld config plan`, then `rebilld config apply --confirm {short}`"));
    let in_force = in_force.as_deref().map_or("", Version::short).to_owned();
    Err(AppError::Unconfirmed { hash: short, why, in_force })
}

/// Whether no subscription can be charged otherwise.
fn same_schedules(old: &InForce, new: &InForce) -> bool {
    old.catalog == new.catalog && old.tuning.windows == new.tuning.windows
}

/// Names of plans that are not the same in both.
fn differing(old: &Catalog, new: &Catalog) -> Vec<String> {
    let names: BTreeSet<&String> = [old, new].into_iter().flat_map(|all| all.plans.keys().chain(all.wrong.keys())).collect();
    let of = |all: &'_ Catalog, name: &String| (all.plans.get(name).cloned(), all.wrong.get(name).cloned());
    names.into_iter().filter(|name| of(old, name) != of(new, name)).cloned().collect()
}

/// Says what is wrong with plans of the database, unless it was wrong in the same way before.
fn told(before: &BTreeMap<String, String>, plans: &DatabasePlans) {
    for (plan, why) in plans.wrong.iter().filter(|(plan, why)| before.get(*plan) != Some(why)) {
        error!(%plan, problem = %why, "a plan of the database is wrong: its subscriptions are not billed until it is put right");
    }
    for plan in &plans.clashes {
        error!(%plan, "a plan is in the config and in the database: the config's stays in force; rename or delete one of them");
    }
}

/// What a change comes to, in one line.
fn too_much(effect: &Effect) -> String {
    let shown = |currency: &Currency, minor: i128| {
        i64::try_from(minor).map_or_else(|_| format!("{minor} {currency}"), |minor| Money::new(minor, *currency).to_string())
    };
    let sums: Vec<String> =
        effect.weight().iter().filter(|(_, minor)| **minor > 0).map(|(currency, minor)| shown(currency, *minor)).collect();
    let sums = if sums.is_empty() { String::new() } else { format!(", by {} within {DAYS} days", sums.join(" and ")) };
    let s = if effect.changed == 1 { "" } else { "s" };
    format!("the charges to come of {} subscription{s} would change{sums}: more than `[reload]` lets through", effect.changed)
}

/// Tells one daemon from another on the same database.
pub(super) fn instance() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}:{}", std::process::id())
}

/// Each job's cron only rings: what is due is in the database.
async fn start_ticks(loaded: &Loaded, engine: &Arc<Engine>, wake: &Wake, database: &Arc<Database>) -> Result<Ticks, AppError> {
    let bell: Ring = {
        let wake = wake.clone();
        Arc::new(move || wake.ring())
    };
    let audit: Ring = {
        let engine = Arc::clone(engine);
        Arc::new(move || engine.look_at_audits())
    };
    let mut rings =
        BTreeMap::from([("charge", Arc::clone(&bell)), ("reconcile", Arc::clone(&bell)), ("relay", bell), ("audit", audit)]);
    rings.extend(chores::rings(database, engine, &loaded.settings.retention));
    let jobs = loaded.settings.jobs.named().into_iter();
    let ticks = jobs.filter_map(|(job, cron)| Some((job.to_owned(), (cron.to_owned(), rings.remove(job)?)))).collect();
    Ok(Ticks::start(ticks).await?)
}
