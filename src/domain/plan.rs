//! Plans: what admins adjust through config.

use std::sync::Arc;

use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::holidays::{Banking, Holidays};
use super::money::Currency;
use super::recurrence::Recurrence;

/// What happens to the next period while a charge of the subscription is unresolved or in dunning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WhilePastDue {
    /// It waits.
    #[default]
    Hold,
    /// It opens all the same.
    Continue,
}

/// How often, when and how much: shared by many subscriptions, which may override amount, title, zone and charge time.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub name: String,
    pub recurrence: Recurrence,
    /// Local time of day at which a period's charge falls due; a cron schedule's own if nothing else is said.
    pub charge_time: Time,
    pub zone: TimeZone,
    /// On which day a charge falls due whose period starts on a day without banks.
    pub banking: Banking,
    /// All plans have the same.
    pub holidays: Arc<Holidays>,
    /// In minor units; `None`: each subscription says it.
    pub amount: Option<i64>,
    pub currency: Currency,
    /// The order title that the payer sees; `None`: each subscription says it.
    pub title: Option<String>,
    pub tax_free: Option<i64>,
    pub vat_amount: Option<i64>,
    pub while_past_due: WhilePastDue,
}
