//! Banking days: on which days banks are closed, and where a charge goes that would fall on one.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jiff::civil::{Date, Weekday};

/// What a plan does when a period starts on a day on which banks are closed. The period itself never moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Banking {
    /// It charges on that day.
    #[default]
    AsIs,
    /// It charges on the next banking day.
    Next,
    /// It charges on the banking day before. A day that has passed by then means at once, as any due day that has passed.
    Previous,
}

impl Banking {
    pub const NAMES: &'static [&'static str] = &["none", "next", "previous"];

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::AsIs, Self::Next, Self::Previous].into_iter().find(|banking| banking.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::AsIs => "none",
            Self::Next => "next",
            Self::Previous => "previous",
        }
    }

    /// The day on which to charge for a period that starts on `date`; `None` beyond the calendar's ends.
    pub fn shift(self, date: Date, holidays: &Holidays) -> Option<Date> {
        let mut day = date;
        while self != Self::AsIs && !holidays.is_banking_day(day) {
            day = if self == Self::Next { day.tomorrow().ok()? } else { day.yesterday().ok()? };
        }
        Some(day)
    }
}

/// The days on which banks are closed, besides Saturdays and Sundays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holidays {
    days: BTreeSet<Date>,
}

impl Holidays {
    /// The years of the built-in calendar. Outside of them only Saturdays and Sundays are known, and what the config adds.
    pub const YEARS: std::ops::RangeInclusive<i16> = 2024..=2030;

    /// Korea's. The table is data with its derivation: `src/domain/korean-holidays.csv`.
    pub fn korea() -> &'static Self {
        static KOREA: LazyLock<Holidays> = LazyLock::new(|| {
            let rows = include_str!("korean-holidays.csv").lines().filter(|line| !line.starts_with('#')).skip(1);
            let dates = rows.filter_map(|row| row.split(',').next()?.parse().ok());
            Holidays { days: dates.collect() }
        });
        &KOREA
    }

    /// These, with some more and without some.
    pub fn changed(&self, extra: &[Date], remove: &[Date]) -> Self {
        let kept = self.days.iter().filter(|day| !remove.contains(day));
        Self { days: kept.chain(extra).copied().collect() }
    }

    pub fn contains(&self, date: Date) -> bool {
        self.days.contains(&date)
    }

    /// Whether banks are open.
    pub fn is_banking_day(&self, date: Date) -> bool {
        !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday) && !self.contains(date)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;
    use jiff::civil::date;

    #[test]
    fn every_row_of_the_table_is_a_date_of_its_years() {
        let text = include_str!("korean-holidays.csv");
        let rows: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).skip(1).collect();
        assert_eq!(rows.len(), Holidays::korea().days.len());
        for row in &rows {
            let fields: Vec<&str> = row.split(',').collect();
            let [day, korean, english, kind] = fields[..] else { panic!("{row}") };
            let day: Date = day.parse().unwrap();
            assert!(Holidays::YEARS.contains(&day.year()) && !korean.is_empty() && english.is_ascii(), "{row}");
            assert!(["public", "substitute", "election", "temporary", "bank"].contains(&kind), "{row}");
            // a substitute on a weekend would give nobody a day off
            assert!(kind != "substitute" || !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday), "{row}");
        }
        assert!(rows.is_sorted());
        for year in Holidays::YEARS {
            assert!((18..=24).contains(&rows.iter().filter(|row| row.starts_with(&year.to_string())).count()), "{year}");
        }
    }

    #[test]
    fn known_days_are_in_the_table() {
        let korea = Holidays::korea();
        for (what, day) in [
            ("Seollal 2024", date(2024, 2, 10)),
            ("Seollal 2025", date(2025, 1, 29)),
            ("Seollal 2026", date(2026, 2, 17)),
            ("Seollal 2027", date(2027, 2, 7)),
            ("Seollal 2028", date(2028, 1, 27)),
            ("Seollal 2029", date(2029, 2, 13)),
            ("Seollal 2030", date(2030, 2, 3)),
            ("Chuseok 2024", date(2024, 9, 17)),
            ("Chuseok 2025", date(2025, 10, 6)),
            ("Chuseok 2026", date(2026, 9, 25)),
            ("Chuseok 2027", date(2027, 9, 15)),
            ("Chuseok 2028", date(2028, 10, 3)),
            ("Chuseok 2029", date(2029, 9, 22)),
            ("Chuseok 2030", date(2030, 9, 12)),
            ("Buddha's Birthday 2026", date(2026, 5, 24)),
            ("its substitute, for a Sunday", date(2026, 5, 25)),
            ("Children's Day and Buddha's Birthday on one day: one substitute", date(2025, 5, 6)),
            ("1 March 2025, a Saturday", date(2025, 3, 3)),
            ("Seollal 2024, its second day a Sunday", date(2024, 2, 12)),
            ("Chuseok 2028 on Foundation Day", date(2028, 10, 5)),
            ("before Seollal 2025, by the cabinet", date(2025, 1, 27)),
            ("Armed Forces Day 2024, by the cabinet", date(2024, 10, 1)),
            ("presidential election 2025", date(2025, 6, 3)),
            ("local elections 2026", date(2026, 6, 3)),
            ("National Assembly election 2028", date(2028, 4, 12)),
            ("local elections 2030, a week later because of Memorial Day", date(2030, 6, 12)),
            ("Workers' Day 2024, banks alone", date(2024, 5, 1)),
            ("Labor Day 2027, a Saturday", date(2027, 5, 3)),
            ("Constitution Day, again since 2026", date(2026, 7, 17)),
        ] {
            assert!(korea.contains(day), "{what}: {day}");
        }
        for (what, day) in [
            ("Chuseok 2026 ends on a Saturday: no substitute", date(2026, 9, 28)),
            ("New Year's Day 2028 is a Saturday: no substitute", date(2028, 1, 3)),
            ("Memorial Day 2027 is a Sunday: no substitute", date(2027, 6, 7)),
            ("Constitution Day was none in 2025", date(2025, 7, 17)),
            ("one substitute for two", date(2025, 5, 7)),
        ] {
            assert!(korea.is_banking_day(day), "{what}: {day}");
        }
    }

    #[test]
    fn a_charge_goes_to_the_next_or_the_previous_banking_day() {
        let korea = Holidays::korea();
        // 3 to 9 October 2025: Foundation Day, a weekend, Chuseok, its substitute, Hangul Day
        for day in 3..=9 {
            assert_eq!(Banking::Next.shift(date(2025, 10, day), korea), Some(date(2025, 10, 10)));
            assert_eq!(Banking::Previous.shift(date(2025, 10, day), korea), Some(date(2025, 10, 2)));
            assert_eq!(Banking::AsIs.shift(date(2025, 10, day), korea), Some(date(2025, 10, day)));
        }
        assert_eq!(Banking::Next.shift(date(2025, 10, 10), korea), Some(date(2025, 10, 10)));
    }

    #[test]
    fn a_shift_keeps_the_order_and_stops_at_the_first_banking_day() {
        let korea = Holidays::korea();
        let mut before = [date(2023, 1, 1); 2];
        for offset in 0..3000 {
            let day = date(2023, 6, 1) + offset.days();
            let shifted = [Banking::Next, Banking::Previous].map(|banking| banking.shift(day, korea).unwrap());
            assert!(shifted[0] >= day && shifted[1] <= day && shifted.iter().all(|day| korea.is_banking_day(*day)));
            assert!(shifted.iter().zip(&before).all(|(now, before)| now >= before), "{day}");
            before = shifted;
        }
    }

    #[test]
    fn the_config_adds_days_and_takes_some_away() {
        let changed = Holidays::korea().changed(&[date(2031, 1, 1)], &[date(2026, 6, 3)]);
        assert_eq!(Banking::Next.shift(date(2031, 1, 1), &changed), Some(date(2031, 1, 2)));
        assert!(changed.is_banking_day(date(2026, 6, 3)) && !changed.is_banking_day(date(2026, 5, 25)));
    }

    #[test]
    fn names_are_read_back() {
        for name in Banking::NAMES {
            assert_eq!(Banking::from_name(name).unwrap().name(), *name);
        }
        assert_eq!(Banking::from_name("following"), None);
    }
}
