//! What it refuses to start with, and how it says so: the exit code is for systemd, the sentence for people.

use std::time::Duration;

use crate::processes::Daemon;
use crate::rig::Rig;

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

/// Starts on a database of which `what`, in a shell's words, has been mounted read-only.
async fn mounted_read_only(what: &str) {
    if !may_mount("a read-only database") {
        return;
    }
    let mut rig = Rig::new(None);
    let place = rig.beside("database");
    rig.home.layer("place", &format!("[database]\nurl = \"sqlite:{}/rebilld.db\"\n", place.display()));
    rig.done(&["migrate"]);
    let what = format!("{}{what}", place.display());
    let script = format!("mount --bind {what} {what}; mount -o remount,ro,bind {what}; exec \"$@\"");
    let mut daemon = Daemon::wrapped(&rig.home, "daemon", &script);
    let status = daemon.ended(Duration::from_secs(60)).await;
    let said = rig.home.log("daemon");
    assert_eq!(status.code(), Some(69), "{said}");
    assert!(said.contains("the database is read-only"), "{said}");
}

#[tokio::test]
async fn a_read_only_file_system() {
    mounted_read_only("").await;
}

#[tokio::test]
async fn a_read_only_file() {
    mounted_read_only("/rebilld.db").await;
}
