//! `rebilld simulate`: the operator's own book over months, against the sandbox.

use jiff::Span;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::context::Context;
use super::failure::{Code, Failure};
use super::output::{Field, Listing, Output, Paint, amount, colours, field, print_json, say};
use super::progress::Progress;
use crate::app::simulate::{Month, SimulateOptions, Simulated, Step, simulate};
use crate::domain::forecast::Sum;

#[derive(Debug, clap::Args)]
pub struct Simulate {
    /// How far to run
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u8).range(1..=60))]
    months: u8,
    /// Percent of first tries that are declined: of these cards 6 in 10 decline now and then, 3 always and 1 has expired
    #[arg(long, default_value_t = 7, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=40))]
    declines: u32,
    /// Other cards are the bad ones
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
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
            Output::Csv => Listing { rows: rows(&report), none: "" }.print(Output::Csv),
            Output::Table => {
                let paint = Paint(colours());
                let head = format!(
                    "{} subscriptions from {from} to {until}, {} % of first tries declined (seed {}); nothing left this machine",
                    report.subscriptions, self.declines, self.seed
                );
                say(&paint.dim(&head))?;
                Listing { rows: rows(&report), none: "nothing fell due in this time" }.print(Output::Table)
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
    json!({ "subscriptions": report.subscriptions, "months": months.collect::<Vec<_>>(), "total": total.collect::<Vec<_>>() })
}
