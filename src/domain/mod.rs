//! F0: what billing is. Pure: no clock, no I/O, no async, no logs.

pub mod attempt;
pub mod calendar;
pub mod charge;
pub mod classify;
pub mod cron;
pub mod decide;
pub mod decline;
mod doubt;
pub mod dunning;
pub mod event;
pub mod forecast;
pub mod fuse;
pub mod holidays;
pub mod lifecycle;
pub mod money;
pub mod outcome;
pub mod period;
pub mod place;
pub mod plan;
pub mod price;
pub mod proof;
pub mod recurrence;
mod rules;
pub mod subscription;
pub mod window;
