//! Single values, read as a key wants them.

use jiff::civil::Time;
use jiff::tz::TimeZone;

use crate::domain::window::{Blackout, NotHours};

/// A decimal number in thousandths; `None` if it is none, is negative, or has more than three decimals.
pub fn thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let scale = [1000, 100, 10, 1].get(part.len())?;
    Some(whole.parse::<u32>().ok()?.checked_mul(1000)? + part.parse::<u32>().ok()? * scale)
}

/// The beginning of a value, for a message.
pub fn shown(value: &str) -> String {
    let start: String = value.chars().take(40).collect();
    if start.len() < value.len() { format!("{start}…") } else { start }
}

pub fn time_of_day(text: &str) -> Option<Time> {
    let bytes = text.as_bytes();
    // one form only, so that config and database agree
    (bytes.len() == 5 && bytes[2] == b':').then(|| text.parse().ok()).flatten()
}

/// The zone of that name, or what is wrong with it.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| {
        let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        let meant = crate::config::suggest::closest(name, names.iter().map(String::as_str));
        let meant = meant.map_or_else(String::new, |meant| format!(": did you mean \"{meant}\"?"));
        format!("there is no time zone `{}`{meant}", shown(name))
    })
}

/// `23:30-00:40 Asia/Seoul, 03:00-04:00 Europe/London`, or what is wrong with it.
pub fn blackouts(text: &str) -> Result<Vec<Blackout>, String> {
    let spans = text.split(',').map(str::trim).filter(|span| !span.is_empty());
    spans
        .map(|span| {
            let (hours, name) =
                span.split_once(' ').ok_or_else(|| format!("`{}` has no zone: write \"23:30-00:40 Asia/Seoul\"", shown(span)))?;
            let hours = hours.parse().map_err(|wrong: NotHours| wrong.to_string())?;
            Ok(Blackout { hours, zone: zone(name.trim())? })
        })
        .collect()
}

/// What is wrong with a URL that secrets or payments go to. The text never repeats it: a path may be a secret.
pub(super) fn http_url(value: &str) -> Option<String> {
    let (secure, rest) = match (value.strip_prefix("https://"), value.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Some("has to begin with `https://`".into()),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Some("must not hold a user name or password".into());
    }
    if authority.is_empty() || value.chars().any(|char| char.is_whitespace() || char.is_control()) {
        return Some("is no URL".into());
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    (!secure && !loopback).then(|| "has to begin with `https://`: `http://` is for loopback only".into())
}
