//! Where the database is.

use std::fmt;
use std::path::Path;

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
}
