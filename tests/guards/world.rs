//! One seed: a few subscriptions, the real engine on the real SQLite store, a simulated clock, and a gateway with mishaps.

use std::collections::HashMap;
use std::future::Future as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rebilld::domain::charge::{ChargeId, ChargeState, IdMode};
use rebilld::domain::decide::Ruling;
use rebilld::domain::fuse::Fuse;
use rebilld::domain::plan::{Catalog, CatchUp, Plan, WhilePastDue};
use rebilld::domain::proof::{Circumstances, check};
use rebilld::domain::recurrence::Recurrence;
use rebilld::engine::{Account, Engine, Parts, Tuning, worker};
use rebilld::ports::clock::Clock;
use rebilld::ports::courier::{Courier, Handover};
use rebilld::ports::store::Delivery;
use rebilld::ports::switch::KillSwitch;
use rebilld::ports::wake::Wake;
use rebilld::store::identity::{AccountConfig, AccountRow};
use rebilld::store::{Database, OpenOptions};
use rebilld::time::SimulatedClock;
use sqlx::Connection as _;

use crate::portone::{Directory, Interlude, Line, Play, PortOne, rng};

const TAG: &str = "sb";
/// When the first charges of every world fall due: midnight in Seoul.
const DUE: &str = "2026-01-10T15:00:00Z";
/// Everything has settled so long after the mishaps have stopped.
const SETTLES: SignedDuration = SignedDuration::from_hours(45 * 24);

/// What a scene is made of.
#[derive(Clone)]
pub struct Setup {
    /// One of them happens to each POST.
    pub plays: &'static [Play],
    pub subscriptions: u32,
    /// Both ledgers are compared as often as the simulation does; otherwise only after the scene has ended.
    pub audits: bool,
    pub mode: IdMode,
    pub fuse: Fuse,
}

impl Setup {
    pub const fn new(plays: &'static [Play]) -> Self {
        Self { plays, subscriptions: 2, audits: true, mode: IdMode::PerAttempt, fuse: Fuse::NONE }
    }
}

pub struct World {
    pub seed: u64,
    pub clock: Arc<SimulatedClock>,
    pub database: Arc<Database>,
    pub portone: Arc<PortOne>,
    /// When something might not be sent.
    pub braked: Vec<(Timestamp, Timestamp)>,
    /// What a scene itself has seen to be wrong.
    pub seen: Vec<String>,
    setup: Setup,
    url: String,
    account: AccountRow,
    lives: u64,
}

struct Receiver;

#[async_trait]
impl Courier for Receiver {
    async fn deliver(&self, _delivery: &Delivery) -> Handover {
        Handover::Accepted
    }
}

/// The clock of a machine that is ahead of the others.
pub struct Ahead {
    pub clock: Arc<SimulatedClock>,
    pub by: SignedDuration,
}

#[async_trait]
impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.clock.now() + self.by
    }

    fn boot(&self) -> Duration {
        self.clock.boot()
    }

    async fn sleep_until(&self, until: Timestamp, busy: bool) {
        self.clock.sleep_until(until.checked_sub(self.by).unwrap_or(until), busy).await;
    }
}

/// A kill switch outside of the database that somebody throws.
pub struct Thrown {
    pub clock: Arc<SimulatedClock>,
    pub from: Timestamp,
    pub to: Timestamp,
}

#[async_trait]
impl KillSwitch for Thrown {
    async fn stopped(&self, _account: &str) -> Option<String> {
        let now = self.clock.now();
        (self.from <= now && now < self.to).then(|| "somebody threw it".to_owned())
    }
}

/// What a process is made of, beside the rest of the world.
pub struct Process {
    pub interlude: Arc<Interlude>,
    pub clock: Arc<dyn Clock>,
    pub switch: Arc<dyn KillSwitch>,
}

impl Process {
    /// To which nothing happens.
    pub fn plain(clock: &Arc<SimulatedClock>) -> Self {
        let switch = Arc::new(rebilld::ports::switch::NoSwitch);
        Self { interlude: Arc::default(), clock: Arc::clone(clock) as _, switch }
    }
}

pub fn due() -> Timestamp {
    DUE.parse().unwrap()
}

impl World {
    pub async fn new(seed: u64, url: &str, setup: Setup) -> Self {
        let clock = Arc::new(SimulatedClock::new(due() - SignedDuration::from_hours(24)));
        let options = OpenOptions { endpoints: Vec::new(), create: true, max_connections: 4, ..OpenOptions::default() };
        let database = Arc::new(Database::open(url, options).await.unwrap());
        database.migrate().await.unwrap();
        database.bind_identity(TAG.parse().unwrap(), "simulated", clock.now()).await.unwrap();
        let configured = AccountConfig {
            name: "main".to_owned(),
            fingerprint: "f".to_owned(),
            base_url: "http://127.0.0.1".to_owned(),
            tier: None,
        };
        let account = database.sync_accounts(&[configured], clock.now()).await.unwrap().remove(0);
        let portone = PortOne::new(seed, Arc::clone(&clock), setup.plays);
        let world = Self {
            seed,
            clock,
            database,
            portone,
            braked: Vec::new(),
            seen: Vec::new(),
            setup,
            url: url.to_owned(),
            account,
            lives: 0,
        };
        for n in 0..world.setup.subscriptions {
            let sql = format!(
                    "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor, starts_on, buyer_name)
                     VALUES ('main', 'sub-{n}', 'yearly', 'card-{n}', '2026-01-11', '2026-01-11', 'nobody')"
                );
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connect(url).await).await.unwrap();
        }
        world
    }

    fn account(&self, interlude: &Arc<Interlude>) -> Account {
        Account {
            id: self.account.id,
            name: self.account.name.clone(),
            endpoint: self.account.endpoint,
            gateway: Arc::new(Line { portone: Arc::clone(&self.portone), interlude: Arc::clone(interlude) }),
            rate: None,
            in_flight: 8,
            budget_count: None,
            budget_sum: None,
            budget_zone: TimeZone::UTC,
            fuse: self.setup.fuse.clone(),
        }
    }

    /// A new process on the same database.
    pub fn engine(&mut self, process: Process) -> Arc<Engine> {
        self.lives += 1;
        let (life, tokens) = (self.lives, AtomicU64::new(0));
        let mut tuning = Tuning::new(TAG.parse().unwrap());
        tuning.batch = 16;
        tuning.interval = Duration::from_secs(6 * 3600);
        tuning.lead = SignedDuration::ZERO;
        tuning.clock_check = None;
        tuning.one_at_a_time = true;
        let rarely = SignedDuration::from_hours(1000 * 24);
        tuning.audit_quick_every = if self.setup.audits { SignedDuration::from_hours(40) } else { rarely };
        tuning.audit_complete_every = if self.setup.audits { SignedDuration::from_hours(10 * 24) } else { rarely };
        let plan = Plan {
            zone: TimeZone::get("Asia/Seoul").ok(),
            amount: Some(9_900),
            title: Some("Pro".to_owned()),
            catch_up: CatchUp::All { most: u32::MAX },
            while_past_due: WhilePastDue::Continue,
            ..Plan::new("yearly", Recurrence::interval("1 year".parse().unwrap(), None).unwrap())
        };
        Engine::new(Parts {
            store: Arc::clone(&self.database) as _,
            clock: process.clock,
            courier: Arc::new(Receiver),
            watermark: Arc::new(Directory { clock: Arc::clone(&self.clock), interlude: Arc::clone(&process.interlude) }),
            switch: process.switch,
            accounts: vec![self.account(&process.interlude)],
            catalog: Catalog { plans: [(plan.name.clone(), plan)].into(), ..Catalog::default() },
            id_modes: [(self.account.id, self.setup.mode)].into(),
            tuning,
            wake: Wake::default(),
            audit_first: false,
            tokens: Box::new(move || format!("life-{life}-{}", tokens.fetch_add(1, Ordering::SeqCst))),
            delivery_delay: |_, _| None,
        })
    }

    /// A process lives until then, and is killed.
    pub async fn live_until(&mut self, process: Process, until: Timestamp) {
        self.clock.set_horizon(until);
        let engine = self.engine(process);
        tokio::select! {
            biased;
            () = self.clock.horizon_reached() => {}
            () = worker::run(engine) => unreachable!("nobody has asked it to stop"),
        }
        self.clock.move_to(until);
    }

    /// One plain life after the other, with an operator who rules on what is in review every third day.
    pub async fn work_until(&mut self, until: Timestamp) {
        while self.clock.now() < until {
            let next = (self.clock.now() + SignedDuration::from_hours(3 * 24)).min(until);
            self.live_until(Process::plain(&self.clock), next).await;
            let engine = self.engine(Process::plain(&self.clock));
            let account = self.account(&Arc::default());
            let books = self.database.books().await.unwrap();
            let mut rng = rng(self.seed, &["operator", &self.lives.to_string()]);
            for charge in books.charges.iter().filter(|charge| charge.state == ChargeState::Review) {
                let ruling = [Ruling::Unpaid, Ruling::Resend, Ruling::Void][rng.random_range(0..3)].clone();
                // refused where the protocol forbids it; then the charge stays in review
                let _ = engine.rule(&account, ChargeId(charge.id), ruling).await;
            }
        }
    }

    /// The mishaps stop, time runs on, and what is wrong then is told, one thing a line.
    pub async fn end(mut self, mishaps_until: Timestamp) -> Vec<String> {
        self.work_until(mishaps_until).await;
        self.portone.calm();
        self.work_until(mishaps_until + SETTLES).await;
        let ledger = self.portone.books();
        let books = self.database.books().await.unwrap();
        let end = self.clock.now();
        let around = Circumstances { end, braked: self.braked.clone(), ..Circumstances::default() };
        let mut broken = self.seen;
        for verdict in check(&ledger, &books, &around) {
            broken.extend(verdict.broken.iter().map(|what| format!("{} {}: {what}", verdict.name, verdict.says)));
        }
        let unsettled = books.charges.iter().filter(|charge| charge.state.is_unresolved() && charge.state != ChargeState::Review);
        broken.extend(unsettled.map(|charge| format!("I4 {} is still {}", charge.base, charge.state.name())));
        broken.extend(believed_absent(&self.url, &ledger).await);
        self.database.close().await;
        broken
    }
}

/// R2 and R3, by the ledger: each POST makes one record at most, so an id with more records than sends that may have made one has a
/// send that was believed to be absent, and was not.
async fn believed_absent(url: &str, ledger: &rebilld::domain::proof::Ledger) -> Vec<String> {
    let sql = "SELECT substr(i.uid, 1, 28) || printf('%02d', a.id_number), sum(s.state NOT IN ('absent', 'not_sent'))
        FROM sends s JOIN attempts a ON a.id = s.attempt_id JOIN (SELECT charge_id, min(merchant_uid) AS uid FROM ids GROUP BY 1) i ON i.charge_id = a.charge_id GROUP BY 1";
    let mut connection = connect(url).await;
    let sends: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap();
    let sends: HashMap<String, i64> = sends.into_iter().collect();
    let mut records: HashMap<&str, i64> = HashMap::new();
    for payment in &ledger.payments {
        *records.entry(payment.merchant_uid.as_str()).or_default() += 1;
    }
    let mut broken: Vec<String> = records
        .into_iter()
        .filter(|(uid, records)| *records > sends.get(*uid).copied().unwrap_or(0))
        .map(|(uid, _)| format!("R2 a send was taken for absent that was not: {uid} has a record of it"))
        .collect();
    broken.sort();
    broken
}

async fn connect(url: &str) -> sqlx::SqliteConnection {
    sqlx::SqliteConnection::connect(url).await.unwrap()
}

pub async fn by_hand(url: &str, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(sql).execute(&mut connect(url).await).await.map(drop)
}

/// Another process lives while the one that calls this is frozen, until then, and is killed.
pub async fn meanwhile(engine: Arc<Engine>, clock: &SimulatedClock, until: Timestamp) {
    let mut life = Box::pin(worker::run(engine));
    std::future::poll_fn(|context| {
        if clock.now() < until {
            let _ = life.as_mut().poll(context);
        }
        if clock.now() < until { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}
