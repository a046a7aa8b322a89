//! W3: what became known is stored, and what follows from it is written, each charge for itself.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde_json::json;

use super::Database;
use super::cards::{write_doubted, write_refused};
use super::db::{Fault, Tx};
use super::outbox::Told;
use super::rows::{attempt_state, attempt_state_name, hint_name, send_end_name};
use super::sql::{charges, outbox, schedules, writes};
use super::states::follow_decisions;
use crate::domain::attempt::{AttemptState, IdNumber, SendEnd};
use crate::domain::charge::{Charge, ChargeId, ChargeState, Course, Doubt, Waiting};
use crate::domain::decide::{Decision, Fact, LiveChange, Policy, decide};
use crate::domain::event::{Event, EventKind};
use crate::domain::subscription::Status;
use crate::ports::guard::{self, Guard};
use crate::ports::store::{Entry, Fence, Recorded};

/// How often a transaction is repeated after a deadlock.
const REPEATS: u32 = 5;

/// A decision that its fence lets through, with what the charge was before.
struct Written<'a> {
    decision: &'a Decision,
    before: ChargeState,
    /// Its subscription was last told as in a state that a payment ends.
    open_state: bool,
    /// Of what it adopts, the payments that attempts of this charge carry already: they were reported as failed, and approved later.
    revived: Vec<&'a str>,
}

/// An attempt that carries an `imp_uid`.
struct Booked {
    attempt: i64,
    charge: ChargeId,
    ended_unpaid: bool,
}

impl Written<'_> {
    /// The `imp_uid` that its live attempt books.
    fn live_imp_uid(decision: &Decision) -> Option<&str> {
        match &decision.live {
            LiveChange::End { imp_uid: Some(imp_uid), .. } => Some(imp_uid),
            _ => None,
        }
    }

    fn imp_uids(decision: &Decision) -> impl Iterator<Item = &str> {
        let adopted = decision.adopt.iter().map(|adopted| adopted.imp_uid.as_str());
        Self::live_imp_uid(decision).into_iter().chain(adopted)
    }

    /// Payments of its own that were reported as failed.
    fn revived<'a>(decision: &'a Decision, booked: &HashMap<String, Booked>) -> Vec<&'a str> {
        let paid = decision.adopt.iter().filter(|adopted| adopted.state == AttemptState::Paid);
        let own = |uid: &&str| booked.get(*uid).is_some_and(|of| of.charge == decision.charge.id && of.ended_unpaid);
        paid.map(|adopted| adopted.imp_uid.as_str()).filter(own).collect()
    }

    /// Whether another attempt carries what it books.
    fn is_taken(decision: &Decision, booked: &HashMap<String, Booked>, revived: &[&str]) -> bool {
        let live = decision.charge.live.as_ref().map(|live| live.id.0);
        let by_live = Self::live_imp_uid(decision).and_then(|uid| booked.get(uid)).is_some_and(|of| Some(of.attempt) != live);
        let adopted = || decision.adopt.iter().map(|adopted| adopted.imp_uid.as_str());
        by_live || adopted().any(|uid| booked.contains_key(uid) && !revived.contains(&uid))
    }

    fn attempts(&self) -> i64 {
        let charge = &self.decision.charge;
        i64::from(charge.attempts.max(charge.live.as_ref().map_or(0, |live| live.number)))
    }

    /// Whether its subscription may come to another state by it. Nearly all charges are paid at their first try, by active ones.
    fn may_change_state(&self) -> bool {
        let charge = &self.decision.charge;
        let news = self.before != charge.state || !self.decision.events.is_empty();
        news && (self.open_state || charge.first_declined_at.is_some() || charge.state == ChargeState::Unpaid)
    }

    fn comes_into_doubt(&self) -> bool {
        self.before != ChargeState::Doubt && self.decision.charge.state == ChargeState::Doubt
    }

    fn ends_the_charge(&self) -> bool {
        self.before.is_unresolved() && !self.decision.charge.state.is_unresolved()
    }
}

impl Database {
    pub(super) async fn record_batch(&self, now: Timestamp, entries: &[Entry]) -> Result<Vec<Recorded>, Fault> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        match self.record_together(now, entries).await {
            // one of them breaks a rule that was not foreseen: each stands alone
            Err(Fault::Integrity(why) | Fault::Corrupt(why)) => {
                tracing::warn!(error = %why, "a batch of outcomes breaks a rule: recorded one by one");
                let mut results = Vec::with_capacity(entries.len());
                for entry in entries {
                    results.push(self.record_alone(now, entry).await?);
                }
                Ok(results)
            }
            other => other,
        }
    }

    async fn record_alone(&self, now: Timestamp, entry: &Entry) -> Result<Recorded, Fault> {
        // the second try sees what another session booked between our check and our write
        for _ in 0..2 {
            match self.record_together(now, std::slice::from_ref(entry)).await {
                Ok(results) => return Ok(results.first().copied().unwrap_or(Recorded::FenceLost)),
                Err(Fault::Integrity(why) | Fault::Corrupt(why)) => {
                    tracing::error!(charge.id = entry.charge.0, error = %why, "an outcome breaks a rule of the database");
                }
                Err(other) => return Err(other),
            }
        }
        let observed = Entry { decision: None, ..entry.clone() };
        self.record_together(now, &[observed]).await.map(|_| Recorded::Refused)
    }

    async fn record_together(&self, now: Timestamp, entries: &[Entry]) -> Result<Vec<Recorded>, Fault> {
        let mut repeats = 0;
        loop {
            let mut tx = self.db.begin().await?;
            match self.record_once(&mut tx, now, entries).await {
                Ok(results) => {
                    tx.commit().await?;
                    return Ok(results);
                }
                Err(Fault::Conflict(_)) if repeats < REPEATS => repeats += 1,
                Err(other) => return Err(other),
            }
        }
    }

    async fn record_once(&self, tx: &mut Tx, now: Timestamp, entries: &[Entry]) -> Result<Vec<Recorded>, Fault> {
        let (results, written) = judge(tx, entries).await?;
        observe(tx, now, entries, &results).await?;
        if written.is_empty() {
            return Ok(results);
        }
        end_sends(tx, now, &written).await?;
        change_attempts(tx, &written).await?;
        adopt(tx, &written).await?;
        change_charges(tx, now, &written).await?;
        write_refused(tx, now, written.iter().map(|one| one.decision)).await?;
        write_doubted(tx, now, written.iter().filter(|one| one.comes_into_doubt()).map(|one| one.decision)).await?;
        for one in &written {
            if let Some(status) = one.decision.end {
                self.end_subscription(tx, now, &one.decision.charge, status).await?;
            }
            if let Some(why) = &one.decision.pause {
                self.pause_in(tx, one.decision.charge.account, now, why).await?;
            }
        }
        let ended: Vec<i64> =
            written.iter().filter(|one| one.ends_the_charge()).map(|one| one.decision.charge.subscription.0).collect();
        if !ended.is_empty() {
            tx.execute(&schedules::UNBLOCK, &[ended.into(), now.into()]).await?;
        }
        let followed: Vec<&Decision> = written.iter().filter(|one| one.may_change_state()).map(|one| one.decision).collect();
        let changes = follow_decisions(tx, now, &followed).await?;
        let mut told: Vec<Told<'_>> = written
            .iter()
            .flat_map(|one| {
                let (subscription, charge) = (Some(one.decision.charge.subscription.0), Some(one.decision.charge.id.0));
                one.decision.events.iter().map(move |event| Told { event, subscription, charge })
            })
            .collect();
        told.extend(changes.iter().map(|(event, id)| Told { event, subscription: Some(*id), charge: None }));
        self.tell(tx, now, &told).await?;
        for one in &written {
            let charge = &one.decision.charge;
            for incident in &one.decision.incidents {
                let params = [
                    charge.account.0.into(),
                    Some(charge.id.0).into(),
                    incident.kind.name().into(),
                    incident.detail.as_str().into(),
                    now.into(),
                ];
                tx.execute(&outbox::OPEN_INCIDENT, &params).await?;
            }
        }
        Ok(results)
    }

    /// What dunning says of a subscription whose charge was given up. One that an operator has paused or cancelled meanwhile stays
    /// as it is.
    async fn end_subscription(&self, tx: &mut Tx, now: Timestamp, charge: &Charge, status: Status) -> Result<(), Fault> {
        let params = [charge.subscription.0.into(), status.name().into(), now.into()];
        if tx.execute(&writes::END_SUBSCRIPTION, &params).await? == 0 {
            return Ok(());
        }
        let data = json!({
            "account": charge.account_name, "external_ref": charge.external_ref, "status": status.name(), "changed": ["status"],
        });
        let event = Event::new(EventKind::SubscriptionChanged, &[charge.base.as_str(), "unpaid", &now.to_string()], data);
        self.tell(tx, now, &[Told { event: &event, subscription: Some(charge.subscription.0), charge: None }]).await
    }

    /// A send that was left open by an ended claim is doubt: the charge is looked up from now on.
    pub(super) async fn doubt_interrupted(&self, now: Timestamp, limit: u32) -> Result<u64, Fault> {
        let found = self.interrupted(now, limit).await?;
        if found.is_empty() {
            return Ok(0);
        }
        let policy = Policy::default();
        let charges = self.load_charges(&found).await?;
        let entries: Vec<Entry> = charges
            .iter()
            .filter_map(|charge| {
                let decision = decide(charge, &Fact::Interrupted, now, &policy).ok()?;
                let fence = Fence::Version(charge.version);
                Some(Entry { charge: charge.id, fence, observation: None, decision: Some(decision) })
            })
            .collect();
        let results = self.record_batch(now, &entries).await?;
        Ok(results.iter().map(|result| u64::from(*result == Recorded::Written)).sum())
    }
}

/// Locks the charges and says which decisions may be written.
async fn judge<'a>(tx: &mut Tx, entries: &'a [Entry]) -> Result<(Vec<Recorded>, Vec<Written<'a>>), Fault> {
    let ids: Vec<i64> = entries.iter().map(|entry| entry.charge.0).collect();
    let mut rows = HashMap::with_capacity(entries.len());
    for row in &tx.query(&writes::LOCK_TO_RECORD, &[ids.into()]).await? {
        let before = (row.word("state", ChargeState::from_name)?, row.text_opt("open_state")?.is_some());
        rows.insert(ChargeId(row.int("id")?), (row.text_opt("claim_token")?, row.int("version")?, before));
    }
    let live = live_where_versioned(tx, entries).await?;
    // In a batch of answers the unique index alone speaks: if it refuses one, each is recorded by itself and asked for here.
    let decisions = || entries.iter().filter_map(|entry| entry.decision.as_ref());
    let ask = entries.len() == 1 || decisions().any(|decision| !decision.adopt.is_empty());
    let wanted = decisions().filter(|_| ask).flat_map(Written::imp_uids);
    let wanted: Vec<String> = wanted.map(str::to_owned).collect();
    let mut booked: HashMap<String, Booked> = HashMap::new();
    if !wanted.is_empty() {
        for row in &tx.query(&writes::IMP_UIDS, &[wanted.into()]).await? {
            let state = row.word("state", attempt_state)?;
            let ended_unpaid = !matches!(state, AttemptState::Live | AttemptState::Paid);
            let one = Booked { attempt: row.int("id")?, charge: ChargeId(row.int("charge_id")?), ended_unpaid };
            booked.insert(row.text("imp_uid")?, one);
        }
    }
    let mut results = Vec::with_capacity(entries.len());
    let mut written: Vec<Written<'a>> = Vec::new();
    let mut of_this_batch = HashSet::new();
    let mut changed = HashSet::new();
    for entry in entries {
        let holds = match (&entry.fence, rows.get(&entry.charge)) {
            // a written decision gives the claim back, within a batch too
            (_, None) => false,
            _ if changed.contains(&entry.charge) => false,
            (Fence::Claim(token), Some((claim, ..))) => {
                claim.as_deref() == Some(token.0.as_str()) || !guard::stands(Guard::ClaimToken)
            }
            (Fence::Version(version), Some((_, current, _))) => {
                let judged = entry.decision.as_ref().and_then(|decision| decision.charge.live.as_ref());
                let judged = judged.map(|attempt| (attempt.id.0, attempt.open_send.map(|send| send.id.0)));
                version == current && judged == live.get(&entry.charge).copied()
            }
        };
        let Some(decision) = &entry.decision else {
            results.push(if holds { Recorded::Written } else { Recorded::FenceLost });
            continue;
        };
        if decision.charge.id != entry.charge {
            return Err(Fault::Corrupt(format!("a decision about charge {} came as {}", decision.charge.id, entry.charge)));
        }
        let revived = Written::revived(decision, &booked);
        let taken = Written::imp_uids(decision).any(|imp_uid| of_this_batch.contains(imp_uid))
            || Written::is_taken(decision, &booked, &revived);
        results.push(match holds {
            false => Recorded::FenceLost,
            true if taken => Recorded::ImpUidTaken,
            true => Recorded::Written,
        });
        if let (true, false, Some((.., before))) = (holds, taken, rows.get(&entry.charge)) {
            of_this_batch.extend(Written::imp_uids(decision));
            changed.insert(entry.charge);
            let (before, open_state) = *before;
            written.push(Written { decision, before, open_state, revived });
        }
    }
    Ok((results, written))
}

/// The live attempt and open send of each charge that is written without a claim: an intent adds them without touching the
/// charge's row, so its version does not tell. A statement of its own, after the rows are locked.
async fn live_where_versioned(tx: &mut Tx, entries: &[Entry]) -> Result<HashMap<ChargeId, (i64, Option<i64>)>, Fault> {
    let versioned = entries.iter().filter(|entry| matches!(entry.fence, Fence::Version(_)));
    let ids: Vec<i64> = versioned.map(|entry| entry.charge.0).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found = tx.query(&charges::LIVE_OF, &[ids.into()]).await?;
    found.iter().map(|row| Ok((ChargeId(row.int("charge_id")?), (row.int("live")?, row.int_opt("send")?)))).collect()
}

/// Everything that was said is stored, whatever became of the decision.
async fn observe(tx: &mut Tx, now: Timestamp, entries: &[Entry], results: &[Recorded]) -> Result<(), Fault> {
    let mut batch = tx.batch();
    for (entry, result) in entries.iter().zip(results) {
        let Some(observation) = &entry.observation else { continue };
        let rule = entry.decision.as_ref().filter(|_| *result == Recorded::Written).map(|decision| decision.rule);
        batch
            .row()
            .int("charge", entry.charge.0)
            .int("send", observation.send.map(|send| send.0))
            .text("source", observation.source)
            .at("began_at", observation.began_at)
            .json("detail", &observation.detail)
            .text("rule", rule);
    }
    if !batch.is_empty() {
        tx.execute(&writes::INSERT_OBSERVATIONS, &batch.params([now.into()])).await?;
    }
    Ok(())
}

async fn end_sends(tx: &mut Tx, now: Timestamp, written: &[Written<'_>]) -> Result<(), Fault> {
    let mut batch = tx.batch();
    for one in written {
        let Some((send, end)) = one.decision.send else { continue };
        // a send that never arrived is repeated with the same bytes, as long as its attempt lives
        let keep = matches!(end, SendEnd::NotSent | SendEnd::Absent) && !matches!(one.decision.live, LiveChange::End { .. });
        batch.row().int("id", send.0).text("state", send_end_name(end)).flag("keep", keep);
    }
    if !batch.is_empty() {
        tx.execute(&writes::END_SENDS, &batch.params([now.into()])).await?;
    }
    Ok(())
}

async fn change_attempts(tx: &mut Tx, written: &[Written<'_>]) -> Result<(), Fault> {
    let mut batch = tx.batch();
    let mut ended = Vec::new();
    for one in written {
        let Some(live) = &one.decision.charge.live else { continue };
        let mut resends = i64::from(live.resends);
        let mut hint = live.hint;
        let (mut state, mut imp_uid) = (AttemptState::Live, None);
        match &one.decision.live {
            LiveChange::Keep => continue,
            LiveChange::Hint(said) => hint = Some(*said),
            LiveChange::Resend => (resends, hint) = (resends + 1, None),
            LiveChange::End { state: end, imp_uid: uid } => {
                (state, imp_uid) = (*end, uid.as_deref());
                ended.push(live.id.0);
            }
        }
        batch
            .row()
            .int("id", live.id.0)
            .int("charge", one.decision.charge.id.0)
            .text("state", attempt_state_name(state))
            .text("imp_uid", imp_uid)
            .text("hint", hint.map(hint_name))
            .int("resends", resends);
    }
    let asked = batch.len();
    if asked == 0 {
        return Ok(());
    }
    let changed = tx.execute(&writes::UPDATE_ATTEMPTS, &batch.params([])).await?;
    if usize::try_from(changed).is_ok_and(|changed| changed != asked) {
        return Err(Fault::Integrity(format!("{asked} live attempts were to change, and {changed} did")));
    }
    if !ended.is_empty() {
        tx.execute(&writes::FORGET_BODIES, &[ended.into()]).await?;
    }
    Ok(())
}

/// Attempts that only the gateway knew of. The live one has ended before, so that THE index is kept.
async fn adopt(tx: &mut Tx, written: &[Written<'_>]) -> Result<(), Fault> {
    let (mut attempts, mut ids, mut revived) = (tx.batch(), tx.batch(), tx.batch());
    for one in written {
        let charge = &one.decision.charge;
        for uid in &one.revived {
            revived.row().int("charge", charge.id.0).text("imp_uid", *uid);
        }
        let new = one.decision.adopt.iter().filter(|adopted| !one.revived.contains(&adopted.imp_uid.as_str()));
        for (adopted, number) in new.zip(one.attempts() + 1..) {
            attempts
                .row()
                .int("charge", charge.id.0)
                .int("number", number)
                .int("id_number", i64::from(adopted.id_number.get()))
                .int("amount", charge.amount.minor())
                .text("customer", adopted.customer_uid.as_str())
                .text("state", attempt_state_name(adopted.state))
                .text("imp_uid", adopted.imp_uid.as_str());
            ids.row().text("uid", charge.base.number(adopted.id_number).as_str()).int("charge", charge.id.0);
        }
    }
    if !revived.is_empty() {
        tx.execute(&writes::REVIVE_ATTEMPTS, &revived.params([])).await?;
    }
    if !attempts.is_empty() {
        tx.execute(&writes::INSERT_IDS, &ids.params([])).await?;
        tx.execute(&writes::ADOPT_ATTEMPTS, &attempts.params([])).await?;
    }
    Ok(())
}

/// The billing key that the decision's refusal is about.
fn refused_card<'a>(one: &'a Written<'_>) -> Option<&'a str> {
    let adopted = one.decision.adopt.iter().find(|adopted| adopted.state == AttemptState::Declined);
    let live = || one.decision.charge.live.as_ref().map(|live| live.customer_uid.as_str());
    adopted.map(|adopted| adopted.customer_uid.as_str()).filter(|customer| !customer.is_empty()).or_else(live)
}

/// Whether a charge is as [`writes::PAY_CHARGES`] leaves it: paid by its first send, and nothing else ever happened.
fn is_plainly_paid(one: &Written<'_>) -> bool {
    let charge = &one.decision.charge;
    charge.state == ChargeState::Paid
        && charge.waiting == Waiting::Nothing
        && charge.next_at.is_none()
        && charge.id_number == IdNumber::FIRST
        && (one.attempts(), charge.tries, charge.not_sent) == (1, 0, 0)
        && charge.first_declined_at.is_none()
        && charge.refused_customer.is_none()
        && charge.course == Course::default()
        && charge.doubt == Doubt::default()
        && charge.paid_elsewhere.is_none()
        && one.decision.adopt.is_empty()
}

async fn change_charges(tx: &mut Tx, now: Timestamp, written: &[Written<'_>]) -> Result<(), Fault> {
    let (mut plain, mut batch) = (tx.batch(), tx.batch());
    let mut replaced = tx.batch();
    for one in written {
        let charge = &one.decision.charge;
        if is_plainly_paid(one) {
            let imp_uid = charge.paid_imp_uid.as_deref();
            plain.row().int("id", charge.id.0).at("newest_send_at", charge.newest_send_at).text("imp_uid", imp_uid);
            continue;
        }
        let adopted = i64::try_from(one.decision.adopt.len() - one.revived.len()).unwrap_or_default();
        batch
            .row()
            .int("id", charge.id.0)
            .text("state", charge.state.name())
            .text("waiting", charge.waiting.name())
            .at("next_at", charge.next_at)
            .int("id_number", i64::from(charge.id_number.get()))
            .int("attempts", one.attempts() + adopted)
            .int("tries", i64::from(charge.tries))
            .at("first_declined_at", charge.first_declined_at)
            .text("refused_customer", charge.refused_customer.as_deref())
            .int("not_sent", i64::from(charge.not_sent))
            .at("doubt_since", charge.doubt.since)
            .int("doubt_looks", i64::from(charge.doubt.looks))
            .at("quiet_since", charge.doubt.quiet_since)
            .flag("quiet_twice", charge.doubt.quiet_twice)
            .flag("alarmed", charge.doubt.alarmed)
            .at("newest_send_at", charge.newest_send_at)
            .text("elsewhere_imp_uid", charge.paid_elsewhere.as_ref().map(|elsewhere| elsewhere.imp_uid.as_str()))
            .int("elsewhere_number", charge.paid_elsewhere.as_ref().map(|elsewhere| i64::from(elsewhere.id_number.get())))
            .text("imp_uid", charge.paid_imp_uid.as_deref())
            .text("declined_customer", charge.course.declined_customer.as_deref())
            .int("restarted_after", charge.course.restarted_after.map(i64::from))
            .int("transients", i64::from(charge.course.transients))
            .at("transient_since", charge.course.transient_since);
        let refused = match charge.waiting {
            Waiting::Card => charge.refused_customer.as_deref(),
            Waiting::Retry if one.decision.refusal.is_some() => refused_card(one),
            _ => None,
        };
        if let Some(customer) = refused {
            replaced.row().int("id", charge.id.0).text("customer", customer);
        }
    }
    if !plain.is_empty() {
        tx.execute(&writes::PAY_CHARGES, &plain.params([now.into()])).await?;
    }
    if !batch.is_empty() {
        tx.execute(&writes::UPDATE_CHARGES, &batch.params([now.into()])).await?;
    }
    if !replaced.is_empty() {
        tx.execute(&writes::CARD_REPLACED, &replaced.params([now.into()])).await?;
    }
    Ok(())
}
