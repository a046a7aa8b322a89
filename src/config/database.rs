//! `[database]`: where the book is, and how long it is waited for.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::raw::Raw;
use super::settings::{Wrong, span};

#[derive(Debug, Clone)]
pub struct Database {
    pub url: DatabaseUrl,
    pub max_connections: u32,
    /// A pooler gives each transaction another session.
    pub pooled: bool,
    /// Where PostgreSQL itself is, for the connection that listens.
    pub listen_url: Option<DatabaseUrl>,
    /// The daemon's wait for one answer, at most.
    pub answer_timeout: Duration,
}

/// A database URL whose password is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// With the password, for whoever connects.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The file of a SQLite URL.
    pub fn sqlite_path(&self) -> Option<&Path> {
        let path = self.0.strip_prefix("sqlite:")?;
        let path = path.strip_prefix("//").unwrap_or(path);
        Some(Path::new(path))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // parameters may hold a password too
        let (main, parameters) = match self.0.split_once('?') {
            Some((main, _)) if !self.0.starts_with("sqlite:") => (main, "?***"),
            _ => (self.0.as_str(), ""),
        };
        let user_info = main.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?)));
        match user_info {
            Some((scheme, (user, rest))) if user.contains(':') => {
                let user = user.split(':').next().unwrap_or_default();
                write!(f, "{scheme}://{user}:***@{rest}{parameters}")
            }
            _ => write!(f, "{main}{parameters}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(super) fn database_of(raw: &Raw, url: DatabaseUrl, wrong: &mut Wrong<'_>) -> Database {
    let raw = &raw.database;
    if url.sqlite_path().is_some() && raw.pooled {
        wrong.say("database.pooled", "there is no pooler before a SQLite file: leave it out".to_owned());
    }
    let elsewhere = raw.listen_url.as_deref().is_some_and(|listen| url.sqlite_path().is_some() || listen.starts_with("sqlite:"));
    if elsewhere {
        wrong
            .say("database.listen_url", "only PostgreSQL tells of rows: it belongs to a `postgres://` URL and is one".to_owned());
    }
    Database {
        url,
        max_connections: raw.max_connections,
        pooled: raw.pooled,
        listen_url: raw.listen_url.clone().map(DatabaseUrl::new),
        answer_timeout: span(&raw.answer_timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlite_url_names_its_file() {
        for (url, path) in
            [("sqlite:a/b.db", Some("a/b.db")), ("sqlite:///var/b.db", Some("/var/b.db")), ("postgres://x/y", None)]
        {
            assert_eq!(DatabaseUrl::new(url).sqlite_path(), path.map(Path::new), "{url}");
        }
    }

    #[test]
    fn a_password_in_a_database_url_is_not_shown() {
        for (url, shown) in [
            ("postgres://rebilld:hunter2@db/rebilld", "postgres://rebilld:***@db/rebilld"),
            ("postgres://rebilld:h@nter2@db/rebilld", "postgres://rebilld:***@db/rebilld"),
            ("postgres://db/rebilld?user=x&password=hunter2", "postgres://db/rebilld?***"),
            ("postgres://rebilld@db/rebilld", "postgres://rebilld@db/rebilld"),
            ("sqlite:rebilld.db", "sqlite:rebilld.db"),
        ] {
            assert_eq!(DatabaseUrl::new(url).to_string(), shown);
        }
    }
}
