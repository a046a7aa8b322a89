//! The line to one channel: tells what waits for it, again and again, so that a dead one is in nobody's way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::Told;
use super::queue::{Next, Queue};
use crate::config::AlarmChannel;
use crate::domain::alarm::{Alarm, AlarmKey, Severity};
use crate::engine::Engine;
use crate::store::Database;

/// An alarm on its way.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    pub alarm: Alarm,
    /// What it is about.
    pub key: AlarmKey,
    /// When it was told, as its row says; `None`: it has no row, and is said from memory.
    pub row: Option<Timestamp>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    came: Notify,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Line {
    pub settings: AlarmChannel,
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    pub fn begin(told: Told, database: Arc<Database>, engine: Arc<Engine>) -> Self {
        let shared = Arc::<Shared>::default();
        let settings = told.settings.clone();
        let task = tokio::spawn(carry(told, Arc::clone(&shared), database, Arc::clone(&engine)));
        Self { settings, engine, shared, task }
    }

    /// Puts an alarm on its way, as [`Queue::offer`] says.
    pub fn offer(&self, parcel: Parcel) -> bool {
        let ended = self.shared.queue().offer(parcel, self.engine.boot());
        self.shared.came.notify_one();
        ended
    }

    /// Forgets what has ended and is owed no more.
    pub fn forget_all_but(&self, owed: &[String]) {
        self.shared.queue().forget_all_but(owed);
    }

    /// Whether nobody carries any more: it should never end.
    pub fn is_dead(&self) -> bool {
        self.task.is_finished()
    }
}

/// Tells one after the other.
async fn carry(told: Told, shared: Arc<Shared>, database: Arc<Database>, engine: Arc<Engine>) {
    let channel = told.channel;
    let name = channel.name();
    loop {
        let next = shared.queue().next(engine.boot());
        let Parcel { alarm, key, row } = match next {
            Next::Now(parcel) => *parcel,
            Next::At(at) => {
                // one that comes meanwhile may be told at once
                let pause = at.saturating_sub(engine.boot()).max(Duration::from_millis(1));
                let _ = tokio::time::timeout(pause, shared.came.notified()).await;
                continue;
            }
            Next::Nothing => {
                shared.came.notified().await;
                continue;
            }
        };
        let (kind, turn) = (alarm.kind_name(), alarm.turn.name());
        match channel.tell(&alarm).await {
            Ok(_) => {
                shared.queue().told(engine.boot());
                engine.metrics.alarm_sent(kind, "sent");
                info!(channel = name, kind, turn, "an alarm was told");
            }
            Err(failure) => {
                engine.metrics.alarm_sent(kind, "failed");
                warn!(channel = name, kind, turn, why = %failure, "an alarm did not get through");
                if !shared.queue().failed(failure.is_of_the_message, engine.boot()) {
                    continue;
                }
                engine.metrics.alarm_sent(kind, "given_up");
                let remedy = format!("an alarm is given up: `rebilld alarms test --channel {name}`");
                match alarm.severity {
                    Severity::Critical => error!(channel = name, kind, turn, why = %failure, "{remedy}"),
                    Severity::Warning => warn!(channel = name, kind, turn, why = %failure, "{remedy}"),
                }
            }
        }
        if let Some(told_at) = row
            && let Err(why) = database.alarm_taken(&key, told_at, name).await
        {
            // the next look tries that again, and not the alarm
            warn!(channel = name, %why, "that an alarm was told could not be written down");
        }
    }
}
