//! `[dunning.NAME]` and `[[declines.rules]]`: as they are written, and what they mean.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::keys;
use super::raw::RawDay;
use super::settings::Wrong;
use super::span::Span;
use crate::domain::classify::{Rule, Rules};
use crate::domain::decline::Class;
use crate::domain::dunning::{Dunning, End, Ladder, MOST_TRIES, Preset};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDunning {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_after: Vec<String>,
    #[serde(default, skip_serializing_if = "RawExponential::is_empty")]
    pub exponential: RawExponential,
    pub hours: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred_days: Vec<RawDay>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub give_up: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<String>,
    pub end: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, RawLadder>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawExponential {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Number>,
}

impl RawExponential {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLadder {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_after: Vec<String>,
    #[serde(default, skip_serializing_if = "RawExponential::is_empty")]
    pub exponential: RawExponential,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDeclines {
    #[serde(default)]
    pub rules: Vec<RawRule>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    #[serde(default)]
    pub class: String,
}

/// Classes whose tries are counted in days.
const BY_DAYS: [Class; 4] = [Class::SoftFunds, Class::SoftContact, Class::Ambiguous, Class::Unknown];

pub(super) fn dunnings_of(raw: &BTreeMap<String, RawDunning>, wrong: &mut Wrong<'_>) -> BTreeMap<String, Arc<Dunning>> {
    raw.iter().map(|(name, raw)| (name.clone(), Arc::new(dunning_of(name, raw, wrong)))).collect()
}

fn dunning_of(name: &str, raw: &RawDunning, wrong: &mut Wrong<'_>) -> Dunning {
    let key = |field: &str| format!("dunning.{name}.{field}");
    let preset = raw.preset.as_deref().and_then(Preset::of);
    let given = [
        ("preset", raw.preset.is_some()),
        ("retry_after", !raw.retry_after.is_empty()),
        ("exponential", !raw.exponential.is_empty()),
    ];
    let given: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(field, _)| *field).collect();
    if let [_, second, ..] = given[..] {
        wrong.say(&key(second), format!("`dunning.{name}` has {}: keep one", given.join(" and ")));
    }
    let default = Dunning::default();
    let ladder = match preset {
        Some(preset) => preset.ladder(),
        None if !raw.exponential.is_empty() => exponential(&key("exponential"), &raw.exponential, wrong),
        None if !raw.retry_after.is_empty() => after(&key("retry_after"), &raw.retry_after, wrong),
        None => default.ladder,
    };
    let give_up = match (&raw.give_up, preset) {
        (Some(text), _) => signed(text),
        (None, Some(preset)) => preset.give_up(),
        (None, None) => default.give_up,
    };
    let last = |ladder: &Ladder| ladder.steps().checked_sub(1).and_then(|last| ladder.offset(last, 0));
    if last(&ladder).is_some_and(|last| last > give_up) {
        let field = given.first().copied().unwrap_or("give_up");
        wrong.say(
            &key(field),
            format!("the last try of `dunning.{name}` would come after `give_up`, when the charge is unpaid already"),
        );
    }
    let mut classes = BTreeMap::new();
    for (class, raw) in &raw.classes {
        let path = |field: &str| key(&format!("classes.{class}.{field}"));
        let (days, waits) = (path("retry_after"), path("exponential"));
        let named = Class::from_name(class).filter(|class| BY_DAYS.contains(class));
        let place = if raw.retry_after.is_empty() { &waits } else { &days };
        let Some(named) = named else {
            let known = BY_DAYS.map(Class::name).join(", ");
            wrong.say(place, format!("`{class}` has no ladder of days: those that have are {known}"));
            continue;
        };
        if !raw.retry_after.is_empty() && !raw.exponential.is_empty() {
            wrong.say(&waits, format!("`{}` has retry_after and exponential: keep one", key(&format!("classes.{class}"))));
        }
        let ladder = if raw.exponential.is_empty() {
            after(&days, &raw.retry_after, wrong)
        } else {
            exponential(&waits, &raw.exponential, wrong)
        };
        if last(&ladder).is_some_and(|last| last > give_up) {
            wrong.say(
                place,
                format!("the last try of class {class} would come after `give_up`, when the charge is unpaid already"),
            );
        }
        classes.insert(named, ladder);
    }
    Dunning {
        ladder,
        classes,
        hours: raw.hours.parse().unwrap_or(default.hours),
        preferred_days: raw.preferred_days.iter().filter_map(|day| day.to_string().parse().ok()).collect(),
        give_up,
        grace: raw.grace.as_deref().map_or(default.grace, signed),
        end: End::from_name(&raw.end).unwrap_or_default(),
    }
}

fn after(key: &str, texts: &[String], wrong: &mut Wrong<'_>) -> Ladder {
    let offsets: Vec<SignedDuration> = texts.iter().map(|text| signed(text)).collect();
    if offsets.windows(2).any(|pair| pair[1] <= pair[0]) {
        wrong.say(key, format!("`{key}` has to rise: each offset is counted from the first decline"));
    }
    if offsets.len() >= usize::from(MOST_TRIES) {
        let text = format!("`{key}` has {} tries after the first, and a period may have {} in all", offsets.len(), MOST_TRIES);
        wrong.say(key, text);
    }
    Ladder::After(offsets)
}

fn exponential(key: &str, raw: &RawExponential, wrong: &mut Wrong<'_>) -> Ladder {
    if raw.initial.is_none() {
        wrong.say(key, format!("`{key}` needs `initial`, the first wait"));
    }
    let factor = raw.factor.as_ref().map_or(2000, thousandths);
    if factor < 1000 {
        wrong.say(&format!("{key}.factor"), format!("`{key}.factor` has to be 1 at least: waits do not shrink"));
    }
    Ladder::Exponential {
        first: raw.initial.as_deref().map_or(SignedDuration::from_hours(24), signed),
        factor,
        most: raw.max.as_deref().map_or(SignedDuration::MAX, signed),
        tries: raw.tries.unwrap_or(5),
        jitter: u16::try_from(raw.jitter.as_ref().map_or(0, thousandths)).unwrap_or(1000),
    }
}

/// The table of keys has let it through.
fn thousandths(number: &Number) -> u32 {
    keys::thousandths(&number.to_string()).unwrap_or(0)
}

fn signed(text: &str) -> SignedDuration {
    text.parse::<Span>().ok().and_then(|span| SignedDuration::try_from(span.0).ok()).unwrap_or(SignedDuration::ZERO)
}

pub(super) fn rules_of(raw: &RawDeclines, wrong: &mut Wrong<'_>) -> Rules {
    let mut rules = Vec::with_capacity(raw.rules.len());
    for (index, raw) in raw.rules.iter().enumerate() {
        let key = format!("declines.rules.{index}");
        if raw.code.is_none() && raw.contains.is_none() {
            let text =
                format!("rule {} of [[declines.rules]] needs a `code` or `contains`: it would fit every refusal", index + 1);
            wrong.say(&key, text);
        }
        // a missing or wrong class has been named already
        if let Some(class) = Class::from_name(&raw.class) {
            let (provider, code, contains) = (raw.provider.clone(), raw.code.clone(), raw.contains.clone());
            rules.push(Rule { provider, code, contains, class });
        }
    }
    Rules(rules)
}
