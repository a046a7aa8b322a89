//! What runs beside the dispatch loop for as long as the daemon is up: alarms, signals, the config, webhooks.
//!
//! A daemon that has lost one of them still charges and still looks well from outside, and nobody hears of what it should have said.
//! So none of them may end: the first one that does ends the daemon, and whoever started it starts it again.

use std::collections::BTreeMap;

use tokio::task::{Id, JoinError, JoinSet};
use tracing::error;

use super::errors::AppError;
use crate::ports::crash;

/// Ends them all when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Helpers {
    tasks: JoinSet<()>,
    names: BTreeMap<Id, &'static str>,
}

impl Helpers {
    /// Begins one. `name` is what a message calls it.
    pub fn begin(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(async move {
            crash::helper(name);
            work.await;
        });
        self.names.insert(handle.id(), name);
    }

    /// Waits until one has ended, and says which; for ever, if there is none.
    pub async fn ended(&mut self) -> AppError {
        let Some(ended) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        let (id, how) = match ended {
            Ok((id, ())) => (id, "it returned".to_owned()),
            Err(why) => (why.id(), how(&why)),
        };
        let name = self.names.get(&id).copied().unwrap_or("unknown");
        error!(helper = name, how, "a helper of this daemon ended by itself: the daemon finishes what is in flight, and ends");
        AppError::Internal(format!("the helper `{name}` ended by itself ({how}): start the daemon again, and report it"))
    }
}

/// Without the panic's own text, which has gone to the standard error already.
fn how(why: &JoinError) -> String {
    if why.is_panic() { "it panicked" } else { "it was cancelled" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_one_that_ends_is_named_and_the_others_end_with_it() {
        let mut helpers = Helpers::default();
        let (kept, gone) = tokio::sync::oneshot::channel::<()>();
        helpers.begin("patient", async move {
            std::future::pending::<()>().await;
            drop(kept);
        });
        helpers.begin("hasty", async {});
        let said = helpers.ended().await.to_string();
        assert!(said.contains("the helper `hasty` ended by itself (it returned)"), "{said}");
        helpers.begin("clumsy", async { panic!("as it is told to") });
        let said = helpers.ended().await.to_string();
        assert!(said.contains("the helper `clumsy` ended by itself (it panicked)"), "{said}");
        drop(helpers);
        assert!(gone.await.is_err(), "its task is gone");
    }
}
