//! Opens periods (W0): a subscription whose next period is near becomes a charge.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use tracing::{info, warn};

use super::{Engine, InForce};
use crate::domain::attempt::digest;
use crate::domain::lifecycle::{Missed, Next, NextPeriod, Problem, Progress, missed, next_period, seen};
use crate::domain::period::instant;
use crate::domain::plan::CatchUp;
use crate::domain::subscription::Status;
use crate::ports::store::{DueSchedule, Passed, PassedWhy, ScheduleAction, ScheduleStep, Stepped, StoreError};

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
                (ScheduleAction::Hold { text, .. }, Stepped::Done) => {
                    warn!(external_ref = %schedule.terms.external_ref, problem = %text, "several periods were missed: an operator decides");
                }
                (ScheduleAction::Pass(passed), Stepped::Done) => {
                    let (from, until, periods) = (passed.first, passed.until, passed.count);
                    info!(external_ref = %schedule.terms.external_ref, %from, %until, periods, "periods are passed over and never charged");
                }
                (ScheduleAction::End { why, .. }, Stepped::Done) => {
                    info!(external_ref = %schedule.terms.external_ref, why = why.name(), "a subscription has ended");
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
pub(super) fn step(in_force: &InForce, schedule: &DueSchedule, now: Timestamp) -> ScheduleStep {
    let terms = &schedule.terms;
    let step = |action, progress| ScheduleStep { subscription: terms.id, version: schedule.version, progress, action };
    let parked = |paused| step(ScheduleAction::Park { paused }, schedule.progress);
    match terms.status {
        Status::Active => {}
        Status::Paused => return parked(true),
        Status::Cancelled => return parked(false),
    }
    let wrong = |problem: Problem, progress| step(ScheduleAction::Problem { text: problem.to_string() }, progress);
    match seen(&in_force.catalog, terms, schedule.progress, schedule.was_paused, now) {
        Ok(progress) => match next(in_force, schedule, progress, now) {
            Ok(action) => step(action, progress),
            // the day on which it was seen is kept: what falls due while it is wrong is owed once it has been put right
            Err(problem) => wrong(problem, progress),
        },
        Err(problem) => {
            // the end of a pause is kept even if its days cannot be counted yet
            let end_of_pause = schedule.was_paused.then(|| now.to_zoned(TimeZone::UTC).date());
            let not_before = schedule.progress.not_before.max(end_of_pause);
            wrong(problem, Progress { not_before, ..schedule.progress })
        }
    }
}

fn next(in_force: &InForce, schedule: &DueSchedule, progress: Progress, now: Timestamp) -> Result<ScheduleAction, Problem> {
    let (terms, catalog) = (&schedule.terms, &in_force.catalog);
    let zone = catalog.zone(terms)?;
    let look_at = |due_at: Timestamp| due_at.checked_sub(in_force.tuning.open_ahead).unwrap_or(due_at);
    let (next, after) = match next_period(catalog, terms, &progress)? {
        Next::Period(next, after) => (next, after),
        Next::Paused => return Ok(ScheduleAction::Park { paused: true }),
        Next::Ended { why, on } => {
            let end = on.and_then(|day| midnight(day, &zone)).filter(|end| *end > now);
            return Ok(end.map_or(ScheduleAction::End { why, on }, |until| ScheduleAction::Wait { until }));
        }
    };
    if look_at(next.due_at) > now {
        return Ok(ScheduleAction::Wait { until: look_at(next.due_at) });
    }
    let following = next_period(catalog, terms, &after);
    if let Ok(Next::Period(second, _)) = &following
        && second.due_at <= now
        && let Some(action) = catch_up(in_force, schedule, &next, &progress, now)?
    {
        return Ok(action);
    }
    if next.amount.minor() == 0 {
        let NextPeriod { period, adjustments, changes_plan, .. } = next;
        let (first, until) = (period.start, period.end);
        let passed = Passed { why: PassedWhy::Free, first, until, count: 1, after, adjustments, changes_plan };
        return Ok(ScheduleAction::Pass(passed));
    }
    let next_look = match following {
        Ok(Next::Period(second, _)) => Some(look_at(second.due_at)),
        Ok(Next::Ended { on, .. }) => midnight(on.unwrap_or(next.period.end), &zone),
        // what is wrong with the period after this one is told when its time has come
        Ok(Next::Paused) | Err(_) => midnight(next.period.end, &zone),
    };
    let id_mode = in_force.id_modes.get(&schedule.account).copied().unwrap_or_default();
    let first_at = in_force.tuning.windows.first_start(next.due_at, &zone, seed(&terms.account, &terms.external_ref));
    let policy = catalog.plan(terms)?.while_past_due;
    Ok(ScheduleAction::Open { next, first_at, id_mode, policy, after, next_look, config_version: in_force.version })
}

/// What the plan says of several periods that are due at once. `None`: they are opened.
fn catch_up(
    in_force: &InForce,
    schedule: &DueSchedule,
    next: &NextPeriod,
    progress: &Progress,
    now: Timestamp,
) -> Result<Option<ScheduleAction>, Problem> {
    let terms = &schedule.terms;
    let asked_for = next.due_at <= schedule.known_since;
    let allowed = schedule.caught_up.is_some_and(|until| next.period.start < until);
    let found = if asked_for || allowed { None } else { missed(&in_force.catalog, terms, progress, now)? };
    let Some(found) = found.filter(|found| found.count > 1) else { return Ok(None) };
    Ok(match in_force.catalog.plan(terms)?.catch_up {
        CatchUp::All { most } if found.count <= most => None,
        CatchUp::LatestOnly => Some(ScheduleAction::Pass(Passed {
            why: PassedWhy::Missed,
            first: found.first.start,
            until: found.latest.start,
            count: found.count - 1,
            after: found.at_latest,
            adjustments: Vec::new(),
            changes_plan: next.changes_plan,
        })),
        CatchUp::All { .. } | CatchUp::Hold => Some(ScheduleAction::Hold { missed: found.count, text: told(&found) }),
    })
}

/// What an operator is told of missed periods.
fn told(found: &Missed) -> String {
    let Missed { count, first, latest, sum, .. } = found;
    let sum = sum.map_or_else(String::new, |sum| format!(", {sum}"));
    format!("{count} periods were missed, from {} to {}{sum}: `rebilld catch-up` opens or skips them", first.start, latest.start)
}

fn midnight(day: Date, zone: &TimeZone) -> Option<Timestamp> {
    instant(day, Time::midnight(), zone)
}

/// A number that belongs to a subscription for ever.
pub(crate) fn seed(account: &str, external_ref: &str) -> u64 {
    digest(&["spread/1", account, external_ref]).iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}
