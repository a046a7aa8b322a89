//! What tests/machine/shim.c recorded of a daemon's life, and of commands beside it, and the disks that a power cut at any moment of it may leave.
//!
//! What was written before a sync began is on the disk once that sync has ended well. Of everything after that, each sector of 512 bytes may
//! be there or not, whatever the order. What was written before a sync that failed may be lost for good, also if a later one succeeds:
//! that is what Linux does.

use std::collections::BTreeMap;
use std::path::Path;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

const SECTOR: u64 = 512;
const HEAD: usize = 16;

/// The files that are looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    Database = 1,
    Wal = 2,
    Mark = 3,
    Journal = 4,
}

impl Kept {
    pub const ALL: [Self; 4] = [Self::Database, Self::Wal, Self::Mark, Self::Journal];
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Write {
        file: Kept,
        at: u64,
        data: Vec<u8>,
    },
    Truncate {
        file: Kept,
        to: u64,
    },
    Unlink {
        file: Kept,
    },
    SyncBegins {
        file: Kept,
        number: u64,
    },
    SyncEnds {
        file: Kept,
        number: u64,
        well: bool,
    },
    /// A charge goes to the gateway, under this `merchant_uid`.
    Charge(String),
    /// An event of this id goes to a receiver.
    Event(String),
}

impl Step {
    fn changes(&self) -> Option<Kept> {
        match self {
            Self::Write { file, .. } | Self::Truncate { file, .. } | Self::Unlink { file } => Some(*file),
            _ => None,
        }
    }
}

/// Contents of files; one that is not there has no entry.
pub type Disk = BTreeMap<Kept, Vec<u8>>;

/// How much of what no sync has secured is on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Luck {
    Nothing,
    All,
    /// Each sector by chance, each write with a chance of its own.
    Torn,
}

pub struct Recording {
    before: Disk,
    pub steps: Vec<Step>,
}

impl Recording {
    /// `before`: what was on the disk, all of it durable. What the process wrote last may be cut off by its end.
    pub fn read(before: Disk, record: &Path) -> Self {
        let bytes = std::fs::read(record).expect("the record can be read");
        let (mut rest, mut steps) = (bytes.as_slice(), Vec::new());
        while rest.len() >= HEAD {
            let length = u32::from_le_bytes(rest[4..8].try_into().expect("four bytes")) as usize;
            let number = u64::from_le_bytes(rest[8..HEAD].try_into().expect("eight bytes"));
            let (kind, file) = (rest[0], rest[1]);
            let Some(data) = rest.get(HEAD..HEAD + length) else { break };
            rest = &rest[HEAD + length..];
            let file = || Kept::ALL.into_iter().find(|kept| *kept as u8 == file).expect("a file that is looked after");
            let text = || String::from_utf8(data.to_vec()).expect("an id");
            steps.push(match kind {
                b'W' => Step::Write { file: file(), at: number, data: data.to_vec() },
                b'T' => Step::Truncate { file: file(), to: number },
                b'U' => Step::Unlink { file: file() },
                b'B' => Step::SyncBegins { file: file(), number },
                b'E' => Step::SyncEnds { file: file(), number, well: true },
                b'F' => Step::SyncEnds { file: file(), number, well: false },
                b'P' => Step::Charge(text()),
                b'D' => Step::Event(text()),
                other => panic!("the shim records no `{other}`"),
            });
        }
        Self { before, steps }
    }

    pub fn charges(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Charge(_))).count()
    }

    /// Syncs that ended well, and that failed.
    pub fn syncs(&self) -> (usize, usize) {
        let count =
            |wanted| self.steps.iter().filter(|step| matches!(step, Step::SyncEnds { well, .. } if *well == wanted)).count();
        (count(true), count(false))
    }

    /// The same of a drive that says that it has synced, and has not.
    pub fn disk_that_lies(&self, cut: usize, rng: &mut ChaCha8Rng) -> Disk {
        let no_sync = |step: &&Step| !matches!(step, Step::SyncEnds { .. });
        let steps: Vec<Step> = self.steps[..cut].iter().filter(no_sync).cloned().collect();
        let lies = Self { before: self.before.clone(), steps };
        lies.disk(lies.steps.len(), Luck::Nothing, rng)
    }

    /// A disk after a power cut before step `cut`.
    pub fn disk(&self, cut: usize, luck: Luck, rng: &mut ChaCha8Rng) -> Disk {
        let past = &self.steps[..cut];
        let mut disk = self.before.clone();
        for file in Kept::ALL {
            let (durable, doubtful) = secured(past, file);
            for (n, step) in past.iter().enumerate().filter(|(_, step)| step.changes() == Some(file)) {
                let safe = n < durable && !doubtful.contains(&n);
                carry_out(&mut disk, step, if safe { Luck::All } else { luck }, rng);
            }
        }
        disk
    }
}

/// Up to which step a file's changes are durable, and which before it may be lost all the same: a sync after them has failed.
fn secured(past: &[Step], wanted: Kept) -> (usize, Vec<usize>) {
    let begun: BTreeMap<u64, usize> = past
        .iter()
        .enumerate()
        .filter_map(|(n, step)| match step {
            Step::SyncBegins { file, number } if *file == wanted => Some((*number, n)),
            _ => None,
        })
        .collect();
    let (mut durable, mut doubtful) = (0, Vec::new());
    for step in past {
        let Step::SyncEnds { file, number, well } = step else { continue };
        if *file != wanted {
            continue;
        }
        let began = begun[number];
        if *well {
            durable = durable.max(began);
        } else {
            doubtful.extend((durable..began).filter(|n| past[*n].changes() == Some(wanted)));
            durable = durable.max(began);
        }
    }
    (durable, doubtful)
}

fn carry_out(disk: &mut Disk, step: &Step, luck: Luck, rng: &mut ChaCha8Rng) {
    let happens = |rng: &mut ChaCha8Rng| match luck {
        Luck::Nothing => false,
        Luck::All => true,
        Luck::Torn => rng.random_range(0..2) == 0,
    };
    match step {
        Step::Write { file, at, data } => {
            let share = rng.random_range(0..=4);
            let (mut from, end) = (*at, at + data.len() as u64);
            while from < end {
                let to = end.min((from / SECTOR + 1) * SECTOR);
                let kept = match luck {
                    Luck::Nothing => false,
                    Luck::All => true,
                    Luck::Torn => rng.random_range(0..4) < share,
                };
                if kept {
                    let content = disk.entry(*file).or_default();
                    let (begin, stop) = (usize::try_from(from).expect("small"), usize::try_from(to).expect("small"));
                    if content.len() < stop {
                        content.resize(stop, 0);
                    }
                    let offset = usize::try_from(from - at).expect("small");
                    content[begin..stop].copy_from_slice(&data[offset..offset + (stop - begin)]);
                }
                from = to;
            }
        }
        Step::Truncate { file, to } if happens(rng) => {
            disk.entry(*file).or_default().resize(usize::try_from(*to).expect("small"), 0);
        }
        Step::Unlink { file } if happens(rng) => drop(disk.remove(file)),
        _ => {}
    }
}
