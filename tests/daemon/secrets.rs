//! I12, on the real program: secrets and personal data stay where they belong, and its files are for their owner alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use jiff::tz::TimeZone;
use rebilld::ports::clock::Clock;
use rebilld::time::SystemClock;

use crate::ask::get;
use crate::processes::{BINARY, Daemon, Home, WEBHOOK_SECRET, until};
use crate::rig::{Rig, SOON};
use crate::support::postgres;

/// What every payer of these tests is called, and the keys of their account. A token of the gateway follows `Bearer `, and the sandbox's
/// begin with eight digits of their own.
const CANARIES: [&str; 9] = [
    "CANARYNAME",
    "canary@example.com",
    "010-9999-CNRY",
    "CANARYSTREET",
    "CNRY0001",
    "sandbox-secret",
    "Bearer ",
    "5ec7e700",
    WEBHOOK_SECRET,
];

/// One card of each kind that the sandbox knows.
const CARDS: [&str; 9] = ["good", "flaky", "insufficient", "twice", "expired", "unknown", "outage", "stolen", "ready"];

fn leaks(text: &str) -> Vec<&'static str> {
    CANARIES.into_iter().filter(|canary| text.contains(canary)).collect()
}

/// Returns what the daemon's listener answers meanwhile, where its log says in JSON where that is.
async fn bill_everybody(rig: &Rig, name: &str) -> String {
    let daemon = Daemon::start(&rig.home, name);
    let settled = "SELECT count(*) AS n FROM charges WHERE state <> 'due' OR tries > 0 OR waiting <> 'turn'";
    until("every card was asked", SOON, async || {
        let rows = rig.home.sql(settled).await;
        (rows[0].int("n").expect("a count") >= CARDS.len() as i64).then_some(())
    })
    .await;
    let mut answered = String::new();
    if rig.home.log(name).starts_with('{') {
        let address = rig.address().await;
        for path in ["/metrics", "/readyz", "/livez", "/nothing"] {
            let answer = get(address, path);
            answered += &format!("{}\n{}\n", answer.head, answer.body);
        }
        assert!(answered.contains("rebilld_"), "{answered}");
    }
    daemon.terminate();
    let mut daemon = daemon;
    assert!(daemon.ended(SOON).await.success());
    answered
}

async fn rig(format: &str, database: Option<&str>) -> Rig {
    let mut rig = Rig::new(database).listens();
    let webhook = rig.home.path("webhook").display().to_string();
    let hook = format!(
        "[[webhooks]]\nname = \"crm\"\nurl = \"http://127.0.0.1:9/hook\"\nallow_private = true\nsecret_file = \"{webhook}\"\n"
    );
    rig.home.layer("loud", &format!("[log]\nlevel = \"trace\"\nformat = \"{format}\"\n{hook}"));
    let today = SystemClock::new().now().to_zoned(TimeZone::get("Asia/Seoul").expect("the plan's zone")).date();
    let rows: Vec<String> = CARDS
        .iter()
        .map(|card| {
            let [name, mail, phone, street, postcode, ..] = CANARIES;
            format!(
                "('main', 'of-{card}', 'daily', '{card}-1', '{today}', '{today}', '{name}', '{mail}', '{phone}', '{street}', '{postcode}')"
            )
        })
        .collect();
    let columns = "account, external_ref, plan, customer_uid, anchor, starts_on, buyer_name, buyer_email, buyer_tel, buyer_addr, buyer_postcode";
    rig.home.sql(&format!("INSERT INTO subscriptions ({columns}) VALUES {}", rows.join(", "))).await;
    rig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_of_any_level_and_no_row_that_is_kept_holds_a_secret_or_a_person() {
    let server = postgres::database().await;
    for (format, database) in [("json", None), ("text", None), ("json", Some(server.url.as_str()))] {
        let rig = rig(format, database).await;
        let answered = bill_everybody(&rig, "daemon").await;
        assert_eq!(leaks(&answered), [""; 0], "over HTTP: {answered}");
        let log = rig.home.log("daemon");
        assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is not as loud as it was told to be");
        assert_eq!(leaks(&log), [""; 0], "in the {format} log");
        for (table, column) in [
            ("observations", "detail"),
            ("events", "data"),
            ("journal", "detail"),
            ("incidents", "detail"),
            ("deliveries", "coalesce(last_error, '')"),
            // bodies hold names, and go once their send has ended
            ("sends", "CASE WHEN state = 'open' THEN '' ELSE coalesce(body, '') END"),
        ] {
            let rows = rig.home.sql(&format!("SELECT CAST({column} AS TEXT) AS kept FROM {table}")).await;
            for row in &rows {
                let kept = row.text("kept").expect("a text");
                assert_eq!(leaks(&kept), [""; 0], "in {table}: {kept}");
            }
        }
        assert!(
            !rig.home.sql("SELECT id FROM observations").await.is_empty()
                && !rig.home.sql("SELECT id FROM events").await.is_empty()
        );
        files_hold_none(&rig.home.path("state"));
    }
}

fn files_hold_none(directory: &Path) {
    let files: Vec<_> =
        fs::read_dir(directory).expect("the state directory").map(|entry| entry.expect("an entry").path()).collect();
    assert!(!files.is_empty());
    for file in files.iter().filter(|file| file.is_file()) {
        let text = String::from_utf8_lossy(&fs::read(file).expect("it can be read")).into_owned();
        assert_eq!(leaks(&text), [""; 0], "in {}", file.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_listing_export_or_error_shows_a_secret_or_a_person() {
    let rig = rig("json", None).await;
    bill_everybody(&rig, "daemon").await;
    let listings: [&[&str]; 12] = [
        &["config", "show"],
        &["config", "check"],
        &["plans", "list"],
        &["charges", "list"],
        &["charges", "show", "1"],
        &["explain", "of-good"],
        &["declines", "list"],
        &["review", "list"],
        &["hold", "status"],
        &["events", "list"],
        &["incidents", "list"],
        &["journal", "list"],
    ];
    for listing in listings {
        for output in ["table", "json", "csv"] {
            let (code, said) = rig.fails(&[listing, &["--output", output]].concat());
            assert!(code == 0 || output != "json", "{listing:?}: {said}");
            assert_eq!(leaks(&said), [""; 0], "{listing:?} --output {output}: {said}");
        }
    }
    for wrong in [
        &["--database", "postgres://me:sandbox-secret@127.0.0.1:9/rebilld", "charges", "list"][..],
        &["charges", "show", "4711"],
        &["subscriptions", "import", "nothing.csv"],
    ] {
        let (code, said) = rig.fails(wrong);
        assert_ne!(code, 0, "{wrong:?}");
        assert_eq!(leaks(&said), [""; 0], "{wrong:?}: {said}");
    }
}

/// Whoever starts it, with whatever umask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_its_side_files_and_the_state_directory_are_for_their_owner_alone() {
    let rig = Rig::new(None);
    let home: &Home = &rig.home;
    for name in ["rebilld.db", "rebilld.db-wal", "rebilld.db-shm"] {
        let _ = fs::remove_file(home.path(name));
    }
    let config = home.files[0].display().to_string();
    let made = Command::new("sh")
        .args(["-c", "umask 000; exec \"$@\"", "sh", BINARY, "--config", &config, "migrate"])
        .output()
        .expect("a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let daemon = Daemon::wrapped(home, "daemon", "umask 000; exec \"$@\"");
    let names = [
        "rebilld.db",
        "rebilld.db-wal",
        "rebilld.db-shm",
        "rebilld.db.lock",
        "state",
        "state/rebilld.mark",
        "state/rebilld.journal",
    ];
    let mark = home.path("state/rebilld.mark");
    until("a daemon has lived there", SOON, async || mark.exists().then_some(())).await;
    // the command makes the file, or the daemon does, whoever is first
    let done = Command::new("sh")
        .args(["-c", "umask 000; exec \"$@\"", "sh", BINARY, "--config", &config, "kill", "on", "--reason", "a look"])
        .output()
        .expect("a shell");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    until("all files are there", SOON, async || names.iter().all(|name| home.path(name).exists()).then_some(())).await;
    for name in names {
        let mode = fs::metadata(home.path(name)).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{name} has the mode {mode:o}");
    }
    daemon.kill();
}
