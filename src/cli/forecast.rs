//! `rebilld forecast`: what will be charged, as far as rows and config tell.

use clap::ValueEnum;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::brakes::outside;
use super::context::Context;
use super::failure::{Code, Failure};
use super::output::{Field, Listing, Output, Paint, amount, colours, field, grouped, local, print_json, say};
use super::progress::Progress;
use crate::app::ahead;
use crate::config::Version;
use crate::domain::forecast::{History, Sum};
use crate::domain::money::Currency;
use crate::engine::forecast::{By, Forecast, Line};
use crate::store::desk::{AccountStatus, Status};

/// The widest bar, in characters.
const BAR: i128 = 30;

#[derive(Debug, clap::Args)]
pub struct ForecastCommand {
    /// How far to look ahead
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=1100))]
    days: u16,
    /// What the lines stand for
    #[arg(long, value_enum, default_value_t = Lines::Month)]
    by: Lines,
    /// From this instant instead of now, such as 2027-01-01T00:00:00Z: what falls due before counts as overdue
    #[arg(long, value_name = "INSTANT")]
    at: Option<jiff::Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lines {
    Day,
    Week,
    Month,
    Plan,
    Account,
}

impl Lines {
    fn by(self) -> (By, &'static str) {
        match self {
            Self::Day => (By::Day, "day"),
            Self::Week => (By::Week, "week"),
            Self::Month => (By::Month, "month"),
            Self::Plan => (By::Plan, "plan"),
            Self::Account => (By::Account, "account"),
        }
    }
}

impl ForecastCommand {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let opened = context.open().await?;
        let now = self.at.unwrap_or(opened.now);
        let until = now
            .checked_add(jiff::SignedDuration::from_hours(24 * i64::from(self.days)))
            .map_err(|_| Failure::new(Code::Usage, "--at: the calendar ends there"))?;
        let (by, name) = self.by.by();
        let progress = Progress::start(context, "looking ahead");
        let settings = &opened.loaded.settings;
        let forecast =
            ahead::forecast(&opened.database, &ahead::in_force(settings)?, by, (now, until), |done, of| progress.at(done, of))
                .await?;
        drop(progress);
        let history = opened.database.history().await?;
        let desk = opened.database.desk();
        let mut brakes = braked(desk.status().await?.as_ref(), &desk.accounts().await?);
        let outside = outside(&opened, &opened.database.daemons().await?);
        brakes.extend(outside.into_iter().map(|(what, why)| format!("{what}: {why}")));
        match context.output {
            Output::Json => {
                let mut told = as_json(&forecast, name, &history);
                told["days"] = self.days.into();
                told["braked"] = brakes.into();
                print_json(&told)
            }
            Output::Csv => Listing { rows: rows(&forecast, name), none: "" }.print(Output::Csv),
            Output::Table => {
                let ours = opened.loaded.version().hash;
                let in_force = opened.database.config_in_force().await?.filter(|in_force| in_force.hash != ours);
                if let Some(in_force) = in_force.filter(|_| !context.quiet) {
                    let (ours, theirs) = (Version::short(&ours), Version::short(&in_force.hash));
                    eprintln!(
                        "note: by the config here ({ours}); the daemon goes by another one ({theirs}), see `rebilld config plan`"
                    );
                }
                let zone = settings.accounts.values().next().map_or(TimeZone::UTC, |account| account.timezone.clone());
                tell(&forecast, name, &history, &brakes, &zone)
            }
        }
    }
}

/// What keeps charges from being sent at all; the forecast counts as if it ended now.
fn braked(status: Option<&Status>, accounts: &[AccountStatus]) -> Vec<String> {
    let mut told = Vec::new();
    if let Some(status) = status {
        told.extend(status.killed.then(|| "the kill switch is on".to_owned()));
        told.extend(status.held.then(|| "the database is held".to_owned()));
    }
    for account in accounts {
        let brakes = [
            (account.killed, "its kill switch is on"),
            (account.held, "is held"),
            (account.paused, "is paused"),
            (account.fuse.is_some(), "its fuse has blown"),
        ];
        for (stops, what) in brakes {
            told.extend(stops.then(|| format!("account {}: {what}", account.name)));
        }
    }
    told
}

fn int(sum: i128) -> Value {
    i64::try_from(sum).map_or_else(|_| sum.to_string().into(), Value::from)
}

fn sums(line: &Line) -> [(&'static str, Value); 4] {
    [
        ("charges", line.expected.count.into()),
        ("sum", int(line.expected.sum)),
        ("retries", line.retries.count.into()),
        ("retry_sum", int(line.retries.sum)),
    ]
}

fn shown(sum: i128, currency: Currency) -> String {
    i64::try_from(sum).map_or_else(|_| format!("{sum} {currency}"), |minor| amount(minor, currency.code()))
}

fn rows(forecast: &Forecast, name: &'static str) -> Vec<Vec<Field>> {
    let most = forecast.lines.values().map(|line| line.expected.sum + line.retries.sum).max().unwrap_or(0).max(1);
    let row = |((bucket, currency), line): (&(String, Currency), &Line)| {
        let [charges, sum, retries, retry_sum] = sums(line);
        let length = |sum: i128| usize::try_from((sum * BAR + most - 1) / most).unwrap_or(0);
        let bar = "█".repeat(length(line.expected.sum)) + &"░".repeat(length(line.retries.sum));
        let none = |count: u64, text: String| if count == 0 { String::new() } else { text };
        vec![
            field(name, bucket.as_str()),
            field("currency", currency.code()).hidden(),
            field(charges.0, charges.1),
            field(sum.0, sum.1).shown(shown(line.expected.sum, *currency)).right(),
            field(retries.0, retries.1).shown(none(line.retries.count, line.retries.count.to_string())),
            field(retry_sum.0, retry_sum.1).shown(none(line.retries.count, shown(line.retries.sum, *currency))).right(),
            field("", bar).only_shown(),
        ]
    };
    forecast.lines.iter().map(row).collect()
}

fn as_json(forecast: &Forecast, name: &'static str, history: &std::collections::BTreeMap<Currency, History>) -> Value {
    let lines = forecast.lines.iter().map(|((bucket, currency), line)| {
        let mut told = json!({ name: bucket, "currency": currency.code() });
        sums(line).into_iter().for_each(|(name, value)| told[name] = value);
        told
    });
    let total = forecast.total.iter().map(|(currency, line)| {
        let mut told = json!({ "currency": currency.code() });
        sums(line).into_iter().for_each(|(name, value)| told[name] = value);
        if let Some(history) = history.get(currency) {
            let Sum { count, sum } = history.closed;
            let estimate = history.estimate(line.expected.sum, line.retries.sum);
            told["measured"] = json!({
                "closed": count, "closed_sum": int(sum),
                "declined": history.declined.count, "declined_sum": int(history.declined.sum),
                "recovered": history.recovered.count, "recovered_sum": int(history.recovered.sum),
            });
            told["estimate"] = estimate.map_or(Value::Null, |estimate| {
                json!({
                    "declines": int(estimate.declines), "recovered_of_declines": int(estimate.recovered_of_them),
                    "recovered_of_retries": int(estimate.recovered_of_dunning),
                })
            });
        }
        told
    });
    let not = &forecast.not_counted;
    let by_currency = |sums: &std::collections::BTreeMap<Currency, Sum>| -> Vec<Value> {
        sums.iter()
            .map(|(currency, sum)| json!({ "currency": currency.code(), "charges": sum.count, "sum": int(sum.sum) }))
            .collect()
    };
    let problems: Vec<Value> =
        not.problems.iter().map(|(problem, count)| json!({ "problem": problem, "subscriptions": count })).collect();
    json!({
        "from": forecast.now, "until": forecast.until, "by": name, "subscriptions": forecast.subscriptions,
        "lines": lines.collect::<Vec<_>>(), "total": total.collect::<Vec<_>>(),
        "not_counted": {
            "paused": not.paused, "cancelled": not.cancelled, "ended": not.ended, "missed": not.missed,
            "missed_periods": not.missed_periods, "in_review": not.in_review, "problems": problems,
            "unclear": by_currency(&not.unclear), "without_card": by_currency(&not.without_card),
        },
    })
}

fn tell(
    forecast: &Forecast,
    name: &'static str,
    history: &std::collections::BTreeMap<Currency, History>,
    brakes: &[String],
    zone: &TimeZone,
) -> Result<(), Failure> {
    let paint = Paint(colours());
    Listing { rows: rows(forecast, name), none: "nothing falls due in this time" }.print(Output::Table)?;
    let mut lines = vec![String::new()];
    let (from, until) = (local(forecast.now, zone), local(forecast.until, zone));
    for (currency, line) in &forecast.total {
        let Line { expected, retries } = line;
        lines.push(paint.bold(&format!(
            "{} in {}, {from} to {until}",
            shown(expected.sum, *currency),
            plural(expected.count, "charge")
        )));
        if retries.count > 0 {
            let text = format!(
                "apart from that ░ {} in {} that {} declined before",
                shown(retries.sum, *currency),
                plural(retries.count, "charge"),
                if retries.count == 1 { "was" } else { "were" }
            );
            lines.push(format!("  {text}"));
        }
        let Some(history) = history.get(currency) else { continue };
        match history.estimate(expected.sum, retries.sum) {
            Some(estimate) if estimate.declines == 0 => lines
                .push(paint.dim(&format!("  none of the newest {} closed charges was declined", grouped(history.closed.count)))),
            Some(estimate) => {
                let dunning = match retries.count {
                    0 => String::new(),
                    _ => format!(" and {} of ░", shown(estimate.recovered_of_dunning, *currency)),
                };
                lines.push(paint.dim(&format!(
                    "  as the newest {} closed charges went: {} would be declined at first, {} of that{dunning} would come in",
                    grouped(history.closed.count),
                    shown(estimate.declines, *currency),
                    shown(estimate.recovered_of_them, *currency),
                )));
            }
            None => lines.push(paint.dim(&format!(
                "  declines to come are not estimated: it takes {1} closed charges, and there are {0}",
                history.closed.count,
                History::ENOUGH
            ))),
        }
    }
    let not = &forecast.not_counted;
    let mut left_out = Vec::new();
    for (count, what) in [
        (not.paused, "paused"),
        (not.cancelled, "cancelled"),
        (not.ended, "coming to an end"),
        (not.in_review, "waiting for a ruling in review"),
        (not.missed, "with missed periods, waiting for `rebilld catch-up`"),
    ] {
        if count > 0 {
            left_out.push(format!("{} {what}", plural(count, "subscription")));
        }
    }
    for (sums, what) in [(&not.unclear, "in doubt or in review"), (&not.without_card, "waiting for a new card")] {
        for (currency, sum) in sums {
            left_out.push(format!("{} {what} ({})", plural(sum.count, "charge"), shown(sum.sum, *currency)));
        }
    }
    for (problem, count) in &not.problems {
        left_out.push(format!("{}: {problem}", plural(*count, "subscription")));
    }
    if !left_out.is_empty() {
        lines.push("not counted:".to_owned());
        lines.extend(left_out.into_iter().map(|text| format!("  {text}")));
    }
    lines.extend(brakes.iter().map(|brake| paint.bad(&format!("nothing is sent at the moment: {brake}"))));
    say(&lines.join("\n"))
}

fn plural(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}
