//! A rolling upgrade: the version before this one works on the schema of this one, and beside it.
//!
//! Its statements stand in `tests/upgrade/statements.txt`; `REBILLD_BLESS=release` writes those of this version there, when a release is
//! made. `REBILLD_OLD_BINARY` names the program of that version, which `scripts/prove upgrade` builds out of git; without it, this
//! version takes its part, and what is proven is the restart of one replica after the other.

#[path = "crash/book.rs"]
mod book;
#[path = "crash/finish.rs"]
mod finish;
#[path = "support/processes.rs"]
mod processes;
mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use book::Book;
use finish::Hands;
use processes::{BINARY, Daemon, Gateway, Home, Tail, WEBHOOK_SECRET, until};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rebilld::config::Environment;
use rebilld::gateway::sandbox::{FaultPlan, Rates, Seeded};
use rebilld::http::receiver::Receiver;
use rebilld::ports::clock::Clock;
use rebilld::ports::secret::Secret;
use rebilld::store::sql::{self, Statement};
use rebilld::store::{Database, OpenOptions};
use rebilld::time::SystemClock;
use support::postgres;

const PATIENCE: Duration = Duration::from_secs(90);

/// Its name, then one text for each engine; a line of its own opens each.
fn written() -> String {
    let mut text = String::new();
    for statement in sql::ALL.iter().copied().flatten() {
        let Statement { name, sqlite, postgres } = statement;
        let _ = write!(text, "=== {name}\n--- sqlite\n{sqlite}\n--- postgres\n{postgres}\n");
    }
    text
}

fn previous() -> Vec<Statement> {
    let leak = |text: &str| -> &'static str { Box::leak(text.trim_end_matches('\n').to_owned().into_boxed_str()) };
    let text = std::fs::read_to_string("tests/upgrade/statements.txt").expect("the statements of the version before");
    let one = |part: &str| {
        let (name, rest) = part.split_once("\n--- sqlite\n").expect("a text for SQLite");
        let (sqlite, postgres) = rest.split_once("\n--- postgres\n").expect("a text for Postgres");
        Statement::two(leak(name), leak(sqlite), leak(postgres))
    };
    format!("\n{text}").split("\n=== ").filter(|part| !part.trim().is_empty()).map(one).collect()
}

async fn understood(url: &str) {
    let open = Database::open(url, OpenOptions { create: true, ..OpenOptions::default() }).await.expect("a database");
    open.migrate().await.expect("this version's schema");
    let statements = previous();
    assert!(statements.len() > 100, "{}", statements.len());
    let mut wrong = Vec::new();
    for statement in &statements {
        if let Err(why) = open.prepare(statement).await {
            wrong.push(why.to_string());
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "the version before cannot work on this schema");
}

#[tokio::test]
async fn every_statement_of_the_version_before_is_understood_on_sqlite() {
    if Environment::of_process().get("REBILLD_BLESS") == Some("release") {
        std::fs::write("tests/upgrade/statements.txt", written()).expect("the statements can be written");
    }
    let directory = tempfile::tempdir().expect("a directory");
    understood(&format!("sqlite:{}", directory.path().join("upgrade.db").display())).await;
}

#[tokio::test]
async fn every_statement_of_the_version_before_is_understood_on_postgres() {
    understood(&postgres::database().await.url).await;
}

/// Two replicas that are upgraded one after the other.
struct World {
    home: Home,
    old: PathBuf,
    gateway: Gateway,
    book: Book,
    tail: Tail,
    rng: ChaCha8Rng,
}

impl World {
    async fn insert(&mut self, count: usize) {
        let sql = self.book.invent(count, &mut self.rng);
        self.home.sql(&sql).await;
    }

    fn start(&mut self, binary: &Path, name: &str, state: &str) -> Daemon {
        self.home.binary = binary.to_owned();
        let state = self.home.path(state);
        // the version before may not know the section
        let http = if binary == Path::new(BINARY) { "[http]\nlisten = \"off\"\n" } else { "" };
        self.home.layer(name, &format!("state_dir = \"{}\"\n{http}", state.display()));
        let daemon = Daemon::start(&self.home, name);
        self.home.files.pop();
        daemon
    }

    async fn more_posts(&mut self, what: &str, count: usize) {
        let tail = &mut self.tail;
        let wanted = tail.charges() + count;
        until(what, PATIENCE, async || (tail.charges() >= wanted).then_some(())).await;
    }
}

async fn drained(mut daemon: Daemon) {
    daemon.terminate();
    assert!(daemon.ended(PATIENCE).await.success(), "what was under way is finished");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_upgraded_one_by_one_and_nothing_is_lost_or_repeated() {
    let environment = Environment::of_process();
    let old = PathBuf::from(environment.get("REBILLD_OLD_BINARY").unwrap_or(BINARY));
    let database = postgres::database().await;
    let hands = Arc::new(Hands::default());
    let receiver = Receiver::start(Secret::new(WEBHOOK_SECRET), Arc::clone(&hands) as _).await.expect("a receiver");
    let mut home = Home::of(&old, Some(&database.url), "http://127.0.0.1:9");
    let gateway = Gateway::start(&home.path(""));
    let charges = Rates { drop_response: 20_000, delay: 400_000, max_seconds: 2, max_millis: 400, ..Rates::default() };
    let seeded = Some(Seeded { seed: 9, charges, lookups: Rates::default() });
    gateway.set_faults(&FaultPlan { seeded, ..FaultPlan::none() });
    home.layer(
        "places",
        &format!(
            "[accounts.main]\nbase_url = \"{}\"\nin_flight = 8\nrate = 20\n[worker]\nbatch = 6\n\
             [[webhooks]]\nname = \"app\"\nurl = \"{}\"\nsecret_file = \"{}\"\nallow_private = true\n",
            gateway.url(),
            receiver.url(),
            home.path("webhook").display()
        ),
    );
    let book = Book::new(SystemClock::new().now());
    let tail = gateway.tail();
    let mut world = World { home, old, gateway, book, tail, rng: ChaCha8Rng::seed_from_u64(9) };
    world.insert(150).await;

    let old = world.old.clone();
    let first = world.start(&old, "old-first", "first");
    let second = world.start(&old, "old-second", "second");
    world.more_posts("the version before works", 20).await;
    // the first of the new ones migrates while the old ones work
    drained(first).await;
    let first = world.start(Path::new(BINARY), "new-first", "first");
    world.insert(60).await;
    world.more_posts("both versions work on one database", 40).await;
    for log in ["old-second", "new-first"] {
        until("each of them charges", PATIENCE, async || world.home.log(log).contains("a charge changed state").then_some(()))
            .await;
    }
    drained(second).await;
    let second = world.start(Path::new(BINARY), "new-second", "second");
    world.insert(60).await;
    world.more_posts("this version works", 40).await;
    first.kill();
    second.kill();

    let logs: Vec<String> =
        ["old-first", "old-second", "new-first", "new-second"].iter().map(|name| world.home.log(name)).collect();
    let (patience, subscriptions) = (Duration::from_secs(180), world.book.len());
    let proven = finish::finish(world.home, world.gateway, world.book, receiver, hands, &logs, patience).await;
    println!("upgrade from {}: {subscriptions} subscriptions; {}", old.display(), proven.figures);
    proven.assert("upgrade");
}
