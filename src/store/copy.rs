//! Copies a book into a SQLite file of its own, for a simulation. The source is only read.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Database;
use super::cards::try_of;
use super::codec::{Param, Row};
use super::db::Fault;
use super::sql::{cards, copy};
use crate::domain::charge::ChargeState;
use crate::domain::decline::Class;
use crate::domain::dunning::KeyEnd;

/// Subscriptions that are copied together.
const PAGE: u32 = 1_000;

/// What became of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultRow {
    pub id: i64,
    pub due_at: Timestamp,
    pub amount: i64,
    pub currency: String,
    /// The subscription's.
    pub plan: String,
    pub state: ChargeState,
    /// Declined tries.
    pub tries: u8,
    pub paid_at: Option<Timestamp>,
    pub first_declined_at: Option<Timestamp>,
}

impl Database {
    /// Copies all subscriptions into `target`, with their schedules, dated terms, open charges, and what their billing keys
    /// have been through. Personal fields, billing keys and titles are not read at all: `card` says which card a subscription has in the
    /// copy. Returns how many.
    ///
    /// # Errors
    /// Either database fails, or `target` is not a SQLite file that is empty but for its accounts.
    pub async fn copy_book(
        &self,
        target: &Database,
        card: impl Fn(i64) -> String,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<u64, Fault> {
        if target.is_postgres() {
            return Err(Fault::Integrity("a book is copied into a SQLite file only".to_owned()));
        }
        let whole = u64::try_from(self.last_subscription().await?).unwrap_or(0);
        let (mut after, mut copied, mut tries_before) = (0, 0, 0);
        loop {
            let rows = self.db.patient().read(&copy::BOOK, &[after.into(), PAGE.into()]).await?;
            let Some(last) = rows.last() else { return Ok(copied) };
            let ids = rows.iter().map(|row| row.int("id")).collect::<Result<Vec<i64>, _>>()?;
            let range = [after.into(), last.int("id")?.into()];
            let prices = array(&self.db.patient().read(&copy::PRICES, &range).await?)?;
            let adjustments = array(&self.db.patient().read(&copy::ADJUSTMENTS, &range).await?)?;
            let charges = bodies(&self.db.patient().read(&copy::OPEN_CHARGES, &[ids.clone().into()]).await?)?;
            let tries =
                tries(&self.db.patient().read(&cards::TRIES_OF_SUBSCRIPTIONS, &[ids.into()]).await?, &charges, tries_before)?;
            tries_before += tries.len();
            let tries = Value::Array(tries).to_string();
            let waits = |id: &Value| charges.iter().any(|charge| charge["subscription"] == *id);
            let mut book = bodies(&rows)?;
            for row in &mut book {
                let id = row["id"].clone();
                row["blocked"] = waits(&id).into();
                row["card"] = card(id.as_i64().unwrap_or_default()).into();
            }
            let (book, charges) = (Value::Array(book).to_string(), Value::Array(charges).to_string());
            let mut tx = target.db.begin().await?;
            for (statement, rows) in [
                (&copy::PASTE_SUBSCRIPTIONS, &book),
                (&copy::PASTE_PRICES, &prices),
                (&copy::PASTE_ADJUSTMENTS, &adjustments),
                (&copy::PASTE_CHARGES, &charges),
                (&copy::PASTE_ATTEMPTS, &tries),
                (&copy::PASTE_TRIES, &tries),
                (&copy::PASTE_SCHEDULES, &book),
            ] {
                tx.execute(statement, &[rows.as_str().into()]).await?;
            }
            tx.commit().await?;
            copied += rows.len() as u64;
            after = last.int("id")?;
            progress(u64::try_from(after).unwrap_or(0), whole);
        }
    }

    /// What became of charges, so many after a row.
    pub async fn results(&self, after: i64, limit: u32) -> Result<Vec<ResultRow>, Fault> {
        let rows = self.db.patient().read(&copy::RESULTS, &[Param::from(after), limit.into()]).await?;
        let result = |row: &Row| {
            Ok(ResultRow {
                id: row.int("id")?,
                due_at: row.at("due_at")?,
                amount: row.int("amount")?,
                currency: row.text("currency")?,
                plan: row.text("plan")?,
                state: row.word("state", ChargeState::from_name)?,
                tries: row.small("tries")?,
                paid_at: row.at_opt("paid_at")?,
                first_declined_at: row.at_opt("first_declined_at")?,
            })
        };
        rows.iter().map(result).collect()
    }
}

fn bodies(rows: &[Row]) -> Result<Vec<Value>, Fault> {
    let read = |row: &Row| {
        let text = row.text("body")?;
        serde_json::from_str(&text).map_err(|why| Fault::Corrupt(format!("a row cannot be copied: {why}")))
    };
    rows.iter().map(read).collect()
}

/// Declined tries, numbered from `before` on. A key that was refused for good and paid later is not refused any more; what is not decided
/// yet is taken for ended, as `forecast` does.
fn tries(rows: &[Row], charges: &[Value], before: usize) -> Result<Vec<Value>, Fault> {
    let mut found = Vec::new();
    for row in rows {
        let subscription = row.int("subscription_id")?;
        found.extend(try_of(row)?.map(|(charge, one)| (subscription, charge, one)));
    }
    let paid = |subscription: i64| {
        let of_it = found.iter().filter(|(of, _, one)| *of == subscription && one.end == KeyEnd::Paid);
        of_it.map(|(.., one)| one.at).max()
    };
    let mut tries = Vec::new();
    for (subscription, charge, one) in &found {
        let (state, class) = match one.end {
            KeyEnd::Declined(class) => ("declined", class),
            KeyEnd::Transient => ("refused", Class::Transient),
            KeyEnd::Open | KeyEnd::Paid => continue,
        };
        if class == Class::HardCard && paid(*subscription).is_some_and(|paid| paid >= one.at) {
            continue;
        }
        let own = charges.iter().find(|body| body["id"] == charge.0 && body["subscription"] == *subscription);
        tries.push(json!({
            "n": before + tries.len() + 1, "subscription": subscription, "state": state, "class": class.name(),
            "at": one.at.as_microsecond(), "period_start": own.map(|body| &body["period_start"]),
        }));
    }
    Ok(tries)
}

fn array(rows: &[Row]) -> Result<String, Fault> {
    Ok(Value::Array(bodies(rows)?).to_string())
}
