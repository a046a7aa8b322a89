//! What is killed, and how: daemons and their database, at moments that the seed chooses.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use jiff::Timestamp;
use rand::seq::SliceRandom;
use rebilld::ports::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, Row};

use super::lives::{MORE, World, changes};
use crate::processes::{Daemon, is_locked_out, until, within};

/// For whatever only has to happen, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(200);
/// What is in flight ends by itself in this time, unless it hangs.
const DRAINING: Duration = Duration::from_secs(2);

/// After the first of so many killed daemons, one lives under the kill switch.
const BRAKED: usize = 8;
const STRAGGLERS: Duration = Duration::from_secs(2);
const BRAKED_FOR: Duration = Duration::from_secs(3);

/// What a daemon says once it works.
pub const UP: &str = "rebilld is up";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// SIGKILL.
    Daemon,
    /// SIGTERM: it finishes what is in flight.
    Stop,
    /// SIGSTOP until its claims are over and others have taken them, then SIGCONT.
    Freeze,
    /// SIGKILL to the server process behind one of the daemon's connections: the server ends them all and recovers.
    Backend,
    /// SIGKILL to the postmaster alone; what it has started notices.
    Postmaster,
    /// SIGKILL to the postmaster and everything that it has started, as when a machine dies.
    Server,
    /// A fast shutdown, and a start.
    Restart,
}

impl Kill {
    pub fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon SIGKILL",
            Self::Stop => "daemon SIGTERM",
            Self::Freeze => "daemon SIGSTOP beyond its claims",
            Self::Backend => "backend SIGKILL",
            Self::Postmaster => "postmaster SIGKILL",
            Self::Server => "whole server SIGKILL",
            Self::Restart => "server restart",
        }
    }

    /// Ten lives end so, in any order. A SQLite file has one daemon, and no server.
    const SQLITE: [Self; 10] = {
        use Kill::{Daemon as D, Stop as S};
        [D, D, D, D, D, D, D, D, S, S]
    };
    const POSTGRES: [Self; 10] = {
        use Kill::{Backend as B, Daemon as D, Postmaster as P, Restart as R, Server as W, Stop as S};
        [D, D, D, D, B, B, P, W, R, S]
    };
    const REPLICAS: [Self; 10] = {
        use Kill::{Backend as B, Daemon as D, Freeze as F, Postmaster as P, Restart as R, Server as W, Stop as S};
        [D, D, D, B, F, F, P, W, R, S]
    };
}

impl World {
    /// So many kills of these kinds, in an order that the seed chooses.
    fn plan(&mut self, kinds: &[Kill], count: u64) -> Vec<Kill> {
        let mut plan = Vec::new();
        while (plan.len() as u64) < count {
            let mut bag = kinds.to_vec();
            bag.shuffle(&mut self.rng);
            plan.extend(bag);
        }
        plan.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        plan
    }

    /// One daemon at a time.
    pub async fn one_daemon(mut self, kills: u64) {
        let (kinds, database) = match self.server {
            Some(_) => (&Kill::POSTGRES, "PostgreSQL"),
            None => (&Kill::SQLITE, "SQLite"),
        };
        let mut back = self.clock.now();
        // since when nothing but the daemon can have left something over
        let mut undisturbed = Some(back);
        let (mut daemon, mut killed) = (self.start("daemon"), 0);
        for kill in self.plan(kinds, kills) {
            if self.a_while().await {
                self.first_send_since(back).await;
            }
            back = match kill {
                Kill::Daemon => {
                    daemon.kill();
                    killed += 1;
                    if killed % BRAKED == 1 {
                        self.a_braked_life().await;
                    }
                    let back = self.clock.now();
                    daemon = self.start("daemon");
                    back
                }
                Kill::Stop => {
                    self.stop(&mut daemon).await;
                    if let Some(since) = undisturbed {
                        self.nothing_is_left_over(since).await;
                    }
                    let back = self.clock.now();
                    daemon = self.start("daemon");
                    back
                }
                kill => self.strike(kill).await,
            };
            if self.has_given_up(&mut daemon).await {
                back = self.clock.now();
                daemon = self.start("daemon");
            }
            undisturbed = matches!(kill, Kill::Daemon | Kill::Stop).then_some(back);
            self.count(kill.name(), 1);
        }
        daemon.kill();
        assert!(killed == 0 || !self.book.braked.is_empty(), "no daemon lived under the kill switch");
        self.prove(database).await;
    }

    /// A daemon that comes up while the kill switch is on, and is killed before it is turned off: it sends nothing (I9).
    async fn a_braked_life(&mut self) {
        self.kill_switch(true).await;
        let mut daemon = loop {
            let mut daemon = self.start("daemon");
            until("a daemon is up", PATIENCE, async || (daemon.said().contains(UP) || !daemon.is_running()).then_some(())).await;
            if !self.has_given_up(&mut daemon).await {
                break daemon;
            }
        };
        self.insert(MORE).await;
        // what the one before it had sent arrives first
        tokio::time::sleep(STRAGGLERS).await;
        let from = self.clock.now();
        tokio::time::sleep(BRAKED_FOR).await;
        assert!(!self.has_given_up(&mut daemon).await, "it was up, and waits for whatever is gone");
        daemon.kill();
        self.book.braked.push((from, self.clock.now()));
        self.kill_switch(false).await;
    }

    /// Several daemons on one database.
    pub async fn replicas(mut self, count: usize, kills: u64) {
        let mut daemons: Vec<Daemon> = (0..count).map(|n| self.replica(n)).collect();
        let mut back = None;
        for (nth, kill) in self.plan(&Kill::REPLICAS, kills).into_iter().enumerate() {
            let seen = self.a_while().await;
            if let Some(back) = back.take().filter(|_| seen) {
                self.first_send_since(back).await;
            }
            let victim = nth % count;
            match kill {
                Kill::Daemon => {
                    daemons.remove(victim).kill();
                    let next = self.replica(victim);
                    daemons.insert(victim, next);
                }
                Kill::Stop => {
                    self.stop(&mut daemons[victim]).await;
                    daemons[victim] = self.replica(victim);
                }
                Kill::Freeze => self.freeze(&daemons[victim]).await,
                // the others go on, and say nothing of how soon this one would
                kill => back = Some(self.strike(kill).await),
            }
            for (n, daemon) in daemons.iter_mut().enumerate() {
                if self.has_given_up(daemon).await {
                    *daemon = self.replica(n);
                }
            }
            self.count(kill.name(), 1);
        }
        // each of them gets the time to do something
        for n in 0..count {
            let log = format!("replica-{n}");
            for _ in 0..40 {
                if within(DRAINING, async || (!changes(&self.home.log(&log)).is_empty()).then_some(())).await.is_some() {
                    break;
                }
                self.insert(MORE).await;
            }
        }
        daemons.into_iter().for_each(Daemon::kill);
        let settled: Vec<_> = (0..count).map(|n| changes(&self.home.log(&format!("replica-{n}")))).collect();
        for (n, mine) in settled.iter().enumerate() {
            assert!(!mine.is_empty(), "{}, seed {}: replica {n} has done nothing", self.name, self.seed);
            for (charge, states) in mine {
                let others = settled[n + 1..].iter().filter_map(|other| other.get(charge)).flatten();
                let twice: Vec<&String> = others.filter(|state| states.contains(*state)).collect();
                assert!(twice.is_empty(), "charge {charge} became {twice:?} by two replicas");
            }
        }
        let shares: Vec<usize> = settled.iter().map(std::collections::BTreeMap::len).collect();
        println!("{}: charges settled by each: {shares:?}", self.name);
        self.prove("PostgreSQL").await;
    }

    /// SIGTERM: it ends in good order, whatever is in flight.
    async fn stop(&self, daemon: &mut Daemon) {
        daemon.terminate();
        // a POST that hangs is waited for for up to 65 s: what nobody answers is lost earlier here, and recorded as a doubt
        let ended = until("the daemon ends after SIGTERM", PATIENCE, async || {
            let ended = within(DRAINING, async || (!daemon.is_running()).then_some(())).await;
            if ended.is_none() {
                self.proxy.let_go();
            }
            ended
        });
        ended.await;
        let status = daemon.ended(PATIENCE).await;
        // one that is not up yet has nothing under way, and ends at once
        let in_its_start = status.signal() == Some(15) && !daemon.said().contains(UP);
        assert!(in_its_start || status.code() == Some(0), "{}, seed {}: {status}", self.name, self.seed);
    }

    /// Whether a daemon has ended by itself. One that finds no database at its start does, and whoever manages services starts it
    /// again; one that is up waits for it.
    async fn has_given_up(&self, daemon: &mut Daemon) -> bool {
        if daemon.is_running() {
            return false;
        }
        let (status, said) = (daemon.ended(PATIENCE).await, daemon.said());
        let in_its_start = (status.code() == Some(69) || is_locked_out(status, &said)) && !said.contains(UP);
        assert!(in_its_start, "{}, seed {}: a daemon has ended by itself, {status}: {said}", self.name, self.seed);
        true
    }

    /// A daemon that has stopped in good order has recorded every answer, and what was not answered as a doubt: no send of its life
    /// looks as if it had died.
    async fn nothing_is_left_over(&self, since: Timestamp) {
        let sql = format!(
            "SELECT count(*) AS n FROM sends JOIN attempts ON attempts.id = sends.attempt_id JOIN charges ON charges.id = attempts.charge_id
             WHERE sends.state = 'open' AND charges.state = 'due' AND sends.begun_at > {}",
            self.instant(since)
        );
        assert_eq!(self.home.sql(&sql).await[0].int("n").expect("a count"), 0, "{}, seed {}", self.name, self.seed);
    }

    /// Kills something of the database's, and waits until it is back. Returns when it was.
    async fn strike(&mut self, kill: Kill) -> Timestamp {
        match kill {
            Kill::Backend => self.kill_a_backend().await,
            Kill::Postmaster => {
                let server = self.server.as_mut().expect("a server of its own");
                signal(server.pid(), Signal::KILL);
                server.restart();
            }
            Kill::Server => {
                let server = self.server.as_mut().expect("a server of its own");
                server.kill9();
                server.restart();
            }
            Kill::Restart => self.server.as_mut().expect("a server of its own").restart(),
            Kill::Daemon | Kill::Stop | Kill::Freeze => unreachable!("{kill:?} is no matter of the database's"),
        }
        self.clock.now()
    }

    async fn kill_a_backend(&mut self) {
        let url = &self.home.database;
        let mut witness = PgConnection::connect(url).await.expect("the server is up");
        let others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend' ORDER BY (state = 'active') DESC, (xact_start IS NOT NULL) DESC, state_change DESC";
        // whoever is at work just now; a daemon that has just started may have none yet, and who is chosen may be gone a moment later
        until("the server ends all connections", PATIENCE, async || {
            // it may have ended them just now
            let Ok(rows) = witness.fetch_all(others).await else { return Some(()) };
            signal(rows.first()?.get::<i32, _>("pid").unsigned_abs(), Signal::KILL);
            // the server ends everybody, the witness too, and replays its log
            within(DRAINING, async || witness.execute("SELECT 1").await.is_err().then_some(())).await
        })
        .await;
        let back = async || match PgConnection::connect(url).await {
            Ok(connection) => connection.close().await.ok(),
            Err(_) => None,
        };
        until("the server has recovered", PATIENCE, back).await;
    }
}

/// A process that was started by a server of this test's.
fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    // it may have ended by itself a moment ago
    let _ = kill_process(pid, signal);
}
