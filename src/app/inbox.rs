//! PortOne's webhooks, put on the daemon's listener.

use std::sync::Arc;

use super::assemble::{Assembled, random};
use super::errors::AppError;
use crate::config::Settings;
use crate::http::inbox::{Inbox, Parts, router};
use crate::http::listener::Serving;
use crate::ports::secret::Secret;

/// Takes webhooks in from now on; what it returns takes them up, for ever. A daemon that does not listen takes none. Accounts that
/// have no address yet get one; `rebilld webhooks url` shows it.
pub(super) async fn open(
    serving: Option<&Serving>,
    settings: &Settings,
    assembled: &Assembled,
) -> Result<Option<impl Future<Output = ()> + use<>>, AppError> {
    let Some(serving) = serving else { return Ok(None) };
    let engine = &assembled.engine;
    let tokens: Vec<(String, Secret)> =
        settings.accounts.keys().map(|account| (account.clone(), Secret::new(random()))).collect();
    assembled.database.add_webhook_tokens(&tokens, engine.time()).await?;
    let inbox = Inbox::new(Parts {
        database: Arc::clone(&assembled.database),
        clock: Arc::clone(&engine.clock),
        wake: assembled.wake.clone(),
        metrics: Arc::clone(&engine.metrics),
        tag: settings.tag,
        per_second: settings.http.webhooks_per_second,
    });
    serving.add(router(Arc::clone(&inbox)));
    Ok(Some(inbox.keep()))
}
