//! Nothing is missed silently: an independent count of what is past due and waits for nothing that is shown, and an alarm when
//! the count itself is old.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use tracing::{error, warn};

use super::{AccountRuntime, Engine};
use crate::domain::charge::SubscriptionId;
use crate::ports::store::{Fresh, StoreError};

/// Past due by this long, neither final nor visibly waiting: missed.
pub const MISSED_AFTER: SignedDuration = SignedDuration::from_hours(2);
/// How often that is counted.
pub const EVERY: Duration = Duration::from_secs(300);
/// A count that is older says nothing any more.
const STALE: Duration = Duration::from_secs(600);
/// How often all subscriptions are read for some that no schedule serves, and how many at a time.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
const PAGE: u32 = 10_000;

/// What the counts so far have come to. Times are CLOCK_BOOTTIME.
#[derive(Debug, Default)]
pub struct MissedWatch {
    inner: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The last count, or when the worker began.
    counted_at: Option<Duration>,
    told_stale_at: Option<Duration>,
    /// Since when rows that are to be looked at "at once" have stood in front of their lane.
    fresh: BTreeMap<Fresh, Duration>,
    swept_at: Option<Duration>,
    unscheduled: u64,
}

impl MissedWatch {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.inner.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    /// How old the last count is, if that is too old; said again every ten minutes.
    pub fn stale(&self, boot: Duration) -> Option<Duration> {
        let mut known = self.known();
        let age = boot.saturating_sub(*known.counted_at.get_or_insert(boot));
        let told = known.told_stale_at.is_some_and(|told| boot.saturating_sub(told) < STALE);
        (age > STALE && !told).then(|| {
            known.told_stale_at = Some(boot);
            age
        })
    }

    fn counted(&self, boot: Duration) {
        let mut known = self.known();
        known.counted_at = Some(boot);
        known.told_stale_at = None;
    }

    /// How many of the rows in front of their lanes have stood there for longer than [`MISSED_AFTER`], in each count since.
    fn stuck(&self, front: &[Fresh], boot: Duration) -> u64 {
        let mut known = self.known();
        known.fresh.retain(|row, _| front.contains(row));
        for row in front {
            known.fresh.entry(*row).or_insert(boot);
        }
        let late = |since: &&Duration| boot.saturating_sub(**since) > MISSED_AFTER.unsigned_abs();
        known.fresh.values().filter(late).count() as u64
    }
}

impl Engine {
    /// Counts what is missed, tells it, and keeps it for [`super::stats::Stats`].
    pub(crate) async fn count_missed(&self) {
        if let Err(why) = self.try_to_count().await {
            warn!(%why, "what is missed could not be counted");
        }
    }

    /// An alarm if the last count is older than ten minutes: a daemon that does not count would miss in silence.
    pub(crate) fn heed_stale_count(&self) {
        if let Some(age) = self.missed.stale(self.clock.boot()) {
            error!(
                ?age,
                "what is missed has not been counted for ten minutes: the database is slow or down, and charges may be missed"
            );
        }
    }

    async fn try_to_count(&self) -> Result<(), StoreError> {
        let boot = self.clock.boot();
        let missed = self.store.missed(self.now(), MISSED_AFTER).await?;
        let at_once = self.missed.stuck(&missed.fresh, boot);
        let unscheduled = self.sweep(boot).await?;
        let (sends, look_ups) = (missed.sends, missed.look_ups);
        let schedules = missed.schedules + unscheduled + at_once;
        let total = sends + look_ups + schedules;
        self.missed.counted(self.clock.boot());
        self.stats.missed.set(total);
        self.tell_missed_apart(total).await?;
        self.stats.missed_counted.set(self.clock.boot().as_secs());
        if total > 0 {
            error!(sends, look_ups, schedules, "charges are past due by two hours and wait for nothing that is shown");
        }
        self.stats.missed_booked.set(missed.booked);
        self.stats.missed_bounded.set(missed.bounded);
        if missed.booked > 0 {
            error!(
                charges = missed.booked,
                "charges are past due by two hours: PortOne's own schedule has their cards, or may have charged them (`rebilld takeover check`, then `unschedule` or `release`)"
            );
        }
        if missed.bounded > 0 {
            error!(
                charges = missed.bounded,
                "charges are past due by a day: the day's budget (`budget_count`, `budget_sum`) or the fuse (`rebilld wave show`) puts them off"
            );
        }
        if missed.imports > 0 {
            error!(
                rows = missed.imports,
                "imported rows have been held for two hours, and nobody is charged by them (`rebilld imports list`)"
            );
        }
        if missed.braked > 0 {
            warn!(charges = missed.braked, "charges are past due by two hours: a brake holds them (`rebilld hold status`)");
        }
        Ok(())
    }

    /// Keeps whose they are; asks only if there are any.
    async fn tell_missed_apart(&self, total: u64) -> Result<(), StoreError> {
        let found = if total == 0 { BTreeMap::new() } else { self.store.missed_by_account(self.now(), MISSED_AFTER).await? };
        let of = |account: &Arc<AccountRuntime>| found.get(&account.account.id).copied().unwrap_or_default();
        let mut by: BTreeMap<String, u64> =
            self.accounts.iter().map(|account| (account.account.name.clone(), of(account))).collect();
        if let Some(rest) = total.checked_sub(by.values().sum()).filter(|rest| *rest > 0) {
            by.insert("unknown".to_owned(), rest);
        }
        *self.stats.missed_by.lock().unwrap_or_else(PoisonError::into_inner) = by;
        Ok(())
    }

    /// Subscriptions that no schedule serves. Reads all of them, in pages, once an hour; says the same in between.
    async fn sweep(&self, boot: Duration) -> Result<u64, StoreError> {
        {
            let known = self.missed.known();
            if known.swept_at.is_some_and(|swept| boot.saturating_sub(swept) < SWEEP_EVERY) {
                return Ok(known.unscheduled);
            }
        }
        let (mut after, mut found) = (SubscriptionId(0), 0);
        while !self.is_stopping() {
            let page = self.store.unscheduled(after, PAGE).await?;
            found += page.found;
            let Some(last) = page.last else { break };
            after = last;
        }
        let mut known = self.missed.known();
        (known.swept_at, known.unscheduled) = (Some(boot), found);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::charge::ChargeId;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_count_that_is_ten_minutes_old_alarms_again_and_again() {
        let watch = MissedWatch::default();
        assert_eq!(watch.stale(100 * MINUTE), None, "the worker has just begun");
        assert_eq!(watch.stale(110 * MINUTE), None);
        assert_eq!(watch.stale(111 * MINUTE), Some(11 * MINUTE), "it was never counted");
        assert_eq!(watch.stale(120 * MINUTE), None, "said a moment ago");
        assert_eq!(watch.stale(121 * MINUTE), Some(21 * MINUTE));
        watch.counted(122 * MINUTE);
        assert_eq!(watch.stale(132 * MINUTE), None);
        assert_eq!(watch.stale(133 * MINUTE), Some(11 * MINUTE));
    }

    #[test]
    fn a_row_that_is_due_at_once_is_missed_after_two_hours() {
        let watch = MissedWatch::default();
        let (one, other) = (Fresh::Schedule(SubscriptionId(1)), Fresh::Charge(ChargeId(1)));
        assert_eq!(watch.stuck(&[one, other], MINUTE), 0);
        assert_eq!(watch.stuck(&[one], 60 * MINUTE), 0, "the other one was looked at");
        assert_eq!(watch.stuck(&[one, other], 121 * MINUTE), 0);
        assert_eq!(watch.stuck(&[one, other], 122 * MINUTE), 1, "and has begun to wait anew");
    }
}
