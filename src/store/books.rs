//! The whole of what is booked, for the checks of [`crate::domain::proof`]. Not for the hot path: it reads everything.

use std::collections::HashSet;

use jiff::Timestamp;

use super::Database;
use super::sql::Statement;
use crate::domain::attempt::IdBase;
use crate::domain::charge::{AccountId, ChargeState, Waiting};
use crate::domain::proof::{BookAttempt, BookCharge, BookEvent, BookSend, Books};
use crate::ports::store::StoreError;

pub const ALL: &[&Statement] =
    &[&CHARGES, &ATTEMPTS, &SENDS, &EVENTS, &OBSERVATIONS, &INCIDENTS, &NEWEST_ROW, &OPEN_SENDS, &ACCEPT_COPY];

pub const CHARGES: Statement = Statement::same(
    "books: charges",
    "SELECT c.id, s.account, s.external_ref, c.period_start, c.due_at, c.amount, c.state, c.waiting, c.next_at, c.tries, c.imp_uid
     FROM charges c JOIN subscriptions s ON s.id = c.subscription_id ORDER BY c.id",
);
pub const ATTEMPTS: Statement = Statement::same(
    "books: attempts",
    "SELECT id, charge_id, number, id_number, customer_uid, state, imp_uid FROM attempts ORDER BY id",
);
pub const SENDS: Statement =
    Statement::same("books: sends", "SELECT id, attempt_id, begun_at, ended_at, state FROM sends ORDER BY id");
pub const EVENTS: Statement = Statement::same("books: events", "SELECT seq, id, kind, charge_id FROM events ORDER BY seq");
pub const OBSERVATIONS: Statement = Statement::same("books: observations", "SELECT detail FROM observations ORDER BY id");
pub const INCIDENTS: Statement =
    Statement::same("books: incidents", "SELECT kind FROM incidents WHERE closed_at IS NULL ORDER BY id");

/// By the newest id: both tables are only ever added to.
pub const NEWEST_ROW: Statement = Statement::same(
    "newest row",
    "SELECT at FROM observations WHERE id = (SELECT max(id) FROM observations)
     UNION ALL SELECT begun_at AS at FROM sends WHERE id = (SELECT max(id) FROM sends)",
);
pub const OPEN_SENDS: Statement = Statement::same(
    "open sends of an account",
    "SELECT count(*) AS open FROM sends s JOIN attempts a ON a.id = s.attempt_id JOIN charges c ON c.id = a.charge_id
     WHERE s.state = 'open' AND c.account_id = $1",
);
/// Differs because a SQLite file stands in no cluster, and its greatest of two is called max.
pub const ACCEPT_COPY: Statement = Statement::two(
    "accept copy",
    "UPDATE settings SET high_water = max(high_water, $1) + 1, system_identifier = $2 RETURNING high_water",
    "UPDATE settings SET high_water = greatest(high_water, $1) + 1, system_identifier = $2 RETURNING high_water",
);

impl Database {
    /// When this database last learned or sent anything.
    pub async fn newest_row(&self) -> Result<Option<Timestamp>, StoreError> {
        let rows = self.read(&NEWEST_ROW, &[]).await?;
        let times = rows.iter().map(|row| row.at("at")).collect::<Result<Vec<_>, _>>()?;
        Ok(times.into_iter().max())
    }

    /// Sends of an account without a proven end.
    pub async fn open_sends(&self, account: AccountId) -> Result<i64, StoreError> {
        let rows = self.read(&OPEN_SENDS, &[account.0.into()]).await?;
        rows.first().map_or(Ok(0), |row| Ok(row.int("open")?))
    }

    /// An operator has accepted this copy: its mark passes what the state directory remembers, and it belongs where it stands.
    /// Returns the new mark.
    pub async fn accept_copy(&self, remembered: i64) -> Result<i64, StoreError> {
        let here = self.identity().await?.system_identifier_now;
        let mut tx = self.db.patient().begin().await?;
        let rows = tx.query(&ACCEPT_COPY, &[remembered.into(), here.into()]).await?;
        let mark = rows.first().map_or(Ok(remembered), |row| row.int("high_water"))?;
        tx.commit().await?;
        Ok(mark)
    }

    /// Reads all books.
    pub async fn books(&self) -> Result<Books, StoreError> {
        let tag = self.identity().await?.tag;
        let mut books = Books::default();
        for row in self.read(&CHARGES, &[]).await? {
            let (account, external_ref) = (row.text("account")?, row.text("external_ref")?);
            books.charges.push(BookCharge {
                id: row.int("id")?,
                base: IdBase::derive(tag, &account, &external_ref, row.day("period_start")?).as_str().to_owned(),
                external_ref,
                due_at: row.at("due_at")?,
                amount: row.int("amount")?,
                state: row.word("state", ChargeState::from_name)?,
                waiting: row.word("waiting", Waiting::from_name)?,
                next_at: row.at_opt("next_at")?,
                tries: row.small("tries")?,
                imp_uid: row.text_opt("imp_uid")?,
            });
        }
        for row in self.read(&ATTEMPTS, &[]).await? {
            books.attempts.push(BookAttempt {
                id: row.int("id")?,
                charge: row.int("charge_id")?,
                number: row.small("number")?,
                id_number: row.small("id_number")?,
                customer_uid: row.text("customer_uid")?,
                state: row.word("state", super::rows::attempt_state)?,
                imp_uid: row.text_opt("imp_uid")?,
            });
        }
        for row in self.read(&SENDS, &[]).await? {
            books.sends.push(BookSend {
                attempt: row.int("attempt_id")?,
                begun_at: row.at("begun_at")?,
                ended_at: row.at_opt("ended_at")?,
                not_sent: row.text("state")? == "not_sent",
            });
        }
        for row in self.read(&EVENTS, &[]).await? {
            books.events.push(BookEvent { id: row.text("id")?, kind: row.text("kind")?, charge: row.int_opt("charge_id")? });
        }
        let mut observed = HashSet::new();
        for row in self.read(&OBSERVATIONS, &[]).await? {
            collect_imp_uids(&row.json("detail")?, &mut observed);
        }
        books.observed = observed;
        for row in self.read(&INCIDENTS, &[]).await? {
            books.incidents.push(row.text("kind")?);
        }
        Ok(books)
    }
}

fn collect_imp_uids(value: &serde_json::Value, into: &mut HashSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    serde_json::Value::String(text) if name == "imp_uid" => {
                        into.insert(text.clone());
                    }
                    _ => collect_imp_uids(value, into),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_imp_uids(item, into)),
        _ => {}
    }
}
