//! Deliveries to a real receiver.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{Endpoint, WebhookCourier, delay, verify};
use crate::ports::courier::{Courier, Handover};
use crate::ports::secret::Secret;
use crate::ports::store::Delivery;
use crate::time::SimulatedClock;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn now() -> Timestamp {
    "2026-12-01T01:00:00Z".parse().unwrap()
}

fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        name: "shop".to_owned(),
        url: url.to_owned(),
        secret: Secret::new(SECRET),
        allow_private: true,
        timeout: Duration::from_millis(200),
    }
}

fn courier(endpoint: Endpoint) -> WebhookCourier {
    WebhookCourier::new(vec![endpoint], Arc::new(SimulatedClock::new(now()))).unwrap()
}

fn delivery() -> Delivery {
    Delivery {
        id: 1,
        endpoint: "shop".to_owned(),
        event_id: "evt_abc".to_owned(),
        kind: "charge.paid".to_owned(),
        at: "2026-11-30T00:00:00Z".parse().unwrap(),
        data: json!({ "amount": 9900, "external_ref": "구독-1" }),
        tries: 3,
    }
}

/// Answers every request with `answer` (nothing: keeps silent), and tells what arrived.
async fn receiver(answer: &'static str) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?key=hunter2", listener.local_addr().unwrap());
    let (tell, arrived) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            while !String::from_utf8_lossy(&bytes).ends_with('}') && stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {}
            let _ = tell.send(String::from_utf8_lossy(&bytes).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
            if answer.is_empty() {
                let _ = stream.read(&mut [0]).await;
            }
        }
    });
    (url, arrived)
}

#[tokio::test]
async fn an_event_arrives_signed() {
    let (url, mut arrived) = receiver("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(courier(endpoint(&url)).deliver(&delivery()).await, Handover::Accepted);
    let request = arrived.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook?key=hunter2 HTTP/1.1\r\n"));
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("webhook-id"), "evt_abc");
    assert_eq!(header("webhook-timestamp"), now().as_second().to_string());
    let valid = |body: &str| {
        let (id, at, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
        verify(&Secret::new(SECRET), id, at, body.as_bytes(), signature, now())
    };
    assert!(valid(body) && !valid(&body.replace("9900", "1")));
    let event: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("charge.paid"), &json!("evt_abc")));
    assert_eq!((&event["timestamp"], &event["data"]), (&json!("2026-11-30T00:00:00Z"), &delivery().data));
}

#[tokio::test]
async fn only_2xx_is_accepted_and_redirects_are_not_followed() {
    for (answer, text) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", None),
        ("HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", Some("HTTP 302")),
        ("HTTP/1.1 410 Gone\r\ncontent-length: 6\r\n\r\nsecret", Some("HTTP 410")),
        ("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n", Some("HTTP 500")),
        ("", Some("no answer in time")),
    ] {
        let (url, mut arrived) = receiver(answer).await;
        let handover = courier(endpoint(&url)).deliver(&delivery()).await;
        assert_eq!(handover, text.map_or(Handover::Accepted, |text| Handover::Failed(text.to_owned())));
        assert!(arrived.recv().await.is_some());
        assert!(arrived.try_recv().is_err(), "{answer}: delivered twice by itself");
    }
}

#[tokio::test]
async fn a_failure_names_no_url_and_no_secret() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for url in [format!("http://{closed}/hook?key=hunter2"), "https://no-such-host.invalid/hook?key=hunter2".to_owned()] {
        let Handover::Failed(text) = courier(endpoint(&url)).deliver(&delivery()).await else { panic!("{url}") };
        assert!(!text.contains("hunter2") && !text.contains("whsec_") && !text.contains("/hook"), "{text}");
    }
    let unknown = Delivery { endpoint: "gone".to_owned(), ..delivery() };
    assert_eq!(courier(endpoint("https://example.com")).deliver(&unknown).await, Handover::UnknownEndpoint);
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_refused() {
    let guarded = Endpoint { allow_private: false, ..endpoint("https://localhost:9/hook") };
    let Handover::Failed(text) = courier(guarded).deliver(&delivery()).await else { panic!("delivered") };
    assert!(text.contains("not public"), "{text}");
}

#[test]
fn wrong_endpoints_are_named() {
    let clock = || Arc::new(SimulatedClock::new(now()));
    for wrong in [
        Endpoint { allow_private: false, ..endpoint("https://10.0.0.1/") },
        Endpoint { allow_private: false, ..endpoint("http://example.com/") },
        Endpoint { secret: Secret::new("whsec_short"), ..endpoint("https://example.com/") },
    ] {
        let error = WebhookCourier::new(vec![wrong], clock()).err().unwrap().to_string();
        assert!(error.starts_with("webhook `shop`: its ") && !error.contains("whsec_short"), "{error}");
    }
    let twice = vec![endpoint("https://example.com/"), endpoint("https://example.com/")];
    assert!(WebhookCourier::new(twice, clock()).is_err());
}

#[test]
fn deliveries_are_tried_for_days() {
    let delays: Vec<_> = (1..).map_while(|tries| delay(tries, 42)).collect();
    assert_eq!(delays.len(), 11);
    assert!(delays[0] < SignedDuration::from_secs(6) && delays[0] > SignedDuration::from_secs(4));
    let days: i64 = delays.iter().map(SignedDuration::as_hours).sum::<i64>() / 24;
    assert!((3..=5).contains(&days), "{days} days");
    assert_ne!(delay(1, 1), delay(1, 2));
}
