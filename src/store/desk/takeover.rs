//! Billing keys that PortOne's own schedule is going to charge.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Desk, Signed, journal, sql, subject};
use crate::domain::charge::AccountId;
use crate::domain::money::Money;
use crate::store::codec::Row;
use crate::store::db::{Fault, Tx};
use crate::store::rows;
use crate::store::sql::cards;

/// A booking whose time is nearer than this may be carried out while it is looked at: clocks differ, and answers take time.
const NEAR: SignedDuration = SignedDuration::from_mins(10);

/// A billing key of the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The subscription's row: where the next page begins.
    pub id: i64,
    pub customer_uid: String,
    /// Its subscription is cancelled: nothing will be charged to it here.
    pub cancelled: bool,
}

/// A billing key with bookings, as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookedKey {
    pub customer_uid: String,
    /// At least so many.
    pub bookings: i64,
    /// When the first of them is due.
    pub first_at: Option<Timestamp>,
    pub checked_at: Timestamp,
}

/// A charge that waits for its billing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingCharge {
    pub external_ref: String,
    pub period_start: Date,
    pub due_at: Timestamp,
    pub amount: Money,
}

impl BookedKey {
    /// Whether PortOne may have carried a booking of it out, or may do so while it is looked at: whether the list shows none any more
    /// says nothing then.
    pub fn may_be_charged(&self, now: Timestamp) -> bool {
        self.first_at.is_none_or(|first| first <= near(now))
    }

    fn of(row: &Row) -> Result<Self, Fault> {
        Ok(Self {
            customer_uid: row.text("customer_uid")?,
            bookings: row.int("bookings")?,
            first_at: row.at_opt("first_at")?,
            checked_at: row.at("checked_at")?,
        })
    }
}

fn near(now: Timestamp) -> Timestamp {
    now.saturating_add(NEAR).unwrap_or(now)
}

impl Desk<'_> {
    /// A page of the billing keys of an account's subscriptions, after a row.
    pub async fn keys(&self, account: AccountId, after: i64, limit: u32) -> Result<Vec<Key>, Fault> {
        let rows = self.database.read(&cards::KEYS_OF, &[account.0.into(), after.into(), limit.into()]).await?;
        let key = |row: &Row| {
            let (id, customer_uid) = (row.int("id")?, row.text("customer_uid")?);
            Ok(Key { id, customer_uid, cancelled: row.text("status")? == "cancelled" })
        };
        rows.iter().map(key).collect()
    }

    /// Those of an account that are known to be booked.
    pub async fn booked_keys(&self, account: AccountId) -> Result<Vec<BookedKey>, Fault> {
        let rows = self.database.read(&cards::BOOKED_KEYS, &[account.0.into()]).await?;
        rows.iter().map(BookedKey::of).collect()
    }

    /// The bookings of a subscription's billing key, if any are known.
    pub async fn booking_of(&self, subscription: i64) -> Result<Option<BookedKey>, Fault> {
        let rows = self.database.read(&cards::BOOKING_OF, &[subscription.into()]).await?;
        rows.first().map(BookedKey::of).transpose()
    }

    /// Keeps what a check saw: which keys are booked, and which are not. What rested for a key that is free now is due at once. A key
    /// of which a booking may have been carried out meanwhile is not free, nor one that another check has seen booked since `began`, when the
    /// gateway was first asked; `now`: when it had answered.
    pub async fn checked(
        &self,
        (began, now): (Timestamp, Timestamp),
        account: AccountId,
        booked: &[BookedKey],
        free: &[String],
    ) -> Result<(), Fault> {
        let mut tx = self.database.begin_write().await?;
        for key in booked {
            let (uid, count) = (key.customer_uid.as_str(), key.bookings);
            let params =
                [account.0.into(), uid.into(), count.into(), key.first_at.into(), key.checked_at.into(), near(now).into()];
            tx.execute(&cards::KEY_BOOKED, &params).await?;
        }
        let mut freed = Vec::new();
        for uid in free {
            if tx.execute(&cards::KEY_FREE, &[account.0.into(), uid.as_str().into(), near(now).into(), began.into()]).await? > 0 {
                freed.push(uid.clone());
            }
        }
        wake(&mut tx, account, now, freed).await?;
        tx.commit().await
    }

    /// What is sent once a key is free, in the order in which it is due.
    pub async fn waits_for_key(&self, account: AccountId, key: &str) -> Result<Vec<WaitingCharge>, Fault> {
        let rows = self.database.read(&cards::WAITS_FOR_KEY, &[account.0.into(), key.into()]).await?;
        let charge = |row: &Row| {
            let (external_ref, period_start) = (row.text("external_ref")?, row.day("period_start")?);
            Ok(WaitingCharge { external_ref, period_start, due_at: row.at("due_at")?, amount: rows::money(row)? })
        };
        rows.iter().map(charge).collect()
    }

    /// Accounts with charges that have rested for booked keys since before `before`: how many, and since when the first is due.
    pub async fn waits_for_booked(&self, before: Timestamp) -> Result<Vec<(String, u64, Timestamp)>, Fault> {
        let rows = self.database.read(&cards::WAITS_FOR_BOOKED, &[before.into()]).await?;
        rows.iter().map(|row| Ok((row.text("name")?, row.small("charges")?, row.at("since")?))).collect()
    }

    /// Lets a key be charged from here again, of which an operator has seen what PortOne did. Returns false if it is known to be booked
    /// no more, or was checked again meanwhile.
    pub async fn release_key(
        &self,
        now: Timestamp,
        (account, name): (AccountId, &str),
        key: &BookedKey,
        signed: &Signed,
    ) -> Result<bool, Fault> {
        let mut tx = self.database.begin_write().await?;
        let uid = key.customer_uid.as_str();
        if tx.execute(&cards::RELEASE_KEY, &[account.0.into(), uid.into(), key.checked_at.into()]).await? == 0 {
            return Ok(false);
        }
        let detail = json!({ "customer_uid": uid, "first_at": key.first_at.map(|at| at.to_string()) });
        wake(&mut tx, account, now, vec![uid.to_owned()]).await?;
        journal(&mut tx, now, signed, "takeover release", &subject::account(name), &detail).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// What rested for these keys is due at once.
async fn wake(tx: &mut Tx, account: AccountId, now: Timestamp, freed: Vec<String>) -> Result<(), Fault> {
    if !freed.is_empty() {
        tx.execute(&cards::WAKE_KEYS, &[account.0.into(), now.into(), freed.into()]).await?;
        tx.query(&sql::WAKE, &[]).await?;
    }
    Ok(())
}
