//! The dead man's ping: somebody else notices when it stops.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::app::AppError;
use crate::config::{AlarmSecrets, Alarms, Loaded};
use crate::courier::EndpointError;
use crate::courier::alarms::Heartbeat;
use crate::engine::Engine;
use crate::http::health::STUCK;
use crate::ports::store::Store;
use crate::store::Database;

/// A database that takes longer does not answer; and so much may a ping take.
const PATIENCE: Duration = Duration::from_secs(10);

/// `None`: the config names none.
pub(crate) fn heartbeat(settings: &Alarms, secrets: &AlarmSecrets) -> Result<Option<Heartbeat>, EndpointError> {
    let url = secrets.heartbeat.as_ref();
    url.map(|url| Heartbeat::new(url, settings.heartbeat_allow_private, PATIENCE)).transpose()
}

/// Asks `heartbeat_url` while the dispatch loop turns and the database answers.
pub struct Pinger {
    heartbeat: Heartbeat,
    every: Duration,
    engine: Arc<Engine>,
    database: Arc<Database>,
}

impl Pinger {
    /// `None`: the config names none.
    ///
    /// # Errors
    /// Its secret cannot be read, or is no URL that may be asked.
    pub fn of(loaded: &Loaded, engine: &Arc<Engine>, database: &Arc<Database>) -> Result<Option<Self>, AppError> {
        let settings = &loaded.settings.alarms;
        let Some(heartbeat) = heartbeat(settings, &loaded.alarm_secrets()?)? else { return Ok(None) };
        let (engine, database) = (Arc::clone(engine), Arc::clone(database));
        Ok(Some(Self { heartbeat, every: settings.heartbeat_every, engine, database }))
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut pings = tokio::time::interval(self.every);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said: Option<String> = None;
        self.engine.pulse.looked().await;
        loop {
            pings.tick().await;
            let wrong = match self.wrong().await {
                Some(why) => Some(format!("it is not sent: {why}")),
                None => self.heartbeat.ping().await.err().map(|why| format!("it did not get through: {why}")),
            };
            match &wrong {
                None => {
                    self.engine.metrics.heartbeat_succeeded(self.engine.time());
                    if said.is_some() {
                        info!("the heartbeat is sent again");
                    }
                }
                Some(why) if said.as_ref() != Some(why) => warn!(%why, "the heartbeat stops"),
                Some(_) => {}
            }
            said = wrong;
        }
    }

    /// Why this daemon is not well.
    async fn wrong(&self) -> Option<String> {
        match self.engine.pulse.age(self.engine.boot()) {
            Some(age) if age <= STUCK => {}
            Some(_) => return Some("the dispatch loop is stuck".to_owned()),
            None => return Some("the dispatch loop has not begun".to_owned()),
        }
        match tokio::time::timeout(PATIENCE, self.database.clock()).await {
            Ok(Ok(_)) => None,
            Ok(Err(_)) | Err(_) => Some("the database does not answer".to_owned()),
        }
    }
}
