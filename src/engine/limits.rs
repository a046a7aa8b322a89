//! What stops or slows sends in this process: rate, permits, the breaker, the brakes as last read, an unsteady clock.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::breaker::{Breaker, Failing, Passage};
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

    /// Sends a second; `None`: no bound.
    pub fn rate(&self) -> Option<u32> {
        Some(self.rate.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    /// From the next send on; `None`: no bound.
    pub fn set_rate(&self, rate: Option<u32>) {
        self.rate.store(rate.unwrap_or(0), Ordering::Relaxed);
    }

    /// What the breaker doubles up to: charges a second, or at the same time if no rate bounds them.
    fn full(&self) -> u32 {
        self.rate().unwrap_or_else(|| u32::try_from(self.in_flight).unwrap_or(u32::MAX))
    }

    /// How many more charges may be claimed for sending: no more than will reach the gate while it is open.
    pub fn room(&self, now: Duration) -> usize {
        let mut most = self.in_flight + 3 * self.batch;
        match self.passage(now) {
            Passage::Stopped => return 0,
            Passage::Slow(allowed) => most = most.min(allowed as usize),
            Passage::Free => {}
        }
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

    /// Reserves the next free slot of the rate; returns when it is. A tenth of a second's worth may leave at once. `None`: it is not
    /// before `end`, and nothing is reserved.
    pub fn slot(&self, now: Duration, end: Duration) -> Option<Duration> {
        let slow = match self.passage(now) {
            Passage::Slow(allowed) => Some(allowed),
            Passage::Stopped | Passage::Free => None,
        };
        let Some(rate) = [self.rate(), slow].into_iter().flatten().min() else { return Some(now) };
        let spacing = Duration::from_secs(1) / rate;
        let burst = spacing * (rate / 10);
        let mut next = lock(&self.next_slot);
        let slot = (*next).max(now.saturating_sub(burst));
        if slot >= end {
            return None;
        }
        *next = slot + spacing;
        Some(slot)
    }

    pub fn took(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let old = self.latency.load(Ordering::Relaxed);
        let new = if old == 0 { time } else { old - old / 16 + time / 16 };
        self.latency.store(new, Ordering::Relaxed);
    }

    /// A call that began at `began` has failed. Returns the pause if that opens the breaker.
    pub fn failed(&self, began: Duration, now: Duration, how: Failing) -> Option<Duration> {
        lock(&self.breaker).failed(began, now, how)
    }

    /// The gateway has answered a charge.
    pub fn answered(&self) {
        lock(&self.breaker).answered();
    }

    /// It has said paid or declined: the key and its tokens are good.
    pub fn answered_well(&self) {
        self.answered();
        self.refused_token.store(0, Ordering::Relaxed);
        self.refusals.store(0, Ordering::Relaxed);
    }

    pub fn passage(&self, now: Duration) -> Passage {
        lock(&self.breaker).passage(now, self.full())
    }

    /// Whether a look-up should probe the gateway now: the caller makes it.
    pub fn takes_probe(&self, now: Duration) -> bool {
        lock(&self.breaker).takes_probe(now)
    }

    /// How the probe went. Returns the next pause if it failed.
    pub fn probed(&self, now: Duration, good: bool) -> Option<Duration> {
        lock(&self.breaker).probed(now, good)
    }

    /// Whether the breaker has closed just now.
    pub fn settles(&self, now: Duration) -> bool {
        lock(&self.breaker).settle(now, self.full())
    }

    /// When the breaker changes by itself.
    pub fn breaker_changes(&self, now: Duration) -> Option<Duration> {
        lock(&self.breaker).next_change(now, self.full())
    }

    /// What the breaker does to sends, for people.
    pub fn breaker_word(&self) -> Option<&'static str> {
        lock(&self.breaker).word()
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
    readings: Mutex<Readings>,
    /// Sends and conclusions of "not paid" are held until then.
    unsteady_until: Mutex<Duration>,
    jumped: AtomicBool,
    /// The moment that the database keeps is later than the end of the hold, by its clock of now.
    kept_later: AtomicBool,
}

/// Database clock minus CLOCK_BOOTTIME, in microseconds.
#[derive(Debug, Default)]
struct Readings {
    last: Option<i64>,
    /// The most since before the hold.
    most: i64,
}

/// A difference that moves by more than this between two checks is a clock jump.
const JUMP_MICROS: i64 = 5_000_000;

impl ClockWatch {
    /// Takes a reading; returns by how much the clock jumped, if it did.
    pub fn check(&self, database_micros: i64, boot: Duration, hold_for: Duration) -> Option<i64> {
        let difference = database_micros - i64::try_from(boot.as_micros()).unwrap_or(i64::MAX);
        let moved = {
            let mut readings = lock(&self.readings);
            let last = readings.last.replace(difference);
            let before = if self.is_steady(boot) { last.unwrap_or(difference) } else { readings.most };
            readings.most = before.max(difference);
            difference - last?
        };
        if moved.abs() <= JUMP_MICROS {
            return None;
        }
        self.hold_until(boot + hold_for);
        Some(moved)
    }

    /// By how much the clock has been set back since before the hold. Should it be set right again, the hold ends so much later by it.
    pub fn set_back(&self) -> Duration {
        let readings = lock(&self.readings);
        let back = readings.last.map_or(0, |last| readings.most.saturating_sub(last));
        Duration::from_micros(u64::try_from(back).unwrap_or_default())
    }

    /// What the database keeps is to be taken back once the hold is over.
    pub fn is_kept_later(&self) {
        self.kept_later.store(true, Ordering::Relaxed);
    }

    /// Whether what the database keeps is to be taken back now. Says so once.
    pub fn is_over(&self, boot: Duration) -> bool {
        self.is_steady(boot) && self.kept_later.swap(false, Ordering::Relaxed)
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

/// What stops a send, for people.
pub(super) fn brake_name(brake: NotBegun) -> &'static str {
    match brake {
        NotBegun::Killed => "the kill switch is on",
        NotBegun::Held => "on hold",
        NotBegun::Paused => "the account is paused",
        NotBegun::Unarmed => "the account is not armed",
        _ => "braked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_rate_spaces_sends() {
        let limits = AccountLimits::new(Some(2), 10, 256);
        let slots: Vec<_> = (0..4).filter_map(|_| limits.slot(SECOND, 10 * SECOND)).collect();
        assert_eq!(slots, [1000, 1500, 2000, 2500].map(Duration::from_millis));
        assert_eq!(limits.slot(SECOND, 3 * SECOND), None, "a slot too late is not taken");
        assert_eq!(limits.slot(SECOND, 4 * SECOND), Some(3 * SECOND), "and not used up");
        assert_eq!(limits.room(SECOND), 16, "no more than eight seconds of the rate are claimed");
    }

    #[test]
    fn a_slow_gateway_lowers_the_claims() {
        let limits = AccountLimits::new(None, 10, 256);
        assert_eq!(limits.room(SECOND), 256);
        limits.took(Duration::from_secs(4));
        assert_eq!(limits.room(SECOND), 20);
        limits.claimed(15);
        assert_eq!(limits.room(SECOND), 5);
    }

    #[test]
    fn after_an_outage_room_and_rate_grow_from_one() {
        let limits = AccountLimits::new(Some(100), 10, 256);
        assert_eq!(limits.failed(SECOND, SECOND, Failing::Surely), Some(SECOND));
        assert_eq!(limits.room(SECOND), 0);
        assert!(limits.takes_probe(2 * SECOND));
        assert_eq!(limits.probed(2 * SECOND, true), None);
        assert_eq!([2, 3, 4, 9].map(|now| limits.room(now * SECOND)), [1, 2, 4, 256]);
        let slots = [2, 2, 3, 3].map(|now| limits.slot(now * SECOND, 20 * SECOND).expect("a slot"));
        assert_eq!(slots, [2000, 3000, 4000, 4500].map(Duration::from_millis), "one in the first second, then two");
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
    fn a_hold_knows_by_how_much_the_clock_was_set_back() {
        let watch = ClockWatch::default();
        let (hour, micros) = (Duration::from_secs(3600), 3_600_000_000);
        assert_eq!(watch.check(micros, SECOND, hour), None);
        assert_eq!(watch.set_back(), Duration::ZERO);
        assert_eq!(watch.check(2 * micros, SECOND, hour), Some(micros));
        assert_eq!(watch.set_back(), Duration::ZERO, "set forward: the kept moment is far enough away by either clock");
        assert_eq!(watch.check(micros / 2, SECOND, hour), Some(-micros - micros / 2));
        assert_eq!(watch.set_back(), hour * 3 / 2);
        watch.is_kept_later();
        assert!(!watch.is_over(hour));
        let later = 2 * SECOND + hour;
        assert!(watch.is_over(later) && !watch.is_over(later), "it is said once");
        assert_eq!(watch.check(micros / 2 + micros, SECOND + hour, hour), None);
        assert_eq!(watch.set_back(), Duration::ZERO, "what was before the hold is forgotten after it");
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
