//! `rebilld config plan` and `rebilld config apply`: a change as money, before it happens.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::app::ahead;
use crate::cli::context::{Context, Opened, Why, open_in_spite, zone_of};
use crate::cli::failure::{Code, Failure};
use crate::cli::output::{Field, Listing, Output, Paint, amount, colours, field, local, print_json, say};
use crate::cli::progress::Progress;
use crate::config::{Loaded, Settings, Sources, Version, cron, load, revive};
use crate::domain::money::Currency;
use crate::engine::change::{Change, DAYS, Effect, Next};
use crate::store::DaemonRow;

/// How long `apply` waits for the daemons.
const WAIT: Duration = Duration::from_secs(15);

/// What is compared with what.
#[derive(Debug, clap::Args)]
pub struct NewConfig {
    /// The new config instead of the files that are in place; given several times, later ones win
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Apply {
    #[command(flatten)]
    new: NewConfig,
    /// Confirms a change beyond `[reload]`'s bounds: the beginning of the new config's hash, as `config plan` shows it
    #[arg(long, value_name = "HASH")]
    confirm: Option<String>,
    #[command(flatten)]
    why: Why,
}

/// A change of config, looked at from all sides.
struct Planned {
    opened: Opened,
    new: Loaded,
    version: Version,
    /// The hash of what is in force, if a daemon has ever run here.
    base: Option<String>,
    old: Settings,
    restart: Vec<String>,
    effect: Effect,
}

impl NewConfig {
    async fn planned(self, context: &Context) -> Result<Planned, Failure> {
        let opened = context.open().await?;
        let sources = match self.file.is_empty() {
            true => context.sources.clone(),
            false => Sources { files: self.file, ..context.sources.clone() },
        };
        let new = load(&sources)?;
        new.runnable()?;
        new.check_plans(&opened.plans.rows)?;
        let version = new.version();
        let in_force = opened.database.config_in_force().await?;
        let mut restart = new.needs_restart(&opened.loaded);
        let (old, base) = match in_force {
            Some(stored) => {
                for key in version.needs_restart(&stored.body) {
                    if !restart.contains(&key) {
                        restart.push(key);
                    }
                }
                let old = revive(&stored.body).map_err(|why| {
                    Failure::new(Code::Config, format!("the config that is in force is one of a newer rebilld: {why}"))
                })?;
                (old, Some(stored.hash))
            }
            None => (opened.loaded.settings.clone(), None),
        };
        let progress = Progress::start(context, "comparing");
        // a change of the config alone: both with the plans of the database as they are
        let with = |settings: &Settings| ahead::in_force(&settings.with_rows(&opened.plans.rows));
        let both = (with(&old)?, with(&new.settings)?);
        let effect = ahead::effect(&opened.database, (&both.0, &both.1), opened.now, |done, of| progress.at(done, of)).await?;
        drop(progress);
        Ok(Planned { opened, new, version, base, old, restart, effect })
    }

    pub async fn plan(self, context: &Context) -> Result<(), Failure> {
        let planned = self.planned(context).await?;
        match context.output {
            Output::Json => print_json(&planned.json()),
            Output::Csv => Listing { rows: planned.largest(), none: "" }.print(Output::Csv),
            Output::Table => say(&planned.text(false)),
        }
    }
}

impl Planned {
    fn unchanged(&self) -> bool {
        self.base.as_ref() == Some(&self.version.hash)
    }

    fn needs_confirmation(&self) -> bool {
        self.effect.exceeds(self.old.reload.max_change_count, self.old.reload.max_change_sum)
    }

    /// Jobs whose next run changes: before and after.
    fn jobs(&self) -> Vec<(&'static str, Option<Timestamp>, Option<Timestamp>)> {
        let now = self.opened.now;
        let both = self.old.jobs.named().into_iter().zip(self.new.settings.jobs.named());
        let changed = both.filter(|((_, before), (_, after))| before != after);
        changed.map(|((name, before), (_, after))| (name, cron::next(before, now), cron::next(after, now))).collect()
    }

    fn json(&self) -> Value {
        let effect = &self.effect;
        let sums = |pairs: &BTreeMap<Currency, crate::engine::change::Pair>| -> Vec<Value> {
            let of = |(currency, pair): (&Currency, &crate::engine::change::Pair)| {
                json!({
                    "currency": currency.code(), "before": int(pair.before.sum), "after": int(pair.after.sum),
                    "count_before": pair.before.count, "count_after": pair.after.count,
                    "difference": int(effect.difference.get(currency).copied().unwrap_or(0)),
                })
            };
            pairs.iter().map(of).collect()
        };
        let ahead =
            effect.ahead.iter().map(|(currency, minor)| json!({ "currency": currency.code(), "difference": int(*minor) }));
        let days = effect.days.iter().map(|((day, currency), pair)| {
            json!({
                "day": day, "currency": currency.code(), "count_before": pair.before.count, "before": int(pair.before.sum),
                "count_after": pair.after.count, "after": int(pair.after.sum),
            })
        });
        let jobs = self.jobs().into_iter().map(|(job, before, after)| json!({ "job": job, "before": before, "after": after }));
        let largest = effect.largest.iter().map(|change| crate::cli::output::object(&row(change, &TimeZone::UTC)));
        json!({
            "hash": self.version.hash, "in_force": self.base, "unchanged": self.unchanged(),
            "needs_confirmation": self.needs_confirmation(), "needs_restart": self.restart,
            "subscriptions": effect.subscriptions, "changed": effect.changed, "moved": effect.moved,
            "repriced": effect.repriced, "stopped": effect.stopped, "started": effect.started,
            "next_charges": sums(&effect.next), "ahead": ahead.collect::<Vec<_>>(), "days": days.collect::<Vec<_>>(), "largest": largest.collect::<Vec<_>>(),
            "jobs": jobs.collect::<Vec<_>>(),
        })
    }

    fn largest(&self) -> Vec<Vec<Field>> {
        self.effect.largest.iter().map(|change| row(change, &zone_of(&self.new, &change.account))).collect()
    }

    /// For people. `brief`: without days and single subscriptions.
    fn text(&self, brief: bool) -> String {
        let paint = Paint(colours());
        let zone = zone_of(&self.new, "");
        let short = Version::short(&self.version.hash);
        let mut lines = Vec::new();
        match &self.base {
            Some(base) if self.unchanged() => {
                let word = Version::short(base);
                return format!("nothing changes: {word} is in force");
            }
            Some(base) => lines.push(paint.bold(&format!("from {} (in force) to {short}", Version::short(base)))),
            None => lines.push(paint.bold(&format!("from the files in place (no daemon has run here yet) to {short}"))),
        }
        let effect = &self.effect;
        let of = |count: u64| if count == 1 { format!("{count} subscription") } else { format!("{count} subscriptions") };
        if effect.changed == 0 {
            lines.push(format!("no charge to come of {} changes within {DAYS} days", of(effect.subscriptions)));
        } else {
            lines.push(format!(
                "charges to come change for {} of {}; the first of each:",
                effect.changed,
                of(effect.subscriptions)
            ));
            let parts = [
                (effect.moved, "move to another time"),
                (effect.repriced, "change in amount"),
                (effect.stopped, "cannot be billed any more"),
                (effect.started, "can be billed again"),
            ];
            for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
                let text = format!("  {count:>8}  {what}");
                lines.push(if what.starts_with("cannot") { paint.bad(&text) } else { text });
            }
            for (currency, pair) in &effect.next {
                lines.push(format!("  {} before, {} after", shown(pair.before.sum, *currency), shown(pair.after.sum, *currency)));
            }
        }
        let differing = effect.days.iter().filter(|(_, pair)| pair.before != pair.after);
        let days: Vec<Vec<Field>> = differing
            .map(|((day, currency), pair)| {
                let difference = pair.after.sum - pair.before.sum;
                vec![
                    field("day", day.to_string()),
                    field("charges_before", pair.before.count),
                    field("before", int(pair.before.sum)).shown(shown(pair.before.sum, *currency)).right(),
                    field("charges_after", pair.after.count),
                    field("after", int(pair.after.sum)).shown(shown(pair.after.sum, *currency)).right(),
                    field("difference", int(difference)).shown(signed(difference, *currency)).right(),
                ]
            })
            .collect();
        if !days.is_empty() && !brief {
            lines.push(String::new());
            lines.push(paint.bold(&format!("days of the next {DAYS} on which something differs")));
            lines.push(Listing { rows: days, none: "" }.lines());
        }
        if !effect.largest.is_empty() && !brief {
            lines.push(String::new());
            lines.push(paint.bold("the largest changes"));
            lines.push(Listing { rows: self.largest(), none: "" }.lines());
        }
        let shown_at = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| local(at, &zone));
        for (job, before, after) in self.jobs() {
            lines.push(format!("the next run of job {job}: {} instead of {}", shown_at(after), shown_at(before)));
        }
        lines.push(String::new());
        lines.push(match (self.restart.as_slice(), self.needs_confirmation()) {
            ([], false) => format!("`rebilld config apply` takes it ({short})"),
            ([], true) => {
                paint.unsure(&format!("beyond the bounds of `[reload]`: it waits for `rebilld config apply --confirm {short}`"))
            }
            (keys, _) => paint.bad(&format!(
                "{} cannot change while the daemon runs: put them back, or restart it with the new file",
                keys.join(", ")
            )),
        });
        lines.join("\n")
    }
}

fn row(change: &Change, zone: &TimeZone) -> Vec<Field> {
    let at = |name, next: &Next| {
        let at = next.due_at();
        let shown = match next {
            Next::Charge { due_at, .. } => local(*due_at, zone),
            Next::None { problem } => problem.clone(),
        };
        field(name, at.map_or(Value::Null, |at| at.to_string().into())).shown(shown)
    };
    let minor = |name, next: &Next| {
        let shown = next.amount().map_or_else(|| "none".to_owned(), |amount| amount.to_string());
        field(name, next.amount().map_or(Value::Null, |amount| amount.minor().into())).shown(shown).right()
    };
    let currency = change.after.amount().or(change.before.amount()).map(|amount| amount.currency().code().to_owned());
    vec![
        field("account", change.account.as_str()),
        field("external_ref", change.external_ref.as_str()),
        field("plan", change.plan.as_str()),
        at("due_before", &change.before),
        minor("before", &change.before),
        at("due_after", &change.after),
        minor("after", &change.after),
        field("currency", currency).hidden(),
    ]
}

fn int(sum: i128) -> Value {
    i64::try_from(sum).map_or_else(|_| sum.to_string().into(), Value::from)
}

fn shown(sum: i128, currency: Currency) -> String {
    i64::try_from(sum).map_or_else(|_| format!("{sum} {}", currency.code()), |minor| amount(minor, currency.code()))
}

fn signed(sum: i128, currency: Currency) -> String {
    let sign = if sum > 0 { "+" } else { "" };
    format!("{sign}{}", shown(sum, currency))
}

impl Apply {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let signed = context.signed(&self.why)?;
        let planned = self.new.planned(context).await?;
        let short = Version::short(&planned.version.hash).to_owned();
        if !planned.restart.is_empty() {
            let keys = planned.restart.join(", ");
            let text = format!("{keys} cannot change while the daemon runs: put them back, or restart it with the new file");
            return Err(Failure::new(Code::Config, text));
        }
        let confirmed = match &self.confirm {
            None => false,
            Some(hash) if hash.len() >= 8 && planned.version.hash.starts_with(hash.as_str()) => true,
            Some(hash) => {
                return Err(Failure::data(format!(
                    "--confirm {hash}: the new config is {short}; look at it with `rebilld config plan`"
                )));
            }
        };
        if planned.unchanged() && refusals(&planned, &planned.opened.database.daemons().await?).is_empty() {
            return told(context, &short, &[], "nothing changes: it is in force already");
        }
        if planned.needs_confirmation() && !confirmed {
            if context.output == Output::Table && !context.quiet {
                say(&planned.text(true))?;
            }
            let text = format!(
                "the change is larger than `[reload]` lets through, and nothing was applied. If it is meant: `rebilld config apply --confirm {short}`"
            );
            return Err(Failure::data(text));
        }
        let effect = json!({
            "changed": planned.effect.changed, "moved": planned.effect.moved, "repriced": planned.effect.repriced,
            "stopped": planned.effect.stopped,
        });
        let database = &planned.opened.database;
        let change = (planned.version.hash.as_str(), planned.base.as_deref());
        database.approve_config(planned.opened.now, &signed, change, &effect).await?;
        let began = planned.opened.now;
        let mut daemons = Vec::new();
        let step = Duration::from_millis(250);
        for _ in 0..(WAIT.as_millis() / step.as_millis()) {
            daemons = alive(database.daemons().await?, began);
            let answered =
                |daemon: &DaemonRow| daemon.hash == planned.version.hash || daemon.refused_at.is_some_and(|at| at >= began);
            if daemons.is_empty() || daemons.iter().all(answered) {
                break;
            }
            tokio::time::sleep(step).await;
        }
        if daemons.is_empty() {
            return told(
                context,
                &short,
                &[],
                "approved; no daemon runs at the moment: the next one takes its file at its start",
            );
        }
        let taken = daemons.iter().filter(|daemon| daemon.hash == planned.version.hash).count();
        told(context, &short, &daemons, &format!("in force in {taken} of {} running daemons", daemons.len()))?;
        if taken == daemons.len() {
            return Ok(());
        }
        Err(Failure::new(Code::TryLater, "not every daemon has taken it yet: `rebilld config show --running` says why"))
    }
}

fn alive(daemons: Vec<DaemonRow>, now: Timestamp) -> Vec<DaemonRow> {
    daemons.into_iter().filter(|daemon| daemon.runs(now)).collect()
}

/// Daemons that still hold something else.
fn refusals<'a>(planned: &Planned, daemons: &'a [DaemonRow]) -> Vec<&'a DaemonRow> {
    daemons.iter().filter(|daemon| daemon.runs(planned.opened.now)).filter(|daemon| daemon.hash != planned.version.hash).collect()
}

fn told(context: &Context, short: &str, daemons: &[DaemonRow], words: &str) -> Result<(), Failure> {
    if context.output == Output::Json {
        let daemons = daemons
            .iter()
            .map(|daemon| json!({ "instance": daemon.instance, "hash": daemon.hash, "refused_why": daemon.refused_why }));
        return print_json(&json!({ "hash": short, "result": words, "daemons": daemons.collect::<Vec<_>>() }));
    }
    let mut lines = vec![format!("{short}: {words}")];
    for daemon in daemons.iter().filter(|daemon| daemon.refused_why.is_some()) {
        lines.push(format!("  {}: {}", daemon.instance, daemon.refused_why.as_deref().unwrap_or_default()));
    }
    say(&lines.join("\n"))
}

/// `config show --running`.
pub async fn running(context: &Context) -> Result<(), Failure> {
    // it is asked just when a file is wrong
    let database = open_in_spite(context).await?;
    let zone = context.load().map_or(TimeZone::UTC, |loaded| zone_of(&loaded, ""));
    let daemons = database.daemons().await?;
    let row = |daemon: &DaemonRow| {
        vec![
            field("instance", daemon.instance.as_str()),
            field("version", daemon.version),
            field("hash", daemon.hash.as_str()).shown(Version::short(&daemon.hash)),
            crate::cli::output::at("taken_at", Some(daemon.taken_at), &zone),
            crate::cli::output::at("seen_at", Some(daemon.seen_at), &zone),
            crate::cli::output::at("stopped_at", daemon.stopped_at, &zone),
            field("refused_hash", daemon.refused_hash.clone()).shown(daemon.refused_hash.as_deref().map_or("", Version::short)),
            crate::cli::output::at("refused_at", daemon.refused_at, &zone),
            field("refused_why", daemon.refused_why.clone()),
        ]
    };
    Listing { rows: daemons.iter().map(row).collect(), none: "no daemon has run with this database yet" }.print(context.output)
}
