//! Is this the database that last sent? A restored or copied one comes up on hold, and its live accounts are no longer armed
//! (docs/protocol.md, Clock, restore, audit).

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tracing::{error, info};

use super::errors::AppError;
use crate::config::Settings;
use crate::ports::store::{Loss, SeenSend, Store};
use crate::ports::watermark::Watermark;
use crate::store::Database;
use crate::store::deeds::{self, Remembered};
use crate::store::identity::Identity;
use crate::store::mark::{Mark, MarkFile, NAME};

/// What the guard found.
pub(super) struct Start {
    pub mark: Arc<dyn Watermark>,
    /// The state directory is new: a complete audit comes before the first send.
    pub audit_first: bool,
}

/// For commands that never send: nothing may be raised.
struct NoMark;

#[async_trait]
impl Watermark for NoMark {
    async fn raise(&self, _mark: i64, _newest: SeenSend) -> std::io::Result<()> {
        Err(std::io::Error::other("this command never sends"))
    }
}

/// What a state directory remembers of the database that last sent with it.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub mark: Option<Mark>,
    pub deed: Option<Remembered>,
}

impl Memory {
    /// Of a directory that nothing is written to.
    pub fn peek(directory: &Path) -> io::Result<Self> {
        Ok(Self { mark: MarkFile::peek(directory)?, deed: deeds::remembered(directory)? })
    }

    /// Whether it speaks of this database, or of none.
    fn is_of(&self, identity: &Identity) -> bool {
        let (mark, deed) = (self.mark.as_ref(), self.deed.as_ref());
        let incarnations = [mark.map(|mark| &mark.incarnation), deed.map(|deed| &deed.incarnation)];
        incarnations.into_iter().flatten().all(|incarnation| *incarnation == identity.incarnation)
    }

    /// Why the database must not send before an operator has looked: all that it lacks.
    pub async fn against(&self, database: &Database, identity: &Identity) -> Result<Vec<Loss>, AppError> {
        let mut losses: Vec<Loss> = suspicion(identity, self).into_iter().collect();
        if identity.has_moved() || !self.is_of(identity) {
            // a stranger's memory tells nothing more
            return Ok(losses);
        }
        // others may have raised the mark of a database that has lost commits past ours again: what it lost is still missing
        let newest = self.mark.as_ref().and_then(|mark| Some((mark.mark, mark.newest?))).filter(|_| losses.is_empty());
        if let Some((mark, newest)) = newest
            && !Store::knows(database, &newest).await?
        {
            losses.push(Loss::newest_send(mark));
        }
        if let Some(Remembered { entry, .. }) = &self.deed
            && !database.knows_entry(entry).await?
        {
            losses.push(Loss::entry_remembered(entry));
        }
        Ok(losses)
    }
}

/// The same, as far as the database need not be asked.
pub(super) fn suspicion(identity: &Identity, memory: &Memory) -> Option<Loss> {
    if identity.has_moved() {
        return Some(Loss::whole(
            "the database stands in another Postgres cluster than before: is it a copy or a restored backup?",
        ));
    }
    if !memory.is_of(identity) {
        return Some(Loss::whole(
            "the state directory belongs to another database: was this one made anew, or restored from somewhere else?",
        ));
    }
    let mark = memory.mark.as_ref()?;
    (mark.mark > identity.high_water).then(|| Loss::sends_remembered(mark.mark, identity.high_water))
}

/// Holds a database for what it lacks. Returns all of it, for people.
async fn hold_for(losses: &[Loss], database: &Database, now: Timestamp) -> Result<String, AppError> {
    for loss in losses {
        database.hold_as_restored(now, loss).await?;
    }
    Ok(losses.iter().map(|loss| loss.text.as_str()).collect::<Vec<_>>().join(" "))
}

/// Holds a database for what no hold has told of yet, if there is any.
pub(super) async fn hold_for_untold(
    settings: &Settings,
    database: &Database,
    reason: &str,
    now: Timestamp,
) -> Result<Option<String>, AppError> {
    let wrong = |why| AppError::state_dir(settings, why);
    let memory = Memory::peek(&settings.state_dir).map_err(wrong)?;
    let mut losses = memory.against(database, &database.identity().await?).await?;
    losses.retain(|loss| !loss.is_told_in(reason));
    if losses.is_empty() { Ok(None) } else { hold_for(&losses, database, now).await.map(Some) }
}

/// Compares the database with the state directory, and holds what is suspicious.
pub(super) async fn check(
    settings: &Settings,
    database: &Database,
    identity: &Identity,
    now: Timestamp,
    guarded: bool,
) -> Result<Start, AppError> {
    if !guarded {
        return Ok(Start { mark: Arc::new(NoMark), audit_first: false });
    }
    let wrong = |why| AppError::state_dir(settings, why);
    let deed = deeds::remembered(&settings.state_dir).map_err(wrong)?;
    let (file, mark) = MarkFile::open(&settings.state_dir, &identity.incarnation).map_err(wrong)?;
    let audit_first = mark.is_none();
    let losses = (Memory { mark, deed }).against(database, identity).await?;
    if !losses.is_empty() {
        file.suspect();
        let why = hold_for(&losses, database, now).await?;
        error!("{why} Nothing is sent: `rebilld hold status` shows the way out");
    }
    if audit_first && identity.high_water > 0 {
        info!(path = %file.path().display(), "the state directory is new: a complete audit comes before the first send");
    }
    Ok(Start { mark: Arc::new(file), audit_first })
}

/// Keeps in the state directory what an operator has just done in the database, if the database knows what was kept there before.
/// `None`: it is kept, or no daemon of this database has lived in that directory. Otherwise why the database has come to a hold.
///
/// # Errors
/// It could not be kept: nothing else is wrong.
pub async fn remember(settings: &Settings, database: &Database) -> Result<Option<String>, AppError> {
    let directory = &settings.state_dir;
    let wrong = |why| AppError::state_dir(settings, why);
    // first: what is remembered is never ahead of the database, which a daemon may be sending from meanwhile
    let memory = Memory::peek(directory).map_err(wrong)?;
    let lived_here = directory.join(NAME).symlink_metadata();
    let (identity, brakes) = (database.identity().await?, database.brakes().await?);
    let Some(lived_here) = lived_here.ok().filter(|_| memory.is_of(&identity) && !identity.has_moved()) else {
        // a command may have been pointed at any database from anywhere: the daemon's start tells
        return Ok(None);
    };
    let losses = memory.against(database, &identity).await?;
    if !losses.is_empty() {
        return hold_for(&losses, database, database.clock().await?).await.map(Some);
    }
    let Some(entry) = brakes.newest_entry else { return Ok(None) };
    let user = rustix::process::geteuid().as_raw();
    if user != 0 && user != lived_here.uid() {
        // what it made there the daemon could not read
        return Err(wrong(io::ErrorKind::PermissionDenied.into()));
    }
    deeds::remember(directory, &identity.incarnation, &entry).map_err(wrong)?;
    Ok(None)
}
