//! Plans: what admins adjust through config, and all of them together.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::{Date, Time};
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

/// From where periods are counted once a trial has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TrialAnchor {
    /// From the day on which the trial ends: the first period is a whole one.
    #[default]
    TrialEnd,
    /// From the subscription's anchor: the first period is short, up to the anchor's next boundary.
    Keep,
}

impl TrialAnchor {
    pub const NAMES: [&'static str; 2] = ["trial_end", "keep"];

    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|place| [Self::TrialEnd, Self::Keep][place])
    }
}

/// From where periods are counted after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Resume {
    /// As before: the next period starts on the first boundary after the pause.
    #[default]
    Keep,
    /// From the day on which the pause ends: a period starts on it at once.
    Anchor,
}

impl Resume {
    pub const NAMES: [&'static str; 2] = ["keep", "anchor"];

    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|place| [Self::Keep, Self::Anchor][place])
    }
}

/// What becomes of periods that fell due while nobody opened them. One alone is opened late, whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CatchUp {
    /// All are opened, one after the other, up to so many; more wait for an operator.
    All { most: u32 },
    /// Only the latest one is opened; the others are passed over and told.
    LatestOnly,
    /// They wait for an operator.
    #[default]
    Hold,
}

/// A price that holds for all periods that start on a day or after it, until the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    pub from: Date,
    /// For a quantity of 1, in minor units, above 0.
    pub amount: i64,
    /// `None`: the part that it replaces, scaled.
    pub tax_free: Option<i64>,
    pub vat_amount: Option<i64>,
}

/// How often, when and how much: shared by many subscriptions, which may override amount, title, zone and charge time.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub name: String,
    pub recurrence: Recurrence,
    /// Local time of day at which a period's charge falls due; a cron schedule's own if nothing else is said.
    pub charge_time: Time,
    /// `None`: the account's.
    pub zone: Option<TimeZone>,
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
    /// Dated changes of the price, in the order of their days.
    pub prices: Vec<Price>,
    /// Days from the anchor on that are not charged for; 0: no trial.
    pub trial_days: u32,
    /// The first day after the trial; wins over `trial_days`.
    pub trial_until: Option<Date>,
    pub trial_anchor: TrialAnchor,
    pub resume: Resume,
    /// Periods of one subscription at most.
    pub max_periods: Option<u32>,
    pub catch_up: CatchUp,
    pub while_past_due: WhilePastDue,
    /// Which dunning its declined charges are under; `None`: the default one.
    pub dunning: Option<String>,
}

impl Plan {
    /// A plan without an amount that charges at 10:00, with every other setting at its default.
    pub fn new(name: impl Into<String>, recurrence: Recurrence) -> Self {
        Self {
            name: name.into(),
            recurrence,
            charge_time: Time::constant(10, 0, 0, 0),
            zone: None,
            banking: Banking::default(),
            holidays: Arc::default(),
            amount: None,
            currency: Currency::KRW,
            title: None,
            tax_free: None,
            vat_amount: None,
            prices: Vec::new(),
            trial_days: 0,
            trial_until: None,
            trial_anchor: TrialAnchor::default(),
            resume: Resume::default(),
            max_periods: None,
            catch_up: CatchUp::default(),
            while_past_due: WhilePastDue::default(),
            dunning: None,
        }
    }
}

/// What an account says about all of its subscriptions.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountTerms {
    /// The zone where neither the subscription nor its plan has one.
    pub zone: TimeZone,
    /// The gateway's merchant sells taxed and tax-free goods: both parts are always sent.
    pub mixed_tax: bool,
}

/// All plans, and the accounts' part: what the terms of a subscription refer to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Catalog {
    pub plans: BTreeMap<String, Plan>,
    /// Plans of the database that cannot be billed by, and why.
    pub wrong: BTreeMap<String, String>,
    pub accounts: BTreeMap<String, AccountTerms>,
}
