//! Payers as they are: a charge of one is declined now and then, for one of several reasons, and each reason passes in its own time
//! or does not. What it is made of is an assumption, given with its sources in docs/declines.md.

use jiff::{SignedDuration, Timestamp};

use super::cards::Decline;
use super::faults::draw;

/// Why first tries are declined: how many in a hundred, with which text, and after how many hours so many in a hundred of them would
/// be paid. The others are not, however often they are tried.
struct Cause {
    share: u64,
    decline: Decline,
    passes: &'static [(u64, i64)],
}

const CAUSES: [Cause; 5] = [
    Cause {
        share: 48,
        decline: Decline::Funds,
        passes: &[(25, 24), (45, 72), (60, 120), (70, 168), (76, 240), (82, 336), (88, 504)],
    },
    Cause {
        share: 12,
        decline: Decline::MonthlyLimit,
        passes: &[(15, 24), (30, 72), (45, 120), (55, 168), (66, 240), (76, 336), (90, 504)],
    },
    Cause { share: 12, decline: Decline::Contact, passes: &[(10, 24), (20, 72), (30, 168), (35, 336)] },
    Cause { share: 8, decline: Decline::Outage, passes: &[(70, 1), (95, 3), (100, 8)] },
    // until there is another card, and nobody gives one here
    Cause { share: 20, decline: Decline::Expired, passes: &[] },
];

/// What a charge that was first tried at `first` is declined with at `now`; `None`: it is paid. `charge` names it, whatever number its
/// try has.
pub(super) fn declined(percent: u32, seed: u64, charge: &str, first: Timestamp, now: Timestamp) -> Option<Decline> {
    let [lapse, cause, passing, _] = draw(seed, "mixed", charge, 0);
    if lapse % 10_000 >= u64::from(percent) * 100 {
        return None;
    }
    let mut place = cause % 100;
    let cause = CAUSES.into_iter().find(|cause| {
        let found = place < cause.share;
        place = place.saturating_sub(cause.share);
        found
    })?;
    let is_over = passes_after(cause.passes, passing % 100).is_some_and(|after| now.duration_since(first) >= after);
    (!is_over).then_some(cause.decline)
}

/// After how long a reason passes for the `place`th of a hundred; `None`: never. Between two points as on a straight line.
fn passes_after(passes: &[(u64, i64)], place: u64) -> Option<SignedDuration> {
    let mut before = (0, 0);
    for (share, hours) in passes {
        if place < *share {
            let part = i64::try_from((place - before.0) * 3600 / (share - before.0)).ok()?;
            return Some(SignedDuration::from_secs(before.1 * 3600 + (hours - before.1) * part));
        }
        before = (*share, *hours);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    fn of(percent: u32, hours: i64) -> Vec<Decline> {
        let charges = 0..20_000;
        charges.filter_map(|n| declined(percent, 7, &format!("charge-{n}"), after(0), after(hours))).collect()
    }

    #[test]
    fn so_many_first_tries_are_declined_as_was_asked_for_and_for_the_reasons_that_are_listed() {
        assert!(of(0, 0).is_empty());
        for percent in [1, 7, 40] {
            let (got, wanted) = (of(percent, 0).len(), percent as usize * 200);
            assert!(got.abs_diff(wanted) < 150, "{percent} %: {got} of 20,000");
        }
        assert_eq!(CAUSES.iter().map(|cause| cause.share).sum::<u64>(), 100);
        let all = of(100, 0);
        for cause in &CAUSES {
            let got = all.iter().filter(|decline| **decline == cause.decline).count();
            assert!(got.abs_diff(cause.share as usize * 200) < 300, "{:?}: {got} of 20,000", cause.decline);
        }
    }

    #[test]
    fn reasons_pass_with_time_and_an_expired_card_does_not() {
        let left: Vec<usize> = [0, 24, 72, 168, 336, 10_000].iter().map(|hours| of(100, *hours).len()).collect();
        assert!(left.is_sorted_by(|earlier, later| earlier > later), "{left:?}");
        let for_good = of(100, 10_000);
        assert_eq!(
            for_good.iter().filter(|decline| **decline == Decline::Expired).count(),
            of(100, 0).iter().filter(|decline| **decline == Decline::Expired).count()
        );
        assert!(!for_good.contains(&Decline::Outage));
    }
}
