//! The fuse: how much an account sends by itself. Beyond that a person looks at exactly what is about to be sent.
//!
//! A budget says how much a day may cost; what is over it waits for the next day. The fuse says that something is wrong: an
//! amount nobody means, a wave nobody expects. It blows, all sends of the account stop, and only an operator lets them go on.

use std::collections::BTreeMap;
use std::fmt;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::money::{Currency, Money};

/// Bounds of an account. Factors and shares are in thousandths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fuse {
    /// No charge is above it, in minor units.
    pub amount: Option<i64>,
    /// So many times the subscription's last paid amount, in proportion to the period if that is longer.
    pub times: Option<u32>,
    /// Amounts up to this are never held against the last one: a first month for 100 won is followed by the full price.
    pub times_from: i64,
    /// New attempts in any 60 minutes.
    pub hour_count: Option<i64>,
    /// Minor units in any 60 minutes, per currency.
    pub hour_sum: Option<i64>,
    /// So many times what was expected of the day, in count and in sum per currency.
    pub day_times: Option<u32>,
    /// So many charges a day never trip it, whatever was expected.
    pub day_from: i64,
    /// The share of first tries that are declined, above which the account is paused.
    pub decline_rate: Option<u32>,
    /// The share of sends without a clear answer, above which the account is paused.
    pub doubt_rate: Option<u32>,
    /// Fewer of them in an hour say nothing of a rate.
    pub sample: u32,
    /// How many operators have to approve a wave: 1 or 2.
    pub approvers: u8,
    /// How long an approval lasts.
    pub approval: SignedDuration,
}

impl Fuse {
    /// Nothing trips it.
    pub const NONE: Self = Self {
        amount: None,
        times: None,
        times_from: 0,
        hour_count: None,
        hour_sum: None,
        day_times: None,
        day_from: 0,
        decline_rate: None,
        doubt_rate: None,
        sample: 1,
        approvers: 1,
        approval: SignedDuration::from_hours(24),
    };

    /// Whether what was sent before has to be counted.
    pub fn counts(&self) -> bool {
        self.hour_count.is_some() || self.hour_sum.is_some() || self.day_times.is_some()
    }
}

/// How an account's fuse stands; whole if it is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FuseState {
    /// Nothing is sent until an operator approves what is due.
    Blown,
    /// An operator has looked at what is due and said no: nothing is sent either.
    Rejected,
    /// Exactly the charges of a wave are sent, and nothing else.
    Approved,
}

/// Why an account is paused for what its charges say together: both follow two numbers.
pub const DECLINED: &str = "first tries in the last hour were declined";
pub const UNCLEAR: &str = "sends in the last hour got no clear answer";

/// Whether an account is paused for one of them.
pub fn is_of_rates(why: &str) -> bool {
    why.contains(DECLINED) || why.contains(UNCLEAR)
}

impl FuseState {
    /// As it stands in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blown => "blown",
            Self::Rejected => "rejected",
            Self::Approved => "approved",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Blown, Self::Rejected, Self::Approved].into_iter().find(|state| state.name() == name)
    }
}

/// So many charges, and their sums by currency.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Count {
    pub count: i64,
    /// Minor units.
    pub sums: BTreeMap<Currency, i64>,
}

impl Count {
    pub fn add(&mut self, count: i64, sum: Money) {
        self.count = self.count.saturating_add(count);
        let of_currency = self.sums.entry(sum.currency()).or_default();
        *of_currency = of_currency.saturating_add(sum.minor());
    }

    fn sum(&self, currency: Currency) -> i64 {
        self.sums.get(&currency).copied().unwrap_or_default()
    }
}

/// What a subscription paid last, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    pub amount: Money,
    pub days: i64,
}

/// Days of a period; 1 at least.
pub fn days(start: Date, end: Date) -> i64 {
    i64::from((end - start).get_days()).max(1)
}

/// Which bound was about to be passed, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trip {
    Amount { amount: Money, bound: i64 },
    Times { amount: Money, last: Money, bound: i64 },
    HourCount { count: i64, bound: i64 },
    HourSum { sum: Money, bound: i64 },
    DayCount { count: i64, bound: i64, expected: i64 },
    DaySum { sum: Money, bound: i64, expected: i64 },
}

impl Trip {
    /// The key of `[accounts.NAME.fuse]` that it is about.
    pub fn bound(&self) -> &'static str {
        match self {
            Self::Amount { .. } => "amount",
            Self::Times { .. } => "times",
            Self::HourCount { .. } => "hour_count",
            Self::HourSum { .. } => "hour_sum",
            Self::DayCount { .. } | Self::DaySum { .. } => "day_times",
        }
    }
}

impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |minor: i64, as_in: &Money| Money::new(minor, as_in.currency());
        match self {
            Self::Amount { amount, bound } => {
                write!(f, "a charge of {amount} is above the most that one may be, {}", of(*bound, amount))
            }
            Self::Times { amount, last, bound } => write!(
                f,
                "a charge of {amount} is too far above the {last} that its subscription paid last: {} at most",
                of(*bound, amount)
            ),
            Self::HourCount { count, bound } => write!(f, "{count} charges in an hour, {bound} at most"),
            Self::HourSum { sum, bound } => write!(f, "{sum} in an hour, {} at most", of(*bound, sum)),
            Self::DayCount { count, bound, expected } => {
                write!(f, "{count} charges in a day for which {expected} were expected, {bound} at most")
            }
            Self::DaySum { sum, bound, expected } => {
                let (expected, bound) = (of(*expected, sum), of(*bound, sum));
                write!(f, "{sum} in a day for which {expected} was expected, {bound} at most")
            }
        }
    }
}

/// What the fuse says of one more charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// It may go, and is counted.
    Go,
    Trips(Trip),
    /// Nobody knows yet what was expected of the day, and the floor has been reached: it waits until that is known.
    Unknown,
}

/// The fuse with what has gone through it.
#[derive(Debug, Clone)]
pub struct Meter<'a> {
    fuse: &'a Fuse,
    /// Of the last hour.
    pub hour: Count,
    /// Of the account's day, since an operator last looked.
    pub day: Count,
    /// `None`: not known yet.
    pub expected: Option<Count>,
}

impl<'a> Meter<'a> {
    pub fn new(fuse: &'a Fuse) -> Self {
        Self { fuse, hour: Count::default(), day: Count::default(), expected: None }
    }

    /// Holds one more charge against the bounds, and counts it if it may go. `period`: its days.
    pub fn take(&mut self, amount: Money, period: i64, last: Option<Last>) -> Reading {
        let reading = self.read(amount, period, last);
        if reading == Reading::Go {
            self.hour.add(1, amount);
            self.day.add(1, amount);
        }
        reading
    }

    /// Holds all that is due against the bounds, before the first of it is sent. `largest`: its largest charge in each
    /// currency; `an_hour`: so many charges the account sends in an hour at most.
    pub fn wave(&self, due: &Count, largest: &[Money], an_hour: Option<i64>) -> Option<Trip> {
        let over = |amount: &&Money| self.fuse.amount.is_some_and(|bound| amount.minor() > bound);
        if let Some(amount) = largest.iter().find(over) {
            return Some(Trip::Amount { amount: *amount, bound: self.fuse.amount.unwrap_or_default() });
        }
        if due.count == 0 {
            return None;
        }
        let soon = an_hour.unwrap_or(i64::MAX);
        let count = self.hour.count.saturating_add(due.count.min(soon));
        if let Some(bound) = self.fuse.hour_count.filter(|bound| count > *bound) {
            return Some(Trip::HourCount { count, bound });
        }
        let all = |so_far: &Count, currency, sum: &i64| Money::new(so_far.sum(currency).saturating_add(*sum), currency);
        let hours = due.sums.iter().filter(|_| due.count <= soon).map(|(currency, sum)| all(&self.hour, *currency, sum));
        if let Some(bound) = self.fuse.hour_sum
            && let Some(sum) = hours.into_iter().find(|sum| sum.minor() > bound)
        {
            return Some(Trip::HourSum { sum, bound });
        }
        let count = self.day.count.saturating_add(due.count);
        let days = due.sums.iter().map(|(currency, sum)| all(&self.day, *currency, sum));
        days.into_iter().find_map(|sum| match self.of_the_day(count, sum) {
            Reading::Trips(trip) => Some(trip),
            Reading::Go | Reading::Unknown => None,
        })
    }

    fn read(&self, amount: Money, period: i64, last: Option<Last>) -> Reading {
        let fuse = self.fuse;
        if let Some(trip) = self.alone(amount, period, last) {
            return Reading::Trips(trip);
        }
        let currency = amount.currency();
        let after = |so_far: &Count| (so_far.count.saturating_add(1), so_far.sum(currency).saturating_add(amount.minor()));
        let (count, sum) = after(&self.hour);
        if let Some(bound) = fuse.hour_count.filter(|bound| count > *bound) {
            return Reading::Trips(Trip::HourCount { count, bound });
        }
        if let Some(bound) = fuse.hour_sum.filter(|bound| sum > *bound) {
            return Reading::Trips(Trip::HourSum { sum: Money::new(sum, currency), bound });
        }
        let (count, sum) = after(&self.day);
        self.of_the_day(count, Money::new(sum, currency))
    }

    /// Holds a day with so many charges, and so much in one currency, against what was expected of it.
    fn of_the_day(&self, count: i64, sum: Money) -> Reading {
        let (fuse, currency) = (self.fuse, sum.currency());
        let Some(times) = fuse.day_times.filter(|_| count > fuse.day_from) else { return Reading::Go };
        let Some(expected) = &self.expected else { return Reading::Unknown };
        let bound = times_of(times, expected.count).max(fuse.day_from);
        if count > bound {
            return Reading::Trips(Trip::DayCount { count, bound, expected: expected.count });
        }
        let bound = times_of(times, expected.sum(currency));
        // a day of few charges is bounded by its count alone, and so is the floor of a fuller one
        if expected.count > fuse.day_from && sum.minor() > bound {
            return Reading::Trips(Trip::DaySum { sum, bound, expected: expected.sum(currency) });
        }
        Reading::Go
    }

    /// The bounds of a charge by itself.
    fn alone(&self, amount: Money, period: i64, last: Option<Last>) -> Option<Trip> {
        if let Some(bound) = self.fuse.amount.filter(|bound| amount.minor() > *bound) {
            return Some(Trip::Amount { amount, bound });
        }
        let times = self.fuse.times.filter(|_| amount.minor() > self.fuse.times_from)?;
        let last = last.filter(|last| last.amount.currency() == amount.currency())?;
        // a year costs about twelve months; a short period is not expected to cost less
        let longer = period.max(last.days);
        let in_proportion = i128::from(last.amount.minor()) * i128::from(longer) / i128::from(last.days.max(1));
        let bound = times_of(times, i64::try_from(in_proportion).unwrap_or(i64::MAX)).max(self.fuse.times_from);
        (amount.minor() > bound).then_some(Trip::Times { amount, last: last.amount, bound })
    }
}

/// So many thousandths of a number, rounded up.
fn times_of(thousandths: u32, number: i64) -> i64 {
    let product = i128::from(number.max(0)) * i128::from(thousandths);
    i64::try_from((product + 999) / 1000).unwrap_or(i64::MAX)
}

/// The hour is counted in steps of ten minutes.
const STEP: i64 = 600;
/// Steps that a window of an hour touches: the one that has begun, and those before it.
const STEPS: i64 = 7;

/// A place in the ring in which the last hour is counted, and when its ten minutes began.
pub fn step_of(now: Timestamp) -> (i64, Timestamp) {
    let step = now.as_second().div_euclid(STEP);
    (step.rem_euclid(STEPS + 1), Timestamp::from_second(step * STEP).unwrap_or(now))
}

/// Whether ten minutes that began then belong to the hour before now. What is ahead of the clock counts too.
pub fn is_of_the_hour(began: Timestamp, now: Timestamp) -> bool {
    let (_, current) = step_of(now);
    current.duration_since(began) < SignedDuration::from_secs(STEP * STEPS)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn krw(minor: i64) -> Money {
        Money::krw(minor)
    }

    fn last(minor: i64, days: i64) -> Option<Last> {
        Some(Last { amount: krw(minor), days })
    }

    #[test]
    fn a_charge_above_the_most_that_one_may_be_trips() {
        let fuse = Fuse { amount: Some(50_000), ..Fuse::NONE };
        let mut meter = Meter::new(&fuse);
        assert_eq!(meter.take(krw(50_000), 31, None), Reading::Go);
        let trip = Trip::Amount { amount: krw(50_001), bound: 50_000 };
        assert_eq!(meter.take(krw(50_001), 31, None), Reading::Trips(trip));
        assert_eq!(meter.hour.count, 1, "what did not go is not counted");
    }

    #[test]
    fn an_amount_is_held_against_the_last_one_in_proportion_to_its_period() {
        let fuse = Fuse { times: Some(5_000), times_from: 20_000, ..Fuse::NONE };
        let mut meter = Meter::new(&fuse);
        assert_eq!(meter.take(krw(9_900_000), 31, None), Reading::Go, "a first charge has no last amount");
        assert_eq!(meter.take(krw(20_000), 31, last(100, 31)), Reading::Go, "a first month for 100 won");
        assert_eq!(meter.take(krw(49_500), 31, last(9_900, 31)), Reading::Go);
        let trip = Trip::Times { amount: krw(99_000), last: krw(9_900), bound: 49_500 };
        assert_eq!(meter.take(krw(99_000), 31, last(9_900, 31)), Reading::Trips(trip), "a zero too many");
        assert_eq!(meter.take(krw(99_000), 365, last(9_900, 31)), Reading::Go, "a year costs about twelve months");
        assert_eq!(meter.take(krw(49_500), 3, last(9_900, 31)), Reading::Go, "a short period may cost as much");
        let other = Some(Last { amount: Money::new(1, "USD".parse().unwrap()), days: 31 });
        assert_eq!(meter.take(krw(99_000), 31, other), Reading::Go, "another currency says nothing");
    }

    #[test]
    fn the_hour_is_bounded_in_count_and_sum() {
        let fuse = Fuse { hour_count: Some(2), hour_sum: Some(1_000), ..Fuse::NONE };
        let mut meter = Meter::new(&fuse);
        assert_eq!(meter.take(krw(600), 31, None), Reading::Go);
        let trip = Trip::HourSum { sum: krw(1_001), bound: 1_000 };
        assert_eq!(meter.take(krw(401), 31, None), Reading::Trips(trip));
        assert_eq!(meter.take(krw(400), 31, None), Reading::Go);
        assert_eq!(meter.take(krw(1), 31, None), Reading::Trips(Trip::HourCount { count: 3, bound: 2 }));
    }

    #[test]
    fn a_day_is_held_against_what_was_expected_above_its_floor() {
        let fuse = Fuse { day_times: Some(1_500), day_from: 2, ..Fuse::NONE };
        let mut meter = Meter::new(&fuse);
        for _ in 0..2 {
            assert_eq!(meter.take(krw(1_000_000), 31, None), Reading::Go, "small counts never trip");
        }
        assert_eq!(meter.take(krw(1), 31, None), Reading::Unknown, "above the floor it waits until the day is known");
        let mut expected = Count::default();
        expected.add(3, krw(1_400_000));
        meter.expected = Some(expected);
        assert_eq!(meter.take(krw(100_000), 31, None), Reading::Go);
        let trip = Trip::DaySum { sum: krw(2_100_001), bound: 2_100_000, expected: 1_400_000 };
        assert_eq!(meter.take(krw(1), 31, None), Reading::Trips(trip));
        meter.day.sums.clear();
        assert_eq!([meter.take(krw(1), 31, None), meter.take(krw(1), 31, None)], [Reading::Go; 2], "4.5 is rounded up");
        assert_eq!(meter.take(krw(1), 31, None), Reading::Trips(Trip::DayCount { count: 6, bound: 5, expected: 3 }));
    }

    #[test]
    fn a_wave_is_held_against_all_bounds_before_it_begins() {
        let of = |count: i64, minor: i64| {
            let mut due = Count::default();
            due.add(count, krw(minor));
            due
        };
        let fuse = Fuse { amount: Some(50_000), hour_count: Some(100), hour_sum: Some(900_000), ..Fuse::NONE };
        let mut meter = Meter::new(&fuse);
        assert_eq!(meter.wave(&of(100, 900_000), &[krw(50_000)], None), None);
        let large = Trip::Amount { amount: krw(50_001), bound: 50_000 };
        assert_eq!(meter.wave(&of(1, 50_001), &[krw(50_001)], None), Some(large));
        assert_eq!(meter.wave(&of(101, 1), &[krw(1)], None), Some(Trip::HourCount { count: 101, bound: 100 }));
        assert_eq!(meter.wave(&of(101, 1), &[krw(1)], Some(100)), None, "the rate lets no more through in an hour");
        let sum = Trip::HourSum { sum: krw(900_001), bound: 900_000 };
        assert_eq!(meter.wave(&of(50, 900_001), &[krw(1)], None), Some(sum));
        meter.hour = of(40, 400_000);
        assert_eq!(meter.wave(&of(61, 1), &[krw(1)], None), Some(Trip::HourCount { count: 101, bound: 100 }));

        let fuse = Fuse { day_times: Some(2_000), day_from: 10, ..Fuse::NONE };
        let mut meter = Meter::new(&fuse);
        assert_eq!(meter.wave(&of(1_000, 1), &[krw(1)], None), None, "nobody knows: each charge says so by itself");
        meter.expected = Some(of(20, 20_000));
        assert_eq!(meter.wave(&of(40, 40_000), &[krw(1)], None), None);
        let count = Trip::DayCount { count: 41, bound: 40, expected: 20 };
        assert_eq!(meter.wave(&of(41, 1), &[krw(1)], None), Some(count));
        meter.day = of(15, 20_000);
        let sum = Trip::DaySum { sum: krw(40_001), bound: 40_000, expected: 20_000 };
        assert_eq!(meter.wave(&of(5, 20_001), &[krw(1)], None), Some(sum));
    }

    #[test]
    fn the_last_hour_is_every_step_that_it_touches() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let (now, mut places) = (at(7_200_599), std::collections::BTreeSet::new());
        for minutes in 0..200 {
            let then = at(now.as_second() - minutes * 60);
            let (place, began) = step_of(then);
            if minutes <= 60 {
                assert!(is_of_the_hour(began, now), "{minutes}");
            }
            if is_of_the_hour(began, now) {
                places.insert((place, began));
            } else {
                assert!(minutes > 60);
            }
        }
        let distinct: std::collections::BTreeSet<i64> = places.iter().map(|(place, _)| *place).collect();
        assert_eq!((places.len(), distinct.len()), (7, 7), "each has a place of its own");
        assert!(is_of_the_hour(at(now.as_second() + 9_000), now), "what is ahead of the clock");
    }

    #[test]
    fn periods_have_a_day_at_least() {
        assert_eq!(days(date(2026, 12, 1), date(2027, 1, 1)), 31);
        assert_eq!(days(date(2026, 12, 1), date(2026, 12, 1)), 1);
    }
}
