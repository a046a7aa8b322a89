//! Two servers, a pooler, a gateway and daemons, and what befalls them.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rebilld::domain::attempt::digest;
use rebilld::gateway::sandbox::{Endpoint, Fault, FaultPlan, Matcher, Rates, Rule, Seeded};
use rebilld::http::receiver::Receiver;
use rebilld::ports::clock::Clock;
use rebilld::ports::secret::Secret;
use rebilld::time::SystemClock;
use sqlx::{Connection, Executor, PgConnection, Row};

use crate::book::Book;
use crate::bouncer::Bouncer;
use crate::finish::{self, Hands};
use crate::places;
use crate::processes::{Daemon, Gateway, Home, Tail, WEBHOOK_SECRET, until};
use crate::support::postgres::Server;

/// From a promotion to the next POST, on a machine with nothing else to do.
const RESUMES: Duration = Duration::from_secs(30);
/// So many times that, on one that is busy with other tests.
const LOADED: u32 = 3;
/// For whatever only has to happen.
pub const PATIENCE: Duration = Duration::from_secs(200);

#[expect(clippy::disallowed_methods, reason = "the size of a campaign comes from the environment")]
pub fn failovers() -> usize {
    std::env::var("REBILLD_FAILOVERS").ok().and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

pub struct World {
    /// First, because what a daemon has logged is told as it goes, and its home takes the log along.
    replicas: Vec<Option<Daemon>>,
    name: &'static str,
    pub primary: Server,
    standby: Option<Server>,
    pub bouncer: Bouncer,
    pub gateway: Gateway,
    database: String,
    home: Home,
    book: Book,
    receiver: Receiver,
    hands: Arc<Hands>,
    clock: SystemClock,
    tail: Tail,
    rng: ChaCha8Rng,
    promoted_at: Duration,
    posts_at_promotion: usize,
}

impl World {
    /// A primary and a standby that follows it, not yet synchronously; subscriptions that are due.
    pub async fn new(name: &'static str) -> Self {
        let primary = Server::start(&[("synchronous_commit", "remote_apply")]);
        let created = primary.database().await;
        let database = created.url.rsplit_once('/').expect("a database").1.to_owned();
        let standby = Server::standby_of(&primary, &[("synchronous_commit", "remote_apply")]);
        let bouncer = Bouncer::before(primary.port());
        let hands = Arc::new(Hands::default());
        let receiver = Receiver::start(Secret::new(WEBHOOK_SECRET), Arc::clone(&hands) as _).await.expect("a receiver");
        let mut home = Home::new(Some(&created.url), "http://127.0.0.1:9");
        let gateway = Gateway::start(&home.path(""));
        gateway.set_faults(&faults());
        places::reach(&mut home, &gateway.url(), &receiver.url());
        let url = bouncer.url(&database);
        home.layer("paced", &format!("[database]\nurl = \"{url}\"\npooled = true\n[accounts.main]\nrate = 20\n"));
        let clock = SystemClock::new();
        let mut world = Self {
            name,
            primary,
            standby: Some(standby),
            bouncer,
            database,
            book: Book::new(clock.now()),
            tail: gateway.tail(),
            gateway,
            home,
            receiver,
            hands,
            clock,
            rng: ChaCha8Rng::from_seed(digest(&["ha/1", name])),
            replicas: Vec::new(),
            promoted_at: Duration::ZERO,
            posts_at_promotion: 0,
        };
        world.insert(150).await;
        world
    }

    pub async fn insert(&mut self, count: usize) {
        let sql = self.book.invent(count, &mut self.rng);
        self.home.sql(&sql).await;
    }

    /// From now on no commit is acknowledged that the standby has not applied.
    pub async fn replicate_synchronously(&self) {
        let mut primary = connect(&self.primary.url("postgres")).await;
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'").await.expect("a setting");
        primary.execute("SELECT pg_reload_conf()").await.expect("a reload");
        until("the standby is synchronous", PATIENCE, async || {
            let rows = primary.fetch_all("SELECT sync_state FROM pg_stat_replication").await.expect("the standbys");
            rows.iter().any(|row| row.get::<String, _>(0) == "sync").then_some(())
        })
        .await;
    }

    /// From now on the standby hears nothing of the primary any more.
    pub async fn let_the_standby_lag(&self) {
        let mut standby = connect(&self.standby.as_ref().expect("a standby").url("postgres")).await;
        standby.execute("ALTER SYSTEM SET primary_conninfo = ''").await.expect("a setting");
        standby.execute("SELECT pg_reload_conf()").await.expect("a reload");
        until("the standby hears nothing", PATIENCE, async || {
            standby.fetch_all("SELECT pid FROM pg_stat_wal_receiver").await.expect("its receivers").is_empty().then_some(())
        })
        .await;
    }

    /// A new standby of the primary of now.
    pub fn follow(&mut self) {
        self.standby = Some(Server::standby_of(&self.primary, &[("synchronous_commit", "remote_apply")]));
    }

    /// The standby becomes the primary, and the pooler's clients are sent there.
    pub async fn fail_over(&mut self) {
        let mut standby = self.standby.take().expect("a standby");
        self.posts_at_promotion = self.tail.charges();
        standby.promote();
        self.bouncer.point_at(standby.port());
        self.promoted_at = self.clock.boot();
        self.home.database = standby.url(&self.database);
        // the dead one's files go
        self.primary = standby;
    }

    /// Until the gateway is asked again. Returns how long that took since the promotion.
    pub async fn resumed(&mut self) -> Duration {
        let before = self.posts_at_promotion;
        let tail = &mut self.tail;
        until("work resumes after the promotion", RESUMES * LOADED, async || (tail.charges() > before + 1).then_some(())).await;
        self.clock.boot() - self.promoted_at
    }

    pub fn start_replicas(&mut self, count: usize) {
        self.replicas = (0..count).map(|_| None).collect();
        (0..count).for_each(|n| self.start_replica(n));
    }

    /// Each has a state directory of its own, which outlives it.
    pub fn start_replica(&mut self, n: usize) {
        let name = format!("replica-{n}");
        let state = self.home.path(&name);
        self.home.layer(&name, &format!("state_dir = \"{}\"\n", state.display()));
        self.replicas[n] = Some(Daemon::start(&self.home, &name));
        self.home.files.pop();
    }

    /// SIGKILL.
    pub fn kill_replica(&mut self, n: usize) {
        self.replicas[n].take().expect("it runs").kill();
    }

    /// Until the gateway has been asked for so many more charges.
    pub async fn more_posts(&mut self, count: usize) {
        let tail = &mut self.tail;
        let wanted = tail.charges() + count;
        until("the gateway is asked for more charges", PATIENCE, async || (tail.charges() >= wanted).then_some(())).await;
    }

    /// Why the database is on hold, if it is.
    pub async fn held(&self) -> Option<String> {
        let rows = self.home.sql("SELECT hold_reason FROM settings WHERE held").await;
        rows.first().map(|row| row.text("hold_reason").expect("a reason"))
    }

    pub async fn number(&self, sql: &str) -> i64 {
        self.home.sql(sql).await[0].int("n").expect("a number")
    }

    /// Whether the gateway is done with all that it was asked.
    pub fn is_settled(&self) -> bool {
        let ledger = self.gateway.ledger();
        ledger.charges().all(|post| post.processed.is_some() || post.faults.contains(&Fault::DropRequest))
    }

    /// Ends all daemons, moves time until every doubt is resolved, and checks every invariant on the primary of now.
    pub async fn prove(self) {
        let logs: Vec<String> = (0..self.replicas.len()).map(|n| self.home.log(&format!("replica-{n}"))).collect();
        // which of them comes first to what is due, nobody can say: on a busy machine one may find nothing left
        let busy = logs.iter().filter(|log| log.contains("a charge changed state")).count();
        assert!(busy >= 2, "{busy} replicas have done anything");
        self.replicas.into_iter().flatten().for_each(Daemon::kill);
        let patience = Duration::from_secs(180 + 60 * failovers() as u64);
        let (name, subscriptions) = (self.name, self.book.len());
        let proven = finish::finish(self.home, self.gateway, self.book, self.receiver, self.hands, &logs, patience).await;
        println!("{name}: {} failovers, {subscriptions} subscriptions; {}", failovers(), proven.figures);
        proven.assert(name);
    }
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("a connection")
}

/// Answers that take a while and some that are lost, so that at any moment some are under way.
fn faults() -> FaultPlan {
    let charges = Rates { drop_response: 20_000, delay: 400_000, max_seconds: 2, max_millis: 400, ..Rates::default() };
    let audit = Rule { when: Matcher::endpoint(Endpoint::List), faults: Vec::new(), times: None };
    FaultPlan { script: vec![audit], seeded: Some(Seeded { seed: 7, charges, lookups: Rates::default() }), ..FaultPlan::none() }
}
