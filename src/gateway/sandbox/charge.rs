//! Charges and cancellations: the calls that move money.

use std::borrow::Cow;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::call::Fields;
use super::cards::{Verdict, charge_of};
use super::gateway::Gateway;
use super::journal::Entry;
use super::ledger::{Cancellation, Details, PaymentRecord, PaymentStatus};
use super::wire::{Answer, PaymentView};
use crate::domain::money::{Currency, Money};

const DUPLICATE: &str = "이미 주문이 이루어진 건입니다. (동일한 merchant_uid로 결제 또는 취소된 기록이 있습니다)";
const NO_BUYER: &str = "등록되지 않은 구매자입니다.";
const NOTHING_TO_CANCEL: &str = "취소할 결제건이 존재하지 않습니다.";
const NOT_POSITIVE: &str = "[1113][실시간빌링실패|요청금액 0원 이하]";

/// Longest text of each optional field, in characters.
const LENGTHS: [(&str, usize); 6] =
    [("buyer_name", 16), ("buyer_email", 64), ("buyer_tel", 16), ("buyer_addr", 128), ("buyer_postcode", 8), ("channel_key", 55)];

/// A request that was read and found in order.
struct Order {
    merchant_uid: String,
    customer_uid: String,
    amount: Money,
    details: Details,
}

/// A message under envelope code 1. The wording of these is the sandbox's own; PortOne publishes none.
type Invalid = String;

/// Where a charge comes from, and what is special about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Charge {
    pub scope: usize,
    pub post: u64,
    pub now: Timestamp,
    pub visible_from: Timestamp,
    /// The refusal of duplicates has looked already, at an earlier time.
    pub looked: bool,
}

fn missing(name: &str) -> Invalid {
    format!("필수 파라미터가 누락되었습니다. ({name})")
}

fn wrong_type(name: String) -> Invalid {
    format!("{name} 값의 형식이 올바르지 않습니다.")
}

fn text(fields: &Fields, name: &str, longest: usize) -> Result<Option<String>, Invalid> {
    let text = fields.text(name).map_err(wrong_type)?;
    match &text {
        Some(long) if long.chars().count() > longest => Err(format!("{name}은(는) {longest}자를 넘을 수 없습니다.")),
        _ => Ok(text),
    }
}

impl Order {
    fn read(fields: &Fields) -> Result<Self, Invalid> {
        let required = |name, longest| text(fields, name, longest)?.ok_or_else(|| missing(name));
        let customer_uid = required("customer_uid", 80)?;
        let merchant_uid = required("merchant_uid", 40)?;
        let digits = fields.number("amount").map_err(wrong_type)?.ok_or_else(|| missing("amount"))?;
        let name = required("name", 40)?;
        let currency: Currency = match fields.text("currency").map_err(wrong_type)? {
            None => Currency::KRW,
            Some(code) => code.parse().map_err(|_| wrong_type("currency".to_owned()))?,
        };
        let amount = Money::parse(&digits, currency).map_err(|_| wrong_type("amount".to_owned()))?;
        for (name, longest) in LENGTHS {
            text(fields, name, longest)?;
        }
        for name in ["tax_free", "vat_amount", "vat", "card_quota", "product_count"] {
            fields.number(name).map_err(wrong_type)?;
        }
        let kept = |name| fields.text(name).ok().flatten();
        let details = Details {
            name: Some(name),
            buyer_name: kept("buyer_name"),
            buyer_email: kept("buyer_email"),
            buyer_tel: kept("buyer_tel"),
            buyer_addr: kept("buyer_addr"),
            buyer_postcode: kept("buyer_postcode"),
            custom_data: kept("custom_data"),
            card_quota: fields.number("card_quota").ok().flatten().and_then(|digits| digits.parse().ok()),
        };
        Ok(Self { merchant_uid, customer_uid, amount, details })
    }
}

impl Gateway {
    /// Whether the refusal of duplicates has nothing against this merchant_uid.
    pub(super) fn is_free(&self, scope: usize, merchant_uid: &str) -> bool {
        let taken = |payment: &PaymentRecord| matches!(payment.status, PaymentStatus::Paid | PaymentStatus::Cancelled);
        !self.ledger.all_of(scope, merchant_uid).any(taken)
    }

    /// `POST /subscribe/payments/again`
    pub(super) fn charge(&mut self, charge: Charge, fields: &Fields) -> Answer {
        let order = match Order::read(fields) {
            Ok(order) => order,
            Err(message) => return Answer::refusal(200, 1, message),
        };
        let Some(customer) = self.customer(charge.scope, &order.customer_uid, charge.now) else {
            return Answer::refusal(200, 1, NO_BUYER);
        };
        if !charge.looked && !self.is_free(charge.scope, &order.merchant_uid) {
            return Answer::refusal(200, 1, DUPLICATE);
        }
        let count = self.ledger.all_of(charge.scope, &order.merchant_uid).count();
        let nth = u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
        let verdict = if order.amount.minor() <= 0 {
            Verdict::Declined(NOT_POSITIVE.to_owned())
        } else {
            let first = format!("{}01", charge_of(&order.merchant_uid));
            let first = self.ledger.all_of(charge.scope, &first).map(|payment| payment.at).min();
            customer.behaviour.verdict(charge.now, &order.merchant_uid, customer.declined, nth, first)
        };
        let (status, fail_reason) = match verdict {
            Verdict::Paid => (PaymentStatus::Paid, None),
            Verdict::Ready => (PaymentStatus::Ready, None),
            Verdict::Declined(reason) => (PaymentStatus::Failed, Some(reason)),
            Verdict::Refused { code, message } => return Answer::refusal(200, code, message),
        };
        let scope = self.ledger.scope(charge.scope);
        let payment = PaymentRecord {
            imp_uid: imp_uid(&scope.imp_key, scope.tier.as_deref(), &order.merchant_uid, nth),
            post: charge.post,
            imp_key: scope.imp_key.clone(),
            tier: scope.tier.clone(),
            merchant_uid: order.merchant_uid,
            customer_uid: order.customer_uid,
            amount_minor: order.amount.minor(),
            currency: order.amount.currency().code().to_owned(),
            status,
            at: charge.now,
            visible_from: charge.visible_from,
            fail_reason,
            cancellations: Vec::new(),
            sandbox: self.sandbox,
            details: order.details,
        };
        self.journal.add(&Entry::Payment(Cow::Borrowed(&payment)));
        let answer = Answer::of(&PaymentView::of(&payment)).about(&payment.imp_uid);
        self.ledger.add_payment(payment);
        answer
    }

    /// `POST /payments/cancel`
    pub(super) fn cancel(&mut self, scope: usize, fields: &Fields, now: Timestamp) -> Answer {
        let refuse = |message: &str| Answer::refusal(200, 1, message);
        let given = |name: &str| fields.text(name).ok().flatten();
        // imp_uid wins, even a wrong one over a right merchant_uid
        let number = match (given("imp_uid"), given("merchant_uid")) {
            (Some(imp_uid), _) => self.ledger.of_imp_uid(scope, &imp_uid),
            (None, Some(merchant_uid)) => {
                let paid = |number: &usize| self.ledger.payment(*number).status == PaymentStatus::Paid;
                self.ledger.find(scope, &merchant_uid).into_iter().rev().find(paid)
            }
            (None, None) => return Answer::refusal(200, 1, missing("imp_uid 또는 merchant_uid")),
        };
        let Some(payment) = number.map(|number| self.ledger.payment(number)) else { return refuse(NOTHING_TO_CANCEL) };
        if payment.status != PaymentStatus::Paid {
            return refuse(NOTHING_TO_CANCEL);
        }
        let left = payment.amount_minor - payment.cancelled_minor();
        let currency = payment.amount().currency();
        let money = |name: &str| match fields.number(name) {
            Ok(None) => Ok(None),
            Ok(Some(digits)) => Money::parse(&digits, currency).map(|money| Some(money.minor())).map_err(|_| name.to_owned()),
            Err(name) => Err(name),
        };
        let (amount, checksum) = match (money("amount"), money("checksum")) {
            (Ok(amount), Ok(checksum)) => (amount.filter(|amount| *amount != 0).unwrap_or(left), checksum),
            (Err(name), _) | (_, Err(name)) => return Answer::refusal(200, 1, wrong_type(name)),
        };
        if checksum.is_some_and(|checksum| checksum != left) {
            return refuse("취소 가능 금액이 일치하지 않습니다. (checksum)");
        }
        if amount < 0 || amount > left {
            return refuse("취소 요청금액이 취소 가능 금액을 초과합니다.");
        }
        let imp_uid = payment.imp_uid.clone();
        let cancellation = Cancellation { amount_minor: amount, at: now, reason: given("reason").unwrap_or_default() };
        let (imp_key, tier) = (payment.imp_key.clone(), payment.tier.clone());
        self.journal.add(&Entry::Cancelled {
            imp_key: Cow::Borrowed(&imp_key),
            tier: tier.as_deref().map(Cow::Borrowed),
            imp_uid: Cow::Borrowed(&imp_uid),
            cancellation: Cow::Borrowed(&cancellation),
        });
        self.ledger.add_cancellation(&imp_key, tier.as_deref(), &imp_uid, cancellation);
        match self.ledger.of_imp_uid(scope, &imp_uid) {
            Some(number) => Answer::of(&PaymentView::of(self.ledger.payment(number))).about(&imp_uid),
            None => refuse(NOTHING_TO_CANCEL),
        }
    }
}

/// The same for the same record, whatever else goes on in the sandbox.
fn imp_uid(imp_key: &str, tier: Option<&str>, merchant_uid: &str, nth: u32) -> String {
    let mut hash = Sha256::new();
    for part in [imp_key, tier.unwrap_or_default(), merchant_uid] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(nth.to_be_bytes());
    let bytes: [u8; 32] = hash.finalize().into();
    bytes[..8].iter().fold("imps_".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}
