//! What the fuse is asked, and what it goes by.

use jiff::Timestamp;
use jiff::civil::Date;

use crate::domain::charge::AccountId;
use crate::domain::fuse::{Count, Fuse};

/// All that is due of an account, before the first of it is sent.
#[derive(Debug, Clone)]
pub struct DueWave<'a> {
    pub account: AccountId,
    pub now: Timestamp,
    /// What falls due until then belongs to it.
    pub due_until: Timestamp,
    /// The local day that budget and fuse count.
    pub budget_day: Date,
    pub fuse: &'a Fuse,
    /// So many charges the account sends in an hour at most; `None`: no bound.
    pub an_hour: Option<i64>,
}

/// What is expected to be charged on an account's day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    pub account: AccountId,
    pub day: Date,
    pub count: Count,
}
