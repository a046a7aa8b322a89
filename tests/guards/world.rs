//! One seed: a few subscriptions, the real engine on the real SQLite store, a simulated clock, and a gateway with mishaps.

use std::future::Future as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rebilld::domain::attempt::AttemptState;
use rebilld::domain::charge::{ChargeId, ChargeState, IdMode};
use rebilld::domain::decide::{Policy, Ruling};
use rebilld::domain::fuse::Fuse;
use rebilld::domain::plan::{Catalog, CatchUp, Plan, WhilePastDue};
use rebilld::domain::proof::{BookAttempt, Circumstances, check};
use rebilld::domain::recurrence::Recurrence;
use rebilld::engine::{Account, Engine, Parts, Tuning, worker};
use rebilld::ports::clock::Clock;
use rebilld::ports::courier::{Courier, Handover};
use rebilld::ports::store::Delivery;
use rebilld::ports::switch::{KillSwitch, NoSwitch};
use rebilld::ports::wake::Wake;
use rebilld::store::identity::{AccountConfig, AccountRow};
use rebilld::store::{Database, OpenOptions};
use rebilld::time::SimulatedClock;
use sqlx::Connection as _;

use crate::portone::{Directory, Interlude, Line, Play, PortOne, rng};

const TAG: &str = "sb";
/// When the charges of every world fall due: ten in the morning in Seoul.
const DUE: &str = "2026-01-11T01:00:00Z";

/// What a scene is made of.
#[derive(Clone)]
pub struct Setup {
    /// One of them happens to each POST.
    pub plays: &'static [Play],
    pub subscriptions: u32,
    /// Without it Q is nothing.
    pub quiet: bool,
    /// Both ledgers are compared as often as the simulation does; otherwise only after the scene has ended.
    pub audits: bool,
    pub mode: IdMode,
    pub fuse: Fuse,
    /// The gateway keeps to what the protocol takes for granted: what it has is seen within Q.
    pub within_q: bool,
    /// What is believed to be absent is held against the questions that the gateway was asked, too.
    pub questions: bool,
}

impl Setup {
    pub const fn new(plays: &'static [Play]) -> Self {
        Self {
            plays,
            subscriptions: 2,
            quiet: true,
            audits: true,
            mode: IdMode::PerAttempt,
            fuse: Fuse::NONE,
            within_q: true,
            questions: false,
        }
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
    pub switch: Arc<dyn KillSwitch>,
}

impl Process {
    /// To which nothing happens.
    pub fn plain() -> Self {
        Self { interlude: Arc::default(), switch: Arc::new(NoSwitch) }
    }

    /// To which that happens.
    pub fn with(interlude: Arc<Interlude>) -> Self {
        Self { interlude, ..Self::plain() }
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
        if world.setup.questions {
            by_hand(url, KEEP_SEEN_ONCE).await.unwrap();
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
        if !self.setup.quiet {
            tuning.policy = Policy::without_quiet();
        }
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
            clock: Arc::clone(&self.clock) as _,
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
            self.live_until(Process::plain(), next).await;
            let engine = self.engine(Process::plain());
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

    /// The mishaps last for so many days and stop, time runs on for so many more, and what is wrong then is told, one thing a line.
    pub async fn end(mut self, mishaps: i64, rest: i64) -> Vec<String> {
        let days = |days: i64| due() + SignedDuration::from_hours(24 * days);
        self.work_until(days(mishaps)).await;
        self.portone.calm();
        self.work_until(days(mishaps + rest)).await;
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
        for charge in &books.charges {
            let is_declined = |attempt: &&BookAttempt| attempt.charge == charge.id && attempt.state == AttemptState::Declined;
            let declined = books.attempts.iter().filter(is_declined).count();
            // a ruling may end an attempt that was no try
            let ruled = books.events.iter().any(|event| event.charge == Some(charge.id) && event.kind == "charge.review");
            if declined > usize::from(charge.tries) && !ruled {
                broken.push(format!(
                    "I8 {}: {declined} attempts were declined, and {} tries are counted",
                    charge.base, charge.tries
                ));
            }
        }
        if self.setup.within_q {
            broken.extend(believed_absent(&self.url, &self.portone).await);
        }
        if self.setup.questions {
            broken.extend(believed_unasked(&self.url, &self.portone).await);
        }
        self.database.close().await;
        broken
    }
}

/// R2 and R3, by the ledger: no send that was taken for absent has made a record.
async fn believed_absent(url: &str, portone: &PortOne) -> Vec<String> {
    let sql = "SELECT substr(i.uid, 1, 28) || printf('%02d', a.id_number), s.begun_at, s.state
        FROM sends s JOIN attempts a ON a.id = s.attempt_id
        JOIN (SELECT charge_id, min(merchant_uid) AS uid FROM ids GROUP BY 1) i ON i.charge_id = a.charge_id ORDER BY 2";
    let sends: Vec<(String, i64, String)> = sqlx::query_as(sql).fetch_all(&mut connect(url).await).await.unwrap();
    let mut broken = Vec::new();
    for (uid, at) in portone.made() {
        let before = sends.iter().rfind(|(of, begun, _)| *of == uid && *begun <= at.as_microsecond());
        if before.is_some_and(|(.., state)| state == "absent") {
            broken.push(format!("R2 the send of {uid} at {at} was taken for absent, and was not"));
        }
    }
    broken
}

/// Keeps each first "not paid" (R3), which the second one takes out of its row.
const KEEP_SEEN_ONCE: &str =
    "CREATE TABLE seen_once (charge_id INTEGER NOT NULL, sent_at INTEGER NOT NULL, seen_at INTEGER NOT NULL);
    CREATE TRIGGER keep_seen_once AFTER UPDATE ON charges WHEN NEW.quiet_since IS NOT NULL AND OLD.quiet_since IS NULL
    BEGIN INSERT INTO seen_once VALUES (NEW.id, NEW.newest_send_at, NEW.quiet_since); END";

/// R2, by the gateway's own memory: whenever a charge was seen as not paid, the gateway had been asked after Q was over, and not only
/// judged.
async fn believed_unasked(url: &str, portone: &PortOne) -> Vec<String> {
    let sql = "SELECT (SELECT substr(min(merchant_uid), 1, 28) FROM ids i WHERE i.charge_id = s.charge_id), sent_at, seen_at FROM seen_once s";
    let seen: Vec<(String, i64, i64)> = sqlx::query_as(sql).fetch_all(&mut connect(url).await).await.unwrap();
    let asked = portone.asked.lock().unwrap();
    let quiet = Policy::default().quiet();
    let instant = |micros| Timestamp::from_microsecond(micros).unwrap();
    let mut broken = Vec::new();
    for (base, sent, seen) in seen {
        let (over, seen) = (instant(sent) + quiet, instant(seen));
        if !asked.iter().any(|(of, at)| of.starts_with(&base) && over <= *at && *at <= seen) {
            broken.push(format!("R2 {base} was seen as not paid at {seen}, and nobody had asked since Q was over, at {over}"));
        }
    }
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
