//! The database's connections fall silent while the daemon works: nothing is answered on them any more, and nothing closed.

use crate::processes::Daemon;
use crate::rig::Rig;
use crate::support::postgres;
use crate::wire::Wire;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_connections_fall_silent_goes_on_over_new_ones() {
    let database = postgres::database().await;
    let (_, place) = database.url.rsplit_once('@').expect("a place");
    let (server, name) = place.split_once('/').expect("a database");
    let wire = Wire::to(server.parse().expect("an address")).await;
    let mut rig = Rig::new(Some(&database.url));
    let url = format!("postgres://postgres@{}/{name}", wire.address);
    rig.home.layer("wire", &format!("[database]\nurl = \"{url}\"\nanswer_timeout = \"2s\"\n"));
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(3).await;
    rig.until_paid(3).await;

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
