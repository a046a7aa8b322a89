//! Looks ahead over the whole book: page by page, with sums only.

use crate::config::Settings;
use crate::domain::forecast::{By, Forecast};
use crate::domain::outlook::Standing;
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

/// Expected charges up to `until`.
pub async fn forecast(
    database: &Database,
    settings: &Settings,
    by: By,
    (now, until): (Timestamp, Timestamp),
    progress: impl FnMut(u64, u64),
) -> Result<Forecast, Fault> {
    let mut forecast = Forecast::new(by, now, until);
    let unreadable = walk(database, |standing| forecast.add(standing, &settings.plans), progress).await?;
    if unreadable > 0 {
        *forecast.not_counted.problems.entry("the row cannot be read: see the log".to_owned()).or_default() += unreadable;
    }
    Ok(forecast)
}
