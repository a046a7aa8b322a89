//! `rebilld declines`: how a provider's refusal is read, and what follows from it.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::context::Context;
use super::failure::Failure;
use super::output::{Field, Listing, Output, field, print_one};
use crate::config::Settings;
use crate::domain::classify::{By, codes, words};
use crate::domain::decline::Class;
use crate::domain::dunning::{Dunning, End, KEY_WINDOW, Ladder, MOST_PER_KEY, MOST_TRANSIENT, MOST_TRIES, transient_wait};

#[derive(Debug, Subcommand)]
pub enum Declines {
    /// Reads one refusal: its class, the rule that decided, what happens next, what to do, what the payer may read
    Explain(Explain),
    /// Lists how refusals are read, in order: the operator's rules, known codes, words of the text
    List,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// What the provider said, such as "[1254][실시간빌링실패|잔액부족]": `fail_reason` of a payment
    text: String,
    /// PortOne's `pg_provider`, such as html5_inicis, kcp_billing, tosspayments, nice_v2; without it codes are read as INICIS's
    #[arg(long, value_name = "PG_PROVIDER")]
    provider: Option<String>,
    /// Reads it for a plan's ladder instead of the default one
    #[arg(long, value_name = "PLAN")]
    plan: Option<String>,
}

impl Declines {
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = context.load()?;
        match self {
            Self::Explain(explain) => explain.run(&loaded.settings, context.output),
            Self::List => list(&loaded.settings).print(context.output),
        }
    }
}

impl Explain {
    fn run(&self, settings: &Settings, output: Output) -> Result<(), Failure> {
        let dunnings = settings.dunnings();
        let dunning = match &self.plan {
            None => dunnings.default,
            Some(plan) => match dunnings.plans.get(plan) {
                Some(of_plan) => of_plan.dunning.clone(),
                None => return Err(Failure::data(format!("there is no plan `{plan}` in the config"))),
            },
        };
        let provider = self.provider.as_deref().map(str::trim).filter(|provider| !provider.is_empty());
        let reading = settings.declines.read(provider, &self.text);
        let class = reading.class;
        let (korean, english) = class.payer_message(tries_again(class));
        let optional = |value: Option<&str>| value.map_or(Value::Null, Value::from);
        let row = vec![
            field("class", class.name()),
            field("rule", reading.by.to_string()),
            field("matched_by", matched_by(&reading.by)),
            field("code", optional(reading.code)),
            field("provider", optional(provider)),
            field("next", next(class, &dunning)),
            field("uses_up_a_try", class.uses_up_a_try()),
            field("schedule", schedule(class, &dunning)).shown(shown_schedule(class, &dunning)),
            field("caps", caps(class)),
            field("remedy", class.remedy()),
            field("payer_ko", korean),
            field("payer_en", english),
            field("text", self.text.as_str()).hidden(),
        ];
        print_one(&row, output)
    }
}

fn matched_by(by: &By) -> &'static str {
    match by {
        By::Operator { .. } => "config",
        By::Code(_) => "code",
        By::Text(_) => "text",
        By::Nothing => "none",
    }
}

/// Whether another try follows by itself.
fn tries_again(class: Class) -> bool {
    !matches!(class, Class::HardCard | Class::Request)
}

fn next(class: Class, dunning: &Dunning) -> String {
    let mut text = class.next_step().to_owned();
    let days = dunning.give_up.as_hours() / 24;
    let end = match dunning.end {
        End::Keep => "the subscription goes on",
        End::Pause => "the subscription is paused",
        End::Cancel => "the subscription is cancelled",
    };
    if !matches!(class, Class::Merchant | Class::Request) {
        let _ = write!(text, "; unpaid after {days} days at the latest, and {end}");
    }
    text
}

/// Offsets from the first decline at which it is tried again, or waits from each refusal to the next try, in seconds.
fn steps(class: Class, dunning: &Dunning) -> Vec<SignedDuration> {
    let of = |ladder: &Ladder, most: usize| (0..ladder.steps()).take(most).filter_map(|step| ladder.offset(step, 0)).collect();
    match (class, dunning.classes.get(&class)) {
        (Class::HardCard | Class::Merchant | Class::Request, _) => Vec::new(),
        // without jitter: the middle of what it may be
        (Class::Transient, _) => (1..).map_while(|count| transient_wait(count, 0).map(|_| minutes(10 << (count - 1)))).collect(),
        (_, Some(own)) => of(own, usize::MAX),
        (Class::Unknown | Class::Ambiguous, None) => of(&dunning.ladder, 1),
        (Class::SoftContact, None) => of(&dunning.ladder, 2),
        (Class::SoftFunds, None) => of(&dunning.ladder, usize::MAX),
    }
}

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

fn schedule(class: Class, dunning: &Dunning) -> Value {
    json!(steps(class, dunning).iter().map(|step| step.as_secs()).collect::<Vec<_>>())
}

fn shown_schedule(class: Class, dunning: &Dunning) -> String {
    let words = |step: &SignedDuration| match step.as_mins() {
        minutes if minutes % 1440 == 0 => format!("{} d", minutes / 1440),
        minutes if minutes % 60 == 0 => format!("{} h", minutes / 60),
        minutes => format!("{minutes} min"),
    };
    let steps: Vec<String> = steps(class, dunning).iter().map(words).collect();
    match (class, steps.is_empty()) {
        (_, true) => "none by itself".to_owned(),
        (Class::Transient, _) => format!("waits of {}, a fifth more or less, then the ladder", steps.join(", ")),
        _ => format!("{} after the first decline, {}", steps.join(", "), dunning.hours),
    }
}

fn caps(class: Class) -> String {
    let days = KEY_WINDOW.as_hours() / 24;
    let declined = format!(
        "{MOST_TRIES} declined tries a period, {MOST_PER_KEY} a billing key in {days} days, 1 a billing key and charge in 24 h"
    );
    match class {
        Class::Transient => format!("{MOST_TRANSIENT} a billing key in 24 h; on the ladder {declined}"),
        Class::Merchant => format!("{MOST_TRANSIENT} a billing key in 24 h; the account is paused"),
        Class::HardCard | Class::Request => "none: not tried by itself".to_owned(),
        _ => declined,
    }
}

fn list(settings: &Settings) -> Listing {
    let row = |by: &str, provider: &str, matches: String, class: Class, text: &str| -> Vec<Field> {
        vec![
            field("by", by),
            field("provider", provider),
            field("matches", matches),
            field("class", class.name()),
            field("text", text),
        ]
    };
    let of_operator = settings.declines.0.iter().map(|rule| {
        let parts = [rule.code.clone(), rule.contains.as_ref().map(|part| format!("\"{part}\""))];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        row("config", rule.provider.as_deref().unwrap_or_default(), parts.join(" and "), rule.class, "")
    });
    let known = codes().iter().map(|code| row("code", "inicis", code.spellings().join(" "), code.class, code.text));
    let of_text = words().iter().map(|word| {
        let provider = word.provider.map_or("", |provider| provider.name());
        row("text", provider, format!("\"{}\"", word.word), word.class, "")
    });
    Listing { rows: of_operator.chain(known).chain(of_text).collect(), none: "" }
}
