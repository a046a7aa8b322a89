//! The engine's next period, asked again and again, is the calendar that the command prints.

use std::sync::Arc;

use jiff::civil::{date, time};
use jiff::tz::TimeZone;
use rebilld::domain::calendar::{Calendar, From};
use rebilld::domain::holidays::{Banking, Holidays};
use rebilld::domain::lifecycle::{Next, Progress, next_period};
use rebilld::domain::plan::{Catalog, Plan};
use rebilld::domain::recurrence::Recurrence;
use rebilld::domain::subscription::Terms;

fn plan(recurrence: &Recurrence, banking: Banking) -> Plan {
    Plan {
        charge_time: time(2, 30, 0, 0),
        zone: Some(zone()),
        banking,
        holidays: Arc::new(Holidays::korea().clone()),
        amount: Some(9_900),
        ..Plan::new("plan", recurrence.clone())
    }
}

fn zone() -> TimeZone {
    TimeZone::get("America/New_York").unwrap()
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
            for anchor in [date(2024, 1, 31), date(2024, 2, 29), date(2025, 10, 6)] {
                let plan = plan(&recurrence, banking);
                let calendar = Calendar {
                    recurrence: recurrence.clone(),
                    anchor,
                    time: plan.charge_time,
                    zone: zone(),
                    banking,
                    holidays: &plan.holidays,
                };
                let catalog = Catalog { plans: [("plan".to_owned(), plan.clone())].into(), ..Catalog::default() };
                let terms = Terms::new("main", "sub-0001", "plan", anchor);
                let mut progress = Progress { not_before: Some(anchor), ..Progress::default() };
                for entry in calendar.entries(From::Number(0), 50).unwrap() {
                    let Next::Period(next, after) = next_period(&catalog, &terms, &progress).unwrap() else { panic!("it ends") };
                    assert_eq!((next.period, next.due_at), (entry.period, entry.due_at), "{recurrence} from {anchor}");
                    progress = after;
                }
            }
        }
    }
}
