//! What is sent, as JSON and as a few lines for people.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AlarmKind, Condition, Severity};
use crate::domain::attempt::{base32, digest};

/// The version of the JSON. A field may be added within a version, never removed.
const VERSION: u32 = 1;

/// Which word of an alarm it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Turn {
    Raised,
    Repeated,
    Resolved,
}

impl Turn {
    pub fn name(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Repeated => "repeated",
            Self::Resolved => "resolved",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Raised, Self::Repeated, Self::Resolved].into_iter().find(|turn| turn.name() == name)
    }
}

/// One message to a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// The same for each try to send it, so that a receiver recognises a repeat.
    pub id: String,
    /// `None`: a test of the channel.
    pub kind: Option<AlarmKind>,
    pub turn: Turn,
    pub severity: Severity,
    /// Empty: it is no single account's.
    pub account: String,
    pub what: String,
    pub since: Timestamp,
    pub at: Timestamp,
    pub concerns: Value,
    pub next_step: String,
}

impl Alarm {
    pub fn of(condition: &Condition, since: Timestamp, at: Timestamp, turn: Turn) -> Self {
        let key = &condition.key;
        Self {
            id: id(&[key.kind.name(), &key.account, &key.subject, turn.name(), &at.to_string()]),
            kind: Some(key.kind),
            turn,
            severity: key.kind.severity(),
            account: key.account.clone(),
            what: condition.what.clone(),
            since,
            at,
            concerns: condition.concerns.clone(),
            next_step: condition.next_step.clone(),
        }
    }

    /// For `rebilld alarms test`.
    pub fn test(at: Timestamp) -> Self {
        Self {
            id: id(&["test", &at.to_string()]),
            kind: None,
            turn: Turn::Raised,
            severity: Severity::Warning,
            account: String::new(),
            what: "This is a test: nothing is wrong.".to_owned(),
            since: at,
            at,
            concerns: json!({}),
            next_step: "rebilld alarms list".to_owned(),
        }
    }

    pub fn kind_name(&self) -> &'static str {
        self.kind.map_or("test", AlarmKind::name)
    }

    pub fn json(&self) -> Value {
        json!({
            "version": VERSION,
            "id": self.id,
            "kind": self.kind_name(),
            "turn": self.turn.name(),
            "severity": self.severity.name(),
            "account": Some(&self.account).filter(|account| !account.is_empty()),
            "what": self.what,
            "since": self.since,
            "at": self.at,
            "concerns": self.concerns,
            "next_step": self.next_step,
            "runbook": self.kind.map(AlarmKind::runbook),
        })
    }

    /// What Slack and those that understand its JSON show.
    pub fn slack(&self) -> Value {
        let whose = if self.account.is_empty() { String::new() } else { format!(" ({})", self.account) };
        let head = match self.turn {
            Turn::Resolved => format!("*resolved* {}{whose}", self.kind_name()),
            Turn::Raised => format!("*{}* {}{whose}", self.severity.name(), self.kind_name()),
            Turn::Repeated => format!("*{}, still* {}{whose}", self.severity.name(), self.kind_name()),
        };
        let mut lines = vec![head, self.what.clone(), format!("since {}", self.since)];
        if self.turn != Turn::Resolved {
            lines.push(format!("next: `{}`", self.next_step));
            lines.extend(self.kind.map(AlarmKind::runbook));
        }
        let text = lines.join("\n").replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        json!({ "text": text })
    }
}

fn id(facts: &[&str]) -> String {
    let parts: Vec<&str> = ["alarm/1"].into_iter().chain(facts.iter().copied()).collect();
    format!("alm_{}", base32(&digest(&parts), 26))
}
