//! `rebilld journal`.

use clap::Subcommand;
use jiff::tz::TimeZone;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::output::{Field, Listing, Output, at, field, local, print_json, say};
use crate::domain::journal::{Entry, Harm, Seal, Stored};
use crate::store::desk::{Broken, Whole};

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
    /// Computes every hash again, and says which entry is the first that is not what was written
    Verify {
        /// A hash that an earlier `verify` printed and that was kept elsewhere: it has to be among them
        #[arg(long, value_name = "HASH")]
        expect: Option<Seal>,
        /// Begins behind this entry, such as one that is known to be broken
        #[arg(long, value_name = "ID")]
        after: Option<i64>,
    },
}

impl Journal {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List { about, limit } => {
                let opened = context.open().await?;
                let zone = opened.zone("");
                let rows = opened.database.desk().journal(about.as_deref(), limit).await?;
                let rows = rows.iter().map(|row| fields(row, &zone)).collect();
                Listing { rows, none: "the journal is empty" }.print(context.output)
            }
            Self::Verify { expect, after } => {
                let opened = context.open().await?;
                match opened.database.desk().verify_journal(after, expect).await? {
                    Ok(whole) => tell_whole(context, &whole, after),
                    Err(broken) => {
                        if context.output == Output::Json {
                            print_json(&broken_json(&broken))?;
                        }
                        Err(Failure::data(broken_text(&broken, expect, after, &opened.zone(""))))
                    }
                }
            }
        }
    }
}

fn tell_whole(context: &Context, whole: &Whole, after: Option<i64>) -> Result<(), Failure> {
    let Whole { walk, expected } = whole;
    if context.output == Output::Json {
        let expected = expected.map(|(entry, since)| json!({ "entry": entry, "added_since": since }));
        return print_json(&json!({
            "whole": true, "entries": walk.entries, "sealed": walk.sealed, "loose": walk.loose,
            "head": walk.head.to_string(), "expected": expected,
        }));
    }
    let behind = after.map_or_else(String::new, |id| format!(" behind entry {id}"));
    let covered = match (walk.loose, walk.entries - walk.sealed) {
        (Some((first, last)), _) => {
            format!("; entries {first} to {last} are of an older release and have no hash yet: the next entry covers them")
        }
        (None, 0) => String::new(),
        (None, older) => format!("; {older} of them are of an older release, and covered by the entries after them"),
    };
    let expected = expected.map_or_else(String::new, |(entry, since)| {
        format!(
            "\nthe expected hash is that of {}; {since} were added since",
            if entry == 0 { "the empty journal".to_owned() } else { format!("entry {entry}") }
        )
    });
    say(&format!(
        "the journal is whole: {} entr{}{behind}, each as it was written{covered}{expected}\nhash: {}\nKeep it where the database's writers cannot change it: `rebilld journal verify --expect HASH` then shows a cut end, too.",
        walk.entries,
        if walk.entries == 1 { "y" } else { "ies" },
        walk.head
    ))
}

fn broken_json(broken: &Broken) -> serde_json::Value {
    match broken {
        Broken::At { entry, harm, follows } => {
            let (kind, covers) = match harm {
                Harm::Changed | Harm::Unconnected if follows.is_some() => ("moved", None),
                Harm::Changed => ("changed", None),
                Harm::Unconnected => ("removed", None),
                Harm::Covered { first, last } => ("covered", Some([first, last])),
            };
            json!({ "whole": false, "entry": entry.id, "at": entry.at, "harm": kind, "follows": follows, "covers": covers })
        }
        Broken::NotFound { last, head } => json!({ "whole": false, "harm": "cut", "last": last, "head": head.to_string() }),
        Broken::NoStart => json!({ "whole": false, "harm": "no such entry" }),
    }
}

fn broken_text(broken: &Broken, expect: Option<Seal>, after: Option<i64>, zone: &TimeZone) -> String {
    match broken {
        Broken::At { entry, harm, follows } => {
            let what = match (harm, follows) {
                (Harm::Changed | Harm::Unconnected, Some(follows)) => {
                    format!("was moved: it was written right after what is now entry {follows}")
                }
                (Harm::Changed, None) => "was changed after it had been written".to_owned(),
                (Harm::Unconnected, None) => {
                    "does not follow what stands before it: at least one entry between them was removed, or replaced by another"
                        .to_owned()
                }
                (Harm::Covered { first, last }, _) => format!(
                    "does not fit the entries {first} to {last} of an older release that it covers: one of them was changed, removed or added"
                ),
            };
            tell_broken(entry, &what, zone)
        }
        Broken::NotFound { last, head } => {
            let expect = expect.map_or_else(String::new, |expect| expect.to_string());
            let last = last.map_or_else(|| "it is empty".to_owned(), |last| format!("it ends with entry {last}, hash {head}"));
            format!(
                "no entry of the journal has the hash {expect}: its end was cut off, or it was made anew ({last}). \
                 Compare it with a backup of the database from when that hash was printed, and find out who else may write to it"
            )
        }
        Broken::NoStart => {
            let id = after.unwrap_or_default();
            format!("the journal has no entry {id} with a hash: `rebilld journal list` shows those that it has")
        }
    }
}

fn tell_broken(entry: &Entry, what: &str, zone: &TimeZone) -> String {
    let id = entry.id;
    format!(
        "entry {id} of the journal ({}, {} by {}) {what}. What stands before it is as it was written, unless all was made anew.\n\
         Compare it with a backup, find out who may write to the database besides rebilld, and keep a copy of both. \
         `rebilld journal verify --after {id}` goes on behind it",
        local(entry.at, zone),
        entry.action,
        entry.who,
    )
}

pub fn fields(Stored { entry: row, sealed }: &Stored, zone: &TimeZone) -> Vec<Field> {
    vec![
        field("id", row.id),
        at("at", Some(row.at), zone),
        field("who", row.who.as_str()),
        field("action", row.action.as_str()),
        field("subject", row.subject.as_str()),
        field("reason", row.reason.as_str()),
        field("detail", row.detail.clone()).shown(detail(row)),
        field("config_version", row.config_version).hidden(),
        field("hash", sealed.as_ref().map(|sealed| sealed.hash.as_str())).hidden(),
    ]
}

/// `amount 9900 → 12900` for changes, the plain JSON for the rest.
pub fn detail(row: &Entry) -> String {
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
