//! What was reached: each fault that was played, each meaning of an answer, each rule that decided.

use std::collections::BTreeMap;
use std::sync::Mutex;

use rebilld::domain::decline::Class;
use rebilld::domain::dunning::KeyStop;
use rebilld::domain::outcome::{DoubtCause, Mismatch, NotSent, Outcome};
use rebilld::ports::gateway::Answer;
use rebilld::ports::store::{Begun, Entry, NotBegun, Recorded};

use crate::faults::Fault;

/// Counts, by name.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<&'static str, u64>>);

pub type Counts = BTreeMap<String, u64>;

impl Tally {
    pub fn count(&self, what: &'static str) {
        *self.0.lock().unwrap().entry(what).or_default() += 1;
    }

    pub fn counts(&self) -> Counts {
        self.0.lock().unwrap().iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    /// What an answer was taken for.
    pub fn answered(&self, fault: Fault, answer: &Answer) {
        self.count(match &answer.outcome {
            Outcome::Paid(_) => "answer: paid",
            Outcome::PaidWrong(_, Mismatch::Amount) if fault == Fault::WrongCurrency => "answer: paid, in another currency",
            Outcome::PaidWrong(_, Mismatch::Amount) => "answer: paid, another amount",
            Outcome::PaidWrong(..) => "answer: paid, by another card",
            Outcome::Declined(_, class) => match class {
                Class::HardCard => "answer: declined, HARD_CARD",
                Class::SoftFunds => "answer: declined, SOFT_FUNDS",
                Class::SoftContact => "answer: declined, SOFT_CONTACT",
                Class::Transient => "answer: declined, TRANSIENT",
                Class::Request => "answer: declined, REQUEST",
                Class::Unknown => "answer: declined, UNKNOWN",
                Class::Ambiguous | Class::Merchant => "answer: declined, otherwise",
            },
            Outcome::Refused { key: true, .. } => "answer: refused, the card is not known",
            Outcome::Refused { key: false, .. } => "answer: refused, the request is wrong",
            Outcome::NotSent(NotSent::Unreachable(_)) => "answer: none, nothing left",
            Outcome::NotSent(NotSent::Unauthorized { .. }) => "answer: 401",
            Outcome::NotSent(NotSent::Gate(_)) => "answer: none, the gate was closed",
            Outcome::Doubt { cause, .. } => match (cause, fault) {
                (DoubtCause::AmbiguousDecline, _) => "answer: failed, with an ambiguous text",
                (DoubtCause::Pending, Fault::Ready) => "answer: ready",
                (DoubtCause::Pending, _) => "answer: a status that is not known",
                (DoubtCause::Cancelled, _) => "answer: cancelled",
                (DoubtCause::Code(class), _) if class.is_card_or_funds() => "answer: a code, about the card or the money on it",
                (DoubtCause::Code(Class::Merchant), _) => "answer: a code, about the merchant",
                (DoubtCause::Code(_), _) => "answer: a code, about something else",
                (DoubtCause::Overload, _) => "answer: 429 or 5xx",
                (DoubtCause::Transport, Fault::LostBefore | Fault::LostAfter) => "answer: none, reset",
                (DoubtCause::Transport, _) => "answer: none, too slow",
                (DoubtCause::Nonsense, Fault::Foreign) => "answer: another merchant_uid",
                (DoubtCause::Nonsense, Fault::Malformed) => "answer: malformed",
                (DoubtCause::Nonsense, Fault::CutOff) => "answer: cut off",
                (DoubtCause::Nonsense, Fault::TooLarge) => "answer: too large",
                (DoubtCause::Nonsense, Fault::OddStatus) => "answer: another 3xx or 4xx",
                (DoubtCause::Nonsense, _) => "answer: makes no sense otherwise",
            },
        });
    }

    /// What W2 made of intents.
    pub fn begun(&self, begun: &Begun) {
        for attempt in &begun.attempts {
            self.count(match attempt {
                Ok(_) => "W2: begun",
                Err(NotBegun::ClaimLost) => "W2: the claim is lost",
                Err(NotBegun::PaidElsewhere) => "W2: paid under another id",
                Err(NotBegun::Unresolved) => "W2: unresolved",
                Err(NotBegun::Killed) => "W2: the kill switch is on",
                Err(NotBegun::Held) => "W2: on hold",
                Err(NotBegun::Paused) => "W2: the account is paused",
                Err(NotBegun::Unarmed) => "W2: not armed",
                Err(NotBegun::OverBudget) => "W2: the budget is used up",
                Err(NotBegun::Fuse { .. }) => "W2: the fuse",
                Err(NotBegun::IdTaken) => "W2: the id is taken",
                Err(NotBegun::CardStopped { stop, .. }) => match stop {
                    KeyStop::Spacing => "W2: the card was asked just now",
                    KeyStop::Day => "W2: the card was asked today",
                    KeyStop::Month => "W2: the card was declined too often",
                    KeyStop::Transient => "W2: outages refused the card too often",
                    KeyStop::Refused => "W2: the card was refused for good",
                    KeyStop::Booked => "W2: the card is booked elsewhere",
                },
            });
        }
    }

    /// What was decided and written, and what was not.
    pub fn recorded(&self, entries: &[Entry], results: &[Recorded]) {
        for (entry, result) in entries.iter().zip(results) {
            let Some(decision) = &entry.decision else { continue };
            match result {
                Recorded::Written => self.count(decision.rule),
                Recorded::FenceLost => self.count("W3: the fence is lost"),
                Recorded::ImpUidTaken => self.count("W3: the payment belongs to another attempt"),
                Recorded::Refused => self.count("W3: refused by the schema"),
            }
            if *result == Recorded::Written {
                // R7: the next id, a day after what only look-ups ended
                if decision.rule.starts_with("R4") && decision.charge.next_id_from().is_some() {
                    self.count("R7 the next id a day later");
                }
                decision.events.iter().for_each(|event| self.count(event.kind.name()));
                // what an operator rules is R8
                let is_late = decision.events.iter().any(|event| event.data["late"] == true);
                if is_late && !decision.rule.starts_with("R8") {
                    self.count("R6 a late payment overrides");
                }
            }
        }
    }
}

pub fn add(into: &mut Counts, counts: &Counts) {
    for (name, count) in counts {
        *into.entry(name.clone()).or_default() += count;
    }
}
