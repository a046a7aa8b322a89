//! A charge's story: everything that happened to it, in order, as a person reads it.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::{merchant_uid, words};
use crate::cli::context::{Opened, zone_of};
use crate::cli::journal;
use crate::cli::output::{Paint, amount, local};
use crate::domain::charge::ChargeState;
use crate::store::desk::{ChargeRow, ObservationRow, Story};

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Line {
    pub at: Timestamp,
    pub kind: &'static str,
    pub text: String,
    /// A second line; may be empty.
    pub detail: String,
    /// How it ended, for the colour.
    pub tone: Tone,
    /// Puts lines of the same instant in the order in which they come about.
    rank: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Bad,
    Unsure,
}

/// The zone in which the charge's instants are shown: its subscription's, else its plan's.
pub fn zone(opened: &Opened, charge: &ChargeRow) -> TimeZone {
    let own = charge.zone.as_ref().and_then(|name| TimeZone::get(name).ok());
    let plan = || opened.loaded.settings.plans.get(&charge.plan).and_then(|plan| plan.zone.clone());
    own.or_else(plan).unwrap_or_else(|| zone_of(&opened.loaded, &charge.account))
}

/// The whole story as text.
pub fn tell(opened: &Opened, story: &Story, next: &[String], paint: Paint) -> String {
    let charge = &story.charge;
    let zone = zone(opened, charge);
    let mut text = String::new();
    let state = match charge.state {
        ChargeState::Paid => paint.good("PAID"),
        ChargeState::Due if charge.is_ahead(opened.now) => paint.bold("NOT YET DUE"),
        ChargeState::Due => paint.bold("DUE"),
        ChargeState::Doubt => paint.unsure("IN DOUBT"),
        ChargeState::Review => paint.unsure("IN REVIEW"),
        ChargeState::Unpaid => paint.bad("UNPAID"),
        ChargeState::Void => paint.dim("VOID"),
    };
    let total = amount(charge.amount, &charge.currency);
    let _ = writeln!(
        text,
        "{}  {}/{}  {total}  {state}",
        paint.bold(&format!("charge {}", charge.id)),
        charge.account,
        charge.external_ref
    );
    let facts = [
        ("period", format!("{} to {} (plan {})", charge.period_start, charge.period_end, charge.plan)),
        ("due", local(charge.due_at, &zone)),
        ("config", charge.config_version.map_or_else(String::new, |version| version.to_string())),
        ("taxes", taxes(charge)),
        ("id", format!("{} ({})", merchant_uid(opened, charge, charge.id_number), charge.id_mode.replace('_', " "))),
        ("paid", charge.paid_at.map_or_else(String::new, |at| local(at, &zone))),
        ("payment", charge.imp_uid.clone().unwrap_or_default()),
        ("tries", if charge.tries > 0 { format!("{} declined", charge.tries) } else { String::new() }),
    ];
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "  {} {value}", paint.dim(&format!("{name:<8}")));
    }
    let _ = writeln!(text);
    let mut day = String::new();
    for line in lines(opened, story) {
        let stamp = local(line.at, &zone);
        let (date, time) = stamp.split_once(' ').unwrap_or((&stamp, ""));
        if date != day {
            let _ = writeln!(text, "  {}", paint.bold(date));
            date.clone_into(&mut day);
        }
        let told = match line.tone {
            Tone::Plain => line.text.clone(),
            Tone::Good => paint.good(&line.text),
            Tone::Bad => paint.bad(&line.text),
            Tone::Unsure => paint.unsure(&line.text),
        };
        let clock = time.get(..8).unwrap_or(time);
        let _ = writeln!(text, "    {}  {:<8}  {told}", paint.dim(clock), line.kind);
        for detail in line.detail.lines() {
            let _ = writeln!(text, "                        {}", paint.dim(detail));
        }
    }
    let _ = writeln!(text, "\n  {}", paint.bold("What happens next"));
    for sentence in next {
        let _ = writeln!(text, "    {sentence}");
    }
    let near: Vec<String> = story
        .neighbours
        .iter()
        .filter(|near| near.id != charge.id)
        .map(|near| format!("{} {} (charge {})", near.period_start, near.state.name(), near.id))
        .collect();
    if !near.is_empty() {
        let _ = writeln!(text, "\n  {} {}", paint.dim("other periods:"), near.join(", "));
    }
    text
}

fn taxes(charge: &ChargeRow) -> String {
    let part = |name: &str, minor: Option<i64>| minor.map(|minor| format!("{name} {}", amount(minor, &charge.currency)));
    let parts: Vec<String> = [part("tax free", charge.tax_free), part("VAT", charge.vat_amount)].into_iter().flatten().collect();
    parts.join(", ")
}

/// Everything that happened, oldest first.
pub fn lines(opened: &Opened, story: &Story) -> Vec<Line> {
    let charge = &story.charge;
    let mut lines = Vec::new();
    let mut add = |at, rank, kind, tone, text: String, detail: String| lines.push(Line { at, kind, text, detail, tone, rank });
    let falls = if charge.is_ahead(opened.now) { "will fall" } else { "falls" };
    add(charge.due_at, 0, "due", Tone::Plain, format!("the charge for {} {falls} due", charge.period_start), String::new());
    for send in &story.sends {
        let attempt = story.attempts.iter().find(|attempt| attempt.id == send.attempt);
        let uid = attempt.map_or_else(String::new, |attempt| merchant_uid(opened, charge, attempt.id_number));
        let number = attempt.map_or(0, |attempt| attempt.number);
        let earlier = story.sends.iter().filter(|other| other.attempt == send.attempt && other.id < send.id).count();
        let again = if earlier > 0 { format!(", send {}", earlier + 1) } else { String::new() };
        let customer = attempt.map_or("", |attempt| attempt.customer_uid.as_str());
        let tier = send.tier.as_ref().map_or_else(String::new, |tier| format!(" tier {tier}"));
        let detail = format!("id {uid}  customer_uid {customer}\nto {}{tier}", send.base_url.as_deref().unwrap_or("?"));
        add(
            send.begun_at,
            1,
            "send",
            Tone::Plain,
            format!("attempt {number}{again}: asked for {}", amount(charge.amount, &charge.currency)),
            detail,
        );
        let (tone, text) = match send.state.as_str() {
            "open" => (Tone::Unsure, "the send has no proven end yet"),
            "not_sent" => (Tone::Plain, "the send is proven never to have left"),
            "absent" => (Tone::Plain, "the send is proven lost: the gateway shows nothing of it"),
            "found" => (Tone::Plain, "the send's end was found by a look-up"),
            _ => (Tone::Plain, "the send ended with its own answer"),
        };
        match send.ended_at {
            Some(ended_at) => add(ended_at, 3, "send", tone, text.to_owned(), String::new()),
            // after everything that is known so far
            None => {
                let since = format!("since {}", local(send.begun_at, &zone(opened, charge)));
                add(newest(story).max(send.begun_at), 9, "send", tone, text.to_owned(), since);
            }
        }
    }
    for seen in &story.observations {
        let (tone, detail) = told(seen);
        let rule = seen.rule.as_ref().map_or_else(|| "kept, and nothing changed".to_owned(), |rule| format!("decided: {rule}"));
        let took = seen.at.duration_since(seen.began_at).as_millis();
        let took = if took > 0 { format!(" ({took} ms)") } else { String::new() };
        let text = format!("{}{took}: {detail}", words::observation(&seen.source));
        add(seen.at, 2, words::source(&seen.source), tone, text, rule);
    }
    for event in &story.events {
        let delivery = |delivery: &crate::store::desk::DeliveryRow| {
            let error = delivery.last_error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
            let tries = if delivery.tries > 1 { format!(" after {} tries", delivery.tries) } else { String::new() };
            match delivery.state.as_str() {
                "delivered" => format!("delivered to {}{tries}", delivery.endpoint),
                "failed" => format!("given up for {}{tries}{error}", delivery.endpoint),
                _ => format!("pending for {}{tries}{error}", delivery.endpoint),
            }
        };
        let deliveries: Vec<String> = event.deliveries.iter().map(delivery).collect();
        let failed = event.deliveries.iter().any(|delivery| delivery.state == "failed");
        let tone = if failed { Tone::Bad } else { Tone::Plain };
        add(event.at, 4, "event", tone, format!("{} ({})", event.kind, event.id), deliveries.join("\n"));
    }
    for incident in &story.incidents {
        add(incident.opened_at, 5, "incident", Tone::Bad, format!("{}: {}", incident.kind, incident.detail), String::new());
        if let Some(closed_at) = incident.closed_at {
            add(closed_at, 5, "incident", Tone::Plain, format!("{} closed", incident.kind), String::new());
        }
    }
    for entry in &story.journal {
        add(
            entry.at,
            6,
            "operator",
            Tone::Plain,
            format!("{}: {} (\"{}\")", entry.who, entry.action, entry.reason),
            journal::detail(entry),
        );
    }
    lines.sort_by_key(|line| (line.at, line.rank));
    lines
}

/// The newest instant in a story.
fn newest(story: &Story) -> Timestamp {
    let seen = story.observations.iter().map(|seen| seen.at);
    let others = story.events.iter().map(|event| event.at).chain(story.incidents.iter().map(|incident| incident.opened_at));
    let journal = story.journal.iter().map(|entry| entry.at);
    seen.chain(others).chain(journal).max().unwrap_or(story.charge.due_at)
}

/// What an observation says, in short.
fn told(seen: &ObservationRow) -> (Tone, String) {
    let detail = &seen.detail;
    let tone = match detail.to_string() {
        text if text.contains("\"paid\"") => Tone::Good,
        text if text.contains("\"failed\"") => Tone::Bad,
        text if text.contains("\"ready\"") || text.contains("doubt") => Tone::Unsure,
        _ => Tone::Plain,
    };
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "nothing".to_owned(),
        other => other.to_string(),
    };
    let Value::Object(fields) = detail else { return (tone, plain(detail)) };
    let fields = fields.iter().filter(|(_, value)| !value.is_null());
    let parts: Vec<String> = fields.map(|(name, value)| format!("{name} {}", plain(value))).collect();
    (tone, if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") })
}

/// The parts of the story for machines.
pub fn parts(story: &Story) -> Map<String, Value> {
    let sends_of = |attempt: i64| {
        let sends = story.sends.iter().filter(move |send| send.attempt == attempt);
        let send = sends.map(|send| {
            json!({
                "id": send.id, "state": send.state, "begun_at": send.begun_at, "ended_at": send.ended_at,
                "body_sha256": send.body_hash, "base_url": send.base_url, "tier": send.tier,
            })
        });
        send.collect::<Vec<_>>()
    };
    let attempts = story.attempts.iter().map(|attempt| {
        json!({
            "id": attempt.id, "number": attempt.number, "id_number": attempt.id_number, "customer_uid": attempt.customer_uid,
            "state": attempt.state, "hint": attempt.hint, "resends": attempt.resends, "imp_uid": attempt.imp_uid,
            "sends": sends_of(attempt.id),
        })
    });
    let observations = story.observations.iter().map(|seen| {
        json!({
            "id": seen.id, "send": seen.send, "source": seen.source, "began_at": seen.began_at, "at": seen.at,
            "detail": seen.detail, "rule": seen.rule,
        })
    });
    let events = story.events.iter().map(|event| {
        let deliveries = event.deliveries.iter().map(|delivery| {
            json!({
                "endpoint": delivery.endpoint, "state": delivery.state, "tries": delivery.tries, "next_at": delivery.next_at,
                "last_error": delivery.last_error, "delivered_at": delivery.delivered_at,
            })
        });
        json!({
            "seq": event.seq, "id": event.id, "type": event.kind, "at": event.at, "data": event.data,
            "deliveries": deliveries.collect::<Vec<_>>(),
        })
    });
    let incidents = story.incidents.iter().map(|incident| {
        json!({
            "id": incident.id, "kind": incident.kind, "detail": incident.detail, "opened_at": incident.opened_at,
            "closed_at": incident.closed_at,
        })
    });
    let entries = story.journal.iter().map(|entry| {
        json!({
            "id": entry.id, "at": entry.at, "who": entry.who, "action": entry.action, "subject": entry.subject,
            "reason": entry.reason, "detail": entry.detail,
        })
    });
    let parts: [(&str, Vec<Value>); 5] = [
        ("attempts", attempts.collect()),
        ("observations", observations.collect()),
        ("events", events.collect()),
        ("incidents", incidents.collect()),
        ("journal", entries.collect()),
    ];
    parts.into_iter().map(|(name, list)| (name.to_owned(), Value::Array(list))).collect()
}
