//! Taking a book over from PortOne's own schedule: which billing keys it is going to charge, and taking that away from it.
//!
//! A key that is booked there is not charged from here (W2 reads what is kept of it); the gateway is asked by operators alone, never
//! for a charge.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::errors::AppError;
use super::operate::{assembled, chosen};
use crate::config::Loaded;
use crate::domain::attempt::{base32, digest};
use crate::engine::Account;
use crate::ports::gateway::{Booking, Unavailable};
use crate::ports::store::{Store, StoreError};
use crate::store::Database;
use crate::store::desk::{BookedKey, Signed, WaitingCharge};

/// Subscriptions that are read together.
const PAGE: u32 = 1_000;
/// Keys that are asked for at the same time.
const SIDE_BY_SIDE: usize = 8;
/// PortOne lists at most three months of bookings at a time.
const WINDOW: SignedDuration = SignedDuration::from_hours(89 * 24);
/// A booking that is due now may still be carried out.
const BACK: SignedDuration = SignedDuration::from_hours(24);

/// Looked for beyond a booking that is known.
const BEYOND: SignedDuration = SignedDuration::from_hours(24);

/// What is known of the bookings of keys.
pub type Known = BTreeMap<String, BookedKey>;

/// What a check of one account came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    pub account: String,
    /// Billing keys that were asked for.
    pub keys: u64,
    pub booked: Vec<BookedKey>,
    /// Keys without bookings that PortOne may have charged: not charged from here before an operator releases them.
    pub passed: Vec<BookedKey>,
    /// Keys that could not be asked for, and why: what was known of them stays.
    pub failed: Vec<(String, String)>,
}

/// Asks for the bookings of every billing key of the book, `ahead` into the future, and keeps which keys are booked.
pub async fn check(
    loaded: &Loaded,
    account: Option<&str>,
    ahead: SignedDuration,
    mut progress: impl FnMut(u64, u64),
) -> Result<Vec<Checked>, AppError> {
    let assembled = assembled(loaded).await?;
    let database = &assembled.database;
    let whole = u64::try_from(database.last_subscription().await?).unwrap_or(0);
    let mut all = Vec::new();
    for account in chosen(&assembled, account)? {
        let mut checked = Checked { account: account.name.clone(), ..Checked::default() };
        let known = known_of(database, &account).await?;
        let look = Look { database, account: &account, ahead, known: &known };
        let clock = async || database.clock().await;
        // a key that no subscription has any more is asked for as well: what is known of it may be out of date
        let mut left: BTreeSet<String> = known.keys().cloned().collect();
        let mut after = 0;
        loop {
            let page = database.desk().keys(account.id, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            let keys: BTreeSet<String> = page.into_iter().filter(|key| !key.cancelled).map(|key| key.customer_uid).collect();
            left.retain(|key| !keys.contains(key));
            look.ask(keys, &clock, &mut checked).await?;
            progress(u64::try_from(after).unwrap_or(0), whole);
        }
        look.ask(left, &clock, &mut checked).await?;
        for keys in [&mut checked.booked, &mut checked.passed] {
            keys.sort_by(|a, b| a.customer_uid.cmp(&b.customer_uid));
            keys.dedup_by(|a, b| a.customer_uid == b.customer_uid);
        }
        all.push(checked);
    }
    progress(whole, whole);
    database.close().await;
    Ok(all)
}

async fn known_of(database: &Database, account: &Account) -> Result<Known, AppError> {
    let keys = database.desk().booked_keys(account.id).await?;
    Ok(keys.into_iter().map(|key| (key.customer_uid.clone(), key)).collect())
}

/// A look at the bookings of keys of an account.
pub struct Look<'a> {
    pub database: &'a Database,
    pub account: &'a Account,
    /// How far into the future. A booking that is known is looked for however far ahead it is.
    pub ahead: SignedDuration,
    pub known: &'a Known,
}

/// What a look came to.
struct Seen {
    /// When all answers were there.
    at: Timestamp,
    began: Timestamp,
    booked: Vec<BookedKey>,
    /// Keys without bookings, and those among them that PortOne may have charged.
    free: Vec<String>,
    passed: Vec<BookedKey>,
    failed: Vec<(String, String)>,
}

impl Look<'_> {
    /// Asks for some keys, and keeps what is known of them from now on. `clock` is the database's.
    pub async fn ask(
        &self,
        keys: BTreeSet<String>,
        clock: impl AsyncFn() -> Result<Timestamp, StoreError>,
        checked: &mut Checked,
    ) -> Result<(), AppError> {
        checked.keys += keys.len() as u64;
        let Seen { began, at, booked, free, passed, failed } = self.see(keys, clock).await?;
        self.database.desk().checked((began, at), self.account.id, &booked, &free).await?;
        checked.booked.extend(booked);
        checked.passed.extend(passed);
        checked.failed.extend(failed);
        Ok(())
    }

    /// The same, and keeps nothing.
    async fn see(
        &self,
        keys: BTreeSet<String>,
        clock: impl AsyncFn() -> Result<Timestamp, StoreError>,
    ) -> Result<Seen, StoreError> {
        let began = clock().await?;
        let answers = stream::iter(keys).map(|key| async move {
            let first = self.known.get(&key).and_then(|known| known.first_at);
            let ahead = first.map_or(self.ahead, |first| self.ahead.max(first.duration_since(began).saturating_add(BEYOND)));
            let found = bookings(self.account, &key, began, ahead).await;
            (key, found)
        });
        let answers: Vec<_> = answers.buffer_unordered(SIDE_BY_SIDE).collect().await;
        // not earlier: what was still to come when the first key was asked for may have been carried out before the last one was
        let now = clock().await?;
        let mut seen = Seen { began, at: now, booked: Vec::new(), free: Vec::new(), passed: Vec::new(), failed: Vec::new() };
        for (customer_uid, found) in answers {
            let passed = self.known.get(&customer_uid).filter(|known| known.may_be_charged(now));
            match found {
                Ok(found) if found.is_empty() => {
                    seen.passed.extend(passed.cloned());
                    seen.free.push(customer_uid);
                }
                Ok(found) => seen.booked.push(BookedKey {
                    customer_uid,
                    bookings: i64::try_from(found.len()).unwrap_or(i64::MAX),
                    // one without a time may be carried out at any
                    first_at: passed.and_then(|passed| passed.first_at).or_else(|| {
                        let times: Option<Vec<Timestamp>> = found.iter().map(|booking| booking.at).collect();
                        times?.into_iter().min()
                    }),
                    checked_at: now,
                }),
                Err(why) => seen.failed.push((customer_uid, why.to_string())),
            }
        }
        Ok(seen)
    }
}

/// What the gateway is going to charge to a key, window by window.
async fn bookings(account: &Account, key: &str, now: Timestamp, ahead: SignedDuration) -> Result<Vec<Booking>, Unavailable> {
    let until = now.saturating_add(ahead).unwrap_or(Timestamp::MAX);
    let mut from = now.saturating_sub(BACK).unwrap_or(now);
    let mut all = Vec::new();
    while from < until {
        let to = from.saturating_add(WINDOW).unwrap_or(until).min(until);
        all.extend(account.gateway.bookings(key, from, to).await?);
        from = to;
    }
    // a booking at the very end of a window stands in two of them
    all.sort_by(|a, b| (a.at, &a.merchant_uid).cmp(&(b.at, &b.merchant_uid)));
    all.dedup();
    Ok(all)
}

/// The keys that are known to be booked, by account.
pub async fn known(loaded: &Loaded, account: Option<&str>) -> Result<Vec<(String, BookedKey)>, AppError> {
    let assembled = assembled(loaded).await?;
    let mut known = Vec::new();
    for account in chosen(&assembled, account)? {
        let keys = assembled.database.desk().booked_keys(account.id).await?;
        known.extend(keys.into_iter().map(|key| (account.name.clone(), key)));
    }
    assembled.database.close().await;
    Ok(known)
}

/// What an operator confirms: the same keys with the same bookings have the same text.
pub fn hash(keys: &[(String, BookedKey)]) -> String {
    let mut parts = vec!["takeover/1".to_owned()];
    for (account, key) in keys {
        let first = key.first_at.map_or_else(String::new, |at| at.to_string());
        parts.extend([account.clone(), key.customer_uid.clone(), key.bookings.to_string(), first]);
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    base32(&digest(&parts), 12)
}

/// What became of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unscheduled {
    pub account: String,
    pub customer_uid: String,
    /// Bookings that the gateway says it took away.
    pub revoked: u64,
    /// Why the key is still not charged from here, if so.
    pub problem: Option<String>,
    /// PortOne may have charged it: an operator has to release it.
    pub passed: Option<BookedKey>,
}

/// Takes the bookings of these keys out of PortOne's schedule, each journaled, and asks again: a key without bookings is charged from here
/// from then on. `keys` are those that the operator has seen.
pub async fn unschedule(
    loaded: &Loaded,
    keys: &[(String, BookedKey)],
    ahead: SignedDuration,
    signed: &Signed,
    mut progress: impl FnMut(u64, u64),
) -> Result<Vec<Unscheduled>, AppError> {
    let assembled = assembled(loaded).await?;
    let database = &assembled.database;
    let mut done = Vec::new();
    for (account_name, key) in keys {
        let account = chosen(&assembled, Some(account_name))?.remove(0);
        let uid = &key.customer_uid;
        let mut one =
            Unscheduled { account: account_name.clone(), customer_uid: uid.clone(), revoked: 0, problem: None, passed: None };
        // before it is asked for: it cannot be taken back, and the answer may be lost
        let detail = json!({ "customer_uid": uid, "bookings": key.bookings, "first_at": key.first_at.map(|at| at.to_string()) });
        let now = database.clock().await?;
        database.desk().note(now, signed, "takeover unschedule", &format!("account {account_name}"), &detail).await?;
        match account.gateway.unschedule(uid).await {
            Ok(revoked) => one.revoked = revoked,
            // it may have been done all the same: the look below tells
            Err(why) => one.problem = Some(why.to_string()),
        }
        let mut checked = Checked::default();
        let known = Known::from([(uid.clone(), key.clone())]);
        let look = Look { database, account: &account, ahead, known: &known };
        look.ask(BTreeSet::from([uid.clone()]), async || database.clock().await, &mut checked).await?;
        one.passed = checked.passed.pop();
        one.problem = match (checked.booked.first(), checked.failed.first()) {
            (Some(booked), _) => Some(one.problem.unwrap_or(format!("{} bookings are still there", booked.bookings))),
            (None, Some((_, why))) => Some(format!("whether they are gone cannot be seen: {why}")),
            (None, None) => None,
        };
        done.push(one);
        progress(done.len() as u64, keys.len() as u64);
    }
    database.close().await;
    Ok(done)
}

/// What became of a key that an operator wants to release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// It is charged from here again, these charges first.
    Free(Vec<WaitingCharge>),
    /// Nothing was done: these charges would be sent, and nobody has said that they may be.
    WouldSend(Vec<WaitingCharge>),
    /// PortOne has bookings of it that are still to come.
    StillBooked(BookedKey),
    /// Nothing is known of its bookings, or it was checked by somebody else meanwhile.
    Unknown,
}

/// Lets a key be charged from here again that PortOne may have charged, journaled; PortOne is asked once more. `send`: the operator has
/// seen that what waits for it may be sent.
///
/// # Errors
/// The key cannot be asked for.
pub async fn release(
    loaded: &Loaded,
    (account, uid): (&str, &str),
    ahead: SignedDuration,
    send: bool,
    signed: &Signed,
) -> Result<Released, AppError> {
    let assembled = assembled(loaded).await?;
    let database = &assembled.database;
    let account = chosen(&assembled, Some(account))?.remove(0);
    let known = known_of(database, &account).await?;
    let Some(key) = known.get(uid) else {
        database.close().await;
        return Ok(Released::Unknown);
    };
    let look = Look { database, account: &account, ahead, known: &known };
    // nothing is freed by the look itself: whether or not its time had come, what waits for the key is sent by the operator's word alone
    let Seen { began, at, booked, failed, .. } =
        look.see(BTreeSet::from([uid.to_owned()]), async || database.clock().await).await?;
    if let Some((_, why)) = failed.first() {
        return Err(AppError::Unavailable(format!("whether {uid} is still booked cannot be seen: {why}")));
    }
    database.desk().checked((began, at), account.id, &booked, &[]).await?;
    let waits = database.desk().waits_for_key(account.id, uid).await?;
    let now = database.clock().await?;
    let released = match booked.into_iter().next() {
        Some(booked) => Released::StillBooked(booked),
        None if !waits.is_empty() && !send => Released::WouldSend(waits),
        None if database.desk().release_key(now, (account.id, &account.name), key, signed).await? => Released::Free(waits),
        None => Released::Unknown,
    };
    database.close().await;
    Ok(released)
}
