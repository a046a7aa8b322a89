//! What nobody may forget, between the engine and the database.

use jiff::SignedDuration;

use crate::domain::charge::{ChargeId, SubscriptionId};

/// What the budget or the fuse may put off without being counted: they make a charge late on purpose, but by days only if nobody looks.
pub const PUT_OFF: SignedDuration = SignedDuration::from_hours(24);

/// What is past due and waits for nothing that is shown (docs/protocol.md, Clock, restore, audit).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Missed {
    /// Charges that ought to have been sent.
    pub sends: u64,
    /// Doubts and reviews that ought to have been looked up.
    pub look_ups: u64,
    /// Schedules that ought to have been looked at, or that nothing will ever wake.
    pub schedules: u64,
    /// Past due just as long, but their account waits for a brake that `rebilld hold status` shows: not missed.
    pub braked: u64,
    /// Rows of imports that look wrong, and that nobody has ruled on: no charge waits for them, so nothing else would tell.
    pub imports: u64,
    /// Past due just as long, and their billing key has bookings in PortOne's own schedule, or may have been charged by it: they rest,
    /// again and again, until an operator has ended that. Whatever brake is on.
    pub booked: u64,
    /// Past due by more than [`PUT_OFF`], of accounts that no brake stops: day after day the budget is used up, or the fuse does not let
    /// them through.
    pub bounded: u64,
    /// Rows that are to be looked at at once, one a lane: the rows do not say since when.
    pub fresh: Vec<Fresh>,
}

/// A row that waits to be looked at for the first time since it was written by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fresh {
    Schedule(SubscriptionId),
    Charge(ChargeId),
}

/// A page of the search for subscriptions that no schedule serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unscheduled {
    pub found: u64,
    /// The last subscription of the page; `None`: there is none after it.
    pub last: Option<SubscriptionId>,
}
