//! What subscriptions do over months, with the real engine on both databases, under a clock that nobody waits for.

mod support;

mod lifecycle {
    pub mod brakes;
    pub mod breaker;
    pub mod catching_up;
    pub mod dunning;
    pub mod fuse;
    pub mod health;
    pub mod inbox;
    pub mod ladders;
    pub mod lanes;
    pub mod late;
    pub mod nights;
    pub mod owed;
    pub mod rig;
    pub mod states;
    pub mod takeover;
    pub mod terms;
    pub mod windows;
    pub mod year;
}
