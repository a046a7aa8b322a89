//! A PostgreSQL server that is restarted, and a network that drops what is sent to it, or what it answers: no reset, no close.

use std::process::Command;
use std::time::Duration;

use crate::processes::Daemon;
use crate::support::postgres::Server;
use crate::world::{PATIENCE, World};

/// What of the wire is lost.
#[derive(Debug, Clone, Copy)]
enum Lost {
    Everything,
    /// The server hears all that is said: what it does is done, and nobody is told.
    Answers,
}

/// Runs a command that has to work in a name space of its own.
fn run(line: &str) {
    let output = Command::new("sh").args(["-ec", line]).output().expect("sh can be run");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

fn rules(port: u16, lost: Lost, how: &str) {
    run(&format!("iptables {how} INPUT -p tcp --sport {port} -j DROP"));
    if matches!(lost, Lost::Everything) {
        run(&format!("iptables {how} INPUT -p tcp --dport {port} -j DROP"));
    }
}

/// Nothing is sent while the server cannot be heard, and work resumes with it.
async fn silent(world: &mut World, port: u16, lost: Lost) {
    let told = world.log().len();
    rules(port, lost, "-A");
    world.until_logged("whether it was done is unknown", told).await;
    let asked = world.silence().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.tail.charges(), asked, "{lost:?} lost: nothing is sent on a commit that nobody has acknowledged");
    rules(port, lost, "-D");
    world.more_posts(15).await;
}

pub async fn is_restarted_and_falls_silent() {
    run("ip link set lo up");
    let mut server = Server::start(&[]);
    let database = server.database().await;
    let mut world = World::new("PostgreSQL out of reach", Some(&database.url), 130).await;
    world.home.layer("patience", "[database]\nanswer_timeout = \"5s\"\n");
    let mut daemon: Daemon = world.start();
    world.more_posts(10).await;
    server.restart();
    world.more_posts(15).await;
    for lost in [Lost::Everything, Lost::Answers] {
        silent(&mut world, server.port(), lost).await;
        world.insert(20).await;
    }
    daemon.terminate();
    assert!(daemon.ended(PATIENCE).await.success());
    println!("PostgreSQL out of reach: restarted once, silent twice under one daemon");
    world.prove().await;
}
