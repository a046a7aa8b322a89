//! W0: periods open.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::json;

use super::Database;
use super::codec::Row;
use super::db::{Fault, Tx};
use super::outbox::Told;
use super::rows;
use super::sql::{schedules, terms, writes};
use super::states;
use crate::domain::attempt::{IdBase, IdNumber, Tag};
use crate::domain::charge::{ChargeId, SubscriptionId, Waiting};
use crate::domain::event::{Event, EventKind};
use crate::domain::lifecycle::Progress;
use crate::domain::plan::WhilePastDue;
use crate::ports::store::{DueSchedule, Passed, PassedWhy, ScheduleAction, ScheduleStep, Stepped, StoreError};

/// How often a transaction is repeated after a deadlock.
const REPEATS: u32 = 5;

/// After a look half of whose rows or more are another session's, so many read past such rows: else those at the head of what is
/// due would hold up all others.
const READ_PAST: u32 = 256;

/// A schedule's row, locked.
struct Locked {
    version: i64,
    parked: Option<String>,
    problem: Option<String>,
    account_name: String,
    external_ref: String,
    account: i64,
    /// Its state, as it was last told.
    trialing: bool,
}

/// What a step comes to, and what it writes to the schedule.
struct Planned<'a> {
    result: Stepped,
    /// `None`: the schedule stays as it is.
    write: Option<Write<'a>>,
}

struct Write<'a> {
    next_look_at: Option<Timestamp>,
    /// Where the subscription stands from now on; `None`: as it was seen, with nothing opened.
    after: Option<Progress>,
    parked: Option<&'static str>,
    problem: Option<&'a str>,
    missed: Option<u32>,
}

impl Planned<'_> {
    fn only(result: Stepped) -> Self {
        Self { result, write: None }
    }
}

impl Database {
    pub(super) async fn schedules_due(&self, now: Timestamp, limit: u32) -> Result<Vec<DueSchedule>, Fault> {
        let reads_past = self.reads_past.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |looks| looks.checked_sub(1)).is_ok();
        let statement = if reads_past { &schedules::FREE_SCHEDULES } else { &schedules::DUE_SCHEDULES };
        let found = self.db.read(statement, &[now.into(), limit.into()]).await?;
        let mut due = Vec::with_capacity(found.len());
        for row in &found {
            match rows::due_schedule(row) {
                Ok(schedule) => due.push(schedule),
                // its neighbours are not concerned
                Err(fault) => self.park_unreadable(now, row, &fault).await?,
            }
        }
        self.complete(due.iter_mut().map(|schedule| &mut schedule.terms)).await?;
        Ok(due)
    }

    /// Takes a row that cannot be read out of the index until it changes: at the head of it, it would be asked for without end.
    async fn park_unreadable(&self, now: Timestamp, row: &Row, fault: &Fault) -> Result<(), Fault> {
        let mut tx = self.db.begin().await?;
        self.park_in(&mut tx, now, row, fault).await?;
        tx.commit().await
    }

    pub(super) async fn park_in(&self, tx: &mut Tx, now: Timestamp, row: &Row, fault: &Fault) -> Result<(), Fault> {
        let id = row.int("subscription_id")?;
        tracing::error!(subscription.id = id, error = %fault, "a subscription cannot be read and is not billed");
        let text = format!("the subscription cannot be read ({fault}): put its row right");
        let step = ScheduleStep {
            subscription: SubscriptionId(id),
            version: row.int("version")?,
            progress: Progress::default(),
            action: ScheduleAction::Problem { text: text.clone() },
        };
        let locked = lock(tx, &[step]).await?;
        let parked =
            tx.query(&schedules::PARK_UNREADABLE, &[id.into(), row.int("version")?.into(), text.as_str().into()]).await?;
        if let (Some(row), false) = (locked.get(&id), parked.is_empty())
            && row.problem.as_deref() != Some(&text)
        {
            let event = problem(now, row, &text);
            self.tell(tx, now, &[Told { event: &event, subscription: Some(id), charge: None }]).await?;
        }
        Ok(())
    }

    /// Lets schedules that were parked because of a wrong row or config be looked at again: at the start of a daemon.
    pub async fn retry_problems(&self, now: Timestamp) -> Result<u64, StoreError> {
        Ok(self.db.write(&schedules::RETRY_PROBLEMS, &[now.into()]).await?)
    }

    pub(super) async fn step_batch(&self, now: Timestamp, steps: &[ScheduleStep]) -> Result<Vec<Stepped>, Fault> {
        let results = self.step_all(now, steps).await?;
        let stale = results.iter().filter(|result| **result == Stepped::Stale).count();
        if stale > 0 && stale * 2 >= results.len() {
            self.reads_past.store(READ_PAST, Ordering::Relaxed);
        }
        Ok(results)
    }

    async fn step_all(&self, now: Timestamp, steps: &[ScheduleStep]) -> Result<Vec<Stepped>, Fault> {
        match self.step_together(now, steps, false).await {
            // one of them breaks a rule that was not foreseen: each stands alone
            Err(Fault::Integrity(why)) => {
                tracing::warn!(error = %why, "a batch of schedules breaks a rule: stepped one by one");
                let mut results = Vec::with_capacity(steps.len());
                for step in steps {
                    match self.step_together(now, std::slice::from_ref(step), true).await {
                        Ok(one) => results.extend(one),
                        Err(Fault::Integrity(_)) => results.push(Stepped::Refused),
                        Err(other) if results.is_empty() => return Err(other),
                        // those before it are committed, and some of them claimed; the rest stays due
                        Err(other) => {
                            tracing::warn!(error = %other, "the rest of a batch of schedules was not stepped");
                            results.resize(steps.len(), Stepped::Stale);
                            break;
                        }
                    }
                }
                Ok(results)
            }
            other => other,
        }
    }

    /// `ids_may_exist`: the derived id of a new charge may belong to another one, and then stays with it.
    async fn step_together(&self, now: Timestamp, steps: &[ScheduleStep], ids_may_exist: bool) -> Result<Vec<Stepped>, Fault> {
        let mut repeats = 0;
        loop {
            let mut tx = self.db.begin().await?;
            match self.step_once(&mut tx, now, steps, ids_may_exist).await {
                Ok(results) => {
                    tx.commit().await?;
                    return Ok(results);
                }
                Err(Fault::Conflict(_)) if repeats < REPEATS => repeats += 1,
                Err(other) => return Err(other),
            }
        }
    }

    pub(super) async fn step_once(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        steps: &[ScheduleStep],
        ids_may_exist: bool,
    ) -> Result<Vec<Stepped>, Fault> {
        let theirs = not_ours(tx, steps).await?;
        let locked = lock(tx, steps).await?;
        let mut seen = HashSet::new();
        let fresh: Vec<bool> = steps
            .iter()
            .map(|step| {
                let id = step.subscription.0;
                locked.get(&id).is_some_and(|row| row.version == step.version) && !theirs.contains(&id) && seen.insert(id)
            })
            .collect();
        let fresh_steps: Vec<&ScheduleStep> =
            steps.iter().zip(&fresh).filter(|(_, fresh)| **fresh).map(|(step, _)| step).collect();
        let waits = past_due(tx, &fresh_steps).await?;
        let last = last_before(tx, &fresh_steps, &waits).await?;
        let mut planned: Vec<Planned<'_>> = steps
            .iter()
            .zip(&fresh)
            .map(|(step, fresh)| if *fresh { plan(step, now, &waits, &last) } else { Planned::only(Stepped::Stale) })
            .collect();
        open(tx, steps, &mut planned, &locked, self.tag().await?, ids_may_exist).await?;
        take_plans(tx, now, steps, &planned).await?;
        self.write(tx, now, steps, &planned, &locked).await?;
        let marked = steps.iter().zip(&planned).filter(|(step, planned)| {
            planned.result == Stepped::Done && changes_state(&step.action, locked.get(&step.subscription.0))
        });
        states::mark(tx, now, marked.map(|(step, _)| (step.subscription, step.progress.opened_until.is_none()))).await?;
        Ok(planned.iter().map(|planned| planned.result).collect())
    }

    async fn write(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        steps: &[ScheduleStep],
        planned: &[Planned<'_>],
        locked: &HashMap<i64, Locked>,
    ) -> Result<(), Fault> {
        let mut batch = tx.batch();
        let mut events = Vec::new();
        for (step, planned) in steps.iter().zip(planned) {
            let Some(write) = &planned.write else { continue };
            let stands = write.after.unwrap_or(step.progress);
            let gaps = (!stands.gaps.is_empty()).then(|| stands.gaps.to_string());
            batch
                .row()
                .int("id", step.subscription.0)
                .at("next_look_at", write.next_look_at)
                .day("opened_until", write.after.and_then(|after| after.opened_until))
                .day("not_before", stands.not_before)
                .day("stopped_on", stands.stopped_on)
                .text("gaps", gaps.as_deref())
                .day("anchor", stands.anchor)
                .int("periods", write.after.map(|after| i64::from(after.periods)))
                .int("missed", write.missed.map(i64::from))
                .text("parked", write.parked)
                .text("problem", write.problem);
            if let (Some(text), Some(row)) = (write.problem, locked.get(&step.subscription.0))
                && row.problem.as_deref() != Some(text)
            {
                events.push((problem(now, row, text), step.subscription.0));
            }
            if let (Some(row), Stepped::Done) = (locked.get(&step.subscription.0), planned.result)
                && let Some(event) = told(&step.action, row, step.version)
            {
                events.push((event, step.subscription.0));
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        tx.execute(&schedules::UPDATE_SCHEDULES, &batch.params([])).await?;
        let told: Vec<Told<'_>> =
            events.iter().map(|(event, id)| Told { event, subscription: Some(*id), charge: None }).collect();
        self.tell(tx, now, &told).await
    }
}

/// Whether a step may be another state of its subscription: derived anew at once, by all its facts.
fn changes_state(action: &ScheduleAction, row: Option<&Locked>) -> bool {
    let had_ended = row.is_some_and(|row| row.parked.as_deref() == Some("ended"));
    let was_trialing = row.is_some_and(|row| row.trialing);
    match action {
        ScheduleAction::End { .. } => !had_ended,
        // one that stays so may end on another day
        ScheduleAction::Wait { trial, .. } if *trial || was_trialing => true,
        // cancelled by its status: the row's own change says so
        ScheduleAction::Park { .. } => false,
        _ => had_ended,
    }
}

async fn lock(tx: &mut Tx, steps: &[ScheduleStep]) -> Result<HashMap<i64, Locked>, Fault> {
    let ids: Vec<i64> = steps.iter().map(|step| step.subscription.0).collect();
    let rows = tx.query(&schedules::LOCK_STEPS, &[ids.into()]).await?;
    let locked = |row: &Row| {
        let locked = Locked {
            version: row.int("version")?,
            parked: row.text_opt("parked")?,
            problem: row.text_opt("problem")?,
            account_name: row.text("account")?,
            external_ref: row.text("external_ref")?,
            account: row.int("account_id")?,
            trialing: row.text_opt("trialing")?.is_some(),
        };
        Ok((row.int("subscription_id")?, locked))
    };
    rows.iter().map(locked).collect()
}

/// Subscriptions whose next period has to wait for an unresolved charge; `false`: that charge is just being written.
async fn past_due(tx: &mut Tx, steps: &[&ScheduleStep]) -> Result<HashMap<i64, bool>, Fault> {
    let holds = |step: &&&ScheduleStep| matches!(step.action, ScheduleAction::Open { policy: WhilePastDue::Hold, .. });
    let ids: Vec<i64> = steps.iter().filter(holds).map(|step| step.subscription.0).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut waits = HashMap::new();
    let mut charges = Vec::new();
    for row in &tx.query(&schedules::UNRESOLVED, &[ids.into()]).await? {
        waits.insert(row.int("subscription_id")?, false);
        charges.push(row.int("id")?);
    }
    if !charges.is_empty() {
        for row in &tx.query(&schedules::LOCK_UNRESOLVED, &[charges.into()]).await? {
            waits.insert(row.int("subscription_id")?, true);
        }
    }
    Ok(waits)
}

/// Start and end of the last period that starts before the new one ends: the only one that can overlap it.
async fn last_before(
    tx: &mut Tx,
    steps: &[&ScheduleStep],
    waits: &HashMap<i64, bool>,
) -> Result<HashMap<i64, (Date, Date)>, Fault> {
    let mut batch = tx.batch();
    for step in steps.iter().filter(|step| !waits.contains_key(&step.subscription.0)) {
        if let ScheduleAction::Open { next, .. } = &step.action {
            batch.row().int("id", step.subscription.0).day("period_end", next.period.end);
        }
    }
    if batch.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = tx.query(&schedules::LAST_BEFORE, &batch.params([])).await?;
    rows.iter().map(|row| Ok((row.int("subscription_id")?, (row.day("period_start")?, row.day("period_end")?)))).collect()
}

fn plan<'a>(
    step: &'a ScheduleStep,
    now: Timestamp,
    waits: &HashMap<i64, bool>,
    last: &HashMap<i64, (Date, Date)>,
) -> Planned<'a> {
    let id = step.subscription.0;
    let parked = |parked| Write { next_look_at: None, after: None, parked, problem: None, missed: None };
    let look = |at| Write { next_look_at: Some(at), after: None, parked: None, problem: None, missed: None };
    let write = match &step.action {
        ScheduleAction::Open { next, after, next_look, .. } => match (waits.get(&id), last.get(&id)) {
            (Some(true), _) => return Planned { result: Stepped::Blocked, write: Some(parked(Some("blocked"))) },
            (Some(false), _) => return Planned::only(Stepped::Stale),
            // opened before, although the schedule does not say so: it is put right
            (None, Some((start, end))) if *start == next.period.start => {
                let write = Write { after: Some(Progress { opened_until: Some(*end), ..*after }), ..look(now) };
                return Planned { result: Stepped::Stale, write: Some(write) };
            }
            (None, Some((_, end))) if *end > next.period.start => return Planned::only(Stepped::Refused),
            (None, _) => {
                let ended = next_look.is_none().then_some("ended");
                Write { next_look_at: *next_look, after: Some(*after), ..parked(ended) }
            }
        },
        ScheduleAction::Pass(passed) => Write { after: Some(passed.after), ..look(now) },
        ScheduleAction::Wait { until, .. } => look(*until),
        ScheduleAction::End { .. } => parked(Some("ended")),
        ScheduleAction::Hold { missed, text } => Write { problem: Some(text), missed: Some(*missed), ..parked(Some("problem")) },
        ScheduleAction::Park { paused: true } => parked(Some("paused")),
        ScheduleAction::Park { paused: false } => parked(Some("ended")),
        ScheduleAction::Problem { text } => Write { problem: Some(text), ..parked(Some("problem")) },
    };
    Planned { result: Stepped::Done, write: Some(write) }
}

async fn open(
    tx: &mut Tx,
    steps: &[ScheduleStep],
    planned: &mut [Planned<'_>],
    locked: &HashMap<i64, Locked>,
    tag: Tag,
    ids_may_exist: bool,
) -> Result<(), Fault> {
    let mut batch = tx.batch();
    for (step, _) in steps.iter().zip(planned.iter()).filter(|(_, planned)| planned.result == Stepped::Done) {
        let (ScheduleAction::Open { next, first_at, id_mode, config_version, claim, .. }, Some(row)) =
            (&step.action, locked.get(&step.subscription.0))
        else {
            continue;
        };
        batch
            .row()
            .int("id", step.subscription.0)
            .int("account", row.account)
            .day("period_start", next.period.start)
            .day("period_end", next.period.end)
            .at("due_at", next.due_at)
            .int("amount", next.amount.minor())
            .text("currency", next.amount.currency().code())
            .int("tax_free", next.tax_free)
            .int("vat_amount", next.vat_amount)
            .text("id_mode", id_mode.name())
            .int("config_version", *config_version)
            .text("waiting", if *first_at > next.due_at { Waiting::Window } else { Waiting::Turn }.name())
            .at("first_at", *first_at)
            .text("claim_token", claim.as_ref().map(|claim| claim.token.0.as_str()))
            .at("claim_until", claim.as_ref().map(|claim| claim.until));
    }
    let asked = batch.len();
    if asked == 0 {
        return use_adjustments(tx, steps, planned, &HashMap::new()).await;
    }
    let inserted = tx.query(&schedules::INSERT_CHARGES, &batch.params([])).await?;
    // The first id is written with the charge, so that an audit knows whose it is even if this database never sent it: a
    // restored one heals by that.
    let mut ids = tx.batch();
    for row in &inserted {
        let Some(of) = locked.get(&row.int("subscription_id")?) else { continue };
        let base = IdBase::derive(tag, &of.account_name, &of.external_ref, row.day("period_start")?);
        ids.row().text("uid", base.number(IdNumber::FIRST).as_str()).int("charge", row.int("id")?);
    }
    let statement = if ids_may_exist { &writes::INSERT_IDS } else { &writes::INSERT_NEW_IDS };
    if !ids.is_empty() {
        tx.execute(statement, &ids.params([])).await?;
    }
    let inserted = inserted
        .iter()
        .map(|row| Ok((row.int("subscription_id")?, ChargeId(row.int("id")?))))
        .collect::<Result<HashMap<i64, ChargeId>, Fault>>()?;
    use_adjustments(tx, steps, planned, &inserted).await?;
    for (step, planned) in steps.iter().zip(planned.iter_mut()).filter(|(_, planned)| planned.result == Stepped::Done) {
        let ScheduleAction::Open { claim, .. } = &step.action else { continue };
        match inserted.get(&step.subscription.0) {
            Some(charge) if claim.is_some() => planned.result = Stepped::Claimed { charge: *charge, owns_id: !ids_may_exist },
            Some(_) => {}
            None => *planned = Planned::only(Stepped::Stale),
        }
    }
    Ok(())
}

/// A row, or the config, is wrong.
fn problem(now: Timestamp, row: &Locked, text: &str) -> Event {
    let data = json!({ "account": row.account_name, "external_ref": row.external_ref, "problem": text });
    let facts = [row.account_name.as_str(), row.external_ref.as_str(), text, &now.to_string()];
    Event::new(EventKind::SubscriptionProblem, &facts, data)
}

/// What is told of a step that was done.
fn told(action: &ScheduleAction, row: &Locked, version: i64) -> Option<Event> {
    let of = [row.account_name.as_str(), row.external_ref.as_str()];
    match action {
        ScheduleAction::Pass(passed) => Some(skipped(of[0], of[1], passed)),
        // told before, and nothing has come of it since
        ScheduleAction::End { .. } if row.parked.as_deref() == Some("ended") => None,
        ScheduleAction::End { why, on } => {
            let day = on.map(|day| day.to_string()).unwrap_or_default();
            let data = json!({ "account": of[0], "external_ref": of[1], "why": why.name(), "ended_on": on });
            // by the row's version too: it may be taken back, and end again on the same day
            let facts = [of[0], of[1], why.name(), &day, &version.to_string()];
            Some(Event::new(EventKind::SubscriptionEnded, &facts, data))
        }
        _ => None,
    }
}

/// Periods that are never charged.
pub(super) fn skipped(account: &str, external_ref: &str, passed: &Passed) -> Event {
    let why = match passed.why {
        PassedWhy::Missed => "missed",
        PassedWhy::Free => "free",
        PassedWhy::Paused => "paused",
    };
    let data = json!({
        "account": account,
        "external_ref": external_ref,
        "why": why,
        "periods": passed.count,
        "from": passed.first,
        "until": passed.until,
    });
    let facts = [account, external_ref, why, &passed.first.to_string(), &passed.until.to_string()];
    Event::new(EventKind::SubscriptionSkipped, &facts, data)
}

fn changes_plan(action: &ScheduleAction) -> bool {
    match action {
        ScheduleAction::Open { next, .. } => next.changes_plan,
        ScheduleAction::Pass(passed) => passed.changes_plan,
        _ => false,
    }
}

/// Subscriptions whose row is to be written and that another session has in hand: looked at later. Locked before their
/// schedules, as that session does.
async fn not_ours(tx: &mut Tx, steps: &[ScheduleStep]) -> Result<HashSet<i64>, Fault> {
    let ids: Vec<i64> = steps.iter().filter(|step| changes_plan(&step.action)).map(|step| step.subscription.0).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let mut theirs: HashSet<i64> = ids.iter().copied().collect();
    for row in &tx.query(&terms::LOCK_SUBSCRIPTIONS, &[ids.into()]).await? {
        theirs.remove(&row.int("id")?);
    }
    Ok(theirs)
}

/// `next_plan` takes effect: the public row says so from now on.
async fn take_plans(tx: &mut Tx, now: Timestamp, steps: &[ScheduleStep], planned: &[Planned<'_>]) -> Result<(), Fault> {
    let is_done = |result| matches!(result, Stepped::Done | Stepped::Claimed { .. });
    let done = steps.iter().zip(planned).filter(|(_, planned)| is_done(planned.result));
    let ids: Vec<i64> = done.filter(|(step, _)| changes_plan(&step.action)).map(|(step, _)| step.subscription.0).collect();
    if !ids.is_empty() {
        tx.execute(&terms::TAKE_PLANS, &[ids.into(), now.into()]).await?;
    }
    Ok(())
}

/// Adjustments belong to the period that was opened with them, or passed over for them.
async fn use_adjustments(
    tx: &mut Tx,
    steps: &[ScheduleStep],
    planned: &[Planned<'_>],
    charges: &HashMap<i64, ChargeId>,
) -> Result<(), Fault> {
    let mut batch = tx.json_batch();
    for (step, _) in steps.iter().zip(planned).filter(|(_, planned)| planned.result == Stepped::Done) {
        let charge = charges.get(&step.subscription.0).map(|charge| charge.0);
        let (used, on) = match &step.action {
            ScheduleAction::Open { next, .. } if charge.is_some() => (&next.adjustments, next.period.start),
            ScheduleAction::Pass(passed) => (&passed.adjustments, passed.first),
            _ => continue,
        };
        for id in used {
            batch.row().int("id", *id).day("used_on", on).int("charge", charge);
        }
    }
    if !batch.is_empty() {
        tx.execute(&terms::USE_ADJUSTMENTS, &[batch.param()]).await?;
    }
    Ok(())
}
