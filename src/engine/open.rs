//! Opens periods (W0): a subscription whose next period is near becomes a charge.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tracing::{info, warn};

use super::{Engine, InForce};
use crate::domain::plan::Plan;
use crate::domain::subscription::{Problem, Status};
use crate::ports::store::{DueSchedule, ScheduleAction, ScheduleStep, Stepped, StoreError};

impl Engine {
    /// Looks at one batch of schedules. Returns whether there may be more.
    pub(crate) async fn open_some(&self) -> Result<bool, StoreError> {
        // one look, one config
        let (now, in_force) = (self.now(), self.in_force());
        let due = self.store.due_schedules(now, in_force.tuning.batch).await?;
        if due.is_empty() {
            return Ok(false);
        }
        let steps: Vec<ScheduleStep> = due.iter().map(|schedule| step(&in_force, schedule, now)).collect();
        let results = self.store.step_schedules(now, &steps).await?;
        let mut opened = 0;
        for ((schedule, step), result) in due.iter().zip(&steps).zip(&results) {
            match (&step.action, result) {
                (ScheduleAction::Open { next, .. }, Stepped::Done) => {
                    opened += 1;
                    let late = now.duration_since(next.due_at);
                    if late.as_hours() >= 24 {
                        let days = late.as_hours() / 24;
                        warn!(external_ref = %schedule.terms.external_ref, period = %next.period.start, days, "a period opens late");
                    }
                }
                (ScheduleAction::Problem { text }, Stepped::Done) => {
                    warn!(external_ref = %schedule.terms.external_ref, problem = %text, "a subscription cannot be billed until its row or its plan is put right");
                }
                (ScheduleAction::Park { .. }, Stepped::Done) => {
                    info!(external_ref = %schedule.terms.external_ref, status = schedule.terms.status.name(), "a subscription is no longer billed");
                }
                (_, Stepped::Refused) => {
                    warn!(external_ref = %schedule.terms.external_ref, "the database refuses the next period: it overlaps one that is opened");
                }
                _ => {}
            }
        }
        self.stats.opened.add(opened);
        self.park_refused(now, &steps, &results).await?;
        // rows that another session holds are looked at later: asked for at once again, they would be asked for without end
        Ok(results.iter().any(|result| *result != Stepped::Stale))
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
}

/// What becomes of a schedule now.
fn step(in_force: &InForce, schedule: &DueSchedule, now: Timestamp) -> ScheduleStep {
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
    let Some(plan) = in_force.plans.get(&terms.plan) else {
        let text = format!("there is no plan `{}` in the config", terms.plan);
        return step(ScheduleAction::Problem { text }, kept);
    };
    match next(in_force, schedule, plan, now) {
        Ok((action, not_before)) => step(action, Some(not_before)),
        Err(problem) => step(ScheduleAction::Problem { text: problem.to_string() }, kept),
    }
}

fn next(in_force: &InForce, schedule: &DueSchedule, plan: &Plan, now: Timestamp) -> Result<(ScheduleAction, Date), Problem> {
    let terms = &schedule.terms;
    let today = now.to_zoned(terms.zone(plan)?).date();
    let not_before = terms.not_before(schedule.not_before, schedule.was_paused, today);
    let next = terms.next_period(plan, schedule.opened_until, not_before)?;
    let look_at = |due_at: Timestamp| due_at.checked_sub(in_force.tuning.open_ahead).unwrap_or(due_at);
    if look_at(next.due_at) > now {
        return Ok((ScheduleAction::Wait { until: look_at(next.due_at) }, not_before));
    }
    // the end of the calendar ends the schedule, not the charge before it
    let after = terms.next_period(plan, Some(next.period.end), not_before).ok();
    let next_look = after.map(|after| look_at(after.due_at));
    let id_mode = in_force.id_modes.get(&schedule.account).copied().unwrap_or_default();
    let config_version = in_force.version;
    Ok((ScheduleAction::Open { next, id_mode, policy: plan.while_past_due, next_look, config_version }, not_before))
}
