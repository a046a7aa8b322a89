//! What an account's charges say together: how many are due before any is sent, and how the sends of the last hour have ended.
//! Too many declines or doubts pause the account.
//!
//! The ends are only in memory: a process that has just started has seen nothing yet, and several processes each judge by what they saw.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use tracing::error;

use super::{AccountRuntime, Engine};
use crate::domain::charge::Charge;
use crate::domain::fuse::{DECLINED, Fuse, UNCLEAR};
use crate::domain::outcome::Outcome;
use crate::ports::store::{DueWave, StoreError};

/// How far back is looked.
const WINDOW: Duration = Duration::from_secs(3600);
/// Ends are counted together for so long.
const STEP: Duration = Duration::from_secs(60);

/// How often all that is due is held against the fuse; what falls due before the next time belongs to it.
pub(super) const MEASURED_EVERY: Duration = Duration::from_secs(60);
const AHEAD: SignedDuration = SignedDuration::from_secs(60);

/// Ends of sends in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ends {
    sends: u32,
    doubts: u32,
    /// First tries that the card answered.
    first: u32,
    declined: u32,
}

/// What became of sends in the last hour, by minutes. Times are CLOCK_BOOTTIME.
#[derive(Debug, Default)]
pub struct Rates {
    steps: Mutex<VecDeque<(Duration, Ends)>>,
}

/// How one send ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Clear,
    Declined,
    Doubt,
}

impl Rates {
    /// Counts one end, and says what is wrong with the rates if they are above the fuse's bounds. Then it begins anew, so that
    /// a release is not undone by what was seen before it.
    fn count(&self, now: Duration, end: End, is_first: bool, fuse: &Fuse) -> Option<String> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        while steps.front().is_some_and(|(began, _)| now.saturating_sub(*began) >= WINDOW) {
            steps.pop_front();
        }
        if steps.back().is_none_or(|(began, _)| now.saturating_sub(*began) >= STEP) {
            steps.push_back((now, Ends::default()));
        }
        if let Some((_, ends)) = steps.back_mut() {
            ends.sends += 1;
            ends.doubts += u32::from(end == End::Doubt);
            if is_first && end != End::Doubt {
                ends.first += 1;
                ends.declined += u32::from(end == End::Declined);
            }
        }
        let all = steps.iter().fold(Ends::default(), |all, (_, ends)| Ends {
            sends: all.sends + ends.sends,
            doubts: all.doubts + ends.doubts,
            first: all.first + ends.first,
            declined: all.declined + ends.declined,
        });
        let above = |part: u32, whole: u32, bound: Option<u32>| {
            bound.is_some_and(|bound| whole >= fuse.sample && u64::from(part) * 1000 > u64::from(whole) * u64::from(bound))
        };
        let why = if above(all.declined, all.first, fuse.decline_rate) {
            format!("{} of {} {DECLINED}", all.declined, all.first)
        } else if above(all.doubts, all.sends, fuse.doubt_rate) {
            format!("{} of {} {UNCLEAR}", all.doubts, all.sends)
        } else {
            return None;
        };
        steps.clear();
        Some(why)
    }
}

impl Engine {
    /// Before a wave: all that is due now is held against the account's fuse before the first of it is claimed.
    pub(super) async fn measure(&self, account: &AccountRuntime) -> Result<(), StoreError> {
        let (in_force, now) = (self.in_force(), self.now());
        let of = &account.account;
        let bounds = in_force.bounds.get(&of.id);
        let zone = bounds.map_or(&of.budget_zone, |bounds| &bounds.budget_zone);
        let rate = bounds.map_or(of.rate, |bounds| bounds.rate);
        let wave = DueWave {
            account: of.id,
            now,
            due_until: now.checked_add(AHEAD).unwrap_or(now),
            budget_day: now.to_zoned(zone.clone()).date(),
            fuse: bounds.map_or(&of.fuse, |bounds| &bounds.fuse),
            an_hour: rate.map(|rate| i64::from(rate) * 3600),
        };
        // what another brake stops is looked at when that is over
        if *wave.fuse == Fuse::NONE || self.brakes_for(account).await?.is_some() {
            return Ok(());
        }
        if self.store.measure(&wave).await? {
            self.brakes.forget();
        }
        Ok(())
    }

    /// What an answer says about all the account's charges together. `charge`: as it was sent.
    pub(super) async fn weigh(&self, account: &AccountRuntime, charge: &Charge, outcome: &Outcome) {
        let end = match outcome {
            Outcome::Paid(_) | Outcome::PaidWrong(..) => End::Clear,
            Outcome::Declined(..) => End::Declined,
            Outcome::Doubt { .. } => End::Doubt,
            // nothing was asked of a card
            Outcome::Refused { .. } | Outcome::NotSent(_) => return,
        };
        let in_force = self.in_force();
        let fuse = in_force.bounds.get(&account.account.id).map_or(&account.account.fuse, |bounds| &bounds.fuse);
        // retries are mostly declined again: they say little about today
        let Some(found) = account.rates.count(self.clock.boot(), end, charge.tries == 0, fuse) else { return };
        let why = format!("{found}: look at the gateway and at the last charges, then `rebilld hold release --account`");
        error!(account = %account.account.name, "{why}; the account is paused");
        self.brakes.forget();
        if let Err(failed) = self.store.pause_account(account.account.id, self.now(), &why).await {
            error!(why = %failed, "the account could not be paused");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn fuse() -> Fuse {
        Fuse { decline_rate: Some(500), doubt_rate: Some(200), sample: 10, ..Fuse::NONE }
    }

    #[test]
    fn more_than_the_share_of_first_tries_declined_is_told_once() {
        let (rates, fuse) = (Rates::default(), fuse());
        let ends = [End::Clear, End::Declined].repeat(10);
        assert!(ends.iter().all(|end| rates.count(MINUTE, *end, true, &fuse).is_none()), "half of them is not more than half");
        let told = rates.count(MINUTE, End::Declined, true, &fuse).unwrap();
        assert_eq!(told, "11 of 21 first tries in the last hour were declined");
        assert_eq!(rates.count(MINUTE, End::Declined, true, &fuse), None, "it begins anew");
    }

    #[test]
    fn few_of_them_and_retries_say_nothing() {
        let (rates, fuse) = (Rates::default(), fuse());
        for _ in 0..9 {
            assert_eq!(rates.count(MINUTE, End::Declined, true, &fuse), None);
        }
        for _ in 0..100 {
            assert_eq!(rates.count(MINUTE, End::Declined, false, &fuse), None);
        }
        assert!(rates.count(MINUTE, End::Declined, true, &fuse).is_some());
    }

    #[test]
    fn doubts_count_whichever_try_it_is_and_an_hour_forgets_them() {
        let (rates, fuse) = (Rates::default(), fuse());
        for _ in 0..9 {
            assert_eq!(rates.count(MINUTE, End::Doubt, false, &fuse), None);
        }
        assert_eq!(rates.count(62 * MINUTE, End::Doubt, false, &fuse), None, "the others were more than an hour ago");
        for _ in 0..8 {
            assert_eq!(rates.count(63 * MINUTE, End::Clear, true, &fuse), None);
        }
        assert_eq!(rates.count(63 * MINUTE, End::Clear, true, &fuse), None, "1 of 10");
        assert_eq!(rates.count(64 * MINUTE, End::Doubt, true, &fuse), None, "2 of 11");
        let told = rates.count(64 * MINUTE, End::Doubt, true, &fuse);
        assert_eq!(told.as_deref(), Some("3 of 12 sends in the last hour got no clear answer"));
    }

    #[test]
    fn without_bounds_nothing_is_told() {
        let rates = Rates::default();
        assert!((0..1000).all(|_| rates.count(MINUTE, End::Declined, true, &Fuse::NONE).is_none()));
    }
}
