//! F2: fetch, decide, act, record. It knows the world only through the ports.
//!
//! [`worker`] is the dispatch loop. It opens periods ([`open`]), claims charges and sends them ([`charge`]), leaves doubt by
//! asking ([`reconcile`]), compares both ledgers ([`audit`]), counts what is missed ([`missed`]), follows what subscriptions
//! come to ([`states`]) and hands events out ([`relay`]). What all of them learn goes through [`record`], in batches.

mod aside;
pub mod audit;
mod brakes;
pub mod breaker;
pub mod change;
pub mod charge;
pub mod clock;
pub mod force;
pub mod forecast;
pub mod limits;
pub mod look;
pub mod meters;
pub mod missed;
pub mod open;
pub mod outlook;
mod probe;
pub mod pulse;
pub mod rates;
pub mod reconcile;
pub mod record;
pub mod rehearse;
pub mod relay;
pub mod rule;
pub mod shadow;
pub mod states;
pub mod stats;
mod under_way;
mod window;
mod witness;
pub mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::domain::attempt::Tag;
use crate::domain::charge::{AccountId, IdMode};
use crate::domain::decide::Policy;
use crate::domain::fuse::Fuse;
use crate::domain::plan::Catalog;
use crate::domain::window::Windows;
use crate::ports::clock::Clock;
use crate::ports::courier::Courier;
use crate::ports::gateway::Gateway;
use crate::ports::metrics::Metrics;
use crate::ports::store::{ClaimToken, NotBegun, Store, StoreError};
use crate::ports::switch::KillSwitch;
use crate::ports::wake::Wake;
use crate::ports::watermark::Watermark;

pub use force::{Bounds, InForce};
use limits::AccountLimits;
use record::Recorder;
use stats::Stats;

/// How the engine works; everything that config may set.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Two characters that this database's ids begin with.
    pub tag: Tag,
    /// Charges a transaction. All that is sent and not recorded is in doubt after a crash, so this bounds that too.
    pub batch: u32,
    /// Batches of one account under way at the same time, at most.
    pub flights: usize,
    /// The safety net: looked at this often even if nothing rings.
    pub interval: Duration,
    /// Periods open this long before they fall due.
    pub open_ahead: SignedDuration,
    /// Due charges are claimed and prepared this long before they fall due; none is sent early.
    pub lead: SignedDuration,
    /// How long a claim lasts. Longer than the gate and the deadline of a POST together.
    pub claim: SignedDuration,
    pub policy: Policy,
    /// When charges may start.
    pub windows: Windows,
    /// Transactions of outcomes under way at the same time. More than one serves a database with more than one writer.
    pub recorders: usize,
    /// Everything that is put under way ends before the next look: a simulation then repeats as far as its faults do.
    pub one_at_a_time: bool,
    /// Between two checks of the database clock against CLOCK_BOOTTIME; `None` under a simulated clock.
    pub clock_check: Option<Duration>,
    /// How often both ledgers are compared over 48 hours, and over 35 days.
    pub audit_quick_every: SignedDuration,
    pub audit_complete_every: SignedDuration,
}

impl Tuning {
    pub fn new(tag: Tag) -> Self {
        Self {
            tag,
            batch: 256,
            flights: 8,
            interval: Duration::from_secs(10),
            open_ahead: SignedDuration::from_secs(60),
            lead: SignedDuration::from_millis(500),
            claim: SignedDuration::from_secs(120),
            policy: Policy::default(),
            windows: Windows::ALWAYS,
            recorders: 1,
            one_at_a_time: false,
            clock_check: Some(Duration::from_secs(10)),
            audit_quick_every: SignedDuration::from_hours(1),
            audit_complete_every: SignedDuration::from_hours(24),
        }
    }
}

/// One PortOne merchant, ready to be charged for.
pub struct Account {
    pub id: AccountId,
    pub name: String,
    /// The row of the fingerprint (key hash, tier, base URL) that sends go to.
    pub endpoint: i64,
    pub gateway: Arc<dyn Gateway>,
    /// Sends a second; `None`: no bound.
    pub rate: Option<u32>,
    pub in_flight: usize,
    pub budget_count: Option<i64>,
    pub budget_sum: Option<i64>,
    /// The zone whose days the budget and the fuse count.
    pub budget_zone: TimeZone,
    pub fuse: Fuse,
}

/// How long to wait before an event is offered again, by tries so far and a seed for the jitter; `None`: give up.
pub type DeliveryDelay = fn(tries: u32, seed: u64) -> Option<SignedDuration>;

/// What the engine is made of.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub courier: Arc<dyn Courier>,
    pub watermark: Arc<dyn Watermark>,
    pub switch: Arc<dyn KillSwitch>,
    pub accounts: Vec<Account>,
    pub catalog: Catalog,
    /// How ids advance, per account; fixed per charge when it opens.
    pub id_modes: BTreeMap<AccountId, IdMode>,
    pub tuning: Tuning,
    pub wake: Wake,
    /// Nothing is sent before a complete clean audit by this process: the state directory is new.
    pub audit_first: bool,
    /// Random claim tokens.
    pub tokens: Box<dyn Fn() -> String + Send + Sync>,
    pub delivery_delay: DeliveryDelay,
}

/// The engine: shared by the dispatch loop and everything that it has under way.
pub struct Engine {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    courier: Arc<dyn Courier>,
    watermark: Arc<dyn Watermark>,
    switch: Arc<dyn KillSwitch>,
    pub(crate) accounts: Vec<Arc<AccountRuntime>>,
    held: force::Held,
    pub wake: Wake,
    /// Rings when plans of the database may be newer than those in force: nothing opens before they are taken.
    pub plans_changed: Wake,
    /// The dispatch loop's heartbeat.
    pub pulse: pulse::Pulse,
    tokens: Box<dyn Fn() -> String + Send + Sync>,
    delivery_delay: DeliveryDelay,
    pub stats: Arc<Stats>,
    /// What faces count.
    pub metrics: Arc<Metrics>,
    recorder: Recorder,
    brakes: limits::BrakeCache,
    /// The same of the switch outside of the database: W2 reads the database's brakes anew, and not this one.
    switches: limits::BrakeCache,
    /// Stops sends of this process, whatever the database says.
    killed_here: AtomicBool,
    steady: limits::ClockWatch,
    missed: missed::MissedWatch,
    witness: witness::Witness,
    stopping: AtomicBool,
    under_way: under_way::AllUnderWay,
    audit_wanted: AtomicBool,
}

/// An account with what this process knows of it at the moment.
pub(crate) struct AccountRuntime {
    pub account: Account,
    pub limits: AccountLimits,
    pub rates: rates::Rates,
    pub meters: meters::Meters,
    /// Still to be audited by this process before its first send.
    pub unaudited: AtomicBool,
}

impl AccountRuntime {
    /// Everything that was due to be looked up at `at` has been, or nothing was.
    pub(crate) fn reconciled(&self, at: Timestamp) {
        self.meters.reconciled.set(u64::try_from(at.as_microsecond()).unwrap_or_default());
    }
}

impl Engine {
    /// Puts the parts together. Nothing happens before [`worker::run`].
    pub fn new(parts: Parts) -> Arc<Self> {
        let stats = Arc::new(Stats::default());
        let recorder = Recorder::new(parts.tuning.batch as usize, parts.tuning.recorders);
        let accounts = parts
            .accounts
            .into_iter()
            .map(|account| {
                let limits = AccountLimits::new(account.rate, account.in_flight, parts.tuning.batch as usize);
                let (rates, unaudited) = (rates::Rates::default(), AtomicBool::new(parts.audit_first));
                Arc::new(AccountRuntime { account, limits, rates, meters: meters::Meters::default(), unaudited })
            })
            .collect();
        let first = InForce {
            version: None,
            plans: None,
            catalog: parts.catalog,
            id_modes: parts.id_modes,
            bounds: BTreeMap::new(),
            tuning: parts.tuning,
        };
        Arc::new(Self {
            store: parts.store,
            clock: parts.clock,
            courier: parts.courier,
            watermark: parts.watermark,
            switch: parts.switch,
            accounts,
            held: force::Held::new(first),
            wake: parts.wake,
            plans_changed: Wake::default(),
            pulse: pulse::Pulse::default(),
            tokens: parts.tokens,
            delivery_delay: parts.delivery_delay,
            stats,
            metrics: Arc::default(),
            recorder,
            brakes: limits::BrakeCache::default(),
            switches: limits::BrakeCache::default(),
            killed_here: AtomicBool::new(false),
            steady: limits::ClockWatch::default(),
            missed: missed::MissedWatch::default(),
            witness: witness::Witness::default(),
            stopping: AtomicBool::new(false),
            under_way: under_way::AllUnderWay::default(),
            audit_wanted: AtomicBool::new(false),
        })
    }

    /// From now on nothing new is claimed or sent; what is in flight is finished.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake.ring();
    }

    /// Whether [`Engine::stop`] has been called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The `merchant_uid`s of sends that may be open without a recorded outcome, in order. No send begins after it: for a stop that
    /// does not wait.
    pub fn leave(&self) -> Vec<String> {
        self.under_way.close()
    }

    /// From now on this process sends nothing, whatever the database says; `false` takes that back.
    pub fn kill_here(&self, on: bool) {
        self.killed_here.store(on, Ordering::Release);
        self.look_at_brakes();
    }

    /// Reads the brakes anew, now: one of them may have changed.
    pub fn look_at_brakes(&self) {
        self.brakes.forget();
        self.switches.forget();
        self.wake.ring();
    }

    /// What stops each account's sends, by name, read at most a second ago.
    pub async fn stops(&self) -> Result<Vec<(String, Option<NotBegun>)>, StoreError> {
        let mut stops = Vec::with_capacity(self.accounts.len());
        for account in &self.accounts {
            stops.push((account.account.name.clone(), self.brakes_for(account).await?));
        }
        Ok(stops)
    }

    /// What the breaker does to each account's sends in this process, for people; closed ones are left out.
    pub fn breakers(&self) -> Vec<(String, &'static str)> {
        let word = |account: &Arc<AccountRuntime>| Some((account.account.name.clone(), account.limits.breaker_word()?));
        self.accounts.iter().filter_map(word).collect()
    }

    /// Looks now whether an audit is due, instead of at the next round.
    pub fn look_at_audits(&self) {
        self.audit_wanted.store(true, Ordering::Release);
        self.wake.ring();
    }

    /// Whether the database is read to know what stops sends: not before each account's first audit.
    pub(crate) fn reads_brakes(&self) -> bool {
        self.accounts.iter().any(|account| !account.unaudited.load(Ordering::Acquire))
    }

    pub(crate) fn token(&self) -> ClaimToken {
        ClaimToken((self.tokens)())
    }

    /// The time that the engine goes by.
    pub fn time(&self) -> Timestamp {
        self.now()
    }

    /// Time since boot, which nothing moves (CLOCK_BOOTTIME).
    pub fn boot(&self) -> Duration {
        self.clock.boot()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
