//! Local dates and times become instants as clocks show them, in zones whose rules are hard.

use jiff::ToSpan;
use jiff::civil::{Time, date, time};
use jiff::tz::TimeZone;
use rebilld::domain::calendar::{Calendar, From};
use rebilld::domain::holidays::{Banking, Holidays};
use rebilld::domain::period::instant;
use rebilld::domain::recurrence::Recurrence;

use super::oracle::{self, ZONES};

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

#[test]
fn every_day_of_twenty_years_has_the_instant_that_clocks_showed() {
    let times: [Time; 8] = [
        time(0, 0, 0, 0),
        time(0, 30, 0, 0),
        time(1, 30, 0, 0),
        time(2, 0, 0, 0),
        time(2, 15, 0, 0),
        time(2, 45, 0, 0),
        time(10, 0, 0, 0),
        time(23, 59, 0, 0),
    ];
    for name in ZONES {
        let zone = zone(name);
        for day in date(2008, 1, 1).series(1.day()).take_while(|day| *day < date(2028, 1, 1)) {
            for time in times {
                let expected = oracle::instant(day.to_datetime(time), &zone);
                assert_eq!(instant(day, time, &zone), Some(expected), "{day} {time} in {name}");
            }
        }
    }
}

#[test]
fn what_is_known_of_hard_changes_holds() {
    for (name, day, at, expected) in [
        // spring and autumn, the removed hour and the doubled one
        ("America/New_York", date(2024, 3, 10), time(2, 30, 0, 0), "2024-03-10T07:00:00Z"),
        ("America/New_York", date(2024, 11, 3), time(1, 30, 0, 0), "2024-11-03T05:30:00Z"),
        ("Europe/London", date(2024, 3, 31), time(1, 30, 0, 0), "2024-03-31T01:00:00Z"),
        ("Europe/London", date(2024, 10, 27), time(1, 30, 0, 0), "2024-10-27T00:30:00Z"),
        // half an hour
        ("Australia/Lord_Howe", date(2024, 10, 6), time(2, 15, 0, 0), "2024-10-05T15:30:00Z"),
        ("Australia/Lord_Howe", date(2024, 4, 7), time(1, 45, 0, 0), "2024-04-06T14:45:00Z"),
        // midnight itself was removed
        ("America/Sao_Paulo", date(2018, 11, 4), time(0, 30, 0, 0), "2018-11-04T03:00:00Z"),
        ("Africa/Cairo", date(2024, 4, 26), time(0, 30, 0, 0), "2024-04-25T22:00:00Z"),
        // the whole day was removed: the next one begins at that instant
        ("Pacific/Apia", date(2011, 12, 30), time(10, 0, 0, 0), "2011-12-30T10:00:00Z"),
        ("Asia/Kolkata", date(2024, 2, 29), time(0, 0, 0, 0), "2024-02-28T18:30:00Z"),
    ] {
        assert_eq!(instant(day, at, &zone(name)).unwrap().to_string(), expected, "{day} {at} in {name}");
    }
}

#[test]
fn in_every_zone_each_period_falls_due_on_its_own_day_and_later_than_the_one_before() {
    for name in ZONES {
        for anchor in date(2023, 1, 1).series(1.day()).take_while(|day| *day < date(2025, 1, 1)) {
            let calendar = Calendar {
                recurrence: Recurrence::interval("1 month".parse().unwrap(), None).unwrap(),
                anchor,
                time: time(2, 30, 0, 0),
                zone: zone(name),
                banking: Banking::AsIs,
                holidays: Holidays::korea(),
            };
            let mut end = anchor;
            let mut before = None;
            for entry in calendar.entries(From::Number(0), 60).unwrap() {
                assert_eq!(entry.period.start, end, "no gap and no overlap in {name} from {anchor}");
                assert_eq!(calendar.zone.to_datetime(entry.due_at).date(), entry.period.start, "{name} from {anchor}");
                assert!(before < Some(entry.due_at), "{name} from {anchor}");
                (end, before) = (entry.period.end, Some(entry.due_at));
            }
            assert_eq!(end, anchor + 60.months());
        }
    }
}
