//! What a probe is told, and what a stranger can do to the listener.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rebilld::gateway::sandbox::Fault;
use rebilld::ports::clock::Clock;
use rebilld::store::sql::Statement;
use rebilld::store::{Database, OpenOptions};
use rebilld::time::SystemClock;

use crate::ask::{get, get_with, until_says};
use crate::metrics::until_counted;
use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};
use crate::support::postgres;

#[tokio::test]
async fn it_is_ready_once_it_may_charge_and_not_while_everybody_is_stopped() {
    let rig = Rig::new(None).listens();
    let mut daemon = Daemon::start(&rig.home, "daemon");
    let address = rig.address().await;
    let ready = until_says(address, "/readyz", 200).await.json();
    assert_eq!((&ready["ready"], &ready["database"], &ready["accounts"]["main"]), (&true.into(), &"ok".into(), &"ok".into()));
    assert_eq!((get(address, "/livez").status, get(address, "/livez").body), (200, "ok\n".to_owned()));
    assert_eq!(get(address, "/version").json()["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(get(address, "/").status, 404);

    std::fs::write(rig.home.path("state").join("kill"), "").expect("a kill file");
    let killed = until_says(address, "/readyz", 503).await.json();
    assert_eq!((&killed["database"], &killed["accounts"]["main"]), (&"ok".into(), &"kill switch on".into()));
    std::fs::remove_file(rig.home.path("state").join("kill")).expect("it was there");
    until_says(address, "/readyz", 200).await;
    rig.done(&["hold", "set", "--reason", "something is odd"]);
    assert_eq!(until_says(address, "/readyz", 503).await.json()["accounts"]["main"], "on hold");
    assert_eq!(get(address, "/livez").status, 200);
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
}

#[tokio::test]
async fn it_is_not_ready_while_the_gateway_refuses_its_keys() {
    let rig = Rig::new(None).listens();
    let secret = rig.home.path("secret");
    let right = std::fs::read_to_string(&secret).expect("the secret");
    std::fs::write(&secret, "another-secret").expect("a wrong one");
    let daemon = Daemon::start(&rig.home, "daemon");
    let address = rig.address().await;
    rig.until_logged("rebilld is up").await;
    let refused = r#"rebilld_token_refused{account="main"}"#;
    until_counted(address, refused, 1.0).await;
    let said = until_says(address, "/readyz", 503).await.json();
    assert_eq!((&said["state"], &said["accounts"]["main"]), (&"no account can be charged for".into(), &"no access token".into()));
    assert_eq!(get(address, "/livez").status, 200, "a restart of the daemon rights no key");
    daemon.kill();
    std::fs::write(&secret, right).expect("the right one");
    let _daemon = Daemon::start(&rig.home, "daemon");
    let before = address;
    let address = until("it listens again", SOON, async || Some(rig.address().await).filter(|now| *now != before)).await;
    let said = until_says(address, "/readyz", 200).await.json();
    // refused often enough, the account has been paused, and waits for an operator
    assert!(["ok", "paused"].iter().any(|word| said["accounts"]["main"] == *word), "{said}");
}

#[tokio::test]
async fn while_it_drains_it_lives_and_is_not_ready() {
    let mut rig = Rig::new(None).listens();
    rig.spoil(vec![Fault::DelayAfter { millis: 15_000 }], None);
    rig.insert(1).await;
    let mut daemon = Daemon::start(&rig.home, "daemon");
    let address = rig.address().await;
    rig.until_asked(1).await;
    daemon.terminate();
    let draining = until_says(address, "/readyz", 503).await.json();
    assert_eq!(draining["state"], "draining");
    let live = get(address, "/livez");
    assert_eq!((live.status, live.body.as_str()), (200, "draining\n"));
    assert!(daemon.ended(SOON).await.success());
    assert_eq!(rig.paid().await, 1);
    assert!(get_with(address, "/livez", "").is_none(), "it has stopped");
}

/// Locks that somebody else holds: each question waits, and none fails.
#[tokio::test]
async fn a_database_that_does_not_answer_leaves_it_alive_and_not_ready() {
    let database = postgres::database().await;
    let rig = Rig::new(Some(&database.url)).listens();
    let _daemon = Daemon::start(&rig.home, "daemon");
    let address = rig.address().await;
    until_says(address, "/readyz", 200).await;
    let options = OpenOptions { endpoints: Vec::new(), create: false, max_connections: 1, ..OpenOptions::default() };
    let other = Database::open(&database.url, options).await.expect("the database opens");
    let mut locked = other.begin_write().await.expect("a transaction");
    let lock = Statement::same("by hand", "LOCK TABLE charges, schedules, accounts, settings IN ACCESS EXCLUSIVE MODE");
    locked.query(&lock, &[]).await.expect("the lock");
    let said = until_says(address, "/readyz", 503).await.json();
    assert_eq!(said["database"], "does not answer within 3 s");
    assert_eq!(get(address, "/livez").status, 200);
    let told = get(address, "/metrics");
    assert!(told.status == 200 && told.body.contains("\nrebilld_database_up 0\n"), "{}", told.body);
    drop(locked);
    other.close().await;
    until_says(address, "/readyz", 200).await;
}

#[tokio::test]
async fn probes_ask_the_database_once_in_two_seconds_however_many_they_are() {
    let mut rig = Rig::new(None).listens();
    rig.home.layer(
        "quiet",
        "[jobs]\ncharge = \"0 0 0 1 1 *\"\nreconcile = \"0 0 0 1 1 *\"\nrelay = \"0 0 0 1 1 *\"\n[worker]\ninterval = \"10m\"\n",
    );
    let _daemon = Daemon::start(&rig.home, "daemon");
    let address = rig.address().await;
    until_says(address, "/readyz", 200).await;
    let reads = || {
        let told = get(address, "/metrics").body;
        let line = told.lines().find_map(|line| line.strip_prefix("rebilld_database_seconds_count{operation=\"brakes\"} "));
        line.and_then(|count| count.parse::<u64>().ok()).expect("reads of the brakes")
    };
    let clock = SystemClock::new();
    let (before, began) = (reads(), clock.boot());
    for _ in 0..500 {
        assert_eq!(get(address, "/readyz").status, 200);
    }
    let (read, seconds) = (reads() - before, (clock.boot() - began).as_secs() + 1);
    // the daemon itself reads them now and then: to say what stops it, for a scrape, for its audits
    assert!(read <= 3 * seconds + 3, "{read} reads in {seconds} s");
}

fn idle(address: SocketAddr, start: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.write_all(start.as_bytes()).ok()?;
    Some(stream)
}

#[tokio::test]
async fn many_idle_connections_neither_starve_it_nor_eat_its_files() {
    let rig = Rig::new(None).listens();
    let daemon = Daemon::start(&rig.home, "daemon");
    let address = rig.address().await;
    until_says(address, "/readyz", 200).await;
    let files = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("its files").count();
    let before = files();
    // none of them ever says all that it has to say
    let starts = ["", "GET /livez HTTP/1.1\r\nhost: x", "POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nx"];
    let mut held = Vec::new();
    for n in 0..600 {
        held.extend(idle(address, starts[n % starts.len()]));
        if n % 100 == 99 {
            assert_eq!(get(address, "/livez").status, 200, "after {n}");
        }
    }
    assert!(held.len() > 500, "{} connections were taken", held.len());
    // those that made room are closed a moment later
    until("128 connections are left, and the daemon's own files", SOON, async || (files() <= before + 140).then_some(())).await;
    assert_eq!(get(address, "/metrics").status, 200);
    drop(held);
    until("the files are given back", SOON, async || (files() <= before + 5).then_some(())).await;
}

#[tokio::test]
async fn a_flood_does_not_cut_off_a_slow_scrape() {
    let database = postgres::database().await;
    let rig = Rig::new(Some(&database.url)).listens();
    let _daemon = Daemon::start(&rig.home, "daemon");
    let address = rig.address().await;
    until_says(address, "/readyz", 200).await;
    let mut locking = database.connect().await;
    let lock = "BEGIN; LOCK TABLE charges, schedules, accounts, settings IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut locking).await.expect("the lock");
    let slow = std::thread::spawn(move || get_with(address, "/metrics", ""));
    // connections are taken in their order: those who are answered now came later
    for _ in 0..20 {
        assert_eq!(get(address, "/livez").status, 200);
    }
    let starts = ["", "GET /livez HTTP/1.1\r\nhost: x", "POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nx"];
    let mut held = Vec::new();
    for n in 0..400 {
        held.extend(idle(address, starts[n % starts.len()]));
    }
    assert!(held.len() > 300, "{} connections were taken", held.len());
    let told = tokio::task::spawn_blocking(|| slow.join().expect("it did not panic")).await.expect("it ended");
    let told = told.expect("the scrape is answered");
    assert!(told.status == 200 && told.body.contains("\nrebilld_database_up 0\n"), "{}", told.body);
}

#[tokio::test]
async fn a_head_or_a_body_without_end_is_cut_off() {
    let rig = Rig::new(None).listens();
    let _daemon = Daemon::start(&rig.home, "daemon");
    let address = rig.address().await;
    until_says(address, "/livez", 200).await;
    let long = format!("x-long: {}\r\n", "x".repeat(40_000));
    // a connection that is closed while we still write may be reset before its answer is read
    let refused = get_with(address, "/livez", &long);
    assert!(refused.as_ref().is_none_or(|answer| answer.status == 431), "{refused:?}");
    assert_eq!(get(address, "/livez").status, 200);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_key_and_the_remedy() {
    let mut rig = Rig::new(None);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    rig.home.layer("http", &format!("[http]\nlisten = \"{address}\"\n"));
    let mut daemon = Daemon::start(&rig.home, "daemon");
    assert_eq!(daemon.ended(SOON).await.code(), Some(69));
    let said = rig.home.log("daemon");
    assert!(said.contains(&format!("cannot listen on {address}")) && said.contains("`http.listen`"), "{said}");
}

#[tokio::test]
async fn a_healthcheck_is_good_while_a_daemon_lives_and_unavailable_otherwise() {
    let mut rig = Rig::new(None);
    let (code, said) = rig.fails(&["healthcheck"]);
    assert_eq!(code, 78, "it does not listen: {said}");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    rig.home.layer("http", &format!("[http]\nlisten = \"{free}\"\n"));
    let (code, said) = rig.fails(&["healthcheck"]);
    assert!(code == 69 && said.contains(&format!("no daemon answers at {free}")), "{code}: {said}");
    let mut daemon = Daemon::start(&rig.home, "daemon");
    until("it is ready", SOON, async || (rig.fails(&["healthcheck", "--ready"]).0 == 0).then_some(())).await;
    assert_eq!(rig.done(&["healthcheck"]).trim(), "ok");
    assert_eq!(rig.home.json(&["healthcheck"])["ok"], true);
    std::fs::write(rig.home.path("state").join("kill"), "").expect("a kill file");
    let said = until("it is not ready", SOON, async || {
        let (code, said) = rig.fails(&["healthcheck", "--ready"]);
        (code == 69).then_some(said)
    })
    .await;
    assert!(said.contains("kill switch on"), "{said}");
    rig.done(&["healthcheck"]);
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
}
