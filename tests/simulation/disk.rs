//! Where the database of a seed is: in memory if the machine has a disk there, made once and copied for each seed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rebilld::store::{Database, OpenOptions};
use tempfile::TempDir;

use crate::book::{TAG, start};
use crate::stage::at_once;

/// A directory for one seed, and the database in it.
pub struct Disk {
    directory: TempDir,
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

/// Nobody makes a copy of a database that belongs to nobody yet.
async fn bind(database: &Database) {
    database.bind_identity(TAG.parse().unwrap(), "simulated", start()).await.unwrap();
}

/// A migrated database that nobody has opened since.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, file) = TEMPLATE.get_or_init(|| {
        let directory = place();
        let (made, file) = (directory.path().join("made.db"), directory.path().join("template.db"));
        at_once(async {
            let database = Database::open(&url(&made), options(true)).await.unwrap();
            database.migrate().await.unwrap();
            bind(&database).await;
            database.backup(&file).await.unwrap();
            database.close().await;
        });
        (directory, file)
    });
    file
}

impl Disk {
    pub fn new() -> Self {
        let disk = Self { directory: place() };
        std::fs::copy(template(), disk.file()).unwrap();
        disk
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("sim.db")
    }

    pub fn open(&self) -> Arc<Database> {
        Arc::new(at_once(Database::open(&url(&self.file()), options(false))).unwrap())
    }

    /// Copies the database as it is now.
    pub fn snapshot(&self, database: &Database, name: &str) {
        let to = self.directory.path().join(name);
        let _ = std::fs::remove_file(&to);
        at_once(database.backup(&to)).unwrap();
    }

    /// Puts a copy in its place. Nobody may have it open.
    pub fn restore(&self, name: &str) {
        let file = self.file();
        std::fs::copy(self.directory.path().join(name), &file).unwrap();
        for rest in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{rest}", file.display()));
        }
    }
}
