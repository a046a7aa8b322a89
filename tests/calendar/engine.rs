//! The engine's next period, asked again and again, is the calendar that the command prints.

use std::sync::Arc;

use jiff::civil::{Date, date, time};
use jiff::tz::TimeZone;
use rebilld::domain::calendar::{Calendar, From, trial_end};
use rebilld::domain::holidays::{Banking, Holidays};
use rebilld::domain::lifecycle::{Next, Progress, next_period};
use rebilld::domain::plan::{Catalog, Plan};
use rebilld::domain::recurrence::Recurrence;
use rebilld::domain::subscription::Terms;

fn plan(recurrence: &Recurrence, banking: Banking) -> Plan {
    Plan {
        charge_time: time(2, 30, 0, 0),
        zone: TimeZone::get("America/New_York").ok(),
        banking,
        holidays: Arc::new(Holidays::korea().clone()),
        amount: Some(9_900),
        ..Plan::new("plan", recurrence.clone())
    }
}

fn terms(anchor: Date, trial_days: u32) -> Terms {
    Terms { trial_days: Some(trial_days), ..Terms::new("main", "sub-0001", "plan", anchor) }
}

#[test]
fn the_engine_opens_the_periods_of_the_calendar() {
    let recurrences = [
        Recurrence::interval("1 month".parse().unwrap(), None).unwrap(),
        Recurrence::interval("1 month".parse().unwrap(), Some("10".parse().unwrap())).unwrap(),
        Recurrence::interval("1 year".parse().unwrap(), Some("last".parse().unwrap())).unwrap(),
        Recurrence::interval("10 days".parse().unwrap(), None).unwrap(),
        Recurrence::Cron("0 30 2 1,15 * *".parse().unwrap()),
    ];
    for recurrence in recurrences {
        for banking in [Banking::AsIs, Banking::Next, Banking::Previous] {
            for (start, trial_days) in [(date(2024, 1, 31), 0), (date(2024, 2, 29), 14), (date(2025, 10, 6), 0)] {
                let plan = plan(&recurrence, banking);
                let zone = plan.zone.clone().unwrap();
                let anchor = trial_end(start, trial_days).unwrap();
                let holidays = Arc::clone(&plan.holidays);
                let (recurrence, time) = (recurrence.clone(), plan.charge_time);
                let calendar = Calendar { recurrence, anchor, time, zone, banking, holidays: &holidays };
                let catalog = Catalog { plans: [("plan".to_owned(), plan)].into(), ..Catalog::default() };
                let mut progress = Progress { not_before: Some(start), ..Progress::default() };
                for entry in calendar.entries(From::Number(0), 50).unwrap() {
                    let next = next_period(&catalog, &terms(start, trial_days), &progress).unwrap();
                    let Next::Period(next, after) = next else { panic!("it has no end") };
                    assert_eq!((next.period, next.due_at), (entry.period, entry.due_at), "from {start}");
                    progress = Progress { walked: false, ..after };
                }
            }
        }
    }
}
