//! The high-water mark in the state directory: a small file that is ahead of a restored database, and that names the newest send of
//! its process. The mark is everybody's: others may have raised a database that has lost commits past it again.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::attempt::{AttemptId, SendId, base32, digest};
use crate::ports::crash;
use crate::ports::store::SeenSend;
use crate::ports::watermark::Watermark;

/// One slot: written whole and alternately, so that a torn write leaves the other one.
const SLOT: usize = 512;

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
    path: PathBuf,
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
        // for its owner alone, unless it is there
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join("rebilld.mark");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let (slot, before) = read(&file)?;
        let both = before.as_ref().is_some_and(|mark| mark.incarnation != incarnation);
        let durable = before.as_ref().filter(|mark| mark.incarnation == incarnation).map_or(-1, |mark| mark.mark);
        let inner = Inner { file, incarnation: incarnation.to_owned(), durable, next_slot: 1 - slot, both };
        // the file's name has to outlive a power cut too
        File::open(directory)?.sync_all()?;
        Ok((Self { inner: Arc::new(Mutex::new(inner)), path }, before))
    }

    /// What the file says, without making or opening it for writing. `None`: there is none, or nothing can be read of it.
    pub fn peek(directory: &Path) -> io::Result<Option<Mark>> {
        match File::open(directory.join("rebilld.mark")) {
            Ok(file) => Ok(read(&file)?.1),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Writes a mark for an incarnation, whatever stood there: an operator has looked.
    pub fn rewrite(directory: &Path, incarnation: &str, mark: i64) -> io::Result<()> {
        let (file, _) = Self::open(directory, incarnation)?;
        let mut inner = file.inner.lock().unwrap_or_else(|broken| broken.into_inner());
        inner.durable = -1;
        inner.both = true;
        inner.write(mark, None)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The newer valid slot, and which one it is.
fn read(file: &File) -> io::Result<(u64, Option<Mark>)> {
    let mut newest: Option<(u64, Mark)> = None;
    for slot in 0..2u64 {
        let mut bytes = [0; SLOT];
        let got = file.read_at(&mut bytes, slot * SLOT as u64)?;
        let Some(mark) = parse(&bytes[..got]) else { continue };
        let newer = newest.as_ref().is_none_or(|(_, other)| mark.mark >= other.mark || mark.incarnation != other.incarnation);
        if newer {
            newest = Some((slot, mark));
        }
    }
    Ok(newest.map_or((1, None), |(slot, mark)| (slot, Some(mark))))
}

fn parse(bytes: &[u8]) -> Option<Mark> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches(['\0', '\n']);
    let (content, sum) = text.rsplit_once(' ')?;
    (checksum(content) == sum).then_some(())?;
    let words: Vec<&str> = content.split(' ').collect();
    let (incarnation, mark, newest) = match words.as_slice() {
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

fn checksum(content: &str) -> String {
    base32(&digest(&["mark/1", content]), 16)
}

impl Inner {
    fn write(&mut self, mark: i64, newest: Option<SeenSend>) -> io::Result<()> {
        if mark <= self.durable {
            return Ok(());
        }
        let newest = newest
            .map_or_else(String::new, |seen| format!(" {} {} {}", seen.send.0, seen.attempt.0, seen.begun_at.as_microsecond()));
        let content = format!("{} {mark}{newest}", self.incarnation);
        let mut bytes = format!("{content} {}", checksum(&content)).into_bytes();
        bytes.resize(SLOT - 1, 0);
        bytes.push(b'\n');
        for _ in 0..if self.both { 2 } else { 1 } {
            self.file.write_all_at(&bytes, self.next_slot * SLOT as u64)?;
            crash::point("mark ", "written");
            self.file.sync_data()?;
            crash::point("mark ", "durable");
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let content = "one 7";
        let text = format!("{content} {}", checksum(content));
        assert_eq!(parse(text.as_bytes()), Some(Mark { incarnation: "one".to_owned(), mark: 7, newest: None }));
        assert_eq!(parse(text.replace('7', "8").as_bytes()), None);
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
        let newest = if bytes[..20].starts_with(b"one 7") { 0 } else { SLOT };
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
