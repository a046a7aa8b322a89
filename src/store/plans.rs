//! Plans that operators keep in the database: a public interface, read whole.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

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

/// The plans of the database in one snapshot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlanRows {
    /// Grows with each change.
    pub version: i64,
    /// By name: an object of the keys of `[plans.NAME]`, without those that are NULL. Not checked.
    pub rows: BTreeMap<String, Value>,
}

impl Database {
    pub async fn plan_rows(&self) -> Result<PlanRows, Fault> {
        let mut found = PlanRows::default();
        for row in &self.db.read(&sql::PLANS, &[]).await? {
            found.version = row.int("version")?;
            let Some(name) = row.text_opt("name")? else { continue };
            if !found.rows.contains_key(&name) {
                found.rows.insert(name.clone(), plan(row)?);
            }
            let prices = found.rows.get_mut(&name).and_then(|plan| plan["prices"].as_array_mut());
            if let (Some(prices), Some(from)) = (prices, row.day_opt("from_date")?) {
                let mut price = Map::from_iter([("from".to_owned(), from.to_string().into())]);
                for (column, key) in [("price", "amount"), ("price_tax_free", "tax_free"), ("price_vat_amount", "vat_amount")] {
                    price.extend(row.int_opt(column)?.map(|number| (key.to_owned(), number.into())));
                }
                prices.push(price.into());
            }
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

fn plan(row: &Row) -> Result<Value, Fault> {
    let mut plan = Map::new();
    for column in TEXTS {
        plan.extend(row.text_opt(column)?.map(|text| (column.to_owned(), text.into())));
    }
    for column in NUMBERS {
        plan.extend(row.int_opt(column)?.map(|number| (column.to_owned(), number.into())));
    }
    plan.extend(row.day_opt("trial_until")?.map(|day| ("trial_until".to_owned(), day.to_string().into())));
    plan.insert("prices".to_owned(), json!([]));
    Ok(plan.into())
}
