//! What the benches share: real processes (server, bare loop, daemon), what they cost, and the databases they run on.

pub mod server;
#[path = "../../tests/support/mod.rs"]
pub mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A child process that ends with this value.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement of real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Starts this very program in another role; returns the first line that it prints.
pub fn role(arguments: &[&str]) -> (Process, String) {
    let me = std::env::current_exe().unwrap();
    let mut child = Command::new(me).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (Process(child), line.trim().to_owned())
}

/// CPU seconds of a process so far.
pub fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    // utime and stime, and those of children that have ended (a postmaster's backends)
    (ticks(11) + ticks(12) + ticks(13) + ticks(14)) / 100.0
}

/// CPU seconds of a process and all of its living children.
pub fn cpu_tree(pid: u32) -> f64 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    cpu(pid) + children.split_whitespace().filter_map(|child| child.parse().ok()).map(cpu).sum::<f64>()
}

/// The most memory that a process has had, in MiB.
pub fn peak_memory(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// A config and the secrets that it names.
pub fn config(directory: &Path, database: &str, port: &str, in_flight: usize, rate: u32, extra: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    for name in ["key", "secret"] {
        let path = directory.join(name);
        std::fs::write(&path, "bench").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let dir = directory.display();
    let text = format!(
        r#"
tag = "sb"
state_dir = "{dir}"
[database]
url = "{database}"
[accounts.main]
base_url = "http://127.0.0.1:{port}"
imp_key_file = "{dir}/key"
imp_secret_file = "{dir}/secret"
rate = {rate}
in_flight = {in_flight}
[accounts.main.fuse]
day_from = 1000000000
[plans.monthly]
every = "1 month"
amount = 9900
title = "Pro"
charge_time = "00:00"
[windows]
hours = "00:00-24:00"
blackouts = ""
[http]
listen = "off"
[log]
level = "warn"
{extra}
"#
    );
    let path = directory.join("bench.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// The daemon, as an operator runs it.
pub fn daemon(config: &Path) -> Process {
    let log = std::fs::File::create(config.with_extension("log")).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_rebilld"))
        .args(["--config", config.to_str().unwrap(), "run"])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    Process(child)
}

/// What the server has counted.
pub async fn counts(port: &str) -> serde_json::Value {
    let url = format!("http://127.0.0.1:{port}/counts");
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

/// Waits until `done` says so; panics with `what` after ten minutes.
pub async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let start = now();
    while !done().await {
        assert!(start.elapsed() < Duration::from_secs(600), "{what} took more than ten minutes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Each bench uses a part of this; naming the rest here keeps the dead-code lint on for what nobody uses.
const _: fn() = || {
    let _ = (role, cpu, cpu_tree, peak_memory, config, daemon, counts, median, now, server::serve, Process::id);
    drop(until("", || std::future::ready(true)));
    let _ = Process;
};
