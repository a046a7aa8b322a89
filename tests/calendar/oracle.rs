//! What is right, found slowly: days one after the other, and instants by asking what clocks showed.

use std::sync::LazyLock;

use jiff::civil::{Date, DateTime, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// Issue 3's zones, and others with rules that break code: changes of 30 minutes, at midnight, of a whole day, and offsets of
/// 45 minutes.
pub const ZONES: [&str; 16] = [
    "Asia/Seoul",
    "America/New_York",
    "Europe/London",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Kathmandu",
    "Pacific/Chatham",
    "America/St_Johns",
    "Asia/Tehran",
    "America/Santiago",
    "Europe/Dublin",
    "Pacific/Kiritimati",
    "America/Asuncion",
];

/// How periods of a naive calendar follow each other.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    Days(i32),
    /// Every so many months on the anchor's day.
    Months(i32),
    /// Every so many months on this day, from its first coming on.
    OnDay(i32, i8),
}

/// Every day from 2023 to 2030 with the length of its month, made once: there are many anchors.
static DAYS: LazyLock<Vec<(Date, i8)>> = LazyLock::new(|| {
    let days = date(2023, 1, 1).series(1.day()).take_while(|day| *day < date(2031, 1, 1));
    days.map(|day| (day, day.days_in_month())).collect()
});

/// The first starts of a calendar, `until` excluded, found by looking at every day.
pub fn starts(anchor: Date, rule: Rule, until: Date) -> Vec<Date> {
    let mut found = vec![anchor];
    // days, or month ends, since the last one that counted
    let mut passed = 0;
    // the billing day's first coming starts the count; without a billing day that is the anchor
    let mut counting = match rule {
        Rule::OnDay(_, day) => anchor.day() == day.min(anchor.days_in_month()),
        _ => true,
    };
    let first = DAYS.binary_search_by_key(&anchor, |(day, _)| *day).unwrap() + 1;
    for (day, length) in DAYS[first..].iter().take_while(|(day, _)| *day < until) {
        let comes = match rule {
            Rule::Days(_) => true,
            Rule::Months(_) => day.day() == anchor.day().min(*length),
            Rule::OnDay(_, on) => day.day() == on.min(*length),
        };
        let (Rule::Days(every) | Rule::Months(every) | Rule::OnDay(every, _)) = rule;
        if comes {
            passed += 1;
            if !counting || passed == every {
                found.push(*day);
                (passed, counting) = (0, true);
            }
        }
    }
    found
}

/// The first instant at which clocks show a local time; if they never do, the first at which they show a later one.
pub fn instant(local: DateTime, zone: &TimeZone) -> Timestamp {
    let utc = local.to_zoned(TimeZone::UTC).unwrap().timestamp();
    let hours = SignedDuration::from_hours;
    let mut offsets: Vec<_> = (-3..=3).map(|step| zone.to_offset(utc + hours(step * 12))).collect();
    offsets.sort();
    offsets.dedup();
    let candidates = offsets.iter().filter_map(|offset| {
        let at = offset.to_timestamp(local).unwrap();
        (zone.to_offset(at) == *offset).then_some(at)
    });
    candidates.min().unwrap_or_else(|| {
        let mut at = offsets.last().unwrap().to_timestamp(local).unwrap();
        while zone.to_datetime(at) < local {
            at += 1.minute();
        }
        at
    })
}
