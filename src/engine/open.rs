//! Opens periods (W0): a subscription whose next period is near becomes a charge.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tracing::{info, warn};

use super::charge::Batch;
use super::{AccountRuntime, Engine};
use crate::domain::charge::{self, Charge};
use crate::domain::plan::Plan;
use crate::domain::subscription::{Problem, Status};
use crate::ports::store::{ClaimToken, Claimed, DueSchedule, OpenClaim, ScheduleAction, ScheduleStep, Stepped, StoreError};

/// Room for charges that are claimed as they open, and what they are claimed with.
pub(crate) struct Opening {
    pub account: Arc<AccountRuntime>,
    pub room: usize,
    pub token: ClaimToken,
}

impl Engine {
    /// Looks at one batch of schedules. A charge that falls due at once is claimed as it opens if its account has room; those
    /// come back as batches, ready to be sent. Also returns whether there may be more to open.
    pub(crate) async fn open_some(&self, limit: usize, mut rooms: Vec<Opening>) -> Result<(bool, Vec<Batch>), StoreError> {
        let (now, claimed_at) = (self.now(), self.clock.boot());
        let due = self.store.due_schedules(now, u32::try_from(limit).unwrap_or(u32::MAX)).await?;
        if due.is_empty() {
            return Ok((false, Vec::new()));
        }
        let mut steps: Vec<ScheduleStep> = due.iter().map(|schedule| self.step(schedule, now)).collect();
        for (step, schedule) in steps.iter_mut().zip(&due) {
            self.claim_with(step, schedule, now, &mut rooms);
        }
        let results = self.store.step_schedules(now, &steps).await?;
        let mut opened = 0;
        let mut batches: Vec<Batch> = Vec::new();
        for ((schedule, step), result) in due.into_iter().zip(&steps).zip(&results) {
            let external_ref = &schedule.terms.external_ref;
            match (&step.action, result) {
                (ScheduleAction::Open { next, id_mode, .. }, Stepped::Done | Stepped::Claimed { .. }) => {
                    opened += 1;
                    let late = now.duration_since(next.due_at);
                    if late.as_hours() >= 24 {
                        let days = late.as_hours() / 24;
                        warn!(%external_ref, period = %next.period.start, days, "a period opens late");
                    }
                    let Stepped::Claimed { charge, owns_id } = *result else { continue };
                    let opening = charge::Opening {
                        tag: self.tuning.tag,
                        account: schedule.account,
                        terms: &schedule.terms,
                        next,
                        mode: *id_mode,
                    };
                    let charge = Charge::opened(charge, &opening);
                    let claimed = Claimed { charge, payer: schedule.payer, last_body: None, owns_id };
                    let of_account = |batch: &&mut Batch| batch.account.account.id == schedule.account;
                    if let Some(batch) = batches.iter_mut().find(of_account) {
                        batch.charges.push(claimed);
                    } else if let Some(room) = rooms.iter().find(|room| room.account.account.id == schedule.account) {
                        let (account, token) = (Arc::clone(&room.account), room.token.clone());
                        batches.push(Batch { account, token, claimed_at, charges: vec![claimed] });
                    }
                }
                (ScheduleAction::Problem { text }, Stepped::Done) => {
                    warn!(%external_ref, problem = %text, "a subscription cannot be billed until its row or its plan is put right");
                }
                (ScheduleAction::Park { .. }, Stepped::Done) => {
                    info!(%external_ref, status = schedule.terms.status.name(), "a subscription is no longer billed");
                }
                (_, Stepped::Refused) => {
                    warn!(%external_ref, "the database refuses the next period: it overlaps one that is opened");
                }
                _ => {}
            }
        }
        for batch in &batches {
            batch.account.limits.claimed(batch.charges.len());
        }
        self.stats.opened.add(opened);
        self.park_refused(now, &steps, &results).await?;
        // rows that another session holds are looked at later: asked for at once again, they would be asked for without end
        Ok((results.iter().any(|result| *result != Stepped::Stale), batches))
    }

    /// A charge that is about to be sent anyway is claimed by the statement that opens it.
    fn claim_with(&self, step: &mut ScheduleStep, schedule: &DueSchedule, now: Timestamp, rooms: &mut [Opening]) {
        let ScheduleAction::Open { next, claim, .. } = &mut step.action else { return };
        let soon = now.checked_add(self.tuning.lead).unwrap_or(now);
        if next.due_at > soon {
            return;
        }
        let free = |opening: &&mut Opening| opening.account.account.id == schedule.account && opening.room > 0;
        if let Some(opening) = rooms.iter_mut().find(free) {
            opening.room -= 1;
            let until = now.checked_add(self.tuning.claim).unwrap_or(now);
            *claim = Some(OpenClaim { token: opening.token.clone(), until });
        }
    }

    /// A period that the schema refuses would stay due for ever: it is shown as a problem until somebody looks.
    async fn park_refused(&self, now: Timestamp, steps: &[ScheduleStep], results: &[Stepped]) -> Result<(), StoreError> {
        let text = "the database refuses the next period: it overlaps one that was opened before".to_owned();
        let parked: Vec<ScheduleStep> = steps
            .iter()
            .zip(results)
            .filter(|(_, result)| **result == Stepped::Refused)
            .map(|(step, _)| ScheduleStep { action: ScheduleAction::Problem { text: text.clone() }, ..step.clone() })
            .collect();
        if !parked.is_empty() {
            self.store.step_schedules(now, &parked).await?;
        }
        Ok(())
    }

    /// What becomes of a schedule now.
    fn step(&self, schedule: &DueSchedule, now: Timestamp) -> ScheduleStep {
        let terms = &schedule.terms;
        let step = |action, not_before| ScheduleStep { subscription: terms.id, version: schedule.version, not_before, action };
        // the end of a pause is kept even if nothing can be opened yet
        let end_of_pause = schedule.was_paused.then(|| now.to_zoned(TimeZone::UTC).date());
        let kept = schedule.not_before.max(end_of_pause);
        match terms.status {
            Status::Active => {}
            Status::Paused => return step(ScheduleAction::Park { paused: true }, schedule.not_before),
            Status::Cancelled => return step(ScheduleAction::Park { paused: false }, schedule.not_before),
        }
        let Some(plan) = self.plans.get(&terms.plan) else {
            let text = format!("there is no plan `{}` in the config", terms.plan);
            return step(ScheduleAction::Problem { text }, kept);
        };
        match self.next(schedule, plan, now) {
            Ok((action, not_before)) => step(action, Some(not_before)),
            Err(problem) => step(ScheduleAction::Problem { text: problem.to_string() }, kept),
        }
    }

    fn next(&self, schedule: &DueSchedule, plan: &Plan, now: Timestamp) -> Result<(ScheduleAction, Date), Problem> {
        let terms = &schedule.terms;
        let today = now.to_zoned(terms.zone(plan)?).date();
        let not_before = terms.not_before(schedule.not_before, schedule.was_paused, today);
        let next = terms.next_period(plan, schedule.opened_until, not_before)?;
        let look_at = |due_at: Timestamp| due_at.checked_sub(self.tuning.open_ahead).unwrap_or(due_at);
        if look_at(next.due_at) > now {
            return Ok((ScheduleAction::Wait { until: look_at(next.due_at) }, not_before));
        }
        // the end of the calendar ends the schedule, not the charge before it
        let after = terms.next_period(plan, Some(next.period.end), not_before).ok();
        let next_look = after.map(|after| look_at(after.due_at));
        let id_mode = self.id_modes.get(&schedule.account).copied().unwrap_or_default();
        Ok((ScheduleAction::Open { next, id_mode, policy: plan.while_past_due, next_look, claim: None }, not_before))
    }
}
