//! The engine's next period, asked again and again, is the calendar that the command prints.

use std::sync::Arc;

use jiff::civil::{Date, date, time};
use jiff::tz::TimeZone;
use rebilld::domain::calendar::{Calendar, From};
use rebilld::domain::charge::SubscriptionId;
use rebilld::domain::holidays::{Banking, Holidays};
use rebilld::domain::money::Currency;
use rebilld::domain::plan::{Plan, WhilePastDue};
use rebilld::domain::recurrence::Recurrence;
use rebilld::domain::subscription::{Status, Terms};

fn plan(recurrence: &Recurrence, banking: Banking) -> Plan {
    Plan {
        name: "plan".to_owned(),
        recurrence: recurrence.clone(),
        charge_time: time(2, 30, 0, 0),
        zone: TimeZone::get("America/New_York").unwrap(),
        banking,
        holidays: Arc::new(Holidays::korea().clone()),
        amount: Some(9_900),
        currency: Currency::KRW,
        title: None,
        tax_free: None,
        vat_amount: None,
        while_past_due: WhilePastDue::Hold,
    }
}

fn terms(anchor: Date) -> Terms {
    Terms {
        id: SubscriptionId(1),
        account: "main".to_owned(),
        external_ref: "sub-0001".to_owned(),
        status: Status::Active,
        plan: "plan".to_owned(),
        amount: None,
        currency: None,
        anchor,
        starts_on: None,
        zone: None,
        charge_time: None,
        tax_free: None,
        vat_amount: None,
    }
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
                    zone: plan.zone.clone(),
                    banking,
                    holidays: &plan.holidays,
                };
                let mut until = None;
                for entry in calendar.entries(From::Number(0), 50).unwrap() {
                    let next = terms(anchor).next_period(&plan, until, anchor).unwrap();
                    assert_eq!((next.period, next.due_at), (entry.period, entry.due_at), "{recurrence} from {anchor}");
                    until = Some(next.period.end);
                }
            }
        }
    }
}
