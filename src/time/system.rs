//! The machine's clock, corrected by what the database says the time is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::ports::clock::Clock;

/// Runs on CLOCK_BOOTTIME and is set by [`SystemClock::set`], so that between two readings of the database clock no step of
/// the wall clock can move it.
#[derive(Debug)]
pub struct SystemClock {
    /// Microseconds between CLOCK_BOOTTIME's zero and the Unix epoch.
    epoch_at_boot: AtomicI64,
}

impl SystemClock {
    /// Starts from this machine's wall clock, until the database's is known.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn new() -> Self {
        let clock = Self { epoch_at_boot: AtomicI64::new(0) };
        clock.set(Timestamp::now());
        clock
    }

    /// From now on, now is `now`.
    pub fn set(&self, now: Timestamp) {
        self.epoch_at_boot.store(now.as_microsecond() - micros(self.boot()), Ordering::Relaxed);
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let micros = self.epoch_at_boot.load(Ordering::Relaxed).saturating_add(micros(self.boot()));
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
    }

    fn boot(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    fn wall(&self) -> Timestamp {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Timestamp::new(time.tv_sec, i32::try_from(time.tv_nsec).unwrap_or_default()).unwrap_or(Timestamp::MAX)
    }

    fn correct(&self, database: Timestamp) {
        self.set(database);
    }

    async fn sleep_until(&self, until: Timestamp, _busy: bool) {
        loop {
            let left = until.duration_since(self.now());
            if left <= SignedDuration::ZERO {
                return;
            }
            // in hours at most, so that a corrected clock is noticed
            let left = left.unsigned_abs().min(Duration::from_secs(3600));
            tokio::time::sleep(left).await;
        }
    }
}
