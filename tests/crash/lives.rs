//! A world: a gateway that outlives everything, a wire that spoils requests, a database, subscriptions that are due, and the daemons
//! that are started in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rebilld::domain::attempt::digest;
use rebilld::gateway::sandbox::{Endpoint, FaultPlan, Matcher, Rates, Rule, Seeded};
use rebilld::http::receiver::Receiver;
use rebilld::ports::clock::Clock;
use rebilld::ports::secret::Secret;
use rebilld::store::desk::{Reach, Signed};
use rebilld::time::SystemClock;

use crate::book::Book;
use crate::finish::{self, Hands, Proven};
use crate::places;
use crate::processes::{Daemon, Gateway, Home, Tail, WEBHOOK_SECRET, until, within};
use crate::proxy::{Mix, Proxy};
use crate::support::postgres::Server;

// Each test file uses some of this. Naming all of it here keeps the compiler's unused-code lint on without an exception.
const _: () = {
    let _ = (World::over, World::start, World::start_under, World::replica, World::a_while, World::posts, World::charges);
    let _ = (World::first_send_since, World::deed, World::kill_switch, World::settle, changes, MORE, LOADED, PUNCTUAL);
    let _ = |world: World| (world.rng, world.server, world.proxy, world.clock, world.kills);
};

/// From a start, of a daemon or of its database, to the next send's intent: on a machine with nothing else to do.
pub const PUNCTUAL: Duration = Duration::from_secs(10);
/// So many times that, on one that is busy with other tests.
pub const LOADED: u32 = 6;

/// Subscriptions that are written in each life that is not too short.
pub const MORE: usize = 30;

pub struct World {
    pub name: &'static str,
    pub seed: u64,
    pub home: Home,
    pub gateway: Gateway,
    pub proxy: Proxy,
    /// A PostgreSQL server of its own, which may be killed.
    pub server: Option<Server>,
    pub book: Book,
    receiver: Receiver,
    /// The receiver's time, which goes on in simulated time at the end.
    hands: Arc<Hands>,
    pub clock: SystemClock,
    tail: Tail,
    pub rng: ChaCha8Rng,
    logs: BTreeSet<String>,
    /// How many there were, by kind.
    pub kills: BTreeMap<&'static str, u64>,
    /// From the end of a crash to the next send's intent.
    resumed: Vec<Duration>,
}

impl World {
    /// A gateway with faults behind a wire with faults, a migrated database, and subscriptions that are due.
    pub async fn new(name: &'static str, seed: u64, database: Option<&str>) -> Self {
        Self::behind(Mix::of_a_bad_wire(), name, seed, database).await
    }

    /// The same, behind another wire.
    pub async fn behind(wire: Mix, name: &'static str, seed: u64, database: Option<&str>) -> Self {
        let hands = Arc::new(Hands::default());
        let receiver = Receiver::start(Secret::new(WEBHOOK_SECRET), Arc::clone(&hands) as _).await.expect("a receiver");
        let nowhere = "http://127.0.0.1:9";
        let mut home = Home::new(database, nowhere);
        let gateway = Gateway::start(&home.path(""));
        gateway.set_faults(&faults(seed));
        let proxy = Proxy::before(gateway.address, seed, wire).await;
        places::reach(&mut home, &proxy.url(), &receiver.url());
        let clock = SystemClock::new();
        let mut world = Self {
            name,
            seed,
            book: Book::new(clock.now()),
            tail: gateway.tail(),
            rng: ChaCha8Rng::from_seed(digest(&["crash/1", &seed.to_string()])),
            logs: BTreeSet::new(),
            kills: BTreeMap::new(),
            resumed: Vec::new(),
            server: None,
            home,
            gateway,
            proxy,
            receiver,
            hands,
            clock,
        };
        // a kill leaves what was claimed to the end of its claim: there has to be more
        world.insert(150).await;
        world
    }

    /// The same on a server of its own.
    pub async fn over(name: &'static str, seed: u64) -> Self {
        let server = Server::start(&[]);
        let database = server.database().await;
        let mut world = Self::new(name, seed, Some(&database.url)).await;
        world.server = Some(server);
        world
    }

    pub async fn insert(&mut self, count: usize) {
        let sql = self.book.invent(count, &mut self.rng);
        self.home.sql(&sql).await;
    }

    /// An operator does something on another machine: the state directory here learns of it from a daemon. Nothing is stopped in the end.
    pub async fn deed(&self) {
        for on in [true, false] {
            self.kill_switch(on).await;
        }
    }

    /// Turns the kill switch of the account.
    pub async fn kill_switch(&self, on: bool) {
        let database = self.home.open().await;
        let signed = Signed { who: "a test".to_owned(), reason: "a look".to_owned() };
        let reach = Reach::Account("main".to_owned());
        // somebody may write for longer than is waited for
        until("the kill switch is turned", PUNCTUAL * LOADED, async || {
            database.desk().kill(self.clock.now(), &reach, on, &signed).await.ok()
        })
        .await;
        database.close().await;
    }

    pub fn start(&mut self, log: &str) -> Daemon {
        self.start_under(log, &[])
    }

    pub fn start_under(&mut self, log: &str, variables: &[(&str, &str)]) -> Daemon {
        self.logs.insert(log.to_owned());
        Daemon::start_under(&self.home, log, variables)
    }

    /// One of several daemons on one database, each with a state directory of its own.
    pub fn replica(&mut self, n: usize) -> Daemon {
        let name = format!("replica-{n}");
        let state = self.home.path(&name);
        self.home.layer(&name, &format!("state_dir = \"{}\"\n", state.display()));
        let daemon = self.start(&name);
        self.home.files.pop();
        daemon
    }

    /// Lets the daemons work until some moment that the seed chooses: so long after the so-many-th POST, or just so long. Returns
    /// whether they were seen at work.
    pub async fn a_while(&mut self) -> bool {
        if self.rng.random_range(0..10) < 6 {
            let slack = Duration::from_micros(self.rng.random_range(0..60_000));
            let wanted = self.tail.charges() + self.rng.random_range(1..=24);
            // rows come in while they work
            self.insert(MORE).await;
            self.posts(wanted).await;
            tokio::time::sleep(slack).await;
            true
        } else {
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..1000))).await;
            false
        }
    }

    /// Until the gateway has been asked for so many charges.
    pub async fn posts(&mut self, count: usize) {
        let patience = PUNCTUAL * LOADED;
        if within(patience, async || (self.tail.charges() >= count).then_some(())).await.is_none() {
            let waiting = "SELECT count(*) AS n FROM charges WHERE state = 'due' AND waiting = 'turn'";
            let claimed = self.home.sql(&format!("{waiting} AND claim_token IS NOT NULL")).await[0].int("n");
            let all = self.home.sql(waiting).await[0].int("n");
            let (name, seed) = (self.name, self.seed);
            panic!(
                "{name}, seed {seed}: no POST number {count} within {patience:?}; {all:?} charges wait, {claimed:?} of them claimed"
            );
        }
    }

    /// As it is written in this database's SQL.
    pub fn instant(&self, at: Timestamp) -> String {
        let is_sqlite = self.home.database.starts_with("sqlite:");
        if is_sqlite { at.as_microsecond().to_string() } else { format!("TIMESTAMPTZ '{at}'") }
    }

    /// Until the next intent after this instant is committed: a charge was claimed, looked up, and is about to be sent.
    pub async fn first_send_since(&mut self, crash: Timestamp) {
        let what = format!("{}, seed {}: the first send after a crash", self.name, self.seed);
        let sql = format!("SELECT min(begun_at) AS first FROM sends WHERE begun_at > {}", self.instant(crash));
        let took = until(&what, PUNCTUAL * LOADED, async || {
            let first = self.home.sql(&sql).await[0].at_opt("first").expect("an instant");
            first.map(|at| at.duration_since(crash).unsigned_abs())
        });
        let took = took.await;
        self.resumed.push(took);
    }

    pub fn charges(&mut self) -> usize {
        self.tail.charges()
    }

    /// Moves time until every doubt is resolved, and looks whether every invariant holds. Prints the figures.
    pub async fn settle(self) -> Proven {
        let (name, seed, subscriptions) = (self.name, self.seed, self.book.len());
        let resumed = match self.resumed.iter().max() {
            Some(slowest) => {
                let (all, punctual) = (self.resumed.len(), self.resumed.iter().filter(|took| **took <= PUNCTUAL).count());
                format!("; first send after a crash within {slowest:.1?}, within {PUNCTUAL:?} in {punctual} of {all}")
            }
            None => String::new(),
        };
        let patience = Duration::from_secs(300 + subscriptions as u64 / 2);
        let logs: Vec<String> = self.logs.iter().map(|log| self.home.log(log)).collect();
        self.proxy.calm();
        let told = self.proxy.told();
        let proven = finish::finish(self.home, self.gateway, self.book, self.receiver, self.hands, &logs, patience).await;
        println!("{name}: seed {seed}, {subscriptions} subscriptions{resumed}; {}; {told}", proven.figures);
        proven
    }
}

/// Final states that a daemon's log tells of, by charge.
pub fn changes(log: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut changes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // who only says that somebody has written it has changed nothing
    for line in log.lines().filter(|line| line.contains("a charge changed state")) {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        if let (Some(charge), Some(to @ ("paid" | "unpaid"))) = (line["charge"].as_str(), line["to"].as_str()) {
            changes.entry(charge.to_owned()).or_default().insert(to.to_owned());
        }
    }
    changes
}

/// What the gateway itself does wrong. What is late or invisible is so for seconds, and waited for before time is moved; answers that
/// take a while see to it that at any moment some are under way. Most lost requests and answers are the proxy's.
fn faults(seed: u64) -> FaultPlan {
    let charges = Rates {
        drop_request: 20_000,
        drop_response: 20_000,
        reset_response: 10_000,
        late: 10_000,
        malformed: 15_000,
        truncated: 5_000,
        invisible: 20_000,
        delay: 250_000,
        max_seconds: 3,
        max_millis: 400,
        ..Rates::default()
    };
    let lookups = Rates { drop_request: 3_000, drop_response: 3_000, delay: 50_000, max_millis: 50, ..Rates::default() };
    // a failed audit is tried again after half a minute, and nothing is sent before the first one
    let audit = Rule { when: Matcher::endpoint(Endpoint::List), faults: Vec::new(), times: None };
    FaultPlan { script: vec![audit], seeded: Some(Seeded { seed, charges, lookups }), ..FaultPlan::none() }
}
