//! Group commit for SQLite: transactions that queue for the one writer share its COMMIT, and so the fsync that it waits for.
//!
//! The first of them begins a transaction. When it ends and others wait, the transaction stays open: the next one works inside a
//! savepoint, and so on, until nobody waits or enough have come together. Then one COMMIT is made for all of them, and each is
//! told what came of it; before that, none of them counts as committed. One that gives up is undone alone. When the engine
//! itself gives the transaction up (a full disk), or COMMIT fails, nothing of any of them has happened, and each is told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Connection, SqlSafeStr, Sqlite};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use super::db::{Fault, fault};

/// So many transactions share a COMMIT, at most: sessions of other processes wait for the whole group.
const MOST: usize = 8;

/// The one connection that writes, and who waits for it.
#[derive(Debug, Clone)]
pub struct Writer {
    pool: SqlitePool,
    group: Arc<Mutex<Group>>,
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Group {
    connection: Option<PoolConnection<Sqlite>>,
    /// Those that have done their part and wait for COMMIT. Not empty: a transaction is open.
    members: Vec<oneshot::Sender<Result<(), Fault>>>,
}

/// Counts somebody who waits, for as long as it lives.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::AcqRel);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Writer {
    pub fn new(pool: SqlitePool) -> Self {
        Self { pool, group: Arc::default(), waiting: Arc::default() }
    }

    /// Begins a transaction, or joins the one that is open.
    pub async fn begin(&self) -> Result<Member, Fault> {
        let waits = Waits::new(&self.waiting);
        let mut group = Arc::clone(&self.group).lock_owned().await;
        drop(waits);
        let joins = !group.members.is_empty();
        // from here on the member ends what it begins, even if its future is dropped halfway
        group.connect(&self.pool).await?;
        let mut member = Member { group: Some(group), waiting: Arc::clone(&self.waiting), whole: Arc::clone(&self.group), joins };
        let begun = member.run(if joins { "SAVEPOINT member" } else { "BEGIN IMMEDIATE" }).await;
        begun.map_err(|error| {
            if !joins {
                // nothing was begun: there is nothing to undo
                member.group = None;
            }
            fault("begin", &error)
        })?;
        Ok(member)
    }

    /// Has the connection for itself, outside of any transaction.
    pub async fn alone<T>(&self, work: impl AsyncFnOnce(&mut SqliteConnection) -> T) -> Result<T, Fault> {
        let mut group = self.group.lock().await;
        group.end("COMMIT").await?;
        group.connect(&self.pool).await?;
        match &mut group.connection {
            Some(connection) => Ok(work(connection).await),
            None => Err(Fault::Unavailable("the writing connection is gone".to_owned())),
        }
    }

    /// Ends the connection, once whoever has it is done.
    pub async fn close(&self) {
        let mut group = self.group.lock().await;
        // what was not committed was not acknowledged either
        let _ = group.end("COMMIT").await;
        group.connection = None;
        drop(group);
        self.pool.close().await;
    }
}

impl Group {
    async fn connect(&mut self, pool: &SqlitePool) -> Result<(), Fault> {
        if self.connection.is_none() {
            self.connection = Some(pool.acquire().await.map_err(|error| fault("begin", &error))?);
        }
        Ok(())
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        match &mut self.connection {
            Some(connection) => sqlx::query(sql.into_sql_str()).execute(&mut **connection).await.map(drop),
            None => Err(sqlx::Error::PoolClosed),
        }
    }

    /// Ends the open transaction for all of its members, if there are any.
    async fn end(&mut self, how: &'static str) -> Result<(), Fault> {
        if self.members.is_empty() { Ok(()) } else { self.finish(how).await }
    }

    /// Ends the open transaction, and tells its members what came of it.
    async fn finish(&mut self, how: &'static str) -> Result<(), Fault> {
        let mut done = self.run(how).await.map_err(|error| not_committed(&error));
        if done.is_err() {
            // it may be gone already; whatever is left of it goes now, or with the connection
            if self.run("ROLLBACK").await.is_err() {
                self.forget_the_connection().await;
            }
        } else if how != "COMMIT" {
            done = Err(Fault::Unavailable("commit: the transaction that it shared was rolled back".to_owned()));
        }
        for member in self.members.drain(..) {
            // whoever waited may have gone
            let _ = member.send(done.clone());
        }
        done
    }

    /// A connection whose state nobody knows is not used again. A transaction that is still open on it ends with it.
    async fn forget_the_connection(&mut self) {
        if let Some(connection) = self.connection.take() {
            // an error here is one of a connection that is given up
            let _ = connection.detach().close().await;
        }
    }
}

fn not_committed(error: &sqlx::Error) -> Fault {
    match fault("commit", error) {
        Fault::Corrupt(why) => Fault::Unavailable(why),
        other => other,
    }
}

/// A transaction that may share its COMMIT. Dropped without [`Member::commit`], nothing of it happened.
#[derive(Debug)]
pub struct Member {
    /// `None` once it has ended.
    group: Option<OwnedMutexGuard<Group>>,
    whole: Arc<Mutex<Group>>,
    waiting: Arc<AtomicUsize>,
    /// Works in a savepoint of a transaction that holds the work of others.
    joins: bool,
}

impl Member {
    pub fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        let connection = self.group.as_mut().and_then(|group| group.connection.as_mut());
        connection.map(|connection| &mut **connection).ok_or(sqlx::Error::PoolClosed)
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        match &mut self.group {
            Some(group) => group.run(sql).await,
            None => Err(sqlx::Error::PoolClosed),
        }
    }

    /// Returns once the COMMIT that it shares has been made. A commit whose acknowledgement is lost is an error, and may have
    /// happened all the same.
    pub async fn commit(mut self) -> Result<(), Fault> {
        if self.joins {
            // on an error it is undone when it is dropped
            self.run("RELEASE member").await.map_err(|error| not_committed(&error))?;
        }
        let Some(mut group) = self.group.take() else { return Err(Fault::Unavailable("commit: ended already".to_owned())) };
        let (told, answer) = oneshot::channel();
        group.members.push(told);
        let leave_open = self.waiting.load(Ordering::Acquire) > 0 && group.members.len() < MOST;
        let mine = (!leave_open).then_some(group);
        // a task of its own, because whoever asked may be dropped while COMMIT is under way. If the group was left open, it comes
        // after those who wait now, and finds nothing left to do unless all of them have gone.
        let whole = Arc::clone(&self.whole);
        tokio::spawn(async move {
            let mut group = match mine {
                Some(group) => group,
                None => whole.lock_owned().await,
            };
            // the members are told
            let _ = group.end("COMMIT").await;
        });
        answer.await.unwrap_or_else(|_| Err(Fault::Unavailable("commit: nobody tells what came of it".to_owned())))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let Some(mut group) = self.group.take() else { return };
        let (joins, waiting) = (self.joins, Arc::clone(&self.waiting));
        // without a runtime the process ends, and the transaction with it
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if !joins {
                if group.run("ROLLBACK").await.is_err() {
                    group.forget_the_connection().await;
                }
                return;
            }
            let undone = async {
                group.run("ROLLBACK TO member").await?;
                group.run("RELEASE member").await
            };
            if undone.await.is_err() {
                // the engine has given up the whole transaction: nobody's part of it is left
                let _ = group.finish("ROLLBACK").await;
            } else if waiting.load(Ordering::Acquire) == 0 {
                let _ = group.end("COMMIT").await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};

    use super::*;

    struct World {
        writer: Writer,
        reader: SqlitePool,
        _directory: tempfile::TempDir,
    }

    async fn world() -> World {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join("group.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let pool = |most| SqlitePoolOptions::new().max_connections(most);
        let writer = Writer::new(pool(1).connect_with(options.clone()).await.unwrap());
        let made = writer.alone(async |connection| {
            sqlx::query("CREATE TABLE notes (note TEXT NOT NULL) STRICT").execute(connection).await.map(drop)
        });
        made.await.unwrap().unwrap();
        World { writer, reader: pool(2).connect_with(options).await.unwrap(), _directory: directory }
    }

    impl World {
        async fn notes(&self) -> Vec<String> {
            sqlx::query_scalar("SELECT note FROM notes ORDER BY rowid").fetch_all(&self.reader).await.unwrap()
        }

        /// Until `n` sessions wait for the writer.
        async fn waits(&self, n: usize) {
            while self.writer.waiting.load(Ordering::Acquire) != n {
                tokio::task::yield_now().await;
            }
        }

        /// A session that begins as soon as it may.
        fn next(&self) -> tokio::task::JoinHandle<Member> {
            let writer = self.writer.clone();
            tokio::spawn(async move { writer.begin().await.unwrap() })
        }
    }

    async fn note(member: &mut Member, text: &'static str) {
        let sql = sqlx::query("INSERT INTO notes (note) VALUES ($1)").bind(text);
        sql.execute(member.connection().unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn who_shares_a_commit_is_not_told_before_it_is_made() {
        let world = world().await;
        let mut first = world.writer.begin().await.unwrap();
        note(&mut first, "first").await;
        let next = world.next();
        world.waits(1).await;
        let first = tokio::spawn(first.commit());
        let mut second = next.await.unwrap();
        assert!(second.joins);
        note(&mut second, "second").await;
        assert!(!first.is_finished());
        assert!(world.notes().await.is_empty(), "nothing is visible before COMMIT");
        second.commit().await.unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(world.notes().await, ["first", "second"]);
    }

    #[tokio::test]
    async fn one_that_gives_up_is_undone_alone() {
        let world = world().await;
        let mut first = world.writer.begin().await.unwrap();
        note(&mut first, "first").await;
        let next = world.next();
        world.waits(1).await;
        let first = tokio::spawn(first.commit());
        let mut second = next.await.unwrap();
        note(&mut second, "second").await;
        drop(second);
        first.await.unwrap().unwrap();
        assert_eq!(world.notes().await, ["first"]);
        // and one that shares with nobody
        let mut third = world.writer.begin().await.unwrap();
        note(&mut third, "third").await;
        drop(third);
        world.writer.begin().await.unwrap().commit().await.unwrap();
        assert_eq!(world.notes().await, ["first"]);
    }

    #[tokio::test]
    async fn when_the_engine_gives_the_transaction_up_nobody_is_told_that_it_was_committed() {
        let world = world().await;
        let mut first = world.writer.begin().await.unwrap();
        note(&mut first, "first").await;
        let next = world.next();
        world.waits(1).await;
        let first = tokio::spawn(first.commit());
        let mut second = next.await.unwrap();
        note(&mut second, "second").await;
        // what SQLite does by itself when the disk is full
        sqlx::query("ROLLBACK").execute(second.connection().unwrap()).await.unwrap();
        assert!(second.commit().await.is_err());
        assert!(first.await.unwrap().is_err());
        let mut third = world.writer.begin().await.unwrap();
        note(&mut third, "third").await;
        third.commit().await.unwrap();
        assert_eq!(world.notes().await, ["third"]);
    }

    #[tokio::test]
    async fn whoever_waits_may_be_dropped() {
        let world = world().await;
        let mut first = world.writer.begin().await.unwrap();
        note(&mut first, "first").await;
        // the one that waits goes away: nobody is left to make the COMMIT but the first itself
        let next = world.next();
        world.waits(1).await;
        let first = tokio::spawn(first.commit());
        next.abort();
        first.await.unwrap().unwrap();
        // the one that is to be told goes away: its COMMIT is made all the same
        let mut second = world.writer.begin().await.unwrap();
        note(&mut second, "second").await;
        let next = world.next();
        world.waits(1).await;
        let second = tokio::spawn(second.commit());
        let third = next.await.unwrap();
        second.abort();
        third.commit().await.unwrap();
        assert_eq!(world.notes().await, ["first", "second"]);
    }

    #[tokio::test]
    async fn many_at_once_are_all_kept() {
        let world = world().await;
        let sessions = (0..100).map(|_| {
            let writer = world.writer.clone();
            tokio::spawn(async move {
                let mut member = writer.begin().await.unwrap();
                note(&mut member, "one").await;
                member.commit().await
            })
        });
        for session in sessions.collect::<Vec<_>>() {
            session.await.unwrap().unwrap();
        }
        assert_eq!(world.notes().await.len(), 100);
        world.writer.close().await;
    }
}
