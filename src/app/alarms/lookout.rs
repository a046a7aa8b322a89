//! Looks every few seconds, and puts on the lines what is to be said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::Told;
use super::line::{Line, Parcel};
use crate::config::Alarms;
use crate::domain::alarm::{Alarm, AlarmKey, AlarmKind, Condition, MissedFacts, Severity, Standing, Step, Turn, judge, steps};
use crate::engine::Engine;
use crate::store::db::Fault;
use crate::store::{Database, Watch};

/// A look that takes longer has failed: the database does not answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The right to look lasts for so many looks.
const LEASE: u32 = 3;

/// What is looked for what is wrong, and whom to tell.
pub struct Lookout {
    database: Arc<Database>,
    engine: Arc<Engine>,
    settings: Alarms,
    instance: String,
    lines: Vec<Line>,
    began: Duration,
    /// When conditions that have to last before they are told were first seen, by CLOCK_BOOTTIME.
    first_seen: BTreeMap<AlarmKey, Duration>,
    silence: Option<Silence>,
    /// How many connections there had been when the database was last found to keep what it acknowledges.
    sound_at: Option<u64>,
}

/// A database that does not answer. Times are CLOCK_BOOTTIME, but for `since`.
struct Silence {
    began: Duration,
    since: Timestamp,
    told: Option<Duration>,
    condition: Condition,
}

impl Lookout {
    /// Begins nothing but the lines to the channels.
    pub fn new(database: Arc<Database>, engine: Arc<Engine>, settings: Alarms, instance: String, channels: Vec<Told>) -> Self {
        let line = |told| Line::begin(told, Arc::clone(&database), Arc::clone(&engine));
        let lines = channels.into_iter().map(line).collect();
        let began = engine.boot();
        Self { database, engine, settings, instance, lines, began, first_seen: BTreeMap::new(), silence: None, sound_at: None }
    }

    /// Runs until it is dropped, or until one of its lines has ended, which none should; what is owed then is told by whoever looks next.
    pub async fn run(mut self) {
        let mut looks = tokio::time::interval(self.settings.every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Some(line) = self.lines.iter().find(|line| line.is_dead()) {
                error!(channel = line.settings.name, "the line to a channel has ended by itself: nothing would be told there");
                return;
            }
            match tokio::time::timeout(PATIENCE, self.look()).await {
                Ok(Ok(())) => self.answered(),
                Ok(Err(why)) => self.silent(&why.to_string()),
                Err(_) => self.silent(&format!("no answer within {} s", PATIENCE.as_secs())),
            }
        }
    }

    /// Whether the server is sound is asked last: the look itself may have made the first connection to another one.
    async fn look(&mut self) -> Result<(), Fault> {
        self.watch().await?;
        self.is_sound().await
    }

    async fn watch(&mut self) -> Result<(), Fault> {
        let now = self.engine.time();
        let (watch, mut facts) = self.database.stops(now).await?;
        if !self.is_on_watch(&watch, now).await? {
            self.first_seen.clear();
            return Ok(());
        }
        self.database.troubles(now, &mut facts).await?;
        facts.missed = Some(self.missed());
        let mut standing = self.database.standing_alarms().await?;
        let conditions = self.lasting(judge(&facts, now), &standing);
        let mut news = false;
        for step in steps(&standing, &conditions, now, signed(self.settings.repeat)) {
            news |= self.say(&step, now).await?;
        }
        if news {
            standing = self.database.standing_alarms().await?;
        }
        self.hand_out(&standing).await
    }

    /// Asked again wherever a statement costs nothing, and of a server when a connection was made anew.
    async fn is_sound(&mut self) -> Result<(), Fault> {
        let connections = self.database.connections_made();
        if !self.database.is_postgres() || self.sound_at != Some(connections) {
            self.database.is_durable().await?;
            self.sound_at = Some(connections);
        }
        Ok(())
    }

    /// Whether this daemon is the one that looks and tells.
    async fn is_on_watch(&self, watch: &Watch, now: Timestamp) -> Result<bool, Fault> {
        let lease = signed(self.settings.every * LEASE);
        let left = watch.until.map_or(SignedDuration::ZERO, |until| until.duration_since(now));
        match &watch.holder {
            // written anew only now and then
            Some(holder) if *holder == self.instance && left > lease / 2 => Ok(true),
            Some(holder) if *holder != self.instance && left > SignedDuration::ZERO => Ok(false),
            _ => self.database.take_watch(&self.instance, now.checked_add(lease).unwrap_or(now), now).await,
        }
    }

    /// As this process has counted it; a count that was never made is as old as the process.
    fn missed(&self) -> MissedFacts {
        let (stats, boot) = (&self.engine.stats, self.engine.boot());
        let counted = Duration::from_secs(stats.missed_counted.get()).max(self.began);
        MissedFacts {
            unexplained: stats.missed.get(),
            booked: stats.missed_booked.get(),
            bounded: stats.missed_bounded.get(),
            age: boot.saturating_sub(counted).as_secs(),
        }
    }

    /// Without breakers that have not been open for long.
    fn lasting(&mut self, found: Vec<Condition>, standing: &[Standing]) -> Vec<Condition> {
        let boot = self.engine.boot();
        self.first_seen.retain(|key, _| found.iter().any(|condition| condition.key == *key));
        let lasts = |condition: &Condition| {
            if condition.key.kind != AlarmKind::Breaker {
                return true;
            }
            let first = *self.first_seen.entry(condition.key.clone()).or_insert(boot);
            let told = standing.iter().any(|told| told.condition.key == condition.key && !told.is_over());
            told || boot.saturating_sub(first) >= self.settings.breaker_after
        };
        found.into_iter().filter(lasts).collect()
    }

    /// Writes it down for the channels that take it. Returns whether it was this daemon that did.
    async fn say(&self, step: &Step, now: Timestamp) -> Result<bool, Fault> {
        let kind = step.condition.key.kind;
        let lines = self.lines.iter().filter(|line| line.settings.takes(kind));
        let owed: Vec<&str> = lines.map(|line| line.settings.name.as_str()).collect();
        let said = self.database.say(step, now, &owed).await?;
        if said {
            log(&step.condition, step.turn);
        }
        Ok(said)
    }

    /// Puts on the lines what channels have not taken yet.
    async fn hand_out(&self, standing: &[Standing]) -> Result<(), Fault> {
        for told in standing {
            let (key, alarm) = (&told.condition.key, told.alarm());
            for name in &told.owed {
                let line = self.lines.iter().find(|line| line.settings.name == *name);
                let over = match line {
                    Some(line) => line.offer(Parcel { alarm: alarm.clone(), key: key.clone(), row: Some(told.told_at) }),
                    // no longer in the config
                    None => true,
                };
                if over {
                    self.database.alarm_taken(key, told.told_at, name).await?;
                }
            }
        }
        for line in &self.lines {
            let owed = standing.iter().filter(|told| told.owed.contains(&line.settings.name));
            let owed: Vec<String> = owed.map(|told| told.alarm().id).collect();
            line.forget_all_but(&owed);
        }
        Ok(())
    }

    fn silent(&mut self, why: &str) {
        let (boot, now) = (self.engine.boot(), self.engine.time());
        let instance = &self.instance;
        let silence = self.silence.get_or_insert_with(|| {
            warn!(%why, "alarms: the database does not answer as it has to");
            let what = format!("The database does not answer as it has to: the daemon {instance} sends nothing until it does.");
            let key = AlarmKey { kind: AlarmKind::Database, account: String::new(), subject: instance.clone() };
            let (concerns, next_step) = (json!({ "daemon": instance }), "rebilld hold status".to_owned());
            Silence { began: boot, since: now, told: None, condition: Condition { key, what, since: None, concerns, next_step } }
        });
        let turn = match silence.told {
            None if boot.saturating_sub(silence.began) >= self.settings.database_after => Turn::Raised,
            Some(told) if boot.saturating_sub(told) >= self.settings.repeat => Turn::Repeated,
            _ => return,
        };
        silence.told = Some(boot);
        let alarm = Alarm::of(&silence.condition, silence.since, now, turn);
        log(&silence.condition, turn);
        let key = silence.condition.key.clone();
        self.tell(&alarm, &key);
    }

    fn answered(&mut self) {
        let Some(silence) = self.silence.take() else { return };
        if silence.told.is_some() {
            let alarm = Alarm::of(&silence.condition, silence.since, self.engine.time(), Turn::Resolved);
            log(&silence.condition, Turn::Resolved);
            self.tell(&alarm, &silence.condition.key);
        }
    }

    /// From memory.
    fn tell(&self, alarm: &Alarm, key: &AlarmKey) {
        for line in self.lines.iter().filter(|line| line.settings.takes_alarm(alarm)) {
            line.offer(Parcel { alarm: alarm.clone(), key: key.clone(), row: None });
        }
    }
}

fn log(condition: &Condition, turn: Turn) {
    let (kind, account, what, turn_name) =
        (condition.key.kind.name(), condition.key.account.as_str(), condition.what.as_str(), turn.name());
    match (turn, condition.key.kind.severity()) {
        (Turn::Resolved, _) => info!(kind, account, what, "alarm resolved"),
        (_, Severity::Critical) => error!(kind, account, what, "alarm {turn_name}"),
        (_, Severity::Warning) => warn!(kind, account, what, "alarm {turn_name}"),
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
