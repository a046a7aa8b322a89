//! Each fault as the client sees it, and how faults are chosen.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use rebilld::gateway::sandbox::{Endpoint, Fault, FaultPlan, Malformed, Matcher, Rates, Rule};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{World, order};

async fn with_fault(fault: Fault) -> World {
    let world = World::new().await;
    world.sandbox.set_faults(FaultPlan::script(vec![(Matcher::charges(), fault)]));
    world
}

/// The bytes that a charge is answered with, and how the connection ended.
async fn bytes(world: &World, merchant_uid: &str) -> (Vec<u8>, std::io::Result<usize>) {
    let mut stream = TcpStream::connect(world.sandbox.address()).await.unwrap();
    let body = order(merchant_uid, "good-1").to_string();
    let head = format!(
        "POST /subscribe/payments/again HTTP/1.1\r\nHost: sandbox\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        world.token,
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut read)).await;
    (read, end.unwrap_or(Err(std::io::ErrorKind::TimedOut.into())))
}

fn paid(world: &World) -> usize {
    world.ledger().payments.len()
}

#[tokio::test]
async fn a_dropped_request_is_not_processed_and_a_dropped_response_is() {
    for (fault, payments) in [(Fault::DropRequest, 0), (Fault::DropResponse, 1)] {
        let world = with_fault(fault.clone()).await;
        let (read, end) = bytes(&world, "m").await;
        assert_eq!((read, end.unwrap()), (vec![], 0), "{fault:?}: end of file before the first byte");
        assert_eq!(paid(&world), payments, "{fault:?}");
        assert!(world.raw_charge("m2", "good-1").await.is_err());
        let ledger = world.ledger();
        let posts: Vec<_> = ledger.charges().collect();
        assert_eq!(posts.len(), 2, "one request, one POST");
        assert_eq!((posts[0].faults.as_slice(), posts[0].processed.is_some()), (&[fault][..], payments == 1));
        world.sandbox.set_faults(FaultPlan::none());
        assert_eq!(world.charge("m3", "good-1").await["response"]["status"], "paid", "faults stop");
    }
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let world = with_fault(Fault::ResetResponse).await;
    let (read, end) = bytes(&world, "m").await;
    assert_eq!((read.len(), end.unwrap_err().kind()), (0, std::io::ErrorKind::ConnectionReset));
    assert_eq!(paid(&world), 1);
}

#[tokio::test]
async fn an_answer_is_cut_at_any_byte() {
    let world = World::new().await;
    let (whole, _) = bytes(&world, "whole").await;
    for count in [0, 1, 15, 60, 200, whole.len() as u64 - 1] {
        world.sandbox.set_faults(FaultPlan::script(vec![(Matcher::charges(), Fault::CutAfter { bytes: count })]));
        let (read, end) = bytes(&world, &format!("m{count}")).await;
        assert_eq!((read.len() as u64, end.is_ok()), (count, true));
        assert!(world.raw_charge(&format!("r{count}"), "good-1").await.is_err(), "{count}");
    }
    world.sandbox.set_faults(FaultPlan::script(vec![(Matcher::charges(), Fault::CutAfter { bytes: 5000 })]));
    for n in 0..8 {
        assert_eq!(
            world.charge(&format!("long{n}"), "good-1").await["response"]["status"],
            "paid",
            "one connection, no leftover"
        );
    }
    world.sandbox.set_faults(FaultPlan::script(vec![(Matcher::charges(), Fault::Truncated)]));
    let (read, end) = bytes(&world, "half!").await;
    assert!(end.is_ok());
    let text = String::from_utf8_lossy(&read);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse::<usize>().unwrap();
    assert_eq!(read.len() - head.len() - 4, length / 2, "{body}");
    assert!(world.raw_charge("half?", "good-1").await.is_err());
}

#[tokio::test]
async fn statuses_come_before_or_after_processing() {
    for status in [307, 401, 429, 500, 502, 503] {
        let world = with_fault(Fault::StatusBefore { status }).await;
        assert_eq!(world.raw_charge("m", "good-1").await.unwrap().0, status);
        assert_eq!(paid(&world), 0);
        let world = with_fault(Fault::StatusAfter { status }).await;
        assert_eq!(world.raw_charge("m", "good-1").await.unwrap().0, status);
        assert_eq!(paid(&world), 1);
    }
}

#[tokio::test]
async fn a_redirect_points_back_so_that_a_client_that_follows_it_charges_twice() {
    let world = with_fault(Fault::StatusAfter { status: 307 }).await;
    let (read, _) = bytes(&world, "m").await;
    assert!(String::from_utf8_lossy(&read).contains("location: /subscribe/payments/again\r\n"));
}

#[tokio::test]
async fn malformed_answers_are_200_and_no_payment() {
    for shape in
        [Malformed::Html, Malformed::Empty, Malformed::Nonsense, Malformed::WrongTypes, Malformed::NullResponse, Malformed::Huge]
    {
        let world = with_fault(Fault::Malformed(shape)).await;
        let (status, text) = world.raw_charge("m", "good-1").await.unwrap();
        let answer = serde_json::from_str::<Value>(&text).unwrap_or_default();
        assert_eq!((status, answer["response"]["imp_uid"].is_string()), (200, false), "{shape:?}");
        assert_eq!(text.len() > 256 * 1024, shape == Malformed::Huge);
        assert_eq!(paid(&world), 1);
    }
}

#[tokio::test]
async fn well_formed_answers_lie() {
    let world = with_fault(Fault::WrongAmount).await;
    assert_eq!(world.charge("m", "good-1").await["response"]["amount"], 9901);
    assert_eq!(world.get("/payments/find/m").await.1["response"]["amount"], 9900);
    let foreign = |endpoint| (Matcher::endpoint(endpoint), Fault::Foreign);
    let endpoints = [Endpoint::Again, Endpoint::Find, Endpoint::FindAll, Endpoint::Payments, Endpoint::List];
    world.sandbox.set_faults(FaultPlan::script(endpoints.map(foreign).to_vec()));
    assert_ne!(world.charge("m2", "good-1").await["response"]["merchant_uid"], "m2");
    let named = |answer: &Value| answer.to_string().contains("foreign-merchant-uid");
    for path in ["/payments/find/m", "/payments/find/none", "/payments/findAll/m", "/payments/findAll/none"] {
        let (status, answer) = world.get(path).await;
        assert_eq!((status, named(&answer)), (200, true), "{path}");
    }
    assert!(named(&world.get("/payments?merchant_uid[]=none").await.1));
    assert!(named(&world.get("/payments/status/all").await.1));
}

/// Goes on with a request until this is so; whether it had no answer by then.
async fn hangs_up<T>(request: &mut (impl Future<Output = T> + Unpin), until: impl Fn() -> bool) -> bool {
    for _ in 0..6_000 {
        if until() {
            return true;
        }
        if tokio::time::timeout(Duration::from_millis(5), &mut *request).await.is_ok() {
            return false;
        }
    }
    panic!("not within half a minute");
}

#[tokio::test]
async fn a_delayed_charge_goes_on_when_its_client_hangs_up() {
    let world = with_fault(Fault::DelayBefore { millis: 300 }).await;
    let arrived = |count: usize| world.ledger().charges().count() == count;
    let mut impatient = Box::pin(world.raw_charge("m", "good-1"));
    assert!(hangs_up(&mut impatient, || arrived(1)).await);
    drop(impatient);
    hangs_up(&mut Box::pin(std::future::pending::<()>()), || paid(&world) == 1).await;
    // an hour: it is processed before the delay, or never
    world.sandbox.set_faults(FaultPlan::script(vec![(Matcher::charges(), Fault::DelayAfter { millis: 3_600_000 })]));
    let mut impatient = Box::pin(world.raw_charge("m2", "good-1"));
    assert!(hangs_up(&mut impatient, || paid(&world) == 2).await);
}

#[tokio::test]
async fn what_is_invisible_is_refused_as_a_duplicate_all_the_same() {
    let world = with_fault(Fault::Invisible { seconds: 600 }).await;
    let uid = world.charge("m", "good-1").await["response"]["imp_uid"].as_str().unwrap().to_owned();
    world.pass(599);
    let paths = [
        format!("/payments/{uid}?include_sandbox=true"),
        format!("/payments?imp_uid[]={uid}"),
        "/payments?merchant_uid[]=m".to_owned(),
        "/payments/find/m".to_owned(),
        "/payments/findAll/m/paid".to_owned(),
    ];
    for path in &paths {
        assert_eq!(world.get(path).await.0, 404, "{path}");
    }
    for path in ["/payments/status/all", "/payments/status/paid", "/subscribe/customers/good-1/payments"] {
        assert_eq!(world.get(path).await.1["response"]["total"], 0, "{path}");
    }
    assert_eq!(world.post("/payments/cancel", &json!({"merchant_uid": "m"})).await.1["code"], 1);
    assert_eq!(world.charge("m", "good-1").await["code"], 1);
    world.pass(1);
    for path in &paths {
        assert_eq!(world.get(path).await.0, 200, "{path}");
    }
    assert_eq!(world.get("/payments/status/paid").await.1["response"]["total"], 1);
}

#[tokio::test]
async fn a_late_charge_is_processed_when_the_clock_says_so_and_not_refused_before() {
    let world = World::new().await;
    let late = (Matcher::charges().nth(1), Fault::Late { seconds: 300 });
    world.sandbox.set_faults(FaultPlan::script(vec![late.clone(), (Matcher::charges().nth(3), late.1)]));
    assert!(world.raw_charge("m", "good-1").await.is_err());
    world.pass(299);
    assert_eq!(world.get("/payments/find/m").await.0, 404);
    assert_eq!(paid(&world), 0);
    world.pass(60);
    assert_eq!(world.get("/payments/find/m").await.0, 200);
    let ledger = world.ledger();
    assert_eq!(ledger.payments[0].at.as_second(), ledger.charges().next().unwrap().received_at.as_second() + 300);
    assert_eq!(world.charge("m", "good-1").await["code"], 1);
    assert!(world.raw_charge("m", "good-1").await.is_err());
    world.pass(300);
    let last = world.ledger().posts.pop().unwrap();
    assert_eq!((last.processed.unwrap().code, paid(&world)), (1, 1), "the late duplicate is refused when it is processed");
}

#[tokio::test]
async fn check_then_act_charges_concurrent_duplicates_twice() {
    let world = World::new().await;
    for (millis, payments) in [(None, 1), (Some(1_000), 2)] {
        world.sandbox.set_faults(FaultPlan { check_then_act_millis: millis, ..FaultPlan::none() });
        let id = format!("m{payments}");
        let (a, b) = tokio::join!(world.charge(&id, "good-1"), world.charge(&id, "good-1"));
        let codes = [&a["code"], &b["code"]].iter().filter(|code| **code == &json!(0)).count();
        assert_eq!((codes, world.ledger().payments_of(&id).count()), (payments, payments));
        assert_eq!(world.charge(&id, "good-1").await["code"], 1, "one after the other is refused");
    }
}

#[tokio::test]
async fn the_first_rule_that_matches_wins_until_it_is_used_up() {
    let world = World::new().await;
    let rule = |when, faults, times| Rule { when, faults, times };
    let status = |status| vec![Fault::StatusBefore { status }];
    world.sandbox.set_faults(FaultPlan::rules(vec![
        rule(Matcher::charges().id("spared"), vec![], None),
        rule(Matcher::charges().nth(2), status(502), None),
        rule(Matcher::charges().id_prefix("a-"), status(500), Some(1)),
        rule(Matcher::endpoint(Endpoint::Payments).id("x"), status(503), None),
    ]));
    let charge = async |id: &str| world.raw_charge(id, "limit-1").await.unwrap().0;
    assert_eq!([charge("spared").await, charge("spared").await], [200, 200]);
    assert_eq!([charge("a-1").await, charge("a-1").await, charge("a-1").await], [500, 502, 200]);
    assert_eq!([charge("b").await, charge("b").await], [200, 502]);
    assert_eq!(world.raw("GET", "/payments?merchant_uid[]=y&merchant_uid[]=x", None).await.unwrap().0, 503);
    assert_eq!(world.raw("GET", "/payments?merchant_uid[]=y", None).await.unwrap().0, 404);
}

#[tokio::test]
async fn a_plan_is_set_over_http() {
    let world = World::new().await;
    let plan = json!({"script": [{"when": {"endpoint": "again", "id": "m", "nth": 1}, "faults": [{"status_before": {"status": 503}}, "drop_response"]}]});
    assert_eq!(world.raw("POST", "/_sandbox/faults", Some(&plan)).await.unwrap().0, 200);
    assert_eq!(world.raw_charge("m", "good-1").await.unwrap().0, 503);
    let (_, text) = world.raw("GET", "/_sandbox/faults", None).await.unwrap();
    let read: FaultPlan = serde_json::from_str(&text).unwrap();
    assert_eq!(read.script[0].faults.len(), 2);
    assert_eq!(world.raw("POST", "/_sandbox/faults", Some(&json!({"scrpt": []}))).await.unwrap().0, 400);
    let customer = json!({"customer_uid": "new", "behaviour": {"declines": "contact"}});
    assert_eq!(world.raw("POST", "/_sandbox/customers", Some(&customer)).await.unwrap().0, 200);
    assert_eq!(world.charge("m2", "new").await["response"]["fail_reason"], "[1270][실시간빌링실패|전화요망]");
    assert_eq!(world.raw("GET", "/_sandbox/else", None).await.unwrap().0, 404);
}

/// What each of 200 merchant_uids met in three POSTs each, sent `width` at a time.
async fn seeded(seed: u64, width: usize) -> BTreeMap<(String, u32), Vec<Fault>> {
    let rates = Rates { max_millis: 2, foreign: 10_000, wrong_amount: 10_000, ..Rates::bad_day() };
    let world = World::with(|options| options.faults = FaultPlan::seeded(seed, rates)).await;
    let send = async |n: usize| {
        for _ in 0..3 {
            let _ = world.raw_charge(&format!("m{n}"), "insufficient-1").await;
            let _ = world.raw("GET", &format!("/payments/findAll/m{n}"), None).await;
        }
    };
    let mut numbers: Vec<usize> = (0..200).collect();
    if width > 1 {
        numbers.reverse();
    }
    futures::stream::iter(numbers).for_each_concurrent(width, send).await;
    let ledger = world.ledger();
    ledger.charges().map(|post| ((post.merchant_uid.clone().unwrap(), post.nth), post.faults.clone())).collect()
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults_whatever_the_concurrency() {
    let (one, many, other) = (seeded(7, 1).await, seeded(7, 32).await, seeded(8, 1).await);
    assert_eq!(one.len(), 600);
    assert_eq!(one, many);
    assert_ne!(one, other);
    let hit = one.values().filter(|faults| !faults.is_empty()).count();
    assert!((100..=300).contains(&hit), "{hit} of 600");
    let kinds: std::collections::BTreeSet<_> =
        one.values().flatten().map(|fault| format!("{fault:?}").split([' ', '(']).next().unwrap().to_owned()).collect();
    assert!(kinds.len() >= 10, "{kinds:?}");
}
