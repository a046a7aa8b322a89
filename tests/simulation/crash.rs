//! Crashes at any await between two effects: a port call is never made, or is made and its result never seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rebilld::domain::charge::{AccountId, Charge, ChargeId, SubscriptionId};
use rebilld::domain::decide::Incident;
use rebilld::domain::event::Event;
use rebilld::ports::clock::Clock;
use rebilld::ports::store::*;
use rebilld::ports::watermark::Watermark;
use rebilld::store::Database;
use rebilld::time::SimulatedClock;
use std::collections::BTreeMap;
use tokio::sync::Notify;

use crate::faults::rng;

/// Counts port calls down to a crash.
#[derive(Debug, Default)]
pub struct Crash {
    left: AtomicI64,
    hit: Notify,
    pub crashes: AtomicU64,
}

impl Crash {
    /// Crashes at the `n`th point from now; never if zero.
    pub fn arm(&self, n: u32) {
        self.left.store(i64::from(n), Ordering::SeqCst);
    }

    /// A place where the process may die. A dead process never goes on.
    pub async fn point(&self) {
        match self.left.load(Ordering::SeqCst) {
            0 => {}
            left if left > 1 => self.left.store(left - 1, Ordering::SeqCst),
            left => {
                if left == 1 {
                    self.left.store(-1, Ordering::SeqCst);
                    self.crashes.fetch_add(1, Ordering::SeqCst);
                    self.hit.notify_one();
                }
                std::future::pending::<()>().await;
            }
        }
    }

    pub async fn hit(&self) {
        self.hit.notified().await;
    }
}

/// The real store, behind points at which the process may die, and commits whose acknowledgement is lost.
pub struct CrashingStore {
    pub inner: Arc<Database>,
    pub crash: Arc<Crash>,
    pub seed: u64,
    /// Of a thousand commits.
    pub lost_acknowledgements: u32,
    pub commits: AtomicU64,
    /// The database's clock, which is put forward by an hour at an instant.
    pub clock: Arc<SimulatedClock>,
    pub jumps_at: Option<Timestamp>,
}

impl CrashingStore {
    /// A commit that was made, but whose acknowledgement never came.
    fn acknowledge<T>(&self, result: T) -> Result<T, StoreError> {
        let nth = self.commits.fetch_add(1, Ordering::SeqCst).to_string();
        if rng(self.seed, &["commit", &nth]).random_range(0..1000) < self.lost_acknowledgements {
            return Err(StoreError::Unavailable("the connection broke after COMMIT".to_owned()));
        }
        Ok(result)
    }
}

/// A port call between two points.
macro_rules! through {
    ($self:ident, $method:ident($($argument:expr),*)) => {{
        $self.crash.point().await;
        let result = $self.inner.$method($($argument),*).await;
        $self.crash.point().await;
        result
    }};
}

#[async_trait]
impl Store for CrashingStore {
    async fn clock(&self) -> Result<Timestamp, StoreError> {
        self.crash.point().await;
        let now = self.clock.now();
        let jumped = self.jumps_at.is_some_and(|at| now >= at);
        Ok(if jumped { now + SignedDuration::from_hours(1) } else { now })
    }

    async fn next_due(&self, now: Timestamp) -> Result<NextDue, StoreError> {
        through!(self, next_due(now))
    }

    async fn due_schedules(&self, now: Timestamp, limit: u32) -> Result<Vec<DueSchedule>, StoreError> {
        through!(self, due_schedules(now, limit))
    }

    async fn step_schedules(&self, now: Timestamp, steps: &[ScheduleStep]) -> Result<Vec<Stepped>, StoreError> {
        let result = through!(self, step_schedules(now, steps))?;
        self.acknowledge(result)
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>, StoreError> {
        let result = through!(self, claim(claim))?;
        self.acknowledge(result)
    }

    async fn release(&self, token: &ClaimToken, charges: &[ChargeId]) -> Result<(), StoreError> {
        through!(self, release(token, charges))
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
        let result = through!(self, begin(batch))?;
        self.acknowledge(result)
    }

    async fn record(&self, now: Timestamp, entries: &[Entry]) -> Result<Vec<Recorded>, StoreError> {
        let result = through!(self, record(now, entries))?;
        self.acknowledge(result)
    }

    async fn due_states(&self, now: Timestamp, limit: u32) -> Result<Vec<StateFacts>, StoreError> {
        through!(self, due_states(now, limit))
    }

    async fn keep_states(&self, now: Timestamp, steps: &[StateStep]) -> Result<u64, StoreError> {
        through!(self, keep_states(now, steps))
    }

    async fn adopt_interrupted(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        through!(self, adopt_interrupted(now, limit))
    }

    async fn brakes(&self) -> Result<Brakes, StoreError> {
        through!(self, brakes())
    }

    async fn pause_account(&self, account: AccountId, now: Timestamp, why: &str) -> Result<(), StoreError> {
        through!(self, pause_account(account, now, why))
    }

    async fn hold(&self, now: Timestamp, why: &str) -> Result<bool, StoreError> {
        through!(self, hold(now, why))
    }

    async fn hold_as_restored(&self, now: Timestamp, why: &str) -> Result<(), StoreError> {
        through!(self, hold_as_restored(now, why))
    }

    async fn knows(&self, seen: &SeenSend) -> Result<bool, StoreError> {
        through!(self, knows(seen))
    }

    fn connections(&self) -> u64 {
        self.inner.connections()
    }

    async fn unsteady_until(&self) -> Result<Option<Timestamp>, StoreError> {
        through!(self, unsteady_until())
    }

    async fn hold_for_clock(&self, until: Timestamp) -> Result<(), StoreError> {
        through!(self, hold_for_clock(until))
    }

    async fn missed(&self, now: Timestamp, grace: SignedDuration) -> Result<Missed, StoreError> {
        through!(self, missed(now, grace))
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
        through!(self, refunded(now, charge, total, event))
    }

    async fn open_incident(
        &self,
        now: Timestamp,
        account: AccountId,
        charge: Option<ChargeId>,
        incident: &Incident,
        event: Event,
    ) -> Result<IncidentState, StoreError> {
        through!(self, open_incident(now, account, charge, incident, event))
    }

    async fn incident_state(&self, account: AccountId, incident: &Incident) -> Result<IncidentState, StoreError> {
        through!(self, incident_state(account, incident))
    }

    async fn audited(&self, result: &AuditResult) -> Result<(), StoreError> {
        through!(self, audited(result))
    }

    async fn last_audits(&self, account: AccountId) -> Result<(Option<Timestamp>, Option<Timestamp>), StoreError> {
        through!(self, last_audits(account))
    }

    async fn due_deliveries(&self, now: Timestamp, claim_until: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        through!(self, due_deliveries(now, claim_until, limit))
    }

    async fn delivered(&self, now: Timestamp, results: &[Delivered]) -> Result<(), StoreError> {
        through!(self, delivered(now, results))
    }

    async fn claim_one(
        &self,
        charge: ChargeId,
        token: &ClaimToken,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Claimed>, StoreError> {
        through!(self, claim_one(charge, token, now, until))
    }
}

/// A state directory whose disk is full now and then.
pub struct SimulatedWatermark {
    pub crash: Arc<Crash>,
    pub seed: u64,
    pub full_disk: u32,
    pub writes: AtomicU64,
    pub mark: AtomicI64,
}

#[async_trait]
impl Watermark for SimulatedWatermark {
    async fn raise(&self, mark: i64, _newest: SeenSend) -> std::io::Result<()> {
        self.crash.point().await;
        let nth = self.writes.fetch_add(1, Ordering::SeqCst).to_string();
        if rng(self.seed, &["disk", &nth]).random_range(0..1000) < self.full_disk {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        }
        self.mark.fetch_max(mark, Ordering::SeqCst);
        self.crash.point().await;
        Ok(())
    }
}
