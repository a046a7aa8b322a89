//! `--input`: a row a case, an array of periods a row, one row at a time.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};

use csv::ByteRecord;

use super::case::{Given, Reader, Wrong};
use super::write_entry;
use crate::cli::failure::Failure;

/// The columns, in the order of their cells in [`given`].
const COLUMNS: [&str; 10] = ["start", "every", "billing_day", "cron", "at", "zone", "trial_days", "banking", "from", "count"];

/// Prints an array with one entry a row: its periods, or what is wrong with it. A bad row leaves the others as they are.
/// Rows are counted from 1 below the header; lines without anything are none.
pub fn answer(file: &str, reader: &mut Reader<'_>) -> Result<(), Failure> {
    let (name, input): (&str, Box<dyn Read>) = match file {
        "-" => ("standard input", Box::new(std::io::stdin().lock())),
        path => {
            let opened = File::open(path).map_err(|error| Failure::data(format!("{path} cannot be read: {error}")))?;
            (path, Box::new(BufReader::new(opened)))
        }
    };
    let mut rows = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input);
    let mut record = ByteRecord::new();
    let unreadable = |error: csv::Error| Failure::data(format!("{name} cannot be read: {error}"));
    if !rows.read_byte_record(&mut record).map_err(unreadable)? {
        return Err(Failure::data(format!("{name}:1: the header is missing: {}", COLUMNS.join(","))));
    }
    let columns = header(&record).map_err(|wrong| Failure::data(format!("{name}:1: {wrong}")))?;

    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut before = "[\n";
    let mut row = 0_u64;
    while rows.read_byte_record(&mut record).map_err(unreadable)? {
        out.write_all(before.as_bytes())?;
        before = ",\n";
        row += 1;
        let wrong = match given(&columns, &record).map(|given| reader.read(&given)) {
            Ok(Ok(case)) => match case.calendar.entries(case.from, case.count) {
                Ok(entries) => {
                    out.write_all(b"[")?;
                    for (index, entry) in entries.enumerate() {
                        out.write_all(if index == 0 { b"" } else { b"," })?;
                        write_entry(&mut out, &entry)?;
                    }
                    out.write_all(b"]")?;
                    continue;
                }
                Err(wrong) => wrong.to_string(),
            },
            Ok(Err(Wrong::Cell(column, text))) => format!("{column}: {text}"),
            Ok(Err(Wrong::Config(failure))) => return Err(failure),
            Err(wrong) => wrong,
        };
        let error = serde_json::json!({ "error": format!("row {row}: {wrong}") });
        out.write_all(error.to_string().as_bytes())?;
    }
    out.write_all(if before.starts_with('[') { b"[]\n" } else { b"\n]\n" })?;
    Ok(out.flush()?)
}

/// Which column of [`COLUMNS`] each cell is.
fn header(record: &ByteRecord) -> Result<Vec<usize>, String> {
    let mut columns = Vec::new();
    for (index, cell) in record.iter().enumerate() {
        let name = String::from_utf8_lossy(cell);
        let name = if index == 0 { name.trim_start_matches('\u{feff}') } else { &name }.trim();
        let Some(column) = COLUMNS.iter().position(|known| *known == name) else {
            let shown: String = name.chars().take(40).collect();
            return Err(format!("column {}: `{shown}` is unknown; the columns are {}", index + 1, COLUMNS.join(",")));
        };
        if columns.contains(&column) {
            return Err(format!("column {}: `{name}` is there twice", index + 1));
        }
        columns.push(column);
    }
    if columns.contains(&0) { Ok(columns) } else { Err("the column `start` is missing".to_owned()) }
}

fn given<'a>(columns: &[usize], record: &'a ByteRecord) -> Result<Given<'a>, String> {
    if record.len() != columns.len() {
        return Err(format!("it has {} cells, and the header has {}", record.len(), columns.len()));
    }
    let mut cells = [None; COLUMNS.len()];
    for (column, cell) in columns.iter().zip(record) {
        let text = std::str::from_utf8(cell).map_err(|_| format!("{}: it is not UTF-8", COLUMNS[*column]))?.trim();
        cells[*column] = (!text.is_empty()).then_some(text);
    }
    let [start, every, billing_day, cron, at, zone, trial_days, banking, from, count] = cells;
    Ok(Given { start, every, billing_day, cron, at, zone, trial_days, banking, from, count })
}
