//! Billing keys over all their subscriptions: caps, spacing, and what a new key wakes.

use jiff::{SignedDuration, Timestamp};
use rebilld::domain::attempt::{AttemptState, SendEnd};
use rebilld::domain::charge::{Charge, ChargeState, Waiting};
use rebilld::domain::decide::{Decision, LiveChange};
use rebilld::domain::decline::Class;
use rebilld::domain::dunning::KeyStop;
use rebilld::ports::store::{Begin, Claimed, Fence, Lane, NotBegun, Store};
use rebilld::store::desk::{BookedKey, Signed};

use super::deeds::{begin_of, claim_of, decided, entry, paid, token};
use super::rig::{Engine, World, both, later, now};

const DAY: i64 = 86_400;

/// All subscriptions have one card.
async fn share_a_card(world: &World) {
    world.sql("UPDATE subscriptions SET customer_uid = 'shared'").await.unwrap();
}

fn shared(world: &World, claimed: &[Claimed], at: Timestamp) -> Begin {
    let mut batch = Begin { now: at, ..begin_of(world, "t", claimed) };
    for intent in &mut batch.intents {
        intent.customer_uid = "shared".to_owned();
    }
    batch
}

fn declined(charge: &Charge, class: Class, state: AttemptState) -> Decision {
    decided(charge, |decision| {
        let live = charge.live.as_ref().unwrap();
        decision.live = LiveChange::End { state, imp_uid: Some(format!("imp_{}", live.id)) };
        decision.send = live.open_send.map(|send| (send.id, SendEnd::Answered));
        decision.refusal = Some(class);
        decision.charge.waiting = Waiting::Retry;
        decision.charge.next_at = Some(later(DAY));
        decision.charge.tries = 1;
        decision.charge.course.declined_customer = Some(live.customer_uid.clone());
    })
}

/// Begins an intent, and has it refused.
async fn refuse(world: &World, claimed: &[Claimed], class: Class, state: AttemptState) -> Charge {
    let begun = world.db.begin(shared(world, claimed, now())).await.unwrap();
    assert!(begun.attempts[0].is_ok(), "{begun:?}");
    let loaded = world.db.load(&[claimed[0].charge.id]).await.unwrap().remove(0);
    world.db.record(now(), &[entry(&loaded, Fence::Claim(token("t")), declined(&loaded, class, state))]).await.unwrap();
    loaded
}

/// Declines of the card for charges that are long gone, one an hour from now on.
async fn past_declines(world: &World, many: usize) {
    for n in 0..many {
        let id = 9_000 + n;
        world
            .sql(&format!(
                "INSERT INTO attempts (charge_id, number, id_number, amount, customer_uid, state)
                    VALUES ({id}, 1, 1, 9900, 'shared', 'declined')"
            ))
            .await
            .unwrap();
        let at = (now() + SignedDuration::from_hours(i64::try_from(n).unwrap())).as_microsecond();
        let insert = |at: &str| {
            format!(
                "INSERT INTO card_tries (attempt_id, account_id, customer_uid, charge_id, at, class)
                    SELECT id, {}, customer_uid, charge_id, {at}, 'SOFT_FUNDS' FROM attempts WHERE charge_id = {id}",
                world.account.id
            )
        };
        let postgres = insert(&format!("to_timestamp({at} / 1000000.0)"));
        world.sql_of(&insert(&at.to_string()), &postgres).await.unwrap();
    }
}

async fn stop(world: &World, claimed: &[Claimed], at: Timestamp) -> Option<(KeyStop, Timestamp)> {
    match world.db.begin(shared(world, claimed, at)).await.unwrap().attempts.remove(0) {
        Ok(_) => None,
        Err(NotBegun::CardStopped { stop, until }) => Some((stop, until)),
        Err(other) => panic!("{other:?}"),
    }
}

both! {
    async fn a_key_that_is_booked_elsewhere_is_not_asked(world: World) {
        let claimed = world.claimed(3, "t").await;
        let (booked, other) = (claimed[0].payer.customer_uid.clone(), claimed[1].payer.customer_uid.clone());
        let key = |customer_uid: &str, bookings| BookedKey {
            customer_uid: customer_uid.to_owned(),
            bookings,
            first_at: Some(later(DAY)),
            checked_at: now(),
        };
        let desk = world.db.desk();
        desk.checked(now(), world.account.id, &[key(&booked, 2), key("elsewhere", 1)], &[]).await.unwrap();
        desk.checked(now(), world.account.id, &[key(&booked, 3)], &[other.clone(), "elsewhere".to_owned()]).await.unwrap();
        assert_eq!(desk.booked_keys(world.account.id).await.unwrap(), [key(&booked, 3)], "the last check counts");
        let of_subscription = desk.booking_of(claimed[0].charge.subscription.0).await.unwrap();
        assert_eq!((of_subscription, desk.booking_of(claimed[1].charge.subscription.0).await.unwrap()), (Some(key(&booked, 3)), None));

        let begun = world.db.begin(begin_of(&world, "t", &claimed)).await.unwrap();
        let until = later(3600);
        assert_eq!(begun.attempts[0].as_ref().err(), Some(&NotBegun::CardStopped { stop: KeyStop::Booked, until }));
        assert!(begun.attempts[1..].iter().all(Result::is_ok), "its neighbours are not concerned");
        assert_eq!(world.count("SELECT count(*) AS n FROM card_tries").await, 0, "it was never declined");

        // its charge rests; what frees the key wakes it, and nothing else
        world.sql("UPDATE charges SET waiting = 'card_rest', claim_token = NULL, claim_until = NULL WHERE id NOT IN (SELECT charge_id FROM attempts)").await.unwrap();
        let rests = format!("UPDATE charges SET next_at = $1 WHERE id = {}", claimed[0].charge.id);
        world.sql_of(
            &rests.replace("$1", &later(3600).as_microsecond().to_string()),
            &rests.replace("$1", &format!("to_timestamp({})", later(3600).as_second())),
        ).await.unwrap();
        desk.checked(now(), world.account.id, &[], std::slice::from_ref(&other)).await.unwrap();
        assert!(world.db.claim(&claim_of(&world, Lane::Send, "u", 5)).await.unwrap().is_empty());
        desk.checked(now(), world.account.id, &[], std::slice::from_ref(&booked)).await.unwrap();
        let freed = world.db.claim(&claim_of(&world, Lane::Send, "u", 5)).await.unwrap();
        assert_eq!(freed.iter().map(|claimed| claimed.charge.id).collect::<Vec<_>>(), [claimed[0].charge.id]);
        assert!(world.db.begin(begin_of(&world, "u", &freed)).await.unwrap().attempts[0].is_ok());
    }

    async fn a_key_whose_booking_may_have_been_carried_out_is_freed_by_an_operator_alone(world: World) {
        let claimed = world.claimed(1, "t").await;
        let uid = claimed[0].payer.customer_uid.clone();
        let key = |first: i64, checked: i64| BookedKey {
            customer_uid: uid.clone(),
            bookings: 1,
            first_at: Some(later(first)),
            checked_at: later(checked),
        };
        let (desk, account) = (world.db.desk(), world.account.id);
        let check = async |at: i64, booked: &[BookedKey]| {
            let free = if booked.is_empty() { vec![uid.clone()] } else { Vec::new() };
            desk.checked(later(at), account, booked, &free).await.unwrap();
            desk.booked_keys(account).await.unwrap()
        };
        assert_eq!(check(0, &[key(DAY, 0)]).await, [key(DAY, 0)]);
        assert_eq!(check(60, &[]).await, [], "before its time it was taken away");
        check(60, &[key(DAY, 60)]).await;
        assert_eq!(check(DAY - 300, &[]).await, [key(DAY, 60)], "it may be carried out while it is looked at");
        assert_eq!(check(DAY + 60, &[]).await, [key(DAY, 60)], "it may have been");
        let seen = key(DAY, DAY + 120);
        assert_eq!(check(DAY + 120, &[key(31 * DAY, DAY + 120)]).await, std::slice::from_ref(&seen), "the next one does not hide it");
        assert_eq!(check(DAY + 180, &[]).await, std::slice::from_ref(&seen));
        assert!(seen.may_be_charged(later(DAY)) && !seen.may_be_charged(later(60)));
        let begun = world.db.begin(begin_of(&world, "t", &claimed)).await.unwrap();
        assert!(matches!(begun.attempts[0], Err(NotBegun::CardStopped { stop: KeyStop::Booked, .. })), "{begun:?}");
        let waits = desk.waits_for_key(account, &uid).await.unwrap();
        assert_eq!(waits.len(), 1, "{waits:?}");

        let signed = Signed { who: "kim (test)".to_owned(), reason: "PortOne did not charge it".to_owned() };
        let release = async |key: &BookedKey| desk.release_key(later(DAY), (account, "main"), key, &signed).await.unwrap();
        assert!(!release(&key(DAY, 60)).await, "it was checked again since it was shown");
        assert!(release(&seen).await && !release(&seen).await);
        assert!(world.db.begin(begin_of(&world, "t", &claimed)).await.unwrap().attempts[0].is_ok());
        assert_eq!(world.count("SELECT count(*) AS n FROM journal WHERE action = 'takeover release'").await, 1);
    }

    async fn a_booking_without_a_time_is_not_forgotten_for_one_that_has_one(world: World) {
        let (desk, account) = (world.db.desk(), world.account.id);
        let key = |first_at, checked: i64| BookedKey {
            customer_uid: "card-1".to_owned(),
            bookings: 1,
            first_at,
            checked_at: later(checked),
        };
        desk.checked(later(0), account, &[key(None, 0)], &[]).await.unwrap();
        desk.checked(later(60), account, &[key(Some(later(DAY)), 60)], &[]).await.unwrap();
        desk.checked(later(120), account, &[], &["card-1".to_owned()]).await.unwrap();
        let known = desk.booked_keys(account).await.unwrap();
        assert_eq!(known, [key(None, 60)], "PortOne may have carried it out: an operator has to look");
        assert!(known[0].may_be_charged(later(120)));
    }

    async fn a_card_that_was_never_declined_leaves_no_trace(world: World) {
        let (_, loaded) = world.one_begun("t").await;
        let paid = paid(&loaded, "imp_1");
        world.db.record(now(), &[entry(&loaded, Fence::Claim(token("t")), paid)]).await.unwrap();
        assert_eq!(world.count("SELECT count(*) AS n FROM card_tries").await, 0);
    }

    async fn from_its_first_decline_on_every_try_of_a_card_is_written_with_its_intent(world: World) {
        let claimed = world.claimed(2, "t").await;
        refuse(&world, &claimed[..1], Class::SoftFunds, AttemptState::Declined).await;
        assert_eq!(world.count("SELECT count(*) AS n FROM card_tries WHERE class = 'SOFT_FUNDS'").await, 1);
        assert_eq!(stop(&world, &claimed[1..], later(600)).await, None);
        assert_eq!(world.count("SELECT count(*) AS n FROM card_tries WHERE class IS NULL").await, 1, "before its answer");
    }

    async fn a_try_in_doubt_counts_though_its_card_was_never_declined(world: World) {
        let claimed = world.claimed(3, "t").await;
        assert_eq!(stop(&world, &claimed[..1], now()).await, None);
        assert_eq!(stop(&world, &claimed[1..2], now()).await, None, "nothing is kept of a card that was always good");
        // one whose answer was lost, and one that its process never came back from
        let loaded = world.db.load(&[claimed[0].charge.id]).await.unwrap().remove(0);
        let lost = decided(&loaded, |decision| decision.charge.state = ChargeState::Doubt);
        world.db.record(now(), &[entry(&loaded, Fence::Claim(token("t")), lost)]).await.unwrap();
        assert_eq!(world.count("SELECT count(*) AS n FROM card_tries WHERE class IS NULL").await, 1);
        assert_eq!(world.db.adopt_interrupted(later(3600), 10).await.unwrap(), 1);
        assert_eq!(world.count("SELECT count(*) AS n FROM card_tries WHERE class IS NULL").await, 2);
        let spaced = Some((KeyStop::Spacing, later(3600 + 600)));
        assert_eq!(stop(&world, &claimed[2..], later(3700)).await, spaced, "another batch, or replica, counts them");
    }

    async fn two_charges_to_one_card_in_a_batch_are_spaced(world: World) {
        let claimed = world.claimed(3, "t").await;
        let begun = world.db.begin(shared(&world, &claimed, now())).await.unwrap();
        let stops: Vec<_> = begun.attempts.iter().map(|one| one.as_ref().err().copied()).collect();
        let spaced = |minutes: i64| Some(NotBegun::CardStopped { stop: KeyStop::Spacing, until: later(minutes * 60) });
        assert_eq!(stops, [None, spaced(10), spaced(20)]);
        // once the card was declined, batches of other times are spaced too
        let loaded = world.db.load(&[claimed[0].charge.id]).await.unwrap().remove(0);
        let decision = declined(&loaded, Class::SoftFunds, AttemptState::Declined);
        world.db.record(now(), &[entry(&loaded, Fence::Claim(token("t")), decision)]).await.unwrap();
        assert_eq!(stop(&world, &claimed[1..2], later(60)).await, Some((KeyStop::Spacing, later(600))));
        assert_eq!(stop(&world, &claimed[1..2], later(600)).await, None);
    }

    async fn a_card_that_several_subscriptions_share_is_spaced_across_batches_and_replicas(world: World) {
        let claimed = world.claimed(2, "t").await;
        share_a_card(&world).await;
        assert_eq!(world.count("SELECT count(*) AS n FROM shared_cards").await, 1);
        assert_eq!(stop(&world, &claimed[..1], now()).await, None);
        assert_eq!(world.count("SELECT count(*) AS n FROM card_tries WHERE class IS NULL").await, 1, "never declined, but kept");
        let replica = world.replica().await;
        let second = replica.begin(shared(&world, &claimed[1..], later(60))).await.unwrap().attempts.remove(0);
        let spaced = NotBegun::CardStopped { stop: KeyStop::Spacing, until: later(600) };
        assert_eq!(second.unwrap_err(), spaced, "still open");
        let loaded = world.db.load(&[claimed[0].charge.id]).await.unwrap().remove(0);
        world.db.record(now(), &[entry(&loaded, Fence::Claim(token("t")), paid(&loaded, "imp_1"))]).await.unwrap();
        assert_eq!(stop(&world, &claimed[1..], later(599)).await, Some((KeyStop::Spacing, later(600))), "paid");
        assert_eq!(stop(&world, &claimed[1..], later(600)).await, None);
    }

    async fn a_card_is_shared_from_its_second_subscription_on_in_one_account(world: World) {
        world.claimed(2, "t").await;
        assert_eq!(world.count("SELECT count(*) AS n FROM shared_cards").await, 0);
        world
            .sql("INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor)
                SELECT account, 'another', plan, customer_uid, anchor FROM subscriptions WHERE id = (SELECT min(id) FROM subscriptions)")
            .await
            .unwrap();
        assert_eq!(world.count("SELECT count(*) AS n FROM shared_cards").await, 1);
    }

    async fn a_card_declined_ten_times_in_thirty_days_is_not_asked(world: World) {
        let claimed = world.claimed(1, "t").await;
        past_declines(&world, 10).await;
        assert_eq!(stop(&world, &claimed, later(DAY)).await, Some((KeyStop::Month, later(30 * DAY))));
        assert_eq!(stop(&world, &claimed, later(30 * DAY)).await, None);
    }

    async fn replicas_count_each_others_tries_before_they_have_ended(world: World) {
        let claimed = world.claimed(2, "t").await;
        past_declines(&world, 9).await;
        let replica = world.replica().await;
        let (one, other) = (shared(&world, &claimed[..1], later(DAY)), shared(&world, &claimed[1..], later(DAY + 600)));
        let (one, other) = tokio::join!(world.db.begin(one), replica.begin(other));
        let begun = [one.unwrap(), other.unwrap()].iter().filter(|begun| begun.attempts[0].is_ok()).count();
        assert_eq!(begun, 1, "the tenth try, and no eleventh");
    }

    async fn a_card_is_asked_once_a_day_for_one_charge_whatever_its_row_says(world: World) {
        let claimed = world.claimed(1, "t").await;
        refuse(&world, &claimed, Class::SoftFunds, AttemptState::Declined).await;
        world.sql("UPDATE charges SET claim_token = 't', next_at = due_at").await.unwrap();
        assert_eq!(stop(&world, &claimed, later(DAY - 1)).await, Some((KeyStop::Day, later(DAY))));
        assert_eq!(stop(&world, &claimed, later(DAY)).await, None);
    }

    async fn a_card_refused_for_good_is_not_asked_for_another_charge(world: World) {
        let claimed = world.claimed(2, "t").await;
        refuse(&world, &claimed[..1], Class::HardCard, AttemptState::Declined).await;
        assert_eq!(stop(&world, &claimed[1..], later(DAY)).await, Some((KeyStop::Refused, later(30 * DAY))));
        let mut another = begin_of(&world, "t", &claimed[1..]);
        another.intents[0].customer_uid = "a new card".to_owned();
        assert!(world.db.begin(another).await.unwrap().attempts[0].is_ok());
    }

    async fn outages_stop_a_card_after_six_a_day(world: World) {
        let claimed = world.claimed(7, "t").await;
        for (n, one) in (0..6).zip(claimed.chunks(1)) {
            let begun = world.db.begin(shared(&world, one, later(n * 1200))).await.unwrap();
            assert!(begun.attempts[0].is_ok(), "{n}: {begun:?}");
            let loaded = world.db.load(&[one[0].charge.id]).await.unwrap().remove(0);
            let decision = declined(&loaded, Class::Transient, AttemptState::Refused);
            world.db.record(later(n * 1200), &[entry(&loaded, Fence::Claim(token("t")), decision)]).await.unwrap();
        }
        assert_eq!(stop(&world, &claimed[6..], later(4 * 3600)).await, Some((KeyStop::Transient, later(DAY))));
    }

    async fn merchant_trouble_pauses_the_account_with_the_outcome(world: World) {
        let claimed = world.claimed(2, "t").await;
        let begun = world.db.begin(begin_of(&world, "t", &claimed[..1])).await.unwrap();
        assert!(begun.attempts[0].is_ok());
        let loaded = world.db.load(&[claimed[0].charge.id]).await.unwrap().remove(0);
        let mut decision = declined(&loaded, Class::Merchant, AttemptState::Refused);
        decision.pause = Some("the contract has ended".to_owned());
        world.db.record(now(), &[entry(&loaded, Fence::Claim(token("t")), decision)]).await.unwrap();
        let refused = world.db.begin(begin_of(&world, "t", &claimed[1..])).await.unwrap();
        assert_eq!(refused.attempts[0].as_ref().unwrap_err(), &NotBegun::Paused);
        assert_eq!(world.count("SELECT count(*) AS n FROM events WHERE kind = 'account.paused'").await, 1);
        assert_eq!(world.count("SELECT count(*) AS n FROM accounts WHERE pause_reason = 'the contract has ended'").await, 1);
    }

    async fn a_new_card_wakes_a_charge_that_waits_for_its_next_try(world: World) {
        let claimed = world.claimed(1, "t").await;
        share_a_card(&world).await;
        let before = refuse(&world, &claimed, Class::SoftFunds, AttemptState::Declined).await;
        let after = world.db.load(&[before.id]).await.unwrap().remove(0);
        assert_eq!((after.waiting, after.next_at), (Waiting::Retry, Some(later(DAY))));
        assert_eq!(after.course.declined_customer.as_deref(), Some("shared"));
        world.sql("UPDATE subscriptions SET name = 'another title'").await.unwrap();
        assert_eq!(world.db.load(&[before.id]).await.unwrap()[0].next_at, Some(later(DAY)), "anything else does not");
        world.sql("UPDATE subscriptions SET customer_uid = 'a new card'").await.unwrap();
        assert_eq!(world.db.load(&[before.id]).await.unwrap()[0].next_at, Some(Timestamp::UNIX_EPOCH));
    }

    async fn a_card_that_changed_while_its_decline_was_under_way_wakes_the_charge_too(world: World) {
        let claimed = world.claimed(1, "t").await;
        // the subscription's card is another one than the one that was asked
        let before = refuse(&world, &claimed, Class::SoftFunds, AttemptState::Declined).await;
        assert_eq!(world.db.load(&[before.id]).await.unwrap()[0].next_at, Some(now()));
    }
}
