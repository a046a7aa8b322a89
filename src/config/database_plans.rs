//! Plans of the database beside those of the config: read by the same rules, told by plan and column.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::keys::{Key, is_name};
use super::problem::{ConfigErrors, Origin, Problem};
use super::raw::{Raw, RawPlan};
use super::{Loaded, Settings, layers, problem_at, settings};
use crate::domain::plan::Plan;
use crate::store::UNREADABLE;

/// What the rows of the table `plans` come to under a config.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DatabasePlans {
    pub plans: BTreeMap<String, Plan>,
    /// Rows that cannot be billed by, and why.
    pub wrong: BTreeMap<String, String>,
    /// Names that the config has too: there its plan is in force, and the row counts for nothing.
    pub clashes: Vec<String>,
    /// Each row that is right, with its defaults, as `config show` writes plans.
    pub sheets: BTreeMap<String, Json>,
}

impl DatabasePlans {
    /// Everything that is wrong with rows, a line each.
    pub fn problems(&self) -> Vec<Problem> {
        let told = |(name, why): (&String, &String)| Problem { origin: Origin::Database, text: format!("plan `{name}`: {why}") };
        self.wrong.iter().map(told).collect()
    }
}

impl Settings {
    /// Reads rows, objects of the keys of `[plans.NAME]` by their names. A wrong one does not concern its neighbours.
    pub fn database_plans(&self, rows: &BTreeMap<String, Json>) -> DatabasePlans {
        let mut found = DatabasePlans::default();
        let mut tree = Map::new();
        for (name, row) in rows {
            if self.plans.contains_key(name) {
                found.clashes.push(name.clone());
                continue;
            }
            match wrong_values(name, row) {
                wrong if wrong.is_empty() => drop(tree.insert(name.clone(), row.clone())),
                wrong => drop(found.wrong.insert(name.clone(), wrong.join("; "))),
            }
        }
        let names: Vec<String> = tree.keys().cloned().collect();
        let filled = layers::again(json!({ "plans": tree }));
        let mut raw: BTreeMap<String, RawPlan> = match serde_json::from_value::<Raw>(filled.tree) {
            Ok(raw) => raw.plans,
            // each value has been checked, so this is a fault of ours: nothing is billed by what cannot be read
            Err(error) => {
                found.wrong.extend(names.into_iter().map(|name| (name, error.to_string())));
                return found;
            }
        };
        for name in names {
            let Some(raw) = raw.remove(&name) else { continue };
            match self.plan_of_row(&name, &raw) {
                Ok(plan) => {
                    found.sheets.insert(name.clone(), serde_json::to_value(raw).unwrap_or(Json::Null));
                    found.plans.insert(name, plan);
                }
                Err(why) => drop(found.wrong.insert(name, why)),
            }
        }
        found
    }

    /// These settings with the plans of the database among their own.
    pub fn with(&self, plans: DatabasePlans) -> Self {
        let mut both = self.clone();
        both.plans.extend(plans.plans);
        both.wrong_plans = plans.wrong;
        both
    }

    /// The same, from the rows.
    pub fn with_rows(&self, rows: &BTreeMap<String, Json>) -> Self {
        self.with(self.database_plans(rows))
    }

    fn plan_of_row(&self, name: &str, raw: &RawPlan) -> Result<Plan, String> {
        let found: RefCell<Vec<String>> = RefCell::default();
        let prefix = format!("plans.{name}.");
        let place = |_: &str, text: String| {
            found.borrow_mut().push(text.replace(&prefix, ""));
            Problem { origin: Origin::Database, text }
        };
        let mut wrong = settings::Wrong { problem: &place, given: &|_| false, problems: Vec::new() };
        let plan = settings::plan_of(name, raw, &self.holidays, &mut wrong);
        let mut found = found.into_inner();
        if let Some(dunning) = raw.dunning.as_ref().filter(|dunning| !self.dunning.contains_key(*dunning)) {
            found.push(format!("column `dunning`: there is no `[dunning.{dunning}]` in the config"));
        }
        let found = found.join("; ");
        match plan {
            Some(plan) if found.is_empty() => Ok(plan),
            _ if found.is_empty() => Err("it cannot be read".to_owned()),
            _ => Err(found),
        }
    }
}

/// What is wrong with single values of a row, each with its column.
fn wrong_values(name: &str, row: &Json) -> Vec<String> {
    if !is_name(name) {
        return vec!["column `name`: 1 to 64 letters, digits, `-` and `_`".to_owned()];
    }
    let unreadable = row[UNREADABLE].as_array().into_iter().flatten();
    let mut wrong: Vec<String> = unreadable.map(|why| why.as_str().unwrap_or("it cannot be read").to_owned()).collect();
    let special = ["prices", UNREADABLE];
    for (column, value) in row.as_object().into_iter().flatten().filter(|(column, _)| !special.contains(&column.as_str())) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match Key::of(&["plans".to_owned(), name.to_owned(), column.clone()]) {
            None => wrong.push(format!("column `{column}`: this release does not know it")),
            Some(key) => wrong.extend(key.kind.wrong(&text).map(|why| format!("column `{column}`: {why}"))),
        }
    }
    wrong
}

impl Loaded {
    /// What the plans of the database come to, if config and database together are something to run by.
    ///
    /// # Errors
    /// A name is in both, or there is no plan at all. A row that is wrong is none: it concerns its own subscriptions only.
    pub fn check_plans(&self, rows: &BTreeMap<String, Json>) -> Result<DatabasePlans, ConfigErrors> {
        let plans = self.settings.database_plans(rows);
        let clash = |name: &String| {
            let text =
                format!("plan `{name}` is in the config and in the table `plans` of the database: rename or delete one of them");
            problem_at(&self.origins, &format!("plans.{name}"), text)
        };
        let mut problems: Vec<Problem> = plans.clashes.iter().map(clash).collect();
        if self.settings.plans.is_empty() && rows.is_empty() {
            let text = "there is no plan: add a section `[plans.NAME]`, or a row to the table `plans`".to_owned();
            problems.push(Problem { origin: Origin::Default, text });
        }
        ConfigErrors::unless_none(problems)?;
        Ok(plans)
    }

    /// A plan of the config with its defaults, as `config show` writes it.
    pub fn plan_sheet(&self, name: &str) -> Option<Json> {
        self.raw.plans.get(name).and_then(|raw| serde_json::to_value(raw).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn of(config: &str) -> Loaded {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.toml");
        std::fs::write(&file, format!("[accounts.main]\n{config}")).unwrap();
        load(&Sources { files: vec![file], ..Sources::default() }).unwrap()
    }

    const GOLD: &str = "[plans.gold]\nevery = \"1 month\"\namount = 9900\nbilling_day = 10\ntrial_days = 7\n\
        [[plans.gold.prices]]\nfrom = \"2027-01-01\"\namount = 11000\n";

    fn gold() -> Json {
        json!({
            "every": "1 month", "amount": 9900, "billing_day": "10", "trial_days": 7,
            "prices": [{ "from": "2027-01-01", "amount": 11000 }],
        })
    }

    fn rows(rows: &[(&str, Json)]) -> BTreeMap<String, Json> {
        rows.iter().map(|(name, row)| ((*name).to_owned(), row.clone())).collect()
    }

    #[test]
    fn a_row_is_the_plan_that_the_same_keys_make_in_the_config() {
        let found = of("").settings.database_plans(&rows(&[("gold", gold())]));
        assert_eq!(found.plans, of(GOLD).settings.plans);
        assert_eq!(found.sheets["gold"]["catch_up"], "hold", "defaults are filled in");
        assert_eq!((found.wrong, found.clashes), Default::default());
    }

    #[test]
    fn a_wrong_row_is_named_with_its_column_and_leaves_its_neighbours_alone() {
        let prices = json!([]);
        let wrong = [
            ("a", json!({ "every": "1 fortnight", "prices": prices }), "column `every`: `1 fortnight` is not a billing interval"),
            ("b", json!({ "every": "1 month", "zone": "Asia/Soul", "prices": prices }), "did you mean \"Asia/Seoul\"?"),
            ("c", json!({ "schedule": "0 0 10", "prices": prices }), "column `schedule`: "),
            ("d", json!({ "every": "1 day", "billing_day": "10", "prices": prices }), "`billing_day`: "),
            ("e f", json!({ "every": "1 day", "prices": prices }), "column `name`: "),
            ("g", json!({ "every": "1 day", "colour": "red", "prices": prices }), "column `colour`: "),
            ("h", json!({ "prices": prices }), "`every` is missing"),
            ("i", json!({ "every": "1 day", "amount": 100, "vat_amount": 101, "prices": prices }), "101 together"),
            (
                "j",
                json!({ "every": "1 day", "dunning": "gentle", "prices": prices }),
                "column `dunning`: there is no `[dunning.gentle]`",
            ),
        ];
        let mut all: Vec<(&str, Json)> = wrong.iter().map(|(name, row, _)| (*name, row.clone())).collect();
        all.push(("gold", gold()));
        let found = of("").settings.database_plans(&rows(&all));
        assert_eq!(found.plans.keys().collect::<Vec<_>>(), ["gold"]);
        for (name, _, why) in wrong {
            assert!(found.wrong[name].contains(why), "{name}: {}", found.wrong[name]);
        }
    }

    #[test]
    fn a_name_in_both_is_an_error_at_its_line_and_the_config_wins() {
        let config = of(GOLD);
        let row = rows(&[("gold", json!({ "every": "1 day", "prices": [] }))]);
        let error = config.check_plans(&row).unwrap_err().to_string();
        assert!(error.contains("c.toml:2: plan `gold` is in the config and in the table `plans`"), "{error}");
        assert_eq!(config.settings.with_rows(&row).plans, config.settings.plans);
        assert!(of("").check_plans(&BTreeMap::new()).unwrap_err().to_string().contains("there is no plan"));
        assert!(of("").check_plans(&rows(&[("gold", gold())])).is_ok());
    }
}
