//! The dead man's ping stops with a dispatch loop that is stuck, although the process lives and the database answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rebilld::app::alarms::Pinger;
use rebilld::config::{Sources, load};
use rebilld::domain::attempt::MerchantUid;
use rebilld::domain::fuse::Fuse;
use rebilld::domain::outcome::Record;
use rebilld::domain::plan::Catalog;
use rebilld::engine::{Account, Engine, Parts, Tuning, worker};
use rebilld::ports::clock::Clock;
use rebilld::ports::courier::{Courier, Handover};
use rebilld::ports::gateway::{Answer, ChargeRequest, DurableAttempt, Gateway, InvalidRequest, ListPage, Unavailable};
use rebilld::ports::store::{Delivery, SeenSend};
use rebilld::ports::switch::KillSwitch;
use rebilld::ports::wake::Wake;
use rebilld::ports::watermark::Watermark;
use rebilld::store::identity::AccountConfig;
use rebilld::store::{Database, OpenOptions};
use rebilld::time::SystemClock;

use crate::ear::Ear;
use crate::processes::{until, within};
use crate::rig::SOON;

/// A machine's clock whose time since boot may be pushed on.
struct Pushed {
    real: SystemClock,
    on: AtomicBool,
}

#[async_trait]
impl Clock for Pushed {
    fn now(&self) -> Timestamp {
        self.real.now()
    }

    fn boot(&self) -> Duration {
        let by = if self.on.load(Ordering::Acquire) { 3600 } else { 0 };
        self.real.boot() + Duration::from_secs(by)
    }

    async fn sleep_until(&self, until: Timestamp, busy: bool) {
        self.real.sleep_until(until, busy).await;
    }
}

/// Everything around the engine: a gateway that is away, and a kill switch whose directory may hang for ever.
#[derive(Default)]
struct Around {
    hangs: AtomicBool,
    hung: AtomicBool,
}

#[async_trait]
impl KillSwitch for Around {
    async fn stopped(&self, _account: &str) -> Option<String> {
        if self.hangs.load(Ordering::Acquire) {
            self.hung.store(true, Ordering::Release);
            std::future::pending::<()>().await;
        }
        None
    }
}

fn away<T>() -> Result<T, Unavailable> {
    Err(Unavailable::Unreachable("away".to_owned()))
}

#[async_trait]
impl Gateway for Around {
    fn compose(&self, _: &ChargeRequest<'_>) -> Result<String, InvalidRequest> {
        unreachable!("nothing is due")
    }

    async fn ready(&self) -> Result<(), Unavailable> {
        away()
    }

    async fn charge(&self, _: DurableAttempt) -> Answer {
        unreachable!("nothing is due")
    }

    async fn look_up(&self, _: &[MerchantUid]) -> Result<Vec<Record>, Unavailable> {
        away()
    }

    async fn find_all(&self, _: &MerchantUid) -> Result<Vec<Record>, Unavailable> {
        away()
    }

    async fn list(&self, _: Timestamp, _: Timestamp, _: u32) -> Result<ListPage, Unavailable> {
        away()
    }
}

#[async_trait]
impl Courier for Around {
    async fn deliver(&self, _: &Delivery) -> Handover {
        Handover::Accepted
    }
}

#[async_trait]
impl Watermark for Around {
    async fn raise(&self, _: i64, _: SeenSend) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_heartbeat_stops_when_the_dispatch_loop_is_stuck() {
    let (directory, heart) = (tempfile::tempdir().unwrap(), Ear::open());
    let file = directory.path().join("c.toml");
    let text =
        format!("[alarms]\nheartbeat_url = \"{}\"\nheartbeat_every = \"1s\"\nheartbeat_allow_private = true\n", heart.url());
    std::fs::write(&file, text).unwrap();
    let loaded = load(&Sources { files: vec![file], ..Sources::default() }).unwrap();
    let clock = Arc::new(Pushed { real: SystemClock::new(), on: AtomicBool::new(false) });
    let url = format!("sqlite:{}", directory.path().join("test.db").display());
    let options = OpenOptions { create: true, ..OpenOptions::default() };
    let database = Arc::new(Database::open(&url, options).await.unwrap());
    database.migrate().await.unwrap();
    database.bind_identity("sb".parse().unwrap(), "one", clock.now()).await.unwrap();
    let (name, fingerprint) = ("main".to_owned(), "f".to_owned());
    let config = AccountConfig { name: name.clone(), fingerprint, base_url: "http://127.0.0.1".to_owned(), tier: None };
    let row = database.sync_accounts(&[config], clock.now()).await.unwrap().remove(0);
    let around = Arc::new(Around::default());
    let account = Account {
        id: row.id,
        name,
        endpoint: row.endpoint,
        gateway: Arc::clone(&around) as _,
        rate: None,
        in_flight: 1,
        budget_count: None,
        budget_sum: None,
        budget_zone: TimeZone::UTC,
        fuse: Fuse::NONE,
    };
    let mut tuning = Tuning::new("sb".parse().unwrap());
    (tuning.interval, tuning.clock_check) = (Duration::from_millis(200), None);
    // each look asks for an audit, and whoever audits asks what stops the account
    tuning.audit_quick_every = SignedDuration::ZERO;
    let engine = Engine::new(Parts {
        store: Arc::clone(&database) as _,
        clock: Arc::clone(&clock) as _,
        courier: Arc::clone(&around) as _,
        watermark: Arc::clone(&around) as _,
        switch: Arc::clone(&around) as _,
        accounts: vec![account],
        catalog: Catalog::default(),
        id_modes: BTreeMap::new(),
        tuning,
        wake: Wake::default(),
        audit_first: false,
        tokens: Box::new(|| "token".to_owned()),
        delivery_delay: |_, _| None,
    });
    engine.pulse.feed(Duration::from_secs(1), Arc::clone(&clock) as _, Box::new(|| {}));
    let pinger = Pinger::of(&loaded, &engine, &database).unwrap().expect("the config names a heartbeat");
    let working = tokio::spawn(worker::run(Arc::clone(&engine)));
    let pinging = tokio::spawn(pinger.run());
    heart.until_more(2).await;
    assert!(engine.metrics.heartbeat().is_some());

    around.hangs.store(true, Ordering::Release);
    until("the loop hangs", SOON, async || {
        engine.look_at_audits();
        engine.look_at_brakes();
        around.hung.load(Ordering::Acquire).then_some(())
    })
    .await;
    // no step of the loop may take that long
    clock.on.store(true, Ordering::Release);
    let before = heart.heard().len();
    let more = within(Duration::from_secs(4), async || (heart.heard().len() > before + 1).then_some(())).await;
    assert_eq!(more, None, "at most the one that was on its way");
    assert!(!pinging.is_finished() && !working.is_finished());
    pinging.abort();
    working.abort();
}
