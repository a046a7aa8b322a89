//! Numbers that many may change at once: a change is an atomic addition or two.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// More bounds than any histogram here has.
const MOST: usize = 16;

/// How long things took, by bounds in microseconds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// How many were above the bound before and not above this one; the last counts what was above all.
    counts: [AtomicU64; MOST + 1],
    /// Microseconds, all added up.
    sum: AtomicU64,
}

/// A histogram as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// For each bound, in microseconds, how many took no longer.
    pub up_to: Vec<(u64, u64)>,
    pub count: u64,
    /// Microseconds.
    pub sum: u64,
}

impl Histogram {
    /// `bounds`: in microseconds, at most 16, each above the one before.
    pub const fn new(bounds: &'static [u64]) -> Self {
        assert!(bounds.len() <= MOST, "a histogram has at most 16 bounds");
        Self { bounds, counts: [const { AtomicU64::new(0) }; MOST + 1], sum: AtomicU64::new(0) }
    }

    pub fn observe(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let place = self.bounds.partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// Read while others add: the counts fit each other, the sum may be a little ahead or behind.
    pub fn seen(&self) -> Seen {
        let counts: Vec<u64> =
            self.counts.iter().take(self.bounds.len() + 1).map(|count| count.load(Ordering::Relaxed)).collect();
        let up_to = self.bounds.iter().zip(&counts).scan(0, |so_far, (bound, count)| {
            *so_far += count;
            Some((*bound, *so_far))
        });
        Seen { up_to: up_to.collect(), count: counts.iter().sum(), sum: self.sum.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_by_the_first_bound_that_it_does_not_exceed() {
        let histogram = Histogram::new(&[1_000, 10_000]);
        for micros in [0, 1_000, 1_001, 10_000, 10_001, 5_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let seen = histogram.seen();
        assert_eq!(seen.up_to, [(1_000, 2), (10_000, 4)]);
        assert_eq!((seen.count, seen.sum), (6, 5_022_002));
    }
}
