//! Stops that come at a bad moment: too early, or with too little patience.

use crate::kills::{PATIENCE, UP};
use crate::lives::World;
use crate::processes::until;
use crate::proxy::{Fault, Mix};

/// As many as may be under way at the same time.
const IN_FLIGHT: u64 = 8;

/// How often a daemon is stopped as soon as it is up.
const STARTS: u64 = 10;

impl World {
    /// Every charge is carried out and never answered, and the daemon is told to end: it says that it has left something, and the next one
    /// finds what was paid.
    pub async fn stopped_too_soon() {
        let mut world = Self::behind(Mix::of_charges(Fault::Hang), "stopped too soon", 6, None).await;
        world.home.layer("grace", "[worker]\nshutdown_grace = \"1s\"\n");
        let mut daemon = world.start("daemon");
        let hanging = async |least: u64| {
            let told = world.proxy.told();
            (told.faults.get(&Fault::Hang).is_some_and(|count| *count >= least)).then_some(())
        };
        until("charges hang", PATIENCE, async || hanging(IN_FLIGHT).await).await;
        daemon.terminate();
        let status = daemon.ended(PATIENCE).await;
        assert_eq!(status.code(), Some(75), "it has left something: {status}");
        let said = daemon.said();
        assert!(said.contains("in doubt and will be looked up"), "{said}");
        let open = "SELECT count(*) AS n FROM sends WHERE state = 'open'";
        let left = world.home.sql(open).await[0].int("n").expect("a count").unsigned_abs();
        assert!(left >= IN_FLIGHT, "{left} sends have no proven end");

        world.proxy.calm();
        world.count("daemon SIGTERM, its grace too short", 1);
        let daemon = world.start("daemon");
        let wanted = world.charges() + 10;
        world.posts(wanted).await;
        daemon.kill();
        world.count(crate::kills::Kill::Daemon.name(), 1);
        world.prove("SQLite").await;
    }

    /// The very moment at which it says that it is up is early enough.
    pub async fn stopped_at_once() {
        let mut world = Self::new("stopped at once", 7, None).await;
        for _ in 0..STARTS {
            let mut daemon = world.start("daemon");
            // no pause between two looks: what follows the words by a moment is what this is about
            let said = async {
                while !daemon.said().contains(UP) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, said).await.expect("it is up");
            daemon.terminate();
            let status = daemon.ended(PATIENCE).await;
            assert_eq!(status.code(), Some(0), "{status}");
        }
        world.count(crate::kills::Kill::Stop.name(), STARTS);
        world.prove("SQLite").await;
    }
}
