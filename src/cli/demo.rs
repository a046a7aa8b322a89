//! `rebilld demo`: months of billing in under a minute, with a proof at the end.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::civil::Date;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use super::context::{Context, Why};
use super::failure::{Code, Failure};
use super::imports;
use super::output::{Output, Paint, colours, grouped, print_json, say};
use super::subscriptions::import::ImportFile;
use crate::app::AppError;
use crate::app::demo::{DemoOptions, DemoProgress, DemoReport, demo};
use crate::config::Sources;
use crate::domain::money::Money;

#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Repeats the same faults and reaches the same totals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Invented subscriptions
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    subscriptions: u32,
    /// Simulated months
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=36))]
    months: u32,
    /// Keeps the database, the config, the CSV and the log in this directory, which has to be new or empty
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

impl Demo {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let place = Place::of(self.keep.clone())?;
        let log = log_to(&place.path)?;
        let options = DemoOptions {
            seed: self.seed,
            directory: place.path.clone(),
            subscriptions: self.subscriptions as usize,
            months: i32::try_from(self.months).unwrap_or(6),
        };
        let bar = bar(context, self.months);
        let timer = Timer::start();
        let run = demo(&options, import, |progress| show(&bar, progress), |canaries| leaks(&log, canaries));
        let interrupted = tokio::signal::ctrl_c();
        let report = tokio::select! {
            report = run => report?,
            _ = interrupted => {
                bar.finish_and_clear();
                return Err(Failure::new(Code::TryLater, "stopped: nothing was left behind but the directory given with --keep"));
            }
        };
        bar.finish_and_clear();
        let seconds = timer.elapsed();
        match context.output {
            Output::Json => print_json(&as_json(&report, seconds.as_secs_f64(), self.keep.as_deref()))?,
            _ => tell(&report, seconds.as_secs_f64(), self.keep.as_deref())?,
        }
        match report.holds() {
            true => Ok(()),
            false => Err(Failure::new(Code::Internal, "an invariant does not hold")),
        }
    }
}

/// Real time, for the summary's last line only.
struct Timer(std::time::Instant);

impl Timer {
    #[expect(clippy::disallowed_methods, reason = "how long the demo took is told to a person, and decides nothing")]
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn elapsed(&self) -> std::time::Duration {
        self.0.elapsed()
    }
}

/// Where the run's files are, and whether they stay.
struct Place {
    path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    fn of(keep: Option<PathBuf>) -> Result<Self, Failure> {
        let Some(path) = keep else {
            let made = tempfile::Builder::new().prefix("rebilld-demo-").tempdir();
            let temporary =
                made.map_err(|why| Failure::new(Code::Unavailable, format!("no temporary directory can be made: {why}")))?;
            return Ok(Self { path: temporary.path().to_owned(), _temporary: Some(temporary) });
        };
        let shown = path.display();
        std::fs::create_dir_all(&path).map_err(|why| Failure::data(format!("--keep {shown} cannot be made: {why}")))?;
        let path = path.canonicalize().map_err(|why| Failure::data(format!("--keep {shown} cannot be used: {why}")))?;
        let used = std::fs::read_dir(&path).map(|mut entries| entries.next().is_some()).unwrap_or(false);
        if used {
            return Err(Failure::data(format!("--keep {}: the directory is not empty; name a new one", path.display())));
        }
        Ok(Self { path, _temporary: None })
    }
}

/// All logs of the run go to a file, at their most talkative, so that they can be searched for what must not be in them.
fn log_to(directory: &std::path::Path) -> Result<PathBuf, Failure> {
    let path = directory.join("demo.log");
    let file = std::fs::File::create(&path)
        .map_err(|why| Failure::new(Code::Unavailable, format!("{} cannot be written: {why}", path.display())))?;
    let filter = EnvFilter::new("info,rebilld=debug,sqlx=warn,hyper=warn");
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_env_filter(filter)
        .with_writer(Mutex::new(file));
    // a second demo in one process logs where the first one does
    let _ = subscriber.try_init();
    Ok(path)
}

fn leaks(log: &std::path::Path, canaries: &[String]) -> Vec<String> {
    let text = match std::fs::read_to_string(log) {
        Ok(text) => text,
        Err(why) => return vec![format!("the log cannot be read back: {why}")],
    };
    let found = canaries.iter().filter(|canary| text.contains(canary.as_str()));
    found.map(|canary| format!("the log holds one of {} characters that it must not", canary.chars().count())).collect()
}

/// Exactly what `rebilld subscriptions import` does, and then `rebilld imports confirm`: the import goes by this machine's clock,
/// and to it the months of the demo are long past. So it holds each row, and this is the operator who has looked at them.
async fn import(sources: Sources, file: PathBuf) -> Result<(), AppError> {
    let context = Context { sources, output: Output::Table, quiet: true, signs: AtomicBool::default() };
    let import = ImportFile::of(file, "the demo's invented book");
    let wrong = |failure: Failure| AppError::Internal(failure.text);
    Box::pin(import.import(&context)).await.map_err(wrong)?;
    let held = context.open().await.map_err(wrong)?.database.desk().held_rows().await?;
    let hashes: BTreeSet<String> = held.into_iter().map(|(hash, _)| hash).collect();
    let why = Why { reason: "the demo's months are simulated".to_owned(), by: None };
    for hash in hashes {
        imports::rule(&context, &hash, true, &why).await.map_err(wrong)?;
    }
    Ok(())
}

fn bar(context: &Context, months: u32) -> Arc<ProgressBar> {
    if context.quiet || !std::io::stderr().is_terminal() {
        return Arc::new(ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::hidden()));
    }
    let template = "{prefix} {bar:24.green/dim} {msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(1000).with_style(style.progress_chars("━━─"));
    bar.set_prefix(format!("{months} months"));
    Arc::new(bar)
}

fn show(bar: &ProgressBar, progress: &DemoProgress) {
    bar.set_position(progress.done);
    bar.set_message(format!(
        "{}  due {}  charged {}  declined {}  in doubt {}  {}",
        progress.date,
        grouped(progress.due),
        grouped(progress.charged),
        grouped(progress.declined),
        progress.in_doubt,
        Money::krw(progress.amount),
    ));
}

fn as_json(report: &DemoReport, seconds: f64, kept: Option<&std::path::Path>) -> serde_json::Value {
    let verdicts = report.verdicts.iter().map(|verdict| {
        json!({
            "name": verdict.name, "says": verdict.says, "holds": verdict.holds(),
            "checked": verdict.checked, "broken": verdict.broken,
        })
    });
    json!({
        "seed": report.seed,
        "from": report.from,
        "to": report.to,
        "subscriptions": report.subscriptions,
        "totals": report.tally,
        "gateway": {
            "posts": report.posts, "faults": report.faults, "look_ups": report.look_ups,
        },
        "doubts": report.doubted,
        "resends": report.resends,
        "events": { "received": report.events.kinds, "repeats": report.events.repeats, "forged": report.events.forged },
        "incidents": report.incidents,
        "invariants": verdicts.collect::<Vec<_>>(),
        "holds": report.holds(),
        "seconds": seconds,
        "kept": kept,
    })
}

fn month_name(month: &str) -> String {
    let parsed: Option<Date> = format!("{month}-01").parse().ok();
    parsed.map_or_else(|| month.to_owned(), |date| date.strftime("%b %Y").to_string())
}

fn tell(report: &DemoReport, seconds: f64, kept: Option<&std::path::Path>) -> Result<(), Failure> {
    let paint = Paint(colours());
    let total = &report.tally.total;
    let faults: u64 = report.faults.values().sum();
    say(&paint.bold(&format!(
        "{} subscriptions, {} to {}: {} charged, each period once",
        grouped(report.subscriptions as u64),
        report.from,
        report.to,
        Money::krw(total.amount),
    )))?;
    say("")?;
    say(&paint.dim("  month        due      paid              amount   after a decline   unpaid   open"))?;
    for (name, month) in &report.tally.months {
        say(&format!(
            "  {:<9} {:>6}    {:>6} {:>19} {:>17} {:>8} {:>6}",
            month_name(name),
            grouped(month.due),
            grouped(month.paid),
            Money::krw(month.amount).to_string(),
            grouped(month.recovered),
            grouped(month.unpaid),
            grouped(month.open),
        ))?;
    }
    say(&format!(
        "  {:<9} {:>6}    {:>6} {:>19} {:>17} {:>8} {:>6}",
        "together",
        grouped(total.due),
        grouped(total.paid),
        Money::krw(total.amount).to_string(),
        grouped(total.recovered),
        grouped(total.unpaid),
        grouped(total.open),
    ))?;
    say(&paint.dim(&format!(
        "  open at the end: {} waiting for their next try or a new card, {} in doubt, {} in review",
        report.tally.in_dunning, report.tally.in_doubt, report.tally.in_review
    )))?;
    say("")?;
    say(&format!("The gateway saw {} charges and spoilt {}: {}.", grouped(report.posts), grouped(faults), told_faults(report),))?;
    say(&format!(
        "{} charges were in doubt for a while, and look-ups made them clear ({} look-ups with those before each send); {} were proven lost and sent again under the same id.",
        grouped(report.doubted),
        grouped(report.look_ups),
        grouped(report.resends),
    ))?;
    let events: u64 = report.events.kinds.values().sum();
    say(&format!("{} events reached the webhook receiver, every signature verified.", grouped(events)))?;
    say("")?;
    say(&paint.bold("Both ledgers compared, invariant by invariant"))?;
    for verdict in &report.verdicts {
        let mark = if verdict.holds() { paint.good("holds ") } else { paint.bad("BROKEN") };
        say(&format!(
            "  {:<4} {mark}  {} {}",
            verdict.name,
            verdict.says,
            paint.dim(&format!("({} checked)", grouped(verdict.checked as u64)))
        ))?;
        for broken in verdict.broken.iter().take(5) {
            say(&paint.bad(&format!("         {broken}")))?;
        }
    }
    for incident in &report.incidents {
        say(&paint.bad(&format!("  incident: {incident}")))?;
    }
    say("")?;
    say(&paint.dim(&format!(
        "seed {}, {seconds:.1} s; the same seed spoils the same charges and reaches the same totals",
        report.seed
    )))?;
    match kept {
        Some(path) => {
            let config = path.join("demo.toml");
            say(&format!(
                "Kept in {}: look around with `rebilld --config {} charges list`, or `charges show` one of them.",
                path.display(),
                config.display()
            ))
        }
        None => say(&paint.dim("nothing was kept; `--keep DIR` keeps the database to look around in")),
    }
}

fn told_faults(report: &DemoReport) -> String {
    let word = |name: &str| match name {
        "DropRequest" => "requests lost",
        "DropResponse" => "answers lost",
        "Late" => "processed minutes later",
        "StatusBefore" => "refused with an HTTP error",
        "StatusAfter" => "processed, then an HTTP error",
        "Malformed" => "answered nonsense",
        "Truncated" => "answers cut off",
        "Foreign" => "somebody else's answer",
        "Invisible" => "paid but not shown for minutes",
        _ => "other",
    };
    let mut told: Vec<String> = report.faults.iter().map(|(name, count)| format!("{} {}", grouped(*count), word(name))).collect();
    told.sort();
    told.join(", ")
}
