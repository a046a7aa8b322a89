//! The dispatch loop's heartbeat, for whoever restarts a stuck one.
//!
//! It beats from within the loop's own task: when the loop turns, and while it waits for the database or for its next look. So
//! it stops with a task that no longer runs, and also with one that waits for longer at one step than any database call may take.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::ports::clock::Clock;

/// How long one step of the loop may take. A step makes a few database calls, each of which ends by its own timeout, 70 s at most
/// (the wait for a connection and PostgreSQL's `statement_timeout`), and the first that fails ends the step.
pub const STEP: Duration = Duration::from_secs(300);

/// What is done at each beat. Called from the loop: it must not wait.
pub type Beat = Box<dyn Fn() + Send + Sync>;

/// Silent until it is fed to somebody: tests, simulations and a daemon without a supervisor pay nothing for it.
#[derive(Default)]
pub struct Pulse {
    heard: OnceLock<Heard>,
    /// When it last beat, and until when the step under way is not stuck, by CLOCK_BOOTTIME.
    times: Mutex<Option<(Duration, Duration)>>,
    looked: watch::Sender<bool>,
}

struct Heard {
    every: Duration,
    clock: Arc<dyn Clock>,
    beat: Beat,
}

impl Pulse {
    /// From now on `beat` is called at least once in every `within`, unless the loop is stuck. Only the first call counts.
    pub fn feed(&self, within: Duration, clock: Arc<dyn Clock>, beat: Beat) {
        // twice as often as must be, because a beat is at most one tick late
        let _ = self.heard.set(Heard { every: within / 2, clock, beat });
    }

    /// How long ago it last beat; `None`: never, or it is fed to nobody.
    pub fn age(&self, boot: Duration) -> Option<Duration> {
        let (last, _) = (*self.times())?;
        Some(boot.saturating_sub(last))
    }

    /// Ends once the loop has looked at everything once, and the database has answered.
    pub async fn looked(&self) {
        // it fails only without a sender, and that is this pulse itself
        let _ = self.looked.subscribe().wait_for(|looked| *looked).await;
    }

    /// A look has ended well.
    pub(super) fn has_looked(&self) {
        self.looked.send_if_modified(|looked| !std::mem::replace(looked, true));
    }

    /// The loop has come to its next step, which may take `at_most` beyond [`STEP`].
    pub(super) fn step(&self, at_most: Duration) {
        let Some(Heard { every, clock, beat }) = self.heard.get() else { return };
        let now = clock.boot();
        let mut times = self.times();
        let due = times.is_none_or(|(last, _)| now >= last + *every);
        let last = times.map_or(now, |(last, _)| if due { now } else { last });
        *times = Some((last, now + STEP + at_most));
        drop(times);
        if due {
            beat();
        }
    }

    /// Beats while `work` is waited for, until its step has taken too long.
    pub(super) async fn over<T>(&self, work: impl Future<Output = T>) -> T {
        let Some(Heard { every, clock, beat }) = self.heard.get() else { return work.await };
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep(*every) => if self.may_beat(clock.boot()) { beat() },
            }
        }
    }

    fn may_beat(&self, now: Duration) -> bool {
        let mut times = self.times();
        let Some((last, by)) = times.as_mut() else { return false };
        if now < *by {
            *last = now;
        }
        now < *by
    }

    fn times(&self) -> MutexGuard<'_, Option<(Duration, Duration)>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use jiff::Timestamp;
    use tokio::time::timeout;

    use super::*;
    use crate::time::SimulatedClock;

    /// Of real time, at which the pulse ticks while something is waited for.
    const WITHIN: Duration = Duration::from_millis(4);

    /// A pulse, its clock, and how often it has beaten.
    struct Fed(Pulse, Arc<SimulatedClock>, Arc<AtomicUsize>);

    impl Fed {
        fn new(within: Duration) -> Self {
            let (clock, beats) = (Arc::new(SimulatedClock::new(Timestamp::UNIX_EPOCH)), Arc::new(AtomicUsize::new(0)));
            let (pulse, count) = (Pulse::default(), Arc::clone(&beats));
            let counted: Beat = Box::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            });
            pulse.feed(within, Arc::clone(&clock) as Arc<dyn Clock>, counted);
            Self(pulse, clock, beats)
        }

        fn advance(&self, by: Duration) {
            self.1.move_to(self.1.now() + by);
        }

        fn taken(&self) -> usize {
            self.2.swap(0, Ordering::Relaxed)
        }

        /// Waits for something that ends only once it has beaten so often meanwhile.
        async fn until_beaten(&self, times: usize) {
            let beaten = poll_fn(|_| match self.2.load(Ordering::Relaxed) >= times {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            self.0.over(beaten).await;
        }

        /// Whether it beats in so many ticks of a wait that does not end.
        async fn is_silent(&self) -> bool {
            assert!(timeout(WITHIN * 10, self.0.over(pending::<()>())).await.is_err());
            self.taken() == 0
        }
    }

    #[tokio::test]
    async fn a_slow_database_is_waited_for_and_a_stuck_step_is_not() {
        let fed = Fed::new(WITHIN);
        fed.0.step(Duration::ZERO);
        fed.until_beaten(5).await;
        fed.advance(STEP - Duration::from_secs(1));
        fed.until_beaten(10).await;
        fed.advance(Duration::from_secs(1));
        fed.taken();
        assert!(fed.is_silent().await, "nothing feeds a stuck loop");
        fed.0.step(Duration::ZERO);
        assert_eq!(fed.taken(), 1, "it lives again with its next step");
    }

    #[tokio::test]
    async fn many_slow_steps_are_not_a_stuck_one() {
        let fed = Fed::new(WITHIN);
        for _ in 0..20 {
            fed.0.step(Duration::ZERO);
            fed.advance(STEP - Duration::from_secs(1));
            fed.taken();
            fed.until_beaten(2).await;
        }
    }

    #[tokio::test]
    async fn a_long_wait_for_the_next_look_is_allowed_for() {
        let fed = Fed::new(WITHIN);
        let interval = Duration::from_secs(600);
        fed.0.step(interval);
        fed.advance(interval);
        fed.taken();
        fed.until_beaten(3).await;
        fed.advance(STEP);
        fed.taken();
        assert!(fed.is_silent().await);
    }

    #[test]
    fn a_busy_loop_beats_no_more_often_than_it_must() {
        let fed = Fed::new(Duration::from_secs(10));
        for _ in 0..1_000 {
            fed.0.step(Duration::ZERO);
            fed.advance(Duration::from_millis(10));
        }
        assert_eq!(fed.taken(), 2, "in 10 s");
    }

    #[tokio::test]
    async fn it_has_looked_once_it_says_so() {
        let pulse = Pulse::default();
        assert!(timeout(WITHIN, pulse.looked()).await.is_err());
        pulse.has_looked();
        assert!(timeout(WITHIN * 1_000, pulse.looked()).await.is_ok());
    }

    #[tokio::test]
    async fn fed_to_nobody_it_is_silent() {
        let pulse = Pulse::default();
        pulse.step(Duration::ZERO);
        assert_eq!(pulse.over(async { 7 }).await, 7);
        assert!(!pulse.may_beat(Duration::ZERO));
    }
}
