//! Subscriptions: rows that operators write. What follows from them is in [`super::lifecycle`].

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::charge::SubscriptionId;
use super::plan::{Price, Resume, TrialAnchor};

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
    /// The plan that takes over when the next period opens.
    pub next_plan: Option<String>,
    /// For a quantity of 1, in minor units; `None`: the plan's.
    pub amount: Option<i64>,
    pub currency: Option<String>,
    /// What the price is multiplied by, at least 1.
    pub quantity: u32,
    pub anchor: Date,
    /// The earliest period start that may open; `None`: the day on which the row was written.
    pub starts_on: Option<Date>,
    /// No period starts on this day or after it.
    pub ends_on: Option<Date>,
    /// Periods at most; `None`: the plan's.
    pub max_periods: Option<u32>,
    /// The period that is open, or the trial, is the last.
    pub cancel_at_period_end: bool,
    /// Days from the anchor on that are not charged for; `None`: the plan's.
    pub trial_days: Option<u32>,
    /// The first day after the trial; wins over `trial_days`.
    pub trial_until: Option<Date>,
    pub trial_anchor: Option<TrialAnchor>,
    pub resume: Option<Resume>,
    pub zone: Option<String>,
    /// `HH:MM`; `None`: the plan's.
    pub charge_time: Option<String>,
    pub tax_free: Option<i64>,
    pub vat_amount: Option<i64>,
    /// Dated prices of this subscription, from the table `price_changes`.
    pub prices: Vec<Price>,
    /// What is added to the next charge, once, from the table `adjustments`.
    pub adjustments: Vec<Adjustment>,
    /// Why a part of them could not be read: nothing is billed without it.
    pub unreadable: Option<String>,
}

/// A discount (below 0) or a surcharge of one charge, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adjustment {
    pub id: i64,
    pub amount: i64,
}

impl Terms {
    /// An active subscription that leaves everything to its plan.
    pub fn new(account: impl Into<String>, external_ref: impl Into<String>, plan: impl Into<String>, anchor: Date) -> Self {
        Self {
            id: SubscriptionId(0),
            account: account.into(),
            external_ref: external_ref.into(),
            status: Status::Active,
            plan: plan.into(),
            next_plan: None,
            amount: None,
            currency: None,
            quantity: 1,
            anchor,
            starts_on: None,
            ends_on: None,
            max_periods: None,
            cancel_at_period_end: false,
            trial_days: None,
            trial_until: None,
            trial_anchor: None,
            resume: None,
            zone: None,
            charge_time: None,
            tax_free: None,
            vat_amount: None,
            prices: Vec::new(),
            adjustments: Vec::new(),
            unreadable: None,
        }
    }

    /// The name of the plan under which the next period opens.
    pub fn coming_plan(&self) -> &str {
        self.next_plan.as_ref().unwrap_or(&self.plan)
    }
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
    /// The subscription's own zone.
    pub zone: Option<String>,
    pub options: ChargeOptions,
}
