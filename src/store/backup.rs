//! A copy of a SQLite database while others work with it.

use std::fs::{File, OpenOptions as FileOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::Database;
use super::db::{Fault, fault};
use super::open::Target;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    pub bytes: u64,
    /// How far sends had come.
    pub high_water: i64,
}

/// Why there is no copy; what was begun of it is gone.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("`rebilld backup` copies SQLite files; PostgreSQL has pg_dump and pg_basebackup (docs/backup.md)")]
    NotSqlite,
    #[error("{0} exists already: name a new file, and remove old ones yourself")]
    Exists(PathBuf),
    #[error("{path} cannot be written: {why}")]
    Unwritable { path: PathBuf, why: std::io::Error },
    #[error("the copy {path} is damaged ({why}) and was removed: check the disk, and the database with `PRAGMA integrity_check`")]
    Damaged { path: PathBuf, why: String },
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Database {
    /// Copies all that is committed at the moment into a new file (`VACUUM INTO`), reads it through, and makes it durable under
    /// its name only then. Only its owner can read it: it holds billing keys.
    pub async fn backup(&self, to: &Path) -> Result<Copied, BackupError> {
        let Target::Sqlite(from) = &self.target else { return Err(BackupError::NotSqlite) };
        if to.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(to.to_owned()));
        }
        let mut name = to.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        let copied = copy(from, &part).await;
        let done = copied.and_then(|copied| keep(&part, to).map(|()| copied));
        if done.is_err() {
            // best effort: the error says what went wrong before
            let _ = std::fs::remove_file(&part);
        }
        done
    }
}

async fn copy(from: &Path, part: &Path) -> Result<Copied, BackupError> {
    let unwritable = |why| BackupError::Unwritable { path: part.to_owned(), why };
    // an empty file of our own mode, so that nobody else can open what comes into it
    let made = FileOptions::new().write(true).create(true).truncate(true).mode(0o600).open(part).map_err(unwritable)?;
    made.set_permissions(Permissions::from_mode(0o600)).map_err(unwritable)?;
    drop(made);
    let told = |error: sqlx::Error| fault("backup", &error);
    let open = |path: &Path| {
        SqliteConnectOptions::new().filename(path).busy_timeout(std::time::Duration::from_secs(60)).disable_statement_logging()
    };
    let mut connection = SqliteConnection::connect_with(&open(from)).await.map_err(told)?;
    let vacuumed = sqlx::query("VACUUM INTO ?1").bind(part.to_string_lossy().into_owned()).execute(&mut connection).await;
    connection.close().await.map_err(told)?;
    vacuumed.map_err(told)?;
    // what is read now is what a restore would read
    let mut connection = SqliteConnection::connect_with(&open(part).read_only(true).immutable(true)).await.map_err(told)?;
    let checked = check(&mut connection).await;
    connection.close().await.map_err(told)?;
    let high_water = checked.map_err(|error| BackupError::Damaged { path: part.to_owned(), why: error.to_string() })?;
    let high_water = high_water.map_err(|why| BackupError::Damaged { path: part.to_owned(), why })?;
    let bytes = std::fs::metadata(part).map_err(unwritable)?.len();
    Ok(Copied { bytes, high_water })
}

async fn check(connection: &mut SqliteConnection) -> Result<Result<i64, String>, sqlx::Error> {
    let found: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut *connection).await?;
    if found != "ok" {
        return Ok(Err(found));
    }
    sqlx::query_scalar("SELECT high_water FROM settings").fetch_one(connection).await.map(Ok)
}

/// Durable, and then under its name.
fn keep(part: &Path, to: &Path) -> Result<(), BackupError> {
    let unwritable = |why| BackupError::Unwritable { path: to.to_owned(), why };
    File::open(part).and_then(|file| file.sync_all()).map_err(unwritable)?;
    // unlike a rename, a link never takes the place of a file that came meanwhile
    std::fs::hard_link(part, to).map_err(unwritable)?;
    std::fs::remove_file(part).map_err(unwritable)?;
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(unwritable)
}
