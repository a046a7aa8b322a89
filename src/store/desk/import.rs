//! Import: many rows, one transaction, all or nothing.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::json;

use super::columns::{ACCOUNT, COLUMNS, EXTERNAL_REF, Kind, STATUS};
use super::{Desk, Signed, journal, sql, subject};
use crate::store::batch::Batch;
use crate::store::codec::Row;
use crate::store::db::{Fault, Tx};

/// A cell of a row to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// The file has no such column: an existing row keeps its value.
    Not,
    /// The cell is empty: the plan's value, or none.
    Empty,
    /// In canonical form: `9900`, `true`, `2026-12-01`.
    Value(String),
}

/// What becomes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    New,
    Unchanged,
    Changed(Vec<FieldChange>),
}

/// A row as it was and as it is, a cell for each of [`COLUMNS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub verdict: Verdict,
    pub old: Option<Vec<Option<String>>>,
    pub new: Vec<Option<String>>,
}

/// A changed field. Personal values stay in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldChange {
    pub column: &'static str,
    pub old: Option<String>,
    pub new: Option<String>,
}

impl FieldChange {
    fn of(place: usize, old: Option<&str>, new: Option<&str>) -> Self {
        let column = &COLUMNS[place];
        let shown = |value: Option<&str>| value.map(|value| if column.personal { "***" } else { value }.to_owned());
        Self { column: column.name, old: shown(old), new: shown(new) }
    }
}

/// One import. Dropped without [`Import::commit`], nothing of it happened.
#[derive(Debug)]
pub struct Import {
    pub(super) tx: Tx,
    pub(super) now: Timestamp,
}

impl Desk<'_> {
    /// Begins an import; the accounts of the config become known to the database.
    pub async fn import(&self, now: Timestamp, accounts: &[String]) -> Result<Import, Fault> {
        let mut tx = self.database.begin_write().await?;
        for account in accounts {
            // taken for live until the daemon has seen where it sends
            tx.execute(&crate::store::sql::accounts::ADD_ACCOUNT, &[account.as_str().into(), true.into()]).await?;
        }
        Ok(Import { tx, now })
    }
}

impl Import {
    /// Writes a batch of rows, a cell for each of [`COLUMNS`]. No two may have the same account and `external_ref`.
    pub async fn add(&mut self, rows: &[Vec<Given>]) -> Result<Vec<Imported>, Fault> {
        let imported = self.look(rows).await?;
        let (mut new, mut changed) = (self.tx.json_batch(), self.tx.json_batch());
        for row in &imported {
            match row.verdict {
                Verdict::New => write(&mut new, &row.new),
                Verdict::Changed(_) => write(&mut changed, &row.new),
                Verdict::Unchanged => {}
            }
        }
        if !new.is_empty() {
            self.tx.execute(&sql::ADD_SUBSCRIPTIONS, &[new.param()]).await?;
        }
        if !changed.is_empty() {
            self.tx.execute(&sql::CHANGE_SUBSCRIPTIONS, &[changed.param(), self.now.into()]).await?;
        }
        Ok(imported)
    }

    /// What a batch of rows would come to. The rows that exist are locked.
    pub async fn look(&mut self, rows: &[Vec<Given>]) -> Result<Vec<Imported>, Fault> {
        let mut keys = self.tx.json_batch();
        for row in rows {
            keys.row().text("account", value(&row[ACCOUNT])).text("external_ref", value(&row[EXTERNAL_REF]));
        }
        let mut existing = HashMap::new();
        for row in self.tx.query(&sql::EXISTING, &[keys.param()]).await? {
            let mut cannot = None;
            let values = values_of(&row, |fault| cannot = Some(fault));
            if let Some(fault) = cannot {
                return Err(fault);
            }
            existing.insert((values[ACCOUNT].clone(), values[EXTERNAL_REF].clone()), values);
        }
        let mut imported = Vec::with_capacity(rows.len());
        for row in rows {
            let key = (value(&row[ACCOUNT]).map(str::to_owned), value(&row[EXTERNAL_REF]).map(str::to_owned));
            let old = existing.get(&key);
            let merged = merge(row, old.map(Vec::as_slice));
            let Some(old) = old else {
                imported.push(Imported { verdict: Verdict::New, old: None, new: merged });
                continue;
            };
            let changes = differences(old, &merged);
            let verdict = if changes.is_empty() { Verdict::Unchanged } else { Verdict::Changed(changes) };
            imported.push(Imported { verdict, old: Some(old.clone()), new: merged });
        }
        Ok(imported)
    }

    /// Keeps it all, and says so in the journal.
    pub async fn commit(mut self, signed: &Signed, tally: &Tally<'_>) -> Result<(), Fault> {
        let Tally { file, new, changed, unchanged, held, hash } = tally;
        if *new + *changed + *held > 0 {
            let mut detail = json!({ "file": file, "new": new, "changed": changed, "unchanged": unchanged });
            if let Some(hash) = hash {
                detail["held"] = (*held).into();
                detail["hash"] = (*hash).into();
            }
            journal(&mut self.tx, self.now, signed, "subscriptions import", subject::DATABASE, &detail).await?;
        }
        self.tx.commit().await
    }
}

/// What an import comes to, for the journal.
#[derive(Debug, Clone, Copy)]
pub struct Tally<'a> {
    pub file: &'a str,
    pub new: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// Rows that were held now, and were not before.
    pub held: u64,
    /// Of the rows that look wrong, whether they are held or were confirmed.
    pub hash: Option<&'a str>,
}

fn value(given: &Given) -> Option<&str> {
    match given {
        Given::Value(value) => Some(value),
        Given::Not | Given::Empty => None,
    }
}

/// The row as it will be.
fn merge(row: &[Given], old: Option<&[Option<String>]>) -> Vec<Option<String>> {
    let merged = row.iter().enumerate().map(|(place, given)| {
        let kept = || old.and_then(|old| old[place].clone());
        match given {
            Given::Value(value) => Some(value.clone()),
            // a file that says nothing of the status does not resume what was paused
            Given::Not | Given::Empty if place == STATUS => kept().or_else(|| Some("active".to_owned())),
            Given::Not => kept(),
            Given::Empty => None,
        }
    });
    merged.collect()
}

pub(super) fn differences(old: &[Option<String>], new: &[Option<String>]) -> Vec<FieldChange> {
    let pairs = old.iter().zip(new).enumerate().filter(|(_, (old, new))| old != new);
    pairs.map(|(place, (old, new))| FieldChange::of(place, old.as_deref(), new.as_deref())).collect()
}

/// A row's cells, each in its canonical form. One that cannot be read is handed to `cannot`, and is empty.
pub(super) fn values_of(row: &Row, mut cannot: impl FnMut(Fault)) -> Vec<Option<String>> {
    let value = |column: &super::columns::Column| match column.kind {
        Kind::Int(..) => Ok(row.int_opt(column.name)?.map(|number| number.to_string())),
        Kind::Flag => Ok(row.flag_opt(column.name)?.map(|flag| flag.to_string())),
        Kind::Date => Ok(row.day_opt(column.name)?.map(|day| day.to_string())),
        Kind::Text(..) | Kind::Choice(_) => row.text_opt(column.name),
    };
    COLUMNS.iter().map(|column| value(column).map_err(&mut cannot).unwrap_or_default()).collect()
}

/// Adds a row to a batch.
pub(super) fn write(batch: &mut Batch, values: &[Option<String>]) {
    let batch = batch.row();
    for (column, value) in COLUMNS.iter().zip(values) {
        match (column.kind, value.as_deref()) {
            // what is not given stays NULL
            (_, None) => {}
            (Kind::Int(..), Some(value)) => drop(batch.int(column.name, value.parse::<i64>().ok())),
            (Kind::Flag, Some(value)) => drop(batch.flag(column.name, value == "true")),
            (kind, Some(value)) => {
                debug_assert!(kind.is_text() || kind == Kind::Date);
                batch.text(column.name, value);
            }
        }
    }
}
