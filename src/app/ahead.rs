//! Looks ahead over the whole book: page by page, with sums only.

use super::errors::AppError;
use crate::config::Settings;
use crate::engine::InForce;
use crate::engine::change::{Effect, is_same, next};
use crate::engine::forecast::{By, Forecast};
use crate::ports::store::Standing;
use crate::store::Database;
use crate::store::db::Fault;
use jiff::Timestamp;

/// Subscriptions that are read together.
const PAGE: u32 = 2_000;

/// Hands every subscription to `each`, in pages; `progress` is told how far it has come, of how much.
pub async fn walk(
    database: &Database,
    mut each: impl FnMut(&Standing),
    mut progress: impl FnMut(u64, u64),
) -> Result<u64, Fault> {
    let whole = u64::try_from(database.last_subscription().await?).unwrap_or(0);
    let (mut after, mut unreadable) = (0, 0);
    loop {
        let page = database.standing(after, PAGE).await?;
        unreadable += page.unreadable;
        page.subscriptions.iter().for_each(&mut each);
        // a daemon that does this beside its work lets others run between two pages
        tokio::task::yield_now().await;
        let Some(next) = page.next else { break };
        after = next;
        progress(u64::try_from(after).unwrap_or(0), whole);
    }
    progress(whole, whole);
    Ok(unreadable)
}

/// What settings, with the plans of the database among them, say of charges to come.
///
/// # Errors
/// `worker.quiet` is below what may be.
pub fn in_force(settings: &Settings) -> Result<InForce, AppError> {
    super::assemble::in_force(settings, &[], None)
}

/// What a change of config does to every subscription's next charge.
pub async fn effect(
    database: &Database,
    (old, new): (&InForce, &InForce),
    now: Timestamp,
    progress: impl FnMut(u64, u64),
) -> Result<Effect, Fault> {
    let mut effect = Effect::default();
    walk(database, |standing| effect.add(standing, old, new, now), progress).await?;
    Ok(effect)
}

/// Lets the schedules whose next charge another config moves be looked at now: they would else be looked at when the old
/// one said. Each page is a transaction of its own, and doing it again changes nothing. `plans`: of these plans only. Returns
/// how many.
pub async fn look_again(
    database: &Database,
    (old, new): (&InForce, &InForce),
    plans: Option<&[String]>,
    now: Timestamp,
) -> Result<u64, Fault> {
    let (mut after, mut found) = (0, 0);
    loop {
        let page = match plans {
            None => database.standing(after, PAGE).await?,
            Some(plans) => database.standing_of_plans(after, PAGE, plans).await?,
        };
        let moved = page.subscriptions.iter().filter(|standing| {
            !is_same(standing, old, new) && next(standing, old, now).due_at() != next(standing, new, now).due_at()
        });
        let moved: Vec<i64> = moved.map(|standing| standing.schedule.terms.id.0).collect();
        found += database.look_again(moved, now).await?;
        tokio::task::yield_now().await;
        let Some(last) = page.next else { return Ok(found) };
        after = last;
    }
}

/// Expected charges up to `until`.
pub async fn forecast(
    database: &Database,
    in_force: &InForce,
    by: By,
    (now, until): (Timestamp, Timestamp),
    progress: impl FnMut(u64, u64),
) -> Result<Forecast, Fault> {
    let mut forecast = Forecast::new(by, now, until);
    let unreadable = walk(database, |standing| forecast.add(standing, in_force), progress).await?;
    if unreadable > 0 {
        *forecast.not_counted.problems.entry("the row cannot be read: see the log".to_owned()).or_default() += unreadable;
    }
    Ok(forecast)
}
