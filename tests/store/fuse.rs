//! The fuse inside W2: several sessions together never pass a bound, and a wave lets exactly its charges through.

use jiff::{SignedDuration, Timestamp};
use rebilld::domain::charge::{AccountId, ChargeId};
use rebilld::domain::fuse::{Count, Fuse};
use rebilld::domain::money::Money;
use rebilld::ports::store::{Begin, Begun, Claimed, Expectation, Fence, Lane, NotBegun, Store};
use rebilld::store::desk::{Approved, NotApproved, Signed, Wave, WaveHash};

use super::deeds::{begin_of, claim_of, day, entry, open_step, paid, token};
use super::rig::{Engine, World, both, later, now};

const CLOSED: NotBegun = NotBegun::Fuse { until: None };
const DAY: SignedDuration = SignedDuration::from_hours(24);

fn hour(count: i64) -> Fuse {
    Fuse { hour_count: Some(count), ..Fuse::NONE }
}

fn batch(world: &World, text: &str, claimed: &[Claimed], fuse: &Fuse) -> Begin {
    Begin { fuse: fuse.clone(), ..begin_of(world, text, claimed) }
}

fn begun(begun: &Begun) -> usize {
    begun.attempts.iter().filter(|attempt| attempt.is_ok()).count()
}

/// Claims whatever is due at an instant, as a worker whose earlier claims have ended; what is asked about is set aside.
async fn claim_all(world: &World, text: &str, at: Timestamp) -> Vec<Claimed> {
    let mut claim = claim_of(world, Lane::Send, text, 1000);
    (claim.now, claim.due_until, claim.claim_until) = (at, at, at + SignedDuration::from_secs(60));
    let claimed = world.db.claim(&claim).await.unwrap();
    claimed.into_iter().filter(|claimed| !claimed.charge.in_doubt()).collect()
}

async fn give_back(world: &World, text: &str, claimed: &[Claimed]) {
    let ids: Vec<ChargeId> = claimed.iter().map(|claimed| claimed.charge.id).collect();
    world.db.release(&token(text), &ids).await.unwrap();
}

fn signed(who: &str) -> Signed {
    Signed { who: format!("{who} (test)"), reason: "looked at it".to_owned() }
}

async fn shown(world: &World, at: Timestamp) -> Wave {
    let desk = world.db.desk();
    let fuse = desk.blown_fuses().await.unwrap().remove(0);
    desk.wave(&fuse, at).await.unwrap()
}

async fn approve(world: &World, at: Timestamp, hash: &WaveHash, by: &str) -> Result<Approved, NotApproved> {
    world.db.desk().approve_wave(at, "main", hash, (1, DAY), by, &signed(by)).await.unwrap()
}

async fn state(world: &World) -> String {
    let rows = world.sql("SELECT COALESCE(fuse, 'whole') AS fuse FROM accounts").await.unwrap();
    rows[0].text("fuse").unwrap()
}

async fn why(world: &World) -> String {
    world.sql("SELECT fuse_why FROM accounts").await.unwrap()[0].text("fuse_why").unwrap()
}

/// Five charges of which two went before the fuse blew; the others are due again.
async fn two_of_five(world: &World) {
    let claimed = world.claimed(5, "t").await;
    let first = world.db.begin(batch(world, "t", &claimed, &hour(2))).await.unwrap();
    assert_eq!(begun(&first), 2);
    give_back(world, "t", &claimed[2..]).await;
}

both! {
    async fn two_batches_never_pass_the_hour_together(world: World) {
        let claimed = world.claimed(100, "t").await;
        let (left, right) = claimed.split_at(50);
        let (one, two) = (world.replica().await, world.replica().await);
        let fuse = hour(60);
        let (first, second) =
            tokio::join!(one.begin(batch(&world, "t", left, &fuse)), two.begin(batch(&world, "t", right, &fuse)));
        let all: Vec<_> = first.unwrap().attempts.into_iter().chain(second.unwrap().attempts).collect();
        assert_eq!(all.iter().filter(|begun| begun.is_ok()).count(), 60);
        assert!(all.iter().filter_map(|begun| begun.as_ref().err()).all(|why| *why == CLOSED));
        assert_eq!((state(&world).await.as_str(), why(&world).await.as_str()), ("blown", "61 charges in an hour, 60 at most"));
        assert_eq!(world.count("SELECT count(*) AS n FROM events WHERE kind = 'account.fuse_blown'").await, 1, "told once");
        assert_eq!(world.count("SELECT count(*) AS n FROM incidents WHERE kind = 'fuse_blown' AND closed_at IS NULL").await, 1);
        let brakes = world.db.brakes().await.unwrap();
        assert_eq!(brakes.stop(world.account.id, world.account.endpoint), Some(CLOSED));
        let missed = world.db.missed(later(10_800), SignedDuration::from_hours(2)).await.unwrap();
        assert_eq!((missed.sends, missed.braked), (0, 100), "a brake that is shown; what is under way is adopted and looked up");
    }

    async fn the_hour_slides(world: World) {
        let claimed = world.claimed(4, "t").await;
        let at = |minutes: i64| later(minutes * 60);
        for (minutes, number, passes) in [(0, 0, true), (30, 1, true), (59, 2, false)] {
            let one = &claimed[number..=number];
            let done = world.db.begin(Begin { now: at(minutes), ..batch(&world, "t", one, &hour(2)) }).await.unwrap();
            assert_eq!(done.attempts[0].is_ok(), passes, "after {minutes} minutes");
        }
        world.sql("UPDATE accounts SET fuse = NULL").await.unwrap();
        let done = world.db.begin(Begin { now: at(70), ..batch(&world, "t", &claimed[2..3], &hour(2)) }).await.unwrap();
        assert_eq!(begun(&done), 1, "the first one was more than an hour ago");
        let done = world.db.begin(Begin { now: at(71), ..batch(&world, "t", &claimed[3..], &hour(2)) }).await.unwrap();
        assert_eq!(done.attempts[0].as_ref().unwrap_err(), &CLOSED);
    }

    async fn a_charge_above_the_most_stops_the_ones_after_it(world: World) {
        let claimed = world.claimed(6, "t").await;
        let fuse = Fuse { amount: Some(50_000), ..Fuse::NONE };
        let mut intents = batch(&world, "t", &claimed, &fuse);
        intents.intents[3].amount = Money::krw(50_001);
        let done = world.db.begin(intents).await.unwrap();
        assert!(done.attempts[..3].iter().all(Result::is_ok), "what came before it was within all bounds");
        assert!(done.attempts[3..].iter().all(|begun| begun.as_ref().err() == Some(&CLOSED)));
        assert!(why(&world).await.contains("50,001 KRW is above the most that one may be, 50,000 KRW (charge "));
        let again = world.db.begin(batch(&world, "t", &claimed[4..], &Fuse::NONE)).await.unwrap();
        assert_eq!(begun(&again), 0, "no bound, and stopped all the same");
    }

    async fn an_amount_is_held_against_what_was_paid_last(world: World) {
        let (_, first) = world.one_begun("t").await;
        world.db.record(now(), &[entry(&first, Fence::Version(first.version), paid(&first, "imp_1"))]).await.unwrap();
        world.poke_schedules().await;
        let due = world.db.due_schedules(now(), 1).await.unwrap().remove(0);
        world.db.step_schedules(now(), &[open_step(&due, day(2), now())]).await.unwrap();
        let claimed = world.db.claim(&claim_of(&world, Lane::Send, "u", 10)).await.unwrap();
        assert_eq!(claimed.len(), 1);
        let fuse = Fuse { times: Some(5_000), ..Fuse::NONE };
        for (amount, passes) in [(49_501, false), (49_500, true)] {
            let mut intents = batch(&world, "u", &claimed, &fuse);
            intents.intents[0].amount = Money::krw(amount);
            let done = world.db.begin(intents).await.unwrap();
            assert_eq!(done.attempts[0].is_ok(), passes, "{amount}");
            if !passes {
                assert!(why(&world).await.contains("above the 9,900 KRW that its subscription paid last: 49,500 KRW at most"));
                world.sql("UPDATE accounts SET fuse = NULL").await.unwrap();
            }
        }
    }

    async fn above_the_floor_a_day_waits_until_it_is_known(world: World) {
        let claimed = world.claimed(10, "t").await;
        let fuse = Fuse { day_times: Some(2_000), day_from: 3, ..Fuse::NONE };
        let done = world.db.begin(batch(&world, "t", &claimed, &fuse)).await.unwrap();
        assert_eq!(begun(&done), 3);
        let waits = NotBegun::Fuse { until: Some(later(60)) };
        assert!(done.attempts[3..].iter().all(|begun| begun.as_ref().err() == Some(&waits)));
        assert_eq!(state(&world).await, "whole", "nothing is wrong yet");
        let expected = |account: AccountId, count: i64| {
            let mut of_day = Count::default();
            of_day.add(count, Money::krw(1_000_000));
            Expectation { account, day: day(1), count: of_day }
        };
        world.db.expect(now(), &[expected(world.account.id, 4)]).await.unwrap();
        world.db.expect(later(1), &[expected(world.account.id, 100)]).await.unwrap();
        assert_eq!(world.db.expected(day(1)).await.unwrap(), [expected(world.account.id, 4)], "written once");
        let done = world.db.begin(batch(&world, "t", &claimed[3..], &fuse)).await.unwrap();
        assert_eq!(begun(&done), 5);
        assert_eq!(why(&world).await, "9 charges in a day for which 4 were expected, 8 at most");
    }

    async fn a_wave_lets_exactly_its_charges_through(world: World) {
        two_of_five(&world).await;
        let wave = shown(&world, later(10)).await;
        assert_eq!((wave.charges.len(), wave.sums().into_values().sum::<i128>()), (3, 3 * 9_900));
        // a sixth one falls due before the approval, and is in nobody's wave
        world.subscribe("late", 1..=1).await;
        let due = world.db.due_schedules(now(), 10).await.unwrap().remove(0);
        world.db.step_schedules(now(), &[open_step(&due, day(1), later(11))]).await.unwrap();
        let done = approve(&world, later(20), &wave.hash(), "kim").await.unwrap();
        assert!(matches!(&done, Approved::Released { until, .. } if *until == later(20) + DAY), "{done:?}");
        let claimed = claim_all(&world, "u", later(100)).await;
        assert_eq!(claimed.len(), 4);
        let at = |seconds: i64, claimed: &[Claimed]| Begin { now: later(seconds), ..batch(&world, "u", claimed, &hour(2)) };
        let (late, members): (Vec<Claimed>, Vec<Claimed>) =
            claimed.into_iter().partition(|claimed| claimed.charge.external_ref == "late-1");
        let done = world.db.begin(at(101, &[&late[..], &members[..2]].concat())).await.unwrap();
        assert_eq!(done.attempts[0].as_ref().unwrap_err(), &NotBegun::Fuse { until: Some(later(101 + 600)) });
        assert_eq!((begun(&done), state(&world).await.as_str()), (2, "approved"), "of a wave nothing is counted");
        let done = world.db.begin(at(102, &members[2..])).await.unwrap();
        assert_eq!((begun(&done), state(&world).await.as_str()), (1, "whole"), "with the last of them it is over");
        let done = world.db.begin(at(103, &late)).await.unwrap();
        assert_eq!(begun(&done), 1, "the fuse counts anew");
        assert_eq!(world.count("SELECT count(*) AS n FROM incidents WHERE closed_at IS NULL").await, 0);
        let journal = world.db.desk().journal(None, 10).await.unwrap();
        let newest = &journal[0].entry;
        assert_eq!((newest.who.as_str(), newest.action.as_str()), ("kim (test)", "wave approve"));
        assert_eq!(newest.detail["charges"], 3);
    }

    async fn a_changed_card_voids_the_approved_wave(world: World) {
        two_of_five(&world).await;
        let hash = shown(&world, later(10)).await.hash();
        approve(&world, later(20), &hash, "kim").await.unwrap();
        world.sql("UPDATE subscriptions SET customer_uid = 'another' WHERE external_ref = 's-4'").await.unwrap();
        let mut claimed = claim_all(&world, "u", later(100)).await;
        claimed.sort_by_key(|claimed| claimed.charge.id);
        let done = world.db.begin(Begin { now: later(101), ..batch(&world, "u", &claimed, &hour(2)) }).await.unwrap();
        assert_eq!((begun(&done), state(&world).await.as_str()), (0, "blown"), "all of it, or none");
        let told = why(&world).await;
        assert!(told.starts_with("the approved wave was changed: charge ") && told.contains("another card"), "{told}");
        assert_eq!(world.count("SELECT count(*) AS n FROM events WHERE kind = 'account.fuse_blown'").await, 2);
        assert!(matches!(approve(&world, later(200), &hash, "kim").await, Err(NotApproved::Changed { .. })));
        give_back(&world, "u", &claimed).await;
        let again = shown(&world, later(200)).await;
        assert!(matches!(approve(&world, later(201), &again.hash(), "kim").await, Ok(Approved::Released { .. })));
    }

    async fn a_changed_amount_or_id_voids_it_too(world: World) {
        two_of_five(&world).await;
        for change in ["amount", "id"] {
            let hash = shown(&world, later(10)).await.hash();
            approve(&world, later(20), &hash, "kim").await.unwrap();
            let claimed = claim_all(&world, change, later(100)).await;
            let mut intents = Begin { now: later(101), ..batch(&world, change, &claimed, &Fuse::NONE) };
            let (charge, number) = (claimed[1].charge.clone(), rebilld::domain::attempt::IdNumber::new(2).unwrap());
            match change {
                "amount" => intents.intents[1].amount = Money::krw(9_901),
                _ => intents.intents[1].merchant_uid = charge.base.number(number),
            }
            assert_eq!(begun(&world.db.begin(intents).await.unwrap()), 0);
            assert!(why(&world).await.contains(&format!("charge {} has another {change}", charge.id)));
            give_back(&world, change, &claimed).await;
        }
    }

    async fn what_is_due_is_looked_at_again_when_it_is_approved(world: World) {
        two_of_five(&world).await;
        let hash = shown(&world, later(10)).await.hash();
        for (change, back) in [
            ("UPDATE subscriptions SET customer_uid = 'x' WHERE external_ref = 's-4'", "UPDATE subscriptions SET customer_uid = 'card-s-4' WHERE external_ref = 's-4'"),
            ("UPDATE subscriptions SET status = 'paused' WHERE external_ref = 's-4'", "UPDATE subscriptions SET status = 'active' WHERE external_ref = 's-4'"),
        ] {
            world.sql(change).await.unwrap();
            let refused = approve(&world, later(20), &hash, "kim").await;
            assert!(matches!(refused, Err(NotApproved::Changed { .. })), "{change}: {refused:?}");
            world.sql(back).await.unwrap();
        }
        assert!(matches!(approve(&world, later(10) + DAY + DAY, &hash, "kim").await, Err(NotApproved::TooOld(_))));
        assert!(approve(&world, later(20), &hash, "kim").await.is_ok());
        assert!(matches!(approve(&world, later(21), &hash, "kim").await, Err(NotApproved::Already { .. })));
    }

    async fn an_approval_ends(world: World) {
        two_of_five(&world).await;
        let hash = shown(&world, later(10)).await.hash();
        approve(&world, later(20), &hash, "kim").await.unwrap();
        let after = later(20) + DAY;
        let claimed = claim_all(&world, "u", after).await;
        let done = world.db.begin(Begin { now: after, ..batch(&world, "u", &claimed, &hour(2)) }).await.unwrap();
        assert_eq!((begun(&done), state(&world).await.as_str()), (0, "blown"));
        assert!(why(&world).await.starts_with("the approval has expired"));
    }

    async fn two_operators_are_two_people(world: World) {
        let fuse = Fuse { approvers: 2, ..hour(2) };
        let claimed = world.claimed(5, "t").await;
        world.db.begin(batch(&world, "t", &claimed, &fuse)).await.unwrap();
        give_back(&world, "t", &claimed[2..]).await;
        let hash = shown(&world, later(10)).await.hash();
        // a config that asks for one does not lower what the fuse asked for when it blew
        assert!(matches!(approve(&world, later(20), &hash, "kim").await, Ok(Approved::First { .. })));
        assert_eq!(state(&world).await, "blown");
        assert_eq!(approve(&world, later(21), &hash, " Kim").await, Err(NotApproved::SameOperator(" Kim".to_owned())));
        assert_eq!(shown(&world, later(10)).await.first_by.as_deref(), Some("kim"));
        assert_eq!(shown(&world, later(30)).await.first_by, None, "another instant is another wave");
        assert!(matches!(approve(&world, later(22), &hash, "lee").await, Ok(Approved::Released { .. })));
        assert_eq!(state(&world).await, "approved");
        let row = &world.sql("SELECT first_by, second_by FROM waves").await.unwrap()[0];
        assert_eq!((row.text("first_by").unwrap().as_str(), row.text("second_by").unwrap().as_str()), ("kim", "lee"));
    }

    async fn a_rejected_wave_stays_where_it_is_until_one_is_approved(world: World) {
        two_of_five(&world).await;
        world.db.desk().reject_wave(later(20), "main", "kim", &signed("kim")).await.unwrap().unwrap();
        assert_eq!(state(&world).await, "rejected");
        assert!(why(&world).await.starts_with("rejected by kim: looked at it; before that: 3 charges in an hour"));
        let claimed = claim_all(&world, "u", later(100)).await;
        let done = world.db.begin(Begin { now: later(101), ..batch(&world, "u", &claimed, &Fuse::NONE) }).await.unwrap();
        assert_eq!(begun(&done), 0);
        give_back(&world, "u", &claimed).await;
        world.sql("UPDATE subscriptions SET status = 'cancelled'").await.unwrap();
        let empty = shown(&world, later(200)).await;
        assert!(empty.charges.is_empty());
        assert_eq!(approve(&world, later(201), &empty.hash(), "kim").await, Ok(Approved::Mended));
        assert_eq!(state(&world).await, "whole");
    }

    async fn what_of_a_wave_never_left_goes_again_and_a_new_attempt_does_not(world: World) {
        two_of_five(&world).await;
        let hash = shown(&world, later(10)).await.hash();
        approve(&world, later(20), &hash, "kim").await.unwrap();
        let claimed = claim_all(&world, "u", later(100)).await;
        let one = &claimed[..1];
        assert_eq!(begun(&world.db.begin(Begin { now: later(101), ..batch(&world, "u", one, &hour(2)) }).await.unwrap()), 1);
        let send = |state: &str| format!("UPDATE sends SET state = '{state}' WHERE state = 'open' AND begun_at > (SELECT min(begun_at) FROM sends)");
        world.sql(&send("not_sent")).await.unwrap();
        let loaded = world.db.load(&[one[0].charge.id]).await.unwrap().remove(0);
        assert!(loaded.live.is_some() && !loaded.in_doubt());
        let again = [Claimed { charge: loaded, ..one[0].clone() }];
        let done = world.db.begin(Begin { now: later(102), ..batch(&world, "u", &again, &hour(2)) }).await.unwrap();
        assert_eq!(begun(&done), 1, "the same attempt, under the same id");
        world.sql(&send("answered")).await.unwrap();
        world.sql("UPDATE attempts SET state = 'declined' WHERE id = (SELECT max(id) FROM attempts)").await.unwrap();
        let done = world.db.begin(Begin { now: later(103), ..batch(&world, "u", one, &hour(2)) }).await.unwrap();
        assert_eq!(done.attempts[0].as_ref().unwrap_err(), &NotBegun::Fuse { until: Some(later(103 + 600)) });
        assert_eq!(state(&world).await, "approved", "and nothing is void");
    }

    async fn a_fuse_that_cannot_be_read_lets_nothing_through(world: World) {
        let claimed = world.claimed(3, "t").await;
        // an approval of nothing in particular
        world.sql("UPDATE accounts SET fuse = 'approved'").await.unwrap();
        assert!(world.db.begin(batch(&world, "t", &claimed, &Fuse::NONE)).await.is_err());
        world.sql("UPDATE accounts SET fuse = NULL").await.unwrap();
        world.sql("INSERT INTO budgets (account_id, day, currency, count, sum) VALUES (1, '2026-12-01', 'won', 1, 1)").await.unwrap();
        assert!(world.db.begin(batch(&world, "t", &claimed, &Fuse::NONE)).await.is_err(), "no currency");
        world.sql("DELETE FROM budgets").await.unwrap();
        world.sql("ALTER TABLE fuse_spent RENAME TO gone").await.unwrap();
        assert!(world.db.begin(batch(&world, "t", &claimed, &Fuse::NONE)).await.is_err());
        assert_eq!(world.count("SELECT count(*) AS n FROM sends").await, 0);
        world.sql("ALTER TABLE gone RENAME TO fuse_spent").await.unwrap();
        assert_eq!(begun(&world.db.begin(batch(&world, "t", &claimed, &Fuse::NONE)).await.unwrap()), 3);
    }
}
