//! The body of `POST /subscribe/payments/again`, checked against PortOne's rules before anything is committed.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::domain::money::{Currency, Money};
use crate::ports::gateway::{ChargeRequest, InvalidRequest};

/// The smallest amount that may be paid by instalments, in won.
const INSTALMENTS_FROM: i64 = 50_000;

/// `AgainRequest`, in the order of the V1 schema. Deprecated and server-side fields (`vat`, `browser_ip`) are left out.
#[derive(Serialize)]
struct Body<'a> {
    customer_uid: &'a str,
    merchant_uid: &'a str,
    currency: &'a str,
    amount: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tax_free: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vat_amount: Option<Box<RawValue>>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_tel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_addr: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_postcode: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    card_quota: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interest_free_by_merchant: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    use_card_point: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notice_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    product_count: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cash_receipt_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bypass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    promotion_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_key: Option<&'a str>,
}

/// The exact bytes of a charge. The same request always gives the same bytes.
pub fn compose(request: &ChargeRequest<'_>) -> Result<String, InvalidRequest> {
    let options = request.options;
    required("customer_uid", request.customer_uid, 80)?;
    required("merchant_uid", request.merchant_uid.as_str(), 40)?;
    required("name", request.name, 40)?;
    money(request)?;
    for (field, text, longest) in [
        ("buyer_name", &options.buyer_name, 16),
        ("buyer_email", &options.buyer_email, 64),
        ("buyer_tel", &options.buyer_tel, 16),
        ("buyer_addr", &options.buyer_addr, 128),
        ("buyer_postcode", &options.buyer_postcode, 8),
        ("channel_key", &options.channel_key, 55),
    ] {
        at_most(field, text.as_deref().unwrap_or_default(), longest)?;
    }
    one_of("product_type", options.product_type.as_deref(), &["real", "digital"])?;
    one_of("cash_receipt_type", options.cash_receipt_type.as_deref(), &["person", "company", "anonymous"])?;
    instalments(options.card_quota, request.amount)?;
    check("product_count", options.product_count.is_none_or(|count| count >= 1), "has to be at least 1")?;
    let web = |url: &str| url.starts_with("https://") || url.starts_with("http://");
    check("notice_url", options.notice_url.as_deref().is_none_or(web), "has to be an http or https URL")?;
    let json = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    check("bypass", options.bypass.as_deref().is_none_or(json), "has to be a JSON text")?;
    check("extra", options.extra.as_ref().is_none_or(Value::is_object), "has to be a JSON object")?;

    let currency = request.amount.currency();
    let minor = |minor: i64| digits(Money::new(minor, currency));
    let body = Body {
        customer_uid: request.customer_uid,
        merchant_uid: request.merchant_uid.as_str(),
        currency: currency.code(),
        amount: digits(request.amount)?,
        tax_free: request.tax_free.map(minor).transpose()?,
        vat_amount: request.vat_amount.map(minor).transpose()?,
        name: request.name,
        buyer_name: options.buyer_name.as_deref(),
        buyer_email: options.buyer_email.as_deref(),
        buyer_tel: options.buyer_tel.as_deref(),
        buyer_addr: options.buyer_addr.as_deref(),
        buyer_postcode: options.buyer_postcode.as_deref(),
        card_quota: options.card_quota,
        interest_free_by_merchant: options.interest_free_by_merchant,
        use_card_point: options.use_card_point,
        custom_data: options.custom_data.as_deref(),
        notice_url: options.notice_url.as_deref(),
        product_type: options.product_type.as_deref(),
        product_count: options.product_count,
        cash_receipt_type: options.cash_receipt_type.as_deref(),
        bypass: options.bypass.as_deref(),
        extra: options.extra.as_ref(),
        promotion_id: options.promotion_id.as_deref(),
        channel_key: options.channel_key.as_deref(),
    };
    serde_json::to_string(&body).map_err(|_| invalid("extra", "cannot be written as JSON"))
}

fn invalid(field: &'static str, rule: impl Into<String>) -> InvalidRequest {
    InvalidRequest { field, rule: rule.into() }
}

fn check(field: &'static str, holds: bool, rule: &str) -> Result<(), InvalidRequest> {
    if holds { Ok(()) } else { Err(invalid(field, rule)) }
}

/// PortOne does not say whether its lengths are characters or bytes; they are taken for characters.
fn at_most(field: &'static str, text: &str, longest: usize) -> Result<(), InvalidRequest> {
    let length = text.chars().count();
    if length <= longest {
        Ok(())
    } else {
        Err(invalid(field, format!("may have at most {longest} characters, and has {length}")))
    }
}

fn required(field: &'static str, text: &str, longest: usize) -> Result<(), InvalidRequest> {
    check(field, !text.trim().is_empty(), "is required")?;
    at_most(field, text, longest)
}

fn one_of(field: &'static str, word: Option<&str>, known: &[&str]) -> Result<(), InvalidRequest> {
    match word {
        Some(word) if !known.contains(&word) => Err(invalid(field, format!("has to be one of {}", known.join(", ")))),
        _ => Ok(()),
    }
}

fn money(request: &ChargeRequest<'_>) -> Result<(), InvalidRequest> {
    let total = request.amount.minor();
    check("amount", total > 0, "has to be above 0")?;
    // 0 and 0 together mean a zero rate
    let (tax_free, vat) = (request.tax_free.unwrap_or(0), request.vat_amount.unwrap_or(0));
    check("tax_free", tax_free >= 0, "may not be negative")?;
    check("vat_amount", vat >= 0, "may not be negative")?;
    check("tax_free", tax_free <= total, "may not be above the amount")?;
    let parts = tax_free.checked_add(vat);
    check("vat_amount", parts.is_some_and(|parts| parts <= total), "and `tax_free` together may not be above the amount")
}

fn instalments(quota: Option<i64>, amount: Money) -> Result<(), InvalidRequest> {
    let Some(quota) = quota else { return Ok(()) };
    check("card_quota", (0..=36).contains(&quota), "has to be between 0 and 36 months")?;
    let enough = amount.currency() == Currency::KRW && amount.minor() >= INSTALMENTS_FROM;
    check("card_quota", quota < 2 || enough, "above 1 needs an amount of at least 50,000 KRW")
}

fn digits(money: Money) -> Result<Box<RawValue>, InvalidRequest> {
    RawValue::from_string(money.decimal()).map_err(|_| invalid("amount", "cannot be written as a number"))
}
