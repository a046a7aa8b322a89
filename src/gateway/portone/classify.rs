//! What an answer to a charge means: docs/protocol.md's table, in its order. Whatever is not in it is doubt.

use serde_json::{Map, Value, json};

use super::client::{Failure, Reply, is_overload};
use super::wire::{self, Envelope, Nonsense};
use crate::domain::attempt::MerchantUid;
use crate::domain::classify::Rules;
use crate::domain::decline::Class;
use crate::domain::money::Money;
use crate::domain::outcome::{DoubtCause, NotSent, Outcome, Record, RecordStatus};
use crate::ports::gateway::Answer;
use crate::ports::guard::{self, Guard};

/// Refusals that PortOne makes before it asks the provider, by their exact text; the flag says whether the billing key is at
/// fault. Seen in the tests of official clients. Its number is no help: the same refusal came as 1 and as -1.
///
/// No text of a refused request is published for this call, so there is none here: those are in doubt until a look-up.
const REFUSALS: &[(&str, bool)] = &[("등록되지 않은 구매자입니다", true), ("등록된 고객정보가 없습니다", true)];

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub merchant_uid: &'a MerchantUid,
    pub customer_uid: &'a str,
    pub amount: Money,
    /// The generation of the token that was used.
    pub token: u64,
    /// How refusals are read.
    pub declines: &'a Rules,
}

/// Judges what came back of a POST.
pub(super) fn answer(asked: &Asked<'_>, came: Result<Reply, Failure>) -> Answer {
    let reply = match came {
        Ok(reply) => reply,
        Err(failure) => return broken(failure),
    };
    let mut kept = Map::from_iter([("http_status".to_owned(), json!(reply.status))]);
    let outcome = judge(asked, &reply, &mut kept);
    Answer { outcome, kept: Value::Object(kept) }
}

/// No token is left since `ready`: another charge's 401 took it away. Nothing was sent.
pub(super) fn without_token(generation: u64) -> Answer {
    Answer {
        outcome: Outcome::NotSent(NotSent::Unauthorized { token: generation }),
        kept: json!({ "not_sent": "the token was refused before this charge was sent" }),
    }
}

fn broken(failure: Failure) -> Answer {
    match failure {
        Failure::NotSent(why) => {
            let kept = json!({ "not_sent": why });
            Answer { outcome: Outcome::NotSent(NotSent::Unreachable(why)), kept }
        }
        Failure::Broken { status, why } => {
            let overload = status.is_some_and(is_overload);
            let cause = if overload { DoubtCause::Overload } else { DoubtCause::Transport };
            let kept = json!({ "http_status": status, "broken": why });
            Answer { outcome: doubt(cause, why, None), kept }
        }
        Failure::TooLarge { status } => {
            let cause = if is_overload(status) { DoubtCause::Overload } else { DoubtCause::Nonsense };
            let why = "the answer is too large".to_owned();
            let kept = json!({ "http_status": status, "broken": why });
            Answer { outcome: doubt(cause, why, None), kept }
        }
    }
}

fn doubt(cause: DoubtCause, detail: impl Into<String>, record: Option<Record>) -> Outcome {
    Outcome::Doubt { cause, detail: detail.into(), record }
}

fn judge(asked: &Asked<'_>, reply: &Reply, kept: &mut Map<String, Value>) -> Outcome {
    let envelope = Envelope::read(&reply.body);
    if let Ok(envelope) = &envelope {
        kept.insert("code".to_owned(), json!(envelope.code));
        if !envelope.message.is_empty() {
            kept.insert("message".to_owned(), json!(envelope.message));
        }
    }
    match reply.status {
        // refused before processing
        401 => return Outcome::NotSent(NotSent::Unauthorized { token: asked.token }),
        status if reply.is_overload() => return doubt(DoubtCause::Overload, format!("HTTP {status}"), None),
        200..=299 => {}
        status => return doubt(DoubtCause::Nonsense, format!("HTTP {status}"), None),
    }
    let envelope = match envelope {
        Ok(envelope) => envelope,
        Err(Nonsense(why)) => return doubt(DoubtCause::Nonsense, why, None),
    };
    if envelope.code != 0 {
        let record = envelope.response.and_then(|response| wire::payment(response).ok());
        let record = record.filter(|record| record.merchant_uid == asked.merchant_uid.as_str());
        if let Some(record) = &record {
            keep(record, kept);
        }
        return refused(asked, &envelope, record);
    }
    let record = match envelope.processed().and_then(wire::payment) {
        Ok(record) => record,
        Err(Nonsense(why)) => return doubt(DoubtCause::Nonsense, why, None),
    };
    if record.merchant_uid != asked.merchant_uid.as_str() && guard::stands(Guard::Identity) {
        // somebody else's payment: nothing of it is kept
        return doubt(DoubtCause::Nonsense, "the answer is about another merchant_uid", None);
    }
    keep(&record, kept);
    processed(asked, record)
}

/// code != 0
fn refused(asked: &Asked<'_>, envelope: &Envelope<'_>, record: Option<Record>) -> Outcome {
    let (code, message) = (envelope.code, &envelope.message);
    let text = message.trim_end_matches(['.', ' ']);
    // a refusal that brings a record along contradicts itself
    match REFUSALS.iter().find(|(known, _)| *known == text && envelope.is_refusal()) {
        Some((_, key)) => Outcome::Refused { key: *key, code, message: message.clone() },
        None => doubt(DoubtCause::Code(asked.declines.classify(None, message)), format!("code {code}: {message}"), record),
    }
}

/// code 0, our merchant_uid
fn processed(asked: &Asked<'_>, record: Record) -> Outcome {
    match &record.status {
        RecordStatus::Paid => {
            match record.mismatch(asked.amount, &[asked.customer_uid]).filter(|_| guard::stands(Guard::Identity)) {
                None => Outcome::Paid(record),
                Some(mismatch) => Outcome::PaidWrong(record, mismatch),
            }
        }
        RecordStatus::Failed => match record.class(asked.declines) {
            Class::Ambiguous => {
                doubt(DoubtCause::AmbiguousDecline, "the text does not say whether the card was charged", Some(record))
            }
            class => Outcome::Declined(record, class),
        },
        RecordStatus::Cancelled => doubt(DoubtCause::Cancelled, "the answer says cancelled", Some(record)),
        RecordStatus::Ready => doubt(DoubtCause::Pending, "the answer says ready", Some(record)),
        RecordStatus::Unknown(_) => doubt(DoubtCause::Pending, "the answer has a status that is not known", Some(record)),
    }
}

/// What is kept of a record: a list of what may stay, so that a new field of the gateway is never kept by accident.
fn keep(record: &Record, kept: &mut Map<String, Value>) {
    let status = match &record.status {
        RecordStatus::Ready => "ready",
        RecordStatus::Paid => "paid",
        RecordStatus::Cancelled => "cancelled",
        RecordStatus::Failed => "failed",
        RecordStatus::Unknown(word) => word,
    };
    let fields = json!({
        "imp_uid": record.imp_uid,
        "merchant_uid": record.merchant_uid,
        "status": status,
        "amount": record.amount.map(|amount| amount.decimal()),
        "currency": record.amount.map(|amount| amount.currency().code().to_owned()),
        "cancelled_minor": Some(record.cancelled_amount).filter(|amount| *amount != 0),
        "fail_reason": record.fail_reason,
        "pg_provider": record.pg_provider,
        "pg_tid": record.pg_tid,
        "at": record.at,
    });
    if let Value::Object(fields) = fields {
        // what was not said is not kept: one of these is stored for every charge
        kept.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
    }
}
