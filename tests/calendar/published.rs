//! Facts with a source: what other billing systems have published of their dates, and what Python says.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use rebilld::domain::calendar::{Calendar, Entry, From, trial_end};
use rebilld::domain::holidays::{Banking, Holidays};
use rebilld::domain::recurrence::Recurrence;

/// Rows of a fixture, by the names of their columns.
struct Row(std::collections::HashMap<String, String>);

impl Row {
    fn get(&self, column: &str) -> &str {
        &self.0[column]
    }

    fn given(&self, column: &str) -> Option<&str> {
        Some(self.get(column)).filter(|text| !text.is_empty())
    }

    fn entries(&self, at: &str, zone: &str, from: u32, count: u32) -> Vec<Entry> {
        let every = self.get("every").parse().unwrap();
        let day = self.given("billing_day").map(|day| day.parse().unwrap());
        let trial = self.given("trial_days").map_or(0, |days| days.parse().unwrap());
        let calendar = Calendar {
            recurrence: Recurrence::interval(every, day).unwrap(),
            anchor: trial_end(self.get("start").parse().unwrap(), trial).unwrap(),
            time: at.parse().unwrap(),
            zone: TimeZone::get(zone).unwrap(),
            banking: Banking::AsIs,
            holidays: Holidays::korea(),
        };
        calendar.entries(From::Number(from), count).unwrap().collect()
    }
}

fn rows(text: &str) -> Vec<Row> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.deserialize().map(|row| Row(row.unwrap())).collect()
}

#[test]
fn other_billing_systems_have_published_the_same_dates() {
    let rows = rows(include_str!("../fixtures/calendar/published.csv"));
    assert!(rows.len() >= 30);
    for row in rows {
        let (system, title) = (row.get("system"), row.get("title"));
        assert!(row.get("url").starts_with("http"), "{system}: {title} has a source");
        let expected: Vec<Date> = row.get("starts").split(' ').map(|day| day.parse().unwrap()).collect();
        let entries = row.entries("10:00", "Asia/Seoul", 0, u32::try_from(expected.len()).unwrap());
        let found: Vec<Date> = entries.iter().map(|entry| entry.period.start).collect();
        assert_eq!(found, expected, "{system}: {title}");
    }
}

#[test]
fn python_finds_the_same_periods_and_instants() {
    let rows = rows(include_str!("../fixtures/calendar/oracle.csv"));
    assert_eq!(rows.len(), 1500);
    for row in rows {
        let entry = row.entries(row.get("at"), row.get("zone"), row.get("n").parse().unwrap(), 1)[0];
        let found = [entry.period.start.to_string(), entry.period.end.to_string(), entry.due_at.to_string()];
        assert_eq!(found, ["period_start", "period_end", "due_at"].map(|column| row.get(column)), "{:?}", row.0);
    }
}
