//! `[alarms]`: who is told what, and how.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::secret::{NoSecret, Secret, SecretSource};
use super::settings::{Wrong, span};
use crate::domain::alarm::{Alarm, AlarmKind, Severity};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAlarms {
    pub every: String,
    pub repeat: String,
    pub breaker_after: String,
    pub database_after: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_url_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_url_credential: Option<String>,
    pub heartbeat_every: String,
    pub heartbeat_allow_private: bool,
    pub channel: Vec<RawChannel>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawChannel {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_credential: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_credential: Option<String>,
    pub command: Vec<String>,
    pub severity: String,
    pub kinds: Vec<String>,
    pub allow_private: bool,
    pub timeout: String,
}

impl RawAlarms {
    /// As it may be shown: a path of a URL may be a secret.
    pub fn hide(&mut self) {
        let urls = self.channel.iter_mut().map(|channel| &mut channel.url).chain([&mut self.heartbeat_url]);
        urls.flatten().for_each(|url| *url = host_of(url));
    }
}

fn host_of(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", ""));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    format!("{scheme}://{host}/***")
}

/// Where a URL is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrlSource {
    InConfig(Secret),
    Elsewhere(SecretSource),
}

/// How a channel reaches somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    Webhook { url: UrlSource, secret: SecretSource },
    Slack { url: UrlSource },
    Command { argv: Vec<String> },
}

/// One `[[alarms.channel]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmChannel {
    pub name: String,
    pub by: By,
    pub severity: Severity,
    /// Empty: all.
    pub kinds: BTreeSet<AlarmKind>,
    pub allow_private: bool,
    pub timeout: Duration,
}

impl AlarmChannel {
    /// Whether an alarm is for this channel.
    pub fn takes(&self, kind: AlarmKind) -> bool {
        kind.severity() >= self.severity && (self.kinds.is_empty() || self.kinds.contains(&kind))
    }

    /// The same of something that is about to be sent; a test is for each.
    pub fn takes_alarm(&self, alarm: &Alarm) -> bool {
        alarm.kind.is_none_or(|kind| self.takes(kind))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarms {
    pub every: Duration,
    pub repeat: Duration,
    pub breaker_after: Duration,
    pub database_after: Duration,
    pub heartbeat_url: UrlSource,
    pub heartbeat_every: Duration,
    pub heartbeat_allow_private: bool,
    pub channels: Vec<AlarmChannel>,
}

/// What must not be shown of it, by names of channels.
#[derive(Debug, Clone, Default)]
pub struct AlarmSecrets {
    pub urls: BTreeMap<String, Secret>,
    /// Of webhooks that are signed.
    pub keys: BTreeMap<String, Secret>,
    /// `None`: there is no heartbeat.
    pub heartbeat: Option<Secret>,
}

impl AlarmSecrets {
    /// Whether a channel could be told, as far as secrets go.
    pub fn knows(&self, channel: &AlarmChannel) -> bool {
        matches!(channel.by, By::Command { .. }) || self.urls.contains_key(&channel.name)
    }

    pub fn count(&self) -> usize {
        self.urls.len() + self.keys.len() + usize::from(self.heartbeat.is_some())
    }
}

impl Alarms {
    /// Where its secrets are.
    pub(super) fn sources(&self) -> impl Iterator<Item = &SecretSource> {
        let urls = self.channels.iter().filter_map(|channel| match &channel.by {
            By::Webhook { url, .. } | By::Slack { url } => Some(url),
            By::Command { .. } => None,
        });
        let elsewhere = urls.chain([&self.heartbeat_url]).filter_map(|url| match url {
            UrlSource::Elsewhere(source) => Some(source),
            UrlSource::InConfig(_) => None,
        });
        let signing = self.channels.iter().filter_map(|channel| match &channel.by {
            By::Webhook { secret, .. } => Some(secret),
            By::Slack { .. } | By::Command { .. } => None,
        });
        elsewhere.chain(signing)
    }

    /// With it comes what is wrong: key and words.
    pub(super) fn secrets(&self, environment: &Environment) -> (AlarmSecrets, Vec<(String, String)>) {
        let (mut secrets, mut problems) = (AlarmSecrets::default(), Vec::new());
        let mut note = |key: &str, read: Result<Option<Secret>, NoSecret>| {
            read.map_err(|wrong| problems.push((key.to_owned(), format!("`{key}`: {wrong}")))).ok().flatten()
        };
        for (index, channel) in self.channels.iter().enumerate() {
            let key = |field: &str| format!("alarms.channel.{index}.{field}");
            let (url, secret) = match &channel.by {
                By::Webhook { url, secret } => (url, Some(secret)),
                By::Slack { url } => (url, None),
                By::Command { .. } => continue,
            };
            let read = match url {
                UrlSource::InConfig(url) => Ok(Some(url.clone())),
                UrlSource::Elsewhere(source) => source.read(&key("url"), environment).map(Some),
            };
            if let Some(url) = note(&key("url"), read) {
                secrets.urls.insert(channel.name.clone(), url);
            }
            let read = secret.map_or(Ok(None), |secret| secret.read_if_there(&key("secret"), environment));
            if let Some(secret) = note(&key("secret"), read) {
                secrets.keys.insert(channel.name.clone(), secret);
            }
        }
        let read = match &self.heartbeat_url {
            UrlSource::InConfig(url) => Ok(Some(url.clone())),
            UrlSource::Elsewhere(source) => source.read_if_there("alarms.heartbeat_url", environment),
        };
        secrets.heartbeat = note("alarms.heartbeat_url", read);
        (secrets, problems)
    }
}

pub(super) fn alarms_of(raw: &RawAlarms, wrong: &mut Wrong<'_>) -> Alarms {
    let mut names = BTreeSet::new();
    let mut channels = Vec::new();
    for (index, raw) in raw.channel.iter().enumerate() {
        let key = |field: &str| format!("alarms.channel.{index}.{field}");
        if !raw.name.is_empty() && !names.insert(raw.name.as_str()) {
            wrong.say(&key("name"), format!("two [[alarms.channel]] are called \"{}\"", raw.name));
        }
        channels.extend(channel_of(raw, &key, wrong));
    }
    let url = (raw.heartbeat_url.as_ref(), raw.heartbeat_url_file.as_ref(), raw.heartbeat_url_credential.as_ref());
    Alarms {
        every: span(&raw.every),
        repeat: span(&raw.repeat),
        breaker_after: span(&raw.breaker_after),
        database_after: span(&raw.database_after),
        heartbeat_url: url_of("alarms.heartbeat_url", url, "heartbeat-url".to_owned(), wrong),
        heartbeat_every: span(&raw.heartbeat_every),
        heartbeat_allow_private: raw.heartbeat_allow_private,
        channels,
    }
}

fn channel_of(raw: &RawChannel, key: &dyn Fn(&str) -> String, wrong: &mut Wrong<'_>) -> Option<AlarmChannel> {
    let name = &raw.name;
    let is_command = raw.by == "command";
    if is_command && !raw.command.first().is_some_and(|program| program.starts_with('/')) {
        let text =
            format!("channel `{name}` needs `command = [\"/whole/path\", …]`: a program by its whole path, and its arguments");
        // which is not there, perhaps: the line is that of `by`
        wrong.say(&key("by"), text);
    }
    if !is_command && !raw.command.is_empty() {
        wrong.say(&key("command"), format!("channel `{name}` is no command: leave `command` out, or set `by = \"command\"`"));
    }
    let given = raw.url.is_some() || raw.url_file.is_some() || raw.url_credential.is_some();
    if is_command && given {
        wrong.say(&key("url"), format!("channel `{name}` is a command and has no URL: leave it out, or set another `by`"));
    }
    let url = (raw.url.as_ref(), raw.url_file.as_ref(), raw.url_credential.as_ref());
    let secret = (raw.secret_file.as_ref(), raw.secret_credential.as_ref());
    let by = match raw.by.as_str() {
        "webhook" => By::Webhook {
            url: url_of(&key("url"), url, format!("alarm-{name}-url"), wrong),
            secret: wrong.source(&key("secret"), secret.0, secret.1, format!("alarm-{name}-secret")),
        },
        "slack" => By::Slack { url: url_of(&key("url"), url, format!("alarm-{name}-url"), wrong) },
        "command" => By::Command { argv: raw.command.clone() },
        // a wrong word has been named already
        _ => return None,
    };
    Some(AlarmChannel {
        name: name.clone(),
        by,
        severity: Severity::from_name(&raw.severity).unwrap_or(Severity::Warning),
        kinds: raw.kinds.iter().filter_map(|kind| AlarmKind::from_name(kind)).collect(),
        allow_private: raw.allow_private,
        timeout: span(&raw.timeout),
    })
}

type UrlKeys<'a> = (Option<&'a String>, Option<&'a String>, Option<&'a String>);

fn url_of(key: &str, (url, file, credential): UrlKeys<'_>, default: String, wrong: &mut Wrong<'_>) -> UrlSource {
    let source = wrong.source(key, file, credential, default);
    match url {
        Some(_) if file.is_some() || credential.is_some() => {
            wrong.say(key, format!("`{key}` is given twice, here and by file or credential: keep one"));
            UrlSource::Elsewhere(source)
        }
        Some(url) => UrlSource::InConfig(Secret::new(url.as_str())),
        None => UrlSource::Elsewhere(source),
    }
}
