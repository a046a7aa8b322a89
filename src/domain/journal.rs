//! The chain of the journal: the hash of an entry covers all of the entry, and the hash of the one before.
//!
//! So an entry cannot be changed, removed from the middle or moved without every hash after it being wrong. Whoever may write to
//! the database can make all of them anew: only a hash that is kept elsewhere shows that.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde_json::Value;

use super::attempt::digest;

/// What an operator did.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub id: i64,
    pub at: Timestamp,
    pub who: String,
    pub action: String,
    pub subject: String,
    pub reason: String,
    pub detail: Value,
    /// The config in force; `None`: no daemon had run, or an older release wrote the entry.
    pub config_version: Option<i64>,
}

/// The hash of an entry and of everything before it: 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seal([u8; 32]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash of the journal has 64 digits of 0-9 and a-f")]
pub struct NotASeal;

impl Seal {
    /// Of a journal without entries.
    pub fn start() -> Self {
        Self(digest(&["journal/1"]))
    }

    /// Of an entry that follows `self`.
    pub fn then(&self, entry: &Entry) -> Self {
        let version = entry.config_version.map_or_else(String::new, |version| version.to_string());
        Self(digest(&[
            "journal entry/1",
            &self.to_string(),
            &entry.id.to_string(),
            &entry.at.as_microsecond().to_string(),
            &entry.who,
            &entry.action,
            &entry.subject,
            &entry.reason,
            &canonical(&entry.detail),
            &version,
        ]))
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Seal {
    type Err = NotASeal;

    fn from_str(text: &str) -> Result<Self, NotASeal> {
        let text = text.as_bytes();
        let digit =
            |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok());
        let mut bytes = [0; 32];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = digit(2 * place).ok_or(NotASeal)? << 4 | digit(2 * place + 1).ok_or(NotASeal)?;
        }
        if text.len() == 64 { Ok(Self(bytes)) } else { Err(NotASeal) }
    }
}

/// An entry as it is stored, with what it says of the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub entry: Entry,
    /// `None`: an older release wrote it. The next entry that has a seal covers it.
    pub sealed: Option<Sealed>,
}

/// As texts, because whoever changed them need not have written hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    pub previous: String,
    pub hash: String,
}

/// Why an entry does not fit the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It is not what was written.
    Changed,
    /// It follows something that does not stand before it: an entry between was removed or replaced, or it was moved.
    Unconnected,
    /// Something is wrong with the entries without a seal that it covers, from the first to the last.
    Covered { first: i64, last: i64 },
}

/// A walk along the journal, by ids. It remembers one hash, however long the journal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// Of what has been passed so far.
    pub head: Seal,
    pub entries: u64,
    pub sealed: u64,
    /// The entries without a seal since the last one with one: the first and the last.
    pub loose: Option<(i64, i64)>,
}

impl Walk {
    pub fn from(head: Seal) -> Self {
        Self { head, entries: 0, sealed: 0, loose: None }
    }

    /// Passes the next entry.
    pub fn pass(&mut self, stored: &Stored) -> Result<(), Harm> {
        if let Some(sealed) = &stored.sealed {
            let expected = self.head.then(&stored.entry);
            if sealed.previous != self.head.to_string() {
                let own = sealed.previous.parse().map(|previous: Seal| previous.then(&stored.entry).to_string());
                return Err(match self.loose {
                    _ if own.as_ref() != Ok(&sealed.hash) => Harm::Changed,
                    Some((first, last)) => Harm::Covered { first, last },
                    None => Harm::Unconnected,
                });
            }
            if sealed.hash != expected.to_string() {
                return Err(Harm::Changed);
            }
            self.sealed += 1;
            self.loose = None;
            self.head = expected;
            self.entries += 1;
        } else {
            self.pass_loose(&stored.entry);
        }
        Ok(())
    }

    /// Passes an entry without a seal: there is nothing yet that it could fail to fit.
    pub fn pass_loose(&mut self, entry: &Entry) {
        self.loose = Some((self.loose.map_or(entry.id, |(first, _)| first), entry.id));
        self.head = self.head.then(entry);
        self.entries += 1;
    }
}

/// One text for one value, whatever a database makes of its spaces, the order of its keys and the spelling of its numbers.
fn canonical(value: &Value) -> String {
    match value {
        Value::Number(number) => match (number.as_i128(), number.as_f64()) {
            (Some(whole), _) => whole.to_string(),
            // Postgres writes 1e16 out
            #[expect(clippy::cast_possible_truncation, reason = "whole, and within the bounds")]
            (None, Some(real)) if real.fract() == 0.0 && real.abs() < 1e18 => (real as i128).to_string(),
            (None, Some(real)) => format!("{real:e}"),
            (None, None) => number.to_string(),
        },
        Value::Array(values) => format!("[{}]", values.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            let pair = |(key, value): (&String, &Value)| format!("{}:{}", Value::String(key.clone()), canonical(value));
            format!("{{{}}}", pairs.into_iter().map(pair).collect::<Vec<_>>().join(","))
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(id: i64) -> Entry {
        Entry {
            id,
            at: Timestamp::from_second(1_796_086_800 + id).unwrap(),
            who: "kim".to_owned(),
            action: "kill on".to_owned(),
            subject: "database".to_owned(),
            reason: format!("reason {id}"),
            detail: json!({ "n": id }),
            config_version: Some(1),
        }
    }

    /// A chain of entries; the first ones are from before there was one.
    fn chain(loose: i64, sealed: i64) -> Vec<Stored> {
        let mut head = Seal::start();
        let mut rows = Vec::new();
        for id in 1..=loose + sealed {
            let entry = entry(id);
            let hash = head.then(&entry);
            let of_entry = Sealed { previous: head.to_string(), hash: hash.to_string() };
            rows.push(Stored { entry, sealed: (id > loose).then_some(of_entry) });
            head = hash;
        }
        rows
    }

    fn walk(rows: &[Stored]) -> Result<Walk, (i64, Harm)> {
        let mut walk = Walk::from(Seal::start());
        for row in rows {
            walk.pass(row).map_err(|harm| (row.entry.id, harm))?;
        }
        Ok(walk)
    }

    #[test]
    fn a_whole_chain_is_walked_to_its_end() {
        let walk = walk(&chain(3, 4)).unwrap();
        assert_eq!((walk.entries, walk.sealed, walk.loose), (7, 4, None));
        assert_eq!(walk.head.to_string(), chain(3, 4)[6].sealed.as_ref().unwrap().hash);
    }

    #[test]
    fn every_field_of_an_entry_is_covered() {
        let changes: [fn(&mut Entry); 8] = [
            |entry| entry.id += 100,
            |entry| entry.at = Timestamp::from_second(1).unwrap(),
            |entry| entry.who.push('m'),
            |entry| entry.action = "kill off".to_owned(),
            |entry| entry.subject = "account main".to_owned(),
            |entry| entry.reason.clear(),
            |entry| entry.detail = json!({ "n": 4 }),
            |entry| entry.config_version = None,
        ];
        for (place, change) in changes.into_iter().enumerate() {
            let mut rows = chain(0, 5);
            change(&mut rows[2].entry);
            assert_eq!(walk(&rows).unwrap_err().1, Harm::Changed, "field {place}");
        }
    }

    #[test]
    fn a_text_that_moves_from_one_field_to_the_next_is_seen() {
        let mut moved = entry(1);
        (moved.who, moved.action) = ("kimk".to_owned(), "ill on".to_owned());
        assert_ne!(Seal::start().then(&moved), Seal::start().then(&entry(1)));
    }

    #[test]
    fn what_is_removed_moved_or_made_anew_leaves_its_successor_unconnected() {
        let mut rows = chain(0, 6);
        rows.remove(2);
        assert_eq!(walk(&rows), Err((4, Harm::Unconnected)));
        let mut rows = chain(0, 6);
        rows.swap(2, 3);
        assert_eq!(walk(&rows), Err((4, Harm::Unconnected)));
        // changed, with a hash that fits
        let mut rows = chain(0, 6);
        rows[2].entry.reason.clear();
        let previous = Seal::from_str(&rows[1].sealed.as_ref().unwrap().hash).unwrap();
        rows[2].sealed.as_mut().unwrap().hash = previous.then(&rows[2].entry).to_string();
        assert_eq!(walk(&rows), Err((4, Harm::Unconnected)));
    }

    #[test]
    fn entries_of_older_releases_are_covered_by_the_next_one() {
        let changes: [fn(&mut Vec<Stored>); 3] =
            [|rows| drop(rows.remove(1)), |rows| rows[0].entry.who.clear(), |rows| rows.swap(0, 1)];
        for change in changes {
            let mut rows = chain(3, 2);
            change(&mut rows);
            let (at, harm) = walk(&rows).unwrap_err();
            assert!(at == 4 && matches!(harm, Harm::Covered { .. }), "{harm:?}");
        }
    }

    #[test]
    fn a_number_has_one_text_however_it_is_spelt() {
        let texts = |spelt: [&str; 2]| spelt.map(|text| canonical(&serde_json::from_str(text).unwrap()));
        for spelt in [["1e16", "10000000000000000"], ["1.50", "1.5"], ["{\"b\":1,\"a\":2}", "{ \"a\": 2, \"b\": 1 }"]] {
            let [one, other] = texts(spelt);
            assert_eq!(one, other);
        }
        assert_ne!(canonical(&json!(["a", "b"])), canonical(&json!(["a,b"])));
    }

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let seal = Seal::start();
        assert_eq!(seal.to_string().parse(), Ok(seal));
        for wrong in ["", "12", &"g".repeat(64), &"0".repeat(65), &"é".repeat(32)] {
            assert_eq!(wrong.parse::<Seal>(), Err(NotASeal));
        }
    }
}
