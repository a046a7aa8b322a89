//! Backoff: seconds between tries of calls that cannot charge (token, look-up), hours between deliveries of an event.
//! Days between tries of a card are dunning, and live in the domain.
//!
//! The one home of the `backoff` crate, which is unmaintained (RUSTSEC-2025-0012; no vulnerability is known). It
//! computes the exponential intervals and nothing else: its `retry_after` goes round its own policy and its
//! `max_elapsed_time` reads a clock of its own, so tries are counted here, and the jitter comes from the caller's seed.
//! The way out is `backon`: only [`RetryPolicy::interval`] would change.

use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, SystemClock, exponential};

/// How often to try, and how long to wait in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Calls in all, the first one included.
    pub tries: u32,
    /// The pause after the first failure.
    pub first: Duration,
    /// By how much each pause is longer than the one before.
    pub factor: u32,
    /// No pause is longer, apart from the jitter.
    pub longest: Duration,
    /// The pause is moved by up to so many percent, either way (at most 100).
    pub jitter_percent: u8,
}

impl RetryPolicy {
    /// Three calls within about two seconds: for look-ups and tokens, which somebody waits for.
    pub const BRIEF: Self =
        Self { tries: 3, first: Duration::from_millis(300), factor: 4, longest: Duration::from_secs(2), jitter_percent: 50 };

    /// One call.
    pub const NEVER: Self = Self::at_once(1);

    /// So many calls without a pause: where time is simulated.
    pub const fn at_once(tries: u32) -> Self {
        Self { tries, first: Duration::ZERO, factor: 1, longest: Duration::ZERO, jitter_percent: 0 }
    }

    /// How long to wait after so many failed calls; `None` once the tries are used up. The same seed gives the same pause.
    pub fn pause(&self, failed: u32, seed: u64) -> Option<Duration> {
        if failed >= self.tries {
            return None;
        }
        let micros = u64::try_from(self.interval(failed).as_micros()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4);
        let spread = micros / 100 * u64::from(self.jitter_percent.min(100));
        let moved = mix(seed ^ u64::from(failed).rotate_left(32)) % (2 * spread + 1);
        Some(Duration::from_micros(micros - spread + moved))
    }

    /// Calls until it succeeds, fails in a way that `again` does not accept, or the tries are used up.
    ///
    /// The pauses are real ones: a simulated clock does not shorten them, so use [`RetryPolicy::at_once`] there.
    pub async fn run<T, E, F>(&self, seed: u64, again: impl Fn(&E) -> bool, mut call: impl FnMut() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut failed = 0;
        loop {
            let error = match call().await {
                Err(error) if again(&error) => error,
                done => return done,
            };
            failed += 1;
            match self.pause(failed, seed) {
                None => return Err(error),
                Some(Duration::ZERO) => {}
                Some(pause) => tokio::time::sleep(pause).await,
            }
        }
    }

    /// The pause without jitter. Whole microseconds: the crate's own arithmetic is in floats, and may be off by a nanosecond.
    fn interval(&self, failed: u32) -> Duration {
        let mut intervals: ExponentialBackoff = exponential::ExponentialBackoff::<SystemClock> {
            initial_interval: self.first,
            current_interval: self.first,
            multiplier: f64::from(self.factor.max(1)),
            max_interval: self.longest,
            randomization_factor: 0.0,
            max_elapsed_time: None,
            ..Default::default()
        };
        // it grows to `longest` long before that, or not at all
        let steps = failed.clamp(1, 128);
        (0..steps).filter_map(|_| intervals.next_backoff()).last().unwrap_or(self.longest)
    }
}

/// SplitMix64's finaliser: spreads neighbouring seeds.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use proptest::prelude::*;

    const PLAIN: RetryPolicy = RetryPolicy { jitter_percent: 0, tries: 6, ..RetryPolicy::BRIEF };

    #[test]
    fn pauses_grow_up_to_the_longest_and_end() {
        let millis: Vec<_> = (1..=6).map(|failed| PLAIN.pause(failed, 7).map(|pause| pause.as_micros() / 1000)).collect();
        assert_eq!(millis, [Some(300), Some(1200), Some(2000), Some(2000), Some(2000), None]);
        assert_eq!(RetryPolicy::NEVER.pause(1, 0), None);
        assert_eq!(RetryPolicy::at_once(2).pause(1, 0), Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn tries_are_counted() {
        let calls = Cell::new(0);
        let call = || {
            calls.set(calls.get() + 1);
            std::future::ready(if calls.get() == 3 { Ok(calls.get()) } else { Err(calls.get()) })
        };
        assert_eq!(RetryPolicy::at_once(3).run(0, |_: &u32| true, call).await, Ok(3));
        calls.set(0);
        assert_eq!(RetryPolicy::at_once(2).run(0, |_: &u32| true, call).await, Err(2));
        calls.set(0);
        assert_eq!(RetryPolicy::at_once(9).run(0, |error: &u32| *error < 1, call).await, Err(1));
    }

    proptest! {
        #[test]
        fn jitter_stays_in_bounds_and_repeats(seed in any::<u64>(), failed in 1u32..3, percent in 0u8..=255) {
            let policy = RetryPolicy { jitter_percent: percent, ..RetryPolicy::BRIEF };
            let pause = policy.pause(failed, seed).unwrap();
            let plain = PLAIN.pause(failed, seed).unwrap();
            let spread = plain * u32::from(percent.min(100)) / 100;
            prop_assert!(pause + Duration::from_micros(100) >= plain - spread && pause <= plain + spread);
            prop_assert_eq!(policy.pause(failed, seed), Some(pause));
        }
    }
}
