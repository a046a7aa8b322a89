//! What billing keys have been through, over all their subscriptions: the caps of dunning, held inside W2.
//!
//! Only keys that were ever declined or in doubt have rows, and keys that several subscriptions share. From their first decline or
//! doubt on, or from the second subscription on, each try of such a key is written with its intent, while the account's row is
//! locked: batches of several processes count each other's tries, before they have ended.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::codec::Row;
use super::db::{Fault, Tx};
use super::rows;
use super::sql::cards;
use crate::domain::attempt::{AttemptId, AttemptState, SendId};
use crate::domain::charge::ChargeId;
use crate::domain::decide::{Decision, LiveChange};
use crate::domain::decline::Class;
use crate::domain::dunning::{BOOKED_REST, KEY_SPACING, KEY_WINDOW, KeyEnd, KeyStop, KeyTry, key_may_be_asked};
use crate::ports::store::{Begin, Intent, NotBegun};

/// Billing keys of a batch whose tries are kept: those that were declined before, and those that are shared.
pub(super) type Kept = HashSet<String>;

/// Refuses the intents whose billing key may not be asked now, and those that share one with an intent before them.
pub(super) async fn stop_cards(
    tx: &mut Tx,
    batch: &Begin,
    intents: &[Intent],
    refused: &mut [Option<NotBegun>],
) -> Result<Kept, Fault> {
    let asked = || intents.iter().zip(&*refused).filter(|(_, refusal)| refusal.is_none()).map(|(intent, _)| intent);
    let keys: HashSet<&str> = asked().map(|intent| intent.customer_uid.as_str()).collect();
    if keys.is_empty() {
        return Ok(Kept::new());
    }
    let keys: Vec<String> = keys.into_iter().map(str::to_owned).collect();
    let since = batch.now.saturating_sub(KEY_WINDOW).unwrap_or(Timestamp::MIN);
    let found = tx.query(&cards::TRIES_OF_CARDS, &[batch.account.0.into(), keys.into(), since.into()]).await?;
    let mut tries: HashMap<String, Vec<(i64, ChargeId, KeyTry)>> = HashMap::new();
    let mut booked: HashSet<String> = HashSet::new();
    for row in &found {
        if row.text_opt("state")?.as_deref() == Some("booked") {
            booked.insert(row.text("customer_uid")?);
            continue;
        }
        let of_key = tries.entry(row.text("customer_uid")?).or_default();
        if row.int_opt("attempt_id")?.is_none() {
            // a shared key, with or without tries
            continue;
        }
        if let Some((charge, one)) = try_of(row)? {
            of_key.push((row.int("attempt_id")?, charge, one));
        }
    }
    // how many of this batch ask the same key before this one
    let mut before: HashMap<&str, i32> = HashMap::new();
    for (intent, refusal) in intents.iter().zip(refused.iter_mut()).filter(|(_, refusal)| refusal.is_none()) {
        let of_key = tries.get(&intent.customer_uid).map(Vec::as_slice).unwrap_or_default();
        let attempt = intent.attempt.map(|attempt| attempt.0);
        let seen: Vec<KeyTry> = of_key
            .iter()
            .filter(|(of, ..)| Some(*of) != attempt)
            .map(|(_, charge, one)| KeyTry { own: *charge == intent.charge, ..*one })
            .collect();
        let stopped = key_may_be_asked(&seen, batch.now).err();
        let place = before.entry(intent.customer_uid.as_str()).or_default();
        let elsewhere = booked.contains(&intent.customer_uid);
        *refusal = match stopped {
            _ if elsewhere => {
                let until = batch.now.saturating_add(BOOKED_REST).unwrap_or(batch.now);
                Some(NotBegun::CardStopped { stop: KeyStop::Booked, until })
            }
            Some((stop, until)) => Some(NotBegun::CardStopped { stop, until }),
            None if *place > 0 => {
                let until = batch.now.saturating_add(KEY_SPACING.saturating_mul(*place)).unwrap_or(batch.now);
                Some(NotBegun::CardStopped { stop: KeyStop::Spacing, until })
            }
            None => None,
        };
        if stopped.is_none() && !elsewhere {
            *place += 1;
        }
    }
    Ok(tries.into_keys().collect())
}

/// A try and its charge; `None`: nothing of it left.
pub(super) fn try_of(row: &Row) -> Result<Option<(ChargeId, KeyTry)>, Fault> {
    let Some(end) = end_of(row)? else { return Ok(None) };
    Ok(Some((ChargeId(row.int("charge_id")?), KeyTry { at: row.at("at")?, own: false, end })))
}

/// What a try came to.
fn end_of(row: &Row) -> Result<Option<KeyEnd>, Fault> {
    let class = row.text_opt("class")?.as_deref().and_then(Class::from_name);
    Ok(match row.word("state", rows::attempt_state)? {
        AttemptState::Live => Some(KeyEnd::Open),
        AttemptState::Paid => Some(KeyEnd::Paid),
        AttemptState::Declined => Some(KeyEnd::Declined(class.unwrap_or(Class::Unknown))),
        AttemptState::Refused if class == Some(Class::HardCard) => Some(KeyEnd::Declined(Class::HardCard)),
        AttemptState::Refused => Some(KeyEnd::Transient),
        AttemptState::Void => None,
    })
}

/// The new tries of keys whose tries are kept.
pub(super) async fn write_begun(
    tx: &mut Tx,
    batch: &Begin,
    intents: &[Intent],
    pending: &[Result<(AttemptId, SendId), NotBegun>],
    kept: &Kept,
) -> Result<(), Fault> {
    let (mut rows, mut keys) = (tx.batch(), Vec::new());
    for (intent, pending) in intents.iter().zip(pending).filter(|(intent, _)| kept.contains(&intent.customer_uid)) {
        if let Ok((attempt, _)) = pending {
            rows.row().int("attempt", attempt.0).text("customer", intent.customer_uid.as_str()).int("charge", intent.charge.0);
            keys.push(intent.customer_uid.clone());
        }
    }
    if !rows.is_empty() {
        tx.execute(&cards::CARDS_BEGUN, &rows.params([batch.account.0.into(), batch.now.into()])).await?;
        tx.execute(&cards::FORGET_TRIES, &[keys.into(), forgotten(batch.now).into()]).await?;
    }
    Ok(())
}

/// The tries that were refused, each with its class. The attempts have been written before.
pub(super) async fn write_refused<'a>(
    tx: &mut Tx,
    now: Timestamp,
    decisions: impl Iterator<Item = &'a Decision>,
) -> Result<(), Fault> {
    let (mut rows, mut keys) = (tx.batch(), Vec::new());
    for decision in decisions {
        let charge = &decision.charge;
        let Some(class) = decision.refusal else { continue };
        let live = match &decision.live {
            LiveChange::End { state: AttemptState::Declined | AttemptState::Refused, .. } => charge.live.as_ref(),
            _ => None,
        };
        let adopted = decision.adopt.iter().find(|adopted| adopted.state == AttemptState::Declined);
        if live.is_none() && adopted.is_none() {
            continue;
        }
        let at = charge.newest_send_at.filter(|_| live.is_some()).unwrap_or(now);
        rows.row()
            .int("account", charge.account.0)
            .int("attempt", live.map(|live| live.id.0))
            .text("imp_uid", adopted.filter(|_| live.is_none()).map(|adopted| adopted.imp_uid.as_str()))
            .at("at", at)
            .text("class", class.name());
        keys.extend(live.map(|live| live.customer_uid.clone()).or(adopted.map(|adopted| adopted.customer_uid.clone())));
    }
    if rows.is_empty() {
        return Ok(());
    }
    tx.execute(&cards::CARDS_REFUSED, &rows.params([])).await?;
    tx.execute(&cards::FORGET_TRIES, &[keys.into(), forgotten(now).into()]).await?;
    Ok(())
}

/// The tries that came into doubt: they may turn out declined, however long that takes.
pub(super) async fn write_doubted(tx: &mut Tx, now: Timestamp, doubted: impl Iterator<Item = &Decision>) -> Result<(), Fault> {
    let attempts: Vec<i64> = doubted.filter_map(|decision| decision.charge.live.as_ref()).map(|live| live.id.0).collect();
    if !attempts.is_empty() {
        tx.execute(&cards::CARDS_DOUBTED, &[attempts.into(), now.into()]).await?;
    }
    Ok(())
}

/// Tries before then are counted by no cap.
fn forgotten(now: Timestamp) -> Timestamp {
    now.saturating_sub(KEY_WINDOW.saturating_mul(2)).unwrap_or(Timestamp::MIN)
}
