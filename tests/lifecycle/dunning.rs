//! Declined charges over days: ladders, new cards, shared cards, outages, the merchant's own trouble.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rebilld::domain::dunning::{Dunning, End};

use super::rig::{Engine, Post, World, at, both, plan};

const FUNDS: &str = "[1254][실시간빌링실패|잔액부족]";
const EXPIRED: &str = "[1204][실시간빌링실패|유효기간 만료(기간오류)]";
const OUTAGE: &str = "[1235][실시간빌링실패|카드사 통신장애]";
const MERCHANT: &str = "[1207][실시간빌링실패|거래정지 가맹점]";

async fn world(engine: Engine, refs: &[&str]) -> World {
    let world = World::new(engine, "2028-01-03T12:00", [plan("monthly", "1 month", 9_900)]).await;
    for external_ref in refs {
        world.subscribe(external_ref, "monthly", "2028-01-10", &[]).await;
    }
    world
}

async fn card(world: &World, external_ref: &str, customer: &str) {
    world.sql(&format!("UPDATE subscriptions SET customer_uid = '{customer}' WHERE external_ref = '{external_ref}'")).await;
}

/// `state/waiting tries`, in the order of the subscriptions.
async fn charges(world: &World) -> Vec<String> {
    let rows = world.sql("SELECT state, waiting, tries FROM charges ORDER BY subscription_id").await;
    let text = |column: &str, row: &rebilld::store::codec::Row| row.text(column).unwrap();
    rows.iter().map(|row| format!("{}/{} {}", text("state", row), text("waiting", row), row.int("tries").unwrap())).collect()
}

fn times(world: &World) -> Vec<Timestamp> {
    world.posts().iter().map(|post| post.at).collect()
}

both! {
    async fn a_declined_charge_climbs_its_ladder_and_is_given_up(engine) {
        let world = world(engine, &["a"]).await;
        world.refuse("card-a", Some(FUNDS));
        world.live_until("2028-01-30T00:00").await;
        let days: Vec<i64> = times(&world).iter().map(|at| at.duration_since(times(&world)[0]).as_hours() / 24).collect();
        assert_eq!(days, [0, 1, 3, 5, 7]);
        assert_eq!(charges(&world).await, ["unpaid/nothing 5"]);
        let declined = world.events("charge.declined").await;
        assert_eq!(declined[0]["next_try_at"], at("2028-01-11T10:00").to_string(), "told at once, with the next try");
        assert_eq!(declined[0]["class"], "SOFT_FUNDS");
        assert_eq!(world.count("SELECT count(*) AS n FROM subscriptions WHERE status = 'active'").await, 1);
    }

    async fn the_end_of_a_ladder_pauses_the_subscription_if_it_says_so(engine) {
        let mut world = world(engine, &["a", "b"]).await;
        world.dunning.default = Arc::new(Dunning { end: End::Pause, ..Dunning::default() });
        world.refuse("card-a", Some(FUNDS));
        world.live_until("2028-03-20T00:00").await;
        assert_eq!(world.count("SELECT count(*) AS n FROM subscriptions WHERE status = 'paused'").await, 1);
        assert_eq!(world.count("SELECT count(*) AS n FROM charges").await, 1 + 3, "a paused subscription owes no further period");
        let changed = world.events("subscription.changed").await;
        assert_eq!((changed.len(), &changed[0]["status"]), (1, &"paused".into()));
    }

    async fn after_a_decline_a_new_card_is_tried_at_once_and_restarts_the_ladder_once(engine) {
        let world = world(engine, &["a"]).await;
        world.refuse("card-a", Some(FUNDS));
        world.refuse("second", Some(FUNDS));
        world.live_until("2028-01-13T12:00").await;
        assert_eq!(world.posts().len(), 3, "the 10th, the 11th, the 13th");
        card(&world, "a", "second").await;
        world.live_until("2028-01-13T13:00").await;
        assert_eq!((world.posts().len(), charges(&world).await), (4, vec!["due/retry 4".to_owned()]));
        assert_eq!(world.posts()[3].body["customer_uid"], "second");
        world.live_until("2028-01-15T00:00").await;
        assert_eq!(world.posts().len(), 5, "a day later: the ladder has begun anew");
        // a third one is tried at once as well, but no ladder begins again
        world.refuse("third", None);
        card(&world, "a", "third").await;
        world.live_until("2028-01-15T01:00").await;
        assert_eq!(charges(&world).await, ["paid/nothing 5"]);
    }

    async fn a_card_that_is_changed_to_and_fro_is_asked_once_a_day(engine) {
        let world = world(engine, &["a"]).await;
        for customer in ["card-a", "second"] {
            world.refuse(customer, Some(FUNDS));
        }
        world.live_until("2028-01-10T10:30").await;
        for hour in 11..20 {
            card(&world, "a", if hour % 2 == 0 { "card-a" } else { "second" }).await;
            world.live_until(&format!("2028-01-10T{hour}:30")).await;
        }
        assert_eq!(world.posts().len(), 2, "each card once");
    }

    async fn two_subscriptions_on_one_card_are_spaced_and_stop_together(engine) {
        let world = world(engine, &["a", "b"]).await;
        card(&world, "a", "shared").await;
        card(&world, "b", "shared").await;
        world.live_until("2028-01-10T12:00").await;
        let [first, second] = times(&world)[..] else { panic!("{:?}", world.posts()) };
        assert!(second.duration_since(first) >= SignedDuration::from_mins(10));
        assert_eq!(charges(&world).await, ["paid/nothing 0", "paid/nothing 0"]);

        world.refuse("shared", Some(EXPIRED));
        world.live_until("2028-02-12T00:00").await;
        assert_eq!(world.posts().len(), 3, "refused for good once: the other one is not sent");
        let waiting = world.count("SELECT count(*) AS n FROM charges WHERE state = 'due' AND waiting = 'card'").await;
        assert_eq!(waiting, 2);
        card(&world, "a", "new").await;
        card(&world, "b", "new").await;
        world.live_until("2028-02-12T01:00").await;
        assert_eq!(world.charged().await.len(), 4, "both are paid by the new card");
    }

    async fn an_outage_uses_up_no_try_and_is_over_within_hours(engine) {
        let world = world(engine, &["a"]).await;
        world.refuse("card-a", Some(OUTAGE));
        world.live_until("2028-01-10T10:45").await;
        assert_eq!(charges(&world).await, ["due/retry 0"]);
        world.refuse("card-a", None);
        world.live_until("2028-01-10T18:00").await;
        assert_eq!(charges(&world).await, ["paid/nothing 0"]);
        assert!((3..=4).contains(&world.posts().len()));
    }

    async fn an_outage_that_lasts_joins_the_ladder_after_six_refusals_a_day(engine) {
        let world = world(engine, &["a"]).await;
        world.refuse("card-a", Some(OUTAGE));
        world.live_until("2028-01-11T09:00").await;
        assert_eq!((world.posts().len(), charges(&world).await), (6, vec!["due/retry 1".to_owned()]));
        world.live_until("2028-02-09T00:00").await;
        let times = times(&world);
        for window in times.windows(7) {
            assert!(window[6].duration_since(window[0]) >= SignedDuration::from_hours(24), "{times:?}");
        }
        assert_eq!(charges(&world).await, ["unpaid/nothing 5"]);
    }

    async fn merchant_trouble_pauses_the_account_and_nobody_is_charged(engine) {
        let world = world(engine, &["a"]).await;
        world.refuse("card-a", Some(MERCHANT));
        world.live_until("2028-01-10T12:00").await;
        world.subscribe("b", "monthly", "2028-01-11", &[]).await;
        world.live_until("2028-01-12T00:00").await;
        assert_eq!(world.posts().len(), 1);
        assert_eq!(world.count("SELECT count(*) AS n FROM accounts WHERE paused").await, 1);
        assert_eq!(world.events("account.paused").await.len(), 1);
        world.refuse("card-a", None);
        world.sql("UPDATE accounts SET paused = FALSE, pause_reason = NULL").await;
        world.live_until("2028-01-12T12:00").await;
        assert_eq!(charges(&world).await, ["paid/nothing 0", "paid/nothing 0"], "no try was used up");
    }

    async fn a_cancelled_subscription_is_not_retried_and_a_late_payment_does_not_revive_it(engine) {
        let world = world(engine, &["a"]).await;
        world.refuse("card-a", Some(FUNDS));
        world.live_until("2028-01-10T12:00").await;
        world.sql("UPDATE subscriptions SET status = 'cancelled'").await;
        world.live_until("2028-01-14T00:00").await;
        assert_eq!((world.posts().len(), charges(&world).await), (1, vec!["void/nothing 1".to_owned()]));
        // the gateway knows of a payment under the next id that nobody here has asked for
        let mut late: Post = world.posts()[0].clone();
        late.merchant_uid = late.merchant_uid.replace(&late.merchant_uid[28..], "02");
        (late.refused, late.at) = (None, at("2028-01-14T00:00"));
        world.till.posts.lock().unwrap().push(late);
        world.live_until("2028-03-20T00:00").await;
        assert_eq!(charges(&world).await, ["paid/nothing 1"]);
        assert_eq!(world.events("charge.paid").await[0]["late"], true);
        assert_eq!(world.count("SELECT count(*) AS n FROM subscriptions WHERE status = 'cancelled'").await, 1);
        assert_eq!(world.posts().len(), 2, "nothing more was sent");
    }
}
