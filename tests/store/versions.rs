//! Configs that were in force, and the jobs that look after the database.

use rebilld::app::chores;
use rebilld::config::Retention;
use rebilld::store::Unconfirmed;
use rebilld::store::desk::Signed;
use serde_json::json;
use std::time::Duration;

use super::rig::{Engine, World, both, later, main_account, now};

const DAY: i64 = 86_400;

both! {
    async fn a_config_gets_its_number_once(world: World) {
        let body = json!({ "plans": {} });
        let first = world.db.remember_config("hash-1", &body, now(), "a").await.unwrap();
        assert_eq!(world.db.remember_config("hash-1", &body, later(9), "b").await.unwrap(), first);
        let second = world.db.remember_config("hash-2", &body, later(9), "b").await.unwrap();
        assert_ne!(first, second);
        let stored = world.db.config_version(first).await.unwrap().unwrap();
        assert_eq!((stored.hash.as_str(), stored.body, stored.loaded_at, stored.who.as_str()), ("hash-1", body, now(), "a"));
    }

    async fn what_is_in_force_is_what_the_daemon_seen_last_goes_by(world: World) {
        assert_eq!(world.db.config_in_force().await.unwrap(), None);
        let mut ids = Vec::new();
        for hash in ["hash-1", "hash-2"] {
            ids.push(world.db.remember_config(hash, &json!({}), now(), "a").await.unwrap());
        }
        world.db.config_taken("one", ids[0], now()).await.unwrap();
        world.db.config_taken("two", ids[1], later(5)).await.unwrap();
        assert_eq!(world.db.config_in_force().await.unwrap().unwrap().hash, "hash-2");
        world.db.daemon_seen("one", later(60)).await.unwrap();
        assert_eq!(world.db.config_in_force().await.unwrap().unwrap().hash, "hash-1");
        world.db.config_refused("one", Some("hash-9"), ("too much", true), later(61)).await.unwrap();
        let refused = world.db.daemons().await.unwrap().remove(0);
        assert_eq!((refused.refused_hash.as_deref(), refused.refused_why.as_deref()), (Some("hash-9"), Some("too much")));
        // that it waits for a word outlasts other refusals, of whatever daemon
        world.db.config_refused("one", None, ("no TOML", false), later(62)).await.unwrap();
        let waits = Unconfirmed { why: None, at: later(62) };
        assert_eq!(world.db.unconfirmed("hash-9").await.unwrap(), Some(waits));
        world.db.config_refused("two", Some("hash-8"), ("needs a restart", false), later(62)).await.unwrap();
        assert_eq!(world.db.unconfirmed("hash-8").await.unwrap(), None);
        // taking one clears what was refused, and forgets daemons that are long gone
        world.db.config_taken("one", ids[1], later(2 * DAY)).await.unwrap();
        let rows = world.db.daemons().await.unwrap();
        assert_eq!((rows.len(), rows[0].instance.as_str(), rows[0].refused_why.as_deref()), (1, "one", None));
        assert_eq!(world.db.unconfirmed("hash-9").await.unwrap(), None);
        // only what was settled is the base of the next change
        assert_eq!(world.db.settled_config().await.unwrap(), None);
        world.db.config_settled(ids[1], later(2 * DAY)).await.unwrap();
        assert_eq!(world.db.settled_config().await.unwrap().unwrap().hash, "hash-2");
    }

    async fn an_approval_is_journaled(world: World) {
        let signed = Signed { who: "kim".to_owned(), reason: "dearer".to_owned() };
        world.db.approve_config(now(), &signed, ("hash-2", Some("hash-1")), &json!({ "changed": 3 })).await.unwrap();
        let approval = world.db.last_approval().await.unwrap().unwrap();
        assert_eq!((approval.hash.as_str(), approval.base.as_deref()), ("hash-2", Some("hash-1")));
        let entry = world.db.desk().journal(None, 1).await.unwrap().remove(0).entry;
        assert_eq!((entry.action.as_str(), entry.detail["effect"]["changed"].as_i64()), ("config apply", Some(3)));
    }

    async fn schedules_that_moved_or_ended_are_looked_at_now_and_paused_ones_are_left(world: World) {
        for n in 1..=4 {
            world.sql(&format!("INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor) VALUES ('main', 's-{n}', 'p', 'c', '2026-12-01')")).await.unwrap();
        }
        let ids: Vec<i64> = world.sql("SELECT id FROM subscriptions ORDER BY id").await.unwrap().iter().map(|row| row.int("id").unwrap()).collect();
        world.sql_of("UPDATE schedules SET next_look_at = 9000000000000000", "UPDATE schedules SET next_look_at = to_timestamp(9000000000)").await.unwrap();
        world.sql(&format!("UPDATE schedules SET next_look_at = NULL, parked = 'paused' WHERE subscription_id = {}", ids[1])).await.unwrap();
        world.sql(&format!("UPDATE schedules SET next_look_at = NULL, parked = 'ended' WHERE subscription_id = {}", ids[2])).await.unwrap();
        assert_eq!(world.db.look_again(ids[..3].to_vec(), now()).await.unwrap(), 2);
        assert_eq!(world.count("SELECT count(*) AS n FROM schedules WHERE next_look_at IS NULL").await, 1);
    }

    async fn prune_removes_what_is_delivered_and_personal_and_nothing_else(world: World) {
        let old = later(-100 * DAY).as_microsecond() / 1_000_000;
        let new = later(-10 * DAY).as_microsecond() / 1_000_000;
        let spell = |text: &str, postgres: bool| {
            let at = |second: i64| if postgres { format!("to_timestamp({second})") } else { format!("{second}000000") };
            text.replace("@old", &at(old)).replace("@new", &at(new))
        };
        let rows = [
            "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor, status, buyer_name, updated_at) VALUES
                ('main', 'gone', 'p', 'c', '2026-01-01', 'cancelled', 'Kim', @old), ('main', 'late', 'p', 'c', '2026-01-01', 'cancelled', 'Lee', @new),
                ('main', 'owes', 'p', 'c', '2026-01-01', 'cancelled', 'Choi', @old), ('main', 'here', 'p', 'c', '2026-01-01', 'active', 'Park', @old)",
            "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state, waiting)
                SELECT s.id, a.id, '2026-01-01', '2026-02-01', @old, 100, 'KRW', 'per_attempt', CASE WHEN s.external_ref = 'owes' THEN 'review' ELSE 'unpaid' END, 'nothing'
                FROM subscriptions s, accounts a WHERE s.external_ref IN ('gone', 'owes') AND a.name = 'main'",
            "INSERT INTO events (id, kind, at, data) VALUES ('evt_1', 'charge.paid', @old, '{}')",
            "INSERT INTO deliveries (event_seq, endpoint, subscription_id, state, next_at, delivered_at) VALUES
                (1, 'hook', 1, 'delivered', @old, @old), (1, 'hook', 1, 'delivered', @new, @new), (1, 'hook', 1, 'failed', @old, NULL), (1, 'hook', 1, 'pending', @old, NULL)",
        ];
        for row in rows {
            world.sql_of(&spell(row, false), &spell(row, true)).await.unwrap();
        }
        let kept = Retention { deliveries: Duration::from_secs(90 * DAY as u64), personal: None };
        assert_eq!(chores::prune(&world.db, &kept, now()).await.unwrap(), (1, 0));
        let kept = Retention { personal: Some(Duration::from_secs(90 * DAY as u64)), ..kept };
        assert_eq!(chores::prune(&world.db, &kept, now()).await.unwrap(), (0, 1));
        assert_eq!(chores::prune(&world.db, &kept, now()).await.unwrap(), (0, 0), "doing it again changes nothing");
        let named = world.sql("SELECT external_ref FROM subscriptions WHERE buyer_name IS NOT NULL ORDER BY 1").await.unwrap();
        let named: Vec<String> = named.iter().map(|row| row.text("external_ref").unwrap()).collect();
        assert_eq!(named, ["here", "late", "owes"]);
        for (table, count) in [("deliveries", 3), ("events", 1), ("charges", 2), ("subscriptions", 4)] {
            assert_eq!(world.count(&format!("SELECT count(*) AS n FROM {table}")).await, count, "{table}");
        }
        let (_, waits) = world.db.summary(later(-DAY)).await.unwrap();
        assert_eq!((waits.dunning, waits.doubt, waits.review), (0, 0, 1));
        chores::report(&world.db, now()).await.unwrap();
    }

    async fn a_copied_book_has_no_personal_field_and_no_billing_key(world: World) {
        world.sql("INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor, buyer_name, buyer_email, custom_data, name)
            VALUES ('main', 's-1', 'p', 'CANARY-key', '2026-12-01', 'CANARY-name', 'CANARY-mail', 'CANARY-data', 'CANARY-title')").await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("copy.db").display());
        let options = rebilld::store::OpenOptions { create: true, ..Default::default() };
        let copy = rebilld::store::Database::open(&url, options).await.unwrap();
        copy.migrate().await.unwrap();
        copy.bind_identity("rb".parse().unwrap(), "copy", now()).await.unwrap();
        copy.sync_accounts(&[main_account()], now()).await.unwrap();
        let copied = world.db.copy_book(&copy, |id| format!("good-{id}"), |_, _| {}).await.unwrap();
        assert_eq!(copied, 1);
        let standing = copy.standing(0, 10).await.unwrap().subscriptions.remove(0);
        assert_eq!(standing.schedule.terms.external_ref, "s-1");
        copy.close().await;
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(6).any(|six| six == b"CANARY"));
        }
    }
}
