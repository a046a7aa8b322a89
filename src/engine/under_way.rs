//! What this process may have sent and has not recorded yet: what a stop that cannot wait leaves in doubt.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::domain::attempt::MerchantUid;

#[derive(Debug, Default)]
pub(crate) struct AllUnderWay(Mutex<BTreeSet<String>>);

impl AllUnderWay {
    /// From here on, until what comes back is dropped.
    pub fn begin(&self, id: &MerchantUid) -> UnderWay<'_> {
        let id = id.as_str().to_owned();
        self.set(|all| all.insert(id.clone()));
        UnderWay { all: self, id }
    }

    /// In the order of their names.
    pub fn ids(&self) -> Vec<String> {
        self.set(|all| all.iter().cloned().collect())
    }

    fn set<T>(&self, what: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One send, from before its intent is committed until its outcome is recorded.
pub(crate) struct UnderWay<'a> {
    all: &'a AllUnderWay,
    id: String,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.all.set(|all| all.remove(&self.id));
    }
}
