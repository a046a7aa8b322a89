//! What it refuses to start with, and how it says so: the exit code is for systemd, the sentence for people.

use crate::processes::Daemon;
use crate::rig::Rig;
use std::time::Duration;

#[tokio::test]
async fn one_daemon_a_sqlite_file() {
    let rig = Rig::new(None);
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    let (code, said) = rig.fails(&["run"]);
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("another daemon works on this file"), "{said}");
    assert!(rig.status("account main")["state"].is_string(), "the command line works beside it");
}

/// Starts with one more layer of config; returns how it failed.
fn with(layer: &str) -> (i32, String) {
    let mut rig = Rig::new(None);
    rig.home.layer("wrong", layer);
    rig.fails(&["run"])
}

#[tokio::test]
async fn another_tag() {
    let (code, said) = with("tag = \"zz\"\n");
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("belongs to the tag `sb`") && said.contains("`zz`"), "{said}");
}

#[tokio::test]
async fn no_secret() {
    let (code, said) = with("[accounts.main]\nimp_secret_file = \"nowhere/secret\"\n");
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("accounts.main.imp_secret") && said.contains("nowhere/secret"), "{said}");
    assert!(said.contains("wrong.toml"), "it names the file with the mistake: {said}");
}

#[tokio::test]
async fn no_database_server() {
    let (code, said) = with("[database]\nurl = \"postgres://me:hunter2@127.0.0.1:9/rebilld\"\n");
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("the database cannot be reached"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn no_directory_for_the_database() {
    let (code, said) = with("[database]\nurl = \"sqlite:nowhere/rebilld.db\"\n");
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("nowhere/rebilld.db"), "{said}");
}

/// Whether this machine lets a test mount something in a namespace of its own; says so if it does not.
pub fn may_mount(test: &str) -> bool {
    let tried = std::process::Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        println!("{test} is not tested here: mounting in a private namespace takes root and `unshare`");
    }
    may
}

#[tokio::test]
async fn a_read_only_database() {
    if !may_mount("a read-only database") {
        return;
    }
    let mut rig = Rig::new(None);
    let place = rig.beside("database");
    let place = place.display();
    rig.home.layer("place", &format!("[database]\nurl = \"sqlite:{place}/rebilld.db\"\n"));
    rig.done(&["migrate"]);
    let script = format!("mount --bind {place} {place}; mount -o remount,ro,bind {place}; exec \"$@\"");
    let mut daemon = Daemon::wrapped(&rig.home, "daemon", &script);
    let status = daemon.ended(Duration::from_secs(60)).await;
    let said = rig.home.log("daemon");
    assert_eq!(status.code(), Some(69), "{said}");
    assert!(said.contains("read-only"), "{said}");
}
