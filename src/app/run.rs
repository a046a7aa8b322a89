//! `rebilld run`: start, work, stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tracing::{info, warn};

use super::alarms::{self, Lookout, Pinger};
use super::assemble::{assemble, open};
use super::channels;
use super::errors::AppError;
use super::expect;
use super::helpers::Helpers;
use super::inbox;
use super::kill_files::KillFiles;
use super::notify::Supervisor;
use super::reload::{Reloader, confirmed, instance};
use super::switch::{Ear, Watch};
use crate::config::{Loaded, Sources};
use crate::engine::{Account, Engine, worker};
use crate::http::Routes;
use crate::http::health::Health;
use crate::http::listener::{Listener, Serving};
use crate::http::scrape::{Metrics, Scrape};
use crate::ports::clock::Clock;
use crate::ports::crash;
use crate::ports::store::Store;
use crate::store::Database;
use crate::time::SystemClock;

/// A database that does not answer is not waited for longer than this once everything else has ended.
const FAREWELL: Duration = Duration::from_secs(5);
/// A line of the log names so many charges at most.
const NAMED: usize = 50;

/// Runs the daemon until SIGTERM or SIGINT; then finishes what is in flight within `worker.shutdown_grace`. A second SIGINT
/// ends it at once: what is under way is in doubt then, and looked up at the next start.
pub async fn run(loaded: Loaded, sources: Sources) -> Result<(), AppError> {
    loaded.runnable()?;
    let variable = |name| sources.environment.get(name);
    crash::arm(variable(crash::KILL_AT), variable(crash::TELL)).map_err(AppError::Internal)?;
    crash::arm_helper(variable(crash::BREAK));
    crash::arm_stall(variable(crash::STALL));
    // from now on it means "read the config again", and no longer the end
    let hangup = listen_for(SignalKind::hangup())?;
    // and this one "send nothing any more"
    let pull = listen_for(SignalKind::user_defined1())?;
    let supervisor = Arc::new(Supervisor::of(&sources.environment));
    supervisor.starting("opening the database");
    let database = open(&loaded.settings, true).await?;
    let lock = database.lock_for_daemon()?;
    crash::point("start: ", "locked");
    let clock = Arc::new(SystemClock::new());
    let health = Health::new(Arc::clone(&clock) as Arc<dyn Clock>);
    // before the migrations, which may take long: whoever watches this process sees that it lives
    let metrics = Metrics::default();
    let mut serving = serve(&loaded, health.routes().merge(metrics.routes())).await?;
    supervisor.starting("bringing the database's schema up to date");
    database.migrate().await?;
    crash::point("start: ", "migrated");
    supervisor.starting("looking at accounts and channels");
    confirmed(&database, &loaded).await?;
    clock.set(database.clock().await?);
    let assembled = assemble(&loaded, database, Arc::clone(&clock) as Arc<dyn Clock>, true, |_| {}).await?;
    let (engine, wake) = (Arc::clone(&assembled.engine), assembled.wake.clone());
    let (database, accounts) = (Arc::clone(&assembled.database), assembled.accounts.clone());
    channels::check(&accounts, &database, clock.as_ref()).await?;
    let mut helpers = Helpers::default();
    if let Some(keep) = inbox::open(serving.as_ref(), &loaded.settings, &assembled).await? {
        helpers.begin("webhooks", keep);
    }
    let grace = loaded.settings.worker.shutdown_grace;
    let url = loaded.settings.database.url.to_string();
    let files = KillFiles::new(&loaded.settings.kill_file);
    let same_clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let lookout = Lookout::new(
        Arc::clone(&database),
        Arc::clone(&engine),
        loaded.settings.alarms.clone(),
        instance(),
        alarms::channels(&loaded, &same_clock)?,
    );
    let pinger = Pinger::of(&loaded, &engine, &database)?;
    let reloader = Reloader::begin(loaded, sources, (&assembled, &supervisor)).await?;
    let up = Up { database: url, plans: engine.in_force().catalog.plans.len() };
    helpers.begin("rows", {
        let (database, wake) = (Arc::clone(&database), wake.clone());
        let plans = engine.plans_changed.clone();
        async move { database.listen(wake, plans).await }
    });
    let names: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
    for name in unarmed(&database, &accounts).await? {
        warn!(account = %name, "this live account is not armed in this database: nothing is sent for it. `rebilld run --dry-run` shows what would be, `rebilld arm --account {name}` lets it");
    }
    let moved = assembled.moved.iter().map(|account| account.name.clone()).collect();
    let refused = Arc::clone(&supervisor);
    metrics.up(Scrape::new(Arc::clone(&engine), Arc::clone(&database), moved, move || refused.is_refused()));
    // until now a stop ends it at once, and nothing is under way; from the moment at which it says that it works, in good order
    let (mut terminate, mut interrupt) = (listen_for(SignalKind::terminate())?, listen_for(SignalKind::interrupt())?);
    crash::point("start: ", "up");
    info!(database = %up.database, accounts = %names.join(", "), plans = up.plans, "rebilld is up");

    let ear = Ear {
        engine: Arc::clone(&engine),
        database: Arc::clone(&database),
        files: files.clone(),
        instance: instance(),
        pulls: Arc::default(),
    };
    helpers.begin("signal", ear.run(pull));
    let watch = Watch {
        engine: Arc::clone(&engine),
        database: Arc::clone(&database),
        files,
        accounts: names.iter().map(|name| (*name).to_owned()).collect(),
        instance: instance(),
    };
    helpers.begin("kill switch", watch.run());
    helpers.begin("config", reloader.run(hangup));
    helpers.begin("alarms", lookout.run());
    if let Some(pinger) = pinger {
        helpers.begin("heartbeat", pinger.run());
    }
    helpers.begin("expectations", expect::keep(Arc::clone(&database), Arc::clone(&engine), accounts.clone()));
    // before the loop begins: its first beat is the first ping
    supervisor.watch(&engine);
    if supervisor.is_there() {
        helpers.begin("service manager", Arc::clone(&supervisor).keep(Arc::clone(&engine)));
    }
    health.up(Arc::clone(&engine));
    let mut worker = tokio::spawn(worker::run(Arc::clone(&engine)));
    let mut broken = None;
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: finishing what is in flight"),
        _ = interrupt.recv() => info!("SIGINT: finishing what is in flight; once more to end at once"),
        why = helpers.ended() => broken = Some(why),
        () = ended(&mut serving) => broken = Some(silent()),
        ended = &mut worker => {
            return Err(AppError::Internal(format!("the worker ended by itself: {ended:?}")));
        }
    }
    health.draining();
    supervisor.stopping();
    crash::point("stop: ", "asked");
    engine.stop();
    // ticks carry nothing, and a config that is half taken is taken at the next start
    drop(helpers);
    let mut farewell = tokio::spawn(farewell(Arc::clone(&database), Arc::clone(&engine)));
    let cut_short = tokio::select! {
        ended = &mut worker => {
            // one that dies leaves what it had under way, and tells nobody of it
            if let Err(why) = ended {
                return Err(AppError::Internal(format!("the worker ended by itself: {why}")));
            }
            None
        }
        () = sleep(grace) => Some(format!("after {} s", grace.as_secs())),
        _ = interrupt.recv() => Some("at once, by a second SIGINT,".to_owned()),
    };
    let left = engine.leave();
    worker.abort();
    drop(serving);
    crash::point("stop: ", "drained");
    let leave = async {
        if cut_short.is_none() {
            let _ = (&mut farewell).await;
        }
        farewell.abort();
        // what was not committed by now was not acknowledged either
        database.close().await;
    };
    let has_left = tokio::select! {
        () = leave => true,
        () = sleep(FAREWELL) => false,
        _ = interrupt.recv() => false,
    };
    if !has_left {
        warn!("the database was not told that this daemon stops, or its connections were not closed: it does not answer");
    }
    drop(lock);
    if !left.is_empty() {
        let some = left.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(" ");
        warn!(charges = left.len(), merchant_uids = %some, "stopped with charges under way: they are in doubt and will be looked up");
    }
    match (broken, cut_short) {
        (Some(why), _) => Err(why),
        (None, Some(why)) if !left.is_empty() => Err(AppError::NotDrained { why, charges: left.len() }),
        (None, Some(why)) => {
            warn!("stopped {why} before a look-up, an audit or a delivery had ended: it is done again; no charge is under way");
            Ok(())
        }
        (None, None) => {
            info!("rebilld has stopped: nothing is under way");
            Ok(())
        }
    }
}

/// Tells the database that this daemon stops. It does without: others find out by themselves, later.
async fn farewell(database: Arc<Database>, engine: Arc<Engine>) {
    if let Err(why) = database.leave_watch(&instance()).await {
        warn!(%why, "another daemon looks after alarms a little later");
    }
    if let Err(why) = database.daemon_stopped(&instance(), engine.time()).await {
        warn!(%why, "the database could not be told that this daemon stops");
    }
}

fn listen_for(kind: SignalKind) -> Result<tokio::signal::unix::Signal, AppError> {
    signal(kind).map_err(|why| AppError::Internal(format!("signals cannot be listened for: {why}")))
}

/// Accounts that nobody has armed here, by name.
async fn unarmed(database: &Database, accounts: &[Arc<Account>]) -> Result<Vec<String>, AppError> {
    let brakes = database.brakes().await?;
    let armed = |account: &Account| brakes.accounts.get(&account.id).is_some_and(|of_account| of_account.armed);
    Ok(accounts.iter().filter(|account| !armed(account)).map(|account| account.name.clone()).collect())
}

/// Listens as the config says, and answers what can be answered before the daemon is up. `None`: it does not listen.
pub(super) async fn serve(loaded: &Loaded, routes: Routes) -> Result<Option<Serving>, AppError> {
    let Some(address) = loaded.settings.http.listen else { return Ok(None) };
    let listener = Listener::bind(address).await.map_err(|why| AppError::Listen { address, why })?;
    let address = listener.address();
    info!(%address, "health and metrics are answered");
    if let Some(exposed) = exposed(address) {
        warn!(%address, "{exposed}");
    }
    Ok(Some(listener.serve(routes)))
}

/// What an operator has to know of where it listens, if anything.
pub(super) fn exposed(address: SocketAddr) -> Option<&'static str> {
    let by_others = !address.ip().to_canonical().is_loopback();
    by_others
        .then_some("`http.listen` is no loopback address: whoever reaches it sees health and metrics, and there is no password")
}

/// Waits until it answers no more, which it should for ever.
async fn ended(serving: &mut Option<Serving>) {
    match serving {
        Some(serving) => serving.ended().await,
        None => std::future::pending().await,
    }
}

fn silent() -> AppError {
    AppError::Internal("the listener ended by itself: start the daemon again, and report it".to_owned())
}

/// What is said once it is up.
struct Up {
    database: String,
    plans: usize,
}
