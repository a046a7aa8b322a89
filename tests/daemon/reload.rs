//! A config that changes under a running daemon: as a whole or not at all.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use rebilld::domain::charge::ChargeState;
use rebilld::ports::clock::Clock;
use rebilld::time::SystemClock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};
use crate::support::postgres;

impl Rig {
    /// Puts other words into the config file.
    fn edit(&self, old: &str, new: &str) {
        let path = self.home.files.first().expect("a config file");
        let text = std::fs::read_to_string(path).expect("the config");
        assert!(text.contains(old), "`{old}` in {text}");
        std::fs::write(path, text.replace(old, new)).expect("the config is written");
    }

    fn running(&self) -> Value {
        self.home.json(&["config", "show", "--running"])[0].clone()
    }

    async fn until_in_force(&self, hash: &str) {
        let what = format!("{hash} is in force");
        until(&what, SOON, async || (self.running()["hash"] == hash).then_some(())).await;
    }

    async fn until_in_force_anywhere(&self, hash: &str) {
        let what = format!("a daemon goes by {hash}");
        until(&what, SOON, async || {
            let rows = self.home.json(&["config", "show", "--running"]);
            rows.as_array()?.iter().any(|row| row["hash"] == hash).then_some(())
        })
        .await;
    }

    async fn until_refused(&self, words: &str) -> String {
        let what = format!("refused because of `{words}`");
        until(&what, SOON, async || {
            let why = self.running()["refused_why"].as_str().unwrap_or_default().to_owned();
            why.contains(words).then_some(why)
        })
        .await
    }

    fn planned(&self) -> Value {
        self.home.json(&["config", "plan"])
    }
}

/// Now, and the plan's own day.
fn today() -> (Timestamp, Date) {
    let now = SystemClock::new().now();
    (now, now.to_zoned(TimeZone::get("Asia/Seoul").expect("the plan's zone")).date())
}

fn hang_up(daemon: &Daemon) {
    let pid = i32::try_from(daemon.pid()).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, Signal::HUP).expect("the daemon can be told");
}

/// Every charge names one config, and has the amount that this config says; none is lost and none is doubled.
async fn under_load(database: Option<&str>) {
    let mut rig = Rig::new(database);
    rig.edit("[jobs]", "[reload]\nmax_change_count = 1000000\nmax_change_sum = 1000000000\n[jobs]");
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    let mut amounts = BTreeMap::from([(rig.running()["version"].as_i64().expect("a version"), 1000)]);
    let mut price = 1000;
    for round in 0..6 {
        rig.insert(40).await;
        let (old, new) = (format!("amount = {price}\n"), format!("amount = {}\n", price + 1));
        let (old_title, new_title) = (
            format!("title = \"Daily{}\"", if round == 0 { String::new() } else { price.to_string() }),
            format!("title = \"Daily{}\"", price + 1),
        );
        rig.edit(&old, &new);
        rig.edit(&old_title, &new_title);
        price += 1;
        let wanted = rig.planned()["hash"].as_str().expect("a hash").to_owned();
        if round % 2 == 0 {
            hang_up(&daemon);
            rig.until_in_force(&wanted).await;
        } else {
            rig.done(&["config", "apply", "--reason", "a price"]);
            assert_eq!(rig.running()["hash"], wanted.as_str());
        }
        amounts.insert(rig.running()["version"].as_i64().expect("a version"), price);
    }
    rig.insert(40).await;
    rig.until_paid(280).await;
    let rows = rig.home.sql("SELECT c.config_version, c.amount, count(*) AS n FROM charges c GROUP BY 1, 2 ORDER BY 1, 2").await;
    let mut charges = 0;
    for row in &rows {
        let (version, amount) = (row.int("config_version").expect("each charge names its config"), row.int("amount").unwrap());
        assert_eq!(amounts.get(&version), Some(&amount), "{amounts:?}");
        charges += row.int("n").unwrap();
    }
    assert_eq!(charges, 280, "none is lost");
    assert!(rows.len() > 2, "the config changed while charges were made: {}", rows.len());
    let ledger = rig.gateway.ledger();
    assert_eq!(ledger.payments.len(), 280, "none is doubled");
    let books = rig.home.books().await;
    assert!(books.charges.iter().all(|charge| charge.state == ChargeState::Paid));
    let paid: i64 = ledger.payments.iter().map(|payment| payment.amount_minor).sum();
    assert_eq!(paid, books.charges.iter().map(|charge| charge.amount).sum::<i64>());
}

#[tokio::test]
async fn a_reload_under_load_loses_doubles_and_mixes_nothing_on_sqlite() {
    under_load(None).await;
}

#[tokio::test]
async fn a_reload_under_load_loses_doubles_and_mixes_nothing_on_postgres() {
    let database = postgres::database().await;
    under_load(Some(&database.url)).await;
}

#[tokio::test]
async fn a_lower_rate_holds_for_what_was_claimed_under_the_higher_one() {
    let mut rig = Rig::new(None);
    rig.home.layer("quick", "[accounts.main]\nrate = 50\nin_flight = 10\n");
    rig.insert(500).await;
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_asked(20).await;
    rig.home.layer("quick", "[accounts.main]\nrate = 1\nin_flight = 10\n");
    let planned = rig.planned();
    hang_up(&daemon);
    rig.until_in_force(planned["hash"].as_str().expect("a hash")).await;
    let clock = SystemClock::new();
    let (taken, before) = (clock.now(), rig.gateway.charges());
    assert!(before < 400, "there was more to send");
    until("what was claimed has met the gate", SOON, async || (clock.now() > taken + Span::new().seconds(14)).then_some(()))
        .await;
    let since = rig.gateway.charges() - before;
    // ten had their turn already, each second has one more
    assert!(since <= 10 + 16, "{since} charges in 14 s at one a second");
}

#[tokio::test]
async fn what_is_wrong_leaves_the_old_config_in_force_and_says_why() {
    let mut rig = Rig::new(None);
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    let before = rig.running();

    rig.edit("amount = 1000", "amuont = 1000");
    hang_up(&daemon);
    let why = rig.until_refused("unknown key").await;
    assert!(why.contains("rebilld.toml:") && why.contains("did you mean `plans.daily.amount`?"), "{why}");
    rig.edit("amuont = 1000", "amount = 1000");

    let key = rig.home.path("key").display().to_string();
    rig.edit(&key, &format!("{key}2"));
    hang_up(&daemon);
    let why = rig.until_refused("accounts.main.imp_key_file").await;
    assert!(why.contains("restart it, or put it back"), "{why}");
    rig.edit(&format!("{key}2"), &key);

    assert_eq!(rig.running()["hash"], before["hash"], "the old one stays");
    rig.insert(1).await;
    rig.until_paid(1).await;
    assert_eq!(rig.gateway.ledger().payments[0].amount_minor, 1000);
    hang_up(&daemon);
    until("what was put back is no refusal", SOON, async || rig.running()["refused_why"].is_null().then_some(())).await;
    assert!(rig.home.log("daemon").contains("the old one stays in force"));
}

/// A config is read and weighed, and then the database does not take it.
async fn not_taken(database: Option<&str>) {
    let mut rig = Rig::new(database);
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    let before = rig.running()["hash"].clone();
    let refuses: &[&str] = match database {
        None => &["CREATE TRIGGER full BEFORE INSERT ON config_versions BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"],
        Some(_) => &[
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$",
            "CREATE TRIGGER \"full\" BEFORE INSERT ON config_versions FOR EACH ROW EXECUTE FUNCTION full_disk()",
        ],
    };
    for statement in refuses {
        rig.home.sql(statement).await;
    }
    rig.edit("amount = 1000", "amount = 1100");
    rig.edit("charge = \"* * * * * *\"", "charge = \"0 0 5 1 1 *\"");
    hang_up(&daemon);
    rig.until_logged("the old one stays in force").await;
    rig.home.sql(if database.is_some() { "DROP TRIGGER \"full\" ON config_versions" } else { "DROP TRIGGER full" }).await;
    // put back; then an app changes a plan of its own, and all that is in force is swapped anew
    rig.edit("amount = 1100", "amount = 1000");
    rig.edit("charge = \"0 0 5 1 1 *\"", "charge = \"* * * * * *\"");
    hang_up(&daemon);
    rig.until_logged("the config is the one that is in force").await;
    let plan = "INSERT INTO plans (name, every, amount, title) VALUES ('own', '1 month', 500, 'Own')";
    rig.home.sql(plan).await;
    rig.until_logged("the plans of the database are in force").await;
    rig.insert(1).await;
    rig.until_paid(1).await;
    assert_eq!(rig.gateway.ledger().payments[0].amount_minor, 1000, "the config that was refused is not in force");
    assert_eq!(rig.running()["hash"], before);
}

#[tokio::test]
async fn a_config_that_the_database_does_not_take_never_comes_into_force_on_sqlite() {
    not_taken(None).await;
}

#[tokio::test]
async fn a_config_that_the_database_does_not_take_never_comes_into_force_on_postgres() {
    let database = postgres::database().await;
    not_taken(Some(&database.url)).await;
}

#[tokio::test]
async fn a_change_beyond_the_bound_waits_for_its_hash() {
    let mut rig = Rig::new(None);
    rig.edit("[jobs]", "[reload]\nmax_change_count = 2\n[jobs]");
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    rig.insert(3).await;
    rig.until_paid(3).await;
    let before = rig.running();
    rig.edit("amount = 1000", "amount = 1500");
    let (_, said) = rig.fails(&["forecast"]);
    assert!(said.contains("the daemon goes by another one"), "{said}");
    let planned = rig.planned();
    assert_eq!((&planned["changed"], &planned["needs_confirmation"]), (&3.into(), &true.into()));
    assert_eq!((&planned["next_charges"][0]["before"], &planned["next_charges"][0]["after"]), (&3000.into(), &4500.into()));
    let hash = planned["hash"].as_str().expect("a hash").to_owned();

    hang_up(&daemon);
    let why = rig.until_refused("config apply --confirm").await;
    assert!(why.contains("3 subscriptions") && why.contains(&hash[..12]), "{why}");
    let (code, said) = rig.fails(&["config", "apply", "--reason", "dearer"]);
    assert!(code == 65 && said.contains("nothing was applied"), "{code} {said}");
    let (code, said) = rig.fails(&["config", "apply", "--confirm", "aaaaaaaaaaaa", "--reason", "dearer"]);
    assert!(code == 65 && said.contains(&hash[..12]), "{code} {said}");
    assert_eq!(rig.running()["hash"], before["hash"]);

    let said = rig.done(&["config", "apply", "--confirm", &hash[..12], "--reason", "dearer"]);
    assert!(said.contains("in force in 1 of 1"), "{said}");
    assert_eq!(rig.running()["hash"], hash.as_str());
    let journal = rig.home.json(&["journal", "list"]);
    assert!(journal[0]["action"] == "config apply" && journal[0]["reason"] == "dearer", "{journal}");

    // back again is a change of its own: the word for the way there is used up
    rig.edit("amount = 1500", "amount = 1000");
    hang_up(&daemon);
    rig.until_refused("config apply --confirm").await;
}

#[tokio::test]
async fn a_charge_time_that_moves_earlier_is_kept() {
    let mut rig = Rig::new(None);
    // late at night: what is due today waits for it
    rig.edit("charge_time = \"00:00\"\namount = 1000", "charge_time = \"23:59\"\namount = 1000");
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    rig.insert(2).await;
    until("the schedules wait for the night", SOON, async || {
        let rows = rig.home.sql("SELECT count(*) AS n FROM schedules WHERE not_before IS NOT NULL").await;
        (rows[0].int("n").unwrap() == 2).then_some(())
    })
    .await;
    rig.edit("charge_time = \"23:59\"", "charge_time = \"00:00\"");
    hang_up(&daemon);
    rig.until_paid(2).await;
}

#[tokio::test]
async fn a_watched_link_that_points_elsewhere_is_taken() {
    let mut rig = Rig::new(None);
    rig.edit("[jobs]", "[reload]\nwatch = true\nevery = \"3s\"\n[jobs]");
    // as Kubernetes mounts a ConfigMap: the file is a link through `..data`, which is swapped
    let file = rig.home.files[0].clone();
    let text = std::fs::read_to_string(&file).expect("the config");
    for (name, text) in [("..v1", text.clone()), ("..v2", text.replace("amount = 1000", "amount = 1100"))] {
        std::fs::create_dir(rig.home.path(name)).expect("a directory");
        std::fs::write(rig.home.path(name).join("rebilld.toml"), text).expect("a file");
    }
    std::fs::remove_file(&file).expect("the file is replaced");
    symlink("..v1", rig.home.path("..data")).expect("a link");
    symlink("..data/rebilld.toml", &file).expect("a link");
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    let before = rig.running()["hash"].clone();
    symlink("..v2", rig.home.path("..data.new")).expect("a link");
    std::fs::rename(rig.home.path("..data.new"), rig.home.path("..data")).expect("the swap");
    until("the new one is in force", SOON, async || (rig.running()["hash"] != before).then_some(())).await;
    rig.insert(1).await;
    rig.until_paid(1).await;
    assert_eq!(rig.gateway.ledger().payments[0].amount_minor, 1100);
}

#[tokio::test]
async fn an_approved_config_is_taken_when_its_file_arrives() {
    let rig = Rig::new(None);
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    let file = rig.home.files[0].clone();
    let new = std::fs::read_to_string(&file).expect("the config").replace("amount = 1000", "amount = 1200");
    std::fs::write(rig.home.path("new.toml"), &new).expect("a file");
    let path = rig.home.path("new.toml").display().to_string();
    let (code, said) = rig.fails(&["config", "apply", "--file", &path, "--reason", "next year's prices"]);
    assert!(code == 75 && said.contains("taken once they hold the same"), "{code} {said}");
    let wanted = rig.home.json(&["config", "plan", "--file", &path])["hash"].as_str().expect("a hash").to_owned();
    std::fs::write(&file, new).expect("the file arrives");
    rig.until_in_force(&wanted).await;
}

#[tokio::test]
async fn a_daemon_that_has_stopped_is_not_waited_for() {
    let rig = Rig::new(None);
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    assert!(rig.running()["stopped_at"].is_string());
    rig.edit("amount = 1000", "amount = 1300");
    let said = rig.done(&["config", "apply", "--reason", "while nobody runs"]);
    assert!(said.contains("no daemon runs at the moment"), "{said}");
    // what a daemon starts with needs no word
    let planned = rig.planned()["hash"].as_str().expect("a hash").to_owned();
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_in_force_anywhere(&planned).await;
}

#[tokio::test]
async fn all_replicas_take_an_approved_config() {
    let database = postgres::database().await;
    let rig = Rig::new(Some(&database.url));
    let _daemons = ["one", "two"].map(|name| Daemon::start(&rig.home, name));
    for name in ["one", "two"] {
        let up = format!("{name} is up");
        until(&up, SOON, async || rig.home.log(name).contains("rebilld is up").then_some(())).await;
    }
    rig.edit("amount = 1000", "amount = 1400");
    let said = rig.done(&["config", "apply", "--reason", "both of them"]);
    assert!(said.contains("in force in 2 of 2 running daemons"), "{said}");
    let rows = rig.home.json(&["config", "show", "--running"]);
    assert_eq!(rows[0]["hash"], rows[1]["hash"]);
    assert_eq!(rows[0]["version"], rows[1]["version"], "one config has one number");
}

/// A running daemon, and a subscription of which nine periods wait for an operator; no charge to come may change by a reload.
async fn nine_missed() -> (Rig, Daemon) {
    let rig = Rig::new(None);
    rig.edit("catch_up = \"all\"\ncatch_up_limit = 1000\nwhile", "catch_up = \"hold\"\nwhile");
    rig.edit("[jobs]", "[reload]\nmax_change_count = 0\n[jobs]");
    let (now, today) = today();
    let (written, first) = (now - Span::new().hours(24 * 9), today - Span::new().days(8));
    let columns = "account, external_ref, plan, customer_uid, anchor, starts_on, created_at";
    let row = format!("('main', 'missed', 'daily', 'good-1', '{first}', '{first}', {})", written.as_microsecond());
    rig.home.sql(&format!("INSERT INTO subscriptions ({columns}) VALUES {row}")).await;
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    until("nine periods wait for an operator", SOON, async || {
        let rows = rig.home.sql("SELECT count(*) AS n FROM schedules WHERE missed = 9").await;
        (rows[0].int("n").unwrap() == 1).then_some(())
    })
    .await;
    (rig, daemon)
}

#[tokio::test]
async fn a_config_that_would_charge_the_missed_periods_is_beyond_the_bound() {
    let (mut rig, daemon) = nine_missed().await;
    rig.edit("catch_up = \"hold\"\nwhile", "catch_up = \"all\"\ncatch_up_limit = 36\nwhile");
    let planned = rig.planned();
    assert_eq!((&planned["changed"], &planned["needs_confirmation"]), (&1.into(), &true.into()), "{planned}");
    hang_up(&daemon);
    let why = rig.until_refused("config apply --confirm").await;
    assert!(why.contains("1 subscription"), "{why}");
    // whoever is new is charged: the worker has looked, and has left the missed periods alone
    rig.insert(1).await;
    rig.until_paid(1).await;
    assert_eq!(rig.gateway.charges(), 1, "nothing else was charged");
}

#[tokio::test]
async fn a_mistyped_price_of_a_later_day_is_beyond_the_bound() {
    let mut rig = Rig::new(None);
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    rig.insert(1).await;
    rig.until_paid(1).await;
    let from = today().1 + Span::new().days(20);
    rig.edit("[jobs]", &format!("[[plans.daily.prices]]\nfrom = \"{from}\"\namount = 110000\n[jobs]"));
    let planned = rig.planned();
    assert_eq!((&planned["changed"], &planned["repriced"]), (&1.into(), &1.into()), "{planned}");
    // 15 days at 109,000 more: above the million, of which no single charge is
    assert_eq!(planned["ahead"][0]["difference"].as_i64().map(|sum| sum % 109_000), Some(0), "{planned}");
    hang_up(&daemon);
    let why = rig.until_refused("config apply --confirm").await;
    assert!(why.contains("KRW"), "{why}");
}

#[tokio::test]
async fn what_an_operator_decides_goes_by_the_config_in_force_and_not_by_a_refused_file() {
    let (rig, daemon) = nine_missed().await;
    rig.edit(
        "every = \"1 day\"\ncharge_time = \"00:00\"\namount = 1000",
        "every = \"1 year\"\ncharge_time = \"00:00\"\namount = 400",
    );
    hang_up(&daemon);
    rig.until_refused("config apply --confirm").await;
    let listed = rig.home.json(&["catch-up", "list"]);
    assert_eq!((&listed["periods"], &listed["missed"][0]["sum"]), (&9.into(), &9000.into()), "{listed}");
    let said = rig.done(&["catch-up", "skip", "--all", "--reason", "our outage"]);
    let hashes = [rig.running()["hash"].clone(), rig.planned()["hash"].clone()];
    for hash in &hashes {
        assert!(said.contains(&hash.as_str().expect("a hash")[..12]), "{said}");
    }
    let rows = rig.home.sql("SELECT opened_until FROM schedules").await;
    let tomorrow = today().1.tomorrow().expect("a day");
    assert_eq!(rows[0].day("opened_until").expect("a day"), tomorrow, "nobody is free of charge for a year");
    let adjusted = rig.home.json(&["subscriptions", "adjust", "missed", "--amount", "-500", "--reason", "sorry"]);
    assert_eq!((&adjusted["next_amount"], &adjusted["next_period"]), (&500.into(), &tomorrow.to_string().into()), "{adjusted}");
}

#[tokio::test]
async fn a_config_that_was_refused_as_too_large_is_not_taken_by_a_restart() {
    let mut rig = Rig::new(None);
    rig.edit("[jobs]", "[reload]\nmax_change_count = 0\n[jobs]");
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    rig.insert(1).await;
    rig.until_paid(1).await;
    rig.edit("amount = 1000", "amount = 100000");
    let hash = rig.planned()["hash"].as_str().expect("a hash").to_owned();
    hang_up(&daemon);
    rig.until_refused("config apply --confirm").await;
    daemon.kill();
    let remedy = format!("rebilld config apply --confirm {}", &hash[..12]);
    for name in ["second", "third"] {
        let mut refused = Daemon::start(&rig.home, name);
        assert_eq!(refused.ended(SOON).await.code(), Some(78));
        let said = rig.home.log(name);
        assert!(said.contains(&remedy) && said.contains("1 subscription"), "{said}");
    }
    // put back, it is the one that was in force
    rig.edit("amount = 100000", "amount = 1000");
    let mut daemon = Daemon::start(&rig.home, "again");
    rig.insert(1).await;
    rig.until_paid(2).await;
    assert!(rig.gateway.ledger().payments.iter().all(|payment| payment.amount_minor == 1000));
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    // an operator's word lets it start
    rig.edit("amount = 1000", "amount = 100000");
    assert_eq!(Daemon::start(&rig.home, "fifth").ended(SOON).await.code(), Some(78));
    let (code, said) = rig.fails(&["config", "apply", "--confirm", &hash[..12], "--reason", "dearer by far"]);
    assert!([0, 75].contains(&code), "the killed daemon is waited for: {said}");
    let _daemon = Daemon::start(&rig.home, "once more");
    rig.until_in_force_anywhere(&hash).await;
}

#[tokio::test]
async fn what_only_a_restart_can_change_is_taken_by_one() {
    let rig = Rig::new(None);
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    rig.edit("in_flight = 16", "in_flight = 8");
    hang_up(&daemon);
    rig.until_refused("restart it").await;
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    let hash = rig.planned()["hash"].as_str().expect("a hash").to_owned();
    let _daemon = Daemon::start(&rig.home, "again");
    rig.until_in_force_anywhere(&hash).await;
}

async fn taken_up_again(database: Option<&str>) {
    let rig = Rig::new(database);
    rig.edit("amount = 1000", "amount = 1000\nmax_periods = 1");
    let (now, today) = today();
    let (written, first) = (now - Span::new().hours(48), today.yesterday().expect("a day"));
    let written = match database {
        Some(_) => format!("'{written}'"),
        None => written.as_microsecond().to_string(),
    };
    let columns = "account, external_ref, plan, customer_uid, anchor, starts_on, created_at";
    let row = format!("('main', 'ended', 'daily', 'good-1', '{first}', '{first}', {written})");
    rig.home.sql(&format!("INSERT INTO subscriptions ({columns}) VALUES {row}")).await;
    let daemon = Daemon::start(&rig.home, "daemon");
    rig.until_paid(1).await;
    until("it has ended", SOON, async || {
        let rows = rig.home.sql("SELECT count(*) AS n FROM schedules WHERE parked = 'ended' AND next_look_at IS NULL").await;
        (rows[0].int("n").unwrap() == 1).then_some(())
    })
    .await;
    rig.edit("max_periods = 1", "max_periods = 2");
    assert_eq!(rig.planned()["started"], 1, "it can be billed again");
    hang_up(&daemon);
    rig.until_paid(2).await;
    // the smaller number again ends it again
    rig.edit("max_periods = 2", "max_periods = 1");
    let hash = rig.planned()["hash"].as_str().expect("a hash").to_owned();
    hang_up(&daemon);
    rig.until_in_force(&hash).await;
    assert_eq!(rig.gateway.charges(), 2);
}

#[tokio::test]
async fn a_larger_number_of_periods_takes_up_again_what_has_ended_on_sqlite() {
    taken_up_again(None).await;
}

#[tokio::test]
async fn a_larger_number_of_periods_takes_up_again_what_has_ended_on_postgres() {
    let database = postgres::database().await;
    taken_up_again(Some(&database.url)).await;
}
