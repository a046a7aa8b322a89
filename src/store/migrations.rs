//! The schema's versions, embedded in the binary.

use std::collections::BTreeSet;

use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnection;

use super::db::Db;
use super::open::OpenError;
use super::session::FORGET_NAMES;
use super::sql::accounts;

struct Version {
    number: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

/// A version whose file has the same name for both engines.
macro_rules! version {
    ($number:literal, $digits:literal, $name:literal) => {
        Version {
            number: $number,
            name: $name,
            sqlite: include_str!(concat!("../../migrations/sqlite/", $digits, "_", $name, ".sql")),
            postgres: include_str!(concat!("../../migrations/postgres/", $digits, "_", $name, ".sql")),
        }
    };
}

const VERSIONS: &[Version] = &[
    version!(1, "0001", "start"),
    version!(2, "0002", "hot_path"),
    version!(3, "0003", "terms"),
    version!(4, "0004", "config_versions"),
    version!(5, "0005", "dunning"),
    version!(6, "0006", "findings"),
    version!(7, "0007", "plans"),
    version!(8, "0008", "owed"),
    version!(9, "0009", "states"),
    version!(10, "0010", "fuse"),
    version!(11, "0011", "arm"),
    version!(12, "0012", "journal"),
    version!(13, "0013", "findings"),
    version!(14, "0014", "import_holds"),
    version!(15, "0015", "webhooks"),
    version!(16, "0016", "alarms"),
];

/// The names of all indexes, triggers and constraints that the migrations leave behind.
pub(super) fn rules(postgres: bool) -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    for version in VERSIONS {
        let text = if postgres { version.postgres } else { version.sqlite };
        let words: Vec<String> = text
            .lines()
            .map(|line| line.split("--").next().unwrap_or_default())
            .flat_map(|line| line.split(|char: char| !char.is_alphanumeric() && char != '_'))
            .map(str::to_lowercase)
            .filter(|word| !["", "if", "not", "exists"].contains(&word.as_str()))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        for at in 0..words.len() {
            match words[at..] {
                ["create", "index" | "trigger", name, ..]
                | ["create", "unique", "index", name, ..]
                | ["add", "constraint", name, ..] => {
                    rules.insert(name.to_owned());
                }
                ["drop", "index" | "trigger" | "constraint", name, ..] => {
                    rules.remove(name);
                }
                _ => {}
            }
        }
    }
    rules
}

/// The newest version that this binary knows.
fn newest() -> i64 {
    VERSIONS.iter().map(|version| version.number).max().unwrap_or_default()
}

fn migrator(db: &Db) -> Migrator {
    let migrations = VERSIONS.iter().map(|version| {
        let sql = if db.is_postgres() { version.postgres } else { version.sqlite };
        let sql = sqlx::SqlSafeStr::into_sql_str(sql);
        Migration::new(version.number, version.name.into(), MigrationType::Simple, sql, false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    // its own lock belongs to the session, which does not survive pgbouncer: ours belongs to the transaction
    migrator.set_locking(false);
    // those of the next release only add, or `applied` has refused them
    migrator.set_ignore_missing(true);
    migrator
}

/// What the name of a migration begins with that takes something away which the release before still uses. All others only add, so
/// that a release works on the schema of the next one: replicas are upgraded one by one, and may be put back (docs/operating.md).
const CONTRACT: &str = "contract";

/// Versions that the database has. Refuses one that a newer binary has taken something away from.
pub(super) async fn applied(db: &Db) -> Result<Vec<i64>, OpenError> {
    let present = db.read(&accounts::MIGRATIONS_TABLE, &[]).await?;
    if present.first().map_or(Ok(0), |row| row.int("present"))? == 0 {
        return Ok(Vec::new());
    }
    let rows = db.read(&accounts::APPLIED_MIGRATIONS, &[]).await?;
    for row in &rows {
        let (database, binary) = (row.int("version")?, newest());
        if database > binary && row.text("description")?.starts_with(CONTRACT) {
            return Err(OpenError::TooNew { database, binary });
        }
    }
    Ok(rows.iter().map(|row| row.int("version")).collect::<Result<Vec<i64>, _>>()?)
}

/// Versions, with their names, that the database lacks.
pub(super) async fn pending(db: &Db) -> Result<Vec<(i64, String)>, OpenError> {
    let applied = applied(db).await?;
    let missing = VERSIONS.iter().filter(|version| !applied.contains(&version.number));
    Ok(missing.map(|version| (version.number, version.name.to_owned())).collect())
}

/// Brings the schema up to date, all in one transaction. Any number of processes may do so at once.
pub(super) async fn run(db: &Db) -> Result<(), OpenError> {
    if pending(db).await?.is_empty() {
        // still compares checksums below, but without a lock that would wait for writers
        if let Db::Sqlite { .. } = db {
            return Ok(());
        }
    }
    let migrator = migrator(db);
    let done = match db {
        Db::Sqlite { writer, .. } => {
            let run = async |connection: &mut SqliteConnection| {
                let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
                migrator.run(&mut *tx).await?;
                tx.commit().await?;
                Ok(())
            };
            writer.alone(run).await?
        }
        Db::Postgres(server) => {
            let run = async {
                let mut tx = server.pool().begin().await?;
                // another one may be at it, for as long as that takes; what it then does to tables waits for nobody that long
                sqlx::raw_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0").execute(&mut *tx).await?;
                sqlx::raw_sql("SELECT pg_advisory_xact_lock(7236838)").execute(&mut *tx).await?;
                sqlx::raw_sql("SET LOCAL lock_timeout = '10s'").execute(&mut *tx).await?;
                if server.is_pooled() {
                    sqlx::raw_sql(FORGET_NAMES).execute(&mut *tx).await?;
                }
                migrator.run(&mut *tx).await?;
                if server.is_pooled() {
                    sqlx::raw_sql(FORGET_NAMES).execute(&mut *tx).await?;
                }
                tx.commit().await?;
                Ok(())
            };
            run.await
        }
    };
    done.map_err(failed)
}

/// What a step of a migration that failed comes to.
pub(super) fn failed(error: MigrateError) -> OpenError {
    match &error {
        MigrateError::VersionMismatch(version) => OpenError::MigrationChanged(*version),
        // nothing of it was kept either, and nothing is wrong with it: the next start may well succeed
        MigrateError::Execute(inner) | MigrateError::ExecuteMigration(inner, _) if is_away(inner) => {
            OpenError::Unreachable(error.to_string())
        }
        other => OpenError::MigrationFailed(other.to_string()),
    }
}

/// Whether the database went away: a connection that broke, or a server that ends everybody.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(told) => told.code().is_some_and(|code| code.starts_with("57P") || code == "53300"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_connection_that_breaks_is_no_failed_migration() {
        let broken = || sqlx::Error::Io(Error::from(ErrorKind::ConnectionReset));
        for error in [MigrateError::Execute(broken()), MigrateError::ExecuteMigration(broken(), 3)] {
            assert!(matches!(failed(error), OpenError::Unreachable(_)));
        }
        let wrong = MigrateError::ExecuteMigration(sqlx::Error::RowNotFound, 3);
        assert!(matches!(failed(wrong), OpenError::MigrationFailed(_)));
        assert!(matches!(failed(MigrateError::VersionMismatch(3)), OpenError::MigrationChanged(3)));
    }
}
