//! What changes while a charge is on its way: an approval after a failure, another card, another plan.

use std::sync::Arc;

use jiff::SignedDuration;
use rebilld::domain::attempt::Hint;
use rebilld::domain::charge::ChargeId;
use rebilld::domain::decide::{Refusal, Ruling};
use rebilld::domain::decline::Class;
use rebilld::domain::dunning::{Dunning, Dunnings, End, Ladder, PlanDunning};
use rebilld::domain::plan::{CatchUp, Plan};
use rebilld::engine::rule::RuleError;
use rebilld::ports::clock::Clock;
use rebilld::ports::store::Store;

use super::rig::{Engine, Of, Outage, Post, World, at, both, plan};

const FUNDS: &str = "[1254][실시간빌링실패|잔액부족]";
const EXPIRED: &str = "[1204][실시간빌링실패|유효기간 만료(기간오류)]";
const OUTAGE: &str = "[1235][실시간빌링실패|카드사 통신장애]";

async fn world(engine: Engine, refs: &[&str]) -> World {
    let plans = [plan("monthly", "1 month", 9_900), plan("other", "1 month", 5_500)];
    let world = World::new(engine, "2028-01-09T12:00", plans).await;
    for external_ref in refs {
        world.subscribe(external_ref, "monthly", "2028-01-10", &[]).await;
    }
    world
}

async fn card(world: &World, external_ref: &str, customer: &str) {
    world.sql(&format!("UPDATE subscriptions SET customer_uid = '{customer}' WHERE external_ref = '{external_ref}'")).await;
}

/// A charge whose requests never arrive: in review.
async fn lost_three_times(engine: Engine) -> World {
    let world = world(engine, &["a"]).await;
    *world.till.outage.lock().unwrap() =
        Some(Outage { from: at("2028-01-10T10:00"), to: at("2028-01-20T10:00"), of: Of::Charges });
    world.live_until("2028-01-21T12:00").await;
    assert_eq!(world.sql("SELECT state FROM charges").await[0].text("state").unwrap(), "review");
    world
}

/// A charge that this database knows nothing of.
fn ask_elsewhere(world: &World, merchant_uid: &str, refused: Option<&str>) {
    let body = serde_json::json!({ "amount": 9900, "customer_uid": "card-a" });
    let (merchant_uid, at) = (merchant_uid.to_owned(), world.clock.now());
    world.till.posts.lock().unwrap().push(Post { merchant_uid, at, body, refused: refused.map(str::to_owned) });
}

both! {
    async fn an_outage_that_is_approved_minutes_later_is_not_charged_again(engine) {
        let world = world(engine, &["a"]).await;
        world.refuse("card-a", Some(OUTAGE));
        world.live_until("2028-01-10T10:01").await;
        assert_eq!(world.posts().len(), 1);
        world.till.approve(0);
        world.till.refusals.lock().unwrap().clear();
        world.live_until("2028-01-11T12:00").await;
        assert_eq!(world.posts().len(), 1, "the first id is asked before the second is sent");
        assert_eq!(world.periods("a").await, ["2028-01-10..2028-02-10 9900"]);
        assert_eq!(world.count("SELECT count(*) AS n FROM incidents").await, 0);
    }

    async fn while_look_ups_fail_nothing_is_sent_not_even_what_is_first_tried(engine) {
        let world = world(engine, &["a", "b"]).await;
        world.refuse("card-a", Some(OUTAGE));
        world.live_until("2028-01-10T10:01").await;
        assert_eq!(world.posts().len(), 2);
        // what was reported as failed is approved, and for a day nobody can find that out
        world.till.approve(0);
        world.till.refusals.lock().unwrap().clear();
        world.subscribe("c", "monthly", "2028-01-10", &[]).await;
        *world.till.outage.lock().unwrap() =
            Some(Outage { from: at("2028-01-10T10:01"), to: at("2028-01-11T10:01"), of: Of::LookUps });
        world.live_until("2028-01-11T10:01").await;
        assert_eq!(world.posts().len(), 2, "the gateway takes charges, and gets none");
        assert_eq!(world.count("SELECT count(*) AS n FROM charges WHERE state = 'paid'").await, 1);
        world.live_until("2028-01-12T12:00").await;
        for (external_ref, posts) in [("a", 1), ("b", 1), ("c", 1)] {
            assert_eq!(world.periods(external_ref).await, ["2028-01-10..2028-02-10 9900"], "{external_ref}");
            let sent = world.posts().iter().filter(|post| post.body["customer_uid"] == format!("card-{external_ref}")).count();
            assert_eq!(sent, posts, "{external_ref}");
        }
    }

    async fn each_earlier_id_is_asked_and_not_only_the_last(engine) {
        let world = world(engine, &["a"]).await;
        world.refuse("card-a", Some(FUNDS));
        world.live_until("2028-01-13T09:00").await;
        assert_eq!(world.posts().len(), 2);
        world.till.approve(0);
        world.live_until("2028-01-30T12:00").await;
        assert_eq!(world.posts().len(), 2, "what the first try came to settles the charge before the third");
        assert_eq!(world.periods("a").await, ["2028-01-10..2028-02-10 9900"]);
    }

    async fn a_failure_that_is_approved_after_the_charge_was_given_up_pays_it(engine) {
        let world = world(engine, &["a"]).await;
        world.refuse("card-a", Some(FUNDS));
        world.live_until("2028-01-26T12:00").await;
        assert_eq!(world.count("SELECT count(*) AS n FROM charges WHERE state = 'unpaid'").await, 1);
        world.till.approve(4);
        world.live_until("2028-02-09T12:00").await;
        assert_eq!(world.periods("a").await, ["2028-01-10..2028-02-10 9900"]);
        assert_eq!(world.events("charge.paid").await[0]["late"], true);
        assert_eq!(world.count("SELECT count(*) AS n FROM attempts WHERE state = 'paid'").await, 1);
        assert_eq!(world.count("SELECT count(*) AS n FROM attempts").await, 5, "the record is booked where it was sent");
    }

    async fn a_doubt_that_has_ended_meanwhile_is_not_looked_up_for_an_operator(engine) {
        let world = world(engine, &["a"]).await;
        world.refuse("card-a", Some(FUNDS));
        world.live_until("2028-01-10T12:00").await;
        // `rebilld reconcile` listed it while it was in doubt; now it waits for its next day
        assert_eq!(world.reconcile(&[ChargeId(1)]).await, 0);
        world.live_until("2028-01-11T09:00").await;
        assert_eq!(world.posts().len(), 1);
        world.live_until("2028-01-11T10:30").await;
        assert_eq!(world.posts().len(), 2, "and its claim was given back");
    }

    async fn on_hold_no_period_is_passed_over_without_an_operator(engine) {
        let latest = Plan { catch_up: CatchUp::LatestOnly, ..plan("latest", "1 week", 1_000) };
        let world = World::new(engine, "2028-01-09T12:00", [latest]).await;
        world.subscribe("a", "latest", "2028-01-10", &[]).await;
        world.live_until("2028-01-11T12:00").await;
        // a backup of that day is restored three weeks later
        world.sleep_until("2028-02-01T12:00");
        world.sql("UPDATE settings SET held = TRUE").await;
        world.live_until("2028-02-03T12:00").await;
        assert_eq!(world.events("subscription.skipped").await.len(), 0, "it knows nothing of what was paid since");
        assert_eq!(world.db.desk().missed(0, 10).await.unwrap()[0].missed, Some(3));
        world.sql("UPDATE settings SET held = FALSE").await;
        world.live_until("2028-02-04T12:00").await;
        assert_eq!(world.periods("a").await.len(), 1, "an operator decides");
    }

    async fn before_the_first_audit_no_period_is_passed_over(engine) {
        let latest = Plan { catch_up: CatchUp::LatestOnly, ..plan("latest", "1 week", 1_000) };
        let mut world = World::new(engine, "2028-01-09T12:00", [latest]).await;
        world.subscribe("a", "latest", "2028-01-10", &[]).await;
        world.live_until("2028-01-11T12:00").await;
        // an old backup on a new machine without a mark, while the gateway cannot be asked
        world.sleep_until("2028-02-01T12:00");
        world.audit_first = true;
        *world.till.down.lock().unwrap() = Some((at("2028-02-01T00:00"), at("2028-02-02T00:00")));
        world.live_until("2028-02-01T20:00").await;
        assert_eq!(world.events("subscription.skipped").await.len(), 0, "nobody knows yet what was paid since");
        world.live_until("2028-02-03T12:00").await;
        assert_eq!(world.events("subscription.skipped").await.len(), 1, "and once both ledgers agree, the plan's word holds");
    }

    async fn one_charge_that_cannot_be_read_stops_the_count_of_its_own_subscription_alone(engine) {
        let world = world(engine, &["a", "b"]).await;
        world.refuse("card-a", Some(FUNDS));
        world.live_until("2028-01-10T12:00").await;
        world.sql("UPDATE charges SET waiting = 'something newer' WHERE subscription_id = 1").await;
        let page = world.db.standing(0, 10).await.unwrap();
        assert_eq!((page.subscriptions.len(), page.unreadable), (1, 1));
    }

    async fn while_the_clock_is_not_to_be_trusted_nothing_opens(engine) {
        let world = world(engine, &["a"]).await;
        world.live_until("2028-01-10T09:50").await;
        world.db.hold_for_clock(at("2028-01-10T10:45")).await.unwrap();
        world.live_until("2028-01-10T10:44").await;
        assert_eq!(world.count("SELECT count(*) AS n FROM charges").await, 0);
        world.live_until("2028-01-10T18:00").await;
        assert_eq!(world.periods("a").await, ["2028-01-10..2028-02-10 9900"]);
    }

    async fn a_card_that_was_replaced_before_anything_left_is_not_charged(engine) {
        let world = world(engine, &["a"]).await;
        world.till.unreachable.lock().unwrap().insert("card-a".to_owned());
        world.live_until("2028-01-10T10:05").await;
        assert_eq!(world.count("SELECT count(*) AS n FROM attempts WHERE state = 'live'").await, 1);
        card(&world, "a", "new").await;
        world.till.unreachable.lock().unwrap().clear();
        world.live_until("2028-01-10T12:00").await;
        let cards: Vec<_> = world.posts().iter().map(|post| post.body["customer_uid"].clone()).collect();
        assert_eq!(cards, ["new"]);
        assert_eq!(world.periods("a").await, ["2028-01-10..2028-02-10 9900"]);
    }

    async fn a_card_that_is_refused_for_another_charge_does_not_keep_an_unsent_one_busy(engine) {
        let world = world(engine, &["a", "b"]).await;
        for external_ref in ["a", "b"] {
            card(&world, external_ref, "shared").await;
        }
        world.till.unreachable.lock().unwrap().insert("shared".to_owned());
        world.live_until("2028-01-10T10:30").await;
        assert_eq!(world.count("SELECT count(*) AS n FROM attempts WHERE state = 'live'").await, 2);
        world.refuse("shared", Some(EXPIRED));
        world.till.unreachable.lock().unwrap().clear();
        // one of them is sent and refused for good; the payer brings a new card for the other
        world.live_until("2028-01-10T11:00").await;
        assert_eq!(world.posts().len(), 1);
        for external_ref in ["a", "b"] {
            card(&world, external_ref, "new").await;
        }
        world.live_until("2028-01-12T12:00").await;
        assert_eq!(world.charged().await.len(), 2);
        assert_eq!(world.posts().len(), 3);
        assert_eq!(world.events("charge.declined").await.len(), 2, "each was told once that it waits for a card");
    }

    async fn an_outage_of_the_new_card_is_waited_for(engine) {
        let world = world(engine, &["a"]).await;
        world.refuse("card-a", Some(FUNDS));
        world.refuse("new", Some(OUTAGE));
        world.live_until("2028-01-11T12:00").await;
        let before = world.posts().len();
        card(&world, "a", "new").await;
        world.live_until("2028-01-11T12:05").await;
        assert_eq!(world.posts().len(), before + 1, "ten minutes lie between a refusal by an outage and the next try");
        world.live_until("2028-01-11T14:00").await;
        let posts = world.posts();
        for pair in posts[before..].windows(2) {
            assert!(pair[1].at.duration_since(pair[0].at) >= SignedDuration::from_mins(8), "{pair:?}");
        }
        assert!(posts.len() > before + 2);
    }

    async fn a_decline_of_the_first_charge_after_a_change_of_plan_is_the_new_plans(engine) {
        let mut world = world(engine, &[]).await;
        let strict = Dunning { ladder: Ladder::After(Vec::new()), end: End::Cancel, ..Dunning::default() };
        let strict = PlanDunning { dunning: Arc::new(strict), zone: None };
        world.dunning = Dunnings { plans: [("monthly".to_owned(), strict)].into(), ..Dunnings::default() };
        world.subscribe("a", "monthly", "2028-01-10", &[("next_plan", "'other'")]).await;
        world.refuse("card-a", Some(FUNDS));
        world.live_until("2028-01-10T12:00").await;
        assert_eq!(world.posts()[0].body["amount"], 5_500);
        let declined = world.events("charge.declined").await;
        assert_eq!(declined[0]["next_try_at"], at("2028-01-11T10:00").to_string(), "{declined:?}");
        assert_eq!(world.count("SELECT count(*) AS n FROM subscriptions WHERE status = 'active'").await, 1);
    }

    async fn a_restored_database_learns_of_the_failures_after_its_copy(engine) {
        for ruled in [false, true] {
            let world = lost_three_times(engine).await;
            if ruled {
                world.daemon().rule(&world.account(), ChargeId(1), Ruling::Unpaid).await.unwrap();
            }
            // what was sent after the copy was made: the copy's own last id has not advanced
            let uid = world.sql("SELECT merchant_uid FROM ids").await[0].text("merchant_uid").unwrap();
            for later in ["02", "03"] {
                ask_elsewhere(&world, &format!("{}{later}", &uid[..28]), Some(FUNDS));
            }
            world.live_until("2028-01-22T12:00").await;
            for later in ["02", "03"] {
                let seen = format!("SELECT count(*) AS n FROM observations WHERE CAST(detail AS TEXT) LIKE '%imps_%{later}%'");
                assert!(world.count(&seen).await > 0, "{later}, ruled: {ruled}");
            }
            let rows = world.sql("SELECT state FROM charges").await;
            assert_eq!(rows[0].text("state").unwrap(), if ruled { "unpaid" } else { "review" });
        }
    }

    async fn a_resend_is_not_judged_by_what_was_said_of_the_send_before_it(engine) {
        for hint in [Hint::RefusedKey, Hint::Text(Class::SoftFunds), Hint::Text(Class::Unknown)] {
            let world = lost_three_times(engine).await;
            // as after a refusal whose look-ups were down for a day
            let name = if let Hint::Text(class) = hint { class.name() } else { "refused_key" };
            world.sql(&format!("UPDATE attempts SET resends = 0, hint = '{name}'")).await;
            *world.till.outage.lock().unwrap() =
                Some(Outage { from: at("2028-01-21T11:00"), to: at("2028-01-21T13:00"), of: Of::Charges });
            world.daemon().rule(&world.account(), ChargeId(1), Ruling::Resend).await.unwrap();
            world.live_until("2028-01-21T12:30").await;
            let row = &world.sql("SELECT charges.state, hint FROM charges JOIN attempts ON attempts.charge_id = charges.id").await[0];
            assert_eq!(row.text("state").unwrap(), "doubt", "{hint:?}: it may still be on its way");
            assert!(row.text_opt("hint").unwrap().is_none(), "{hint:?}");
            world.live_until("2028-01-22T12:00").await;
            assert_eq!(world.periods("a").await, ["2028-01-10..2028-02-10 9900"], "{hint:?}: lost, and sent again");
            assert_eq!(world.posts().len(), 1, "{hint:?}");
            assert_eq!(world.count("SELECT tries AS n FROM charges").await, 0, "{hint:?}: the card was never asked");
        }
    }

    async fn a_ruling_on_a_restored_database_asks_beyond_what_it_remembers(engine) {
        let world = lost_three_times(engine).await;
        let uid = world.sql("SELECT merchant_uid FROM ids").await[0].text("merchant_uid").unwrap();
        ask_elsewhere(&world, &format!("{}02", &uid[..28]), None);
        let ruled = world.daemon().rule(&world.account(), ChargeId(1), Ruling::Unpaid).await;
        assert!(matches!(ruled, Err(RuleError::Refused(Refusal::GatewayShowsMore))), "{ruled:?}");
        world.live_until("2028-01-22T12:00").await;
        assert_eq!(world.periods("a").await, ["2028-01-10..2028-02-10 9900"]);
    }
}
