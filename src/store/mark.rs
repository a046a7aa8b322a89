//! The high-water mark in the state directory: a small file that is ahead of a restored database, and that names the newest send of
//! its process. The mark is everybody's: others may have raised a database that has lost commits past it again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{deeds, slots};
use crate::domain::attempt::{AttemptId, SendId};
use crate::ports::store::{Brakes, SeenEntry, SeenSend};
use crate::ports::watermark::Watermark;

/// The file in the state directory: where it is, a daemon has lived.
pub const NAME: &str = "rebilld.mark";

/// What the file says: which incarnation of the database it belongs to, its mark, and the newest send that was committed with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub incarnation: String,
    pub mark: i64,
    /// `None`: of a release that did not say, or of an operator's.
    pub newest: Option<SeenSend>,
}

/// The file, open for writing.
#[derive(Debug)]
pub struct MarkFile {
    inner: Arc<Mutex<Inner>>,
    directory: PathBuf,
    incarnation: String,
    /// The directory remembers what the database does not: until an operator has looked, that is not written over.
    suspect: Arc<AtomicBool>,
    /// The database's mark while it was on hold for that.
    held_mark: AtomicI64,
}

#[derive(Debug)]
struct Inner {
    file: File,
    incarnation: String,
    durable: i64,
    next_slot: u64,
    /// The other slot still speaks of another incarnation: both are written.
    both: bool,
}

impl MarkFile {
    /// Opens or makes `rebilld.mark` in a state directory, for a database's incarnation. Returns what it said before.
    pub fn open(directory: &Path, incarnation: &str) -> io::Result<(Self, Option<Mark>)> {
        let file = slots::open(directory, NAME, None)?;
        let (slot, before) = read(&file)?;
        let both = before.as_ref().is_some_and(|mark| mark.incarnation != incarnation);
        let durable = before.as_ref().filter(|mark| mark.incarnation == incarnation).map_or(-1, |mark| mark.mark);
        let inner = Inner { file, incarnation: incarnation.to_owned(), durable, next_slot: 1 - slot, both };
        let (incarnation, suspect) = (incarnation.to_owned(), Arc::default());
        let (inner, held_mark) = (Arc::new(Mutex::new(inner)), AtomicI64::new(i64::MIN));
        Ok((Self { inner, directory: directory.to_owned(), incarnation, suspect, held_mark }, before))
    }

    /// What the file says, without making or opening it for writing. `None`: there is none, or nothing can be read of it.
    pub fn peek(directory: &Path) -> io::Result<Option<Mark>> {
        slots::peek(directory, NAME)?.map_or(Ok(None), |file| Ok(read(&file)?.1))
    }

    /// Writes a mark for an incarnation, whatever stood there: an operator has looked.
    pub fn rewrite(directory: &Path, incarnation: &str, mark: i64) -> io::Result<()> {
        let (file, _) = Self::open(directory, incarnation)?;
        let mut inner = file.inner.lock().unwrap_or_else(|broken| broken.into_inner());
        inner.forget();
        inner.write(mark, None)
    }

    pub fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }
}

/// The newer valid slot, and which one it is.
fn read(file: &File) -> io::Result<(u64, Option<Mark>)> {
    slots::read(file, parse, |one, other| one.mark >= other.mark || one.incarnation != other.incarnation)
}

fn parse(words: &[&str]) -> Option<Mark> {
    let (incarnation, mark, newest) = match words {
        [incarnation, mark] => (incarnation, mark, None),
        [incarnation, mark, send, attempt, begun_at] => {
            let begun_at = Timestamp::from_microsecond(begun_at.parse().ok()?).ok()?;
            let (send, attempt) = (SendId(send.parse().ok()?), AttemptId(attempt.parse().ok()?));
            (incarnation, mark, Some(SeenSend { send, attempt, begun_at }))
        }
        _ => return None,
    };
    Some(Mark { incarnation: (*incarnation).to_owned(), mark: mark.parse().ok()?, newest })
}

impl Inner {
    /// What is written next stands alone.
    fn forget(&mut self) {
        self.durable = -1;
        self.both = true;
    }

    fn write(&mut self, mark: i64, newest: Option<SeenSend>) -> io::Result<()> {
        if mark <= self.durable {
            return Ok(());
        }
        let newest = newest
            .map_or_else(String::new, |seen| format!(" {} {} {}", seen.send.0, seen.attempt.0, seen.begun_at.as_microsecond()));
        let content = format!("{} {mark}{newest}", self.incarnation);
        for _ in 0..if self.both { 2 } else { 1 } {
            slots::write(&self.file, self.next_slot, &content, "mark ")?;
            self.next_slot = 1 - self.next_slot;
        }
        self.both = false;
        self.durable = mark;
        Ok(())
    }
}

#[async_trait]
impl Watermark for MarkFile {
    async fn raise(&self, mark: i64, newest: SeenSend) -> io::Result<()> {
        let inner = Arc::clone(&self.inner);
        let write = move || inner.lock().unwrap_or_else(|broken| broken.into_inner()).write(mark, Some(newest));
        let written = tokio::task::spawn_blocking(write);
        written.await.map_err(io::Error::other)?
    }

    fn suspect(&self) {
        self.suspect.store(true, Ordering::Release);
    }

    async fn remembered(&self) -> Option<SeenEntry> {
        if self.suspect.load(Ordering::Acquire) {
            return None;
        }
        let (directory, incarnation) = (self.directory.clone(), self.incarnation.clone());
        // what cannot be read is told by whoever writes there next
        let read = tokio::task::spawn_blocking(move || deeds::remembered(&directory).ok().flatten()).await.ok().flatten();
        read.filter(|remembered| remembered.incarnation == incarnation).map(|remembered| remembered.entry)
    }

    async fn remember(&self, entry: &SeenEntry, brakes: &Brakes) -> io::Result<()> {
        let is_suspect = self.suspect.load(Ordering::Acquire);
        let mark = brakes.high_water;
        if is_suspect && brakes.held {
            self.held_mark.fetch_max(mark, Ordering::AcqRel);
            return Ok(());
        }
        // an operator who ends a hold raises the mark; otherwise the hold itself was lost
        if is_suspect && mark <= self.held_mark.load(Ordering::Acquire) {
            return Ok(());
        }
        let (directory, incarnation) = (self.directory.clone(), self.incarnation.clone());
        let (inner, suspect, entry) = (Arc::clone(&self.inner), Arc::clone(&self.suspect), entry.clone());
        let write = move || {
            if !is_suspect {
                return deeds::remember(&directory, &incarnation, &entry);
            }
            // an operator has ended the hold, here or from another machine: the database is the right one, and so is its mark
            deeds::accept(&directory, &incarnation, &entry)?;
            let mut inner = inner.lock().unwrap_or_else(|broken| broken.into_inner());
            inner.forget();
            inner.write(mark, None)?;
            suspect.store(false, Ordering::Release);
            Ok(())
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::journal::Seal;

    fn seen(n: i64) -> SeenSend {
        SeenSend {
            send: SendId(n),
            attempt: AttemptId(n),
            begun_at: Timestamp::from_microsecond(1_796_086_800_000_001 + n).unwrap(),
        }
    }

    fn mark(incarnation: &str, mark: i64) -> Mark {
        Mark { incarnation: incarnation.to_owned(), mark, newest: Some(seen(mark)) }
    }

    #[test]
    fn a_mark_of_the_release_before_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let text = format!("one 7 {}", slots::checksum("one 7"));
        std::fs::write(directory.path().join(NAME), &text).unwrap();
        let mark = Mark { incarnation: "one".to_owned(), mark: 7, newest: None };
        assert_eq!(MarkFile::peek(directory.path()).unwrap(), Some(mark));
        std::fs::write(directory.path().join(NAME), text.replacen('7', "8", 1)).unwrap();
        assert_eq!(MarkFile::peek(directory.path()).unwrap(), None);
    }

    /// While it is held the database may not have what was remembered; once it is not, an operator has looked.
    #[tokio::test]
    async fn what_an_accepted_copy_has_forgotten_is_not_held_against_it_again() {
        let directory = tempfile::tempdir().unwrap();
        let entry = |id| SeenEntry::of(id, Seal::start(), "kill on", "database", Timestamp::UNIX_EPOCH);
        let brakes = |held, high_water| Brakes { held, high_water, ..Brakes::default() };
        let (file, _) = MarkFile::open(directory.path(), "one").unwrap();
        file.raise(9, seen(9)).await.unwrap();
        file.remember(&entry(7), &brakes(false, 9)).await.unwrap();
        let (file, _) = MarkFile::open(directory.path(), "one").unwrap();
        assert_eq!(file.remembered().await, Some(entry(7)));
        file.suspect();
        assert_eq!(file.remembered().await, None, "it is known that the database lacks it");
        file.remember(&entry(8), &brakes(true, 4)).await.unwrap();
        // a batch that was committed before it was found out
        file.raise(4, seen(4)).await.unwrap();
        // another standby is promoted, which does not know of the hold
        file.remember(&entry(5), &brakes(false, 4)).await.unwrap();
        assert_eq!(MarkFile::peek(directory.path()).unwrap(), Some(mark("one", 9)));
        assert_eq!(deeds::remembered(directory.path()).unwrap().unwrap().entry, entry(7), "for whoever starts on it next");
        // the copy is released, here or from another machine
        file.remember(&entry(5), &brakes(false, 5)).await.unwrap();
        assert_eq!(MarkFile::peek(directory.path()).unwrap(), Some(Mark { newest: None, ..mark("one", 5) }));
        file.raise(6, seen(6)).await.unwrap();
        assert_eq!(MarkFile::peek(directory.path()).unwrap(), Some(mark("one", 6)));
        assert_eq!(file.remembered().await, Some(entry(5)));
    }

    #[tokio::test]
    async fn the_mark_outlives_the_process_and_a_torn_write() {
        let directory = tempfile::tempdir().unwrap();
        let (file, before) = MarkFile::open(directory.path(), "one").unwrap();
        assert_eq!(before, None);
        for mark in [1, 2, 7, 3] {
            file.raise(mark, seen(mark)).await.unwrap();
        }
        let expected = mark("one", 7);
        let path = file.path().to_owned();
        drop(file);
        let (_, before) = MarkFile::open(directory.path(), "one").unwrap();
        assert_eq!(before, Some(expected));
        // a torn write of the newest slot leaves the one before it
        let mut bytes = std::fs::read(&path).unwrap();
        let newest = if bytes[..20].starts_with(b"one 7") { 0 } else { slots::SLOT };
        bytes[newest + 2] = b'X';
        std::fs::write(&path, bytes).unwrap();
        let (_, before) = MarkFile::open(directory.path(), "one").unwrap();
        assert_eq!(before, Some(mark("one", 2)));
    }

    #[tokio::test]
    async fn another_incarnation_starts_anew_and_says_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let (file, _) = MarkFile::open(directory.path(), "one").unwrap();
        file.raise(9, seen(9)).await.unwrap();
        let (file, before) = MarkFile::open(directory.path(), "two").unwrap();
        assert_eq!(before, Some(mark("one", 9)));
        file.raise(1, seen(1)).await.unwrap();
        let (_, before) = MarkFile::open(directory.path(), "two").unwrap();
        assert_eq!(before, Some(mark("two", 1)));
    }
}
