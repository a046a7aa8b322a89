//! What was seen committed, and what a database has forgotten of it.

use jiff::Timestamp;

use super::Begun;
use crate::domain::attempt::{AttemptId, SendId};
use crate::domain::journal::Seal;

/// A send whose COMMIT was acknowledged, by what no other send has in common with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenSend {
    pub send: SendId,
    pub attempt: AttemptId,
    pub begun_at: Timestamp,
}

impl SeenSend {
    /// The last one of a batch.
    pub fn last_of(begun: &Begun) -> Option<Self> {
        let last = begun.attempts.iter().filter_map(|attempt| attempt.as_ref().ok()).next_back()?;
        Some(Self { send: last.send(), attempt: last.attempt(), begun_at: last.begun_at() })
    }
}

/// An entry of the journal whose COMMIT was acknowledged: something that an operator did. Another one of the same number has another
/// seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenEntry {
    pub id: i64,
    pub seal: Seal,
}

/// What a database has forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// For people.
    pub text: String,
    /// Words of this text, and of the other one that tells of the same loss: a daemon that works says it otherwise than one that starts. It
    /// is one loss, and Q counts from where it was first found. Whatever an operator writes as a reason is none of them.
    pub keys: [String; 2],
}

impl Loss {
    /// Sends up to a mark, that this process has seen committed.
    pub fn sends_seen(mark: i64) -> Self {
        let keys = [seen(mark), remembered(mark)];
        Self { text: format!("the database does not know {}: {ASKS}", keys[0]), keys }
    }

    /// Sends up to a mark, that the state directory remembers; the database's own mark is behind.
    pub fn sends_remembered(mark: i64, known: i64) -> Self {
        let keys = [remembered(mark), seen(mark)];
        Self { text: format!("the state directory {} {known}): was it restored from a backup?", keys[0]), keys }
    }

    /// The newest send that the state directory remembers; others have raised the mark past it since.
    pub fn newest_send(mark: i64) -> Self {
        let own = format!("remembers sends that the database does not (its newest one, mark {mark})");
        Self { text: format!("the state directory {own}: {ASKS}"), keys: [own, seen(mark)] }
    }

    /// What an operator did, that this process has seen committed.
    pub fn entry_seen(entry: &SeenEntry) -> Self {
        let keys = [format!("what an operator did in it ({})", named(entry)), format!("what an operator did ({})", named(entry))];
        Self { text: format!("the database does not know {}: {ASKS}", keys[0]), keys }
    }

    /// What an operator did, that the state directory remembers.
    pub fn entry_remembered(entry: &SeenEntry) -> Self {
        let [seen, own] = Self::entry_seen(entry).keys;
        Self { text: format!("the state directory remembers {own}, and the database does not: {ASKS}"), keys: [own, seen] }
    }

    /// All of it.
    pub fn whole(text: &str) -> Self {
        Self { text: text.to_owned(), keys: [text.to_owned(), text.to_owned()] }
    }

    /// Whether the reason of a hold tells of it.
    pub fn is_told_in(&self, reason: &str) -> bool {
        self.keys.iter().any(|key| reason.contains(key))
    }
}

const ASKS: &str = "was a standby promoted that lacked commits, or a backup restored?";

fn seen(mark: i64) -> String {
    format!("sends that were committed in it (mark {mark})")
}

/// The mark is followed by that of the database.
fn remembered(mark: i64) -> String {
    format!("remembers sends that the database does not (mark {mark} against")
}

fn named(entry: &SeenEntry) -> String {
    format!("entry {} of the journal", entry.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_loss_is_known_again_however_it_was_told_and_no_other_is() {
        let entry = |id| SeenEntry { id, seal: Seal::start() };
        let same = [
            (Loss::sends_seen(5), Loss::sends_remembered(5, 4)),
            (Loss::newest_send(5), Loss::sends_seen(5)),
            (Loss::entry_seen(&entry(7)), Loss::entry_remembered(&entry(7))),
        ];
        for (one, other) in &same {
            assert!(one.is_told_in(&one.text) && one.is_told_in(&format!("a look at prices Also: {}", other.text)), "{one:?}");
        }
        assert!(same[0].1.is_told_in(&same[0].0.text) && same[2].1.is_told_in(&same[2].0.text));
        // a copy that was made during an earlier hold of the same kind, and an operator's own words
        for told in [Loss::sends_seen(51).text, Loss::sends_remembered(51, 5).text, "no sends that day".to_owned()] {
            assert!(!Loss::sends_seen(5).is_told_in(&told) && !Loss::sends_remembered(5, 4).is_told_in(&told), "{told}");
        }
        assert!(!Loss::entry_seen(&entry(7)).is_told_in(&Loss::entry_remembered(&entry(77)).text));
    }
}
