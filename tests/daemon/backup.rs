//! The rehearsal of docs/backup.md: its own commands, with the real tools.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::tz::TimeZone;
use rebilld::ports::clock::Clock;
use rebilld::time::SystemClock;

use crate::processes::{BINARY, Daemon, until};
use crate::rig::{Rig, SOON};
use crate::support::postgres;

const PAGE: &str = include_str!("../../docs/backup.md");

/// The commands under a marker of the page.
fn rehearsed(what: &str) -> Vec<&'static str> {
    let marker = format!("<!-- rehearsed: {what} -->\n");
    let (_, rest) = PAGE.split_once(&marker).unwrap_or_else(|| panic!("docs/backup.md has no block {what}"));
    let lines: Vec<&str> = rest.lines().map_while(|line| line.strip_prefix("    ")).collect();
    assert!(!lines.is_empty(), "the block {what} is empty");
    lines
}

impl Rig {
    /// Runs a line of the page in a shell, where `rebilld` is the one under test. Returns its exit code and all that it said.
    fn shell(&self, line: &str, variables: &[(&str, &str)]) -> (i32, String) {
        let bin = self.beside("bin");
        let config: String = self.home.files.iter().map(|file| format!(" --config '{}'", file.display())).collect();
        let script = bin.join("rebilld");
        std::fs::write(&script, format!("#!/bin/sh\nexec '{BINARY}'{config} \"$@\"\n")).expect("a script");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        let path = format!("{}:/usr/lib/postgresql/15/bin:/usr/bin:/bin", bin.display());
        let mut command = Command::new("sh");
        command.args(["-ec", line]).env_clear().env("PATH", path).envs(variables.iter().copied());
        let output = command.current_dir(self.home.path("")).stdin(Stdio::null()).output().expect("a shell");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code().expect("it was not killed"), said)
    }

    fn carry_out(&self, what: &str, variables: &[(&str, &str)]) {
        for line in rehearsed(what) {
            let (code, said) = self.shell(line, variables);
            assert_eq!(code, 0, "{line}: {said}");
        }
    }

    /// The rows of the last `insert` as a file that operators import.
    fn write_rows(&self, rows: std::ops::Range<usize>) {
        let today = SystemClock::new().now().to_zoned(TimeZone::get("Asia/Seoul").expect("the zone")).date();
        let rows: String = rows.map(|n| format!("main,sub-{n},daily,good-{n},{today},{today}\n")).collect();
        let text = format!("account,external_ref,plan,customer_uid,anchor,starts_on\n{rows}");
        std::fs::write(self.home.path("rows.csv"), text).expect("a file");
    }
}

/// Two rows are charged, a copy is taken while the daemon works, three more are charged, the copy is put back: and out of the hold.
async fn rehearse(mut rig: Rig, backup: impl FnOnce(&Rig), restore: impl AsyncFnOnce(&mut Rig)) {
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.insert(2).await;
    rig.until_paid(2).await;
    backup(&rig);
    rig.insert(3).await;
    rig.until_paid(5).await;
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    restore(&mut rig).await;
    assert_eq!(rig.home.books().await.charges.len(), 2, "it is the copy");

    let mut daemon = Daemon::start(&rig.home, "restored");
    let logged = async || rig.home.log("restored").contains("the state directory remembers sends").then_some(());
    until("it comes up on hold", SOON, logged).await;
    // the daemon knows its sandbox by its address; from here on it is told otherwise, so that it has to be armed
    rig.home.sql("UPDATE accounts SET live = TRUE").await;
    rig.write_rows(2..5);
    for line in rehearsed("way out") {
        if line.starts_with("rebilld hold release") {
            let (code, said) = rig.shell(line, &[]);
            assert_eq!(code, 75, "{said}");
            assert!(said.contains("Q (60 min) has not passed"), "{said}");
            let sqlite = rig.home.database.starts_with("sqlite:");
            let an_hour_ago = if sqlite { "1" } else { "to_timestamp(0)" };
            rig.home.sql(&format!("UPDATE settings SET held_at = {an_hour_ago}")).await;
        }
        let (code, said) = rig.shell(line, &[]);
        assert_eq!(code, 0, "{line}: {said}");
        if line.starts_with("rebilld subscriptions import") {
            until("what was imported is opened", SOON, async || (rig.home.books().await.charges.len() == 5).then_some(())).await;
            assert_eq!(rig.paid().await, 2, "nothing is sent, nothing is known yet");
        }
        if line == "rebilld audit" {
            assert_eq!(rig.paid().await, 5, "what had been paid is settled: {said}");
        }
    }
    rig.insert(1).await;
    rig.until_paid(6).await;
    let ledger = rig.gateway.ledger();
    assert_eq!((ledger.charges().count(), ledger.payments.len()), (6, 6), "each was asked for once, over both lives");
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
}

#[tokio::test]
async fn a_sqlite_file_is_copied_while_it_is_charged_from_and_restored_by_the_page() {
    let rig = Rig::new(None);
    let (file, copy) = (rig.home.path("rebilld.db"), rig.home.path("monday.db"));
    let variables = |file: &Path, copy: &Path| [file, copy].map(|path| path.to_str().expect("a path").to_owned());
    let [file, copy] = variables(&file, &copy);
    let backup = |rig: &Rig| {
        rig.carry_out("sqlite backup", &[("BACKUP", &copy)]);
        let mode = std::fs::metadata(&copy).expect("the copy").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "it holds billing keys");
        let (code, said) = rig.fails(&["backup", &copy]);
        assert_eq!(code, 65, "{said}");
        assert!(said.contains("exists already"), "{said}");
        let (code, said) = rig.fails(&["backup", "/nowhere/x.db"]);
        assert_eq!(code, 69, "{said}");
    };
    let restore = async |rig: &mut Rig| rig.carry_out("sqlite restore", &[("FILE", &file), ("BACKUP", &copy)]);
    rehearse(rig, backup, restore).await;
}

#[tokio::test]
async fn what_sqlites_own_shell_copies_is_as_good() {
    let rig = Rig::new(None);
    let [file, copy] = ["rebilld.db", "shell.db"].map(|name| rig.home.path(name).to_str().expect("a path").to_owned());
    let backup = |rig: &Rig| {
        let (code, said) = rig.shell("sqlite3 \"$FILE\" \"VACUUM INTO '$BACKUP'\"", &[("FILE", &file), ("BACKUP", &copy)]);
        assert_eq!(code, 0, "{said}");
    };
    let restore = async |rig: &mut Rig| rig.carry_out("sqlite restore", &[("FILE", &file), ("BACKUP", &copy)]);
    rehearse(rig, backup, restore).await;
}

#[tokio::test]
async fn a_postgresql_database_is_dumped_and_restored_by_the_page() {
    let server = postgres::Server::start(&[]);
    let url = server.database().await.url;
    let rig = Rig::new(Some(&url));
    let copy = rig.home.path("monday.dump").to_str().expect("a path").to_owned();
    let (maintenance, restored) = (server.url("postgres"), server.url("rebilld_restored"));
    let backup = |rig: &Rig| {
        rig.carry_out("postgres backup", &[("BACKUP", &copy), ("URL", &url)]);
        let (code, said) = rig.fails(&["backup", "x.db"]);
        assert_eq!(code, 65, "{said}");
        assert!(said.contains("pg_dump"), "{said}");
    };
    let restore = async |rig: &mut Rig| {
        let variables = [("SERVER", maintenance.as_str()), ("RESTORED", &restored), ("BACKUP", &copy)];
        rig.carry_out("postgres restore", &variables);
        rig.home.layer("restored", &format!("[database]\nurl = \"{restored}\"\n"));
        rig.home.database.clone_from(&restored);
    };
    rehearse(rig, backup, restore).await;
}
