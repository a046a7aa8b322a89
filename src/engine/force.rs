//! What the config says at the moment: swapped as a whole, and read once for each look, so that no charge is made under half
//! of one config and half of another.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::tz::TimeZone;

use super::{Engine, Tuning};
use crate::domain::charge::{AccountId, IdMode};
use crate::domain::fuse::Fuse;
use crate::domain::plan::Catalog;

/// Everything that may change while the engine works.
#[derive(Debug, Clone)]
pub struct InForce {
    /// The row of `config_versions` that charges name; `None` where no version is kept (tests, benches).
    pub version: Option<i64>,
    /// The version of the database's plans in the catalog; `None` where it holds none that could change.
    pub plans: Option<i64>,
    pub catalog: Catalog,
    /// How ids advance, per account; fixed per charge when it opens.
    pub id_modes: BTreeMap<AccountId, IdMode>,
    /// By account. One that is not in it keeps the bounds that it began with.
    pub bounds: BTreeMap<AccountId, Bounds>,
    pub tuning: Tuning,
}

/// How much an account may do.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Sends a second; `None`: no bound.
    pub rate: Option<u32>,
    pub budget_count: Option<i64>,
    pub budget_sum: Option<i64>,
    /// The zone whose days the budget and the fuse count.
    pub budget_zone: TimeZone,
    pub fuse: Fuse,
}

/// The place where the one in force is kept.
#[derive(Debug)]
pub(super) struct Held(RwLock<Arc<InForce>>);

impl Held {
    pub fn new(first: InForce) -> Self {
        Self(RwLock::new(Arc::new(first)))
    }
}

impl Engine {
    /// What is in force now. Whoever goes by it keeps what it got until its work is done.
    pub fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.held.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From the next look on, this is in force. What has begun ends under what it began with.
    pub fn take(&self, next: InForce) {
        for account in &self.accounts {
            if let Some(bounds) = next.bounds.get(&account.account.id) {
                account.limits.set_rate(bounds.rate);
            }
        }
        *self.held.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        self.wake.ring();
    }
}
