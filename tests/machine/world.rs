//! A gateway, a receiver, a home and the daemons of one test, and what befalls them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rebilld::domain::attempt::digest;
use rebilld::gateway::sandbox::{Endpoint, FaultPlan, Matcher, Rates, Rule, Seeded};
use rebilld::http::receiver::Receiver;
use rebilld::ports::clock::Clock;
use rebilld::ports::secret::Secret;
use rebilld::time::SystemClock;

use crate::book::Book;
use crate::finish::{self, Hands};
use crate::places;
use crate::processes::{Daemon, Gateway, Home, Tail, WEBHOOK_SECRET, until};

/// For whatever only has to happen, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Nothing that was on its way is on its way so long after.
const QUIET: Duration = Duration::from_millis(2500);
/// Of simulated time, at the end.
const SETTLING: Duration = Duration::from_secs(240);

pub struct World {
    name: &'static str,
    pub home: Home,
    pub gateway: Gateway,
    pub book: Book,
    receiver: Receiver,
    pub hands: Arc<Hands>,
    pub tail: Tail,
    pub rng: ChaCha8Rng,
    logs: BTreeSet<String>,
}

impl World {
    /// A gateway with faults, a migrated database, and `count` subscriptions, most with several periods that are due.
    pub async fn new(name: &'static str, database: Option<&str>, count: usize) -> Self {
        let hands = Arc::new(Hands::default());
        let receiver = Receiver::start(Secret::new(WEBHOOK_SECRET), Arc::clone(&hands) as _).await.expect("a receiver");
        let mut home = Home::new(database, "http://127.0.0.1:9");
        let gateway = Gateway::start(&home.path(""));
        gateway.set_faults(&faults());
        places::reach(&mut home, &gateway.url(), &receiver.url());
        let mut world = Self {
            name,
            book: Book::new(SystemClock::new().now()),
            tail: gateway.tail(),
            gateway,
            home,
            receiver,
            hands,
            rng: ChaCha8Rng::from_seed(digest(&["machine/1", name])),
            logs: BTreeSet::new(),
        };
        world.insert(count).await;
        world
    }

    pub async fn insert(&mut self, count: usize) {
        if count > 0 {
            let sql = self.book.invent(count, &mut self.rng);
            self.home.sql(&sql).await;
        }
    }

    /// Cards that pay, and periods of a week.
    pub async fn insert_plain(&mut self, count: usize) {
        let sql = self.book.invent_plain(count);
        self.home.sql(&sql).await;
    }

    pub fn start(&mut self) -> Daemon {
        self.logs.insert("daemon".to_owned());
        Daemon::start(&self.home, "daemon")
    }

    pub fn start_under(&mut self, variables: &[(&str, &str)]) -> Daemon {
        self.logs.insert("daemon".to_owned());
        Daemon::start_under(&self.home, "daemon", variables)
    }

    /// Through a shell that prepares what is around it; `script` ends with `exec "$@"`.
    pub fn start_wrapped(&mut self, script: &str) -> Daemon {
        self.logs.insert("daemon".to_owned());
        Daemon::wrapped(&self.home, "daemon", script)
    }

    pub fn log(&self) -> String {
        self.home.log("daemon")
    }

    /// Until the gateway has been asked for so many more charges.
    pub async fn more_posts(&mut self, count: usize) {
        let wanted = self.tail.charges() + count;
        self.posts(wanted).await;
    }

    async fn posts(&mut self, wanted: usize) {
        let tail = &mut self.tail;
        until("the gateway is asked for more charges", PATIENCE, async || (tail.charges() >= wanted).then_some(())).await;
    }

    /// Until the log has told of it after what it told before.
    pub async fn until_logged(&self, words: &str, after: usize) {
        let what = format!("the log says `{words}`");
        until(&what, PATIENCE, async || self.log().get(after..).is_some_and(|new| new.contains(words)).then_some(())).await;
    }

    /// How many charges were asked for once nothing was for a while. It is given up when that never comes.
    pub async fn silence(&mut self) -> usize {
        let clock = SystemClock::new();
        let (end, mut since, mut before) = (clock.boot() + PATIENCE, clock.boot(), self.tail.charges());
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let (now, charges) = (clock.boot(), self.tail.charges());
            if charges != before {
                (since, before) = (now, charges);
            }
            if now - since > QUIET {
                return charges;
            }
            assert!(now < end, "{}: charges are asked for all the time", self.name);
        }
    }

    /// Moves time until every doubt is resolved, and checks every invariant. No daemon may run any more.
    pub async fn prove(self) {
        let logs: Vec<String> = self.logs.iter().map(|log| self.home.log(log)).collect();
        let (name, subscriptions) = (self.name, self.book.len());
        let proven = finish::finish(self.home, self.gateway, self.book, self.receiver, self.hands, &logs, SETTLING).await;
        println!("{name}: {subscriptions} subscriptions; {}", proven.figures);
        proven.assert(name);
    }
}

/// Answers that take a while and some that are lost, so that at any moment some are under way.
fn faults() -> FaultPlan {
    let charges = Rates { drop_response: 20_000, delay: 400_000, max_seconds: 2, max_millis: 400, ..Rates::default() };
    let audit = Rule { when: Matcher::endpoint(Endpoint::List), faults: Vec::new(), times: None };
    FaultPlan { script: vec![audit], seeded: Some(Seeded { seed: 11, charges, lookups: Rates::default() }), ..FaultPlan::none() }
}
