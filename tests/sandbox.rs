//! The sandbox gateway, as a client of PortOne V1 sees it. Every answer is held against the OpenAPI file.

#[path = "sandbox/world.rs"]
mod world;

#[path = "sandbox/spec.rs"]
mod spec;

#[path = "sandbox/payments.rs"]
mod payments;

#[path = "sandbox/faults.rs"]
mod faults;

#[path = "sandbox/ledger.rs"]
mod ledger;

#[path = "sandbox/schedules.rs"]
mod schedules;
