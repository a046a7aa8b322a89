//! Alarms in the database: what they are judged by, that one process says each of them, and that none is forgotten.

use rebilld::domain::alarm::{AlarmKey, AlarmKind, Condition, Facts, Standing, Step, Turn, judge, steps};
use rebilld::store::Database;
use serde_json::json;

use super::rig::{Engine, World, both, later, now};

const HOUR: i64 = 3600;

fn hold() -> Condition {
    let key = AlarmKey { kind: AlarmKind::Hold, account: "main".to_owned(), subject: String::new() };
    let (what, next_step) = ("It is on hold.".to_owned(), "rebilld hold status".to_owned());
    Condition { key, what, since: Some(now()), concerns: json!({ "charges": [7] }), next_step }
}

fn step(turn: Turn, seen: Option<&Standing>) -> Step {
    Step { turn, condition: hold(), since: now(), seen: seen.map(|told| told.told_at) }
}

async fn standing(db: &Database) -> Standing {
    db.standing_alarms().await.unwrap().remove(0)
}

impl World {
    async fn facts(&self, seconds: i64) -> Facts {
        let (_, mut facts) = self.db.stops(later(seconds)).await.unwrap();
        self.db.troubles(later(seconds), &mut facts).await.unwrap();
        facts
    }

    /// Kinds, accounts and subjects of what is wrong.
    async fn wrong(&self, seconds: i64) -> Vec<String> {
        let wrong = judge(&self.facts(seconds).await, later(seconds));
        let said = |one: &Condition| format!("{} {} {}", one.key.kind.name(), one.key.account, one.key.subject);
        wrong.iter().map(|one| said(one).trim_end().to_owned()).collect()
    }
}

both! {
    async fn whatever_stops_sends_is_told_and_nothing_else(world: World) {
        world.sql("INSERT INTO accounts (name) VALUES ('other')").await.unwrap();
        assert_eq!(world.wrong(0).await, [""; 0]);
        for (on, off, said) in [
            ("UPDATE settings SET killed = TRUE, kill_reason = 'x'", "UPDATE settings SET killed = FALSE", "kill-switch"),
            ("UPDATE settings SET held = TRUE, hold_reason = 'x'", "UPDATE settings SET held = FALSE", "hold"),
            ("UPDATE accounts SET killed = TRUE WHERE name = 'other'", "UPDATE accounts SET killed = FALSE", "kill-switch other"),
            ("UPDATE accounts SET held = TRUE WHERE name = 'other'", "UPDATE accounts SET held = FALSE", "hold other"),
            ("UPDATE accounts SET paused = TRUE, pause_reason = '401' WHERE name = 'main'", "UPDATE accounts SET paused = FALSE", "hold main paused"),
            (
                "UPDATE accounts SET paused = TRUE, pause_reason = '9 of 9 first tries in the last hour were declined' WHERE name = 'main'",
                "UPDATE accounts SET paused = FALSE",
                "decline-rate main paused",
            ),
            ("UPDATE accounts SET fuse = 'blown' WHERE name = 'main'", "UPDATE accounts SET fuse = NULL", "fuse main"),
        ] {
            world.sql(on).await.unwrap();
            assert_eq!(world.wrong(0).await, [said], "{on}");
            world.sql(off).await.unwrap();
            assert_eq!(world.wrong(0).await, [""; 0], "{off}");
        }
        let daemon = |at: &str| {
            format!(
                "INSERT INTO config_daemons (instance, version_id, taken_at, seen_at, stopped_by) VALUES
                    ('a', 1, {at}, {at}, 'account main: the gateway fails as a whole: sends pause, and a look-up probes it'),
                    ('b', 1, {at}, {at}, 'account main: the gateway answers again: sends resume slowly')"
            )
        };
        world.sql_of(&daemon(&now().as_microsecond().to_string()), &daemon(&format!("TIMESTAMPTZ '{}'", now()))).await.unwrap();
        assert_eq!(world.wrong(0).await, ["breaker main"], "two daemons, one alarm");
        assert_eq!(world.wrong(180).await, [""; 0], "they have not been seen for three minutes");
    }

    async fn charges_that_wait_for_a_person_are_counted_by_account(world: World) {
        world.open_charges(3).await;
        let since = |state: &str, at: &str| format!("UPDATE charges SET state = '{state}', waiting = 'look_up', doubt_since = {at}");
        let all = async |state: &str, seconds: i64| {
            let (micros, instant) = (later(seconds).as_microsecond().to_string(), format!("TIMESTAMPTZ '{}'", later(seconds)));
            world.sql_of(&since(state, &micros), &since(state, &instant)).await.unwrap();
        };
        all("doubt", 0).await;
        assert_eq!(world.wrong(2 * HOUR).await, [""; 0], "two hours are not over");
        assert_eq!(world.wrong(2 * HOUR + 1).await, ["doubt-old main"]);
        all("review", -60).await;
        assert_eq!(world.wrong(0).await, ["review-waiting main"]);
        let facts = world.facts(0).await;
        let waiting = &facts.unresolved[0];
        assert_eq!((waiting.charges, waiting.oldest.len(), waiting.oldest_at), (3, 3, Some(later(-60))));
        assert_eq!((waiting.oldest[0].amount, waiting.oldest[0].currency.as_str()), (9_900, "KRW"));
        all("paid", 0).await;
        assert_eq!(world.wrong(0).await, [""; 0]);
    }

    async fn open_incidents_are_read_with_their_charges_and_closed_ones_are_not(world: World) {
        world.open_charges(1).await;
        let insert = |at: &str| {
            format!(
                "INSERT INTO incidents (account_id, charge_id, kind, detail, opened_at)
                    SELECT a.id, c.id, k.kind, k.kind, {at} FROM accounts a, charges c, (
                        SELECT 'double_charge' AS kind UNION SELECT 'wrong_payment' UNION SELECT 'unknown_payment' UNION SELECT 'fuse_blown'
                    ) k ORDER BY k.kind"
            )
        };
        world.sql_of(&insert(&now().as_microsecond().to_string()), &insert(&format!("TIMESTAMPTZ '{}'", now()))).await.unwrap();
        let id = async |kind: &str| world.count(&format!("SELECT id AS n FROM incidents WHERE kind = '{kind}'")).await;
        let (double, wrong) = (id("double_charge").await, id("wrong_payment").await);
        let expected = ["audit-difference main".to_owned(), format!("double-charge main {double}"), format!("wrong-amount main {wrong}")];
        assert_eq!(world.wrong(0).await, expected);
        assert_eq!(world.facts(0).await.incidents[0].charge.as_ref().unwrap().amount, 9_900);
        world.sql("UPDATE incidents SET closed_at = opened_at").await.unwrap();
        assert_eq!(world.wrong(0).await, [""; 0]);
        world.sql("UPDATE accounts SET audited_quick_at = (SELECT opened_at FROM incidents LIMIT 1), audit_summary = '{\"incidents\": 2}'").await.unwrap();
        assert_eq!(world.wrong(0).await, ["audit-difference main"], "as long as the last audit was not clean");
    }

    async fn of_several_processes_one_says_each_word(world: World) {
        let other = world.replica().await;
        let raise = step(Turn::Raised, None);
        let said = [&world.db, &other, &world.db];
        let mut times = 0;
        for db in said {
            times += usize::from(db.say(&raise, now(), &["ops", "night"]).await.unwrap());
        }
        assert_eq!(times, 1);
        let told = standing(&other).await;
        assert_eq!((&told.condition, told.turn, told.told_at), (&hold(), Turn::Raised, now()));
        assert_eq!(told.owed, ["ops", "night"]);
        let again = step(Turn::Repeated, Some(&told));
        assert!(other.say(&again, later(HOUR), &["ops"]).await.unwrap());
        assert!(!world.db.say(&again, later(HOUR), &["ops"]).await.unwrap(), "it has been repeated since");
        let told = standing(&world.db).await;
        assert_eq!((told.turn, told.since, told.owed.len()), (Turn::Repeated, now(), 1));
        let over = step(Turn::Resolved, Some(&told));
        assert!(world.db.say(&over, later(2 * HOUR), &[]).await.unwrap());
        assert!(!other.say(&over, later(2 * HOUR), &[]).await.unwrap());
        assert_eq!(world.db.standing_alarms().await.unwrap(), [], "it is over, and nobody is owed anything");
        assert_eq!(world.db.told_alarms(9).await.unwrap()[0].turn, Turn::Resolved);
        assert!(other.say(&raise, later(3 * HOUR), &[]).await.unwrap(), "it may begin again");
    }

    async fn what_a_channel_has_not_taken_is_owed_until_it_has(world: World) {
        assert!(world.db.say(&step(Turn::Raised, None), now(), &["ops", "night", "o"]).await.unwrap());
        let key = hold().key;
        world.db.alarm_taken(&key, now(), "o").await.unwrap();
        world.db.alarm_taken(&key, later(1), "night").await.unwrap();
        assert_eq!(standing(&world.db).await.owed, ["ops", "night"], "what was told at another time is another word");
        let told = standing(&world.db).await;
        assert!(world.db.say(&step(Turn::Resolved, Some(&told)), later(5), &["ops", "night"]).await.unwrap());
        world.db.alarm_taken(&key, later(5), "ops").await.unwrap();
        let told = standing(&world.db).await;
        assert_eq!((told.turn, told.owed), (Turn::Resolved, vec!["night".to_owned()]), "that it is over is owed as well");
        let again = steps(&[standing(&world.db).await], &[], later(9), jiff::SignedDuration::from_hours(4));
        assert_eq!(again, [], "and is not said twice");
        world.db.alarm_taken(&key, later(5), "night").await.unwrap();
        assert_eq!(world.db.standing_alarms().await.unwrap(), []);
    }

    async fn one_process_looks_and_another_takes_over_when_it_is_gone(world: World) {
        let other = world.replica().await;
        assert!(world.db.take_watch("a", later(45), now()).await.unwrap());
        assert!(!other.take_watch("b", later(50), later(5)).await.unwrap());
        assert!(world.db.take_watch("a", later(60), later(15)).await.unwrap(), "it keeps it");
        let (watch, _) = other.stops(later(15)).await.unwrap();
        assert_eq!((watch.holder.as_deref(), watch.until), (Some("a"), Some(later(60))));
        assert!(other.take_watch("b", later(106), later(61)).await.unwrap());
        world.db.leave_watch("a").await.unwrap();
        assert!(!world.db.take_watch("a", later(110), later(62)).await.unwrap(), "it had not been its own any more");
        other.leave_watch("b").await.unwrap();
        assert!(world.db.take_watch("a", later(110), later(62)).await.unwrap());
    }
}
