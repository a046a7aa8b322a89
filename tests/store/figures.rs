//! What `/metrics` tells of the database.

use jiff::SignedDuration;
use rebilld::domain::charge::AccountId;
use rebilld::domain::decide::IncidentKind;
use rebilld::ports::store::Store;
use rebilld::store::{AccountFigures, Figures};

use super::rig::{Engine, World, both, later, now};

impl World {
    async fn figures(&self, seconds: i64) -> (Figures, AccountFigures) {
        let figures = self.db.figures(later(seconds)).await.unwrap();
        let main = figures.accounts.iter().find(|account| account.name == "main").cloned();
        (figures, main.expect("the account is told of"))
    }

    async fn doubt(&self, state: &str, of: &str, since: i64) {
        let set = |since: &str, next: &str| {
            format!("UPDATE charges SET state = '{state}', doubt_since = {since}, next_at = {next} WHERE id IN ({of})")
        };
        let micros = |seconds: i64| later(seconds).as_microsecond().to_string();
        let instant = |seconds: i64| format!("TIMESTAMPTZ '{}'", later(seconds));
        let (sqlite, postgres) = (set(&micros(since), &micros(3_600)), set(&instant(since), &instant(3_600)));
        self.sql_of(&sqlite, &postgres).await.unwrap();
    }
}

both! {
    async fn what_waits_is_counted_by_account_and_aged_by_its_oldest(world: World) {
        let (figures, main) = world.figures(0).await;
        assert_eq!((main.due, main.oldest_due, main.doubt, main.oldest_doubt, main.review), (0, None, 0, None, 0));
        assert_eq!((figures.outbox_waiting, figures.outbox_oldest), (0, None));
        world.open_charges(5).await;
        let (_, main) = world.figures(60).await;
        assert_eq!((main.due, main.oldest_due), (5, Some(now())));
        assert_eq!(world.figures(-60).await.1.due, 0, "they are due in a minute");
        world.doubt("doubt", "1, 2", -7_200).await;
        world.doubt("doubt", "2", -60).await;
        world.doubt("review", "3", -90_000).await;
        // a closed charge is swept by the same lane, and is neither
        world.doubt("unpaid", "4", -90_000).await;
        let (_, main) = world.figures(60).await;
        assert_eq!((main.due, main.doubt, main.review, main.oldest_doubt), (1, 2, 1, Some(later(-7_200))));
    }

    async fn what_was_put_at_once_is_due_and_has_no_age(world: World) {
        world.open_charges(1).await;
        world.sql_of("UPDATE charges SET next_at = 0", "UPDATE charges SET next_at = 'epoch'").await.unwrap();
        let (_, main) = world.figures(60).await;
        assert_eq!((main.due, main.oldest_due), (1, None));
    }

    async fn the_outbox_is_as_late_as_its_oldest_event_however_often_that_was_tried(world: World) {
        world.db.pause_account(AccountId(1), later(-600), "a first event").await.unwrap();
        world.sql("UPDATE accounts SET paused = FALSE").await.unwrap();
        world.db.pause_account(AccountId(1), later(-300), "a second event").await.unwrap();
        world.sql_of(
            &format!("UPDATE deliveries SET next_at = {} WHERE id = 1", later(9_000).as_microsecond()),
            &format!("UPDATE deliveries SET next_at = '{}' WHERE id = 1", later(9_000)),
        ).await.unwrap();
        let (figures, _) = world.figures(0).await;
        assert_eq!((figures.outbox_waiting, figures.outbox_oldest), (2, Some(later(-600))));
        world.sql("UPDATE deliveries SET state = 'delivered' WHERE id = 1").await.unwrap();
        let (figures, _) = world.figures(0).await;
        assert_eq!((figures.outbox_waiting, figures.outbox_oldest), (1, Some(later(-300))));
    }

    async fn open_incidents_are_counted_by_kind(world: World) {
        let at = (now().as_microsecond().to_string(), format!("TIMESTAMPTZ '{}'", now()));
        let insert = |at: &str| {
            format!(
                "INSERT INTO incidents (account_id, kind, detail, opened_at, closed_at) VALUES
                    (1, 'double_charge', 'a', {at}, NULL), (1, 'double_charge', 'b', {at}, NULL),
                    (1, 'double_charge', 'c', {at}, {at}), (1, 'missing_payment', 'd', {at}, NULL)"
            )
        };
        world.sql_of(&insert(&at.0), &insert(&at.1)).await.unwrap();
        let counts = IncidentKind::ALL.map(|kind| match kind {
            IncidentKind::DoubleCharge => (kind.name().to_owned(), 2),
            IncidentKind::MissingPayment => (kind.name().to_owned(), 1),
            _ => (kind.name().to_owned(), 0),
        });
        assert_eq!(world.figures(0).await.0.incidents, counts);
        // an old one is not forgotten because of what came and was closed after it
        let closed = |at: &str, series: &str| {
            format!("INSERT INTO incidents (account_id, kind, detail, opened_at, closed_at)
                SELECT 1, 'unknown_payment', 'closed ' || i, {at}, {at} FROM {series}")
        };
        world.sql_of(
            &closed(&at.0, "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 11000) SELECT i FROM n) m"),
            &closed(&at.1, "generate_series(1, 11000) i"),
        ).await.unwrap();
        assert_eq!(world.figures(0).await.0.incidents, counts);
    }

    async fn what_is_missed_is_told_by_account(world: World) {
        let grace = SignedDuration::from_hours(2);
        world.open_charges(3).await;
        let whose = world.db.missed_by_account(later(7_201), grace).await.unwrap();
        let missed = world.db.missed(later(7_201), grace).await.unwrap();
        assert_eq!(whose.values().sum::<u64>(), missed.sends + missed.look_ups + missed.schedules);
        assert_eq!(whose.get(&AccountId(1)), Some(&3));
        assert!(world.db.missed_by_account(later(0), grace).await.unwrap().is_empty());
    }
}
