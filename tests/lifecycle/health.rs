//! A loop that no longer turns is not live, by a clock that is moved.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use rebilld::engine::worker;
use rebilld::http::ask;
use rebilld::http::health::{Health, STUCK};
use rebilld::http::listener::Listener;
use rebilld::http::scrape::{Metrics, Scrape};
use rebilld::ports::clock::Clock;

use super::rig::{Engine, World, plan};

#[tokio::test]
async fn a_loop_that_has_not_moved_for_half_a_minute_is_stuck() {
    let world = World::new(Engine::Sqlite, "2028-01-01T12:00", [plan("monthly", "1 month", 9_900)]).await;
    let clock = Arc::clone(&world.clock);
    let health = Health::new(Arc::clone(&clock) as Arc<dyn Clock>);
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address();
    let metrics = Metrics::default();
    let _serving = listener.serve(health.routes().merge(metrics.routes()));
    let says = async |path: &str| ask::get(address, path).await.unwrap();
    assert_eq!(says("/livez").await, (200, "starting\n".to_owned()), "migrations may take long");
    assert_eq!(says("/readyz").await.0, 503);
    assert_eq!(says("/metrics").await, (503, "starting\n".to_owned()), "a scraper that comes early asks in the right place");

    let engine = world.daemon();
    engine.pulse.feed(Duration::from_secs(10), Arc::clone(&clock) as Arc<dyn Clock>, Box::new(|| {}));
    health.up(Arc::clone(&engine));
    metrics.up(Scrape::new(Arc::clone(&engine), Arc::clone(&world.db), Vec::new(), || false));
    let (status, page) = says("/metrics").await;
    assert!(status == 200 && page.contains("\nrebilld_database_up 1\n"), "{status} {page}");
    clock.set_horizon(clock.now());
    let turning = tokio::spawn(worker::run(Arc::clone(&engine)));
    clock.horizon_reached().await;
    assert_eq!(says("/livez").await, (200, "ok\n".to_owned()));

    turning.abort();
    assert!(turning.await.is_err(), "nobody has asked it to stop");
    clock.move_to(clock.now() + SignedDuration::try_from(STUCK).unwrap());
    assert_eq!(says("/livez").await.0, 200);
    clock.move_to(clock.now() + SignedDuration::from_secs(1));
    let (status, said) = says("/livez").await;
    assert_eq!((status, said.as_str()), (503, "the dispatch loop has not moved for 31 s\n"));
    health.draining();
    assert_eq!(says("/livez").await, (200, "draining\n".to_owned()), "it is on its way out by itself");
}
