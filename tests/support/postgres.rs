//! Real PostgreSQL servers, started by the tests themselves through `scripts/postgres`.
//!
//! [`database`] is what most tests want: an empty database on a server that the whole run shares. [`Server::start`] is for tests
//! that crash or restart a server, or need other settings than the default.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

/// Names the shared server of a run, without a database: `postgres://postgres@127.0.0.1:PORT`. `scripts/test` sets it.
const SHARED_SERVER: &str = "REBILLD_TEST_POSTGRES";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/postgres");

// Each test file uses some of this. Naming all of it here keeps the compiler's unused-code lint on without an exception.
const _: () = {
    let _ = (database, Server::start, Server::url, Server::pid, Server::database, Server::kill9, Server::restart);
    let _ = (Server::standby_of, Server::promote, Server::port);
    let _ = (TestDatabase::connect, TestDatabase::remove);
};

/// A database of one test's own. It stays until its server stops, or until [`TestDatabase::remove`].
#[derive(Debug)]
pub struct TestDatabase {
    pub url: String,
    name: String,
    server: String,
}

/// An empty database on the run's shared server.
///
/// The server is the one of `scripts/test`; without it (`cargo test --test store`) the first call in a process starts one, which
/// ends with the process.
pub async fn database() -> TestDatabase {
    create(shared_server()).await
}

impl TestDatabase {
    pub async fn connect(&self) -> PgConnection {
        connect(&self.url).await
    }

    /// Drops the database and whoever is connected to it. For campaigns, whose thousands of databases would fill the disk.
    pub async fn remove(self) {
        let statement = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let mut maintenance = connect(&format!("{}/postgres", self.server)).await;
        maintenance.execute(AssertSqlSafe(statement)).await.expect("the test's database is dropped");
    }
}

/// A server of one test's own, durable as a default one is (fsync on). It stops when it is dropped, and when the process dies.
#[derive(Debug)]
pub struct Server {
    supervisor: Child,
    /// Closed to stop the server.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    port: u16,
    pid: u32,
}

impl Server {
    /// Starts a server with extra settings, e.g. `&[("wal_level", "logical")]`. Takes about two seconds, blocking.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::run(&mut Command::new(SCRIPT), settings)
    }

    /// A copy of another server that follows it as the standby `standby`.
    pub fn standby_of(primary: &Self, settings: &[(&str, &str)]) -> Self {
        Self::run(Command::new(SCRIPT).arg("--standby-of").arg(primary.port.to_string()), settings)
    }

    fn run(command: &mut Command, settings: &[(&str, &str)]) -> Self {
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut supervisor = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("scripts/postgres can be run");
        let orders = supervisor.stdin.take();
        let answers = BufReader::new(supervisor.stdout.take().expect("the standard output is a pipe"));
        let mut server = Self { supervisor, orders, answers, port: 0, pid: 0 };
        server.until_ready();
        server
    }

    /// Where a database of this server is; `postgres` always exists. It stays the same over a restart.
    pub fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.base())
    }

    /// The postmaster's process id, e.g. to stop and continue it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// An empty database on this server.
    pub async fn database(&self) -> TestDatabase {
        create(&self.base()).await
    }

    /// On 127.0.0.1. It stays the same over a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes a primary of a standby. Returns once it takes writes.
    pub fn promote(&mut self) {
        self.order("promote");
        assert_eq!(self.answer(), "promoted");
    }

    /// Kills the postmaster and all its processes with SIGKILL: a crash, after which the write-ahead log has to be replayed.
    pub fn kill9(&mut self) {
        self.order("kill");
        assert_eq!(self.answer(), "down");
    }

    /// Starts the server again on the same data and port, after a fast shutdown if it is up.
    pub fn restart(&mut self) {
        self.order("stop");
        assert_eq!(self.answer(), "down");
        self.order("start");
        self.until_ready();
    }

    fn base(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}", self.port)
    }

    fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("orders are open until the server is dropped");
        writeln!(orders, "{order}").expect("scripts/postgres takes orders");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("scripts/postgres answers in UTF-8");
        line.trim_end().to_owned()
    }

    fn until_ready(&mut self) {
        let answer = self.answer();
        let words: Vec<&str> = answer.split(' ').collect();
        let ["ready", port, pid] = words.as_slice() else {
            panic!("no PostgreSQL server: scripts/postgres said `{answer}` (its reason is on standard error)");
        };
        self.port = port.parse().expect("the port is a number");
        self.pid = pid.parse().expect("the pid is a number");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.orders = None;
        // an error here would only hide the test's own failure
        let _ = self.supervisor.wait();
    }
}

fn shared_server() -> &'static str {
    // never dropped: the end of the process closes its orders, and that stops it
    static OWN: OnceLock<Server> = OnceLock::new();
    static BASE: OnceLock<String> = OnceLock::new();
    BASE.get_or_init(|| shared_by_the_run().unwrap_or_else(|| OWN.get_or_init(|| Server::start(&[])).base()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "scripts/test names the run's server in the environment; `config` is not under test"
)]
fn shared_by_the_run() -> Option<String> {
    std::env::var(SHARED_SERVER).ok().filter(|base| !base.is_empty())
}

async fn create(server: &str) -> TestDatabase {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let mut maintenance = connect(&format!("{server}/postgres")).await;
    // template0, because nobody can be connected to it: a connection to the template refuses the copy
    let statement = format!("CREATE DATABASE {name} TEMPLATE template0");
    maintenance.execute(AssertSqlSafe(statement)).await.expect("a database is created for the test");
    TestDatabase { url: format!("{server}/{name}"), name, server: server.to_owned() }
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap_or_else(|error| panic!("no connection to the test server at {url}: {error}"))
}
