//! Look-ups on the wire: what the ledger shows, written as PortOne writes it and read by the product's own client; and what may become of
//! such an answer on its way. Whatever that is, it must never be taken for "there is no payment".

use rebilld::domain::attempt::MerchantUid;
use rebilld::domain::outcome::{Record, RecordStatus};
use rebilld::gateway::portone::{LookedUp, judge_look_up};
use rebilld::ports::gateway::Unavailable;
use serde_json::{Value, json};

/// What has become of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoilt {
    /// A page of something in between, with the status of an answer, or of one that says that nothing is there.
    Page(u16),
    /// Half of it.
    CutOff,
    /// The gateway says no, and not why.
    Refused,
    /// It says that all is well, and nothing else.
    Empty,
    /// It is about a payment that nobody asked for.
    Foreign,
    Overload(u16),
}

pub const SPOILT: [Spoilt; 8] = [
    Spoilt::Page(200),
    Spoilt::Page(404),
    Spoilt::CutOff,
    Spoilt::Refused,
    Spoilt::Empty,
    Spoilt::Foreign,
    Spoilt::Overload(503),
    Spoilt::Overload(429),
];

impl Spoilt {
    pub fn name(self) -> &'static str {
        match self {
            Self::Page(404) => "fault: a look-up got a page, as a 404",
            Self::Page(_) => "fault: a look-up got a page",
            Self::CutOff => "fault: a look-up was cut off",
            Self::Refused => "fault: a look-up was refused",
            Self::Empty => "fault: a look-up said nothing",
            Self::Foreign => "fault: a look-up was about another payment",
            Self::Overload(_) => "fault: a look-up was answered with 429 or 503",
        }
    }
}

/// A record as PortOne writes it.
fn rendered(record: &Record) -> Value {
    let word = match &record.status {
        RecordStatus::Ready => "ready",
        RecordStatus::Paid => "paid",
        RecordStatus::Failed => "failed",
        RecordStatus::Cancelled => "cancelled",
        RecordStatus::Unknown(word) => word,
    };
    let second = |of: &str| record.at.filter(|_| word == of).map_or(0, |at| at.as_second());
    json!({
        "imp_uid": record.imp_uid, "merchant_uid": record.merchant_uid, "status": word, "currency": "KRW",
        "amount": record.amount.map(|amount| amount.minor()), "cancel_amount": record.cancelled_amount,
        "customer_uid": record.customer_uid, "fail_reason": record.fail_reason, "pg_provider": record.pg_provider,
        "buyer_name": "CANARY-NAME", "paid_at": second("paid"), "failed_at": second("failed"), "cancelled_at": second("cancelled"),
    })
}

/// An answer, and what the client makes of it. `more`: of a list, there are further pages. `other`: of somebody else.
pub fn answered(
    asked: LookedUp<'_>,
    records: &[Record],
    more: bool,
    spoilt: Option<(Spoilt, Option<&Record>)>,
) -> Result<Vec<Record>, Unavailable> {
    let good = |response: &Value| json!({ "code": 0, "message": null, "response": response }).to_string();
    let page = |records: &[Record]| {
        let list: Vec<Value> = records.iter().map(rendered).collect();
        json!({ "total": list.len(), "previous": 0, "next": u8::from(more) * 2, "list": list })
    };
    let of = |records: &[Record]| match asked {
        LookedUp::One(_) => records.first().map_or(Value::Null, rendered),
        LookedUp::Batch(_) => records.iter().map(rendered).collect(),
        LookedUp::All(_) | LookedUp::List => page(records),
    };
    let is_none = records.is_empty() && !matches!(asked, LookedUp::List);
    let (mut status, mut body) = match asked {
        _ if is_none => (404, json!({ "code": -1, "message": "존재하지 않는 결제정보입니다.", "response": null }).to_string()),
        LookedUp::Batch(ids) if records.len() < ids.len() => (207, good(&of(records))),
        _ => (200, good(&of(records))),
    };
    match spoilt {
        None => {}
        Some((Spoilt::Page(with), _)) => (status, body) = (with, "<html>busy</html>".to_owned()),
        // the status of an answer that has records stays: half of a 404 says nothing either
        Some((Spoilt::CutOff, _)) => {
            body = body.chars().take(body.chars().count() / 2).collect();
        }
        Some((Spoilt::Refused, _)) => {
            (status, body) = (200, json!({ "code": -1, "message": "잠시 후 다시 시도해 주세요", "response": null }).to_string());
        }
        Some((Spoilt::Empty, _)) => (status, body) = (200, json!({ "code": 0, "message": null, "response": null }).to_string()),
        Some((Spoilt::Foreign, other)) => (status, body) = (200, good(&of(other.map(std::slice::from_ref).unwrap_or_default()))),
        Some((Spoilt::Overload(with), _)) => (status, body) = (with, "oops".to_owned()),
    }
    judge_look_up(asked, status, body.as_bytes())
}

#[test]
fn every_answer_is_read_as_it_was_written_and_no_spoilt_one_is() {
    use jiff::civil::date;
    use rebilld::domain::attempt::{IdBase, IdNumber};
    use rebilld::domain::money::{Currency, Money};
    let id = |subscription: &str| -> MerchantUid {
        IdBase::derive("sb".parse().unwrap(), "main", subscription, date(2026, 12, 1)).number(IdNumber::FIRST)
    };
    let ids = [id("sub-1"), id("sub-2")];
    let record = |id: &MerchantUid, status: RecordStatus| Record {
        imp_uid: format!("imps_{}", id.as_str()),
        merchant_uid: id.as_str().to_owned(),
        at: (status != RecordStatus::Ready).then(|| "2026-12-01T01:00:00Z".parse().unwrap()),
        fail_reason: (status == RecordStatus::Failed).then(|| "[1254]".to_owned()),
        status,
        amount: Some(Money::new(9_900, Currency::KRW)),
        customer_uid: Some("card-1".to_owned()),
        pg_provider: Some("html5_inicis".to_owned()),
        pg_tid: None,
        cancelled_amount: 0,
    };
    let other = record(&id("sub-3"), RecordStatus::Paid);
    for status in [RecordStatus::Ready, RecordStatus::Paid, RecordStatus::Failed, RecordStatus::Cancelled] {
        let one = [record(&ids[0], status)];
        for records in [&one[..], &[]] {
            for asked in [LookedUp::Batch(&ids), LookedUp::All(&ids[0]), LookedUp::List] {
                assert_eq!(answered(asked, records, false, None).unwrap(), records, "{asked:?}");
                for spoilt in SPOILT {
                    // a list asks for nobody's records
                    if spoilt == Spoilt::Foreign && matches!(asked, LookedUp::List) {
                        continue;
                    }
                    let read = answered(asked, records, false, Some((spoilt, Some(&other))));
                    assert!(read.is_err(), "{asked:?}, {spoilt:?}: {read:?}");
                }
            }
        }
    }
}
