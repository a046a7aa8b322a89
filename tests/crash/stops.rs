//! Stops that come at a bad moment: too early, or with too little patience.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use serde_json::Value;

use crate::kills::{Kill, PATIENCE, UP};
use crate::lives::World;
use crate::processes::{Daemon, until};
use crate::proxy::{Fault, Mix};

/// As many as may be under way at the same time.
const IN_FLIGHT: u64 = 8;

/// How often a daemon is stopped as soon as it is up.
const STARTS: u64 = 10;

impl World {
    /// Every charge is carried out and never answered, and the daemon is told to end within a second: it says what it has left, and the
    /// next one finds what was paid.
    pub async fn stopped_too_soon() {
        let mut world = Self::behind(Mix::of_charges(Fault::Hang), "stopped too soon", 6, None).await;
        world.home.layer("grace", "[worker]\nshutdown_grace = \"1s\"\n");
        let mut daemon = world.start("daemon");
        world.hang().await;
        daemon.terminate();
        world.left_over(&mut daemon, "stopped after 1 s with").await;
        world.found_by_the_next("daemon SIGTERM, its grace too short").await;
    }

    /// The same, and whoever sits at the terminal does not want to wait for the answers.
    pub async fn stopped_twice() {
        let mut world = Self::behind(Mix::of_charges(Fault::Hang), "stopped twice", 8, None).await;
        let mut daemon = world.start("daemon");
        world.hang().await;
        daemon.interrupt();
        let heard = "SIGINT: finishing what is in flight; once more to end at once";
        until("it finishes what is in flight", PATIENCE, async || daemon.said().contains(heard).then_some(())).await;
        assert!(daemon.is_running(), "it waits for its answers: {}", daemon.said());
        daemon.interrupt();
        world.left_over(&mut daemon, "stopped at once, by a second SIGINT, with").await;
        world.found_by_the_next("daemon SIGINT, twice").await;
    }

    async fn hang(&self) {
        let hanging = async || {
            let told = self.proxy.told();
            (told.faults.get(&Fault::Hang).is_some_and(|count| *count >= IN_FLIGHT)).then_some(())
        };
        until("charges hang", PATIENCE, hanging).await;
        // and nothing more is begun: all that may be under way is
        let (mut last, mut same) = (0, 0);
        until("no more is begun", PATIENCE, async || {
            let open = self.home.books().await.sends.len();
            same = if open == last { same + 1 } else { 0 };
            last = open;
            tokio::time::sleep(Duration::from_millis(200)).await;
            (same >= 5).then_some(())
        })
        .await;
    }

    /// It ends with the code for it and names each send that it leaves open. What else it names it had begun and not sent: its COMMIT
    /// came to nothing, or the gate closed in the same moment.
    async fn left_over(&self, daemon: &mut Daemon, words: &str) {
        let status = daemon.ended(PATIENCE).await;
        let said = daemon.said();
        assert_eq!(status.code(), Some(75), "it has left something: {status}\n{said}");
        assert!(said.contains(words), "{said}");
        let line = said
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| !line["merchant_uids"].is_null());
        let line = line.unwrap_or_else(|| panic!("it says what it has left: {said}"));
        let named: BTreeSet<&str> = line["merchant_uids"].as_str().expect("words").split(' ').collect();
        assert_eq!(line["charges"], named.len());
        assert!(named.len() as u64 >= IN_FLIGHT, "{named:?}");
        let books = self.home.books().await;
        let open: HashSet<i64> = books.sends.iter().filter(|send| send.ended_at.is_none()).map(|send| send.attempt).collect();
        let base = |id: i64| &books.charges.iter().find(|charge| charge.id == id).expect("its charge").base;
        let attempts = books.attempts.iter().filter(|attempt| open.contains(&attempt.id));
        let open: BTreeSet<String> =
            attempts.map(|attempt| format!("{}{:02}", base(attempt.charge), attempt.id_number)).collect();
        let open: BTreeSet<&str> = open.iter().map(String::as_str).collect();
        let unnamed: Vec<_> = open.difference(&named).collect();
        assert!(unnamed.is_empty(), "open, and not among {named:?}: {unnamed:?}");
        let ledger = self.gateway.ledger();
        let posted: HashSet<&str> = ledger.charges().filter_map(|post| post.merchant_uid.as_deref()).collect();
        let settled: Vec<_> = named.difference(&open).filter(|id| posted.contains(**id)).collect();
        assert!(settled.is_empty(), "nothing was answered, and yet these are not open: {settled:?}");
    }

    async fn found_by_the_next(mut self, kind: &'static str) {
        self.proxy.calm();
        self.count(kind, 1);
        let daemon = self.start("daemon");
        let wanted = self.charges() + 10;
        self.posts(wanted).await;
        daemon.kill();
        self.count(Kill::Daemon.name(), 1);
        self.prove("SQLite").await;
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
        world.count(Kill::Stop.name(), STARTS);
        world.prove("SQLite").await;
    }
}
