//! Real processes: the daemon and the sandbox gateway as an operator runs them, in a directory of a test's own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rebilld::domain::proof::Books;
use rebilld::gateway::sandbox::{FaultPlan, LedgerSnapshot};
use rebilld::ports::clock::Clock;
use rebilld::store::codec::Row;
use rebilld::store::db::Fault;
use rebilld::store::sql::Statement;
use rebilld::store::{Database, OpenError, OpenOptions};
use rebilld::time::SystemClock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

pub const BINARY: &str = env!("CARGO_BIN_EXE_rebilld");
/// Signs webhooks in tests, and nothing else.
pub const WEBHOOK_SECRET: &str = "whsec_dGVzdC1vbmx5LXRlc3Qtb25seS10ZXN0LW9ubHk=";

/// How often a database that cannot be reached is tried.
const PATIENT: usize = 12;

// Each test file uses some of this. Naming all of it here keeps the compiler's unused-code lint on without an exception.
const _: () = {
    let _ =
        (Gateway::book, Gateway::charges, Gateway::start_again, Gateway::stop, Gateway::set_faults, Gateway::tail, Tail::charges);
    let _ = (Home::layer, Home::command, Home::json, Home::sql, Home::books, Home::path, Home::log, Home::forget_layers);
    let _ = (Daemon::start, Daemon::start_under, Home::new, Home::of, BINARY);
    let _ = (Daemon::start_with, Daemon::kill, Daemon::terminate, Daemon::ended, Daemon::pid, Daemon::wrapped, WEBHOOK_SECRET);
    let _ = (Daemon::start, Daemon::freeze, Daemon::thaw, Daemon::is_running, Daemon::said, Gateway::url);
    let _ = (Daemon::interrupt, Daemon::start_on, is_locked_out);
};

/// Asks until there is an answer, at most for so long.
pub async fn within<T>(time: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let clock = SystemClock::new();
    let end = clock.boot() + time;
    loop {
        let found = probe().await;
        if found.is_some() || clock.boot() >= end {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The same, where no answer is a failure.
pub async fn until<T>(what: &str, time: Duration, probe: impl AsyncFnMut() -> Option<T>) -> T {
    within(time, probe).await.unwrap_or_else(|| panic!("not within {time:?}: {what}"))
}

/// A `rebilld sandbox` process with its ledger in a file.
pub struct Gateway {
    child: Option<Child>,
    pub address: SocketAddr,
    pub ledger_file: PathBuf,
    /// Bound, and listening to nobody: while the sandbox is down no other test is given its port.
    _port: TcpSocket,
}

impl Gateway {
    pub fn start(directory: &Path) -> Self {
        let ledger_file = directory.join("ledger.jsonl");
        let port = TcpSocket::new_v4().expect("a socket");
        port.set_reuseaddr(true).expect("a port may be shared with who listens on it");
        port.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = port.local_addr().expect("its address");
        let (child, bound) = sandbox(&address.to_string(), &ledger_file);
        assert_eq!(bound, address);
        Self { child: Some(child), address, ledger_file, _port: port }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that it saw and did.
    pub fn ledger(&self) -> LedgerSnapshot {
        serde_json::from_slice(&exchange(self.address, "GET", "/_sandbox/ledger", b"")).expect("the ledger is JSON")
    }

    /// How many charges were asked for.
    pub fn charges(&self) -> usize {
        self.ledger().charges().count()
    }

    /// Books a charge of 1,000 won in the gateway's own schedule, a week ahead.
    pub fn book(&self, customer_uid: &str, merchant_uid: &str) {
        let at = SystemClock::new().now().as_second() + 7 * 24 * 3600;
        let schedule = json!({"merchant_uid": merchant_uid, "schedule_at": at, "amount": 1000, "currency": "KRW", "name": "Old"});
        self.ask("/subscribe/payments/schedule", &json!({"customer_uid": customer_uid, "schedules": [schedule]}));
    }

    /// A POST of somebody else's, which is carried out.
    pub fn ask(&self, path: &str, body: &Value) {
        let keys = br#"{"imp_key":"sandbox-key","imp_secret":"sandbox-secret"}"#;
        let granted: Value = serde_json::from_slice(&exchange(self.address, "POST", "/users/getToken", keys)).expect("JSON");
        let token = granted["response"]["access_token"].as_str().expect("a token").to_owned();
        let header = format!("authorization: {token}\r\ncontent-type: application/json\r\n");
        let answer = exchange_with(self.address, "POST", path, &header, body.to_string().as_bytes());
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!(answer["code"], 0, "{answer}");
    }

    pub fn set_faults(&self, plan: &FaultPlan) {
        let plan = serde_json::to_vec(plan).expect("a fault plan is JSON");
        exchange(self.address, "POST", "/_sandbox/faults", &plan);
    }

    /// Counts charges from the ledger's file, without asking the process.
    pub fn tail(&self) -> Tail {
        Tail { path: self.ledger_file.clone(), offset: 0, rest: Vec::new(), charges: 0 }
    }

    /// Ends it; what it knew stays in its file.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            let _ = child.wait();
        }
    }

    /// Starts it again at the same address.
    pub fn start_again(&mut self) {
        let (child, address) = sandbox(&self.address.to_string(), &self.ledger_file);
        assert_eq!(address, self.address);
        self.child = Some(child);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn sandbox(listen: &str, ledger: &Path) -> (Child, SocketAddr) {
    let mut command = Command::new(BINARY);
    command.env_clear().args(["--output", "json", "sandbox", "--listen", listen, "--ledger"]).arg(ledger);
    // it sends webhooks once a test has written an address into this file
    command.arg("--webhook-file").arg(ledger.with_file_name("webhook.url"));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the sandbox can be run");
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("the standard output is a pipe"));
    output.read_line(&mut line).expect("the sandbox says where it listens");
    let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the sandbox said `{line}`"));
    let address = told["url"].as_str().and_then(|url| url.strip_prefix("http://")).expect("its URL");
    (child, address.parse().expect("its address"))
}

fn exchange(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    exchange_with(address, method, path, "content-type: application/json\r\n", body)
}

fn exchange_with(address: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("the sandbox listens");
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: sandbox\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).expect("the sandbox reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the sandbox answers");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {head}");
    answer.split_off(end + 4)
}

/// Follows the ledger's file.
pub struct Tail {
    path: PathBuf,
    offset: u64,
    rest: Vec<u8>,
    charges: usize,
}

impl Tail {
    /// How many charges were asked for so far.
    pub fn charges(&mut self) -> usize {
        let mut file = File::open(&self.path).expect("the sandbox keeps its ledger in a file");
        file.seek(SeekFrom::Start(self.offset)).expect("the file only grows");
        let mut new = Vec::new();
        self.offset += file.read_to_end(&mut new).expect("the file can be read") as u64;
        self.rest.append(&mut new);
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        for line in self.rest.drain(..whole).collect::<Vec<u8>>().split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            self.charges += usize::from(line.starts_with(r#"{"post":{"#) && line.contains(r#""endpoint":"again""#));
        }
        self.charges
    }
}

/// A directory with a config, its keys, a database and a state directory.
pub struct Home {
    directory: tempfile::TempDir,
    /// In the order in which they are read.
    pub files: Vec<PathBuf>,
    pub database: String,
    /// The program that is run.
    pub binary: PathBuf,
}

impl Home {
    /// A home whose database is `database`, or a SQLite file in it. It is migrated.
    pub fn new(database: Option<&str>, gateway: &str) -> Self {
        Self::of(Path::new(BINARY), database, gateway)
    }

    /// The same, of another version of the program.
    pub fn of(binary: &Path, database: Option<&str>, gateway: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let here = directory.path();
        for (name, text) in [("key", "sandbox-key"), ("secret", "sandbox-secret"), ("webhook", WEBHOOK_SECRET)] {
            private(&here.join(name), text);
        }
        let database = database.map_or_else(|| format!("sqlite:{}", here.join("rebilld.db").display()), str::to_owned);
        let mut home = Self { directory, files: Vec::new(), database, binary: binary.to_owned() };
        let text = config(home.directory.path(), &home.database, gateway);
        // the version before may not know the section
        let is_ours = binary == Path::new(BINARY);
        let text = if is_ours { text } else { text.replace("[http]\nlisten = \"off\"\n", "") };
        home.layer("rebilld", &text);
        let migrated = home.command(&["migrate"]);
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// One more config file, which wins over those before it.
    pub fn layer(&mut self, name: &str, text: &str) {
        let path = self.path(&format!("{name}.toml"));
        private(&path, text);
        self.files.push(path);
    }

    /// Keeps the first config file only.
    pub fn forget_layers(&mut self) {
        self.files.truncate(1);
    }

    /// Everything that daemons of this home logged.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// A command of the operator's, which is not run yet.
    pub fn rebilld(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear().current_dir(self.directory.path()).stdin(Stdio::null());
        for file in &self.files {
            command.arg("--config").arg(file);
        }
        command.args(arguments);
        command
    }

    /// Runs a command of the operator's to its end.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut output = self.rebilld(arguments).output().expect("rebilld can be run");
        for _ in 0..PATIENT {
            if !is_locked_out(output.status, &String::from_utf8_lossy(&output.stderr)) {
                break;
            }
            output = self.rebilld(arguments).output().expect("rebilld can be run");
        }
        output
    }

    /// What a command says as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(&[arguments, &["--output", "json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_str(&text).unwrap_or_else(|why| panic!("{arguments:?} said `{text}` ({why}); {complaint}"))
    }

    pub async fn open(&self) -> Database {
        let options = || OpenOptions { endpoints: Vec::new(), create: false, max_connections: 2, ..OpenOptions::default() };
        // a server on a machine that is busy with other things may not take a connection in ten seconds
        for _ in 0..PATIENT {
            match Database::open(&self.database, options()).await {
                Err(OpenError::Unreachable(_)) => {}
                // somebody writes for longer than is waited for
                Err(OpenError::Busy(_)) => {}
                opened => return opened.expect("the database opens"),
            }
        }
        panic!("the database cannot be reached, {PATIENT} times over");
    }

    /// The operator's own SQL.
    pub async fn sql(&self, text: &str) -> Vec<Row> {
        let database = self.open().await;
        let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
        let mut tx = database.begin_write().await;
        for _ in 0..PATIENT {
            if !matches!(tx, Err(Fault::Busy(_))) {
                break;
            }
            tx = database.begin_write().await;
        }
        let mut tx = tx.expect("a transaction");
        let rows = tx.query(&Statement::same("by hand", text), &[]).await.expect("the operator's SQL is accepted");
        tx.commit().await.expect("a commit");
        database.close().await;
        rows
    }

    pub async fn books(&self) -> Books {
        let database = self.open().await;
        let books = database.books().await.expect("the books can be read");
        database.close().await;
        books
    }
}

/// Whether a program has not even opened a SQLite file that others write to without a pause: it has done nothing, and may be run again.
pub fn is_locked_out(status: ExitStatus, said: &str) -> bool {
    status.code() == Some(75) && said.contains("another program has held the database file for")
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).expect("a file can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
}

fn config(here: &Path, database: &str, gateway: &str) -> String {
    let here = here.display();
    format!(
        r#"
tag = "sb"
state_dir = "{here}/state"

[database]
url = "{database}"
max_connections = 4

[accounts.main]
base_url = "{gateway}"
imp_key_file = "{here}/key"
imp_secret_file = "{here}/secret"
include_sandbox = true
rate = 50
in_flight = 16

# Faults are what these tests are about.
[accounts.main.fuse]
day_from = 1000000
decline_rate = 1
doubt_rate = 1

[plans.daily]
every = "1 day"
charge_time = "00:00"
amount = 1000
title = "Daily"
catch_up = "all"
catch_up_limit = 1000
while_past_due = "continue"

[plans.strict]
every = "1 day"
charge_time = "00:00"
amount = 2000
title = "Strict"
catch_up = "all"
catch_up_limit = 1000

[plans.weekly]
every = "1 week"
charge_time = "00:00"
amount = 7000
title = "Weekly"
catch_up = "all"
catch_up_limit = 1000
while_past_due = "continue"

[windows]
hours = "00:00-24:00"
blackouts = ""

[jobs]
charge = "* * * * * *"
reconcile = "* * * * * *"
relay = "* * * * * *"

# Several daemons of a test would want the same port.
[http]
listen = "off"

[log]
format = "json"
level = "info"
"#
    )
}

/// A `rebilld run` process.
pub struct Daemon {
    child: Child,
    log: PathBuf,
    /// How long the log was before it.
    log_from: u64,
}

impl Daemon {
    /// Starts one that logs to `NAME.log`, after what was logged there before.
    pub fn start(home: &Home, name: &str) -> Self {
        Self::start_with(home, name, &[])
    }

    /// The same, with options.
    pub fn start_with(home: &Home, name: &str, options: &[&str]) -> Self {
        Self::spawn(home.rebilld(&[&["run"], options].concat()), home.path(&format!("{name}.log")))
    }

    /// The same, with variables of a service manager's in its environment.
    pub fn start_under(home: &Home, name: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = home.rebilld(&["run"]);
        command.envs(variables.iter().copied());
        Self::spawn(command, home.path(&format!("{name}.log")))
    }

    /// Starts one through a shell that prepares what is around it; `script` ends with `exec "$@"`.
    pub fn wrapped(home: &Home, name: &str, script: &str) -> Self {
        let rebilld = home.rebilld(&["run"]);
        let mut command = Command::new("unshare");
        command.current_dir(home.directory.path()).args(["--mount", "sh", "-ec", script, "sh"]);
        command.arg(rebilld.get_program()).args(rebilld.get_args());
        Self::spawn(command, home.path(&format!("{name}.log")))
    }

    /// Starts one whose log goes to a file of the caller's, e.g. a terminal's.
    pub fn start_on(home: &Home, name: &str, errors: File) -> Self {
        let log = home.path(&format!("{name}.log"));
        let mut command = home.rebilld(&["run"]);
        let child = command.stdout(Stdio::null()).stderr(errors).spawn().expect("rebilld can be run");
        Self { child, log, log_from: 0 }
    }

    fn spawn(mut command: Command, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let log_from = file.metadata().expect("its length").len();
        let errors = file.try_clone().expect("the same file again");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn().expect("rebilld can be run");
        Self { child, log, log_from }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: nothing in the process hears of it.
    pub fn kill(mut self) {
        self.child.kill().expect("the daemon can be killed");
        self.child.wait().expect("the daemon ends");
    }

    /// SIGTERM: it ends by itself.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the daemon can be told");
    }

    /// SIGINT, as Ctrl-C sends it: it ends by itself, and at the second one at once.
    pub fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("the daemon can be told");
    }

    /// SIGSTOP: it stands still in the middle of whatever it does, and keeps its connections.
    pub fn freeze(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).expect("the daemon can be stopped");
    }

    /// SIGCONT: it goes on where it was.
    pub fn thaw(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).expect("the daemon can be continued");
    }

    /// What it has logged so far, by itself.
    pub fn said(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(self.log_from).unwrap_or(usize::MAX).min(log.len());
        String::from_utf8_lossy(&log[from..]).into_owned()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the daemon is a child").is_none()
    }

    /// How it ended.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        until("the daemon ends", within, async || self.child.try_wait().expect("the daemon is a child")).await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("the end of {}:", self.log.display());
            last.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}
