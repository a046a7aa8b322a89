//! Records what became known (W3): observation, state and event in one transaction, batched with whatever else is ready.

use std::time::Duration;

use serde_json::json;
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::field::display;
use tracing::{error, info, warn};

use super::Engine;
use super::meters::End;
use crate::domain::attempt::AttemptState;
use crate::domain::charge::{Charge, ChargeState};
use crate::domain::decide::{Decision, Fact, LiveChange, decide};
use crate::domain::decline::Class;
use crate::domain::outcome::{DoubtCause, Mismatch, Outcome};
use crate::ports::store::{ClaimToken, Entry, Fence, Observation, Recorded, StoreError};

/// How often a truth is judged anew because the charge changed under it, before it is left to the next look-up.
const TRUTH_TRIES: usize = 8;
/// Pauses between tries to write while the database is away; the last one repeats until the worker stops.
const PAUSES_MS: [u64; 6] = [20, 100, 250, 500, 1000, 2000];

struct Job {
    entry: Entry,
    done: oneshot::Sender<(Recorded, Entry)>,
}

/// Collects entries and writes them in batches: a batch is whatever became ready while the last one was written, so a
/// trickle is never held back to fill one.
pub struct Recorder {
    /// Each subscription has its lane, so that its events are written in the order in which they happened.
    lanes: Vec<Lane>,
    batch: usize,
}

struct Lane {
    send: mpsc::UnboundedSender<Job>,
    receive: Mutex<mpsc::UnboundedReceiver<Job>>,
}

impl Recorder {
    pub fn new(batch: usize, lanes: usize) -> Self {
        let lane = || {
            let (send, receive) = mpsc::unbounded_channel();
            Lane { send, receive: Mutex::new(receive) }
        };
        Self { lanes: std::iter::repeat_with(lane).take(lanes.max(1)).collect(), batch: batch.max(1) }
    }

    fn lane(&self, entry: &Entry) -> Option<&Lane> {
        let decided = entry.decision.as_ref().map(|decision| decision.charge.subscription.0);
        let number = usize::try_from(decided.unwrap_or(entry.charge.0)).unwrap_or_default();
        self.lanes.get(number % self.lanes.len())
    }
}

impl Engine {
    /// Writes what comes in, for ever. The worker runs this. While one lane waits for its COMMIT, the next one's batch fills.
    pub(crate) async fn run_recorder(&self) {
        futures::future::join_all(self.recorder.lanes.iter().map(|lane| self.run_lane(lane))).await;
    }

    async fn run_lane(&self, lane: &Lane) {
        let mut receive = lane.receive.lock().await;
        let mut jobs = Vec::new();
        while receive.recv_many(&mut jobs, self.recorder.batch).await > 0 {
            let (entries, waiting): (Vec<Entry>, Vec<_>) = jobs.drain(..).map(|job| (job.entry, job.done)).unzip();
            let results = self.write(&entries).await;
            for ((result, entry), done) in results.into_iter().zip(entries).zip(waiting) {
                // whoever asked may have gone; the write stands all the same
                let _ = done.send((result, entry));
            }
        }
    }

    /// Writes a batch, again and again until the database takes it: an outcome is never dropped while the process lives.
    async fn write(&self, entries: &[Entry]) -> Vec<Recorded> {
        let mut failures = 0usize;
        loop {
            match self.store.record(self.now(), entries).await {
                Ok(results) => {
                    if failures > 0 {
                        say_what_was_written_before(entries, &results);
                    }
                    return results;
                }
                Err(StoreError::Corrupt(why)) => {
                    error!(%why, charges = entries.len(), "outcomes cannot be written; their sends stay open and are looked up");
                    return vec![Recorded::FenceLost; entries.len()];
                }
                Err(StoreError::Unavailable(why)) => {
                    if failures == 0 {
                        warn!(%why, charges = entries.len(), "outcomes wait for the database");
                    }
                    self.shaken();
                    let pause = PAUSES_MS[failures.min(PAUSES_MS.len() - 1)];
                    failures += 1;
                    self.clock.pause(Duration::from_millis(pause)).await;
                }
            }
        }
    }

    async fn record(&self, entry: Entry) -> Option<(Recorded, Entry)> {
        let (done, answer) = oneshot::channel();
        self.recorder.lane(&entry)?.send.send(Job { entry, done }).ok()?;
        answer.await.ok()
    }

    /// Decides what a fact means for a charge, and writes it. A truth that finds the charge changed is judged anew.
    pub(crate) async fn judge(&self, charge: &Charge, mut fact: Fact, observation: Option<Observation>, token: &ClaimToken) {
        let in_force = self.in_force();
        let policy = &in_force.tuning.policy;
        let decision = match decide(charge, &fact, self.now(), policy) {
            Ok(decision) => Some(decision),
            Err(refusal) => {
                info!(charge = %charge.id, %refusal, "a fact changes nothing");
                None
            }
        };
        let fence = Fence::Claim(token.clone());
        let entry = Entry { charge: charge.id, fence, observation, decision };
        let mut before = charge.clone();
        let Some((mut result, mut entry)) = self.record(entry).await else { return };
        for _ in 0..TRUTH_TRIES {
            match result {
                Recorded::Written => {
                    if let Some(decision) = &entry.decision {
                        self.tell(&before, decision);
                    }
                    return;
                }
                Recorded::FenceLost if !is_truth(&fact) => return,
                Recorded::FenceLost => {}
                Recorded::Refused => {
                    error!(charge = %charge.id, "the database refuses what became known of a charge: it stays as it is and is looked up");
                    return;
                }
                Recorded::ImpUidTaken => fact = not_ours(fact, entry.decision.as_ref()),
            }
            let Some(fresh) = self.store.load(&[charge.id]).await.ok().and_then(|mut charges| charges.pop()) else { break };
            let Ok(decision) = decide(&fresh, &fact, self.now(), policy) else { return };
            if entry.decision.as_ref().is_some_and(|before| decision.was_told(&fresh, before)) {
                return;
            }
            let fence = if decision.is_truth { Fence::Version(fresh.version) } else { Fence::Claim(token.clone()) };
            let again = Entry { charge: charge.id, fence, observation: None, decision: Some(decision) };
            before = fresh;
            match self.record(again).await {
                Some((next, written)) => (result, entry) = (next, written),
                None => return,
            }
        }
        warn!(charge = %charge.id, "a fact could not be written; the next look-up finds it again");
    }

    /// Counts what a written decision came to, by account, class and plan.
    pub(super) fn count_ends(&self, before: &Charge, decision: &Decision) {
        let charge = &decision.charge;
        let Some(account) = self.accounts.iter().find(|account| account.account.id == charge.account) else { return };
        let adopted = decision.adopt.iter().any(|adopted| adopted.state == AttemptState::Declined);
        let ended = matches!(&decision.live, LiveChange::End { state: AttemptState::Declined, .. });
        if decision.refusal.is_some() || adopted || ended {
            let class = decision.refusal.unwrap_or(Class::Unknown);
            account.meters.count(&charge.plan, End::Declined(class), charge.amount);
        }
        if let Some(end) = End::of(charge.state).filter(|_| before.state != charge.state) {
            account.meters.count(&charge.plan, end, charge.amount);
        }
    }

    /// Counts and logs a change of state, once it is written.
    fn tell(&self, before: &Charge, decision: &Decision) {
        let charge = &decision.charge;
        let stats = &self.stats;
        if decision.live == LiveChange::Resend {
            stats.resends.add(1);
        }
        if matches!(&decision.live, LiveChange::End { state: AttemptState::Declined, .. })
            || decision.adopt.iter().any(|adopted| adopted.state == AttemptState::Declined)
        {
            stats.declined.add(1);
        }
        self.count_ends(before, decision);
        if let Some(why) = &decision.pause {
            self.brakes.forget();
            error!(account = %charge.account_name, charge = %charge.id, %why, "the account is paused: nobody is charged");
        }
        stats.incidents.add(decision.incidents.len() as u64);
        for incident in &decision.incidents {
            error!(charge = %charge.id, external_ref = %charge.external_ref, kind = incident.kind.name(), detail = %incident.detail, "incident");
        }
        if before.state == charge.state {
            // a declined charge stays due: the one line of its night that an operator looks for
            if decision.refusal.is_some() {
                let next_at = charge.next_at.map(display);
                info!(charge = %charge.id, external_ref = %charge.external_ref, period = %charge.period.start, amount = %charge.amount, tries = charge.tries, waiting = charge.waiting.name(), rule = decision.rule, next_at, "a charge was declined");
            }
            return;
        }
        match (before.state, charge.state) {
            (_, ChargeState::Doubt) => {
                stats.doubted.add(1);
                stats.doubt_changed(1);
            }
            (ChargeState::Doubt, _) => stats.doubt_changed(-1),
            _ => {}
        }
        match charge.state {
            ChargeState::Paid => {
                stats.paid.add(1);
                stats.amount.fetch_add(charge.amount.minor(), std::sync::atomic::Ordering::Relaxed);
            }
            ChargeState::Unpaid => stats.unpaid.add(1),
            ChargeState::Review => stats.reviewed.add(1),
            _ => {}
        }
        let (from, to) = (before.state.name(), charge.state.name());
        let next_at = charge.next_at.map(display);
        let period = charge.period.start.to_string();
        if charge.state == ChargeState::Review {
            warn!(charge = %charge.id, external_ref = %charge.external_ref, %period, amount = %charge.amount, from, to, rule = decision.rule, "a charge needs an operator: `rebilld review list`");
        } else {
            info!(charge = %charge.id, external_ref = %charge.external_ref, %period, amount = %charge.amount, from, to, rule = decision.rule, next_at, "a charge changed state");
        }
    }
}

/// A COMMIT whose answer was lost may have been made: writing the same again finds the claim gone, and says nothing else.
fn say_what_was_written_before(entries: &[Entry], results: &[Recorded]) {
    let lost = entries.iter().zip(results).filter(|(_, result)| **result == Recorded::FenceLost);
    for decision in lost.filter_map(|(entry, _)| entry.decision.as_ref()) {
        let (charge, to) = (&decision.charge, decision.charge.state.name());
        warn!(charge = %charge.id, external_ref = %charge.external_ref, to, rule = decision.rule, "the database had not answered a write of an outcome, and it is not written again: it was written before, or the charge is in other hands (`rebilld explain`)");
    }
}

/// Whether a fact may be a truth that needs no claim: something is paid.
fn is_truth(fact: &Fact) -> bool {
    use crate::domain::outcome::RecordStatus::Paid;
    match fact {
        Fact::Answered { outcome, .. } => matches!(outcome, Outcome::Paid(_) | Outcome::PaidWrong(..)),
        Fact::LookedUp(findings) | Fact::Ruled(_, findings) => findings.records.iter().any(|found| found.record.status == Paid),
        _ => false,
    }
}

/// The same fact, once it is known that the payment's `imp_uid` is booked to another attempt.
fn not_ours(fact: Fact, decision: Option<&Decision>) -> Fact {
    let taken: Vec<String> = decision
        .map(|decision| {
            let live = match &decision.live {
                LiveChange::End { imp_uid, .. } => imp_uid.clone(),
                _ => None,
            };
            live.into_iter().chain(decision.adopt.iter().map(|adopted| adopted.imp_uid.clone())).collect()
        })
        .unwrap_or_default();
    match fact {
        Fact::Answered { send, id_number, customer_uid, outcome } => {
            let outcome = match outcome {
                Outcome::Paid(record) => Outcome::PaidWrong(record, Mismatch::ImpUid),
                Outcome::Declined(record, _) => Outcome::Doubt {
                    cause: DoubtCause::Nonsense,
                    detail: "the record's imp_uid is booked to another attempt".to_owned(),
                    record: Some(record),
                },
                other => other,
            };
            Fact::Answered { send, id_number, customer_uid, outcome }
        }
        Fact::LookedUp(mut findings) => {
            for found in findings.records.iter_mut().filter(|found| taken.contains(&found.record.imp_uid)) {
                found.known = true;
                found.mismatch = Some(Mismatch::ImpUid);
            }
            Fact::LookedUp(findings)
        }
        other => other,
    }
}

/// What is kept of something that no gateway said.
pub(crate) fn note(text: &str) -> serde_json::Value {
    json!({ "note": text })
}
