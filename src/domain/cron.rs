//! Cron expressions of plans: on which local dates a period starts, and at which time of day it is charged.
//!
//! The `croner` crate reads the expression and says which days match. Its own search works on instants, where clock
//! changes make it skip or repeat; here days are civil dates, and [`super::period::instant`] alone makes instants of them.

use std::fmt;
use std::str::FromStr;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{Date, Time};

use super::period::month_index;

/// `second minute hour day month weekday`, once a day at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronSchedule {
    text: String,
    /// Bit `month`.
    months: u16,
    /// Bit `day`, by the month's length (28 to 31) and the weekday of its first day (Monday first): nothing else about a
    /// month decides which of its days match.
    days: [[u32; 7]; 4],
    time: Time,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a schedule: {why}")]
pub struct NotASchedule {
    text: String,
    why: String,
}

/// The fields, and the letters that each may have besides digits and `* , - /`.
const FIELDS: [(&str, &[&str]); 6] = [
    ("second", &[]),
    ("minute", &[]),
    ("hour", &[]),
    ("day of month", &["L", "W"]),
    ("month", &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]),
    ("day of week", &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L"]),
];

impl CronSchedule {
    /// The time of day of every occurrence.
    pub fn time(&self) -> Time {
        self.time
    }

    /// The first matching date on or after `date`; `None` beyond the year 9999.
    pub fn first_from(&self, date: Date) -> Option<Date> {
        let mut days = self.days_in(month_index(date))? & on_or_after(date);
        let mut month = month_index(date);
        while days == 0 {
            month += 1;
            days = self.days_in(month)?;
        }
        day_of(month, days.trailing_zeros())
    }

    /// The last matching date until `date`, which may be it, and not before `floor`.
    pub fn last_until(&self, date: Date, floor: Date) -> Option<Date> {
        let mut month = month_index(date);
        let mut days = self.days_in(month)? & !(on_or_after(date) << 1);
        while days == 0 && month > month_index(floor) {
            month -= 1;
            days = self.days_in(month)?;
        }
        let last = day_of(month, 31u32.checked_sub(days.leading_zeros())?)?;
        (last >= floor).then_some(last)
    }

    /// The matching date that comes `n`th, counted from 0, on or after `date`.
    pub fn nth_from(&self, date: Date, n: u32) -> Option<Date> {
        let mut month = month_index(date);
        let mut days = self.days_in(month)? & on_or_after(date);
        let mut left = n;
        while days.count_ones() <= left {
            left -= days.count_ones();
            month += 1;
            days = self.days_in(month)?;
        }
        for _ in 0..left {
            days &= days - 1;
        }
        day_of(month, days.trailing_zeros())
    }

    /// How many matching dates there are after `after`, up to and with `until`.
    pub fn count(&self, after: Date, until: Date) -> u32 {
        let (from, to) = (month_index(after), month_index(until));
        let months = (from..=to).map(|month| {
            let mut days = self.days_in(month).unwrap_or(0);
            if month == from {
                days &= on_or_after(after) << 1;
            }
            if month == to {
                days &= !(on_or_after(until) << 1);
            }
            days.count_ones()
        });
        months.sum()
    }

    /// The matching days of a month; `None` beyond the year 9999.
    fn days_in(&self, month: i32) -> Option<u32> {
        let first = day_of(month, 1)?;
        let matches = self.months & (1 << first.month()) != 0;
        Some(if matches { self.days[shape(first).0][shape(first).1] } else { 0 })
    }
}

/// What decides which days of a month match: its length, and the weekday on which it begins.
fn shape(first: Date) -> (usize, usize) {
    let length = usize::try_from(first.days_in_month() - 28).unwrap_or(0);
    (length, usize::try_from(first.weekday().to_monday_zero_offset()).unwrap_or(0))
}

fn day_of(month: i32, day: u32) -> Option<Date> {
    let year = i16::try_from(month.div_euclid(12)).ok()?;
    Date::new(year, i8::try_from(month.rem_euclid(12) + 1).ok()?, i8::try_from(day).ok()?).ok()
}

/// The bits of the days of a month from this one on.
fn on_or_after(date: Date) -> u32 {
    u32::MAX << date.day()
}

impl FromStr for CronSchedule {
    type Err = NotASchedule;

    fn from_str(text: &str) -> Result<Self, NotASchedule> {
        let wrong = |why: String| NotASchedule { text: text.chars().take(60).collect(), why };
        let upper = text.to_uppercase();
        let fields: Vec<&str> = upper.split_whitespace().collect();
        if fields.len() != FIELDS.len() {
            let names = FIELDS.map(|(name, _)| name).join(", ");
            let remedy = if fields.len() == 5 { format!(" (`0 {}`)", text.trim()) } else { String::new() };
            return Err(wrong(format!("it has {} fields, and needs 6{remedy}: {names}", fields.len())));
        }
        for (field, (name, letters)) in fields.iter().zip(FIELDS) {
            if !is_spelled(field, name, letters) {
                return Err(wrong(format!("`{field}` is no {name}")));
            }
        }
        // Sunday is 0 and 7; `croner` knows its last one by 0 alone
        let weekdays: Vec<&str> = fields[5].split(',').map(|item| if item == "7L" { "0L" } else { item }).collect();
        let spelled = format!("{} {}", fields[..5].join(" "), weekdays.join(","));
        let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build();
        let cron = parser.parse(&spelled).map_err(|error| wrong(error.to_string()))?;
        let time = time_of(&cron).map_err(|times| {
            wrong(format!(
                "it comes {times} times a day, and a plan charges once a day at most: name one second, one minute and one hour"
            ))
        })?;
        let schedule = Self {
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            months: months_of(&cron),
            days: days_of(&cron),
            time,
        };
        match schedule.first_from(Date::constant(2000, 1, 1)) {
            Some(_) => Ok(schedule),
            None => Err(wrong("no date ever matches it".to_owned())),
        }
    }
}

/// Whether a field holds only what belongs there. `croner` takes a name for its number wherever it stands, even in the
/// wrong field, and skips what is empty.
fn is_spelled(field: &str, name: &str, letters: &[&str]) -> bool {
    let is_day = name.starts_with("day");
    if field == "*" || (field == "?" && is_day) {
        return true;
    }
    field.split(',').all(|item| {
        let (item, nth) = match item.split_once('#') {
            Some((item, nth)) if name == "day of week" => (item, nth.parse::<u8>().is_ok_and(|nth| (1..=5).contains(&nth))),
            _ => (item, true),
        };
        let atoms = item.split(['-', '/']).all(|atom| {
            let digits = |text: &str| (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            let number_or_name = |text: &str| digits(text) || (text.len() == 3 && letters.contains(&text));
            let special = |letter: char| {
                letters.contains(&letter.to_string().as_str()) && atom.strip_suffix(letter).is_some_and(number_or_name)
            };
            let last = atom == "L" && name == "day of month" && item == "L";
            atom == "*" || number_or_name(atom) || last || (item == atom && (special('L') || special('W')) && atom != "L")
        });
        nth && atoms
    })
}

/// The one time of day, or how many there are.
fn time_of(cron: &Cron) -> Result<Time, usize> {
    let pattern = &cron.pattern;
    let hours: Vec<i8> =
        (0..24u8).filter(|hour| pattern.hour_match(u32::from(*hour)).unwrap_or(false)).map(|hour| hour as i8).collect();
    let minutes: Vec<i8> =
        (0..60u8).filter(|at| pattern.minute_match(u32::from(*at)).unwrap_or(false)).map(|at| at as i8).collect();
    let seconds: Vec<i8> =
        (0..60u8).filter(|at| pattern.second_match(u32::from(*at)).unwrap_or(false)).map(|at| at as i8).collect();
    match (hours.as_slice(), minutes.as_slice(), seconds.as_slice()) {
        ([hour], [minute], [second]) => Time::new(*hour, *minute, *second, 0).map_err(|_| 0),
        _ => Err(hours.len() * minutes.len() * seconds.len()),
    }
}

fn months_of(cron: &Cron) -> u16 {
    let months = (1..=12u32).filter(|month| cron.pattern.month_match(*month).unwrap_or(false));
    months.fold(0, |months, month| months | 1 << month)
}

/// Which days match in a month of each shape, asked of any month that has it.
fn days_of(cron: &Cron) -> [[u32; 7]; 4] {
    let mut days = [[0; 7]; 4];
    let mut asked = [[false; 7]; 4];
    // 28 years have months of every shape
    for first in (2000 * 12..2028 * 12).filter_map(|month| day_of(month, 1)) {
        let (length, weekday) = shape(first);
        if !std::mem::replace(&mut asked[length][weekday], true) {
            let (year, month) = (i32::from(first.year()), u32::from(first.month().unsigned_abs()));
            let matching = (1..=u32::from(first.days_in_month().unsigned_abs()))
                .filter(|day| cron.pattern.day_match(year, month, *day).unwrap_or(false));
            days[length][weekday] = matching.fold(0, |days, day| days | 1 << day);
        }
    }
    days
}

impl fmt::Display for CronSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::{date, time};

    fn dates(text: &str, from: Date, count: u32) -> Vec<String> {
        let schedule: CronSchedule = text.parse().unwrap();
        (0..count).map(|n| schedule.nth_from(from, n).unwrap().to_string()).collect()
    }

    #[test]
    fn days_of_the_month_lists_ranges_and_steps_match() {
        let from = date(2024, 1, 15);
        for (text, expected) in [
            ("0 0 10 1 * *", ["2024-02-01", "2024-03-01", "2024-04-01"]),
            ("0 0 10 L * ?", ["2024-01-31", "2024-02-29", "2024-03-31"]),
            ("0 0 10 31 * *", ["2024-01-31", "2024-03-31", "2024-05-31"]),
            ("0 0 10 1,15 * *", ["2024-01-15", "2024-02-01", "2024-02-15"]),
            ("0 0 10 1-3 FEB *", ["2024-02-01", "2024-02-02", "2024-02-03"]),
            ("0 0 10 1 */3 *", ["2024-04-01", "2024-07-01", "2024-10-01"]),
            ("0 0 10 29 2 *", ["2024-02-29", "2028-02-29", "2032-02-29"]),
            ("0 0 10 15W 6 *", ["2024-06-14", "2025-06-16", "2026-06-15"]),
        ] {
            assert_eq!(dates(text, from, 3), expected, "{text}");
        }
    }

    #[test]
    fn weekdays_match_by_name_number_and_place_in_the_month() {
        let from = date(2024, 1, 15);
        for (text, expected) in [
            ("0 0 10 * * MON", ["2024-01-15", "2024-01-22", "2024-01-29"]),
            ("0 0 10 ? * sat-sun", ["2024-01-20", "2024-01-21", "2024-01-27"]),
            ("0 0 10 * * 7", ["2024-01-21", "2024-01-28", "2024-02-04"]),
            ("0 0 10 * * FRI#2", ["2024-02-09", "2024-03-08", "2024-04-12"]),
            ("0 0 10 * * 5L", ["2024-01-26", "2024-02-23", "2024-03-29"]),
            ("0 0 10 * * 7L", ["2024-01-28", "2024-02-25", "2024-03-31"]),
            // both given: either, as cron has it
            ("0 0 10 18 * MON", ["2024-01-15", "2024-01-18", "2024-01-22"]),
        ] {
            assert_eq!(dates(text, from, 3), expected, "{text}");
        }
    }

    #[test]
    fn the_time_of_day_is_the_one_that_is_named() {
        let schedule: CronSchedule = " 30  15 2 L * *".parse().unwrap();
        assert_eq!((schedule.time(), schedule.to_string()), (time(2, 15, 30, 0), "30 15 2 L * *".to_owned()));
    }

    #[test]
    fn what_cannot_be_a_plan_is_refused_with_its_reason() {
        for (text, why) in [
            ("0 10 1 * *", "it has 5 fields, and needs 6 (`0 0 10 1 * *`)"),
            ("", "it has 0 fields"),
            ("0 0 10 1 * * 2026", "it has 7 fields"),
            ("@monthly", "it has 1 fields"),
            ("0 0 10,14 1 * *", "it comes 2 times a day"),
            ("* * * * * *", "it comes 86400 times a day"),
            ("0 */15 10 1 * *", "it comes 4 times a day"),
            ("0 0 10 31 2 *", "no date ever matches it"),
            ("0 0 10 30 FEB ?", "no date ever matches it"),
            ("0 0 24 1 * *", "out of bounds"),
            ("0 0 10 32 * *", "out of bounds"),
            ("0 0 10 0 * *", "out of bounds"),
            ("0 0 10 5-1 * *", "out of bounds"),
            ("0 0 10 JAN * *", "`JAN` is no day of month"),
            ("0 0 10 1 MON *", "`MON` is no month"),
            ("0 0 10 1,,2 * *", "`1,,2` is no day of month"),
            ("0 0 10 * * L", "`L` is no day of week"),
            ("0 0 10 * * +FRI", "`+FRI` is no day of week"),
            ("0 0 10 * * FRI#6", "`FRI#6` is no day of week"),
            ("0 0 L 1 * *", "`L` is no hour"),
            ("x x x x x x", "`X` is no second"),
        ] {
            let wrong = text.parse::<CronSchedule>().unwrap_err().to_string();
            assert!(wrong.contains(why), "{text}: {wrong}");
        }
    }

    #[test]
    fn dates_are_found_backwards_and_counted() {
        let schedule: CronSchedule = "0 0 10 31 * *".parse().unwrap();
        let anchor = date(2024, 1, 1);
        assert_eq!(schedule.last_until(date(2024, 7, 30), anchor), Some(date(2024, 5, 31)));
        assert_eq!(schedule.last_until(date(2024, 7, 31), anchor), Some(date(2024, 7, 31)));
        assert_eq!(schedule.last_until(date(2024, 1, 30), anchor), None);
        assert_eq!(schedule.count(date(2024, 1, 31), date(2024, 12, 31)), 6);
        assert_eq!(schedule.count(date(2024, 1, 30), date(2024, 12, 30)), 6);
        assert_eq!(schedule.count(date(2024, 1, 31), date(2024, 1, 31)), 0);
    }
}
