//! Webhooks that come in: the unguessable part of each account's address, and look-ups that are moved to now.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Database;
use super::claims::ids;
use super::db::Fault;
use super::sql::inbox;
use crate::domain::charge::{AccountId, ChargeId, ChargeState};
use crate::ports::secret::Secret;

/// The unguessable part of the address that an account's webhooks come in by.
#[derive(Debug, Clone)]
pub struct WebhookToken {
    pub account: AccountId,
    pub name: String,
    pub token: Secret,
    pub made_at: Option<Timestamp>,
}

/// A charge that a webhook is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hinted {
    pub charge: ChargeId,
    /// Whether it is looked up at all: in doubt, in review, or closed.
    pub looked_up: bool,
    pub next_at: Option<Timestamp>,
    /// Until when somebody has it in hand.
    pub claim_until: Option<Timestamp>,
}

impl Database {
    /// Those of all accounts that have one.
    pub async fn webhook_tokens(&self) -> Result<Vec<WebhookToken>, Fault> {
        let rows = self.db.read(&inbox::WEBHOOK_TOKENS, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(WebhookToken {
                    account: AccountId(row.int("id")?),
                    name: row.text("name")?,
                    token: Secret::new(row.text("webhook_token")?),
                    made_at: row.at_opt("webhook_token_at")?,
                })
            })
            .collect()
    }

    /// Gives accounts that have no token the one beside their name. Those that have one keep it.
    pub async fn add_webhook_tokens(&self, tokens: &[(String, Secret)], now: Timestamp) -> Result<(), Fault> {
        let mut tx = self.db.begin().await?;
        for (name, token) in tokens {
            tx.execute(&inbox::ADD_WEBHOOK_TOKEN, &[name.as_str().into(), token.reveal().into(), now.into()]).await?;
        }
        tx.commit().await
    }

    /// Which charges of an account some ids belong to. Ids of other accounts, and of nobody, are left out.
    pub async fn hinted(&self, account: AccountId, uids: Vec<String>) -> Result<BTreeMap<String, Hinted>, Fault> {
        let rows = self.db.read(&inbox::HINTED, &[uids.into(), account.0.into()]).await?;
        rows.iter()
            .map(|row| {
                let state = row.word("state", ChargeState::from_name)?;
                let hinted = Hinted {
                    charge: ChargeId(row.int("id")?),
                    looked_up: matches!(
                        state,
                        ChargeState::Doubt | ChargeState::Review | ChargeState::Unpaid | ChargeState::Void
                    ),
                    next_at: row.at_opt("next_at")?,
                    claim_until: row.at_opt("claim_until")?,
                };
                Ok((row.text("merchant_uid")?, hinted))
            })
            .collect()
    }

    /// Moves the next look-up of these charges to `now`: of those that are looked up at all, are not due yet and in nobody's hands.
    /// Nothing else of them changes. Returns which.
    pub async fn look_up_soon(&self, charges: &[ChargeId], now: Timestamp) -> Result<Vec<ChargeId>, Fault> {
        let mut tx = self.db.begin().await?;
        let rows = tx.query(&inbox::LOOK_UP_SOON, &[ids(charges).into(), now.into()]).await?;
        let moved = rows.iter().map(|row| Ok(ChargeId(row.int("id")?))).collect::<Result<Vec<_>, Fault>>()?;
        tx.commit().await?;
        Ok(moved)
    }
}
