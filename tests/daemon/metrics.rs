//! What a daemon that charges tells at `/metrics`.

use std::net::SocketAddr;

use jiff::tz::TimeZone;
use rebilld::domain::charge::ChargeState;
use rebilld::gateway::sandbox::PaymentStatus;
use rebilld::ports::clock::Clock;
use rebilld::ports::metrics::list::{self, METRICS};
use rebilld::time::SystemClock;
use rustix::process::Signal;

use crate::alarms::listened_to;
use crate::ask::{get, get_with, until_says};
use crate::ear::Ear;
use crate::exposition::{Exposition, read};
use crate::notify::tell;
use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};
use crate::support::postgres;

/// What shadow mode alone tells begins with this (`tests/daemon/shadow.rs`).
pub const OF_SHADOW: &str = "rebilld_shadow_";
/// Told only while the database answers.
const OF_DATABASE: [&str; 4] = [list::DUE.name, list::IN_DOUBT.name, list::HOLD.name, list::OUTBOX_WAITING.name];

fn scrape(address: SocketAddr) -> Exposition {
    let answer = get_with(address, "/metrics", "accept: application/openmetrics-text;version=1.0.0\r\n").expect("a scrape");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", answer.head);
    read(&answer.body, true)
}

/// Until a sample that this process counts has come to a value.
pub async fn until_counted(address: SocketAddr, sample: &str, value: f64) {
    until(&format!("{sample} is {value}"), SOON, async || (scrape(address).get(sample)? >= value).then_some(())).await;
}

impl Rig {
    /// Subscriptions that pay, one whose card has no funds, and one whose answer is unclear.
    async fn insert_mixed(&self, good: usize) {
        let today = SystemClock::new().now().to_zoned(TimeZone::get("Asia/Seoul").expect("the plan's zone")).date();
        let cards = (0..good).map(|n| format!("good-{n}")).chain(["insufficient-1".to_owned(), "ready-1".to_owned()]);
        let rows = cards.map(|card| format!("('main', 'of-{card}', 'daily', '{card}', '{today}', '{today}')"));
        let rows: Vec<String> = rows.collect();
        let columns = "account, external_ref, plan, customer_uid, anchor, starts_on";
        self.home.sql(&format!("INSERT INTO subscriptions ({columns}) VALUES {}", rows.join(", "))).await;
    }

    /// What the log says of each charge that has become something else, by subscription.
    fn told_of_changes(&self) -> Vec<(String, String)> {
        let log = self.home.log("daemon");
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut told: Vec<(String, String)> = lines
            .filter(|line| line["external_ref"].as_str().is_some_and(|name| name.starts_with("of-")))
            .filter_map(|line| {
                let to = match line["message"].as_str()? {
                    "a charge changed state" => line["to"].as_str()?,
                    "a charge was declined" => "declined",
                    _ => return None,
                };
                Some((line["external_ref"].as_str()?.to_owned(), to.to_owned()))
            })
            .collect();
        told.sort();
        told
    }

    async fn in_state(&self, state: ChargeState) -> usize {
        self.home.books().await.charges.iter().filter(|charge| charge.state == state).count()
    }
}

async fn tells_all_of_them(database: Option<&str>) {
    let heart = Ear::open();
    let heartbeat = format!("heartbeat_url = \"{}\"\nheartbeat_every = \"1s\"\nheartbeat_allow_private = true", heart.url());
    let (rig, ear) = listened_to(database, &heartbeat);
    let rig = rig.listens();
    let _daemon = Daemon::start(&rig.home, "daemon");
    let address = rig.address().await;
    rig.until_logged("both ledgers agree").await;
    // something to tell for every face: an alarm, a heartbeat, the gateway's webhooks
    rig.done(&["kill", "on", "--reason", "a test"]);
    ear.until_heard("kill-switch", &["raised"]).await;
    rig.done(&["kill", "off", "--reason", "a test"]);
    ear.until_heard("kill-switch", &["raised", "resolved"]).await;
    let webhooks = rig.done(&["webhooks", "url", "--account", "main", "--base", &format!("http://{address}")]);
    std::fs::write(rig.gateway.ledger_file.with_file_name("webhook.url"), webhooks.trim()).expect("a file can be written");
    rig.insert_mixed(5).await;
    rig.until_paid(5).await;
    until("one is in doubt", SOON, async || (rig.in_state(ChargeState::Doubt).await == 1).then_some(())).await;
    until("one was declined", SOON, async || rig.home.books().await.charges.iter().any(|charge| charge.tries == 1).then_some(()))
        .await;
    // the first look at the database's figures: they are told anew after 15 s only
    let paid = r#"rebilld_charges_total{account="main",outcome="paid",class="none",plan="daily"}"#;
    until_counted(address, paid, 5.0).await;
    until_counted(address, r#"rebilld_charged_amount_total{account="main",currency="KRW",outcome="doubt"}"#, 1000.0).await;
    until_counted(address, r#"rebilld_missed_charges{account="main"}"#, 0.0).await;
    for said in
        [r#"rebilld_alarms_sent_total{kind="kill-switch",result="sent"}"#, "rebilld_heartbeat_last_success_timestamp_seconds"]
    {
        until_counted(address, said, 1.0).await;
    }
    until("a webhook came in", SOON, async || (scrape(address).sum("rebilld_webhooks_received_total", &[]) >= 1.0).then_some(()))
        .await;
    let told = scrape(address);
    let good = (0..5).map(|n| (format!("of-good-{n}"), "paid".to_owned()));
    let others = [("of-insufficient-1", "declined"), ("of-ready-1", "doubt")].map(|(name, to)| (name.to_owned(), to.to_owned()));
    assert_eq!(rig.told_of_changes(), good.chain(others).collect::<Vec<_>>(), "one line of the log each");

    let missing: Vec<&str> = METRICS
        .iter()
        .filter(|metric| !told.families.contains(metric.family()) && !metric.name.starts_with(OF_SHADOW))
        .map(|metric| metric.name)
        .collect();
    assert!(missing.is_empty(), "not told: {missing:?}");

    // what it counted is what the database and the gateway say
    let ledger = rig.gateway.ledger();
    let of = |outcome: &str| told.sum("rebilld_charges_total", &[&format!("outcome=\"{outcome}\"")]);
    assert_eq!(told.value(paid), rig.in_state(ChargeState::Paid).await as f64);
    assert_eq!((of("paid"), of("doubt"), of("declined")), (5.0, 1.0, 1.0));
    assert_eq!(told.sum("rebilld_charges_total", &["class=\"SOFT_FUNDS\""]), 1.0);
    let amount: i64 =
        ledger.payments.iter().filter(|payment| payment.status == PaymentStatus::Paid).map(|payment| payment.amount_minor).sum();
    assert_eq!(told.sum("rebilld_charged_amount_total", &["outcome=\"paid\""]), amount as f64);
    let sends = ledger.charges().count() as f64;
    assert_eq!(told.value(r#"rebilld_sends_total{account="main"}"#), sends);
    assert_eq!(told.value(r#"rebilld_lateness_seconds_count{account="main"}"#), sends);
    assert_eq!(told.value(r#"rebilld_gateway_seconds_count{account="main",call="charge"}"#), sends);
    for call in ["look_up", "token", "list"] {
        assert!(told.value(&format!(r#"rebilld_gateway_seconds_count{{account="main",call="{call}"}}"#)) >= 1.0, "{call}");
    }
    for operation in ["look", "open", "claim", "begin", "record", "brakes"] {
        let calls = told.value(&format!(r#"rebilld_database_seconds_count{{operation="{operation}"}}"#));
        assert!(calls >= 1.0 || operation == "claim", "{operation}");
    }
    assert_eq!(told.value(r#"rebilld_in_doubt{account="main"}"#), 1.0);
    assert_eq!(told.value(r#"rebilld_send_limit{account="main"}"#), 50.0);
    assert_eq!(told.value(r#"rebilld_armed{account="main"}"#), 1.0);
    for quiet in ["hold", "killed", "paused", "breaker_open", "fuse_blown", "token_refused", "in_review", "missed_charges"] {
        assert_eq!(told.value(&format!(r#"rebilld_{quiet}{{account="main"}}"#)), 0.0, "{quiet}");
    }
    assert_eq!((told.value("rebilld_database_up"), told.value("rebilld_config_refused")), (1.0, 0.0));
    let now = SystemClock::new().now().as_second();
    for moment in ["reconcile", "audit"] {
        let at = told.value(&format!(r#"rebilld_{moment}_last_success_timestamp_seconds{{account="main"}}"#));
        assert!((now - 120..now + 5).contains(&(at as i64)), "{moment}: {at}, and now is {now}");
    }

    let older = get(address, "/metrics");
    assert!(older.head.contains("content-type: text/plain; version=0.0.4"), "{}", older.head);
    assert_eq!(read(&older.body, false).value(paid), told.value(paid));
    assert!(!older.body.contains("sandbox-key") && !older.body.contains("of-good"), "no secret and no subscription");
}

#[tokio::test]
async fn every_metric_is_told_by_a_daemon_that_has_charged_on_sqlite() {
    tells_all_of_them(None).await;
}

#[tokio::test]
async fn every_metric_is_told_by_a_daemon_that_has_charged_on_postgres() {
    let database = postgres::database().await;
    tells_all_of_them(Some(&database.url)).await;
}

/// Alerts hang on these: each is 1 while it is pulled, and what waits behind them is told.
#[tokio::test]
async fn each_brake_is_told_while_it_is_pulled() {
    let mut rig = Rig::new(None).listens();
    rig.home.layer("fuse", "[accounts.main.fuse]\namount = 5000\n");
    rig.insert(3).await;
    rig.home.sql("UPDATE subscriptions SET amount = 1000000 WHERE external_ref = 'sub-1'").await;
    let daemon = Daemon::start(&rig.home, "daemon");
    let address = rig.address().await;
    rig.until_logged("rebilld is up").await;
    let of_main = |metric: &str| format!("{metric}{{account=\"main\"}}");
    until_counted(address, &of_main("rebilld_fuse_blown"), 1.0).await;
    until_counted(address, &of_main("rebilld_due_charges"), 1.0).await;
    until_counted(address, &of_main("rebilld_oldest_due_age_seconds"), 1.0).await;
    let why = "a test of what is told";
    rig.done(&["kill", "on", "--reason", why]);
    rig.done(&["hold", "set", "--reason", why]);
    std::fs::write(rig.home.files.last().expect("a config"), "nonsense = 1\n").expect("the config is written");
    tell(&daemon, Signal::HUP);
    until_counted(address, "rebilld_config_refused", 1.0).await;
    for brake in ["rebilld_killed", "rebilld_hold"] {
        until_counted(address, &of_main(brake), 1.0).await;
    }
    let told = scrape(address);
    for other in ["paused", "paused_by_rates", "breaker_open", "token_refused"] {
        assert_eq!(told.value(&of_main(&format!("rebilld_{other}"))), 0.0, "{other} was not pulled");
    }
}

#[tokio::test]
async fn a_count_that_never_succeeded_is_old() {
    let rig = Rig::new(None).listens();
    // what a count reads and nothing else at the start
    rig.home.sql("ALTER TABLE key_bookings RENAME TO gone").await;
    let _daemon = Daemon::start(&rig.home, "daemon");
    let address = rig.address().await;
    rig.until_logged("what is missed could not be counted").await;
    until_counted(address, "rebilld_missed_count_age_seconds", 2.0).await;
    assert_eq!(scrape(address).sum("rebilld_missed_charges", &[]), 0.0, "and no count is told");
    assert!(!get(address, "/metrics").body.contains("\nrebilld_missed_charges{"));
}

#[tokio::test]
async fn a_database_that_is_down_is_left_out_and_said_to_be() {
    let mut server = postgres::Server::start(&[]);
    let database = server.database().await;
    let rig = Rig::new(Some(&database.url)).listens();
    let _daemon = Daemon::start(&rig.home, "daemon");
    let address = rig.address().await;
    until_says(address, "/readyz", 200).await;
    server.kill9();
    let not_ready = until_says(address, "/readyz", 503).await;
    assert!(not_ready.json()["database"].as_str().is_some_and(|said| said.starts_with("does not answer")), "{not_ready:?}");
    assert_eq!(get(address, "/livez").status, 200, "a restart of the daemon mends no database");
    let told = scrape(address);
    assert_eq!(told.value("rebilld_database_up"), 0.0);
    for metric in METRICS.iter().filter(|metric| OF_DATABASE.contains(&metric.name)) {
        assert!(!told.families.contains(metric.family()), "{} is not known", metric.name);
    }
    assert_eq!(told.value(r#"rebilld_sends_total{account="main"}"#), 0.0);
    server.restart();
    until_says(address, "/readyz", 200).await;
}
