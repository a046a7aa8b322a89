//! Tokens, charges, look-ups, cancellations, cards and tiers.

use rebilld::gateway::sandbox::{CardBehaviour, Decline, PaymentStatus, SandboxRecords};
use serde_json::{Value, json};

use crate::world::{World, order, uids};

#[tokio::test]
async fn a_token_is_the_same_for_30_minutes_and_longer_for_who_asks_in_the_last_one() {
    let world = World::new().await;
    let first = world.new_token("key", "secret").await;
    let start = world.now().as_second();
    assert_eq!((first["now"].as_i64(), first["expired_at"].as_i64()), (Some(start), Some(start + 1800)));

    world.pass(1739);
    assert_eq!(world.new_token("key", "secret").await["expired_at"], json!(start + 1800), "61 s left: nothing changes");
    world.pass(1);
    let extended = world.new_token("key", "secret").await;
    assert_eq!(extended["access_token"], first["access_token"]);
    assert_eq!(extended["expired_at"], json!(start + 2100), "60 s left: five minutes more");
    assert_eq!(world.new_token("key", "secret").await["expired_at"], json!(start + 2100), "once");

    world.pass(359);
    assert_eq!(world.get("/payments/find/none").await.0, 404, "the token still works");
    world.pass(1);
    assert_eq!(world.get("/payments/find/none").await, (401, json!({"code": -1, "message": "Unauthorized", "response": null})));
    let second = world.new_token("key", "secret").await;
    assert_ne!(second["access_token"], first["access_token"]);
    assert_ne!(world.new_token("other-key", "other-secret").await["access_token"], second["access_token"]);
}

#[tokio::test]
async fn every_call_needs_a_valid_token_bearer_or_bare() {
    let mut world = World::new().await;
    let paths = ["/payments/x", "/payments?imp_uid[]=x", "/payments/find/x", "/payments/find/x/paid", "/payments/findAll/x"];
    let more =
        ["/payments/findAll/x/paid", "/payments/status/all", "/subscribe/customers/x", "/subscribe/customers?customer_uid[]=x"];
    let last = ["/subscribe/customers/x/payments", "/subscribe/customers/x/schedules?from=1&to=2"];
    let token = std::mem::replace(&mut world.token, "wrong".to_owned());
    for path in paths.into_iter().chain(more).chain(last) {
        assert_eq!(world.get(path).await.0, 401, "{path}");
    }
    for path in ["/subscribe/payments/again", "/payments/cancel", "/subscribe/customers/x"] {
        assert_eq!(world.post(path, &json!({})).await.0, 401, "{path}");
    }
    assert_eq!(world.delete("/subscribe/customers/x").await.0, 401);
    assert_eq!(world.post("/users/getToken", &json!({"imp_key": "key", "imp_secret": "wrong"})).await.0, 401);
    assert_eq!(world.post_form("/users/getToken", "imp_key=key&imp_secret=secret").await.0, 200);

    let bare = world.http.get(format!("{}/users/pg", world.sandbox.url())).header("Authorization", &token);
    assert_eq!(bare.send().await.unwrap().status(), 200);
    world.token = token;
    let (status, pg) = world.get("/users/pg").await;
    assert_eq!((status, &pg["response"][0]["pg_id"]), (200, &json!("INIBillTst")));
}

#[tokio::test]
async fn json_and_forms_charge_alike() {
    let world = World::new().await;
    let json = world.charge("m-json", "good-1").await;
    let form = "merchant_uid=m-form&customer_uid=good-1&amount=9900&name=Pro+plan&buyer_name=%ED%99%8D%EA%B8%B8%EB%8F%99&custom_data=attempt-1";
    let (status, form) = world.post_form("/subscribe/payments/again", form).await;
    assert_eq!(status, 200);
    for answer in [&json, &form] {
        let payment = &answer["response"];
        assert_eq!((&answer["code"], &payment["status"], &payment["amount"]), (&json!(0), &json!("paid"), &json!(9900)));
        assert_eq!((&payment["buyer_name"], &payment["name"]), (&json!("홍길동"), &json!("Pro plan")));
        assert_eq!((&payment["currency"], &payment["customer_uid"]), (&json!("KRW"), &json!("good-1")));
        assert_eq!(payment["paid_at"], json!(world.now().as_second()));
    }
    let charge = json!({"merchant_uid": "m-usd", "customer_uid": "good-1", "amount": 12.34, "name": "n", "currency": "USD"});
    let (_, answer) = world.post("/subscribe/payments/again", &charge).await;
    assert_eq!((&answer["response"]["amount"], &answer["response"]["currency"]), (&json!(12.34), &json!("USD")));
}

#[tokio::test]
async fn what_is_not_valid_is_refused_with_code_1_and_leaves_no_record() {
    let world = World::new().await;
    let long = |count: usize| "가".repeat(count);
    for (field, wrong) in [
        ("merchant_uid", json!(null)),
        ("customer_uid", json!("")),
        ("name", json!(null)),
        ("amount", json!(null)),
        ("amount", json!("9900")),
        ("amount", json!(9900.5)),
        ("amount", json!({})),
        ("currency", json!("WON")),
        ("merchant_uid", json!(long(41))),
        ("customer_uid", json!(long(81))),
        ("name", json!(long(41))),
        ("buyer_name", json!(long(17))),
        ("buyer_tel", json!(1)),
        ("card_quota", json!("many")),
    ] {
        let mut order = order("m", "good-1");
        order[field] = wrong.clone();
        let (status, answer) = world.post("/subscribe/payments/again", &order).await;
        assert_eq!((status, &answer["code"]), (200, &json!(1)), "{field} {wrong}");
        assert!(answer["message"].as_str().unwrap().contains(field), "{answer}");
    }
    let (status, text) = world.raw("POST", "/subscribe/payments/again", None).await.unwrap();
    assert_eq!((status, text.contains("\"code\":1")), (200, true), "{text}");
    let unknown = world.charge("m", "unknown-1").await;
    assert_eq!((&unknown["code"], &unknown["message"]), (&json!(1), &json!("등록되지 않은 구매자입니다.")));
    assert_eq!(world.ledger().payments, []);
    let mut free = order("m", "good-1");
    free["amount"] = json!(0);
    let (_, answer) = world.post("/subscribe/payments/again", &free).await;
    assert_eq!(answer["response"]["fail_reason"], "[1113][실시간빌링실패|요청금액 0원 이하]");
}

#[tokio::test]
async fn a_paid_or_cancelled_merchant_uid_is_refused_and_a_failed_one_is_not() {
    let world = World::new().await;
    world.sandbox.add_customer("card", CardBehaviour::DeclinesThenPays { times: 2, decline: Decline::Funds });
    for _ in 0..2 {
        let declined = world.charge("m", "card").await;
        assert_eq!((&declined["code"], &declined["response"]["status"]), (&json!(0), &json!("failed")));
        assert_eq!(declined["response"]["fail_reason"], "[1254][실시간빌링실패|잔액부족]");
        world.pass(60);
    }
    assert_eq!(world.charge("m", "card").await["response"]["status"], "paid");
    let refused = json!({"code": 1, "response": null,
        "message": "이미 주문이 이루어진 건입니다. (동일한 merchant_uid로 결제 또는 취소된 기록이 있습니다)"});
    assert_eq!(world.charge("m", "card").await, refused);
    assert_eq!(world.post("/payments/cancel", &json!({"merchant_uid": "m"})).await.1["code"], 0);
    assert_eq!(world.charge("m", "card").await, refused);

    let ledger = world.ledger();
    let records: Vec<_> = ledger.payments_of("m").map(|payment| (payment.post, payment.status)).collect();
    let sequence: Vec<_> = ledger.charges().map(|post| post.sequence).collect();
    let [first, second, third, ..] = sequence[..] else { panic!() };
    use PaymentStatus::{Cancelled, Failed};
    assert_eq!(records, [(first, Failed), (second, Failed), (third, Cancelled)]);
    assert_eq!(ledger.charges().map(|post| post.nth).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn find_shows_the_newest_and_find_all_shows_all() {
    let world = World::new().await;
    let mut made = Vec::new();
    world.sandbox.add_customer("card", CardBehaviour::Declines(Decline::Limit));
    for _ in 0..3 {
        made.push(world.charge("m", "card").await["response"]["imp_uid"].as_str().unwrap().to_owned());
        world.pass(1);
    }
    let [a, b, c] = [made[0].as_str(), made[1].as_str(), made[2].as_str()];
    let uid = |answer: &(u16, Value)| answer.1["response"]["imp_uid"].as_str().unwrap_or_default().to_owned();
    assert_eq!(uid(&world.get("/payments/find/m").await), c);
    assert_eq!(uid(&world.get("/payments/find/m?sorting=started").await), a);
    assert_eq!(uid(&world.get("/payments/find/m/failed").await), c);
    assert_eq!(world.get("/payments/find/m/paid").await.0, 404);
    let (status, all) = world.get("/payments/findAll/m").await;
    assert_eq!((status, uids(&all["response"]["list"])), (200, vec![c, b, a]));
    let (_, page) = world.get("/payments/findAll/m/failed?limit=2&page=2&sorting=started").await;
    let page = &page["response"];
    assert_eq!((&page["total"], &page["previous"], &page["next"]), (&json!(3), &json!(1), &json!(0)));
    assert_eq!(uids(&page["list"]), [c]);
    assert_eq!(world.get("/payments/findAll/m?limit=2&page=3").await.0, 400);
    assert_eq!(world.get("/payments/findAll/m?limit=1001").await.0, 400);
    assert_eq!(world.get("/payments/findAll/m/paid").await.0, 404);
    let gone = json!({"code": -1, "message": "존재하지 않는 결제정보입니다.", "response": null});
    assert_eq!(world.get("/payments/findAll/none").await, (404, gone));
}

#[tokio::test]
async fn a_batch_says_200_207_or_404_and_takes_100_ids() {
    let world = World::new().await;
    world.sandbox.add_customer("card", CardBehaviour::DeclinesThenPays { times: 1, decline: Decline::Funds });
    world.charge("a/1", "card").await;
    let paid = world.charge("a/1", "card").await["response"]["imp_uid"].as_str().unwrap().to_owned();
    let other = world.charge("b", "good-1").await["response"]["imp_uid"].as_str().unwrap().to_owned();
    let (status, both) = world.get(&format!("/payments?imp_uid[]={other}&merchant_uid[]=a%2F1")).await;
    assert_eq!((status, uids(&both["response"])), (200, vec![other.as_str(), paid.as_str()]), "the newest of a/1");
    let (status, some) = world.get("/payments?merchant_uid%5B%5D=none&merchant_uid%5B%5D=b").await;
    assert_eq!((status, uids(&some["response"])), (207, vec![other.as_str()]));
    assert_eq!(world.get("/payments?merchant_uid[]=none").await.0, 404);
    let ids = |count: usize| (0..count).map(|n| format!("merchant_uid[]=m{n}")).collect::<Vec<_>>().join("&");
    assert_eq!(world.get(&format!("/payments?{}", ids(100))).await.0, 404);
    assert_eq!(world.raw("GET", &format!("/payments?{}", ids(101)), None).await.unwrap().0, 400);
    assert_eq!(world.get("/payments/find/a%2F1").await.0, 200);
}

#[tokio::test]
async fn the_list_by_status_has_a_window_and_pages() {
    let world = World::new().await;
    let start = world.now().as_second();
    for n in 0..5 {
        world.charge(&format!("m{n}"), if n == 3 { "limit-1" } else { "good-1" }).await;
        world.pass(100);
    }
    let (_, all) = world.get("/payments/status/all?limit=2").await;
    let page = |answer: &Value| {
        let page = &answer["response"];
        let ids: Vec<_> =
            page["list"].as_array().unwrap().iter().map(|p| p["merchant_uid"].as_str().unwrap().to_owned()).collect();
        (page["total"].as_i64().unwrap(), page["previous"].as_i64().unwrap(), page["next"].as_i64().unwrap(), ids.join(" "))
    };
    assert_eq!(page(&all), (5, 0, 2, "m4 m3".to_owned()));
    assert_eq!(page(&world.get("/payments/status/all?limit=2&page=3").await.1), (5, 2, 0, "m0".to_owned()));
    assert_eq!(page(&world.get("/payments/status/paid?sorting=paid").await.1), (4, 0, 0, "m0 m1 m2 m4".to_owned()));
    assert_eq!(page(&world.get("/payments/status/failed").await.1), (1, 0, 0, "m3".to_owned()));
    assert_eq!(page(&world.get("/payments/status/ready").await.1), (0, 0, 0, String::new()));
    let window = format!("/payments/status/all?from={}&to={}", start + 100, start + 200);
    assert_eq!(page(&world.get(&window).await.1), (2, 0, 0, "m2 m1".to_owned()));
    world.post("/payments/cancel", &json!({"merchant_uid": "m0"})).await;
    assert_eq!(page(&world.get("/payments/status/all?sorting=-updated&limit=2").await.1).3, "m0 m4");
    let since = format!("/payments/status/cancelled?from={}&to={}", start + 500, start + 600);
    assert_eq!(page(&world.get(&since).await.1).3, "m0", "by the time of the cancellation");
    for wrong in ["all?page=2", "all?limit=0", "all?page=x", "nothing", &format!("all?from={}&to={start}", start - 91 * 86_400)] {
        assert_eq!(world.get(&format!("/payments/status/{wrong}")).await.0, 400, "{wrong}");
    }
    world.pass(91 * 86_400);
    let mut world = world;
    world.renew().await;
    assert_eq!(page(&world.get("/payments/status/all").await.1).0, 0, "the last 90 days if nothing is said");
}

#[tokio::test]
async fn payments_of_a_test_channel_are_hidden_as_documented() {
    for (records, sandbox, by_imp_uid, by_merchant_uid) in [
        (SandboxRecords::ByMerchantUid, true, 404, 200),
        (SandboxRecords::Everywhere, true, 200, 200),
        (SandboxRecords::Nowhere, true, 404, 404),
        (SandboxRecords::Nowhere, false, 200, 200),
    ] {
        let world = World::with(|options| (options.records, options.sandbox) = (records, sandbox)).await;
        let paid = world.charge("m", "good-1").await;
        assert_eq!(paid["response"]["sandbox"], sandbox);
        let uid = paid["response"]["imp_uid"].as_str().unwrap();
        assert_eq!(world.get(&format!("/payments/{uid}")).await.0, by_imp_uid, "{records:?}");
        assert_eq!(world.get(&format!("/payments/{uid}?include_sandbox=true")).await.0, 200, "{records:?}");
        for path in ["/payments/find/m", "/payments/findAll/m", "/payments?merchant_uid[]=m"] {
            assert_eq!(world.get(path).await.0, by_merchant_uid, "{records:?} {path}");
        }
        let listed = world.get("/payments/status/all").await.1["response"]["total"] == 1;
        assert_eq!(listed, by_merchant_uid == 200, "{records:?}");
    }
}

#[tokio::test]
async fn money_is_given_back_in_parts_and_not_twice() {
    let world = World::new().await;
    let uid = world.charge("m", "good-1").await["response"]["imp_uid"].as_str().unwrap().to_owned();
    let cancel = async |body: Value| world.post("/payments/cancel", &body).await.1;
    assert_eq!(cancel(json!({})).await["code"], 1);
    assert_eq!(cancel(json!({"imp_uid": "wrong", "merchant_uid": "m"})).await["message"], "취소할 결제건이 존재하지 않습니다.");
    assert_eq!(cancel(json!({"merchant_uid": "m", "amount": 9901})).await["code"], 1);
    assert_eq!(cancel(json!({"merchant_uid": "m", "checksum": 9899})).await["code"], 1);
    let part = cancel(json!({"imp_uid": uid, "amount": 900, "checksum": 9900, "reason": "goodwill"})).await;
    assert_eq!((&part["response"]["status"], &part["response"]["cancel_amount"]), (&json!("paid"), &json!(900)));
    let (_, rest) = world.post_form("/payments/cancel", "merchant_uid=m&checksum=9000").await;
    assert_eq!((&rest["response"]["status"], &rest["response"]["cancel_amount"]), (&json!("cancelled"), &json!(9900)));
    assert_eq!(rest["response"]["cancel_history"].as_array().unwrap().len(), 2);
    let again = json!({"code": 1, "message": "취소할 결제건이 존재하지 않습니다.", "response": null});
    assert_eq!(cancel(json!({"imp_uid": uid})).await, again);
    assert_eq!(world.get("/payments/find/m/cancelled").await.0, 200);
}

#[tokio::test]
async fn cards_are_registered_replaced_listed_and_deleted() {
    let world = World::new().await;
    assert_eq!(world.get("/subscribe/customers/c").await.0, 404);
    let card = |number: &str| json!({"card_number": number, "expiry": "2030-01", "birth": "800101", "pwd_2digit": "00"});
    let save = async |number: &str| world.post("/subscribe/customers/c", &card(number)).await.1["code"].as_i64().unwrap();
    assert_eq!(save("12").await, -1);
    assert_eq!(world.post("/subscribe/customers/c", &json!({"card_number": "1"})).await.1["code"], 1);
    for (number, status, reason) in [
        ("4000-0000-0000-1254", "failed", json!("[1254][실시간빌링실패|잔액부족]")),
        ("4000-0000-0000-1226", "failed", json!("[1226][실시간빌링실패|도난, 분실카드]")),
        ("4000-0000-0000-0002", "ready", json!(null)),
        ("4330-1234-1234-1234", "paid", json!(null)),
    ] {
        assert_eq!(save(number).await, 0);
        let charge = world.charge("m", "c").await;
        assert_eq!((&charge["response"]["status"], &charge["response"]["fail_reason"]), (&json!(status), &reason));
    }
    assert_eq!(world.get("/subscribe/customers/c").await.1["response"]["customer_uid"], "c");
    assert_eq!(world.get("/subscribe/customers?customer_uid[]=c").await.0, 200);
    assert_eq!(world.get("/subscribe/customers?customer_uid[]=c&customer_uid[]=none").await.0, 207);
    assert_eq!(world.get("/subscribe/customers?customer_uid[]=none").await.0, 404);
    assert_eq!(world.get("/subscribe/customers/c/payments").await.1["response"]["total"], 4);
    assert_eq!(world.get("/subscribe/customers/none/payments").await.0, 404);
    assert_eq!(world.get("/subscribe/customers/c/schedules?from=1&to=2").await.1["response"], json!([]));
    assert_eq!(world.get("/subscribe/customers/c/schedules").await.0, 400);
    assert_eq!(world.delete("/subscribe/customers/c?reason=moved").await.0, 200);
    assert_eq!(world.delete("/subscribe/customers/c").await.0, 404);
    assert_eq!(world.charge("m2", "c").await["message"], "등록되지 않은 구매자입니다.");
    let posts = world.ledger().posts;
    assert!(posts.iter().all(|post| !post.body.contains("4000-")), "card data is nobody's business");
    assert!(posts.iter().all(|post| !post.body.contains("secret")));
}

#[tokio::test]
async fn the_first_word_of_a_customer_decides_where_nobody_registered_one() {
    let world = World::new().await;
    for (uid, reason) in [
        ("insufficient-1", "[1254][실시간빌링실패|잔액부족]"),
        ("expired-1", "[1204][실시간빌링실패|유효기간 만료(기간오류)]"),
        ("stolen-1", "[1226][실시간빌링실패|도난, 분실카드]"),
        ("contact-1", "[1270][실시간빌링실패|전화요망]"),
    ] {
        assert_eq!(world.charge(uid, uid).await["response"]["fail_reason"], reason);
        assert_eq!(world.get(&format!("/subscribe/customers/{uid}")).await.0, 200);
    }
    let strict = World::with(|options| options.prefixes = false).await;
    assert_eq!(strict.charge("m", "good-1").await["code"], 1);
}

#[tokio::test]
async fn other_behaviours_of_cards() {
    let world = World::new().await;
    let now = world.now();
    let until = now + jiff::SignedDuration::from_hours(24);
    world.sandbox.add_customer("while", CardBehaviour::DeclinesDuring { from: now, until, decline: Decline::Outage });
    world.sandbox.add_customer("refuses", CardBehaviour::Refuses { code: -1, message: "PG 오류".to_owned() });
    let flaky = CardBehaviour::Flaky { per_million: 500_000, seed: 7, decline: Decline::Text("[1201]".to_owned()) };
    world.sandbox.add_customer("flaky", flaky);
    assert_eq!(world.charge("w1", "while").await["response"]["status"], "failed");
    assert_eq!(world.charge("r", "refuses").await, json!({"code": -1, "message": "PG 오류", "response": null}));
    assert_eq!(world.get("/payments/find/r").await.0, 404, "a refusal leaves no record");
    let mut paid = 0;
    for n in 0..40 {
        paid += i32::from(world.charge(&format!("f{n}"), "flaky").await["response"]["status"] == "paid");
    }
    assert!((8..=32).contains(&paid), "{paid} of 40");
    world.pass(24 * 3600);
    let mut world = world;
    world.renew().await;
    assert_eq!(world.charge("w2", "while").await["response"]["status"], "paid");
}

#[tokio::test]
async fn a_tier_and_an_account_see_only_their_own() {
    let mut world = World::new().await;
    world.charge("m", "good-1").await;
    world.tier = Some("AAA");
    assert_eq!(world.get("/payments/find/m").await.0, 404);
    assert_eq!(world.charge("m", "good-1").await["response"]["status"], "paid", "the refusal of duplicates is per tier too");
    assert_eq!(world.get("/payments/status/all").await.1["response"]["total"], 1);
    world.tier = Some("BBB");
    assert_eq!(world.get("/payments/find/m").await.0, 401, "a tier that the account does not have");
    world.tier = None;
    assert_eq!(world.get("/payments/status/all").await.1["response"]["total"], 1);
    let other = world.new_token("other-key", "other-secret").await;
    world.token = other["access_token"].as_str().unwrap().to_owned();
    assert_eq!(world.get("/payments/find/m").await.0, 404);
}
