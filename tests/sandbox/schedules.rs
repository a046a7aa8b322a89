//! PortOne's own schedule in the sandbox: bookings are kept, shown and taken back, and none is carried out.

use serde_json::{Value, json};

use crate::world::World;

const DAY: i64 = 24 * 3600;

fn booking(world: &World, merchant_uid: &str, days: i64) -> Value {
    json!({"merchant_uid": merchant_uid, "schedule_at": world.now().as_second() + days * DAY, "amount": 9900, "currency": "KRW", "name": "Pro"})
}

async fn shown(world: &World, customer_uid: &str, days: i64, more: &str) -> Value {
    let (from, to) = (world.now().as_second() - DAY, world.now().as_second() + days * DAY);
    let (status, mut answer) =
        world.get(&format!("/subscribe/customers/{customer_uid}/schedules?from={from}&to={to}{more}")).await;
    assert_eq!(status, 200, "{answer}");
    answer["response"].take()
}

#[tokio::test]
async fn what_is_booked_is_shown_until_it_is_taken_back() {
    let world = World::new().await;
    let schedules = json!([booking(&world, "b1", 1), booking(&world, "b2", 40)]);
    let (_, answer) =
        world.post("/subscribe/payments/schedule", &json!({"customer_uid": "good-1", "schedules": schedules})).await;
    assert_eq!((&answer["code"], answer["response"].as_array().unwrap().len()), (&json!(0), 2), "{answer}");
    assert_eq!(shown(&world, "good-1", 90, "").await.as_array().unwrap().len(), 2);
    assert_eq!(shown(&world, "good-1", 30, "&schedule-status=scheduled").await[0]["merchant_uid"], "b1");
    assert_eq!(shown(&world, "good-1", 90, "&page=2").await, json!([]));
    assert_eq!(shown(&world, "good-2", 90, "").await, json!([]), "another card's bookings are its own");
    assert_eq!(world.get("/subscribe/customers/good-1/schedules?from=0&to=99999999").await.0, 400, "three months at most");
    assert_eq!(world.get("/subscribe/customers/good-1/schedules?from=1&to=2&schedule-status=x").await.0, 400);

    let unschedule = json!({"customer_uid": "good-1", "merchant_uid": ["b1"]});
    let (_, answer) = world.post("/subscribe/payments/unschedule", &unschedule).await;
    assert_eq!((&answer["code"], &answer["response"][0]["schedule_status"]), (&json!(0), &json!("revoked")), "{answer}");
    assert_eq!(world.post("/subscribe/payments/unschedule", &unschedule).await.1["code"], 1, "it is gone already");
    assert_eq!(shown(&world, "good-1", 90, "&schedule-status=revoked").await[0]["merchant_uid"], "b1");
    let (_, answer) = world.post("/subscribe/payments/unschedule", &json!({"customer_uid": "good-1"})).await;
    assert_eq!((&answer["code"], answer["response"].as_array().unwrap().len()), (&json!(0), 1), "all that is left");
    assert_eq!(shown(&world, "good-1", 90, "&schedule-status=scheduled").await, json!([]));
    world.pass(50 * DAY);
    assert!(world.ledger().payments.is_empty(), "none is carried out");
}

#[tokio::test]
async fn a_wrong_booking_books_nothing() {
    let world = World::new().await;
    world.charge("taken", "good-1").await;
    let mut text = booking(&world, "b", 1);
    text["amount"] = json!("9900");
    for (customer_uid, schedules) in [
        ("nobody", json!([booking(&world, "b", 1)])),
        ("good-1", json!([booking(&world, "b", 1), booking(&world, "taken", 1)])),
        ("good-1", json!([booking(&world, "b", 1), booking(&world, "b", 2)])),
        ("good-1", json!([booking(&world, "b", -1)])),
        ("good-1", json!([text])),
        ("good-1", json!("b")),
        ("good-1", json!(null)),
    ] {
        let body = json!({"customer_uid": customer_uid, "schedules": schedules});
        let (status, answer) = world.post("/subscribe/payments/schedule", &body).await;
        assert_eq!((status, &answer["code"], &answer["response"]), (200, &json!(1), &json!(null)), "{body}");
    }
    assert_eq!(world.post("/subscribe/payments/unschedule", &json!({})).await.1["code"], 1);
    assert_eq!(world.post("/subscribe/payments/unschedule", &json!({"merchant_uid": "b"})).await.1["code"], 1);
    assert_eq!(shown(&world, "good-1", 90, "").await, json!([]));
}

#[tokio::test]
async fn bookings_outlive_a_killed_sandbox() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ledger.jsonl");
    let world = World::with(|options| options.ledger_file = Some(file.clone())).await;
    let body = json!({"customer_uid": "good-1", "schedules": [booking(&world, "b1", 1), booking(&world, "b2", 2)]});
    world.post("/subscribe/payments/schedule", &body).await;
    world.post("/subscribe/payments/unschedule", &json!({"merchant_uid": ["b1"]})).await;
    drop(world);
    let world = World::with(|options| options.ledger_file = Some(file)).await;
    let left = shown(&world, "good-1", 90, "&schedule-status=scheduled").await;
    assert_eq!((left.as_array().unwrap().len(), &left[0]["merchant_uid"]), (1, &json!("b2")));
}
