//! A gateway that fails as a whole is left alone, probed with a look-up, and taken up again slowly.

use jiff::{SignedDuration, Timestamp};

use super::rig::{Engine, Of, Outage, World, at, both, plan};

const CHARGES: usize = 200;

/// So many charges that fall due at ten, at most twenty a second, and a gateway that fails from then on.
async fn failing(engine: Engine, until: &str, of: Of) -> World {
    let mut world = World::new(engine, "2028-01-01T12:00", [plan("monthly", "1 month", 9_900)]).await;
    world.rate = Some(20);
    for n in 0..CHARGES {
        world.subscribe(&format!("s-{n}"), "monthly", "2028-01-15", &[("charge_time", "'10:00'")]).await;
    }
    *world.till.outage.lock().unwrap() = Some(Outage { from: at("2028-01-15T09:59"), to: at(until), of });
    world
}

/// When charges were asked for, from then on.
fn charged_since(world: &World, from: Timestamp) -> Vec<Timestamp> {
    let calls = world.till.calls.lock().unwrap();
    calls.iter().filter(|(at, charge)| *charge && *at >= from).map(|(at, _)| *at).collect()
}

both! {
    async fn nothing_is_sent_while_all_is_down_and_a_look_up_is_the_first_to_know(engine) {
        let world = failing(engine, "2028-01-15T12:00", Of::All).await;
        // one life over all of it: what a breaker knows ends with its process
        world.live_until("2028-01-15T13:00").await;
        let (due, back) = (at("2028-01-15T10:00"), at("2028-01-15T12:00"));
        let calls = world.till.calls.lock().unwrap().clone();
        let during: Vec<bool> = calls.iter().filter(|(at, _)| *at >= due && *at < back).map(|(_, charge)| *charge).collect();
        assert!(!during.contains(&true), "the look-up before each send has failed");
        assert!((20..80).contains(&during.len()), "{} look-ups in two hours: pauses grow to five minutes", during.len());
        assert!(!calls.iter().find(|(at, _)| *at >= back).unwrap().1, "the first call after it is a look-up");
        assert_eq!(world.charged().await.len(), CHARGES);
        assert_eq!(world.count("SELECT sum(tries) AS n FROM charges").await, 0, "none has used up a try");
        assert_eq!(world.count("SELECT count(*) AS n FROM attempts").await, CHARGES as i64);

        let posts = charged_since(&world, back);
        let in_second = |n: i64| {
            let from = posts[0] + SignedDuration::from_secs(n);
            posts.iter().filter(|at| **at >= from && **at < from + SignedDuration::from_secs(1)).count()
        };
        let seconds: Vec<usize> = (0..6).map(in_second).collect();
        for (second, most) in [1, 2, 4, 8, 16, 20].into_iter().enumerate() {
            assert!((1..=most + 1).contains(&seconds[second]), "{seconds:?}: at most {most} in second {second}");
        }
        assert!(posts.last().unwrap().duration_since(posts[0]).as_secs() >= 10, "what has waited is spread");
    }

    async fn a_gateway_that_loses_charges_gets_a_handful_of_them(engine) {
        let world = failing(engine, "2028-01-15T10:30", Of::Charges).await;
        world.live_until("2028-01-15T10:30").await;
        let lost = charged_since(&world, at("2028-01-15T10:00")).len();
        assert!((3..=20).contains(&lost), "{lost} charges were asked for in half an hour of nothing but silence");
        assert_eq!(world.count("SELECT count(*) AS n FROM charges WHERE state = 'doubt'").await, lost as i64);
        assert_eq!(world.count("SELECT sum(tries) AS n FROM charges").await, 0);
        // those that were lost are proven lost first, and then sent again under their own ids
        world.live_until("2028-01-15T15:00").await;
        assert_eq!(world.charged().await.len(), CHARGES);
        assert_eq!(world.count("SELECT sum(tries) AS n FROM charges").await, 0);
        assert_eq!(world.count("SELECT count(*) AS n FROM attempts").await, CHARGES as i64);
        assert_eq!(world.posts().len(), CHARGES, "each was booked once");
    }
}
