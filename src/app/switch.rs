//! Watches what stops this daemon from outside of the database, and says so at once; and hears SIGUSR1, by itself: the watch may
//! wait for a database that is slow, and a signal waits for nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::signal::unix::Signal;
use tracing::{error, info, warn};

use super::kill_files::KillFiles;
use crate::engine::Engine;
use crate::engine::limits::BRAKES_AGE;
use crate::ports::store::NotBegun;
use crate::ports::switch::KillSwitch;
use crate::store::Database;
use crate::store::db::Fault;
use crate::store::desk::{Reach, Signed};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// The database is asked at each so manyth look, to say what it stops; sends ask it by themselves, within a second.
const ASKED_EVERY: u32 = 8;
/// After a failed write.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Watch {
    pub engine: Arc<Engine>,
    pub database: Arc<Database>,
    pub files: KillFiles,
    /// Names of the accounts that are charged for.
    pub accounts: Vec<String>,
    pub instance: String,
}

/// Hears SIGUSR1.
pub(super) struct Ear {
    pub engine: Arc<Engine>,
    pub database: Arc<Database>,
    pub files: KillFiles,
    pub instance: String,
    /// How often the signal came.
    pub pulls: Arc<AtomicU32>,
}

/// What was last said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// What stops this daemon alone, a line each.
    here: Vec<String>,
    /// Whether an account's kill switch is on, wherever it was turned.
    killed: BTreeMap<String, bool>,
}

impl Watch {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut said = Said::default();
        // nothing is known of what an earlier start has left in the daemon's row
        let mut told: Option<Vec<String>> = None;
        let mut looks: u32 = 0;
        loop {
            let now = self.look(&said, looks.is_multiple_of(ASKED_EVERY)).await;
            looks = looks.wrapping_add(1);
            if now.here != said.here {
                self.engine.look_at_brakes();
                said.here.iter().filter(|line| !now.here.contains(line)).for_each(|line| info!("over: {line}"));
                now.here.iter().filter(|line| !said.here.contains(line)).for_each(|line| error!("nothing is sent: {line}"));
            }
            for (account, killed) in &now.killed {
                match (said.killed.get(account).copied().unwrap_or(false), *killed) {
                    (false, true) => warn!(%account, "the kill switch is on: nothing is sent; look-ups go on"),
                    (true, false) => info!(%account, "the kill switch is off again"),
                    _ => {}
                }
            }
            said = now;
            let breakers = self.engine.breakers().into_iter().map(|(account, word)| format!("account {account}: {word}"));
            let lines: Vec<String> = said.here.iter().cloned().chain(breakers).collect();
            if told.as_ref() != Some(&lines) && self.tell(&lines).await.is_ok() {
                told = Some(lines);
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn look(&self, before: &Said, ask: bool) -> Said {
        let mut here: Vec<String> = self.files.stops_all().await.into_iter().collect();
        for account in &self.accounts {
            let stop = self.files.stopped(account).await.filter(|stop| !here.contains(stop));
            here.extend(stop.map(|stop| format!("account {account}: {stop}")));
        }
        // one that changed here is told of at once
        if !ask && here == before.here {
            return Said { here, killed: before.killed.clone() };
        }
        let killed = match self.engine.stops().await {
            Ok(stops) => stops.into_iter().map(|(account, stop)| (account, stop == Some(NotBegun::Killed))).collect(),
            // without the database nothing is sent anyway
            Err(_) => before.killed.clone(),
        };
        Said { here, killed }
    }

    /// Lets other machines see it: a file is seen on its own only.
    async fn tell(&self, here: &[String]) -> Result<(), Fault> {
        let text = here.join("\n");
        self.database.daemon_stopped_by(&self.instance, Some(text.as_str()).filter(|text| !text.is_empty())).await
    }
}

impl Ear {
    /// Runs until it is dropped.
    pub async fn run(self, mut pull: Signal) {
        while pull.recv().await.is_some() {
            self.pulled();
        }
    }

    /// This process stops at once, and all others as soon as the database knows.
    fn pulled(&self) {
        self.engine.kill_here(true);
        let pull = self.pulls.fetch_add(1, Ordering::AcqRel) + 1;
        let pulls = Arc::clone(&self.pulls);
        error!("SIGUSR1: the kill switch is on; `rebilld kill off` turns it off");
        let (engine, database, instance) = (Arc::clone(&self.engine), Arc::clone(&self.database), self.instance.clone());
        let files = self.files.clone();
        tokio::spawn(async move {
            let mut kept = false;
            while let Err(why) = write(&engine, &database, &instance).await {
                error!(%why, "the kill switch could not be written to the database: this process stays stopped, and tries again");
                // what the operator wants must not end with this process
                kept = kept || files.put().await;
                tokio::time::sleep(AGAIN).await;
            }
            if kept {
                files.take_away().await;
            }
            // until no reading from before is left
            engine.look_at_brakes();
            tokio::time::sleep(BRAKES_AGE + EVERY).await;
            // a later pull has not been written yet, perhaps
            if pulls.load(Ordering::Acquire) == pull {
                engine.kill_here(false);
            }
        });
    }
}

async fn write(engine: &Engine, database: &Database, instance: &str) -> Result<(), Fault> {
    let signed = Signed { who: "signal".to_owned(), reason: format!("SIGUSR1 to the daemon {instance}") };
    database.desk().kill(engine.time(), &Reach::Database, true, &signed).await.map(drop)
}
