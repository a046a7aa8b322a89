//! What the wire said (an outcome), what a look-up found later (findings), and how a record is checked for being ours.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::attempt::IdNumber;
use super::classify::Rules;
use super::decline::Class;
use super::money::Money;

/// The state of one of the gateway's payment records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    Ready,
    Paid,
    Cancelled,
    Failed,
    /// A word that PortOne did not have when this was written; never taken for "not paid".
    Unknown(String),
}

/// One of the gateway's payment records, without personal fields: what is kept of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub imp_uid: String,
    pub merchant_uid: String,
    pub status: RecordStatus,
    /// `None` if the amount or its currency could not be read exactly.
    pub amount: Option<Money>,
    pub customer_uid: Option<String>,
    /// The provider's words for a failure.
    pub fail_reason: Option<String>,
    pub pg_provider: Option<String>,
    pub pg_tid: Option<String>,
    /// When it was paid, failed or cancelled, by the gateway's clock.
    pub at: Option<Timestamp>,
    /// Refunded part, in minor units, if any.
    pub cancelled_amount: i64,
}

impl Record {
    /// The class of the failure that this record tells.
    pub fn class(&self, rules: &Rules) -> Class {
        rules.classify(self.pg_provider.as_deref(), self.fail_reason.as_deref().unwrap_or_default())
    }

    /// The first thing in which a paid record differs from what was asked, if any. Without `customers` nobody knows any more
    /// whose card was asked (a restored database that the audit settles): id, amount and currency decide then.
    pub fn mismatch(&self, amount: Money, customers: &[&str]) -> Option<Mismatch> {
        if self.amount != Some(amount) {
            return Some(Mismatch::Amount);
        }
        match &self.customer_uid {
            Some(customer) if !customers.is_empty() && !customers.contains(&customer.as_str()) => Some(Mismatch::Customer),
            _ => None,
        }
    }
}

/// In what a paid record is not the payment that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mismatch {
    /// Amount or currency.
    Amount,
    Customer,
    /// The record's `imp_uid` is already booked to another attempt.
    ImpUid,
}

impl Mismatch {
    pub fn name(self) -> &'static str {
        match self {
            Self::Amount => "amount",
            Self::Customer => "customer_uid",
            Self::ImpUid => "imp_uid",
        }
    }
}

/// Why a send is proven not to have reached the gateway's processing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSent {
    /// Name resolution, connect or TLS failed: before the first byte of the request.
    Unreachable(String),
    /// Refused before processing with 401; carries which token was used, so that one revoked token counts once.
    Unauthorized { token: u64 },
    /// The gate closed between commit and write: too old, killed, held, paused or stopping.
    Gate(&'static str),
}

impl NotSent {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Gate(why) => why,
        }
    }
}

/// Why an answer proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DoubtCause {
    /// Reset, timeout, cut off: the request may have been processed.
    Transport,
    /// Malformed, too large, too slow, another merchant_uid, an unexpected HTTP status.
    Nonsense,
    /// 429 or 5xx: also slows the whole account down.
    Overload,
    /// code 0 with `ready`, or a status that we do not know.
    Pending,
    /// code 0 with `cancelled`.
    Cancelled,
    /// A non-zero code that is no listed refusal, with the class of its text.
    Code(Class),
    /// code 0, `failed`, but the text is AMBIGUOUS.
    AmbiguousDecline,
}

impl DoubtCause {
    pub fn name(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Nonsense => "nonsense",
            Self::Overload => "overload",
            Self::Pending => "pending",
            Self::Cancelled => "cancelled",
            Self::Code(_) => "code",
            Self::AmbiguousDecline => "ambiguous decline",
        }
    }
}

/// What one POST came to. There is no `Result` here on purpose: a `?` on a charge is how doubt gets lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every field matches.
    Paid(Record),
    /// Paid, but not what was asked for: never charge again by itself.
    PaidWrong(Record, Mismatch),
    /// The card was asked and refused.
    Declined(Record, Class),
    /// A listed definite refusal, before the card was asked.
    Refused {
        key: bool,
        code: i64,
        message: String,
    },
    NotSent(NotSent),
    Doubt {
        cause: DoubtCause,
        detail: String,
        record: Option<Record>,
    },
}

/// All records that the gateway shows under all ids of one charge, and when the look-up began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// By the database clock: R2 tests this, not the time of judging.
    pub began_at: Timestamp,
    pub records: Vec<Found>,
}

/// A record under one of the charge's ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub id_number: IdNumber,
    pub record: Record,
    /// Booked before: an attempt of this charge carries its `imp_uid`.
    pub known: bool,
    /// In what a paid record differs from what was asked under that id.
    pub mismatch: Option<Mismatch>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_whose_card_nobody_knows_any_more_is_judged_by_its_amount() {
        let record = Record {
            imp_uid: "imp_1".to_owned(),
            merchant_uid: "m".to_owned(),
            status: RecordStatus::Paid,
            amount: Some(Money::krw(9_900)),
            customer_uid: Some("card-1".to_owned()),
            fail_reason: None,
            pg_provider: None,
            pg_tid: None,
            at: None,
            cancelled_amount: 0,
        };
        assert_eq!(record.mismatch(Money::krw(9_900), &[]), None);
        assert_eq!(record.mismatch(Money::krw(9_901), &[]), Some(Mismatch::Amount));
        assert_eq!(record.mismatch(Money::krw(9_900), &["card-2"]), Some(Mismatch::Customer));
    }
}
