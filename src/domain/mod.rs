//! F0: what billing is. Pure: no clock, no I/O, no async, no logs.

pub mod money;
pub mod period;
