//! What answers mean, over a real connection and, where there are thousands, without one.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::classify::{Asked, answer};
use super::super::client::Reply;
use super::server::{Act, Server, envelope, ok, payment, refusal, respond};
use super::{PortOne, PortOneConfig, charge, clock, config, gateway, hasty};
use crate::domain::attempt::MerchantUid;
use crate::domain::classify::Rules;
use crate::domain::decline::Class;
use crate::domain::money::Money;
use crate::domain::outcome::{DoubtCause, Mismatch, NotSent, Outcome};
use crate::ports::gateway::{Answer, Gateway as _};

const UID: &str = "rb2kszxgvi2za4qxdk4pph4h33mf01";

/// Judges an answer that has arrived completely.
fn judge(status: u16, body: &[u8]) -> Answer {
    let uid = MerchantUid::stored(UID);
    let declines = Rules::default();
    let asked = Asked { merchant_uid: &uid, customer_uid: "cus-0001", amount: Money::krw(9900), token: 7, declines: &declines };
    answer(&asked, Ok(Reply { status, body: body.to_vec(), date: None }))
}

fn outcome(body: &Value) -> Outcome {
    judge(200, body.to_string().as_bytes()).outcome
}

fn cause(outcome: &Outcome) -> Option<DoubtCause> {
    match outcome {
        Outcome::Doubt { cause, .. } => Some(*cause),
        _ => None,
    }
}

#[tokio::test]
async fn a_paid_charge_is_one_post_with_the_exact_bytes() {
    let server = Server::portone(|seen| Act::Reply(ok(&envelope(payment(&seen.merchant_uid(), "paid"))))).await;
    let answer = charge(&gateway(&server.url), UID).await;
    let Outcome::Paid(record) = &answer.outcome else { panic!("{answer:?}") };
    assert_eq!((record.imp_uid.as_str(), record.amount), ("imps_rb2kszxgvi2za4qxdk4pph4h33mf01", Some(Money::krw(9900))));
    assert_eq!(record.at.map(|at| at.as_second()), Some(1_790_000_003));
    let seen = server.seen().into_iter().find(super::server::Seen::is_charge).unwrap();
    assert_eq!(seen.body, super::attempt(UID).body());
    assert_eq!(seen.headers["authorization"], "Bearer token-1");
    assert_eq!(seen.headers["content-type"], "application/json");
    assert_eq!(server.charges()[UID], 1);
}

#[test]
fn nothing_personal_is_kept() {
    let mut declined = payment(UID, "failed");
    declined["fail_reason"] = json!("[1254][잔액부족] 홍 4330-1234-5678-9012 hong@example.com 010-1234-5678");
    let Answer { outcome, kept } = judge(200, envelope(declined).to_string().as_bytes());
    let shown = format!("{kept} {outcome:?}");
    for personal in ["홍길동", "hong@", "010-1234", "4330-1234", "433012", "신한카드", "Pro plan", "cus-0001"] {
        assert!(!kept.to_string().contains(personal), "{personal} in {kept}");
    }
    assert!(!shown.contains("hong@") && !shown.contains("5678"), "{shown}");
    assert_eq!(kept["fail_reason"], "[1254][잔액부족] 홍 [removed] [removed] [removed]");
    assert_eq!((&kept["http_status"], &kept["code"], &kept["status"]), (&json!(200), &json!(0), &json!("failed")));
}

#[test]
fn declines_carry_their_class() {
    let failed = |reason: &str| {
        let mut failed = payment(UID, "failed");
        failed["fail_reason"] = json!(reason);
        outcome(&envelope(failed))
    };
    assert!(matches!(failed("[1254][실시간빌링실패|잔액부족]"), Outcome::Declined(_, Class::SoftFunds)));
    assert!(matches!(failed("[1204][실시간빌링실패|유효기간]"), Outcome::Declined(_, Class::HardCard)));
    assert!(matches!(failed("something new"), Outcome::Declined(_, Class::Unknown)));
    let ambiguous = failed("[1236][실시간빌링실패|중복거래]");
    assert!(matches!(ambiguous, Outcome::Doubt { cause: DoubtCause::AmbiguousDecline, record: Some(_), .. }));
    // missing, null or of another type: nobody knows
    for reason in [Value::Null, json!(7)] {
        let mut failed = payment(UID, "failed");
        failed["fail_reason"] = reason;
        assert!(matches!(outcome(&envelope(failed)), Outcome::Declined(_, Class::Unknown)));
    }
}

#[test]
fn a_paid_answer_with_one_field_changed_is_not_paid() {
    assert!(matches!(outcome(&envelope(payment(UID, "paid"))), Outcome::Paid(_)));
    let others = [Value::Null, json!(0), json!(-1), json!(9901), json!("x"), json!(""), json!(true), json!([]), json!({})];
    for field in ["imp_uid", "merchant_uid", "amount", "currency", "status", "customer_uid"] {
        let mut answers: Vec<Value> = others
            .iter()
            .map(|other| {
                let mut paid = payment(UID, "paid");
                paid[field] = other.clone();
                paid
            })
            .collect();
        let mut without = payment(UID, "paid");
        without.as_object_mut().unwrap().remove(field);
        answers.push(without);
        for paid in answers {
            // an answer may leave the customer out, and any text is an imp_uid
            let fine = match field {
                "customer_uid" => paid[field].is_null(),
                "imp_uid" => paid[field] == "x",
                _ => false,
            };
            let outcome = outcome(&envelope(paid.clone()));
            assert_eq!(matches!(outcome, Outcome::Paid(_)), fine, "{field} {}: {outcome:?}", paid[field]);
        }
    }
    for (field, other, expected) in [
        ("amount", json!(9901), Mismatch::Amount),
        ("amount", json!(9900.5), Mismatch::Amount),
        ("amount", json!(99), Mismatch::Amount),
        ("currency", json!("USD"), Mismatch::Amount),
        ("currency", json!("WON"), Mismatch::Amount),
        ("customer_uid", json!("cus-0002"), Mismatch::Customer),
    ] {
        let mut paid = payment(UID, "paid");
        paid[field] = other;
        assert!(matches!(outcome(&envelope(paid)), Outcome::PaidWrong(_, wrong) if wrong == expected), "{field}");
    }
    for (status, expected) in [
        ("ready", DoubtCause::Pending),
        ("PAID", DoubtCause::Pending),
        ("settled", DoubtCause::Pending),
        ("cancelled", DoubtCause::Cancelled),
    ] {
        assert_eq!(cause(&outcome(&envelope(payment(UID, status)))), Some(expected), "{status}");
    }
}

#[test]
fn a_status_in_the_wrong_place_is_not_paid() {
    let mut flat = payment(UID, "paid");
    flat["code"] = json!(0);
    assert_eq!(cause(&outcome(&flat)), Some(DoubtCause::Nonsense));
    for response in [Value::Null, json!("never"), json!([payment(UID, "paid")]), json!({ "status": "paid" })] {
        let mut body = envelope(response);
        body["status"] = json!("paid");
        assert_eq!(cause(&outcome(&body)), Some(DoubtCause::Nonsense));
    }
    for code in [json!("0"), json!(0.0), Value::Null, json!(false)] {
        let mut body = envelope(payment(UID, "paid"));
        body["code"] = code;
        assert_eq!(cause(&outcome(&body)), Some(DoubtCause::Nonsense));
    }
}

#[test]
fn a_repeated_key_or_a_second_text_is_doubt() {
    let paid = payment(UID, "paid").to_string();
    let twice = paid.replacen('{', r#"{"status":"failed","#, 1);
    for body in [
        format!(r#"{{"code":0,"message":null,"response":{twice}}}"#),
        format!(r#"{{"code":1,"code":0,"message":null,"response":{paid}}}"#),
        format!(r#"{{"code":0,"response":null,"response":{paid}}}"#),
        format!(r#"{{"code":0,"response":{paid}}}{{}}"#),
        format!("\u{feff}{}", envelope(payment(UID, "paid"))),
    ] {
        assert_eq!(cause(&judge(200, body.as_bytes()).outcome), Some(DoubtCause::Nonsense), "{body}");
    }
    let mut invalid = envelope(payment(UID, "paid")).to_string().into_bytes();
    let at = invalid.windows(8).position(|window| window == b"Pro plan").unwrap();
    invalid[at] = 0xff;
    assert_eq!(cause(&judge(200, &invalid).outcome), Some(DoubtCause::Nonsense));
}

#[test]
fn only_listed_refusals_are_definite() {
    for text in ["등록되지 않은 구매자입니다.", "등록되지 않은 구매자입니다", "등록된 고객정보가 없습니다."]
    {
        for code in [1, -1] {
            assert!(matches!(outcome(&refusal(code, text)), Outcome::Refused { key: true, .. }), "{text}");
        }
    }
    for (text, class) in [
        ("등록되지 않은 구매자입니다. 카드사 통신 장애", Class::Transient),
        ("이미 주문이 이루어진 건입니다. (동일한 merchant_uid로 결제 또는 취소된 기록이 있습니다)", Class::Ambiguous),
        ("[1254][실시간빌링실패|잔액부족]", Class::SoftFunds),
        ("카드정보 인증에 실패하였습니다.", Class::Unknown),
        ("", Class::Unknown),
    ] {
        assert_eq!(cause(&outcome(&refusal(1, text))), Some(DoubtCause::Code(class)), "{text}");
    }
    // a refusal that shows a payment contradicts itself
    let mut both = refusal(1, "등록되지 않은 구매자입니다.");
    both["response"] = payment(UID, "paid");
    assert!(matches!(outcome(&both), Outcome::Doubt { cause: DoubtCause::Code(_), record: Some(_), .. }));
    both["response"] = json!({ "buyer_name": "x" });
    assert!(matches!(outcome(&both), Outcome::Doubt { cause: DoubtCause::Code(_), record: None, .. }));
}

#[test]
fn statuses_other_than_success_are_doubt_whatever_they_bring() {
    let paid = envelope(payment(UID, "paid")).to_string();
    for status in (300..600).filter(|status| *status != 401) {
        let expected = if status == 429 || status >= 500 { DoubtCause::Overload } else { DoubtCause::Nonsense };
        assert_eq!(cause(&judge(status, paid.as_bytes()).outcome), Some(expected), "{status}");
    }
    for status in [200, 201, 299] {
        assert!(matches!(judge(status, paid.as_bytes()).outcome, Outcome::Paid(_)));
    }
    assert_eq!(judge(401, paid.as_bytes()).outcome, Outcome::NotSent(NotSent::Unauthorized { token: 7 }));
}

#[tokio::test]
async fn a_401_takes_the_token_away_once() {
    let server = Server::portone(|_| Act::Reply(respond(401, "application/json", b"{}"))).await;
    let gateway = gateway(&server.url);
    let none = gateway.charge(super::attempt(UID)).await;
    assert_eq!(none.outcome, Outcome::NotSent(NotSent::Unauthorized { token: 0 }));
    assert_eq!(server.begun(), 0);
    gateway.ready().await.unwrap();
    let refused = |token| Outcome::NotSent(NotSent::Unauthorized { token });
    assert_eq!(gateway.charge(super::attempt(UID)).await.outcome, refused(1));
    // the next one finds no token: it is not sent, and tells of the same token
    assert_eq!(gateway.charge(super::attempt(UID)).await.outcome, refused(1));
    assert_eq!(server.charges()[UID], 1);
    gateway.ready().await.unwrap();
    assert_eq!(gateway.charge(super::attempt(UID)).await.outcome, refused(2));
    assert_eq!((server.charges()[UID], server.count("/users/getToken")), (2, 2));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let server = Server::portone(move |_| {
            let head = format!("HTTP/1.1 {status} X\r\nlocation: /subscribe/payments/again\r\ncontent-length: 0\r\n\r\n");
            Act::Reply(head.into_bytes())
        })
        .await;
        let answer = charge(&gateway(&server.url), UID).await;
        assert_eq!(cause(&answer.outcome), Some(DoubtCause::Nonsense));
        assert_eq!(server.charges()[UID], 1, "{status}");
    }
}

#[tokio::test]
async fn an_answer_over_256_kib_is_doubt() {
    for (padding, fits) in [(200 * 1024, true), (256 * 1024, false), (2 * 1024 * 1024, false)] {
        let server = Server::portone(move |seen| {
            let mut paid = envelope(payment(&seen.merchant_uid(), "paid")).to_string();
            paid.push_str(&" ".repeat(padding));
            Act::Reply(respond(200, "application/json", paid.as_bytes()))
        })
        .await;
        let answer = charge(&gateway(&server.url), UID).await;
        assert_eq!(matches!(answer.outcome, Outcome::Paid(_)), fits);
        assert_eq!(cause(&answer.outcome), (!fits).then_some(DoubtCause::Nonsense));
    }
}

#[tokio::test]
async fn silence_ends_in_doubt_at_the_deadline() {
    for part in [0, 10, 60, 200] {
        let server =
            Server::portone(move |seen| Act::Stall(ok(&envelope(payment(&seen.merchant_uid(), "paid")))[..part].to_vec())).await;
        let answer = charge(&hasty(&server.url), UID).await;
        assert_eq!(cause(&answer.outcome), Some(DoubtCause::Transport), "{part}");
        assert_eq!(server.charges()[UID], 1);
    }
}

#[tokio::test]
async fn what_fails_before_the_first_byte_is_not_sent() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    // a server that speaks plain HTTP to a TLS client, and one that says nothing at all
    let plain = Server::start(|_| Act::Reply(ok(&json!({})))).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for url in [
        format!("http://{closed}"),
        plain.url.replace("http://", "https://"),
        format!("https://{}", silent.local_addr().unwrap()),
        "https://no-such-host.invalid".to_owned(),
    ] {
        let config = PortOneConfig { connect_timeout: Duration::from_millis(150), ..config(&url) };
        let gateway = PortOne::new(config, clock()).unwrap();
        gateway.tokens.hold("the-token");
        let answer = gateway.charge(super::attempt(UID)).await;
        let Outcome::NotSent(NotSent::Unreachable(why)) = &answer.outcome else { panic!("{url}: {answer:?}") };
        assert!(!why.contains("the-token") && !why.contains("payments/again"), "{why}");
    }
    assert_eq!(plain.seen().len(), 0);
}

proptest! {
    #[test]
    fn any_bytes_have_an_outcome_and_are_not_paid(status in 100u16..1000, body in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(!matches!(judge(status, &body).outcome, Outcome::Paid(_)));
    }

    /// One byte of a paid answer changed, dropped or doubled: paid only if every field that counts still stands there.
    #[test]
    fn a_spoiled_paid_answer_is_paid_only_with_every_field(at in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0..3) {
        let mut body = envelope(payment(UID, "paid")).to_string().into_bytes();
        let at = at.index(body.len());
        match how {
            0 => body[at] = byte,
            1 => { body.remove(at); }
            _ => body.insert(at, byte),
        }
        if let Outcome::Paid(record) = judge(200, &body).outcome {
            let read: Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(&read["code"], &json!(0));
            prop_assert_eq!(record.amount, Some(Money::krw(9900)));
            prop_assert_eq!(&read["response"]["status"], &json!("paid"));
            prop_assert_eq!(&read["response"]["merchant_uid"], &json!(UID));
        }
    }

    #[test]
    fn any_json_has_an_outcome(code in prop::option::of(-2i64..3), status in "[a-z]{0,9}|paid|failed", amount in -10i64..10_000, text in "\\PC{0,40}") {
        let mut record = payment(UID, &status);
        record["amount"] = json!(amount);
        record["fail_reason"] = json!(text);
        let body = json!({ "code": code, "message": text, "response": record });
        let paid = matches!(outcome(&body), Outcome::Paid(_));
        prop_assert_eq!(paid, code == Some(0) && status == "paid" && amount == 9900);
    }
}
