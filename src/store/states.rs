//! The states of subscriptions: read with what they follow from, kept, and told.
//!
//! They are derived by the domain (`domain::state`), from what is committed with them. A change that the daemon itself records is
//! told in the transaction of the fact; one that a person wrote, or that time brought about, at the next look.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use super::Database;
use super::codec::Row;
use super::db::{Fault, Tx};
use super::outbox::Told;
use super::rows;
use super::sql::states;
use crate::domain::charge::{ChargeState, SubscriptionId, Waiting};
use crate::domain::decide::Decision;
use crate::domain::event::Event;
use crate::domain::state::{Facts, Just, Owed, SubscriptionState, follow};
use crate::domain::subscription::Status;
use crate::ports::store::{StateFacts, StateStep};

impl Database {
    pub(super) async fn states_due(&self, now: Timestamp, limit: u32) -> Result<Vec<StateFacts>, Fault> {
        let found = self.db.read(&states::DUE_STATES, &[now.into(), limit.into()]).await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let ids = found.iter().map(|row| row.int("subscription_id")).collect::<Result<Vec<i64>, _>>()?;
        let due = self.state_facts(&ids).await?;
        let known: HashSet<i64> = due.iter().map(|one| one.subscription.0).collect();
        let lost: Vec<i64> = ids.into_iter().filter(|id| !known.contains(id)).collect();
        if !lost.is_empty() {
            // at the head of the index they would be asked for without end; a change of the row asks again
            self.db.write(&states::FORGET_LOOKS, &[lost.into()]).await?;
        }
        Ok(due)
    }

    /// What the states of these subscriptions follow from, as it is now. Rows that cannot be read are left out; each has been
    /// logged.
    pub async fn state_facts(&self, subscriptions: &[i64]) -> Result<Vec<StateFacts>, Fault> {
        let mut facts = read(self.db.read(&states::STATE_FACTS, &[subscriptions.to_vec().into()]).await?);
        let unopened: Vec<i64> = facts.values().filter(|one| one.opened_nothing).map(|one| one.seen.subscription.0).collect();
        let mut schedules = Vec::new();
        if !unopened.is_empty() {
            for row in &self.db.read(&states::UNOPENED, &[unopened.into()]).await? {
                match rows::standing(row) {
                    Ok(schedule) => schedules.push(schedule),
                    Err(fault) => unreadable(row.int("subscription_id").unwrap_or_default(), &fault),
                }
            }
            self.complete(schedules.iter_mut().map(|schedule| &mut schedule.terms)).await?;
        }
        for schedule in schedules {
            if let Some(one) = facts.get_mut(&schedule.terms.id.0) {
                one.seen.unopened = Some(schedule);
            }
        }
        Ok(facts.into_values().map(|one| one.seen).collect())
    }

    pub(super) async fn keep(&self, now: Timestamp, steps: &[StateStep]) -> Result<u64, Fault> {
        let mut tx = self.db.begin().await?;
        let (kept, events) = keep(&mut tx, now, steps).await?;
        let told: Vec<Told<'_>> =
            events.iter().map(|(event, id)| Told { event, subscription: Some(*id), charge: None }).collect();
        self.tell(&mut tx, now, &told).await?;
        tx.commit().await?;
        Ok(kept.len() as u64)
    }
}

/// What the states of subscriptions become by decisions that have just been written, in the same transaction. Returns what is to be
/// told of them.
pub(super) async fn follow_decisions(tx: &mut Tx, now: Timestamp, decisions: &[&Decision]) -> Result<Vec<(Event, i64)>, Fault> {
    if decisions.is_empty() {
        return Ok(Vec::new());
    }
    let of: BTreeMap<i64, &Decision> = decisions.iter().map(|one| (one.charge.subscription.0, *one)).collect();
    let ids: Vec<i64> = of.keys().copied().collect();
    let mut steps = Vec::new();
    for (id, read) in read(tx.query(&states::STATE_FACTS, &[ids.into()]).await?) {
        let Some(decision) = of.get(&id) else { continue };
        let mut seen = read.seen;
        // nobody has a row for a state that was never anything else
        seen.before = seen.before.or((seen.version == 0).then_some(SubscriptionState::Active));
        seen.facts.grace = decision.grace;
        seen.facts.just = Some(Just { state: decision.charge.state, ended_it: decision.end.is_some() });
        let followed = follow(seen.before, &seen.facts, now);
        let same = followed.reason.is_none() && followed.look_at == seen.look_at;
        if !same {
            steps.push(StateStep { seen, followed });
        }
    }
    let (kept, events) = keep(tx, now, &steps).await?;
    // another session has them in hand: they are derived anew once both have committed
    let clashed = steps.iter().filter(|step| !kept.contains(&step.seen.subscription.0));
    mark(tx, now, clashed.map(|step| (step.seen.subscription, false))).await?;
    Ok(events)
}

/// Lets states be derived anew at once. Each with whether nothing was ever told of its subscription.
pub(super) async fn mark(
    tx: &mut Tx,
    now: Timestamp,
    subscriptions: impl Iterator<Item = (SubscriptionId, bool)>,
) -> Result<(), Fault> {
    let mut batch = tx.batch();
    for (subscription, is_new) in subscriptions {
        let state = (!is_new).then_some(SubscriptionState::Active.name());
        batch.row().int("id", subscription.0).text("state", state);
    }
    if !batch.is_empty() {
        tx.execute(&states::MARK_STATES, &batch.params([now.into()])).await?;
    }
    Ok(())
}

/// Writes states that are as they were read, and returns which, with what is to be told of them.
async fn keep(tx: &mut Tx, now: Timestamp, steps: &[StateStep]) -> Result<(HashSet<i64>, Vec<(Event, i64)>), Fault> {
    if steps.is_empty() {
        return Ok(Default::default());
    }
    let mut ordered: Vec<&StateStep> = steps.iter().collect();
    ordered.sort_by_key(|step| step.seen.subscription);
    let mut batch = tx.batch();
    for StateStep { seen, followed } in &ordered {
        let since = seen.since.filter(|_| followed.reason.is_none()).unwrap_or(now);
        batch
            .row()
            .int("id", seen.subscription.0)
            .text("state", followed.state.name())
            .at("since", since)
            .at("look_at", followed.look_at)
            .int("version", seen.version);
    }
    let written = tx.query(&states::KEEP_STATES, &batch.params([])).await?;
    let kept = written.iter().map(|row| row.int("subscription_id")).collect::<Result<HashSet<i64>, _>>()?;
    let told = ordered.iter().filter(|step| kept.contains(&step.seen.subscription.0)).filter_map(|step| {
        let seen = &step.seen;
        let event = step.followed.event(&seen.account, &seen.external_ref, seen.before, now)?;
        Some((event, seen.subscription.0))
    });
    let events = told.collect();
    Ok((kept, events))
}

/// A subscription's facts as they were read.
struct Read {
    seen: StateFacts,
    /// Active, and no period of it has opened: it may be in its trial.
    opened_nothing: bool,
}

fn read(found: Vec<Row>) -> BTreeMap<i64, Read> {
    let mut facts: BTreeMap<i64, Read> = BTreeMap::new();
    let mut bad: HashMap<i64, Fault> = HashMap::new();
    for row in &found {
        let id = row.int("id").unwrap_or_default();
        if let Err(fault) = take(&mut facts, id, row) {
            bad.insert(id, fault);
        }
    }
    for (id, fault) in bad {
        facts.remove(&id);
        unreadable(id, &fault);
    }
    facts
}

fn take(facts: &mut BTreeMap<i64, Read>, id: i64, row: &Row) -> Result<(), Fault> {
    let one = match facts.entry(id) {
        Entry::Occupied(one) => one.into_mut(),
        Entry::Vacant(place) => place.insert(first(row, id)?),
    };
    one.seen.facts.owed.extend(owed(row)?);
    Ok(())
}

fn first(row: &Row, id: i64) -> Result<Read, Fault> {
    let status = row.word("status", Status::from_name)?;
    let state = row.text_opt("state")?;
    Ok(Read {
        opened_nothing: status == Status::Active && row.day_opt("opened_until")?.is_none(),
        seen: StateFacts {
            subscription: SubscriptionId(id),
            account: row.text("account")?,
            external_ref: row.text("external_ref")?,
            plan: row.text("plan")?,
            before: state.as_deref().and_then(SubscriptionState::from_name),
            since: row.at_opt("since")?,
            look_at: row.at_opt("look_at")?,
            version: row.int_opt("version")?.unwrap_or(0),
            facts: Facts {
                status,
                ended: row.text_opt("parked")?.as_deref() == Some("ended"),
                trial_until: None,
                owed: Vec::new(),
                closed_unpaid: row.text_opt("closed")?.as_deref() == Some(ChargeState::Unpaid.name()),
                grace: jiff::SignedDuration::ZERO,
                just: None,
            },
            unopened: None,
        },
    })
}

fn owed(row: &Row) -> Result<Option<Owed>, Fault> {
    let Some(first_declined_at) = row.at_opt("first_declined_at")? else { return Ok(None) };
    Ok(Some(Owed {
        first_declined_at,
        restarted: row.int_opt("restarted_after")?.is_some(),
        state: row.word("owed_state", ChargeState::from_name)?,
        waiting: row.word("waiting", Waiting::from_name)?,
        next_at: row.at_opt("next_at")?,
    }))
}

fn unreadable(subscription: i64, fault: &Fault) {
    tracing::error!(subscription.id = subscription, error = %fault, "a subscription cannot be read: its state stays as it is");
}
