//! PortOne's JSON, read strictly where it decides and tolerantly where it does not.
//!
//! Fields that nobody knows, new words and missing optional fields are fine (PortOne adds them without a new version).
//! A field that says what was paid, by whom and how much has to be there once, in its type: otherwise the whole answer
//! is [`Nonsense`]. Errors never quote the answer: it may be personal.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::scrub::scrub;
use crate::domain::money::{Currency, Money};
use crate::domain::outcome::{Record, RecordStatus};
use crate::ports::gateway::Booking;

/// Longest opaque id of the gateway or the provider, in characters (documented: 32 and 64).
const LONGEST_ID: usize = 128;

/// Why an answer cannot be understood; without a word of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nonsense(pub String);

impl Nonsense {
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// What every answer is wrapped in.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    pub code: i64,
    /// Scrubbed; empty if there is none.
    pub message: String,
    pub response: Option<&'a RawValue>,
}

/// Derived, so that a repeated key is an error.
#[derive(Deserialize)]
struct RawEnvelope<'a> {
    code: i64,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    pub fn read(body: &'a [u8]) -> Result<Self, Nonsense> {
        // skipped fields are not checked by serde_json
        let text = std::str::from_utf8(body).map_err(|_| Nonsense::new("not UTF-8"))?;
        let raw: RawEnvelope<'a> = parse(text, "the envelope")?;
        let message = raw.message.and_then(lenient::<String>).map(|message| scrub(&message)).unwrap_or_default();
        Ok(Self { code: raw.code, message, response: raw.response })
    }

    /// The response of an answer with code 0.
    pub fn processed(&self) -> Result<&'a RawValue, Nonsense> {
        match (self.code, self.response) {
            (0, Some(response)) => Ok(response),
            (0, None) => Err(Nonsense::new("code 0 without a response")),
            (code, _) => Err(Nonsense(format!("code {code}: {}", self.message))),
        }
    }

    /// Whether this is how PortOne itself says that there is no such payment: no page of a proxy looks like it.
    pub fn is_refusal(&self) -> bool {
        self.code != 0 && self.response.is_none()
    }
}

/// `PaymentAnnotation`, as far as it is used. Personal fields are not even read.
#[derive(Deserialize)]
struct RawPayment<'a> {
    imp_uid: String,
    merchant_uid: String,
    status: String,
    #[serde(borrow)]
    amount: &'a RawValue,
    currency: String,
    #[serde(borrow, default)]
    cancel_amount: Option<&'a RawValue>,
    #[serde(default)]
    customer_uid: Option<String>,
    #[serde(borrow, default)]
    fail_reason: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pg_provider: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pg_tid: Option<&'a RawValue>,
    #[serde(borrow, default)]
    paid_at: Option<&'a RawValue>,
    #[serde(borrow, default)]
    failed_at: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cancelled_at: Option<&'a RawValue>,
}

impl RawPayment<'_> {
    fn record(self) -> Result<Record, Nonsense> {
        for (name, id) in [("imp_uid", &self.imp_uid), ("merchant_uid", &self.merchant_uid)] {
            if id.is_empty() || id.chars().count() > LONGEST_ID || id.chars().any(char::is_control) {
                return Err(Nonsense(format!("`{name}` is no id")));
            }
        }
        let digits = number(self.amount).ok_or_else(|| Nonsense::new("`amount` is not a number"))?;
        let cancelled = match self.cancel_amount {
            None => None,
            Some(raw) => Some(number(raw).ok_or_else(|| Nonsense::new("`cancel_amount` is not a number"))?),
        };
        // a number that is no amount of this currency, or a currency that nobody knows: a record without an amount,
        // which never matches what was asked
        let currency: Option<Currency> = self.currency.parse().ok();
        let money = |digits: &str| currency.and_then(|currency| Money::parse(digits, currency).ok());
        let cancelled = match cancelled.map(money) {
            None => Some(0),
            Some(amount) => amount.map(|amount| amount.minor()),
        };
        let amount = money(digits).filter(|_| cancelled.is_some());
        let (status, at) = match self.status.as_str() {
            "ready" => (RecordStatus::Ready, None),
            "paid" => (RecordStatus::Paid, self.paid_at),
            "failed" => (RecordStatus::Failed, self.failed_at),
            "cancelled" => (RecordStatus::Cancelled, self.cancelled_at),
            other => (RecordStatus::Unknown(scrub(other).chars().take(32).collect()), None),
        };
        let id = |raw: Option<&RawValue>| raw.and_then(lenient::<String>).map(|text| text.chars().take(LONGEST_ID).collect());
        Ok(Record {
            imp_uid: self.imp_uid,
            merchant_uid: self.merchant_uid,
            status,
            amount,
            customer_uid: self.customer_uid,
            fail_reason: self.fail_reason.and_then(lenient::<String>).map(|text| scrub(&text)),
            pg_provider: id(self.pg_provider),
            pg_tid: id(self.pg_tid),
            at: at.and_then(lenient::<i64>).filter(|second| *second > 0).and_then(|second| Timestamp::from_second(second).ok()),
            cancelled_amount: cancelled.unwrap_or(0),
        })
    }
}

/// One payment.
pub(super) fn payment(response: &RawValue) -> Result<Record, Nonsense> {
    parse::<RawPayment<'_>>(response.get(), "the payment")?.record()
}

/// The payments of a batch look-up.
pub(super) fn payments(response: &RawValue) -> Result<Vec<Record>, Nonsense> {
    parse::<Vec<RawPayment<'_>>>(response.get(), "the payments")?.into_iter().map(RawPayment::record).collect()
}

/// `PagedPaymentAnnotation`.
#[derive(Debug)]
pub(super) struct Page {
    pub total: u64,
    /// 0 on the last page.
    pub next: u32,
    pub records: Vec<Record>,
}

#[derive(Deserialize)]
struct RawPage<'a> {
    total: u64,
    next: u32,
    #[serde(borrow, default)]
    list: Option<Vec<RawPayment<'a>>>,
}

pub(super) fn page(response: &RawValue) -> Result<Page, Nonsense> {
    let raw: RawPage<'_> = parse(response.get(), "the page")?;
    if raw.list.is_none() && raw.total > 0 {
        return Err(Nonsense::new("a page without its list"));
    }
    let records = raw.list.unwrap_or_default().into_iter().map(RawPayment::record).collect::<Result<_, _>>()?;
    Ok(Page { total: raw.total, next: raw.next, records })
}

/// `AuthAnnotation`. Times are Unix seconds of the gateway's clock.
#[derive(Deserialize)]
pub(super) struct Granted {
    pub access_token: String,
    pub expired_at: i64,
    pub now: i64,
}

pub(super) fn granted(response: &RawValue) -> Result<Granted, Nonsense> {
    parse(response.get(), "the token")
}

/// `ScheduleResultAnnotation`, as far as it is used.
#[derive(Deserialize)]
struct RawBooking<'a> {
    #[serde(default)]
    customer_uid: Option<String>,
    #[serde(borrow, default)]
    merchant_uid: Option<&'a RawValue>,
    #[serde(borrow, default)]
    schedule_at: Option<&'a RawValue>,
    #[serde(default)]
    schedule_status: Option<String>,
}

/// The bookings of a billing key that are still to come: none that is carried out or taken back. A status that nobody knows counts,
/// because it may still be charged.
pub(super) fn bookings(response: &RawValue, customer_uid: &str) -> Result<Vec<Booking>, Nonsense> {
    let raw: Vec<RawBooking<'_>> = parse(response.get(), "the bookings")?;
    if raw.iter().any(|booking| booking.customer_uid.as_deref().is_some_and(|uid| uid != customer_uid)) {
        return Err(Nonsense::new("a booking is about another customer_uid"));
    }
    let booking = |raw: RawBooking<'_>| Booking {
        merchant_uid: raw.merchant_uid.and_then(lenient::<String>),
        at: raw.schedule_at.and_then(lenient::<i64>).and_then(|second| Timestamp::from_second(second).ok()),
    };
    let over = |raw: &RawBooking<'_>| matches!(raw.schedule_status.as_deref(), Some("executed" | "revoked"));
    Ok(raw.into_iter().filter(|raw| !over(raw)).map(booking).collect())
}

/// How many bookings a list has, of whatever status.
pub(super) fn count_bookings(response: &RawValue) -> Result<u64, Nonsense> {
    Ok(parse::<Vec<RawBooking<'_>>>(response.get(), "the bookings")?.len() as u64)
}

/// One payment channel of the account (`GET /users/pg`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Channel {
    pub pg_provider: String,
    pub pg_id: String,
    /// A test channel.
    pub sandbox: bool,
    #[serde(default)]
    pub channel_name: Option<String>,
    #[serde(default)]
    pub channel_key: Option<String>,
}

pub(super) fn channels(response: &RawValue) -> Result<Vec<Channel>, Nonsense> {
    parse(response.get(), "the channels")
}

/// serde_json's own messages quote values, so only where and how it failed is told.
fn parse<'a, T: Deserialize<'a>>(text: &'a str, what: &str) -> Result<T, Nonsense> {
    serde_json::from_str(text).map_err(|error| {
        let how = match error.classify() {
            serde_json::error::Category::Eof => "is cut off",
            serde_json::error::Category::Syntax => "is not JSON",
            _ => "has not the fields that it should have",
        };
        Nonsense(format!("{what} {how} (line {}, column {})", error.line(), error.column()))
    })
}

/// A field that decides nothing: the wrong type is as good as absent.
fn lenient<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// The digits of a JSON number, as they stand.
fn number(raw: &RawValue) -> Option<&str> {
    let text = raw.get();
    text.starts_with(|char: char| char == '-' || char.is_ascii_digit()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Record, Nonsense> {
        payment(&RawValue::from_string(json.to_owned()).unwrap())
    }

    fn with(field: &str) -> String {
        format!(r#"{{"imp_uid":"imps_1","merchant_uid":"m","status":"paid","currency":"KRW",{field}}}"#)
    }

    #[test]
    fn money_is_read_from_its_digits() {
        for (amount, expected) in [
            ("9900", Some(9900)),
            ("9900.00", Some(9900)),
            ("9.9e3", Some(9900)),
            ("9900.5", None),
            ("9007199254740993", Some(9_007_199_254_740_993)),
            ("1e400", None),
        ] {
            let record = read(&with(&format!(r#""amount":{amount}"#))).unwrap();
            assert_eq!(record.amount, expected.map(Money::krw), "{amount}");
        }
        for amount in ["\"9900\"", "null", "true", "[9900]"] {
            assert!(read(&with(&format!(r#""amount":{amount}"#))).is_err(), "{amount}");
        }
        assert!(read(&with(r#""name":"x""#)).is_err());
    }

    #[test]
    fn a_repeated_key_makes_no_sense() {
        assert!(read(&with(r#""amount":9900,"status":"failed""#)).is_err());
        assert!(read(&with(r#""amount":9900,"amount":9900"#)).is_err());
        assert!(Envelope::read(br#"{"code":1,"code":0,"response":null}"#).is_err());
    }

    #[test]
    fn what_decides_nothing_may_be_odd() {
        let record = read(&with(r#""amount":1,"fail_reason":7,"pg_tid":[],"paid_at":"soon","new":{"a":[1,{}]}"#)).unwrap();
        assert_eq!((record.fail_reason, record.pg_tid, record.at), (None, None, None));
    }

    #[test]
    fn whose_card_it_was_may_not_be_odd() {
        assert!(read(&with(r#""amount":1,"customer_uid":7"#)).is_err());
        assert_eq!(read(&with(r#""amount":1,"customer_uid":null"#)).unwrap().customer_uid, None);
    }

    #[test]
    fn errors_do_not_quote() {
        let error = read(&with(r#""amount":1,"customer_uid":{"name":"Hong"}"#)).unwrap_err();
        assert!(!error.0.contains("Hong") && error.0.contains("the payment"), "{error:?}");
    }

    #[test]
    fn a_page_without_its_list_is_only_fine_if_it_is_empty() {
        let page_of = |json: &str| page(&RawValue::from_string(json.to_owned()).unwrap());
        assert!(page_of(r#"{"total":0,"previous":0,"next":0,"list":null}"#).unwrap().records.is_empty());
        assert!(page_of(r#"{"total":1,"previous":0,"next":0,"list":null}"#).is_err());
        assert!(page_of(r#"{"previous":0,"next":0,"list":[]}"#).is_err());
    }
}
