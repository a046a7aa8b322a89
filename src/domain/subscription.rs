//! Subscriptions: rows that operators write, and the next period that follows from them.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::calendar::due_at;
use super::charge::SubscriptionId;
use super::money::Money;
use super::period::Period;
use super::plan::Plan;

/// Whether a subscription is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    Active,
    Paused,
    Cancelled,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Paused, Self::Cancelled].into_iter().find(|status| status.name() == name)
    }
}

/// The part of a subscription's row that says when it is billed and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub id: SubscriptionId,
    pub account: String,
    pub external_ref: String,
    pub status: Status,
    pub plan: String,
    /// In minor units; `None`: the plan's.
    pub amount: Option<i64>,
    pub currency: Option<String>,
    pub anchor: Date,
    /// The earliest period start that may open; `None`: the day on which the row is first seen.
    pub starts_on: Option<Date>,
    pub zone: Option<String>,
    /// `HH:MM`; `None`: the plan's.
    pub charge_time: Option<String>,
    pub tax_free: Option<i64>,
    pub vat_amount: Option<i64>,
}

/// Everything of PortOne's `again` request that a subscription may set, apart from ids and money.
///
/// Lengths are PortOne's (V1 schema, `AgainRequest`); they are checked before anything is committed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChargeOptions {
    pub buyer_name: Option<String>,
    pub buyer_email: Option<String>,
    pub buyer_tel: Option<String>,
    pub buyer_addr: Option<String>,
    pub buyer_postcode: Option<String>,
    /// Instalments in months; 0 and 1 are a lump sum. From 50,000 KRW.
    pub card_quota: Option<i64>,
    pub interest_free_by_merchant: Option<bool>,
    pub use_card_point: Option<bool>,
    pub custom_data: Option<String>,
    pub notice_url: Option<String>,
    pub product_type: Option<String>,
    pub product_count: Option<i64>,
    pub cash_receipt_type: Option<String>,
    /// A JSON text that PortOne hands to the provider.
    pub bypass: Option<String>,
    /// A JSON object; PortOne knows only `naverUseCfm` in it.
    pub extra: Option<serde_json::Value>,
    pub promotion_id: Option<String>,
    pub channel_key: Option<String>,
}

/// What is needed to charge a subscription's card.
#[derive(Debug, Clone, PartialEq)]
pub struct Payer {
    pub status: Status,
    pub customer_uid: String,
    pub plan: String,
    /// The order title; `None`: the plan's.
    pub name: Option<String>,
    pub options: ChargeOptions,
}

/// The next period of a subscription, ready to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextPeriod {
    pub period: Period,
    pub due_at: Timestamp,
    pub amount: Money,
    pub tax_free: Option<i64>,
    pub vat_amount: Option<i64>,
}

/// Why a subscription's row gives no next period: it waits until the row or the config is put right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("there is no time zone `{0}`")]
    UnknownZone(String),
    #[error("charge time `{0}` is not a time of day such as 10:00")]
    ChargeTime(String),
    #[error("neither the subscription nor its plan `{0}` has an amount")]
    NoAmount(String),
    #[error("the amount has to be above 0, and is {0}")]
    Amount(i64),
    #[error("{0}")]
    Currency(String),
    #[error("the schedule leaves the calendar")]
    OffTheCalendar,
}

impl Terms {
    /// The zone in which this subscription's days are counted: its own, else the plan's.
    pub fn zone(&self, plan: &Plan) -> Result<TimeZone, Problem> {
        match &self.zone {
            None => Ok(plan.zone.clone()),
            Some(name) => TimeZone::get(name).map_err(|_| Problem::UnknownZone(name.clone())),
        }
    }

    /// The first local date that may be charged for.
    ///
    /// `seen` is what this said when the row was last looked at: the days of a pause are never charged for, not even once
    /// the pause is long over.
    pub fn not_before(&self, seen: Option<Date>, was_paused: bool, today: Date) -> Date {
        match self.starts_on.max(seen) {
            Some(day) if was_paused => day.max(today),
            Some(day) => day,
            None if was_paused => today,
            None => today.max(self.anchor),
        }
    }

    /// The period that opens next.
    ///
    /// `opened_until` is where the last opened period ends; the next one starts there, whatever has changed since. For
    /// a subscription that has never been billed, and after a pause, `not_before` is the first local date that may be
    /// charged for: earlier periods were somebody else's, or nobody's.
    pub fn next_period(&self, plan: &Plan, opened_until: Option<Date>, not_before: Date) -> Result<NextPeriod, Problem> {
        let zone = self.zone(plan)?;
        let start = match opened_until {
            Some(end) if end >= not_before => end,
            _ => plan.recurrence.first_start_from(self.anchor, not_before).ok_or(Problem::OffTheCalendar)?,
        };
        let period = plan.recurrence.period_starting(self.anchor, start).ok_or(Problem::OffTheCalendar)?;
        let time = match &self.charge_time {
            None => plan.charge_time,
            Some(text) => text.parse::<Time>().map_err(|_| Problem::ChargeTime(text.clone()))?,
        };
        let due_at = due_at(period.start, time, &zone, plan.banking, &plan.holidays).ok_or(Problem::OffTheCalendar)?;
        let currency = match &self.currency {
            None => plan.currency,
            Some(code) => code.parse().map_err(|wrong: super::money::MoneyError| Problem::Currency(wrong.to_string()))?,
        };
        let minor = self.amount.or(plan.amount).ok_or_else(|| Problem::NoAmount(plan.name.clone()))?;
        if minor <= 0 {
            return Err(Problem::Amount(minor));
        }
        Ok(NextPeriod {
            period,
            due_at,
            amount: Money::new(minor, currency),
            tax_free: self.tax_free.or(plan.tax_free),
            vat_amount: self.vat_amount.or(plan.vat_amount),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn terms(starts_on: Option<Date>) -> Terms {
        Terms {
            id: SubscriptionId(1),
            account: "main".to_owned(),
            external_ref: "sub-0001".to_owned(),
            status: Status::Active,
            plan: "monthly".to_owned(),
            amount: Some(9_900),
            currency: None,
            anchor: date(2026, 1, 1),
            starts_on,
            zone: None,
            charge_time: None,
            tax_free: None,
            vat_amount: None,
        }
    }

    #[test]
    fn the_months_of_a_pause_are_never_charged_for() {
        for starts_on in [None, Some(date(2026, 1, 1))] {
            let terms = terms(starts_on);
            let resumed = terms.not_before(Some(date(2026, 1, 1)), true, date(2026, 4, 15));
            assert_eq!(resumed, date(2026, 4, 15));
            // the pause is over and forgotten by the schedule, but what it was looked at with is kept
            assert_eq!(terms.not_before(Some(resumed), false, date(2026, 5, 1)), date(2026, 4, 15));
        }
    }

    #[test]
    fn a_start_in_the_future_outlasts_a_pause() {
        let terms = terms(Some(date(2026, 12, 1)));
        assert_eq!(terms.not_before(None, true, date(2026, 9, 1)), date(2026, 12, 1));
        assert_eq!(terms.not_before(Some(date(2026, 9, 1)), true, date(2026, 9, 1)), date(2026, 12, 1));
    }
}
