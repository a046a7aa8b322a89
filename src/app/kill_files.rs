//! The kill switch as a file: whoever may write to its directory can stop sends, with the database or without it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::ports::switch::KillSwitch;

/// A directory that does not answer for so long cannot be looked into.
const PATIENCE: Duration = Duration::from_millis(500);
/// Looks that may hang at the same time: each keeps a thread, and files of other directories need some too.
const HANGING: usize = 8;

/// `kill_file` for all accounts, and the same with `.NAME` behind it for one of them.
#[derive(Debug, Clone)]
pub struct KillFiles {
    path: PathBuf,
    under_way: Arc<AtomicUsize>,
}

impl KillFiles {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), under_way: Arc::default() }
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

    /// What stops all accounts; `None`: nothing does.
    pub async fn stops_all(&self) -> Option<String> {
        look(&self.under_way, vec![self.path.clone()]).await
    }
}

#[async_trait]
impl KillSwitch for KillFiles {
    async fn stopped(&self, account: &str) -> Option<String> {
        look(&self.under_way, vec![self.path.clone(), self.of(account)]).await
    }
}

/// Looks for files; what stops sends, if anything does. A disk that hangs must not hang the gate.
async fn look(under_way: &Arc<AtomicUsize>, paths: Vec<PathBuf>) -> Option<String> {
    let shown = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
    let silent = || Some(format!("whether the kill file {shown} exists cannot be told: its directory does not answer"));
    if under_way.fetch_add(1, Ordering::AcqRel) >= HANGING {
        under_way.fetch_sub(1, Ordering::AcqRel);
        return silent();
    }
    let done = Arc::clone(under_way);
    let looking = tokio::task::spawn_blocking(move || {
        let found = paths.iter().find_map(|path| found(path));
        done.fetch_sub(1, Ordering::AcqRel);
        found
    });
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) | Err(_) => silent(),
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
        files.under_way.store(HANGING, Ordering::Release);
        assert!(files.stopped("main").await.is_some_and(|why| why.contains("does not answer")));
        files.under_way.store(0, Ordering::Release);
        assert_eq!(files.stopped("main").await, None);
        assert_eq!(files.under_way.load(Ordering::Acquire), 0);
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
