//! The states of subscriptions, between the engine and the database.

use jiff::Timestamp;

use super::store::DueSchedule;
use crate::domain::charge::SubscriptionId;
use crate::domain::state::{Facts, Followed, SubscriptionState};

/// A subscription's state as it was last told, and what it follows from now.
#[derive(Debug, Clone, PartialEq)]
pub struct StateFacts {
    pub subscription: SubscriptionId,
    pub account: String,
    pub external_ref: String,
    pub plan: String,
    pub before: Option<SubscriptionState>,
    pub since: Option<Timestamp>,
    pub look_at: Option<Timestamp>,
    /// What it was when it was read, 0 without a row: a step is refused if it has changed since.
    pub version: i64,
    /// Without the trial and the grace, which the config says.
    pub facts: Facts,
    /// What a trial follows from, of an active subscription that has never been billed.
    pub unopened: Option<DueSchedule>,
}

/// A state to be kept, and told if it is another one.
#[derive(Debug, Clone, PartialEq)]
pub struct StateStep {
    pub seen: StateFacts,
    pub followed: Followed,
}
