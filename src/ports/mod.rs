//! F1: what the engine needs from the world, as traits.

pub mod clock;
