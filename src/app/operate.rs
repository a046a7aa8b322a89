//! What operators ask of the engine: rulings, look-ups now, audits, the end of a hold. None of them ever sends a charge.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::assemble::{Assembled, assemble, open};
use super::channels;
use super::errors::AppError;
use super::guard::hold_for_untold;
use crate::config::Loaded;
use crate::domain::charge::{ChargeId, ChargeState};
use crate::domain::decide::Ruling;
use crate::domain::fuse::FuseState;
use crate::engine::Account;
use crate::engine::audit::COMPLETE;
use crate::ports::clock::Clock;
use crate::ports::store::Store;
use crate::store::desk::{ChargeFilter, Reach, Signed};
use crate::store::mark::MarkFile;
use crate::store::{Database, OpenError, deeds};
use crate::time::SystemClock;

/// Charges that one `reconcile` takes up at most.
const MOST: u32 = 100_000;
/// Charges looked up together.
const BATCH: usize = 200;

/// What an audit of one account came to.
#[derive(Debug, Clone)]
pub struct Audited {
    pub account: String,
    pub clean: bool,
    /// Counts, without personal data.
    pub summary: serde_json::Value,
}

pub(super) async fn assembled(loaded: &Loaded) -> Result<Assembled, AppError> {
    let database = open(&loaded.settings, false).await?;
    if !database.pending_migrations().await?.is_empty() {
        return Err(OpenError::NotMigrated.into());
    }
    let clock = Arc::new(SystemClock::new());
    clock.set(database.clock().await?);
    assemble(loaded, database, clock as Arc<dyn Clock>, false, |_| {}).await
}

fn named<'a>(assembled: &'a Assembled, name: &str) -> Result<&'a Arc<Account>, AppError> {
    let account = assembled.accounts.iter().find(|account| account.name == name);
    account.ok_or_else(|| AppError::NoAccount(name.to_owned()))
}

pub(super) fn chosen(assembled: &Assembled, name: Option<&str>) -> Result<Vec<Arc<Account>>, AppError> {
    match name {
        None => match assembled.moved.first() {
            Some(held) if assembled.accounts.is_empty() => Err(AppError::NoAccount(held.name.clone())),
            _ => Ok(assembled.accounts.clone()),
        },
        Some(name) => Ok(vec![Arc::clone(named(assembled, name)?)]),
    }
}

/// An operator's ruling on a charge (R8), after the look-up that none of them skips. Returns what became of it.
pub async fn rule(loaded: &Loaded, charge: i64, ruling: Ruling, signed: &Signed) -> Result<String, AppError> {
    let assembled = assembled(loaded).await?;
    let charge = ChargeId(charge);
    let found = assembled.database.load(&[charge]).await?.pop();
    let Some(before) = found else { return Err(AppError::Refused(format!("there is no charge {charge}"))) };
    let account = named(&assembled, &before.account_name)?;
    let word = match &ruling {
        Ruling::Paid { .. } => "paid",
        Ruling::Unpaid => "unpaid",
        Ruling::Resend => "resend",
        Ruling::Void => "void",
        Ruling::Retry => "retry",
    };
    // before it is carried out: a ruling that is refused was asked for all the same
    let subject = format!("{}:{}", before.external_ref, before.period.start);
    let detail = json!({ "charge": charge.0, "ruling": word, "state": before.state.name() });
    let now = assembled.database.clock().await?;
    assembled.database.desk().note(now, signed, &format!("rule {word}"), &subject, &detail).await?;
    let decision = assembled.engine.rule(account, charge, ruling).await?;
    let next = match decision.charge.next_at.filter(|_| decision.charge.state.is_unresolved()) {
        Some(next) if next <= now => ", due now".to_owned(),
        Some(next) => format!(", looked at again at {next}"),
        None => String::new(),
    };
    Ok(format!("{subject} is {}{next} ({})", decision.charge.state.name(), decision.rule))
}

/// Looks up what is in doubt or in review, now. Returns how many charges were looked up and how many left that state.
pub async fn reconcile(loaded: &Loaded, account: Option<&str>) -> Result<(u64, u64), AppError> {
    let assembled = assembled(loaded).await?;
    assembled.database.adopt_interrupted(assembled.database.clock().await?, MOST).await?;
    let mut looked_up = 0;
    let before = unresolved(&assembled.database, account).await?;
    for account in chosen(&assembled, account)? {
        let charges: Vec<ChargeId> = before.iter().filter(|(name, _)| *name == account.name).map(|(_, charge)| *charge).collect();
        for batch in charges.chunks(BATCH) {
            looked_up += assembled.engine.look_up_now(account.id, batch).await? as u64;
        }
    }
    let after = unresolved(&assembled.database, account).await?;
    let left = before.iter().filter(|charge| !after.contains(charge)).count();
    Ok((looked_up, left as u64))
}

async fn unresolved(database: &Database, account: Option<&str>) -> Result<Vec<(String, ChargeId)>, AppError> {
    let mut charges = Vec::new();
    for state in [ChargeState::Doubt, ChargeState::Review] {
        let account = account.map(str::to_owned);
        let filter = ChargeFilter { state: Some(state), account, limit: MOST, ..ChargeFilter::default() };
        let rows = database.desk().charges(&filter).await?;
        charges.extend(rows.into_iter().map(|row| (row.account, ChargeId(row.id))));
    }
    Ok(charges)
}

/// Compares both ledgers over so many days.
pub async fn audit(loaded: &Loaded, account: Option<&str>, days: u32) -> Result<Vec<Audited>, AppError> {
    let assembled = assembled(loaded).await?;
    let span = SignedDuration::from_hours(i64::from(days) * 24);
    let mut audited = Vec::new();
    for account in chosen(&assembled, account)? {
        let report = assembled.engine.audit(&account, span).await?;
        audited.push(Audited { account: account.name.clone(), clean: report.incidents == 0, summary: report.summary() });
    }
    Ok(audited)
}

/// Ends a hold, once the audit has read back to two days before the newest row and Q has passed (docs/protocol.md, Clock, restore,
/// audit). Returns what to tell the operator.
pub async fn release_hold(loaded: &Loaded, reach: &Reach, signed: &Signed) -> Result<String, AppError> {
    match reach {
        Reach::Database => release_database(loaded, signed).await,
        Reach::Account(name) => release_account(loaded, name, signed).await,
    }
}

/// Refuses while Q has not passed since the hold began.
fn q_has_passed(loaded: &Loaded, held_at: Option<Timestamp>, now: Timestamp) -> Result<(), AppError> {
    let quiet = SignedDuration::try_from(loaded.settings.worker.quiet).unwrap_or(SignedDuration::MAX);
    match held_at.and_then(|at| at.checked_add(quiet).ok()) {
        Some(until) if until > now => Err(AppError::TryLater(format!(
            "Q ({} min) has not passed since the hold began: what was sent before it may still become visible. Again after {until}",
            quiet.as_mins()
        ))),
        _ => Ok(()),
    }
}

/// A complete audit that reaches back to two days before the newest row, of every account that may be asked.
async fn audited_clean(assembled: &Assembled, accounts: &[Arc<Account>], now: Timestamp) -> Result<(), AppError> {
    let newest = assembled.database.newest_row().await?.unwrap_or(now);
    let back = now.duration_since(newest) + SignedDuration::from_hours(48);
    for account in accounts {
        let report = assembled.engine.audit(account, back.max(COMPLETE)).await?;
        if report.incidents > 0 {
            return Err(AppError::Refused(format!(
                "the audit of account {} found {} differences between the ledgers: see `rebilld incidents list`; the hold stays",
                account.name, report.incidents
            )));
        }
    }
    Ok(())
}

async fn release_database(loaded: &Loaded, signed: &Signed) -> Result<String, AppError> {
    let assembled = assembled(loaded).await?;
    let database = &assembled.database;
    let now = database.clock().await?;
    let status = database.desk().status().await?;
    let Some(status) = status.filter(|status| status.held) else {
        return Ok("the database is not held".to_owned());
    };
    // it may have been held for something else before it was copied
    let told = status.hold_reason.clone().unwrap_or_default();
    if let Some(why) = hold_for_untold(&loaded.settings, database, &told, now).await? {
        return Err(AppError::TryLater(format!("{why} Nobody had noticed that before: Q counts from now on")));
    }
    q_has_passed(loaded, status.held_at, now)?;
    audited_clean(&assembled, &assembled.accounts, now).await?;
    // what the state directory remembers is now known to be settled
    let changed =
        || AppError::TryLater("the hold has another reason now than when the audit began: see `rebilld hold status`".to_owned());
    let still = database.desk().status().await?;
    if still.is_none_or(|still| (still.held_at, still.hold_reason) != (status.held_at, status.hold_reason)) {
        return Err(changed());
    }
    let identity = database.identity().await?;
    let wrong = |why| AppError::state_dir(&loaded.settings, why);
    let (_, before) = MarkFile::open(&loaded.settings.state_dir, &identity.incarnation).map_err(wrong)?;
    let remembered = before.as_ref().map_or(0, |mark| mark.mark);
    let mark = database.accept_copy(remembered).await?;
    MarkFile::rewrite(&loaded.settings.state_dir, &identity.incarnation, mark).map_err(wrong)?;
    match database.brakes().await?.newest_entry {
        Some(entry) => deeds::accept(&loaded.settings.state_dir, &identity.incarnation, &entry),
        None => deeds::forget(&loaded.settings.state_dir),
    }
    .map_err(wrong)?;
    if !database.desk().release_database(now, status.held_at, signed).await? {
        return Err(changed());
    }
    let sends = still_stopped(database, None).await?.unwrap_or_else(|| "charges are sent again".to_owned());
    let unarmed = still_unarmed(database).await?;
    Ok(format!("the hold is over, both ledgers agree: {sends}{unarmed}"))
}

/// Which other brakes of the database keep charges from being sent: of one account, or of any. Who has just let go of one is not to believe that
/// nothing else is pulled.
async fn still_stopped(database: &Database, of: Option<&str>) -> Result<Option<String>, AppError> {
    let desk = database.desk();
    let status = desk.status().await?;
    let all: Vec<&str> = [
        (status.as_ref().is_some_and(|status| status.killed), "the kill switch is on"),
        (status.as_ref().is_some_and(|status| status.held), "the database is on hold"),
    ]
    .into_iter()
    .filter_map(|(is, what)| is.then_some(what))
    .collect();
    if !all.is_empty() {
        return Ok(Some(format!("still stopped, {} (`rebilld hold status`)", all.join(", "))));
    }
    let mut some = Vec::new();
    for account in desk.accounts().await?.into_iter().filter(|account| of.is_none_or(|name| account.name == name)) {
        let fuse = account.fuse.map(|fuse| match fuse {
            FuseState::Blown => "its fuse has blown",
            FuseState::Rejected => "its wave was rejected",
            FuseState::Approved => "only its approved wave is sent",
        });
        let pulled =
            [(account.killed, "its kill switch is on"), (account.held, "it is on hold"), (account.paused, "it is paused")];
        let pulled = pulled.into_iter().filter_map(|(is, what)| is.then_some(what)).chain(fuse);
        some.extend(pulled.map(|what| format!("account {}: {what}", account.name)));
    }
    // of several accounts the others send
    let sends = if of.is_some() { "still stopped" } else { "charges are sent again where no brake is pulled" };
    Ok((!some.is_empty()).then(|| format!("{sends}, {} (`rebilld hold status`)", some.join(", "))))
}

/// What else stands in the way: live accounts that nobody has armed in this database.
async fn still_unarmed(database: &Database) -> Result<String, AppError> {
    let accounts = database.desk().accounts().await?;
    let unarmed: Vec<String> = accounts
        .iter()
        .filter(|account| !account.armed)
        .map(|account| format!("`rebilld arm --account {}`", account.name))
        .collect();
    Ok(if unarmed.is_empty() { String::new() } else { format!("; to be armed first: {}", unarmed.join(", ")) })
}

async fn release_account(loaded: &Loaded, name: &str, signed: &Signed) -> Result<String, AppError> {
    let assembled = assembled(loaded).await?;
    let database = &assembled.database;
    let now = database.clock().await?;
    let accounts = database.desk().accounts().await?;
    let Some(status) = accounts.into_iter().find(|account| account.name == name) else {
        return Err(AppError::NoAccount(name.to_owned()));
    };
    if !status.held && !status.paused {
        return Ok(format!("account {name} is neither held nor paused"));
    }
    if let Some((account, endpoint)) = assembled.moved.iter().find(|row| row.name == name).map(|row| (row.id, row.configured)) {
        let open = database.open_sends(account).await?;
        if open > 0 {
            return Err(AppError::Refused(format!(
                "{open} sends of account {name} are unresolved, and can only be looked up where they were made: put the old imp_key, tier and base_url back until `rebilld charges list --state doubt` is empty"
            )));
        }
        let base_url = loaded.settings.accounts.get(name).map_or("", |account| account.base_url.as_str());
        database.confirm_endpoint(account, endpoint, base_url).await?;
        database.desk().release_hold(now, &Reach::Account(name.to_owned()), signed).await?;
        let unarmed = still_unarmed(database).await?;
        return Ok(format!("account {name} sends to its new place from the daemon's next start on{unarmed}"));
    }
    if status.held {
        q_has_passed(loaded, status.held_at, now)?;
        let account = Arc::clone(named(&assembled, name)?);
        audited_clean(&assembled, &[account], now).await?;
    }
    if let Ok(Some(why)) = channels::blindness(named(&assembled, name)?).await {
        return Err(AppError::Refused(why));
    }
    database.desk().release_hold(now, &Reach::Account(name.to_owned()), signed).await?;
    Ok(match still_stopped(database, Some(name)).await? {
        Some(stopped) => format!("account {name} is let go of: {stopped}"),
        None => format!("account {name} sends again"),
    })
}
