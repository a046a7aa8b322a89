//! F5: settings. Layered, checked as a whole, secrets redacted.
//!
//! [`load`] gives [`Settings`], or every problem at once with its file and line. Secrets are not read before
//! [`Loaded::secrets`] is asked: most commands need none.

mod alarms;
pub mod cron;
mod database;
mod database_plans;
mod database_url;
mod dunning;
mod environment;
mod fuse;
mod keys;
mod layers;
mod problem;
mod raw;
mod reference;
mod secret;
mod settings;
mod show;
mod span;
mod suggest;
mod template;
mod version;
mod webhooks;

use std::collections::BTreeMap;
use std::path::Path;

pub use alarms::{AlarmChannel, AlarmSecrets, Alarms, By, UrlSource};
pub use database::Database;
pub use database_plans::DatabasePlans;
pub use database_url::DatabaseUrl;
pub use environment::Environment;
pub use keys::{time_of_day, zone};
pub use layers::{Sources, USUAL_FILES};
pub use problem::{ConfigErrors, Origin, Problem};
pub use reference::reference;
pub use secret::{NoSecret, Secret, SecretSource};
pub use settings::{Account, AccountKeys, Http, Jobs, Log, LogFormat, Reload, Retention, Secrets, Settings, Webhook, Worker};
pub use span::{NotASpan, Span};
pub use suggest::closest;
pub use template::template;
pub use version::{Version, revive};

/// The settings, with what is known of where they come from.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// Files that were read, in their order.
    pub files: Vec<String>,
    /// Worth saying, but no error.
    pub notes: Vec<String>,
    raw: raw::Raw,
    origins: BTreeMap<Vec<String>, Origin>,
}

/// Reads all layers.
///
/// # Errors
/// Everything that is wrong with any of them.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let layers::Layered { tree, origins, files, mut problems, notes, broken, .. } = layers::read(sources);
    if broken {
        ConfigErrors::unless_none(std::mem::take(&mut problems))?;
    }
    let raw: raw::Raw = match serde_json::from_value(tree) {
        Ok(raw) => raw,
        Err(error) => {
            problems.push(Problem { origin: Origin::Default, text: error.to_string() });
            return Err(ConfigErrors(problems));
        }
    };
    let place = |key: &str, text: String| problem_at(&origins, key, text);
    let given = |key: &str| origins.contains_key(&key.split('.').map(str::to_owned).collect::<Vec<_>>());
    let mut wrong = settings::Wrong { problem: &place, given: &given, problems };
    let settings = Settings::of(&raw, &sources.environment, &mut wrong);
    ConfigErrors::unless_none(wrong.problems)?;
    Ok(Loaded { settings, files, notes, raw, origins })
}

/// What can be read of a config that may be wrong, for what must work beside one: the brakes, and asking the running daemons.
/// Wrong values are left out or have their defaults. With it comes everything that is wrong; empty: nothing is.
///
/// # Errors
/// It does not say for certain where the database is.
pub fn load_in_spite(sources: &Sources) -> Result<(Loaded, Vec<Problem>), ConfigErrors> {
    let layers::Layered { tree, origins, files, mut problems, notes, broken, .. } = layers::read_in_spite(sources);
    let url = origins.get(["database", "url"].map(str::to_owned).as_slice());
    // neither a default nor a file must stand in for an address that cannot be read
    let doubtful = |problem: &Problem| match url {
        Some(given @ (Origin::CommandLine(_) | Origin::Environment(_))) => problem.origin == *given,
        _ => ["database", "url`", "the file cannot be read"].iter().any(|word| problem.text.contains(word)),
    };
    let raw = match serde_json::from_value::<raw::Raw>(tree) {
        Ok(raw) if !problems.iter().any(doubtful) && (url.is_some() || !broken) => raw,
        _ => {
            let text = "so it is not certain which database is meant: name it with `--database URL`".to_owned();
            problems.push(Problem { origin: Origin::Default, text });
            return Err(ConfigErrors(problems));
        }
    };
    let place = |key: &str, text: String| problem_at(&origins, key, text);
    let given = |key: &str| origins.contains_key(&key.split('.').map(str::to_owned).collect::<Vec<_>>());
    let mut wrong = settings::Wrong { problem: &place, given: &given, problems };
    let settings = Settings::of(&raw, &sources.environment, &mut wrong);
    let problems = wrong.problems;
    Ok((Loaded { settings, files, notes, raw, origins }, problems))
}

impl Loaded {
    /// Reads every secret that the daemon needs.
    ///
    /// # Errors
    /// All that are missing, empty, or readable by everybody.
    pub fn secrets(&self) -> Result<Secrets, ConfigErrors> {
        let (secrets, problems) = self.secrets_in_spite();
        ConfigErrors::unless_none(problems)?;
        Ok(secrets)
    }

    /// The secrets that can be read, and what is wrong with the others. An account is left out unless both of its keys are there.
    pub fn secrets_in_spite(&self) -> (Secrets, Vec<Problem>) {
        let environment = &self.settings.environment;
        let mut problems = Vec::new();
        let mut read = |key: String, source: &SecretSource| {
            let place = match source {
                SecretSource::File(_) => format!("{key}_file"),
                SecretSource::Credential(_) => format!("{key}_credential"),
                SecretSource::DefaultCredential(_) => key.rsplit_once('.').map_or(key.clone(), |(section, _)| section.to_owned()),
            };
            let secret = source.read(&key, environment);
            secret.map_err(|wrong| problems.push(problem_at(&self.origins, &place, format!("`{key}`: {wrong}")))).ok()
        };
        let _ = self.settings.database_password().and_then(|source| read("database.password".to_owned(), source));
        let mut accounts = BTreeMap::new();
        for (name, account) in &self.settings.accounts {
            let imp_key = read(format!("accounts.{name}.imp_key"), &account.imp_key);
            let imp_secret = read(format!("accounts.{name}.imp_secret"), &account.imp_secret);
            if let (Some(imp_key), Some(imp_secret)) = (imp_key, imp_secret) {
                accounts.insert(name.clone(), AccountKeys { imp_key, imp_secret });
            }
        }
        let mut webhooks = BTreeMap::new();
        for (index, webhook) in self.settings.webhooks.iter().enumerate() {
            if let Some(secret) = read(format!("webhooks.{index}.secret"), &webhook.secret) {
                webhooks.insert(webhook.name.clone(), secret);
            }
        }
        (Secrets { accounts, webhooks }, problems)
    }

    /// Reads what alarms and the heartbeat need.
    ///
    /// # Errors
    /// All that are missing, empty, or readable by everybody.
    pub fn alarm_secrets(&self) -> Result<AlarmSecrets, ConfigErrors> {
        let (secrets, problems) = self.alarm_secrets_in_spite();
        ConfigErrors::unless_none(problems)?;
        Ok(secrets)
    }

    /// Those that can be read, and what is wrong with the others.
    pub fn alarm_secrets_in_spite(&self) -> (AlarmSecrets, Vec<Problem>) {
        let (secrets, problems) = self.settings.alarms.secrets(&self.settings.environment);
        (secrets, problems.into_iter().map(|(key, text)| self.problem(&key, text)).collect())
    }

    /// Something about this key of the config.
    pub fn problem(&self, key: &str, text: String) -> Problem {
        problem_at(&self.origins, key, text)
    }

    /// Every file of the config's that holds a secret.
    pub fn secret_files(&self) -> Vec<&Path> {
        let settings = &self.settings;
        let keys = settings.accounts.values().flat_map(|account| [&account.imp_key, &account.imp_secret]);
        let signing = settings.webhooks.iter().map(|webhook| &webhook.secret);
        let sources = keys.chain(signing).chain(settings.database_password()).chain(settings.alarms.sources());
        sources
            .filter_map(|source| match source {
                SecretSource::File(path) => Some(path.as_path()),
                SecretSource::Credential(_) | SecretSource::DefaultCredential(_) => None,
            })
            .collect()
    }

    /// What a daemon needs beyond a correct config and a plan: an account to charge for.
    ///
    /// # Errors
    /// There is none.
    pub fn runnable(&self) -> Result<(), ConfigErrors> {
        let text = "there is no account: add a section `[accounts.NAME]`".to_owned();
        let missing = self.settings.accounts.is_empty().then_some(Problem { origin: Origin::Default, text });
        ConfigErrors::unless_none(missing.into_iter().collect())
    }
}

fn problem_at(origins: &BTreeMap<Vec<String>, Origin>, key: &str, text: String) -> Problem {
    // a secret may be said to be elsewhere
    let spelt = ["", "_file", "_credential"].map(|suffix| format!("{key}{suffix}"));
    let origin = spelt.iter().find_map(|key| origins.get(&key.split('.').map(str::to_owned).collect::<Vec<_>>()));
    Problem { origin: origin.cloned().unwrap_or(Origin::Default), text }
}

#[cfg(test)]
mod tests;
