//! The settings in effect, for people and for machines. Secrets are named by their files, never shown.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::Loaded;
use super::database_url::DatabaseUrl;

impl Loaded {
    /// As JSON: every key that has a value.
    pub fn json(&self) -> Json {
        let mut raw = self.raw.clone();
        raw.database.url = DatabaseUrl::new(raw.database.url).to_string();
        for webhook in &mut raw.webhooks {
            webhook.url = without_query(&webhook.url);
        }
        raw.state_dir = Some(self.settings.state_dir.display().to_string());
        raw.kill_file = Some(self.settings.kill_file.display().to_string());
        serde_json::to_value(raw).unwrap_or(Json::Null)
    }

    /// As TOML, each line with where its value comes from.
    pub fn toml(&self) -> String {
        let mut text = String::new();
        self.table(&mut text, &mut Vec::new(), &self.json());
        text
    }

    fn table(&self, text: &mut String, path: &mut Vec<String>, node: &Json) {
        let Json::Object(map) = node else { return };
        let is_plain = |list: &Vec<Json>| list.first().is_some_and(|entry| !entry.is_object());
        let is_section = |value: &Json| value.is_object() || value.as_array().is_some_and(|list| !is_plain(list));
        for (name, value) in map.iter().filter(|(_, value)| !is_section(value)) {
            path.push(name.clone());
            let line = format!("{name} = {}", toml(value));
            let origin = self.origins.get(path.as_slice()).map_or_else(|| "default".to_owned(), ToString::to_string);
            let _ = writeln!(text, "{line:<52} # {origin}");
            path.pop();
        }
        for (name, value) in map.iter().filter(|(_, value)| is_section(value)) {
            path.push(name.clone());
            match value {
                Json::Array(list) => {
                    for (index, entry) in list.iter().enumerate() {
                        let _ = writeln!(text, "\n[[{}]]", path.join("."));
                        path.push(index.to_string());
                        self.table(text, path, entry);
                        path.pop();
                    }
                }
                Json::Object(map) if map.values().any(|value| !is_section(value)) => {
                    let header: Vec<String> = path.iter().map(|part| bare(part)).collect();
                    let _ = writeln!(text, "\n[{}]", header.join("."));
                    self.table(text, path, value);
                }
                _ => self.table(text, path, value),
            }
            path.pop();
        }
    }
}

/// A name as a TOML key.
fn bare(name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if plain { name.to_owned() } else { format!("\"{name}\"") }
}

fn toml(value: &Json) -> String {
    match value {
        Json::String(text) => toml_edit::Value::from(text.as_str()).to_string(),
        other => other.to_string(),
    }
}

/// A receiver's URL may carry a token in its query.
fn without_query(url: &str) -> String {
    match url.split_once('?') {
        Some((main, _)) => format!("{main}?***"),
        None => url.to_owned(),
    }
}
