//! What a daemon tells the service manager that started it, heard on a socket as systemd's.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rebilld::ports::clock::Clock;
use rebilld::ports::crash::STALL;
use rebilld::store::sql::Statement;
use rebilld::store::{Database, OpenOptions};
use rebilld::time::SystemClock;
use rustix::process::{Pid, Signal, kill_process};

use crate::ask::{get, until_says};
use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};
use crate::support::postgres;

/// The manager's end.
struct Manager {
    socket: UnixDatagram,
    path: String,
    heard: Vec<String>,
}

impl Manager {
    fn new(rig: &Rig) -> Self {
        let path = rig.beside("manager").join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_nonblocking(true).expect("it can be asked");
        Self { socket, path: path.to_str().expect("a path").to_owned(), heard: Vec::new() }
    }

    /// Starts a daemon that is to ping at least this often.
    fn start(&self, rig: &Rig, watchdog_micros: &str) -> Daemon {
        Daemon::start_under(&rig.home, "daemon", &[("NOTIFY_SOCKET", &self.path), ("WATCHDOG_USEC", watchdog_micros)])
    }

    /// The same, whose loop stands still while there is a file.
    fn start_with_a_stop(&self, rig: &Rig, watchdog_micros: &str, file: &Path) -> Daemon {
        let stop = file.to_str().expect("a path");
        let variables = [("NOTIFY_SOCKET", self.path.as_str()), ("WATCHDOG_USEC", watchdog_micros), (STALL, stop)];
        Daemon::start_under(&rig.home, "daemon", &variables)
    }

    fn listen(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            self.heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
    }

    fn forget(&mut self) {
        self.listen();
        self.heard.clear();
    }

    fn count(&mut self, what: &str) -> usize {
        self.listen();
        self.heard.iter().filter(|message| message.lines().any(|line| line.starts_with(what))).count()
    }

    /// Where in what was heard it is said first.
    async fn until_told(&mut self, what: &str) -> usize {
        until(&format!("the manager is told `{what}`"), SOON, async || {
            self.listen();
            self.heard.iter().position(|message| message.lines().any(|line| line.starts_with(what)))
        })
        .await
    }

    async fn until_pinged(&mut self, times: usize) {
        let what = format!("{times} pings");
        until(&what, SOON, async || (self.count("WATCHDOG=1") >= times).then_some(())).await;
    }
}

pub fn tell(daemon: &Daemon, signal: Signal) {
    let pid = i32::try_from(daemon.pid()).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("the daemon can be told");
}

#[tokio::test]
async fn it_is_ready_when_it_works_and_tells_of_reloads_brakes_and_its_end() {
    let rig = Rig::new(None);
    let mut manager = Manager::new(&rig);
    let mut daemon = manager.start(&rig, "2000000");
    let ready = manager.until_told("READY=1").await;
    assert!(rig.home.log("daemon").contains("rebilld is up"), "no earlier than that");
    assert!(manager.heard[..ready].iter().any(|message| message.starts_with("STATUS=")), "{:?}", manager.heard);
    manager.until_told("STATUS=charging; 1 account").await;

    manager.forget();
    tell(&daemon, Signal::HUP);
    let (reloading, again) = (manager.until_told("RELOADING=1").await, manager.until_told("READY=1").await);
    assert!(reloading < again, "{:?}", manager.heard);
    let since: i64 =
        manager.heard[reloading].lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse().ok()).unwrap();
    assert!(since > 0, "systemd tells by it whose reload this is");

    // a config that is refused is a reload that has ended all the same
    manager.forget();
    std::fs::write(rig.home.files.first().expect("a config"), "nonsense = 1\n").expect("the config is written");
    tell(&daemon, Signal::HUP);
    manager.until_told("READY=1").await;
    manager.until_told("STATUS=charging; 1 account; the config that was read last is not taken").await;

    std::fs::write(rig.home.path("state").join("kill"), "").expect("a kill file");
    manager.until_told("STATUS=kill switch on; 1 account, nothing is sent").await;

    manager.forget();
    daemon.terminate();
    manager.until_told("STOPPING=1").await;
    assert!(daemon.ended(SOON).await.success());
    assert_eq!(manager.count("READY=1"), 0, "{:?}", manager.heard);
}

#[tokio::test]
async fn a_daemon_that_cannot_start_is_never_ready() {
    let rig = Rig::new(None);
    let mut manager = Manager::new(&rig);
    std::fs::write(rig.home.files.first().expect("a config"), "nonsense = 1\n").expect("the config is written");
    let mut daemon = manager.start(&rig, "2000000");
    assert_eq!(daemon.ended(SOON).await.code(), Some(78), "which systemd does not restart");
    assert_eq!(manager.count("READY=1"), 0);
    assert_eq!(manager.count("WATCHDOG=1"), 0);
}

/// The loop alone stands still: its helpers, its timers and its listener go on, and none of them feeds the watchdog in its place.
#[tokio::test]
async fn a_daemon_whose_loop_is_stuck_is_not_fed_though_it_answers() {
    let rig = Rig::new(None).listens();
    let mut manager = Manager::new(&rig);
    let stop = rig.beside("manager").join("stop");
    let _daemon = manager.start_with_a_stop(&rig, "1000000", &stop);
    let address = rig.address().await;
    manager.until_pinged(3).await;
    assert_eq!(get(address, "/livez").status, 200);
    std::fs::write(&stop, "").expect("a file");
    let stuck = SOON * 3;
    let live =
        until("it is said to be stuck", stuck, async || Some(get(address, "/livez")).filter(|live| live.status == 503)).await;
    assert!(live.body.contains("has not moved for"), "{live:?}");
    manager.forget();
    let clock = SystemClock::new();
    let end = clock.boot() + std::time::Duration::from_secs(3);
    until("the time of three pings is over", SOON, async || (clock.boot() >= end).then_some(())).await;
    assert_eq!(manager.count("WATCHDOG=1"), 0);
    assert_eq!(get(address, "/version").status, 200, "everything else of it is alive");
    std::fs::remove_file(&stop).expect("it was there");
    manager.until_pinged(3).await;
    until_says(address, "/livez", 200).await;
}

/// The whole process stands still.
#[tokio::test]
async fn a_frozen_daemon_is_not_fed_and_a_thawed_one_is() {
    let rig = Rig::new(None);
    let mut manager = Manager::new(&rig);
    let daemon = manager.start(&rig, "1000000");
    manager.until_pinged(3).await;
    tell(&daemon, Signal::STOP);
    // what was under way when the signal came
    let clock = SystemClock::new();
    let settled = clock.boot() + std::time::Duration::from_millis(500);
    until("it has stopped", SOON, async || (clock.boot() >= settled).then_some(())).await;
    manager.forget();
    let end = clock.boot() + std::time::Duration::from_millis(1500);
    until("the time of a ping is over", SOON, async || (clock.boot() >= end).then_some(())).await;
    assert_eq!(manager.count("WATCHDOG=1"), 0);
    tell(&daemon, Signal::CONT);
    manager.until_pinged(3).await;
}

/// The loop waits in the database, for a lock that somebody else holds.
#[tokio::test]
async fn a_database_that_does_not_answer_is_no_stuck_loop() {
    let database = postgres::database().await;
    let rig = Rig::new(Some(&database.url));
    let mut manager = Manager::new(&rig);
    let mut daemon = manager.start(&rig, "1000000");
    manager.until_told("READY=1").await;
    let other = Database::open(
        &database.url,
        OpenOptions { endpoints: Vec::new(), create: false, max_connections: 1, ..OpenOptions::default() },
    )
    .await;
    let other = other.expect("the database opens");
    let mut locked = other.begin_write().await.expect("a transaction");
    let lock = Statement::same("by hand", "LOCK TABLE charges, schedules IN ACCESS EXCLUSIVE MODE");
    locked.query(&lock, &[]).await.expect("the lock");
    manager.forget();
    // longer than the watchdog's time, several times over
    manager.until_pinged(20).await;
    drop(locked);
    other.close().await;
    manager.forget();
    manager.until_pinged(3).await;
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
}
