//! What a run came to, month by month.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::domain::attempt::AttemptState;
use crate::domain::charge::ChargeState;
use crate::domain::proof::Books;

/// One calendar month of due charges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Month {
    pub due: u64,
    pub paid: u64,
    /// Won charged.
    pub amount: i64,
    /// Paid after at least one decline.
    pub recovered: u64,
    pub unpaid: u64,
    /// In dunning, in doubt or in review at the end.
    pub open: u64,
}

/// The whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// By `YYYY-MM` of the due date.
    pub months: BTreeMap<String, Month>,
    pub total: Month,
    /// Declined tries.
    pub declined: u64,
    pub in_dunning: u64,
    pub in_doubt: u64,
    pub in_review: u64,
}

pub fn tally(books: &Books, zone: &TimeZone) -> Tally {
    let mut tally = Tally::default();
    for charge in &books.charges {
        let due = charge.due_at.to_zoned(zone.clone()).date();
        let month = tally.months.entry(format!("{}-{:02}", due.year(), due.month())).or_default();
        for sum in [month, &mut tally.total] {
            sum.due += 1;
            match charge.state {
                ChargeState::Paid => {
                    sum.paid += 1;
                    sum.amount += charge.amount;
                    sum.recovered += u64::from(charge.tries > 0);
                }
                ChargeState::Unpaid | ChargeState::Void => sum.unpaid += 1,
                ChargeState::Due | ChargeState::Doubt | ChargeState::Review => sum.open += 1,
            }
        }
        match charge.state {
            ChargeState::Due => tally.in_dunning += 1,
            ChargeState::Doubt => tally.in_doubt += 1,
            ChargeState::Review => tally.in_review += 1,
            _ => {}
        }
    }
    tally.declined = books.attempts.iter().filter(|attempt| attempt.state == AttemptState::Declined).count() as u64;
    tally
}
