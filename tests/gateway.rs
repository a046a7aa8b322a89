//! PortOne's client against a server of raw sockets: look-ups, tokens, the environment. Charges are tested inside the
//! crate (`src/gateway/portone/tests/`), because only there a test can make a durable attempt.

mod gateway {
    pub mod bookings;
    pub mod lookups;
    pub mod server;
    pub mod tokens;
}

use std::sync::Arc;

use rebilld::gateway::portone::{PortOne, PortOneConfig};
use rebilld::ports::retry::RetryPolicy;
use rebilld::ports::secret::Secret;
use rebilld::time::SimulatedClock;

fn clock() -> Arc<SimulatedClock> {
    Arc::new(SimulatedClock::new("2026-12-01T01:00:00Z".parse().unwrap()))
}

fn config(url: &str) -> PortOneConfig {
    PortOneConfig {
        retry: RetryPolicy::at_once(3),
        ..PortOneConfig::new("main", url, Secret::new("the-key"), Secret::new("the-secret"))
    }
}

fn portone(url: &str) -> PortOne {
    PortOne::new(config(url), clock()).unwrap()
}
