//! `rebilld calendar`: when periods start and end and when they fall due, from the code that charges.

mod case;
mod table;

use std::io::{BufWriter, Write};

use clap::Args;

use super::context::Context;
use super::failure::{Code, Failure};
use super::output::{Listing, Output, field};
use crate::domain::calendar::Entry;
use crate::domain::holidays::Holidays;
use case::{Case, Given, Reader};

#[derive(Debug, Args)]
pub struct Calendar {
    /// The day from which periods are counted: a subscription's anchor
    #[arg(long, value_name = "DATE", required_unless_present = "input")]
    start: Option<String>,
    /// How long a period is, such as "1 month", "2 weeks", "1 quarter"
    #[arg(long, value_name = "INTERVAL", required_unless_present_any = ["cron", "input"])]
    every: Option<String>,
    /// The day of the month on which periods start; a start on another day makes a short first period
    #[arg(long, allow_hyphen_values = true, value_name = "1..31|last", conflicts_with = "cron")]
    billing_day: Option<String>,
    /// The dates on which periods start, by cron with seconds in the zone, such as "0 0 10 1 * *"
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "every")]
    cron: Option<String>,
    /// Local time of day at which a period falls due [default: 10:00; with --cron, the time that it names]
    #[arg(long, value_name = "HH:MM")]
    at: Option<String>,
    /// The time zone in which days and times are meant [default: Asia/Seoul]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Days without charge from the start on; periods are counted from the day on which they end
    #[arg(long, allow_hyphen_values = true, value_name = "DAYS")]
    trial_days: Option<String>,
    /// Charges on a banking day: none, next or previous [default: none]
    #[arg(long, value_name = "RULE")]
    banking: Option<String>,
    /// Begins with the period that holds this date, or with the period of this number [default: 0]
    #[arg(long, allow_hyphen_values = true, value_name = "DATE|N")]
    from: Option<String>,
    /// How many periods [default: 12]
    #[arg(long, allow_hyphen_values = true, value_name = "K")]
    count: Option<String>,
    /// Answers many cases at once: a CSV file (`-`: standard input) whose columns are these options; prints JSON
    #[arg(long, value_name = "FILE", conflicts_with_all =
        ["start", "every", "billing_day", "cron", "at", "zone", "trial_days", "banking", "from", "count"])]
    input: Option<String>,
}

impl Calendar {
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let holidays = || Ok(context.load()?.settings.holidays.as_ref().clone());
        let mut reader = Reader::new(&holidays);
        if let Some(file) = &self.input {
            return match context.output {
                Output::Csv => Err(Failure::new(Code::Usage, "--input prints an array for each row: only as JSON")),
                Output::Table | Output::Json => table::answer(file, &mut reader),
            };
        }
        let case = reader.read(&self.given()).map_err(|wrong| wrong.on_the_command_line())?;
        match context.output {
            Output::Table => print_table(&case),
            Output::Json => print_json(&case),
            Output::Csv => print_csv(&case),
        }
    }

    fn given(&self) -> Given<'_> {
        Given {
            start: text(&self.start),
            every: text(&self.every),
            billing_day: text(&self.billing_day),
            cron: text(&self.cron),
            at: text(&self.at),
            zone: text(&self.zone),
            trial_days: text(&self.trial_days),
            banking: text(&self.banking),
            from: text(&self.from),
            count: text(&self.count),
        }
    }
}

/// As in a file, what is empty is not given.
fn text(option: &Option<String>) -> Option<&str> {
    option.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

fn entries<'a>(case: &'a Case<'_>) -> Result<impl Iterator<Item = Entry> + 'a, Failure> {
    case.calendar.entries(case.from, case.count).map_err(|wrong| Failure::data(wrong.to_string()))
}

fn print_table(case: &Case<'_>) -> Result<(), Failure> {
    let zone = &case.calendar.zone;
    let row = |entry: Entry| {
        vec![
            field("n", entry.n),
            field("period_start", entry.period.start.to_string()),
            field("period_end", entry.period.end.to_string()),
            field("due_at", entry.due_at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string()),
        ]
    };
    Listing { rows: entries(case)?.map(row).collect(), none: "no periods" }.print(Output::Table)
}

fn print_csv(case: &Case<'_>) -> Result<(), Failure> {
    let entries = entries(case)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    writeln!(out, "n,period_start,period_end,due_at")?;
    for Entry { n, period, due_at } in entries {
        writeln!(out, "{n},{},{},{due_at}", period.start, period.end)?;
    }
    Ok(out.flush()?)
}

/// One period a line.
fn print_json(case: &Case<'_>) -> Result<(), Failure> {
    let entries = entries(case)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut before = "[\n  ";
    for entry in entries {
        out.write_all(before.as_bytes())?;
        write_entry(&mut out, &entry)?;
        before = ",\n  ";
    }
    out.write_all(if before.starts_with('[') { b"[]\n" } else { b"\n]\n" })?;
    Ok(out.flush()?)
}

/// The keys in this order, which is the one that the documents promise. Nothing in them needs escaping.
fn write_entry(out: &mut impl Write, Entry { n, period, due_at }: &Entry) -> std::io::Result<()> {
    let (start, end) = (period.start, period.end);
    write!(out, r#"{{"n":{n},"period_start":"{start}","period_end":"{end}","due_at":"{due_at}"}}"#)
}

/// The days without banks that a case asks for: those of the config, read when the first one does.
type LoadHolidays<'a> = &'a dyn Fn() -> Result<Holidays, Failure>;
