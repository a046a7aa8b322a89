//! The fuse inside W2: what one batch of intents may add to what went through before, and which charges a wave lets through.
//!
//! All of it happens while the account's row is locked, so several processes together never pass a bound. Whatever of it cannot be
//! read is a fault: the batch is not begun.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde_json::json;

use super::Database;
use super::codec::{Param, Row};
use super::db::{Fault, Tx};
use super::outbox::Told;
use super::sql::{fuse, outbox, writes};
use crate::domain::attempt::{base32, digest};
use crate::domain::charge::AccountId;
use crate::domain::decide::IncidentKind;
use crate::domain::event::{Event, EventKind};
use crate::domain::fuse::{Count, Fuse, FuseState, Last, Meter, Reading, Trip, is_of_the_hour, step_of};
use crate::domain::money::{Currency, Money};
use crate::ports::store::{Begin, DueWave, Expectation, Intent, NotBegun};

/// The place of the account's day beside the steps of the hour.
const DAY_SLOT: i64 = 8;
/// A charge that is not of the approved wave is looked at again after that long, in minutes.
const NOT_OF_THE_WAVE: i64 = 10;
/// Charges of a wave that are looked at before it begins, at most.
const MOST_OF_A_WAVE: i64 = 200_000;
/// One that waits for the day's expectation, in minutes.
const NOT_KNOWN: i64 = 1;

/// What the bounds of a charge by itself go by.
pub(super) struct Scale {
    /// Days of its period.
    pub days: i64,
    pub last: Option<Last>,
}

/// The fuse as the locked row says.
pub(super) enum Stand {
    Whole,
    /// Nothing is sent.
    Open,
    Approved {
        wave: i64,
        until: Timestamp,
        why: String,
    },
}

/// A billing key as waves keep it.
pub(super) fn customer_hash(customer_uid: &str) -> String {
    base32(&digest(&["customer/1", customer_uid]), 26)
}

pub(super) fn state_of(row: &Row) -> Result<Option<FuseState>, Fault> {
    let unknown = |word: &str| Fault::Corrupt(format!("the fuse of an account is `{word}`, which this release does not know"));
    row.text_opt("fuse")?.map(|word| FuseState::from_name(&word).ok_or_else(|| unknown(&word))).transpose()
}

impl Stand {
    /// From the row that `LOCK_BRAKES` has locked.
    pub fn of(rows: &[Row]) -> Result<Self, Fault> {
        let Some(row) = rows.first() else { return Ok(Self::Open) };
        Ok(match state_of(row)? {
            None => Self::Whole,
            Some(FuseState::Blown | FuseState::Rejected) => Self::Open,
            Some(FuseState::Approved) => Self::Approved {
                wave: row.int("fuse_wave")?,
                until: row.at("fuse_until")?,
                why: row.text_opt("fuse_why")?.unwrap_or_default(),
            },
        })
    }
}

fn in_minutes(now: Timestamp, minutes: i64) -> Timestamp {
    now.checked_add(jiff::SignedDuration::from_mins(minutes)).unwrap_or(now)
}

fn refuse_all(refused: &mut [Option<NotBegun>]) {
    for refusal in refused.iter_mut().filter(|refusal| refusal.is_none()) {
        *refusal = Some(NotBegun::Fuse { until: None });
    }
}

/// When an account's day began, as it is kept: the same instant for the same date, whatever its zone.
fn day_began(day: Date) -> Timestamp {
    day.to_datetime(Time::midnight()).to_zoned(TimeZone::UTC).map_or(Timestamp::MIN, |at| at.timestamp())
}

impl Database {
    /// Lets through what an approved wave holds, and nothing else. Returns how the fuse stands after it: a wave that is over
    /// leaves it whole, one that was changed blows it again.
    pub(super) async fn only_the_wave(
        &self,
        tx: &mut Tx,
        batch: &Begin,
        intents: &[Intent],
        refused: &mut [Option<NotBegun>],
        stand: Stand,
    ) -> Result<Stand, Fault> {
        let Stand::Approved { wave, until, ref why } = stand else { return Ok(stand) };
        // a wave of which nothing is left but what rests is done, and does not expire; after its time nothing that rests is waited for
        let expired = batch.now >= until;
        let looked_at = if expired { Timestamp::UNIX_EPOCH } else { batch.now };
        if tx.query(&fuse::WAVE_OPEN, &[wave.into(), until.into(), looked_at.into()]).await?.is_empty() {
            mend(tx, batch.account.0, batch.now, wave, "done").await?;
            return Ok(Stand::Whole);
        }
        if expired {
            refuse_all(refused);
            return self.void(tx, batch, wave, &format!("the approval has expired; before that: {why}")).await;
        }
        let asked: Vec<i64> = intents.iter().map(|intent| intent.charge.0).collect();
        let mut members = HashMap::new();
        for row in &tx.query(&fuse::WAVE_MEMBERS, &[wave.into(), asked.into()]).await? {
            let terms = (row.text("merchant_uid")?, row.int("amount")?, row.text("currency")?, row.text("customer")?);
            members.insert(row.int("charge_id")?, (terms, row.flag("begun")?));
        }
        let stranger = in_minutes(batch.now, NOT_OF_THE_WAVE).min(until);
        for (intent, refusal) in intents.iter().zip(refused.iter_mut()).filter(|(_, refusal)| refusal.is_none()) {
            let terms = (
                intent.merchant_uid.as_str().to_owned(),
                intent.amount.minor(),
                intent.amount.currency().code().to_owned(),
                customer_hash(&intent.customer_uid),
            );
            match members.get(&intent.charge.0) {
                Some((approved, false)) if *approved == terms => {}
                // a send of it that never left goes again; a new attempt was approved by nobody
                Some((approved, true)) if *approved == terms && intent.attempt.is_some() => {}
                Some((approved, false)) => {
                    let what = changed(approved, &terms);
                    refuse_all(refused);
                    let told =
                        format!("the approved wave was changed: charge {} has another {what}; before that: {why}", intent.charge);
                    return self.void(tx, batch, wave, &told).await;
                }
                _ => *refusal = Some(NotBegun::Fuse { until: Some(stranger) }),
            }
        }
        Ok(stand)
    }

    /// Counts new attempts, in order, as many as fit into the day's budget and through the fuse. The first one that trips it, and
    /// all after it, are not begun; nothing is sent from then on.
    pub(super) async fn reserve(
        &self,
        tx: &mut Tx,
        batch: &Begin,
        intents: &[Intent],
        refused: &mut [Option<NotBegun>],
        scales: &HashMap<i64, Scale>,
        stand: &Stand,
    ) -> Result<(), Fault> {
        let is_new = |(intent, refusal): &(&Intent, &mut Option<NotBegun>)| intent.attempt.is_none() && refusal.is_none();
        if !intents.iter().zip(refused.iter_mut()).any(|pair| is_new(&pair)) {
            return self.begin_members(tx, batch, intents, refused, stand).await;
        }
        let of = Key::of(batch);
        let spent = tx.query(&fuse::SPENT, &of.params()).await?;
        let (mut budget, mut meter) = read(&spent, &of)?;
        let measured = matches!(stand, Stand::Whole);
        let mut spent: BTreeMap<Currency, (i64, i64)> = BTreeMap::new();
        let (mut tripped, mut waits) = (None, false);
        for (intent, refusal) in intents.iter().zip(refused.iter_mut()).filter(is_new) {
            let amount = intent.amount;
            let total = budget.sums.get(&amount.currency()).copied().unwrap_or_default().saturating_add(amount.minor());
            let over = batch.budget_count.is_some_and(|bound| budget.count >= bound)
                || batch.budget_sum.is_some_and(|bound| total > bound);
            if over {
                *refusal = Some(NotBegun::OverBudget);
                continue;
            }
            if measured {
                let (days, last) = scales.get(&intent.charge.0).map_or((1, None), |scale| (scale.days, scale.last));
                match meter.take(amount, days, last) {
                    Reading::Go => {}
                    Reading::Unknown => {
                        *refusal = Some(NotBegun::Fuse { until: Some(in_minutes(batch.now, NOT_KNOWN)) });
                        waits = true;
                        continue;
                    }
                    Reading::Trips(trip) => {
                        tripped = Some((trip, intent));
                        break;
                    }
                }
            }
            budget.add(1, amount);
            let spent = spent.entry(amount.currency()).or_default();
            spent.0 += 1;
            spent.1 = spent.1.saturating_add(amount.minor());
        }
        if waits {
            tracing::warn!(
                account.id = batch.account.0,
                day = %batch.budget_day,
                "more charges than the fuse lets through before it is known what was expected of the day: they wait for that"
            );
        }
        if let Some((trip, intent)) = tripped {
            let from = intents.iter().position(|one| one.charge == intent.charge).unwrap_or_default();
            refuse_all(refused.get_mut(from..).unwrap_or_default());
            self.blow(tx, batch, &trip, intent).await?;
        }
        spend(tx, batch, &spent, measured && batch.fuse.counts()).await?;
        self.begin_members(tx, batch, intents, refused, stand).await
    }

    /// What goes out of a wave is crossed off. With the last of them the fuse is whole again.
    async fn begin_members(
        &self,
        tx: &mut Tx,
        batch: &Begin,
        intents: &[Intent],
        refused: &mut [Option<NotBegun>],
        stand: &Stand,
    ) -> Result<(), Fault> {
        let Stand::Approved { wave, until, .. } = stand else { return Ok(()) };
        let begun: Vec<i64> =
            intents.iter().zip(&*refused).filter(|(_, refusal)| refusal.is_none()).map(|(intent, _)| intent.charge.0).collect();
        if begun.is_empty() {
            return Ok(());
        }
        tx.execute(&fuse::WAVE_BEGUN, &[(*wave).into(), begun.into()]).await?;
        if tx.query(&fuse::WAVE_OPEN, &[(*wave).into(), (*until).into(), batch.now.into()]).await?.is_empty() {
            mend(tx, batch.account.0, batch.now, *wave, "done").await?;
            // its neighbours in this batch come next
            for until in refused.iter_mut().filter_map(|refusal| match refusal {
                Some(NotBegun::Fuse { until }) => until.as_mut(),
                _ => None,
            }) {
                *until = batch.now;
            }
        }
        Ok(())
    }

    /// Holds all that is due of an account against its fuse, before the first of it is claimed. Returns whether the fuse blew.
    pub(super) async fn measure_wave(&self, wave: &DueWave<'_>) -> Result<bool, Fault> {
        let due = [wave.account.0.into(), wave.now.into(), wave.due_until.into(), MOST_OF_A_WAVE.into()];
        let (mut count, mut largest) = (Count::default(), Vec::new());
        for row in &self.db.read(&fuse::DUE_WAVE, &due).await? {
            let currency = row.text("currency")?;
            count.add(row.int("count")?, money(&currency, row.int("sum")?)?);
            largest.push(money(&currency, row.int("largest")?)?);
        }
        if count.count == 0 {
            return Ok(false);
        }
        let of = Key { account: wave.account.0, now: wave.now, day: wave.budget_day, fuse: wave.fuse };
        let spent = self.db.read(&fuse::SPENT, &of.params()).await?;
        if read(&spent, &of)?.1.wave(&count, &largest, wave.an_hour).is_none() {
            return Ok(false);
        }
        // once more under the lock: another process may have sent some of it meanwhile, or an operator may have approved it
        let mut tx = self.db.begin().await?;
        let stand = Stand::of(&tx.query(&writes::LOCK_BRAKES, &[of.account.into()]).await?)?;
        let spent = tx.query(&fuse::SPENT, &of.params()).await?;
        let trip = read(&spent, &of)?.1.wave(&count, &largest, wave.an_hour);
        let (Stand::Whole, Some(trip)) = (stand, trip) else { return Ok(false) };
        self.open_fuse(&mut tx, &of, &format!("{trip}, before any of what is due was sent"), trip.bound(), None).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn blow(&self, tx: &mut Tx, batch: &Begin, trip: &Trip, intent: &Intent) -> Result<(), Fault> {
        let (why, charge) = (trip.to_string(), intent.charge);
        let alone = matches!(trip, Trip::Amount { .. } | Trip::Times { .. });
        let why = if alone { format!("{why} (charge {charge})") } else { why };
        self.open_fuse(tx, &Key::of(batch), &why, trip.bound(), alone.then_some(charge.0)).await
    }

    async fn void(&self, tx: &mut Tx, batch: &Begin, wave: i64, why: &str) -> Result<Stand, Fault> {
        tx.execute(&fuse::END_WAVE, &[wave.into(), batch.now.into(), why.into()]).await?;
        self.open_fuse(tx, &Key::of(batch), why, "wave", None).await?;
        Ok(Stand::Open)
    }

    async fn open_fuse(&self, tx: &mut Tx, of: &Key<'_>, why: &str, bound: &str, charge: Option<i64>) -> Result<(), Fault> {
        let now = of.now;
        let params = [of.account.into(), why.into(), now.into(), u32::from(of.fuse.approvers).into()];
        let rows = tx.query(&fuse::BLOW, &params).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let name = row.text("name")?;
        tracing::error!(account = %name, why, "the fuse has blown: nothing of the account is sent until an operator approves what is due (`rebilld wave show`)");
        let detail = format!("{now} {why}");
        let params =
            [of.account.into(), charge.into(), IncidentKind::FuseBlown.name().into(), detail.as_str().into(), now.into()];
        tx.execute(&outbox::OPEN_INCIDENT, &params).await?;
        let data = json!({ "account": name, "reason": why, "bound": bound });
        let event = Event::new(EventKind::AccountFuseBlown, &[&name, &detail], data);
        self.tell(tx, now, &[Told { event: &event, subscription: None, charge }]).await
    }

    /// Keeps what is expected of days. One that is known stays as it is.
    pub async fn expect(&self, now: Timestamp, expected: &[Expectation]) -> Result<(), Fault> {
        let mut tx = self.db.begin().await?;
        keep_expected(&mut tx, now, expected).await?;
        tx.commit().await
    }

    /// The same of days that have not begun, in place of what was known of them.
    pub async fn expect_anew(&self, now: Timestamp, expected: &[Expectation]) -> Result<(), Fault> {
        let mut tx = self.db.begin().await?;
        for Expectation { account, day, .. } in expected {
            tx.execute(&fuse::FORGET_EXPECTED, &[account.0.into(), (*day).into()]).await?;
        }
        keep_expected(&mut tx, now, expected).await?;
        tx.commit().await
    }

    /// When it became known what to expect of days, from one on.
    pub async fn expected_since(&self, from: Date) -> Result<HashMap<(AccountId, Date), Timestamp>, Fault> {
        let rows = self.db.read(&fuse::EXPECTED, &[from.into()]).await?;
        rows.iter().map(|row| Ok(((AccountId(row.int("account_id")?), row.day("day")?), row.at("known_at")?))).collect()
    }

    /// What is expected of days, from one on.
    pub async fn expected(&self, from: Date) -> Result<Vec<Expectation>, Fault> {
        let mut expected: Vec<Expectation> = Vec::new();
        for row in &self.db.read(&fuse::EXPECTED, &[from.into()]).await? {
            let (account, day) = (AccountId(row.int("account_id")?), row.day("day")?);
            if expected.last().is_none_or(|last| (last.account, last.day) != (account, day)) {
                expected.push(Expectation { account, day, count: Count::default() });
            }
            if let Some(last) = expected.last_mut() {
                take_expected(&mut last.count, row)?;
            }
        }
        Ok(expected)
    }
}

/// One that is known stays as it is.
async fn keep_expected(tx: &mut Tx, now: Timestamp, expected: &[Expectation]) -> Result<(), Fault> {
    let mut rows = tx.batch();
    for Expectation { account, day, count } in expected {
        rows.row().int("account", account.0).day("day", *day).text("currency", "").int("count", count.count).int("sum", 0);
        for (currency, sum) in &count.sums {
            rows.row()
                .int("account", account.0)
                .day("day", *day)
                .text("currency", currency.code())
                .int("count", 0)
                .int("sum", *sum);
        }
    }
    if !rows.is_empty() {
        tx.execute(&fuse::EXPECT, &rows.params([now.into()])).await?;
    }
    Ok(())
}

/// In what a charge is no longer what was approved.
fn changed(approved: &(String, i64, String, String), now: &(String, i64, String, String)) -> &'static str {
    match () {
        () if (approved.1, &approved.2) != (now.1, &now.2) => "amount",
        () if approved.3 != now.3 => "card",
        () => "id",
    }
}

fn take_expected(into: &mut Count, row: &Row) -> Result<(), Fault> {
    match row.text("currency")?.as_str() {
        "" => into.count = row.int("count")?,
        code => into.add(0, money(code, row.int("sum")?)?),
    }
    Ok(())
}

fn money(code: &str, minor: i64) -> Result<Money, Fault> {
    let currency = code.parse().map_err(|_| Fault::Corrupt(format!("`{code}` is no currency")))?;
    Ok(Money::new(minor, currency))
}

/// Whose fuse, when, and on which of the account's days.
struct Key<'a> {
    account: i64,
    now: Timestamp,
    day: Date,
    fuse: &'a Fuse,
}

impl<'a> Key<'a> {
    fn of(batch: &'a Begin) -> Self {
        Self { account: batch.account.0, now: batch.now, day: batch.budget_day, fuse: &batch.fuse }
    }

    fn params(&self) -> [Param; 2] {
        [self.account.into(), self.day.into()]
    }
}

/// The day's budget so far, and the fuse with what went through it.
fn read<'a>(rows: &[Row], of: &Key<'a>) -> Result<(Count, Meter<'a>), Fault> {
    let (mut budget, mut meter) = (Count::default(), Meter::new(of.fuse));
    let today = day_began(of.day);
    for row in rows {
        let what = row.text("what")?;
        if what == "expected" {
            take_expected(meter.expected.get_or_insert_default(), row)?;
            continue;
        }
        let (count, sum) = (row.int("count")?, money(&row.text("currency")?, row.int("sum")?)?);
        match what.as_str() {
            "budget" => budget.add(count, sum),
            "day" if row.at("at")? == today => meter.day.add(count, sum),
            "hour" if is_of_the_hour(row.at("at")?, of.now) => meter.hour.add(count, sum),
            _ => {}
        }
    }
    Ok((budget, meter))
}

/// Writes what this batch adds: to the day's budget, and to the fuse.
async fn spend(tx: &mut Tx, batch: &Begin, spent: &BTreeMap<Currency, (i64, i64)>, counted: bool) -> Result<(), Fault> {
    let mut steps = tx.batch();
    let ((slot, began), today) = (step_of(batch.now), day_began(batch.budget_day));
    for (currency, (count, sum)) in spent {
        let params = [batch.account.0.into(), batch.budget_day.into(), currency.code().into(), (*count).into(), (*sum).into()];
        tx.execute(&writes::SPEND, &params).await?;
        for (slot, at) in [(slot, began), (DAY_SLOT, today)] {
            steps.row().int("slot", slot).text("currency", currency.code()).at("at", at).int("count", *count).int("sum", *sum);
        }
    }
    if counted && !steps.is_empty() {
        tx.execute(&fuse::SPEND_FUSE, &steps.params([batch.account.0.into()])).await?;
    }
    Ok(())
}

/// Whole again: what waited falls due, and its incidents are closed.
pub(super) async fn mend(tx: &mut Tx, account: i64, now: Timestamp, wave: i64, why: &str) -> Result<(), Fault> {
    tx.execute(&fuse::END_WAVE, &[wave.into(), now.into(), why.into()]).await?;
    tx.execute(&fuse::MEND, &[account.into()]).await?;
    tx.execute(&fuse::WAKE_FUSED, &[account.into(), now.into()]).await?;
    tx.execute(&fuse::CLOSE_INCIDENTS, &[account.into(), now.into()]).await?;
    tracing::info!(account.id = account, wave, why, "the wave is over, and the fuse whole again");
    Ok(())
}
