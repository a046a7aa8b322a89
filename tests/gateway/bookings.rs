//! What PortOne's own schedule is going to charge: "none" is believed only from an answer that is understood.

use jiff::Timestamp;
use rebilld::ports::gateway::{Gateway, Unavailable};
use serde_json::{Value, json};

use super::server::{Act, Server, envelope, refusal, respond};
use crate::portone;

fn reply(status: u16, body: &Value) -> Act {
    Act::Reply(respond(status, "application/json", body.to_string().as_bytes()))
}

fn booking(status: &str) -> Value {
    json!({"customer_uid": "card-1", "merchant_uid": "b1", "schedule_at": 1_800_000_000, "schedule_status": status, "amount": 1, "new": {}})
}

fn span() -> (Timestamp, Timestamp) {
    ("2026-11-01T00:00:00Z".parse().unwrap(), "2027-01-01T00:00:00Z".parse().unwrap())
}

async fn asked(act: Act) -> Result<usize, Unavailable> {
    let server = Server::portone(move |_| act.clone()).await;
    let (from, to) = span();
    let found = portone(&server.url).bookings("card-1", from, to).await;
    let seen = server.seen();
    assert!(
        seen.last().unwrap().path.starts_with("/subscribe/customers/card-1/schedules?from="),
        "{:?}",
        seen.last().unwrap().path
    );
    found.map(|found| found.len())
}

#[tokio::test]
async fn a_booking_counts_unless_it_is_over() {
    for (status, counts) in [("scheduled", 1), ("executed", 0), ("revoked", 0), ("a new word", 1)] {
        assert_eq!(asked(reply(200, &envelope(json!([booking(status)])))).await, Ok(counts), "{status}");
    }
    let bare = json!({"merchant_uid": 7, "schedule_at": "soon"});
    assert_eq!(asked(reply(200, &envelope(json!([bare])))).await, Ok(1), "what says nothing of itself may still be charged");
    assert_eq!(asked(reply(200, &envelope(json!([])))).await, Ok(0));
    assert_eq!(asked(reply(404, &refusal(1, "등록된 고객정보가 없습니다."))).await, Ok(0), "a key that PortOne does not know");
}

#[tokio::test]
async fn what_is_not_understood_is_never_none() {
    let mut foreign = booking("scheduled");
    foreign["customer_uid"] = json!("card-2");
    for (what, act) in [
        ("a refusal", reply(200, &refusal(1, "no"))),
        ("no list", reply(200, &envelope(Value::Null))),
        ("an object", reply(200, &envelope(json!({})))),
        ("another key's booking", reply(200, &envelope(json!([foreign])))),
        ("a proxy's 404", Act::Reply(respond(404, "text/html", b"<html></html>"))),
        ("400", reply(400, &refusal(1, "from"))),
    ] {
        assert!(matches!(asked(act).await, Err(Unavailable::Nonsense(_))), "{what}");
    }
    assert_eq!(asked(reply(503, &refusal(-1, ""))).await, Err(Unavailable::Overload(503)));
    let (from, _) = span();
    let gateway = portone("http://127.0.0.1:9");
    let far = from + jiff::SignedDuration::from_hours(24 * 91);
    assert!(matches!(gateway.bookings("card-1", from, far).await, Err(Unavailable::Nonsense(_))));
}

#[tokio::test]
async fn bookings_are_taken_away_by_one_post() {
    for (act, expected) in [
        (reply(200, &envelope(json!([booking("revoked"), booking("revoked")]))), Ok(2)),
        (reply(200, &refusal(1, "취소할 예약결제 기록이 존재하지 않습니다.")), Ok(0)),
        (reply(401, &refusal(-1, "Unauthorized")), Err(Unavailable::Unauthorized)),
        (reply(500, &refusal(-1, "")), Err(Unavailable::Overload(500))),
    ] {
        let server = Server::portone(move |_| act.clone()).await;
        assert_eq!(portone(&server.url).unschedule("card-1").await, expected);
        let posts: Vec<_> = server.seen().into_iter().filter(|seen| seen.path == "/subscribe/payments/unschedule").collect();
        assert_eq!(posts.len(), 1, "{expected:?}");
        assert_eq!(posts[0].body, r#"{"customer_uid":"card-1"}"#);
    }
}
