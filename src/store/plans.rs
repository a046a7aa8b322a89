//! Plans that operators keep in the database: a public interface, read whole.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tracing::error;

use super::Database;
use super::codec::Row;
use super::db::Fault;
use super::sql::plans as sql;

/// Columns that hold a text, by the names that the config's keys have too.
const TEXTS: [&str; 13] = [
    "every",
    "billing_day",
    "schedule",
    "charge_time",
    "zone",
    "banking",
    "currency",
    "title",
    "while_past_due",
    "trial_anchor",
    "resume",
    "catch_up",
    "dunning",
];
/// Columns that hold a number.
const NUMBERS: [&str; 6] = ["amount", "tax_free", "vat_amount", "trial_days", "max_periods", "catch_up_limit"];

/// Key of a row under which its unreadable values are named, each with its column. A day may be one that no calendar has: it
/// concerns that plan alone.
pub const UNREADABLE: &str = "unreadable";

/// The plans of the database in one snapshot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlanRows {
    /// Grows with each change.
    pub version: i64,
    /// By name: an object of the keys of `[plans.NAME]`, without those that are NULL. Not checked; a list [`UNREADABLE`] says what
    /// cannot be read of it.
    pub rows: BTreeMap<String, Value>,
}

impl Database {
    pub async fn plan_rows(&self) -> Result<PlanRows, Fault> {
        let mut found = PlanRows::default();
        for row in &self.db.read(&sql::PLANS, &[]).await? {
            found.version = row.int("version")?;
            let name = match row.text_opt("name") {
                Ok(Some(name)) => name,
                Ok(None) => continue,
                Err(why) => {
                    // no subscription can name it either
                    error!(%why, "a plan of the database cannot be read: not even its name");
                    continue;
                }
            };
            let plan = found.rows.entry(name).or_insert_with(|| plan(row));
            read_price(row, plan);
        }
        Ok(found)
    }

    /// Costs one row: whether [`Database::plan_rows`] is worth asking again.
    pub async fn plans_version(&self) -> Result<i64, Fault> {
        let rows = self.db.read(&sql::PLANS_VERSION, &[]).await?;
        rows.first().map_or(Ok(0), |row| row.int("version"))
    }

    /// How many subscriptions that are not cancelled name a plan, by its name. Reads the whole book.
    pub async fn plan_uses(&self) -> Result<BTreeMap<String, u64>, Fault> {
        let rows = self.db.read(&sql::PLAN_USES, &[]).await?;
        rows.iter().map(|row| Ok((row.text("plan")?, row.small("uses")?))).collect()
    }
}

fn plan(row: &Row) -> Value {
    let mut plan = Map::new();
    let mut wrong = Vec::new();
    for column in TEXTS {
        plan.extend(told(row.text_opt(column), &mut wrong).map(|text| (column.to_owned(), text.into())));
    }
    for column in NUMBERS {
        plan.extend(told(row.int_opt(column), &mut wrong).map(|number| (column.to_owned(), number.into())));
    }
    let until = told(row.day_opt("trial_until"), &mut wrong);
    plan.extend(until.map(|day| ("trial_until".to_owned(), day.to_string().into())));
    plan.insert("prices".to_owned(), json!([]));
    if !wrong.is_empty() {
        plan.insert(UNREADABLE.to_owned(), wrong.into());
    }
    plan.into()
}

/// The dated price that stands beside a plan, if there is one.
fn read_price(row: &Row, plan: &mut Value) {
    let mut wrong = Vec::new();
    let mut price = Map::new();
    let from = told(row.day_opt("from_date"), &mut wrong);
    for (column, key) in [("price", "amount"), ("price_tax_free", "tax_free"), ("price_vat_amount", "vat_amount")] {
        price.extend(told(row.int_opt(column), &mut wrong).map(|number| (key.to_owned(), number.into())));
    }
    let Value::Object(plan) = plan else { return };
    if !wrong.is_empty() {
        plan.entry(UNREADABLE).or_insert_with(|| json!([])).as_array_mut().into_iter().for_each(|all| all.append(&mut wrong));
    } else if let Some(from) = from {
        price.insert("from".to_owned(), from.to_string().into());
        plan.get_mut("prices").and_then(Value::as_array_mut).into_iter().for_each(|prices| prices.push(price.clone().into()));
    }
}

/// A value, unless it is NULL or cannot be read.
fn told<T>(read: Result<Option<T>, Fault>, wrong: &mut Vec<Value>) -> Option<T> {
    read.unwrap_or_else(|fault| {
        let why = match fault {
            Fault::Corrupt(why) => why,
            other => other.to_string(),
        };
        wrong.push(why.into());
        None
    })
}
