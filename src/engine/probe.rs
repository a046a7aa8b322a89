//! The breaker at work: what opens it is said once, and one look-up probes whether the gateway is back.

use std::time::Duration;

use jiff::civil::Date;
use tracing::{info, warn};

use super::breaker::Failing;
use super::{AccountRuntime, Engine};
use crate::domain::attempt::{IdBase, IdNumber};
use crate::ports::gateway::Unavailable;

impl Engine {
    /// A call that began at `began` has failed as if the whole gateway did.
    pub(crate) fn gateway_failed(&self, account: &AccountRuntime, began: Duration, how: Failing) {
        if let Some(pause) = account.limits.failed(began, self.clock.boot(), how) {
            let pause = pause.as_secs();
            warn!(account = %account.account.name, pause, "the gateway fails as a whole: sends pause, then a look-up probes it");
        }
    }

    /// Asks for an id that no charge has. Any answer that makes sense lets charges go on, slowly; anything else is a longer pause.
    pub(crate) async fn probe(&self, account: &AccountRuntime) {
        let account_name = &account.account.name;
        let nothing = IdBase::derive(self.in_force().tuning.tag, account_name, "probe", Date::ZERO).number(IdNumber::FIRST);
        self.stats.look_ups.add(1);
        let answer = account.account.gateway.look_up(&[nothing]).await;
        let pause = account.limits.probed(self.clock.boot(), answer.is_ok());
        match (&answer, pause) {
            (Err(why), Some(pause)) => {
                let pause = pause.as_secs();
                warn!(account = %account_name, %why, pause, "the gateway still fails: sends stay paused");
            }
            (Err(why), None) => warn!(account = %account_name, %why, "the gateway still fails"),
            (Ok(_), _) => info!(account = %account_name, "the gateway answers again: sends resume, twice as many each second"),
        }
        if let Err(why @ Unavailable::Unauthorized) = &answer {
            self.heed_failure(account, why).await;
        }
        self.wake.ring();
    }

    /// Says so when nothing is slow any more.
    pub(crate) fn settle_breaker(&self, account: &AccountRuntime) {
        if account.limits.settles(self.clock.boot()) {
            info!(account = %account.account.name, "sends go at full speed again");
        }
    }
}
