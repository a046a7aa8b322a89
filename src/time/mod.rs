//! F3: clocks (system, simulated) and the cron ticks.

mod simulated;
mod system;

pub use simulated::SimulatedClock;
pub use system::SystemClock;
