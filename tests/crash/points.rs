//! A daemon that is killed at a named point: after each statement of a transaction, after each COMMIT, and on either side of
//! whatever leaves the process. The points are not written down: a first daemon tells which it comes to.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rand::RngExt;
use rand::seq::SliceRandom;
use rebilld::ports::crash;

use super::lives::{MORE, World};
use crate::processes::{Daemon, within};
use crate::tally;

/// Boundaries that every campaign has to have been killed at: what is durable, or has left the process, changes there. One that
/// the daemon has no more is taken out here, on purpose.
const BOUNDARIES: [&str; 28] = [
    "start: locked",
    "start: migrated",
    "committed: remember a config",
    "committed: audited",
    "after a page of the gateway's list",
    // W0 and W1
    "ran: insert charges",
    "committed: update schedules",
    "committed: load claimed",
    "after look-up",
    // W2
    "ran: insert sends",
    "ran: spend fuse",
    "committed: high water",
    "mark written",
    "mark durable",
    // what an operator did
    "journal written",
    "journal durable",
    "before charge",
    "after charge",
    // W3
    "ran: end sends",
    "ran: pay charges",
    "ran: insert deliveries",
    "committed: insert deliveries",
    // doubt
    "ran: claim to look up",
    "after look-up of one",
    // events
    "committed: due deliveries",
    "before delivery",
    "after delivery",
    "committed: pull followers",
];

/// A point that a life does not come to in this time, it does not come to: what it followed from is done with.
const PATIENCE: Duration = Duration::from_secs(6);
/// Of the points that are no boundaries, so many at most are drawn, unless `REBILLD_KILLS` is larger than all of them together.
const OTHERS: usize = 20;

/// What a life comes to, in order of first coming to it, and how often.
pub struct Points(Vec<(String, u64)>);

impl World {
    /// Lets one daemon live and tell.
    pub async fn points(mut self) -> Points {
        let told = self.home.path("points");
        self.deed().await;
        let daemon = Daemon::start_under(&self.home, "daemon", &[(crash::TELL, &told.display().to_string())]);
        let read = || std::fs::read_to_string(&told).unwrap_or_default();
        let all = |text: &str| BOUNDARIES.iter().filter(|point| !text.lines().any(|line| line == **point)).count() == 0;
        within(Duration::from_secs(60), async || (all(&read()) && self.charges() > 60).then_some(())).await;
        daemon.kill();
        let (text, mut points) = (read(), Vec::<(String, u64)>::new());
        let mut places = BTreeMap::new();
        for line in text.lines() {
            let place = *places.entry(line).or_insert_with(|| {
                points.push((line.to_owned(), 0));
                points.len() - 1
            });
            points[place].1 += 1;
        }
        let missing: Vec<&&str> = BOUNDARIES.iter().filter(|point| !places.contains_key(**point)).collect();
        assert!(missing.is_empty(), "a daemon came to all but {missing:?}");
        Points(points)
    }

    /// Kills a daemon at each boundary and at some of the other points, each in a life of its own, and proves the invariants over
    /// all of it.
    pub async fn killed_at(mut self, points: Points, database: &'static str) {
        let kills = usize::try_from(tally::number("REBILLD_KILLS").unwrap_or(0)).unwrap_or(usize::MAX);
        let all = kills > points.0.len();
        let is_boundary = |point: &str| BOUNDARIES.contains(&point);
        let mut others: Vec<&str> =
            points.0.iter().map(|(point, _)| point.as_str()).filter(|point| !is_boundary(point)).collect();
        others.shuffle(&mut self.rng);
        others.truncate(if all { usize::MAX } else { OTHERS });
        let rounds = if all { kills / points.0.len() } else { 1 };
        let (mut killed, mut missed) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
        for round in 0..rounds {
            for (point, count) in points.0.iter().filter(|(point, _)| is_boundary(point) || others.contains(&point.as_str())) {
                // what happens once in the life of a database happens in the first lives
                let first = all && round == 0;
                let hit = if first { 1 } else { self.rng.random_range(1..=(*count).clamp(1, if all { 5 } else { 3 })) };
                let point = point.as_str();
                // a boundary comes in each life, if not soon or so often on a machine that is busy
                let lives = if is_boundary(point) && round == 0 { 3 } else { 1 };
                let mut came_to_it = false;
                for life in 0..lives {
                    came_to_it = came_to_it || self.life_until(point, if life == 0 { hit } else { 1 }).await;
                }
                *if came_to_it { &mut killed } else { &mut missed }.entry(point).or_default() += 1;
            }
        }
        let kills: u64 = killed.values().sum();
        self.count("daemon SIGKILL at a named point", kills);
        let (kinds, mut told) = (killed.len(), String::new());
        for (point, times) in &missed {
            let _ = write!(told, "\n    not reached {times} times: {point}");
        }
        println!("{}: killed {kills} times at {kinds} points of {}{told}", self.name, points.0.len());
        let spared: Vec<&&str> = BOUNDARIES.iter().filter(|point| !killed.contains_key(**point)).collect();
        assert!(spared.is_empty(), "{}: never killed at {spared:?}", self.name);
        self.prove(database).await;
    }

    /// Whether a daemon killed itself there.
    async fn life_until(&mut self, point: &str, hit: u64) -> bool {
        self.insert(MORE / 3).await;
        // the next audit is due: it comes twice a day at most, and lives are short
        self.home.sql("UPDATE accounts SET audited_quick_at = NULL, audited_at = NULL").await;
        if point.starts_with("journal ") {
            self.deed().await;
        }
        let at = format!("{point}@{hit}");
        let mut daemon = self.start_under("daemon", &[(crash::KILL_AT, at.as_str())]);
        let ended = tokio::time::timeout(PATIENCE, daemon.ended(PATIENCE * 2)).await;
        let died = ended.is_ok_and(|status| status.signal() == Some(9));
        drop(daemon);
        died
    }
}
