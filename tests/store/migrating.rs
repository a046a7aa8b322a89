//! A new version's schema on a large Postgres database that others are writing to.

use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection, Row};

use super::rig::{Engine, World};

/// As the release before 0016 has left it.
const BEFORE: &str = "DROP TABLE alarms, alarm_watch; DROP INDEX incidents_open; DROP INDEX charges_troubled;
    DELETE FROM _sqlx_migrations WHERE version = 16";

const BUILDING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE INDEX%'
    AND state = 'active' AND query_start < clock_timestamp() - interval '3 seconds'";

async fn one(connection: &mut PgConnection, statement: &'static str) -> i64 {
    connection.fetch_one(statement).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_over_a_large_table_is_built_while_others_write() {
    let world = World::new(Engine::Postgres).await;
    assert_eq!(world.claimed(2, "t").await.len(), 2, "charges are there");
    let mut others = PgConnection::connect(&world.url).await.unwrap();
    sqlx::raw_sql(BEFORE).execute(&mut others).await.unwrap();
    // a build waits until those that have written before it are done
    let mut old = PgConnection::connect(&world.url).await.unwrap();
    // such a bound in a role's or a database's settings is common, and a build may take an hour
    let bound = format!("ALTER DATABASE {} SET statement_timeout = '2s'", world.url.rsplit_once('/').unwrap().1);
    sqlx::raw_sql(sqlx::AssertSqlSafe(bound)).execute(&mut others).await.unwrap();
    sqlx::raw_sql("BEGIN; UPDATE charges SET version = version + 1 WHERE id = (SELECT min(id) FROM charges)")
        .execute(&mut old)
        .await
        .unwrap();
    let (new, beside) = (world.replica().await, world.replica().await);
    let others_write = async {
        for tries in 0.. {
            if one(&mut others, BUILDING).await > 0 {
                break;
            }
            assert!(tries < 1000, "nothing is being built");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let write = "SET lock_timeout = '2s'; UPDATE charges SET version = version + 1 WHERE id = (SELECT max(id) FROM charges)";
        let written = sqlx::raw_sql(write).execute(&mut others).await.map(drop);
        sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
        written
    };
    let (built, found, written) = tokio::join!(new.migrate(), beside.migrate(), others_write);
    built.expect("nothing ends it");
    found.expect("the other one waits for it");
    written.expect("nobody who writes is held up");
    let valid = "SELECT count(*) FROM pg_index WHERE indexrelid = 'charges_troubled'::regclass AND indisvalid";
    assert_eq!(one(&mut others, valid).await, 1);
    assert!(new.pending_migrations().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_index_whose_build_was_cut_off_is_built_anew() {
    let world = World::new(Engine::Postgres).await;
    let mut others = PgConnection::connect(&world.url).await.unwrap();
    let spoilt = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'charges_troubled'::regclass";
    sqlx::raw_sql(spoilt).execute(&mut others).await.unwrap();
    world.db.migrate().await.unwrap();
    let valid = "SELECT count(*) FROM pg_index WHERE indexrelid = 'charges_troubled'::regclass AND indisvalid";
    assert_eq!(one(&mut others, valid).await, 1);
}
