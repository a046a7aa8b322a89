//! Look-ups: what is absent, and what is only not understood.

use rebilld::domain::attempt::MerchantUid;
use rebilld::domain::outcome::RecordStatus;
use rebilld::gateway::portone::{PortOne, PortOneConfig};
use rebilld::ports::gateway::{Gateway, Unavailable};
use serde_json::{Value, json};

use super::server::{Act, Cut, Server, envelope, ok, payment, refusal, respond};
use crate::{clock, config, portone};

const ABSENT: &str = "존재하지 않는 결제정보입니다.";

fn reply(status: u16, body: &Value) -> Act {
    Act::Reply(respond(status, "application/json", body.to_string().as_bytes()))
}

fn page(records: Vec<Value>, total: usize, next: u32) -> Value {
    envelope(json!({ "total": total, "previous": 0, "next": next, "list": records }))
}

fn id(text: &str) -> MerchantUid {
    MerchantUid::stored(text)
}

/// What each kind of look-up makes of one answer: how many records, or why none.
async fn all_kinds(act: Act) -> [Result<usize, Unavailable>; 4] {
    let server = Server::portone(move |_| act.clone()).await;
    let gateway = portone(&server.url);
    let (from, to) = ("2026-11-01T00:00:00Z".parse().unwrap(), "2026-12-01T00:00:00Z".parse().unwrap());
    [
        gateway.find("imps_a").await.map(|record| record.iter().count()),
        gateway.look_up(&[id("a"), id("b")]).await.map(|records| records.len()),
        gateway.find_all(&id("a")).await.map(|records| records.len()),
        gateway.list(from, to, 1).await.map(|page| page.records.len()),
    ]
}

#[tokio::test]
async fn an_answer_that_is_not_understood_is_never_absent() {
    let html = respond(404, "text/html", b"<html>404</html>");
    let mut both = refusal(-1, ABSENT);
    both["response"] = json!([]);
    for (what, act) in [
        ("a proxy's 404", Act::Reply(html)),
        ("an empty 404", Act::Reply(respond(404, "application/json", b""))),
        ("a 404 that says code 0", reply(404, &envelope(json!([])))),
        ("a 404 without a code", reply(404, &json!({ "message": "Not Found" }))),
        ("a 404 with a response", reply(404, &both)),
        ("200 with a refusal", reply(200, &refusal(-1, ABSENT))),
        ("200 without a response", reply(200, &envelope(Value::Null))),
        ("200 without anything", Act::Reply(respond(200, "application/json", b""))),
        ("200 with a page", Act::Reply(respond(200, "text/html", b"<html></html>"))),
        ("204", Act::Reply(respond(204, "application/json", b""))),
        ("302", Act::Reply(b"HTTP/1.1 302 X\r\nlocation: /\r\ncontent-length: 0\r\n\r\n".to_vec())),
        ("400", reply(400, &refusal(1, "bad request"))),
        ("403", reply(403, &refusal(1, "no"))),
    ] {
        for result in all_kinds(act.clone()).await {
            assert!(matches!(result, Err(Unavailable::Nonsense(_))), "{what}: {result:?}");
        }
    }
    for status in [429, 500, 502, 503] {
        for result in all_kinds(reply(status, &refusal(-1, ABSENT))).await {
            assert_eq!(result, Err(Unavailable::Overload(status)));
        }
    }
    let cut = ok(&page(vec![payment("a", "paid")], 1, 0));
    for at in 0..cut.len() {
        let server = Server::portone({
            let bytes = cut[..at].to_vec();
            move |_| Act::Part { bytes: bytes.clone(), reset: false, pause: 0 }
        })
        .await;
        let result = portone(&server.url).find_all(&id("a")).await;
        assert!(matches!(result, Err(Unavailable::Unreachable(_))), "after {at} bytes: {result:?}");
    }
}

#[tokio::test]
async fn portones_own_404_is_absent() {
    let [find, look_up, find_all, list] = all_kinds(reply(404, &refusal(-1, ABSENT))).await;
    assert_eq!([find, look_up, find_all], [Ok(0), Ok(0), Ok(0)]);
    // this call knows no 404
    assert!(matches!(list, Err(Unavailable::Nonsense(_))));
}

#[tokio::test]
async fn a_batch_leaves_out_what_is_absent() {
    let server = Server::portone(|_| reply(207, &envelope(json!([payment("a", "paid"), payment("a", "failed")])))).await;
    let gateway = portone(&server.url);
    let records = gateway.look_up(&[id("a"), id("b&c=d")]).await.unwrap();
    assert_eq!(
        records.iter().map(|record| record.status.clone()).collect::<Vec<_>>(),
        [RecordStatus::Paid, RecordStatus::Failed]
    );
    assert_eq!(server.seen().last().unwrap().path, "/payments?merchant_uid%5B%5D=a&merchant_uid%5B%5D=b%26c%3Dd");
    assert!(gateway.look_up(&[]).await.unwrap().is_empty());
    // a record that was not asked for makes all of the answer doubtful
    assert!(matches!(gateway.look_up(&[id("b")]).await, Err(Unavailable::Nonsense(_))));
}

#[tokio::test]
async fn more_than_a_hundred_ids_are_asked_in_batches() {
    let server = Server::portone(|_| reply(404, &refusal(-1, ABSENT))).await;
    let ids: Vec<_> = (0..250).map(|number| id(&format!("id-{number}"))).collect();
    assert!(portone(&server.url).look_up(&ids).await.unwrap().is_empty());
    assert_eq!(server.count("/payments?"), 3);
}

#[tokio::test]
async fn one_odd_record_makes_the_answer_nonsense() {
    for (field, value) in [
        ("imp_uid", Value::Null),
        ("merchant_uid", json!("other")),
        ("amount", json!("9900")),
        ("status", Value::Null),
        ("currency", Value::Null),
    ] {
        let mut odd = payment("a", "failed");
        odd[field] = value;
        let list = json!([payment("a", "failed"), odd.clone()]);
        let pages = page(vec![payment("a", "failed"), odd.clone()], 2, 0);
        let server = Server::portone(move |seen| match seen.path.contains("findAll") {
            true => reply(200, &pages),
            false => reply(200, &envelope(list.clone())),
        })
        .await;
        let gateway = portone(&server.url);
        assert!(matches!(gateway.look_up(&[id("a")]).await, Err(Unavailable::Nonsense(_))), "{field}");
        assert!(matches!(gateway.find_all(&id("a")).await, Err(Unavailable::Nonsense(_))), "{field}");
    }
}

#[tokio::test]
async fn all_pages_are_read() {
    let server = Server::portone(|seen| {
        let rows = |status| vec![payment("a", status)];
        match seen.path.contains("page=1&") {
            true => reply(200, &page(rows("failed"), 2, 2)),
            false => reply(200, &page(rows("paid"), 2, 0)),
        }
    })
    .await;
    let records = portone(&server.url).find_all(&id("a")).await.unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[1].status, RecordStatus::Paid);
    assert_eq!(server.seen().last().unwrap().path, "/payments/findAll/a?page=2&limit=1000&sorting=started");
}

#[tokio::test]
async fn pages_that_hide_something_are_nonsense() {
    for (what, first, second) in [
        ("fewer than the total", reply(200, &page(vec![payment("a", "failed")], 2, 0)), None),
        ("a page that has gone", reply(200, &page(vec![payment("a", "failed")], 2, 2)), Some(reply(404, &refusal(-1, ABSENT)))),
        ("in circles", reply(200, &page(vec![payment("a", "failed")], 2, 1)), None),
        ("without end", reply(200, &page(vec![], 2, 2)), Some(reply(200, &page(vec![], 2, 3)))),
        ("another id", reply(200, &page(vec![payment("b", "failed")], 1, 0)), None),
    ] {
        let server = Server::portone(move |seen| match (&second, seen.path.contains("page=1&")) {
            (Some(second), false) => second.clone(),
            _ => first.clone(),
        })
        .await;
        let result = portone(&server.url).find_all(&id("a")).await;
        assert!(matches!(result, Err(Unavailable::Nonsense(_))), "{what}: {result:?}");
    }
}

#[tokio::test]
async fn a_list_asks_for_whole_seconds_outwards() {
    let server = Server::portone(|_| reply(200, &page(vec![payment("anything", "cancelled")], 1001, 8))).await;
    let gateway = portone(&server.url);
    let (from, to) = ("2026-11-01T00:00:00.5Z".parse().unwrap(), "2026-11-02T00:00:00.5Z".parse().unwrap());
    let page = gateway.list(from, to, 7).await.unwrap();
    assert_eq!((page.next, page.total, page.records.len()), (Some(8), 1001, 1));
    let expected = "/payments/status/all?from=1793491200&to=1793577601&page=7&limit=1000&sorting=started";
    assert_eq!(server.seen().last().unwrap().path, expected);
    let later = "2027-03-01T00:00:00Z".parse().unwrap();
    assert!(gateway.list(from, later, 1).await.is_err());
}

#[tokio::test]
async fn a_single_payment_is_found_by_its_imp_uid() {
    let server = Server::portone(|seen| match seen.path.contains("imps_a") {
        true => reply(200, &envelope(payment("a", "paid"))),
        false => reply(404, &refusal(-1, ABSENT)),
    })
    .await;
    let gateway =
        PortOne::new(PortOneConfig { include_sandbox: true, tier: Some("abc".to_owned()), ..config(&server.url) }, clock())
            .unwrap();
    assert_eq!(gateway.find("imps_a").await.unwrap().map(|record| record.merchant_uid), Some("a".to_owned()));
    let seen = server.seen().last().unwrap().clone();
    assert_eq!((seen.path.as_str(), seen.headers["tier"].as_str()), ("/payments/imps_a?include_sandbox=true", "abc"));
    assert_eq!(gateway.find("b/../../x?y").await, Ok(None));
    assert_eq!(server.seen().last().unwrap().path, "/payments/b%2F..%2F..%2Fx%3Fy?include_sandbox=true");
    let before = server.seen().len();
    for bad in ["", ".", "..", "a\nb"] {
        assert!(gateway.find(bad).await.is_err());
    }
    assert_eq!(server.seen().len(), before);
    // about another payment
    assert!(matches!(gateway.find("imps_a2").await, Err(Unavailable::Nonsense(_))));
}

#[tokio::test]
async fn a_moment_of_trouble_is_bridged_but_not_for_ever() {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::portone(move |_| match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Act::Part { bytes: Vec::new(), reset: true, pause: 0 },
        1 => reply(503, &json!({})),
        2 => reply(404, &refusal(-1, ABSENT)),
        _ => reply(503, &json!({})),
    })
    .await;
    let gateway = portone(&server.url);
    assert_eq!(gateway.find_all(&id("a")).await, Ok(Vec::new()));
    assert_eq!(gateway.find_all(&id("a")).await, Err(Unavailable::Overload(503)));
    assert_eq!(server.count("/payments"), 6);
}

#[tokio::test]
async fn a_look_up_cut_in_its_request_is_asked_again() {
    let server = Server::portone(|_| reply(404, &refusal(-1, ABSENT))).await;
    let gateway = portone(&server.url);
    gateway.ready().await.unwrap();
    for after in [0, 1, 20, 80] {
        let begun = server.begun();
        server.cut_next(Cut { after, reset: after % 2 == 0 });
        assert_eq!(gateway.find_all(&id("a")).await, Ok(Vec::new()));
        assert_eq!(server.begun(), begun + 2);
    }
}

#[tokio::test]
async fn the_channels_are_listed() {
    let server = Server::portone(|_| {
        let channel = json!({ "pg_provider": "html5_inicis", "pg_id": "INIBillTst", "sandbox": true, "type": "payment" });
        reply(200, &envelope(json!([channel])))
    })
    .await;
    let channels = portone(&server.url).channels().await.unwrap();
    assert_eq!((channels[0].pg_id.as_str(), channels[0].sandbox), ("INIBillTst", true));
}
