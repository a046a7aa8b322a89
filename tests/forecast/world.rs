//! A mixed book on either database, the real engine on a simulated clock, and a gateway that pays or declines as it is told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::civil::{Date, date, time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rebilld::domain::attempt::MerchantUid;
use rebilld::domain::fuse::Fuse;
use rebilld::domain::holidays::Banking;
use rebilld::domain::money::Money;
use rebilld::domain::outcome::{Outcome, Record, RecordStatus};
use rebilld::domain::plan::{AccountTerms, Catalog, CatchUp, Plan, WhilePastDue};
use rebilld::domain::recurrence::Recurrence;
use rebilld::domain::window::Windows;
use rebilld::engine::{Account, Engine, InForce, Parts, Tuning, worker};
use rebilld::gateway::portone;
use rebilld::ports::clock::Clock;
use rebilld::ports::courier::{Courier, Handover};
use rebilld::ports::gateway::{Answer, ChargeRequest, DurableAttempt, Gateway, InvalidRequest, ListPage, Unavailable};
use rebilld::ports::store::{Delivery, SeenSend};
use rebilld::ports::wake::Wake;
use rebilld::ports::watermark::Watermark;
use rebilld::store::codec::Row;
use rebilld::store::identity::{AccountConfig, AccountRow};
use rebilld::store::sql::Statement;
use rebilld::store::{Database, OpenOptions};
use rebilld::time::SimulatedClock;

/// A payment that came through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    pub at: Timestamp,
    pub customer_uid: String,
    pub amount: Money,
}

/// Pays, unless it declines: by the beginning of the billing key.
pub struct Payer {
    clock: Arc<SimulatedClock>,
    pub declines: AtomicBool,
    pub paid: Mutex<Vec<Paid>>,
    records: Mutex<Vec<Record>>,
}

const FUNDS: &str = "[1254][실시간빌링실패|잔액부족]";
const STOLEN: &str = "[1204][실시간빌링실패|유효기간 만료(기간오류)]";

#[async_trait]
impl Gateway for Payer {
    fn compose(&self, request: &ChargeRequest<'_>) -> Result<String, InvalidRequest> {
        portone::compose(request)
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        Ok(())
    }

    async fn charge(&self, attempt: DurableAttempt) -> Answer {
        let customer_uid = attempt.customer_uid().to_owned();
        let reason = match customer_uid.split('-').next() {
            _ if !self.declines.load(Ordering::SeqCst) => None,
            Some("broke") => Some(FUNDS),
            Some("expired") => Some(STOLEN),
            _ => None,
        };
        let mut records = self.records.lock().unwrap();
        let at = self.clock.now();
        let record = Record {
            imp_uid: format!("imp_{}", records.len()),
            merchant_uid: attempt.merchant_uid().as_str().to_owned(),
            status: if reason.is_some() { RecordStatus::Failed } else { RecordStatus::Paid },
            amount: Some(attempt.amount()),
            customer_uid: Some(customer_uid.clone()),
            fail_reason: reason.map(str::to_owned),
            pg_provider: Some("html5_inicis".to_owned()),
            pg_tid: None,
            at: Some(at),
            cancelled_amount: 0,
        };
        records.push(record.clone());
        let outcome = match reason {
            None => {
                self.paid.lock().unwrap().push(Paid { at, customer_uid, amount: attempt.amount() });
                Outcome::Paid(record)
            }
            Some(_) => {
                let class = record.class(&rebilld::domain::classify::Rules::default());
                Outcome::Declined(record, class)
            }
        };
        Answer { outcome, kept: serde_json::Value::Null }
    }

    async fn look_up(&self, ids: &[MerchantUid]) -> Result<Vec<Record>, Unavailable> {
        let records = self.records.lock().unwrap();
        let newest = |id: &MerchantUid| records.iter().rev().find(|record| record.merchant_uid == id.as_str()).cloned();
        Ok(ids.iter().filter_map(newest).collect())
    }

    async fn find_all(&self, id: &MerchantUid) -> Result<Vec<Record>, Unavailable> {
        let records = self.records.lock().unwrap();
        Ok(records.iter().rev().filter(|record| record.merchant_uid == id.as_str()).cloned().collect())
    }

    async fn list(&self, _from: Timestamp, _to: Timestamp, _page: u32) -> Result<ListPage, Unavailable> {
        Ok(ListPage::default())
    }
}

struct NobodyListens;

#[async_trait]
impl Courier for NobodyListens {
    async fn deliver(&self, _delivery: &Delivery) -> Handover {
        Handover::Accepted
    }
}

struct NoMark;

#[async_trait]
impl Watermark for NoMark {
    async fn raise(&self, _mark: i64, _newest: SeenSend) -> std::io::Result<()> {
        Ok(())
    }
}

pub struct World {
    pub database: Arc<Database>,
    pub clock: Arc<SimulatedClock>,
    pub payer: Arc<Payer>,
    pub in_force: InForce,
    account: AccountRow,
    tokens: Arc<AtomicU64>,
}

fn plan(name: &str, every: &str, amount: Option<i64>, zone: &str) -> Plan {
    Plan {
        zone: Some(TimeZone::get(zone).unwrap()),
        amount,
        title: Some("Pro".to_owned()),
        catch_up: CatchUp::All { most: 100 },
        ..Plan::new(name, Recurrence::interval(every.parse().unwrap(), None).unwrap())
    }
}

/// Plans of every kind.
pub fn plans() -> BTreeMap<String, Plan> {
    let dollars = Plan { currency: "USD".parse().unwrap(), ..plan("dollars", "1 month", Some(999), "America/New_York") };
    let night = Plan {
        charge_time: time(2, 30, 0, 0),
        while_past_due: WhilePastDue::Continue,
        ..plan("night", "1 week", Some(4_900), "Europe/London")
    };
    let first = Plan {
        recurrence: Recurrence::Cron("0 0 10 1 * *".parse().unwrap()),
        banking: Banking::Next,
        ..plan("first", "1 month", Some(15_000), "Asia/Seoul")
    };
    let tenth = Plan {
        recurrence: Recurrence::interval("1 month".parse().unwrap(), Some("10".parse().unwrap())).unwrap(),
        banking: Banking::Previous,
        ..plan("tenth", "1 month", Some(25_000), "Asia/Seoul")
    };
    let held = Plan { catch_up: CatchUp::Hold, ..plan("held", "1 week", Some(5_000), "Asia/Seoul") };
    let latest = Plan { catch_up: CatchUp::LatestOnly, ..plan("latest", "1 week", Some(7_000), "Asia/Seoul") };
    let trial = Plan { trial_days: 30, max_periods: Some(2), ..plan("trial", "1 month", Some(12_000), "Asia/Seoul") };
    let plans = [
        first,
        tenth,
        held,
        latest,
        trial,
        plan("monthly", "1 month", Some(9_900), "Asia/Seoul"),
        plan("daily", "1 day", Some(310), "Asia/Seoul"),
        plan("quarter", "3 months", Some(79_000), "Asia/Seoul"),
        plan("own", "1 month", None, "Asia/Seoul"),
        dollars,
        night,
    ];
    plans.map(|plan| (plan.name.clone(), plan)).into()
}

impl World {
    pub async fn new(url: &str, start: Timestamp) -> Self {
        let options = OpenOptions { create: true, ..OpenOptions::default() };
        let database = Arc::new(Database::open(url, options).await.unwrap());
        database.migrate().await.unwrap();
        database.bind_identity("sb".parse().unwrap(), "forecast", start).await.unwrap();
        let main = AccountConfig {
            name: "main".to_owned(),
            fingerprint: "f".to_owned(),
            base_url: "http://127.0.0.1".to_owned(),
            tier: None,
        };
        let account = database.sync_accounts(&[main], start).await.unwrap().remove(0);
        let clock = Arc::new(SimulatedClock::new(start));
        let payer = Arc::new(Payer {
            clock: Arc::clone(&clock),
            declines: AtomicBool::new(true),
            paid: Mutex::default(),
            records: Mutex::default(),
        });
        let mut tuning = Tuning::new("sb".parse().unwrap());
        tuning.interval = std::time::Duration::from_secs(24 * 3600);
        tuning.lead = SignedDuration::ZERO;
        tuning.clock_check = None;
        tuning.audit_quick_every = SignedDuration::from_hours(24 * 1000);
        tuning.audit_complete_every = SignedDuration::from_hours(24 * 1000);
        tuning.windows =
            Windows { hours: "09:00-22:00".parse().unwrap(), blackouts: Vec::new(), spread: SignedDuration::from_mins(90) };
        let main = AccountTerms { zone: TimeZone::get("Asia/Seoul").unwrap(), mixed_tax: false };
        let catalog = Catalog { plans: plans(), accounts: [("main".to_owned(), main)].into(), ..Catalog::default() };
        let in_force =
            InForce { version: None, plans: None, catalog, id_modes: BTreeMap::new(), bounds: BTreeMap::new(), tuning };
        Self { database, clock, payer, in_force, account, tokens: Arc::default() }
    }

    /// An operator's own SQL, the same text on both engines.
    pub async fn sql(&self, text: &str) -> Vec<Row> {
        let statement = Statement::same("test", Box::leak(text.to_owned().into_boxed_str()));
        let mut tx = self.database.begin_write().await.unwrap();
        let rows = tx.query(&statement, &[]).await.unwrap();
        tx.commit().await.unwrap();
        rows
    }

    /// Rows of every kind: anchors on all days, cards that are declined, overrides, pauses, problems, periods long past.
    pub async fn fill(&self, first: Date) {
        let kinds =
            ["monthly", "daily", "quarter", "own", "dollars", "night", "held", "latest", "trial", "monthly", "first", "tenth"];
        for n in 0..88_i64 {
            let plan = kinds[n as usize % kinds.len()];
            let card = if n % 5 == 0 {
                "broke"
            } else if n % 7 == 3 {
                "expired"
            } else {
                "good"
            };
            let anchor = first + jiff::Span::new().days(n * 5 % 31 - 10);
            // every ninth has not been billed for a while
            let starts_on = if n % 9 == 4 { first - jiff::Span::new().days(40) } else { anchor.max(date(2026, 1, 20)) };
            let amount = if plan == "own" || n % 11 == 6 { (1_000 + n * 37).to_string() } else { "NULL".to_owned() };
            let zone = if n % 8 == 5 { "'Australia/Lord_Howe'" } else { "NULL" };
            let at = if n % 10 == 9 { "'23:45'" } else { "NULL" };
            let quantity = if n % 6 == 1 { "3" } else { "NULL" };
            let ends_on = if n % 13 == 2 { "'2026-04-20'" } else { "NULL" };
            let next_plan = if n % 17 == 5 { "'quarter'" } else { "NULL" };
            let status =
                ["active", "active", "active", "active", "active", "active", "paused", "active", "cancelled"][n as usize % 9];
            self.sql(&format!(
                "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor, starts_on, amount, zone, charge_time, quantity, ends_on, next_plan, status)
                 VALUES ('main', 'sub-{n}', '{plan}', '{card}-{n}', '{anchor}', '{starts_on}', {amount}, {zone}, {at}, {quantity}, {ends_on}, {next_plan}, '{status}')"
            ))
            .await;
        }
        self.sql(
            "INSERT INTO price_changes (subscription_id, from_date, amount)
             SELECT id, '2026-04-01', 11000 FROM subscriptions WHERE external_ref IN ('sub-0', 'sub-9', 'sub-12')",
        )
        .await;
        self.sql(
            "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor)
             VALUES ('main', 'lost', 'gone', 'good-lost', '2026-02-01'), ('main', 'free', 'own', 'good-free', '2026-02-01')",
        )
        .await;
    }

    /// Lets the real engine work up to `until`.
    pub async fn live_until(&self, until: Timestamp) {
        let tokens = Arc::clone(&self.tokens);
        let engine = Engine::new(Parts {
            store: Arc::clone(&self.database) as _,
            clock: Arc::clone(&self.clock) as _,
            courier: Arc::new(NobodyListens),
            watermark: Arc::new(NoMark),
            switch: Arc::new(rebilld::ports::switch::NoSwitch),
            accounts: vec![Account {
                id: self.account.id,
                name: self.account.name.clone(),
                endpoint: self.account.endpoint,
                gateway: Arc::clone(&self.payer) as _,
                rate: None,
                in_flight: 16,
                budget_count: None,
                budget_sum: None,
                budget_zone: TimeZone::UTC,
                fuse: Fuse::NONE,
            }],
            catalog: self.in_force.catalog.clone(),
            id_modes: BTreeMap::new(),
            tuning: self.in_force.tuning.clone(),
            wake: Wake::default(),
            audit_first: false,
            tokens: Box::new(move || format!("token-{}", tokens.fetch_add(1, Ordering::SeqCst))),
            delivery_delay: |_, _| None,
        });
        self.clock.set_horizon(until);
        tokio::select! {
            () = self.clock.horizon_reached() => {}
            () = worker::run(engine) => unreachable!("nobody has asked it to stop"),
        }
    }
}
