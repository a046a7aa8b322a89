//! F4: HTTP faces: webhooks in, and the receiver that the demo and tests listen with.

pub mod inbox;
pub mod receiver;
