//! Every anchor day of four years, five years of months: no gap, no overlap, no drift, and the day comes back.

use jiff::ToSpan;
use jiff::civil::{Date, date};
use rebilld::domain::recurrence::Recurrence;

use super::oracle::{Rule, starts};

const MONTHS: usize = 60;

/// Every day of two years, one of them a leap year: every day of every month.
fn anchors() -> impl Iterator<Item = Date> {
    date(2023, 1, 1).series(1.day()).take_while(|day| *day < date(2025, 1, 1))
}

fn interval(every: &str, day: Option<&str>) -> Recurrence {
    Recurrence::interval(every.parse().unwrap(), day.map(|day| day.parse().unwrap())).unwrap()
}

#[test]
fn every_anchor_gives_the_periods_that_one_finds_by_looking_at_every_day() {
    let cases = [
        (interval("1 month", None), Rule::Months(1)),
        (interval("1 month", Some("1")), Rule::OnDay(1, 1)),
        (interval("1 month", Some("10")), Rule::OnDay(1, 10)),
        (interval("1 month", Some("28")), Rule::OnDay(1, 28)),
        (interval("1 month", Some("29")), Rule::OnDay(1, 29)),
        (interval("1 month", Some("30")), Rule::OnDay(1, 30)),
        (interval("1 month", Some("31")), Rule::OnDay(1, 31)),
        (interval("1 month", Some("last")), Rule::OnDay(1, 31)),
        (interval("1 quarter", None), Rule::Months(3)),
        (interval("1 quarter", Some("15")), Rule::OnDay(3, 15)),
        (interval("1 half-year", None), Rule::Months(6)),
        (interval("1 year", None), Rule::Months(12)),
        (interval("1 year", Some("last")), Rule::OnDay(12, 31)),
        (interval("1 day", None), Rule::Days(1)),
        (interval("1 week", None), Rule::Days(7)),
        (interval("10 days", None), Rule::Days(10)),
    ];
    for anchor in anchors() {
        // days do not care where in a month they start: fewer anchors are enough
        for (recurrence, rule) in cases.iter().filter(|(_, rule)| !matches!(rule, Rule::Days(_)) || anchor.day() % 10 == 1) {
            let expected = starts(anchor, *rule, anchor + 61.months());
            for (n, pair) in expected.windows(2).enumerate() {
                let n = u32::try_from(n).unwrap();
                let period = recurrence.period_starting(anchor, pair[0]).unwrap();
                assert_eq!((period.start, period.end), (pair[0], pair[1]), "{recurrence} from {anchor}, period {n}");
                assert_eq!(recurrence.start(anchor, n), Some(pair[0]), "{recurrence} from {anchor}, period {n}");
                let last = pair[1].yesterday().unwrap();
                assert_eq!(recurrence.number_at(anchor, last), Some(n), "{recurrence} from {anchor} on {last}");
                assert_eq!(recurrence.period_holding(anchor, last), Some(period), "{recurrence} from {anchor} on {last}");
            }
        }
    }
}

#[test]
fn months_never_drift_and_the_day_is_restored_after_a_short_one() {
    let monthly = interval("1 month", None);
    for anchor in anchors() {
        let mut start = anchor;
        for n in 0..MONTHS {
            // no gap and no overlap: each period starts where the one before ends
            let period = monthly.period_starting(anchor, start).unwrap();
            assert!(period.start == start && period.end > start);
            // no drift: always the anchor's day, or the last day of a month that has not got it
            assert_eq!(start.day(), anchor.day().min(start.days_in_month()), "period {n} from {anchor}");
            let months = (start.year() - anchor.year()) * 12 + i16::from(start.month()) - i16::from(anchor.month());
            assert_eq!(usize::try_from(months).unwrap(), n);
            start = period.end;
        }
    }
}

#[test]
fn a_distant_anchor_costs_no_more_than_a_near_one() {
    // were boundaries walked to, this would be years of days for each of a hundred thousand questions
    let daily = interval("1 day", None);
    let monthly = interval("1 month", Some("31"));
    let anchor = date(1, 1, 1);
    for offset in 0..100_000 {
        let day = date(9700, 1, 1) + offset.days();
        assert_eq!(daily.period_holding(anchor, day).unwrap().start, day);
        assert!(monthly.number_at(anchor, day).unwrap() > 116_000);
    }
}

#[test]
fn cron_dates_are_those_that_one_finds_by_looking_at_every_day() {
    type Matches = fn(Date) -> bool;
    let cases: [(&str, Matches); 6] = [
        ("0 0 10 1 * *", |day| day.day() == 1),
        ("0 0 10 L * *", |day| day.day() == day.days_in_month()),
        ("0 0 10 31 * *", |day| day.day() == 31),
        ("0 0 10 1,15 3-9 *", |day| [1, 15].contains(&day.day()) && (3..=9).contains(&day.month())),
        ("0 0 10 * * MON#1", |day| day.weekday() == jiff::civil::Weekday::Monday && day.day() <= 7),
        ("0 0 10 29 2 *", |day| (day.month(), day.day()) == (2, 29)),
    ];
    for (text, matches) in cases {
        let recurrence = Recurrence::Cron(text.parse().unwrap());
        for anchor in anchors().step_by(7) {
            let after = (1..).map(|offset| anchor + offset.days()).filter(|day| matches(*day));
            let expected: Vec<Date> = [anchor].into_iter().chain(after).take(12).collect();
            let found: Vec<Date> = (0..12).map(|n| recurrence.start(anchor, n).unwrap()).collect();
            assert_eq!(found, expected, "{text} from {anchor}");
            for (n, pair) in expected.windows(2).enumerate() {
                let last = pair[1].yesterday().unwrap();
                let period = recurrence.period_holding(anchor, last).unwrap();
                assert_eq!((period.start, period.end), (pair[0], pair[1]), "{text} from {anchor}");
                for day in [pair[0], last] {
                    assert_eq!(recurrence.number_at(anchor, day), u32::try_from(n).ok(), "{text} from {anchor} on {day}");
                }
            }
        }
    }
}
