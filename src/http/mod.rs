//! F4: HTTP faces. [`listener`] is the daemon's own: [`health`] and [`metrics`] are answered on it, and [`ask`] asks it. [`receiver`]
//! is what the demo and tests listen with.

pub mod ask;
pub mod health;
pub mod listener;
pub mod metrics;
pub mod receiver;
pub mod scrape;
