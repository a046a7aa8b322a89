//! An operator's word on a charge (R8): looked up first, decided by the same rules, written under a claim.

use jiff::{SignedDuration, Timestamp};

use super::look::{History, kept};
use super::{Account, Engine};
use crate::domain::charge::ChargeId;
use crate::domain::decide::{Decision, Fact, Refusal, Ruling, decide};
use crate::ports::gateway::Unavailable;
use crate::ports::store::{Entry, Fence, Observation, Recorded, StoreError};

/// Why a ruling was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    #[error("the worker has this charge in hand: try again in two minutes")]
    InHand,
    #[error("the gateway could not be asked, and no ruling skips the look-up: {0}")]
    Gateway(#[from] Unavailable),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("the charge changed meanwhile: look at it again")]
    Changed,
    #[error(
        "the database clock has jumped: nothing is sent and nobody may say \"not paid\" before {until}. Only `paid IMP_UID` may be ruled until then"
    )]
    ClockJumped { until: Timestamp },
}

impl Engine {
    /// Carries out a ruling on a charge of an account.
    pub async fn rule(&self, account: &Account, charge: ChargeId, ruling: Ruling) -> Result<Decision, RuleError> {
        self.recall_jump().await?;
        if let Some(until) = self.unsteady_until().filter(|_| !matches!(ruling, Ruling::Paid { .. })) {
            return Err(RuleError::ClockJumped { until });
        }
        let (now, token) = (self.now(), self.token());
        let until = now.checked_add(SignedDuration::from_secs(60)).unwrap_or(now);
        let claimed = self.store.claim_one(charge, &token, now, until).await?.ok_or(RuleError::InHand)?;
        let result = self.rule_claimed(account, &claimed, ruling, &token).await;
        if result.is_err() {
            self.store.release(&token, &[charge]).await?;
        }
        result
    }

    async fn rule_claimed(
        &self,
        account: &Account,
        claimed: &crate::ports::store::Claimed,
        ruling: Ruling,
        token: &crate::ports::store::ClaimToken,
    ) -> Result<Decision, RuleError> {
        let charge = &claimed.charge;
        let history = History::new(self.store.attempts_of(&[charge.id]).await?);
        let began_at = self.now();
        let records = self.records_under(account.gateway.as_ref(), charge, &history.ids(charge), true).await?;
        let findings = history.findings(charge, began_at, Some(&claimed.payer.customer_uid), records);
        let observation = Observation { source: "operator", send: None, began_at, detail: kept(&findings) };
        let decision = decide(charge, &Fact::Ruled(ruling, findings), self.now(), &self.in_force().tuning.policy)?;
        let fence = Fence::Claim(token.clone());
        let entry = Entry { charge: charge.id, fence, observation: Some(observation), decision: Some(decision.clone()) };
        match self.store.record(self.now(), &[entry]).await?.first() {
            Some(Recorded::Written) => {
                self.wake.ring();
                Ok(decision)
            }
            _ => Err(RuleError::Changed),
        }
    }
}
