//! Alarms of a real daemon, heard on real HTTP and by a real command: each kind from what it is about.

use rebilld::courier::verify;
use rebilld::ports::clock::Clock;
use rebilld::ports::secret::Secret;
use rebilld::store::codec::Row;
use rebilld::store::{Database, OpenOptions};
use rebilld::time::SystemClock;
use serde_json::json;

use crate::ask::until_says;
use crate::ear::Ear;
use crate::processes::{Daemon, WEBHOOK_SECRET, until};
use crate::rig::{Rig, SOON};
use crate::support::postgres::{self, Server};

const BECAUSE: [&str; 2] = ["--reason", "a test"];

/// A rig whose alarms somebody hears at once; `more` goes into its config.
pub fn listened_to(database: Option<&str>, more: &str) -> (Rig, Ear) {
    let (mut rig, ear) = (Rig::new(database), Ear::open());
    let secret = rig.home.path("webhook");
    rig.home.layer(
        "alarms",
        &format!(
            "[alarms]\nevery = \"1s\"\nbreaker_after = \"1s\"\ndatabase_after = \"1s\"\n{more}\n[[alarms.channel]]\nname = \"ops\"\n\
             by = \"webhook\"\nurl = \"{}\"\nsecret_file = \"{}\"\nallow_private = true\n",
            ear.url(),
            secret.display()
        ),
    );
    (rig, ear)
}

impl Rig {
    /// An operator's SQL, in each engine's spelling.
    async fn sql_of(&self, sqlite: &str, postgres: &str) -> Vec<Row> {
        let text = if self.home.database.starts_with("sqlite:") { sqlite } else { postgres };
        self.home.sql(text).await
    }

    /// Somebody else's charge to a payer of ours.
    fn ask_for(&self, merchant_uid: &str, amount: i64) {
        let body = json!({ "customer_uid": "good-0", "merchant_uid": merchant_uid, "amount": amount, "name": "Odd" });
        self.gateway.ask("/subscribe/payments/again", &body);
    }

    /// An id of the first charge.
    fn id(&self, number: &str) -> String {
        let ledger = self.gateway.ledger();
        let first = ledger.charges().next().and_then(|post| post.merchant_uid.clone()).expect("a charge was asked for");
        format!("{}{number}", &first[..28])
    }

    fn close_incident(&self, kind: &str) {
        let open = self.home.json(&["incidents", "list", "--kind", kind]);
        let id = open[0]["id"].to_string();
        self.done(&[&["incidents", "close", &id][..], &BECAUSE].concat());
    }
}

/// Makes a test of each engine out of one body.
macro_rules! both {
    ($($(#[$meta:meta])* async fn $name:ident($database:ident) $body:block)*) => {
        $(mod $name {
            use super::*;

            async fn body($database: Option<&str>) $body

            #[tokio::test]
            async fn on_sqlite() {
                body(None).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                let database = postgres::database().await;
                body(Some(&database.url)).await;
            }
        })*
    };
}

both! {
    async fn what_an_audit_finds_is_told_and_over_once_somebody_has_looked(database) {
        let (mut rig, ear) = listened_to(database, "");
        rig.insert(1).await;
        let _daemon = Daemon::start(&rig.home, "daemon");
        rig.until_paid(1).await;

        rig.ask_for(&rig.id("02"), 1_000);
        assert_eq!(rig.fails(&["audit"]).0, 65, "the payer has paid twice");
        ear.until_heard("double-charge", &["raised"]).await;
        let heard = ear.last("double-charge");
        assert_eq!((&heard["severity"], &heard["account"]), (&json!("critical"), &json!("main")));
        assert_eq!((&heard["concerns"]["charges"][0]["amount"], &heard["runbook"]), (&json!(1_000), &json!("docs/runbooks/double-charge.md")));
        let next = heard["next_step"].as_str().unwrap_or_default().to_owned();
        let arguments: Vec<&str> = next.split(' ').skip(1).collect();
        assert!(rig.done(&arguments).contains("double_charge"), "{next}");
        ear.until_heard("audit-difference", &["raised"]).await;
        rig.close_incident("double_charge");
        ear.until_heard("double-charge", &["raised", "resolved"]).await;
        rig.done(&["audit"]);
        ear.until_heard("audit-difference", &["raised", "resolved"]).await;

        rig.ask_for(&rig.id("03"), 500);
        assert_eq!(rig.fails(&["audit"]).0, 65);
        ear.until_heard("wrong-amount", &["raised"]).await;
        rig.close_incident("wrong_payment");
        ear.until_heard("wrong-amount", &["raised", "resolved"]).await;
        rig.done(&["audit"]);
        ear.until_heard("audit-difference", &["raised", "resolved", "raised", "resolved"]).await;

        rig.ask_for(&format!("sb{}01", "a".repeat(26)), 1_000);
        assert_eq!(rig.fails(&["audit"]).0, 65, "nobody here asked for it");
        ear.until_heard("hold", &["raised"]).await;
        assert_eq!(ear.last("hold")["account"], json!(null), "it is the whole database");
        rig.close_incident("unknown_payment");
        rig.sql_of("UPDATE settings SET held_at = 1", "UPDATE settings SET held_at = to_timestamp(0)").await;
        rig.done(&[&["hold", "release"][..], &BECAUSE].concat());
        ear.until_heard("hold", &["raised", "resolved"]).await;
        let all = ["raised", "resolved", "raised", "resolved", "raised", "resolved"];
        ear.until_heard("audit-difference", &all).await;

        let now = SystemClock::new().now();
        for heard in ear.heard() {
            let (id, at, signature) =
                (heard.header("webhook-id"), heard.header("webhook-timestamp"), heard.header("webhook-signature"));
            assert!(verify(&Secret::new(WEBHOOK_SECRET), id, at, heard.body.as_bytes(), signature, now), "{heard:?}");
            assert!(!heard.body.contains("good-0"), "the payer's key is nobody's business: {}", heard.body);
        }
        assert!(!rig.home.log("daemon").contains("hunter2"), "no address is logged");
    }

    async fn what_an_operator_pulls_is_told(database) {
        let (mut rig, ear) = listened_to(database, "");
        rig.home.layer("fuse", "[accounts.main.fuse]\namount = 5000\n");
        let _daemon = Daemon::start(&rig.home, "daemon");
        rig.until_logged("both ledgers agree").await;
        rig.done(&["kill", "on", "--reason", "too many calls"]);
        ear.until_heard("kill-switch", &["raised"]).await;
        assert!(ear.last("kill-switch")["what"].as_str().is_some_and(|what| what.ends_with("too many calls")));
        rig.done(&["kill", "off", "--reason", "all is well"]);
        ear.until_heard("kill-switch", &["raised", "resolved"]).await;
        let file = rig.home.path("state").join("kill.main");
        std::fs::write(&file, "").expect("a kill file");
        ear.until_heard("kill-switch", &["raised", "resolved", "raised"]).await;
        assert_eq!(ear.last("kill-switch")["account"], "main");
        std::fs::remove_file(&file).expect("it goes");
        ear.until_heard("kill-switch", &["raised", "resolved", "raised", "resolved"]).await;

        rig.sql_of(
            "UPDATE settings SET unsteady_until = (unixepoch() + 1800) * 1000000",
            "UPDATE settings SET unsteady_until = now() + interval '30 minutes'",
        )
        .await;
        ear.until_heard("clock", &["raised"]).await;
        rig.home.sql("UPDATE settings SET unsteady_until = NULL").await;
        ear.until_heard("clock", &["raised", "resolved"]).await;

        rig.insert(1).await;
        rig.until_paid(1).await;
        rig.home
            .sql(
                "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor, starts_on, amount)
                    SELECT account, 'large', plan, 'good-large', anchor, starts_on, 1000000 FROM subscriptions",
            )
            .await;
        ear.until_heard("fuse", &["raised"]).await;
        let next = ear.last("fuse")["next_step"].as_str().unwrap_or_default().to_owned();
        assert_eq!(next, "rebilld wave show --account main");
        let hash = rig.home.json(&["wave", "show", "--account", "main"])[0]["hash"].as_str().expect("a hash").to_owned();
        rig.done(&["wave", "approve", &hash, "--by", "kim", "--why", "it is a year's price"]);
        ear.until_heard("fuse", &["raised", "resolved"]).await;
    }

    async fn what_is_not_decided_is_told(database) {
        let (mut rig, ear) = listened_to(database, "");
        rig.insert(1).await;
        rig.home.sql("UPDATE subscriptions SET customer_uid = 'ready-0'").await;
        let _daemon = Daemon::start(&rig.home, "daemon");
        let in_state = async |state: &str| {
            let rows = rig.home.sql(&format!("SELECT count(*) AS n FROM charges WHERE state = '{state}'")).await;
            (rows[0].int("n").expect("a number") == 1).then_some(())
        };
        until("it is in doubt", SOON, async || in_state("doubt").await).await;
        // while a worker has it, the worker's own words about it come last
        let age = async |hours: i64| {
            let sqlite = format!("UPDATE charges SET next_at = unixepoch() * 1000000, doubt_since = (unixepoch() - {hours} * 3600) * 1000000");
            let postgres = format!("UPDATE charges SET next_at = now(), doubt_since = now() - interval '{hours} hours'");
            let free = " WHERE claim_token IS NULL RETURNING id";
            let aged = async || rig.sql_of(&(sqlite.clone() + free), &(postgres.clone() + free)).await.pop();
            until("nobody has it, and it is made older", SOON, aged).await;
        };
        age(3).await;
        ear.until_heard("doubt-old", &["raised"]).await;
        assert_eq!(ear.last("doubt-old")["concerns"]["charges"][0]["amount"], 1_000);
        age(25).await;
        ear.until_heard("review-waiting", &["raised"]).await;
        ear.until_heard("doubt-old", &["raised", "resolved"]).await;
        assert!(rig.done(&["review", "list"]).contains("sub-0"));
        rig.home.sql("UPDATE charges SET state = 'void', waiting = 'nothing', next_at = NULL").await;
        ear.until_heard("review-waiting", &["raised", "resolved"]).await;
    }

    async fn a_gateway_that_is_gone_is_told_once_and_its_return_too(database) {
        let (mut rig, ear) = listened_to(database, "");
        let _daemon = Daemon::start(&rig.home, "daemon");
        rig.until_logged("both ledgers agree").await;
        rig.gateway.stop();
        rig.insert(5).await;
        ear.until_heard("breaker", &["raised"]).await;
        assert_eq!(ear.last("breaker")["severity"], "warning");
        rig.gateway.start_again();
        rig.until_paid(5).await;
        ear.until_heard("breaker", &["raised", "resolved"]).await;
    }

    async fn too_many_declines_are_told(database) {
        let (mut rig, ear) = listened_to(database, "");
        rig.home.layer("fuse", "[accounts.main.fuse]\ndecline_rate = 0.5\nsample = 6\nday_from = 1000000\n");
        rig.insert(40).await;
        rig.home.sql("UPDATE subscriptions SET customer_uid = replace(customer_uid, 'good', 'limit')").await;
        let _daemon = Daemon::start(&rig.home, "daemon");
        ear.until_heard("decline-rate", &["raised"]).await;
        rig.done(&["hold", "release", "--account", "main", "--reason", "the cards were test cards"]);
        until("it is over", SOON, async || (ear.turns("decline-rate").get(1)? == "resolved").then_some(())).await;
    }

    async fn a_restart_repeats_nothing_and_tells_what_is_over_since(database) {
        let (mut rig, ear) = listened_to(database, "");
        rig.insert(1).await;
        let mut daemon = Daemon::start(&rig.home, "daemon");
        rig.until_paid(1).await;
        daemon.terminate();
        assert_eq!(daemon.ended(SOON).await.code(), Some(0));
        rig.home.sql("UPDATE schedules SET parked = NULL, next_look_at = NULL").await;
        let daemon = Daemon::start(&rig.home, "daemon");
        ear.until_heard("missed-charges", &["raised"]).await;
        // a daemon that dies before it has noted that tells it again, under the same id
        let noted = || rig.home.json(&["alarms", "list"])[0]["owed"] == json!([]);
        until("it is noted that the channel has taken it", SOON, async || noted().then_some(())).await;
        daemon.kill();
        let before = ear.heard().len();
        let mut daemon = Daemon::start(&rig.home, "again");
        let watched = "SELECT count(*) AS n FROM alarm_watch WHERE holder LIKE";
        let pid = daemon.pid();
        until("the next one looks", SOON, async || {
            let rows = rig.home.sql(&format!("{watched} '%:{pid}'")).await;
            (rows[0].int("n").expect("a number") == 1).then_some(())
        })
        .await;
        rig.done(&["kill", "on", "--reason", "a sign that it has looked"]);
        ear.until_heard("kill-switch", &["raised"]).await;
        assert_eq!((ear.turns("missed-charges"), ear.heard().len()), (vec!["raised".to_owned()], before + 1));
        let listed = rig.home.json(&["alarms", "list"]);
        let kinds: Vec<&str> = listed.as_array().expect("a list").iter().filter_map(|row| row["kind"].as_str()).collect();
        assert_eq!(kinds.len(), 2, "{listed}");
        assert!(kinds.contains(&"missed-charges") && kinds.contains(&"kill-switch"));
        daemon.terminate();
        assert_eq!(daemon.ended(SOON).await.code(), Some(0));
        rig.sql_of("UPDATE schedules SET next_look_at = (unixepoch() + 86400) * 1000000", "UPDATE schedules SET next_look_at = now() + interval '1 day'").await;
        let _daemon = Daemon::start(&rig.home, "third");
        ear.until_heard("missed-charges", &["raised", "resolved"]).await;
    }

    async fn an_alarm_that_lasts_is_repeated_and_a_failed_try_is_made_again(database) {
        let (rig, ear) = listened_to(database, "repeat = \"3s\"");
        ear.answers(503);
        let _daemon = Daemon::start(&rig.home, "daemon");
        rig.done(&["kill", "on", "--reason", "a test"]);
        ear.until_more(1).await;
        let ids: Vec<String> = ear.heard().iter().map(|heard| heard.header("webhook-id").to_owned()).collect();
        assert_eq!(ids[0], ids[1], "each try has the same id");
        ear.answers(200);
        until("it is repeated", SOON, async || ear.turns("kill-switch").contains(&"repeated".to_owned()).then_some(())).await;
        rig.done(&["kill", "off", "--reason", "a test"]);
        until("it is over", SOON, async || (ear.turns("kill-switch").last()? == "resolved").then_some(())).await;
    }

    async fn a_message_that_is_refused_holds_up_no_other(database) {
        let (rig, ear) = listened_to(database, "");
        ear.refuses("\"kind\":\"kill-switch\"", 503);
        let _daemon = Daemon::start(&rig.home, "daemon");
        rig.done(&["kill", "on", "--reason", "a test"]);
        // after the third try the pause is longer than anybody waits here
        until("it is tried three times", SOON, async || (ear.turns("kill-switch").len() >= 3).then_some(())).await;
        rig.done(&["hold", "set", "--reason", "a test"]);
        ear.until_heard("hold", &["raised"]).await;
        // a receiver says of one message that it is wrong as it stands
        ear.refuses("\"kind\":\"clock\"", 400);
        rig.sql_of(
            "UPDATE settings SET unsteady_until = (unixepoch() + 1800) * 1000000",
            "UPDATE settings SET unsteady_until = now() + interval '30 minutes'",
        )
        .await;
        ear.until_heard("clock", &["raised"]).await;
        rig.until_logged("an alarm is given up").await;
        // what nobody took is over: the end is told, and the beginning not after it
        rig.done(&["kill", "off", "--reason", "a test"]);
        until("the end is told", SOON, async || (ear.turns("kill-switch").last()? == "resolved").then_some(())).await;
        rig.home.sql("UPDATE settings SET unsteady_until = NULL").await;
        ear.until_heard("clock", &["raised", "resolved"]).await;
        assert_eq!((ear.turns("clock").len(), ear.turns("hold").len()), (2, 1), "what is refused as it stands is not sent again");
    }

    async fn a_dead_channel_is_in_nobodys_way(database) {
        let (mut rig, ear) = listened_to(database, "");
        let (dead, told) = (Ear::open(), rig.home.path("told.jsonl"));
        dead.falls_silent();
        rig.home.layer(
            "more",
            &format!(
                "[[alarms.channel]]\nname = \"dead\"\nby = \"slack\"\nurl = \"{}\"\nallow_private = true\ntimeout = \"60s\"\n\
                 [[alarms.channel]]\nname = \"ops\"\nby = \"webhook\"\nurl = \"{}\"\nallow_private = true\nkinds = [\"hold\"]\n\
                 [[alarms.channel]]\nname = \"pager\"\nby = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"cat >> {}\"]\n",
                dead.url(),
                ear.url(),
                told.display()
            ),
        );
        rig.done(&["kill", "on", "--account", "main", "--reason", "first"]);
        let _daemon = Daemon::start(&rig.home, "daemon");
        until("the dead one is asked", SOON, async || (!dead.heard().is_empty()).then_some(())).await;
        rig.done(&["kill", "off", "--account", "main", "--reason", "on with it"]);
        rig.insert(60).await;
        rig.until_paid(60).await;
        let lines = || std::fs::read_to_string(&told).unwrap_or_default();
        until("the command hears both words", SOON, async || (lines().lines().count() == 2).then_some(())).await;
        let words: Vec<serde_json::Value> = lines().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!((&words[0]["turn"], &words[1]["turn"]), (&json!("raised"), &json!("resolved")));
        assert_eq!(dead.heard().len(), 1, "it has not answered the first one yet");
        assert!(dead.heard()[0].body.contains("*warning* kill-switch (main)"), "{:?}", dead.heard()[0]);
        assert_eq!(ear.heard().len(), 0, "this one wants to hear of holds only");
        assert_eq!(rig.home.json(&["alarms", "list", "--all"])[0]["owed"], json!(["dead"]), "and it is still owed");
    }
}

/// So many daemons on one database, each with its state directory.
fn replicas(rig: &mut Rig, count: usize) -> Vec<Daemon> {
    (0..count)
        .map(|n| {
            let state = rig.beside(&format!("state-{n}"));
            rig.home.layer(&format!("replica-{n}"), &format!("state_dir = \"{}\"\n", state.display()));
            Daemon::start(&rig.home, &format!("daemon-{n}"))
        })
        .collect()
}

#[tokio::test]
async fn of_three_replicas_one_tells_and_the_next_takes_over() {
    let database = postgres::database().await;
    let (mut rig, ear) = listened_to(Some(&database.url), "");
    rig.insert(1).await;
    let mut daemons = replicas(&mut rig, 3);
    rig.until_paid(1).await;
    for n in 0..3 {
        until("each is up", SOON, async || rig.home.log(&format!("daemon-{n}")).contains("rebilld is up").then_some(())).await;
    }
    rig.done(&["kill", "on", "--reason", "a test"]);
    ear.until_heard("kill-switch", &["raised"]).await;
    let holder = rig.home.sql("SELECT holder FROM alarm_watch").await[0].text("holder").expect("one of them looks");
    let place = daemons.iter().position(|daemon| holder.ends_with(&format!(":{}", daemon.pid()))).expect("one of ours");
    daemons.remove(place).kill();
    rig.done(&["hold", "set", "--reason", "after the first one has died"]);
    ear.until_heard("hold", &["raised"]).await;
    rig.done(&["kill", "off", "--reason", "a test"]);
    ear.until_heard("kill-switch", &["raised", "resolved"]).await;
    assert_eq!(ear.turns("hold"), ["raised"]);
}

#[tokio::test]
async fn when_the_database_is_gone_each_replica_says_so_and_the_heartbeat_stops() {
    let mut server = Server::start(&[]);
    let database = server.database().await;
    let heart = Ear::open();
    let heartbeat = format!("heartbeat_url = \"{}\"\nheartbeat_every = \"1s\"\nheartbeat_allow_private = true", heart.url());
    let (mut rig, ear) = listened_to(Some(&database.url), &heartbeat);
    let _daemons = replicas(&mut rig, 2);
    for n in 0..2 {
        until("each is up", SOON, async || rig.home.log(&format!("daemon-{n}")).contains("rebilld is up").then_some(())).await;
    }
    heart.until_more(4).await;
    assert!(heart.heard().iter().all(|heard| heard.line.starts_with("GET /hunter2?key=hunter2 ")));
    server.kill9();
    ear.until_heard("database", &["raised", "raised"]).await;
    let whose = |alarm: &serde_json::Value| alarm["concerns"]["daemon"].as_str().unwrap_or_default().to_owned();
    let said: std::collections::BTreeSet<String> = ear.alarms().iter().map(whose).collect();
    assert_eq!(said.len(), 2, "each for itself");
    for n in 0..2 {
        let log = format!("daemon-{n}");
        until("the heartbeat stops", SOON, async || {
            rig.home.log(&log).contains("it is not sent: the database does not answer").then_some(())
        })
        .await;
    }
    let before = heart.heard().len();
    server.restart();
    ear.until_heard("database", &["raised", "raised", "resolved", "resolved"]).await;
    heart.until_more(before + 1).await;
    for n in 0..2 {
        assert!(!rig.home.log(&format!("daemon-{n}")).contains("hunter2"), "no address is logged");
    }
}

#[tokio::test]
async fn a_file_that_somebody_holds_is_told_and_over_once_he_lets_go() {
    let (mut rig, ear) = listened_to(None, "");
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("both ledgers agree").await;
    let options = OpenOptions { create: false, ..OpenOptions::default() };
    let shell = Database::open(&rig.home.database, options).await.expect("an operator's shell");
    let held = shell.begin_write().await.expect("a transaction that nobody ends");
    ear.until_heard("database", &["raised"]).await;
    assert_eq!(ear.last("database")["severity"], "critical");
    held.rollback().await.expect("it is let go of");
    ear.until_heard("database", &["raised", "resolved"]).await;
    rig.insert(1).await;
    rig.until_paid(1).await;
}

#[tokio::test]
async fn a_file_that_is_taken_away_is_told_and_nothing_is_sent_until_it_is_back() {
    let (mut rig, ear) = listened_to(None, "");
    rig.home.layer("http", "[http]\nlisten = \"127.0.0.1:0\"\n");
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("both ledgers agree").await;
    let address = rig.address().await;
    let file = std::path::PathBuf::from(rig.home.database.strip_prefix("sqlite:").expect("a file"));
    let away = file.with_extension("away");
    rig.insert(1).await;
    rig.until_paid(1).await;
    std::fs::rename(&file, &away).expect("somebody moves it");
    ear.until_heard("database", &["raised"]).await;
    until_says(address, "/readyz", 503).await;
    // what is due meanwhile: the daemon still has the file open, wherever it lies
    std::fs::rename(&away, &file).expect("it is put back");
    ear.until_heard("database", &["raised", "resolved"]).await;
    until_says(address, "/readyz", 200).await;
    rig.insert(1).await;
    rig.until_paid(2).await;
    assert_eq!(rig.gateway.charges(), 2);
}

#[tokio::test]
async fn a_server_that_comes_back_and_may_lose_commits_is_told_and_gets_no_intents() {
    let mut server = Server::start(&[]);
    let database = server.database().await;
    let (mut rig, ear) = listened_to(Some(&database.url), "");
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("both ledgers agree").await;
    rig.insert(1).await;
    rig.until_paid(1).await;
    sqlx::query("ALTER SYSTEM SET full_page_writes = off").execute(&mut database.connect().await).await.expect("a setting");
    server.kill9();
    server.restart();
    // nothing of ours opens such a database: an operator's own SQL
    let another = "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor, starts_on)
        SELECT account, 'another', plan, 'good-another', anchor, starts_on FROM subscriptions";
    let mut connection = database.connect().await;
    sqlx::query(another).execute(&mut connection).await.expect("a row");
    rig.until_logged("`full_page_writes` is `off`, and has to be on").await;
    rig.until_logged("\"message\":\"nothing is sent\"").await;
    ear.until_heard("database", &["raised"]).await;
    assert_eq!(rig.gateway.charges(), 1, "and nothing is sent");
    for mend in ["ALTER SYSTEM RESET full_page_writes", "SELECT pg_reload_conf()"] {
        sqlx::query(mend).execute(&mut connection).await.expect("it is mended");
    }
    rig.until_paid(2).await;
    ear.until_heard("database", &["raised", "resolved"]).await;
}

#[tokio::test]
async fn an_idle_daemon_that_looks_after_alarms_makes_two_transactions_a_second_at_most() {
    // its vacuuming makes transactions of its own, and they are counted too
    let server = postgres::Server::start(&[("autovacuum", "off")]);
    let database = server.database().await;
    let (mut rig, ear) = listened_to(Some(&database.url), "");
    let defaults = "[alarms]\nevery = \"15s\"\nheartbeat_every = \"60s\"\nheartbeat_allow_private = true\n";
    let heartbeat = format!("heartbeat_url = \"{}\"\n", ear.url());
    let jobs = "[jobs]\ncharge = \"0 * * * * *\"\nreconcile = \"5 * * * * *\"\nrelay = \"30 * * * * *\"\n";
    // each connection prepares each statement once, in a transaction of its own: with one of them that is over soon
    let one = "[database]\nmax_connections = 1\n";
    rig.home.layer("idle", &format!("{one}{defaults}{heartbeat}{jobs}"));
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("both ledgers agree").await;
    ear.until_more(0).await;
    let mut connection = database.connect().await;
    let clock = SystemClock::new();
    let mut seen = async || -> (u64, u64) {
        let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a number");
        (count.unsigned_abs(), clock.boot().as_secs())
    };
    let pass = async |seconds: u64| {
        let end = clock.boot() + std::time::Duration::from_secs(seconds);
        until("time passes", SOON * 2, async || (clock.boot() > end).then_some(())).await;
    };
    // a server counts what a connection did once that has been idle for ten seconds
    pass(20).await;
    let (before, from) = seen().await;
    pass(30).await;
    let (after, to) = seen().await;
    let (transactions, seconds) = (after - before, to - from);
    println!("{transactions} transactions in {seconds} s");
    assert!(transactions <= 2 * seconds, "{transactions} transactions in {seconds} s");
}
