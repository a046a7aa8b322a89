//! The lives of the daemons: started, killed at a random moment, started again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rebilld::domain::attempt::digest;
use rebilld::gateway::sandbox::{Endpoint, FaultPlan, Matcher, Rates, Rule, Seeded};
use rebilld::http::receiver::Receiver;
use rebilld::ports::clock::Clock;
use rebilld::ports::secret::Secret;
use rebilld::time::SystemClock;

use crate::book::Book;
use crate::finish::{self, Hands, Proven};
use crate::processes::{Daemon, Gateway, Home, Tail, WEBHOOK_SECRET, within};

/// From a start to the first POST.
const PUNCTUAL: Duration = Duration::from_secs(10);

/// Subscriptions that are written in each life that is not too short.
pub const MORE: usize = 30;

#[expect(clippy::disallowed_methods, reason = "the size of a campaign comes from the environment")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// When a life ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// So long after its so-many-th POST.
    Posts(usize, Duration),
    /// So long after its start.
    After(Duration),
}

pub struct World {
    pub name: &'static str,
    pub seed: u64,
    pub kills: u64,
    pub home: Home,
    pub gateway: Gateway,
    pub book: Book,
    pub receiver: Receiver,
    /// The receiver's time, which goes on in simulated time at the end.
    pub hands: Arc<Hands>,
    clock: SystemClock,
    tail: Tail,
    pub rng: ChaCha8Rng,
    logs: BTreeSet<String>,
    /// From start to first POST.
    starts: Vec<Duration>,
}

impl World {
    /// A gateway with faults, a migrated database, and subscriptions that are due.
    pub async fn new(name: &'static str, seed: u64, database: Option<&str>) -> Self {
        let seed = setting("REBILLD_CRASH_SEED").unwrap_or(seed);
        let kills = setting("REBILLD_KILLS").unwrap_or(30).max(1);
        let hands = Arc::new(Hands::default());
        let receiver = Receiver::start(Secret::new(WEBHOOK_SECRET), Arc::clone(&hands) as _).await.expect("a receiver");
        let nowhere = "http://127.0.0.1:9";
        let mut home = Home::new(database, nowhere);
        let gateway = Gateway::start(&home.path(""));
        gateway.set_faults(&faults(seed));
        home.layer(
            "places",
            &format!(
                "[accounts.main]\nbase_url = \"{}\"\nin_flight = 8\n[worker]\nbatch = 6\n\
                 [[webhooks]]\nname = \"app\"\nurl = \"{}\"\nsecret_file = \"{}\"\nallow_private = true\n",
                gateway.url(),
                receiver.url(),
                home.path("webhook").display()
            ),
        );
        let clock = SystemClock::new();
        let mut world = Self {
            name,
            seed,
            kills,
            book: Book::new(clock.now()),
            tail: gateway.tail(),
            rng: ChaCha8Rng::from_seed(digest(&["crash/1", &seed.to_string()])),
            logs: BTreeSet::new(),
            starts: Vec::new(),
            home,
            gateway,
            receiver,
            hands,
            clock,
        };
        // a kill leaves what was claimed to the end of its claim: there has to be more
        world.insert(150).await;
        world
    }

    pub async fn insert(&mut self, count: usize) {
        let sql = self.book.invent(count, &mut self.rng);
        self.home.sql(&sql).await;
    }

    fn start(&mut self, log: &str) -> Daemon {
        self.logs.insert(log.to_owned());
        Daemon::start(&self.home, log)
    }

    pub fn start_under(&mut self, log: &str, variables: &[(&str, &str)]) -> Daemon {
        self.logs.insert(log.to_owned());
        Daemon::start_under(&self.home, log, variables)
    }

    fn end_of_a_life(&mut self) -> End {
        if self.rng.random_range(0..10) < 6 {
            let slack = Duration::from_micros(self.rng.random_range(0..60_000));
            End::Posts(self.rng.random_range(1..=24), slack)
        } else {
            End::After(Duration::from_millis(self.rng.random_range(0..1500)))
        }
    }

    /// One daemon at a time.
    pub async fn one_daemon(mut self) {
        for _ in 0..self.kills {
            let end = self.end_of_a_life();
            let before = self.tail.charges();
            let started = self.clock.boot();
            let daemon = self.start("daemon");
            match end {
                End::After(time) => tokio::time::sleep(time).await,
                End::Posts(count, slack) => {
                    self.posts(before + 1).await;
                    self.starts.push(self.clock.boot() - started);
                    // rows come in while it works
                    self.insert(MORE).await;
                    self.posts(before + count).await;
                    tokio::time::sleep(slack).await;
                }
            }
            daemon.kill();
        }
        self.prove().await;
    }

    /// Several daemons on one database, each with its own state directory.
    pub async fn replicas(mut self, count: usize) {
        let mut daemons = Vec::new();
        for n in 0..count {
            daemons.push(self.replica(n));
        }
        for _ in 0..self.kills {
            let victim = self.rng.random_range(0..count);
            match self.end_of_a_life() {
                End::After(time) => tokio::time::sleep(time / 2).await,
                End::Posts(more, slack) => {
                    let before = self.tail.charges();
                    self.posts(before + more).await;
                    self.insert(MORE).await;
                    tokio::time::sleep(slack).await;
                }
            }
            daemons.remove(victim).kill();
            let next = self.replica(victim);
            daemons.insert(victim, next);
        }
        daemons.into_iter().for_each(Daemon::kill);
        let settled: Vec<BTreeMap<String, BTreeSet<String>>> =
            (0..count).map(|n| changes(&self.home.log(&format!("replica-{n}")))).collect();
        for (n, mine) in settled.iter().enumerate() {
            assert!(!mine.is_empty(), "replica {n} has done nothing");
            for (charge, states) in mine {
                let others = settled[n + 1..].iter().filter_map(|other| other.get(charge)).flatten();
                let twice: Vec<&String> = others.filter(|state| states.contains(*state)).collect();
                assert!(twice.is_empty(), "charge {charge} became {twice:?} by two replicas");
            }
        }
        let shares: Vec<usize> = settled.iter().map(BTreeMap::len).collect();
        println!("{}: charges settled by each: {shares:?}", self.name);
        self.prove().await;
    }

    fn replica(&mut self, n: usize) -> Daemon {
        let name = format!("replica-{n}");
        let state = self.home.path(&name);
        self.home.layer(&name, &format!("state_dir = \"{}\"\n", state.display()));
        let daemon = self.start(&name);
        self.home.files.pop();
        daemon
    }

    /// Until the gateway has been asked for so many charges.
    async fn posts(&mut self, count: usize) {
        if within(PUNCTUAL, async || (self.tail.charges() >= count).then_some(())).await.is_none() {
            let waiting = "SELECT count(*) AS n FROM charges WHERE state = 'due' AND waiting = 'turn'";
            let claimed = self.home.sql(&format!("{waiting} AND claim_token IS NOT NULL")).await[0].int("n");
            let all = self.home.sql(waiting).await[0].int("n");
            let (name, seed) = (self.name, self.seed);
            panic!(
                "{name}, seed {seed}: no POST number {count} within {PUNCTUAL:?}; {all:?} charges wait, {claimed:?} of them claimed"
            );
        }
    }

    pub fn charges(&mut self) -> usize {
        self.tail.charges()
    }

    pub async fn prove(self) {
        let (name, seed, kills, subscriptions) = (self.name, self.seed, self.kills, self.book.len());
        let starts = match self.starts.iter().max() {
            Some(slowest) => format!("; first POST within {slowest:?} of each of {} measured starts", self.starts.len()),
            None => String::new(),
        };
        let patience = Duration::from_secs(120 + 6 * kills);
        let logs: Vec<String> = self.logs.iter().map(|log| self.home.log(log)).collect();
        let Proven { verdicts, incidents, figures } =
            finish::finish(self.home, self.gateway, self.book, self.receiver, self.hands, &logs, patience).await;
        println!("{name}: seed {seed}, {kills} kills, {subscriptions} subscriptions{starts}; {figures}");
        let broken: Vec<String> = verdicts
            .iter()
            .filter(|verdict| !verdict.holds())
            .map(|verdict| format!("{} {}: {:#?}", verdict.name, verdict.says, &verdict.broken[..verdict.broken.len().min(5)]))
            .collect();
        assert!(broken.is_empty(), "{name}, seed {seed}:\n{}", broken.join("\n"));
        assert_eq!(incidents, Vec::<String>::new(), "{name}, seed {seed}");
    }
}

/// Final states that a daemon's log tells of, by charge.
fn changes(log: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut changes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in log.lines() {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        if let (Some(charge), Some(to @ ("paid" | "unpaid"))) = (line["charge"].as_str(), line["to"].as_str()) {
            changes.entry(charge.to_owned()).or_default().insert(to.to_owned());
        }
    }
    changes
}

/// Requests and answers that are lost, and answers that take a while, so that at any moment some are under way. What is late
/// or invisible is so for seconds, and waited for before time is moved.
fn faults(seed: u64) -> FaultPlan {
    let charges = Rates {
        drop_request: 40_000,
        drop_response: 60_000,
        reset_response: 20_000,
        late: 10_000,
        malformed: 15_000,
        truncated: 15_000,
        invisible: 20_000,
        delay: 250_000,
        max_seconds: 3,
        max_millis: 400,
        ..Rates::default()
    };
    let lookups = Rates { drop_request: 5_000, drop_response: 5_000, delay: 50_000, max_millis: 50, ..Rates::default() };
    // a failed audit is tried again after half a minute, and nothing is sent before the first one
    let audit = Rule { when: Matcher::endpoint(Endpoint::List), faults: Vec::new(), times: None };
    FaultPlan { script: vec![audit], seeded: Some(Seeded { seed, charges, lookups }), ..FaultPlan::none() }
}
