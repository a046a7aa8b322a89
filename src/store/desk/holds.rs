//! Rows of imports that look wrong: held aside until an operator confirms or rejects exactly these.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::columns::{ACCOUNT, COLUMNS, EXTERNAL_REF};
use super::import::{Given, Import, Verdict};
use super::{Desk, Signed, journal, subject};
use crate::domain::attempt::{base32, digest};
use crate::store::codec::{Param, Row};
use crate::store::db::{Fault, Tx};
use crate::store::sql::imports;

/// Rows in one statement.
const BATCH: usize = 2000;
/// So much of a hash is enough to name it.
const ENOUGH: usize = 8;
/// Stands for the subscription of a row that has none yet.
const NEW: &str = "new";

/// A row that is held.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldRow {
    /// Those of one import stay together.
    pub import_id: String,
    pub file: String,
    pub line: i64,
    pub account: String,
    pub external_ref: String,
    /// A cell for each of [`COLUMNS`]; those of a rejected row are gone.
    pub cells: Vec<Given>,
    /// Of the cells.
    pub row_hash: String,
    /// Of the subscription when the row was held ([`before_hash`]); an older release did not say.
    pub before_hash: Option<String>,
    /// Whether its subscription has changed since, to something else than the row says. Found by [`Import::held`] alone.
    pub overtaken: bool,
    /// What looks wrong with it, for people.
    pub reasons: Vec<String>,
    pub who: String,
    /// Since when it waits for a ruling.
    pub held_at: Timestamp,
    /// Since when it is left out of imports, unless it changes.
    pub rejected_at: Option<Timestamp>,
}

/// What became of a ruling on held rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruled {
    /// So many rows were new, were changed, or were as they are already.
    Confirmed {
        new: u64,
        changed: u64,
        unchanged: u64,
    },
    Rejected(u64),
    /// Nothing was confirmed: the subscriptions of these rows have changed since. Account and reference.
    Overtaken(Vec<String>),
    /// No rows have that hash: none ever had, or they have changed since. The hashes that there are.
    NoSuch(Vec<String>),
}

impl HeldRow {
    fn of(row: &Row) -> Result<Self, Fault> {
        let cells = row.json("cells")?;
        let given = |name: &str| match cells.get(name) {
            None => Given::Not,
            Some(Value::String(text)) => Given::Value(text.clone()),
            Some(_) => Given::Empty,
        };
        Ok(Self {
            import_id: row.text("import_id")?,
            file: row.text("file")?,
            line: row.int("line")?,
            account: row.text("account")?,
            external_ref: row.text("external_ref")?,
            row_hash: row.text("row_hash")?,
            before_hash: row.text_opt("before_hash")?,
            overtaken: false,
            rejected_at: row.at_opt("rejected_at")?,
            cells: COLUMNS.iter().map(|column| given(column.name)).collect(),
            reasons: row.text("reasons")?.lines().map(str::to_owned).collect(),
            who: row.text("who")?,
            held_at: row.at("held_at")?,
        })
    }
}

fn text(given: &Given) -> &str {
    match given {
        Given::Value(text) => text,
        Given::Not | Given::Empty => "",
    }
}

/// The hash of rows, in whatever order: 26 letters and digits. It changes with every cell.
pub fn hash_of<'a>(rows: impl Iterator<Item = &'a [Given]>) -> String {
    let cell = |given: &Given| match given {
        Given::Not => "-".to_owned(),
        Given::Empty => "0".to_owned(),
        Given::Value(text) => format!("={text}"),
    };
    let one = |row: &[Given]| {
        let cells: Vec<String> = row.iter().map(cell).collect();
        base32(&digest(&cells.iter().map(String::as_str).collect::<Vec<_>>()), 52)
    };
    let mut hashes: Vec<String> = rows.map(one).collect();
    hashes.sort();
    let parts: Vec<&str> = std::iter::once("import/1").chain(hashes.iter().map(String::as_str)).collect();
    base32(&digest(&parts), 26)
}

/// The hash of held rows, in whatever order, and of the subscriptions as they were: whoever confirms it has seen both.
pub fn hash_of_held<'a>(rows: impl IntoIterator<Item = &'a HeldRow>) -> String {
    let with_before = |row: &HeldRow| {
        let before = Given::Value(row.before_hash.as_deref().unwrap_or(NEW).to_owned());
        row.cells.iter().cloned().chain([before]).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<Given>> = rows.into_iter().map(with_before).collect();
    hash_of(rows.iter().map(Vec::as_slice))
}

/// The hash of a subscription as an import finds it, `new` if there is none. Not its `updated_at`: SQL by hand does not set that.
pub fn before_hash(old: Option<&[Option<String>]>) -> String {
    let given = |cell: &Option<String>| cell.clone().map_or(Given::Empty, Given::Value);
    match old {
        None => NEW.to_owned(),
        Some(old) => hash_of(std::iter::once(old.iter().map(given).collect::<Vec<_>>().as_slice())),
    }
}

fn cells_of(row: &[Given]) -> Value {
    let cell = |(place, given): (usize, &Given)| match given {
        Given::Not => None,
        Given::Empty => Some((COLUMNS[place].name.to_owned(), Value::Null)),
        Given::Value(text) => Some((COLUMNS[place].name.to_owned(), text.as_str().into())),
    };
    row.iter().enumerate().filter_map(cell).collect::<Map<_, _>>().into()
}

async fn held(tx: &mut Tx) -> Result<Vec<HeldRow>, Fault> {
    tx.query(&imports::HOLDS, &[]).await?.iter().map(HeldRow::of).collect()
}

/// Accounts and references of rows, as a parameter.
fn keys(tx: &Tx, rows: &[Vec<Given>]) -> Param {
    let mut keys = tx.json_batch();
    for row in rows {
        keys.row().text("account", text(&row[ACCOUNT])).text("external_ref", text(&row[EXTERNAL_REF]));
    }
    keys.param()
}

impl Import {
    /// Rows that earlier imports hold, and those that were rejected. The subscriptions of those that wait are locked.
    pub async fn held(&mut self) -> Result<Vec<HeldRow>, Fault> {
        let mut rows = held(&mut self.tx).await?;
        let mut waiting: Vec<&mut HeldRow> = rows.iter_mut().filter(|row| row.rejected_at.is_none()).collect();
        for rows in waiting.chunks_mut(BATCH) {
            let cells: Vec<Vec<Given>> = rows.iter().map(|row| row.cells.clone()).collect();
            for (row, looked) in rows.iter_mut().zip(self.look(&cells).await?) {
                let before = row.before_hash.as_deref().unwrap_or(NEW);
                row.overtaken = looked.verdict != Verdict::Unchanged && before != before_hash(looked.old.as_deref());
            }
        }
        Ok(rows)
    }

    /// Which of these billing keys, by account, reference and key, belong to another subscription that is not cancelled.
    pub async fn elsewhere(&mut self, keys: &[(&str, &str, &str)]) -> Result<HashSet<usize>, Fault> {
        let mut batch = self.tx.json_batch();
        for (place, (account, external_ref, key)) in keys.iter().enumerate() {
            let place = i64::try_from(place).unwrap_or(i64::MAX);
            batch
                .row()
                .int("place", place)
                .text("account", *account)
                .text("external_ref", *external_ref)
                .text("customer_uid", *key);
        }
        if batch.is_empty() {
            return Ok(HashSet::new());
        }
        let rows = self.tx.query(&imports::KEYS_ELSEWHERE, &[batch.param()]).await?;
        rows.iter().map(|row| Ok(usize::try_from(row.int("place")?).unwrap_or(usize::MAX))).collect()
    }

    /// Holds rows; one that was held before is held as it is now.
    pub async fn hold(&mut self, rows: &[HeldRow]) -> Result<(), Fault> {
        for rows in rows.chunks(BATCH) {
            let mut batch = self.tx.json_batch();
            for row in rows {
                let (cells, reasons) = (cells_of(&row.cells).to_string(), row.reasons.join("\n"));
                batch
                    .row()
                    .text("account", row.account.as_str())
                    .text("external_ref", row.external_ref.as_str())
                    .text("import_id", row.import_id.as_str())
                    .text("file", row.file.as_str())
                    .int("line", row.line)
                    .text("cells", cells.as_str())
                    .text("row_hash", row.row_hash.as_str())
                    .text("before_hash", row.before_hash.as_deref().unwrap_or(NEW))
                    .text("reasons", reasons.as_str())
                    .text("who", row.who.as_str());
            }
            self.tx.execute(&imports::ADD_HOLDS, &[batch.param(), self.now.into()]).await?;
        }
        Ok(())
    }

    async fn reject(&mut self, rows: &[Vec<Given>]) -> Result<(), Fault> {
        for rows in rows.chunks(BATCH) {
            let keys = keys(&self.tx, rows);
            self.tx.execute(&imports::REJECT, &[keys, self.now.into()]).await?;
        }
        Ok(())
    }

    /// What is imported after all is held no more.
    pub async fn let_go(&mut self, rows: &[Vec<Given>]) -> Result<(), Fault> {
        for rows in rows.chunks(BATCH) {
            let keys = keys(&self.tx, rows);
            self.tx.execute(&imports::LET_GO, &[keys]).await?;
        }
        Ok(())
    }
}

impl Desk<'_> {
    /// Rows that imports hold, with the hash that confirms them: the oldest import first.
    pub async fn held_rows(&self) -> Result<Vec<(String, HeldRow)>, Fault> {
        let rows = self.database.read(&imports::HOLDS, &[]).await?;
        let rows = waiting(rows.iter().map(HeldRow::of).collect::<Result<Vec<_>, _>>()?);
        let hashes = hashes(&rows);
        Ok(rows.into_iter().map(|row| (hashes[&row.import_id].clone(), row)).collect())
    }

    /// How many rows have waited for a ruling since before `before`, and the first of them since when.
    pub async fn held_since(&self, before: Timestamp) -> Result<Option<(u64, Timestamp)>, Fault> {
        let rows = self.database.read(&imports::HELD_SINCE, &[before.into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(row.at_opt("since")?.zip(Some(row.small("held")?)).map(|(since, held)| (held, since)))
    }

    /// Imports exactly the held rows that have this hash (or its beginning), or drops them.
    pub async fn rule_held(&self, now: Timestamp, hash: &str, confirm: bool, signed: &Signed) -> Result<Ruled, Fault> {
        let mut import = Import { tx: self.database.begin_write().await?, now };
        let rows = waiting(import.held().await?);
        let hashes = hashes(&rows);
        let fits = |whole: &&String| whole.as_str() == hash || (hash.len() >= ENOUGH && whole.starts_with(hash));
        let Some(whole) = hashes.values().find(fits).cloned() else {
            return Ok(Ruled::NoSuch(hashes.into_values().collect()));
        };
        let rows: Vec<HeldRow> = rows.into_iter().filter(|row| hashes[&row.import_id] == whole).collect();
        // newer facts are never written over: a customer who has left since would be charged
        let overtaken = rows.iter().filter(|row| row.overtaken).map(|row| format!("{}/{}", row.account, row.external_ref));
        let overtaken: Vec<String> = overtaken.collect();
        if confirm && !overtaken.is_empty() {
            return Ok(Ruled::Overtaken(overtaken));
        }
        let rows: Vec<Vec<Given>> = rows.into_iter().map(|row| row.cells).collect();
        let count = rows.len() as u64;
        let ruled = if confirm {
            let (mut new, mut changed, mut unchanged) = (0, 0, 0);
            for rows in rows.chunks(BATCH) {
                for imported in import.add(rows).await? {
                    match imported.verdict {
                        Verdict::New => new += 1,
                        Verdict::Changed(_) => changed += 1,
                        Verdict::Unchanged => unchanged += 1,
                    }
                }
            }
            import.let_go(&rows).await?;
            Ruled::Confirmed { new, changed, unchanged }
        } else {
            import.reject(&rows).await?;
            Ruled::Rejected(count)
        };
        let action = if confirm { "imports confirm" } else { "imports reject" };
        journal(&mut import.tx, now, signed, action, subject::DATABASE, &json!({ "hash": whole, "rows": count })).await?;
        import.tx.commit().await?;
        Ok(ruled)
    }
}

/// Those that nobody has ruled on.
fn waiting(rows: Vec<HeldRow>) -> Vec<HeldRow> {
    rows.into_iter().filter(|row| row.rejected_at.is_none()).collect()
}

/// The hash of each import's rows as they are now.
pub fn hashes(rows: &[HeldRow]) -> BTreeMap<String, String> {
    let mut of_import: BTreeMap<&str, Vec<&HeldRow>> = BTreeMap::new();
    for row in rows {
        of_import.entry(row.import_id.as_str()).or_default().push(row);
    }
    of_import.into_iter().map(|(id, rows)| (id.to_owned(), hash_of_held(rows))).collect()
}
