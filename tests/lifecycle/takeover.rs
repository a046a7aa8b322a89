//! A key that PortOne's own schedule may have charged, while an operator's check takes its time.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use rebilld::app::takeover::{Checked, Known, Look};
use rebilld::ports::clock::Clock;
use rebilld::store::desk::BookedKey;

use super::rig::{Engine, World, at, both, plan};

/// Three monthly subscriptions that fall due on the 10th at 10:00. PortOne has `booked` the last one's card, as a check at noon of the
/// day before has seen.
async fn world(engine: Engine, booked: &[&str]) -> World {
    let world = World::new(engine, "2028-01-09T12:00", [plan("monthly", "1 month", 9_900)]).await;
    for number in 0..3 {
        world.subscribe(&format!("s{number}"), "monthly", "2028-01-10", &[]).await;
    }
    *world.till.booked.lock().unwrap() = booked.iter().map(|time| ("card-s2".to_owned(), at(time))).collect();
    check(&world).await;
    world
}

/// `rebilld takeover check`, by the simulated clock.
async fn check(world: &World) -> Checked {
    let account = world.account();
    let known: Known = known(world).await.into_iter().map(|key| (key.customer_uid.clone(), key)).collect();
    let look = Look { database: &world.db, account: &account, ahead: SignedDuration::from_hours(400 * 24), known: &known };
    let keys: BTreeSet<String> = (0..3).map(|number| format!("card-s{number}")).collect();
    let mut checked = Checked::default();
    look.ask(keys, async || Ok(world.clock.now()), &mut checked).await.unwrap();
    checked
}

async fn known(world: &World) -> Vec<BookedKey> {
    world.db.desk().booked_keys(world.account().id).await.unwrap()
}

/// Subscriptions that were charged from here.
async fn charged(world: &World) -> Vec<String> {
    world.charged().await.into_iter().map(|charged| charged.external_ref).collect()
}

both! {
    async fn a_booking_that_is_carried_out_while_other_keys_are_asked_for_frees_nothing(engine) {
        let world = world(engine, &["2028-01-10T10:15"]).await;
        world.live_until("2028-01-10T10:00").await;
        // the one before it keeps the check waiting for so long that PortOne charges the last one meanwhile
        *world.till.look_takes.lock().unwrap() = SignedDuration::from_mins(2);
        let checked = check(&world).await;
        assert!(world.clock.now() > at("2028-01-10T10:15"), "its time has come");
        assert_eq!(checked.passed.len(), 1, "an operator has to look: {checked:?}");
        assert_eq!(known(&world).await.len(), 1, "it is not free");
        world.live_until("2028-01-11T10:00").await;
        assert_eq!(charged(&world).await, ["s0", "s1"], "PortOne has charged the third one");
    }

    async fn the_time_of_a_booking_that_is_carried_out_meanwhile_is_kept_beside_a_later_one(engine) {
        let world = world(engine, &["2028-01-10T10:15", "2028-02-10T10:15"]).await;
        world.live_until("2028-01-10T10:00").await;
        *world.till.look_takes.lock().unwrap() = SignedDuration::from_mins(2);
        let checked = check(&world).await;
        assert_eq!(checked.booked.len(), 1, "{checked:?}");
        assert_eq!(known(&world).await[0].first_at, Some(at("2028-01-10T10:15")));
        // the later one is taken away: what was charged before stays with the operator
        world.till.booked.lock().unwrap().clear();
        assert_eq!(check(&world).await.passed.len(), 1);
        world.live_until("2028-01-11T10:00").await;
        assert_eq!(charged(&world).await, ["s0", "s1"]);
    }
}
