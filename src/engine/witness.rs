//! What this process has seen committed, against what the database still knows.
//!
//! A standby that is promoted without the last commits of its primary is a restored database that nobody has restored: no
//! process starts anew, and no file is compared. So each process keeps the newest sends whose COMMIT it has seen, and asks for
//! them whenever its connections were broken, whenever the high-water mark goes back, and with each check of the clock; and each
//! batch of intents is committed only where the newest one is known. The mark itself, which all processes raise, is compared with
//! the highest one ever read, with each look at the brakes. A database that does not know what it was seen to know has lost
//! commits: it comes to a hold as after a restore (docs/protocol.md).
//!
//! The same goes for what operators did: a kill switch, a void or a cancelled subscription that such a database has forgotten would be
//! charged past. The newest entry of the journal is read with the brakes, kept here, and made durable in the state directory.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::error;

use super::Engine;
use crate::ports::store::{Begun, Brakes, Loss, SeenEntry, SeenSend, StoreError};

/// The mark of a send and what is known of it.
type Seen = (i64, SeenSend);

#[derive(Default)]
struct Memory {
    newest: Option<Seen>,
    /// The newest one of the check before: a commit after the loss must not hide those before it.
    before: Option<Seen>,
    /// The newest thing that an operator did.
    entry: Option<SeenEntry>,
    /// Which of them the state directory knows, and which it could not be told.
    remembered: Option<SeenEntry>,
    unwritten: Option<SeenEntry>,
}

/// What a database has forgotten.
#[derive(Debug, Clone)]
enum Lost {
    Sends { mark: i64 },
    Entry(SeenEntry),
}

/// The newest sends that this process has seen committed.
#[derive(Default)]
pub(crate) struct Witness {
    memory: Mutex<Memory>,
    /// The highest mark that the database ever had, whoever raised it.
    highest: AtomicI64,
    /// Database calls that have failed: after each, the next one may reach another server.
    failures: AtomicU64,
    /// Failures and connections when the database was asked last.
    asked_at: AtomicU64,
    /// While one batch asks, the others wait for the answer.
    asking: tokio::sync::Mutex<()>,
}

impl Witness {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what a batch has committed. Returns whether the mark went back since `before`, which was the newest one when
    /// the batch began.
    fn keep(&self, begun: &Begun, before: Option<i64>) -> bool {
        let Some(seen) = SeenSend::last_of(begun) else { return false };
        self.highest.fetch_max(begun.high_water, Ordering::AcqRel);
        let mut memory = self.memory();
        if memory.newest.is_none_or(|(mark, _)| mark < begun.high_water) {
            memory.newest = Some((begun.high_water, seen));
        }
        before.is_some_and(|before| begun.high_water <= before)
    }

    fn mark(&self) -> Option<i64> {
        self.memory().newest.map(|(mark, _)| mark)
    }
}

impl Engine {
    /// A database call has failed: who answers the next one is to be asked what it knows before anything is sent.
    pub(crate) fn shaken(&self) {
        self.witness.failures.fetch_add(1, Ordering::AcqRel);
    }

    /// What a database that takes more intents has to know.
    pub(crate) fn newest_seen(&self) -> Option<SeenSend> {
        self.witness.memory().newest.map(|(_, seen)| seen)
    }

    /// The brakes as they are, from a database that has not gone back.
    ///
    /// # Errors
    /// As for [`Engine::before_intents`].
    pub(crate) async fn brakes_now(&self) -> Result<Brakes, StoreError> {
        // as of before it was asked: others raise the mark meanwhile, this process among them
        let (floor, known) = (self.witness.highest.load(Ordering::Acquire), self.witness.memory().entry.clone());
        let brakes = self.store.brakes().await?;
        if brakes.high_water < floor {
            return Err(self.has_lost(Lost::Sends { mark: floor }).await?);
        }
        self.witness.highest.fetch_max(brakes.high_water, Ordering::AcqRel);
        let newest = brakes.newest_entry.clone();
        // a database that has lost it may have a later one by now
        if let Some(known) = known.filter(|known| newest.as_ref() != Some(known)) {
            self.must_know(known).await?;
        }
        if let Some(newest) = newest {
            self.saw(newest, &brakes).await?;
        }
        Ok(brakes)
    }

    /// What an operator did must not be forgotten with the database.
    async fn saw(&self, newest: SeenEntry, brakes: &Brakes) -> Result<(), StoreError> {
        {
            let mut memory = self.witness.memory();
            if memory.entry.as_ref().is_none_or(|known| known.id < newest.id) {
                memory.entry = Some(newest.clone());
            }
            if memory.remembered.as_ref().is_some_and(|remembered| remembered.id >= newest.id) {
                return Ok(());
            }
        }
        self.must_know_what_is_remembered(Some(&newest)).await?;
        match self.watermark.remember(&newest, brakes).await {
            Ok(()) => {
                let mut memory = self.witness.memory();
                if memory.remembered.as_ref().is_none_or(|remembered| remembered.id < newest.id) {
                    memory.remembered = Some(newest);
                }
            }
            Err(why) => {
                // it is tried again with each look at the brakes, and told of once
                let entry = newest.id;
                let told = self.witness.memory().unwritten.replace(newest.clone());
                if told != Some(newest) {
                    error!(%why, entry, "what an operator did cannot be written to the state directory: a restored database could forget it");
                }
            }
        }
        Ok(())
    }

    /// A command on this machine may have remembered what this process never saw, and the database have lost it since.
    async fn must_know_what_is_remembered(&self, newest: Option<&SeenEntry>) -> Result<(), StoreError> {
        match self.watermark.remembered().await {
            Some(there) if newest != Some(&there) => self.must_know(there).await,
            _ => Ok(()),
        }
    }

    async fn must_know(&self, entry: SeenEntry) -> Result<(), StoreError> {
        match self.store.knows_entry(&entry).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.has_lost(Lost::Entry(entry)).await?),
            Err(why) => {
                self.shaken();
                Err(why)
            }
        }
    }

    /// Before intents are committed: the mark that they have to pass. Asks the database what it knows if it may be another one than
    /// before.
    ///
    /// # Errors
    /// It does not answer, or it has lost commits: nothing may be sent.
    pub(crate) async fn before_intents(&self) -> Result<Option<i64>, StoreError> {
        if self.is_shaken().is_some() {
            let _one = self.witness.asking.lock().await;
            if let Some(at) = self.is_shaken() {
                // a standby that was promoted has settings of its own
                self.store.durable().await.inspect_err(|why| error!(%why, "nothing is sent"))?;
                self.must_remember().await?;
                self.witness.asked_at.store(at, Ordering::Release);
            }
        }
        Ok(self.witness.mark())
    }

    /// Whether anything has happened to the connections since the database was asked: their count and the failures, which only grow.
    fn is_shaken(&self) -> Option<u64> {
        let at = self.store.connections() + self.witness.failures.load(Ordering::Acquire);
        (at != self.witness.asked_at.load(Ordering::Acquire)).then_some(at)
    }

    /// After intents were committed, and before anything is sent.
    ///
    /// # Errors
    /// As before.
    pub(crate) async fn after_intents(&self, begun: &Begun, before: Option<i64>) -> Result<(), StoreError> {
        if begun.has_lost {
            return Err(self.has_lost(Lost::Sends { mark: before.unwrap_or_default() }).await?);
        }
        if self.witness.keep(begun, before) { self.must_remember().await } else { Ok(()) }
    }

    /// With each check of the clock.
    pub(crate) async fn check_memory(&self) -> Result<(), StoreError> {
        // what it comes to is a hold, and no failed look
        let remembers = match self.must_remember().await {
            Ok(()) => self.read_brakes().await.map(drop),
            lost => lost,
        };
        match remembers {
            Err(StoreError::Corrupt(_)) => Ok(()),
            other => other,
        }
    }

    async fn must_remember(&self) -> Result<(), StoreError> {
        let (newest, before, entry) = {
            let memory = self.witness.memory();
            (memory.newest, memory.before, memory.entry.clone())
        };
        // while nothing is sent both are one
        let older = before.filter(|older| Some(*older) != newest);
        for (mark, seen) in older.into_iter().chain(newest) {
            match self.store.knows(&seen).await {
                Ok(true) => {}
                Ok(false) => return Err(self.has_lost(Lost::Sends { mark }).await?),
                Err(why) => {
                    self.shaken();
                    return Err(why);
                }
            }
        }
        if let Some(entry) = entry.clone() {
            self.must_know(entry).await?;
        }
        self.must_know_what_is_remembered(entry.as_ref()).await?;
        let mut memory = self.witness.memory();
        if memory.before == before {
            memory.before = newest;
        }
        Ok(())
    }

    /// The hold is written first; only then is what was seen forgotten, so that an operator can release it.
    async fn has_lost(&self, lost: Lost) -> Result<StoreError, StoreError> {
        let mut losses = vec![match lost {
            Lost::Sends { mark } => Loss::sends_seen(mark),
            Lost::Entry(entry) => Loss::entry_seen(&entry),
        }];
        // who lost the one may have lost the other, and an operator has to hear of it before the hold is ended
        let known = self.witness.memory().entry.clone();
        for entry in [known, self.watermark.remembered().await].into_iter().flatten() {
            match self.store.knows_entry(&entry).await {
                Ok(true) => {}
                Ok(false) => losses.push(Loss::entry_seen(&entry)),
                Err(failed) => {
                    self.shaken();
                    return Err(failed);
                }
            }
        }
        losses.dedup_by(|one, other| one.keys == other.keys);
        for loss in &losses {
            if let Err(failed) = self.store.hold_as_restored(self.now(), loss).await {
                self.shaken();
                return Err(failed);
            }
        }
        self.watermark.suspect();
        self.look_at_brakes();
        *self.witness.memory() = Memory::default();
        self.witness.highest.store(0, Ordering::Release);
        let why = losses.into_iter().map(|loss| loss.text).collect::<Vec<_>>().join(" ");
        error!("{why} Nothing is sent: `rebilld hold status` shows the way out");
        Ok(StoreError::Corrupt(why))
    }
}
