//! What goes into a statement and what comes out of a row: the one place that knows how each engine stores a value.
//!
//! Instants are TIMESTAMPTZ on Postgres and INTEGER microseconds since 1970 on SQLite; dates DATE and TEXT; JSON JSONB and
//! TEXT; booleans BOOLEAN and INTEGER.

use jiff::Timestamp;
use jiff::civil::{Date, date};
use serde_json::Value;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgRow, PgTypeInfo, PgValueFormat};
use sqlx::sqlite::SqliteRow;
use sqlx::{Encode, Postgres, Row as _, Type, ValueRef as _};

use super::batch::Column;
use super::db::Fault;

/// Postgres counts from the year 2000.
pub(super) const EPOCH_2000: i64 = 946_684_800_000_000;

/// A parameter of a statement: `$1`, `$2`, … in order, on both engines.
#[derive(Debug, Clone)]
pub enum Param {
    Int(Option<i64>),
    Bool(bool),
    Text(Option<String>),
    At(Option<Timestamp>),
    Day(Option<Date>),
    /// For `= ANY ($1)` on Postgres and `IN (SELECT value FROM json_each($1))` on SQLite.
    Ints(Vec<i64>),
    /// The same of texts.
    Texts(Vec<String>),
    /// A column of a [`Batch`](super::batch::Batch): an array of Postgres, encoded already.
    Column(Column),
}

macro_rules! param_from {
    ($($from:ty, $value:ident => $param:expr;)*) => {
        $(impl From<$from> for Param {
            fn from($value: $from) -> Self {
                $param
            }
        })*
    };
}
param_from! {
    i64, value => Self::Int(Some(value));
    Option<i64>, value => Self::Int(value);
    u32, value => Self::Int(Some(value.into()));
    bool, value => Self::Bool(value);
    &str, value => Self::Text(Some(value.to_owned()));
    String, value => Self::Text(Some(value));
    Option<String>, value => Self::Text(value);
    Option<&str>, value => Self::Text(value.map(str::to_owned));
    Timestamp, value => Self::At(Some(value));
    Option<Timestamp>, value => Self::At(value);
    Date, value => Self::Day(Some(value));
    Option<Date>, value => Self::Day(value);
    Vec<i64>, value => Self::Ints(value);
    Vec<String>, value => Self::Texts(value);
}

type SqliteQuery = sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;
type PostgresQuery = sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments>;

/// Binds parameters as SQLite stores them.
pub(super) fn bind_sqlite(query: SqliteQuery, params: &[Param]) -> SqliteQuery {
    params.iter().fold(query, |query, param| match param {
        Param::Int(value) => query.bind(*value),
        Param::Bool(value) => query.bind(*value),
        Param::Text(value) => query.bind(value.clone()),
        Param::At(value) => query.bind(value.map(Timestamp::as_microsecond)),
        Param::Day(value) => query.bind(value.map(|day| day.to_string())),
        Param::Ints(values) => query.bind(json_text(values)),
        Param::Texts(values) => query.bind(json_text(values)),
        // only ever made for Postgres
        Param::Column(_) => query,
    })
}

/// Binds parameters as Postgres stores them.
pub(super) fn bind_postgres(query: PostgresQuery, params: &[Param]) -> PostgresQuery {
    params.iter().fold(query, |query, param| match param {
        Param::Int(value) => query.bind(*value),
        Param::Bool(value) => query.bind(*value),
        Param::Text(value) => query.bind(value.clone()),
        Param::At(value) => query.bind(value.map(Instant)),
        Param::Day(value) => query.bind(value.map(Day)),
        Param::Ints(values) => query.bind(values.clone()),
        Param::Texts(values) => query.bind(values.clone()),
        Param::Column(column) => query.bind(column.clone()),
    })
}

fn json_text<T: serde::Serialize>(values: &T) -> String {
    serde_json::to_string(values).unwrap_or_default()
}

/// TIMESTAMPTZ, in whole microseconds.
struct Instant(Timestamp);

impl Type<Postgres> for Instant {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl Encode<'_, Postgres> for Instant {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buf.extend_from_slice(&(self.0.as_microsecond() - EPOCH_2000).to_be_bytes());
        Ok(IsNull::No)
    }
}

/// DATE.
struct Day(Date);

impl Type<Postgres> for Day {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1082))
    }
}

impl Encode<'_, Postgres> for Day {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let days: i32 = (self.0 - date(2000, 1, 1)).get_days();
        buf.extend_from_slice(&days.to_be_bytes());
        Ok(IsNull::No)
    }
}

/// A row of either engine. Columns are asked for by name.
#[derive(Debug)]
pub enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub fn int(&self, column: &str) -> Result<i64, Fault> {
        present(self.int_opt(column)?, column)
    }

    pub fn int_opt(&self, column: &str) -> Result<Option<i64>, Fault> {
        match self {
            Self::Sqlite(row) => row.try_get_unchecked(column).map_err(|e| unreadable(column, &e)),
            Self::Postgres(row) => raw(row, column)?.map(|bytes| big_endian(bytes, column)).transpose(),
        }
    }

    pub fn flag(&self, column: &str) -> Result<bool, Fault> {
        Ok(self.int(column)? != 0)
    }

    pub fn flag_opt(&self, column: &str) -> Result<Option<bool>, Fault> {
        Ok(self.int_opt(column)?.map(|value| value != 0))
    }

    pub fn text(&self, column: &str) -> Result<String, Fault> {
        present(self.text_opt(column)?, column)
    }

    pub fn text_opt(&self, column: &str) -> Result<Option<String>, Fault> {
        match self {
            Self::Sqlite(row) => row.try_get_unchecked(column).map_err(|e| unreadable(column, &e)),
            Self::Postgres(row) => {
                raw(row, column)?.map(|bytes| String::from_utf8(bytes.to_vec()).map_err(|e| unreadable(column, &e))).transpose()
            }
        }
    }

    pub fn at(&self, column: &str) -> Result<Timestamp, Fault> {
        present(self.at_opt(column)?, column)
    }

    pub fn at_opt(&self, column: &str) -> Result<Option<Timestamp>, Fault> {
        let micros = match self {
            Self::Sqlite(_) => self.int_opt(column)?,
            Self::Postgres(_) => self.int_opt(column)?.map(|micros| micros.saturating_add(EPOCH_2000)),
        };
        micros.map(|micros| Timestamp::from_microsecond(micros).map_err(|e| unreadable(column, &e))).transpose()
    }

    pub fn day(&self, column: &str) -> Result<Date, Fault> {
        present(self.day_opt(column)?, column)
    }

    pub fn day_opt(&self, column: &str) -> Result<Option<Date>, Fault> {
        match self {
            Self::Sqlite(_) => {
                self.text_opt(column)?.map(|text| text.parse().map_err(|e: jiff::Error| unreadable(column, &e))).transpose()
            }
            Self::Postgres(_) => self
                .int_opt(column)?
                .map(|days| {
                    let span = jiff::Span::new().try_days(days).map_err(|e| unreadable(column, &e))?;
                    date(2000, 1, 1).checked_add(span).map_err(|e| unreadable(column, &e))
                })
                .transpose(),
        }
    }

    pub fn json(&self, column: &str) -> Result<Value, Fault> {
        present(self.json_opt(column)?, column)
    }

    pub fn json_opt(&self, column: &str) -> Result<Option<Value>, Fault> {
        let parse = |text: &str| serde_json::from_str(text).map_err(|e| unreadable(column, &e));
        match self {
            Self::Sqlite(_) => self.text_opt(column)?.map(|text| parse(&text)).transpose(),
            // JSONB is sent as a version byte and the text
            Self::Postgres(row) => {
                let parse = |bytes: &[u8]| {
                    let text = bytes.strip_prefix(&[1]).unwrap_or(bytes);
                    serde_json::from_slice(text).map_err(|e| unreadable(column, &e))
                };
                raw(row, column)?.map(parse).transpose()
            }
        }
    }

    /// Reads a text column as one of our own words.
    pub fn word<T>(&self, column: &str, from_name: impl Fn(&str) -> Option<T>) -> Result<T, Fault> {
        let text = self.text(column)?;
        from_name(&text).ok_or_else(|| Fault::Corrupt(format!("column `{column}` holds the unknown word `{text}`")))
    }

    /// Reads an integer column into a narrower type.
    pub fn small<T: TryFrom<i64>>(&self, column: &str) -> Result<T, Fault> {
        let value = self.int(column)?;
        T::try_from(value).map_err(|_| Fault::Corrupt(format!("column `{column}` holds {value}, which is out of range")))
    }
}

fn raw<'r>(row: &'r PgRow, column: &str) -> Result<Option<&'r [u8]>, Fault> {
    let value = row.try_get_raw(column).map_err(|e| unreadable(column, &e))?;
    if value.is_null() {
        return Ok(None);
    }
    if value.format() != PgValueFormat::Binary {
        return Err(Fault::Corrupt(format!("column `{column}` came as text: a statement was not prepared")));
    }
    value.as_bytes().map(Some).map_err(|e| Fault::Corrupt(format!("column `{column}`: {e}")))
}

fn big_endian(bytes: &[u8], column: &str) -> Result<i64, Fault> {
    match *bytes {
        [a] => Ok(i64::from(a)),
        [a, b] => Ok(i64::from(i16::from_be_bytes([a, b]))),
        [a, b, c, d] => Ok(i64::from(i32::from_be_bytes([a, b, c, d]))),
        [a, b, c, d, e, f, g, h] => Ok(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => Err(Fault::Corrupt(format!("column `{column}` holds {} bytes instead of a number", bytes.len()))),
    }
}

fn present<T>(value: Option<T>, column: &str) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::Corrupt(format!("column `{column}` is empty")))
}

fn unreadable(column: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault::Corrupt(format!("column `{column}` cannot be read: {error}"))
}
