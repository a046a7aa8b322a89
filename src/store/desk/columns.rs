//! The columns of the public table `subscriptions`: their kinds and bounds, once for import, change and listing.

use crate::domain::plan::{Resume, TrialAnchor};

/// A column that operators may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// What it means, for the documentation.
    pub doc: &'static str,
    /// Its values are not to be shown.
    pub personal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// So many characters at least and at most.
    Text(usize, usize),
    /// A whole number of so much at least and at most.
    Int(i64, i64),
    Flag,
    Date,
    Choice(&'static [&'static str]),
}

impl Kind {
    /// How it is stored; a choice is a text.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Text(..) | Self::Choice(_))
    }
}

const fn column(name: &'static str, kind: Kind, doc: &'static str) -> Column {
    Column { name, kind, doc, personal: false }
}

const fn personal(name: &'static str, kind: Kind, doc: &'static str) -> Column {
    Column { name, kind, doc, personal: true }
}

const MINOR: i64 = 1_000_000_000_000;

/// In the order of the table.
#[rustfmt::skip]
pub const COLUMNS: &[Column] = &[
    column("account", Kind::Text(1, 64), "Name of an `[accounts.NAME]` of the config. Never changes."),
    column("external_ref", Kind::Text(1, 200), "Your own id of the subscription, unique in its account. Never changes: the ids at the gateway are derived from it."),
    column("status", Kind::Choice(&["active", "paused", "cancelled"]), "Empty: `active` for a new row, as it is for an old one."),
    column("plan", Kind::Text(1, 64), "Name of a `[plans.NAME]` of the config, or of a row of the table `plans`."),
    column("customer_uid", Kind::Text(1, 80), "The billing key's `customer_uid` at PortOne."),
    column("amount", Kind::Int(1, MINOR), "In minor units: won for KRW, cents for USD. Empty: the plan's."),
    column("currency", Kind::Text(3, 3), "ISO 4217 code. Empty: the plan's."),
    column("name", Kind::Text(1, 40), "The order title that the payer sees. Empty: the plan's."),
    column("anchor", Kind::Date, "The local date from which all periods are counted."),
    column("starts_on", Kind::Date, "The earliest period start to charge for. Empty: the day on which the row was written. Periods before it are never charged."),
    column("zone", Kind::Text(1, 64), "IANA time zone. Empty: the plan's."),
    column("charge_time", Kind::Text(5, 5), "Local time of day, `HH:MM`. Empty: the plan's."),
    column("tax_free", Kind::Int(0, MINOR), "Tax-free part of the amount, in minor units. Empty: the plan's."),
    column("vat_amount", Kind::Int(0, MINOR), "VAT part of the amount, in minor units. Empty: the plan's."),
    personal("buyer_name", Kind::Text(0, 16), "Sent to PortOne with each charge; some providers want it."),
    personal("buyer_email", Kind::Text(0, 64), "The same."),
    personal("buyer_tel", Kind::Text(0, 16), "The same."),
    personal("buyer_addr", Kind::Text(0, 128), "The same."),
    personal("buyer_postcode", Kind::Text(0, 8), "The same."),
    column("card_quota", Kind::Int(0, 36), "Instalments in months; 0 and 1 are a lump sum. From 50,000 KRW."),
    column("interest_free_by_merchant", Kind::Flag, "`true` or `false`."),
    column("use_card_point", Kind::Flag, "`true` or `false`."),
    personal("custom_data", Kind::Text(0, 4000), "Stored by PortOne and echoed."),
    personal("notice_url", Kind::Text(0, 2000), "Where PortOne sends its webhook for these charges."),
    column("product_type", Kind::Choice(&["real", "digital"]), ""),
    column("product_count", Kind::Int(1, 1_000_000_000), ""),
    column("cash_receipt_type", Kind::Choice(&["person", "company", "anonymous"]), ""),
    personal("bypass", Kind::Text(0, 8000), "A JSON text that PortOne hands to the provider."),
    personal("extra", Kind::Text(0, 8000), "A JSON object as text; PortOne knows only `naverUseCfm` in it."),
    column("promotion_id", Kind::Text(0, 200), ""),
    column("channel_key", Kind::Text(0, 55), "Which channel of a multi-channel billing key to charge."),
    column("quantity", Kind::Int(1, 1_000_000), "What the price is multiplied by. Empty: 1."),
    column("next_plan", Kind::Text(1, 64), "The plan that takes over when the next period opens; then it is moved into `plan`."),
    column("trial_days", Kind::Int(0, 3650), "Days from the anchor on that are not charged for, for rows that have never been billed. Empty: the plan's."),
    column("trial_until", Kind::Date, "The first day after the trial. Wins over `trial_days`."),
    column("trial_anchor", Kind::Choice(&TrialAnchor::NAMES), "From where periods are counted after the trial. Empty: the plan's."),
    column("resume", Kind::Choice(&Resume::NAMES), "From where periods are counted after a pause. Empty: the plan's."),
    column("ends_on", Kind::Date, "No period starts on this day or after it."),
    column("max_periods", Kind::Int(1, 100_000), "Periods at most. Empty: the plan's."),
    column("cancel_at_period_end", Kind::Flag, "`true`: the period that is open is the last. Can be taken back before its end."),
];

pub const ACCOUNT: usize = 0;
pub const EXTERNAL_REF: usize = 1;
pub const STATUS: usize = 2;
pub const PLAN: usize = 3;
pub const CUSTOMER_UID: usize = 4;
pub const AMOUNT: usize = 5;
pub const CURRENCY: usize = 6;
pub const NAME: usize = 7;
pub const ANCHOR: usize = 8;
pub const STARTS_ON: usize = 9;
pub const ZONE: usize = 10;
pub const CHARGE_TIME: usize = 11;
pub const TAX_FREE: usize = 12;
pub const VAT_AMOUNT: usize = 13;
pub const QUANTITY: usize = 31;
pub const NEXT_PLAN: usize = 32;
pub const TRIAL_DAYS: usize = 33;
pub const TRIAL_UNTIL: usize = 34;
pub const TRIAL_ANCHOR: usize = 35;
pub const RESUME: usize = 36;
pub const ENDS_ON: usize = 37;
pub const MAX_PERIODS: usize = 38;
pub const CANCEL_AT_PERIOD_END: usize = 39;

/// Without these there is no subscription.
pub const REQUIRED: [usize; 5] = [ACCOUNT, EXTERNAL_REF, PLAN, CUSTOMER_UID, ANCHOR];

/// The place of a column.
pub fn index(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|column| column.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_are_those_of_the_table() {
        let named = [
            (ACCOUNT, "account"),
            (EXTERNAL_REF, "external_ref"),
            (STATUS, "status"),
            (PLAN, "plan"),
            (CUSTOMER_UID, "customer_uid"),
            (AMOUNT, "amount"),
            (CURRENCY, "currency"),
            (NAME, "name"),
            (ANCHOR, "anchor"),
            (STARTS_ON, "starts_on"),
            (ZONE, "zone"),
            (CHARGE_TIME, "charge_time"),
            (TAX_FREE, "tax_free"),
            (VAT_AMOUNT, "vat_amount"),
            (QUANTITY, "quantity"),
            (NEXT_PLAN, "next_plan"),
            (TRIAL_DAYS, "trial_days"),
            (TRIAL_UNTIL, "trial_until"),
            (TRIAL_ANCHOR, "trial_anchor"),
            (RESUME, "resume"),
            (ENDS_ON, "ends_on"),
            (MAX_PERIODS, "max_periods"),
            (CANCEL_AT_PERIOD_END, "cancel_at_period_end"),
        ];
        for (place, name) in named {
            assert_eq!(index(name), Some(place));
        }
        for (start, terms) in [
            (
                include_str!("../../../migrations/sqlite/0001_start.sql"),
                include_str!("../../../migrations/sqlite/0003_terms.sql"),
            ),
            (
                include_str!("../../../migrations/postgres/0001_start.sql"),
                include_str!("../../../migrations/postgres/0003_terms.sql"),
            ),
        ] {
            let table = start.split("CREATE TABLE subscriptions (").nth(1).unwrap().split("UNIQUE").next().unwrap();
            let mut names: Vec<&str> = table.lines().filter_map(|line| line.split_whitespace().next()).collect();
            // id first, created_at and updated_at last
            names.remove(0);
            names.truncate(names.len() - 2);
            let added = terms.split("schedules").next().unwrap().split("ADD COLUMN ").skip(1);
            names.extend(added.filter_map(|column| column.split_whitespace().next()));
            let known: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
            assert_eq!(names, known);
        }
    }
}
