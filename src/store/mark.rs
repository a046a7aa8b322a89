//! The high-water mark in the state directory: a small file that is ahead of a restored database.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::domain::attempt::{base32, digest};
use crate::ports::crash;
use crate::ports::watermark::Watermark;

/// One slot: written whole and alternately, so that a torn write leaves the other one.
const SLOT: usize = 512;

/// What the file says: which incarnation of the database it belongs to, and its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub incarnation: String,
    pub mark: i64,
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
        std::fs::create_dir_all(directory)?;
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

    /// Writes a mark for an incarnation, whatever stood there: an operator has looked.
    pub fn rewrite(directory: &Path, incarnation: &str, mark: i64) -> io::Result<()> {
        let (file, _) = Self::open(directory, incarnation)?;
        let mut inner = file.inner.lock().unwrap_or_else(|broken| broken.into_inner());
        inner.durable = -1;
        inner.both = true;
        inner.write(mark)
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
    let (incarnation, mark) = content.split_once(' ')?;
    (checksum(content) == sum).then_some(())?;
    Some(Mark { incarnation: incarnation.to_owned(), mark: mark.parse().ok()? })
}

fn checksum(content: &str) -> String {
    base32(&digest(&["mark/1", content]), 16)
}

impl Inner {
    fn write(&mut self, mark: i64) -> io::Result<()> {
        if mark <= self.durable {
            return Ok(());
        }
        let content = format!("{} {mark}", self.incarnation);
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
    async fn raise(&self, mark: i64) -> io::Result<()> {
        let inner = Arc::clone(&self.inner);
        let written = tokio::task::spawn_blocking(move || inner.lock().unwrap_or_else(|broken| broken.into_inner()).write(mark));
        written.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_mark_outlives_the_process_and_a_torn_write() {
        let directory = tempfile::tempdir().unwrap();
        let (file, before) = MarkFile::open(directory.path(), "one").unwrap();
        assert_eq!(before, None);
        for mark in [1, 2, 7, 3] {
            file.raise(mark).await.unwrap();
        }
        let expected = Mark { incarnation: "one".into(), mark: 7 };
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
        assert_eq!(before, Some(Mark { incarnation: "one".into(), mark: 2 }));
    }

    #[tokio::test]
    async fn another_incarnation_starts_anew_and_says_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let (file, _) = MarkFile::open(directory.path(), "one").unwrap();
        file.raise(9).await.unwrap();
        let (file, before) = MarkFile::open(directory.path(), "two").unwrap();
        assert_eq!(before, Some(Mark { incarnation: "one".into(), mark: 9 }));
        file.raise(1).await.unwrap();
        let (_, before) = MarkFile::open(directory.path(), "two").unwrap();
        assert_eq!(before, Some(Mark { incarnation: "two".into(), mark: 1 }));
    }
}
