//! `rebilld imports`: rows that looked wrong, and what becomes of them.

use clap::Subcommand;
use serde_json::json;

use super::context::{Context, Why};
use super::failure::Failure;
use super::output::{Listing, Output, at, field, print_json, say};
use crate::store::desk::Ruled;

/// Rows that are named when a confirmation is refused.
const SHOWN: usize = 20;

#[derive(Debug, Subcommand)]
pub enum Imports {
    /// Lists rows that are held because something about them looks wrong
    List,
    /// Imports exactly the rows that have this hash
    Confirm {
        /// As `list` shows it; its first eight characters are enough
        hash: String,
        #[command(flatten)]
        why: Why,
    },
    /// Drops them: later imports of more than 20 rows leave them out, as long as they are as they were
    Reject {
        /// As `list` shows it; its first eight characters are enough
        hash: String,
        #[command(flatten)]
        why: Why,
    },
}

impl Imports {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List => list(context).await,
            Self::Confirm { hash, why } => rule(context, &hash, true, &why).await,
            Self::Reject { hash, why } => rule(context, &hash, false, &why).await,
        }
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let opened = context.open().await?;
    let rows = opened.database.desk().held_rows().await?;
    let row = |(hash, row): &(String, crate::store::desk::HeldRow)| {
        let zone = opened.zone(&row.account);
        vec![
            field("hash", hash.as_str()).shown(hash.get(..12).unwrap_or(hash)),
            field("account", row.account.as_str()),
            field("external_ref", row.external_ref.as_str()),
            field("reasons", row.reasons.join("; ")),
            field("file", row.file.as_str()),
            field("line", row.line),
            field("who", row.who.as_str()).hidden(),
            at("held_at", Some(row.held_at), &zone),
        ]
    };
    Listing { rows: rows.iter().map(row).collect(), none: "no imported row is held" }.print(context.output)
}

/// Confirms or rejects.
pub async fn rule(context: &Context, hash: &str, confirm: bool, why: &Why) -> Result<(), Failure> {
    let signed = context.signed(why)?;
    let opened = context.open().await?;
    let ruled = opened.database.desk().rule_held(opened.now, hash, confirm, &signed).await?;
    let (told, json) = match &ruled {
        Ruled::Confirmed { new, changed, unchanged } => (
            format!("imported: {new} new, {changed} changed, {unchanged} unchanged"),
            json!({ "confirmed": hash, "new": new, "changed": changed, "unchanged": unchanged }),
        ),
        Ruled::Rejected(count) => (format!("dropped: {count} rows"), json!({ "rejected": hash, "rows": count })),
        Ruled::Overtaken(rows) => {
            let more = rows.len().saturating_sub(SHOWN);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let shown = rows.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(Failure::data(format!(
                "nothing was imported: since these rows were held, {shown}{more} changed in the database. Import a file of today, \
                 and they are held as of now, under another hash; or drop them: `rebilld imports reject {hash} --reason …`"
            )));
        }
        Ruled::NoSuch(known) => {
            let known = if known.is_empty() { "nothing is held".to_owned() } else { format!("held are {}", known.join(", ")) };
            return Err(Failure::data(format!(
                "no held rows have the hash {hash}: {known}. A hash is void once one of its rows has changed: look at `rebilld imports list` again"
            )));
        }
    };
    match context.output {
        Output::Json => print_json(&json),
        _ if context.quiet => Ok(()),
        _ => say(&told),
    }
}
