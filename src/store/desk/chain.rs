//! The journal: entries are added one after the other, each with a hash over itself and the one before.

use jiff::Timestamp;
use serde_json::Value;

use super::{Desk, Signed, sql};
use crate::domain::journal::{Entry, Harm, Seal, Sealed, Stored, Walk};
use crate::store::codec::{Param, Row};
use crate::store::db::{Fault, Tx};

/// Entries that are read together.
const PAGE: u32 = 1000;

/// An entry to add, of the same operator and reason as its neighbours.
#[derive(Debug, Clone)]
pub(in crate::store) struct Deed<'a> {
    pub action: &'a str,
    pub subject: String,
    pub detail: Value,
}

/// A journal whose hashes all fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    pub walk: Walk,
    /// The entry that the expected hash belongs to, and how many came after it.
    pub expected: Option<(i64, u64)>,
}

/// Why a journal is not what was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Broken {
    /// This entry is the first that does not fit. `follows`: the entry that it was written after, if that now stands elsewhere.
    At { entry: Box<Entry>, harm: Harm, follows: Option<i64> },
    /// No entry has the expected hash, although all fit: the end was cut off, or all was made anew.
    NotFound { last: Option<i64>, head: Seal },
    /// Verifying cannot begin behind an entry that does not exist or has no hash.
    NoStart,
}

/// What an operator changed, as it stands in the database.
pub(super) fn stored(row: &Row) -> Result<Stored, Fault> {
    let entry = Entry {
        id: row.int("id")?,
        at: row.at("at")?,
        who: row.text("who")?,
        action: row.text("action")?,
        subject: row.text("subject")?,
        reason: row.text("reason")?,
        detail: row.json("detail")?,
        config_version: row.int_opt("config_version")?,
    };
    let (previous, hash) = (row.text_opt("previous")?, row.text_opt("hash")?);
    let sealed = match (previous, hash) {
        (None, None) => None,
        (previous, hash) => Some(Sealed { previous: previous.unwrap_or_default(), hash: hash.unwrap_or_default() }),
    };
    Ok(Stored { entry, sealed })
}

/// Adds an entry to the journal within a transaction. From here to its end nobody else can, so it comes last.
pub(in crate::store) async fn journal(
    tx: &mut Tx,
    now: Timestamp,
    signed: &Signed,
    action: &str,
    subject: &str,
    detail: &Value,
) -> Result<(), Fault> {
    journal_all(tx, now, signed, vec![Deed { action, subject: subject.to_owned(), detail: detail.clone() }]).await
}

/// Adds entries, one after the other.
pub(in crate::store) async fn journal_all(
    tx: &mut Tx,
    now: Timestamp,
    signed: &Signed,
    deeds: Vec<Deed<'_>>,
) -> Result<(), Fault> {
    if deeds.is_empty() {
        return Ok(());
    }
    // a statement of its own: what the next one sees has to be newer than the lock
    tx.query(&sql::JOURNAL_LOCK, &[]).await?;
    let (mut head, config_version) = head(tx).await?;
    let count = i64::try_from(deeds.len()).unwrap_or(i64::MAX);
    let mut ids =
        tx.query(&sql::JOURNAL_IDS, &[count.into()]).await?.iter().map(|row| row.int("id")).collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    for (id, Deed { action, subject, detail }) in ids.into_iter().zip(deeds) {
        let (who, reason) = (signed.who.clone(), signed.reason.clone());
        // as the database will give it back
        let at = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
        let entry = Entry { id, at, who, action: action.to_owned(), subject, reason, detail, config_version };
        let seal = head.then(&entry);
        let params = [
            entry.id.into(),
            entry.at.into(),
            entry.who.into(),
            entry.action.into(),
            entry.subject.into(),
            entry.reason.into(),
            Param::Text(Some(entry.detail.to_string())),
            entry.config_version.into(),
            head.to_string().into(),
            seal.to_string().into(),
        ];
        tx.execute(&sql::JOURNAL, &params).await?;
        head = seal;
    }
    Ok(())
}

/// What the next entry follows: the last hash, and over it whatever older releases have written since.
async fn head(tx: &mut Tx) -> Result<(Seal, Option<i64>), Fault> {
    let rows = tx.query(&sql::JOURNAL_HEAD, &[]).await?;
    let row = rows.first().ok_or_else(|| Fault::Corrupt("the journal cannot be read".to_owned()))?;
    let start = match row.text_opt("hash")? {
        Some(hash) => hash
            .parse()
            .map_err(|_| Fault::Corrupt("the last hash of the journal is none: see `rebilld journal verify`".to_owned()))?,
        None => Seal::start(),
    };
    let (mut walk, mut after) = (Walk::from(start), row.int_opt("id")?.unwrap_or(0));
    loop {
        let page = tx.query(&sql::JOURNAL_AFTER, &[after.into(), PAGE.into()]).await?;
        for row in &page {
            let Stored { entry, .. } = stored(row)?;
            after = entry.id;
            walk.pass_loose(&entry);
        }
        if page.len() < PAGE as usize {
            return Ok((walk.head, row.int_opt("config_version")?));
        }
    }
}

impl Desk<'_> {
    /// The newest first; `about` is part of a subject, such as `sub-0001` or `account main`.
    pub async fn journal(&self, about: Option<&str>, limit: u32) -> Result<Vec<Stored>, Fault> {
        let rows = self.database.read(&sql::JOURNAL_LIST, &[about.into(), limit.into()]).await?;
        rows.iter().map(stored).collect()
    }

    /// Reads the whole journal, or what follows entry `after`, and computes every hash again. `expect`: a hash that was kept
    /// elsewhere has to be among them.
    pub async fn verify_journal(&self, after: Option<i64>, expect: Option<Seal>) -> Result<Result<Whole, Broken>, Fault> {
        let mut last = 0;
        let mut walk = Walk::from(Seal::start());
        if let Some(id) = after {
            let rows = self.database.read(&sql::JOURNAL_AFTER, &[id.saturating_sub(1).into(), 1_i64.into()]).await?;
            let row = rows.first().map(stored).transpose()?.filter(|row| row.entry.id == id);
            let Some(hash) = row.and_then(|row| row.sealed).and_then(|sealed| sealed.hash.parse().ok()) else {
                return Ok(Err(Broken::NoStart));
            };
            (last, walk) = (id, Walk::from(hash));
        }
        let mut expected = expect.filter(|expect| *expect == walk.head).map(|_| (last, 0));
        loop {
            let page = self.database.read(&sql::JOURNAL_AFTER, &[last.into(), PAGE.into()]).await?;
            for row in &page {
                let row = stored(row)?;
                if let Err(harm) = walk.pass(&row) {
                    let follows = self.follows(&row, walk.head).await?;
                    return Ok(Err(Broken::At { entry: Box::new(row.entry), harm, follows }));
                }
                last = row.entry.id;
                match &mut expected {
                    Some((_, since)) => *since += 1,
                    None if expect == Some(walk.head) => expected = Some((last, 0)),
                    None => {}
                }
            }
            if page.len() < PAGE as usize {
                break;
            }
        }
        if expect.is_some() && expected.is_none() {
            let last = Some(last).filter(|_| walk.entries > 0);
            return Ok(Err(Broken::NotFound { last, head: walk.head }));
        }
        Ok(Ok(Whole { walk, expected }))
    }

    /// Where the entry stands now that this one says it was written after, if not right before it.
    async fn follows(&self, row: &Stored, head: Seal) -> Result<Option<i64>, Fault> {
        let previous =
            row.sealed.as_ref().map(|sealed| sealed.previous.as_str()).filter(|previous| *previous != head.to_string());
        let Some(previous) = previous else { return Ok(None) };
        let found = self.database.read(&sql::JOURNAL_HASH, &[previous.into()]).await?;
        found.first().map(|row| row.int("id")).transpose()
    }
}
