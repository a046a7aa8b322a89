//! The log by itself: for collectors where it is read by a program, for people at a terminal.

use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};

/// Both ends: ours, and that of whoever believes to be at a terminal.
fn terminal() -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).expect("it is ours");
    unlockpt(&ours).expect("it can be opened");
    let name = ptsname(&ours, Vec::new()).expect("its name");
    let theirs = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("its other end");
    (File::from(ours), File::from(theirs))
}

fn rig() -> Rig {
    let mut rig = Rig::new(None);
    rig.home.layer("log", "[log]\nformat = \"auto\"\n");
    rig
}

#[tokio::test]
async fn in_a_file_each_line_is_an_object() {
    let mut rig = rig();
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(1).await;
    rig.until_logged("a charge changed state").await;
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    let log = rig.home.log("daemon");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn at_a_terminal_it_is_text_for_people() {
    let mut rig = rig();
    let (mut ours, theirs) = terminal();
    let _daemon = Daemon::start_on(&rig.home, "daemon", theirs);
    let shown = Arc::new(Mutex::new(Vec::new()));
    std::thread::spawn({
        let shown = Arc::clone(&shown);
        move || {
            let mut some = [0; 4096];
            // it ends with the daemon
            while let Ok(read @ 1..) = ours.read(&mut some) {
                shown.lock().expect("nobody panics").extend_from_slice(&some[..read]);
            }
        }
    });
    rig.insert(1).await;
    let text = until("a charge is shown", SOON, async || {
        let text = String::from_utf8_lossy(&shown.lock().expect("nobody panics")).into_owned();
        text.contains("a charge changed state").then_some(text)
    });
    let text = text.await;
    assert!(text.contains("INFO") && text.contains("rebilld is up"), "{text}");
    let objects = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
    assert_eq!(objects, 0, "{text}");
}
