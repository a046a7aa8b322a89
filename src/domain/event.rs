//! Events: what the operator's own system is told, committed together with the state that they tell of.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::attempt::{base32, digest};
use super::charge::Charge;
use super::decline::Class;

/// The version of the event schemas in `docs/events/`. A field may be added within a version, never removed.
pub const SCHEMA_VERSION: u32 = 1;

/// An event as it waits in the outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Derived from facts, so that a consumer recognises a repeat. Of payments these outlive the database; what a restored one comes upon
    /// anew (a review, a stop) is news to it.
    pub id: String,
    pub kind: EventKind,
    /// The `data` of the delivered JSON.
    pub data: Value,
}

/// What an event tells. The names are the delivered `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    ChargePaid,
    ChargeDeclined,
    ChargeUnpaid,
    ChargeVoid,
    ChargeReview,
    ChargeDoubtOverdue,
    ChargeRefunded,
    IncidentOpened,
    SubscriptionProblem,
    SubscriptionChanged,
    SubscriptionEnded,
    SubscriptionSkipped,
    SubscriptionStateChanged,
    AccountPaused,
    AccountFuseBlown,
}

impl EventKind {
    pub const ALL: [Self; 15] = [
        Self::ChargePaid,
        Self::ChargeDeclined,
        Self::ChargeUnpaid,
        Self::ChargeVoid,
        Self::ChargeReview,
        Self::ChargeDoubtOverdue,
        Self::ChargeRefunded,
        Self::IncidentOpened,
        Self::SubscriptionProblem,
        Self::SubscriptionChanged,
        Self::SubscriptionEnded,
        Self::SubscriptionSkipped,
        Self::SubscriptionStateChanged,
        Self::AccountPaused,
        Self::AccountFuseBlown,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::ChargePaid => "charge.paid",
            Self::ChargeDeclined => "charge.declined",
            Self::ChargeUnpaid => "charge.unpaid",
            Self::ChargeVoid => "charge.void",
            Self::ChargeReview => "charge.review",
            Self::ChargeDoubtOverdue => "charge.doubt_overdue",
            Self::ChargeRefunded => "charge.refunded",
            Self::IncidentOpened => "incident.opened",
            Self::SubscriptionProblem => "subscription.problem",
            Self::SubscriptionChanged => "subscription.changed",
            Self::SubscriptionEnded => "subscription.ended",
            Self::SubscriptionSkipped => "subscription.skipped",
            Self::SubscriptionStateChanged => "subscription.state_changed",
            Self::AccountPaused => "account.paused",
            Self::AccountFuseBlown => "account.fuse_blown",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Event {
    /// An event whose id follows from `facts`: the same facts give the same id.
    pub fn new(kind: EventKind, facts: &[&str], data: Value) -> Self {
        let mut parts = vec!["event/1", kind.name()];
        parts.extend_from_slice(facts);
        Self { id: format!("evt_{}", base32(&digest(&parts), 26)), kind, data }
    }

    /// An event about a charge. `fact` tells apart the events of one kind of one charge; `extra` joins the common fields.
    pub fn of_charge(kind: EventKind, charge: &Charge, fact: &str, extra: Value) -> Self {
        let mut data = json!({
            "charge": charge.base.as_str(),
            "account": charge.account_name,
            "external_ref": charge.external_ref,
            "period_start": charge.period.start,
            "period_end": charge.period.end,
            "amount": charge.amount.minor(),
            "currency": charge.amount.currency().code(),
            "state": charge.state.name(),
            "tries": charge.tries,
        });
        if let (Value::Object(data), Value::Object(extra)) = (&mut data, extra) {
            data.extend(extra);
        }
        Self::new(kind, &[charge.base.as_str(), fact], data)
    }
}

/// The fields that tell a payer and an operator why a try failed.
pub fn decline_fields(class: Class, text: &str, next_try_at: Option<Timestamp>) -> Value {
    let (ko, en) = class.payer_message(next_try_at.is_some());
    json!({
        "class": class.name(),
        "gateway_text": text,
        "payer_message": { "ko": ko, "en": en },
        "next_try_at": next_try_at,
    })
}

/// The JSON that is delivered.
pub fn envelope(id: &str, kind: &str, at: Timestamp, data: &Value) -> Value {
    json!({ "id": id, "type": kind, "version": SCHEMA_VERSION, "timestamp": at, "data": data })
}
