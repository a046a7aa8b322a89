//! Leaves doubt by asking: charges in doubt, in review, and closed ones that are swept (R1 to R6).

use std::sync::Arc;

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use tracing::{info, warn};

use super::charge::Batch;
use super::look::{Bulk, History, kept};
use super::{AccountRuntime, Engine};
use crate::domain::attempt::IdNumber;
use crate::domain::charge::{AccountId, ChargeId, ChargeState};
use crate::domain::decide::Fact;
use crate::domain::outcome::{Findings, Record};
use crate::ports::gateway::Unavailable;
use crate::ports::guard::{self, Guard};
use crate::ports::store::{Claim, ClaimToken, Claimed, Lane, Observation, StoreError};

/// Charges a look-up batch.
const BATCH: u32 = 200;
/// Charges that are asked about in full at the same time.
const AT_A_TIME: usize = 64;

/// When a look-up began, and from when its "not paid" may be believed.
#[derive(Clone, Copy)]
struct Began {
    at: Timestamp,
    believed_from: Timestamp,
}

impl Engine {
    /// Puts sends that a dead or stalled worker left open into doubt.
    pub(crate) async fn adopt_interrupted(&self) -> Result<(), StoreError> {
        let adopted = self.store.adopt_interrupted(self.now(), self.in_force().tuning.batch).await?;
        if adopted > 0 {
            self.stats.doubted.add(adopted);
            self.stats.doubt_changed(i64::try_from(adopted).unwrap_or(0));
            info!(charges = adopted, "sends were left open by a worker that stopped: they are looked up");
        }
        Ok(())
    }

    /// Claims charges whose look-up is due. `None`: none is.
    pub(crate) async fn claim_look_ups(&self, account: &Arc<AccountRuntime>) -> Result<Option<Batch>, StoreError> {
        let (now, claimed_at, token) = (self.now(), self.clock.boot(), self.token());
        let claim = Claim {
            account: account.account.id,
            lane: Lane::LookUp,
            token: token.clone(),
            now,
            due_until: now,
            claim_until: now.checked_add(self.in_force().tuning.claim).unwrap_or(now),
            limit: BATCH,
        };
        let charges = self.store.claim(&claim).await?;
        let batch = Batch { account: Arc::clone(account), token, claimed_at, charges };
        Ok((!batch.charges.is_empty()).then_some(batch))
    }

    /// Looks up some charges at once, for an operator, whatever their time. Returns how many were free to be looked up.
    pub async fn look_up_now(&self, account: AccountId, charges: &[ChargeId]) -> Result<usize, StoreError> {
        let Some(account) = self.accounts.iter().find(|runtime| runtime.account.id == account) else { return Ok(0) };
        self.recall_jump().await?;
        let (now, claimed_at, token) = (self.now(), self.clock.boot(), self.token());
        let until = now.checked_add(self.in_force().tuning.claim).unwrap_or(now);
        let mut claimed = Vec::new();
        for charge in charges {
            claimed.extend(self.store.claim_one(*charge, &token, now, until).await?);
        }
        // between the list and the claim its doubt may have ended: what a due charge waits for is not cut short
        let (claimed, settled): (Vec<_>, Vec<_>) =
            claimed.into_iter().partition(|claimed| claimed.charge.state != ChargeState::Due || claimed.charge.in_doubt());
        self.give_back(&token, &settled).await;
        let count = claimed.len();
        let batch = Batch { account: Arc::clone(account), token, claimed_at, charges: claimed };
        // nobody else records in a process that runs no worker
        tokio::select! {
            () = self.look_up_batch(batch) => {}
            () = self.run_recorder() => {}
        }
        Ok(count)
    }

    /// Looks a batch up and records what it means.
    pub(crate) async fn look_up_batch(&self, batch: Batch) {
        let Batch { account, token, charges, .. } = batch;
        let ids: Vec<_> = charges.iter().map(|claimed| claimed.charge.id).collect();
        let history = match self.store.attempts_of(&ids).await {
            Ok(attempts) => History::new(attempts),
            Err(why) => {
                warn!(%why, "attempts cannot be read: the look-up waits");
                return;
            }
        };
        // R2 tests when the look-up BEGAN: taken before the first request leaves
        let began_at = self.now();
        let asked: Vec<Vec<IdNumber>> = charges.iter().map(|claimed| history.ids_and_next(&claimed.charge)).collect();
        let uids: Vec<_> =
            charges.iter().zip(&asked).flat_map(|(claimed, ids)| ids.iter().map(|id| claimed.charge.base.number(*id))).collect();
        let bulk = self.bulk(&account, &uids).await;
        if let Some(why) = bulk.failed.values().next() {
            warn!(account = %account.account.name, %why, "a look-up failed: nothing is concluded from it");
            self.heed_failure(&account, why).await;
        }
        if bulk.failed.is_empty() {
            account.reconciled(began_at);
        }
        // R2's "not paid" is not believed for Q after a clock jump: such a look-up counts as one that began long ago
        let believed_from = match () {
            () if !self.trusts_time() => Timestamp::UNIX_EPOCH,
            () if !guard::stands(Guard::QuietFromBegin) => self.now(),
            () => began_at,
        };
        // each is judged as soon as it is clear: waiting for the slowest would outlast the claim of all
        let began = Began { at: began_at, believed_from };
        let at_a_time = if self.in_force().tuning.one_at_a_time { 1 } else { AT_A_TIME };
        let mut under_way = FuturesUnordered::new();
        for (claimed, ids) in charges.iter().zip(&asked) {
            if under_way.len() >= at_a_time {
                under_way.next().await;
            }
            under_way.push(self.look_up_one(&account, claimed, ids, &bulk, &history, began, &token));
        }
        while under_way.next().await.is_some() {}
    }

    #[expect(clippy::too_many_arguments, reason = "what a whole batch shares, and what is this charge's own")]
    async fn look_up_one(
        &self,
        account: &AccountRuntime,
        claimed: &Claimed,
        ids: &[IdNumber],
        bulk: &Bulk,
        history: &History,
        began: Began,
        token: &ClaimToken,
    ) {
        let (fact, observation) = match self.full_records(account, claimed, ids, bulk).await {
            Err(_) => (Fact::LookUpFailed, None),
            Ok(records) => {
                let payer = Some(claimed.payer.customer_uid.as_str());
                let mut findings = history.findings(&claimed.charge, began.at, payer, records);
                let observation = self.worth_keeping(claimed, &findings);
                findings.began_at = began.believed_from;
                (Fact::LookedUp(findings), observation)
            }
        };
        self.judge(&claimed.charge, fact, observation, token).await;
    }

    /// All records of all ids: the bulk look-up shows only the newest of each, so an id that shows one is asked in full.
    async fn full_records(
        &self,
        account: &AccountRuntime,
        claimed: &Claimed,
        ids: &[IdNumber],
        bulk: &Bulk,
    ) -> Result<Vec<(IdNumber, Record)>, Unavailable> {
        let uid = |id: &IdNumber| claimed.charge.base.number(*id);
        if let Some(why) = ids.iter().find_map(|id| bulk.failed.get(uid(id).as_str())) {
            return Err(why.clone());
        }
        let with_records: Vec<IdNumber> = ids.iter().filter(|id| bulk.newest.contains_key(uid(id).as_str())).copied().collect();
        if with_records.is_empty() {
            return Ok(Vec::new());
        }
        // a record under the last of them may not be the last one
        let and_later = claimed.charge.state.rests() && with_records.last() == ids.last();
        self.records_under(account.account.gateway.as_ref(), &claimed.charge, &with_records, and_later).await
    }

    /// A sweep of a closed charge that shows nothing new is not worth a row; everything else is.
    fn worth_keeping(&self, claimed: &Claimed, findings: &Findings) -> Option<Observation> {
        let closed = matches!(claimed.charge.state, ChargeState::Unpaid | ChargeState::Void);
        let news = findings.records.iter().any(|found| !found.known);
        (!closed || news).then(|| Observation {
            source: "look_up",
            send: claimed.charge.live.as_ref().and_then(|live| live.open_send).map(|send| send.id),
            began_at: findings.began_at,
            detail: kept(findings),
        })
    }
}
