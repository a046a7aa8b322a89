//! F4: HTTP faces. [`listener`] is the daemon's own: [`health`], [`metrics`] and [`inbox`] are answered on it, and [`ask`] asks it. [`shadow`] is what
//! `run --shadow` answers there. [`receiver`]
//! is what the demo and tests listen with.

pub mod ask;
pub mod health;
pub mod inbox;
pub mod listener;
pub mod metrics;
pub mod receiver;
pub mod scrape;
pub mod shadow;

/// What is answered on a listener, by path.
pub use axum::Router as Routes;
