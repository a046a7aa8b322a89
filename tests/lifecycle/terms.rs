//! Trials, ends, changes of plan and price, pauses, adjustments, tax: from the row to the gateway.

use rebilld::domain::plan::{AccountTerms, Plan, Price, Resume};

use super::rig::{Engine, World, both, plan, seoul};

fn plans() -> [Plan; 3] {
    [plan("monthly", "1 month", 9_900), plan("yearly", "1 year", 99_000), plan("pro", "1 month", 19_900)]
}

both! {
    async fn the_first_charge_comes_when_the_trial_ends(engine) {
        let world = World::new(engine, "2028-01-10T00:00", plans()).await;
        world.subscribe("counted-anew", "monthly", "2028-01-31", &[("trial_days", "14")]).await;
        world.subscribe("kept", "monthly", "2028-01-31", &[("trial_days", "14"), ("trial_anchor", "'keep'")]).await;
        world.subscribe("until", "monthly", "2028-01-10", &[("trial_until", "'2028-02-29'")]).await;
        world.live_until("2028-02-13T23:00").await;
        assert_eq!(world.posts().len(), 0, "nobody is charged during a trial");
        world.live_until("2028-03-31T23:00").await;
        assert_eq!(world.periods("counted-anew").await, ["2028-02-14..2028-03-14 9900", "2028-03-14..2028-04-14 9900"]);
        let kept = ["2028-02-14..2028-02-29 9900", "2028-02-29..2028-03-31 9900", "2028-03-31..2028-04-30 9900"];
        assert_eq!(world.periods("kept").await, kept);
        assert_eq!(world.periods("until").await, ["2028-02-29..2028-03-29 9900", "2028-03-29..2028-04-29 9900"]);
        // the anchor that a trial has moved is forgotten when another one is written
        world.sql("UPDATE subscriptions SET anchor = '2028-01-20' WHERE external_ref = 'counted-anew'").await;
        world.live_until("2028-04-20T23:00").await;
        assert_eq!(world.periods("counted-anew").await[2..], ["2028-04-14..2028-04-20 9900", "2028-04-20..2028-05-20 9900"]);
    }

    async fn a_new_plan_takes_over_when_the_next_period_opens(engine) {
        let world = World::new(engine, "2028-01-01T00:00", plans()).await;
        world.subscribe("s", "monthly", "2028-01-31", &[]).await;
        world.live_until("2028-02-10T00:00").await;
        world.sql("UPDATE subscriptions SET next_plan = 'yearly'").await;
        world.live_until("2028-02-20T00:00").await;
        let row = || async { world.sql("SELECT plan, next_plan FROM subscriptions").await };
        assert_eq!(row().await[0].text("plan").unwrap(), "monthly", "not before the open period has ended");
        world.live_until("2028-03-10T00:00").await;
        assert_eq!(row().await[0].text("plan").unwrap(), "yearly");
        assert_eq!(row().await[0].text_opt("next_plan").unwrap(), None);
        world.live_until("2029-03-10T00:00").await;
        let titles: Vec<String> = world.posts().iter().map(|post| post.body["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(titles, ["monthly", "yearly", "yearly"], "the payer reads the plan of the period");
        let charged = ["2028-01-31..2028-02-29 9900", "2028-02-29..2029-02-28 99000", "2029-02-28..2030-02-28 99000"];
        assert_eq!(world.periods("s").await, charged);
    }

    async fn a_charge_that_is_sent_as_it_opens_carries_the_new_plan(engine) {
        let world = World::new(engine, "2028-01-01T00:00", plans()).await;
        world.subscribe("s", "monthly", "2028-01-31", &[]).await;
        world.live_until("2028-02-10T00:00").await;
        world.sql("UPDATE subscriptions SET next_plan = 'pro'").await;
        // it is late, and claimed by the statement that opens it
        world.sleep_until("2028-03-05T00:00");
        world.live_until("2028-03-06T00:00").await;
        let sent: Vec<String> = world.posts().iter().map(|post| format!("{} {}", post.body["name"], post.body["amount"])).collect();
        assert_eq!(sent, ["\"monthly\" 9900", "\"pro\" 19900"]);
    }

    async fn prices_change_on_their_day_and_open_charges_keep_theirs(engine) {
        let mut plans = plans();
        plans[0].prices = vec![Price { from: "2028-03-01".parse().unwrap(), amount: 12_900, tax_free: None, vat_amount: None }];
        let world = World::new(engine, "2028-01-01T00:00", plans).await;
        world.subscribe("plan", "monthly", "2028-01-15", &[("quantity", "3")]).await;
        world.subscribe("own", "monthly", "2028-01-15", &[("amount", "5000")]).await;
        world.live_until("2028-02-20T00:00").await;
        world
            .sql("INSERT INTO price_changes (subscription_id, from_date, amount) SELECT id, '2028-03-15', 6000 FROM subscriptions WHERE external_ref = 'own'")
            .await;
        world.live_until("2028-03-20T00:00").await;
        let plan = ["2028-01-15..2028-02-15 29700", "2028-02-15..2028-03-15 29700", "2028-03-15..2028-04-15 38700"];
        assert_eq!(world.periods("plan").await, plan);
        let own = ["2028-01-15..2028-02-15 5000", "2028-02-15..2028-03-15 5000", "2028-03-15..2028-04-15 6000"];
        assert_eq!(world.periods("own").await, own);
    }

    async fn a_pause_is_never_charged_for_and_may_move_the_anchor(engine) {
        let mut plans = plans();
        plans[2].resume = Resume::Anchor;
        let world = World::new(engine, "2028-01-01T00:00", plans).await;
        world.subscribe("kept", "monthly", "2028-01-31", &[]).await;
        world.subscribe("anew", "pro", "2028-01-31", &[]).await;
        world.live_until("2028-02-10T00:00").await;
        world.sql("UPDATE subscriptions SET status = 'paused'").await;
        world.live_until("2028-05-11T12:00").await;
        world.sql("UPDATE subscriptions SET status = 'active'").await;
        world.live_until("2028-06-12T00:00").await;
        assert_eq!(world.periods("kept").await, ["2028-01-31..2028-02-29 9900", "2028-05-31..2028-06-30 9900"]);
        let anew = ["2028-01-31..2028-02-29 19900", "2028-05-11..2028-06-11 19900", "2028-06-11..2028-07-11 19900"];
        assert_eq!(world.periods("anew").await, anew);
    }

    async fn ends_are_kept_and_told_once(engine) {
        let world = World::new(engine, "2028-01-01T00:00", plans()).await;
        world.subscribe("tie", "monthly", "2028-01-31", &[("ends_on", "'2028-02-29'")]).await;
        world.subscribe("three", "monthly", "2028-01-31", &[("max_periods", "3")]).await;
        world.subscribe("leaving", "monthly", "2028-01-31", &[]).await;
        world.subscribe("staying", "monthly", "2028-01-31", &[]).await;
        world.live_until("2028-02-10T00:00").await;
        let leave = |value: &str| format!("UPDATE subscriptions SET cancel_at_period_end = {value} WHERE external_ref IN ('leaving', 'staying')");
        world.sql(&leave("TRUE")).await;
        world.live_until("2028-02-12T00:00").await;
        assert_eq!(world.events("subscription.ended").await.len(), 0, "the paid period runs its course");
        world.sql("UPDATE subscriptions SET cancel_at_period_end = NULL WHERE external_ref = 'staying'").await;
        world.live_until("2028-06-15T00:00").await;
        for (external_ref, periods) in [("tie", 1), ("three", 3), ("leaving", 1), ("staying", 5)] {
            assert_eq!(world.periods(external_ref).await.len(), periods, "{external_ref}");
        }
        let mut told: Vec<String> = world.events("subscription.ended").await.iter().map(|data| {
            format!("{} {} {}", data["external_ref"].as_str().unwrap(), data["why"].as_str().unwrap(), data["ended_on"].as_str().unwrap())
        }).collect();
        told.sort();
        assert_eq!(told, [
            "leaving cancel_at_period_end 2028-02-29", "three max_periods 2028-04-30", "tie ends_on 2028-02-29",
        ]);
        // an end that is taken away late owes nothing for the time between
        world.sql("UPDATE subscriptions SET ends_on = NULL WHERE external_ref = 'tie'").await;
        world.live_until("2028-07-15T00:00").await;
        assert_eq!(world.periods("tie").await[1..], ["2028-06-30..2028-07-31 9900"]);
    }

    async fn adjustments_belong_to_one_charge(engine) {
        let world = World::new(engine, "2028-01-01T00:00", plans()).await;
        world.subscribe("s", "monthly", "2028-01-15", &[]).await;
        world.subscribe("free", "monthly", "2028-01-15", &[]).await;
        world.subscribe("much", "monthly", "2028-01-15", &[]).await;
        let adjust = |external_ref: &str, amount: i64| format!(
            "INSERT INTO adjustments (subscription_id, amount, name) SELECT id, {amount}, 'x' FROM subscriptions WHERE external_ref = '{external_ref}'"
        );
        for (external_ref, amount) in [("s", -1_000), ("s", 300), ("free", -9_900), ("much", -9_901)] {
            world.sql(&adjust(external_ref, amount)).await;
        }
        world.live_until("2028-01-20T00:00").await;
        assert_eq!(world.periods("s").await, ["2028-01-15..2028-02-15 9200"]);
        assert_eq!(world.periods("free").await, Vec::<String>::new());
        let skipped = world.events("subscription.skipped").await;
        assert_eq!((&skipped[0]["why"], &skipped[0]["from"], &skipped[0]["until"]), (&"free".into(), &"2028-01-15".into(), &"2028-02-15".into()));
        let problems = world.events("subscription.problem").await;
        assert!(problems[0]["problem"].as_str().unwrap().contains("discounts of 9,901 KRW are larger"), "{problems:?}");
        // the row that is taken back rings by itself
        world.sql("DELETE FROM adjustments WHERE amount = -9901").await;
        world.live_until("2028-02-20T00:00").await;
        assert_eq!(world.periods("s").await[1..], ["2028-02-15..2028-03-15 9900"]);
        assert_eq!(world.periods("free").await, ["2028-02-15..2028-03-15 9900"]);
        assert_eq!(world.periods("much").await, ["2028-01-15..2028-02-15 9900", "2028-02-15..2028-03-15 9900"]);
        let used = world.count("SELECT count(*) AS n FROM adjustments WHERE used_on = '2028-01-15' AND charge_id IS NOT NULL").await;
        assert_eq!((used, world.count("SELECT count(*) AS n FROM adjustments WHERE used_on IS NULL").await), (2, 0));
    }

    async fn the_gateway_is_told_the_parts_of_the_tax(engine) {
        let mut plans = plans();
        (plans[0].tax_free, plans[0].vat_amount) = (Some(1_100), Some(800));
        let mut world = World::new(engine, "2028-01-01T00:00", plans).await;
        world.subscribe("parts", "monthly", "2028-01-15", &[("quantity", "2")]).await;
        world.subscribe("zero", "pro", "2028-01-15", &[("tax_free", "0"), ("vat_amount", "0")]).await;
        world.subscribe("plain", "pro", "2028-01-15", &[]).await;
        world.live_until("2028-01-20T00:00").await;
        world.catalog.accounts.insert("main".to_owned(), AccountTerms { zone: seoul(), mixed_tax: true });
        world.live_until("2028-02-20T00:00").await;
        let sent = |external_ref: &str| -> Vec<String> {
            let own = format!("card-{external_ref}");
            let posts = world.posts().into_iter().filter(|post| post.body["customer_uid"] == own.as_str());
            posts.map(|post| format!("{} {} {}", post.body["amount"], post.body["tax_free"], post.body["vat_amount"])).collect()
        };
        assert_eq!(sent("parts"), ["19800 2200 1600", "19800 2200 1600"]);
        assert_eq!(sent("zero"), ["19900 0 0", "19900 0 0"]);
        // 19,900 / 11 = 1,809.09
        assert_eq!(sent("plain"), ["19900 null null", "19900 0 1809"]);
    }
}
