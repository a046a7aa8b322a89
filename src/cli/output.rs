//! What commands print: tables for people, JSON and CSV for machines.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, TableStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::failure::Failure;
use crate::domain::money::{Currency, Money};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// One JSON document; instants in UTC, amounts in minor units.
    Json,
    /// With a header row; the same values as JSON.
    Csv,
}

/// One cell: what machines get, and what people see if that differs.
#[derive(Debug, Clone)]
pub struct Field {
    name: &'static str,
    value: Value,
    shown: Option<String>,
    right: bool,
    /// Machines get it, a table has no room for it.
    hidden: bool,
    /// People see it, machines have no use for it.
    only_shown: bool,
}

pub fn field(name: &'static str, value: impl Into<Value>) -> Field {
    let value = value.into();
    Field { name, right: value.is_number(), value, shown: None, hidden: false, only_shown: false }
}

impl Field {
    pub fn shown(mut self, text: impl Into<String>) -> Self {
        self.shown = Some(text.into());
        self
    }

    pub fn right(mut self) -> Self {
        self.right = true;
        self
    }

    pub fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    pub fn only_shown(mut self) -> Self {
        self.only_shown = true;
        self
    }
}

/// An instant: UTC for machines, local time for people.
pub fn at(name: &'static str, at: Option<Timestamp>, zone: &TimeZone) -> Field {
    let value = at.map_or(Value::Null, |at| at.to_string().into());
    field(name, value).shown(at.map_or_else(String::new, |at| local(at, zone)))
}

pub fn money(name: &'static str, minor: i64, currency: &str) -> Field {
    field(name, minor).shown(amount(minor, currency)).right()
}

pub fn amount(minor: i64, currency: &str) -> String {
    match currency.parse::<Currency>() {
        Ok(currency) => Money::new(minor, currency).to_string(),
        Err(_) => format!("{minor} {currency}"),
    }
}

/// `2026-12-01 10:00:00 KST`.
pub fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// Rows of one kind; every row has the same fields.
#[derive(Debug, Default)]
pub struct Listing {
    pub rows: Vec<Vec<Field>>,
    /// Said to people instead of an empty table.
    pub none: &'static str,
}

impl Listing {
    pub fn print(&self, output: Output) -> Result<(), Failure> {
        match output {
            Output::Json => print_json(&Value::Array(self.rows.iter().map(|row| object(row)).collect())),
            Output::Csv => self.csv(),
            Output::Table if self.rows.is_empty() => say(self.none),
            Output::Table => say(&self.lines()),
        }
    }

    fn csv(&self) -> Result<(), Failure> {
        let mut text = csv::Writer::from_writer(Vec::new());
        let wrong = |error: csv::Error| Failure::from(std::io::Error::other(error));
        if let Some(first) = self.rows.first() {
            text.write_record(machine(first).map(|field| field.name)).map_err(wrong)?;
        }
        for row in &self.rows {
            text.write_record(machine(row).map(|field| plain(&field.value))).map_err(wrong)?;
        }
        let bytes = text.into_inner().map_err(|error| std::io::Error::other(error.to_string()))?;
        write_all(&bytes)
    }

    /// As a table; there has to be a row.
    pub fn lines(&self) -> String {
        let mut table = Table::new();
        table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
        let visible = |row: &[Field]| row.iter().filter(|field| !field.hidden).cloned().collect::<Vec<_>>();
        let bold = colours();
        let head = visible(&self.rows[0]).into_iter().map(|field| {
            let cell = Cell::new(field.name.replace('_', " "));
            let cell = if field.right { cell.set_alignment(CellAlignment::Right) } else { cell };
            if bold { cell.add_attribute(Attribute::Bold) } else { cell }
        });
        table.set_header(head);
        for row in &self.rows {
            table.add_row(visible(row).into_iter().map(|field| {
                let text = field.shown.unwrap_or_else(|| plain(&field.value));
                let cell = Cell::new(text);
                if field.right { cell.set_alignment(CellAlignment::Right) } else { cell }
            }));
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }
}

/// What machines get of a row.
fn machine(row: &[Field]) -> impl Iterator<Item = &Field> {
    row.iter().filter(|field| !field.only_shown)
}

/// A row as a JSON object.
pub fn object(row: &[Field]) -> Value {
    Value::Object(machine(row).map(|field| (field.name.to_owned(), field.value.clone())).collect::<Map<_, _>>())
}

/// A single thing: a list of names and values for people, an object for machines.
pub fn print_one(row: &[Field], output: Output) -> Result<(), Failure> {
    match output {
        Output::Json => print_json(&object(row)),
        Output::Csv => Listing { rows: vec![row.to_vec()], none: "" }.csv(),
        Output::Table => {
            let visible: Vec<&Field> = row.iter().filter(|field| !field.hidden).collect();
            let width = visible.iter().map(|field| field.name.len()).max().unwrap_or(0);
            let mut text = Vec::new();
            for field in visible {
                let value = field.shown.clone().unwrap_or_else(|| plain(&field.value));
                if !value.is_empty() {
                    text.push(format!("{:<width$}  {value}", field.name.replace('_', " ")));
                }
            }
            say(&text.join("\n"))
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub fn print_json(value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::from)?;
    say(&text)
}

/// A line, or several, on standard output.
pub fn say(text: &str) -> Result<(), Failure> {
    write_all(format!("{text}\n").as_bytes())
}

pub fn write_all(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Whether to use colours: on a terminal, unless NO_COLOR says no.
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub struct Paint(pub bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    pub fn unsure(self, text: &str) -> String {
        self.with("33", text)
    }
}
/// `12,345`.
pub fn grouped(number: u64) -> String {
    let money = crate::domain::money::Money::krw(i64::try_from(number).unwrap_or(i64::MAX)).to_string();
    money.trim_end_matches(" KRW").to_owned()
}
