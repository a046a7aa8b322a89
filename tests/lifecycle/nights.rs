//! Bad days: the gateway away on a payday, the banks' maintenance, one card for several subscriptions, a cancellation in between.

use jiff::SignedDuration;
use rebilld::domain::window::{Blackout, Windows};

use super::rig::{Engine, Post, World, at, both, plan, seoul};

const FUNDS: &str = "[1254][실시간빌링실패|잔액부족]";
const OUTAGE: &str = "[1235][실시간빌링실패|카드사 통신장애]";

async fn world(engine: Engine, hours: &str) -> World {
    let mut world =
        World::new(engine, "2028-01-20T12:00", [plan("monthly", "1 month", 9_900), plan("other", "1 month", 9_900)]).await;
    let blackouts = vec![Blackout { hours: "23:30-00:40".parse().unwrap(), zone: seoul() }];
    world.windows = Windows { hours: hours.parse().unwrap(), blackouts, spread: SignedDuration::ZERO };
    world
}

/// `state tries`, in the order of the charges.
async fn charges(world: &World) -> Vec<String> {
    let rows = world.sql("SELECT state, tries FROM charges ORDER BY id").await;
    rows.iter().map(|row| format!("{} {}", row.text("state").unwrap(), row.int("tries").unwrap())).collect()
}

both! {
    async fn a_gateway_that_is_down_for_the_whole_payday_uses_up_no_try(engine) {
        let world = world(engine, "09:00-22:00").await;
        world.subscribe("retry", "monthly", "2028-01-24", &[]).await;
        for name in ["a", "b", "c"] {
            world.subscribe(name, "monthly", "2028-01-25", &[]).await;
        }
        world.refuse("card-retry", Some(FUNDS));
        *world.till.down.lock().unwrap() = Some((at("2028-01-25T00:00"), at("2028-01-26T00:00")));
        world.live_until("2028-01-25T23:00").await;
        assert_eq!(world.posts().len(), 1, "the decline of the day before, and nothing since");
        assert_eq!(charges(&world).await, ["due 1", "due 0", "due 0", "due 0"]);
        world.refuse("card-retry", None);
        world.live_until("2028-01-26T12:00").await;
        assert_eq!(charges(&world).await, ["paid 1", "paid 0", "paid 0", "paid 0"]);
        let late = world.posts()[1..].iter().all(|post| post.at >= at("2028-01-26T09:00"));
        assert!(late && world.posts().len() == 5, "once each, in the hours of the day after: {:?}", world.posts());
        assert_eq!(world.events("charge.declined").await.len(), 1);
        let states = world.events("subscription.state_changed").await;
        let refs: Vec<&str> = states.iter().map(|data| data["external_ref"].as_str().unwrap()).collect();
        assert_eq!(refs, ["retry", "retry"], "nobody is past due because the gateway was away");
    }

    async fn refusals_of_a_maintenance_night_are_over_in_the_morning_and_told_as_no_debt(engine) {
        let world = world(engine, "00:00-24:00").await;
        world.subscribe("a", "monthly", "2028-01-25", &[("charge_time", "'23:25'")]).await;
        world.refuse("card-a", Some(OUTAGE));
        world.live_until("2028-01-26T00:30").await;
        assert_eq!((world.posts().len(), charges(&world).await), (1, vec!["due 0".to_owned()]), "asked before the maintenance, not during it");
        world.refuse("card-a", None);
        world.live_until("2028-01-26T02:00").await;
        assert_eq!(charges(&world).await, ["paid 0"]);
        assert_eq!(world.posts()[1].at, at("2028-01-26T00:40"));
        assert_eq!(world.events("subscription.state_changed").await.len(), 0);
    }

    async fn equal_charges_to_one_card_are_spaced_whichever_batch_they_are_in(engine) {
        let world = world(engine, "00:00-24:00").await;
        for (name, plan, time) in [("a", "monthly", "'10:00'"), ("b", "other", "'10:03'"), ("c", "other", "'10:04'")] {
            world.subscribe(name, plan, "2028-01-25", &[("charge_time", time)]).await;
        }
        world.sql("UPDATE subscriptions SET customer_uid = 'shared'").await;
        world.live_until("2028-01-25T12:00").await;
        let times: Vec<String> = world.posts().iter().map(|post| post.at.to_zoned(seoul()).strftime("%H:%M").to_string()).collect();
        assert_eq!(times, ["10:00", "10:10", "10:20"]);
        assert_eq!(charges(&world).await, ["paid 0", "paid 0", "paid 0"]);
        assert_eq!(world.missed().await, 0);
    }

    async fn a_decline_then_another_card_then_a_retry_are_one_charge(engine) {
        let world = world(engine, "09:00-22:00").await;
        world.subscribe("a", "monthly", "2028-01-25", &[]).await;
        world.refuse("card-a", Some(FUNDS));
        world.refuse("second", Some(FUNDS));
        world.live_until("2028-01-25T11:00").await;
        world.sql("UPDATE subscriptions SET customer_uid = 'second'").await;
        world.live_until("2028-01-25T11:30").await;
        assert_eq!(charges(&world).await, ["due 2"], "tried at once");
        world.refuse("second", None);
        world.live_until("2028-01-27T00:00").await;
        assert_eq!(charges(&world).await, ["paid 2"]);
        let by: Vec<String> = world.posts().iter().map(|post| post.body["customer_uid"].as_str().unwrap().to_owned()).collect();
        assert_eq!(by, ["card-a", "second", "second"]);
        assert!(world.posts()[2].at >= world.posts()[1].at + SignedDuration::from_hours(24), "the ladder began anew, a day later");
        assert_eq!(world.charged().await.len(), 1);
    }

    async fn a_cancellation_with_a_retry_pending_stops_it_and_a_late_payment_is_told(engine) {
        let world = world(engine, "09:00-22:00").await;
        world.subscribe("a", "monthly", "2028-01-25", &[]).await;
        world.refuse("card-a", Some(FUNDS));
        world.live_until("2028-01-25T12:00").await;
        world.sql("UPDATE subscriptions SET status = 'cancelled'").await;
        world.live_until("2028-01-25T13:00").await;
        assert_eq!((charges(&world).await, world.posts().len()), (vec!["void 1".to_owned()], 1));
        let mut late: Post = world.posts()[0].clone();
        (late.refused, late.at) = (None, at("2028-01-25T13:00"));
        late.merchant_uid = late.merchant_uid.replace(&late.merchant_uid[28..], "02");
        world.till.posts.lock().unwrap().push(late);
        world.live_until("2028-03-01T00:00").await;
        let paid = world.events("charge.paid").await;
        assert_eq!((paid.len(), &paid[0]["late"]), (1, &true.into()));
        let told = world.events("subscription.state_changed").await;
        let to: Vec<&str> = told.iter().map(|data| data["to"].as_str().unwrap()).collect();
        assert_eq!(to, ["past_due", "cancelled"], "nothing revives it");
        assert_eq!(world.posts().len(), 2, "nothing more was sent");
    }
}
