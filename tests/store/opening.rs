//! Opening, migrating, and knowing which database this is.

use std::collections::BTreeMap;

use rebilld::domain::attempt::Tag;
use rebilld::store::{Database, OpenError, sql};

use super::rig::{Engine, World, both, empty, main_account, now, options};

both! {
    async fn every_statement_can_be_prepared(world: World) {
        let mut names = std::collections::BTreeSet::new();
        for statement in sql::ALL.iter().copied().flatten() {
            assert!(names.insert(statement.name), "{} stands twice", statement.name);
            world.db.prepare(statement).await.unwrap_or_else(|fault| panic!("{fault}"));
        }
        assert!(!names.is_empty());
    }

    async fn migrating_again_changes_nothing(world: World) {
        world.db.migrate().await.unwrap();
        assert!(world.db.pending_migrations().await.unwrap().is_empty());
        let (one, two) = (world.replica().await, world.replica().await);
        let (first, second) = tokio::join!(one.migrate(), two.migrate());
        first.unwrap();
        second.unwrap();
    }

    async fn a_newer_binary_may_have_added_to_a_database_and_may_not_have_taken_away(world: World) {
        let migrated = |version: u32, name: &str, zero: &str| {
            let columns = "version, description, success, checksum, execution_time";
            format!("INSERT INTO _sqlx_migrations ({columns}) VALUES ({version}, '{name}', TRUE, {zero}, 0)")
        };
        let adds = |zero| migrated(9998, "later", zero);
        world.sql_of(&adds("x'00'"), &adds("'\\x00'")).await.unwrap();
        let served = Database::open(&world.url, world.options.clone()).await.unwrap();
        served.migrate().await.unwrap();
        assert_eq!(served.pending_migrations().await.unwrap(), [], "nothing is missing");
        let takes = |zero| migrated(9999, "contract_later", zero);
        world.sql_of(&takes("x'00'"), &takes("'\\x00'")).await.unwrap();
        let refused = Database::open(&world.url, world.options.clone()).await;
        assert!(matches!(refused, Err(OpenError::TooNew { database: 9999, .. })), "{refused:?}");
        assert!(matches!(world.db.migrate().await, Err(OpenError::TooNew { .. })));
    }

    async fn a_database_is_bound_to_one_tag(world: World) {
        let other: Tag = "sb".parse().unwrap();
        let refused = world.db.bind_identity(other, "x", now()).await;
        assert!(matches!(refused, Err(OpenError::WrongTag { .. })), "{refused:?}");
        let identity = world.db.bind_identity("rb".parse().unwrap(), "another", now()).await.unwrap();
        assert_eq!(identity.incarnation, "incarnation-1");
        assert!(!identity.has_moved());
        world.db.renew_incarnation("incarnation-2").await.unwrap();
        assert_eq!(world.db.identity().await.unwrap().incarnation, "incarnation-2");
    }

    async fn a_changed_endpoint_holds_its_account(world: World) {
        let mut config = main_account();
        config.fingerprint = "f2".to_owned();
        for _ in 0..2 {
            let row = world.db.sync_accounts(std::slice::from_ref(&config), now()).await.unwrap().remove(0);
            assert!(row.fingerprint_changed);
            assert_eq!((row.id, row.endpoint), (world.account.id, world.account.endpoint));
            assert_ne!(row.configured, row.endpoint);
        }
        assert_eq!(world.count("SELECT count(*) AS n FROM accounts WHERE held AND hold_reason IS NOT NULL").await, 1);
        let row = world.db.sync_accounts(std::slice::from_ref(&config), now()).await.unwrap().remove(0);
        world.db.confirm_endpoint(row.id, row.configured, &config.base_url).await.unwrap();
        let row = world.db.sync_accounts(&[config], now()).await.unwrap().remove(0);
        assert!(!row.fingerprint_changed);
    }
}

#[tokio::test]
async fn one_daemon_a_file() {
    let world = World::new(Engine::Sqlite).await;
    let held = world.db.lock_for_daemon().unwrap();
    assert!(matches!(world.replica().await.lock_for_daemon(), Err(OpenError::Locked(_))));
    world.replica().await.identity().await.unwrap();
    drop(held);
    world.replica().await.lock_for_daemon().unwrap();
}

#[tokio::test]
async fn a_file_that_somebody_holds_is_busy_and_not_read_only() {
    let (url, _directory) = empty(Engine::Sqlite).await;
    let db = Database::open(&url, options()).await.unwrap();
    db.migrate().await.unwrap();
    // an operator's shell with a transaction that nobody has ended
    let held = db.begin_write().await.unwrap();
    let refused = Database::open(&url, options()).await.unwrap_err();
    let said = refused.to_string();
    assert!(matches!(refused, OpenError::Busy(_)), "{said}");
    assert!(said.contains("another program has held the database file") && !said.contains("read-only"), "{said}");
    held.rollback().await.unwrap();
    Database::open(&url, options()).await.unwrap();
}

#[tokio::test]
async fn a_missing_file_is_made_only_when_asked_for() {
    let (url, _directory) = empty(Engine::Sqlite).await;
    let plain = rebilld::store::OpenOptions { create: false, ..options() };
    assert!(matches!(Database::open(&url, plain).await, Err(OpenError::Missing(_))));
    let db = Database::open(&url, options()).await.unwrap();
    let files = std::fs::read_dir("migrations/sqlite").unwrap().count();
    assert_eq!(db.pending_migrations().await.unwrap().len(), files);
}

#[tokio::test]
async fn a_server_that_loses_commits_is_refused() {
    let (url, _) = empty(Engine::Postgres).await;
    let refused = Database::open(&format!("{url}?options=-csynchronous_commit%3Doff"), options()).await;
    assert!(matches!(refused, Err(OpenError::NotDurable { setting: "synchronous_commit", .. })), "{refused:?}");
    let unreachable = Database::open("postgres://nobody:hunter2@127.0.0.1:1/none", options()).await;
    let shown = unreachable.unwrap_err();
    assert!(matches!(shown, OpenError::Unreachable(_)) && !shown.to_string().contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn both_schemas_have_the_same_tables_and_columns() {
    let sqlite = World::new(Engine::Sqlite).await;
    let postgres = World::new(Engine::Postgres).await;
    let tables = |rows: Vec<rebilld::store::codec::Row>| {
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in rows {
            tables.entry(row.text("t").unwrap()).or_default().push(row.text("c").unwrap());
        }
        tables
    };
    let of_sqlite = "SELECT m.name AS t, c.name AS c FROM sqlite_schema m, pragma_table_info(m.name) c
        WHERE m.type = 'table' AND m.name NOT LIKE '%sqlx%' AND m.name NOT LIKE 'sqlite%' ORDER BY m.name, c.cid";
    let of_postgres = "SELECT table_name::text AS t, column_name::text AS c FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name NOT LIKE '%sqlx%' ORDER BY table_name, ordinal_position";
    let of_sqlite = tables(sqlite.sql(of_sqlite).await.unwrap());
    let of_postgres = tables(postgres.sql(of_postgres).await.unwrap());
    assert!(of_sqlite.len() > 10);
    assert_eq!(of_sqlite, of_postgres);
}
