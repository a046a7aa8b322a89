//! What stops or slows sends in this process: rate, permits, the breaker, the brakes as last read, an unsteady clock.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::domain::charge::AccountId;
use crate::ports::store::NotBegun;

/// The gate: a send that was claimed longer ago than this is not made.
pub const GATE: Duration = Duration::from_secs(10);
/// Claims are bounded by what the rate sends in this time, so that they reach the gate well before it closes.
const CLAIM_AHEAD: Duration = Duration::from_secs(8);
/// How old the reading of the brakes may be at the gate.
pub const BRAKES_AGE: Duration = Duration::from_secs(1);
/// So many 401s in a row on calls that cannot charge pause the account.
const REFUSALS: usize = 3;
/// The breaker's pauses after so many overload answers in a row; the last one repeats.
const BREAKER_PAUSES: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

/// Limits of one account in this process. Times are CLOCK_BOOTTIME.
#[derive(Debug)]
pub struct AccountLimits {
    /// Sends a second; 0: no bound.
    rate: AtomicU32,
    in_flight: usize,
    batch: usize,
    pub permits: Semaphore,
    /// Charges claimed for sending and not yet done.
    outstanding: AtomicUsize,
    /// When the next send may leave.
    next_slot: Mutex<Duration>,
    breaker: Mutex<Breaker>,
    /// Moving average of a POST's time, in microseconds.
    latency: AtomicU64,
    /// The token generation that got a 401 last, plus one; 0: none since the last good answer.
    refused_token: AtomicU64,
    /// 401s in a row on calls that cannot charge.
    refusals: AtomicUsize,
}

#[derive(Debug, Default)]
struct Breaker {
    failures: usize,
    open_until: Duration,
}

impl AccountLimits {
    pub fn new(rate: Option<u32>, in_flight: usize, batch: usize) -> Self {
        let in_flight = in_flight.max(1);
        Self {
            rate: AtomicU32::new(rate.unwrap_or(0)),
            in_flight,
            batch: batch.max(1),
            permits: Semaphore::new(in_flight),
            outstanding: AtomicUsize::new(0),
            next_slot: Mutex::new(Duration::ZERO),
            breaker: Mutex::new(Breaker::default()),
            latency: AtomicU64::new(0),
            refused_token: AtomicU64::new(0),
            refusals: AtomicUsize::new(0),
        }
    }

    fn rate(&self) -> Option<u32> {
        Some(self.rate.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    /// From the next send on; `None`: no bound.
    pub fn set_rate(&self, rate: Option<u32>) {
        self.rate.store(rate.unwrap_or(0), Ordering::Relaxed);
    }

    /// How many more charges may be claimed for sending: no more than will reach the gate while it is open.
    pub fn room(&self) -> usize {
        let mut most = self.in_flight + 3 * self.batch;
        if let Some(rate) = self.rate() {
            most = most.min((rate as usize).saturating_mul(CLAIM_AHEAD.as_secs() as usize).max(1));
        }
        let latency = self.latency.load(Ordering::Relaxed);
        if let Some(rounds) = (CLAIM_AHEAD.as_micros() as u64).checked_div(latency) {
            let rounds = rounds.max(1) as usize;
            most = most.min(self.in_flight.saturating_mul(rounds));
        }
        most.saturating_sub(self.outstanding.load(Ordering::Acquire)).min(self.batch)
    }

    pub fn claimed(&self, charges: usize) {
        self.outstanding.fetch_add(charges, Ordering::AcqRel);
    }

    pub fn done(&self, charges: usize) {
        self.outstanding.fetch_sub(charges, Ordering::AcqRel);
    }

    /// Reserves the next free slot of the rate; returns when it is. A tenth of a second's worth may leave at once.
    pub fn slot(&self, now: Duration) -> Duration {
        let Some(rate) = self.rate() else { return now };
        let spacing = Duration::from_secs(1) / rate;
        let burst = spacing * (rate / 10);
        let mut next = lock(&self.next_slot);
        let slot = (*next).max(now.saturating_sub(burst));
        *next = slot + spacing;
        slot
    }

    pub fn took(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let old = self.latency.load(Ordering::Relaxed);
        let new = if old == 0 { time } else { old - old / 16 + time / 16 };
        self.latency.store(new, Ordering::Relaxed);
    }

    /// 429 and 5xx slow the whole account down.
    pub fn overloaded(&self, now: Duration) {
        let mut breaker = lock(&self.breaker);
        // answers that were under way together count once
        if now < breaker.open_until {
            return;
        }
        let pause = BREAKER_PAUSES[breaker.failures.min(BREAKER_PAUSES.len() - 1)];
        breaker.failures += 1;
        breaker.open_until = now + pause;
    }

    pub fn answered_well(&self) {
        let mut breaker = lock(&self.breaker);
        breaker.failures = 0;
        self.refused_token.store(0, Ordering::Relaxed);
        self.refusals.store(0, Ordering::Relaxed);
    }

    /// Until when the breaker holds sends back, if it does.
    pub fn breaker_until(&self, now: Duration) -> Option<Duration> {
        let breaker = lock(&self.breaker);
        (breaker.open_until > now).then_some(breaker.open_until)
    }

    /// A 401 on a look-up or a token. Returns whether it is the third in a row: then the account is paused.
    pub fn refused_again(&self) -> bool {
        self.refusals.fetch_add(1, Ordering::Relaxed) + 1 >= REFUSALS
    }

    /// A 401 on a send. Returns whether it is the second in a row, with another token: then the account is paused.
    pub fn unauthorized(&self, token: u64) -> bool {
        let seen = self.refused_token.swap(token + 1, Ordering::Relaxed);
        seen != 0 && seen != token + 1
    }
}

/// What stops each account, as this process last read it.
#[derive(Debug, Default)]
pub struct BrakeCache {
    inner: Mutex<BTreeMap<AccountId, (Duration, Option<NotBegun>)>>,
    /// Whether the whole database was on hold.
    pub held: AtomicBool,
    /// One reader at a time: the others wait for what it finds.
    pub reading: tokio::sync::Mutex<()>,
}

impl BrakeCache {
    /// What stops an account, if the reading is no older than [`BRAKES_AGE`].
    pub fn fresh(&self, account: AccountId, now: Duration) -> Option<Option<NotBegun>> {
        let (read_at, stop) = *lock(&self.inner).get(&account)?;
        (now.saturating_sub(read_at) <= BRAKES_AGE).then_some(stop)
    }

    pub fn set(&self, account: AccountId, read_at: Duration, stop: Option<NotBegun>) {
        let mut inner = lock(&self.inner);
        let newer = inner.get(&account).is_none_or(|(at, _)| *at <= read_at);
        if newer {
            inner.insert(account, (read_at, stop));
        }
    }

    /// Forgets the readings, so that the next look is a new one.
    pub fn forget(&self) {
        lock(&self.inner).clear();
    }
}

/// Compares the database clock with CLOCK_BOOTTIME: a difference that moves is a clock jump.
#[derive(Debug, Default)]
pub struct ClockWatch {
    /// Database clock minus CLOCK_BOOTTIME, in microseconds, at the last check.
    last: Mutex<Option<i64>>,
    /// Sends and conclusions of "not paid" are held until then.
    unsteady_until: Mutex<Duration>,
    jumped: AtomicBool,
}

/// A difference that moves by more than this between two checks is a clock jump.
const JUMP_MICROS: i64 = 5_000_000;

impl ClockWatch {
    /// Takes a reading; returns by how much the clock jumped, if it did.
    pub fn check(&self, database_micros: i64, boot: Duration, hold_for: Duration) -> Option<i64> {
        let difference = database_micros - i64::try_from(boot.as_micros()).unwrap_or(i64::MAX);
        let moved = lock(&self.last).replace(difference).map(|last| difference - last)?;
        if moved.abs() <= JUMP_MICROS {
            return None;
        }
        self.hold_until(boot + hold_for);
        Some(moved)
    }

    /// A jump that an earlier process saw: held until then, or longer if this one has seen another.
    pub fn hold_until(&self, until: Duration) {
        let mut unsteady = lock(&self.unsteady_until);
        *unsteady = until.max(*unsteady);
        self.jumped.store(true, Ordering::Relaxed);
    }

    /// How much longer it is held.
    pub fn held_for(&self, boot: Duration) -> Option<Duration> {
        let left = lock(&self.unsteady_until).saturating_sub(boot);
        (left > Duration::ZERO).then_some(left)
    }

    pub fn is_steady(&self, boot: Duration) -> bool {
        !self.jumped.load(Ordering::Relaxed) || boot >= *lock(&self.unsteady_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_rate_spaces_sends() {
        let limits = AccountLimits::new(Some(2), 10, 256);
        let slots: Vec<_> = (0..4).map(|_| limits.slot(SECOND)).collect();
        assert_eq!(slots, [1000, 1500, 2000, 2500].map(Duration::from_millis));
        assert_eq!(limits.room(), 16, "no more than eight seconds of the rate are claimed");
    }

    #[test]
    fn a_slow_gateway_lowers_the_claims() {
        let limits = AccountLimits::new(None, 10, 256);
        assert_eq!(limits.room(), 256);
        limits.took(Duration::from_secs(4));
        assert_eq!(limits.room(), 20);
        limits.claimed(15);
        assert_eq!(limits.room(), 5);
    }

    #[test]
    fn the_breaker_opens_once_for_answers_that_were_under_way_together() {
        let limits = AccountLimits::new(None, 10, 256);
        limits.overloaded(SECOND);
        limits.overloaded(SECOND);
        assert_eq!(limits.breaker_until(SECOND), Some(2 * SECOND));
        assert_eq!(limits.breaker_until(2 * SECOND), None);
        limits.overloaded(2 * SECOND);
        assert_eq!(limits.breaker_until(2 * SECOND), Some(4 * SECOND));
        limits.answered_well();
        limits.overloaded(9 * SECOND);
        assert_eq!(limits.breaker_until(9 * SECOND), Some(10 * SECOND));
    }

    #[test]
    fn the_second_401_needs_another_token() {
        let limits = AccountLimits::new(None, 10, 256);
        assert!(!limits.unauthorized(1));
        assert!(!limits.unauthorized(1), "the same revoked token counts once");
        assert!(limits.unauthorized(2));
    }

    #[test]
    fn the_third_refused_look_up_in_a_row_pauses() {
        let limits = AccountLimits::new(None, 10, 256);
        assert_eq!([1, 2, 3].map(|_| limits.refused_again()), [false, false, true]);
        limits.answered_well();
        assert!(!limits.refused_again());
    }

    #[test]
    fn a_clock_that_moves_by_more_than_five_seconds_has_jumped() {
        let watch = ClockWatch::default();
        let hour = Duration::from_secs(3600);
        assert_eq!(watch.check(1_000_000_000, SECOND, hour), None);
        assert_eq!(watch.check(1_010_000_000, 11 * SECOND, hour), None);
        assert!(watch.is_steady(11 * SECOND));
        assert_eq!(watch.check(1_030_000_000, 21 * SECOND, hour), Some(10_000_000));
        assert!(!watch.is_steady(22 * SECOND));
        assert!(watch.is_steady(21 * SECOND + hour));
    }

    #[test]
    fn the_hold_of_an_earlier_process_is_never_shortened() {
        let watch = ClockWatch::default();
        watch.hold_until(60 * SECOND);
        watch.hold_until(30 * SECOND);
        assert!(!watch.is_steady(59 * SECOND));
        assert_eq!(watch.held_for(59 * SECOND), Some(SECOND));
        assert!(watch.is_steady(60 * SECOND));
        assert_eq!(watch.held_for(60 * SECOND), None);
    }

    #[test]
    fn an_old_reading_of_the_brakes_is_none() {
        let cache = BrakeCache::default();
        assert_eq!(cache.fresh(AccountId(1), SECOND), None);
        cache.set(AccountId(1), SECOND, Some(NotBegun::Killed));
        assert_eq!(cache.fresh(AccountId(1), 2 * SECOND), Some(Some(NotBegun::Killed)));
        assert_eq!(cache.fresh(AccountId(1), 3 * SECOND), None);
    }
}
