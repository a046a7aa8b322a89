//! Answers in PortOne's shapes, and answers that are spoiled on purpose.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::call::Endpoint;
use super::faults::Malformed;
use super::ledger::{Customer, PaymentRecord, PaymentStatus};
use crate::domain::money::Money;

pub(super) const PG_PROVIDER: &str = "html5_inicis";
pub(super) const PG_ID: &str = "INIBillTst";
/// Every sandbox card looks like this.
const CARD: &str = "433012******1234";

/// An answer before it is sent.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub http_status: u16,
    pub code: i64,
    pub message: Option<String>,
    pub body: Vec<u8>,
    /// The payment that a POST made or cancelled.
    pub imp_uid: Option<String>,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    code: i64,
    message: Option<&'a str>,
    response: T,
}

impl Answer {
    /// Envelope code 0.
    pub fn of(response: &impl Serialize) -> Self {
        Self::with_status(200, response)
    }

    /// Envelope code 0 under another HTTP status, e.g. 207.
    pub fn with_status(http_status: u16, response: &impl Serialize) -> Self {
        let body = serde_json::to_vec(&Envelope { code: 0, message: None, response }).unwrap_or_default();
        Self { http_status, code: 0, message: None, body, imp_uid: None }
    }

    /// No response, only a message.
    pub fn refusal(http_status: u16, code: i64, message: impl Into<String>) -> Self {
        let message = message.into();
        let body = serde_json::to_vec(&Envelope { code, message: Some(&message), response: () }).unwrap_or_default();
        Self { http_status, code, message: Some(message), body, imp_uid: None }
    }

    pub fn unauthorized() -> Self {
        Self::refusal(401, -1, "Unauthorized")
    }

    pub fn no_payment() -> Self {
        Self::refusal(404, -1, "존재하지 않는 결제정보입니다.")
    }

    pub fn about(self, imp_uid: &str) -> Self {
        Self { imp_uid: Some(imp_uid.to_owned()), ..self }
    }
}

/// `PaymentAnnotation` of the OpenAPI file.
#[derive(Debug, Serialize)]
pub(super) struct PaymentView<'a> {
    imp_uid: &'a str,
    merchant_uid: &'a str,
    pay_method: &'static str,
    channel: &'static str,
    pg_provider: &'static str,
    emb_pg_provider: Option<&'static str>,
    pg_tid: Option<String>,
    pg_id: &'static str,
    sandbox: bool,
    escrow: bool,
    apply_num: Option<String>,
    card_code: Option<&'static str>,
    card_name: Option<&'static str>,
    card_quota: i64,
    card_number: Option<&'static str>,
    card_type: Option<i64>,
    name: Option<&'a str>,
    amount: Box<RawValue>,
    cancel_amount: Box<RawValue>,
    currency: &'a str,
    buyer_name: Option<&'a str>,
    buyer_email: Option<&'a str>,
    buyer_tel: Option<&'a str>,
    buyer_addr: Option<&'a str>,
    buyer_postcode: Option<&'a str>,
    custom_data: Option<&'a str>,
    user_agent: &'static str,
    status: PaymentStatus,
    started_at: i64,
    paid_at: i64,
    failed_at: i64,
    cancelled_at: i64,
    fail_reason: Option<&'a str>,
    cancel_reason: Option<&'a str>,
    receipt_url: Option<&'static str>,
    cancel_history: Vec<CancelView<'a>>,
    cancel_receipt_urls: [&'static str; 0],
    cash_receipt_issued: bool,
    customer_uid: &'a str,
    customer_uid_usage: &'static str,
}

#[derive(Debug, Serialize)]
struct CancelView<'a> {
    pg_tid: String,
    amount: Box<RawValue>,
    cancelled_at: i64,
    reason: &'a str,
    cancellation_id: String,
    receipt_url: Option<&'static str>,
}

fn digits(amount: Money) -> Box<RawValue> {
    RawValue::from_string(amount.decimal()).unwrap_or_default()
}

impl<'a> PaymentView<'a> {
    pub fn of(payment: &'a PaymentRecord) -> Self {
        let amount = payment.amount();
        let at = payment.at.as_second();
        let charged = matches!(payment.status, PaymentStatus::Paid | PaymentStatus::Cancelled);
        let when = |yes: bool| if yes { at } else { 0 };
        let pg_tid = || format!("StdpayBILLINIBillTst{}", payment.imp_uid.trim_start_matches("imps_"));
        let history = payment.cancellations.iter().enumerate().map(|(index, cancellation)| CancelView {
            pg_tid: pg_tid(),
            amount: digits(Money::new(cancellation.amount_minor, amount.currency())),
            cancelled_at: cancellation.at.as_second(),
            reason: &cancellation.reason,
            cancellation_id: format!("cancel-{}-{}", payment.imp_uid, index + 1),
            receipt_url: None,
        });
        Self {
            imp_uid: &payment.imp_uid,
            merchant_uid: &payment.merchant_uid,
            pay_method: "card",
            channel: "api",
            pg_provider: PG_PROVIDER,
            emb_pg_provider: None,
            pg_tid: charged.then(pg_tid),
            pg_id: PG_ID,
            sandbox: payment.sandbox,
            escrow: false,
            apply_num: charged.then(|| format!("{:08}", payment.post % 100_000_000)),
            card_code: charged.then_some("366"),
            card_name: charged.then_some("신한카드"),
            card_quota: payment.details.card_quota.unwrap_or(0),
            card_number: charged.then_some(CARD),
            card_type: None,
            name: payment.details.name.as_deref(),
            amount: digits(amount),
            cancel_amount: digits(Money::new(payment.cancelled_minor(), amount.currency())),
            currency: &payment.currency,
            buyer_name: payment.details.buyer_name.as_deref(),
            buyer_email: payment.details.buyer_email.as_deref(),
            buyer_tel: payment.details.buyer_tel.as_deref(),
            buyer_addr: payment.details.buyer_addr.as_deref(),
            buyer_postcode: payment.details.buyer_postcode.as_deref(),
            custom_data: payment.details.custom_data.as_deref(),
            user_agent: "sorry_not_supported_anymore",
            status: payment.status,
            started_at: at,
            paid_at: when(charged),
            failed_at: when(payment.status == PaymentStatus::Failed),
            cancelled_at: payment.cancelled_at().map_or(0, |at| at.as_second()),
            fail_reason: payment.fail_reason.as_deref(),
            cancel_reason: payment.cancellations.last().map(|cancellation| cancellation.reason.as_str()),
            receipt_url: None,
            cancel_history: history.collect(),
            cancel_receipt_urls: [],
            cash_receipt_issued: false,
            customer_uid: &payment.customer_uid,
            customer_uid_usage: "payment",
        }
    }
}

/// `PagedPaymentAnnotation` of the OpenAPI file.
#[derive(Debug, Serialize)]
pub(super) struct Page<'a> {
    pub total: usize,
    pub previous: usize,
    pub next: usize,
    pub list: Vec<PaymentView<'a>>,
}

/// `CustomerAnnotation` of the OpenAPI file.
#[derive(Debug, Serialize)]
pub(super) struct CustomerView<'a> {
    customer_uid: &'a str,
    pg_provider: &'static str,
    pg_id: &'static str,
    sandbox: bool,
    customer_id: Option<&'static str>,
    card_name: &'static str,
    card_code: &'static str,
    card_number: &'static str,
    card_type: Option<i64>,
    inserted: i64,
    updated: i64,
}

impl<'a> CustomerView<'a> {
    pub fn of(customer_uid: &'a str, customer: &Customer, sandbox: bool) -> Self {
        Self {
            customer_uid,
            pg_provider: PG_PROVIDER,
            pg_id: PG_ID,
            sandbox,
            customer_id: None,
            card_name: "신한카드",
            card_code: "366",
            card_number: CARD,
            card_type: None,
            inserted: customer.inserted.as_second(),
            updated: customer.updated.as_second(),
        }
    }
}

/// What a fault that answers with this status sends.
pub(super) fn status_body(http_status: u16) -> (&'static str, Vec<u8>) {
    if http_status == 401 {
        return ("application/json", Answer::unauthorized().body);
    }
    ("text/html", format!("<html><head><title>{http_status}</title></head><body>{http_status}</body></html>\r\n").into_bytes())
}

/// A body that is no answer.
pub(super) fn malformed(shape: Malformed) -> (&'static str, Vec<u8>) {
    let json = |text: &str| ("application/json", text.as_bytes().to_vec());
    match shape {
        Malformed::Html => ("text/html", b"<!doctype html><html><body>Service is being checked.</body></html>".to_vec()),
        Malformed::Empty => json(""),
        Malformed::Nonsense => json(r#"{"code":0,"message":null,"response":{"imp_uid":"imps_"#),
        Malformed::WrongTypes => json(r#"{"code":"zero","message":[],"response":{"status":1,"amount":"many","imp_uid":null}}"#),
        Malformed::NullResponse => json(r#"{"code":0,"message":null,"response":null}"#),
        Malformed::Huge => {
            let padding = " ".repeat(1 << 20);
            ("application/json", format!(r#"{{"code":0,"message":null,{padding}"response":null}}"#).into_bytes())
        }
    }
}

/// Every amount in an answer, larger by one.
pub(super) fn wrong_amount(body: &[u8]) -> Vec<u8> {
    change(body, |payment| {
        let amount = payment["amount"].as_i64().map_or(1, |amount| amount + 1);
        payment["amount"] = json!(amount);
    })
}

/// A paid answer about somebody else's payment, in the shape that this call answers in.
pub(super) fn foreign(endpoint: Endpoint, body: &[u8]) -> Vec<u8> {
    let foreign = |payment: &mut Value| {
        payment["imp_uid"] = json!("imps_foreign00000000");
        payment["merchant_uid"] = json!("foreign-merchant-uid");
        payment["status"] = json!("paid");
        payment["fail_reason"] = json!(null);
    };
    let changed = change(body, foreign);
    let is_null = serde_json::from_slice::<Value>(&changed).is_ok_and(|answer| answer["response"].is_null());
    if !is_null {
        return changed;
    }
    let mut payment = json!({"amount": 1000, "cancel_amount": 0, "currency": "KRW", "sandbox": true});
    foreign(&mut payment);
    let response = match endpoint {
        Endpoint::Payments => json!([payment]),
        Endpoint::FindAll | Endpoint::List | Endpoint::CustomerPayments => {
            json!({"total": 1, "previous": 0, "next": 0, "list": [payment]})
        }
        Endpoint::Again | Endpoint::Payment | Endpoint::Find | Endpoint::Cancel => payment,
        _ => return changed,
    };
    serde_json::to_vec(&json!({"code": 0, "message": null, "response": response})).unwrap_or_default()
}

/// Applies `how` to each payment of an answer, whichever shape it has.
fn change(body: &[u8], how: impl Fn(&mut Value)) -> Vec<u8> {
    let Ok(mut answer) = serde_json::from_slice::<Value>(body) else { return body.to_vec() };
    let response = &mut answer["response"];
    let list = if response["list"].is_array() { &mut response["list"] } else { response };
    match list {
        Value::Array(payments) => payments.iter_mut().for_each(how),
        payment if payment["imp_uid"].is_string() => how(payment),
        _ => {}
    }
    serde_json::to_vec(&answer).unwrap_or_default()
}
