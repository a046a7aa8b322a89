//! The ledger: what it has, and that it outlives the sandbox.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use rebilld::gateway::sandbox::{
    CardBehaviour, Decline, Endpoint, Fault, FaultPlan, LedgerSnapshot, Matcher, PaymentStatus, Sandbox, SandboxOptions, serve,
};
use rebilld::time::SimulatedClock;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{START, World, order};

#[tokio::test]
async fn every_post_is_in_the_ledger_with_its_exact_body() {
    let world = World::new().await;
    world.charge("m", "good-1").await;
    let form = "merchant_uid=f&customer_uid=limit-1&amount=500&name=n";
    world.post_form("/subscribe/payments/again", form).await;
    world.get("/payments/find/m").await;
    world.raw("POST", "/subscribe/payments/again", Some(&json!({"merchant_uid": 5}))).await.unwrap();

    let ledger = world.ledger();
    let posts: Vec<_> = ledger.posts.iter().map(|post| (post.sequence, post.endpoint, post.form)).collect();
    use Endpoint::{Again, GetToken};
    assert_eq!(posts, [(0, GetToken, false), (1, Again, false), (2, Again, true), (3, Again, false)]);
    assert_eq!(ledger.lookups[&Endpoint::Find], 1);
    assert_eq!((ledger.posts[0].body.as_str(), ledger.posts[0].imp_key.as_deref()), ("", None));
    let post = &ledger.posts[1];
    assert_eq!(post.body, order("m", "good-1").to_string());
    assert_eq!((post.imp_key.as_deref(), post.amount_minor, post.currency.as_deref()), (Some("key"), Some(9900), Some("KRW")));
    assert_eq!((post.merchant_uid.as_deref(), post.customer_uid.as_deref()), (Some("m"), Some("good-1")));
    let end = post.processed.as_ref().unwrap();
    assert_eq!((end.code, end.imp_uid.as_deref()), (0, Some(ledger.payments[0].imp_uid.as_str())));
    assert_eq!((ledger.posts[2].body.as_str(), ledger.posts[2].amount_minor), (form, Some(500)));
    let hash: String = Sha256::digest(form).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(ledger.posts[2].body_sha256, hash);
    assert_eq!(ledger.posts[3].processed.as_ref().unwrap().code, 1);
    assert_eq!(ledger.payments[1].status, PaymentStatus::Failed);
    assert_eq!(world.sandbox.count_payments(), 2);

    let (_, text) = world.raw("GET", "/_sandbox/ledger", None).await.unwrap();
    assert_eq!(serde_json::from_str::<LedgerSnapshot>(&text).unwrap(), ledger);
}

#[tokio::test]
async fn the_ledger_file_is_read_again_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ledger.jsonl");
    let on_file = |options: &mut SandboxOptions| options.ledger_file = Some(file.clone());
    let world = World::with(on_file).await;
    world.sandbox.add_customer("card", CardBehaviour::DeclinesThenPays { times: 2, decline: Decline::Funds });
    world.charge("a", "card").await;
    world.charge("b", "good-1").await;
    world.charge("c", "good-1").await;
    world.post("/payments/cancel", &json!({"merchant_uid": "c", "amount": 100, "reason": "goodwill"})).await;
    world.delete("/subscribe/customers/good-1").await;
    world.sandbox.set_faults(FaultPlan::script(vec![
        (Matcher::charges().id("late"), Fault::Late { seconds: 300 }),
        (Matcher::charges().id("hidden"), Fault::Invisible { seconds: 300 }),
    ]));
    assert!(world.raw_charge("late", "card").await.is_err());
    world.charge("hidden", "good-2").await;
    let before = world.ledger();
    let moment = world.now();
    world.sandbox.stop().await;
    // what a kill in the middle of a write leaves behind
    std::fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(br#"{"post":{"sequ"#).unwrap();

    let world = World::with(on_file).await;
    world.clock.move_to(moment);
    let after = world.ledger();
    assert_eq!(after.payments, before.payments);
    assert_eq!(after.posts[..before.posts.len()], before.posts);
    assert_eq!(world.charge("b", "good-2").await["code"], 1, "the refusal of duplicates");
    assert_eq!(world.charge("d", "good-1").await["code"], 1, "the deleted card");
    assert_eq!(world.get("/payments/find/c").await.1["response"]["cancel_amount"], 100);
    assert_eq!(world.get("/payments/find/hidden").await.0, 404);
    assert_eq!(world.charge("e", "card").await["response"]["status"], "failed", "the second of two declines");
    assert_eq!(world.ledger().charges().filter(|post| post.merchant_uid.as_deref() == Some("b")).last().unwrap().nth, 2);
    world.pass(300);
    assert_eq!(world.get("/payments/find/hidden").await.0, 200);
    assert_eq!(world.get("/payments/find/late").await.1["response"]["status"], "paid");
    let sequences: Vec<_> = world.ledger().posts.iter().map(|post| post.sequence).collect();
    assert_eq!(sequences, (0..sequences.len() as u64).collect::<Vec<_>>());
    world.sandbox.stop().await;

    std::fs::write(&file, "not a ledger\n").unwrap();
    let mut options = SandboxOptions::new(Arc::new(SimulatedClock::new(START.parse().unwrap())));
    options.ledger_file = Some(file);
    let error = Sandbox::start(options).await.err().unwrap();
    assert!(error.to_string().contains("line 1"), "{error}");
}

#[tokio::test]
async fn stopping_ends_requests_that_are_under_way() {
    let world = World::new().await;
    world.sandbox.set_faults(FaultPlan::script(vec![(Matcher::charges(), Fault::DelayBefore { millis: 60_000 })]));
    let url = world.sandbox.url();
    let mut idle = tokio::net::TcpStream::connect(world.sandbox.address()).await.unwrap();
    idle.write_all(b"POST /subs").await.unwrap();
    let request = world.http.post(format!("{url}/subscribe/payments/again")).json(&order("m", "good-1"));
    let request = tokio::spawn(request.bearer_auth(&world.token).send());
    while world.ledger().charges().count() == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(Duration::from_secs(5), world.sandbox.stop()).await.unwrap();
    assert!(request.await.unwrap().is_err());
    assert!(world.http.get(format!("{url}/users/pg")).send().await.is_err(), "nobody listens");
    idle.write_all(b"cribe/payments/again HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await.ok();
    let mut read = Vec::new();
    let _ = idle.read_to_end(&mut read).await;
    assert_eq!(read, b"");
}

#[tokio::test]
async fn a_dropped_sandbox_stops() {
    let World { sandbox, http, .. } = World::new().await;
    let url = sandbox.url();
    drop(sandbox);
    let listens = async || http.get(&url).send().await.is_ok();
    for _ in 0..100 {
        if !listens().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it still answers");
}

#[tokio::test]
async fn serving_ends_with_its_shutdown() {
    let clock = Arc::new(SimulatedClock::new(START.parse().unwrap()));
    let (told, address) = tokio::sync::oneshot::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(serve(SandboxOptions::new(clock), move |address| told.send(address).unwrap(), async move {
        ended.await.unwrap()
    }));
    let url = format!("http://{}/users/getToken", address.await.unwrap());
    let keys = json!({"imp_key": "sandbox-key", "imp_secret": "sandbox-secret"});
    assert_eq!(crate::world::client().post(url).json(&keys).send().await.unwrap().status(), 200);
    end.send(()).unwrap();
    served.await.unwrap().unwrap();
}
