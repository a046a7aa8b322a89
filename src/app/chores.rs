//! The jobs that look after the database: `report` and `prune`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use crate::config::Retention;
use crate::engine::Engine;
use crate::store::Database;
use crate::store::db::Fault;
use crate::time::cron::Ring;

/// How far `report` looks back.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Logs one line for each account and currency about the last 24 hours, and one about what waits.
pub async fn report(database: &Database, now: Timestamp) -> Result<(), Fault> {
    let since = now.checked_sub(DAY).unwrap_or(Timestamp::MIN);
    let (taken, waits) = database.summary(since).await?;
    for taken in &taken {
        let (account, currency) = (taken.account.as_str(), taken.currency.as_str());
        info!(
            account,
            currency,
            charges = taken.charges,
            sum = taken.sum,
            recovered = taken.recovered,
            "report: paid in the last 24 hours"
        );
    }
    info!(in_dunning = waits.dunning, in_doubt = waits.doubt, in_review = waits.review, "report: not decided yet");
    Ok(())
}

/// Removes what `[retention]` no longer keeps. Returns delivered rows of the outbox, and subscriptions whose personal fields
/// were emptied.
pub async fn prune(database: &Database, retention: &Retention, now: Timestamp) -> Result<(u64, u64), Fault> {
    let before =
        |kept: Duration| now.checked_sub(SignedDuration::try_from(kept).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MIN);
    let deliveries = database.prune_deliveries(before(retention.deliveries)).await?;
    let personal = match retention.personal {
        Some(kept) => database.prune_personal(before(kept)).await?,
        None => 0,
    };
    if deliveries + personal > 0 {
        info!(deliveries, subscriptions = personal, "prune: delivered rows removed, personal fields emptied");
    }
    Ok((deliveries, personal))
}

/// Rings that run the jobs: `report`, and `prune` by what `retention` says. One that is still running is not begun again.
pub(super) fn rings(database: &Arc<Database>, engine: &Arc<Engine>, retention: &Retention) -> [(&'static str, Ring); 2] {
    let (of_report, of_prune) = (Arc::clone(database), Arc::clone(database));
    let (clock, same_clock) = (Arc::clone(engine), Arc::clone(engine));
    let retention = retention.clone();
    let reporting = ring("report", move || {
        let (database, clock) = (Arc::clone(&of_report), Arc::clone(&clock));
        async move { report(&database, clock.time()).await }
    });
    let pruning = ring("prune", move || {
        let (database, clock, retention) = (Arc::clone(&of_prune), Arc::clone(&same_clock), retention.clone());
        async move { prune(&database, &retention, clock.time()).await.map(drop) }
    });
    [("report", reporting), ("prune", pruning)]
}

fn ring<F>(job: &'static str, work: impl Fn() -> F + Send + Sync + 'static) -> Ring
where
    F: Future<Output = Result<(), Fault>> + Send + 'static,
{
    let busy = Arc::new(AtomicBool::new(false));
    Arc::new(move || {
        if busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let (busy, work) = (Arc::clone(&busy), work());
        tokio::spawn(async move {
            if let Err(why) = work.await {
                warn!(job, %why, "a job could not be finished: it is run again at its next time");
            }
            busy.store(false, Ordering::Release);
        });
    })
}
