//! The brakes as a send meets them: the database's, and the switch outside of it. Each was read at most a second ago.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::limits::brake_name;
use super::{AccountRuntime, Engine};
use crate::ports::guard::{self, Guard};
use crate::ports::store::{Brakes, NotBegun, StoreError};

impl Engine {
    /// What stops a send now. An answer that took longer than it may be old is asked for again, before `late` (CLOCK_BOOTTIME).
    pub(super) async fn braked(&self, account: &AccountRuntime, late: Duration) -> Option<&'static str> {
        loop {
            let stop = match self.brakes_for(account).await {
                // what was committed before the fuse blew was within its bounds
                Ok(Some(NotBegun::Fuse { .. })) => None,
                Ok(stop) => stop.map(brake_name),
                Err(_) => Some("the brakes cannot be read"),
            };
            let (id, now) = (account.account.id, self.clock.boot());
            if stop.is_some() || self.brakes.fresh(id, now).is_some() && self.switches.fresh(id, now).is_some() {
                return stop;
            }
            if now >= late {
                return Some("the brakes are read too slowly");
            }
        }
    }

    /// What stops sends of an account, read at most a second ago.
    pub(crate) async fn brakes_for(&self, account: &AccountRuntime) -> Result<Option<NotBegun>, StoreError> {
        // both are read, each time: the one knows nothing of what the other does; the quicker one last
        let inside = self.brakes_inside(account).await?;
        let outside = self.killed_outside(account).await;
        Ok(if outside { Some(NotBegun::Killed) } else { inside })
    }

    /// Whether a signal has stopped this process.
    pub(super) fn is_killed_here(&self) -> bool {
        self.killed_here.load(Ordering::Acquire) && guard::stands(Guard::KillSwitch)
    }

    /// Whether this process is stopped by something else than the database.
    pub(crate) async fn killed_outside(&self, account: &AccountRuntime) -> bool {
        self.is_killed_here() || self.switched_off(account).await && guard::stands(Guard::KillSwitch)
    }

    /// The same, by the database alone.
    async fn brakes_inside(&self, account: &AccountRuntime) -> Result<Option<NotBegun>, StoreError> {
        let id = account.account.id;
        if account.unaudited.load(Ordering::Acquire) {
            return Ok(Some(NotBegun::Held));
        }
        if let Some(stop) = self.brakes.fresh(id, self.clock.boot()) {
            return Ok(stop);
        }
        let _one_reader = self.brakes.reading.lock().await;
        if let Some(stop) = self.brakes.fresh(id, self.clock.boot()) {
            return Ok(stop);
        }
        let brakes = self.read_brakes().await?;
        Ok(brakes.stop(id, account.account.endpoint))
    }

    /// Reads the brakes, once for all accounts.
    ///
    /// # Errors
    /// As for [`Engine::brakes_now`].
    pub(super) async fn read_brakes(&self) -> Result<Brakes, StoreError> {
        let read_at = self.clock.boot();
        let brakes = self.brakes_now().await?;
        self.brakes.held.store(brakes.held, Ordering::Relaxed);
        for AccountRuntime { account, .. } in self.accounts.iter().map(AsRef::as_ref) {
            self.brakes.set(account.id, read_at, brakes.stop(account.id, account.endpoint));
        }
        Ok(brakes)
    }

    /// Whether the switch outside of the database stops an account, as read at most a second ago.
    async fn switched_off(&self, account: &AccountRuntime) -> bool {
        let id = account.account.id;
        let now = self.clock.boot();
        if let Some(stop) = self.switches.fresh(id, now) {
            return stop.is_some();
        }
        let stop = self.switch.stopped(&account.account.name).await.map(|_| NotBegun::Killed);
        self.switches.set(id, now, stop);
        stop.is_some()
    }
}
