//! `[database]`: where the book is, and how long it is waited for.

use std::time::Duration;

use super::database_url::DatabaseUrl;
use super::raw::Raw;
use super::secret::SecretSource;
use super::settings::{Wrong, span};

#[derive(Debug, Clone)]
pub struct Database {
    pub url: DatabaseUrl,
    /// A file with its password.
    pub(super) password: Option<SecretSource>,
    pub max_connections: u32,
    /// A pooler gives each transaction another session.
    pub pooled: bool,
    /// Where PostgreSQL itself is, for the connection that listens.
    pub listen_url: Option<DatabaseUrl>,
    /// The daemon's wait for one answer, at most.
    pub answer_timeout: Duration,
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
        password: raw.password_file.as_ref().map(|path| SecretSource::File(path.into())),
        max_connections: raw.max_connections,
        pooled: raw.pooled,
        listen_url: raw.listen_url.clone().map(DatabaseUrl::new),
        answer_timeout: span(&raw.answer_timeout),
    }
}
