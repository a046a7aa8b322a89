//! A clock that moves only when somebody waits for it and nothing else is under way.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::ports::clock::Clock;

/// Time for the demo and for tests: an idle worker's sleep moves it, nothing else does.
#[derive(Debug)]
pub struct SimulatedClock {
    start: Timestamp,
    now: Mutex<Timestamp>,
}

impl SimulatedClock {
    pub fn new(start: Timestamp) -> Self {
        Self { start, now: Mutex::new(start) }
    }

    /// Moves to `instant`, never back.
    pub fn move_to(&self, instant: Timestamp) {
        let mut now = self.now.lock().unwrap_or_else(|broken| broken.into_inner());
        *now = (*now).max(instant);
    }
}

#[async_trait]
impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    fn boot(&self) -> Duration {
        self.now().duration_since(self.start).unsigned_abs()
    }

    async fn sleep_until(&self, until: Timestamp, busy: bool) {
        if busy {
            return std::future::pending().await;
        }
        self.move_to(until);
        // let whoever waits for this instant run before the caller goes on
        tokio::task::yield_now().await;
    }
}
