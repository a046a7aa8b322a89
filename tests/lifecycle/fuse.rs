//! The fuse with the whole engine around it: it blows, operators look at what is due, and exactly that is sent.

use jiff::SignedDuration;
use rebilld::domain::charge::AccountId;
use rebilld::domain::fuse::{Count, Fuse};
use rebilld::domain::money::Money;
use rebilld::ports::clock::Clock;
use rebilld::store::desk::{Approved, BookedKey, NotApproved, Signed, Wave};

use super::rig::{Engine, World, at, both, plan};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// So many monthly subscriptions that fall due on the 10th at 10:00.
async fn world(engine: Engine, count: usize, fuse: Fuse) -> World {
    let mut world = World::new(engine, "2028-01-03T12:00", [plan("monthly", "1 month", 9_900)]).await;
    world.fuse = fuse;
    for number in 0..count {
        world.subscribe(&format!("s{number}"), "monthly", "2028-01-10", &[]).await;
    }
    world
}

async fn shown(world: &World) -> Wave {
    let desk = world.db.desk();
    let fuse = desk.blown_fuses().await.unwrap().remove(0);
    desk.wave(&fuse, world.clock.now()).await.unwrap()
}

async fn approve(world: &World, wave: &Wave) -> Result<Approved, NotApproved> {
    let signed = Signed { who: "kim (test)".to_owned(), reason: "looked at it".to_owned() };
    let now = world.clock.now();
    world.db.desk().approve_wave(now, "main", &wave.hash(), (1, DAY), "kim", &signed).await.unwrap()
}

async fn fuse_is(world: &World) -> String {
    let rows = world.sql("SELECT COALESCE(fuse, 'whole') AS fuse FROM accounts").await;
    rows[0].text("fuse").unwrap()
}

/// `state/waiting`, in the order of the subscriptions.
async fn charges(world: &World, external_ref: &str) -> Vec<String> {
    let rows = world
        .sql(&format!(
            "SELECT c.state, c.waiting FROM charges c JOIN subscriptions s ON s.id = c.subscription_id
                WHERE s.external_ref = '{external_ref}' ORDER BY c.period_start"
        ))
        .await;
    rows.iter().map(|row| format!("{}/{}", row.text("state").unwrap(), row.text("waiting").unwrap())).collect()
}

/// PortOne's own schedule is going to charge the card of s3.
async fn book_s3(world: &World) {
    let booked = BookedKey {
        customer_uid: "card-s3".to_owned(),
        bookings: 1,
        first_at: Some(at("2028-01-20T10:00")),
        checked_at: world.clock.now(),
    };
    world.db.desk().checked((world.clock.now(), world.clock.now()), AccountId(1), &[booked], &[]).await.unwrap();
}

async fn price(world: &World, external_ref: &str, amount: i64) {
    world.sql(&format!("UPDATE subscriptions SET amount = {amount} WHERE external_ref = '{external_ref}'")).await;
}

both! {
    async fn a_wave_nobody_expects_is_stopped_before_it_begins_and_released_as_shown(engine) {
        let world = world(engine, 8, Fuse { hour_count: Some(5), ..Fuse::NONE }).await;
        world.live_until("2028-01-10T12:00").await;
        assert_eq!((world.posts().len(), fuse_is(&world).await.as_str()), (0, "blown"), "all of it is held against the bound first");
        let told = world.events("account.fuse_blown").await;
        assert_eq!(told.len(), 1, "and told once");
        assert_eq!(told[0]["reason"], "8 charges in an hour, 5 at most, before any of what is due was sent");
        assert_eq!(world.missed().await, 0, "it waits visibly");
        let wave = shown(&world).await;
        assert_eq!(wave.charges.len(), 8);
        assert!(matches!(approve(&world, &wave).await, Ok(Approved::Released { .. })));
        world.live_until("2028-01-10T13:00").await;
        let mut asked: Vec<String> = world.posts().iter().map(|post| post.merchant_uid.clone()).collect();
        let mut approved: Vec<String> = wave.charges.iter().map(|one| one.merchant_uid.clone()).collect();
        asked.sort();
        approved.sort();
        assert_eq!((asked, fuse_is(&world).await.as_str()), (approved, "whole"));
    }

    async fn the_full_price_after_a_month_with_a_discount_is_expected(engine) {
        let world = world(engine, 1, Fuse { times: Some(5_000), times_from: 50_000, ..Fuse::NONE }).await;
        price(&world, "s0", 59_000).await;
        world.sql("INSERT INTO adjustments (subscription_id, amount, name) VALUES (1, -58000, 'first month')").await;
        world.live_until("2028-01-11T12:00").await;
        assert_eq!(world.posts()[0].body["amount"], 1_000);
        world.live_until("2028-02-11T12:00").await;
        assert_eq!((world.posts().len(), fuse_is(&world).await.as_str()), (2, "whole"));
        // what is too much without any discount still trips it
        price(&world, "s0", 590_000).await;
        world.live_until("2028-03-11T12:00").await;
        assert_eq!((world.posts().len(), fuse_is(&world).await.as_str()), (2, "blown"));
    }

    async fn what_trickles_in_trips_it_too_and_what_is_not_of_the_wave_waits(engine) {
        let world = world(engine, 0, Fuse { hour_count: Some(2), ..Fuse::NONE }).await;
        for (number, time) in ["10:00", "10:10", "10:20", "10:30"].into_iter().enumerate() {
            let time = format!("'{time}'");
            world.subscribe(&format!("s{number}"), "monthly", "2028-01-10", &[("charge_time", &time)]).await;
        }
        world.live_until("2028-01-10T10:25").await;
        assert_eq!((world.posts().len(), fuse_is(&world).await.as_str()), (2, "blown"));
        let wave = shown(&world).await;
        let due: Vec<&str> = wave.charges.iter().map(|one| one.external_ref.as_str()).collect();
        assert_eq!(due, ["s2"], "what falls due later is not in it");
        world.live_until("2028-01-10T10:31").await;
        approve(&world, &wave).await.unwrap();
        world.live_until("2028-01-10T10:32").await;
        let refs: Vec<String> = world.charged().await.into_iter().map(|charged| charged.external_ref).collect();
        assert_eq!((refs.len(), fuse_is(&world).await.as_str()), (4, "whole"), "the wave, then what else was due: it counts anew");
        assert!(refs.contains(&"s3".to_owned()));
    }

    async fn a_card_that_changes_after_the_approval_voids_all_of_it(engine) {
        let world = world(engine, 4, Fuse { hour_count: Some(2), ..Fuse::NONE }).await;
        world.live_until("2028-01-10T12:00").await;
        let wave = shown(&world).await;
        approve(&world, &wave).await.unwrap();
        world.sql("UPDATE subscriptions SET customer_uid = 'another' WHERE external_ref = 's3'").await;
        world.live_until("2028-01-10T13:00").await;
        assert_eq!((world.posts().len(), fuse_is(&world).await.as_str()), (0, "blown"));
        let told = world.events("account.fuse_blown").await;
        assert!(told[1]["reason"].as_str().unwrap().contains("has another card"), "{}", told[1]);
        assert_eq!(charges(&world, "s0").await, ["due/fuse"]);
        let again = approve(&world, &wave).await;
        assert!(matches!(again, Err(NotApproved::Changed { .. })), "{again:?}");
        let wave = shown(&world).await;
        approve(&world, &wave).await.unwrap();
        world.live_until("2028-01-10T14:00").await;
        assert_eq!((world.posts().len(), fuse_is(&world).await.as_str()), (4, "whole"));
    }

    async fn a_member_whose_card_rests_does_not_hold_up_the_account(engine) {
        let world = world(engine, 4, Fuse { hour_count: Some(2), ..Fuse::NONE }).await;
        world.subscribe("late", "monthly", "2028-01-10", &[("charge_time", "'13:30'")]).await;
        world.live_until("2028-01-10T12:00").await;
        book_s3(&world).await;
        approve(&world, &shown(&world).await).await.unwrap();
        world.live_until("2028-01-10T14:00").await;
        assert_eq!(charges(&world, "s3").await, ["due/card_rest"], "PortOne's own schedule is going to charge it");
        assert_eq!(charges(&world, "late").await, ["paid/nothing"], "what falls due later is not of the wave");
        assert_eq!((world.posts().len(), fuse_is(&world).await.as_str()), (4, "whole"));
    }

    async fn a_wave_that_is_done_but_for_a_card_that_rests_does_not_blow_when_the_approval_ends(engine) {
        for a_day_down in [false, true] {
        let world = world(engine, 4, Fuse { hour_count: Some(2), ..Fuse::NONE }).await;
        world.live_until("2028-01-10T12:00").await;
        book_s3(&world).await;
        approve(&world, &shown(&world).await).await.unwrap();
        // nothing else of the account falls due: an hour after the other, the resting member alone comes back to W2
        world.live_until("2028-01-10T13:10").await;
        if a_day_down {
            world.sleep_until("2028-01-11T12:30");
        }
        world.live_until("2028-01-11T15:00").await;
        assert_eq!((world.posts().len(), charges(&world, "s3").await), (3, vec!["due/card_rest".to_owned()]));
        assert_eq!(fuse_is(&world).await, "whole", "what was approved has gone out");
        assert_eq!(world.events("account.fuse_blown").await.len(), 1, "the one that was approved");
        }
    }

    async fn a_charge_that_is_voided_after_the_approval_does_not_hold_up_the_others(engine) {
        let world = world(engine, 4, Fuse { hour_count: Some(2), ..Fuse::NONE }).await;
        world.live_until("2028-01-10T12:00").await;
        approve(&world, &shown(&world).await).await.unwrap();
        world.sql("UPDATE subscriptions SET status = 'cancelled' WHERE external_ref = 's3'").await;
        world.live_until("2028-01-10T13:00").await;
        assert_eq!((world.posts().len(), fuse_is(&world).await.as_str()), (3, "whole"));
        assert_eq!(charges(&world, "s3").await, ["void/nothing"]);
    }

    async fn a_price_with_a_zero_too_many_stops_the_account(engine) {
        let fuse = Fuse { times: Some(5_000), times_from: 50_000, ..Fuse::NONE };
        let world = world(engine, 2, fuse).await;
        world.live_until("2028-01-10T12:00").await;
        assert_eq!(world.charged().await.len(), 2, "first charges have no last amount");
        price(&world, "s0", 99_000).await;
        world.live_until("2028-02-10T12:00").await;
        assert_eq!(fuse_is(&world).await, "blown");
        assert_eq!(charges(&world, "s0").await, ["paid/nothing", "due/fuse"]);
        let told = world.events("account.fuse_blown").await;
        let reason = told[0]["reason"].as_str().unwrap();
        assert!(reason.contains("99,000 KRW is too far above the 9,900 KRW that its subscription paid last: 50,000 KRW"), "{reason}");
        assert_eq!((&told[0]["bound"], told.len()), (&"times".into(), 1));
        // the operator finds it right after all
        approve(&world, &shown(&world).await).await.unwrap();
        world.live_until("2028-02-10T13:00").await;
        assert_eq!((world.charged().await.len(), fuse_is(&world).await.as_str()), (4, "whole"));
        world.live_until("2028-03-10T12:00").await;
        assert_eq!((world.charged().await.len(), fuse_is(&world).await.as_str()), (6, "whole"), "that is what it paid last now");
    }

    async fn a_charge_above_the_most_is_not_sent_and_void_lets_the_others_go(engine) {
        let world = world(engine, 3, Fuse { amount: Some(1_000_000), ..Fuse::NONE }).await;
        price(&world, "s1", 9_900_000).await;
        world.live_until("2028-01-10T12:00").await;
        assert_eq!(fuse_is(&world).await, "blown");
        assert!(world.posts().iter().all(|post| post.body["amount"] == 9_900));
        world.sql("UPDATE subscriptions SET status = 'cancelled' WHERE external_ref = 's1'").await;
        approve(&world, &shown(&world).await).await.unwrap();
        world.live_until("2028-01-10T13:00").await;
        assert_eq!((world.charged().await.len(), fuse_is(&world).await.as_str()), (2, "whole"));
        assert_eq!(charges(&world, "s1").await, ["void/nothing"]);
    }

    async fn a_day_is_expected_before_it_begins_and_what_comes_on_top_is_stopped(engine) {
        let fuse = Fuse { day_times: Some(1_500), day_from: 3, ..Fuse::NONE };
        let world = world(engine, 6, fuse).await;
        assert_eq!(world.expect().await, 2, "the 3rd, and from noon on the 4th");
        assert_eq!(world.expect().await, 0, "once");
        world.sleep_until("2028-01-09T13:00");
        assert_eq!(world.expect().await, 2);
        let known = world.db.expected("2028-01-10".parse().unwrap()).await.unwrap();
        let mut six = Count::default();
        six.add(6, Money::krw(6 * 9_900));
        assert_eq!(known[0].count, six);
        world.live_until("2028-01-10T12:00").await;
        assert_eq!((world.posts().len(), fuse_is(&world).await.as_str()), (6, "whole"), "as expected");
        // somebody writes ten more rows that are due at once
        for number in 10..20 {
            world.subscribe(&format!("s{number}"), "monthly", "2028-01-10", &[]).await;
        }
        world.live_until("2028-01-10T14:00").await;
        assert_eq!((world.posts().len(), fuse_is(&world).await.as_str()), (9, "blown"));
        let told = world.events("account.fuse_blown").await;
        assert!(told[0]["reason"].as_str().unwrap().contains("in a day for which 6 were expected, 9 at most"), "{}", told[0]);
        assert_eq!(world.expect().await, 1, "the 11th alone");
        assert_eq!(world.db.expected("2028-01-10".parse().unwrap()).await.unwrap()[0].count, six, "the day itself stays as it was");
    }

    async fn a_day_that_is_not_known_waits_above_the_floor(engine) {
        let world = world(engine, 6, Fuse { day_times: Some(2_000), day_from: 2, ..Fuse::NONE }).await;
        world.live_until("2028-01-10T12:00").await;
        assert_eq!((world.posts().len(), fuse_is(&world).await.as_str()), (2, "whole"), "nothing is wrong, and nothing more is sent");
        assert_eq!(world.count("SELECT count(*) AS n FROM charges WHERE waiting = 'fuse'").await, 4);
        assert_eq!(world.expect().await, 2);
        world.live_until("2028-01-10T13:00").await;
        assert_eq!(world.posts().len(), 6, "what has not been sent of the day was expected of it");
    }

    async fn what_fell_due_while_nobody_ran_was_expected_of_another_day(engine) {
        let world = world(engine, 6, Fuse { day_times: Some(2_000), day_from: 2, ..Fuse::NONE }).await;
        world.live_until("2028-01-09T12:00").await;
        world.sleep_until("2028-01-12T10:00");
        world.expect().await;
        world.live_until("2028-01-12T12:00").await;
        assert_eq!(fuse_is(&world).await, "blown", "a wave of what was missed is looked at by a person");
        assert!(world.posts().len() <= 2);
    }

    async fn a_fuse_that_cannot_be_read_lets_nothing_through_and_look_ups_go_on(engine) {
        let world = world(engine, 2, Fuse { hour_count: Some(5), ..Fuse::NONE }).await;
        world.has_funds("s1", false);
        world.live_until("2028-01-10T10:30").await;
        assert_eq!(charges(&world, "s1").await, ["due/retry"]);
        world.sql("ALTER TABLE fuse_spent RENAME TO gone").await;
        world.sql("UPDATE charges SET state = 'doubt', waiting = 'look_up', next_at = due_at, doubt_since = due_at WHERE state = 'due'").await;
        world.subscribe("late", "monthly", "2028-01-10", &[]).await;
        world.live_until("2028-01-10T10:36").await;
        assert_eq!((world.posts().len(), charges(&world, "late").await), (2, vec!["due/turn".to_owned()]));
        let asked = "SELECT count(*) AS n FROM charges WHERE state <> 'doubt' OR doubt_looks > 0";
        assert_eq!(world.count(asked).await, 3, "the doubt was looked up all the same");
    }

    async fn declines_of_more_than_the_share_pause_the_account(engine) {
        let fuse = Fuse { decline_rate: Some(500), sample: 4, ..Fuse::NONE };
        let world = world(engine, 10, fuse).await;
        for number in 0..10 {
            world.has_funds(&format!("s{number}"), false);
        }
        for number in 0..10 {
            let time = format!("UPDATE subscriptions SET charge_time = '10:{:02}' WHERE external_ref = 's{number}'", number * 2);
            world.sql(&time).await;
        }
        world.live_until("2028-01-10T12:00").await;
        assert_eq!(world.posts().len(), 4, "from the sample on");
        let rows = world.sql("SELECT pause_reason FROM accounts WHERE paused").await;
        let why = rows[0].text("pause_reason").unwrap();
        assert!(why.starts_with("4 of 4 first tries in the last hour were declined: look at the gateway"), "{why}");
        assert_eq!(world.events("account.paused").await.len(), 1);
        assert_eq!(fuse_is(&world).await, "whole", "a pause is another brake");
        world.live_until("2028-01-10T20:00").await;
        assert_eq!(world.posts().len(), 4, "it does not end by itself");
    }
}

#[tokio::test]
async fn the_days_are_those_of_the_account() {
    let world = world(Engine::Sqlite, 1, Fuse::NONE).await;
    world.sleep_until("2028-01-09T11:59");
    assert_eq!(world.expect().await, 1, "before noon only today");
    world.sleep_until("2028-01-09T12:00");
    assert_eq!(world.expect().await, 1, "from noon on tomorrow too");
    let known = world.db.expected("2028-01-01".parse().unwrap()).await.unwrap();
    let counts: Vec<i64> = known.iter().map(|one| one.count.count).collect();
    assert_eq!((known.len(), counts), (2, vec![0, 1]), "{known:?}");
    assert!(at("2028-01-09T00:00") < world.clock.now());
}

#[tokio::test]
async fn tomorrow_is_counted_anew_until_it_begins() {
    let world = world(Engine::Sqlite, 0, Fuse::NONE).await;
    let tomorrow = async |local: &str| {
        world.sleep_until(local);
        world.expect().await;
        let known = world.db.expected("2028-01-10".parse().unwrap()).await.unwrap();
        let of_day = known.iter().find(|one| one.day == "2028-01-10".parse().unwrap()).expect("it is known");
        of_day.count.count
    };
    assert_eq!(tomorrow("2028-01-09T12:00").await, 0);
    for number in 0..40 {
        world.subscribe(&format!("s{number}"), "monthly", "2028-01-10", &[]).await;
    }
    assert_eq!(tomorrow("2028-01-09T12:50").await, 0, "the book is read once an hour");
    assert_eq!(tomorrow("2028-01-09T13:00").await, 40, "an import of the afternoon belongs to it");
    assert_eq!(tomorrow("2028-01-09T23:45").await, 40);
    world.subscribe("evening", "monthly", "2028-01-10", &[]).await;
    assert_eq!(tomorrow("2028-01-09T23:50").await, 41, "a last time");
    world.subscribe("night", "monthly", "2028-01-10", &[]).await;
    assert_eq!(tomorrow("2028-01-10T00:00").await, 41, "it has begun");
    assert_eq!(tomorrow("2028-01-10T11:00").await, 41, "and stays as it is");
}
