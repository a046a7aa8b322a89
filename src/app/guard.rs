//! Is this the database that last sent? A restored or copied one comes up on hold, and its live accounts are no longer armed
//! (docs/protocol.md, Clock, restore, audit).

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tracing::{error, info};

use super::errors::AppError;
use crate::config::Settings;
use crate::ports::store::{SeenSend, Store};
use crate::ports::watermark::Watermark;
use crate::store::Database;
use crate::store::identity::Identity;
use crate::store::mark::{Mark, MarkFile};

/// What the guard found.
pub(super) struct Start {
    pub mark: Arc<dyn Watermark>,
    /// The state directory is new: a complete audit comes before the first send.
    pub audit_first: bool,
}

/// For commands that never send: nothing may be raised.
struct NoMark;

#[async_trait]
impl Watermark for NoMark {
    async fn raise(&self, _mark: i64, _newest: SeenSend) -> std::io::Result<()> {
        Err(std::io::Error::other("this command never sends"))
    }
}

/// Others have raised the mark of a database that has lost commits past ours again: what it lost is still missing.
const FORGOTTEN: &str = "the state directory remembers a send that the database does not: was a standby promoted that lacked commits, or \
    a backup restored?";

/// Why a database must not send before an operator has looked, if so.
pub(super) fn suspicion(identity: &Identity, mark: Option<&Mark>) -> Option<String> {
    if identity.has_moved() {
        return Some(
            "the database stands in another Postgres cluster than before: is it a copy or a restored backup?".to_owned(),
        );
    }
    let mark = mark?;
    if mark.incarnation != identity.incarnation {
        return Some(
            "the state directory belongs to another database: was this one made anew, or restored from somewhere else?"
                .to_owned(),
        );
    }
    (mark.mark > identity.high_water).then(|| {
        format!(
            "the state directory remembers sends that the database does not (mark {} against {}): was it restored from a backup?",
            mark.mark, identity.high_water
        )
    })
}

/// Compares the database with the state directory, and holds what is suspicious.
pub(super) async fn check(
    settings: &Settings,
    database: &Database,
    identity: &Identity,
    now: Timestamp,
    guarded: bool,
) -> Result<Start, AppError> {
    if !guarded {
        return Ok(Start { mark: Arc::new(NoMark), audit_first: false });
    }
    let wrong = |why| AppError::StateDir { path: settings.state_dir.display().to_string(), why };
    let (file, before) = MarkFile::open(&settings.state_dir, &identity.incarnation).map_err(wrong)?;
    let mut suspicious = suspicion(identity, before.as_ref());
    if let (None, Some(newest)) = (&suspicious, before.as_ref().and_then(|mark| mark.newest)) {
        let known = Store::knows(database, &newest).await?;
        suspicious = (!known).then(|| FORGOTTEN.to_owned());
    }
    if let Some(why) = suspicious {
        database.hold(now, &why).await?;
        let disarmed = database.disarm_all().await?;
        error!(disarmed, "{why} Nothing is sent: `rebilld hold status` shows the way out");
    }
    let audit_first = before.is_none();
    if audit_first && identity.high_water > 0 {
        info!(path = %file.path().display(), "the state directory is new: a complete audit comes before the first send");
    }
    Ok(Start { mark: Arc::new(file), audit_first })
}
