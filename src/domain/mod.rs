//! F0: what billing is. Pure: no clock, no I/O, no async, no logs.

pub mod attempt;
pub mod charge;
pub mod decide;
pub mod decline;
mod doubt;
pub mod dunning;
pub mod event;
pub mod forecast;
pub mod lifecycle;
pub mod money;
pub mod outcome;
pub mod period;
pub mod plan;
pub mod price;
pub mod proof;
mod rules;
pub mod subscription;
pub mod window;
