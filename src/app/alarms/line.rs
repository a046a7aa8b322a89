//! The line to one channel: what waits for it, tried again and again by itself, so that a dead one is in nobody's way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::Told;
use crate::config::AlarmChannel;
use crate::domain::alarm::{Alarm, AlarmKey};
use crate::engine::Engine;
use crate::ports::retry::RetryPolicy;
use crate::store::Database;

/// Alarms that wait in memory for one channel; more wait in the database.
const WAITING: usize = 64;

/// 1 s, 4 s, 16 s, 1 min, 4 min, then every 10 min: about three quarters of an hour in all, a tenth up or down.
const TRIES: RetryPolicy =
    RetryPolicy { tries: 10, first: Duration::from_secs(1), factor: 4, longest: Duration::from_secs(600), jitter_percent: 10 };

/// An alarm on its way.
#[derive(Debug)]
pub(super) struct Parcel {
    pub alarm: Alarm,
    /// Its row, and when that was told; `None`: it is said from memory.
    pub row: Option<(AlarmKey, Timestamp)>,
}

/// What became of a parcel, by the alarm's id. One that has ended is kept as long as its row still says that it is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    OnIt,
    Ended,
}

pub(super) struct Line {
    pub settings: AlarmChannel,
    parcels: mpsc::Sender<Parcel>,
    known: Arc<Mutex<BTreeMap<String, Way>>>,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    pub fn begin(told: Told, database: Arc<Database>, engine: Arc<Engine>) -> Self {
        let (parcels, waiting) = mpsc::channel(WAITING);
        let known = Arc::<Mutex<BTreeMap<String, Way>>>::default();
        let settings = told.settings.clone();
        let task = tokio::spawn(carry(told, waiting, database, engine, Arc::clone(&known)));
        Self { settings, parcels, known, task }
    }

    /// Puts an alarm on its way, unless it is or has been. What finds no room is offered again by the next look. Returns
    /// whether it has ended, and only its row does not know yet.
    pub fn offer(&self, parcel: Parcel) -> bool {
        let id = parcel.alarm.id.clone();
        let mut known = lock(&self.known);
        match known.get(&id) {
            Some(way) => return *way == Way::Ended,
            None if self.parcels.try_send(parcel).is_ok() => known.insert(id, Way::OnIt),
            None => None,
        };
        false
    }

    /// Forgets what has ended and is owed no more.
    pub fn forget_all_but(&self, owed: &[String]) {
        lock(&self.known).retain(|id, way| *way == Way::OnIt || owed.contains(id));
    }
}

fn lock(known: &Mutex<BTreeMap<String, Way>>) -> MutexGuard<'_, BTreeMap<String, Way>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells one after the other.
async fn carry(
    told: Told,
    mut waiting: mpsc::Receiver<Parcel>,
    database: Arc<Database>,
    engine: Arc<Engine>,
    known: Arc<Mutex<BTreeMap<String, Way>>>,
) {
    let Told { channel, .. } = told;
    let (name, mut seed) = (channel.name(), 0_u64);
    while let Some(Parcel { alarm, row }) = waiting.recv().await {
        let (kind, turn) = (alarm.kind_name(), alarm.turn.name());
        seed = seed.wrapping_add(1);
        let again = |why: &String| {
            engine.metrics.alarm_sent(kind, "failed");
            warn!(channel = name, kind, turn, %why, "an alarm did not get through");
            true
        };
        match TRIES.run(seed, again, || channel.tell(&alarm)).await {
            Ok(_) => {
                engine.metrics.alarm_sent(kind, "sent");
                info!(channel = name, kind, turn, "an alarm was told");
            }
            Err(why) => {
                engine.metrics.alarm_sent(kind, "given_up");
                warn!(channel = name, kind, turn, %why, "an alarm is given up: `rebilld alarms test --channel {name}`");
            }
        }
        lock(&known).insert(alarm.id.clone(), Way::Ended);
        if let Some((key, told_at)) = row
            && let Err(why) = database.alarm_taken(&key, told_at, name).await
        {
            // the next look tries that again, and not the alarm
            warn!(channel = name, %why, "that an alarm was told could not be written down");
        }
    }
}
