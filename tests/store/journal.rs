//! The journal is a chain: what is changed in it by hand shows, and where.

use rebilld::domain::journal::{Harm, Seal};
use rebilld::store::Database;
use rebilld::store::desk::{Broken, Reach, Signed, Whole};
use serde_json::json;

use super::rig::{Engine, World, both, later, now};

fn signed(reason: &str) -> Signed {
    Signed { who: "kim".to_owned(), reason: reason.to_owned() }
}

async fn note(db: &Database, n: i64) {
    let detail = json!({ "n": n, "ratio": 1.5, "huge": 1e16, "b": [true, null], "a": "한글 \"quoted\"" });
    db.desk().note(later(n), &signed(&format!("reason {n}")), "test", "database", &detail).await.unwrap();
}

/// A journal of so many entries, whose triggers an attacker has dropped.
async fn opened(world: &World, entries: i64) {
    for n in 1..=entries {
        note(&world.db, n).await;
    }
    drop_triggers(world).await;
}

async fn drop_triggers(world: &World) {
    world.sql_of("DROP TRIGGER journal_not_changed", "DROP TRIGGER journal_append_only ON journal").await.unwrap();
    world.sql_of("DROP TRIGGER journal_not_deleted", "SELECT 1 AS n").await.unwrap();
}

async fn verdict(world: &World) -> Result<Whole, Broken> {
    world.db.desk().verify_journal(None, None).await.unwrap()
}

/// The first entry that does not fit, why, and what it says that it follows.
async fn harm(world: &World) -> (i64, Harm, Option<i64>) {
    match verdict(world).await {
        Err(Broken::At { entry, harm, follows }) => (entry.id, harm, follows),
        other => panic!("{other:?}"),
    }
}

/// As a release before the chain writes it.
async fn old_entry(world: &World, reason: &str) {
    let text = format!(
        "INSERT INTO journal (at, who, action, subject, reason, detail) VALUES (@at, 'lee', 'kill on', 'database', '{reason}', '{{\"a\":1}}')"
    );
    let sqlite = text.replace("@at", "1796086800000000");
    world.sql_of(&sqlite, &text.replace("@at", "to_timestamp(1796086800)")).await.unwrap();
}

both! {
    async fn a_journal_that_nobody_touched_is_whole(world: World) {
        assert_eq!(verdict(&world).await.unwrap().walk.entries, 0);
        for n in 1..=5 {
            note(&world.db, n).await;
        }
        let whole = verdict(&world).await.unwrap();
        assert_eq!((whole.walk.entries, whole.walk.sealed, whole.walk.loose), (5, 5, None));
        let newest = world.db.desk().journal(None, 1).await.unwrap().remove(0);
        assert_eq!(newest.sealed.map(|sealed| sealed.hash), Some(whole.walk.head.to_string()));
    }

    async fn an_entry_names_the_config_in_force(world: World) {
        note(&world.db, 1).await;
        let version = world.db.remember_config("hash-1", &json!({}), now(), "a").await.unwrap();
        world.db.config_taken("one", version, now()).await.unwrap();
        note(&world.db, 2).await;
        let versions: Vec<_> = world.db.desk().journal(None, 9).await.unwrap().iter().map(|row| row.entry.config_version).collect();
        assert_eq!(versions, [Some(version), None]);
        verdict(&world).await.unwrap();
        drop_triggers(&world).await;
        world.sql("UPDATE journal SET config_version = NULL").await.unwrap();
        assert_eq!(harm(&world).await.1, Harm::Changed);
    }

    async fn a_changed_entry_is_named_whatever_was_changed(world: World) {
        opened(&world, 6).await;
        let at = if world.db.is_postgres() { "at = at + interval '1 microsecond'" } else { "at = at + 1" };
        for change in ["who = 'lee'", "action = 'x'", "subject = 'account main'", "reason = ''", "detail = '{\"n\": 3}'", at, "config_version = 7"] {
            let before = world.db.desk().journal(None, 9).await.unwrap();
            world.sql("CREATE TABLE kept AS SELECT * FROM journal").await.unwrap();
            world.sql(&format!("UPDATE journal SET {change} WHERE id = 3")).await.unwrap();
            assert_eq!(harm(&world).await, (3, Harm::Changed, None), "{change}");
            world.sql("DELETE FROM journal WHERE id = 3").await.unwrap();
            world.sql_of("INSERT INTO journal SELECT * FROM kept WHERE id = 3",
                "INSERT INTO journal OVERRIDING SYSTEM VALUE SELECT * FROM kept WHERE id = 3").await.unwrap();
            world.sql("DROP TABLE kept").await.unwrap();
            assert_eq!(world.db.desk().journal(None, 9).await.unwrap(), before);
            verdict(&world).await.unwrap();
        }
        // behind what is known to be broken the rest is still verified
        world.sql("UPDATE journal SET reason = 'mine' WHERE id = 3").await.unwrap();
        let rest = world.db.desk().verify_journal(Some(3), None).await.unwrap().unwrap();
        assert_eq!(rest.walk.entries, 3);
        assert_eq!(world.db.desk().verify_journal(Some(99), None).await.unwrap(), Err(Broken::NoStart));
    }

    async fn an_entry_that_is_gone_from_the_middle_is_missed(world: World) {
        opened(&world, 6).await;
        world.sql("DELETE FROM journal WHERE id IN (1, 3)").await.unwrap();
        assert_eq!(harm(&world).await, (2, Harm::Unconnected, None), "the first entry of all is missed as any other");
        let rest = world.db.desk().verify_journal(Some(2), None).await.unwrap();
        assert!(matches!(rest, Err(Broken::At { entry, harm: Harm::Unconnected, follows: None }) if entry.id == 4));
    }

    async fn entries_that_changed_places_are_named(world: World) {
        opened(&world, 6).await;
        for (from, to) in [(3, -1), (4, 3), (-1, 4)] {
            world.sql_of(&format!("UPDATE journal SET id = {to} WHERE id = {from}"),
                "ALTER TABLE journal ALTER COLUMN id SET GENERATED BY DEFAULT").await.unwrap();
            world.sql_of("SELECT 1 AS n", &format!("UPDATE journal SET id = {to} WHERE id = {from}")).await.unwrap();
        }
        let (entry, _, follows) = harm(&world).await;
        assert_eq!((entry, follows), (3, Some(4)), "what is now 3 was written after what is now 4");
    }

    async fn an_entry_that_was_replaced_with_its_hash_leaves_the_next_one_without_a_predecessor(world: World) {
        opened(&world, 6).await;
        let head = world.db.desk().verify_journal(Some(2), None).await.unwrap().unwrap();
        assert_eq!(head.walk.entries, 4);
        // the attacker knows how hashes are made: one entry is removed, and another one is added in its place
        world.sql("CREATE TABLE kept AS SELECT * FROM journal WHERE id > 3").await.unwrap();
        world.sql("DELETE FROM journal WHERE id >= 3").await.unwrap();
        world.sql_of("UPDATE sqlite_sequence SET seq = 2 WHERE name = 'journal'", "ALTER SEQUENCE journal_id_seq RESTART WITH 3").await.unwrap();
        note(&world.db, 33).await;
        world.sql_of("INSERT INTO journal SELECT * FROM kept", "INSERT INTO journal OVERRIDING SYSTEM VALUE SELECT * FROM kept").await.unwrap();
        assert_eq!(harm(&world).await, (4, Harm::Unconnected, None));
    }

    async fn a_cut_end_shows_to_whoever_kept_a_hash(world: World) {
        opened(&world, 4).await;
        let kept = verdict(&world).await.unwrap().walk.head;
        note(&world.db, 5).await;
        let whole = world.db.desk().verify_journal(None, Some(kept)).await.unwrap().unwrap();
        assert_eq!(whole.expected, Some((4, 1)));
        world.sql("DELETE FROM journal WHERE id >= 4").await.unwrap();
        let cut = verdict(&world).await.unwrap();
        assert_eq!(cut.walk.entries, 3, "by itself a shorter chain is whole");
        let broken = world.db.desk().verify_journal(None, Some(kept)).await.unwrap();
        assert_eq!(broken, Err(Broken::NotFound { last: Some(3), head: cut.walk.head }));
        note(&world.db, 6).await;
        assert!(matches!(world.db.desk().verify_journal(None, Some(kept)).await.unwrap(), Err(Broken::NotFound { .. })));
        let start = world.db.desk().verify_journal(None, Some(Seal::start())).await.unwrap().unwrap();
        assert_eq!(start.expected, Some((0, 4)));
    }

    async fn entries_of_older_releases_are_covered_by_the_next_one(world: World) {
        for reason in ["one", "two", "three"] {
            old_entry(&world, reason).await;
        }
        let before = verdict(&world).await.unwrap();
        assert_eq!((before.walk.entries, before.walk.sealed, before.walk.loose), (3, 0, Some((1, 3))));
        note(&world.db, 4).await;
        // a release of before may still be at work beside this one
        old_entry(&world, "five").await;
        note(&world.db, 6).await;
        let whole = verdict(&world).await.unwrap();
        assert_eq!((whole.walk.entries, whole.walk.sealed, whole.walk.loose), (6, 2, None));
        drop_triggers(&world).await;
        world.sql("UPDATE journal SET reason = 'other' WHERE id = 5").await.unwrap();
        assert_eq!(harm(&world).await, (6, Harm::Covered { first: 5, last: 5 }, None));
        world.sql("DELETE FROM journal WHERE id = 2").await.unwrap();
        assert_eq!(harm(&world).await, (4, Harm::Covered { first: 1, last: 3 }, None));
    }

    async fn two_operators_at_once_never_fork_the_chain(world: World) {
        let (one, two) = (world.replica().await, world.replica().await);
        let work = async |db: &Database, from: i64| {
            for n in from..from + 30 {
                note(db, n).await;
                if n % 10 == 0 {
                    db.desk().kill(later(n), &Reach::Database, n % 20 == 0, &signed("at once")).await.unwrap();
                }
            }
        };
        tokio::join!(work(&one, 100), work(&two, 200), work(&world.db, 300));
        let whole = verdict(&world).await.unwrap();
        assert_eq!((whole.walk.entries, whole.walk.sealed), (99, 99));
        // and the schema refuses a fork, whoever writes
        let fork = "INSERT INTO journal (at, who, action, subject, reason, detail, previous, hash)
            SELECT at, who, action, subject, reason, detail, previous, hash FROM journal WHERE id = 5";
        let refused = world.sql(fork).await.unwrap_err();
        assert!(refused.contains("journal_chain") || refused.contains("journal.previous"), "{refused}");
    }

    async fn a_journal_of_many_pages_is_verified(world: World) {
        world.sql_of(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) INSERT INTO journal (at, who, action, subject, reason, detail)
                SELECT i, 'lee', 'x', 'database', 'r', '{}' FROM n",
            "INSERT INTO journal (at, who, action, subject, reason, detail) SELECT to_timestamp(i), 'lee', 'x', 'database', 'r', '{}' FROM generate_series(1, 2500) AS i",
        ).await.unwrap();
        note(&world.db, 1).await;
        assert_eq!(verdict(&world).await.unwrap().walk.entries, 2501);
        drop_triggers(&world).await;
        world.sql("UPDATE journal SET who = 'kim' WHERE id = 1001").await.unwrap();
        assert_eq!(harm(&world).await, (2501, Harm::Covered { first: 1, last: 2500 }, None));
    }

    async fn the_journal_is_only_ever_added_to(world: World) {
        note(&world.db, 1).await;
        let mut refused = vec!["UPDATE journal SET who = 'lee'", "DELETE FROM journal"];
        if world.db.is_postgres() {
            refused.push("TRUNCATE journal");
        }
        for text in refused {
            assert!(world.sql(text).await.unwrap_err().contains("only ever added to"), "{text}");
        }
    }
}
