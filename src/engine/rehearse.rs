//! A dry run: every step of a real one up to the COMMIT of the intents, in a transaction that is taken back, and then the look-up
//! that no send does without. Nothing is sent, and nothing is kept.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::aside::not_to_be_sent;
use super::charge::{batch_of, intent};
use super::limits::brake_name;
use super::look::History;
use super::open::step;
use super::{AccountRuntime, Engine, InForce};
use crate::domain::attempt::{IdNumber, MerchantUid};
use crate::domain::charge::ChargeId;
use crate::domain::decide::Fact;
use crate::domain::dunning::KeyStop;
use crate::domain::money::Money;
use crate::domain::outcome::{Record, RecordStatus};
use crate::domain::period::Period;
use crate::ports::rehearsal::Rehearsal;
use crate::ports::store::{Claim, Claimed, Intent, Lane, NotBegun, ScheduleAction, Stepped, StoreError};

/// What would become of a due charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Its intent would be committed, and then it would be sent.
    Sent,
    /// It would wait, for what and until when.
    Waits(&'static str, Option<Timestamp>),
    /// It would not be sent, for a reason that is told.
    Not(String),
}

/// A charge that is due, as the dry run saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsed {
    /// Its number; one that is opened for the dry run alone has a number that stays nobody's.
    pub charge: ChargeId,
    pub account: String,
    pub external_ref: String,
    pub customer_uid: String,
    pub plan: String,
    pub period: Period,
    pub due_at: Timestamp,
    pub amount: Money,
    /// The id that it would be sent under.
    pub merchant_uid: MerchantUid,
    /// Its ids before that one: a payment under one of them settles it.
    pub earlier: Vec<MerchantUid>,
    /// Which try it would be, from 1.
    pub attempt: u16,
    pub fate: Fate,
}

/// What a dry run came to.
#[derive(Debug, Clone, Default)]
pub struct Wave {
    pub charges: Vec<Rehearsed>,
    /// Subscriptions that would be set aside, and why.
    pub problems: Vec<(String, String)>,
    /// There is more than was asked for.
    pub more: bool,
}

impl Engine {
    /// Goes through what is due at `now`, at most `most` charges, on a stage that is dropped afterwards. The gateway is not asked:
    /// see [`Engine::look_before_rehearsed`].
    pub async fn rehearse(&self, stage: &mut dyn Rehearsal, now: Timestamp, most: usize) -> Result<Wave, StoreError> {
        let in_force = self.in_force();
        let mut wave = Wave::default();
        open_all(&in_force, stage, now, most, &mut wave).await?;
        for account in &self.accounts {
            while wave.charges.len() < most {
                let claim = self.rehearsed_claim(account, &in_force, now, most - wave.charges.len());
                let claimed = stage.claim(&claim).await?;
                if claimed.is_empty() {
                    break;
                }
                self.begin_rehearsed(stage, account, &in_force, &claim, claimed, &mut wave).await?;
            }
            if wave.charges.len() >= most {
                let next = self.rehearsed_claim(account, &in_force, now, 1);
                wave.more |= !stage.claim(&next).await?.is_empty();
            }
        }
        Ok(wave)
    }

    fn rehearsed_claim(&self, account: &AccountRuntime, in_force: &InForce, now: Timestamp, room: usize) -> Claim {
        Claim {
            account: account.account.id,
            lane: Lane::Send,
            token: self.token(),
            now,
            due_until: now,
            claim_until: now.saturating_add(SignedDuration::from_hours(1)).unwrap_or(now),
            limit: in_force.tuning.batch.min(u32::try_from(room).unwrap_or(u32::MAX)),
        }
    }

    async fn begin_rehearsed(
        &self,
        stage: &mut dyn Rehearsal,
        account: &AccountRuntime,
        in_force: &InForce,
        claim: &Claim,
        claimed: Vec<Claimed>,
        wave: &mut Wave,
    ) -> Result<(), StoreError> {
        let now = claim.now;
        let mut fates: Vec<Option<Fate>> = Vec::with_capacity(claimed.len());
        let mut intents: Vec<Intent> = Vec::new();
        for one in &claimed {
            let fate = set_aside(one, now)
                .or_else(|| in_force.closed_until(one, now).map(|until| Fate::Waits("its window", Some(until))));
            fates.push(fate.or_else(|| match intent(in_force, account, one) {
                Ok(intent) => {
                    intents.push(intent);
                    None
                }
                Err(why) => Some(Fate::Not(why)),
            }));
        }
        let customers: HashMap<_, _> = intents.iter().map(|intent| (intent.charge, intent.customer_uid.clone())).collect();
        let refused = match intents.is_empty() {
            true => Vec::new(),
            false => stage.begin(&batch_of(in_force, account, &claim.token, now, intents)).await?,
        };
        let mut refused = refused.into_iter();
        for (one, fate) in claimed.into_iter().zip(fates) {
            let fate = fate.unwrap_or_else(|| refused.next().flatten().map_or(Fate::Sent, turned_away));
            let charge = one.charge;
            let customer_uid = customers.get(&charge.id).cloned().unwrap_or(one.payer.customer_uid);
            wave.charges.push(Rehearsed {
                charge: charge.id,
                merchant_uid: charge.base.number(charge.live_id()),
                earlier: IdNumber::FIRST
                    .up_to(charge.live_id())
                    .filter(|number| *number != charge.live_id())
                    .map(|number| charge.base.number(number))
                    .collect(),
                attempt: charge.live.as_ref().map_or(charge.attempts + 1, |live| live.number),
                account: charge.account_name,
                external_ref: charge.external_ref,
                customer_uid,
                plan: one.payer.plan,
                period: charge.period,
                due_at: charge.due_at,
                amount: charge.amount,
                fate,
            });
        }
        Ok(())
    }

    /// E1 of what would be sent: what the gateway shows under its id already changes what would become of it. A look-up that
    /// fails keeps a charge from being sent, here as there.
    pub async fn look_before_rehearsed(&self, charges: &mut [Rehearsed]) -> Result<(), StoreError> {
        for account in &self.accounts {
            let of_account = |charge: &&mut Rehearsed| charge.account == account.account.name && charge.fate == Fate::Sent;
            let mut sent: Vec<&mut Rehearsed> = charges.iter_mut().filter(of_account).collect();
            let ids: Vec<MerchantUid> =
                sent.iter().flat_map(|charge| charge.earlier.iter().chain([&charge.merchant_uid])).cloned().collect();
            if ids.is_empty() {
                continue;
            }
            let bulk = self.bulk(account, &ids).await;
            let shown: Vec<ChargeId> = sent
                .iter()
                .filter(|charge| bulk.newest.contains_key(charge.merchant_uid.as_str()))
                .map(|charge| charge.charge)
                .collect();
            let history = History::new(if shown.is_empty() { Vec::new() } else { self.store.attempts_of(&shown).await? });
            for charge in &mut sent {
                let ids = || charge.earlier.iter().chain([&charge.merchant_uid]);
                if let Some(why) = ids().find_map(|id| bulk.failed.get(id.as_str())) {
                    charge.fate = Fate::Not(format!("it cannot be looked up before the send: {why}"));
                    continue;
                }
                let is_news = |id: &MerchantUid, record: &Record| {
                    // a failure of an earlier id is over, whoever has recorded it
                    let unknown = *id == charge.merchant_uid && !history.knows(charge.charge, &record.imp_uid);
                    record.status != RecordStatus::Failed || unknown
                };
                let news = |id: &MerchantUid| {
                    let records = bulk.newest.get(id.as_str()).map(Vec::as_slice).unwrap_or_default();
                    records.iter().find(|record| is_news(id, record)).cloned()
                };
                let Some(record) = ids().find_map(news) else { continue };
                charge.fate = match record.status {
                    RecordStatus::Paid => {
                        Fate::Not(format!("the gateway shows it paid already: {} under {}", record.imp_uid, record.merchant_uid))
                    }
                    RecordStatus::Failed => {
                        Fate::Not("the gateway shows a failed record under this id: it is used up".to_owned())
                    }
                    _ => Fate::Waits("a look-up: the gateway shows an unfinished payment under this id", None),
                };
            }
        }
        Ok(())
    }
}

/// W0: opens periods until none is due, or enough are open.
async fn open_all(
    in_force: &InForce,
    stage: &mut dyn Rehearsal,
    now: Timestamp,
    most: usize,
    wave: &mut Wave,
) -> Result<(), StoreError> {
    let mut opened = 0;
    // a step that changes nothing comes again: asked for twice, it is another session's or refused for good
    let mut seen: BTreeMap<i64, i64> = BTreeMap::new();
    while opened < most {
        let due = stage.due_schedules(now, in_force.tuning.batch).await?;
        let steps: Vec<_> = due.iter().map(|schedule| step(in_force, schedule, now)).collect();
        let fresh = due.iter().filter(|schedule| seen.insert(schedule.terms.id.0, schedule.version) != Some(schedule.version));
        if fresh.count() == 0 {
            return Ok(());
        }
        let results = stage.step_schedules(now, &steps).await?;
        for ((schedule, step), result) in due.iter().zip(&steps).zip(&results) {
            let mut problem = |text: &str| wave.problems.push((schedule.terms.external_ref.clone(), text.to_owned()));
            match (&step.action, result) {
                (ScheduleAction::Open { .. }, Stepped::Done) => opened += 1,
                (ScheduleAction::Problem { text } | ScheduleAction::Hold { text, .. }, Stepped::Done) => problem(text),
                (_, Stepped::Refused) => problem("the database refuses the next period: it overlaps one that was opened before"),
                _ => {}
            }
        }
    }
    wave.more = true;
    Ok(())
}

/// What keeps a claimed charge from being sent, for a reason of its own.
fn set_aside(claimed: &Claimed, now: Timestamp) -> Option<Fate> {
    Some(match not_to_be_sent(claimed, now)? {
        Fact::Interrupted => Fate::Waits("a look-up: a send of it has no proven end", None),
        Fact::SubscriptionCancelled => Fate::Not("its subscription is cancelled: it is closed".to_owned()),
        Fact::SubscriptionPaused => Fate::Waits("its subscription to be resumed", None),
        Fact::CardNotReplaced => Fate::Waits("a new card", None),
        _ => Fate::Waits("the next try", None),
    })
}

fn turned_away(why: NotBegun) -> Fate {
    match why {
        NotBegun::OverBudget => Fate::Waits("the budget", None),
        NotBegun::Fuse { until } => Fate::Waits("the fuse", until),
        NotBegun::CardStopped { stop: KeyStop::Refused, .. } => Fate::Waits("a new card", None),
        NotBegun::CardStopped { stop: KeyStop::Booked, .. } => Fate::Waits("its bookings in PortOne's own schedule to go", None),
        NotBegun::CardStopped { until, .. } => Fate::Waits("its card to rest", Some(until)),
        NotBegun::ClaimLost => Fate::Waits("its turn: another worker has it in hand", None),
        NotBegun::PaidElsewhere | NotBegun::Unresolved => Fate::Waits("a look-up", None),
        NotBegun::IdTaken => Fate::Not("the derived merchant_uid belongs to another charge of this database".to_owned()),
        brake => Fate::Not(brake_name(brake).to_owned()),
    }
}
