//! One life of one process: its clock, and the points at which it may stall, freeze or die.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rebilld::ports::clock::Clock;
use tokio::sync::Notify;

use crate::faults::Swarm;
use crate::operations::happens;
use crate::stage::{Dice, Stage};
use crate::tally::Tally;

/// As long as a claim lasts.
const CLAIM: SignedDuration = SignedDuration::from_secs(120);

/// A process between its start and its death.
#[derive(Debug)]
pub struct Process {
    pub stage: Arc<Stage>,
    /// Which one of its seed.
    pub life: u64,
    tally: Arc<Tally>,
    /// Of a hundred port calls that take some time.
    slow: u32,
    /// Of ten thousand port calls in which the whole process is frozen, and for how many seconds at most.
    stalls: u32,
    stall: i64,
    mood: Mutex<Mood>,
    died: Notify,
    /// Microseconds between the start of the stage and what this process takes for the time.
    epoch: AtomicI64,
    /// When the database's clock jumps, and by how many seconds.
    jumps: Vec<(Timestamp, i64)>,
}

#[derive(Debug)]
struct Mood {
    dice: Dice,
    /// Points that it has come to.
    points: u64,
    /// Points until it dies; 0: it does not.
    left: u64,
    dead: bool,
    frozen_until: Option<Timestamp>,
}

impl Process {
    pub fn new(
        stage: &Arc<Stage>,
        jumps: &[(Timestamp, i64)],
        swarm: &Swarm,
        life: u64,
        mut dice: Dice,
        tally: Arc<Tally>,
    ) -> Arc<Self> {
        let left = swarm.crashes.map_or(0, |mean| 1 + dice.below(2 * u64::from(mean)));
        let process = Self {
            stage: Arc::clone(stage),
            life,
            tally,
            slow: swarm.slow,
            stalls: swarm.stalls,
            stall: swarm.stall_seconds,
            mood: Mutex::new(Mood { dice, points: 0, left, dead: false, frozen_until: None }),
            died: Notify::new(),
            epoch: AtomicI64::new(0),
            jumps: jumps.to_vec(),
        };
        process.correct(process.database_clock());
        Arc::new(process)
    }

    /// A place where the process may take a while, freeze or die. A dead one never goes on.
    pub async fn point(&self) {
        self.stage.step();
        let (dead, wait) = {
            let mut mood = self.mood.lock().unwrap();
            mood.points += 1;
            let befalls = |what: &str, point: u64| happens(|| format!("life {} {what} at its port call {point}", self.life));
            let point = mood.points;
            if !mood.dead && mood.left > 0 {
                mood.left -= 1;
                if mood.left == 0 && befalls("dies", point) {
                    mood.dead = true;
                    self.died.notify_one();
                }
            }
            let now = self.stage.now();
            let slow = mood.dice.hits(self.slow, 100).then(|| SignedDuration::from_millis(1 + mood.dice.below(150) as i64));
            if mood.dice.hits(self.stalls, 10_000) {
                let length = SignedDuration::from_secs(1 + mood.dice.below(self.stall as u64) as i64);
                if befalls("freezes", point) {
                    self.tally.count(if length > CLAIM { "fault: frozen beyond a claim" } else { "fault: frozen" });
                    mood.frozen_until = mood.frozen_until.max(Some(now + length));
                }
            }
            (mood.dead, slow.filter(|_| befalls("takes a while", point)).map(|slow| now + slow))
        };
        if dead {
            std::future::pending::<()>().await;
        }
        if let Some(until) = wait {
            self.stage.sleep_until(until).await;
        }
        self.thaw().await;
    }

    /// Waits until it is not frozen, for ever if it is dead.
    async fn thaw(&self) {
        loop {
            let (dead, frozen_until) = {
                let mood = self.mood.lock().unwrap();
                (mood.dead, mood.frozen_until)
            };
            if dead {
                std::future::pending::<()>().await;
            }
            match frozen_until.filter(|until| *until > self.stage.now()) {
                Some(until) => self.stage.sleep_until(until).await,
                None => return,
            }
        }
    }

    pub async fn died(&self) {
        self.died.notified().await;
    }

    /// From now on it does nothing at all.
    pub fn kill(&self) {
        self.mood.lock().unwrap().dead = true;
    }

    /// Whether its database's clock never jumps.
    pub fn is_steady(&self) -> bool {
        self.jumps.is_empty()
    }

    /// The time by the database's clock.
    pub fn database_clock(&self) -> Timestamp {
        let now = self.stage.now();
        let jumps = self.jumps.iter().filter(|(at, _)| *at <= now).count();
        self.stage.clock_asked.fetch_or(1 << jumps, Ordering::Relaxed);
        shifted(now, &self.jumps)
    }

    fn since_start(&self) -> SignedDuration {
        self.stage.now().duration_since(self.stage.start)
    }
}

/// True time by a clock that has jumped.
pub fn shifted(now: Timestamp, jumps: &[(Timestamp, i64)]) -> Timestamp {
    let off: i64 = jumps.iter().filter(|(at, _)| *at <= now).map(|(_, seconds)| seconds).sum();
    now + SignedDuration::from_secs(off)
}

#[async_trait]
impl Clock for Process {
    fn now(&self) -> Timestamp {
        self.stage.now() + SignedDuration::from_micros(self.epoch.load(Ordering::Relaxed))
    }

    fn boot(&self) -> Duration {
        self.since_start().unsigned_abs()
    }

    /// The machine's own clock is right.
    fn wall(&self) -> Timestamp {
        self.stage.now()
    }

    fn correct(&self, database: Timestamp) {
        let micros = database.as_microsecond() - self.stage.now().as_microsecond();
        self.epoch.store(micros, Ordering::Relaxed);
    }

    async fn sleep_until(&self, until: Timestamp, _busy: bool) {
        loop {
            let left = until.duration_since(self.now());
            if left <= SignedDuration::ZERO {
                return;
            }
            // as the machine's clock does: in hours at most where it may be corrected meanwhile
            let left = if self.jumps.is_empty() { left } else { left.min(SignedDuration::from_hours(1)) };
            self.stage.sleep(left).await;
            self.thaw().await;
        }
    }

    async fn pause(&self, length: Duration) {
        self.stage.sleep(SignedDuration::try_from(length).unwrap()).await;
        self.thaw().await;
    }
}
