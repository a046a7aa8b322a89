//! What the pages suppose: a home with a config, a book in which everything has happened once, and a gateway that knows it.
//!
//! It is made once. Each page gets a copy at the same place, with a gateway of its own at the same address.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use rebilld::gateway::sandbox::{Fault, FaultPlan, Matcher, Rule};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, Row as _};

use crate::page::Page;
use crate::processes::{BINARY, Gateway, WEBHOOK_SECRET, until, within};

const SOON: Duration = Duration::from_secs(60);

/// What a command came to.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub struct World {
    directory: tempfile::TempDir,
    gateway: Gateway,
    /// For the daemon's listener.
    pub listen: u16,
    /// For a sandbox that a page starts.
    pub sandbox: u16,
    running: Vec<(String, Child)>,
}

impl World {
    /// The home that pages get copies of.
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let gateway = Gateway::start(directory.path());
        let [listen, sandbox] = free_ports();
        let mut world = Self { directory, gateway, listen, sandbox, running: Vec::new() };
        fs::create_dir_all(world.path("home")).expect("a home");
        fs::create_dir_all(world.path("bin")).expect("a place for rebilld");
        private(&world.path("bin/rebilld"), &format!("#!/bin/sh\nexec '{BINARY}' \"$@\"\n"), 0o755);
        for (name, text) in [("main.key", "sandbox-key"), ("main.secret", "sandbox-secret"), ("crm.secret", WEBHOOK_SECRET)] {
            private(&world.home(name), text, 0o600);
        }
        private(&world.home("rebilld.toml"), &world.config(), 0o600);
        world.fill().await;
        world.gateway.stop();
        copy(&world.path("home"), &world.path("kept"));
        fs::copy(&world.gateway.ledger_file, world.path("kept.ledger")).expect("the gateway's ledger");
        world
    }

    /// A config as an operator has it, with hours that are open all day.
    fn config(&self) -> String {
        format!(
            r#"tag = "sb"
state_dir = "state"

[database]
url = "sqlite:rebilld.db"

[accounts.main]
base_url = "{}"
imp_key_file = "main.key"
imp_secret_file = "main.secret"
include_sandbox = true

[plans.monthly]
every = "1 month"
charge_time = "00:00"
amount = 9900
title = "Monthly"

[windows]
hours = "00:00-24:00"
blackouts = ""

[jobs]
charge = "* * * * * *"
reconcile = "* * * * * *"

[[webhooks]]
name = "crm"
url = "http://127.0.0.1:9/hook"
secret_file = "crm.secret"
allow_private = true

[[alarms.channel]]
name = "chat"
by = "command"
command = ["/bin/true"]

[reload]
max_change_count = 0

[http]
listen = "127.0.0.1:{}"
"#,
            self.gateway.url(),
            self.listen
        )
    }

    /// One of each: paid, declined, in doubt, in review with a payment and without, periods that were missed, a booked key, incidents.
    async fn fill(&mut self) {
        self.done("rebilld migrate");
        self.keep_running("rebilld run").await.expect("a daemon");
        self.subscribe(&[("sub-0001", "good-1"), ("sub-0002", "good-2"), ("sub-0013", "good-3"), ("sub-9002", "limit-9002")])
            .await;
        let charged = "SELECT count(*) FROM charges WHERE state = 'paid' OR tries = 1";
        until("four are charged", SOON, async || (self.number(charged).await == 4).then_some(())).await;
        self.spoil(Fault::WrongAmount);
        self.subscribe(&[("sub-0004", "good-4")]).await;
        let in_review = "SELECT count(*) FROM charges WHERE state = 'review'";
        until("one is in review", SOON, async || (self.number(in_review).await == 1).then_some(())).await;
        self.spoil(Fault::DropRequest);
        self.subscribe(&[("sub-0005", "good-5"), ("sub-0006", "good-6")]).await;
        let in_doubt = "SELECT count(*) FROM charges WHERE state = 'doubt'";
        until("two are in doubt", SOON, async || (self.number(in_doubt).await == 2).then_some(())).await;
        self.end().await.expect("a daemon that ends");
        // one of them has been in doubt for a day, and look-ups have shown nothing
        let day = 86_400_000_000_i64;
        self.sql(&format!(
            "UPDATE charges SET state = 'review', waiting = 'operator', next_at = NULL, quiet_twice = 1, doubt_since = doubt_since - {day}
                 WHERE state = 'doubt' AND id = (SELECT min(id) FROM charges WHERE state = 'doubt')"
        ))
        .await;
        self.gateway.book("good-3", "old-1");
        let row = "main,sub-0010,monthly,good-10,2025-01-15,2025-01-15\n";
        self.write("missed.csv", &format!("account,external_ref,plan,customer_uid,anchor,starts_on\n{row}"));
        self.done("rebilld subscriptions import missed.csv");
        self.sql(
            "UPDATE schedules SET parked = 'problem', problem = 'missed', missed = 3, next_look_at = NULL, opened_until = '2025-01-15',
                 not_before = '2025-01-15' WHERE subscription_id = (SELECT id FROM subscriptions WHERE external_ref = 'sub-0010')",
        )
        .await;
        for (number, kind) in ["unknown_payment", "missing_payment", "double_charge", "wrong_payment"].into_iter().enumerate() {
            self.sql(&format!(
                "INSERT INTO incidents (account_id, charge_id, kind, detail, opened_at)
                     SELECT a.id, c.id, '{kind}', 'imps_{number} under {kind}', 1796086800000000 FROM accounts a
                     JOIN charges c ON c.state = 'paid' ORDER BY c.id LIMIT 1"
            ))
            .await;
        }
    }

    fn spoil(&self, fault: Fault) {
        let rule = Rule { when: Matcher::charges(), faults: vec![fault], times: None };
        self.gateway.set_faults(&FaultPlan::rules(vec![rule]));
    }

    /// By somebody else.
    pub fn take_bookings_away(&self, customer_uid: &str) {
        self.gateway.ask("/subscribe/payments/unschedule", &serde_json::json!({ "customer_uid": customer_uid }));
    }

    /// An operator's own rows, whose first period is due today.
    pub async fn subscribe(&self, rows: &[(&str, &str)]) {
        let values = rows
            .iter()
            .map(|(name, card)| format!("('main', '{name}', 'monthly', '{card}', date('now'), date('now', '-1 day'))"));
        let values = values.collect::<Vec<_>>().join(", ");
        self.sql(&format!(
            "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor, starts_on) VALUES {values}"
        ))
        .await;
    }

    /// A fresh copy for a page: all of it, or an empty directory where the page itself begins with `init`.
    pub fn begin(&mut self, page: &Page) {
        let first = page.commands.iter().find(|command| command.text.starts_with("rebilld "));
        let empty = first.is_some_and(|command| command.text == "rebilld init --sandbox");
        self.reset(empty);
    }

    /// As it was before anything of a page was run.
    pub fn reset(&mut self, empty: bool) {
        for (_, mut child) in self.running.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.gateway.stop();
        fs::remove_dir_all(self.path("home")).expect("the last page's home");
        match empty {
            true => fs::create_dir_all(self.path("home")).expect("a home"),
            false => copy(&self.path("kept"), &self.path("home")),
        }
        fs::copy(self.path("kept.ledger"), &self.gateway.ledger_file).expect("the gateway's ledger");
        self.gateway.start_again();
    }

    /// Ends what the page has started. `Err`: it did not end well.
    pub async fn end(&mut self) -> Result<(), String> {
        let mut wrong = Vec::new();
        for (line, mut child) in self.running.drain(..).rev() {
            kill_process(Pid::from_child(&child), Signal::TERM).expect("a signal");
            let ended = within(SOON, async || child.try_wait().expect("a process")).await;
            let _ = child.kill();
            let _ = child.wait();
            if !ended.is_some_and(|status| status.success()) {
                wrong.push(format!("`{line}` was told to end, and came to {ended:?}"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    pub fn is_running(&self, line: &str) -> bool {
        self.running.iter().any(|(other, _)| other == line)
    }

    /// Starts what does not end by itself, and waits until it is up.
    pub async fn keep_running(&mut self, line: &str) -> Result<(), String> {
        let log = self.home(&format!("running-{}.log", self.running.len()));
        let file = File::create(&log).expect("a log");
        let mut command = self.process(&format!("exec {line}"));
        let child = command.stdout(file.try_clone().expect("the same file")).stderr(file).spawn().expect("a shell");
        self.running.push((line.to_owned(), child));
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let up = ["rebilld is up", "listens on", "\"url\"", "http://127.0.0.1:"];
        let is_up = within(SOON, async || up.iter().any(|words| said().contains(words)).then_some(())).await;
        is_up.ok_or_else(|| format!("is not up: {}", said()))
    }

    /// Until a daemon that runs has nothing left to do at once.
    pub async fn rest(&self) -> Result<(), String> {
        let quiet = "SELECT count(*) FROM charges WHERE state = 'due' AND tries = 0 AND waiting = 'turn'";
        let opened = "SELECT count(*) FROM schedules WHERE next_look_at < CAST(strftime('%s', 'now') AS INTEGER) * 1000000";
        let idle = async || (self.number(quiet).await + self.number(opened).await == 0).then_some(());
        within(SOON, idle).await.ok_or_else(|| "the daemon does not come to rest".to_owned())
    }

    /// A line in a shell, where `rebilld` is the one under test.
    pub fn shell(&self, line: &str) -> Done {
        let output = self.process(line).output().expect("a shell");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    pub fn done(&self, line: &str) -> String {
        let done = self.shell(line);
        assert_eq!(done.code, 0, "{line}: {done:?}");
        done.out
    }

    /// What a command says as JSON, whatever it ends with; nothing where it says none.
    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.shell(&format!("{line} --output json")).out).unwrap_or(Value::Null)
    }

    fn process(&self, line: &str) -> Process {
        let mut command = Process::new("sh");
        command.args(["-ec", line]).env_clear().current_dir(self.path("home")).stdin(Stdio::null());
        command.env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()));
        // what `init` writes knows the usual ports, which others on this machine may have
        let is_ours = fs::read_to_string(self.home("rebilld.toml")).is_ok_and(|config| config.contains(&self.gateway.url()));
        if !is_ours {
            command.env("REBILLD_ACCOUNTS__MAIN__BASE_URL", format!("http://127.0.0.1:{}", self.sandbox));
            command.env("REBILLD_HTTP__LISTEN", format!("127.0.0.1:{}", self.listen));
            command.env("REBILLD_WINDOWS__HOURS", "00:00-24:00").env("REBILLD_WINDOWS__BLACKOUTS", "");
        }
        command
    }

    pub fn home(&self, name: &str) -> PathBuf {
        self.path("home").join(name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.home(name), text).expect("a file");
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.home(name)).expect("a file")
    }

    async fn connection(&self) -> sqlx::sqlite::SqliteConnection {
        let url = format!("sqlite:{}", self.home("rebilld.db").display());
        sqlx::sqlite::SqliteConnection::connect(&url).await.expect("the database")
    }

    pub async fn sql(&self, text: &str) {
        self.try_sql(text).await.unwrap_or_else(|why| panic!("{text}: {why}"));
    }

    /// SQL as an operator runs it: how many rows it wrote, or why it is refused.
    pub async fn try_sql(&self, text: &str) -> Result<u64, String> {
        let mut connection = self.connection().await;
        let done = connection.execute(AssertSqlSafe(text.to_owned())).await;
        connection.close().await.expect("the end");
        done.map(|done| done.rows_affected()).map_err(|why| why.to_string())
    }

    async fn row(&self, text: &str) -> Option<sqlx::sqlite::SqliteRow> {
        if !self.home("rebilld.db").exists() {
            return None;
        }
        let mut connection = self.connection().await;
        let row = sqlx::query(AssertSqlSafe(text.to_owned())).fetch_optional(&mut connection).await;
        connection.close().await.expect("the end");
        row.unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    pub async fn number(&self, text: &str) -> i64 {
        self.row(text).await.map_or(0, |row| row.get(0))
    }

    /// `None`: there is no such row.
    pub async fn text(&self, text: &str) -> Option<String> {
        self.row(text).await.map(|row| row.get(0))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn private(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
}

fn copy(from: &Path, to: &Path) {
    let copied = Process::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    assert!(copied.success(), "{} is copied", from.display());
}

/// Nobody listens on them now.
fn free_ports() -> [u16; 2] {
    let both = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
    both.map(|listener| listener.local_addr().expect("its address").port())
}
