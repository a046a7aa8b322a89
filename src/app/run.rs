//! `rebilld run`: start, work, stop.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::assemble::{Assembled, assemble, open};
use super::channels;
use super::errors::AppError;
use crate::config::Loaded;
use crate::engine::worker;
use crate::ports::clock::Clock;
use crate::ports::store::Store;
use crate::ports::wake::Wake;
use crate::time::SystemClock;
use crate::time::cron::{Ring, Ticks};

/// Runs the daemon until SIGTERM or SIGINT; then finishes what is in flight within `worker.shutdown_grace`. A second SIGINT
/// ends it at once: what is under way is in doubt then, and looked up at the next start.
pub async fn run(loaded: Loaded) -> Result<(), AppError> {
    loaded.runnable()?;
    let settings = &loaded.settings;
    let database = open(settings, true).await?;
    let lock = database.lock_for_daemon()?;
    database.migrate().await?;
    let clock = Arc::new(SystemClock::new());
    clock.set(database.clock().await?);
    let Assembled { engine, database, accounts, wake, .. } =
        assemble(&loaded, database, Arc::clone(&clock) as Arc<dyn Clock>, true, |_| {}).await?;
    channels::check(&accounts, &database, clock.as_ref()).await?;
    let ticks = start_ticks(&loaded, &engine, &wake).await?;
    let listener = tokio::spawn({
        let (database, wake) = (Arc::clone(&database), wake.clone());
        async move { database.listen(wake).await }
    });
    let names: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
    info!(database = %settings.database.url, accounts = %names.join(", "), plans = settings.plans.len(), "rebilld is up");

    let mut worker = tokio::spawn(worker::run(Arc::clone(&engine)));
    let (mut terminate, mut interrupt) = (listen_for(SignalKind::terminate())?, listen_for(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: finishing what is in flight"),
        _ = interrupt.recv() => info!("SIGINT: finishing what is in flight; once more to end at once"),
        ended = &mut worker => {
            return Err(AppError::Internal(format!("the worker ended by itself: {ended:?}")));
        }
    }
    engine.stop();
    let grace = settings.worker.shutdown_grace;
    let drained = tokio::select! {
        _ = &mut worker => true,
        () = tokio::time::sleep(grace) => false,
        _ = interrupt.recv() => false,
    };
    worker.abort();
    listener.abort();
    ticks.stop().await;
    database.close().await;
    drop(lock);
    if drained {
        info!("rebilld has stopped: nothing is under way");
        return Ok(());
    }
    warn!("stopped with charges under way: they are in doubt and will be looked up");
    Err(AppError::NotDrained(grace.as_secs()))
}

fn listen_for(kind: SignalKind) -> Result<tokio::signal::unix::Signal, AppError> {
    signal(kind).map_err(|why| AppError::Internal(format!("signals cannot be listened for: {why}")))
}

/// Each job's cron only rings: what is due is in the database.
async fn start_ticks(loaded: &Loaded, engine: &Arc<crate::engine::Engine>, wake: &Wake) -> Result<Ticks, AppError> {
    let jobs = &loaded.settings.jobs;
    let bell: Ring = {
        let wake = wake.clone();
        Arc::new(move || wake.ring())
    };
    let audit: Ring = {
        let engine = Arc::clone(engine);
        Arc::new(move || engine.look_at_audits())
    };
    let ticks = BTreeMap::from([
        ("charge".to_owned(), (jobs.charge.clone(), Arc::clone(&bell))),
        ("reconcile".to_owned(), (jobs.reconcile.clone(), Arc::clone(&bell))),
        ("relay".to_owned(), (jobs.relay.clone(), bell)),
        ("audit".to_owned(), (jobs.audit.clone(), audit)),
    ]);
    Ok(Ticks::start(ticks).await?)
}
