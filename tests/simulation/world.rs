//! One seed: a book of subscriptions, a gateway with faults, a worker that is killed at any await and started again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rebilld::domain::attempt::IdBase;
use rebilld::domain::charge::{ChargeId, ChargeState, IdMode};
use rebilld::domain::decide::Ruling;
use rebilld::domain::fuse::Fuse;
use rebilld::domain::plan::{Catalog, CatchUp, Plan, WhilePastDue};
use rebilld::domain::proof::{Circumstances, Expected, Verdict, check};
use rebilld::domain::recurrence::Recurrence;
use rebilld::domain::subscription::Terms;
use rebilld::engine::{Account, Engine, Parts, Tuning, worker};
use rebilld::ports::clock::Clock;
use rebilld::ports::courier::{Courier, Handover};
use rebilld::ports::store::Delivery;
use rebilld::ports::wake::Wake;
use rebilld::store::identity::{AccountConfig, AccountRow};
use rebilld::store::{Database, OpenOptions};
use rebilld::time::SimulatedClock;

use crate::crash::{Crash, CrashingStore, SimulatedWatermark};
use crate::faults::{Swarm, rng};
use crate::gateway::{Ledger, SimulatedGateway};

const TAG: &str = "sb";
const MONTHS: i64 = 2;

/// A receiver that refuses now and then, and remembers what it has accepted.
struct Receiver {
    seed: u64,
    received: Mutex<HashSet<String>>,
    tries: AtomicU64,
}

#[async_trait]
impl Courier for Receiver {
    async fn deliver(&self, delivery: &Delivery) -> Handover {
        let nth = self.tries.fetch_add(1, Ordering::SeqCst).to_string();
        if rng(self.seed, &["receiver", &nth]).random_range(0..1000) < 100 {
            return Handover::Failed("HTTP 500".to_owned());
        }
        self.received.lock().unwrap().insert(delivery.event_id.clone());
        Handover::Accepted
    }
}

fn delay(tries: u32, _seed: u64) -> Option<SignedDuration> {
    (tries < 12).then(|| SignedDuration::from_mins(5 * i64::from(tries)))
}

/// What one run came to.
pub struct Outcome {
    pub verdicts: Vec<Verdict>,
    pub swarm: Swarm,
    pub crashes: u64,
    pub charges: u64,
    pub months: u64,
    pub states: BTreeMap<&'static str, u64>,
    pub played: HashMap<&'static str, u64>,
    pub rules: BTreeMap<String, u64>,
    pub incidents: Vec<String>,
    /// A digest of everything that is booked: equal for equal seeds.
    pub history: String,
}

pub struct World {
    pub seed: u64,
    pub url: String,
    swarm: Swarm,
    pub clock: Arc<SimulatedClock>,
    pub start: Timestamp,
    pub database: Arc<Database>,
    pub gateway: Arc<SimulatedGateway>,
    receiver: Arc<Receiver>,
    crash: Arc<Crash>,
    plans: BTreeMap<String, Plan>,
    terms: Vec<Terms>,
    account: AccountRow,
    mode: IdMode,
    lives: u64,
    faults_on: bool,
    pub mark: Arc<SimulatedWatermark>,
    /// The database's clock is watched, and jumps then.
    pub clock_jumps_at: Option<Timestamp>,
    /// Nobody changes a row by hand.
    pub hands_off: bool,
    /// When nothing might be sent.
    pub braked: Vec<(Timestamp, Timestamp)>,
    /// What was sent in between was forgotten with the database that was replaced.
    pub forgotten: Option<(Timestamp, Timestamp)>,
}

fn plan(name: &str, every: &str, policy: WhilePastDue) -> Plan {
    Plan {
        zone: TimeZone::get("Asia/Seoul").ok(),
        amount: Some(9_900),
        title: Some("Pro".to_owned()),
        // nothing may be missing, however long a charge or a dead process has held the next period up
        catch_up: CatchUp::All { most: u32::MAX },
        while_past_due: policy,
        ..Plan::new(name, Recurrence::interval(every.parse().unwrap(), None).unwrap())
    }
}

/// A connection of the operator's own.
pub async fn by_hand(url: &str) -> sqlx::SqliteConnection {
    <sqlx::SqliteConnection as sqlx::Connection>::connect(url).await.unwrap()
}

impl World {
    pub async fn new(seed: u64, url: &str, swarm: Swarm) -> Self {
        let mut rng = rng(seed, &["world"]);
        let start: Timestamp = "2026-01-05T00:00:00Z".parse().unwrap();
        let clock = Arc::new(SimulatedClock::new(start));
        let options =
            OpenOptions { endpoints: vec!["app".to_owned()], create: true, max_connections: 4, ..OpenOptions::default() };
        let database = Arc::new(Database::open(url, options).await.unwrap());
        database.migrate().await.unwrap();
        database.bind_identity(TAG.parse().unwrap(), "simulated", start).await.unwrap();
        let configured = AccountConfig {
            name: "main".to_owned(),
            fingerprint: "f".to_owned(),
            base_url: "http://127.0.0.1".to_owned(),
            tier: None,
        };
        let account = database.sync_accounts(&[configured], start).await.unwrap().remove(0);
        let mode = if rng.random_bool(0.8) { IdMode::PerAttempt } else { IdMode::PerPeriod };
        let plans: BTreeMap<String, Plan> = [
            plan("monthly", "1 month", WhilePastDue::Hold),
            plan("fortnight", "2 weeks", WhilePastDue::Continue),
            plan("days", "10 days", WhilePastDue::Continue),
        ]
        .map(|plan| (plan.name.clone(), plan))
        .into();
        let mut by_hand = by_hand(url).await;
        let mut cards = HashMap::new();
        let mut terms = Vec::new();
        for n in 0..rng.random_range(2..7) {
            let customer = format!("card-{n}");
            // one card in eight is not registered at the gateway
            if rng.random_range(0..8) > 0 {
                cards.insert(customer.clone(), [0, 0, 300, 700, 1000][rng.random_range(0..5)]);
            }
            let plan = ["monthly", "monthly", "fortnight", "days"][rng.random_range(0..4)];
            let anchor = date(2026, 1, rng.random_range(6..32));
            let external_ref = format!("sub-{n}");
            let sql = "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor, starts_on, buyer_name)
                       VALUES ('main', $1, $2, $3, $4, $4, $5)";
            // as an operator would, by hand
            sqlx::query(sql)
                .bind(&external_ref)
                .bind(plan)
                .bind(&customer)
                .bind(anchor.to_string())
                .bind("CANARY-NAME")
                .execute(&mut by_hand)
                .await
                .unwrap();
            terms.push(Terms::new("main", external_ref, plan, anchor));
        }
        let crash = Arc::new(Crash::default());
        let gateway = Arc::new(SimulatedGateway {
            seed,
            clock: Arc::clone(&clock),
            start,
            swarm: Mutex::new(Some(swarm.clone())),
            ledger: Mutex::new(Ledger::default()),
            crash: Arc::clone(&crash),
            cards,
        });
        let receiver = Arc::new(Receiver { seed, received: Mutex::default(), tries: AtomicU64::new(0) });
        let mark = Arc::new(SimulatedWatermark {
            crash: Arc::clone(&crash),
            seed,
            full_disk: swarm.full_disk,
            writes: AtomicU64::new(0),
            mark: AtomicI64::new(0),
        });
        Self {
            seed,
            url: url.to_owned(),
            swarm,
            clock,
            start,
            database,
            gateway,
            receiver,
            crash,
            plans,
            terms,
            account,
            mode,
            lives: 0,
            faults_on: true,
            mark,
            clock_jumps_at: None,
            hands_off: false,
            braked: Vec::new(),
            forgotten: None,
        }
    }

    /// The one account, as a process has it.
    pub fn account(&self) -> Account {
        Account {
            id: self.account.id,
            name: self.account.name.clone(),
            endpoint: self.account.endpoint,
            gateway: Arc::clone(&self.gateway) as _,
            rate: None,
            in_flight: 8,
            budget_count: None,
            budget_sum: None,
            budget_zone: TimeZone::UTC,
            fuse: Fuse { hour_count: Some(1_000_000), ..Fuse::NONE },
        }
    }

    /// A new process on the same database.
    pub fn engine(&mut self) -> Arc<Engine> {
        self.lives += 1;
        let life = self.lives;
        let tokens = AtomicU64::new(0);
        let store = CrashingStore {
            inner: Arc::clone(&self.database),
            crash: Arc::clone(&self.crash),
            seed: self.seed ^ life,
            lost_acknowledgements: if self.faults_on { self.swarm.lost_acknowledgements } else { 0 },
            commits: AtomicU64::new(0),
            clock: Arc::clone(&self.clock),
            jumps_at: self.clock_jumps_at,
        };
        let account = self.account();
        let mut tuning = Tuning::new(TAG.parse().unwrap());
        tuning.batch = 16;
        tuning.interval = std::time::Duration::from_secs(6 * 3600);
        tuning.lead = SignedDuration::ZERO;
        tuning.clock_check = self.clock_jumps_at.map(|_| std::time::Duration::from_secs(10));
        tuning.one_at_a_time = true;
        tuning.audit_quick_every = SignedDuration::from_hours(40);
        tuning.audit_complete_every = SignedDuration::from_hours(10 * 24);
        Engine::new(Parts {
            store: Arc::new(store),
            clock: Arc::clone(&self.clock) as _,
            courier: Arc::clone(&self.receiver) as _,
            watermark: Arc::clone(&self.mark) as _,
            switch: Arc::new(rebilld::ports::switch::NoSwitch),
            accounts: vec![account],
            catalog: Catalog { plans: self.plans.clone(), ..Catalog::default() },
            id_modes: [(self.account.id, self.mode)].into(),
            tuning,
            wake: Wake::default(),
            audit_first: false,
            tokens: Box::new(move || format!("life-{life}-{}", tokens.fetch_add(1, Ordering::SeqCst))),
            delivery_delay: delay,
        })
    }

    /// Lives one life after another until the clock has come to `until`.
    pub async fn live_until(&mut self, until: Timestamp) {
        self.clock.set_horizon(until);
        let mut rng = rng(self.seed, &["lives", &self.lives.to_string()]);
        while self.clock.now() < until {
            let engine = self.engine();
            let crashes = self.swarm.crashes.filter(|_| self.faults_on);
            self.crash.arm(crashes.map_or(0, |mean| rng.random_range(1..2 * mean)));
            tokio::select! {
                biased;
                () = self.crash.hit() => {}
                () = self.clock.horizon_reached() => {}
                () = worker::run(engine) => unreachable!("nobody has asked it to stop"),
            }
            // the dead process leaves the database as it is; the next one comes up a little later
            let pause = SignedDuration::from_secs(rng.random_range(0..600));
            self.clock.move_to((self.clock.now() + pause).min(until));
        }
        self.crash.arm(0);
    }

    /// An operator rules on everything that is in review, by what the gateway shows.
    async fn operate(&mut self) {
        let books = self.database.books().await.unwrap();
        let engine = self.engine();
        let account = self.account();
        let mut rng = rng(self.seed, &["operator", &self.lives.to_string()]);
        // now and then a payer brings another card
        if rng.random_bool(0.3) && !self.hands_off {
            let (whose, card) = (rng.random_range(0..self.terms.len()), rng.random_range(0..self.terms.len()));
            sqlx::query("UPDATE subscriptions SET customer_uid = $1 WHERE external_ref = $2")
                .bind(format!("card-{card}"))
                .bind(format!("sub-{whose}"))
                .execute(&mut by_hand(&self.url).await)
                .await
                .unwrap();
        }
        for charge in books.charges.iter().filter(|charge| charge.state == ChargeState::Review) {
            let ruling = [Ruling::Unpaid, Ruling::Resend, Ruling::Void, Ruling::Retry][rng.random_range(0..4)].clone();
            // refused where the protocol forbids it; then the charge stays in review
            let _ = engine.rule(&account, ChargeId(charge.id), ruling).await;
        }
    }

    /// Every period that fell due by `end`, counted from the terms alone.
    pub fn expected(&self, end: Timestamp) -> Vec<Expected> {
        let mut expected = Vec::new();
        for terms in &self.terms {
            let plan = &self.plans[&terms.plan];
            for n in 0.. {
                let start = plan.recurrence.start(terms.anchor, n).unwrap();
                let due = rebilld::domain::period::instant(start, plan.charge_time, plan.zone.as_ref().unwrap()).unwrap();
                if due > end {
                    break;
                }
                let base = IdBase::derive(TAG.parse().unwrap(), "main", &terms.external_ref, start);
                let (base, external_ref) = (base.as_str().to_owned(), terms.external_ref.clone());
                expected.push(Expected { base, external_ref, due_at: due });
            }
        }
        expected
    }

    /// With an operator who looks in every third day.
    pub async fn work_until(&mut self, end: Timestamp) {
        while self.clock.now() < end {
            let next = (self.clock.now() + SignedDuration::from_hours(3 * 24)).min(end);
            self.live_until(next).await;
            self.operate().await;
        }
    }

    /// Months with faults, and what comes of them.
    pub async fn run(mut self) -> Outcome {
        let end = self.start + SignedDuration::from_hours(MONTHS * 30 * 24);
        self.work_until(end).await;
        // then faults stop and time runs on: everything must settle
        self.faults_on = false;
        *self.gateway.swarm.lock().unwrap() = None;
        self.mark = Arc::new(SimulatedWatermark {
            crash: Arc::clone(&self.crash),
            seed: self.seed,
            full_disk: 0,
            writes: AtomicU64::new(0),
            mark: AtomicI64::new(0),
        });
        let settled = end + SignedDuration::from_hours(45 * 24);
        self.work_until(settled).await;
        self.live_until(settled + SignedDuration::from_hours(12)).await;
        self.verify(end).await
    }

    async fn verify(self, end: Timestamp) -> Outcome {
        let books = self.database.books().await.unwrap();
        let ledger = self.gateway.books();
        let around = Circumstances {
            end: self.clock.now(),
            expected: self.expected(end),
            received: Some(self.receiver.received.lock().unwrap().clone()),
            leaks: crate::logs::leaks(),
            braked: self.braked.clone(),
            ..Circumstances::default()
        };
        let mut verdicts = check(&ledger, &books, &around);
        if let Some((from, to)) = self.forgotten {
            // that it was committed before is for the database that was replaced to show
            let mut remembered = self.gateway.books();
            remembered.posts.retain(|post| post.at < from || post.at >= to);
            let of_rest = check(&remembered, &books, &around).into_iter().find(|verdict| verdict.name == "I5");
            verdicts.retain(|verdict| verdict.name != "I5");
            verdicts.extend(of_rest);
        }
        let mut states = BTreeMap::new();
        for charge in &books.charges {
            *states.entry(charge.state.name()).or_default() += 1;
        }
        let lines = |rows: Vec<String>| rows.join("\n");
        let history = [
            lines(books.charges.iter().map(|row| format!("{row:?}")).collect()),
            lines(books.attempts.iter().map(|row| format!("{row:?}")).collect()),
            lines(books.sends.iter().map(|row| format!("{row:?}")).collect()),
            lines(books.events.iter().map(|row| format!("{row:?}")).collect()),
        ]
        .join("\n");
        let rules = sqlx::query_as("SELECT coalesce(rule, 'fence lost'), count(*) FROM observations GROUP BY 1")
            .fetch_all(&mut by_hand(&self.url).await)
            .await
            .unwrap()
            .into_iter()
            .map(|(rule, count): (String, i64)| (rule, count as u64))
            .collect();
        self.database.close().await;
        Outcome {
            verdicts,
            swarm: self.swarm.clone(),
            crashes: self.crash.crashes.load(Ordering::SeqCst),
            charges: books.charges.len() as u64,
            months: self.terms.len() as u64 * MONTHS as u64,
            states,
            played: self.gateway.ledger.lock().unwrap().played.clone(),
            rules,
            incidents: books.incidents,
            history,
        }
    }
}
