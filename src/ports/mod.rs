//! F1: what the engine needs from the world, as traits.

pub mod clock;
pub mod courier;
pub mod crash;
pub mod gateway;
pub mod guard;
pub mod metrics;
pub mod missed;
pub mod rehearsal;
pub mod retry;
pub mod secret;
pub mod states;
pub mod store;
pub mod switch;
pub mod wake;
pub mod watermark;
