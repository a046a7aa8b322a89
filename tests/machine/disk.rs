//! A disk that fills up under the database while charges are under way.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rebilld::ports::clock::Clock;
use rebilld::time::SystemClock;

use crate::processes::until;
use crate::world::{PATIENCE, World};

/// Of the file system.
const SIZE: &str = "6m";

/// Takes up what is left, to the last byte.
fn fill(place: &Path) {
    let mut file = File::options().append(true).create(true).open(place.join("fill")).expect("a file");
    for size in [64 * 1024, 4096, 1] {
        while file.write(&vec![0; size]).is_ok_and(|written| written > 0) {}
    }
}

pub async fn fills_up_and_is_emptied_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = directory.path();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={SIZE}"), "tmpfs"]).arg(place).status();
    assert!(mounted.expect("mount can be run").success());
    let url = format!("sqlite:{}", place.join("rebilld.db").display());
    let mut world = World::new("a full disk", Some(&url), 120).await;
    let mut daemon = world.start();
    world.more_posts(10).await;
    for round in 0..2 {
        let told = world.log().len();
        fill(place);
        world.until_logged("database or disk is full", told).await;
        let asked = world.silence().await;
        // room is what it waits for, however long that takes: it neither ends nor asks
        let clock = SystemClock::new();
        let from = clock.boot();
        until("it has waited a while", PATIENCE, async || {
            fill(place);
            (clock.boot() - from > Duration::from_secs(3)).then_some(())
        })
        .await;
        assert_eq!(world.tail.charges(), asked, "round {round}: nothing is sent that cannot be committed");
        fs::remove_file(place.join("fill")).expect("the disk can be emptied");
        world.more_posts(20).await;
    }
    daemon.terminate();
    assert!(daemon.ended(PATIENCE).await.success(), "it had gone on by itself, and ends in order");
    // days of simulated time write more than fits there
    let mounted = Command::new("mount").args(["-o", "remount,size=256m"]).arg(place).status();
    assert!(mounted.expect("mount can be run").success());
    println!("a full disk: filled twice under one daemon, which went on by itself");
    world.prove().await;
}
