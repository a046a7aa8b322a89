//! When periods start: by interval from the anchor, on a billing day, or by cron.
//!
//! The anchor is always a start. What follows is computed from it and never from the start before, so nothing drifts:
//! neither after a short month, nor after a change, nor after years.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Time};

use super::cron::CronSchedule;
use super::period::{Every, Period, month_index};

/// How the periods of a plan follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recurrence {
    /// Counted from the anchor; with a billing day, from the first such day on or after it.
    Every {
        every: Every,
        /// Only with an interval of whole months, as [`Recurrence::interval`] sees to.
        billing_day: Option<BillingDay>,
    },
    /// On the local dates of a cron expression.
    Cron(CronSchedule),
}

/// The day of the month on which periods start, clamped to the month's length: 31 is every month's last day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BillingDay(i8);

/// Why a value is no billing day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongBillingDay {
    #[error("`{0}` is not a billing day: write 1 to 31, or \"last\"")]
    NotADay(String),
    #[error("a billing day needs an interval of months, quarters or years, and `{0}` is made of days")]
    NoMonths(Every),
}

impl Recurrence {
    /// Every so often, on a billing day if there is one.
    ///
    /// # Errors
    /// Days and weeks have no billing day.
    pub fn interval(every: Every, billing_day: Option<BillingDay>) -> Result<Self, WrongBillingDay> {
        match billing_day {
            Some(_) if every.months().is_none() => Err(WrongBillingDay::NoMonths(every)),
            _ => Ok(Self::Every { every, billing_day }),
        }
    }

    /// The first period start on or after `date`, never before the anchor; `None` beyond the year 9999.
    pub fn first_start_from(&self, anchor: Date, date: Date) -> Option<Date> {
        if date <= anchor {
            return Some(anchor);
        }
        match self {
            Self::Every { every, billing_day } => {
                let grid = Grid::of(*every, *billing_day, anchor)?;
                grid.at(grid.first_from(date)?)
            }
            Self::Cron(schedule) => schedule.first_from(date),
        }
    }

    /// The period that starts at `start` and ends at the next boundary after it.
    ///
    /// `start` is usually a boundary itself. After a change of schedule it is where the last opened period ended, and
    /// the period up to the new schedule's next boundary is a short one.
    pub fn period_starting(&self, anchor: Date, start: Date) -> Option<Period> {
        Some(Period { start, end: self.first_start_from(anchor, start.tomorrow().ok()?)? })
    }

    /// The period that `date` is in; `None` before the anchor.
    pub fn period_holding(&self, anchor: Date, date: Date) -> Option<Period> {
        if date < anchor {
            return None;
        }
        let start = match self {
            Self::Every { every, billing_day } => {
                let grid = Grid::of(*every, *billing_day, anchor)?;
                let after = grid.first_from(date.tomorrow().ok()?)?;
                after.checked_sub(1).map_or(Some(anchor), |last| grid.at(last))?
            }
            Self::Cron(schedule) => schedule.last_until(date, anchor).unwrap_or(anchor),
        };
        self.period_starting(anchor, start)
    }

    /// Where period `n` starts. Period 0 starts at the anchor, and is short if a billing day or a cron date is set apart.
    pub fn start(&self, anchor: Date, n: u32) -> Option<Date> {
        let Some(after) = n.checked_sub(1) else { return Some(anchor) };
        match self {
            Self::Every { every, billing_day } => {
                let grid = Grid::of(*every, *billing_day, anchor)?;
                grid.at(if grid.at(0)? == anchor { n } else { after })
            }
            Self::Cron(schedule) => schedule.nth_from(anchor.tomorrow().ok()?, after),
        }
    }

    /// The number of the period that `date` is in; 0 is the first. `None` before the anchor.
    pub fn number_at(&self, anchor: Date, date: Date) -> Option<u32> {
        if date < anchor {
            return None;
        }
        match self {
            Self::Every { every, billing_day } => {
                let grid = Grid::of(*every, *billing_day, anchor)?;
                let until = grid.first_from(date.tomorrow().ok()?)?;
                // a first boundary apart from the anchor has a period before it
                if grid.at(0)? == anchor { until.checked_sub(1) } else { Some(until) }
            }
            Self::Cron(schedule) => Some(schedule.count(anchor, date)),
        }
    }

    /// The time of day that the schedule itself names.
    pub fn charge_time(&self) -> Option<Time> {
        match self {
            Self::Every { .. } => None,
            Self::Cron(schedule) => Some(schedule.time()),
        }
    }
}

impl fmt::Display for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every { every, billing_day: None } => write!(f, "every {every}"),
            Self::Every { every, billing_day: Some(day) } => write!(f, "every {every} on billing day {day}"),
            Self::Cron(schedule) => write!(f, "cron {schedule}"),
        }
    }
}

/// The boundaries of an interval, numbered from 0. The anchor is one of them unless a billing day is set apart.
enum Grid {
    FromAnchor { every: Every, anchor: Date },
    OnDay { first_month: i32, months: i32, day: BillingDay },
}

impl Grid {
    fn of(every: Every, billing_day: Option<BillingDay>, anchor: Date) -> Option<Self> {
        let (Some(day), Some(months)) = (billing_day, every.months()) else {
            return Some(Self::FromAnchor { every, anchor });
        };
        let month = month_index(anchor);
        // the first billing day on or after the anchor, whatever the interval: a first period is never longer than a month
        let first_month = if day.in_month(month)? >= anchor { month } else { month + 1 };
        Some(Self::OnDay { first_month, months: i32::try_from(months).ok()?, day })
    }

    fn at(&self, n: u32) -> Option<Date> {
        match self {
            Self::FromAnchor { every, anchor } => every.boundary(*anchor, n),
            Self::OnDay { first_month, months, day } => {
                day.in_month(i32::try_from(n).ok()?.checked_mul(*months)?.checked_add(*first_month)?)
            }
        }
    }

    /// The number of the first boundary on or after `date`.
    fn first_from(&self, date: Date) -> Option<u32> {
        match self {
            Self::FromAnchor { every, anchor } => every.first_boundary_from(*anchor, date),
            Self::OnDay { first_month, months, .. } => {
                let n = u32::try_from(((month_index(date) - first_month).max(0)) / months).ok()?;
                Some(if self.at(n)? < date { n + 1 } else { n })
            }
        }
    }
}

impl BillingDay {
    pub const LAST: Self = Self(31);

    /// This day in a month, counted as [`month_index`] does.
    fn in_month(self, month: i32) -> Option<Date> {
        let year = i16::try_from(month.div_euclid(12)).ok()?;
        let first = Date::new(year, i8::try_from(month.rem_euclid(12) + 1).ok()?, 1).ok()?;
        Date::new(year, first.month(), self.0.min(first.days_in_month())).ok()
    }
}

impl FromStr for BillingDay {
    type Err = WrongBillingDay;

    fn from_str(text: &str) -> Result<Self, WrongBillingDay> {
        let text = text.trim();
        if text == "last" {
            return Ok(Self::LAST);
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let day = text.parse().ok().filter(|day| digits && (1..=31).contains(day));
        day.map(Self).ok_or_else(|| WrongBillingDay::NotADay(text.chars().take(40).collect()))
    }
}

impl fmt::Display for BillingDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::LAST { f.write_str("last") } else { write!(f, "{}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;
    use jiff::civil::date;
    use proptest::prelude::*;

    fn interval(every: &str, day: Option<&str>) -> Recurrence {
        Recurrence::interval(every.parse().unwrap(), day.map(|day| day.parse().unwrap())).unwrap()
    }

    fn starts(recurrence: &Recurrence, anchor: Date, count: u32) -> Vec<String> {
        (0..count).map(|n| recurrence.start(anchor, n).unwrap().to_string()).collect()
    }

    #[test]
    fn a_target_on_a_boundary_belongs_to_the_later_period() {
        let (monthly, anchor) = (interval("1 month", None), date(2026, 1, 31));
        let period = Period { start: date(2026, 2, 28), end: date(2026, 3, 31) };
        assert_eq!(monthly.period_starting(anchor, date(2026, 2, 28)), Some(period));
        assert_eq!(monthly.period_holding(anchor, date(2026, 2, 28)), Some(period));
        assert_eq!(monthly.period_holding(anchor, date(2026, 3, 30)), Some(period));
        assert_eq!(monthly.period_holding(anchor, date(2026, 1, 30)), None);
    }

    #[test]
    fn a_changed_anchor_makes_one_short_period_and_no_gap() {
        let monthly = interval("1 month", None);
        let first = monthly.period_starting(date(2026, 1, 10), date(2026, 3, 10)).unwrap();
        let short = monthly.period_starting(date(2026, 1, 25), first.end).unwrap();
        assert_eq!((short.start, short.end), (date(2026, 4, 10), date(2026, 4, 25)));
        // an anchor that is still to come: the period lasts until then
        let until = monthly.period_starting(date(2026, 5, 1), date(2026, 4, 10)).unwrap();
        assert_eq!(until.end, date(2026, 5, 1));
    }

    #[test]
    fn a_start_apart_from_the_billing_day_makes_a_short_first_period() {
        let tenth = interval("1 month", Some("10"));
        assert_eq!(starts(&tenth, date(2024, 1, 5), 3), ["2024-01-05", "2024-01-10", "2024-02-10"]);
        assert_eq!(starts(&tenth, date(2024, 1, 10), 3), ["2024-01-10", "2024-02-10", "2024-03-10"]);
        assert_eq!(starts(&tenth, date(2024, 1, 11), 3), ["2024-01-11", "2024-02-10", "2024-03-10"]);
        assert_eq!(starts(&tenth, date(2023, 12, 11), 3), ["2023-12-11", "2024-01-10", "2024-02-10"]);
    }

    #[test]
    fn the_last_day_is_every_months_last() {
        for day in ["last", "31"] {
            let last = interval("1 month", Some(day));
            assert_eq!(
                starts(&last, date(2024, 1, 31), 5),
                ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30", "2024-05-31"]
            );
            // a short month's last day is the billing day: nothing is short
            assert_eq!(starts(&last, date(2023, 2, 28), 3), ["2023-02-28", "2023-03-31", "2023-04-30"]);
            assert_eq!(starts(&last, date(2023, 2, 27), 3), ["2023-02-27", "2023-02-28", "2023-03-31"]);
        }
        let thirtieth = interval("1 month", Some("30"));
        assert_eq!(starts(&thirtieth, date(2023, 1, 31), 4), ["2023-01-31", "2023-02-28", "2023-03-30", "2023-04-30"]);
    }

    #[test]
    fn longer_intervals_count_from_the_first_billing_day() {
        let quarterly = interval("1 quarter", Some("10"));
        assert_eq!(starts(&quarterly, date(2024, 1, 5), 3), ["2024-01-05", "2024-01-10", "2024-04-10"]);
        assert_eq!(starts(&quarterly, date(2024, 1, 15), 3), ["2024-01-15", "2024-02-10", "2024-05-10"]);
        let yearly = interval("1 year", Some("last"));
        assert_eq!(starts(&yearly, date(2024, 2, 10), 4), ["2024-02-10", "2024-02-29", "2025-02-28", "2026-02-28"]);
        assert_eq!(yearly.start(date(2024, 2, 10), 5).unwrap(), date(2028, 2, 29));
    }

    #[test]
    fn days_and_weeks_have_no_billing_day() {
        for every in ["10 days", "2 weeks"] {
            let wrong = Recurrence::interval(every.parse().unwrap(), Some(BillingDay::LAST)).unwrap_err();
            assert!(wrong.to_string().contains(&format!("`{every}` is made of days")), "{wrong}");
        }
        for wrong in ["0", "32", "-1", "+1", "first", "", "1.0", "Last"] {
            assert!(wrong.parse::<BillingDay>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn cron_periods_begin_on_the_days_of_the_schedule_after_a_short_first_one() {
        let first = Recurrence::Cron("0 0 10 1 * *".parse().unwrap());
        assert_eq!(starts(&first, date(2024, 1, 15), 3), ["2024-01-15", "2024-02-01", "2024-03-01"]);
        assert_eq!(starts(&first, date(2024, 2, 1), 3), ["2024-02-01", "2024-03-01", "2024-04-01"]);
        let anchor = date(2024, 1, 15);
        let holding = first.period_holding(anchor, date(2024, 1, 20)).unwrap();
        assert_eq!((holding.start, holding.end), (anchor, date(2024, 2, 1)));
        assert_eq!(first.number_at(anchor, date(2024, 1, 31)), Some(0));
        assert_eq!(first.number_at(anchor, date(2024, 2, 1)), Some(1));
        assert_eq!(first.number_at(anchor, date(2034, 2, 1)), Some(121));
    }

    #[test]
    fn the_calendar_ends_with_the_year_9999() {
        let monthly = interval("1 month", None);
        assert_eq!(monthly.period_starting(date(9999, 11, 30), date(9999, 12, 30)), None);
        assert_eq!(monthly.start(date(2024, 1, 31), u32::MAX), None);
        assert_eq!(interval("1 month", Some("last")).start(date(2024, 1, 31), u32::MAX), None);
        assert_eq!(Recurrence::Cron("0 0 10 1 * *".parse().unwrap()).start(date(2024, 1, 31), u32::MAX), None);
    }

    fn any_recurrence() -> impl Strategy<Value = Recurrence> {
        let months = prop::sample::select(vec!["1 month", "2 months", "1 quarter", "1 half-year", "1 year", "17 months"]);
        let days = prop::sample::select(vec!["1 day", "10 days", "1 week", "3 weeks", "1000 days"]);
        let crons = prop::sample::select(vec![
            "0 0 10 1 * *",
            "0 30 2 L * *",
            "0 0 9 1,15 * *",
            "0 0 10 31 * *",
            "0 0 10 * * MON",
            "0 0 10 29 2 *",
            "0 0 10 * * FRI#2",
            "0 0 10 15W * *",
            "0 0 10 * * 5L",
            "0 0 10 13 * FRI",
            "0 0 10 1 */3 *",
        ]);
        prop_oneof![
            (months, 0i8..=31).prop_map(|(every, day)| {
                Recurrence::interval(every.parse().unwrap(), (day > 0).then_some(BillingDay(day))).unwrap()
            }),
            days.prop_map(|every| interval(every, None)),
            crons.prop_map(|text| Recurrence::Cron(text.parse().unwrap())),
        ]
    }

    proptest! {
        #[test]
        fn every_question_has_the_same_answer(recurrence in any_recurrence(), day in 0i32..3000, later in 0i32..20_000) {
            let anchor = date(2019, 1, 1) + day.days();
            let target = anchor + later.days();
            let holding = recurrence.period_holding(anchor, target).unwrap();
            prop_assert!(holding.start <= target && target < holding.end, "{holding} holds {target}");
            let n = recurrence.number_at(anchor, target).unwrap();
            prop_assert_eq!(recurrence.start(anchor, n), Some(holding.start));
            prop_assert_eq!(recurrence.start(anchor, n + 1), Some(holding.end));
            prop_assert_eq!(recurrence.period_starting(anchor, holding.start), Some(holding));
            let next = if target == holding.start { holding.start } else { holding.end };
            prop_assert_eq!(recurrence.first_start_from(anchor, target), Some(next));
        }
    }
}
