//! The database clock against CLOCK_BOOTTIME: after a jump nothing is sent and nothing concluded for Q, in this process and in
//! those that come after it.
//!
//! A process counts its hold by CLOCK_BOOTTIME, which no jump moves. What outlives it is a moment by the database clock: the next
//! process reads how much is left of it, never believes more than Q, and counts on by its own CLOCK_BOOTTIME. Nobody knows which of the
//! clocks before and after a jump is right: the moment is far enough away by both. Otherwise a clock that was set back, then set right while
//! no process watched, would end the hold at once, and sends that were stamped in between would pass for older than Q. Whoever has sat
//! through the hold takes the moment back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tracing::{error, warn};

use super::Engine;
use crate::ports::store::StoreError;

/// A reading of the database clock that took longer is none: half of it could pass for a jump.
const SLOW_CLOCK: Duration = Duration::from_secs(5);

/// Two readings of one moment differ by less.
const SAME: SignedDuration = SignedDuration::from_secs(1);

/// What is left at `now` of a hold until `until`, by one clock. More than Q is what a clock that was set back makes of it.
fn left_of(until: Option<Timestamp>, now: Timestamp, quiet: Duration) -> Option<Duration> {
    let left = until?.duration_since(now);
    (left > SignedDuration::ZERO).then(|| left.unsigned_abs().min(quiet))
}

impl Engine {
    /// Whether "not paid" may be concluded: not for Q after a clock jump.
    pub(crate) fn trusts_time(&self) -> bool {
        self.steady.is_steady(self.clock.boot())
    }

    /// Until when a clock jump holds sends and conclusions, if one does.
    pub(crate) fn unsteady_until(&self) -> Option<Timestamp> {
        let left = SignedDuration::try_from(self.steady.held_for(self.clock.boot())?).unwrap_or(SignedDuration::MAX);
        Some(self.now().checked_add(left).unwrap_or(Timestamp::MAX))
    }

    /// Heeds a jump that another process has seen. Asked before anything is sent or concluded.
    pub(crate) async fn recall_jump(&self) -> Result<(), StoreError> {
        let until = self.store.unsteady_until().await?;
        let quiet = self.in_force().tuning.policy.quiet().unsigned_abs();
        let Some(left) = left_of(until, self.now(), quiet) else { return Ok(()) };
        if self.trusts_time() {
            warn!(for_ = ?left, "the database clock has jumped a while ago: sends and conclusions of \"not paid\" are still held");
        }
        self.steady.hold_until(self.clock.boot() + left);
        // the same moment must not hold every later process for another Q
        if let (Some(ours), Some(theirs)) = (self.unsteady_until(), until)
            && theirs.duration_since(ours) > SAME
        {
            self.steady.is_kept_later();
        }
        Ok(())
    }

    /// Compares the clocks. Returns whether the database clock has jumped, or a hold is over: then [`Engine::keep_jump`] has to be called
    /// until it succeeds.
    pub(crate) async fn check_clock(&self) -> Result<bool, StoreError> {
        let before = self.clock.boot();
        let database = self.store.clock().await?;
        let after = self.clock.boot();
        if after.saturating_sub(before) > SLOW_CLOCK {
            // a slow answer says nothing of the moment: taken for a jump, it would hold every send for Q
            return Ok(false);
        }
        let middle = before + (after - before) / 2;
        let half = SignedDuration::try_from((after - before) / 2).unwrap_or(SignedDuration::ZERO);
        let offset = database.duration_since(self.clock.wall()).saturating_add(half);
        self.stats.clock_offset.store(i64::try_from(offset.as_micros()).unwrap_or(i64::MAX), Ordering::Relaxed);
        let hold_for = self.in_force().tuning.policy.quiet().unsigned_abs();
        let moved = self.steady.check(database.as_microsecond(), middle, hold_for);
        if let Some(moved) = moved {
            let seconds = moved / 1_000_000;
            error!(seconds, held_for = ?hold_for, "the database clock has jumped: sends and conclusions of \"not paid\" are held");
        }
        self.clock.correct(database);
        Ok(moved.is_some() || self.steady.is_over(after))
    }

    /// Writes down until when it is held, or that it is over.
    pub(crate) async fn keep_jump(&self) -> Result<(), StoreError> {
        let Some(until) = self.unsteady_until() else { return self.store.hold_for_clock(self.now()).await };
        let set_back = self.steady.set_back();
        if set_back > SAME.unsigned_abs() {
            self.steady.is_kept_later();
        }
        let margin = SignedDuration::try_from(set_back).unwrap_or(SignedDuration::ZERO);
        self.store.hold_for_clock(until.checked_add(margin).unwrap_or(Timestamp::MAX)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_hold_is_never_more_than_q() {
        let quiet = Duration::from_secs(3600);
        let now = Timestamp::from_second(1_000_000).unwrap();
        let at = |seconds: i64| Some(now + SignedDuration::from_secs(seconds));
        assert_eq!(left_of(None, now, quiet), None);
        assert_eq!(left_of(at(0), now, quiet), None);
        assert_eq!(left_of(at(60), now, quiet), Some(Duration::from_secs(60)));
        assert_eq!(left_of(at(86_400), now, quiet), Some(quiet), "the clock was set back meanwhile");
    }
}
