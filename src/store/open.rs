//! Opening a database, and refusing one that could lose what it has acknowledged.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::codec::Row;
use super::db::{Db, Fault, fault};
use super::group::Writer;
use super::session::{PATIENT, Server};
use super::sql::accounts;
use crate::ports::store::StoreError;

/// Page caches, in KiB (negative, as SQLite wants it): the daemon stays small, and the kernel caches the rest.
const WRITER_CACHE: &str = "-8192";
const READER_CACHE: &str = "-1024";

/// How long another program's transaction on a SQLite file is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// Older servers lack statements of ours, and their makers support them no more.
const OLDEST_POSTGRES: i64 = 13;

/// How to open a database.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Names of the webhook endpoints that each event is to be delivered to.
    pub endpoints: Vec<String>,
    /// Whether a missing SQLite file is made.
    pub create: bool,
    /// Connections at most, to Postgres; and readers of a SQLite file.
    pub max_connections: u32,
    /// A pooler between us and Postgres gives each transaction another session.
    pub pooled: bool,
    /// Where Postgres itself is, for the one connection that listens; `None`: at the database's own URL, unless it is `pooled`.
    pub listen_url: Option<String>,
    /// The wait for one answer of Postgres, at most. What was not answered by then is unknown.
    pub answer_within: Duration,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { endpoints: Vec::new(), create: false, max_connections: 4, pooled: false, listen_url: None, answer_within: PATIENT }
    }
}

/// Why a database cannot be worked with, named for the remedy. No message shows a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("`{0}` is no database URL: write sqlite:PATH or postgres://USER@HOST/DATABASE")]
    BadUrl(String),
    #[error("there is no database file {0}: check the path, or run `rebilld migrate`")]
    Missing(PathBuf),
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    #[error(
        "the database is read-only: point the URL at the primary, or check the permissions of the file and its directory ({0})"
    )]
    ReadOnly(String),
    #[error(
        "another program has held the database file for {seconds} s and more: end its transaction, or close it, then try again ({0})",
        seconds = BUSY.as_secs()
    )]
    Busy(String),
    #[error("the database may lose what it has acknowledged: `{setting}` is `{value}`, and has to be {wanted}")]
    NotDurable { setting: &'static str, value: String, wanted: &'static str },
    #[error("the database was migrated to version {database} by a newer rebilld; this one knows {binary}: upgrade it")]
    TooNew { database: i64, binary: i64 },
    #[error("the PostgreSQL server has version {major}, and rebilld needs {} or later: upgrade the server", OLDEST_POSTGRES)]
    ServerTooOld { major: i64 },
    #[error("the database has not been migrated: run `rebilld migrate`")]
    NotMigrated,
    #[error("migration {0} of this database is not the one that this rebilld knows: restore the matching release")]
    MigrationChanged(i64),
    #[error("the migration failed, and nothing of it was kept: {0}")]
    MigrationFailed(String),
    #[error("the database belongs to the tag `{database}`, and the config says `{config}`: check which database this is")]
    WrongTag { database: String, config: String },
    #[error("another daemon works on this file: it holds {0}")]
    Locked(PathBuf),
    #[error("the lock file {path} cannot be used: {why}")]
    LockFile { path: PathBuf, why: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        Self::Store(fault.into())
    }
}

/// What a URL points at.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
}

impl FromStr for Target {
    type Err = OpenError;

    fn from_str(url: &str) -> Result<Self, OpenError> {
        if let Some(path) = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")) {
            let in_memory = path.is_empty() || path.contains(":memory:") || path.contains('?');
            return if in_memory { Err(OpenError::BadUrl(url.to_owned())) } else { Ok(Self::Sqlite(path.into())) };
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url).map_err(|_| OpenError::BadUrl(without_password(url)))?;
            let options = options.application_name("rebilld").disable_statement_logging();
            return Ok(Self::Postgres(Box::new(options)));
        }
        Err(OpenError::BadUrl(without_password(url)))
    }
}

/// A URL as it may be shown.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let place = place.split_once('?').map_or(place, |(place, _)| place);
    if scheme.is_empty() { "…".to_owned() } else { format!("{scheme}://…@{place}") }
}

/// Makes a new database file readable by its owner alone, whatever the umask: it holds billing keys and names. SQLite gives its side
/// files (`-wal`, `-shm`) the same mode. A file that is there keeps its mode; one that cannot be made is SQLite's to complain about.
fn for_its_owner_alone(path: &Path) {
    let _ = File::options().write(true).create_new(true).mode(0o600).open(path);
}

pub(super) async fn sqlite(path: &Path, options: &OpenOptions) -> Result<Db, OpenError> {
    if !options.create && !path.exists() {
        return Err(OpenError::Missing(path.to_owned()));
    }
    if options.create {
        for_its_owner_alone(path);
    }
    let connect = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(options.create)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        // a batch's rows come over in one go: a smaller buffer wakes the reading task for each few of them
        .row_buffer_size(1024)
        .pragma("temp_store", "MEMORY")
        // pages: a checkpoint for each 32 MB and not for every other batch
        .pragma("wal_autocheckpoint", "8000")
        .disable_statement_logging();
    // one connection writes, so that writers of this process queue here and not in SQLite's busy handler
    let pool = |max| {
        SqlitePoolOptions::new()
            .max_connections(max)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(Duration::from_secs(30))
    };
    // without the files beside it SQLite cannot even read a WAL database in a directory that cannot be written
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_read_only = || path.exists() && rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).is_err();
    let told = |error: sqlx::Error| {
        let why = format!("{}: {error}", path.display());
        match fault("open", &error) {
            Fault::Busy(_) => OpenError::Busy(why),
            _ if is_read_only() => OpenError::ReadOnly(why),
            _ => OpenError::Unreachable(why),
        }
    };
    let writer = pool(1).connect_with(connect.clone().pragma("cache_size", WRITER_CACHE)).await.map_err(told)?;
    let readers = options.max_connections.max(1);
    let reader =
        pool(readers).connect_with(connect.pragma("cache_size", READER_CACHE).pragma("query_only", "ON")).await.map_err(told)?;
    let db = Db::Sqlite { writer: Writer::new(writer), reader };
    let unwritable = |fault: Fault| match fault {
        Fault::Busy(why) => OpenError::Busy(format!("{}: {why}", path.display())),
        other => OpenError::ReadOnly(other.to_string()),
    };
    let mut tx = db.begin().await.map_err(unwritable)?;
    // BEGIN IMMEDIATE of a file that cannot be written begins a transaction that reads: only a write tells
    tx.execute(&accounts::TRY_TO_WRITE, &[]).await.map_err(unwritable)?;
    let rows = tx.query(&accounts::DURABILITY, &[]).await?;
    for row in &rows {
        let wanted = [
            ("journal_mode", row.text("journal_mode")?, "wal"),
            ("synchronous", row.int("synchronous")?.to_string(), "2"),
            ("foreign_keys", row.int("foreign_keys")?.to_string(), "1"),
            ("busy_timeout", row.int("busy_timeout")?.to_string(), "5000"),
        ];
        refuse(wanted)?;
    }
    drop(tx);
    Ok(db)
}

fn refuse(settings: impl IntoIterator<Item = (&'static str, String, &'static str)>) -> Result<(), OpenError> {
    match settings.into_iter().find(|(_, value, wanted)| value != wanted) {
        Some((setting, value, wanted)) => Err(OpenError::NotDurable { setting, value, wanted }),
        None => Ok(()),
    }
}

pub(super) async fn postgres(connect: &PgConnectOptions, options: &OpenOptions) -> Result<Db, OpenError> {
    let told = |error: sqlx::Error| OpenError::Unreachable(error.to_string());
    let server = Server::connect(connect, options.pooled, options.max_connections, options.answer_within).await.map_err(told)?;
    let db = Db::Postgres(server);
    for row in db.read(&accounts::DURABILITY, &[]).await? {
        recent(row.int("version")?)?;
        durable(&row)?;
    }
    // a standby refuses to begin a transaction that writes
    db.begin().await.map(drop).map_err(|fault| OpenError::ReadOnly(fault.to_string()))?;
    Ok(db)
}

/// `version` as the server numbers it: 150013 is 15.13.
fn recent(version: i64) -> Result<(), OpenError> {
    let major = version / 10_000;
    if major < OLDEST_POSTGRES { Err(OpenError::ServerTooOld { major }) } else { Ok(()) }
}

/// What a server says of itself: whether a COMMIT that it acknowledges survives its end.
pub(super) fn durable(row: &Row) -> Result<(), OpenError> {
    refuse([("fsync", row.text("fsync")?, "on"), ("full_page_writes", row.text("full_page_writes")?, "on")])?;
    let value = row.text("synchronous_commit")?;
    if value == "off" {
        return Err(OpenError::NotDurable { setting: "synchronous_commit", value, wanted: "on" });
    }
    Ok(())
}

impl super::Database {
    /// What a standby that is promoted may lack, if there is one, for people.
    pub async fn standby_gap(&self) -> Result<Option<String>, Fault> {
        let rows = self.read(&accounts::STANDBYS, &[]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(gap(&row.text("synchronous_commit")?, &row.text("names")?, row.int("standbys")?))
    }
}

fn gap(synchronous_commit: &str, names: &str, standbys: i64) -> Option<String> {
    let lacks = "a standby that is promoted may lack the last commits";
    match (names.trim(), synchronous_commit) {
        ("", _) if standbys == 0 => None,
        ("", _) => Some(format!(
            "something replicates from it, and nothing does synchronously (`synchronous_standby_names` is empty): {lacks}"
        )),
        (_, "on" | "remote_apply") => None,
        (_, other) => {
            Some(format!("`synchronous_commit` is `{other}`, so that a COMMIT does not wait for the standby's disk: {lacks}"))
        }
    }
}

/// The sole right of a daemon to work on a SQLite file, for as long as this value lives.
#[derive(Debug)]
pub struct DaemonLock {
    _file: Option<File>,
}

impl DaemonLock {
    /// Postgres needs none: claims keep replicas apart.
    pub(super) fn not_needed() -> Self {
        Self { _file: None }
    }

    /// Locks a file beside the database, so that the command line and an operator's own SQL still work.
    pub(super) fn beside(database: &Path) -> Result<Self, OpenError> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let unusable = |why: std::io::Error| OpenError::LockFile { path: path.clone(), why: why.to_string() };
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(unusable)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(path)),
            Err(other) => Err(unusable(other.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_ever_shown() {
        for url in ["postgres://me:hunter2@host:notaport/db", "mysql://me:hunter2@host/db?password=hunter2", "hunter2"] {
            let shown = Target::from_str(url).unwrap_err().to_string();
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn an_old_server_is_refused_by_name() {
        assert!(recent(130_000).is_ok() && recent(170_002).is_ok());
        let said = recent(120_022).unwrap_err().to_string();
        assert_eq!(said, "the PostgreSQL server has version 12, and rebilld needs 13 or later: upgrade the server");
    }

    #[test]
    fn only_a_synchronous_standby_keeps_what_was_acknowledged() {
        let lacks =
            |commit, names, standbys| gap(commit, names, standbys).is_some_and(|what| what.contains("may lack the last commits"));
        assert!(!lacks("on", "", 0) && !lacks("local", " ", 0), "there is no standby");
        assert!(lacks("on", "", 1) && lacks("remote_apply", "", 2), "an asynchronous one");
        assert!(!lacks("on", "one", 1) && !lacks("remote_apply", "ANY 1 (a, b)", 2));
        assert!(lacks("local", "one", 1) && lacks("remote_write", "one", 1));
    }

    #[test]
    fn a_database_in_memory_is_refused() {
        assert!(matches!(Target::from_str("sqlite::memory:"), Err(OpenError::BadUrl(_))));
        assert!(matches!(Target::from_str("sqlite:some/file.db"), Ok(Target::Sqlite(_))));
        assert!(matches!(Target::from_str("sqlite:///some/file.db"), Ok(Target::Sqlite(path)) if path.is_absolute()));
    }
}
