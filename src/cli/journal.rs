//! `rebilld journal`.

use clap::Subcommand;
use jiff::tz::TimeZone;

use super::context::Context;
use super::failure::Failure;
use super::output::{Field, Listing, at, field};
use crate::store::desk::JournalRow;

#[derive(Debug, Subcommand)]
pub enum Journal {
    /// Lists what operators changed, the newest first
    List {
        /// Part of what was changed: a reference, `account NAME`, `charge ID`
        #[arg(long, value_name = "TEXT")]
        about: Option<String>,
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
}

impl Journal {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self::List { about, limit } = self;
        let opened = context.open().await?;
        let zone = opened.zone("");
        let rows = opened.database.desk().journal(about.as_deref(), limit).await?;
        let rows = rows.iter().map(|row| fields(row, &zone)).collect();
        Listing { rows, none: "the journal is empty" }.print(context.output)
    }
}

pub fn fields(row: &JournalRow, zone: &TimeZone) -> Vec<Field> {
    vec![
        field("id", row.id),
        at("at", Some(row.at), zone),
        field("who", row.who.as_str()),
        field("action", row.action.as_str()),
        field("subject", row.subject.as_str()),
        field("reason", row.reason.as_str()),
        field("detail", row.detail.clone()).shown(detail(row)),
    ]
}

/// `amount 9900 → 12900` for changes, the plain JSON for the rest.
pub fn detail(row: &JournalRow) -> String {
    let Some(map) = row.detail.as_object() else { return row.detail.to_string() };
    let plain = |value: &serde_json::Value| match value {
        serde_json::Value::Null => "–".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let part = |(name, value): (&String, &serde_json::Value)| match (value.get("old"), value.get("new")) {
        (Some(old), Some(new)) => format!("{name} {} → {}", plain(old), plain(new)),
        _ => format!("{name} {}", plain(value)),
    };
    map.iter().map(part).collect::<Vec<_>>().join(", ")
}
