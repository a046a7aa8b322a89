//! A clock that moves only when somebody waits for it and nothing else is under way.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::ports::clock::Clock;

/// Time for the demo and for tests: an idle worker's sleep moves it, nothing else does.
#[derive(Debug)]
pub struct SimulatedClock {
    start: Timestamp,
    now: Mutex<Timestamp>,
    /// Beyond it no sleep moves the clock: the run has come to its end.
    horizon: Mutex<Timestamp>,
    at_horizon: Notify,
}

impl SimulatedClock {
    pub fn new(start: Timestamp) -> Self {
        let horizon = Mutex::new(Timestamp::MAX);
        Self { start, now: Mutex::new(start), horizon, at_horizon: Notify::new() }
    }

    /// Moves to `instant`, never back.
    pub fn move_to(&self, instant: Timestamp) {
        let mut now = lock(&self.now);
        *now = (*now).max(instant);
    }

    /// From now on sleeps end at `horizon` at the latest, and whoever wants to sleep beyond it sleeps for ever.
    pub fn set_horizon(&self, horizon: Timestamp) {
        *lock(&self.horizon) = horizon;
    }

    /// Returns once a sleep has come to the horizon.
    pub async fn horizon_reached(&self) {
        self.at_horizon.notified().await;
    }
}

fn lock(mutex: &Mutex<Timestamp>) -> std::sync::MutexGuard<'_, Timestamp> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

#[async_trait]
impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        *lock(&self.now)
    }

    fn boot(&self) -> Duration {
        self.now().duration_since(self.start).unsigned_abs()
    }

    async fn sleep_until(&self, until: Timestamp, busy: bool) {
        if busy {
            return std::future::pending().await;
        }
        let horizon = *lock(&self.horizon);
        if until > horizon {
            self.move_to(horizon);
            self.at_horizon.notify_one();
            return std::future::pending().await;
        }
        self.move_to(until);
        // let whoever waits for this instant run before the caller goes on
        tokio::task::yield_now().await;
    }
}
