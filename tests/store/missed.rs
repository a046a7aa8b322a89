//! Nothing is missed silently: what the independent count sees, and what it leaves out because it is shown.

use jiff::SignedDuration;
use rebilld::domain::charge::{ChargeId, SubscriptionId};
use rebilld::ports::store::{Fresh, Missed, Store, Unscheduled};
use rebilld::store::desk::BookedKey;

use super::deeds::{day, open_step};
use super::rig::{Engine, World, both, later, now};

const GRACE: SignedDuration = SignedDuration::from_hours(2);
/// Two hours and a second after [`now`].
const LATE: i64 = 7_201;

impl World {
    async fn missed_at(&self, seconds: i64) -> Missed {
        self.db.missed(later(seconds), GRACE).await.unwrap()
    }

    /// Makes all charges one of a state that waits for something until `next_at`, in seconds from now.
    async fn wait_for(&self, state: &str, waiting: &str, next_at: Option<i64>) {
        let micros = next_at.map_or("NULL".to_owned(), |at| later(at).as_microsecond().to_string());
        let instant = next_at.map_or("NULL".to_owned(), |at| format!("TIMESTAMPTZ '{}'", later(at)));
        let set = |next_at: &str| format!("UPDATE charges SET state = '{state}', waiting = '{waiting}', next_at = {next_at}");
        self.sql_of(&set(&micros), &set(&instant)).await.unwrap();
    }
}

both! {
    async fn a_charge_whose_next_moment_has_passed_is_missed_whatever_it_waits_for(world: World) {
        world.open_charges(1).await;
        for waiting in ["turn", "retry", "card", "backoff", "resend", "budget", "paused", "window"] {
            world.wait_for("due", waiting, Some(0)).await;
            assert_eq!(world.missed_at(7_199).await, Missed::default(), "{waiting}: two hours are not over");
            assert_eq!(world.missed_at(LATE).await, Missed { sends: 1, ..Missed::default() }, "{waiting}");
            world.wait_for("due", waiting, Some(LATE + 1)).await;
            assert_eq!(world.missed_at(LATE).await, Missed::default(), "{waiting}: it is still to come");
            world.wait_for("due", waiting, None).await;
            assert_eq!(world.missed_at(0).await, Missed { sends: 1, ..Missed::default() }, "{waiting}: nothing would wake it");
        }
    }

    async fn a_charge_of_a_paused_subscription_waits_for_its_resumption(world: World) {
        world.open_charges(1).await;
        world.sql("UPDATE subscriptions SET status = 'paused'").await.unwrap();
        world.wait_for("due", "paused", None).await;
        assert_eq!(world.missed_at(LATE).await.sends, 0);
        for status in ["active", "cancelled"] {
            world.sql(&format!("UPDATE subscriptions SET status = '{status}'")).await.unwrap();
            world.wait_for("due", "paused", None).await;
            assert_eq!(world.missed_at(LATE).await.sends, 1, "{status}: nobody is going to resume it");
        }
    }

    async fn an_imported_row_that_nobody_rules_on_for_two_hours_is_told(world: World) {
        let micros = now().as_microsecond();
        let hold = |at: &str| {
            format!(
                "INSERT INTO import_holds (account, external_ref, import_id, file, line, cells, row_hash, reasons, who, held_at)
                    VALUES ('main', 'r', 'i', 'f.csv', 2, '{{}}', 'h', 'due', 'kim', {at})"
            )
        };
        world.sql_of(&hold(&micros.to_string()), &hold(&format!("TIMESTAMPTZ '{}'", now()))).await.unwrap();
        assert_eq!(world.missed_at(7_199).await, Missed::default());
        assert_eq!(world.missed_at(LATE).await, Missed { imports: 1, ..Missed::default() });
        world.sql("UPDATE import_holds SET rejected_at = held_at").await.unwrap();
        assert_eq!(world.missed_at(LATE).await, Missed::default(), "somebody has said what becomes of it");
    }

    async fn a_charge_that_rests_for_a_booked_key_is_counted_however_often_it_is_looked_at(world: World) {
        world.open_charges(2).await;
        world.wait_for("due", "card_rest", Some(LATE + 3_600)).await;
        assert_eq!(world.missed_at(LATE).await, Missed::default(), "another charge to its card was sent just now");
        let key = BookedKey {
            customer_uid: world.sql("SELECT min(customer_uid) AS uid FROM subscriptions").await.unwrap()[0].text("uid").unwrap(),
            bookings: 1,
            first_at: None,
            checked_at: now(),
        };
        let desk = world.db.desk();
        let waits = async |seconds: i64| desk.waits_for_booked(later(seconds) - GRACE).await.unwrap();
        desk.checked((now(), now()), world.account.id, std::slice::from_ref(&key), &[]).await.unwrap();
        assert_eq!(world.missed_at(7_199).await, Missed::default(), "two hours are not over");
        assert_eq!(waits(7_199).await, []);
        let booked = Missed { booked: 1, ..Missed::default() };
        assert_eq!(world.missed_at(LATE).await, booked, "the other key is free");
        assert_eq!(waits(LATE).await, [("main".to_owned(), 1, now())]);
        world.sql("UPDATE settings SET killed = TRUE").await.unwrap();
        assert_eq!(world.missed_at(LATE).await, booked, "the kill switch does not hide it");
        world.sql("UPDATE settings SET killed = FALSE").await.unwrap();
        world.sql("UPDATE key_bookings SET account_id = account_id + 1").await.unwrap();
        assert_eq!((world.missed_at(LATE).await, waits(LATE).await), (Missed::default(), vec![]), "it is booked in another account");
        world.sql("UPDATE key_bookings SET account_id = account_id - 1").await.unwrap();
        world.wait_for("due", "card_rest", Some(0)).await;
        assert_eq!(world.missed_at(LATE).await, Missed { sends: 2, ..Missed::default() }, "once is enough");
        assert_eq!(waits(LATE).await, [("main".to_owned(), 1, now())]);
    }

    async fn a_charge_that_budget_or_fuse_puts_off_for_a_day_is_counted(world: World) {
        world.open_charges(1).await;
        const A_DAY: i64 = 86_400;
        for waiting in ["budget", "fuse"] {
            world.wait_for("due", waiting, Some(A_DAY + 60)).await;
            assert_eq!(world.missed_at(A_DAY).await, Missed::default(), "{waiting}: the day is not over");
            assert_eq!(world.missed_at(A_DAY + 1).await, Missed { bounded: 1, ..Missed::default() }, "{waiting}");
            world.sql("UPDATE accounts SET fuse = 'blown'").await.unwrap();
            assert_eq!(world.missed_at(A_DAY + 1).await, Missed::default(), "{waiting}: `hold status` shows the fuse");
            world.sql("UPDATE accounts SET fuse = NULL").await.unwrap();
        }
        world.wait_for("due", "window", Some(A_DAY + 60)).await;
        assert_eq!(world.missed_at(A_DAY + 1).await, Missed::default(), "a window opens");
    }

    async fn two_hours_of_tries_that_never_leave_are_missed(world: World) {
        world.open_charges(1).await;
        world.wait_for("due", "backoff", Some(LATE + 600)).await;
        assert_eq!(world.missed_at(LATE).await.sends, 0);
        world.sql("UPDATE charges SET not_sent = 12").await.unwrap();
        assert_eq!(world.missed_at(LATE).await.sends, 1);
    }

    async fn a_doubt_or_review_that_nobody_looks_up_is_missed(world: World) {
        world.open_charges(1).await;
        for (state, waiting) in [("doubt", "look_up"), ("review", "operator")] {
            world.wait_for(state, waiting, Some(0)).await;
            assert_eq!(world.missed_at(7_199).await, Missed::default(), "{state}");
            assert_eq!(world.missed_at(LATE).await, Missed { look_ups: 1, ..Missed::default() }, "{state}");
            world.wait_for(state, waiting, None).await;
            assert_eq!(world.missed_at(0).await, Missed { look_ups: 1, ..Missed::default() }, "{state}");
            world.wait_for(state, waiting, Some(LATE + 1)).await;
            assert_eq!(world.missed_at(LATE).await, Missed::default(), "{state}");
        }
        world.wait_for("unpaid", "nothing", None).await;
        assert_eq!(world.missed_at(LATE).await, Missed::default(), "a closed charge waits for nothing");
    }

    async fn what_a_brake_holds_is_shown_by_the_brake(world: World) {
        world.open_charges(1).await;
        world.sql("INSERT INTO accounts (name) VALUES ('other')").await.unwrap();
        let held = Missed { braked: 1, ..Missed::default() };
        for (on, off) in [
            ("UPDATE settings SET killed = TRUE", "UPDATE settings SET killed = FALSE"),
            ("UPDATE settings SET held = TRUE", "UPDATE settings SET held = FALSE"),
            ("UPDATE accounts SET killed = TRUE WHERE name = 'main'", "UPDATE accounts SET killed = FALSE"),
            ("UPDATE accounts SET held = TRUE WHERE name = 'main'", "UPDATE accounts SET held = FALSE"),
            ("UPDATE accounts SET paused = TRUE WHERE name = 'main'", "UPDATE accounts SET paused = FALSE"),
            ("UPDATE accounts SET audited_incarnation = NULL", "UPDATE accounts SET audited_incarnation = 'incarnation-1'"),
            ("UPDATE accounts SET armed_incarnation = NULL", "UPDATE accounts SET armed_incarnation = 'incarnation-1'"),
        ] {
            world.sql(on).await.unwrap();
            assert_eq!(world.missed_at(LATE).await, held, "{on}");
            world.sql(off).await.unwrap();
            assert_eq!(world.missed_at(LATE).await.sends, 1, "{off}");
        }
        world.db.hold_for_clock(later(LATE + 60)).await.unwrap();
        assert_eq!(world.missed_at(LATE).await, held, "the clock has jumped");
        assert_eq!(world.missed_at(LATE + 61).await.sends, 1, "and Q has passed");
        world.sql("UPDATE accounts SET killed = TRUE WHERE name = 'other'").await.unwrap();
        assert_eq!(world.missed_at(LATE + 61).await.sends, 1, "another account's brake is none of its business");
        world.wait_for("doubt", "look_up", Some(0)).await;
        world.sql("UPDATE settings SET killed = TRUE, held = TRUE").await.unwrap();
        assert_eq!(world.missed_at(LATE).await.look_ups, 1, "no brake stops look-ups");
        world.sql("UPDATE accounts SET held = TRUE").await.unwrap();
        assert_eq!(world.missed_at(LATE).await.look_ups, 1);
        world.sql(
            "INSERT INTO endpoints (account_id, fingerprint, base_url, first_seen_at)
                SELECT account_id, 'f2', 'https://elsewhere.example', first_seen_at FROM endpoints",
        ).await.unwrap();
        assert_eq!(world.missed_at(LATE).await, held, "but nobody is asked for an account that points elsewhere");
    }

    async fn a_schedule_that_nobody_looks_at_is_missed(world: World) {
        world.open_charges(1).await;
        world.wait_for("void", "nothing", None).await;
        assert_eq!(world.missed_at(LATE).await, Missed::default());
        let next = later(30 * 86_400 + LATE);
        assert_eq!(world.db.missed(next, GRACE).await.unwrap().schedules, 1, "its time has come and gone");
        world.sql("UPDATE schedules SET next_look_at = NULL").await.unwrap();
        assert_eq!(world.missed_at(0).await, Missed { schedules: 1, ..Missed::default() }, "parked by nothing");
        for (parked, missed) in [("paused", 0), ("ended", 0), ("problem", 0), ("blocked", 1)] {
            world.sql(&format!("UPDATE schedules SET parked = '{parked}'")).await.unwrap();
            assert_eq!(world.missed_at(0).await.schedules, missed, "{parked}");
        }
        world.wait_for("due", "retry", Some(LATE + 1)).await;
        assert_eq!(world.missed_at(LATE).await.schedules, 0, "blocked by a charge that is unresolved");
    }

    async fn what_was_written_by_hand_is_told_apart_by_its_number(world: World) {
        world.subscribe("s", 1..=2).await;
        let missed = world.missed_at(LATE).await;
        let first = SubscriptionId(world.count("SELECT min(id) AS n FROM subscriptions").await);
        assert_eq!(missed, Missed { fresh: vec![Fresh::Schedule(first)], ..Missed::default() });
        let due = world.db.due_schedules(now(), 10).await.unwrap();
        let steps: Vec<_> = due.iter().map(|due| open_step(due, day(1), now())).collect();
        world.db.step_schedules(now(), &steps).await.unwrap();
        world.wait_for("due", "card", Some(LATE + 1)).await;
        world.sql("UPDATE subscriptions SET customer_uid = 'new' WHERE id = (SELECT max(id) FROM subscriptions)").await.unwrap();
        let charge = ChargeId(world.count("SELECT max(id) AS n FROM charges").await);
        let missed = world.missed_at(LATE).await;
        assert!(missed.fresh.contains(&Fresh::Charge(charge)), "{missed:?}");
        assert_eq!((missed.sends, missed.schedules), (0, 0));
        world.sql("UPDATE settings SET killed = TRUE").await.unwrap();
        assert!(!world.missed_at(LATE).await.fresh.contains(&Fresh::Charge(charge)), "a brake is shown");
    }

    async fn a_subscription_that_no_schedule_serves_is_found_page_by_page(world: World) {
        world.subscribe("s", 1..=5).await;
        let page = async |after: i64| world.db.unscheduled(SubscriptionId(after), 2).await.unwrap();
        let ids: Vec<i64> = {
            let rows = world.sql("SELECT id FROM subscriptions ORDER BY id").await.unwrap();
            rows.iter().map(|row| row.int("id").unwrap()).collect()
        };
        let clean = |last: usize| Unscheduled { found: 0, last: Some(SubscriptionId(ids[last])) };
        assert_eq!([page(0).await, page(ids[1]).await, page(ids[3]).await], [clean(1), clean(3), clean(4)]);
        assert_eq!(page(ids[4]).await, Unscheduled { found: 0, last: None });
        world.sql(&format!("DELETE FROM schedules WHERE subscription_id = {}", ids[2])).await.unwrap();
        // its status was changed behind the trigger's back
        world.sql(&format!("UPDATE schedules SET parked = 'paused', next_look_at = NULL WHERE subscription_id = {}", ids[3])).await.unwrap();
        assert_eq!(page(ids[1]).await, Unscheduled { found: 2, last: Some(SubscriptionId(ids[3])) });
        world.sql(&format!("UPDATE subscriptions SET status = 'paused' WHERE id = {}", ids[3])).await.unwrap();
        world.sql("UPDATE schedules SET parked = 'paused', next_look_at = NULL").await.unwrap();
        assert_eq!(page(ids[2]).await.found, 1, "a paused one is parked, an active one is not");
    }
}
