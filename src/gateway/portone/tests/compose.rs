//! The body of a charge: every field, every rule.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::compose::compose;
use crate::domain::attempt::MerchantUid;
use crate::domain::money::Money;
use crate::domain::subscription::ChargeOptions;
use crate::ports::gateway::{ChargeRequest, InvalidRequest};

static UID: LazyLock<MerchantUid> = LazyLock::new(|| MerchantUid::stored("rb2kszxgvi2za4qxdk4pph4h33mf01"));
static NONE: LazyLock<ChargeOptions> = LazyLock::new(ChargeOptions::default);

fn with<'a>(change: impl FnOnce(&mut ChargeRequest<'a>, &mut ChargeOptions)) -> Result<String, InvalidRequest> {
    let mut options = ChargeOptions::default();
    let mut request = ChargeRequest {
        merchant_uid: &UID,
        customer_uid: "cus-0001",
        amount: Money::krw(9900),
        tax_free: None,
        vat_amount: None,
        name: "Pro plan",
        options: &NONE,
    };
    change(&mut request, &mut options);
    compose(&ChargeRequest { options: &options, ..request })
}

fn refused<'a>(change: impl FnOnce(&mut ChargeRequest<'a>, &mut ChargeOptions)) -> &'static str {
    with(change).unwrap_err().field
}

#[test]
fn absent_options_are_left_out() {
    let expected = r#"{"customer_uid":"cus-0001","merchant_uid":"rb2kszxgvi2za4qxdk4pph4h33mf01","currency":"KRW","amount":9900,"name":"Pro plan"}"#;
    assert_eq!(with(|_, _| {}).unwrap(), expected);
}

#[test]
fn every_field_of_the_api_is_written() {
    let body = with(|request, options| {
        (request.amount, request.tax_free, request.vat_amount) = (Money::krw(55_000), Some(0), Some(0));
        *options = ChargeOptions {
            buyer_name: Some("홍길동".into()),
            buyer_email: Some("hong@example.com".into()),
            buyer_tel: Some("010-0000-0000".into()),
            buyer_addr: Some("Seoul".into()),
            buyer_postcode: Some("04524".into()),
            card_quota: Some(3),
            interest_free_by_merchant: Some(true),
            use_card_point: Some(false),
            custom_data: Some("{\"a\":1}".into()),
            notice_url: Some("https://example.com/hook".into()),
            product_type: Some("digital".into()),
            product_count: Some(1),
            cash_receipt_type: Some("person".into()),
            bypass: Some("{\"tosspay\":{}}".into()),
            extra: Some(json!({ "naverUseCfm": "20261201" })),
            promotion_id: Some("promo".into()),
            channel_key: Some("channel-key-1".into()),
        };
    });
    let body: Value = serde_json::from_str(&body.unwrap()).unwrap();
    assert_eq!(
        body,
        json!({
            "customer_uid": "cus-0001", "merchant_uid": "rb2kszxgvi2za4qxdk4pph4h33mf01", "currency": "KRW", "amount": 55_000,
            "tax_free": 0, "vat_amount": 0, "name": "Pro plan", "buyer_name": "홍길동", "buyer_email": "hong@example.com",
            "buyer_tel": "010-0000-0000", "buyer_addr": "Seoul", "buyer_postcode": "04524", "card_quota": 3,
            "interest_free_by_merchant": true, "use_card_point": false, "custom_data": "{\"a\":1}",
            "notice_url": "https://example.com/hook", "product_type": "digital", "product_count": 1,
            "cash_receipt_type": "person", "bypass": "{\"tosspay\":{}}", "extra": { "naverUseCfm": "20261201" },
            "promotion_id": "promo", "channel_key": "channel-key-1"
        })
    );
}

#[test]
fn money_is_written_from_its_digits() {
    let usd = |minor| Money::new(minor, "USD".parse().unwrap());
    let body = with(|request, _| (request.amount, request.tax_free) = (usd(1_000_010), Some(5))).unwrap();
    assert!(body.contains(r#""currency":"USD","amount":10000.10,"tax_free":0.05"#), "{body}");
    let body = with(|request, _| request.amount = Money::krw(9_007_199_254_740_993)).unwrap();
    assert!(body.contains(r#""amount":9007199254740993,"#), "{body}");
}

#[test]
fn broken_rules_are_named() {
    let long = |length: usize| "가".repeat(length);
    let (name41, name40, uid81) = (long(41), long(40), "c".repeat(81));
    assert!(with(|request, _| request.name = &name40).is_ok());
    assert_eq!(refused(|request, _| request.name = &name41), "name");
    assert_eq!(refused(|request, _| request.name = " "), "name");
    assert_eq!(refused(|request, _| request.customer_uid = ""), "customer_uid");
    assert_eq!(refused(|request, _| request.customer_uid = &uid81), "customer_uid");
    for amount in [0, -1] {
        assert_eq!(refused(|request, _| request.amount = Money::krw(amount)), "amount");
    }
    assert_eq!(refused(|request, _| request.tax_free = Some(-1)), "tax_free");
    assert_eq!(refused(|request, _| request.tax_free = Some(9901)), "tax_free");
    assert_eq!(refused(|request, _| (request.tax_free, request.vat_amount) = (Some(9000), Some(901))), "vat_amount");
    assert_eq!(refused(|request, _| (request.tax_free, request.vat_amount) = (Some(1), Some(i64::MAX))), "vat_amount");
    assert_eq!(refused(|_, options| options.buyer_name = Some(long(17))), "buyer_name");
    assert_eq!(refused(|_, options| options.buyer_email = Some(long(65))), "buyer_email");
    assert_eq!(refused(|_, options| options.buyer_tel = Some(long(17))), "buyer_tel");
    assert_eq!(refused(|_, options| options.buyer_addr = Some(long(129))), "buyer_addr");
    assert_eq!(refused(|_, options| options.buyer_postcode = Some(long(9))), "buyer_postcode");
    assert_eq!(refused(|_, options| options.channel_key = Some(long(56))), "channel_key");
    assert_eq!(refused(|_, options| options.product_type = Some("REAL".into())), "product_type");
    assert_eq!(refused(|_, options| options.product_count = Some(0)), "product_count");
    assert_eq!(refused(|_, options| options.cash_receipt_type = Some("none".into())), "cash_receipt_type");
    assert_eq!(refused(|_, options| options.bypass = Some("{".into())), "bypass");
    assert_eq!(refused(|_, options| options.extra = Some(json!([]))), "extra");
    assert_eq!(refused(|_, options| options.notice_url = Some("example.com".into())), "notice_url");
    assert_eq!(refused(|_, options| options.card_quota = Some(-1)), "card_quota");
    assert_eq!(refused(|_, options| options.card_quota = Some(2)), "card_quota");
    assert!(with(|_, options| options.card_quota = Some(1)).is_ok());
    let instalments = |won| with(|request, options| (request.amount, options.card_quota) = (Money::krw(won), Some(2)));
    assert!(instalments(50_000).is_ok() && instalments(49_999).is_err());
}

#[test]
fn an_error_names_no_value() {
    let error = with(|_, options| options.buyer_email = Some(format!("hong@{}", "x".repeat(70)))).unwrap_err();
    assert_eq!(error.to_string(), "`buyer_email` may have at most 64 characters, and has 75");
}

proptest! {
    #[test]
    fn what_is_composed_is_json_with_the_amount(won in 1i64..=i64::MAX, name in "\\PC{1,40}", data in "\\PC{0,50}") {
        let composed = with(|request, options| {
            request.amount = Money::krw(won);
            request.name = &name;
            options.custom_data = Some(data.clone());
        });
        prop_assume!(!name.trim().is_empty());
        let body: Value = serde_json::from_str(&composed.unwrap()).unwrap();
        prop_assert_eq!(&body["amount"], &json!(won));
        prop_assert_eq!(&body["name"], &json!(name));
        prop_assert_eq!(&body["custom_data"], &json!(data));
    }
}
