//! The end of a run: time is moved until every doubt that the kills left is resolved, then everything is proven.
//!
//! Q is an hour and is never shortened, so the last life is a worker in this process under a simulated clock. The gateway goes
//! on from its ledger's file at the same address, under the same clock.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rebilld::app::assemble;
use rebilld::config::{Environment, Sources, load};
use rebilld::domain::charge::ChargeState;
use rebilld::domain::proof::{self, BookSend, Circumstances, Ledger, Verdict};
use rebilld::engine::worker;
use rebilld::gateway::sandbox::{Fault, LedgerSnapshot, Sandbox, SandboxOptions};
use rebilld::http::receiver::Receiver;
use rebilld::ports::clock::Clock;
use rebilld::store::{Database, OpenOptions};
use rebilld::time::{SimulatedClock, SystemClock};

use crate::book::{Book, CANARIES};
use crate::processes::{Gateway, Home, WEBHOOK_SECRET, until};

// Each test file uses some of this. Naming all of it here keeps the compiler's unused-code lint on without an exception.
const _: () = {
    let _ = (Proven::double, Proven::lost, Proven::stuck, Proven::assert);
};

/// Long enough for Q, for the day that R7 keeps between ids, and for what is `ready` to be given up.
const SETTLING: SignedDuration = SignedDuration::from_hours(50);
/// Clocks of two processes, one of which is corrected by the database's, may differ by so much.
const SKEW: SignedDuration = SignedDuration::from_millis(250);

/// A clock that is the machine's until a simulated one takes over.
#[derive(Default)]
pub struct Hands {
    real: SystemClock,
    simulated: OnceLock<Arc<SimulatedClock>>,
    /// A daemon's clock was wrong for a while: what it signed then, receivers took for forged, and were told again.
    pub astray: AtomicBool,
}

#[async_trait]
impl Clock for Hands {
    fn now(&self) -> Timestamp {
        self.simulated.get().map_or_else(|| self.real.now(), |clock| clock.now())
    }

    fn boot(&self) -> Duration {
        self.real.boot()
    }

    async fn sleep_until(&self, until: Timestamp, busy: bool) {
        self.real.sleep_until(until, busy).await;
    }
}

pub struct Proven {
    verdicts: Vec<Verdict>,
    incidents: Vec<String>,
    /// Sends of the daemons' lives that nothing has ended.
    stuck: Vec<BookSend>,
    pub figures: Figures,
}

impl Proven {
    fn broken(&self, names: &[&str]) -> usize {
        self.verdicts.iter().filter(|verdict| names.contains(&verdict.name)).map(|verdict| verdict.broken.len()).sum()
    }

    /// Periods that were paid twice.
    pub fn double(&self) -> usize {
        self.broken(&["I1"])
    }

    /// What the gateway has done and the database does not know, or believes otherwise.
    pub fn lost(&self) -> usize {
        self.broken(&["I2", "I3", "I11"])
    }

    /// Periods and sends that nobody would bring to an end any more.
    pub fn stuck(&self) -> usize {
        self.stuck.len() + self.broken(&["I4"])
    }

    /// Fails unless everything holds.
    pub fn assert(&self, run: &str) {
        let broken: Vec<String> = self
            .verdicts
            .iter()
            .filter(|verdict| !verdict.holds())
            .map(|verdict| format!("{} {}: {:#?}", verdict.name, verdict.says, &verdict.broken[..verdict.broken.len().min(5)]))
            .collect();
        assert!(broken.is_empty(), "{run}:\n{}", broken.join("\n"));
        assert!(self.stuck.is_empty(), "{run}: sends of the daemons are still open: {:#?}", self.stuck);
        assert_eq!(self.incidents, Vec::<String>::new(), "{run}");
    }
}

#[derive(Debug, Default)]
pub struct Figures {
    posts: usize,
    /// POSTs while the processes were killed.
    posts_in_life: usize,
    faulty: usize,
    payments: usize,
    charges: usize,
    /// Sends without a proven end after the last kill.
    in_doubt: usize,
    /// How the sends ended that no answer ended.
    ended_by_look_up: usize,
    review: usize,
    delivered: usize,
    repeats: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} POSTs ({} of them before the last kill, {} with a fault), {} paid, {} charges ({} in review); \
             {} sends in doubt after the last kill, {} ended by look-ups in all, 0 left; {} events delivered, {} repeated",
            self.posts,
            self.posts_in_life,
            self.faulty,
            self.payments,
            self.charges,
            self.review,
            self.in_doubt,
            self.ended_by_look_up,
            self.delivered,
            self.repeats
        )
    }
}

/// Whether the gateway is done with all that it was asked, and shows it.
fn settled(ledger: &LedgerSnapshot, now: Timestamp) -> bool {
    let dropped = |faults: &[Fault]| faults.contains(&Fault::DropRequest);
    ledger.charges().all(|post| post.processed.is_some() || dropped(&post.faults))
        && ledger.payments.iter().all(|payment| payment.visible_from <= now)
}

/// The ledger as the proof reads it.
fn neutral(ledger: &LedgerSnapshot) -> Ledger {
    let mut neutral = ledger.neutral();
    neutral.posts.iter_mut().for_each(|post| post.at += SKEW);
    neutral
}

async fn ended_by_look_up(home: &Home) -> usize {
    let rows = home.sql("SELECT count(*) AS n FROM sends WHERE state IN ('absent', 'found')").await;
    rows[0].small("n").expect("a count")
}

/// Moves time on, and checks everything. `patience` is the longest that the settling may take of real time.
pub async fn finish(
    home: Home,
    mut gateway: Gateway,
    book: Book,
    receiver: Receiver,
    hands: Arc<Hands>,
    logs: &[String],
    patience: Duration,
) -> Proven {
    until("the gateway is done", Duration::from_secs(20), async || {
        settled(&gateway.ledger(), SystemClock::new().now()).then_some(())
    })
    .await;
    let before = gateway.ledger();
    let in_doubt = home.books().await.sends.iter().filter(|send| send.ended_at.is_none()).count();
    gateway.stop();

    let start = SystemClock::new().now();
    let end = start + SETTLING;
    let clock = Arc::new(SimulatedClock::new(start));
    clock.set_horizon(end);
    assert!(hands.simulated.set(Arc::clone(&clock)).is_ok(), "time is moved once");
    let mut options = SandboxOptions::new(Arc::clone(&clock) as _);
    options.bind = gateway.address;
    options.ledger_file = Some(gateway.ledger_file.clone());
    let sandbox = Sandbox::start(options).await.expect("the gateway goes on at the same address");

    let mut files = home.files.clone();
    let quick = home.path("quick.toml");
    std::fs::write(&quick, "[accounts.main]\nrate = 100000\nin_flight = 32\n[worker]\nbatch = 256\n").expect("a file");
    files.push(quick);
    let sources = Sources { files, environment: Environment::of([]), ..Sources::default() };
    let loaded = load(&sources).expect("the daemons' own config");
    let options = OpenOptions { endpoints: vec!["app".to_owned()], create: false, max_connections: 4, ..OpenOptions::default() };
    let database = Arc::new(Database::open(&home.database, options).await.expect("the database opens"));
    let assembled = assemble(&loaded, database, Arc::clone(&clock) as Arc<dyn Clock>, true, |tuning| {
        // under a simulated clock every look costs a turn, and there is nobody to be punctual for
        tuning.interval = Duration::from_secs(24 * 3600);
        tuning.lead = SignedDuration::ZERO;
        tuning.clock_check = None;
    })
    .await
    .expect("the engine is put together");
    let running = tokio::spawn(worker::run(Arc::clone(&assembled.engine)));
    let over = tokio::time::timeout(patience, clock.horizon_reached()).await;
    assert!(over.is_ok(), "simulated time stands still at {}", clock.now());
    assembled.engine.stop();
    running.await.expect("the worker ends");
    assembled.database.close().await;

    let ledger = sandbox.ledger();
    sandbox.stop().await;
    let books = home.books().await;
    let received = receiver.received();
    assert!(received.forged == 0 || hands.astray.load(Ordering::Relaxed), "every delivery is signed");
    let canaries = CANARIES.into_iter().chain(["sandbox-secret", WEBHOOK_SECRET, "Bearer ", "5ec7e700"]);
    let leaks: Vec<String> = canaries.filter(|word| logs.iter().any(|log| log.contains(word))).map(str::to_owned).collect();
    let around = Circumstances {
        end,
        expected: book.expected(end),
        received: Some(received.ids.clone()),
        leaks,
        may_wait: true,
        braked: book.braked.clone(),
    };
    let verdicts = proof::check(&neutral(&ledger), &books, &around);
    // what stays `ready` at the gateway stays open for ever, in review; nothing else does, but what a wrong clock took for a day old
    let review: HashSet<i64> =
        books.charges.iter().filter(|charge| charge.state == ChargeState::Review).map(|charge| charge.id).collect();
    let aged = |charge: &i64| hands.astray.load(Ordering::Relaxed) && review.contains(charge);
    let ready: HashSet<i64> = books
        .attempts
        .iter()
        .filter(|attempt| attempt.customer_uid.starts_with("ready-") || aged(&attempt.charge))
        .map(|attempt| attempt.id)
        .collect();
    let open = books.sends.iter().filter(|send| send.ended_at.is_none() && send.begun_at < start);
    let stuck: Vec<_> = open.filter(|send| !ready.contains(&send.attempt)).cloned().collect();
    let figures = Figures {
        posts: ledger.charges().count(),
        posts_in_life: before.charges().count(),
        faulty: ledger.charges().filter(|post| !post.faults.is_empty()).count(),
        payments: paid(&ledger),
        charges: books.charges.len(),
        in_doubt,
        ended_by_look_up: ended_by_look_up(&home).await,
        review: books.charges.iter().filter(|charge| charge.state == ChargeState::Review).count(),
        delivered: received.ids.len(),
        repeats: received.repeats,
    };
    Proven { verdicts, incidents: books.incidents, stuck, figures }
}

fn paid(ledger: &LedgerSnapshot) -> usize {
    ledger.neutral().payments.iter().filter(|payment| payment.status == proof::LedgerStatus::Paid).count()
}
