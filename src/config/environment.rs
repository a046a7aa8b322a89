//! The process environment, read once and handed on.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The variables that the program looks at; tests make their own.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// That of this process. Names and values that are no text are left out.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect(),
        )
    }

    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// `REBILLD_` variables, by the rest of their names.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, value)| Some((name.strip_prefix("REBILLD_")?, value.as_str())))
    }

    pub fn credentials_directory(&self) -> Option<PathBuf> {
        self.get("CREDENTIALS_DIRECTORY").map(PathBuf::from)
    }

    /// systemd may give several, parted by colons: the first is ours.
    pub fn state_directory(&self) -> Option<PathBuf> {
        self.get("STATE_DIRECTORY").and_then(|list| list.split(':').next()).map(PathBuf::from)
    }
}
