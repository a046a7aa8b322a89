//! Waves: what is due of an account whose fuse has blown, and what operators say of it.
//!
//! A wave is what was due by an instant. Its hash stands for exactly these charges, in this order, with these ids, amounts and
//! cards; it is made anew for each approval, so that whatever has changed since it was shown voids it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Desk, Signed, journal, sql, subject};
use crate::domain::attempt::{IdBase, base32, digest};
use crate::domain::fuse::FuseState;
use crate::domain::money::{Currency, Money};
use crate::store::codec::Row;
use crate::store::db::{Fault, Tx};
use crate::store::fuse::{customer_hash, mend, state_of};
use crate::store::rows;
use crate::store::sql::fuse;

/// Characters of a hash: 100 bits.
const HASH_CHARS: usize = 20;

/// An account whose fuse is not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlownFuse {
    id: i64,
    pub account: String,
    pub state: FuseState,
    pub why: String,
    pub blown_at: Option<Timestamp>,
    /// Operators that have to approve.
    pub approvers: i64,
    /// Until when an approval lasts.
    pub until: Option<Timestamp>,
}

/// A charge of a wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveCharge {
    pub charge: i64,
    pub external_ref: String,
    pub period_start: Date,
    pub due_at: Timestamp,
    pub merchant_uid: String,
    pub amount: Money,
    /// A hash of the billing key's customer_uid.
    pub customer: String,
}

/// What was due by an instant, whole seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    pub fuse: BlownFuse,
    pub due_by: Timestamp,
    pub charges: Vec<WaveCharge>,
    /// The first of two operators, who has approved it as it is.
    pub first_by: Option<String>,
}

/// What stands for a wave: a hash, and by when its charges were due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveHash {
    hash: String,
    pub due_by: Timestamp,
}

impl fmt::Display for WaveHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.hash, self.due_by.as_second())
    }
}

impl FromStr for WaveHash {
    type Err = NotApproved;

    fn from_str(text: &str) -> Result<Self, NotApproved> {
        let (hash, seconds) = text.trim().split_once('-').ok_or(NotApproved::NotAHash)?;
        let due_by = seconds.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let fits = hash.len() == HASH_CHARS && hash.bytes().all(|byte| byte.is_ascii_alphanumeric());
        due_by.filter(|_| fits).map(|due_by| Self { hash: hash.to_owned(), due_by }).ok_or(NotApproved::NotAHash)
    }
}

impl Wave {
    pub fn hash(&self) -> WaveHash {
        let of_fuse = self.fuse.blown_at.map_or_else(String::new, |at| at.to_string());
        let mut parts = vec!["wave/1".to_owned(), self.fuse.account.clone(), of_fuse, self.due_by.to_string()];
        for one in &self.charges {
            let amount = one.amount.minor().to_string();
            let currency = one.amount.currency().code().to_owned();
            parts.extend([one.charge.to_string(), one.merchant_uid.clone(), amount, currency, one.customer.clone()]);
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        WaveHash { hash: base32(&digest(&parts), HASH_CHARS), due_by: self.due_by }
    }

    pub fn sums(&self) -> BTreeMap<Currency, i128> {
        let mut sums = BTreeMap::new();
        for one in &self.charges {
            *sums.entry(one.amount.currency()).or_default() += i128::from(one.amount.minor());
        }
        sums
    }

    /// The largest charge of each currency.
    pub fn largest(&self) -> Vec<&WaveCharge> {
        let mut largest: BTreeMap<Currency, &WaveCharge> = BTreeMap::new();
        for one in &self.charges {
            let known = largest.entry(one.amount.currency()).or_insert(one);
            if one.amount.minor() > known.amount.minor() {
                *known = one;
            }
        }
        largest.into_values().collect()
    }

    /// What the journal keeps of it.
    fn detail(&self) -> Value {
        let sums: serde_json::Map<String, Value> =
            self.sums().iter().map(|(currency, sum)| (currency.code().to_owned(), sum.to_string().into())).collect();
        json!({ "hash": self.hash().to_string(), "charges": self.charges.len(), "sums": sums, "why_blown": self.fuse.why })
    }
}

/// What an approval came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approved {
    /// Nothing was due: the fuse is whole again.
    Mended,
    /// Exactly this wave is sent, until then.
    Released { wave: Box<Wave>, until: Timestamp },
    /// One more operator has to approve it.
    First { wave: Box<Wave> },
}

/// Why an approval, or a rejection, does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotApproved {
    #[error("that is no hash of a wave: `rebilld wave show` prints it")]
    NotAHash,
    #[error("the fuse of account {0} has not blown: nothing waits for an approval")]
    Whole(String),
    #[error("a wave of account {account} is approved already, until {until}")]
    Already { account: String, until: Timestamp },
    #[error("what is due of account {account} is not what was shown: {how}. Look at it again with `rebilld wave show`")]
    Changed { account: String, how: String },
    #[error("that was shown at {0}, too long ago: look at it again with `rebilld wave show`")]
    TooOld(Timestamp),
    #[error("{0} has approved this wave already: the second approval has to come from somebody else")]
    SameOperator(String),
}

/// By when all is due again that the fuse has put off: it does so for minutes.
fn within_the_hour(now: Timestamp) -> Timestamp {
    now.saturating_add(SignedDuration::from_hours(1)).unwrap_or(now)
}

impl Desk<'_> {
    /// Accounts whose fuse is not whole.
    pub async fn blown_fuses(&self) -> Result<Vec<BlownFuse>, Fault> {
        self.database.read(&fuse::FUSES, &[]).await?.iter().filter_map(|row| blown(row).transpose()).collect()
    }

    /// What of an account is due by now. Nothing is written.
    pub async fn wave(&self, of: &BlownFuse, due_by: Timestamp) -> Result<Wave, Fault> {
        let due_by = Timestamp::from_second(due_by.as_second()).unwrap_or(due_by);
        let rows = self.database.read(&fuse::WAVE_PLAN, &[of.id.into(), due_by.into(), within_the_hour(due_by).into()]).await?;
        let asked = self.database.read(&fuse::WAVE_ASKED, &[of.id.into()]).await?;
        self.planned(of.clone(), due_by, &rows, &asked).await
    }

    async fn planned(&self, of: BlownFuse, due_by: Timestamp, rows: &[Row], asked: &[Row]) -> Result<Wave, Fault> {
        let tag = self.database.tag().await?;
        let mut charges = Vec::with_capacity(rows.len());
        for row in rows {
            // a live attempt that never left gives way to one with the payer's new card
            let customer = row.text("customer_uid")?;
            // neither is sent: the one is asked about, the other waits for a new card
            if row.int_opt("send_id")?.is_some() || row.text_opt("refused_customer")?.as_deref() == Some(customer.as_str()) {
                continue;
            }
            let (external_ref, period_start) = (row.text("external_ref")?, row.day("period_start")?);
            let number = match row.int_opt("live_id_number")? {
                Some(_) => rows::id_number(row, "live_id_number")?,
                None => rows::id_number(row, "id_number")?,
            };
            let base = IdBase::derive(tag, &row.text("account")?, &external_ref, period_start);
            charges.push(WaveCharge {
                charge: row.int("id")?,
                merchant_uid: base.number(number).as_str().to_owned(),
                external_ref,
                period_start,
                due_at: row.at("due_at")?,
                amount: rows::money(row)?,
                customer: customer_hash(&customer),
            });
        }
        let mut wave = Wave { fuse: of, due_by, charges, first_by: None };
        if let Some(row) = asked.first()
            && row.at_opt("approved_at")?.is_none()
            && row.text("hash")? == wave.hash().to_string()
        {
            wave.first_by = Some(row.text("first_by")?);
        }
        Ok(wave)
    }

    /// Approves what a hash stands for, if that is still exactly what is due. `approvers`: as the config says; the fuse may ask
    /// for more, as it did when it blew. The fuse counts anew from then on.
    pub async fn approve_wave(
        &self,
        now: Timestamp,
        account: &str,
        hash: &WaveHash,
        (approvers, lasts): (u8, SignedDuration),
        by: &str,
        signed: &Signed,
    ) -> Result<Result<Approved, NotApproved>, Fault> {
        let mut tx = self.database.begin_write().await?;
        let of = match lock(&mut tx, account, now).await? {
            Ok(of) => of,
            Err(why) => return Ok(Err(why)),
        };
        if now.duration_since(hash.due_by) > lasts {
            return Ok(Err(NotApproved::TooOld(hash.due_by)));
        }
        let rows = tx.query(&fuse::WAVE_PLAN, &[of.id.into(), hash.due_by.into(), within_the_hour(now).into()]).await?;
        let asked = tx.query(&fuse::WAVE_ASKED, &[of.id.into()]).await?;
        let wave = self.planned(of, hash.due_by, &rows, &asked).await?;
        if wave.hash() != *hash {
            let sums: Vec<String> = wave.sums().iter().map(|(currency, sum)| money(*sum, *currency).to_string()).collect();
            let how = format!("{} charges are due now ({})", wave.charges.len(), sums.join(", "));
            return Ok(Err(NotApproved::Changed { account: account.to_owned(), how }));
        }
        let needed = i64::from(approvers).max(wave.fuse.approvers);
        let known = asked.first().filter(|_| wave.first_by.is_some());
        let first = wave.first_by.clone();
        if first.as_ref().is_some_and(|first| same(first, by)) && needed > 1 {
            return Ok(Err(NotApproved::SameOperator(by.to_owned())));
        }
        let id = match known {
            Some(row) => row.int("id")?,
            None => {
                let count = i64::try_from(wave.charges.len()).unwrap_or(i64::MAX);
                let params = [wave.fuse.id.into(), hash.to_string().into(), count.into(), now.into(), by.into()];
                let added = tx.query(&fuse::ADD_WAVE, &params).await?;
                added.first().ok_or_else(|| Fault::Corrupt("a wave was not written".to_owned()))?.int("id")?
            }
        };
        let detail = wave.detail();
        if needed > 1 && known.is_none() {
            journal(&mut tx, now, signed, "wave approve (1 of 2)", &subject::account(account), &detail).await?;
            tx.commit().await?;
            let wave = Wave { first_by: Some(by.to_owned()), ..wave };
            return Ok(Ok(Approved::First { wave: Box::new(wave) }));
        }
        let second = known.map(|_| by.to_owned());
        tx.execute(&fuse::SECOND_APPROVAL, &[id.into(), now.into(), second.into()]).await?;
        tx.execute(&fuse::FORGET_SPENT, &[wave.fuse.id.into()]).await?;
        journal(&mut tx, now, signed, "wave approve", &subject::account(account), &detail).await?;
        let approved = if wave.charges.is_empty() {
            mend(&mut tx, wave.fuse.id, now, id, "nothing was due").await?;
            Approved::Mended
        } else {
            let until = now.checked_add(lasts).unwrap_or(now);
            release(&mut tx, &wave, id, now, until).await?;
            Approved::Released { wave: Box::new(wave), until }
        };
        tx.query(&sql::WAKE, &[]).await?;
        tx.commit().await?;
        Ok(Ok(approved))
    }

    /// Keeps an account stopped, and says so. An approval of what is due then ends it.
    pub async fn reject_wave(
        &self,
        now: Timestamp,
        account: &str,
        by: &str,
        signed: &Signed,
    ) -> Result<Result<(), NotApproved>, Fault> {
        let mut tx = self.database.begin_write().await?;
        // a wave that is on its way is stopped as well
        let Some(of) = read_locked(&mut tx, account).await? else {
            return Ok(Err(NotApproved::Whole(account.to_owned())));
        };
        if let Some(row) = tx.query(&fuse::WAVE_ASKED, &[of.id.into()]).await?.first() {
            tx.execute(&fuse::END_WAVE, &[row.int("id")?.into(), now.into(), "rejected".into()]).await?;
        }
        let why = format!("rejected by {by}: {}; before that: {}", signed.reason, of.why);
        tx.execute(&fuse::REJECT, &[of.id.into(), why.as_str().into()]).await?;
        journal(&mut tx, now, signed, "wave reject", &subject::account(account), &json!({ "why_blown": of.why })).await?;
        tx.query(&sql::WAKE, &[]).await?;
        tx.commit().await?;
        Ok(Ok(()))
    }
}

/// From now on exactly these charges are sent.
async fn release(tx: &mut Tx, wave: &Wave, id: i64, now: Timestamp, until: Timestamp) -> Result<(), Fault> {
    let mut rows = tx.batch();
    for one in &wave.charges {
        rows.row()
            .int("charge", one.charge)
            .text("uid", one.merchant_uid.as_str())
            .int("amount", one.amount.minor())
            .text("currency", one.amount.currency().code())
            .text("customer", one.customer.as_str());
    }
    tx.execute(&fuse::ADD_WAVE_CHARGES, &rows.params([id.into()])).await?;
    tx.execute(&fuse::APPROVE, &[wave.fuse.id.into(), id.into(), until.into()]).await?;
    tx.execute(&fuse::WAKE_FUSED, &[wave.fuse.id.into(), now.into()]).await.map(drop)
}

fn same(one: &str, other: &str) -> bool {
    one.trim().to_lowercase() == other.trim().to_lowercase()
}

fn money(sum: i128, currency: Currency) -> Money {
    Money::new(i64::try_from(sum).unwrap_or(i64::MAX), currency)
}

fn blown(row: &Row) -> Result<Option<BlownFuse>, Fault> {
    let Some(state) = state_of(row)? else { return Ok(None) };
    Ok(Some(BlownFuse {
        id: row.int("id")?,
        account: row.text("name")?,
        state,
        why: row.text_opt("fuse_why")?.unwrap_or_default(),
        blown_at: row.at_opt("fuse_at")?,
        approvers: row.int_opt("fuse_approvers")?.unwrap_or(1),
        until: row.at_opt("fuse_until")?,
    }))
}

async fn read_locked(tx: &mut Tx, account: &str) -> Result<Option<BlownFuse>, Fault> {
    tx.query(&fuse::LOCK_FUSE, &[account.into()]).await?.first().map_or(Ok(None), blown)
}

/// The fuse of an account that waits for an approval.
async fn lock(tx: &mut Tx, account: &str, now: Timestamp) -> Result<Result<BlownFuse, NotApproved>, Fault> {
    Ok(match read_locked(tx, account).await? {
        None => Err(NotApproved::Whole(account.to_owned())),
        Some(of) => match (of.state, of.until) {
            (FuseState::Approved, Some(until)) if until > now => Err(NotApproved::Already { account: account.to_owned(), until }),
            _ => Ok(of),
        },
    })
}
