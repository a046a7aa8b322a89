//! One seed: a book of subscriptions, a gateway with faults, replicas that are killed at any await and started again.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rebilld::domain::charge::IdMode;
use rebilld::domain::fuse::Fuse;
use rebilld::domain::plan::Catalog;
use rebilld::domain::proof::Verdict;
use rebilld::engine::{Account, Engine, InForce, Parts, Tuning, worker};
use rebilld::ports::courier::{Courier, Handover};
use rebilld::ports::store::{Delivery, Store};
use rebilld::ports::switch::NoSwitch;
use rebilld::ports::wake::Wake;
use rebilld::store::Database;
use rebilld::store::identity::{AccountConfig, AccountRow};
use tokio::task::JoinHandle;

use crate::book::Book;
use crate::disk::Disk;
use crate::faults::{Swarm, rng};
use crate::gateway::{PortOne, SimulatedGateway};
use crate::ledger::Ledger;
use crate::operations::happens;
use crate::process::Process;
use crate::stage::{Dice, Stage, at_once};
use crate::store::{SimulatedStore, SimulatedWatermark, StateDirectory};
use crate::tally::{Counts, Tally};
use crate::witness::{AtTheWire, Believed};

/// After the faults have stopped: long enough for any ladder to end.
pub const SETTLING: SignedDuration = SignedDuration::from_hours(45 * 24);

/// A receiver that refuses now and then, and remembers what it has accepted.
struct Receiver {
    dice: Mutex<Dice>,
    received: Mutex<HashSet<String>>,
}

/// As one process reaches it.
struct SimulatedCourier(Arc<Receiver>, Arc<Process>);

#[async_trait]
impl Courier for SimulatedCourier {
    async fn deliver(&self, delivery: &Delivery) -> Handover {
        if self.0.dice.lock().unwrap().hits(20, 1000) && happens(|| format!("the receiver refuses {}", delivery.event_id)) {
            return Handover::Failed("HTTP 500".to_owned());
        }
        self.0.received.lock().unwrap().insert(delivery.event_id.clone());
        self.1.point().await;
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
    pub counts: Counts,
    pub incidents: Vec<String>,
    /// Everything that is booked: equal for equal seeds.
    pub history: String,
}

/// A process, and the engine in it.
type Living = (Arc<Process>, Arc<Engine>);

/// What the processes of a seed share.
pub struct Shared {
    pub stage: Arc<Stage>,
    pub swarm: Swarm,
    pub database: Mutex<Arc<Database>>,
    pub portone: Arc<PortOne>,
    receiver: Arc<Receiver>,
    pub directory: Arc<StateDirectory>,
    pub tally: Arc<Tally>,
    pub catalog: Mutex<Catalog>,
    pub account: AccountRow,
    mode: IdMode,
    lives: AtomicU64,
    pub faults: AtomicBool,
    pub jumps: Vec<(Timestamp, i64)>,
    /// Who lives now.
    living: Mutex<BTreeMap<u64, Living>>,
}

pub struct World {
    pub shared: Arc<Shared>,
    pub book: Book,
    pub disk: Disk,
    pub replicas: Vec<JoinHandle<()>>,
    /// When nothing might be sent.
    pub braked: Vec<(Timestamp, Timestamp)>,
    /// Which POSTs were forgotten with a database that was replaced.
    pub forgotten: Vec<Range<usize>>,
    /// What happened between is not in the database.
    pub lost: Vec<(Timestamp, Timestamp)>,
    /// Since when a copy of the database has been on hold.
    pub held_since: Option<Timestamp>,
}

impl World {
    pub fn new(swarm: Swarm, disk: Disk) -> Self {
        let start = swarm.start();
        let stage = Stage::new(start, swarm.seed);
        let database = disk.open();
        let configured = AccountConfig {
            name: "main".to_owned(),
            fingerprint: "f".to_owned(),
            base_url: "http://127.0.0.1".to_owned(),
            tier: None,
        };
        let account = at_once(async { database.sync_accounts(&[configured], start).await.unwrap().remove(0) });
        let book = Book::of(&swarm);
        let tally = Arc::new(Tally::default());
        let portone = PortOne {
            ledger: Mutex::new(Ledger::new(swarm.seed, book.cards.clone(), swarm.late_approvals)),
            swarm: Mutex::new(Some(swarm.clone())),
            tally: Arc::clone(&tally),
            at_the_wire: AtTheWire::new(&swarm),
            believed: Believed::default(),
        };
        let per_attempt = rng(swarm.seed, &["mode"]).random_bool(0.8);
        let jumps = swarm.jumps.iter().map(|(hour, seconds)| (start + SignedDuration::from_hours(*hour), *seconds)).collect();
        let receiver = Receiver { dice: Mutex::new(Dice::new(swarm.seed, 1)), received: Mutex::default() };
        let shared = Shared {
            stage,
            database: Mutex::new(database),
            portone: Arc::new(portone),
            receiver: Arc::new(receiver),
            directory: Arc::default(),
            tally,
            catalog: Mutex::new(book.catalog.clone()),
            account,
            mode: if per_attempt { IdMode::PerAttempt } else { IdMode::PerPeriod },
            lives: AtomicU64::new(0),
            faults: AtomicBool::new(true),
            jumps,
            living: Mutex::default(),
            swarm,
        };
        Self {
            shared: Arc::new(shared),
            book,
            disk,
            replicas: Vec::new(),
            braked: Vec::new(),
            forgotten: Vec::new(),
            lost: Vec::new(),
            held_since: None,
        }
    }

    pub fn now(&self) -> Timestamp {
        self.shared.stage.now()
    }

    pub fn start(&self) -> Timestamp {
        self.shared.stage.start
    }

    pub fn database(&self) -> Arc<Database> {
        self.shared.database()
    }

    /// Starts the replicas.
    pub fn come_up(&mut self) {
        let replicas = if self.shared.faults.load(Ordering::SeqCst) { self.shared.swarm.replicas.max(1) } else { 1 };
        for replica in 0..replicas {
            self.replicas.push(tokio::spawn(Arc::clone(&self.shared).live(replica)));
        }
    }

    /// Kills them all.
    pub async fn go_down(&mut self) {
        for (process, _) in self.shared.living.lock().unwrap().values() {
            process.kill();
        }
        for replica in self.replicas.drain(..) {
            replica.abort();
            // a replica that had panicked would be missed by nobody: those that come up after it settle what it left
            if let Err(why) = replica.await
                && why.is_panic()
            {
                std::panic::resume_unwind(why.into_panic());
            }
        }
        self.shared.living.lock().unwrap().clear();
    }

    /// Asks them all to end as on SIGTERM; each comes up again.
    pub fn restart(&self) {
        for (_, engine) in self.shared.living.lock().unwrap().values() {
            engine.stop();
        }
    }

    /// The config in force is swapped while they work.
    pub fn reload(&self) {
        for (_, engine) in self.shared.living.lock().unwrap().values() {
            let catalog = self.book.catalog.clone();
            engine.take(InForce { catalog, ..InForce::clone(&engine.in_force()) });
        }
    }

    /// Rings at all replicas, as the database does when somebody writes a row.
    pub fn ring(&self) {
        for (_, engine) in self.shared.living.lock().unwrap().values() {
            engine.look_at_brakes();
        }
    }

    pub async fn live_until(&self, until: Timestamp) {
        self.shared.stage.sleep_until(until).await;
    }

    pub fn received(&self) -> HashSet<String> {
        self.shared.receiver.received.lock().unwrap().clone()
    }

    /// A process of an operator, which nothing befalls.
    pub fn calm(&self) -> Living {
        self.shared.engine(&Swarm::default())
    }
}

impl Shared {
    pub fn database(&self) -> Arc<Database> {
        Arc::clone(&self.database.lock().unwrap())
    }

    /// The one account, as a process has it.
    pub fn account(&self, process: &Arc<Process>) -> Account {
        let gateway = SimulatedGateway {
            portone: Arc::clone(&self.portone),
            database: self.database(),
            process: Arc::clone(process),
            token: AtomicU64::new(1),
        };
        Account {
            id: self.account.id,
            name: self.account.name.clone(),
            endpoint: self.account.endpoint,
            gateway: Arc::new(gateway),
            rate: None,
            in_flight: 16,
            budget_count: None,
            budget_sum: None,
            budget_zone: TimeZone::UTC,
            fuse: Fuse { hour_count: Some(1_000_000), ..Fuse::NONE },
        }
    }

    /// A new process on the same database.
    pub fn engine(&self, faults: &Swarm) -> Living {
        let life = self.lives.fetch_add(1, Ordering::SeqCst);
        let process = Process::new(
            &self.stage,
            &self.jumps,
            faults,
            life,
            Dice::new(self.swarm.seed, 1000 + life),
            Arc::clone(&self.tally),
        );
        let tokens = AtomicU64::new(0);
        let store = SimulatedStore {
            inner: self.database(),
            process: Arc::clone(&process),
            lost_commits: faults.lost_commits,
            lost_acknowledgements: faults.lost_acknowledgements,
            dice: Mutex::new(Dice::new(self.swarm.seed, 1_000_000 + life)),
            writes: AtomicU64::new(0),
            tally: Arc::clone(&self.tally),
        };
        let watermark = SimulatedWatermark {
            directory: Arc::clone(&self.directory),
            process: Arc::clone(&process),
            seed: self.swarm.seed,
            full_disk: faults.full_disk,
            tally: Arc::clone(&self.tally),
        };
        let mut tuning = Tuning::new(crate::book::TAG.parse().unwrap());
        tuning.batch = 64;
        tuning.interval = Duration::from_secs(48 * 3600);
        tuning.clock_check = (!self.jumps.is_empty()).then_some(Duration::from_secs(10));
        tuning.audit_quick_every = SignedDuration::from_hours(100);
        tuning.audit_complete_every = SignedDuration::from_hours(15 * 24);
        let engine = Engine::new(Parts {
            store: Arc::new(store),
            clock: Arc::clone(&process) as _,
            courier: Arc::new(SimulatedCourier(Arc::clone(&self.receiver), Arc::clone(&process))),
            watermark: Arc::new(watermark),
            switch: Arc::new(NoSwitch),
            accounts: vec![self.account(&process)],
            catalog: self.catalog.lock().unwrap().clone(),
            id_modes: [(self.account.id, self.mode)].into(),
            tuning,
            wake: Wake::default(),
            audit_first: false,
            tokens: Box::new(move || format!("life-{life}-{}", tokens.fetch_add(1, Ordering::SeqCst))),
            delivery_delay: delay,
        });
        (process, engine)
    }

    /// As the guard does at a daemon's start: a database that knows less than the state directory is held.
    fn guard(&self) {
        let database = self.database();
        at_once(async {
            let is_ahead = self.directory.is_ahead_of(&database).await;
            self.directory.suspect.store(is_ahead, Ordering::SeqCst);
            if is_ahead {
                let why = "the state directory remembers more";
                if database.hold(self.stage.now(), why).await.unwrap() {
                    self.tally.count("restore: held");
                }
                database.disarm_all().await.unwrap();
            }
        });
    }

    /// One replica: one life after another, for ever.
    async fn live(self: Arc<Self>, replica: u64) {
        let mut dice = Dice::new(self.swarm.seed, 77 + replica);
        loop {
            self.guard();
            let calm = Swarm::default();
            let (process, engine) = self.engine(if self.faults.load(Ordering::SeqCst) { &self.swarm } else { &calm });
            self.living.lock().unwrap().insert(replica, (Arc::clone(&process), Arc::clone(&engine)));
            tokio::select! {
                biased;
                () = process.died() => self.tally.count("fault: crash"),
                () = worker::run(engine) => self.tally.count("stopped"),
            }
            process.kill();
            self.living.lock().unwrap().remove(&replica);
            // the dead process leaves the database as it is; the next one comes up a little later
            self.stage.sleep(SignedDuration::from_secs(dice.below(600) as i64)).await;
        }
    }
}
