//! What subscriptions have come to: derived anew when a person has changed something, or when a trial or a grace ends. What the
//! engine itself records is followed in the transaction that records it.

use jiff::Timestamp;
use jiff::civil::Time;
use tracing::info;

use super::Engine;
use crate::domain::dunning::Dunnings;
use crate::domain::lifecycle::{Progress, trial_end};
use crate::domain::period::instant;
use crate::domain::plan::Catalog;
use crate::domain::state::{Followed, SubscriptionState, follow};
use crate::domain::subscription::Terms;
use crate::ports::store::{StateFacts, StateStep, StoreError};

impl Engine {
    /// Derives one batch of states that are due. Returns whether there may be more.
    pub(crate) async fn follow_states(&self) -> Result<bool, StoreError> {
        let in_force = self.in_force();
        let (now, limit) = (self.now(), in_force.tuning.batch);
        let due = self.store.due_states(now, limit).await?;
        let full = due.len() >= limit as usize;
        let steps: Vec<StateStep> = due
            .into_iter()
            .map(|seen| {
                let followed = followed(&in_force.catalog, &in_force.tuning.policy.dunning, &seen, now);
                StateStep { seen, followed }
            })
            .collect();
        if steps.is_empty() {
            return Ok(false);
        }
        self.store.keep_states(now, &steps).await?;
        for StateStep { seen, followed } in &steps {
            if let Some(reason) = followed.reason {
                let from = seen.before.map_or("", SubscriptionState::name);
                info!(external_ref = %seen.external_ref, from, to = followed.state.name(), reason = reason.name(), "a subscription changed state");
            }
        }
        Ok(full)
    }
}

/// What a subscription has come to, by a config.
pub fn followed(catalog: &Catalog, dunnings: &Dunnings, seen: &StateFacts, now: Timestamp) -> Followed {
    let trial = seen.unopened.as_ref().and_then(|of| trial_until(catalog, &of.terms, &of.progress));
    let mut facts = seen.facts.clone();
    facts.trial_until = trial.filter(|until| *until > now);
    facts.grace = dunnings.grace(&seen.plan);
    follow(seen.before, &facts, now)
}

/// When a trial ends, or has ended. `None`: there is none, or a period has opened.
pub(super) fn trial_until(catalog: &Catalog, terms: &Terms, progress: &Progress) -> Option<Timestamp> {
    if progress.opened_until.is_some() || progress.anchor.is_some() {
        return None;
    }
    let end = trial_end(catalog.plan(terms).ok()?, terms)?;
    instant(end, Time::midnight(), &catalog.zone(terms).ok()?)
}
