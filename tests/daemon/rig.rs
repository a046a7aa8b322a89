//! A gateway and a home for one test, and short words for what is done with them.

use std::time::Duration;

use jiff::tz::TimeZone;
use rebilld::domain::charge::ChargeState;
use rebilld::gateway::sandbox::{Fault, FaultPlan, Matcher, Rule};
use rebilld::ports::clock::Clock;
use rebilld::time::SystemClock;
use serde_json::Value;

use crate::processes::{Gateway, Home, until};

/// What a person would call soon, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(30);

/// No test takes longer.
const BEFORE_MIDNIGHT: Duration = Duration::from_secs(4 * 60);

pub struct Rig {
    pub home: Home,
    pub gateway: Gateway,
    directory: tempfile::TempDir,
    rows: usize,
}

/// At midnight in Seoul the next period of every row is due, which no test here counts with: one that would begin a few minutes before it
/// begins after it.
fn not_over_midnight() {
    let now = SystemClock::new().now().to_zoned(TimeZone::get("Asia/Seoul").expect("the plan's zone"));
    let midnight = now.tomorrow().and_then(|day| day.start_of_day()).expect("a next day");
    let left = Duration::try_from(midnight.duration_since(&now)).expect("it is ahead");
    if left < BEFORE_MIDNIGHT {
        std::thread::sleep(left + Duration::from_secs(1));
    }
}

impl Rig {
    /// A running gateway, and a migrated database: a SQLite file if none is named.
    pub fn new(database: Option<&str>) -> Self {
        Self::over(database, "")
    }

    /// The same, with a gateway that remembers these lines of a ledger.
    pub fn over(database: Option<&str>, ledger: &str) -> Self {
        not_over_midnight();
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("ledger.jsonl"), ledger).expect("a ledger file");
        let gateway = Gateway::start(directory.path());
        let home = Home::new(database, &gateway.url());
        Self { home, gateway, directory, rows: 0 }
    }

    /// A directory beside the home.
    pub fn beside(&self, name: &str) -> std::path::PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// An operator's own INSERT: subscriptions whose first period is due today.
    pub async fn insert(&mut self, count: usize) {
        let today = SystemClock::new().now().to_zoned(TimeZone::get("Asia/Seoul").expect("the plan's zone")).date();
        let rows = self.rows..self.rows + count;
        self.rows = rows.end;
        let values: Vec<String> =
            rows.map(|n| format!("('main', 'sub-{n}', 'daily', 'good-{n}', '{today}', '{today}')")).collect();
        let values = values.join(", ");
        let columns = "account, external_ref, plan, customer_uid, anchor, starts_on";
        self.home.sql(&format!("INSERT INTO subscriptions ({columns}) VALUES {values}")).await;
    }

    /// The last so many rows are written again by the next [`Rig::insert`].
    pub fn rewind(&mut self, count: usize) {
        self.rows -= count;
    }

    /// From now on every charge meets these faults, so often.
    pub fn spoil(&self, faults: Vec<Fault>, times: Option<u32>) {
        self.gateway.set_faults(&FaultPlan::rules(vec![Rule { when: Matcher::charges(), faults, times }]));
    }

    pub async fn until_paid(&self, count: usize) {
        until(&format!("{count} charges are booked as paid"), SOON, async || (self.paid().await >= count).then_some(())).await;
    }

    pub async fn paid(&self) -> usize {
        self.home.books().await.charges.iter().filter(|charge| charge.state == ChargeState::Paid).count()
    }

    pub async fn until_asked(&self, count: usize) {
        let what = format!("the gateway is asked for {count} charges");
        until(&what, SOON, async || (self.gateway.charges() >= count).then_some(())).await;
    }

    pub async fn until_logged(&self, words: &str) {
        until(&format!("the log says `{words}`"), SOON, async || self.home.log("daemon").contains(words).then_some(())).await;
    }

    /// One row of `rebilld hold status`.
    pub fn status(&self, what: &str) -> Value {
        let rows = self.home.json(&["hold", "status"]);
        let found = rows.as_array().and_then(|rows| rows.iter().find(|row| row["what"] == what));
        found.unwrap_or_else(|| panic!("no {what} in {rows}")).clone()
    }

    /// Carries a command out and expects it to succeed.
    pub fn done(&self, arguments: &[&str]) -> String {
        let (code, text) = self.fails(arguments);
        assert_eq!(code, 0, "{arguments:?}: {text}");
        text
    }

    /// A command's exit code, and all that it said.
    pub fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.home.command(arguments);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().expect("it was not killed"), String::from_utf8_lossy(&said).into_owned())
    }
}
