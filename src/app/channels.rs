//! Whether look-ups see what an account sends. A payment on a test channel that they read as absent would be sent again.

use std::time::Duration;

use tracing::{error, warn};

use crate::engine::Account;
use crate::ports::clock::Clock;
use crate::ports::gateway::Unavailable;
use crate::ports::store::{Store, StoreError};
use crate::store::Database;

/// The start waits no longer for the list of channels.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why an account must not send, for people.
pub(super) async fn blindness(account: &Account) -> Result<Option<String>, Unavailable> {
    let asked = tokio::time::timeout(PATIENCE, account.gateway.blind_spot()).await;
    let channel =
        asked.unwrap_or_else(|_| Err(Unavailable::Unreachable(format!("no answer within {} s", PATIENCE.as_secs()))))?;
    let name = &account.name;
    Ok(channel.map(|channel| {
        format!(
            "`{channel}` is a test channel, and look-ups do not ask for its payments: set include_sandbox = true in \
             [accounts.{name}] (it does no harm to other channels) and start the daemon again, then \
             `rebilld hold release --account {name}`"
        )
    }))
}

/// At the start: pauses each account that would not see its own payments. One whose channels cannot be read goes on.
pub(super) async fn check(
    accounts: &[std::sync::Arc<Account>],
    database: &Database,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    let asked = accounts.iter().map(|account| async move { (account, blindness(account).await) });
    for (account, blind) in futures::future::join_all(asked).await {
        match blind {
            Ok(None) => {}
            Ok(Some(why)) => {
                error!(account = %account.name, "{why}");
                database.pause_account(account.id, clock.now(), &why).await?;
            }
            Err(why) => {
                warn!(account = %account.name, %why, "its payment channels cannot be read: whether they are test channels is not known");
            }
        }
    }
    Ok(())
}
