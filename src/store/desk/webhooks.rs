//! The address that PortOne's webhooks come in by, as operators change it.

use jiff::Timestamp;
use serde_json::json;

use super::{Desk, Signed, journal, subject};
use crate::ports::secret::Secret;
use crate::store::db::Fault;
use crate::store::sql::inbox;

impl Desk<'_> {
    /// Gives an account a new token; what came by the old one is refused from then on. The journal says that it was done, and not the
    /// token. `false`: there is no such account.
    pub async fn rotate_webhook_token(
        &self,
        now: Timestamp,
        account: &str,
        token: &Secret,
        signed: &Signed,
    ) -> Result<bool, Fault> {
        let mut tx = self.database.begin_write().await?;
        let params = [account.into(), token.reveal().into(), now.into()];
        if tx.execute(&inbox::ROTATE_WEBHOOK_TOKEN, &params).await? == 0 {
            return Ok(false);
        }
        journal(&mut tx, now, signed, "webhooks rotate", &subject::account(account), &json!({})).await?;
        tx.commit().await?;
        Ok(true)
    }
}
