//! Where the database of a seed is: a SQLite file, in memory if the machine has a disk there, made once and copied for each seed; or a
//! PostgreSQL database of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rebilld::store::{Database, OpenOptions};
use sqlx::Executor;
use tempfile::TempDir;

use crate::book::TAG;
use crate::faults::Swarm;
use crate::stage::at_once;
use crate::support::postgres::{TestDatabase, database};

/// What keeps the books of one seed.
pub enum Disk {
    File(TempDir),
    Server(Option<TestDatabase>),
}

fn options(create: bool) -> OpenOptions {
    OpenOptions { endpoints: vec!["app".to_owned()], create, max_connections: 2, ..OpenOptions::default() }
}

/// A directory that is gone with the run; in memory where that is possible.
fn place() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = tempfile::Builder::new().prefix("rebilld-sim").tempdir_in(memory);
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

fn url(file: &Path) -> String {
    format!("sqlite:{}", file.display())
}

/// Brings the schema up. A database that belongs to nobody yet cannot be copied.
async fn migrate(database: &Database) {
    database.migrate().await.unwrap();
    database.bind_identity(TAG.parse().unwrap(), "simulated", Swarm::default().start()).await.unwrap();
}

/// A migrated file that nobody has opened since, as its bytes: what a static holds is never dropped, and a directory would stay.
fn template() -> &'static [u8] {
    static TEMPLATE: OnceLock<Vec<u8>> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let directory = place();
        let (made, file) = (directory.path().join("made.db"), directory.path().join("template.db"));
        at_once(async {
            let database = Database::open(&url(&made), options(true)).await.unwrap();
            migrate(&database).await;
            database.backup(&file).await.unwrap();
            database.close().await;
        });
        std::fs::read(file).unwrap()
    })
}

impl Disk {
    pub fn file() -> Self {
        let directory = place();
        std::fs::write(Self::path(&directory), template()).unwrap();
        Self::File(directory)
    }

    /// Charges come one at a time here, so planning each batch of one takes longer than its answer: one plan serves for all.
    pub fn server() -> Self {
        let setting = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET plan_cache_mode = force_generic_plan', current_database()); END $$";
        Self::Server(Some(at_once(async {
            let made = database().await;
            made.connect().await.execute(setting).await.unwrap();
            made
        })))
    }

    fn path(directory: &TempDir) -> PathBuf {
        directory.path().join("sim.db")
    }

    pub fn open(&self) -> Arc<Database> {
        at_once(async {
            match self {
                Self::File(directory) => Arc::new(Database::open(&url(&Self::path(directory)), options(false)).await.unwrap()),
                Self::Server(at) => {
                    let database = Database::open(&at.as_ref().unwrap().url, options(false)).await.unwrap();
                    migrate(&database).await;
                    Arc::new(database)
                }
            }
        })
    }

    fn directory(&self) -> &TempDir {
        match self {
            Self::File(directory) => directory,
            Self::Server(_) => panic!("copies are made of files alone"),
        }
    }

    /// Copies the database as it is now.
    pub fn snapshot(&self, database: &Database, name: &str) {
        let to = self.directory().path().join(name);
        let _ = std::fs::remove_file(&to);
        at_once(database.backup(&to)).unwrap();
    }

    /// Puts a copy in its place. Nobody may have it open.
    pub fn restore(&self, name: &str) {
        let file = Self::path(self.directory());
        std::fs::copy(self.directory().path().join(name), &file).unwrap();
        for rest in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{rest}", file.display()));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Self::Server(database) = self
            && let Some(database) = database.take()
        {
            at_once(database.remove());
        }
    }
}
