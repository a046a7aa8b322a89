//! Tokens, and what the environment may not change.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use futures::future::join_all;
use jiff::SignedDuration;
use rebilld::domain::attempt::MerchantUid;
use rebilld::gateway::portone::{ConfigError, PortOne, PortOneConfig};
use rebilld::ports::clock::Clock as _;
use rebilld::ports::gateway::{Gateway, Unavailable};
use rebilld::ports::secret::Secret;
use rebilld::time::SimulatedClock;
use serde_json::json;

use super::server::{Act, Server, envelope, ok, refusal, respond, token};
use crate::{clock, config, portone};

fn pass(clock: &SimulatedClock, seconds: i64) {
    clock.move_to(clock.now() + SignedDuration::from_secs(seconds));
}

#[tokio::test]
async fn a_hundred_tasks_share_one_token() {
    let server = Server::start(|_| Act::Reply(ok(&token("t", 1800)))).await;
    let gateway = portone(&server.url);
    let ready = join_all((0..100).map(|_| gateway.ready())).await;
    assert!(ready.iter().all(Result::is_ok));
    assert_eq!(server.seen().len(), 1);
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/users/getToken"));
    assert_eq!(seen.json(), json!({ "imp_key": "the-key", "imp_secret": "the-secret" }));
}

#[tokio::test]
async fn a_hundred_tasks_share_one_failure() {
    let server = Server::start(|_| Act::Reply(respond(401, "application/json", b"{}"))).await;
    let gateway = portone(&server.url);
    let ready = join_all((0..100).map(|_| gateway.ready())).await;
    assert!(ready.iter().all(|result| *result == Err(Unavailable::Unauthorized)));
    // wrong keys are not tried again at once, but at the next call
    assert_eq!(server.seen().len(), 1);
    assert_eq!(gateway.ready().await, Err(Unavailable::Unauthorized));
    assert_eq!(server.seen().len(), 2);
}

/// The gateway's clock is a year ahead of ours: only its own two times count.
#[tokio::test]
async fn a_token_is_used_until_its_last_minute_and_then_extended() {
    let clock = clock();
    let offset = 365 * 24 * 3600;
    let expires = Arc::new(AtomicI64::new(0));
    let server = Server::start({
        let (clock, expires) = (clock.clone(), expires.clone());
        // as PortOne does it: the same token, 5 minutes more within its last 60 s
        move |_| {
            let now = clock.now().as_second() + offset;
            let mut until = expires.load(Ordering::SeqCst);
            match until - now {
                ..=0 => until = now + 1800,
                1..=60 => until += 300,
                _ => {}
            }
            expires.store(until, Ordering::SeqCst);
            Act::Reply(ok(&envelope(json!({ "access_token": "t", "now": now, "expired_at": until }))))
        }
    })
    .await;
    let gateway = PortOne::new(config(&server.url), clock.clone()).unwrap();
    gateway.ready().await.unwrap();
    pass(&clock, 1739);
    gateway.ready().await.unwrap();
    assert_eq!(server.seen().len(), 1);
    pass(&clock, 1);
    gateway.ready().await.unwrap();
    assert_eq!(server.seen().len(), 2);
    // 60 + 300 s from here, one of which is rounding
    pass(&clock, 299);
    gateway.ready().await.unwrap();
    assert_eq!(server.seen().len(), 2);
    pass(&clock, 2);
    gateway.ready().await.unwrap();
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_token_about_to_end_is_asked_for_again() {
    let calls = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let lifetime = if calls.fetch_add(1, Ordering::SeqCst) == 0 { 45 } else { 345 };
        Act::Reply(ok(&token("t", lifetime)))
    })
    .await;
    portone(&server.url).ready().await.unwrap();
    assert_eq!(server.seen().len(), 2);
    let short = Server::start(|_| Act::Reply(ok(&token("t", 45)))).await;
    assert!(matches!(portone(&short.url).ready().await, Err(Unavailable::Nonsense(_))));
    assert_eq!(short.seen().len(), 3);
}

#[tokio::test]
async fn a_token_that_makes_no_sense_is_none() {
    for body in [
        refusal(-1, "no"),
        envelope(json!({})),
        token("", 1800),
        token("t", 0),
        token("t\r\nx: y", 1800),
        envelope(json!({ "access_token": "t", "now": 0, "expired_at": 1800 })),
        json!({ "access_token": "t", "now": 1, "expired_at": 1801 }),
    ] {
        let server = Server::start(move |_| Act::Reply(ok(&body))).await;
        let result = portone(&server.url).ready().await;
        assert!(matches!(result, Err(Unavailable::Nonsense(_))), "{result:?}");
        assert_eq!(server.seen().len(), 1);
    }
    let server = Server::start(|_| Act::Reply(respond(500, "text/plain", b"x"))).await;
    assert_eq!(portone(&server.url).ready().await, Err(Unavailable::Overload(500)));
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_look_up_replaces_a_refused_token_once() {
    let issued = Arc::new(AtomicUsize::new(0));
    let good = Arc::new(AtomicUsize::new(2));
    let server = Server::start({
        let (issued, good) = (issued.clone(), good.clone());
        move |seen| {
            if seen.path == "/users/getToken" {
                let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
                return Act::Reply(ok(&token(&format!("t{number}"), 1800)));
            }
            let wanted = format!("Bearer t{}", good.load(Ordering::SeqCst));
            if seen.headers["authorization"] == wanted {
                return Act::Reply(respond(404, "application/json", refusal(-1, "none").to_string().as_bytes()));
            }
            Act::Reply(respond(401, "application/json", refusal(-1, "Unauthorized").to_string().as_bytes()))
        }
    })
    .await;
    let gateway = portone(&server.url);
    let uid = MerchantUid::stored("a");
    assert_eq!(gateway.find_all(&uid).await, Ok(Vec::new()));
    assert_eq!((issued.load(Ordering::SeqCst), server.count("/payments")), (2, 2));
    good.store(99, Ordering::SeqCst);
    assert_eq!(gateway.find_all(&uid).await, Err(Unavailable::Unauthorized));
    assert_eq!((issued.load(Ordering::SeqCst), server.count("/payments")), (3, 4));
}

#[tokio::test]
async fn a_task_that_is_dropped_while_it_asks_blocks_nobody() {
    let calls = AtomicUsize::new(0);
    let server = Server::start(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Act::Stall(Vec::new()),
        _ => Act::Reply(ok(&token("t", 1800))),
    })
    .await;
    let gateway = Arc::new(portone(&server.url));
    let first = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.ready().await }
    });
    while server.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert_eq!(gateway.ready().await, Ok(()));
}

#[test]
fn nothing_secret_is_shown() {
    let config = config("http://127.0.0.1:1");
    let gateway = PortOne::new(config.clone(), clock()).unwrap();
    let shown = format!("{config:?} {gateway:?}");
    assert!(!shown.contains("the-key") && !shown.contains("the-secret"), "{shown}");
    let empty = PortOneConfig { imp_secret: Secret::new(""), ..config };
    assert_eq!(PortOne::new(empty, clock()).unwrap_err(), ConfigError::Keys);
}

/// The environment of a process cannot be changed safely from within, so this test runs its own binary with one.
#[tokio::test]
async fn proxies_of_the_environment_are_ignored() {
    const URL: &str = "REBILLD_TEST_PROXIED_URL";
    #[expect(clippy::disallowed_methods, reason = "how this test's second process learns where to go")]
    if let Ok(url) = std::env::var(URL) {
        portone(&url).ready().await.unwrap();
        return;
    }
    let server = Server::start(|_| Act::Reply(ok(&token("t", 1800)))).await;
    let proxy = Server::start(|_| Act::Reply(respond(502, "text/plain", b"proxied"))).await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "gateway::tokens::proxies_of_the_environment_are_ignored"]).env(URL, &server.url);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, &proxy.url);
    }
    let output = tokio::task::spawn_blocking(move || child.env_remove("NO_PROXY").env_remove("no_proxy").output());
    let output = output.await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((server.seen().len(), proxy.connections()), (1, 0));
}
