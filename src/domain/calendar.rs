//! The calendar of a subscription: its periods by number, and the instants at which they fall due.
//!
//! The engine asks [`due_at`] for one period at a time; `rebilld calendar` lists many. Both say the same, because there is
//! one way to ask.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::holidays::{Banking, Holidays};
use super::period::{Period, instant};
use super::recurrence::Recurrence;

/// When a period that starts on `start` falls due: on that day or a banking day near it, at the local time of day.
/// `None` beyond the calendar's ends.
pub fn due_at(start: Date, time: Time, zone: &TimeZone, banking: Banking, holidays: &Holidays) -> Option<Timestamp> {
    instant(banking.shift(start, holidays)?, time, zone)
}

/// The day on which a trial ends: the first one that is charged for, and the one from which periods are counted if the trial
/// moves the anchor.
pub fn trial_end(anchor: Date, days: u32) -> Option<Date> {
    anchor.checked_add(Span::new().try_days(i64::from(days)).ok()?).ok()
}

/// Everything that decides on the dates of one subscription.
#[derive(Debug, Clone)]
pub struct Calendar<'a> {
    pub recurrence: Recurrence,
    pub anchor: Date,
    pub time: Time,
    pub zone: TimeZone,
    pub banking: Banking,
    pub holidays: &'a Holidays,
}

/// One line of a calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Counted from the subscription's first period, which is 0.
    pub n: u32,
    pub period: Period,
    pub due_at: Timestamp,
}

/// From where a calendar is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Number(u32),
    /// The period that holds this date; the first one, if the date is before it.
    Date(Date),
}

/// Periods that would end, or fall due, after the year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the calendar ends with the year 9999, before that many periods: ask for fewer, or for earlier ones")]
pub struct OffTheCalendar;

impl Calendar<'_> {
    /// `count` periods in their order.
    ///
    /// # Errors
    /// All of them have to be in the calendar; that is known before the first one is given.
    pub fn entries(&self, from: From, count: u32) -> Result<impl Iterator<Item = Entry> + '_, OffTheCalendar> {
        let first = match from {
            From::Number(n) => n,
            From::Date(date) => self.recurrence.number_at(self.anchor, date.max(self.anchor)).ok_or(OffTheCalendar)?,
        };
        let mut start = None;
        if let Some(more) = count.checked_sub(1) {
            let last = first.checked_add(more).ok_or(OffTheCalendar)?;
            // the last one first: what is earlier is in the calendar too
            let last = self.recurrence.start(self.anchor, last).and_then(|start| self.entry(last, start));
            last.ok_or(OffTheCalendar)?;
            start = self.recurrence.start(self.anchor, first);
        }
        Ok((0..count).map_while(move |offset| {
            let entry = self.entry(first + offset, start?)?;
            start = Some(entry.period.end);
            Some(entry)
        }))
    }

    fn entry(&self, n: u32, start: Date) -> Option<Entry> {
        let period = self.recurrence.period_starting(self.anchor, start)?;
        Some(Entry { n, period, due_at: due_at(start, self.time, &self.zone, self.banking, self.holidays)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::{date, time};

    fn calendar(recurrence: Recurrence, anchor: Date) -> Calendar<'static> {
        let zone = TimeZone::get("Asia/Seoul").unwrap();
        Calendar { recurrence, anchor, time: time(10, 0, 0, 0), zone, banking: Banking::AsIs, holidays: Holidays::korea() }
    }

    fn monthly(anchor: Date) -> Calendar<'static> {
        calendar(Recurrence::interval("1 month".parse().unwrap(), None).unwrap(), anchor)
    }

    fn listed(calendar: &Calendar<'_>, from: From, count: u32) -> Vec<String> {
        let entries = calendar.entries(from, count).unwrap();
        entries.map(|entry| format!("{} {} {}", entry.n, entry.period, entry.due_at)).collect()
    }

    #[test]
    fn periods_are_listed_from_a_number_or_from_the_date_that_they_hold() {
        let monthly = monthly(date(2024, 1, 31));
        let expected = ["1 2024-02-29..2024-03-31 2024-02-29T01:00:00Z", "2 2024-03-31..2024-04-30 2024-03-31T01:00:00Z"];
        assert_eq!(listed(&monthly, From::Number(1), 2), expected);
        for day in [date(2024, 2, 29), date(2024, 3, 30)] {
            assert_eq!(listed(&monthly, From::Date(day), 2), expected);
        }
        assert_eq!(listed(&monthly, From::Date(date(2023, 1, 1)), 1), ["0 2024-01-31..2024-02-29 2024-01-31T01:00:00Z"]);
        assert_eq!(listed(&monthly, From::Number(7), 0), Vec::<String>::new());
    }

    #[test]
    fn a_banking_day_moves_the_charge_and_not_the_period() {
        let mut monthly = monthly(date(2025, 9, 6));
        monthly.banking = Banking::Next;
        assert_eq!(
            listed(&monthly, From::Number(0), 2),
            ["0 2025-09-06..2025-10-06 2025-09-08T01:00:00Z", "1 2025-10-06..2025-11-06 2025-10-10T01:00:00Z"]
        );
        monthly.banking = Banking::Previous;
        assert_eq!(
            listed(&monthly, From::Number(0), 2),
            ["0 2025-09-06..2025-10-06 2025-09-05T01:00:00Z", "1 2025-10-06..2025-11-06 2025-10-02T01:00:00Z"]
        );
    }

    #[test]
    fn more_periods_than_the_calendar_has_are_refused_at_once() {
        let monthly = monthly(date(9999, 10, 1));
        assert_eq!(monthly.entries(From::Number(0), 2).unwrap().count(), 2);
        for (from, count) in [(From::Number(0), 3), (From::Number(0), u32::MAX), (From::Number(u32::MAX), 2)] {
            assert!(monthly.entries(from, count).is_err());
        }
        assert!(monthly.entries(From::Date(date(9999, 12, 31)), 1).is_err());
    }

    #[test]
    fn a_trial_ends_on_the_day_after_its_last() {
        assert_eq!(trial_end(date(2024, 2, 16), 14), Some(date(2024, 3, 1)));
        assert_eq!(trial_end(date(2024, 2, 16), 0), Some(date(2024, 2, 16)));
        assert_eq!(trial_end(date(2024, 2, 16), u32::MAX), None);
    }
}
