//! A database that has lost what was committed in it.

use rebilld::domain::attempt::{AttemptId, AttemptState, SendId};
use rebilld::domain::decide::LiveChange;
use rebilld::domain::journal::Seal;
use rebilld::ports::store::{Begin, Fence, NotBegun, Recorded, SeenEntry, SeenSend, Store};
use rebilld::store::desk::{Reach, Signed};

use super::deeds::{begin_of, decided, entry, token};
use super::rig::{Engine, World, both, later, now};

both! {
    async fn a_batch_is_begun_only_where_the_newest_send_is_known(world: World) {
        let claimed = world.claimed(3, "t").await;
        let first = world.db.begin(begin_of(&world, "t", &claimed[..1])).await.unwrap();
        let seen = SeenSend::last_of(&first).unwrap();
        let second = Begin { newest: Some(seen), ..begin_of(&world, "t", &claimed[1..2]) };
        assert!(world.db.begin(second).await.unwrap().attempts[0].is_ok());
        // its number was given to another one since
        for lost in [
            SeenSend { begun_at: later(1), ..seen },
            SeenSend { send: SendId(seen.send.0 + 7), ..seen },
            SeenSend { attempt: AttemptId(seen.attempt.0 + 7), ..seen },
        ] {
            let third = Begin { newest: Some(lost), ..begin_of(&world, "t", &claimed[2..]) };
            let begun = world.db.begin(third).await.unwrap();
            assert!(begun.has_lost, "{lost:?}");
            assert_eq!(begun.attempts[0].as_ref().unwrap_err(), &NotBegun::Held);
        }
        assert_eq!(world.count("SELECT count(*) AS n FROM sends").await, 2, "nothing was written");
        assert_eq!(world.count("SELECT high_water AS n FROM settings").await, 2);
        assert_eq!(world.db.brakes().await.unwrap().high_water, 2);
    }

    async fn an_outcome_of_a_lost_attempt_touches_no_other_charge(world: World) {
        let (_, loaded) = world.begun(2, "t").await;
        // the attempt that one worker knows by this number was lost, and the other charge's has it now
        let mut mine = loaded[0].clone();
        mine.live.as_mut().unwrap().id = loaded[1].live.as_ref().unwrap().id;
        let ended = decided(&mine, |decision| {
            decision.live = LiveChange::End { state: AttemptState::Paid, imp_uid: Some("imp_1".to_owned()) };
        });
        let recorded = world.db.record(now(), &[entry(&loaded[0], Fence::Claim(token("t")), ended)]).await.unwrap();
        assert_eq!(recorded, [Recorded::Refused]);
        assert_eq!(world.count("SELECT count(*) AS n FROM attempts WHERE state = 'live'").await, 2);
    }

    async fn the_newest_entry_of_the_journal_is_known_by_number_and_seal(world: World) {
        assert_eq!(world.db.brakes().await.unwrap().newest_entry, None);
        let signed = Signed { who: "kim".to_owned(), reason: "a try".to_owned() };
        for on in [true, false] {
            world.db.desk().kill(now(), &Reach::Database, on, &signed).await.unwrap();
        }
        let newest = world.db.brakes().await.unwrap().newest_entry.unwrap();
        assert_eq!(newest.id, world.count("SELECT max(id) AS n FROM journal").await);
        assert!(world.db.knows_entry(&newest).await.unwrap());
        // its number was given to another one since
        assert_eq!(newest.deed, format!("kill off: database, at {}", now().strftime("%Y-%m-%dT%H:%M:%SZ")));
        for lost in [SeenEntry { id: newest.id + 1, ..newest.clone() }, SeenEntry { seal: Seal::start(), ..newest }] {
            assert!(!world.db.knows_entry(&lost).await.unwrap(), "{lost:?}");
        }
    }
}
