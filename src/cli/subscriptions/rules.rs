//! What a subscription's cells may hold: one set of rules for `import` and `set`. The schema has the same rules; these say
//! what is wrong before anything is written, in words.

use std::collections::HashMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::config::{Settings, closest};
use crate::domain::money::Currency;
use crate::store::desk::columns::{
    ACCOUNT, AMOUNT, CHARGE_TIME, COLUMNS, CURRENCY, CUSTOMER_UID, EXTERNAL_REF, Kind, NAME, NEXT_PLAN, PLAN, TAX_FREE,
    VAT_AMOUNT, ZONE, index,
};

/// What is wrong with a cell, and in which column.
pub type Wrong = (&'static str, String);

/// Checks cells against the config.
pub struct Rules<'a> {
    settings: &'a Settings,
    zones: HashMap<String, bool>,
}

impl<'a> Rules<'a> {
    pub fn new(settings: &'a Settings) -> Self {
        Self { settings, zones: HashMap::new() }
    }

    /// A cell in its canonical form: `9900`, `true`, `2026-12-01`.
    pub fn cell(&mut self, place: usize, text: &str) -> Result<String, String> {
        let column = &COLUMNS[place];
        let shown = || if column.personal { "the value".to_owned() } else { format!("`{}`", short(text)) };
        match column.kind {
            Kind::Int(least, most) => whole_number(place, text, least, most),
            Kind::Flag => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" => Ok("true".to_owned()),
                "false" | "no" | "0" => Ok("false".to_owned()),
                _ => Err(format!("{} is neither true nor false", shown())),
            },
            Kind::Date => date(text).map(|date| date.to_string()),
            Kind::Choice(words) => match words.iter().find(|word| **word == text) {
                Some(word) => Ok((*word).to_owned()),
                None => Err(format!("{} is none of {}", shown(), words.join(", "))),
            },
            Kind::Text(least, most) => {
                let length = text.chars().count();
                if length < least || length > most {
                    let bound = if least == most { "needs" } else { "may have" };
                    return Err(format!("has {length} characters, and {bound} {most}"));
                }
                if text.chars().any(|char| char.is_control() && !"\n\t".contains(char)) {
                    return Err("holds a control character".to_owned());
                }
                if place <= CUSTOMER_UID && text.trim() != text {
                    return Err("begins or ends with a space".to_owned());
                }
                self.word(place, text)?;
                Ok(text.to_owned())
            }
        }
    }

    /// Names that have to be known, and texts with a form of their own.
    fn word(&mut self, place: usize, text: &str) -> Result<(), String> {
        let settings = self.settings;
        match place {
            ACCOUNT if !settings.accounts.contains_key(text) => Err(unknown("account", text, settings.accounts.keys())),
            PLAN | NEXT_PLAN if settings.wrong_plans.contains_key(text) => {
                Err(format!("plan `{text}` of the database is wrong: {}", settings.wrong_plans[text]))
            }
            PLAN | NEXT_PLAN if !settings.plans.contains_key(text) => Err(unknown("plan", text, settings.plans.keys())),
            CURRENCY => text.parse::<Currency>().map(drop).map_err(|wrong| wrong.to_string()),
            ZONE => {
                let known = *self.zones.entry(text.to_owned()).or_insert_with(|| TimeZone::get(text).is_ok());
                if known { Ok(()) } else { Err(format!("there is no time zone `{text}`: write an IANA name such as Asia/Seoul")) }
            }
            CHARGE_TIME => {
                let digits =
                    text.bytes().enumerate().all(|(at, byte)| if at == 2 { byte == b':' } else { byte.is_ascii_digit() });
                let fits = digits && text.parse::<jiff::civil::Time>().is_ok();
                if fits { Ok(()) } else { Err(format!("`{text}` is not a time of day such as 10:00")) }
            }
            _ if Some(place) == index("extra") => match serde_json::from_str::<serde_json::Value>(text) {
                Ok(serde_json::Value::Object(_)) => Ok(()),
                _ => Err("is no JSON object".to_owned()),
            },
            _ if Some(place) == index("bypass") && serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() => {
                Err("is no JSON".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// What cells say together. `given` tells which columns are known here: what is not, the database knows.
    pub fn row(&self, values: &[Option<String>], given: &dyn Fn(usize) -> bool) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        let number = |place: usize| values[place].as_ref().and_then(|text| text.parse::<i64>().ok());
        let Some(plan) = values[PLAN].as_ref().and_then(|name| self.settings.plans.get(name)) else { return wrong };
        let amount = number(AMOUNT).or(plan.amount);
        if given(AMOUNT) && amount.is_none() {
            wrong.push(("amount", format!("is empty, and plan `{}` has none", plan.name)));
        }
        if given(NAME) && values[NAME].is_none() && plan.title.is_none() {
            wrong.push(("name", format!("is empty, and plan `{}` has no title", plan.name)));
        }
        let parts =
            number(TAX_FREE).or(plan.tax_free).unwrap_or(0).saturating_add(number(VAT_AMOUNT).or(plan.vat_amount).unwrap_or(0));
        if let Some(amount) = amount
            && parts > amount
        {
            let place = if values[VAT_AMOUNT].is_some() { "vat_amount" } else { "tax_free" };
            wrong.push((place, format!("tax_free and vat_amount are {parts} together, more than the amount of {amount}")));
        }
        if let Some(next) = values[NEXT_PLAN].as_ref().and_then(|name| self.settings.plans.get(name)) {
            if given(AMOUNT) && number(AMOUNT).is_none() && next.amount.is_none() {
                wrong.push(("next_plan", format!("plan `{}` has no amount, and the subscription has none", next.name)));
            }
            if given(NAME) && values[NAME].is_none() && next.title.is_none() {
                wrong.push(("next_plan", format!("plan `{}` has no title, and the subscription has no name", next.name)));
            }
        }
        let instalments = index("card_quota").and_then(number).unwrap_or(0);
        let currency = values[CURRENCY].as_deref().unwrap_or(plan.currency.code());
        if instalments >= 2 && currency == "KRW" && amount.is_some_and(|amount| amount < 50_000) {
            wrong.push(("card_quota", "instalments are possible from 50,000 KRW".to_owned()));
        }
        wrong
    }

    /// What tells a row from all others; empty texts where a cell is wrong.
    pub fn account_and_ref(values: &[Option<String>]) -> (&str, &str) {
        (values[ACCOUNT].as_deref().unwrap_or_default(), values[EXTERNAL_REF].as_deref().unwrap_or_default())
    }
}

fn whole_number(place: usize, text: &str, least: i64, most: i64) -> Result<String, String> {
    let text = text.trim();
    let number = match text.parse::<i64>() {
        Ok(number) if !text.starts_with('+') => number,
        _ => {
            let decimal = text.contains('.') && text.chars().all(|char| char.is_ascii_digit() || ".-".contains(char));
            let money = [AMOUNT, TAX_FREE, VAT_AMOUNT].contains(&place);
            return Err(match (decimal, money) {
                (true, true) => format!("`{}` has a fraction: write whole minor units (won for KRW, cents for USD)", short(text)),
                _ if money && text.contains(',') => format!("`{}` has a comma: write 9900, not 9,900", short(text)),
                _ => format!("`{}` is no whole number", short(text)),
            });
        }
    };
    if number < least {
        let bound = if least == 1 { "has to be above 0".to_owned() } else { format!("has to be at least {least}") };
        return Err(format!("{number} is too little: it {bound}"));
    }
    if number > most { Err(format!("{number} is too much: at most {most}")) } else { Ok(number.to_string()) }
}

/// A date in the one form that both databases take.
pub fn date(text: &str) -> Result<Date, String> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let form = bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, byte)| if at == 4 || at == 7 { *byte == b'-' } else { byte.is_ascii_digit() });
    if !form {
        return Err(format!("`{}` is no date: write it as 2026-12-01", short(text)));
    }
    text.parse::<Date>().map_err(|_| {
        let year = text[..4].parse::<i16>().unwrap_or_default();
        let month = text[5..7].parse::<i8>().unwrap_or_default();
        match Date::new(year, month, 1) {
            Ok(first) => format!("`{text}` is not in the calendar: that month has {} days", first.days_in_month()),
            Err(_) => format!("`{text}` is not in the calendar"),
        }
    })
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String> + Clone) -> String {
    let meant = closest(name, known.clone().map(String::as_str));
    let rest = match meant {
        Some(meant) => format!(": did you mean `{meant}`?"),
        None => {
            let names: Vec<&str> = known.take(8).map(String::as_str).collect();
            if names.is_empty() { ": there is none yet".to_owned() } else { format!(": there is {}", names.join(", ")) }
        }
    };
    format!("there is no {what} `{}`{rest}", short(name))
}

fn short(text: &str) -> String {
    let start: String = text.chars().take(40).collect();
    if start.len() < text.len() { format!("{start}…") } else { start }
}
