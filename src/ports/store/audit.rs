//! What an audit reads and writes.

use jiff::Timestamp;
use serde_json::Value;

use crate::domain::charge::{AccountId, ChargeId, ChargeState};
use crate::domain::money::Money;

/// A payment that this database has booked, for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booked {
    pub charge: ChargeId,
    pub imp_uid: String,
    pub merchant_uid: String,
    pub amount: Money,
    pub state: ChargeState,
    pub refunded: bool,
}

/// What was known of an incident before it was seen (again).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IncidentState {
    New,
    Open,
    /// An operator has closed it, with a reason: it is known, and no longer stands in anybody's way.
    Closed,
}

/// What an audit of one account came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditResult {
    pub account: AccountId,
    pub from: Timestamp,
    pub at: Timestamp,
    /// Whether it covered 35 days.
    pub complete: bool,
    /// Whether both ledgers agree.
    pub clean: bool,
    pub summary: Value,
}
