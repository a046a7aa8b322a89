//! Gathers what `/metrics` tells: what this process counted, and what waits in the database, read at most every [`FRESH`].

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;

use super::health::{COMMIT, VERSION};
use super::metrics::{Format, Number, Page};
use crate::domain::decide::IncidentKind;
use crate::domain::fuse::FuseState;
use crate::engine::breaker::Passage;
use crate::engine::{AccountRuntime, Engine};
use crate::ports::metrics::{Call, GatewayTimes, Operation, list};
use crate::ports::store::Brakes;
use crate::store::{Database, Figures};

/// How old what is told of the database may be.
pub const FRESH: Duration = Duration::from_secs(15);
/// A database that takes longer does not answer: a scrape must not wait for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// `/metrics` from the first moment at which the daemon listens: a scraper that comes early is told so, and not that it asks in
/// the wrong place.
#[derive(Clone, Default)]
pub struct Metrics(Arc<OnceLock<Scrape>>);

/// Where the numbers are.
pub struct Scrape {
    engine: Arc<Engine>,
    database: Arc<Database>,
    /// When this process came up, by CLOCK_BOOTTIME.
    began: Duration,
    /// Accounts that nothing is sent for, because an operator has to confirm where to.
    moved: Vec<String>,
    /// Whether the config that was read last is not in force.
    refused: Box<dyn Fn() -> bool + Send + Sync>,
    /// When the database was last asked, by CLOCK_BOOTTIME, and what it said, if anything. Held while it is asked.
    read: tokio::sync::Mutex<Option<(Duration, Option<Read>)>>,
}

#[derive(Debug, Clone)]
struct Read {
    figures: Arc<Figures>,
    brakes: Brakes,
}

impl Metrics {
    /// There are numbers from now on.
    pub fn up(&self, scrape: Scrape) {
        // it is put together once
        let _ = self.0.set(scrape);
    }

    pub fn routes(&self) -> Router {
        Router::new().route("/metrics", get(metrics)).with_state(self.clone())
    }
}

impl Scrape {
    pub fn new(
        engine: Arc<Engine>,
        database: Arc<Database>,
        moved: Vec<String>,
        refused: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let began = engine.boot();
        Self { engine, database, began, moved, refused: Box::new(refused), read: tokio::sync::Mutex::default() }
    }

    async fn page(&self) -> Page {
        let mut page = Page::default();
        self.process(&mut page);
        for account in &self.engine.accounts {
            self.account(&mut page, account);
        }
        self.database_times(&mut page);
        self.faces(&mut page);
        let read = self.read().await;
        page.put(&list::DATABASE_UP, &[], Number::flag(read.is_some()));
        if let Some(Read { figures, brakes }) = read {
            self.brakes(&mut page, &brakes).await;
            self.figures(&mut page, &figures);
        }
        page
    }

    fn process(&self, page: &mut Page) {
        let (engine, boot) = (&self.engine, self.engine.clock.boot());
        page.put(&list::BUILD, &[VERSION, COMMIT.unwrap_or("unknown")], Number::Whole(1));
        if let Some(version) = engine.in_force().version {
            page.put(&list::CONFIG, &[&version.to_string()], Number::Whole(1));
        }
        page.put(&list::CONFIG_REFUSED, &[], Number::flag((self.refused)()));
        if let Some(age) = engine.pulse.age(boot) {
            page.put(&list::HEARTBEAT_AGE, &[], Number::time(age));
        }
        page.put(&list::CLOCK_OFFSET, &[], Number::Micros(engine.stats.clock_offset.load(Ordering::Relaxed)));
        let counted = engine.stats.missed_counted.get();
        // a count that was never made is as old as the process: its alert has to fire
        let since = if counted > 0 { Duration::from_secs(counted) } else { self.began };
        page.put(&list::MISSED_AGE, &[], Number::time(boot.saturating_sub(since)));
        if counted > 0 {
            page.put(&list::MISSED_BOOKED, &[], Number::count(engine.stats.missed_booked.get()));
            page.put(&list::MISSED_BOUNDED, &[], Number::count(engine.stats.missed_bounded.get()));
            for (account, missed) in engine.stats.missed_by.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                page.put(&list::MISSED, &[account], Number::count(*missed));
            }
        }
    }

    /// What this process did for an account.
    fn account(&self, page: &mut Page, account: &AccountRuntime) {
        let (name, meters, boot) = (account.account.name.as_str(), &account.meters, self.engine.clock.boot());
        page.put(&list::BREAKER_OPEN, &[name], Number::flag(account.limits.passage(boot) == Passage::Stopped));
        page.put(&list::SENDS, &[name], Number::count(meters.sends.get()));
        if let Some(rate) = account.limits.rate() {
            page.put(&list::SEND_LIMIT, &[name], Number::Whole(rate.into()));
        }
        page.put_times(&list::LATENESS, &[name], &meters.lateness);
        for (plan, end, count) in meters.plans() {
            page.put(&list::CHARGES, &[name, end.outcome(), end.class(), &plan], Number::count(count));
        }
        for ((currency, outcome), minor) in meters.amounts() {
            page.put(&list::AMOUNT, &[name, &currency, outcome], Number::count(minor));
        }
        let reconciled = meters.reconciled.get();
        if reconciled > 0 {
            page.put(&list::RECONCILED, &[name], Number::Micros(i64::try_from(reconciled).unwrap_or(i64::MAX)));
        }
        if let Some(times) = account.account.gateway.times() {
            gateway(page, name, times, boot);
        }
    }

    fn database_times(&self, page: &mut Page) {
        for operation in Operation::ALL {
            if let Some(times) = self.database.times.of(operation) {
                page.put_times(&list::DATABASE_TIME, &[operation.name()], times);
            }
        }
    }

    fn faces(&self, page: &mut Page) {
        let metrics = &self.engine.metrics;
        for ([account, answer], count) in metrics.webhooks() {
            page.put(&list::WEBHOOKS, &[&account, &answer], Number::count(count));
        }
        for ([kind, result], count) in metrics.alarms() {
            page.put(&list::ALARMS, &[&kind, &result], Number::count(count));
        }
        if let Some(at) = metrics.heartbeat() {
            page.put(&list::HEARTBEAT, &[], Number::Micros(i64::try_from(at).unwrap_or(i64::MAX)));
        }
    }

    async fn brakes(&self, page: &mut Page, brakes: &Brakes) {
        for account in &self.engine.accounts {
            let (of, name) = (&account.account, account.account.name.as_str());
            let found = brakes.accounts.get(&of.id).cloned().unwrap_or_default();
            let unaudited = !found.audited || account.unaudited.load(Ordering::Acquire);
            let held = brakes.held || found.held || unaudited || found.endpoint != Some(of.endpoint);
            let killed = brakes.killed || found.killed || self.engine.killed_outside(account).await;
            let blown = matches!(found.fuse, Some(FuseState::Blown | FuseState::Rejected));
            page.put(&list::HOLD, &[name], Number::flag(held));
            page.put(&list::KILLED, &[name], Number::flag(killed));
            page.put(&list::PAUSED, &[name], Number::flag(found.paused));
            page.put(&list::ARMED, &[name], Number::flag(found.armed));
            page.put(&list::FUSE_BLOWN, &[name], Number::flag(blown));
        }
        for name in &self.moved {
            page.put(&list::HOLD, &[name], Number::flag(true));
        }
    }

    fn figures(&self, page: &mut Page, figures: &Figures) {
        let now = self.engine.time();
        let age = |since: Option<Timestamp>| {
            let age = since.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO));
            Number::time(age.unwrap_or(Duration::ZERO))
        };
        for of in &figures.accounts {
            let name = [of.name.as_str()];
            page.put(&list::OLDEST_DUE, &name, age(of.oldest_due));
            page.put(&list::DUE, &name, Number::Whole(of.due));
            page.put(&list::IN_DOUBT, &name, Number::Whole(of.doubt));
            page.put(&list::OLDEST_DOUBT, &name, age(of.oldest_doubt));
            page.put(&list::IN_REVIEW, &name, Number::Whole(of.review));
            page.put(&list::PAUSED_BY_RATES, &name, Number::flag(of.paused_by_rates));
            if let Some(at) = of.audited_at {
                page.put(&list::AUDITED, &name, Number::Micros(at.as_microsecond()));
            }
        }
        for kind in IncidentKind::ALL {
            let open = figures.incidents.iter().find(|(name, _)| name == kind.name()).map_or(0, |(_, open)| *open);
            page.put(&list::INCIDENTS, &[kind.name()], Number::Whole(open));
        }
        page.put(&list::OUTBOX_LAG, &[], age(figures.outbox_oldest));
        page.put(&list::OUTBOX_WAITING, &[], Number::Whole(figures.outbox_waiting));
    }

    /// What the database says; `None`: it did not answer when it was last asked.
    async fn read(&self) -> Option<Read> {
        let mut read = self.read.lock().await;
        let now = self.engine.clock.boot();
        if let Some((_, known)) = read.as_ref().filter(|(at, _)| now.saturating_sub(*at) < FRESH) {
            return known.clone();
        }
        let asked = async {
            let figures = Arc::new(self.database.figures(self.engine.time()).await?);
            Ok::<_, crate::ports::store::StoreError>(Read { figures, brakes: self.engine.store.brakes().await? })
        };
        let said = tokio::time::timeout(PATIENCE, asked).await.ok().and_then(Result::ok);
        *read = Some((self.engine.clock.boot(), said.clone()));
        said
    }
}

fn gateway(page: &mut Page, name: &str, times: &GatewayTimes, boot: Duration) {
    for call in Call::ALL {
        if let Some(histogram) = times.of(call) {
            page.put_times(&list::GATEWAY_TIME, &[name, call.name()], histogram);
        }
    }
    if let Some(age) = times.token_age(boot) {
        page.put(&list::TOKEN_AGE, &[name], Number::time(age));
    }
    page.put(&list::TOKEN_REFUSED, &[name], Number::flag(times.token_refused()));
}

async fn metrics(State(told): State<Metrics>, headers: HeaderMap) -> Response {
    let Some(scrape) = told.0.get() else { return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response() };
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::for_accept(accept);
    ([(CONTENT_TYPE, format.content_type())], scrape.page().await.render(format)).into_response()
}
