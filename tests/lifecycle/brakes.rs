//! What may change between the look at the brakes and the wire.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use jiff::SignedDuration;
use rebilld::engine::worker;
use rebilld::ports::clock::Clock;
use rebilld::ports::switch::KillSwitch;
use rebilld::store::desk::{Reach, Signed};

use super::rig::{Engine, World, at, both, plan};

/// A file system that takes two seconds for an answer, until an operator pulls the switch in the database, between W2 and the wire.
struct Slow {
    world: Arc<World>,
    pulled: AtomicBool,
}

#[async_trait]
impl KillSwitch for Slow {
    async fn stopped(&self, _: &str) -> Option<String> {
        let world = &self.world;
        if !self.pulled.load(Ordering::SeqCst) {
            if world.count("SELECT count(*) AS n FROM sends").await > 0 {
                world.sql("UPDATE settings SET killed = TRUE, kill_reason = 'wrong prices'").await;
                self.pulled.store(true, Ordering::SeqCst);
            }
            world.clock.move_to(world.clock.now() + SignedDuration::from_secs(2));
        }
        None
    }
}

both! {
    async fn what_was_read_too_long_before_the_wire_is_read_again(engine) {
        let world = World::new(engine, "2028-01-01T12:00", [plan("monthly", "1 month", 9_900)]).await;
        world.subscribe("s", "monthly", "2028-01-02", &[]).await;
        let world = Arc::new(world);
        world.clock.set_horizon(at("2028-01-03T00:00"));
        let daemon = world.daemon_with(Arc::new(Slow { world: Arc::clone(&world), pulled: AtomicBool::new(false) }));
        tokio::select! {
            biased;
            () = world.clock.horizon_reached() => {}
            () = worker::run(daemon) => unreachable!("nobody has asked it to stop"),
        }
        assert_eq!(world.count("SELECT count(*) AS n FROM sends").await, 1, "its intent was committed before");
        assert!(world.posts().is_empty(), "and was not sent after");
        world.sql("UPDATE settings SET killed = FALSE").await;
        world.live_until("2028-01-03T06:00").await;
        assert_eq!(world.posts().len(), 1, "it is sent once the switch is off");
    }

    async fn a_mark_that_goes_back_under_a_daemon_holds_it(engine) {
        let world = World::new(engine, "2028-01-01T12:00", [plan("daily", "1 day", 9_900)]).await;
        world.subscribe("s", "daily", "2028-01-02", &[]).await;
        let daemon = world.daemon();
        let mut working = std::pin::pin!(worker::run(Arc::clone(&daemon)));
        let mut work_until = async |local: &str| works_until(&world, working.as_mut(), local).await;
        work_until("2028-01-03T12:00").await;
        assert_eq!(world.posts().len(), 2);
        // as a standby has it that lacks the last commits, all of them another daemon's
        world.sql("UPDATE settings SET high_water = high_water - 1").await;
        // it sleeps beyond where time has come to
        daemon.look_at_brakes();
        work_until("2028-01-04T12:00").await;
        assert_eq!(world.posts().len(), 2, "the third day is not charged");
        assert_eq!(world.count("SELECT count(*) AS n FROM settings WHERE held AND hold_reason LIKE '%does not know sends%'").await, 1);
    }

    async fn a_database_that_forgets_what_an_operator_did_under_a_daemon_is_held(engine) {
        forgets_under_a_daemon(engine, true).await;
    }

    async fn it_is_held_too_where_a_later_entry_stands_by_then(engine) {
        forgets_under_a_daemon(engine, false).await;
    }
}

/// Lets one daemon work, the same all the time, until a local time.
async fn works_until(world: &World, working: Pin<&mut impl Future<Output = ()>>, local: &str) {
    world.clock.set_horizon(at(local));
    tokio::select! {
        biased;
        () = world.clock.horizon_reached() => {}
        () = working => unreachable!("nobody has asked it to stop"),
    }
}

/// `again`: the number of the entry that is lost is given to another one. On PostgreSQL a promoted standby skips some numbers instead.
async fn forgets_under_a_daemon(engine: Engine, again: bool) {
    let world = World::new(engine, "2028-01-01T12:00", [plan("daily", "1 day", 9_900)]).await;
    world.subscribe("s", "daily", "2028-01-02", &[]).await;
    let daemon = world.daemon();
    let mut working = std::pin::pin!(worker::run(Arc::clone(&daemon)));
    let mut work_until = async |local: &str| works_until(&world, working.as_mut(), local).await;
    let signed = Signed { who: "kim".to_owned(), reason: "wrong prices".to_owned() };
    let kill = async |on| world.db.desk().kill(world.clock.now(), &Reach::Database, on, &signed).await.unwrap();
    work_until("2028-01-02T12:00").await;
    kill(true).await;
    daemon.look_at_brakes();
    work_until("2028-01-02T13:00").await;
    // as a standby has it that lacks the last commit, and on which somebody has done something else
    match engine {
        Engine::Sqlite => world.sql("DROP TRIGGER journal_not_deleted").await,
        Engine::Postgres => world.sql("ALTER TABLE journal DISABLE TRIGGER USER").await,
    };
    world.sql("DELETE FROM journal").await;
    world.sql("UPDATE settings SET killed = FALSE, kill_reason = NULL").await;
    match engine {
        _ if !again => {}
        Engine::Sqlite => drop(world.sql("DELETE FROM sqlite_sequence WHERE name = 'journal'").await),
        Engine::Postgres => drop(world.sql("ALTER SEQUENCE journal_id_seq RESTART").await),
    }
    kill(false).await;
    assert_eq!(world.count("SELECT max(id) AS n FROM journal").await, if again { 1 } else { 2 });
    daemon.look_at_brakes();
    work_until("2028-01-04T12:00").await;
    assert_eq!(world.posts().len(), 1, "of the first day: nothing is sent as if nobody had stopped it");
    let why = "SELECT count(*) AS n FROM settings WHERE held AND hold_reason LIKE '%does not know what an operator did%'";
    assert_eq!(world.count(why).await, 1);
}
