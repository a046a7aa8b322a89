//! Charges that are due at an hour at which none may start.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::open::seed;
use super::{Engine, InForce};
use crate::domain::decide::Fact;
use crate::ports::store::{ClaimToken, Claimed};

impl InForce {
    /// The zone in which a charge's hours are meant; `None`: charges start at any time.
    pub(crate) fn zone_with_hours(&self, claimed: &Claimed) -> Option<TimeZone> {
        (!self.tuning.windows.is_always()).then(|| self.zone_of(claimed))
    }

    /// Until when a claimed charge has to wait for its hours; `None`: it may start when it is due.
    pub(crate) fn closed_until(&self, claimed: &Claimed, now: Timestamp) -> Option<Timestamp> {
        let windows = &self.tuning.windows;
        if windows.is_always() {
            return None;
        }
        let (charge, zone) = (&claimed.charge, self.zone_of(claimed));
        // it is claimed a little early, and starts when it is due
        let starts = charge.next_at.unwrap_or(charge.due_at).max(now);
        let first = || windows.first_start(starts, &zone, seed(&charge.account_name, &charge.external_ref));
        (!windows.is_open(starts, &zone)).then(first)
    }

    fn zone_of(&self, claimed: &Claimed) -> TimeZone {
        let payer = &claimed.payer;
        self.catalog.zone_of_charge(&claimed.charge.account_name, &payer.plan, payer.zone.as_deref())
    }
}

impl Engine {
    /// Puts off charges that may not start at this hour, and returns the others.
    pub(crate) async fn wait_for_windows(&self, in_force: &InForce, token: &ClaimToken, charges: Vec<Claimed>) -> Vec<Claimed> {
        if in_force.tuning.windows.is_always() {
            return charges;
        }
        let now = self.now();
        let (mut ready, mut closed) = (Vec::with_capacity(charges.len()), Vec::new());
        for claimed in charges {
            match in_force.closed_until(&claimed, now) {
                None => ready.push(claimed),
                Some(until) => closed.push((claimed, Fact::WindowClosed { until })),
            }
        }
        self.judge_all(token, closed.iter().map(|(claimed, fact)| (&claimed.charge, fact.clone(), None))).await;
        ready
    }
}
