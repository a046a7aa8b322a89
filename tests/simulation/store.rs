//! The real store, and the state directory, behind points at which the process may die and commits that are lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rebilld::domain::charge::{AccountId, Charge, ChargeId, SubscriptionId};
use rebilld::domain::decide::Incident;
use rebilld::domain::event::Event;
use rebilld::ports::store::*;
use rebilld::ports::watermark::Watermark;
use rebilld::store::Database;

use crate::operations::happens;
use crate::process::Process;
use crate::stage::{Dice, at_once};
use crate::tally::Tally;

/// The store of one process.
pub struct SimulatedStore {
    pub inner: Arc<Database>,
    pub process: Arc<Process>,
    /// Of a thousand commits: those that never happen, and those whose acknowledgement is lost.
    pub lost_commits: u32,
    pub lost_acknowledgements: u32,
    pub dice: Mutex<Dice>,
    /// So many have been begun.
    pub writes: AtomicU64,
    pub tally: Arc<Tally>,
}

impl SimulatedStore {
    fn befalls(&self, what: &str) -> bool {
        happens(|| format!("life {} {what} write {}", self.process.life, self.writes.load(Ordering::Relaxed)))
    }

    /// A commit that was not made.
    fn reach(&self) -> Result<(), StoreError> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if !self.dice.lock().unwrap().hits(self.lost_commits, 1000) || !self.befalls("does not commit") {
            return Ok(());
        }
        self.tally.count("fault: commit lost");
        Err(StoreError::Unavailable("the connection broke before COMMIT".to_owned()))
    }

    /// A commit that was made, but whose acknowledgement never came.
    fn acknowledge<T>(&self, result: T) -> Result<T, StoreError> {
        if !self.dice.lock().unwrap().hits(self.lost_acknowledgements, 1000) || !self.befalls("hears nothing of") {
            return Ok(result);
        }
        self.tally.count("fault: acknowledgement of a commit lost");
        Err(StoreError::Unavailable("the connection broke after COMMIT".to_owned()))
    }
}

/// A port call between two points.
macro_rules! through {
    ($self:ident, $method:ident($($argument:expr),*)) => {{
        $self.process.point().await;
        $self.tally.count(concat!("store: ", stringify!($method)));
        let result = at_once($self.inner.$method($($argument),*));
        $self.process.point().await;
        result
    }};
}

/// The same of a call that writes: its COMMIT may not be made, and may not be acknowledged.
macro_rules! commit {
    ($self:ident, $method:ident($($argument:expr),*)) => {{
        $self.reach()?;
        let result = through!($self, $method($($argument),*))?;
        $self.acknowledge(result)
    }};
}

#[async_trait]
impl Store for SimulatedStore {
    async fn clock(&self) -> Result<Timestamp, StoreError> {
        self.process.point().await;
        Ok(self.process.database_clock())
    }

    async fn next_due(&self, now: Timestamp) -> Result<NextDue, StoreError> {
        through!(self, next_due(now))
    }

    async fn due_schedules(&self, now: Timestamp, limit: u32) -> Result<Vec<DueSchedule>, StoreError> {
        through!(self, due_schedules(now, limit))
    }

    async fn step_schedules(&self, now: Timestamp, steps: &[ScheduleStep]) -> Result<Vec<Stepped>, StoreError> {
        commit!(self, step_schedules(now, steps))
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>, StoreError> {
        commit!(self, claim(claim))
    }

    async fn release(&self, token: &ClaimToken, charges: &[ChargeId]) -> Result<(), StoreError> {
        commit!(self, release(token, charges))
    }

    async fn attempts_of(&self, charges: &[ChargeId]) -> Result<Vec<PastAttempt>, StoreError> {
        through!(self, attempts_of(charges))
    }

    async fn load(&self, charges: &[ChargeId]) -> Result<Vec<Charge>, StoreError> {
        through!(self, load(charges))
    }

    async fn measure(&self, wave: &DueWave<'_>) -> Result<bool, StoreError> {
        through!(self, measure(wave))
    }

    async fn begin(&self, batch: Begin) -> Result<Begun, StoreError> {
        self.reach()?;
        let result = through!(self, begin(batch))?;
        self.tally.begun(&result);
        self.acknowledge(result)
    }

    async fn record(&self, now: Timestamp, entries: &[Entry]) -> Result<Vec<Recorded>, StoreError> {
        self.reach()?;
        let result = through!(self, record(now, entries))?;
        self.tally.recorded(entries, &result);
        self.acknowledge(result)
    }

    async fn due_states(&self, now: Timestamp, limit: u32) -> Result<Vec<StateFacts>, StoreError> {
        through!(self, due_states(now, limit))
    }

    async fn keep_states(&self, now: Timestamp, steps: &[StateStep]) -> Result<u64, StoreError> {
        commit!(self, keep_states(now, steps))
    }

    async fn adopt_interrupted(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        commit!(self, adopt_interrupted(now, limit))
    }

    async fn brakes(&self) -> Result<Brakes, StoreError> {
        through!(self, brakes())
    }

    async fn pause_account(&self, account: AccountId, now: Timestamp, why: &str) -> Result<(), StoreError> {
        commit!(self, pause_account(account, now, why))
    }

    async fn hold(&self, now: Timestamp, why: &str) -> Result<bool, StoreError> {
        commit!(self, hold(now, why))
    }

    async fn hold_as_restored(&self, now: Timestamp, loss: &Loss) -> Result<(), StoreError> {
        commit!(self, hold_as_restored(now, loss))
    }

    async fn knows(&self, seen: &SeenSend) -> Result<bool, StoreError> {
        through!(self, knows(seen))
    }

    async fn knows_entry(&self, seen: &SeenEntry) -> Result<bool, StoreError> {
        through!(self, knows_entry(seen))
    }

    fn connections(&self) -> u64 {
        self.inner.connections()
    }

    async fn unsteady_until(&self) -> Result<Option<Timestamp>, StoreError> {
        through!(self, unsteady_until())
    }

    async fn hold_for_clock(&self, until: Timestamp) -> Result<(), StoreError> {
        commit!(self, hold_for_clock(until))
    }

    async fn missed(&self, now: Timestamp, grace: SignedDuration) -> Result<Missed, StoreError> {
        through!(self, missed(now, grace))
    }

    async fn missed_by_account(&self, now: Timestamp, grace: SignedDuration) -> Result<BTreeMap<AccountId, u64>, StoreError> {
        through!(self, missed_by_account(now, grace))
    }

    async fn unscheduled(&self, after: SubscriptionId, limit: u32) -> Result<Unscheduled, StoreError> {
        through!(self, unscheduled(after, limit))
    }

    async fn charges_of(&self, uids: &[String]) -> Result<BTreeMap<String, ChargeId>, StoreError> {
        through!(self, charges_of(uids))
    }

    async fn booked(
        &self,
        account: AccountId,
        from: Timestamp,
        to: Timestamp,
        after: ChargeId,
        limit: u32,
    ) -> Result<Vec<Booked>, StoreError> {
        through!(self, booked(account, from, to, after, limit))
    }

    async fn refunded(&self, now: Timestamp, charge: ChargeId, total: i64, event: Event) -> Result<bool, StoreError> {
        commit!(self, refunded(now, charge, total, event))
    }

    async fn open_incident(
        &self,
        now: Timestamp,
        account: AccountId,
        charge: Option<ChargeId>,
        incident: &Incident,
        event: Event,
    ) -> Result<IncidentState, StoreError> {
        commit!(self, open_incident(now, account, charge, incident, event))
    }

    async fn incident_state(&self, account: AccountId, incident: &Incident) -> Result<IncidentState, StoreError> {
        through!(self, incident_state(account, incident))
    }

    async fn audited(&self, result: &AuditResult) -> Result<(), StoreError> {
        commit!(self, audited(result))
    }

    async fn last_audits(&self, account: AccountId) -> Result<(Option<Timestamp>, Option<Timestamp>), StoreError> {
        through!(self, last_audits(account))
    }

    async fn due_deliveries(&self, now: Timestamp, claim_until: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        commit!(self, due_deliveries(now, claim_until, limit))
    }

    async fn delivered(&self, now: Timestamp, results: &[Delivered]) -> Result<(), StoreError> {
        commit!(self, delivered(now, results))
    }

    async fn claim_one(
        &self,
        charge: ChargeId,
        token: &ClaimToken,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Claimed>, StoreError> {
        commit!(self, claim_one(charge, token, now, until))
    }
}

/// A state directory whose disk is full now and then. It outlives processes.
#[derive(Debug, Default)]
pub struct StateDirectory {
    pub mark: AtomicI64,
    /// What an operator did last.
    pub entry: Mutex<Option<SeenEntry>>,
    /// It remembers what the database did not know when a process last started.
    pub suspect: AtomicBool,
    pub writes: AtomicU64,
}

/// The same as one process has it.
pub struct SimulatedWatermark {
    pub directory: Arc<StateDirectory>,
    pub process: Arc<Process>,
    pub seed: u64,
    /// Of a thousand writes.
    pub full_disk: u32,
    pub tally: Arc<Tally>,
}

impl SimulatedWatermark {
    /// For one more write.
    fn room(&self) -> std::io::Result<()> {
        let nth = self.directory.writes.fetch_add(1, Ordering::SeqCst);
        if !Dice::new(self.seed, nth).hits(self.full_disk, 1000)
            || !happens(|| format!("write {nth} of the state directory finds no room"))
        {
            return Ok(());
        }
        self.tally.count("fault: the state directory is full");
        Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
    }
}

#[async_trait]
impl Watermark for SimulatedWatermark {
    async fn raise(&self, mark: i64, _newest: SeenSend) -> std::io::Result<()> {
        self.process.point().await;
        self.room()?;
        self.directory.mark.fetch_max(mark, Ordering::SeqCst);
        self.process.point().await;
        Ok(())
    }

    fn suspect(&self) {
        self.directory.suspect.store(true, Ordering::SeqCst);
    }

    async fn remembered(&self) -> Option<SeenEntry> {
        (!self.directory.suspect.load(Ordering::SeqCst)).then(|| self.directory.entry.lock().unwrap().clone()).flatten()
    }

    async fn remember(&self, entry: &SeenEntry, brakes: &Brakes) -> std::io::Result<()> {
        let suspect = self.directory.suspect.load(Ordering::SeqCst);
        if suspect && brakes.held {
            return Ok(());
        }
        self.process.point().await;
        self.room()?;
        if suspect {
            self.directory.accept(entry);
            self.directory.suspect.store(false, Ordering::SeqCst);
        } else {
            self.directory.remember(entry);
        }
        self.process.point().await;
        Ok(())
    }
}

impl StateDirectory {
    /// As `deeds::remember` does.
    pub fn remember(&self, entry: &SeenEntry) {
        let mut known = self.entry.lock().unwrap();
        if known.as_ref().is_none_or(|known| known.id < entry.id) {
            *known = Some(entry.clone());
        }
    }

    /// As `deeds::accept` does.
    pub fn accept(&self, entry: &SeenEntry) {
        *self.entry.lock().unwrap() = Some(entry.clone());
    }

    /// Whether it remembers what a database does not: how far sends had come, or what an operator did.
    pub async fn is_ahead_of(&self, database: &Database) -> bool {
        let entry = self.entry.lock().unwrap().clone();
        let forgotten = match entry {
            Some(entry) => !database.knows_entry(&entry).await.unwrap(),
            None => false,
        };
        forgotten || self.mark.load(Ordering::SeqCst) > database.identity().await.unwrap().high_water
    }
}
