//! F3: clocks (system, simulated) and the cron ticks.

pub mod cron;
mod simulated;
mod system;

pub use simulated::SimulatedClock;
pub use system::SystemClock;
