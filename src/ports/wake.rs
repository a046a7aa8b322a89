//! Wakes the worker: carries nothing, only says "look now".

use std::sync::Arc;

use tokio::sync::Notify;

/// A bell that any number of tasks may ring and one worker hears. Rings while it is busy are not lost.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    pub fn ring(&self) {
        self.0.notify_one();
    }

    pub async fn heard(&self) {
        self.0.notified().await;
    }
}
