//! A database, a gateway that always pays, and an engine that lives until a day.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rebilld::app::expect;
use rebilld::domain::attempt::MerchantUid;
use rebilld::domain::charge::ChargeId;
use rebilld::domain::dunning::Dunnings;
use rebilld::domain::fuse::Fuse;
use rebilld::domain::money::{Currency, Money};
use rebilld::domain::outcome::{NotSent, Outcome, Record, RecordStatus};
use rebilld::domain::plan::{AccountTerms, Catalog, Plan};
use rebilld::domain::recurrence::Recurrence;
use rebilld::domain::window::Windows;
use rebilld::engine::{Account, Engine as Daemon, InForce, Parts, Tuning, worker};
use rebilld::gateway::portone::{self, Wire};
use rebilld::ports::clock::Clock;
use rebilld::ports::courier::{Courier, Handover};
use rebilld::ports::gateway::{Answer, Booking, ChargeRequest, DurableAttempt, Gateway, InvalidRequest, ListPage, Unavailable};
use rebilld::ports::store::{Delivery, SeenSend, Store};
use rebilld::ports::switch::KillSwitch;
use rebilld::ports::wake::Wake;
use rebilld::ports::watermark::Watermark;
use rebilld::store::codec::Row;
use rebilld::store::identity::{AccountConfig, AccountRow};
use rebilld::store::sql::Statement;
use rebilld::store::{Database, OpenOptions};
use rebilld::time::SimulatedClock;
use serde_json::{Value, json};

use crate::support::postgres;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// A POST as the gateway saw it.
#[derive(Debug, Clone)]
pub struct Post {
    pub merchant_uid: String,
    pub at: Timestamp,
    pub body: Value,
    /// Why the card refused.
    pub refused: Option<String>,
}

/// Every card is good here, but those that refuse.
pub struct Till {
    clock: Arc<SimulatedClock>,
    pub posts: Mutex<Vec<Post>>,
    /// What a billing key refuses with.
    pub refusals: Mutex<BTreeMap<String, String>>,
    /// From when until when nobody reaches the gateway.
    pub down: Mutex<Option<(Timestamp, Timestamp)>>,
    /// Billing keys for which no connection comes about.
    pub unreachable: Mutex<BTreeSet<String>>,
    /// When and how it fails as a whole.
    pub outage: Mutex<Option<Outage>>,
    /// What it was asked, in order: `true` for a charge.
    pub calls: Mutex<Vec<(Timestamp, bool)>>,
    /// What its own schedule is going to charge: billing key and time. What has come due is not in its list any more.
    pub booked: Mutex<Vec<(String, Timestamp)>>,
    /// How long each look at that takes.
    pub look_takes: Mutex<SignedDuration>,
}

/// From when to when a gateway fails.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub from: Timestamp,
    pub to: Timestamp,
    pub of: Of,
}

/// What fails while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    All,
    /// They are lost on their way; look-ups are answered.
    Charges,
    /// Nobody can read what they are answered with: to a breaker, that is a gateway that answers.
    LookUps,
}

impl Till {
    fn reached(&self) -> Result<(), Unavailable> {
        let (now, down) = (self.clock.now(), *self.down.lock().unwrap());
        match down.filter(|(from, until)| *from <= now && now < *until) {
            Some(_) => Err(Unavailable::Unreachable("connection refused".to_owned())),
            None => Ok(()),
        }
    }

    fn record(post: &Post) -> Record {
        Record {
            imp_uid: format!("imps_{}", post.merchant_uid),
            merchant_uid: post.merchant_uid.clone(),
            status: if post.refused.is_some() { RecordStatus::Failed } else { RecordStatus::Paid },
            amount: Some(Money::new(post.body["amount"].as_i64().unwrap(), Currency::KRW)),
            customer_uid: post.body["customer_uid"].as_str().map(str::to_owned),
            fail_reason: post.refused.clone(),
            pg_provider: Some("html5_inicis".to_owned()),
            pg_tid: None,
            at: Some(post.at),
            cancelled_amount: 0,
        }
    }

    /// Notes a call; whether it fails.
    fn fails(&self, charge: bool) -> bool {
        let now = self.clock.now();
        self.calls.lock().unwrap().push((now, charge));
        let spared = if charge { Of::LookUps } else { Of::Charges };
        self.outage.lock().unwrap().is_some_and(|outage| outage.from <= now && now < outage.to && outage.of != spared)
    }

    /// What a look-up comes to that fails.
    fn refusal(&self) -> Unavailable {
        match self.outage.lock().unwrap().map(|outage| outage.of) {
            Some(Of::LookUps) => Unavailable::Nonsense("half a page of HTML".to_owned()),
            _ => Unavailable::Overload(503),
        }
    }

    /// The provider approves after all what it has reported as failed.
    pub fn approve(&self, place: usize) {
        self.posts.lock().unwrap()[place].refused = None;
    }

    fn of(&self, uid: &str) -> Vec<Record> {
        self.posts.lock().unwrap().iter().filter(|post| post.merchant_uid == uid).map(Self::record).collect()
    }
}

#[async_trait]
impl Gateway for Till {
    fn compose(&self, request: &ChargeRequest<'_>) -> Result<String, InvalidRequest> {
        portone::compose(request)
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        self.reached()
    }

    async fn charge(&self, attempt: DurableAttempt) -> Answer {
        if let Err(why) = self.reached() {
            let outcome = Outcome::NotSent(NotSent::Unreachable(why.to_string()));
            return Answer { outcome, kept: json!({ "note": "not sent" }) };
        }
        if self.fails(true) {
            let lost = if self.outage.lock().unwrap().is_some_and(|outage| outage.of == Of::All) {
                Wire::Answer(503, b"")
            } else {
                Wire::Broken("timed out")
            };
            return portone::judge(&attempt, lost, 1);
        }
        let (merchant_uid, at) = (attempt.merchant_uid().as_str().to_owned(), self.clock.now());
        if self.unreachable.lock().unwrap().contains(attempt.customer_uid()) {
            let outcome = Outcome::NotSent(NotSent::Unreachable("no route".to_owned()));
            return Answer { outcome, kept: Value::Null };
        }
        let refused = self.refusals.lock().unwrap().get(attempt.customer_uid()).cloned();
        let answer = json!({ "code": 0, "message": null, "response": {
            "imp_uid": format!("imps_{merchant_uid}"), "merchant_uid": merchant_uid, "amount": attempt.amount().minor(),
            "cancel_amount": 0, "currency": "KRW", "status": if refused.is_some() { "failed" } else { "paid" },
            "customer_uid": attempt.customer_uid(), "paid_at": at.as_second(), "failed_at": 0, "pg_provider": "html5_inicis",
            "fail_reason": refused,
        }});
        let body = serde_json::from_str(attempt.body()).unwrap();
        self.posts.lock().unwrap().push(Post { merchant_uid, at, body, refused });
        portone::judge(&attempt, Wire::Answer(200, answer.to_string().as_bytes()), 1)
    }

    async fn look_up(&self, ids: &[MerchantUid]) -> Result<Vec<Record>, Unavailable> {
        self.reached()?;
        if self.fails(false) {
            return Err(self.refusal());
        }
        Ok(ids.iter().flat_map(|id| self.of(id.as_str())).collect())
    }

    async fn find_all(&self, id: &MerchantUid) -> Result<Vec<Record>, Unavailable> {
        self.reached()?;
        if self.fails(false) {
            return Err(self.refusal());
        }
        Ok(self.of(id.as_str()))
    }

    async fn list(&self, from: Timestamp, to: Timestamp, page: u32) -> Result<ListPage, Unavailable> {
        self.reached()?;
        let posts = self.posts.lock().unwrap();
        let records: Vec<Record> = posts.iter().filter(|post| from <= post.at && post.at < to).map(Self::record).collect();
        let (total, size) = (records.len() as u64, 20);
        let skip = (page as usize - 1) * size;
        let next = (records.len() > skip + size).then_some(page + 1);
        Ok(ListPage { records: records.into_iter().skip(skip).take(size).collect(), next, total })
    }

    async fn bookings(&self, customer_uid: &str, from: Timestamp, to: Timestamp) -> Result<Vec<Booking>, Unavailable> {
        self.reached()?;
        self.clock.move_to(self.clock.now() + *self.look_takes.lock().unwrap());
        let now = self.clock.now();
        let listed = |(key, at): &&(String, Timestamp)| key == customer_uid && from <= *at && *at < to && *at > now;
        let booked = self.booked.lock().unwrap();
        let booking = |(key, at): &(String, Timestamp)| Booking { merchant_uid: Some(format!("old-{key}-{at}")), at: Some(*at) };
        Ok(booked.iter().filter(listed).map(booking).collect())
    }
}

/// What the gateway says of a card without funds.
const EMPTY: &str = "[1051]잔액부족";

struct Quiet;

#[async_trait]
impl Courier for Quiet {
    async fn deliver(&self, _: &Delivery) -> Handover {
        Handover::Accepted
    }
}

#[async_trait]
impl Watermark for Quiet {
    async fn raise(&self, _: i64, _: SeenSend) -> std::io::Result<()> {
        Ok(())
    }
}

/// A charge, as short as the tests want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charged {
    pub external_ref: String,
    pub start: Date,
    pub end: Date,
    pub amount: i64,
}

pub struct World {
    pub db: Arc<Database>,
    pub clock: Arc<SimulatedClock>,
    pub till: Arc<Till>,
    pub catalog: Catalog,
    pub windows: Windows,
    pub dunning: Dunnings,
    pub rate: Option<u32>,
    /// There is no mark of what was sent: an audit comes first.
    pub audit_first: bool,
    pub fuse: Fuse,
    account: AccountRow,
    lives: AtomicU64,
    _directory: Option<tempfile::TempDir>,
}

pub fn seoul() -> TimeZone {
    TimeZone::get("Asia/Seoul").unwrap()
}

/// An instant of a local time in Seoul: `2028-02-29T10:00`.
pub fn at(local: &str) -> Timestamp {
    local.parse::<DateTime>().unwrap().to_zoned(seoul()).unwrap().timestamp()
}

pub fn plan(name: &str, every: &str, amount: i64) -> Plan {
    let title = Some(name.to_owned());
    Plan { amount: Some(amount), title, ..Plan::new(name, Recurrence::interval(every.parse().unwrap(), None).unwrap()) }
}

impl World {
    pub async fn new(engine: Engine, start: &str, plans: impl IntoIterator<Item = Plan>) -> Self {
        let start = at(start);
        let (url, directory) = match engine {
            Engine::Sqlite => {
                let directory = tempfile::tempdir().unwrap();
                (format!("sqlite:{}", directory.path().join("test.db").display()), Some(directory))
            }
            Engine::Postgres => (postgres::database().await.url, None),
        };
        let options =
            OpenOptions { endpoints: vec!["app".to_owned()], create: true, max_connections: 4, ..OpenOptions::default() };
        let db = Arc::new(Database::open(&url, options).await.unwrap());
        db.migrate().await.unwrap();
        db.bind_identity("sb".parse().unwrap(), "simulated", start).await.unwrap();
        let (name, fingerprint) = ("main".to_owned(), "f".to_owned());
        let config = AccountConfig { name, fingerprint, base_url: "http://127.0.0.1".to_owned(), tier: None };
        let account = db.sync_accounts(&[config], start).await.unwrap().remove(0);
        let clock = Arc::new(SimulatedClock::new(start));
        let accounts = [("main".to_owned(), AccountTerms { zone: seoul(), mixed_tax: false })];
        let plans: BTreeMap<String, Plan> = plans.into_iter().map(|plan| (plan.name.clone(), plan)).collect();
        Self {
            db,
            till: Arc::new(Till {
                clock: Arc::clone(&clock),
                posts: Mutex::default(),
                refusals: Mutex::default(),
                down: Mutex::default(),
                unreachable: Mutex::default(),
                outage: Mutex::default(),
                calls: Mutex::default(),
                booked: Mutex::default(),
                look_takes: Mutex::default(),
            }),
            clock,
            catalog: Catalog { plans, accounts: accounts.into(), ..Catalog::default() },
            windows: Windows::ALWAYS,
            dunning: Dunnings::default(),
            rate: None,
            audit_first: false,
            fuse: Fuse::NONE,
            account,
            lives: AtomicU64::new(0),
            _directory: directory,
        }
    }

    /// An operator's own SQL, the same text on both engines.
    pub async fn sql(&self, text: &str) -> Vec<Row> {
        let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
        let mut tx = self.db.begin_write().await.unwrap();
        let rows = tx.query(&Statement::same("test", text), &[]).await.unwrap_or_else(|fault| panic!("{text}: {fault}"));
        tx.commit().await.unwrap();
        rows
    }

    /// Several of them on one connection.
    pub async fn sql_together(&self, texts: &[&str]) {
        let mut tx = self.db.begin_write().await.unwrap();
        for text in texts {
            let text: &'static str = Box::leak((*text).to_owned().into_boxed_str());
            tx.query(&Statement::same("test", text), &[]).await.unwrap_or_else(|fault| panic!("{text}: {fault}"));
        }
        tx.commit().await.unwrap();
    }

    /// Whether the database refuses an operator's SQL.
    pub async fn refuses(&self, text: &str) -> bool {
        let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
        let mut tx = self.db.begin_write().await.unwrap();
        tx.query(&Statement::same("test", text), &[]).await.is_err()
    }

    /// A subscription that becomes known now: `columns` as `name = value, …` in SQL.
    pub async fn subscribe(&self, external_ref: &str, plan: &str, anchor: &str, columns: &[(&str, &str)]) {
        let now = self.clock.now();
        let created = match self.db.is_postgres() {
            true => format!("'{now}'"),
            false => now.as_microsecond().to_string(),
        };
        let names: String = columns.iter().map(|(name, _)| format!(", {name}")).collect();
        let values: String = columns.iter().map(|(_, value)| format!(", {value}")).collect();
        self.sql(&format!(
            "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor, created_at{names})
                VALUES ('main', '{external_ref}', '{plan}', 'card-{external_ref}', '{anchor}', {created}{values})"
        ))
        .await;
    }

    /// The account, as the daemon and operators' commands have it.
    pub fn account(&self) -> Account {
        Account {
            id: self.account.id,
            name: self.account.name.clone(),
            endpoint: self.account.endpoint,
            gateway: Arc::clone(&self.till) as _,
            rate: self.rate,
            in_flight: 64,
            budget_count: None,
            budget_sum: None,
            budget_zone: seoul(),
            fuse: self.fuse.clone(),
        }
    }

    /// An engine that has not begun to work.
    pub fn daemon(&self) -> Arc<Daemon> {
        self.daemon_with(Arc::new(rebilld::ports::switch::NoSwitch))
    }

    /// One that a switch outside of the database may stop.
    pub fn daemon_with(&self, switch: Arc<dyn KillSwitch>) -> Arc<Daemon> {
        let life = self.lives.fetch_add(1, Ordering::SeqCst);
        let mut tuning = Tuning::new("sb".parse().unwrap());
        tuning.interval = Duration::from_secs(6 * 3600);
        tuning.lead = SignedDuration::ZERO;
        tuning.clock_check = None;
        tuning.one_at_a_time = true;
        tuning.windows = self.windows.clone();
        tuning.policy.dunning = self.dunning.clone();
        tuning.audit_quick_every = SignedDuration::from_hours(24 * 7);
        tuning.audit_complete_every = SignedDuration::from_hours(24 * 30);
        let tokens = AtomicU64::new(0);
        Daemon::new(Parts {
            store: Arc::clone(&self.db) as _,
            clock: Arc::clone(&self.clock) as _,
            courier: Arc::new(Quiet),
            watermark: Arc::new(Quiet),
            switch,
            accounts: vec![self.account()],
            catalog: self.catalog.clone(),
            id_modes: BTreeMap::new(),
            tuning,
            wake: Wake::default(),
            audit_first: self.audit_first,
            tokens: Box::new(move || format!("life-{life}-{}", tokens.fetch_add(1, Ordering::SeqCst))),
            delivery_delay: |_, _| None,
        })
    }

    /// What of the config is in force, as far as looking ahead goes.
    pub fn in_force(&self) -> InForce {
        let mut tuning = Tuning::new("sb".parse().unwrap());
        tuning.windows = self.windows.clone();
        tuning.policy.dunning = self.dunning.clone();
        let catalog = self.catalog.clone();
        InForce { version: None, plans: None, catalog, id_modes: BTreeMap::new(), bounds: BTreeMap::new(), tuning }
    }

    /// The daemon's walk that tells what to expect of the days. Returns how many became known.
    pub async fn expect(&self) -> usize {
        let zones = [(self.account.id, seoul())];
        expect::expect(&self.db, &self.in_force(), &zones, self.clock.now()).await.unwrap()
    }

    /// From now on a billing key refuses with a text, or not any more.
    pub fn refuse(&self, customer: &str, why: Option<&str>) {
        let mut refusals = self.till.refusals.lock().unwrap();
        match why {
            Some(why) => drop(refusals.insert(customer.to_owned(), why.to_owned())),
            None => drop(refusals.remove(customer)),
        }
    }

    /// From now on a subscription's card has no funds, or has some again.
    pub fn has_funds(&self, external_ref: &str, has: bool) {
        let (mut refusals, card) = (self.till.refusals.lock().unwrap(), format!("card-{external_ref}"));
        let old = if has { refusals.remove(&card) } else { refusals.insert(card, EMPTY.to_owned()) };
        let changed = old.is_some() == has;
        assert!(changed, "{external_ref} had them, or had none");
    }

    /// A daemon from now until then.
    pub async fn live_until(&self, local: &str) {
        self.clock.set_horizon(at(local));
        tokio::select! {
            biased;
            () = self.clock.horizon_reached() => {}
            () = worker::run(self.daemon()) => unreachable!("nobody has asked it to stop"),
        }
    }

    /// What `rebilld reconcile` does with these charges. Returns how many were free to be looked up.
    pub async fn reconcile(&self, charges: &[ChargeId]) -> usize {
        self.daemon().look_up_now(self.account.id, charges).await.unwrap()
    }

    /// Nobody runs until then.
    pub fn sleep_until(&self, local: &str) {
        self.clock.move_to(at(local));
    }

    /// Everything that was charged and paid, by subscription and period.
    pub async fn charged(&self) -> Vec<Charged> {
        let rows = self
            .sql(
                "SELECT s.external_ref, c.period_start, c.period_end, c.amount FROM charges c
                    JOIN subscriptions s ON s.id = c.subscription_id WHERE c.state = 'paid'
                    ORDER BY s.external_ref, c.period_start",
            )
            .await;
        let charged = |row: &Row| Charged {
            external_ref: row.text("external_ref").unwrap(),
            start: row.day("period_start").unwrap(),
            end: row.day("period_end").unwrap(),
            amount: row.int("amount").unwrap(),
        };
        rows.iter().map(charged).collect()
    }

    /// `2028-01-31..2028-02-29 9900`, for one subscription.
    pub async fn periods(&self, external_ref: &str) -> Vec<String> {
        let charged = self.charged().await.into_iter().filter(|charged| charged.external_ref == external_ref);
        charged.map(|charged| format!("{}..{} {}", charged.start, charged.end, charged.amount)).collect()
    }

    pub fn posts(&self) -> Vec<Post> {
        self.till.posts.lock().unwrap().clone()
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.sql(sql).await[0].int("n").unwrap()
    }

    /// Data of the events of a kind, oldest first.
    pub async fn events(&self, kind: &str) -> Vec<Value> {
        let rows = self.sql(&format!("SELECT data FROM events WHERE kind = '{kind}' ORDER BY seq")).await;
        rows.iter().map(|row| row.json("data").unwrap()).collect()
    }

    /// Charges past due by two hours that wait for nothing that is shown.
    pub async fn missed(&self) -> u64 {
        let missed = self.db.missed(self.clock.now(), SignedDuration::from_hours(2)).await.unwrap();
        missed.sends + missed.look_ups + missed.schedules
    }
}

/// Makes a test of each engine out of one body.
macro_rules! both {
    ($($(#[$meta:meta])* async fn $name:ident($engine:ident) $body:block)*) => {
        $(mod $name {
            use super::*;

            async fn body($engine: Engine) $body

            $(#[$meta])*
            #[tokio::test]
            async fn on_sqlite() {
                body(Engine::Sqlite).await;
            }

            $(#[$meta])*
            #[tokio::test]
            async fn on_postgres() {
                body(Engine::Postgres).await;
            }
        })*
    };
}
pub(crate) use both;
