//! What this process has sent, or is about to send, and not recorded yet: what a stop that cannot wait leaves in doubt.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::domain::attempt::MerchantUid;

#[derive(Debug, Default)]
pub(crate) struct UnderWay(Mutex<BTreeSet<String>>);

impl UnderWay {
    /// From here on, until what comes back is dropped.
    pub fn begin(&self, id: &MerchantUid) -> Begun<'_> {
        self.set(|all| all.insert(id.as_str().to_owned()));
        Begun { all: self, id: id.as_str().to_owned() }
    }

    /// In the order of their names.
    pub fn ids(&self) -> Vec<String> {
        self.set(|all| all.iter().cloned().collect())
    }

    fn set<T>(&self, what: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(crate) struct Begun<'a> {
    all: &'a UnderWay,
    id: String,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.all.set(|all| all.remove(&self.id));
    }
}
