//! W2: intents become durable, or are refused one by one.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::Database;
use super::brakes::brakes_of;
use super::cards::{stop_cards, write_begun};
use super::codec::Row;
use super::db::{Fault, Tx};
use super::fuse::{Scale, Stand};
use super::sql::{charges, writes};
use crate::domain::attempt::{AttemptId, SendId, base32};
use crate::domain::charge::{ChargeId, ChargeState};
use crate::domain::fuse::{Last, days};
use crate::domain::money::Money;
use crate::ports::gateway::{CommittedIntent, DurableAttempt};
use crate::ports::guard::{self, Guard};
use crate::ports::store::{Begin, Begun, Intent, NotBegun};

/// How often a transaction is repeated after a deadlock.
const REPEATS: u32 = 5;

/// What became of an intent before COMMIT: rows that wait for it, or a refusal.
pub(super) type Pending = Result<(AttemptId, SendId), NotBegun>;

impl Database {
    pub(super) async fn begin_batch(&self, batch: Begin) -> Result<Begun, Fault> {
        match self.begin_together(&batch, &batch.intents).await {
            // one of them breaks a rule that was not foreseen: each stands alone
            Err(Fault::Integrity(why)) => {
                tracing::warn!(error = %why, "a batch of intents breaks a rule: begun one by one");
                let mut begun = Begun { attempts: Vec::with_capacity(batch.intents.len()), high_water: 0, has_lost: false };
                for intent in &batch.intents {
                    match self.begin_together(&batch, std::slice::from_ref(intent)).await {
                        Ok(one) => {
                            begun.has_lost |= one.has_lost;
                            begun.attempts.extend(one.attempts);
                            begun.high_water = begun.high_water.max(one.high_water);
                        }
                        Err(Fault::Integrity(why)) => {
                            tracing::error!(charge.id = intent.charge.0, error = %why, "an intent breaks a rule: not begun");
                            begun.attempts.push(Err(NotBegun::Unresolved));
                        }
                        Err(other) if begun.attempts.iter().all(Result::is_err) => return Err(other),
                        // those before it are committed and have to go out; the rest is found again when its claim ends
                        Err(other) => {
                            tracing::warn!(error = %other, "the rest of a batch of intents was not begun");
                            begun.attempts.resize_with(batch.intents.len(), || Err(NotBegun::ClaimLost));
                            break;
                        }
                    }
                }
                Ok(begun)
            }
            other => other,
        }
    }

    async fn begin_together(&self, batch: &Begin, intents: &[Intent]) -> Result<Begun, Fault> {
        let mut repeats = 0;
        loop {
            let mut tx = self.db.begin().await?;
            let planned = match self.plan(&mut tx, batch, intents, true).await {
                Ok(planned) => planned,
                Err(Fault::Conflict(_)) if repeats < REPEATS => {
                    repeats += 1;
                    continue;
                }
                Err(other) => return Err(other),
            };
            if planned.iter().all(Result::is_err) {
                tx.commit().await?;
                return Ok(begun(batch, intents, &planned, 0));
            }
            let newest = batch.newest;
            let asked = [
                newest.map(|seen| seen.send.0).into(),
                newest.map(|seen| seen.attempt.0).into(),
                newest.map(|seen| seen.begun_at).into(),
            ];
            let water = tx.query(&writes::HIGH_WATER, &asked).await?;
            let Some(row) = water.first() else {
                // the brakes were pulled meanwhile: nothing of this was committed, and the next look sees them
                drop(tx);
                if repeats < REPEATS {
                    repeats += 1;
                    continue;
                }
                return Ok(begun(batch, intents, &vec![Err(NotBegun::Held); intents.len()], 0));
            };
            if !row.flag("knows")? {
                drop(tx);
                let none = begun(batch, intents, &vec![Err(NotBegun::Held); intents.len()], 0);
                return Ok(Begun { has_lost: true, ..none });
            }
            let high_water = row.int("high_water")?;
            tx.commit().await?;
            return Ok(begun(batch, intents, &planned, high_water));
        }
    }

    /// Everything of W2 but the COMMIT. Without `heed` the brakes stop nothing: for a rehearsal, which never commits.
    pub(super) async fn plan(&self, tx: &mut Tx, batch: &Begin, intents: &[Intent], heed: bool) -> Result<Vec<Pending>, Fault> {
        let ids: Vec<i64> = intents.iter().map(|intent| intent.charge.0).collect();
        let (mut refused, scales) = claims_lost(tx, batch, intents, &ids).await?;
        let brakes = tx.query(&writes::LOCK_BRAKES, &[batch.account.0.into()]).await?;
        let stand = Stand::of(&brakes)?;
        let stop = brakes_of(&brakes)?.stop(batch.account, batch.endpoint).filter(|_| heed);
        let live = live_attempts(tx, &ids).await?;
        let mut seen = HashSet::new();
        for (intent, refusal) in intents.iter().zip(&mut refused) {
            let of_charge = live.get(&intent.charge.0);
            let fits = match (intent.attempt, of_charge) {
                (None, None) => true,
                (Some(attempt), Some(live)) => live.attempt == attempt.0 && live.is_live && !live.has_open_send,
                _ => false,
            };
            let resolved = (fits && seen.insert(intent.charge)).then_some(());
            *refusal = refusal.or(stop).or(resolved.map_or(Some(NotBegun::Unresolved), |()| None));
        }
        reserve_ids(tx, intents, &mut refused).await?;
        let stand = self.only_the_wave(tx, batch, intents, &mut refused, stand).await?;
        let kept = stop_cards(tx, batch, intents, &mut refused).await?;
        self.reserve(tx, batch, intents, &mut refused, &scales, &stand).await?;
        let pending = insert(tx, batch, intents, &refused).await?;
        write_begun(tx, batch, intents, &pending, &kept).await?;
        Ok(pending)
    }
}

/// The charges' rows are locked first, in order of id; whatever is read afterwards cannot change under us.
async fn claims_lost(
    tx: &mut Tx,
    batch: &Begin,
    intents: &[Intent],
    ids: &[i64],
) -> Result<(Vec<Option<NotBegun>>, HashMap<i64, Scale>), Fault> {
    let rows = tx.query(&writes::LOCK_TO_BEGIN, &[ids.to_vec().into()]).await?;
    let mut charges = HashMap::with_capacity(rows.len());
    let mut scales = HashMap::with_capacity(rows.len());
    for row in &rows {
        let lost = row.text_opt("claim_token")?.as_deref() != Some(batch.token.0.as_str());
        let lost = lost && guard::stands(Guard::ClaimToken);
        let refusal = if lost || row.int("account_id")? != batch.account.0 {
            Some(NotBegun::ClaimLost)
        } else if row.text_opt("elsewhere_imp_uid")?.is_some() {
            Some(NotBegun::PaidElsewhere)
        } else if row.word("state", ChargeState::from_name)? != ChargeState::Due {
            Some(NotBegun::Unresolved)
        } else {
            None
        };
        charges.insert(row.int("id")?, refusal);
        scales.insert(row.int("id")?, scale(row)?);
    }
    let refused = intents.iter().map(|intent| charges.get(&intent.charge.0).copied().unwrap_or(Some(NotBegun::ClaimLost)));
    Ok((refused.collect(), scales))
}

/// What an amount is held against: the days of its period, and what the subscription paid last.
fn scale(row: &Row) -> Result<Scale, Fault> {
    let last = match row.int_opt("last_amount")? {
        Some(minor) => Some(Last {
            amount: Money::new(minor, row.word("last_currency", |code| code.parse().ok())?),
            days: days(row.day("last_start")?, row.day("last_end")?),
        }),
        None => None,
    };
    Ok(Scale { days: days(row.day("period_start")?, row.day("period_end")?), last })
}

struct Live {
    attempt: i64,
    is_live: bool,
    has_open_send: bool,
}

async fn live_attempts(tx: &mut Tx, ids: &[i64]) -> Result<HashMap<i64, Live>, Fault> {
    let rows = tx.query(&writes::LIVE_ATTEMPTS, &[ids.to_vec().into()]).await?;
    let live = rows.iter().map(|row| {
        let live = Live {
            attempt: row.int("id")?,
            is_live: row.text("state")? == "live",
            has_open_send: row.int_opt("send_id")?.is_some(),
        };
        Ok((row.int("charge_id")?, live))
    });
    live.collect()
}

/// An id that belongs to another charge is refused. The first id of a charge was written when its period opened.
async fn reserve_ids(tx: &mut Tx, intents: &[Intent], refused: &mut [Option<NotBegun>]) -> Result<(), Fault> {
    let alive = |refused: &[Option<NotBegun>]| refused.iter().map(Option::is_none).collect::<Vec<bool>>();
    let mine = alive(refused);
    let unknown = |(intent, mine): &(&Intent, &bool)| **mine && !intent.owns_id;
    let asked = || intents.iter().zip(&mine).filter(unknown).map(|(intent, _)| intent);
    let uids: Vec<String> = asked().map(|intent| intent.merchant_uid.as_str().to_owned()).collect();
    if uids.is_empty() {
        return Ok(());
    }
    let mut owners = owners_of(tx, uids.clone()).await?;
    let mut batch = tx.batch();
    for intent in asked().filter(|intent| !owners.contains_key(intent.merchant_uid.as_str())) {
        batch.row().text("uid", intent.merchant_uid.as_str()).int("charge", intent.charge.0);
    }
    if !batch.is_empty() {
        tx.execute(&writes::INSERT_IDS, &batch.params([])).await?;
        // somebody else may have been first
        owners = owners_of(tx, uids).await?;
    }
    let asked = |(intent, refusal): &(&Intent, &mut Option<NotBegun>)| refusal.is_none() && !intent.owns_id;
    for (intent, refusal) in intents.iter().zip(refused.iter_mut()).filter(asked) {
        if owners.get(intent.merchant_uid.as_str()) != Some(&intent.charge.0) {
            *refusal = Some(NotBegun::IdTaken);
        }
    }
    Ok(())
}

async fn owners_of(tx: &mut Tx, uids: Vec<String>) -> Result<HashMap<String, i64>, Fault> {
    let found = tx.query(&charges::CHARGES_OF, &[uids.into()]).await?;
    found.iter().map(|row| Ok((row.text("merchant_uid")?, row.int("charge_id")?))).collect()
}

async fn insert(tx: &mut Tx, batch: &Begin, intents: &[Intent], refused: &[Option<NotBegun>]) -> Result<Vec<Pending>, Fault> {
    let mut attempts = tx.batch();
    for (intent, _) in intents.iter().zip(refused).filter(|(intent, refusal)| refusal.is_none() && intent.attempt.is_none()) {
        attempts
            .row()
            .int("charge", intent.charge.0)
            .int("number", i64::from(intent.attempt_number))
            .int("id_number", i64::from(intent.id_number.get()))
            .int("amount", intent.amount.minor())
            .text("customer", intent.customer_uid.as_str());
    }
    let mut of_charge: HashMap<ChargeId, i64> = HashMap::new();
    if !attempts.is_empty() {
        for row in &tx.query(&writes::INSERT_ATTEMPTS, &attempts.params([])).await? {
            of_charge.insert(ChargeId(row.int("charge_id")?), row.int("id")?);
        }
    }
    let mut sends = tx.batch();
    for (intent, _) in intents.iter().zip(refused).filter(|(_, refusal)| refusal.is_none()) {
        let attempt = *of_charge.entry(intent.charge).or_insert(intent.attempt.map_or(0, |attempt| attempt.0));
        let hash = base32(&Sha256::digest(intent.body.as_bytes()), 26);
        sends.row().int("attempt", attempt).text("body", intent.body.as_str()).text("hash", hash.as_str());
    }
    let mut of_attempt: HashMap<i64, i64> = HashMap::new();
    if !sends.is_empty() {
        let params = sends.params([batch.endpoint.into(), batch.now.into()]);
        for row in &tx.query(&writes::INSERT_SENDS, &params).await? {
            of_attempt.insert(row.int("attempt_id")?, row.int("id")?);
        }
    }
    let pending = |(intent, refusal): (&Intent, &Option<NotBegun>)| match refusal {
        Some(refusal) => Ok(Err(*refusal)),
        None => {
            let attempt = of_charge.get(&intent.charge).copied();
            let rows = attempt.and_then(|attempt| Some((AttemptId(attempt), SendId(*of_attempt.get(&attempt)?))));
            rows.map(Ok).ok_or_else(|| Fault::Corrupt(format!("the send of charge {} was not written", intent.charge)))
        }
    };
    intents.iter().zip(refused).map(pending).collect()
}

/// Only called with what has been committed.
fn begun(batch: &Begin, intents: &[Intent], committed: &[Pending], high_water: i64) -> Begun {
    let durable = |(intent, rows): (&Intent, &Pending)| {
        rows.map(|(attempt, send)| {
            DurableAttempt::after_commit(CommittedIntent {
                charge: intent.charge,
                attempt,
                send,
                begun_at: batch.now,
                id_number: intent.id_number,
                merchant_uid: intent.merchant_uid.clone(),
                customer_uid: intent.customer_uid.clone(),
                amount: intent.amount,
                body: intent.body.clone(),
            })
        })
    };
    Begun { attempts: intents.iter().zip(committed).map(durable).collect(), high_water, has_lost: false }
}
