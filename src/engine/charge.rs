//! From a claimed charge to a recorded outcome: look up (E1), token (E2), intent (W2), gate, POST (E3), record (W3).

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tracing::{error, warn};

use super::aside::not_to_be_sent;
use super::breaker::{Failing, Passage};
use super::limits::{GATE, brake_name};
use super::look::{History, kept};
use super::record::note;
use super::under_way::UnderWay;
use super::{AccountRuntime, Engine, InForce};
use crate::domain::attempt::{Attempt, IdNumber, MerchantUid, Send};
use crate::domain::charge::Charge;
use crate::domain::decide::Fact;
use crate::domain::outcome::{DoubtCause, NotSent, Outcome, Record, RecordStatus};
use crate::ports::gateway::{Answer, ChargeRequest, DurableAttempt, Unavailable};
use crate::ports::store::{Begin, Begun, Claim, ClaimToken, Claimed, Intent, Lane, NotBegun, Observation, SeenSend, StoreError};
use crate::ports::{crash, guard, guard::Guard};

/// A batch of claimed charges of one account.
pub(crate) struct Batch {
    pub account: Arc<AccountRuntime>,
    pub token: ClaimToken,
    /// CLOCK_BOOTTIME just before the claim: the gate counts from here.
    pub claimed_at: Duration,
    pub charges: Vec<Claimed>,
}

/// Room that a batch takes up among the claims of its account.
struct Room<'a> {
    account: &'a AccountRuntime,
    charges: usize,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.account.limits.done(self.charges);
    }
}

impl Engine {
    /// Claims charges that are due for a send (W1), `room` at most. `None`: nothing is due.
    pub(crate) async fn claim_sends(&self, account: &Arc<AccountRuntime>, room: usize) -> Result<Option<Batch>, StoreError> {
        let (now, claimed_at, token) = (self.now(), self.clock.boot(), self.token());
        let claim = Claim {
            account: account.account.id,
            lane: Lane::Send,
            token: token.clone(),
            now,
            due_until: now.checked_add(self.in_force().tuning.lead).unwrap_or(now),
            claim_until: now.checked_add(self.in_force().tuning.claim).unwrap_or(now),
            limit: u32::try_from(room).unwrap_or(u32::MAX),
        };
        let charges = self.store.claim(&claim).await?;
        if charges.is_empty() {
            return Ok(None);
        }
        account.limits.claimed(charges.len());
        Ok(Some(Batch { account: Arc::clone(account), token, claimed_at, charges }))
    }

    /// Takes a batch all the way. Each charge in it stands alone.
    pub(crate) async fn charge_batch(&self, batch: Batch) {
        // given back however this ends: a crash here must not shrink the room of later batches
        let _room = Room { account: &batch.account, charges: batch.charges.len() };
        self.charge_all(batch.account.as_ref(), &batch.token, batch.claimed_at, batch.charges).await;
    }

    async fn charge_all(&self, account: &AccountRuntime, token: &ClaimToken, claimed_at: Duration, charges: Vec<Claimed>) {
        let now = self.now();
        let (aside, ready): (Vec<_>, Vec<_>) = charges.into_iter().partition(|claimed| not_to_be_sent(claimed, now).is_some());
        let (early, aside): (Vec<_>, Vec<_>) =
            aside.into_iter().partition(|claimed| claimed.charge.next_at.is_some_and(|due| due > now));
        // first, because a fuse counts what is still to come of a wave when it lets the others through
        self.set_aside(token, aside).await;
        futures::future::join(self.set_aside(token, early), self.look_and_send(account, token, claimed_at, ready)).await;
    }

    async fn look_and_send(&self, account: &AccountRuntime, token: &ClaimToken, claimed_at: Duration, ready: Vec<Claimed>) {
        let ready = self.wait_for_windows(&self.in_force(), token, ready).await;
        let ready = self.look_before(account, token, ready).await;
        if ready.is_empty() {
            return;
        }
        if let Err(why) = account.account.gateway.ready().await {
            // nothing was sent and nothing committed: the same charges after a backoff
            warn!(account = %account.account.name, %why, charges = ready.len(), "no access token: nothing is sent");
            self.heed_failure(account, &why).await;
            self.judge_all(token, ready.iter().map(|claimed| (&claimed.charge, Fact::LookUpFailed, None))).await;
            return;
        }
        self.send_as_they_fall_due(account, token, claimed_at, ready).await;
    }

    /// E1: the gateway is asked for the id about to be sent, and for all before it: some providers report a failure and approve it
    /// minutes later. A record that we do not know settles, stops or advances the charge; a failed look-up means that it is not sent.
    async fn look_before(&self, account: &AccountRuntime, token: &ClaimToken, charges: Vec<Claimed>) -> Vec<Claimed> {
        if charges.is_empty() || !guard::stands(Guard::FirstLook) {
            return charges;
        }
        let began_at = self.now();
        let numbers = |claimed: &Claimed| IdNumber::FIRST.up_to(claimed.charge.live_id());
        let ids: Vec<Vec<MerchantUid>> =
            charges.iter().map(|claimed| numbers(claimed).map(|number| claimed.charge.base.number(number)).collect()).collect();
        let bulk = self.bulk(account, &ids.concat()).await;
        if let Some(why) = bulk.failed.values().next() {
            warn!(account = %account.account.name, %why, charges = bulk.failed.len(), "the look-up before the send failed: not sent");
            self.heed_failure(account, why).await;
        }
        let shows = |ids: &[MerchantUid]| ids.iter().any(|id| bulk.newest.contains_key(id.as_str()));
        let with_records: Vec<_> =
            charges.iter().zip(&ids).filter(|(_, ids)| shows(ids)).map(|(claimed, _)| claimed.charge.id).collect();
        let history = if with_records.is_empty() {
            History::default()
        } else {
            match self.store.attempts_of(&with_records).await {
                Ok(attempts) => History::new(attempts),
                Err(why) => {
                    warn!(%why, "the attempts of a charge cannot be read: its batch is not sent");
                    self.give_back(token, &charges).await;
                    return Vec::new();
                }
            }
        };
        let mut ready = Vec::with_capacity(charges.len());
        let mut facts = Vec::new();
        for (claimed, ids) in charges.into_iter().zip(ids) {
            if ids.iter().any(|id| bulk.failed.contains_key(id.as_str())) {
                facts.push((claimed, Fact::LookUpFailed, None));
                continue;
            }
            let is_news = |(id, number): (&MerchantUid, IdNumber)| {
                // a failure of an earlier id is over, whoever has recorded it
                let is_next = number == claimed.charge.live_id();
                let unknown = |record: &Record| is_next && !history.knows(claimed.charge.id, &record.imp_uid);
                let newest = bulk.newest.get(id.as_str()).map(Vec::as_slice).unwrap_or_default();
                newest.iter().any(|record| record.status != RecordStatus::Failed || unknown(record))
            };
            if !ids.iter().zip(numbers(&claimed)).any(is_news) {
                ready.push(claimed);
                continue;
            }
            let numbers: Vec<IdNumber> = numbers(&claimed).collect();
            match self.records_under(account.account.gateway.as_ref(), &claimed.charge, &numbers, true).await {
                Ok(records) => {
                    let payer = Some(claimed.payer.customer_uid.as_str());
                    let findings = history.findings(&claimed.charge, began_at, payer, records);
                    let observation = Observation { source: "look_up", send: None, began_at, detail: kept(&findings) };
                    facts.push((claimed, Fact::LookedUp(findings), Some(observation)));
                }
                Err(_) => facts.push((claimed, Fact::LookUpFailed, None)),
            }
        }
        let facts = facts.iter().map(|(claimed, fact, seen)| (&claimed.charge, fact.clone(), seen.clone()));
        self.judge_all(token, facts).await;
        ready
    }

    /// Charges are claimed a little early, so that they are ready when they fall due; none is sent early, and none waits for
    /// another one's due time.
    async fn send_as_they_fall_due(
        &self,
        account: &AccountRuntime,
        token: &ClaimToken,
        claimed_at: Duration,
        mut charges: Vec<Claimed>,
    ) {
        let due_at = |claimed: &Claimed| claimed.charge.next_at.unwrap_or(claimed.charge.due_at);
        charges.sort_by_key(due_at);
        let mut under_way = FuturesUnordered::new();
        while let Some(first) = charges.first() {
            let (now, first) = (self.now(), due_at(first));
            if first <= now {
                let later = charges.split_off(charges.partition_point(|claimed| due_at(claimed) <= now));
                let due = std::mem::replace(&mut charges, later);
                if self.clock.boot().saturating_sub(claimed_at) >= GATE {
                    // the gate would turn every one away: better claimed anew than committed in vain
                    self.give_back(token, &due).await;
                    continue;
                }
                under_way.push(self.begin_and_send(account, token, claimed_at, due));
                continue;
            }
            tokio::select! {
                // in this order, so that a simulated history repeats
                biased;
                () = self.clock.sleep_until(first, false) => {}
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
            }
        }
        while under_way.next().await.is_some() {}
    }

    async fn begin_and_send(&self, account: &AccountRuntime, token: &ClaimToken, claimed_at: Duration, charges: Vec<Claimed>) {
        let in_force = self.in_force();
        // what was claimed late, or has waited since, may have come to the end of the hours
        let charges = self.wait_for_windows(&in_force, token, charges).await;
        let mut unsendable = Vec::new();
        let mut sendable = Vec::with_capacity(charges.len());
        for claimed in charges {
            match intent(&in_force, account, &claimed) {
                Ok(intent) => sendable.push((claimed, intent)),
                Err(why) => unsendable.push((claimed, why)),
            }
        }
        let refused = unsendable.iter().map(|(claimed, why)| (&claimed.charge, Fact::Unsendable(why.clone()), None));
        self.judge_all(token, refused).await;
        if sendable.is_empty() {
            return;
        }
        let now = self.now();
        let (charges, intents): (Vec<Claimed>, Vec<Intent>) = sendable.into_iter().unzip();
        let mark = match self.before_intents().await {
            Ok(mark) => mark,
            Err(why) => {
                warn!(%why, charges = charges.len(), "it is not known what the database knows: nothing is sent");
                return self.give_back(token, &charges).await;
            }
        };
        // from before the COMMIT on: a stop that cannot wait has to name whatever may be open
        let Some(under_way) = self.under_way.begin(intents.iter().map(|intent| &intent.merchant_uid)) else {
            return self.give_back(token, &charges).await;
        };
        let before = self.clock.boot();
        let begin = Begin { newest: self.newest_seen(), ..batch_of(&in_force, account, token, now, intents) };
        let zones: Vec<Option<TimeZone>> = charges.iter().map(|claimed| in_force.zone_with_hours(claimed)).collect();
        let begun = match self.store.begin(begin).await {
            Ok(begun) => begun,
            Err(why) => {
                // the COMMIT may have been made all the same: nothing is sent, and what is open is looked up
                warn!(%why, charges = charges.len(), "intents could not be committed: nothing is sent");
                self.shaken();
                return;
            }
        };
        let marked = match self.after_intents(&begun, mark).await {
            Ok(()) => self.raise_mark(&begun).await.map_err(|why| {
                error!(%why, "the high-water mark cannot be written to the state directory: nothing is sent");
                "the state directory is not writable"
            }),
            Err(_) => Err("the database has lost commits"),
        };
        let mut sends = FuturesUnordered::new();
        let mut refused = Vec::new();
        for (((claimed, zone), begun), under_way) in charges.into_iter().zip(zones).zip(begun.attempts).zip(under_way) {
            match begun {
                Ok(attempt) => {
                    sends.push(self.send(account, token, claimed_at, claimed.charge, attempt, marked, zone, under_way))
                }
                Err(why) => refused.push((claimed, why)),
            }
        }
        if !sends.is_empty() {
            // W2 has just read the brakes inside its transaction
            self.brakes.set(account.account.id, before, None);
        }
        let turn_away = self.turn_away(token, refused, now);
        let finish = async { while sends.next().await.is_some() {} };
        futures::future::join(turn_away, finish).await;
    }

    /// What becomes of charges whose intent was not committed.
    async fn turn_away(&self, token: &ClaimToken, refused: Vec<(Claimed, NotBegun)>, now: Timestamp) {
        let mut back = Vec::new();
        let mut facts = Vec::new();
        for (claimed, why) in refused {
            match why {
                // what is unresolved is about to be looked up: given back at once, it would be claimed without end
                NotBegun::ClaimLost | NotBegun::PaidElsewhere | NotBegun::Unresolved => {}
                NotBegun::Killed | NotBegun::Held | NotBegun::Paused | NotBegun::Unarmed => {
                    self.brakes.forget();
                    back.push(claimed);
                }
                NotBegun::OverBudget => {
                    let until = now.checked_add(SignedDuration::from_mins(10)).unwrap_or(now);
                    facts.push((claimed, Fact::OverBudget { until }));
                }
                NotBegun::Fuse { until } => {
                    // blown in this very transaction, perhaps: the next look has to see it
                    self.brakes.forget();
                    facts.push((claimed, Fact::Fused { until: until.unwrap_or(now) }));
                }
                NotBegun::CardStopped { stop, until } => {
                    let live = claimed.charge.live.as_ref().map(|live| live.customer_uid.clone());
                    let customer_uid = live.unwrap_or_else(|| claimed.payer.customer_uid.clone());
                    facts.push((claimed, Fact::CardStopped { stop, until, customer_uid }));
                }
                NotBegun::IdTaken => {
                    let text = "the derived merchant_uid belongs to another charge of this database".to_owned();
                    facts.push((claimed, Fact::Unsendable(text)));
                }
            }
        }
        self.give_back(token, &back).await;
        self.judge_all(token, facts.iter().map(|(claimed, fact)| (&claimed.charge, fact.clone(), None))).await;
    }

    /// One send: permit, rate, gate, POST, outcome. `zone`: that of its hours, if there are any.
    #[expect(clippy::too_many_arguments, reason = "each is a fact of its own, and a struct would only rename them")]
    async fn send(
        &self,
        account: &AccountRuntime,
        token: &ClaimToken,
        claimed_at: Duration,
        mut charge: Charge,
        attempt: DurableAttempt,
        marked: Result<(), &'static str>,
        zone: Option<TimeZone>,
        _until_recorded: UnderWay<'_>,
    ) {
        let (send, id_number, begun_at) = (attempt.send(), attempt.id_number(), attempt.begun_at());
        let customer_uid = attempt.customer_uid().to_owned();
        become_sent(&mut charge, &attempt);
        let permit = account.limits.permits.acquire().await;
        // behind an open breaker there is nothing to wait for
        let stopped = account.limits.passage(self.clock.boot()) == Passage::Stopped;
        let now = self.clock.boot();
        let slot = if stopped { Some(now) } else { account.limits.slot(now, claimed_at + GATE) };
        let wait = slot.map_or(Duration::ZERO, |slot| slot.saturating_sub(now));
        if !wait.is_zero() {
            let until = self.now().checked_add(SignedDuration::try_from(wait).unwrap_or(SignedDuration::ZERO));
            self.clock.sleep_until(until.unwrap_or(begun_at), false).await;
        }
        let closed = match marked {
            Err(why) => Some(why),
            // not now either: the rate bounds those that are late as well
            Ok(()) if slot.is_none() => Some("its turn by the rate comes too late"),
            Ok(()) => self.gate(account, claimed_at, zone.as_ref()).await,
        };
        let before = self.clock.boot();
        let answer = match closed {
            Some(why) => Answer { outcome: Outcome::NotSent(NotSent::Gate(why)), kept: note(why) },
            None => {
                self.stats.sends.add(1);
                account.meters.sent(&charge, self.now());
                crash::point("before ", "charge");
                let answer = account.account.gateway.charge(attempt).await;
                crash::point("after ", "charge");
                account.limits.took(self.clock.boot().saturating_sub(before));
                answer
            }
        };
        drop(permit);
        self.heed(account, before, &answer.outcome).await;
        self.weigh(account, &charge, &answer.outcome).await;
        let observation = Observation { source: "answer", send: Some(send), began_at: begun_at, detail: answer.kept };
        let fact = Fact::Answered { send, id_number, customer_uid, outcome: answer.outcome };
        self.judge(&charge, fact, Some(observation), token).await;
    }

    /// What has been committed becomes durable outside of the database.
    async fn raise_mark(&self, begun: &Begun) -> std::io::Result<()> {
        match SeenSend::last_of(begun) {
            Some(last) => self.watermark.raise(begun.high_water, last).await,
            None => Ok(()),
        }
    }

    /// The last look before the wire. `None`: open.
    async fn gate(&self, account: &AccountRuntime, claimed_at: Duration, zone: Option<&TimeZone>) -> Option<&'static str> {
        let closed = match () {
            () if self.is_stopping() => Some("stopping"),
            () if zone.is_some_and(|zone| !self.in_force().tuning.windows.is_open(self.now(), zone)) => {
                Some("its window has closed")
            }
            () if !self.trusts_time() => Some("the clock has jumped"),
            () if account.limits.passage(self.clock.boot()) == Passage::Stopped => Some("the gateway fails as a whole"),
            () => self.braked(account, claimed_at + GATE).await,
        };
        // after the last await, so that nothing can age in between
        let late = || self.clock.boot().saturating_sub(claimed_at) >= GATE && guard::stands(Guard::Gate);
        closed.or_else(|| match () {
            () if late() => Some("claimed too long ago"),
            () if self.is_stopping() => Some("stopping"),
            () if self.is_killed_here() => Some(brake_name(NotBegun::Killed)),
            () if !self.trusts_time() => Some("the clock has jumped"),
            () => None,
        })
    }

    /// What an answer says about the account as a whole; the POST began at `began`.
    async fn heed(&self, account: &AccountRuntime, began: Duration, outcome: &Outcome) {
        match outcome {
            Outcome::Doubt { cause: DoubtCause::Overload, .. } | Outcome::NotSent(NotSent::Unreachable(_)) => {
                self.gateway_failed(account, began, Failing::Surely);
            }
            Outcome::Doubt { cause: DoubtCause::Transport, .. } => self.gateway_failed(account, began, Failing::Perhaps),
            Outcome::NotSent(NotSent::Unauthorized { token }) => {
                let second = account.limits.unauthorized(*token);
                self.pause_if(second, account).await;
            }
            Outcome::Paid(_) | Outcome::Declined(..) => account.limits.answered_well(),
            Outcome::NotSent(NotSent::Gate(_)) | Outcome::Doubt { cause: DoubtCause::Nonsense, .. } => {}
            _ => account.limits.answered(),
        }
    }

    /// The second 401 in a row, with another token, is no matter of a stale token.
    async fn pause_if(&self, second: bool, account: &AccountRuntime) {
        if !second {
            return;
        }
        let why = "the gateway refused the key or its tokens again and again (HTTP 401): check imp_key and imp_secret, then `rebilld hold release --account`";
        error!(account = %account.account.name, "{why}; the account is paused");
        self.brakes.forget();
        if let Err(failed) = self.store.pause_account(account.account.id, self.now(), why).await {
            error!(why = %failed, "the account could not be paused");
        }
    }

    /// What a call that cannot charge says about the account as a whole.
    pub(crate) async fn heed_failure(&self, account: &AccountRuntime, why: &Unavailable) {
        match why {
            Unavailable::Overload(_) | Unavailable::Unreachable(_) => {
                self.gateway_failed(account, self.clock.boot(), Failing::Surely);
            }
            // the client has asked for a fresh token and tried again before it says so
            Unavailable::Unauthorized => {
                self.gateway_failed(account, self.clock.boot(), Failing::Surely);
                let again = account.limits.refused_again();
                self.pause_if(again, account).await;
            }
            Unavailable::Nonsense(_) => {}
        }
    }

    pub(crate) async fn give_back(&self, token: &ClaimToken, charges: &[Claimed]) {
        if charges.is_empty() {
            return;
        }
        let ids: Vec<_> = charges.iter().map(|claimed| claimed.charge.id).collect();
        if let Err(why) = self.store.release(token, &ids).await {
            warn!(%why, "claims could not be given back: they end by themselves");
        }
    }

    /// Judges many charges side by side, so that their writes share a transaction.
    pub(crate) async fn judge_all<'a>(
        &self,
        token: &ClaimToken,
        facts: impl Iterator<Item = (&'a Charge, Fact, Option<Observation>)>,
    ) {
        let mut judged: FuturesUnordered<_> = facts.map(|(charge, fact, seen)| self.judge(charge, fact, seen, token)).collect();
        while judged.next().await.is_some() {}
    }
}

/// The charge as W2 left it: its attempt is live and the send open.
fn become_sent(charge: &mut Charge, attempt: &DurableAttempt) {
    let open = Send { id: attempt.send(), begun_at: attempt.begun_at() };
    charge.newest_send_at = Some(attempt.begun_at());
    match &mut charge.live {
        Some(live) => live.open_send = Some(open),
        none => {
            charge.attempts += 1;
            *none = Some(Attempt {
                id: attempt.attempt(),
                number: charge.attempts,
                id_number: IdNumber::new(attempt.id_number().get()).unwrap_or(IdNumber::FIRST),
                customer_uid: attempt.customer_uid().to_owned(),
                resends: 0,
                hint: None,
                open_send: Some(open),
            });
        }
    }
}

/// A batch of intents under the bounds that are in force.
pub(super) fn batch_of(
    in_force: &InForce,
    account: &AccountRuntime,
    token: &ClaimToken,
    now: Timestamp,
    intents: Vec<Intent>,
) -> Begin {
    let bounds = in_force.bounds.get(&account.account.id);
    Begin {
        account: account.account.id,
        endpoint: account.account.endpoint,
        token: token.clone(),
        now,
        budget_day: now.to_zoned(bounds.map_or(&account.account.budget_zone, |of| &of.budget_zone).clone()).date(),
        budget_count: bounds.map_or(account.account.budget_count, |of| of.budget_count),
        budget_sum: bounds.map_or(account.account.budget_sum, |of| of.budget_sum),
        newest: None,
        fuse: bounds.map_or(&account.account.fuse, |of| &of.fuse).clone(),
        intents,
    }
}

pub(super) fn intent(in_force: &InForce, account: &AccountRuntime, claimed: &Claimed) -> Result<Intent, String> {
    let Claimed { charge, payer, last_body, owns_id } = claimed;
    let id_number = charge.live_id();
    let merchant_uid = charge.base.number(id_number);
    // one id never changes its bytes while an attempt lives: a resend is the same request
    let live = charge.live.as_ref();
    let (customer_uid, body) = match (live, last_body) {
        (Some(live), Some(body)) => (live.customer_uid.clone(), body.clone()),
        _ => {
            let customer_uid = live.map_or(payer.customer_uid.as_str(), |live| live.customer_uid.as_str());
            let plan = in_force.catalog.plans.get(&payer.plan);
            let title = payer.name.as_deref().or(plan.and_then(|plan| plan.title.as_deref()));
            let request = ChargeRequest {
                merchant_uid: &merchant_uid,
                customer_uid,
                amount: charge.amount,
                tax_free: charge.tax_free,
                vat_amount: charge.vat_amount,
                name: title.unwrap_or(&payer.plan),
                options: &payer.options,
            };
            let body = account.account.gateway.compose(&request).map_err(|invalid| invalid.to_string())?;
            (customer_uid.to_owned(), body)
        }
    };
    Ok(Intent {
        charge: charge.id,
        attempt: live.map(|live| live.id),
        attempt_number: live.map_or(charge.attempts + 1, |live| live.number),
        id_number,
        merchant_uid,
        owns_id: *owns_id,
        customer_uid,
        amount: charge.amount,
        body,
    })
}
