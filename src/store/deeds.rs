//! What an operator did last, in the state directory. A restored database that has forgotten a kill switch, a void or a cancelled
//! subscription lacks that entry of the journal, whether or not anything was sent since its copy was made.
//!
//! The daemon writes here what it reads with the brakes, and so does each command that adds to the journal, where a daemon has lived: an
//! operator may stop what no daemon watches.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::{mark, slots};
use crate::ports::store::SeenEntry;

const NAME: &str = "rebilld.journal";

/// How often one who finds another at it comes back, and after how long: writing takes milliseconds.
const TRIES: u32 = 50;
const AGAIN: Duration = Duration::from_millis(10);

/// An entry of the journal of an incarnation of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    pub incarnation: String,
    pub entry: SeenEntry,
}

/// What a state directory remembers. `None`: nothing, or nothing can be read of it.
pub fn remembered(directory: &Path) -> io::Result<Option<Remembered>> {
    slots::peek(directory, NAME)?.map_or(Ok(None), |file| Ok(read(&file)?.1))
}

/// Makes an entry durable, unless a newer one of the same incarnation is.
pub fn remember(directory: &Path, incarnation: &str, entry: &SeenEntry) -> io::Result<()> {
    // one that a build before this one wrote does not say what was done
    let says_more = |before: &Remembered| before.entry.is(entry) && before.entry.deed.is_empty() && !entry.deed.is_empty();
    keep(directory, incarnation, entry, |before| {
        before.incarnation != incarnation || before.entry.id < entry.id || says_more(before)
    })
}

/// Makes an entry durable, whatever stood there: an operator has looked.
pub fn accept(directory: &Path, incarnation: &str, entry: &SeenEntry) -> io::Result<()> {
    keep(directory, incarnation, entry, |before| before.entry != *entry || before.incarnation != incarnation)
}

/// Remembers nothing any more: an operator has looked, and the database has no journal.
pub fn forget(directory: &Path) -> io::Result<()> {
    let Some(_) = slots::peek(directory, NAME)? else { return Ok(()) };
    let file = open(directory)?;
    file.set_len(0)?;
    file.sync_all()
}

fn keep(directory: &Path, incarnation: &str, entry: &SeenEntry, wanted: impl Fn(&Remembered) -> bool) -> io::Result<()> {
    let file = open(directory)?;
    let (slot, before) = read(&file)?;
    if before.as_ref().is_some_and(|before| !wanted(before)) {
        return Ok(());
    }
    // one that is to be forgotten must not be the newer one
    let follows = before.is_some_and(|before| before.incarnation == incarnation && before.entry.id < entry.id);
    let content = format!("{incarnation} {} {} {}", entry.id, entry.seal, entry.deed);
    slots::write(&file, 1 - slot, &content, "journal ")?;
    if follows { Ok(()) } else { slots::write(&file, slot, &content, "journal ") }
}

/// Commands and the daemon may come at the same time. Who is frozen while it writes must not hang the others: they come again.
fn open(directory: &Path) -> io::Result<File> {
    let beside = directory.join(mark::NAME).symlink_metadata().is_ok().then_some(mark::NAME);
    let file = slots::open(directory, NAME, beside)?;
    // it is let go of with the file
    for left in (0..TRIES).rev() {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if left > 0 => std::thread::sleep(AGAIN),
            locked => return locked.map(|()| file).map_err(Into::into),
        }
    }
    Ok(file)
}

fn read(file: &File) -> io::Result<(u64, Option<Remembered>)> {
    slots::read(file, parse, |one, other| one.entry.id >= other.entry.id || one.incarnation != other.incarnation)
}

fn parse(words: &[&str]) -> Option<Remembered> {
    let [incarnation, id, seal, deed @ ..] = words else { return None };
    let entry = SeenEntry { id: id.parse().ok()?, seal: seal.parse().ok()?, deed: deed.join(" ") };
    Some(Remembered { incarnation: (*incarnation).to_owned(), entry })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use jiff::Timestamp;

    use super::*;
    use crate::domain::journal::Seal;

    fn entry(id: i64) -> SeenEntry {
        SeenEntry::of(id, Seal::start(), "void", "charge 7 of  cust 1", Timestamp::UNIX_EPOCH)
    }

    fn of(incarnation: &str, id: i64) -> Option<Remembered> {
        Some(Remembered { incarnation: incarnation.to_owned(), entry: entry(id) })
    }

    #[test]
    fn the_newest_entry_is_remembered_and_outlives_a_torn_write() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        assert_eq!(remembered(&directory.join("nothing here")).unwrap(), None);
        for id in [1, 2, 7, 3] {
            remember(directory, "one", &entry(id)).unwrap();
        }
        assert_eq!(remembered(directory).unwrap(), of("one", 7));
        let file = slots::open(directory, NAME, None).unwrap();
        let (newest, _) = read(&file).unwrap();
        file.write_all_at(b"XX", newest * slots::SLOT as u64).unwrap();
        assert_eq!(remembered(directory).unwrap(), of("one", 2), "the one before it is left");
    }

    #[test]
    fn an_entry_of_the_release_before_is_read_and_the_longest_one_fits() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let text = format!("one 7 {}", Seal::start());
        std::fs::write(directory.join(NAME), format!("{text} {}", slots::checksum(&text))).unwrap();
        let untold = SeenEntry { deed: String::new(), ..entry(7) };
        assert_eq!(remembered(directory).unwrap().unwrap().entry, untold);
        remember(directory, "one", &entry(7)).unwrap();
        assert_eq!(remembered(directory).unwrap(), of("one", 7), "what it was is known now");
        remember(directory, "one", &untold).unwrap();
        assert_eq!(remembered(directory).unwrap(), of("one", 7));
        let long = SeenEntry::of(i64::MAX, Seal::start(), "void", &"구".repeat(200), Timestamp::MAX);
        remember(directory, &"i".repeat(32), &long).unwrap();
        assert_eq!(remembered(directory).unwrap().unwrap().entry, long);
        let longer = SeenEntry { deed: "x".repeat(slots::SLOT), ..long.clone() };
        assert!(accept(directory, "one", &longer).is_err());
        assert_eq!(remembered(directory).unwrap().unwrap().entry, long, "what stood there is not lost");
    }

    #[test]
    fn another_incarnation_and_an_accepted_copy_leave_nothing_of_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        remember(directory, "one", &entry(9)).unwrap();
        remember(directory, "two", &entry(1)).unwrap();
        assert_eq!(remembered(directory).unwrap(), of("two", 1));
        remember(directory, "two", &entry(8)).unwrap();
        accept(directory, "two", &entry(4)).unwrap();
        assert_eq!(remembered(directory).unwrap(), of("two", 4));
        let file = slots::open(directory, NAME, None).unwrap();
        let (newest, _) = read(&file).unwrap();
        file.write_all_at(b"XX", newest * slots::SLOT as u64).unwrap();
        assert_eq!(remembered(directory).unwrap(), of("two", 4), "in neither slot");
        forget(directory).unwrap();
        assert_eq!(remembered(directory).unwrap(), None);
    }

    #[test]
    fn the_same_number_with_another_seal_is_another_entry() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let other = SeenEntry { seal: "00".repeat(32).parse().unwrap(), ..entry(5) };
        remember(directory, "one", &entry(5)).unwrap();
        remember(directory, "one", &other).unwrap();
        assert_eq!(remembered(directory).unwrap(), of("one", 5), "what was seen first is what has to be known");
        accept(directory, "one", &other).unwrap();
        assert_eq!(remembered(directory).unwrap().unwrap().entry, other);
    }

    #[test]
    fn who_is_frozen_while_it_writes_hangs_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let frozen = open(directory.path()).unwrap();
        let why = remember(directory.path(), "one", &entry(1)).unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::WouldBlock);
        drop(frozen);
        remember(directory.path(), "one", &entry(1)).unwrap();
    }

    #[test]
    fn nobody_is_led_out_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = directory.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, directory.path().join(NAME)).unwrap();
        assert!(remember(directory.path(), "one", &entry(1)).is_err());
        assert!(!elsewhere.exists());
    }
}
