//! `rebilld subscriptions set|pause|resume|cancel`.

use serde_json::json;

use super::import::told;
use super::rules::Rules;
use super::{find, next_period, period_of};
use crate::cli::context::{Context, Opened, Why};
use crate::cli::failure::{Code, Failure};
use crate::cli::output::{Output, local, print_json, say};
use crate::config::closest;
use crate::domain::lifecycle::Next;
use crate::store::desk::columns::{ACCOUNT, CANCEL_AT_PERIOD_END, COLUMNS, EXTERNAL_REF, REQUIRED, STARTS_ON, STATUS, index};
use crate::store::desk::{FieldChange, SubscriptionRow};

/// A change of the status alone.
#[derive(Debug, clap::Args)]
pub struct StatusChange {
    /// Your own reference of the subscription
    #[arg(value_name = "REF")]
    reference: String,
    /// In which account, if several have this reference
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    #[command(flatten)]
    why: Why,
}

/// An empty text takes a value back, so that the plan's applies.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// Your own reference of the subscription
    #[arg(value_name = "REF")]
    reference: String,
    /// In which account, if several have this reference
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// The billing key of a new card; a charge that waits for one is tried again at once
    #[arg(long, value_name = "TEXT")]
    customer_uid: Option<String>,
    /// In minor units (won for KRW), from the next period on
    #[arg(long, value_name = "MINOR", allow_hyphen_values = true)]
    amount: Option<String>,
    /// The order title that the payer sees
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// The earliest period start to charge for (starts_on); periods before it are skipped
    #[arg(long, visible_alias = "starts-on", value_name = "DATE")]
    next_date: Option<String>,
    /// The date from which periods are counted
    #[arg(long, value_name = "DATE")]
    anchor: Option<String>,
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    /// The plan that takes over when the next period opens
    #[arg(long, value_name = "NAME")]
    next_plan: Option<String>,
    /// What the price is multiplied by
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    quantity: Option<String>,
    /// The first day after the trial
    #[arg(long, value_name = "DATE")]
    trial_until: Option<String>,
    /// No period starts on this day or after it
    #[arg(long, value_name = "DATE")]
    ends_on: Option<String>,
    /// Periods at most
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    max_periods: Option<String>,
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    #[arg(long, value_name = "HH:MM")]
    charge_time: Option<String>,
    #[arg(long, value_name = "CODE")]
    currency: Option<String>,
    #[arg(long, value_name = "MINOR", allow_hyphen_values = true)]
    tax_free: Option<String>,
    #[arg(long, value_name = "MINOR", allow_hyphen_values = true)]
    vat_amount: Option<String>,
    /// Any other column of the table `subscriptions`
    #[arg(long = "column", value_name = "NAME=VALUE")]
    columns: Vec<String>,
    #[command(flatten)]
    why: Why,
}

/// What is done to the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Pause,
    Resume,
    Cancel,
    CancelAtPeriodEnd,
}

impl StatusChange {
    pub async fn run(self, context: &Context, stop: Stop) -> Result<(), Failure> {
        let (action, status, at_period_end) = match stop {
            Stop::Pause => ("subscriptions pause", "paused", None),
            // a cancellation that has not taken effect is taken back
            Stop::Resume => ("subscriptions resume", "active", Some(None)),
            Stop::Cancel => ("subscriptions cancel", "cancelled", None),
            Stop::CancelAtPeriodEnd => ("subscriptions cancel", "active", Some(Some("true".to_owned()))),
        };
        let opened = context.open_to_change().await?;
        let row = find(&opened, self.account.as_deref(), &self.reference).await?;
        let check = move |old: &SubscriptionRow, _new: &SubscriptionRow| match (old.value(STATUS), stop) {
            ("cancelled", Stop::Pause | Stop::Resume | Stop::CancelAtPeriodEnd) => Err(Failure::data(format!(
                "subscription `{}` is cancelled, and that is for good: add another one",
                old.external_ref()
            ))),
            ("paused", Stop::CancelAtPeriodEnd) => Err(Failure::data(format!(
                "subscription `{}` is paused, and no period follows the last one: cancel it without --at-period-end",
                old.external_ref()
            ))),
            _ => Ok(()),
        };
        let mut cells = vec![(STATUS, Some(status.to_owned()))];
        cells.extend(at_period_end.map(|value| (CANCEL_AT_PERIOD_END, value)));
        change(context, &opened, &row, action, &cells, &self.why, check).await
    }
}

impl Set {
    /// The columns that are to be set, and their texts.
    fn cells(&self) -> Result<Vec<(usize, String)>, Failure> {
        let named = [
            ("customer_uid", &self.customer_uid),
            ("amount", &self.amount),
            ("name", &self.name),
            ("starts_on", &self.next_date),
            ("anchor", &self.anchor),
            ("plan", &self.plan),
            ("next_plan", &self.next_plan),
            ("quantity", &self.quantity),
            ("trial_until", &self.trial_until),
            ("ends_on", &self.ends_on),
            ("max_periods", &self.max_periods),
            ("zone", &self.zone),
            ("charge_time", &self.charge_time),
            ("currency", &self.currency),
            ("tax_free", &self.tax_free),
            ("vat_amount", &self.vat_amount),
        ];
        let mut cells = Vec::new();
        for (name, value) in named {
            if let (Some(place), Some(value)) = (index(name), value) {
                cells.push((place, value.clone()));
            }
        }
        for assignment in &self.columns {
            let usage = |text: String| Failure::new(Code::Usage, text);
            let (name, value) = assignment
                .split_once('=')
                .ok_or_else(|| usage("--column wants NAME=VALUE, such as --column buyer_tel=010-0000-0000".to_owned()))?;
            let place = index(name).ok_or_else(|| {
                let meant = closest(name, COLUMNS.iter().map(|column| column.name));
                usage(format!(
                    "there is no column `{name}`{}",
                    meant.map_or_else(String::new, |meant| format!(": did you mean `{meant}`?"))
                ))
            })?;
            match place {
                ACCOUNT | EXTERNAL_REF => {
                    return Err(Failure::data(format!("`{name}` of a subscription never changes: cancel it and add another")));
                }
                STATUS => return Err(usage("use `subscriptions pause`, `resume` or `cancel` for the status".to_owned())),
                _ => cells.push((place, value.to_owned())),
            }
        }
        if cells.is_empty() {
            return Err(Failure::new(Code::Usage, "nothing is to be set: give --customer-uid, --amount, --name, --next-date …"));
        }
        Ok(cells)
    }

    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let cells = self.cells()?;
        let opened = context.open_to_change().await?;
        let settings = &opened.loaded.settings;
        let mut rules = Rules::new(settings);
        let mut checked = Vec::with_capacity(cells.len());
        for (place, text) in cells {
            let column = COLUMNS[place].name;
            if text.is_empty() {
                if REQUIRED.contains(&place) {
                    return Err(Failure::data(format!("{column}: cannot be empty")));
                }
                checked.push((place, None));
                continue;
            }
            let value = rules.cell(place, &text).map_err(|wrong| Failure::data(format!("{column}: {wrong}")))?;
            checked.push((place, Some(value)));
        }
        let row = find(&opened, self.account.as_deref(), &self.reference).await?;
        let check = |old: &SubscriptionRow, new: &SubscriptionRow| {
            if let Some((column, wrong)) = rules.row(&new.values, &|_| true).into_iter().next() {
                return Err(Failure::data(format!("{column}: {wrong}")));
            }
            // dates in this form sort as texts
            let opened_until = old.progress.opened_until.map(|day| day.to_string());
            match (&new.values[STARTS_ON], opened_until) {
                (Some(date), Some(until)) if old.values[STARTS_ON] != new.values[STARTS_ON] && *date < until => {
                    Err(Failure::data(format!(
                        "starts_on: periods up to {until} are open already: the earliest next date is {until}"
                    )))
                }
                _ => Ok(()),
            }
        };
        change(context, &opened, &row, "subscriptions set", &checked, &self.why, check).await
    }
}

async fn change(
    context: &Context,
    opened: &Opened,
    row: &SubscriptionRow,
    action: &str,
    cells: &[(usize, Option<String>)],
    why: &Why,
    check: impl FnOnce(&SubscriptionRow, &SubscriptionRow) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let signed = context.signed(why)?;
    let desk = opened.database.desk();
    let changes = desk.change_subscription(opened.now, row.id, action, cells, &signed, check).await??;
    let after = find(opened, Some(row.account()), row.external_ref()).await?;
    report(context, opened, &after, &changes)
}

pub(super) fn report(context: &Context, opened: &Opened, row: &SubscriptionRow, changes: &[FieldChange]) -> Result<(), Failure> {
    let next = next_period(opened, row, opened.now);
    let active = row.value(STATUS) == "active";
    if context.output == Output::Json {
        let fields = changes.iter().map(|change| json!({ "column": change.column, "old": change.old, "new": change.new }));
        let next = period_of(&next).filter(|_| active);
        return print_json(&json!({
            "account": row.account(),
            "external_ref": row.external_ref(),
            "status": row.value(STATUS),
            "changes": fields.collect::<Vec<_>>(),
            "next_period": next.map(|next| next.period.start.to_string()),
            "next_due_at": next.map(|next| next.due_at.to_string()),
            "next_amount": next.map(|next| next.amount.minor()),
        }));
    }
    if context.quiet {
        return Ok(());
    }
    let name = format!("{}/{}", row.account(), row.external_ref());
    if changes.is_empty() {
        return say(&format!("{name}: nothing changes"));
    }
    say(&format!("{name}: {}", told(changes)))?;
    match next {
        Ok((Next::Period(next, _), zone)) if active => {
            say(&format!("next period {}: {} due {}", next.period, next.amount, local(next.due_at, &zone)))
        }
        Ok((Next::Ended { why, on }, _)) if active => {
            let on = on.map_or_else(|| "now".to_owned(), |day| day.to_string());
            say(&format!("no further period opens: it ends {on} ({})", why.name()))
        }
        Err(problem) if active => say(&format!("it will not be billed: {problem}")),
        _ => Ok(()),
    }
}
