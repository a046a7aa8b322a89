//! The port, over the parts.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::Database;
use super::db::Fault;
use super::sql::{accounts, writes};
use crate::domain::charge::{AccountId, Charge, ChargeId, SubscriptionId};
use crate::domain::decide::Incident;
use crate::domain::event::Event;
use crate::ports::metrics::Operation;
use crate::ports::store::{
    AuditResult, Begin, Begun, Booked, Brakes, Claim, ClaimToken, Claimed, Delivered, Delivery, DueSchedule, DueWave, Entry,
    IncidentState, Loss, Missed, NextDue, PastAttempt, Recorded, ScheduleStep, SeenEntry, SeenSend, StateFacts, StateStep,
    Stepped, Store, StoreError, Unscheduled,
};

type Result<T> = std::result::Result<T, StoreError>;

impl Database {
    async fn timed<T>(&self, operation: Operation, call: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let done = call.await;
        self.times.took(operation, began.elapsed());
        done
    }
}

#[async_trait]
impl Store for Database {
    async fn clock(&self) -> Result<Timestamp> {
        let rows = self.db.read(&accounts::CLOCK, &[]).await?;
        let row = rows.first().ok_or_else(|| Fault::Corrupt("the database tells no time".to_owned()))?;
        Ok(row.at("now")?)
    }

    async fn next_due(&self, now: Timestamp) -> Result<NextDue> {
        Ok(self.timed(Operation::Look, self.first_due(now)).await?)
    }

    async fn due_schedules(&self, now: Timestamp, limit: u32) -> Result<Vec<DueSchedule>> {
        Ok(self.timed(Operation::Open, self.schedules_due(now, limit)).await?)
    }

    async fn step_schedules(&self, now: Timestamp, steps: &[ScheduleStep]) -> Result<Vec<Stepped>> {
        Ok(self.timed(Operation::Open, self.step_batch(now, steps)).await?)
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>> {
        Ok(self.timed(Operation::Claim, self.claim_charges(claim)).await?)
    }

    async fn claim_one(&self, charge: ChargeId, token: &ClaimToken, now: Timestamp, until: Timestamp) -> Result<Option<Claimed>> {
        Ok(self.claim_this(charge, token, now, until).await?)
    }

    async fn release(&self, token: &ClaimToken, charges: &[ChargeId]) -> Result<()> {
        Ok(self.release_claims(token, charges).await?)
    }

    async fn attempts_of(&self, charges: &[ChargeId]) -> Result<Vec<PastAttempt>> {
        Ok(self.timed(Operation::Other, self.past_attempts(charges)).await?)
    }

    async fn load(&self, charges: &[ChargeId]) -> Result<Vec<Charge>> {
        Ok(self.timed(Operation::Other, self.load_charges(charges)).await?)
    }

    async fn measure(&self, wave: &DueWave<'_>) -> Result<bool> {
        Ok(self.timed(Operation::Other, self.measure_wave(wave)).await?)
    }

    async fn begin(&self, batch: Begin) -> Result<Begun> {
        Ok(self.timed(Operation::Begin, self.begin_batch(batch)).await?)
    }

    async fn record(&self, now: Timestamp, entries: &[Entry]) -> Result<Vec<Recorded>> {
        Ok(self.timed(Operation::Record, self.record_batch(now, entries)).await?)
    }

    async fn due_states(&self, now: Timestamp, limit: u32) -> Result<Vec<StateFacts>> {
        Ok(self.timed(Operation::Other, self.states_due(now, limit)).await?)
    }

    async fn keep_states(&self, now: Timestamp, steps: &[StateStep]) -> Result<u64> {
        Ok(self.timed(Operation::Other, self.keep(now, steps)).await?)
    }

    async fn adopt_interrupted(&self, now: Timestamp, limit: u32) -> Result<u64> {
        Ok(self.timed(Operation::Other, self.doubt_interrupted(now, limit)).await?)
    }

    async fn brakes(&self) -> Result<Brakes> {
        self.in_place()?;
        Ok(self.timed(Operation::Brakes, self.read_brakes()).await?)
    }

    async fn pause_account(&self, account: AccountId, now: Timestamp, why: &str) -> Result<()> {
        Ok(self.pause(account, now, why).await?)
    }

    async fn hold(&self, now: Timestamp, why: &str) -> Result<bool> {
        Ok(self.hold_all(now, why).await?)
    }

    async fn hold_as_restored(&self, now: Timestamp, loss: &Loss) -> Result<()> {
        let params = [loss.text.as_str().into(), now.into(), loss.keys[0].as_str().into(), loss.keys[1].as_str().into()];
        self.db.write(&accounts::HOLD_AS_RESTORED, &params).await?;
        self.disarm_all().await.map(drop)
    }

    async fn knows(&self, seen: &SeenSend) -> Result<bool> {
        let params = [seen.send.0.into(), seen.attempt.0.into(), seen.begun_at.into()];
        Ok(!self.db.read(&writes::KNOWS_SEND, &params).await?.is_empty())
    }

    async fn knows_entry(&self, seen: &SeenEntry) -> Result<bool> {
        let params = [seen.id.into(), seen.seal.to_string().into()];
        Ok(!self.db.read(&accounts::KNOWS_ENTRY, &params).await?.is_empty())
    }

    async fn durable(&self) -> Result<()> {
        Ok(self.is_durable().await?)
    }

    fn connections(&self) -> u64 {
        self.db.connections()
    }

    async fn unsteady_until(&self) -> Result<Option<Timestamp>> {
        Ok(self.held_for_clock().await?)
    }

    async fn hold_for_clock(&self, until: Timestamp) -> Result<()> {
        Ok(self.write_clock_hold(until).await?)
    }

    async fn missed(&self, now: Timestamp, grace: SignedDuration) -> Result<Missed> {
        let due_before = now.checked_sub(grace).unwrap_or(Timestamp::MIN);
        Ok(self.timed(Operation::Other, self.count_missed(now, due_before)).await?)
    }

    async fn missed_by_account(&self, now: Timestamp, grace: SignedDuration) -> Result<BTreeMap<AccountId, u64>> {
        let due_before = now.checked_sub(grace).unwrap_or(Timestamp::MIN);
        Ok(self.whose_are_missed(now, due_before).await?)
    }

    async fn unscheduled(&self, after: SubscriptionId, limit: u32) -> Result<Unscheduled> {
        Ok(self.unscheduled_page(after, limit).await?)
    }

    async fn charges_of(&self, uids: &[String]) -> Result<BTreeMap<String, ChargeId>> {
        Ok(self.timed(Operation::Other, self.charges_of_uids(uids)).await?)
    }

    async fn booked(
        &self,
        account: AccountId,
        from: Timestamp,
        to: Timestamp,
        after: ChargeId,
        limit: u32,
    ) -> Result<Vec<Booked>> {
        Ok(self.timed(Operation::Other, self.booked_payments(account, from, to, after, limit)).await?)
    }

    async fn refunded(&self, now: Timestamp, charge: ChargeId, total: i64, event: Event) -> Result<bool> {
        Ok(self.mark_refunded(now, charge, total, &event).await?)
    }

    async fn open_incident(
        &self,
        now: Timestamp,
        account: AccountId,
        charge: Option<ChargeId>,
        incident: &Incident,
        event: Event,
    ) -> Result<IncidentState> {
        Ok(self.new_incident(now, account, charge, incident, &event).await?)
    }

    async fn incident_state(&self, account: AccountId, incident: &Incident) -> Result<IncidentState> {
        Ok(self.known_incident(account, incident).await?)
    }

    async fn audited(&self, result: &AuditResult) -> Result<()> {
        Ok(self.write_audit(result).await?)
    }

    async fn last_audits(&self, account: AccountId) -> Result<(Option<Timestamp>, Option<Timestamp>)> {
        Ok(self.read_audits(account).await?)
    }

    async fn due_deliveries(&self, now: Timestamp, claim_until: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
        Ok(self.timed(Operation::Relay, self.claim_deliveries(now, claim_until, limit)).await?)
    }

    async fn delivered(&self, now: Timestamp, results: &[Delivered]) -> Result<()> {
        Ok(self.timed(Operation::Relay, self.end_deliveries(now, results)).await?)
    }
}
