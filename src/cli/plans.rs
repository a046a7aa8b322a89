//! `rebilld plans`: those of the config and those of the database, side by side.

use std::collections::{BTreeMap, BTreeSet};

use clap::Subcommand;
use serde_json::Value;

use super::context::{Context, Opened};
use super::failure::Failure;
use super::output::{Field, Listing, amount, field, print_one};
use crate::config::closest;

#[derive(Debug, Subcommand)]
pub enum Plans {
    /// Lists all plans with where they stand, what is wrong with them and how many subscriptions name them
    List,
    /// Shows all terms of a plan, defaults included
    Show {
        /// The plan's name
        name: String,
    },
}

/// What `show` prints, in the order of the reference.
const TERMS: [&str; 21] = [
    "every",
    "billing_day",
    "schedule",
    "charge_time",
    "zone",
    "banking",
    "amount",
    "currency",
    "title",
    "tax_free",
    "vat_amount",
    "while_past_due",
    "trial_days",
    "trial_until",
    "trial_anchor",
    "resume",
    "max_periods",
    "catch_up",
    "catch_up_limit",
    "dunning",
    "prices",
];

/// All plans, by name.
struct Known {
    opened: Opened,
    uses: BTreeMap<String, u64>,
}

impl Plans {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let opened = context.open().await?;
        let uses = opened.database.plan_uses().await?;
        let known = Known { opened, uses };
        match self {
            Self::List => {
                let rows = known.names().into_iter().map(|name| known.line(name)).collect();
                Listing { rows, none: "there is no plan: add a section `[plans.NAME]`, or a row to the table `plans`" }
                    .print(context.output)
            }
            Self::Show { name } => {
                let names = known.names();
                if !names.contains(name.as_str()) {
                    let meant = closest(&name, names.iter().copied());
                    let meant = meant.map_or_else(String::new, |meant| format!(": did you mean `{meant}`?"));
                    return Err(Failure::data(format!("there is no plan `{name}`{meant}")));
                }
                print_one(&known.whole(&name), context.output)
            }
        }
    }
}

impl Known {
    fn names(&self) -> BTreeSet<&str> {
        self.opened.loaded.settings.plans.keys().chain(self.opened.plans.rows.keys()).map(String::as_str).collect()
    }

    /// Its keys with their defaults; of a wrong row as it stands.
    fn sheet(&self, name: &str) -> Value {
        let of_config = self.opened.loaded.plan_sheet(name);
        let of_database = || self.opened.of_database.sheets.get(name).or_else(|| self.opened.plans.rows.get(name)).cloned();
        of_config.or_else(of_database).unwrap_or(Value::Null)
    }

    /// Where it stands, what is wrong with it, and how many name it.
    fn standing(&self, name: &str) -> [Field; 3] {
        let in_config = self.opened.loaded.plan_sheet(name).is_some();
        let problem = match self.opened.of_database.wrong.get(name) {
            Some(why) => Some(why.clone()),
            None if self.opened.of_database.clashes.iter().any(|clash| clash == name) => {
                Some("it is in the database too, where it counts for nothing: rename or delete one of them".to_owned())
            }
            None => None,
        };
        [
            field("source", if in_config { "config" } else { "database" }),
            field("subscriptions", self.uses.get(name).copied().unwrap_or(0)),
            field("problem", problem),
        ]
    }

    fn line(&self, name: &str) -> Vec<Field> {
        let sheet = self.sheet(name);
        let of = |key: &'static str| field(key, sheet[key].clone());
        let [source, subscriptions, problem] = self.standing(name);
        let period = sheet["every"].as_str().or_else(|| sheet["schedule"].as_str()).unwrap_or_default().to_owned();
        vec![
            field("plan", name),
            source,
            field("period", period).only_shown(),
            of("every").hidden(),
            of("schedule").hidden(),
            of("billing_day").hidden(),
            of("charge_time").hidden(),
            of("zone").hidden(),
            priced(&sheet),
            of("currency").hidden(),
            of("title"),
            subscriptions,
            problem,
        ]
    }

    fn whole(&self, name: &str) -> Vec<Field> {
        let sheet = self.sheet(name);
        let mut row = vec![field("plan", name)];
        let [source, subscriptions, problem] = self.standing(name);
        row.extend([source, problem]);
        row.extend(TERMS.into_iter().map(|key| match key {
            "amount" => priced(&sheet),
            "prices" => field(key, sheet[key].clone()).shown(dated(&sheet)),
            key => field(key, sheet[key].clone()),
        }));
        row.push(subscriptions);
        row
    }
}

/// Its amount as people read it.
fn priced(sheet: &Value) -> Field {
    let currency = sheet["currency"].as_str().unwrap_or("KRW");
    let shown = sheet["amount"].as_i64().map_or_else(String::new, |minor| amount(minor, currency));
    field("amount", sheet["amount"].clone()).shown(shown).right()
}

fn dated(sheet: &Value) -> String {
    let currency = sheet["currency"].as_str().unwrap_or("KRW");
    let price = |price: &Value| {
        let minor = price["amount"].as_i64().unwrap_or_default();
        format!("{} from {} on", amount(minor, currency), price["from"].as_str().unwrap_or_default())
    };
    sheet["prices"].as_array().into_iter().flatten().map(price).collect::<Vec<_>>().join(", ")
}
