//! Subscriptions: found, listed, changed.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::columns::{
    ACCOUNT, AMOUNT, ANCHOR, CANCEL_AT_PERIOD_END, CHARGE_TIME, CURRENCY, ENDS_ON, EXTERNAL_REF, MAX_PERIODS, NEXT_PLAN, PLAN,
    QUANTITY, RESUME, STARTS_ON, STATUS, TAX_FREE, TRIAL_ANCHOR, TRIAL_DAYS, TRIAL_UNTIL, VAT_AMOUNT, ZONE,
};
use super::import::{FieldChange, differences, values_of, write};
use super::{Desk, Signed, journal, sql, subject};
use crate::domain::charge::SubscriptionId;
use crate::domain::event::{Event, EventKind};
use crate::domain::lifecycle::Progress;
use crate::domain::plan::{Price, Resume, TrialAnchor};
use crate::domain::subscription::{Adjustment, Status, Terms};
use crate::store::codec::Row;
use crate::store::db::{Fault, Tx};
use crate::store::rows;

/// A subscription's row, and where its schedule stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRow {
    pub id: i64,
    /// A cell for each of [`super::columns::COLUMNS`], in canonical form.
    pub values: Vec<Option<String>>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub next_look_at: Option<Timestamp>,
    pub progress: Progress,
    /// Dated prices, in the order of their days.
    pub prices: Vec<Price>,
    /// What the next charge uses up.
    pub adjustments: Vec<Adjustment>,
    /// Missed periods that wait for an operator.
    pub missed: Option<u32>,
    pub caught_up: Option<Date>,
    /// Of the schedule: what is written on it is refused if it has changed since.
    pub version: i64,
    /// `paused`, `ended`, `blocked` or `problem`.
    pub parked: Option<String>,
    pub problem: Option<String>,
    /// Why a part of it could not be read; the rest is here to be shown.
    pub unreadable: Option<String>,
}

impl SubscriptionRow {
    fn of(row: &Row) -> Result<Self, Fault> {
        let mut unreadable = None;
        let mut cannot = |fault: Fault| unreadable = Some(fault.to_string());
        let values = values_of(row, &mut cannot);
        let mut at = |column: &str| row.at(column).map_err(&mut cannot).unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Self {
            id: row.int("id")?,
            values,
            created_at: at("created_at"),
            updated_at: at("updated_at"),
            next_look_at: row.at_opt("next_look_at")?,
            progress: rows::progress(row)?,
            prices: Vec::new(),
            adjustments: Vec::new(),
            missed: row.int_opt("missed")?.map(|_| row.small("missed")).transpose()?,
            caught_up: row.day_opt("caught_up")?,
            version: row.int("version")?,
            parked: row.text_opt("parked")?,
            problem: row.text_opt("problem")?,
            unreadable,
        })
    }

    pub fn value(&self, place: usize) -> &str {
        self.values[place].as_deref().unwrap_or_default()
    }

    pub fn account(&self) -> &str {
        self.value(ACCOUNT)
    }

    pub fn external_ref(&self) -> &str {
        self.value(EXTERNAL_REF)
    }

    /// Whether the daemon last saw it paused, or ended.
    pub fn was_paused(&self) -> bool {
        matches!(self.parked.as_deref(), Some("paused" | "ended")) || self.progress.stopped_on.is_some()
    }

    /// What says when it is billed and how much; `None` if the row holds what it cannot hold.
    pub fn terms(&self) -> Option<Terms> {
        let (prices, adjustments) = (self.prices.clone(), self.adjustments.clone());
        let unreadable = self.unreadable.clone();
        Some(Terms { id: SubscriptionId(self.id), prices, adjustments, unreadable, ..terms_of(&self.values)? })
    }
}

/// What a row's cells say by themselves, without dated prices and adjustments. `None`: they hold what they cannot hold.
pub fn terms_of(values: &[Option<String>]) -> Option<Terms> {
    let value = |place: usize| values[place].as_deref().unwrap_or_default();
    let int = |place: usize| values[place].as_ref().and_then(|text| text.parse().ok());
    let narrow = |place: usize| values[place].as_ref().and_then(|text| text.parse::<u32>().ok());
    let day = |place: usize| values[place].as_ref().and_then(|text| text.parse::<Date>().ok());
    Some(Terms {
        status: Status::from_name(value(STATUS))?,
        next_plan: values[NEXT_PLAN].clone(),
        amount: int(AMOUNT),
        currency: values[CURRENCY].clone(),
        quantity: narrow(QUANTITY).unwrap_or(1),
        starts_on: day(STARTS_ON),
        ends_on: day(ENDS_ON),
        max_periods: narrow(MAX_PERIODS),
        cancel_at_period_end: value(CANCEL_AT_PERIOD_END) == "true",
        trial_days: narrow(TRIAL_DAYS),
        trial_until: day(TRIAL_UNTIL),
        trial_anchor: TrialAnchor::from_name(value(TRIAL_ANCHOR)),
        resume: Resume::from_name(value(RESUME)),
        zone: values[ZONE].clone(),
        charge_time: values[CHARGE_TIME].clone(),
        tax_free: int(TAX_FREE),
        vat_amount: int(VAT_AMOUNT),
        ..Terms::new(value(ACCOUNT), value(EXTERNAL_REF), value(PLAN), day(ANCHOR)?)
    })
}

/// Which subscriptions to list.
#[derive(Debug, Clone, Default)]
pub struct SubscriptionFilter {
    /// Ids above this one.
    pub after: i64,
    pub account: Option<String>,
    pub status: Option<String>,
    /// The state that was last told of them.
    pub state: Option<String>,
    pub plan: Option<String>,
    /// Only those whose schedule has a problem.
    pub problems: bool,
    pub limit: u32,
}

impl Desk<'_> {
    /// By the caller's own reference, in one account or in all.
    pub async fn find_subscriptions(&self, account: Option<&str>, external_ref: &str) -> Result<Vec<SubscriptionRow>, Fault> {
        let accounts = match account {
            Some(name) => vec![name.to_owned()],
            None => self.accounts().await?.into_iter().map(|account| account.name).collect(),
        };
        let rows = self.database.read(&sql::FIND_SUBSCRIPTIONS, &[accounts.into(), external_ref.into()]).await?;
        self.with_dated(&rows).await
    }

    /// Rows with their dated prices and their adjustments.
    pub(super) async fn with_dated(&self, rows: &[Row]) -> Result<Vec<SubscriptionRow>, Fault> {
        let mut rows = rows.iter().map(SubscriptionRow::of).collect::<Result<Vec<_>, Fault>>()?;
        let mut dated = self.database.dated_of(rows.iter().map(|row| row.id).collect()).await?;
        for row in &mut rows {
            let of_one = dated.remove(&row.id).unwrap_or_default();
            (row.prices, row.adjustments) = (of_one.prices, of_one.adjustments);
            row.unreadable = row.unreadable.take().or(of_one.unreadable);
        }
        Ok(rows)
    }

    pub async fn subscriptions(&self, filter: &SubscriptionFilter) -> Result<Vec<SubscriptionRow>, Fault> {
        let params = [
            filter.after.into(),
            filter.account.as_deref().into(),
            filter.status.as_deref().into(),
            filter.plan.as_deref().into(),
            i64::from(filter.problems).into(),
            filter.limit.into(),
            filter.state.as_deref().into(),
        ];
        let rows = self.database.read(&sql::LIST_SUBSCRIPTIONS, &params).await?;
        self.with_dated(&rows).await
    }

    /// Sets some cells of a subscription, with its journal entry and event. Nothing is written if nothing differs.
    ///
    /// `check` sees the row as it is, locked, and as it will be; what it refuses is returned as the inner error.
    pub async fn change_subscription<E>(
        &self,
        now: Timestamp,
        id: i64,
        action: &str,
        cells: &[(usize, Option<String>)],
        signed: &Signed,
        check: impl FnOnce(&SubscriptionRow, &SubscriptionRow) -> Result<(), E>,
    ) -> Result<Result<Vec<FieldChange>, E>, Fault> {
        let mut tx = self.database.begin_write().await?;
        let rows = tx.query(&sql::LOCK_SUBSCRIPTION, &[id.into()]).await?;
        let row = rows.first().ok_or_else(|| Fault::Corrupt(format!("subscription {id} has gone")))?;
        let old = SubscriptionRow::of(row)?;
        if let Some(why) = &old.unreadable {
            // all of its cells are written: one that cannot be read would be lost
            return Err(Fault::Corrupt(format!(
                "subscription `{}`: {why}: put that right with your own SQL",
                old.external_ref()
            )));
        }
        let mut new = old.clone();
        for (place, value) in cells {
            new.values[*place].clone_from(value);
        }
        if let Err(refused) = check(&old, &new) {
            return Ok(Err(refused));
        }
        let changes = differences(&old.values, &new.values);
        if changes.is_empty() {
            return Ok(Ok(changes));
        }
        let mut batch = tx.json_batch();
        write(&mut batch, &new.values);
        tx.execute(&sql::CHANGE_SUBSCRIPTIONS, &[batch.param(), now.into()]).await?;
        let (account, external_ref) = (new.account(), new.external_ref());
        let detail = changed_detail(&changes);
        journal(&mut tx, now, signed, action, &subject::subscription(account, external_ref), &detail).await?;
        let data = json!({
            "account": account,
            "external_ref": external_ref,
            "status": new.value(STATUS),
            "changed": changes.iter().map(|change| change.column).collect::<Vec<_>>(),
        });
        let event = Event::new(EventKind::SubscriptionChanged, &[account, external_ref, &now.to_string()], data);
        self.add_event(&mut tx, now, &event, id).await?;
        tx.commit().await?;
        Ok(Ok(changes))
    }

    /// Puts an event about a subscription into the outbox.
    async fn add_event(&self, tx: &mut Tx, now: Timestamp, event: &Event, subscription: i64) -> Result<(), Fault> {
        let params =
            [event.id.as_str().into(), event.kind.name().into(), now.into(), subscription.into(), event.data.to_string().into()];
        let rows = tx.query(&sql::ADD_EVENT, &params).await?;
        let seq = rows.first().ok_or_else(|| Fault::Corrupt("an event got no number".to_owned()))?.int("seq")?;
        let endpoints = self.database.endpoints.to_vec();
        if !endpoints.is_empty() {
            let params = [seq.into(), subscription.into(), now.into(), endpoints.into()];
            tx.execute(&sql::ADD_DELIVERIES, &params).await?;
        }
        Ok(())
    }
}

fn changed_detail(changes: &[FieldChange]) -> Value {
    let fields = changes.iter().map(|change| (change.column.to_owned(), json!({ "old": change.old, "new": change.new })));
    Value::Object(fields.collect())
}
