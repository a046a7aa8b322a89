//! `rebilld run --shadow`: what would have been charged, beside what was.

use serde_json::{Value, json};

use super::context::{Context, zone_of};
use super::failure::Failure;
use super::output::{Field, Listing, Output, at, field, grouped, money, object, print_json, say};
use super::progress::Progress;
use crate::app::shadow::{Compared, shadow};
use crate::config::Loaded;
use crate::engine::shadow::{Line, Verdict};

#[derive(Debug, clap::Args)]
pub struct Shadow {
    /// Charges nothing and sends nothing: compares each day with the gateway's list of what another system charged, and logs it
    #[arg(long, conflicts_with = "dry_run")]
    pub shadow: bool,
    /// With --shadow: compares the last so many days, shows every line, and ends
    #[arg(long, value_name = "N", requires = "shadow", value_parser = clap::value_parser!(u8).range(1..=60))]
    days: Option<u8>,
    /// With --shadow --days: one account instead of all
    #[arg(long, value_name = "NAME", requires = "days")]
    account: Option<String>,
}

impl Shadow {
    /// Whether it ends by itself.
    pub fn once(&self) -> bool {
        self.shadow && self.days.is_some()
    }

    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = context.load()?;
        loaded.runnable()?;
        let progress = Progress::start(context, "looking at the book");
        let days = self.days.unwrap_or(1);
        let compared = shadow(&loaded, self.account.as_deref(), days, |done, of| progress.at(done, of)).await?;
        drop(progress);
        match context.output {
            Output::Json => print_json(&Value::Array(compared.iter().map(|of| as_json(&loaded, of)).collect()))?,
            Output::Csv => Listing { rows: rows(&loaded, &compared, |_| true), none: "" }.print(Output::Csv)?,
            Output::Table => {
                let differences = rows(&loaded, &compared, |line| !line.verdict.agrees());
                if !differences.is_empty() {
                    Listing { rows: differences, none: "" }.print(Output::Table)?;
                }
                if !context.quiet {
                    compared.iter().try_for_each(|of| say(&summary(of)))?;
                }
            }
        }
        if compared.iter().all(Compared::agrees) {
            return Ok(());
        }
        Err(Failure::data("what would have been charged differs from what was charged: --output csv lists every line"))
    }
}

fn summary(compared: &Compared) -> String {
    let Compared { account, from, to, .. } = compared;
    let counts = Verdict::ALL.map(|verdict| format!("{} {}", grouped(compared.count(verdict)), verdict.name().replace('_', " ")));
    let unreadable = match compared.unreadable {
        0 => String::new(),
        some => format!("; {some} subscriptions cannot be read"),
    };
    format!("account {account}, {from} to {to}: {}{unreadable}; nothing was charged from here", counts.join(", "))
}

fn as_json(loaded: &Loaded, compared: &Compared) -> Value {
    let counts: serde_json::Map<String, Value> =
        Verdict::ALL.map(|verdict| (verdict.name().to_owned(), compared.count(verdict).into())).into_iter().collect();
    let lines: Vec<Value> = compared.lines.iter().map(|line| object(&row(loaded, compared, line))).collect();
    json!({
        "account": compared.account, "from": compared.from.to_string(), "until": compared.to.to_string(), "counts": counts,
        "unreadable": compared.unreadable, "agrees": compared.agrees(), "lines": lines,
    })
}

fn rows(loaded: &Loaded, compared: &[Compared], wanted: impl Fn(&Line) -> bool) -> Vec<Vec<Field>> {
    let of = |of: &Compared| of.lines.iter().filter(|line| wanted(line)).map(|line| row(loaded, of, line)).collect::<Vec<_>>();
    compared.iter().flat_map(of).collect()
}

fn row(loaded: &Loaded, compared: &Compared, line: &Line) -> Vec<Field> {
    let zone = zone_of(loaded, &compared.account);
    let own = line.expected.as_ref().map(|expected| expected.external_ref.clone());
    let external_ref = own.or(compared.references.get(&line.customer_uid).cloned());
    let sum = |name, amount: Option<crate::domain::money::Money>| match amount {
        Some(amount) => money(name, amount.minor(), amount.currency().code()),
        None => field(name, None::<i64>).right(),
    };
    let charged = line.charged.as_ref();
    let amounts = [line.expected.as_ref().map(|expected| expected.amount), charged.and_then(|record| record.amount)];
    let currency = amounts.iter().flatten().next().map(|amount| amount.currency().code().to_owned());
    vec![
        field("account", compared.account.as_str()),
        field("day", line.day.to_string()),
        field("verdict", line.verdict.name()).shown(line.verdict.name().replace('_', " ")),
        field("external_ref", external_ref),
        field("customer_uid", line.customer_uid.as_str()),
        sum("would_charge", amounts[0]),
        sum("was_charged", amounts[1]),
        field("currency", currency).hidden(),
        at("would_charge_at", line.expected.as_ref().map(|expected| expected.at), &zone).hidden(),
        at("was_charged_at", charged.and_then(|record| record.at), &zone).hidden(),
        field("merchant_uid", charged.map(|record| record.merchant_uid.clone())).hidden(),
        field("imp_uid", charged.map(|record| record.imp_uid.clone())),
        field("fail_reason", charged.and_then(|record| record.fail_reason.clone())).hidden(),
    ]
}
