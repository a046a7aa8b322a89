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
    /// Words that whoever tells of the same loss uses too: it is one loss, and Q counts from where it was first found.
    pub key: String,
}

impl Loss {
    /// Sends: all that are lost were committed before the database was, so one hold is enough for all of them.
    pub fn sends(text: String) -> Self {
        Self { text, key: "sends that".to_owned() }
    }

    /// What an operator did.
    pub fn entry(text: impl FnOnce(&str) -> String, entry: &SeenEntry) -> Self {
        let key = format!("entry {} of the journal", entry.id);
        Self { text: text(&key), key }
    }

    pub fn whole(text: &str) -> Self {
        Self { text: text.to_owned(), key: text.to_owned() }
    }

    /// Whether the reason of a hold tells of it.
    pub fn is_told_in(&self, reason: &str) -> bool {
        reason.contains(&self.key)
    }
}
