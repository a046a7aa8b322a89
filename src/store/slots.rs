//! A small file that is written in place, and read back whole even after a torn write: two slots, written alternately.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use rustix::fs::OFlags;

use crate::domain::attempt::{base32, digest};
use crate::ports::crash;

/// One slot: written whole, so that a torn write leaves the other one.
pub const SLOT: usize = 512;
const SLOTS: u64 = 2;

/// Opens or makes a file of a state directory, which is made too. Both are for their owner alone. What root makes, or has left, beside
/// what is another user's is given to that one: root may run a command, and the daemon has to read it.
pub fn open(directory: &Path, name: &str, beside: Option<&str>) -> io::Result<File> {
    // for its owner alone, unless it is there
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    // whoever owns the directory must not lead root elsewhere
    let file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(directory.join(name))?;
    let ours = file.metadata()?;
    if ours.uid() == 0 {
        let theirs = beside.map_or_else(|| directory.metadata(), |beside| directory.join(beside).symlink_metadata())?;
        if theirs.uid() != 0 && ours.is_file() && ours.nlink() == 1 {
            fchown(&file, Some(theirs.uid()), Some(theirs.gid()))?;
        }
    }
    // the file's name has to outlive a power cut too
    File::open(directory)?.sync_all()?;
    Ok(file)
}

/// Opens a file without making it or opening it for writing. `None`: there is none.
pub fn peek(directory: &Path, name: &str) -> io::Result<Option<File>> {
    match File::open(directory.join(name)) {
        Ok(file) => Ok(Some(file)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
    }
}

/// The newer one of what both slots say, and its slot. Where nothing can be read, the first one is free.
pub fn read<T>(
    file: &File,
    parse: impl Fn(&[&str]) -> Option<T>,
    is_newer: impl Fn(&T, &T) -> bool,
) -> io::Result<(u64, Option<T>)> {
    let mut newest: Option<(u64, T)> = None;
    for slot in 0..SLOTS {
        let mut bytes = [0; SLOT];
        let got = file.read_at(&mut bytes, slot * SLOT as u64)?;
        let Some(said) = content(&bytes[..got]).and_then(|content| parse(&content.split(' ').collect::<Vec<_>>())) else {
            continue;
        };
        if newest.as_ref().is_none_or(|(_, other)| is_newer(&said, other)) {
            newest = Some((slot, said));
        }
    }
    Ok(newest.map_or((1, None), |(slot, said)| (slot, Some(said))))
}

/// What a slot says, if it was written whole.
fn content(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches(['\0', '\n']);
    let (content, sum) = text.rsplit_once(' ')?;
    (checksum(content) == sum).then_some(content)
}

pub fn checksum(content: &str) -> String {
    base32(&digest(&["mark/1", content]), 16)
}

/// Writes a slot, and returns once it is durable. `what` names the file to whoever kills this process.
pub fn write(file: &File, slot: u64, content: &str, what: &'static str) -> io::Result<()> {
    let mut bytes = format!("{content} {}", checksum(content)).into_bytes();
    if bytes.len() >= SLOT {
        // cut off it could not be read back
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{what}is longer than its slot")));
    }
    bytes.resize(SLOT - 1, 0);
    bytes.push(b'\n');
    file.write_all_at(&bytes, slot * SLOT as u64)?;
    crash::point(what, "written");
    file.sync_data()?;
    crash::point(what, "durable");
    Ok(())
}
