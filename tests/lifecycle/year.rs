//! A whole year across a leap day: what the one function foretells is what is charged, to the won.

use jiff::civil::date;
use rebilld::domain::lifecycle::{Next, Progress, next_period, seen};
use rebilld::domain::plan::{CatchUp, Price};
use rebilld::ports::clock::Clock;
use rebilld::ports::store::Store;

use super::rig::{Charged, Engine, World, at, both, plan};

/// What the terms say now about everything that falls due until then.
async fn foretold(world: &World, until: &str) -> Vec<Charged> {
    let now = world.clock.now();
    let mut foretold = Vec::new();
    for due in world.db.due_schedules(now, 10_000).await.unwrap() {
        let mut progress = seen(&world.catalog, &due.terms, due.progress, due.known_since, due.was_paused, now).unwrap();
        while let Next::Period(next, after) = next_period(&world.catalog, &due.terms, &progress).unwrap() {
            if next.due_at > at(until) {
                break;
            }
            let (start, end) = (next.period.start, next.period.end);
            if next.amount.minor() > 0 {
                let external_ref = due.terms.external_ref.clone();
                foretold.push(Charged { external_ref, start, end, amount: next.amount.minor() });
            }
            progress = Progress { ..after };
        }
    }
    foretold.sort_by(|one, other| (&one.external_ref, one.start).cmp(&(&other.external_ref, other.start)));
    foretold
}

both! {
    async fn a_year_is_charged_as_it_was_foretold(engine) {
        let mut monthly = plan("monthly", "1 month", 9_900);
        monthly.prices = vec![
            Price { from: date(2028, 3, 1), amount: 12_900, tax_free: None, vat_amount: None },
            Price { from: date(2028, 9, 15), amount: 14_900, tax_free: None, vat_amount: None },
        ];
        let mut trial = plan("trial", "1 month", 7_700);
        trial.trial_days = 30;
        let yearly = plan("yearly", "1 year", 99_000);
        let mut fortnight = plan("fortnight", "2 weeks", 4_900);
        fortnight.catch_up = CatchUp::All { most: 5 };
        let world = World::new(engine, "2027-12-10T00:00", [monthly, trial, yearly, fortnight]).await;
        let zones = ["Asia/Seoul", "America/New_York", "Europe/London", "Australia/Lord_Howe"];
        for (n, zone) in (0..24).zip(zones.into_iter().cycle()) {
            let plan = ["monthly", "trial", "fortnight", "yearly"][n % 4 * 7 % 4];
            let anchor = date(2027, 12, 15).checked_add(jiff::Span::new().days(i64::try_from(n).unwrap() * 3)).unwrap().to_string();
            let zone = format!("'{zone}'");
            let mut columns = vec![("zone", zone.as_str())];
            match n % 6 {
                0 => columns.push(("quantity", "3")),
                1 => columns.push(("max_periods", "5")),
                2 => columns.push(("ends_on", "'2028-08-31'")),
                3 => columns.push(("next_plan", "'monthly'")),
                4 => columns.push(("trial_until", "'2028-02-29'")),
                _ => columns.push(("charge_time", "'02:30'")),
            }
            world.subscribe(&format!("s-{n:02}"), plan, &anchor, &columns).await;
        }
        world
            .sql("INSERT INTO adjustments (subscription_id, amount) SELECT id, -1000 FROM subscriptions WHERE external_ref IN ('s-00', 's-05', 's-10')")
            .await;
        world
            .sql("INSERT INTO price_changes (subscription_id, from_date, amount) SELECT id, '2028-05-01', 8800 FROM subscriptions WHERE external_ref IN ('s-01', 's-06')")
            .await;
        let expected = foretold(&world, "2028-12-31T00:00").await;
        // restarts, and nights without a daemon, change nothing
        for stop in ["2028-02-28T12:00", "2028-03-01T00:00", "2028-03-12T12:00", "2028-07-01T00:00", "2028-10-29T00:00"] {
            world.live_until(stop).await;
            world.sleep_until(&stop.replace("T00:00", "T06:00"));
        }
        world.live_until("2028-12-31T00:00").await;
        let charged = world.charged().await;
        assert!(expected.len() > 150, "{}", expected.len());
        assert_eq!(charged, expected);
        assert_eq!(world.count("SELECT count(*) AS n FROM charges WHERE state <> 'paid'").await, 0);
        assert!(charged.iter().any(|charged| charged.start == date(2028, 2, 29)), "the leap day is in it");
        assert_eq!(world.posts().len(), charged.len(), "each once");
    }
}
