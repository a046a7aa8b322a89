//! Plans of the database that change under a running daemon.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rebilld::ports::clock::Clock;
use rebilld::store::sql::Statement;
use rebilld::store::{Database, OpenOptions};
use rebilld::time::SystemClock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::processes::{Daemon, until};
use crate::rig::{Rig, SOON};
use crate::support::postgres;

/// What an app writes: all of it in one transaction.
async fn together(rig: &Rig, texts: &[String]) {
    let database = Database::open(&rig.home.database, OpenOptions::default()).await.expect("the database opens");
    let mut tx = database.begin_write().await.expect("a transaction");
    for text in texts {
        let text: &'static str = Box::leak(text.clone().into_boxed_str());
        tx.execute(&Statement::same("by hand", text), &[]).await.expect("the app's SQL is accepted");
    }
    tx.commit().await.expect("a commit");
    database.close().await;
}

/// A subscription whose first period is due today.
fn subscribed(reference: &str, plan: &str) -> String {
    let today = SystemClock::new().now().to_zoned(TimeZone::get("Asia/Seoul").expect("the account's zone")).date();
    format!(
        "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor, starts_on)
            VALUES ('main', '{reference}', '{plan}', 'good-{reference}', '{today}', '{today}')"
    )
}

fn plan(name: &str, every: &str, amount: i64) -> String {
    format!(
        "INSERT INTO plans (name, every, charge_time, amount, title, catch_up, catch_up_limit, while_past_due)
            VALUES ('{name}', '{every}', '00:00', {amount}, 'Plan', 'all', 1000, 'continue')"
    )
}

/// The amount that a subscription was charged, and the terms of its plan in the version that the charge names.
async fn charged(rig: &Rig, reference: &str) -> (i64, Value) {
    let sql = format!(
        "SELECT c.amount, c.config_version FROM charges c JOIN subscriptions s ON s.id = c.subscription_id
            WHERE s.external_ref = '{reference}' AND c.state = 'paid'"
    );
    let row = until(&format!("{reference} is paid"), SOON, async || rig.home.sql(&sql).await.pop()).await;
    let database = Database::open(&rig.home.database, OpenOptions::default()).await.expect("the database opens");
    let version = row.int("config_version").expect("a charge names its version");
    let stored = database.config_version(version).await.expect("it can be read").expect("it is kept");
    database.close().await;
    (row.int("amount").expect("an amount"), stored.plans["gold"].clone())
}

async fn next_look(rig: &Rig, reference: &str) -> Option<Timestamp> {
    let sql = format!(
        "SELECT h.next_look_at FROM schedules h JOIN subscriptions s ON s.id = h.subscription_id WHERE s.external_ref = '{reference}'"
    );
    rig.home.sql(&sql).await[0].at_opt("next_look_at").expect("an instant")
}

fn problem_of(rig: &Rig, reference: &str) -> Option<String> {
    let rows = rig.home.json(&["subscriptions", "list", "--problems"]);
    let row = rows.as_array()?.iter().find(|row| row["external_ref"] == reference)?.clone();
    row["schedule"].as_str()?.strip_prefix("problem: ").map(str::to_owned)
}

async fn picked_up(database: Option<&str>) {
    let rig = Rig::new(database);
    let _daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;

    // a plan and what names it, at once: neither is seen without the other
    together(&rig, &[plan("gold", "1 day", 3000), subscribed("a", "gold")]).await;
    let (amount, terms) = charged(&rig, "a").await;
    assert_eq!((amount, &terms["amount"]), (3000, &3000.into()));
    together(&rig, &["UPDATE plans SET amount = 3500 WHERE name = 'gold'".to_owned(), subscribed("b", "gold")]).await;
    let (amount, terms) = charged(&rig, "b").await;
    assert_eq!((amount, &terms["amount"]), (3500, &3500.into()));
    let price = "INSERT INTO plan_prices (plan, from_date, amount) VALUES ('gold', '2020-01-01', 4000)".to_owned();
    together(&rig, &[price, subscribed("c", "gold")]).await;
    let (amount, terms) = charged(&rig, "c").await;
    assert_eq!((amount, &terms["prices"][0]["amount"]), (4000, &4000.into()));
    let told = rig.home.sql("SELECT count(*) AS n FROM events WHERE kind = 'subscription.problem'").await;
    assert_eq!(told[0].int("n").expect("a count"), 0, "nobody was told of a plan that was there");

    // those that wait under a plan are looked at again when it changes
    let before = next_look(&rig, "a").await.expect("it waits for tomorrow");
    together(&rig, &["UPDATE plans SET charge_time = '00:30' WHERE name = 'gold'".to_owned()]).await;
    let moved = before + jiff::SignedDuration::from_mins(30);
    until("the next look has moved", SOON, async || (next_look(&rig, "a").await == Some(moved)).then_some(())).await;

    // a wrong row parks its own and nobody else
    // and what is due today is due already, at whatever time of the day this runs
    let back = "UPDATE plans SET charge_time = '00:00' WHERE name = 'gold'".to_owned();
    together(&rig, &[back, plan("bad", "1 fortnight", 100), subscribed("d", "bad"), subscribed("e", "gold")]).await;
    assert_eq!(charged(&rig, "e").await.0, 4000);
    let problem = until("it is parked", SOON, async || problem_of(&rig, "d")).await;
    assert!(problem.contains("plan `bad` of the database is wrong: column `every`: `1 fortnight`"), "{problem}");
    rig.until_logged("a plan of the database is wrong").await;
    together(&rig, &["UPDATE plans SET every = '1 day' WHERE name = 'bad'".to_owned()]).await;
    assert_eq!(charged(&rig, "d").await.0, 100);
    let ledger = rig.gateway.ledger();
    let mut paid: Vec<i64> = ledger.payments.iter().map(|payment| payment.amount_minor).collect();
    paid.sort_unstable();
    assert_eq!(paid, [100, 3000, 3500, 4000, 4000]);
}

#[tokio::test]
async fn plans_of_the_database_are_picked_up_while_running_on_sqlite() {
    picked_up(None).await;
}

#[tokio::test]
async fn plans_of_the_database_are_picked_up_while_running_on_postgres() {
    let database = postgres::database().await;
    picked_up(Some(&database.url)).await;
}

#[tokio::test]
async fn a_name_in_config_and_database_is_refused_at_reload_and_start_and_the_config_stays_in_force() {
    let mut rig = Rig::new(None);
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    together(&rig, &[plan("daily", "1 day", 1)]).await;
    rig.until_logged("the config's stays in force").await;
    rig.insert(1).await;
    rig.until_paid(1).await;
    assert_eq!(rig.gateway.ledger().payments[0].amount_minor, 1000);

    let pid = i32::try_from(daemon.pid()).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, Signal::HUP).expect("the daemon can be told");
    let refused = || rig.home.json(&["config", "show", "--running"])[0]["refused_why"].clone();
    let why = until("refused", SOON, async || refused().as_str().map(str::to_owned)).await;
    assert!(why.contains("plan `daily` is in the config and in the table `plans`"), "{why}");
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    let (code, said) = rig.fails(&["run"]);
    assert!(code == 78 && said.contains("plan `daily` is in the config and in the table `plans`"), "{code} {said}");
}

#[tokio::test]
async fn a_plan_that_changed_while_nobody_ran_moves_its_schedules_at_the_next_start() {
    let rig = Rig::new(None);
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    together(&rig, &[plan("gold", "1 day", 3000), subscribed("a", "gold")]).await;
    charged(&rig, "a").await;
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    let before = next_look(&rig, "a").await.expect("it waits for tomorrow");
    together(&rig, &["UPDATE plans SET charge_time = '00:30' WHERE name = 'gold'".to_owned()]).await;
    let _daemon = Daemon::start(&rig.home, "again");
    let moved = before + jiff::SignedDuration::from_mins(30);
    until("the next look has moved", SOON, async || (next_look(&rig, "a").await == Some(moved)).then_some(())).await;
}

async fn unreadable(database: Option<&str>) {
    let rig = Rig::new(database);
    let mut daemon = Daemon::start(&rig.home, "daemon");
    rig.until_logged("rebilld is up").await;
    // rows from before there was a check
    let off: &[&str] = match database {
        Some(_) => &[
            "ALTER TABLE plans DROP CONSTRAINT IF EXISTS plans_days",
            "ALTER TABLE plan_prices DROP CONSTRAINT IF EXISTS plan_prices_days",
        ],
        None => &["DROP TRIGGER IF EXISTS plans_days_added", "DROP TRIGGER IF EXISTS plan_prices_days_added"],
    };
    let day = if database.is_some() { "infinity" } else { "-1000-01-01" };
    let price = format!("INSERT INTO plan_prices (plan, from_date, amount) VALUES ('dated', '{day}', 5)");
    let trial = format!(
        "INSERT INTO plans (name, every, charge_time, amount, title, trial_until) VALUES ('trial', '1 day', '00:00', 100, 'Plan', '{day}')"
    );
    let mut texts: Vec<String> = off.iter().map(|sql| (*sql).to_owned()).collect();
    texts.extend([plan("dated", "1 day", 100), price, trial, plan("gold", "1 day", 3000)]);
    texts.extend([subscribed("a", "gold"), subscribed("b", "dated"), subscribed("c", "trial")]);
    together(&rig, &texts).await;
    assert_eq!(charged(&rig, "a").await.0, 3000, "its neighbours are billed");
    for (reference, column) in [("b", "from_date"), ("c", "trial_until")] {
        let problem = until("it is parked", SOON, async || problem_of(&rig, reference)).await;
        assert!(problem.contains(&format!("column `{column}` cannot be read")), "{problem}");
    }
    // brakes work, and so does a restart
    rig.done(&["kill", "on", "--reason", "test"]);
    rig.done(&["kill", "off", "--reason", "test"]);
    daemon.terminate();
    assert!(daemon.ended(SOON).await.success());
    let _daemon = Daemon::start(&rig.home, "again");
    together(&rig, &[subscribed("d", "gold")]).await;
    assert_eq!(charged(&rig, "d").await.0, 3000);
    // put right, nothing was lost
    together(&rig, &["DELETE FROM plan_prices".to_owned(), "UPDATE plans SET trial_until = NULL".to_owned()]).await;
    for reference in ["b", "c"] {
        assert_eq!(charged(&rig, reference).await.0, 100);
    }
}

#[tokio::test]
async fn a_plan_that_cannot_be_read_stops_its_own_subscriptions_alone_on_sqlite() {
    unreadable(None).await;
}

#[tokio::test]
async fn a_plan_that_cannot_be_read_stops_its_own_subscriptions_alone_on_postgres() {
    let database = postgres::database().await;
    unreadable(Some(&database.url)).await;
}
