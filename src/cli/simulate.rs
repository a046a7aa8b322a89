//! `rebilld simulate`: the operator's own book over months, against the sandbox.

use jiff::Span;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::context::Context;
use super::failure::{Code, Failure};
use super::output::{Field, Listing, Output, Paint, amount, colours, field, print_json, say};
use super::progress::Progress;
use crate::app::simulate::{DAYS, Month, Recovery, SimulateOptions, Simulated, Step, simulate};
use crate::domain::forecast::Sum;

#[derive(Debug, clap::Args)]
pub struct Simulate {
    /// How far to run
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u8).range(1..=60))]
    months: u8,
    /// Percent of first tries that are declined, for mixed reasons (docs/declines.md)
    #[arg(long, default_value_t = 7, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=40))]
    declines: u32,
    /// Other charges are the bad ones
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// What a CSV holds: a row for each month, or for each ladder
    #[arg(long, default_value = "month", value_parser = ["month", "ladder"])]
    by: String,
}

impl Simulate {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let opened = context.open().await?;
        let settings = &opened.loaded.settings;
        let zone = settings.accounts.values().next().map_or(TimeZone::UTC, |account| account.timezone.clone());
        let until = opened.now.to_zoned(zone.clone()).checked_add(Span::new().months(self.months));
        let until = until.map_err(|_| Failure::new(Code::Usage, "--months: the calendar ends there"))?.timestamp();
        let made = tempfile::Builder::new().prefix("rebilld-simulate-").tempdir();
        let directory =
            made.map_err(|why| Failure::new(Code::Unavailable, format!("no temporary directory can be made: {why}")))?;
        let options = SimulateOptions { until, declines: self.declines, seed: self.seed };
        let copying = Progress::start(context, "copying the book");
        let living = Progress::start(context, "simulated seconds");
        let report = simulate(&opened.database, settings, directory.path(), opened.now, &options, |step| match step {
            Step::Copied(done, of) => copying.at(done, of),
            Step::Lived(done, of) => living.at(done, of),
        })
        .await?;
        drop((copying, living));
        let (from, until) = (opened.now.to_zoned(zone.clone()).date(), until.to_zoned(zone).date());
        match context.output {
            Output::Json => {
                let mut told = as_json(&report);
                told["from"] = from.to_string().into();
                told["until"] = until.to_string().into();
                told["declines_percent"] = self.declines.into();
                told["seed"] = self.seed.into();
                print_json(&told)
            }
            Output::Csv if self.by == "ladder" => Listing { rows: ladders(&report), none: "" }.print(Output::Csv),
            Output::Csv => Listing { rows: rows(&report), none: "" }.print(Output::Csv),
            Output::Table => {
                let paint = Paint(colours());
                let head = format!(
                    "{} subscriptions from {from} to {until}, {} % of first tries declined (seed {}); nothing left this machine",
                    report.subscriptions, self.declines, self.seed
                );
                say(&paint.dim(&head))?;
                Listing { rows: rows(&report), none: "nothing fell due in this time" }.print(Output::Table)?;
                say(&paint.dim("\nwhat each ladder brought back of what was declined, in percent of what is decided"))?;
                Listing { rows: ladders(&report), none: "nothing was declined" }.print(Output::Table)
            }
        }
    }
}

fn int(sum: Sum) -> Value {
    i64::try_from(sum.sum).map_or_else(|_| sum.sum.to_string().into(), Value::from)
}

fn parts(month: &Month) -> [(&'static str, &'static str, Sum); 6] {
    [
        ("due", "due_sum", month.due),
        ("charged", "charged_sum", month.charged),
        ("declined", "declined_sum", month.declined),
        ("recovered", "recovered_sum", month.recovered),
        ("unpaid", "unpaid_sum", month.unpaid),
        ("open", "open_sum", month.open),
    ]
}

fn row(name: &str, currency: &str, month: &Month) -> Vec<Field> {
    let mut fields = vec![field("month", name), field("currency", currency).hidden()];
    for (count, sum, of) in parts(month) {
        let shown = i64::try_from(of.sum).map_or_else(|_| of.sum.to_string(), |minor| amount(minor, currency));
        fields.push(field(count, of.count));
        // for people the sums that matter; the others are in JSON and CSV
        let told = field(sum, int(of)).shown(if of.count == 0 { String::new() } else { shown }).right();
        fields.push(if ["due", "declined", "open"].contains(&count) { told.hidden() } else { told });
    }
    fields
}

fn rows(report: &Simulated) -> Vec<Vec<Field>> {
    let months = report.months.iter().map(|((month, currency), of)| row(month, currency, of));
    months.chain(report.total.iter().map(|(currency, of)| row("total", currency, of))).collect()
}

/// Tries that are named each for itself: the first one was declined.
const TRIES: [(u8, &str); 7] = [(2, "try_2"), (3, "try_3"), (4, "try_4"), (5, "try_5"), (6, "try_6"), (7, "try_7"), (8, "try_8")];
const BY_DAY: [&str; DAYS.len() + 1] = ["day_1", "day_3", "day_5", "day_7", "day_14", "later"];

fn percent(recovery: &Recovery) -> Option<String> {
    recovery.rate().map(|tenths| format!("{}.{}", tenths / 10, tenths % 10))
}

fn ladders(report: &Simulated) -> Vec<Vec<Field>> {
    let row = |(name, of): (&String, &Recovery)| {
        let mut fields = vec![
            field("ladder", name.as_str()),
            field("declined", of.declined),
            field("recovered", of.recovered),
            field("unpaid", of.unpaid),
            field("open", of.open),
            field("rate", percent(of)).right(),
        ];
        let paid_at = |number: u8| of.by_try.get(&number).copied().unwrap_or(0);
        fields.extend(TRIES.map(|(number, name)| field(name, paid_at(number))));
        fields.extend(BY_DAY.iter().zip(of.by_day).map(|(name, count)| field(name, count)));
        fields
    };
    report.ladders.iter().map(row).collect()
}

fn ladder_json((name, of): (&String, &Recovery)) -> Value {
    let by_try: serde_json::Map<String, Value> =
        of.by_try.iter().map(|(number, count)| (number.to_string(), (*count).into())).collect();
    let by_day: serde_json::Map<String, Value> =
        BY_DAY.iter().zip(of.by_day).map(|(name, count)| ((*name).to_owned(), count.into())).collect();
    json!({
        "ladder": name, "declined": of.declined, "recovered": of.recovered, "unpaid": of.unpaid, "open": of.open,
        "rate_percent": percent(of), "recovered_by_try": by_try, "recovered_by_day": by_day,
    })
}

fn as_json(report: &Simulated) -> Value {
    let told = |currency: &str, month: &Month| {
        let mut told = json!({ "currency": currency });
        for (count, sum, of) in parts(month) {
            told[count] = of.count.into();
            told[sum] = int(of);
        }
        told
    };
    let months = report.months.iter().map(|((month, currency), of)| {
        let mut told = told(currency, of);
        told["month"] = month.as_str().into();
        told
    });
    let total = report.total.iter().map(|(currency, of)| told(currency, of));
    json!({ "subscriptions": report.subscriptions, "months": months.collect::<Vec<_>>(), "total": total.collect::<Vec<_>>(),
        "ladders": report.ladders.iter().map(ladder_json).collect::<Vec<_>>() })
}
