//! A database of a test's own, on either engine, and short words for what the tests do with it.

use std::sync::OnceLock;

use jiff::{SignedDuration, Timestamp};
use rebilld::store::codec::Row;
use rebilld::store::identity::{AccountConfig, AccountRow};
use rebilld::store::sql::Statement;
use rebilld::store::{Database, OpenOptions};

use crate::bouncer::Bouncer;
use crate::support::postgres;

/// 2026-12-01T01:00:00Z: 10:00 in Seoul.
pub const NOON: i64 = 1_796_086_800;

pub fn now() -> Timestamp {
    Timestamp::from_second(NOON).unwrap()
}

pub fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// A migrated database with one live account, `main`, that has been audited and armed.
pub struct World {
    pub url: String,
    pub options: OpenOptions,
    pub db: Database,
    pub account: AccountRow,
    _directory: Option<tempfile::TempDir>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
    /// Behind pgbouncer in transaction mode.
    Pooled,
}

/// An empty database: its URL, and what keeps it.
pub async fn empty(engine: Engine) -> (String, Option<tempfile::TempDir>) {
    match engine {
        Engine::Sqlite => {
            let directory = tempfile::tempdir().unwrap();
            (format!("sqlite:{}", directory.path().join("test.db").display()), Some(directory))
        }
        Engine::Postgres => (postgres::database().await.url, None),
        Engine::Pooled => {
            let url = postgres::database().await.url;
            let (server, database) = url.rsplit_once('/').unwrap();
            let port = server.rsplit_once(':').unwrap().1.parse().unwrap();
            // never dropped: the end of the process ends it
            static BOUNCER: OnceLock<Bouncer> = OnceLock::new();
            (BOUNCER.get_or_init(|| Bouncer::before(port)).url(database), None)
        }
    }
}

pub fn options() -> OpenOptions {
    OpenOptions { endpoints: vec!["hook".to_owned()], create: true, max_connections: 4, ..OpenOptions::default() }
}

pub fn main_account() -> AccountConfig {
    AccountConfig {
        name: "main".to_owned(),
        fingerprint: "f1".to_owned(),
        base_url: "https://api.iamport.kr".to_owned(),
        tier: None,
    }
}

impl World {
    pub async fn new(engine: Engine) -> Self {
        let (url, directory) = empty(engine).await;
        let options = OpenOptions { pooled: engine == Engine::Pooled, ..options() };
        let db = Database::open(&url, options.clone()).await.unwrap();
        db.migrate().await.unwrap();
        db.bind_identity("rb".parse().unwrap(), "incarnation-1", now()).await.unwrap();
        let account = db.sync_accounts(&[main_account()], now()).await.unwrap().remove(0);
        let world = Self { url, options, db, account, _directory: directory };
        world
            .sql("UPDATE accounts SET audited_incarnation = 'incarnation-1', armed_incarnation = 'incarnation-1'")
            .await
            .unwrap();
        world
    }

    /// Another process on the same database.
    pub async fn replica(&self) -> Database {
        Database::open(&self.url, self.options.clone()).await.unwrap()
    }

    /// An operator's own SQL, the same text on both engines.
    pub async fn sql(&self, text: &str) -> Result<Vec<Row>, String> {
        self.on(&self.db, text, text).await
    }

    /// An operator's own SQL, in each engine's spelling.
    pub async fn sql_of(&self, sqlite: &str, postgres: &str) -> Result<Vec<Row>, String> {
        self.on(&self.db, sqlite, postgres).await
    }

    pub async fn on(&self, db: &Database, sqlite: &str, postgres: &str) -> Result<Vec<Row>, String> {
        let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let statement = Statement::two("test", leak(sqlite), leak(postgres));
        let mut tx = db.begin_write().await.map_err(|e| e.to_string())?;
        let rows = tx.query(&statement, &[]).await.map_err(|e| e.to_string())?;
        tx.commit().await.map_err(|e| e.to_string())?;
        Ok(rows)
    }

    /// What the last of some statements says, as plan lines. Nothing is kept.
    pub async fn explain(&self, steps: &[String]) -> Vec<String> {
        let leak = |text: &String| -> &'static str { Box::leak(text.clone().into_boxed_str()) };
        let mut tx = self.db.begin_write().await.unwrap();
        let mut rows = Vec::new();
        for step in steps {
            rows = tx.query(&Statement::same("explain", leak(step)), &[]).await.unwrap();
        }
        let column = if self.db.is_postgres() { "QUERY PLAN" } else { "detail" };
        rows.iter().map(|row| row.text(column).unwrap()).collect()
    }

    /// One number.
    pub async fn count(&self, sql: &str) -> i64 {
        self.sql(sql).await.unwrap()[0].int("n").unwrap()
    }
}

/// Makes a test of each engine out of one body.
macro_rules! both {
    ($($(#[$meta:meta])* async fn $name:ident($world:ident: World) $body:block)*) => {
        $(mod $name {
            use super::*;

            async fn body($world: World) $body

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                body(World::new(Engine::Sqlite).await).await;
            }

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                body(World::new(Engine::Postgres).await).await;
            }

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres_behind_a_pooler() {
                body(World::new(Engine::Pooled).await).await;
            }
        })*
    };
}
pub(crate) use both;
