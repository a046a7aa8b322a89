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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenEntry {
    pub id: i64,
    pub seal: Seal,
    /// What it was, on one line of at most [`SeenEntry::LONGEST`] bytes, for whoever has to do it again: `kill on: database, at …`.
    /// Empty: whoever remembered it was of a release that did not say.
    pub deed: String,
}

impl SeenEntry {
    /// It is kept in a file of a fixed size.
    pub const LONGEST: usize = 240;

    /// An entry, as the database has it.
    pub fn of(id: i64, seal: Seal, action: &str, subject: &str, at: Timestamp) -> Self {
        let end = format!(", at {}", at.strftime("%Y-%m-%dT%H:%M:%SZ"));
        // one line: it goes into logs, and into a file that is read by words
        let mut deed = format!("{action}: {subject}").replace(|c: char| c.is_control(), " ");
        let room = Self::LONGEST - end.len();
        if deed.len() > room {
            deed.truncate(deed.floor_char_boundary(room - '…'.len_utf8()));
            deed.push('…');
        }
        Self { id, seal, deed: deed + &end }
    }

    /// Whether both are one entry, whoever has written down what it was.
    pub fn is(&self, other: &Self) -> bool {
        (self.id, self.seal) == (other.id, other.seal)
    }
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
        let keys = [done_in_it(entry), done(entry)];
        Self { text: format!("the database does not know {}{}): {ASKS}", keys[0], told(entry)), keys }
    }

    /// What an operator did, that the state directory remembers.
    pub fn entry_remembered(entry: &SeenEntry) -> Self {
        let keys = [done(entry), done_in_it(entry)];
        let text = format!("the state directory remembers {}{}), and the database does not: {ASKS}", keys[0], told(entry));
        Self { text, keys }
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

/// What was done follows, and a bracket.
fn done(entry: &SeenEntry) -> String {
    format!("what an operator did (entry {} of the journal", entry.id)
}

fn done_in_it(entry: &SeenEntry) -> String {
    format!("what an operator did in it (entry {} of the journal", entry.id)
}

fn told(entry: &SeenEntry) -> String {
    if entry.deed.is_empty() { String::new() } else { format!(": {}", entry.deed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_loss_is_known_again_however_it_was_told_and_no_other_is() {
        let at = "2026-11-23T01:00:00Z".parse().unwrap();
        let entry = |id| SeenEntry::of(id, Seal::start(), "kill on", "database", at);
        let untold = SeenEntry { deed: String::new(), ..entry(7) };
        let same = [
            (Loss::sends_seen(5), Loss::sends_remembered(5, 4)),
            (Loss::newest_send(5), Loss::sends_seen(5)),
            (Loss::entry_seen(&entry(7)), Loss::entry_remembered(&entry(7))),
            // one of them was remembered by an older release
            (Loss::entry_seen(&entry(7)), Loss::entry_remembered(&untold)),
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

    #[test]
    fn what_was_done_is_told_on_one_line_that_fits() {
        let at = "2026-11-23T01:00:00.5Z".parse().unwrap();
        let entry = SeenEntry::of(7, Seal::start(), "kill on", "database", at);
        let text = Loss::entry_remembered(&entry).text;
        assert!(
            text.contains("(entry 7 of the journal: kill on: database, at 2026-11-23T01:00:00Z), and the database does not"),
            "{text}"
        );
        let hostile = format!("one\n{}", "구".repeat(200));
        let entry = SeenEntry::of(7, Seal::start(), "void", &hostile, at);
        assert!(entry.deed.len() <= SeenEntry::LONGEST && !entry.deed.contains('\n'), "{entry:?}");
        assert!(entry.deed.ends_with("구…, at 2026-11-23T01:00:00Z"), "{entry:?}");
    }
}
