//! What this process may have sent and has not recorded yet: what a stop that cannot wait leaves in doubt.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::domain::attempt::MerchantUid;

#[derive(Debug, Default)]
pub(crate) struct AllUnderWay(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    ids: BTreeSet<String>,
    /// The list has been read for the last time: what began now would be missing in it.
    closed: bool,
}

impl AllUnderWay {
    /// From here on, each until what comes back for it is dropped. `None`: nothing may begin any more.
    pub fn begin<'a>(&self, ids: impl Iterator<Item = &'a MerchantUid>) -> Option<Vec<UnderWay<'_>>> {
        self.set(|all| {
            let begun = |id: &MerchantUid| {
                let id = id.as_str().to_owned();
                all.ids.insert(id.clone());
                UnderWay { all: self, id }
            };
            (!all.closed).then(|| ids.map(begun).collect())
        })
    }

    /// In the order of their names. Nothing begins after it, so that whatever is left open is among them.
    pub fn close(&self) -> Vec<String> {
        self.set(|all| {
            all.closed = true;
            all.ids.iter().cloned().collect()
        })
    }

    fn set<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
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
        self.all.set(|all| all.ids.remove(&self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_what_began_and_has_not_ended_and_nothing_begins_after_the_list() {
        let all = AllUnderWay::default();
        let ids: Vec<MerchantUid> = ["a", "b", "c"].map(MerchantUid::stored).into();
        let mut begun = all.begin(ids[..2].iter()).expect("it is open");
        drop(begun.remove(0));
        assert_eq!(all.close(), [ids[1].as_str()]);
        assert!(all.begin(ids[2..].iter()).is_none(), "it would be open and not in the list");
        drop(begun);
        assert!(all.close().is_empty());
    }
}
