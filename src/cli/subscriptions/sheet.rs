//! A CSV file of subscriptions, read row by row and checked.

use std::collections::HashMap;

use csv::{ByteRecord, ReaderBuilder};
use sha2::{Digest, Sha256};

use super::rules::Rules;
use crate::config::{Settings, closest};
use crate::store::desk::Given;
use crate::store::desk::columns::{AMOUNT, COLUMNS, NAME, PLAN, REQUIRED, STARTS_ON};

/// So many problems are told; the rest is counted.
const MOST_TOLD: usize = 50;

/// What is wrong with a file.
#[derive(Debug, Default)]
pub struct Problems {
    pub told: Vec<Problem>,
    pub count: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub line: u64,
    pub column: Option<&'static str>,
    pub text: String,
}

impl Problems {
    pub fn add(&mut self, line: u64, column: Option<&'static str>, text: impl Into<String>) {
        self.count += 1;
        if self.told.len() < MOST_TOLD {
            self.told.push(Problem { line, column, text: text.into() });
        }
    }

    /// `FILE:LINE: COLUMN: what is wrong`, a line each.
    pub fn text(&self, file: &str) -> String {
        let s = if self.count == 1 { "" } else { "s" };
        let mut lines = vec![format!("{file} has {} error{s}; nothing was imported:", self.count)];
        for problem in &self.told {
            let column = problem.column.map_or_else(String::new, |column| format!("{column}: "));
            lines.push(format!("{file}:{}: {column}{}", problem.line, problem.text));
        }
        if self.count > self.told.len() {
            lines.push(format!("… and {} more", self.count - self.told.len()));
        }
        lines.join("\n")
    }
}

/// A row that is fine by itself.
#[derive(Debug)]
pub struct Row {
    pub line: u64,
    pub cells: Vec<Given>,
}

/// Reads a file to its end without a database, as an import does first. Returns how many rows it has.
///
/// # Errors
/// What is wrong with it, in the words of `subscriptions import`.
pub fn check(bytes: &[u8], settings: &Settings, file: &str) -> Result<u64, String> {
    let mut sheet = Sheet::open(bytes, settings);
    while !sheet.next(1000).is_empty() {}
    if sheet.problems.count > 0 { Err(sheet.problems.text(file)) } else { Ok(sheet.rows) }
}

/// A file that is being read.
pub struct Sheet<'a> {
    reader: csv::Reader<&'a [u8]>,
    bytes: &'a [u8],
    /// So far into the file the lines are counted, and how many end before there.
    counted: (usize, u64),
    rules: Rules<'a>,
    settings: &'a Settings,
    /// The place in the table of each column of the file.
    columns: Vec<usize>,
    has: Vec<bool>,
    /// Lines by a hash of account and reference: small enough for millions of rows.
    seen: HashMap<[u8; 16], u64>,
    pub rows: u64,
    pub problems: Problems,
}

impl<'a> Sheet<'a> {
    /// Reads the header. Problems of it are in [`Sheet::problems`]; then no row is read.
    pub fn open(bytes: &'a [u8], settings: &'a Settings) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
        let mut sheet = Self {
            reader,
            bytes,
            counted: (0, 0),
            rules: Rules::new(settings),
            settings,
            columns: Vec::new(),
            has: vec![false; COLUMNS.len()],
            seen: HashMap::new(),
            rows: 0,
            problems: Problems::default(),
        };
        sheet.header(bytes);
        sheet
    }

    fn header(&mut self, bytes: &[u8]) {
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return self.problems.add(1, None, "the file is UTF-16: save it as CSV in UTF-8");
        }
        let mut record = ByteRecord::new();
        match self.reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return self.problems.add(1, None, "the file is empty: its first line has to name the columns"),
            Err(error) => return self.problems.add(1, None, error.to_string()),
        }
        let names: Vec<&str> = match record.iter().map(std::str::from_utf8).collect() {
            Ok(names) => names,
            Err(_) => return self.problems.add(1, None, "the file is not UTF-8: save it as CSV in UTF-8"),
        };
        if let [one] = names.as_slice()
            && let Some(other) = [';', '\t', '|'].into_iter().find(|other| one.contains(*other))
        {
            return self.problems.add(1, None, format!("columns are parted by commas, not by {other:?}"));
        }
        for (at, name) in names.iter().enumerate() {
            let name = name.trim();
            let place = COLUMNS.iter().position(|column| column.name == name);
            match place {
                Some(place) if self.has[place] => self.problems.add(1, Some(COLUMNS[place].name), "this column is there twice"),
                Some(place) => {
                    self.has[place] = true;
                    self.columns.push(place);
                }
                None if name.is_empty() => self.problems.add(1, None, format!("column {} has no name", at + 1)),
                None => {
                    let meant = closest(name, COLUMNS.iter().map(|column| column.name));
                    let meant = meant.map_or_else(String::new, |meant| format!(": did you mean `{meant}`?"));
                    self.problems.add(1, None, format!("unknown column `{name}`{meant}"));
                }
            }
        }
        let missing: Vec<&str> = REQUIRED.iter().filter(|place| !self.has[**place]).map(|place| COLUMNS[*place].name).collect();
        if !missing.is_empty() {
            let s = if missing.len() == 1 { "" } else { "s" };
            self.problems.add(1, None, format!("column{s} {} missing", missing.join(", ")));
        }
    }

    /// Whether the file has a column.
    pub fn has(&self, place: usize) -> bool {
        self.has[place]
    }

    /// How far into the file the reader is, in bytes.
    pub fn position(&self) -> u64 {
        self.reader.position().byte()
    }

    /// The next rows that are fine, at most so many; empty at the end. Problems are added to [`Sheet::problems`].
    pub fn next(&mut self, most: usize) -> Vec<Row> {
        let mut rows = Vec::with_capacity(most);
        if self.columns.is_empty() {
            return rows;
        }
        let mut record = ByteRecord::new();
        while rows.len() < most {
            match self.reader.read_byte_record(&mut record) {
                Ok(false) => break,
                Ok(true) => {
                    self.rows += 1;
                    let line = self.line(record.position());
                    if let Some(cells) = self.row(&record, line) {
                        rows.push(Row { line, cells });
                    }
                }
                Err(error) => {
                    let line = self.line(error.position());
                    self.problems.add(line, None, error.to_string());
                    break;
                }
            }
        }
        rows
    }

    /// The line on which a record begins. The reader's own count takes the end of a Windows line for a part of the next record.
    fn line(&mut self, position: Option<&csv::Position>) -> u64 {
        let at = position.and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(0);
        let ends = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let begins = at + self.bytes.get(at..).map_or(0, |rest| rest.iter().take_while(|byte| ends(byte)).count());
        let (from, before) = self.counted;
        let between = self.bytes.get(from..begins).unwrap_or_default();
        self.counted = (begins, before + between.iter().filter(|byte| **byte == b'\n').count() as u64);
        self.counted.1 + 1
    }

    fn row(&mut self, record: &ByteRecord, line: u64) -> Option<Vec<Given>> {
        let before = self.problems.count;
        if record.len() != self.columns.len() {
            let text = format!("the row has {} cells, and the header has {}", record.len(), self.columns.len());
            self.problems.add(line, None, text);
            return None;
        }
        let mut cells = vec![Given::Not; COLUMNS.len()];
        let mut values: Vec<Option<String>> = vec![None; COLUMNS.len()];
        for (at, bytes) in record.iter().enumerate() {
            let place = self.columns[at];
            let column = COLUMNS[place].name;
            let Ok(text) = std::str::from_utf8(bytes) else {
                self.problems.add(line, Some(column), "is not UTF-8: save the file as CSV in UTF-8");
                continue;
            };
            if text.is_empty() {
                cells[place] = Given::Empty;
                if REQUIRED.contains(&place) {
                    self.problems.add(line, Some(column), "is empty");
                }
                continue;
            }
            match self.rules.cell(place, text) {
                Ok(value) => {
                    values[place] = Some(value.clone());
                    cells[place] = Given::Value(value);
                }
                Err(wrong) => self.problems.add(line, Some(column), wrong),
            }
        }
        for (column, wrong) in self.rules.row(&values, &|place| self.has[place]) {
            self.problems.add(line, Some(column), wrong);
        }
        let (account, reference) = Rules::account_and_ref(&values);
        if !account.is_empty() && !reference.is_empty() {
            let mut hash = Sha256::new();
            hash.update((account.len() as u64).to_be_bytes());
            hash.update(account);
            hash.update(reference);
            let mut key = [0u8; 16];
            key.copy_from_slice(&hash.finalize()[..16]);
            if let Some(first) = self.seen.insert(key, line) {
                let text = format!("`{reference}` of account `{account}` is in lines {first} and {line}: keep one");
                self.problems.add(line, Some("external_ref"), text);
            }
        }
        (self.problems.count == before).then_some(cells)
    }

    /// What a new row lacks that an old one may have in the database: the file has no column for it, and the plan no value.
    pub fn lacks(&self, cells: &[Given]) -> Option<&'static str> {
        let Given::Value(plan) = &cells[PLAN] else { return None };
        let plan = self.settings.plans.get(plan)?;
        match () {
            () if !self.has(AMOUNT) && plan.amount.is_none() => Some("amount"),
            () if !self.has(NAME) && plan.title.is_none() => Some("name"),
            () => None,
        }
    }

    /// Whether a row asks for periods that began before `today`.
    pub fn starts_before(cells: &[Given], today: &str) -> bool {
        // dates in this form sort as texts
        matches!(&cells[STARTS_ON], Given::Value(date) if date.as_str() < today)
    }
}
