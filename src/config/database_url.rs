//! Where the database is, and how its password gets into the URL without being seen.

use std::fmt;
use std::path::Path;

use super::problem::{ConfigErrors, Origin, Problem};
use super::secret::{NoSecret, Secret, SecretSource};
use super::settings::Settings;

/// A database URL whose password is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// What a connection is made with: with the password, if this names a server and has none of its own.
    fn with_password(&self, password: &Secret) -> String {
        let Some((scheme, rest)) = self.0.split_once("://").filter(|_| !self.0.starts_with("sqlite:")) else {
            return self.0.clone();
        };
        let place = rest.split(['/', '?']).next().unwrap_or_default();
        let user = place.rsplit_once('@').map(|(user, _)| user);
        if user.is_some_and(|user| user.contains(':')) {
            return self.0.clone();
        }
        let escaped: String = password.reveal().bytes().map(escaped).collect();
        match user {
            Some(user) => format!("{scheme}://{user}:{escaped}{}", &rest[user.len()..]),
            // the user may be a parameter, and so may the password
            None => format!("{}{}password={escaped}", self.0, if rest.contains('?') { '&' } else { '?' }),
        }
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

/// A byte as it may stand anywhere in a URL.
fn escaped(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

impl Settings {
    /// The database URL with its password, for whoever connects. Never for a log or an error.
    ///
    /// # Errors
    /// The file of the password is missing, empty, or readable by everybody.
    pub fn database_url(&self) -> Result<String, ConfigErrors> {
        self.with_password(&self.database.url)
    }

    /// The URL past the pooler, with the same password.
    ///
    /// # Errors
    /// As before.
    pub fn listen_url(&self) -> Result<Option<String>, ConfigErrors> {
        self.database.listen_url.as_ref().map(|url| self.with_password(url)).transpose()
    }

    fn with_password(&self, url: &DatabaseUrl) -> Result<String, ConfigErrors> {
        let text = |wrong: NoSecret| format!("`database.password_file`: {wrong}");
        let Some(source) = self.database_password() else { return Ok(url.0.clone()) };
        match source.read("database.password", &self.environment) {
            Ok(password) => Ok(url.with_password(&password)),
            Err(wrong) => Err(ConfigErrors(vec![Problem { origin: Origin::Default, text: text(wrong) }])),
        }
    }

    /// Where its password is to be read, if it is anywhere but in the URL.
    pub(super) fn database_password(&self) -> Option<&SecretSource> {
        self.database.password.as_ref().filter(|_| self.database.url.sqlite_path().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_sqlite_url_names_its_file() {
        for (url, path) in
            [("sqlite:a/b.db", Some("a/b.db")), ("sqlite:///var/b.db", Some("/var/b.db")), ("postgres://x/y", None)]
        {
            assert_eq!(DatabaseUrl::new(url).sqlite_path(), path.map(Path::new), "{url}");
        }
    }

    #[test]
    fn a_password_joins_the_url_that_has_none() {
        let password = Secret::new("h@n/t:er 2");
        for (url, joined) in [
            (
                "postgres://rebilld@db:5432/rebilld?sslmode=require",
                "postgres://rebilld:h%40n%2Ft%3Aer%202@db:5432/rebilld?sslmode=require",
            ),
            ("postgres://rebilld@db", "postgres://rebilld:h%40n%2Ft%3Aer%202@db"),
            ("postgres://db/rebilld?user=x", "postgres://db/rebilld?user=x&password=h%40n%2Ft%3Aer%202"),
            ("postgres:///rebilld", "postgres:///rebilld?password=h%40n%2Ft%3Aer%202"),
            ("postgres://rebilld:own@db/rebilld", "postgres://rebilld:own@db/rebilld"),
            ("sqlite:rebilld.db", "sqlite:rebilld.db"),
        ] {
            assert_eq!(DatabaseUrl::new(url).with_password(&password), joined);
        }
    }
}
