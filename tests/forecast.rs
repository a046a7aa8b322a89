//! What a forecast says is what the engine then charges.

#[path = "forecast/world.rs"]
mod world;

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};
use rebilld::app::ahead;
use rebilld::domain::forecast::Sum;
use rebilld::domain::money::Currency;
use rebilld::engine::forecast::{By, Forecast};
use world::World;

/// Twenty days in which some cards are declined; then everybody pays. Returns the world at that moment.
async fn after_some_declines(url: &str) -> World {
    let start: Timestamp = "2026-02-20T00:00:07Z".parse().unwrap();
    let world = World::new(url, start).await;
    world.fill(date(2026, 2, 20)).await;
    world.live_until(start + SignedDuration::from_hours(20 * 24)).await;
    // adjustments that wait for the next charge, and one that leaves nothing of it
    world
        .sql(
            "INSERT INTO adjustments (subscription_id, amount, name)
             SELECT id, CASE WHEN external_ref = 'sub-10' THEN -9900 ELSE -300 END, 'sorry' FROM subscriptions
             WHERE external_ref IN ('sub-0', 'sub-1', 'sub-10', 'sub-2')",
        )
        .await;
    world.payer.declines.store(false, Ordering::SeqCst);
    world.payer.paid.lock().unwrap().clear();
    world
}

async fn looked_ahead(world: &World, by: By, days: i64) -> Forecast {
    use rebilld::ports::clock::Clock;
    let now = world.clock.now();
    let mut forecast = Forecast::new(by, now, now + SignedDuration::from_hours(24 * days));
    ahead::walk(&world.database, |standing| forecast.add(standing, &world.in_force), |_, _| {}).await.unwrap();
    forecast
}

async fn a_forecast_is_what_is_then_charged(url: &str) {
    let world = after_some_declines(url).await;
    let days = looked_ahead(&world, By::Day, 90).await;
    let plans = looked_ahead(&world, By::Plan, 90).await;
    assert_eq!(days.total, plans.total);
    let total: Vec<u64> = days.total.values().map(|line| line.retries.count).collect();
    assert!(total.iter().sum::<u64>() >= 3, "the book has charges in dunning: {total:?}");
    assert!(days.not_counted.without_card.values().any(|sum| sum.count > 0), "and some without a card: {:?}", days.not_counted);
    assert_eq!(days.not_counted.problems.len(), 2, "{:?}", days.not_counted.problems);
    assert!(days.not_counted.paused > 0 && days.not_counted.cancelled > 0);

    world.live_until(days.until).await;
    let paid = world.payer.paid.lock().unwrap().clone();
    let mut charged: BTreeMap<Currency, Sum> = BTreeMap::new();
    for paid in &paid {
        charged.entry(paid.amount.currency()).or_default().add(paid.amount.minor());
    }
    let told = |line: &rebilld::engine::forecast::Line| Sum {
        count: line.expected.count + line.retries.count,
        sum: line.expected.sum + line.retries.sum,
    };
    let foretold: BTreeMap<Currency, Sum> = days.total.iter().map(|(currency, line)| (*currency, told(line))).collect();
    println!("foretold and charged: {charged:?}");
    assert_eq!(foretold, charged);
    assert!(charged.len() == 2 && charged.values().all(|sum| sum.count > 10), "both currencies are in it");

    // and day by day, in the zone of each subscription
    let mut by_day: BTreeMap<(String, Currency), Sum> = BTreeMap::new();
    let rows = world.sql("SELECT customer_uid, plan, zone FROM subscriptions").await;
    let zones: BTreeMap<String, jiff::tz::TimeZone> = rows
        .iter()
        .filter_map(|row| {
            let own = row.text_opt("zone").unwrap().map(|name| jiff::tz::TimeZone::get(&name).unwrap());
            let plan = world.in_force.catalog.plans.get(&row.text("plan").unwrap())?;
            Some((row.text("customer_uid").unwrap(), own.unwrap_or_else(|| plan.zone.clone().unwrap())))
        })
        .collect();
    for paid in &paid {
        let day = paid.at.to_zoned(zones[&paid.customer_uid].clone()).date().to_string();
        by_day.entry((day, paid.amount.currency())).or_default().add(paid.amount.minor());
    }
    let foretold: BTreeMap<(String, Currency), Sum> = days.lines.iter().map(|(key, line)| (key.clone(), told(line))).collect();
    assert_eq!(foretold, by_day);
}

#[tokio::test]
async fn a_forecast_is_what_is_then_charged_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    a_forecast_is_what_is_then_charged(&format!("sqlite:{}", directory.path().join("f.db").display())).await;
}

#[tokio::test]
async fn a_forecast_is_what_is_then_charged_on_postgres() {
    let database = support::postgres::database().await;
    a_forecast_is_what_is_then_charged(&database.url).await;
}
