//! `rebilld charges`.

mod story;
pub(super) mod words;

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::context::{Context, Opened, Why};
use super::failure::Failure;
use super::output::{Field, Listing, Output, Paint, at, colours, field, money, print_json, say};
use super::review::rule;
use crate::domain::attempt::{IdBase, IdNumber};
use crate::domain::charge::ChargeState;
use crate::domain::decide::Ruling;
use crate::store::desk::{ChargeFilter, ChargeRow, Reference};

#[derive(Debug, Subcommand)]
pub enum Charges {
    /// Lists charges, the newest first
    List {
        #[arg(long, value_parser = PossibleValuesParser::new(states()))]
        state: Option<String>,
        /// One account instead of all
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        /// One subscription, by your own reference
        #[arg(long = "ref", value_name = "REF")]
        reference: Option<String>,
        /// Periods that start on or after this date
        #[arg(long, value_name = "DATE")]
        from: Option<Date>,
        /// Periods that start before this date
        #[arg(long, value_name = "DATE")]
        to: Option<Date>,
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Tells the whole story of a charge
    Show {
        /// Its id, a merchant_uid, REF:PERIOD_START, or REF for the newest
        #[arg(value_name = "ID|MERCHANT_UID|REF:PERIOD_START|REF")]
        charge: String,
        /// In which account, if several have this reference
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
    /// Tries a declined or unpaid charge again now; the gateway is looked up first
    Retry {
        /// Its id, a merchant_uid, REF:PERIOD_START, or REF for the newest
        #[arg(value_name = "ID|MERCHANT_UID|REF:PERIOD_START|REF")]
        charge: String,
        /// In which account, if several have this reference
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[command(flatten)]
        why: Why,
    },
}

fn states() -> Vec<&'static str> {
    ChargeState::ALL.iter().map(|state| state.name()).collect()
}

impl Charges {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List { state, account, reference, from, to, limit } => {
                let state = state.as_deref().and_then(ChargeState::from_name);
                let opened = context.open().await?;
                let filter = ChargeFilter { state, account, external_ref: reference, from, to, limit };
                let rows = opened.database.desk().charges(&filter).await?;
                let rows = rows.iter().map(|charge| listed(&opened, charge)).collect();
                Listing { rows, none: "no charge matches" }.print(context.output)
            }
            Self::Show { charge, account } => show(context, account.as_deref(), &charge).await,
            Self::Retry { charge, account, why } => rule(context, account.as_deref(), &charge, Ruling::Retry, &why).await,
        }
    }
}

/// The one charge that a reference means.
pub async fn one(opened: &Opened, account: Option<&str>, text: &str) -> Result<ChargeRow, Failure> {
    let desk = opened.database.desk();
    let reference = Reference::read(text);
    let mut found = desk.find_charges(account, &reference).await?;
    if found.is_empty() && matches!(reference, Reference::Id(_) | Reference::MerchantUid(_)) {
        // the reference may look like a number or an id all the same
        found = desk.find_charges(account, &Reference::Newest { external_ref: text.to_owned() }).await?;
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 if !desk.find_subscriptions(account, text).await?.is_empty() => {
            Err(Failure::data(format!("subscription `{text}` has no charge yet: see `rebilld subscriptions show {text}`")))
        }
        0 => Err(Failure::data(format!("there is no charge `{text}`: name its id, a merchant_uid, REF:PERIOD_START or REF"))),
        _ => {
            let names: Vec<String> = found.iter().map(|charge| format!("{} ({})", charge.id, charge.account)).collect();
            Err(Failure::data(format!("`{text}` may be any of the charges {}: add --account NAME", names.join(", "))))
        }
    }
}

/// The id that the charge's live or next attempt carries.
fn merchant_uid(opened: &Opened, charge: &ChargeRow, number: u8) -> String {
    let base = IdBase::derive(opened.loaded.settings.tag, &charge.account, &charge.external_ref, charge.period_start);
    base.number(IdNumber::new(number).unwrap_or(IdNumber::FIRST)).to_string()
}

fn listed(opened: &Opened, charge: &ChargeRow) -> Vec<Field> {
    let zone = story::zone(opened, charge);
    vec![
        field("id", charge.id),
        field("account", charge.account.as_str()),
        field("external_ref", charge.external_ref.as_str()),
        field("period_start", charge.period_start.to_string()),
        field("period_end", charge.period_end.to_string()).hidden(),
        money("amount", charge.amount, &charge.currency),
        field("currency", charge.currency.as_str()).hidden(),
        field("state", charge.state.name()),
        field("waiting", charge.waiting.name()).shown(words::waiting(charge.waiting)),
        field("tries", charge.tries),
        at("due_at", Some(charge.due_at), &zone),
        at("next_at", charge.next_at, &zone),
        at("paid_at", charge.paid_at, &zone).hidden(),
        field("imp_uid", charge.imp_uid.clone()).hidden(),
        field("merchant_uid", merchant_uid(opened, charge, charge.id_number)),
        field("refunded", charge.refunded).hidden(),
        field("config_version", charge.config_version).hidden(),
    ]
}

async fn show(context: &Context, account: Option<&str>, text: &str) -> Result<(), Failure> {
    let opened = context.open().await?;
    let desk = opened.database.desk();
    let charge = one(&opened, account, text).await?;
    let story = desk.story(charge).await?;
    let status = desk.status().await?;
    let account = desk.accounts().await?.into_iter().find(|row| row.name == story.charge.account);
    let booked = desk.booking_of(story.charge.subscription).await?;
    let next = words::next(&opened, &story, (status.as_ref(), account.as_ref()), booked.as_ref());
    match context.output {
        Output::Table => say(story::tell(&opened, &story, &next, Paint(colours())).trim_end()),
        Output::Json => {
            let mut charge = super::output::object(&listed(&opened, &story.charge));
            if let Value::Object(charge) = &mut charge {
                charge.insert("next".to_owned(), json!(next));
                charge.extend(story::parts(&story));
            }
            print_json(&charge)
        }
        Output::Csv => {
            let zone = story::zone(&opened, &story.charge);
            let row = |line: story::Line| {
                vec![
                    at("at", Some(line.at), &zone),
                    field("kind", line.kind),
                    field("text", line.text),
                    field("detail", line.detail),
                ]
            };
            Listing { rows: story::lines(&opened, &story).into_iter().map(row).collect(), none: "" }.print(Output::Csv)
        }
    }
}
