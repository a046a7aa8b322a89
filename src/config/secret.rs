//! Secrets: read from files that only their owner can read, and never shown.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::environment::Environment;
pub use crate::ports::secret::Secret;

/// Where a secret is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    File(PathBuf),
    /// A file in systemd's `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// No key of the config says it: the systemd credential of this name, if there is one.
    DefaultCredential(String),
}

/// Why a secret cannot be had. The texts name files, never contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSecret {
    #[error("nothing says where it is: set `{0}_file`, or pass the systemd credential `{1}`")]
    Unset(String, String),
    #[error("there is no systemd credential `{0}`: $CREDENTIALS_DIRECTORY is not set (see LoadCredential= in systemd.exec(5))")]
    NoCredentials(String),
    #[error("{path} cannot be read: {error}")]
    Unreadable { path: String, error: String },
    #[error("{path} can be read by everybody on this machine (mode {mode:03o}): run `chmod o= {path}`")]
    Open { path: String, mode: u32 },
    #[error("{0} is empty")]
    Empty(String),
    #[error("{0} holds more than one line, or something that is no text")]
    Odd(String),
}

impl SecretSource {
    /// `key` is the config key without its `_file`, for the message.
    pub fn read(&self, key: &str, environment: &Environment) -> Result<Secret, NoSecret> {
        let directory = environment.credentials_directory();
        match self {
            Self::File(path) => read(path, true),
            Self::Credential(name) => {
                let directory = directory.ok_or_else(|| NoSecret::NoCredentials(name.clone()))?;
                // systemd itself guards that directory
                read(&directory.join(name), false)
            }
            Self::DefaultCredential(name) => {
                let path = directory.map(|directory| directory.join(name)).filter(|path| path.exists());
                let path = path.ok_or_else(|| NoSecret::Unset(key.to_owned(), name.clone()))?;
                read(&path, false)
            }
        }
    }
}

impl SecretSource {
    /// The same of a secret that need not be there: without a key of the config and without the credential there is none.
    pub fn read_if_there(&self, key: &str, environment: &Environment) -> Result<Option<Secret>, NoSecret> {
        match self.read(key, environment) {
            Err(NoSecret::Unset(..)) => Ok(None),
            read => read.map(Some),
        }
    }
}

fn read(path: &Path, guarded: bool) -> Result<Secret, NoSecret> {
    let shown = path.display().to_string();
    let unreadable = |error: std::io::Error| NoSecret::Unreadable { path: shown.clone(), error: error.to_string() };
    if guarded {
        let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(NoSecret::Open { path: shown, mode });
        }
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| NoSecret::Odd(shown.clone()))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err(NoSecret::Empty(shown));
    }
    if text.chars().any(char::is_control) || text.len() > 4096 {
        return Err(NoSecret::Odd(shown));
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    fn read(file: &tempfile::NamedTempFile) -> Result<Secret, NoSecret> {
        SecretSource::File(file.path().into()).read("accounts.main.imp_secret", &Environment::default())
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_remedy() {
        let open = file("hunter2\n", 0o644);
        let wrong = read(&open).unwrap_err().to_string();
        assert!(wrong.contains(&format!("chmod o= {}", open.path().display())), "{wrong}");
        assert_eq!(read(&file("hunter2\r\n", 0o640)), Ok(Secret::new("hunter2")));
    }

    #[test]
    fn an_empty_or_odd_file_is_named() {
        assert!(matches!(read(&file("\n", 0o600)), Err(NoSecret::Empty(_))));
        assert!(matches!(read(&file("a\nb", 0o600)), Err(NoSecret::Odd(_))));
    }

    #[test]
    fn a_credential_is_found_by_its_default_name() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("main-imp-key"), "key").unwrap();
        let environment = Environment::of([("CREDENTIALS_DIRECTORY", directory.path().to_str().unwrap())]);
        let source = |name: &str| SecretSource::DefaultCredential(name.into());
        assert_eq!(source("main-imp-key").read("accounts.main.imp_key", &environment), Ok(Secret::new("key")));
        let wrong = source("main-imp-secret").read("accounts.main.imp_secret", &environment).unwrap_err();
        assert!(wrong.to_string().contains("`accounts.main.imp_secret_file`"), "{wrong}");
    }
}
