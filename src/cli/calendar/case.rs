//! One case of `rebilld calendar`, read from texts: options of the command line, or cells of a row.

use std::cell::OnceCell;
use std::collections::HashMap;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::LoadHolidays;
use crate::cli::failure::{Code, Failure};
use crate::config::{time_of_day, zone};
use crate::domain::calendar::{Calendar, From, trial_end};
use crate::domain::cron::{CronSchedule, NotASchedule};
use crate::domain::holidays::{Banking, Holidays};
use crate::domain::period::NotAnInterval;
use crate::domain::recurrence::{Recurrence, WrongBillingDay};

const ZONE: &str = "Asia/Seoul";
const AT: Time = Time::constant(10, 0, 0, 0);
const COUNT: u32 = 12;

/// What is asked for, as texts. `None`: not given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given<'a> {
    pub start: Option<&'a str>,
    pub every: Option<&'a str>,
    pub billing_day: Option<&'a str>,
    pub cron: Option<&'a str>,
    pub at: Option<&'a str>,
    pub zone: Option<&'a str>,
    pub trial_days: Option<&'a str>,
    pub banking: Option<&'a str>,
    pub from: Option<&'a str>,
    pub count: Option<&'a str>,
}

#[derive(Debug)]
pub struct Case<'a> {
    pub calendar: Calendar<'a>,
    pub from: From,
    pub count: u32,
}

/// Why texts are no case.
#[derive(Debug)]
pub enum Wrong {
    /// The column, and what is wrong with it.
    Cell(&'static str, String),
    /// The config with the holidays cannot be read: no row's fault.
    Config(Failure),
}

impl Wrong {
    pub fn on_the_command_line(self) -> Failure {
        match self {
            Self::Cell(column, text) => Failure::new(Code::Usage, format!("--{}: {text}", column.replace('_', "-"))),
            Self::Config(failure) => failure,
        }
    }
}

/// Reads cases. What many of them share is looked up once.
pub struct Reader<'a> {
    load: LoadHolidays<'a>,
    holidays: OnceCell<Holidays>,
    zones: HashMap<String, Result<TimeZone, String>>,
    schedules: HashMap<String, Result<CronSchedule, NotASchedule>>,
}

impl<'a> Reader<'a> {
    pub fn new(load: LoadHolidays<'a>) -> Self {
        Self { load, holidays: OnceCell::new(), zones: HashMap::new(), schedules: HashMap::new() }
    }

    pub fn read(&mut self, given: &Given<'_>) -> Result<Case<'_>, Wrong> {
        let start = date(cell("start", given.start)?).map_err(|wrong| Wrong::Cell("start", wrong))?;
        let recurrence = self.recurrence(given)?;
        let at = given.at.map(time).transpose().map_err(|wrong| Wrong::Cell("at", wrong))?;
        let zone = self.zone(given.zone.unwrap_or(ZONE)).map_err(|wrong| Wrong::Cell("zone", wrong))?;
        let trial_days = given.trial_days.map_or(Ok(0), number).map_err(|wrong| Wrong::Cell("trial_days", wrong))?;
        let anchor = trial_end(start, trial_days);
        let anchor = anchor.ok_or_else(|| Wrong::Cell("trial_days", "the trial ends after the year 9999".to_owned()))?;
        let banking = given.banking.map_or(Ok(Banking::AsIs), banking).map_err(|wrong| Wrong::Cell("banking", wrong))?;
        let from = given.from.map_or(Ok(From::Number(0)), from).map_err(|wrong| Wrong::Cell("from", wrong))?;
        let count = given.count.map_or(Ok(COUNT), number).map_err(|wrong| Wrong::Cell("count", wrong))?;
        let time = at.or_else(|| recurrence.charge_time()).unwrap_or(AT);
        let holidays = if banking == Banking::AsIs { Holidays::korea() } else { self.holidays().map_err(Wrong::Config)? };
        Ok(Case { calendar: Calendar { recurrence, anchor, time, zone, banking, holidays }, from, count })
    }

    fn recurrence(&mut self, given: &Given<'_>) -> Result<Recurrence, Wrong> {
        let day = given.billing_day.map(str::parse).transpose();
        let day = day.map_err(|wrong: WrongBillingDay| Wrong::Cell("billing_day", wrong.to_string()))?;
        match (given.every, given.cron) {
            (Some(_), Some(_)) => Err(Wrong::Cell("cron", "`every` and `cron` are both given: keep one".to_owned())),
            (None, None) => {
                Err(Wrong::Cell("every", "is missing: an interval such as \"1 month\" (or `cron`, an expression)".to_owned()))
            }
            (None, Some(_)) if day.is_some() => {
                Err(Wrong::Cell("billing_day", "goes with `every`: `cron` names its days itself".to_owned()))
            }
            (None, Some(cron)) => {
                let schedule = self.schedules.entry(cron.to_owned()).or_insert_with(|| cron.parse());
                schedule.clone().map(Recurrence::Cron).map_err(|wrong| Wrong::Cell("cron", wrong.to_string()))
            }
            (Some(every), None) => {
                let every = every.parse().map_err(|wrong: NotAnInterval| Wrong::Cell("every", wrong.to_string()))?;
                Recurrence::interval(every, day).map_err(|wrong| Wrong::Cell("billing_day", wrong.to_string()))
            }
        }
    }

    fn zone(&mut self, name: &str) -> Result<TimeZone, String> {
        if let Some(known) = self.zones.get(name) {
            return known.clone();
        }
        let zone = zone(name);
        self.zones.insert(name.to_owned(), zone.clone());
        zone
    }

    fn holidays(&self) -> Result<&Holidays, Failure> {
        if self.holidays.get().is_none() {
            // a second one cannot be there: nobody else sets it
            let _ = self.holidays.set((self.load)()?);
        }
        Ok(self.holidays.get().unwrap_or(Holidays::korea()))
    }
}

fn cell<'a>(column: &'static str, text: Option<&'a str>) -> Result<&'a str, Wrong> {
    text.ok_or_else(|| Wrong::Cell(column, "is missing".to_owned()))
}

/// `2024-01-31`, and no other form: `20240131` would be a number elsewhere.
fn date(text: &str) -> Result<Date, String> {
    let date = (text.len() == 10).then(|| text.parse().ok()).flatten();
    date.ok_or_else(|| format!("{} is not a date such as 2024-01-31", quoted(text)))
}

fn time(text: &str) -> Result<Time, String> {
    time_of_day(text).ok_or_else(|| format!("{} is not a time of day such as 10:00", quoted(text)))
}

fn number(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or_else(|| format!("{} is not a whole number from 0 to {}", quoted(text), u32::MAX))
}

fn banking(text: &str) -> Result<Banking, String> {
    Banking::from_name(text).ok_or_else(|| format!("{} has to be {}", quoted(text), Banking::NAMES.join(", ")))
}

fn from(text: &str) -> Result<From, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return number(text).map(From::Number);
    }
    date(text).map(From::Date).map_err(|_| format!("{} is neither a date such as 2024-01-31 nor a number", quoted(text)))
}

fn quoted(text: &str) -> String {
    let start: String = text.chars().take(40).collect();
    if start.len() < text.len() { format!("`{start}…`") } else { format!("`{start}`") }
}
