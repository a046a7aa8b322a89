//! The database's connections fall silent while the daemon works: nothing is answered on them any more, and nothing closed.

use crate::processes::Daemon;
use crate::rig::Rig;
use crate::support::postgres;
use crate::wire::Wire;

/// A daemon that reaches its database over a wire, and has charged for three.
async fn over_a_wire() -> (Rig, Wire, Daemon) {
    let database = postgres::database().await;
    let (_, place) = database.url.rsplit_once('@').expect("a place");
    let (server, name) = place.split_once('/').expect("a database");
    let wire = Wire::to(server.parse().expect("an address")).await;
    let mut rig = Rig::new(Some(&database.url));
    let url = format!("postgres://postgres@{}/{name}", wire.address);
    rig.home.layer("wire", &format!("[database]\nurl = \"{url}\"\nanswer_timeout = \"5s\"\n"));
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(3).await;
    rig.until_paid(3).await;
    (rig, wire, daemon)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_connections_fall_silent_goes_on_over_new_ones() {
    let (mut rig, wire, mut daemon) = over_a_wire().await;
    let before = wire.connections();
    wire.falls_silent(false);
    rig.insert(3).await;
    rig.until_paid(6).await;
    assert!(wire.connections() > before);
    let log = rig.home.log("daemon");
    assert!(log.contains("no answer") && log.contains("unknown"), "it says so");
    daemon.terminate();
    assert!(daemon.ended(crate::rig::SOON).await.success());
    assert_eq!(rig.gateway.charges(), 6, "each once");
}

/// Whoever manages services kills what takes too long, and nothing is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_says_nothing_any_more_does_not_keep_a_daemon_from_stopping() {
    let (rig, wire, mut daemon) = over_a_wire().await;
    wire.falls_silent_for_good();
    daemon.terminate();
    let status = daemon.ended(crate::rig::SOON).await;
    let log = rig.home.log("daemon");
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("the database was not told that this daemon stops"), "{log}");
    assert_eq!(rig.gateway.charges(), 3);
}
