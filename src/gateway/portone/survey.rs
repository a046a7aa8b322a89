//! What PortOne shows of an account that is neither a charge nor a look-up: its channels, and what time it is there.

use jiff::Timestamp;

use super::lookup::{found, nonsense};
use super::{Channel, PortOne, wire};
use crate::ports::gateway::Unavailable;
use crate::ports::metrics::Call;

/// An answer to `GET /users/pg`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    pub channels: Vec<Channel>,
    /// The clock of whoever answered, in whole seconds.
    pub date: Option<Timestamp>,
}

impl PortOne {
    /// The account's payment channels. Nothing is charged by it.
    pub async fn survey(&self) -> Result<Survey, Unavailable> {
        let reply = self.get(Call::Other, self.http.url(&["users", "pg"], [])).await?;
        let envelope = found(&reply, &[200])?.ok_or_else(|| nonsense("HTTP 404"))?;
        Ok(Survey { channels: wire::channels(envelope.processed()?)?, date: reply.date })
    }
}
