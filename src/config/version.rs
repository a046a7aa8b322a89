//! A config by its hash: what matters for money, without secrets, in one spelling.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::problem::{ConfigErrors, Origin, Problem};
use super::{Environment, Loaded, Settings, layers, raw, settings};
use crate::domain::attempt::{base32, digest};

/// A config as charges name it.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// 26 letters and digits; the same settings have the same hash, wherever they are written.
    pub hash: String,
    pub body: Json,
}

/// Sections that say where this process is and not what it charges.
const LOCAL: [&str; 6] = ["database", "state_dir", "kill_file", "log", "webhooks", "http"];
/// Of an account: where its keys are.
const KEYS: [&str; 4] = ["imp_key_file", "imp_secret_file", "imp_key_credential", "imp_secret_credential"];
/// What only a restart can change, beside accounts that come or go.
const FIXED: [&str; 8] = ["declines", "database", "state_dir", "kill_file", "tag", "log", "webhooks", "http"];
/// Of an account: where it sends, and what its client is built with.
const FIXED_OF_ACCOUNT: [&str; 8] = [
    "base_url",
    "tier",
    "include_sandbox",
    "in_flight",
    "imp_key_file",
    "imp_secret_file",
    "imp_key_credential",
    "imp_secret_credential",
];

impl Version {
    /// The hash of this config together with plans of the database; its own if there are none.
    pub fn hash_with(&self, plans: &BTreeMap<String, Json>) -> String {
        if plans.is_empty() {
            return self.hash.clone();
        }
        let mut text = String::new();
        canonical(&plans.iter().map(|(name, row)| (name.clone(), row.clone())).collect::<Map<_, _>>().into(), &mut text);
        base32(&digest(&["plans/1", &self.hash, &text]), 26)
    }

    /// How people see it.
    pub fn short(hash: &str) -> &str {
        hash.get(..12).unwrap_or(hash)
    }

    /// Keys that differ from those of a stored body, and that only a restart can change; what a body does not hold is not
    /// compared.
    pub fn needs_restart(&self, running: &Json) -> Vec<String> {
        fixed_changes(running, &self.body, true)
    }
}

impl Loaded {
    pub fn version(&self) -> Version {
        let mut body = self.json();
        if let Json::Object(map) = &mut body {
            map.retain(|section, _| !LOCAL.contains(&section.as_str()));
            for account in map.get_mut("accounts").and_then(Json::as_object_mut).into_iter().flat_map(Map::values_mut) {
                if let Json::Object(account) = account {
                    account.retain(|key, _| !KEYS.contains(&key.as_str()));
                }
            }
        }
        let mut text = String::new();
        canonical(&body, &mut text);
        Version { hash: base32(&digest(&["config/1", &text]), 26), body }
    }

    /// Keys that differ from those of `running` and that only a restart can change.
    pub fn needs_restart(&self, running: &Self) -> Vec<String> {
        fixed_changes(&whole(running), &whole(self), false)
    }
}

fn fixed_changes(old: &Json, new: &Json, only_both: bool) -> Vec<String> {
    let differ = |before: Option<&Json>, after: Option<&Json>| before != after && !(only_both && before.is_none());
    let mut keys: Vec<String> =
        FIXED.iter().filter(|key| differ(old.get(**key), new.get(**key))).map(|key| (*key).to_owned()).collect();
    let none = Map::new();
    let accounts = |tree: &Json| tree.get("accounts").and_then(Json::as_object).cloned().unwrap_or_default();
    let (old, new) = (accounts(old), accounts(new));
    for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
        let (Some(before), Some(after)) = (old.get(name), new.get(name)) else {
            keys.push(format!("accounts.{name}"));
            continue;
        };
        let (before, after) = (before.as_object().unwrap_or(&none), after.as_object().unwrap_or(&none));
        let differing = FIXED_OF_ACCOUNT.iter().filter(|key| differ(before.get(**key), after.get(**key)));
        keys.extend(differing.map(|key| format!("accounts.{name}.{key}")));
    }
    keys
}

/// Everything, passwords included: for comparing, never for showing.
fn whole(loaded: &Loaded) -> Json {
    serde_json::to_value(&loaded.raw).unwrap_or(Json::Null)
}

/// JSON without spaces and with its keys in order.
fn canonical(value: &Json, text: &mut String) {
    match value {
        Json::Object(map) => {
            let mut names: Vec<&String> = map.keys().collect();
            names.sort();
            text.push('{');
            for name in names {
                text.push_str(&Json::from(name.as_str()).to_string());
                text.push(':');
                canonical(&map[name], text);
                text.push(',');
            }
            text.push('}');
        }
        Json::Array(list) => {
            text.push('[');
            for entry in list {
                canonical(entry, text);
                text.push(',');
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

/// The settings of a stored version. What it does not say (where the database and the keys are) is the default: they serve
/// to look ahead, not to run.
///
/// # Errors
/// A newer release wrote it, with keys that this one does not know.
pub fn revive(body: &Json) -> Result<Settings, ConfigErrors> {
    let layered = layers::again(body.clone());
    let wrong = |text: String| ConfigErrors(vec![Problem { origin: Origin::Default, text }]);
    let raw: raw::Raw = serde_json::from_value(layered.tree).map_err(|error| wrong(error.to_string()))?;
    let place = |_: &str, text: String| Problem { origin: Origin::Default, text };
    // what was not given then has its default in it now, which says the same
    let given = |key: &str| key.split('.').try_fold(body, |node, part| node.get(part)).is_some();
    let mut problems = settings::Wrong { problem: &place, given: &given, problems: layered.problems };
    let settings = Settings::of(&raw, &Environment::default(), &mut problems);
    ConfigErrors::unless_none(problems.problems)?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    const CONFIG: &str = "tag = \"sb\"\n[database]\nurl = \"postgres://me:hunter2@db/x\"\n[accounts.main]\nimp_key_file = \"hunter2.key\"\n\
        [plans.monthly]\nevery = \"1 month\"\namount = 9900\n[[webhooks]]\nname = \"app\"\nurl = \"https://x/?hunter2\"\n";

    fn of(text: &str) -> Loaded {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.toml");
        std::fs::write(&file, text).unwrap();
        load(&Sources { files: vec![file], ..Sources::default() }).unwrap()
    }

    #[test]
    fn the_hash_is_of_what_matters_for_money_and_holds_no_secret() {
        let version = of(CONFIG).version();
        assert!(!version.body.to_string().contains("hunter2"), "{}", version.body);
        assert_eq!(version.hash.len(), 26);
        let moved = CONFIG.replace("db/x", "db/y").replace("hunter2.key", "elsewhere");
        assert_eq!(of(&moved).version().hash, version.hash, "another place is the same config");
        let default = CONFIG.replace("every = ", "currency = \"KRW\"\nevery = ");
        assert_eq!(of(&default).version().hash, version.hash, "a default that is written out is no change");
        assert_ne!(of(&CONFIG.replace("9900", "9901")).version().hash, version.hash);
    }

    #[test]
    fn a_stored_version_is_read_back() {
        let loaded = of(CONFIG);
        let settings = revive(&loaded.version().body).unwrap();
        assert_eq!(settings.plans, loaded.settings.plans);
        assert_eq!((settings.tag, settings.jobs), (loaded.settings.tag, loaded.settings.jobs));
        let older = serde_json::json!({ "tag": "sb", "plans": { "monthly": { "every": "1 month", "amount": 9900 } } });
        assert_eq!(revive(&older).unwrap().plans, loaded.settings.plans, "keys that it does not have yet take their defaults");
    }

    #[test]
    fn what_only_a_restart_can_change_is_named() {
        let running = of(CONFIG);
        assert_eq!(of(&CONFIG.replace("9900", "1")).needs_restart(&running), [""; 0]);
        let changed =
            CONFIG.replace("hunter2@", "hunter3@").replace("hunter2.key", "x").replace("https://x/?hunter2", "https://y");
        assert_eq!(of(&changed).needs_restart(&running), ["database", "webhooks", "accounts.main.imp_key_file"]);
        let second = format!("{CONFIG}[accounts.second]\n");
        assert_eq!(of(&second).needs_restart(&running), ["accounts.second"]);
        assert_eq!(running.needs_restart(&of(&second)), ["accounts.second"]);
        let rate = CONFIG.replace("[accounts.main]", "[accounts.main]\nrate = 3");
        assert_eq!(of(&rate).needs_restart(&running), [""; 0]);
    }
}
