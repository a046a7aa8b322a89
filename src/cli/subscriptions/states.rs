//! What subscriptions have come to, for listings: derived now, by the config, as the daemon does it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::cli::context::Opened;
use crate::cli::failure::Failure;
use crate::domain::state::{Followed, NextStep, SubscriptionState};
use crate::engine::states::followed;

/// A state with the time since which it holds, as it was told; `None`: not told yet, or never another.
pub struct Shown {
    pub followed: Followed,
    pub since: Option<Timestamp>,
}

/// The states of some subscriptions, by row.
pub async fn states_of(opened: &Opened, subscriptions: &[i64]) -> Result<BTreeMap<i64, Shown>, Failure> {
    let dunnings = opened.loaded.settings.dunnings();
    let shown = opened.database.state_facts(subscriptions).await?.into_iter().map(|seen| {
        let followed = followed(&opened.catalog, &dunnings, &seen, opened.now);
        let since = seen.since.filter(|_| seen.before == Some(followed.state));
        (seen.subscription.0, Shown { followed, since })
    });
    Ok(shown.collect())
}

/// For people: what comes next, without its time.
pub fn next_words(next: NextStep) -> &'static str {
    match next {
        NextStep::TrialEnd => "its trial ends",
        NextStep::NextPeriod => "its next period is charged",
        NextStep::Retry => "the declined charge is tried again",
        NextStep::NewCard => "the declined charge waits for another billing key until then",
        NextStep::LookUp => "the gateway is asked whether the declined charge was paid",
        NextStep::Operator => "an operator rules on the declined charge",
        NextStep::Resume => "somebody resumes it",
        NextStep::Nothing => "nothing",
    }
}

/// For people: why it is in a state.
pub fn state_words(state: SubscriptionState) -> &'static str {
    match state {
        SubscriptionState::Trialing => "its trial is under way",
        SubscriptionState::Active => "nothing is owed for longer than the grace",
        SubscriptionState::PastDue => "a charge was declined and is still being tried",
        SubscriptionState::Paused => "its row says so",
        SubscriptionState::Unpaid => "the newest charge that has ended was given up",
        SubscriptionState::Cancelled => "nothing is billed any more",
    }
}
