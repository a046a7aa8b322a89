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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use crate::config::{ConfigErrors, Environment, Loaded, Sources, load};

    fn load_text(text: &str) -> Result<Loaded, ConfigErrors> {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        load(&Sources { files: vec![file.path().to_path_buf()], environment: Environment::default(), options: Vec::new() })
    }

    #[test]
    fn poolers_belong_to_postgres_and_the_url_past_them_is_hidden_too() {
        let of = "[database]\nurl = \"sqlite:a.db\"\npooled = true\nlisten_url = \"postgres://db/a\"\n";
        let wrong = load_text(of).unwrap_err().0;
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].text.contains("no pooler before a SQLite file"), "{wrong:?}");
        assert!(wrong[1].text.contains("only PostgreSQL tells of rows"), "{wrong:?}");
        let of = "[database]\nurl = \"postgres://db/a\"\npooled = true\nlisten_url = \"postgres://me:hunter2@db/a\"\n";
        let loaded = load_text(of).unwrap();
        assert!(loaded.settings.database.pooled);
        assert_eq!(loaded.settings.listen_url().unwrap().as_deref(), Some("postgres://me:hunter2@db/a"));
        for shown in [loaded.toml(), loaded.json().to_string(), format!("{:?}", loaded.settings)] {
            assert!(shown.contains("me:***@db") && !shown.contains("hunter2"), "{shown}");
        }
    }
}
