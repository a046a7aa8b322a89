//! Subscriptions: found, listed, changed.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::columns::{
    ACCOUNT, AMOUNT, ANCHOR, CHARGE_TIME, CURRENCY, EXTERNAL_REF, PLAN, STARTS_ON, STATUS, TAX_FREE, VAT_AMOUNT, ZONE,
};
use super::import::{FieldChange, differences, values_of, write};
use super::{Desk, Signed, journal, sql, subject};
use crate::domain::charge::SubscriptionId;
use crate::domain::event::{Event, EventKind};
use crate::domain::subscription::{Status, Terms};
use crate::store::codec::Row;
use crate::store::db::{Fault, Tx};

/// A subscription's row, and where its schedule stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRow {
    pub id: i64,
    /// A cell for each of [`super::columns::COLUMNS`], in canonical form.
    pub values: Vec<Option<String>>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub next_look_at: Option<Timestamp>,
    /// Where the last opened period ends.
    pub opened_until: Option<Date>,
    pub not_before: Option<Date>,
    /// `paused`, `ended`, `blocked` or `problem`.
    pub parked: Option<String>,
    pub problem: Option<String>,
}

impl SubscriptionRow {
    fn of(row: &Row) -> Result<Self, Fault> {
        Ok(Self {
            id: row.int("id")?,
            values: values_of(row)?,
            created_at: row.at("created_at")?,
            updated_at: row.at("updated_at")?,
            next_look_at: row.at_opt("next_look_at")?,
            opened_until: row.day_opt("opened_until")?,
            not_before: row.day_opt("not_before")?,
            parked: row.text_opt("parked")?,
            problem: row.text_opt("problem")?,
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

    /// What says when it is billed and how much; `None` if the row holds what it cannot hold.
    pub fn terms(&self) -> Option<Terms> {
        let int = |place: usize| self.values[place].as_ref().and_then(|text| text.parse().ok());
        Some(Terms {
            id: SubscriptionId(self.id),
            account: self.account().to_owned(),
            external_ref: self.external_ref().to_owned(),
            status: Status::from_name(self.value(STATUS))?,
            plan: self.value(PLAN).to_owned(),
            amount: int(AMOUNT),
            currency: self.values[CURRENCY].clone(),
            anchor: self.value(ANCHOR).parse().ok()?,
            starts_on: self.values[STARTS_ON].as_ref().and_then(|text| text.parse().ok()),
            zone: self.values[ZONE].clone(),
            charge_time: self.values[CHARGE_TIME].clone(),
            tax_free: int(TAX_FREE),
            vat_amount: int(VAT_AMOUNT),
        })
    }
}

/// Which subscriptions to list.
#[derive(Debug, Clone, Default)]
pub struct SubscriptionFilter {
    /// Ids above this one.
    pub after: i64,
    pub account: Option<String>,
    pub status: Option<String>,
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
        rows.iter().map(SubscriptionRow::of).collect()
    }

    pub async fn subscriptions(&self, filter: &SubscriptionFilter) -> Result<Vec<SubscriptionRow>, Fault> {
        let params = [
            filter.after.into(),
            filter.account.as_deref().into(),
            filter.status.as_deref().into(),
            filter.plan.as_deref().into(),
            i64::from(filter.problems).into(),
            filter.limit.into(),
        ];
        let rows = self.database.read(&sql::LIST_SUBSCRIPTIONS, &params).await?;
        rows.iter().map(SubscriptionRow::of).collect()
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
