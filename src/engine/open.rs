//! Opens periods (W0): a subscription whose next period is near becomes a charge.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use super::charge::Batch;
use super::{AccountRuntime, Engine, InForce};
use crate::domain::attempt::digest;
use crate::domain::charge::{self, Charge};
use crate::domain::lifecycle::{Ending, Missed, Next, NextPeriod, Problem, Progress, missed, next_period, passed_over, seen};
use crate::domain::period::instant;
use crate::domain::plan::CatchUp;
use crate::domain::subscription::{Payer, Status};
use crate::ports::store::{
    ClaimToken, Claimed, DueSchedule, OpenClaim, Passed, PassedWhy, ScheduleAction, ScheduleStep, Stepped, StoreError,
};

/// Room for charges that are claimed as they open, and what they are claimed with.
pub(crate) struct Opening {
    pub account: Arc<AccountRuntime>,
    pub room: usize,
    pub token: ClaimToken,
}

/// Periods of an account that has not been audited are not passed over before this is over.
const AUDIT_WAIT: SignedDuration = SignedDuration::from_secs(60);

impl Engine {
    /// Looks at one batch of schedules. A charge that falls due at once is claimed as it opens if its account has room; those
    /// come back as batches, ready to be sent. Also returns whether there may be more to open.
    pub(crate) async fn open_some(&self, limit: usize, mut rooms: Vec<Opening>) -> Result<(bool, Vec<Batch>), StoreError> {
        // one look, one config
        let in_force = self.in_force();
        let (now, claimed_at) = (self.now(), self.clock.boot());
        let due = self.store.due_schedules(now, u32::try_from(limit).unwrap_or(u32::MAX)).await?;
        if due.is_empty() {
            return Ok((false, Vec::new()));
        }
        // a plan and its subscriptions may have been written together: neither is seen without the other
        if in_force.plans.is_some_and(|known| due.iter().any(|schedule| schedule.plans_version != known)) {
            self.plans_changed.ring();
            return Ok((false, Vec::new()));
        }
        let on_hold = self.brakes.held.load(Ordering::Relaxed);
        let mut steps: Vec<ScheduleStep> = due.iter().map(|schedule| step(&in_force, schedule, now)).collect();
        for (step, schedule) in steps.iter_mut().zip(&due) {
            self.claim_with(step, schedule, now, &mut rooms);
            let unaudited =
                || self.accounts.iter().any(|of| of.account.id == schedule.account && of.unaudited.load(Ordering::Acquire));
            if on_hold {
                ask_first(&mut step.action);
            } else if passes_missed(&step.action) && unaudited() {
                // whether this is an old backup is what the audit is about to find out
                step.action = ScheduleAction::Wait { until: now.checked_add(AUDIT_WAIT).unwrap_or(now), trial: false };
            }
        }
        let results = self.store.step_schedules(now, &steps).await?;
        let mut opened = 0;
        let mut batches: Vec<Batch> = Vec::new();
        for ((schedule, step), result) in due.into_iter().zip(&steps).zip(&results) {
            let external_ref = &schedule.terms.external_ref;
            match (&step.action, result) {
                (ScheduleAction::Open { next, first_at, id_mode, .. }, Stepped::Done | Stepped::Claimed { .. }) => {
                    opened += 1;
                    let late = now.duration_since(next.due_at);
                    if late.as_hours() >= 24 {
                        let days = late.as_hours() / 24;
                        warn!(%external_ref, period = %next.period.start, days, "a period opens late");
                    }
                    let Stepped::Claimed { charge, owns_id } = *result else { continue };
                    let opening = charge::Opening {
                        tag: self.in_force().tuning.tag,
                        account: schedule.account,
                        terms: &schedule.terms,
                        next,
                        first_at: *first_at,
                        mode: *id_mode,
                    };
                    let charge = Charge::opened(charge, &opening);
                    // the plan that has taken over with this period
                    let payer = Payer { plan: schedule.terms.coming_plan().to_owned(), ..schedule.payer };
                    let claimed = Claimed { charge, payer, last_body: None, owns_id };
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
                (ScheduleAction::Hold { text, .. }, Stepped::Done) => {
                    warn!(%external_ref, problem = %text, "several periods were missed: an operator decides");
                }
                (ScheduleAction::Pass(passed), Stepped::Done) => {
                    let (from, until, periods) = (passed.first, passed.until, passed.count);
                    info!(%external_ref, %from, %until, periods, "periods are passed over and never charged");
                }
                (ScheduleAction::End { why, .. }, Stepped::Done) => {
                    info!(%external_ref, why = why.name(), "a subscription has ended");
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
        if let Err(why) = self.park_refused(now, &steps, &results).await {
            // they stay due and are refused again; what was opened beside them is sent
            warn!(%why, "refused periods could not be parked");
        }
        // rows that another session holds are looked at later: asked for at once again, they would be asked for without end
        Ok((results.iter().any(|result| *result != Stepped::Stale), batches))
    }

    /// A charge that is about to be sent anyway is claimed by the statement that opens it.
    fn claim_with(&self, step: &mut ScheduleStep, schedule: &DueSchedule, now: Timestamp, rooms: &mut [Opening]) {
        let ScheduleAction::Open { first_at, claim, .. } = &mut step.action else { return };
        let soon = now.checked_add(self.in_force().tuning.lead).unwrap_or(now);
        if *first_at > soon {
            return;
        }
        let free = |opening: &&mut Opening| opening.account.account.id == schedule.account && opening.room > 0;
        if let Some(opening) = rooms.iter_mut().find(free) {
            opening.room -= 1;
            let until = now.checked_add(self.in_force().tuning.claim).unwrap_or(now);
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
}

/// What becomes of a schedule now.
pub(super) fn step(in_force: &InForce, schedule: &DueSchedule, now: Timestamp) -> ScheduleStep {
    let terms = &schedule.terms;
    let step = |action, progress| ScheduleStep { subscription: terms.id, version: schedule.version, progress, action };
    let today = || now.to_zoned(in_force.catalog.zone(terms).unwrap_or(TimeZone::UTC)).date();
    let parked = |paused| step(ScheduleAction::Park { paused }, stopped(schedule, today()));
    match terms.status {
        Status::Active => {}
        Status::Paused => return parked(true),
        Status::Cancelled => return parked(false),
    }
    let wrong = |problem: Problem, progress| step(ScheduleAction::Problem { text: problem.to_string() }, progress);
    match seen(&in_force.catalog, terms, schedule.progress, schedule.known_since, schedule.was_paused, now) {
        Ok(progress) => match next(in_force, schedule, progress, now) {
            Ok(action @ ScheduleAction::End { why, on }) => {
                let day = match (why, on) {
                    // a period that was waiting when it was cancelled had started before that
                    (Ending::EndsOn, Some(on)) => on.min(today()),
                    (_, Some(on)) if !schedule.was_waiting => on.min(today()),
                    _ => today(),
                };
                step(action, stopped(schedule, day))
            }
            Ok(action) => step(action, progress),
            // the day on which it was seen is kept: what falls due while it is wrong is owed once it has been put right
            Err(problem) => wrong(problem, progress),
        },
        Err(problem) => {
            // the end of a pause is kept even if its days cannot be counted yet
            let progress = schedule.progress;
            wrong(problem, if schedule.was_paused { progress.resumed(today()) } else { progress })
        }
    }
}

/// Where a subscription stands that is paused or has ended, since a day; one that had stopped before stays as it was.
fn stopped(schedule: &DueSchedule, day: Date) -> Progress {
    let stopped_on = if schedule.was_paused { schedule.progress.stopped_on } else { Some(day) };
    Progress { stopped_on, ..schedule.progress }
}

fn next(in_force: &InForce, schedule: &DueSchedule, progress: Progress, now: Timestamp) -> Result<ScheduleAction, Problem> {
    let (terms, catalog) = (&schedule.terms, &in_force.catalog);
    let zone = catalog.zone(terms)?;
    let look_at = |due_at: Timestamp| due_at.checked_sub(in_force.tuning.open_ahead).unwrap_or(due_at);
    let trial = super::states::trial_until(catalog, terms, &progress).is_some_and(|until| until > now);
    let (next, after) = match next_period(catalog, terms, &progress)? {
        Next::Period(next, after) => (next, after),
        Next::Paused => return Ok(ScheduleAction::Park { paused: true }),
        Next::Ended { why, on } => {
            let end = on.and_then(|day| midnight(day, &zone)).filter(|end| *end > now);
            return Ok(end.map_or(ScheduleAction::End { why, on }, |until| ScheduleAction::Wait { until, trial }));
        }
    };
    if let Some(over) = passed_over(catalog, terms, &progress)? {
        let (first, until, count, after) = (over.first, over.until, over.count, over.after);
        let (why, changes_plan) = (PassedWhy::Paused, false);
        return Ok(ScheduleAction::Pass(Passed { why, first, until, count, after, adjustments: Vec::new(), changes_plan }));
    }
    if look_at(next.due_at) > now {
        return Ok(ScheduleAction::Wait { until: look_at(next.due_at), trial });
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
        // what a pause passes over after it is told at once
        Ok(Next::Period(..)) if passed_over(catalog, terms, &after)?.is_some() => Some(now),
        Ok(Next::Period(second, _)) => Some(look_at(second.due_at)),
        Ok(Next::Ended { on, .. }) => midnight(on.unwrap_or(next.period.end), &zone),
        // what is wrong with the period after this one is told when its time has come
        Ok(Next::Paused) | Err(_) => midnight(next.period.end, &zone),
    };
    let id_mode = in_force.id_modes.get(&schedule.account).copied().unwrap_or_default();
    let first_at = in_force.tuning.windows.first_start(next.due_at, &zone, seed(&terms.account, &terms.external_ref));
    let policy = catalog.plan(terms)?.while_past_due;
    Ok(ScheduleAction::Open { next, first_at, id_mode, policy, after, next_look, config_version: in_force.version, claim: None })
}

fn passes_missed(action: &ScheduleAction) -> bool {
    matches!(action, ScheduleAction::Pass(passed) if passed.why == PassedWhy::Missed)
}

/// An old backup takes for missed what has been paid since: on hold, nothing is passed over before an operator has looked.
fn ask_first(action: &mut ScheduleAction) {
    if !passes_missed(action) {
        return;
    }
    if let ScheduleAction::Pass(passed) = action {
        // the latest one would be charged, and is missed as well
        let missed = passed.count + 1;
        let text = format!(
            "{missed} periods were missed from {} on, as the database sees it on hold: `rebilld catch-up` opens or skips them",
            passed.first
        );
        *action = ScheduleAction::Hold { missed, text };
    }
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
    // one alone is charged late
    let Some((others, found)) = found.and_then(|found| Some((found.keep_latest(next.changes_plan)?, found))) else {
        return Ok(None);
    };
    Ok(match in_force.catalog.plan(terms)?.catch_up {
        CatchUp::All { most } if found.count <= most => None,
        CatchUp::LatestOnly => Some(ScheduleAction::Pass(others)),
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
