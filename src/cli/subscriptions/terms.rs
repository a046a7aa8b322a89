//! `rebilld subscriptions price|adjust`.

use jiff::civil::Date;

use super::change::report;
use super::find;
use super::rules::date;
use crate::cli::context::{Context, Opened, Why};
use crate::cli::failure::{Code, Failure};
use crate::domain::lifecycle::{Problem, next_period, seen};
use crate::domain::plan::Price;
use crate::domain::subscription::{Adjustment, Terms};
use crate::store::desk::columns::STATUS;
use crate::store::desk::{FieldChange, SubscriptionRow, TermsChange};

/// A dated price of one subscription.
#[derive(Debug, clap::Args)]
pub struct SetPrice {
    /// Your own reference of the subscription
    #[arg(value_name = "REF")]
    reference: String,
    /// In which account, if several have this reference
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Periods that start on this day or later, until the next price
    #[arg(long, value_name = "DATE")]
    from: String,
    /// For a quantity of 1, in minor units (won for KRW)
    #[arg(long, value_name = "MINOR", required_unless_present = "remove")]
    amount: Option<i64>,
    /// Tax-free part of it; without it, as before in proportion
    #[arg(long, value_name = "MINOR", requires = "amount")]
    tax_free: Option<i64>,
    /// VAT part of it; without it, as before in proportion
    #[arg(long, value_name = "MINOR", requires = "amount")]
    vat_amount: Option<i64>,
    /// Takes the price from that day back
    #[arg(long, conflicts_with = "amount")]
    remove: bool,
    #[command(flatten)]
    why: Why,
}

/// A discount or a surcharge of the next charge.
#[derive(Debug, clap::Args)]
pub struct Adjust {
    /// Your own reference of the subscription
    #[arg(value_name = "REF")]
    reference: String,
    /// In which account, if several have this reference
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Minor units (won for KRW): below 0 a discount, above a surcharge
    #[arg(long, value_name = "MINOR", allow_hyphen_values = true, required_unless_present = "remove")]
    amount: Option<i64>,
    /// What it is for; shown to operators, not sent to the gateway
    #[arg(long, value_name = "TEXT", requires = "amount")]
    name: Option<String>,
    /// Takes back the one with this number, if no charge has used it
    #[arg(long, value_name = "NUMBER", conflicts_with = "amount")]
    remove: Option<i64>,
    #[command(flatten)]
    why: Why,
}

impl SetPrice {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let from = date(&self.from).map_err(|wrong| Failure::data(format!("--from: {wrong}")))?;
        let change = match self.amount {
            Some(amount) => TermsChange::Price(price(from, amount, self.tax_free, self.vat_amount)?),
            None => TermsChange::RemovePrice(from),
        };
        let told = match &change {
            TermsChange::Price(price) => Some(price.amount.to_string()),
            _ => None,
        };
        let change_of = |row: &SubscriptionRow| {
            let old = row.prices.iter().find(|price| price.from == from).map(|price| price.amount.to_string());
            FieldChange { column: "price_changes", old, new: told.clone() }
        };
        apply(context, self.account.as_deref(), &self.reference, &change, change_of, &self.why).await
    }
}

fn price(from: Date, amount: i64, tax_free: Option<i64>, vat_amount: Option<i64>) -> Result<Price, Failure> {
    let parts = tax_free.unwrap_or(0).saturating_add(vat_amount.unwrap_or(0));
    let wrong = match () {
        () if amount <= 0 => format!("--amount: {amount} is too little: it has to be above 0"),
        () if tax_free.is_some_and(|part| part < 0) || vat_amount.is_some_and(|part| part < 0) => {
            "--tax-free and --vat-amount cannot be below 0".to_owned()
        }
        () if parts > amount => format!("--tax-free and --vat-amount are {parts} together, more than the amount of {amount}"),
        () => return Ok(Price { from, amount, tax_free, vat_amount }),
    };
    Err(Failure::data(wrong))
}

impl Adjust {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        if self.amount == Some(0) {
            return Err(Failure::new(Code::Usage, "--amount: 0 changes nothing"));
        }
        if self.name.as_ref().is_some_and(|name| name.is_empty() || name.chars().count() > 100) {
            return Err(Failure::data("--name: 1 to 100 characters"));
        }
        let change = match (self.amount, self.remove) {
            (Some(amount), _) => TermsChange::Adjust { amount, name: self.name.clone() },
            (None, Some(id)) => TermsChange::RemoveAdjustment(id),
            (None, None) => return Err(Failure::new(Code::Usage, "give --amount or --remove")),
        };
        let told = |amount: Option<i64>| amount.map(|amount| format!("{amount:+}"));
        let change_of = |row: &SubscriptionRow| {
            let taken = row.adjustments.iter().find(|adjustment| Some(adjustment.id) == self.remove);
            let old = told(taken.map(|adjustment| adjustment.amount));
            FieldChange { column: "adjustments", old, new: told(self.amount) }
        };
        apply(context, self.account.as_deref(), &self.reference, &change, change_of, &self.why).await
    }
}

async fn apply(
    context: &Context,
    account: Option<&str>,
    reference: &str,
    change: &TermsChange,
    change_of: impl FnOnce(&SubscriptionRow) -> FieldChange,
    why: &Why,
) -> Result<(), Failure> {
    let signed = context.signed(why)?;
    let opened = context.open_in_force().await?;
    let row = find(&opened, account, reference).await?;
    check(&opened, &row, change)?;
    let told = change_of(&row);
    if !opened.database.desk().change_terms(opened.now, &row, change, &signed).await? {
        let text = match change {
            TermsChange::RemovePrice(from) => format!("`{reference}` has no price of its own from {from} on"),
            _ => format!("`{reference}` has no such adjustment, or a charge has used it (`rebilld subscriptions show`)"),
        };
        return Err(Failure::data(text));
    }
    let after = find(&opened, Some(row.account()), row.external_ref()).await?;
    report(context, &opened, &after, &[told])
}

/// Refuses what would leave nothing that can be charged: after it, the next period has to have an amount.
fn check(opened: &Opened, row: &SubscriptionRow, change: &TermsChange) -> Result<(), Failure> {
    let Some(mut terms) = row.terms() else { return Ok(()) };
    let before = amount_of(opened, row, &terms);
    match change {
        TermsChange::Price(price) => {
            if let Some(until) = row.progress.opened_until.filter(|until| price.from < *until) {
                let text =
                    format!("--from: periods up to {until} are open already and keep their price: the earliest day is {until}");
                return Err(Failure::data(text));
            }
            terms.prices.retain(|other| other.from != price.from);
            terms.prices.push(*price);
        }
        TermsChange::RemovePrice(from) => terms.prices.retain(|price| price.from != *from),
        TermsChange::Adjust { amount, .. } => terms.adjustments.push(Adjustment { id: 0, amount: *amount }),
        TermsChange::RemoveAdjustment(id) => terms.adjustments.retain(|adjustment| adjustment.id != *id),
    }
    match (before, amount_of(opened, row, &terms)) {
        // what is wrong already may be put right step by step
        (Ok(()), Err(problem)) => Err(Failure::data(problem)),
        _ => Ok(()),
    }
}

fn amount_of(opened: &Opened, row: &SubscriptionRow, terms: &Terms) -> Result<(), String> {
    if row.value(STATUS) == "cancelled" {
        return Ok(());
    }
    let catalog = &opened.catalog;
    let said = |problem: Problem| problem.to_string();
    let progress = seen(catalog, terms, row.progress, row.created_at, row.was_paused(), opened.now).map_err(said)?;
    next_period(catalog, terms, &progress).map(drop).map_err(said)
}
