//! `rebilld subscriptions`.

mod change;
mod guard;
pub mod import;
mod rules;
mod sheet;
pub mod states;
mod terms;

use clap::Subcommand;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::context::{Context, Opened};
use super::failure::Failure;
use super::output::{Field, Listing, amount, at, field, print_one};
use crate::domain::lifecycle::{self, Next, NextPeriod, Problem, seen};
use crate::domain::plan::Price;
use crate::domain::state::SubscriptionState;
use crate::domain::subscription::Adjustment;
use crate::store::desk::columns::{AMOUNT, ANCHOR, COLUMNS, CURRENCY, CUSTOMER_UID, PLAN, STATUS};
use crate::store::desk::{SubscriptionFilter, SubscriptionRow};
pub use sheet::check as check_sheet;
use states::{Shown, next_words, states_of};

#[derive(Debug, Subcommand)]
pub enum Subscriptions {
    /// Imports a CSV file, all or nothing (docs/csv-and-sql.md)
    Import(import::ImportFile),
    /// Lists subscriptions
    List {
        /// One account instead of all
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[arg(long, value_parser = ["active", "paused", "cancelled"])]
        status: Option<String>,
        /// Only those that were last told to be in this state
        #[arg(long, value_parser = SubscriptionState::NAMES)]
        state: Option<String>,
        #[arg(long, value_name = "NAME")]
        plan: Option<String>,
        /// Only those that are not billed because their row or the config is wrong
        #[arg(long)]
        problems: bool,
        /// Ids above this one: the next page
        #[arg(long, default_value_t = 0, value_name = "ID")]
        after: i64,
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Shows one subscription, its schedule and its next period
    Show {
        /// Your own reference of it
        #[arg(value_name = "REF")]
        reference: String,
        /// In which account, if several have this reference
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
    /// Changes a subscription; open charges keep their amount
    Set(Box<change::Set>),
    /// Stops billing until `resume`; periods in between are not charged
    Pause(change::StatusChange),
    /// Bills a paused subscription again
    Resume(change::StatusChange),
    /// Stops billing for good: now, or when the period that is open ends
    Cancel {
        #[command(flatten)]
        change: change::StatusChange,
        /// The period that is open is the last; `resume` takes it back before its end
        #[arg(long)]
        at_period_end: bool,
    },
    /// Sets the price of periods that start on a day or later
    Price(terms::SetPrice),
    /// Adds a discount or a surcharge to the next charge, once
    Adjust(terms::Adjust),
}

impl Subscriptions {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Import(import) => import.run(context).await,
            Self::List { account, status, state, plan, problems, after, limit } => {
                let opened = context.open().await?;
                let filter = SubscriptionFilter { after, account, status, state, plan, problems, limit };
                let rows = opened.database.desk().subscriptions(&filter).await?;
                let states = states_of(&opened, &rows.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
                let rows = rows.iter().map(|row| listed(&opened, row, states.get(&row.id))).collect();
                Listing { rows, none: "no subscription matches" }.print(context.output)
            }
            Self::Show { reference, account } => {
                let opened = context.open().await?;
                let row = find(&opened, account.as_deref(), &reference).await?;
                let state = states_of(&opened, &[row.id]).await?.remove(&row.id);
                print_one(&whole(&opened, &row, state.as_ref()), context.output)
            }
            Self::Set(set) => set.run(context).await,
            Self::Pause(change) => change.run(context, change::Stop::Pause).await,
            Self::Resume(change) => change.run(context, change::Stop::Resume).await,
            Self::Cancel { change, at_period_end: false } => change.run(context, change::Stop::Cancel).await,
            Self::Cancel { change, at_period_end: true } => change.run(context, change::Stop::CancelAtPeriodEnd).await,
            Self::Price(price) => price.run(context).await,
            Self::Adjust(adjust) => adjust.run(context).await,
        }
    }
}

/// The one subscription that a reference means.
pub async fn find(opened: &Opened, account: Option<&str>, reference: &str) -> Result<SubscriptionRow, Failure> {
    let mut rows = opened.database.desk().find_subscriptions(account, reference).await?;
    match rows.len() {
        1 => Ok(rows.remove(0)),
        0 => {
            let place = account.map_or_else(String::new, |account| format!(" in account `{account}`"));
            Err(Failure::data(format!("there is no subscription `{reference}`{place}")))
        }
        _ => {
            let accounts: Vec<&str> = rows.iter().map(SubscriptionRow::account).collect();
            Err(Failure::data(format!("accounts {} have a subscription `{reference}`: add --account NAME", accounts.join(", "))))
        }
    }
}

/// What comes next, if the row and the config say it, by the same function that charges.
fn next_period(opened: &Opened, row: &SubscriptionRow, now: Timestamp) -> Result<(Next, TimeZone), String> {
    let terms = row.terms().ok_or("its row cannot be read")?;
    let catalog = &opened.catalog;
    let next = || {
        let progress = seen(catalog, &terms, row.progress, row.created_at, row.was_paused(), now)?;
        Ok((lifecycle::next_period(catalog, &terms, &progress)?, catalog.zone(&terms)?))
    };
    next().map_err(|problem: Problem| problem.to_string())
}

/// The next period, unless there is none.
fn period_of(next: &Result<(Next, TimeZone), String>) -> Option<&NextPeriod> {
    match next {
        Ok((Next::Period(next, _), _)) => Some(next),
        _ => None,
    }
}

fn schedule(row: &SubscriptionRow) -> String {
    match (row.parked.as_deref(), row.problem.as_deref()) {
        (Some("problem"), Some(problem)) => format!("problem: {problem}"),
        (Some("blocked"), _) => "waits for its unresolved charge".to_owned(),
        (Some(parked), _) => parked.to_owned(),
        (None, _) if row.next_look_at.is_some_and(|at| at == Timestamp::UNIX_EPOCH) => "to be looked at".to_owned(),
        (None, _) => "planned".to_owned(),
    }
}

fn shown_amount(opened: &Opened, row: &SubscriptionRow) -> String {
    let plan = opened.loaded.settings.plans.get(row.value(PLAN));
    let currency = row.values[CURRENCY].clone().or_else(|| plan.map(|plan| plan.currency.code().to_owned()));
    let minor = row.values[AMOUNT].as_ref().and_then(|text| text.parse().ok()).or_else(|| plan.and_then(|plan| plan.amount));
    match (minor, currency) {
        (Some(minor), Some(currency)) => amount(minor, &currency),
        _ => String::new(),
    }
}

fn listed(opened: &Opened, row: &SubscriptionRow, state: Option<&Shown>) -> Vec<Field> {
    let active = row.value(STATUS) == "active";
    let next = if active { next_period(opened, row, opened.now) } else { Err(String::new()) };
    let zone = next.as_ref().map_or_else(|_| opened.zone(row.account()), |(_, zone)| zone.clone());
    let next = period_of(&next);
    vec![
        field("id", row.id),
        field("account", row.account()),
        field("external_ref", row.external_ref()),
        field("status", row.value(STATUS)),
        field("state", state.map(|of| of.followed.state.name())),
        field("plan", row.value(PLAN)),
        field("customer_uid", row.value(CUSTOMER_UID)).hidden(),
        field("amount", row.values[AMOUNT].as_ref().and_then(|text| text.parse::<i64>().ok()))
            .shown(shown_amount(opened, row))
            .right(),
        field("anchor", row.value(ANCHOR)),
        field("next_period", next.map(|next| next.period.start.to_string())),
        at("next_due_at", next.map(|next| next.due_at), &zone),
        field("schedule", schedule(row)),
    ]
}

fn whole(opened: &Opened, row: &SubscriptionRow, state: Option<&Shown>) -> Vec<Field> {
    let next = next_period(opened, row, opened.now);
    let zone = next.as_ref().map_or_else(|_| opened.zone(row.account()), |(_, zone)| zone.clone());
    let mut fields = vec![field("id", row.id)];
    for (place, column) in COLUMNS.iter().enumerate() {
        let value = &row.values[place];
        let one = match value {
            // for people the plan's amount stands in; personal fields are for machines that ask for them in SQL
            _ if place == AMOUNT => {
                field(column.name, value.as_ref().and_then(|text| text.parse::<i64>().ok())).shown(shown_amount(opened, row))
            }
            Some(_) if column.personal => field(column.name, "***"),
            Some(text) => field(column.name, text.as_str()),
            None => field(column.name, None::<String>),
        };
        fields.push(one);
    }
    let price = |price: &Price| format!("{} from {}", price.amount, price.from);
    fields.push(field("price_changes", row.prices.iter().map(price).collect::<Vec<_>>().join(", ")));
    let adjustment = |adjustment: &Adjustment| format!("{:+} (no. {})", adjustment.amount, adjustment.id);
    fields.push(field("adjustments", row.adjustments.iter().map(adjustment).collect::<Vec<_>>().join(", ")));
    if let Some(Shown { followed, since }) = state {
        fields.push(field("state", followed.state.name()));
        fields.push(at("state_since", *since, &zone));
        fields.push(field("next_step", followed.next.name()).shown(next_words(followed.next)));
        fields.push(at("next_step_at", followed.next_at, &zone));
    }
    fields.push(field("schedule", schedule(row)));
    fields.push(field("opened_until", row.progress.opened_until.map(|day| day.to_string())));
    fields.push(field("periods", i64::from(row.progress.periods)));
    if row.value(STATUS) == "active" {
        match next {
            Ok((Next::Period(next, _), _)) => {
                fields.push(field("next_period", next.period.to_string()));
                fields.push(at("next_due_at", Some(next.due_at), &zone));
                let currency = next.amount.currency();
                fields.push(field("next_amount", next.amount.minor()).shown(amount(next.amount.minor(), currency.code())));
                fields.push(field("trial_end", next.trial_end.map(|day| day.to_string())));
            }
            Ok((Next::Ended { why, on }, _)) => {
                fields.push(field("ends", why.name()));
                fields.push(field("ended_on", on.map(|day| day.to_string())));
            }
            Ok((Next::Paused, _)) => {}
            Err(problem) => fields.push(field("problem", problem)),
        }
    }
    fields.push(at("created_at", Some(row.created_at), &zone));
    fields.push(at("updated_at", Some(row.updated_at), &zone));
    fields
}
