//! `rebilld incidents`.

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::context::{Context, Why};
use super::failure::Failure;
use super::journal;
use super::output::{Field, Listing, Output, at, field, local, object, print_json, say};
use crate::domain::decide::IncidentKind;
use crate::domain::journal::Stored;
use crate::store::desk::{Closing, Incidence, IncidentFilter};

#[derive(Debug, Subcommand)]
pub enum Incidents {
    /// Lists open incidents, the newest first
    List {
        /// Closed ones too
        #[arg(long)]
        all: bool,
        #[arg(long, value_parser = PossibleValuesParser::new(kinds()))]
        kind: Option<String>,
        /// One account instead of all
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Shows one, with what operators said of it
    Show {
        #[arg(value_name = "ID")]
        id: i64,
    },
    /// Closes one that a person has looked into: audits know it from then on, and it keeps no hold any more
    Close {
        #[arg(value_name = "ID")]
        id: i64,
        #[command(flatten)]
        why: Why,
    },
}

fn kinds() -> Vec<&'static str> {
    IncidentKind::ALL.iter().map(|kind| kind.name()).collect()
}

impl Incidents {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List { all, kind, account, limit } => {
                let opened = context.open().await?;
                let filter = IncidentFilter { account, kind, all, limit };
                let found = opened.database.desk().incidents(&filter).await?;
                let rows = found.iter().map(|found| fields(found, &opened.zone(&found.account))).collect();
                let none = if all { "no incident matches" } else { "no incident is open" };
                Listing { rows, none }.print(context.output)
            }
            Self::Show { id } => show(context, id).await,
            Self::Close { id, why } => close(context, id, &why).await,
        }
    }
}

fn no_such(id: i64) -> Failure {
    Failure::data(format!("there is no incident {id}: see `rebilld incidents list --all`"))
}

fn fields(found: &Incidence, zone: &TimeZone) -> Vec<Field> {
    let Incidence { account, incident, charge, external_ref, period_start } = found;
    vec![
        field("id", incident.id),
        field("account", account.as_str()),
        field("kind", incident.kind.as_str()),
        field("charge", *charge),
        field("external_ref", external_ref.clone()).hidden(),
        field("period_start", period_start.map(|date| date.to_string())).hidden(),
        field("detail", incident.detail.as_str()),
        at("opened_at", Some(incident.opened_at), zone),
        at("closed_at", incident.closed_at, zone),
    ]
}

async fn show(context: &Context, id: i64) -> Result<(), Failure> {
    let opened = context.open().await?;
    let desk = opened.database.desk();
    let found = desk.incident(id).await?.ok_or_else(|| no_such(id))?;
    let said = desk.incident_journal(id).await?;
    let zone = opened.zone(&found.account);
    match context.output {
        Output::Json => {
            let mut whole = object(&fields(&found, &zone));
            let entries = said.iter().map(|row| object(&journal::fields(row, &zone)));
            if let Value::Object(whole) = &mut whole {
                whole.insert("journal".to_owned(), Value::Array(entries.collect()));
                whole.insert("advice".to_owned(), advice(&found).into());
            }
            print_json(&whole)
        }
        Output::Csv => Listing { rows: vec![fields(&found, &zone)], none: "" }.print(Output::Csv),
        Output::Table => say(&tell(&found, &said, &zone)),
    }
}

fn tell(found: &Incidence, said: &[Stored], zone: &TimeZone) -> String {
    let Incidence { account, incident, charge, external_ref, period_start } = found;
    let state = incident.closed_at.map_or_else(|| "open".to_owned(), |closed| format!("closed {}", local(closed, zone)));
    let mut lines = vec![
        format!("incident {}  {}  {account}  {state}", incident.id, incident.kind),
        format!("  {}", incident.detail),
        format!("  seen first {}", local(incident.opened_at, zone)),
    ];
    if let (Some(charge), Some(external_ref), Some(start)) = (charge, external_ref, period_start) {
        lines.push(format!("  charge {charge}: {external_ref} {start} (`rebilld charges show {charge}`)"));
    }
    let told = |Stored { entry, .. }: &Stored| {
        format!("  {}  {}: {} (\"{}\")", local(entry.at, zone), entry.who, entry.action, entry.reason)
    };
    lines.extend(said.iter().map(told));
    lines.push(format!("\n  {}", advice(found)));
    lines.join("\n")
}

/// What to do about it.
fn advice(found: &Incidence) -> String {
    let id = found.incident.id;
    let first = match found.incident.kind.as_str() {
        _ if found.incident.closed_at.is_some() => return "Closed: audits know it, and it keeps no hold.".to_owned(),
        "double_charge" => "Give one of the two payments back in PortOne's console.",
        "wrong_payment" => {
            "Find out who asked for this payment, and rule on the charge (`rebilld review list`) if it is in review."
        }
        "unknown_payment" => {
            "Import the subscription that it belongs to if this database was restored; otherwise find out who uses ids of this tag."
        }
        "missing_payment" => "Ask PortOne where the payment is: this database has its answer \"paid\".",
        _ => "Look into it.",
    };
    format!("{first} Then: `rebilld incidents close {id} --reason …`, or leave it open while it is not understood.")
}

async fn close(context: &Context, id: i64, why: &Why) -> Result<(), Failure> {
    let signed = context.signed(why)?;
    let opened = context.open().await?;
    match opened.database.desk().close_incident(opened.now, id, &signed).await? {
        Closing::NoSuch => Err(no_such(id)),
        Closing::Already(at) => {
            let at = local(at, &opened.zone(""));
            Err(Failure::data(format!("incident {id} was closed {at}: see `rebilld incidents show {id}`")))
        }
        Closing::Closed(found) => match context.output {
            Output::Json => print_json(&json!({ "incident": id, "account": found.account, "closed": true })),
            _ if context.quiet => Ok(()),
            _ => say(&format!(
                "incident {id} is closed: audits know it. A hold ends by `rebilld hold release`, which audits again"
            )),
        },
    }
}
