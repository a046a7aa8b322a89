//! No charge starts outside its window.

use jiff::SignedDuration;
use jiff::civil::time;
use rebilld::domain::window::{Blackout, Windows};

use super::rig::{Engine, World, at, both, plan, seoul};

fn windows(hours: &str) -> Windows {
    let blackouts = vec![Blackout { hours: "23:30-00:40".parse().unwrap(), zone: seoul() }];
    Windows { hours: hours.parse().unwrap(), blackouts, spread: SignedDuration::ZERO }
}

both! {
    async fn a_charge_that_is_due_at_night_waits_for_the_morning_and_says_so(engine) {
        let mut world = World::new(engine, "2028-01-01T12:00", [plan("monthly", "1 month", 9_900)]).await;
        world.windows = windows("09:00-22:00");
        world.subscribe("night", "monthly", "2028-01-15", &[("charge_time", "'23:00'")]).await;
        world.subscribe("far", "monthly", "2028-01-15", &[("charge_time", "'23:00'"), ("zone", "'Europe/London'")]).await;
        world.live_until("2028-01-16T08:30").await;
        assert_eq!(world.posts().len(), 0);
        let waiting = world.count("SELECT count(*) AS n FROM charges WHERE state = 'due' AND waiting = 'window'").await;
        assert_eq!((waiting, world.missed().await), (2, 0), "one has been due for nine hours, and waits visibly");
        world.live_until("2028-01-17T00:00").await;
        let posts: Vec<String> = world.posts().iter().map(|post| post.at.to_string()).collect();
        // 09:00 in Seoul, and 09:00 in London
        assert_eq!(posts, ["2028-01-16T00:00:00Z", "2028-01-16T09:00:00Z"]);
        let due = world.sql("SELECT due_at FROM charges ORDER BY id").await;
        assert_eq!(due[0].at("due_at").unwrap(), at("2028-01-15T23:00"), "what is due stays the truth");
    }

    async fn a_backlog_that_reaches_the_evening_stops_and_goes_on_in_the_morning(engine) {
        let mut world = World::new(engine, "2028-01-01T12:00", [plan("monthly", "1 month", 9_900)]).await;
        world.windows = windows("09:00-22:00");
        world.rate = Some(1);
        for n in 0..40 {
            world.subscribe(&format!("s-{n}"), "monthly", "2028-01-15", &[("charge_time", "'21:59'")]).await;
        }
        world.sleep_until("2028-01-15T21:59:40");
        world.live_until("2028-01-16T12:00").await;
        let posts = world.posts();
        assert_eq!(posts.len(), 40);
        let evening = posts.iter().filter(|post| post.at < at("2028-01-15T22:00")).count();
        assert!((5..=30).contains(&evening), "{evening}");
        for post in &posts {
            let local = post.at.to_zoned(seoul()).time();
            assert!(local >= time(9, 0, 0, 0) && local < time(22, 0, 0, 0), "{local}");
        }
    }

    async fn nothing_starts_during_the_banks_nightly_maintenance(engine) {
        let mut world = World::new(engine, "2028-01-01T12:00", [plan("monthly", "1 month", 9_900)]).await;
        world.windows = windows("00:00-24:00");
        world.subscribe("s", "monthly", "2028-01-15", &[("charge_time", "'00:00'")]).await;
        world.live_until("2028-01-16T00:00").await;
        assert_eq!(world.posts()[0].at, at("2028-01-15T00:40"));
    }

    async fn a_wave_is_spread_and_each_subscription_keeps_its_place(engine) {
        let mut world = World::new(engine, "2028-01-01T12:00", [plan("monthly", "1 month", 9_900)]).await;
        world.windows = Windows { spread: SignedDuration::from_hours(2), ..windows("09:00-22:00") };
        for n in 0..50 {
            world.subscribe(&format!("s-{n}"), "monthly", "2028-01-15", &[]).await;
        }
        world.live_until("2028-02-16T00:00").await;
        let after = |day: &str| -> Vec<(String, i64)> {
            let due = at(&format!("{day}T10:00"));
            let mut posts: Vec<_> = world
                .posts()
                .iter()
                .filter(|post| post.at >= due && post.at < due + SignedDuration::from_hours(24))
                .map(|post| (post.body["customer_uid"].as_str().unwrap().to_owned(), post.at.duration_since(due).as_secs()))
                .collect();
            posts.sort();
            posts
        };
        let (january, february) = (after("2028-01-15"), after("2028-02-15"));
        assert_eq!((january.len(), &january), (50, &february));
        assert!(january.iter().all(|(_, seconds)| (0..7_200).contains(seconds)));
        let first_half = january.iter().filter(|(_, seconds)| *seconds < 3_600).count();
        assert!((10..40).contains(&first_half), "{first_half}");
        assert_eq!(world.count("SELECT count(DISTINCT due_at) AS n FROM charges").await, 2);
    }
}
