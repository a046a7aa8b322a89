//! Cron expressions with seconds, of jobs. The scheduler parses them finally; this says early and clearly what is wrong, and
//! when they next ring.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

const FIELDS: [(&str, u32, u32); 6] =
    [("second", 0, 59), ("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7)];

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What is wrong with an expression; `None` if nothing is.
pub fn wrong(text: &str) -> Option<String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let names = FIELDS.map(|(name, ..)| name).join(", ");
        return Some(format!("has {} fields; cron with seconds has 6: {names}", fields.len()));
    }
    fields.iter().zip(FIELDS).find_map(|(field, (name, least, most))| {
        let wrong = field.split(',').any(|item| !item_fits(item, name, least, most));
        wrong.then(|| {
            format!("`{}` is no {name} ({least} to {most}, `*`, `a-b`, `*/n`, lists with commas)", super::keys::shown(field))
        })
    })
}

fn item_fits(item: &str, name: &str, least: u32, most: u32) -> bool {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    if let Some(step) = step
        && !step.parse::<u32>().is_ok_and(|step| (1..=most).contains(&step))
    {
        return false;
    }
    if range == "*" || (range == "?" && name.starts_with("day")) {
        return true;
    }
    let number = |text: &str| value(text, name, least).filter(|number| (least..=most).contains(number));
    match range.split_once('-') {
        Some((from, to)) => matches!((number(from), number(to)), (Some(from), Some(to)) if from <= to),
        None => number(range).is_some(),
    }
}

/// The first instant after `after` at which an expression rings, in UTC; `None` for an expression that is wrong, or that does not
/// ring within eight years (30 February).
pub fn next(text: &str, after: Timestamp) -> Option<Timestamp> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [seconds, minutes, hours, days, months, weekdays] = *fields.as_slice() else { return None };
    let [of_second, of_minute, of_hour, of_month, of_year, of_week] = FIELDS;
    let numbers = |field, (name, least, most): (&str, u32, u32)| numbers(field, name, least, most);
    let (seconds, minutes, hours) = (numbers(seconds, of_second)?, numbers(minutes, of_minute)?, numbers(hours, of_hour)?);
    let any_day = |field: &str| field.starts_with(['*', '?']);
    // as cron has it: with both given, a day that fits either
    let either = !any_day(days) && !any_day(weekdays);
    let (days, months, weekdays) = (numbers(days, of_month)?, numbers(months, of_year)?, numbers(weekdays, of_week)?);
    let fits = |day: Date| {
        let weekday = u32::from(day.weekday().to_sunday_zero_offset().unsigned_abs());
        let by_month = days.contains(&u32::from(day.day().unsigned_abs()));
        let by_week = weekdays.contains(&weekday) || (weekday == 0 && weekdays.contains(&7));
        let by_day = if either { by_month || by_week } else { by_month && by_week };
        months.contains(&u32::from(day.month().unsigned_abs())) && by_day
    };
    let start = after.to_zoned(TimeZone::UTC).datetime();
    let mut day = start.date();
    for _ in 0..8 * 366 {
        if fits(day) {
            let from = if day == start.date() { Some(start.time()) } else { None };
            if let Some(time) = first_time(&hours, &minutes, &seconds, from) {
                return day.to_datetime(time).to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp());
            }
        }
        day = day.tomorrow().ok()?;
    }
    None
}

/// The first time of day that fits, after `from` if given.
fn first_time(hours: &[u32], minutes: &[u32], seconds: &[u32], from: Option<Time>) -> Option<Time> {
    let small = |number: u32| i8::try_from(number).unwrap_or(0);
    for hour in hours.iter().filter(|hour| from.is_none_or(|from| small(**hour) >= from.hour())) {
        for minute in minutes {
            for second in seconds {
                let time = Time::new(small(*hour), small(*minute), small(*second), 0).ok()?;
                if from.is_none_or(|from| time > from) {
                    return Some(time);
                }
            }
        }
    }
    None
}

/// The numbers that a field stands for, in order; `None` if it is wrong.
fn numbers(field: &str, name: &str, least: u32, most: u32) -> Option<Vec<u32>> {
    if field.split(',').any(|item| !item_fits(item, name, least, most)) {
        return None;
    }
    let fits = |number: &u32| {
        field.split(',').any(|item| {
            let (range, step) = item.split_once('/').map_or((item, 1), |(range, step)| (range, step.parse().unwrap_or(1)));
            let (from, to) = match range.split_once('-') {
                Some((from, to)) => (value(from, name, least), value(to, name, least)),
                None if range == "*" || range == "?" => (Some(least), Some(most)),
                // `5/10` begins at 5 and has no end
                None if item.contains('/') => (value(range, name, least), Some(most)),
                None => (value(range, name, least), value(range, name, least)),
            };
            matches!((from, to), (Some(from), Some(to)) if (from..=to).contains(number) && (number - from).is_multiple_of(step))
        })
    };
    Some((least..=most).filter(fits).collect())
}

/// A number, or the name of a month or a day.
fn value(text: &str, name: &str, least: u32) -> Option<u32> {
    let names: &[&str] = match name {
        "month" => &MONTHS,
        "day of week" => &DAYS,
        _ => &[],
    };
    let by_name = names.iter().position(|known| text.eq_ignore_ascii_case(known)).and_then(|at| u32::try_from(at).ok());
    by_name.map(|at| at + least).or_else(|| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_with_seconds_pass() {
        for text in ["*/10 * * * * *", "0 17 * * * *", "0 0 4 1,15 * ?", "0 0 9-18/2 * JAN-MAR mon-fri"] {
            assert_eq!(wrong(text), None, "{text}");
        }
    }

    #[test]
    fn the_next_ring_is_found() {
        let after: Timestamp = "2026-11-30T23:59:30Z".parse().unwrap();
        for (text, at) in [
            ("*/10 * * * * *", "2026-11-30T23:59:40Z"),
            ("30 * * * * *", "2026-12-01T00:00:30Z"),
            ("0 17 * * * *", "2026-12-01T00:17:00Z"),
            ("0 0 4 1,15 * ?", "2026-12-01T04:00:00Z"),
            ("0 0 9-18/4 * JAN-MAR mon-fri", "2027-01-01T09:00:00Z"),
            ("0 0 0 13 * FRI", "2026-12-04T00:00:00Z"),
            ("0 5/20 12 * * 7", "2026-12-06T12:05:00Z"),
            ("0 0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ] {
            assert_eq!(next(text, after).map(|at| at.to_string()).as_deref(), Some(at), "{text}");
        }
        assert_eq!(next("0 0 0 30 2 *", after), None);
        assert_eq!(next("every day", after), None);
    }

    #[test]
    fn the_wrong_field_is_named() {
        assert!(wrong("*/10 * * * *").unwrap().contains("has 5 fields"));
        for (text, field) in [
            ("60 * * * * *", "second"),
            ("0 0 24 * * *", "hour"),
            ("0 0 0 0 * *", "day of month"),
            ("0 */0 * * * *", "minute"),
            ("0 0 0 * x *", "month"),
        ] {
            assert!(wrong(text).unwrap().contains(&format!("no {field}")), "{text}");
        }
    }
}
