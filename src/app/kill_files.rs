//! The kill switch as a file: whoever may write to its directory can stop sends, with the database or without it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tracing::{error, warn};

use crate::ports::switch::KillSwitch;

/// A directory that does not answer for so long cannot be looked into.
const PATIENCE: Duration = Duration::from_millis(500);
/// Looks at the same time: one that hangs keeps its thread, and files of other directories need some too. A burst of sends waits
/// its turn, which takes microseconds where nothing hangs.
const AT_A_TIME: usize = 8;

/// `kill_file` for all accounts, and the same with `.NAME` behind it for one of them.
#[derive(Debug, Clone)]
pub struct KillFiles {
    path: PathBuf,
    turns: Arc<Semaphore>,
    patience: Duration,
}

impl KillFiles {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), turns: Arc::new(Semaphore::new(AT_A_TIME)), patience: PATIENCE }
    }

    /// The file that stops one account.
    pub fn of(&self, account: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".");
        path.push(account);
        path.into()
    }

    /// A file that is there for certain, for whoever only wants to know: of all accounts, or of one.
    pub fn there(&self, account: Option<&str>) -> Option<String> {
        let path = account.map_or_else(|| self.path.clone(), |account| self.of(account));
        path.symlink_metadata().is_ok().then(|| format!("the kill file {} exists", path.display()))
    }

    /// Stops all accounts until [`KillFiles::take_away`], or until somebody removes the file. Returns whether it is ours: one that is
    /// there already was put by somebody else.
    pub async fn put(&self) -> bool {
        let made = tokio::fs::File::options().write(true).create_new(true).open(&self.path).await;
        match made {
            Ok(_) => error!(file = %self.path.display(), "the kill file stands for the kill switch until the database has it"),
            Err(ref why) if why.kind() == ErrorKind::AlreadyExists => {}
            Err(ref why) => {
                error!(file = %self.path.display(), %why, "the kill file could not be made: the stop ends with this process")
            }
        }
        made.is_ok()
    }

    /// Removes the file that [`KillFiles::put`] has made.
    pub async fn take_away(&self) {
        if let Err(why) = tokio::fs::remove_file(&self.path).await {
            warn!(file = %self.path.display(), %why, "the kill file could not be removed: nothing is sent until it is");
        }
    }

    /// What stops all accounts; `None`: nothing does.
    pub async fn stops_all(&self) -> Option<String> {
        self.look(vec![self.path.clone()]).await
    }

    /// Looks for files; what stops sends, if anything does. A disk that hangs must not hang the gate.
    async fn look(&self, paths: Vec<PathBuf>) -> Option<String> {
        let shown = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
        let looking = async {
            let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
            let looking = tokio::task::spawn_blocking(move || {
                let found = paths.iter().find_map(|path| found(path));
                drop(turn);
                found
            });
            looking.await.ok()
        };
        match tokio::time::timeout(self.patience, looking).await {
            Ok(Some(found)) => found,
            Ok(None) | Err(_) => {
                Some(format!("whether the kill file {shown} exists cannot be told: its directory does not answer"))
            }
        }
    }
}

#[async_trait]
impl KillSwitch for KillFiles {
    async fn stopped(&self, account: &str) -> Option<String> {
        self.look(vec![self.path.clone(), self.of(account)]).await
    }
}

fn found(path: &Path) -> Option<String> {
    let unknown = |why: std::io::Error| Some(format!("whether the kill file {} exists cannot be told: {why}", path.display()));
    match path.symlink_metadata() {
        Ok(_) => Some(format!("the kill file {} exists", path.display())),
        // a directory that is gone may have held the file
        Err(why) if why.kind() == ErrorKind::NotFound => {
            let directory = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
            directory.metadata().err().and_then(unknown)
        }
        Err(why) => unknown(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_stops_all_and_a_named_one_its_account() {
        let directory = tempfile::tempdir().unwrap();
        let files = KillFiles::new(&directory.path().join("kill"));
        assert_eq!((files.stops_all().await, files.stopped("main").await), (None, None));
        std::fs::write(files.of("main"), "").unwrap();
        assert!(files.stopped("main").await.is_some_and(|why| why.contains("kill.main exists")));
        assert_eq!((files.stops_all().await, files.stopped("second").await), (None, None));
        std::fs::write(directory.path().join("kill"), "").unwrap();
        assert!(files.stops_all().await.is_some() && files.stopped("second").await.is_some());
    }

    #[tokio::test]
    async fn looks_that_hang_stop_sends_and_take_no_further_threads() {
        let directory = tempfile::tempdir().unwrap();
        let files = KillFiles::new(&directory.path().join("kill"));
        let hanging = files.turns.acquire_many(AT_A_TIME as u32).await.unwrap();
        assert!(files.stopped("main").await.is_some_and(|why| why.contains("does not answer")));
        drop(hanging);
        assert_eq!(files.stopped("main").await, None);
        assert_eq!(files.turns.available_permits(), AT_A_TIME);
    }

    #[tokio::test]
    async fn a_burst_of_looks_at_a_directory_that_answers_stops_nothing() {
        let directory = tempfile::tempdir().unwrap();
        // what is slow here is the machine, with other tests
        let patience = Duration::from_secs(30);
        let files = KillFiles { patience, ..KillFiles::new(&directory.path().join("kill")) };
        let looks = futures::future::join_all((0..20 * AT_A_TIME).map(|_| files.stopped("main"))).await;
        assert_eq!(looks.into_iter().flatten().next(), None);
    }

    #[tokio::test]
    async fn a_link_to_nowhere_is_a_file_too() {
        let directory = tempfile::tempdir().unwrap();
        let files = KillFiles::new(&directory.path().join("kill"));
        std::os::unix::fs::symlink("nowhere", directory.path().join("kill")).unwrap();
        assert!(files.stops_all().await.is_some());
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_looked_into_stops_sends() {
        let directory = tempfile::tempdir().unwrap();
        let gone = KillFiles::new(&directory.path().join("gone").join("kill"));
        assert!(gone.stopped("main").await.is_some_and(|why| why.contains("cannot be told")));
        // a file where the directory should be: as good as unreadable, also for root
        std::fs::write(directory.path().join("plain"), "").unwrap();
        let plain = KillFiles::new(&directory.path().join("plain").join("kill"));
        assert!(plain.stopped("main").await.is_some_and(|why| why.contains("cannot be told")));
    }
}
