//! Billing intervals, periods and instants: what dates are made of.
//!
//! Every boundary is computed from the anchor, never from the boundary before it, so that 31 January gives
//! 28 February and then 31 March again. [`super::recurrence`] makes periods of them.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};

/// A calendar unit of a billing interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    Day,
    Week,
    Month,
    Year,
}

/// A billing interval: every so many days, weeks, months or years. Quarters and half-years are months.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Every {
    /// 1 to 6000: a thousand half-years.
    count: NonZeroU16,
    unit: Unit,
}

/// Why a text is no billing interval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a billing interval: write a number (1 to 1000) and a unit (days, weeks, months, quarters, half-years, years), \
     such as \"1 month\", \"2 weeks\" or \"1 year\""
)]
pub struct NotAnInterval {
    text: String,
}

impl Every {
    pub const MONTH: Self = Self { count: NonZeroU16::MIN, unit: Unit::Month };

    /// The `n`th boundary counted from `anchor`; `None` beyond the calendar's last year (9999).
    pub fn boundary(&self, anchor: Date, n: u32) -> Option<Date> {
        let steps = i64::from(n) * i64::from(self.count.get());
        let span = match self.unit {
            Unit::Day => Span::new().try_days(steps),
            Unit::Week => Span::new().try_weeks(steps),
            Unit::Month => Span::new().try_months(steps),
            Unit::Year => Span::new().try_years(steps),
        };
        // jiff clamps to the last day of a shorter month, which is what billing wants
        anchor.checked_add(span.ok()?).ok()
    }

    /// The index of the first boundary on or after `date`. Zero if `date` is not after the anchor.
    ///
    /// Computed, not searched for: an anchor of fifty years ago costs no more than one of yesterday.
    pub fn first_boundary_from(&self, anchor: Date, date: Date) -> Option<u32> {
        if date <= anchor {
            return Some(0);
        }
        let count = u32::from(self.count.get());
        let days = || u32::try_from((date - anchor).get_days()).ok();
        match self.months() {
            None if self.unit == Unit::Week => Some(days()?.div_ceil(7 * count)),
            None => Some(days()?.div_ceil(count)),
            Some(months) => {
                // the last boundary in or before the month of `date`: it may be earlier than `date`, the one after it is not
                let n = u32::try_from(month_index(date) - month_index(anchor)).ok()? / months;
                Some(if self.boundary(anchor, n)? < date { n + 1 } else { n })
            }
        }
    }

    /// How many calendar months the interval has; `None` if it is made of days.
    pub fn months(&self) -> Option<u32> {
        match self.unit {
            Unit::Day | Unit::Week => None,
            Unit::Month => Some(u32::from(self.count.get())),
            Unit::Year => Some(12 * u32::from(self.count.get())),
        }
    }
}

/// Months counted from January of the year 0.
pub fn month_index(date: Date) -> i32 {
    i32::from(date.year()) * 12 + i32::from(date.month()) - 1
}

impl FromStr for Every {
    type Err = NotAnInterval;

    fn from_str(text: &str) -> Result<Self, NotAnInterval> {
        let not_an_interval = || NotAnInterval { text: text.chars().take(40).collect() };
        let (count, unit) = text.trim().split_once(' ').ok_or_else(not_an_interval)?;
        // digits alone: `+1` is a number to Rust
        let digits = count.bytes().all(|byte| byte.is_ascii_digit());
        let count = count.parse::<u16>().ok().filter(|count| digits && *count <= 1000).ok_or_else(not_an_interval)?;
        let (factor, unit) = match unit.trim() {
            "day" | "days" => (1, Unit::Day),
            "week" | "weeks" => (1, Unit::Week),
            "month" | "months" => (1, Unit::Month),
            "quarter" | "quarters" => (3, Unit::Month),
            "half-year" | "half-years" => (6, Unit::Month),
            "year" | "years" => (1, Unit::Year),
            _ => return Err(not_an_interval()),
        };
        // the bound holds for what it is shown as, too: a kept config is read again from that
        let count = NonZeroU16::new(count * factor).filter(|count| count.get() <= 1000).ok_or_else(not_an_interval)?;
        Ok(Self { count, unit })
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
            Unit::Year => "year",
        };
        let plural = if self.count.get() == 1 { "" } else { "s" };
        write!(f, "{} {unit}{plural}", self.count)
    }
}

/// One billing period: `[start, end)` in local dates. A date on a boundary belongs to the later period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Period {
    pub start: Date,
    pub end: Date,
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// The instant of a local date and time.
///
/// A local time that a clock change removes moves to the first valid instant after it; one that comes twice is taken the
/// first time.
pub fn instant(date: Date, time: Time, zone: &TimeZone) -> Option<Timestamp> {
    let local = date.to_datetime(time);
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Gap { after, .. } => {
            // read with the later offset, the removed local time lies just before the change itself
            let before_change = after.to_timestamp(local).ok()?;
            let just_before = before_change.checked_sub(Span::new().nanoseconds(1)).ok()?;
            zone.following(just_before).next().map(|change| change.timestamp())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::{date, time};
    use proptest::prelude::*;

    fn every(text: &str) -> Every {
        text.parse().unwrap()
    }

    fn starts(anchor: Date, interval: &str, count: u32) -> Vec<String> {
        (0..count).map(|n| every(interval).boundary(anchor, n).unwrap().to_string()).collect()
    }

    #[test]
    fn month_ends_are_clamped_and_restored() {
        assert_eq!(
            starts(date(2024, 1, 31), "1 month", 5),
            ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30", "2024-05-31"]
        );
        assert_eq!(
            starts(date(2024, 2, 29), "1 year", 5),
            ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]
        );
    }

    #[test]
    fn a_removed_local_time_moves_to_the_change_and_a_doubled_one_comes_first() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let gap = instant(date(2026, 3, 8), time(2, 30, 0, 0), &zone).unwrap();
        assert_eq!(gap.to_string(), "2026-03-08T07:00:00Z");
        let fold = instant(date(2026, 11, 1), time(1, 30, 0, 0), &zone).unwrap();
        assert_eq!(fold.to_string(), "2026-11-01T05:30:00Z");
        // Samoa skipped 30 December 2011 whole
        let apia = TimeZone::get("Pacific/Apia").unwrap();
        let skipped = instant(date(2011, 12, 30), time(10, 0, 0, 0), &apia).unwrap();
        assert_eq!(skipped.to_string(), "2011-12-30T10:00:00Z");
    }

    #[test]
    fn seoul_has_no_clock_changes() {
        let seoul = TimeZone::get("Asia/Seoul").unwrap();
        assert_eq!(instant(date(2026, 11, 22), time(10, 0, 0, 0), &seoul).unwrap().to_string(), "2026-11-22T01:00:00Z");
    }

    #[test]
    fn intervals_are_read_or_named() {
        assert_eq!(every("3 months").to_string(), "3 months");
        assert_eq!(every("1 day").to_string(), "1 day");
        for (text, same) in
            [("1 quarter", "3 months"), ("2 quarters", "6 months"), ("1 half-year", "6 months"), ("166 half-years", "996 months")]
        {
            assert_eq!(every(text).to_string(), same);
        }
        for wrong in [
            "",
            "month",
            "0 months",
            "1001 days",
            "334 quarters",
            "-1 day",
            "1 fortnight",
            "1.5 months",
            "+1 month",
            "1 Month",
            "1month",
        ] {
            assert!(wrong.parse::<Every>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_boundary_is_the_first_one_from_its_own_day() {
        for (interval, first, n) in
            [("1 month", date(2024, 2, 29), 1), ("1 month", date(2024, 3, 1), 2), ("2 weeks", date(2024, 2, 14), 1)]
        {
            assert_eq!(every(interval).first_boundary_from(date(2024, 1, 31), first), Some(n), "{interval} from {first}");
        }
    }

    #[test]
    fn a_period_is_shown_with_its_days() {
        let period = Period { start: date(2024, 1, 31), end: date(2024, 2, 29) };
        assert_eq!(period.to_string(), "2024-01-31..2024-02-29");
    }

    proptest! {
        #[test]
        fn the_first_boundary_is_the_first(day in 0i32..1500, later in 0i32..40_000, interval in prop::sample::select(vec!["1 day", "10 days", "3 weeks", "1 month", "2 months", "5 months", "1 year", "4 years"])) {
            let anchor = date(2023, 1, 1).checked_add(Span::new().days(day)).unwrap();
            let target = anchor.checked_add(Span::new().days(later)).unwrap();
            let every = every(interval);
            let n = every.first_boundary_from(anchor, target).unwrap();
            prop_assert!(every.boundary(anchor, n).unwrap() >= target);
            if n > 0 {
                prop_assert!(every.boundary(anchor, n - 1).unwrap() < target);
            }
        }
    }
}
