//! Hands events out of the outbox (E4): at least once, per endpoint in order by subscription.

use futures::stream::{self, StreamExt};
use tracing::{info, warn};

use super::Engine;
use crate::ports::courier::Handover;
use crate::ports::crash;
use crate::ports::store::{Delivered, Delivery, StoreError};

/// Deliveries a batch, and how many of them at a time.
const BATCH: u32 = 200;
const AT_A_TIME: usize = 16;

impl Engine {
    /// Claims deliveries that are due. Empty: none is.
    pub(crate) async fn claim_deliveries(&self) -> Result<Vec<Delivery>, StoreError> {
        let now = self.now();
        let claim_until = now.checked_add(self.in_force().tuning.claim).unwrap_or(now);
        self.store.due_deliveries(now, claim_until, BATCH).await
    }

    /// Delivers a batch and records what became of it.
    pub(crate) async fn deliver_batch(&self, deliveries: Vec<Delivery>) {
        let results: Vec<Delivered> = stream::iter(deliveries)
            .map(|delivery| async move { self.deliver(&delivery).await })
            .buffer_unordered(AT_A_TIME)
            .collect()
            .await;
        if let Err(why) = self.store.delivered(self.now(), &results).await {
            warn!(%why, "deliveries could not be recorded: receivers may see them again");
        }
    }

    async fn deliver(&self, delivery: &Delivery) -> Delivered {
        crash::point("before ", "delivery");
        let handed = self.courier.deliver(delivery).await;
        crash::point("after ", "delivery");
        let (error, retry) = match handed {
            Handover::Accepted => {
                self.stats.events_delivered.add(1);
                return Delivered { id: delivery.id, error: None, next_at: None };
            }
            Handover::Failed(why) => (why, true),
            Handover::UnknownEndpoint => ("no endpoint of this name is configured".to_owned(), false),
        };
        let seed = u64::try_from(delivery.id).unwrap_or(0);
        let next_at = retry
            .then(|| (self.delivery_delay)(delivery.tries + 1, seed))
            .flatten()
            .and_then(|delay| self.now().checked_add(delay).ok());
        let (endpoint, event) = (&delivery.endpoint, &delivery.event_id);
        match next_at {
            Some(at) => info!(%endpoint, %event, %error, %at, "an event was not accepted: tried again later"),
            None => warn!(%endpoint, %event, %error, "an event is given up: `rebilld events replay` sends it again"),
        }
        Delivered { id: delivery.id, error: Some(error), next_at }
    }
}
