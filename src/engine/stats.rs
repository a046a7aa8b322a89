//! Counters of what this process did, for progress displays and metrics.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

pub use crate::ports::metrics::{Counter, Gauge};

/// What this process did since it started.
#[derive(Debug, Default)]
pub struct Stats {
    /// Periods opened.
    pub opened: Counter,
    /// POSTs made.
    pub sends: Counter,
    pub paid: Counter,
    pub declined: Counter,
    /// Charges that went into doubt.
    pub doubted: Counter,
    pub reviewed: Counter,
    pub unpaid: Counter,
    pub look_ups: Counter,
    /// Resends after proven losses.
    pub resends: Counter,
    pub incidents: Counter,
    pub events_delivered: Counter,
    /// Charges, schedules and subscriptions past due by two hours that wait for nothing that is shown, when last counted.
    pub missed: Gauge,
    /// Charges past due by two hours that rest for a billing key with bookings in PortOne's own schedule; not among `missed`.
    pub missed_booked: Gauge,
    /// Charges past due by a day that the budget or the fuse has put off; not among `missed`.
    pub missed_bounded: Gauge,
    /// When they were last counted, in seconds of CLOCK_BOOTTIME; 0: not yet.
    pub missed_counted: Gauge,
    /// The same by account, as far as an account is concerned; as many as all missed together, with `unknown`.
    pub missed_by: Mutex<BTreeMap<String, u64>>,
    /// The database's clock minus this machine's wall clock, in microseconds, when last compared.
    pub clock_offset: AtomicI64,
    in_doubt: AtomicI64,
    /// Minor units charged, all currencies added up: for a display of one currency.
    pub amount: AtomicI64,
}

impl Stats {
    pub fn doubt_changed(&self, by: i64) {
        self.in_doubt.fetch_add(by, Ordering::Relaxed);
    }

    /// Charges in doubt that this process put there and has not seen leave.
    pub fn in_doubt(&self) -> i64 {
        self.in_doubt.load(Ordering::Relaxed)
    }
}
