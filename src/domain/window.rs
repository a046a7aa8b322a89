//! When charges may start: hours of the day, blackouts, and the spread of large waves. A due instant never moves by them.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::period::instant;

const DAY: u16 = 24 * 60;

/// A span of every day, in minutes since midnight: `09:00-22:00`, over midnight too (`23:30-00:40`). The end is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hours {
    from: u16,
    to: u16,
}

/// Why a text is no span of hours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no span of hours such as \"09:00-22:00\" (\"00:00-24:00\" is the whole day)")]
pub struct NotHours(String);

impl Hours {
    pub const ALL_DAY: Self = Self { from: 0, to: DAY };

    fn contains(self, minute: u16) -> bool {
        if self.from < self.to { (self.from..self.to).contains(&minute) } else { minute >= self.from || minute < self.to }
    }
}

impl FromStr for Hours {
    type Err = NotHours;

    fn from_str(text: &str) -> Result<Self, NotHours> {
        let wrong = || NotHours(text.chars().take(40).collect());
        let (from, to) = text.trim().split_once('-').ok_or_else(wrong)?;
        let (from, to) = (minutes(from).ok_or_else(wrong)?, minutes(to).ok_or_else(wrong)?);
        if from == to || from == DAY || to == 0 { Err(wrong()) } else { Ok(Self { from, to }) }
    }
}

fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)?;
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u16>().ok()).flatten();
    let (hour, minute) = (digits(hour)?, digits(minute)?);
    let fits = minute < 60 && (hour < 24 || (hour, minute) == (24, 0));
    fits.then_some(hour * 60 + minute)
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, self.to / 60, self.to % 60)
    }
}

/// Hours of every day in which nobody is charged, in a zone of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Blackout {
    pub hours: Hours,
    pub zone: TimeZone,
}

/// When charges may start.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    /// In the zone of the charge.
    pub hours: Hours,
    pub blackouts: Vec<Blackout>,
    /// Charges that fall due together start over so long a span; zero: at once.
    pub spread: SignedDuration,
}

impl Windows {
    /// At any time, at once.
    pub const ALWAYS: Self = Self { hours: Hours::ALL_DAY, blackouts: Vec::new(), spread: SignedDuration::ZERO };

    /// Hours and blackouts are looked for so often: each step ends one of them.
    const MOST_STEPS: u32 = 64;

    /// Whether charges start whenever they are due.
    pub fn is_always(&self) -> bool {
        self.hours == Hours::ALL_DAY && self.blackouts.is_empty()
    }

    /// Whether a charge may start now.
    pub fn is_open(&self, at: Timestamp, zone: &TimeZone) -> bool {
        self.closed_until(at, zone).is_none()
    }

    /// The first instant from `at` on at which a charge may start. Blackouts that leave no minute of the hours open give an
    /// instant weeks away at which that is still so.
    pub fn next_open(&self, at: Timestamp, zone: &TimeZone) -> Timestamp {
        let mut at = at;
        for _ in 0..Self::MOST_STEPS {
            match self.closed_until(at, zone) {
                None => return at,
                Some(until) => at = until,
            }
        }
        at
    }

    /// When a charge that is due at `due_at` starts: in the window, and at its own place in the spread. `seed` belongs to the
    /// subscription, so that its place is the same every time.
    pub fn first_start(&self, due_at: Timestamp, zone: &TimeZone, seed: u64) -> Timestamp {
        let place = self.place(seed);
        let open = self.next_open(due_at, zone);
        let start = after(open, place);
        match self.closed_until(start, zone) {
            None => start,
            // past the end of the hours: at the same place of the next ones
            Some(_) => {
                let reopened = self.next_open(start, zone);
                self.next_open(after(reopened, place), zone)
            }
        }
    }

    fn place(&self, seed: u64) -> SignedDuration {
        let millis = u64::try_from(self.spread.as_millis()).unwrap_or(0);
        if millis == 0 {
            return SignedDuration::ZERO;
        }
        let place = (u128::from(seed) * u128::from(millis)) >> 64;
        SignedDuration::from_millis(i64::try_from(place).unwrap_or(0))
    }

    /// When the hours or the blackout end that keep a charge from starting; `None`: nothing does.
    fn closed_until(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if self.hours != Hours::ALL_DAY {
            let (date, minute) = local(at, zone);
            if !self.hours.contains(minute) {
                let opens = if minute < self.hours.from { Some(date) } else { date.tomorrow().ok() };
                return Some(reached(at, opens, self.hours.from, zone));
            }
        }
        self.blackouts.iter().find_map(|blackout| {
            let Blackout { hours, zone } = blackout;
            let (date, minute) = local(at, zone);
            let ends = if minute < hours.to { Some(date) } else { date.tomorrow().ok() };
            hours.contains(minute).then(|| reached(at, ends, hours.to, zone))
        })
    }
}

fn local(at: Timestamp, zone: &TimeZone) -> (Date, u16) {
    let local = zone.to_datetime(at);
    let minute = i16::from(local.hour()) * 60 + i16::from(local.minute());
    (local.date(), u16::try_from(minute).unwrap_or(0))
}

/// The instant of a minute of a day, after `at` in any case.
fn reached(at: Timestamp, day: Option<Date>, minute: u16, zone: &TimeZone) -> Timestamp {
    let (day, minute) = if minute == DAY { (day.and_then(|day| day.tomorrow().ok()), 0) } else { (day, minute) };
    let time = i8::try_from(minute / 60).ok().zip(i8::try_from(minute % 60).ok());
    let time = time.and_then(|(hour, minute)| Time::new(hour, minute, 0, 0).ok());
    let next = day.zip(time).and_then(|(day, time)| instant(day, time, zone));
    // a clock that is set back makes the same minute come again
    next.filter(|next| *next > at).unwrap_or_else(|| after(at, SignedDuration::from_mins(1)))
}

fn after(at: Timestamp, wait: SignedDuration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seoul() -> TimeZone {
        TimeZone::get("Asia/Seoul").unwrap()
    }

    fn windows(hours: &str, blackouts: &[&str]) -> Windows {
        let blackouts = blackouts.iter().map(|hours| Blackout { hours: hours.parse().unwrap(), zone: seoul() }).collect();
        Windows { hours: hours.parse().unwrap(), blackouts, spread: SignedDuration::ZERO }
    }

    fn open(windows: &Windows, at: &str, zone: &TimeZone) -> String {
        let at = at.parse::<jiff::civil::DateTime>().unwrap();
        let at = zone.to_ambiguous_timestamp(at).compatible().unwrap();
        windows.next_open(at, zone).to_zoned(zone.clone()).datetime().to_string()
    }

    #[test]
    fn a_charge_waits_for_the_morning() {
        let day = windows("09:00-22:00", &[]);
        for (at, opens) in [
            ("2026-03-01T08:59:59", "2026-03-01T09:00:00"),
            ("2026-03-01T09:00:00", "2026-03-01T09:00:00"),
            ("2026-03-01T21:59:59", "2026-03-01T21:59:59"),
            ("2026-03-01T22:00:00", "2026-03-02T09:00:00"),
            ("2026-12-31T23:00:00", "2027-01-01T09:00:00"),
        ] {
            assert_eq!(open(&day, at, &seoul()), opens, "{at}");
        }
    }

    #[test]
    fn hours_over_midnight_and_a_blackout_in_them() {
        let night = windows("22:00-06:00", &["23:30-00:40"]);
        for (at, opens) in [
            ("2026-03-01T12:00:00", "2026-03-01T22:00:00"),
            ("2026-03-01T23:30:00", "2026-03-02T00:40:00"),
            ("2026-03-02T00:39:59", "2026-03-02T00:40:00"),
            ("2026-03-02T05:59:00", "2026-03-02T05:59:00"),
            ("2026-03-02T06:00:00", "2026-03-02T22:00:00"),
        ] {
            assert_eq!(open(&night, at, &seoul()), opens, "{at}");
        }
        assert!(Windows::ALWAYS.is_open("2026-03-01T18:00:00Z".parse().unwrap(), &seoul()));
    }

    #[test]
    fn a_blackout_has_its_own_zone() {
        // 15:00 UTC is midnight in Seoul, and 10:00 in New York in winter
        let zone = TimeZone::get("America/New_York").unwrap();
        let windows = windows("09:00-22:00", &["23:30-00:40"]);
        assert_eq!(open(&windows, "2026-01-15T10:00:00", &zone), "2026-01-15T10:40:00");
        assert_eq!(open(&windows, "2026-01-15T09:00:00", &zone), "2026-01-15T09:00:00");
    }

    #[test]
    fn an_opening_that_a_clock_change_removes_moves_to_the_change() {
        let zone = TimeZone::get("America/New_York").unwrap();
        assert_eq!(open(&windows("02:30-06:00", &[]), "2026-03-08T01:00:00", &zone), "2026-03-08T03:00:00");
    }

    #[test]
    fn hours_are_read_or_named() {
        for fine in ["09:00-22:00", "00:00-24:00", "23:30-00:40"] {
            assert_eq!(fine.parse::<Hours>().unwrap().to_string(), fine);
        }
        for wrong in
            ["", "9-22", "09:00", "09:00-09:00", "24:00-10:00", "10:00-00:00", "09:60-10:00", "25:00-26:00", "09:00-22:00-"]
        {
            assert!(wrong.parse::<Hours>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_wave_is_spread_and_every_subscription_keeps_its_place() {
        let spread = Windows { spread: SignedDuration::from_hours(2), ..windows("09:00-22:00", &[]) };
        let due: Timestamp = "2026-03-01T01:00:00Z".parse().unwrap();
        let next = "2026-04-01T01:00:00Z".parse::<Timestamp>().unwrap();
        let mut starts: Vec<i64> = Vec::new();
        for n in 0..1_000u64 {
            let seed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let start = spread.first_start(due, &seoul(), seed).duration_since(due);
            assert_eq!(spread.first_start(next, &seoul(), seed).duration_since(next), start);
            assert!(start >= SignedDuration::ZERO && start < SignedDuration::from_hours(2));
            starts.push(start.as_secs());
        }
        let in_minute = |minute: i64| starts.iter().filter(|start| **start / 60 == minute).count();
        assert!((0..120).all(|minute| in_minute(minute) < 30), "no minute takes more than a thirtieth of them");
        // at 21:00 half of them come to the evening's end and are spread over the next morning
        let late: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let start = spread.first_start(late, &seoul(), u64::MAX).to_zoned(seoul()).datetime().to_string();
        assert!(start.starts_with("2026-03-02T10:59:59"), "{start}");
    }

    proptest! {
        #[test]
        fn the_next_opening_is_open_and_not_before(
            minute in 0i64..1_000_000, from in 0u16..1440, length in 60u16..1380, black in 0u16..1440, zone in prop::sample::select(vec![
                "Asia/Seoul", "America/New_York", "Europe/London", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Cairo",
            ]),
        ) {
            let zone = TimeZone::get(zone).unwrap();
            let hours = Hours { from, to: (from + length) % DAY };
            prop_assume!(hours.to != 0);
            let blackout = Blackout { hours: Hours { from: black, to: (black + 50) % DAY }, zone: seoul() };
            let windows = Windows { hours, blackouts: vec![blackout], spread: SignedDuration::from_hours(3) };
            let at = Timestamp::from_second(1_700_000_000 + minute * 60).unwrap();
            let opens = windows.next_open(at, &zone);
            prop_assert!(opens >= at && windows.is_open(opens, &zone));
            prop_assert!(opens.duration_since(at) <= SignedDuration::from_hours(27));
            let start = windows.first_start(at, &zone, 1 << 63);
            prop_assert!(start >= opens && windows.is_open(start, &zone));
        }
    }
}
