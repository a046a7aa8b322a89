//! `rebilld demo`: the real daemon over months of simulated time, against the sandbox gateway on a bad day.
//!
//! The same worker, store, HTTP client, config, CSV import and webhook courier as in production. Only the clock is moved: an
//! idle worker's sleep ends at once.

mod invent;
mod tally;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::{Time, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};

use super::assemble::{Assembled, assemble, open};
use super::errors::AppError;
use crate::config::{Environment, Loaded, Sources};
use crate::domain::attempt::IdBase;
use crate::domain::period::instant;
use crate::domain::proof::{self, Circumstances, Expected, Verdict};
use crate::engine::stats::Stats;
use crate::engine::worker;
use crate::gateway::sandbox::{FaultPlan, LedgerSnapshot, Rates, Sandbox, SandboxOptions, Seeded};
use crate::http::receiver::{Received, Receiver};
use crate::ports::clock::Clock;
use crate::ports::secret::Secret;
use crate::store::desk::{Reach, Signed};
use crate::time::SimulatedClock;
pub use invent::Invented;
pub use tally::{Month, Tally};

const TAG: &str = "sb";
/// Signs the demo's webhooks. Nothing else is ever signed with it.
const WEBHOOK_SECRET: &str = "whsec_ZGVtby1vbmx5LWRlbW8tb25seS1kZW1vLW9ubHk=";
/// After the last month faults stop and the daemon has this long to settle what is unclear.
const SETTLING: SignedDuration = SignedDuration::from_hours(3 * 24);

/// What to simulate.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Repeats the same book and the same faults.
    pub seed: u64,
    /// Where the database, the config, the CSV and the log stay.
    pub directory: PathBuf,
    pub subscriptions: usize,
    pub months: i32,
}

/// What a progress display shows.
#[derive(Debug, Clone, Copy)]
pub struct DemoProgress {
    pub date: jiff::civil::Date,
    /// Of the whole time, in thousandths.
    pub done: u64,
    pub due: u64,
    pub charged: u64,
    pub declined: u64,
    pub in_doubt: i64,
    pub amount: i64,
}

/// How it went.
#[derive(Debug, Clone)]
pub struct DemoReport {
    pub seed: u64,
    pub from: jiff::civil::Date,
    pub to: jiff::civil::Date,
    pub subscriptions: usize,
    pub tally: Tally,
    /// POSTs that the gateway spoilt, by kind.
    pub faults: std::collections::BTreeMap<String, u64>,
    pub posts: u64,
    pub look_ups: u64,
    pub resends: u64,
    pub doubted: u64,
    pub events: Received,
    pub verdicts: Vec<Verdict>,
    pub incidents: Vec<String>,
}

impl DemoReport {
    pub fn holds(&self) -> bool {
        self.verdicts.iter().all(Verdict::holds) && self.incidents.is_empty()
    }
}

/// Runs the demo. `import` brings the CSV into the database, as the command line does; `progress` is told every so often;
/// `leaks` looks for secrets and personal data in what was logged.
pub async fn demo<I, F>(
    options: &DemoOptions,
    import: I,
    mut progress: impl FnMut(&DemoProgress),
    leaks: impl FnOnce(&[String]) -> Vec<String>,
) -> Result<DemoReport, AppError>
where
    I: FnOnce(Sources, PathBuf) -> F,
    F: Future<Output = Result<(), AppError>>,
{
    let seoul = TimeZone::get("Asia/Seoul").unwrap_or(TimeZone::UTC);
    let first_day = date(2026, 1, 1);
    let last_day = first_day.checked_add(Span::new().months(options.months)).unwrap_or(first_day);
    let at = |day| instant(day, Time::midnight(), &seoul).unwrap_or(Timestamp::UNIX_EPOCH);
    let (start, end) = (at(first_day), at(last_day));
    let clock = Arc::new(SimulatedClock::new(start));
    let book = invent::subscriptions(options.seed, options.subscriptions, first_day);

    let sandbox = gateway(options.seed, &clock, &book).await?;
    let receiver = Receiver::start(Secret::new(WEBHOOK_SECRET), Arc::clone(&clock) as _)
        .await
        .map_err(|why| AppError::Internal(format!("the demo's webhook receiver cannot listen on loopback: {why}")))?;
    let loaded = write_config(&options.directory, &sandbox.url(), &receiver.url())?;
    let csv = options.directory.join("subscriptions.csv");
    write(&csv, &invent::csv(&book))?;

    let database = open(&loaded.settings, true).await?;
    database.migrate().await?;
    let Assembled { engine, database, .. } =
        assemble(&loaded, Arc::clone(&database), Arc::clone(&clock) as Arc<dyn Clock>, true, |tuning| {
            // under a simulated clock every look costs a turn, and there is nobody to be punctual for
            tuning.interval = std::time::Duration::from_secs(24 * 3600);
            tuning.lead = SignedDuration::ZERO;
            tuning.clock_check = None;
        })
        .await?;
    import(sources(&options.directory), csv).await?;

    clock.set_horizon(end);
    let running = tokio::spawn(worker::run(Arc::clone(&engine)));
    let mut braked = Vec::new();
    if let Some((on, off)) = kill_day(start, end) {
        // one day in the middle somebody throws the kill switch: nothing may leave, and nothing may be forgotten
        let signed = Signed { who: "demo".to_owned(), reason: "a day off, to show the kill switch".to_owned() };
        for (until, killed) in [(on, true), (off, false)] {
            clock.set_horizon(until);
            engine.wake.ring();
            watch(&clock, &engine.stats, (start, end), &mut progress).await;
            database.desk().kill(until, &Reach::Database, killed, &signed).await?;
        }
        braked.push((on, off));
        clock.set_horizon(end);
        engine.wake.ring();
    }
    watch(&clock, &engine.stats, (start, end), &mut progress).await;
    sandbox.set_faults(FaultPlan::none());
    let settled = end.checked_add(SETTLING).unwrap_or(end);
    clock.set_horizon(settled);
    // the worker sleeps towards the old horizon: a ring lets it see the new one
    engine.wake.ring();
    clock.horizon_reached().await;
    engine.stop();
    let _ = running.await;

    let ledger = sandbox.ledger();
    let books = database.books().await?;
    let received = receiver.received();
    let around = Circumstances {
        end: settled,
        expected: expected(&book, &loaded, settled)?,
        received: Some(received.ids.clone()),
        braked,
        leaks: leaks(&canaries(&book)),
        may_wait: true,
    };
    let verdicts = proof::check(&ledger.neutral(), &books, &around);
    let tally = tally::tally(&books, &seoul);
    let report = DemoReport {
        seed: options.seed,
        from: first_day,
        to: last_day,
        subscriptions: book.len(),
        tally,
        faults: faults(&ledger),
        posts: ledger.charges().count() as u64,
        look_ups: engine.stats.look_ups.get(),
        resends: engine.stats.resends.get(),
        doubted: engine.stats.doubted.get(),
        events: received,
        verdicts,
        incidents: books.incidents,
    };
    database.close().await;
    sandbox.stop().await;
    Ok(report)
}

/// From when to when the kill switch is on; a run of a few weeks has no such day.
fn kill_day(start: Timestamp, end: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let hours = end.duration_since(start).as_hours();
    let on = start.checked_add(SignedDuration::from_hours(hours * 2 / 5 / 24 * 24)).ok()?;
    let off = on.checked_add(SignedDuration::from_hours(36)).ok()?;
    (off < end).then_some((on, off))
}

async fn gateway(seed: u64, clock: &Arc<SimulatedClock>, book: &[Invented]) -> Result<Sandbox, AppError> {
    let mut options = SandboxOptions::new(Arc::clone(clock) as _);
    // only charges are spoilt: a look-up is keyed by the whole list of its ids, which depends on what falls due together
    let charges = Rates {
        drop_request: 20_000,
        drop_response: 25_000,
        late: 8_000,
        status_before: 8_000,
        status_after: 8_000,
        malformed: 8_000,
        truncated: 5_000,
        foreign: 3_000,
        invisible: 10_000,
        max_seconds: 600,
        ..Rates::default()
    };
    options.faults = FaultPlan { seeded: Some(Seeded { seed, charges, lookups: Rates::default() }), ..FaultPlan::none() };
    let sandbox = Sandbox::start(options)
        .await
        .map_err(|why| AppError::Internal(format!("the sandbox gateway cannot listen on loopback: {why}")))?;
    for invented in book {
        sandbox.add_customer(&invented.customer_uid, invented.card.clone());
    }
    Ok(sandbox)
}

fn write(path: &Path, text: &str) -> Result<(), AppError> {
    use std::os::unix::fs::PermissionsExt;
    let written =
        std::fs::write(path, text).and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)));
    written.map_err(|why| AppError::StateDir { path: path.display().to_string(), why })
}

fn sources(directory: &Path) -> Sources {
    Sources { files: vec![directory.join("demo.toml")], environment: Environment::of([]), ..Sources::default() }
}

fn write_config(directory: &Path, gateway: &str, receiver: &str) -> Result<Loaded, AppError> {
    std::fs::create_dir_all(directory).map_err(|why| AppError::StateDir { path: directory.display().to_string(), why })?;
    for (name, text) in [("imp-key", "sandbox-key"), ("imp-secret", "sandbox-secret"), ("webhook-secret", WEBHOOK_SECRET)] {
        write(&directory.join(name), text)?;
    }
    let here = directory.display();
    let text = format!(
        r#"# The config of a demo run: an operator's own looks the same.
tag = "{TAG}"
state_dir = "{here}"

[database]
url = "sqlite:{here}/demo.db"

[accounts.demo]
base_url = "{gateway}"
imp_key_file = "{here}/imp-key"
imp_secret_file = "{here}/imp-secret"
rate = 100000
in_flight = 32
# Six months in seconds, on a bad day of the gateway, with nobody there to look.
[accounts.demo.fuse]
day_from = 1000000
decline_rate = 1
doubt_rate = 1
{plans}
[[webhooks]]
name = "app"
url = "{receiver}"
secret_file = "{here}/webhook-secret"
allow_private = true
"#,
        plans = invent::PLANS,
    );
    write(&directory.join("demo.toml"), &text)?;
    Ok(crate::config::load(&sources(directory))?)
}

/// Tells the display how far the simulated time has come, until it is over.
async fn watch(
    clock: &SimulatedClock,
    stats: &Stats,
    (start, end): (Timestamp, Timestamp),
    progress: &mut impl FnMut(&DemoProgress),
) {
    let seoul = TimeZone::get("Asia/Seoul").unwrap_or(TimeZone::UTC);
    let whole = end.duration_since(start).as_secs().max(1);
    let mut over = std::pin::pin!(clock.horizon_reached());
    loop {
        let is_over = tokio::select! {
            () = &mut over => true,
            () = tokio::time::sleep(std::time::Duration::from_millis(50)) => false,
        };
        let now = clock.now();
        let done = now.duration_since(start).as_secs().saturating_mul(1000) / whole;
        progress(&DemoProgress {
            date: now.to_zoned(seoul.clone()).date(),
            done: u64::try_from(done).unwrap_or(0).min(1000),
            due: stats.opened.get(),
            charged: stats.paid.get(),
            declined: stats.declined.get(),
            in_doubt: stats.in_doubt(),
            amount: stats.amount.load(std::sync::atomic::Ordering::Relaxed),
        });
        if is_over {
            return;
        }
    }
}

/// Every period that fell due, counted from the book and the plans alone.
fn expected(book: &[Invented], loaded: &Loaded, end: Timestamp) -> Result<Vec<Expected>, AppError> {
    let tag = loaded.settings.tag;
    let catalog = loaded.settings.catalog();
    let mut expected = Vec::new();
    for invented in book {
        let Some(plan) = loaded.settings.plans.get(invented.plan) else { continue };
        let zone = catalog.zone_of_charge("demo", invented.plan, None);
        for n in 0.. {
            let start = plan.recurrence.start(invented.anchor, n);
            let due = start.and_then(|start| Some((start, instant(start, plan.charge_time, &zone)?)));
            let Some((start, due_at)) = due.filter(|(_, due_at)| *due_at <= end) else { break };
            let base = IdBase::derive(tag, "demo", &invented.external_ref, start).as_str().to_owned();
            expected.push(Expected { base, external_ref: invented.external_ref.clone(), due_at });
        }
    }
    Ok(expected)
}

fn faults(ledger: &LedgerSnapshot) -> std::collections::BTreeMap<String, u64> {
    let mut faults = std::collections::BTreeMap::new();
    for fault in ledger.charges().flat_map(|post| &post.faults) {
        let name = format!("{fault:?}");
        let name = name.split([' ', '{', '(']).next().unwrap_or_default().to_owned();
        *faults.entry(name).or_default() += 1;
    }
    faults
}

/// What no log may hold.
fn canaries(book: &[Invented]) -> Vec<String> {
    let mut canaries = vec!["sandbox-secret".to_owned(), WEBHOOK_SECRET.to_owned(), "Bearer ".to_owned()];
    canaries.extend(book.iter().flat_map(|payer| [payer.name.clone(), payer.phone.clone(), payer.mail.clone()]));
    canaries.sort();
    canaries.dedup();
    canaries
}
