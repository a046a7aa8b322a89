//! Prices, adjustments, ends, and missed periods.

use super::rig::Rig;

async fn filled() -> [Rig; 2] {
    let rigs = Rig::both().await;
    for rig in &rigs {
        rig.write("s.csv", "account,external_ref,plan,customer_uid,anchor,starts_on,quantity\nmain,sub-1,monthly,card-1,2030-01-31,2030-01-31,2\n");
        rig.ok(&["subscriptions", "import", "s.csv", "--quiet"]);
    }
    rigs
}

#[tokio::test]
async fn a_price_and_an_adjustment_show_their_effect_on_the_next_charge() {
    for rig in filled().await {
        let json = rig.json(&["subscriptions", "adjust", "sub-1", "--amount", "-800", "--name", "sorry", "--reason", "x"]);
        assert_eq!((&json["next_amount"], &json["next_period"]), (&19_000.into(), &"2030-01-31".into()));
        let json = rig.json(&["subscriptions", "price", "sub-1", "--from", "2030-01-31", "--amount", "5000", "--reason", "x"]);
        assert_eq!((&json["next_amount"], &json["changes"][0]["new"]), (&9_200.into(), &"5000".into()));
        let shown = rig.json(&["subscriptions", "show", "sub-1"]);
        assert_eq!((&shown["price_changes"], &shown["adjustments"]), (&"5000 from 2030-01-31".into(), &"-800 (no. 1)".into()));
        let said = rig.ok(&["subscriptions", "adjust", "sub-1", "--remove", "1", "--reason", "x"]);
        assert!(said.contains("next period 2030-01-31..2030-02-28: 10,000 KRW"), "{said}");
        rig.ok(&["subscriptions", "price", "sub-1", "--from", "2030-01-31", "--remove", "--reason", "x"]);
        assert_eq!(rig.json(&["subscriptions", "show", "sub-1"])["next_amount"], 19_800);
        let actions = rig.json(&["journal", "list", "--about", "main/sub-1"]);
        assert_eq!(actions.as_array().unwrap().len(), 4, "{actions}");
        let events = rig.json(&["events", "list"]);
        assert_eq!(events[0]["data"]["changed"][0], "price_changes");
    }
}

#[tokio::test]
async fn what_would_leave_nothing_to_charge_is_refused() {
    for rig in filled().await {
        for (arguments, expected) in [
            (
                &["adjust", "sub-1", "--amount", "-19801"][..],
                "discounts of 19,801 KRW are larger than the next charge of 19,800 KRW",
            ),
            (&["adjust", "sub-1", "--remove", "77"], "has no such adjustment"),
            (&["price", "sub-1", "--from", "2030-02-30", "--amount", "5"], "--from: `2030-02-30` is not in the calendar"),
            (&["price", "sub-1", "--from", "2030-02-01", "--amount", "0"], "--amount: 0 is too little"),
            (
                &["price", "sub-1", "--from", "2030-02-01", "--amount", "5", "--vat-amount", "6"],
                "6 together, more than the amount of 5",
            ),
            (&["price", "sub-1", "--from", "2030-02-01", "--remove"], "has no price of its own from 2030-02-01 on"),
            (&["set", "sub-1", "--next-plan", "gone"], "next_plan: there is no plan `gone`"),
            (&["set", "sub-1", "--next-plan", "own"], "next_plan: plan `own` has no amount"),
            (&["set", "sub-1", "--quantity", "0"], "quantity: 0 is too little"),
            (&["set", "sub-1", "--column", "resume=maybe"], "resume"),
        ] {
            let error = rig.fails(65, &[&["subscriptions"], arguments, &["--reason", "x"]].concat());
            assert!(error.contains(expected), "{expected} in {error}");
        }
        assert!(rig.json(&["journal", "list", "--about", "main/sub-1"]).as_array().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_cancellation_at_the_periods_end_is_taken_back_by_resume() {
    for rig in filled().await {
        let said = rig.ok(&["subscriptions", "cancel", "sub-1", "--at-period-end", "--reason", "x"]);
        assert!(said.contains("cancel_at_period_end – → true") && said.contains("no further period opens"), "{said}");
        let said = rig.ok(&["subscriptions", "resume", "sub-1", "--reason", "x"]);
        assert!(said.contains("next period 2030-01-31..2030-02-28"), "{said}");
        rig.ok(&["subscriptions", "set", "sub-1", "--ends-on", "2030-01-31", "--reason", "x", "--quiet"]);
        let shown = rig.json(&["subscriptions", "show", "sub-1"]);
        assert_eq!((&shown["ends"], &shown["ended_on"]), (&"ends_on".into(), &"2030-01-31".into()));
        rig.ok(&["subscriptions", "cancel", "sub-1", "--reason", "x", "--quiet"]);
        let error = rig.fails(65, &["subscriptions", "resume", "sub-1", "--reason", "x"]);
        assert!(error.contains("is cancelled, and that is for good"), "{error}");
    }
}

#[tokio::test]
async fn missed_periods_are_previewed_with_their_sums_and_decided_on() {
    for rig in Rig::both().await {
        let rows: String = (1..=3).map(|n| format!("main,sub-{n},monthly,card-{n},2024-01-15,2024-01-15\n")).collect();
        rig.write("s.csv", format!("account,external_ref,plan,customer_uid,anchor,starts_on\n{rows}"));
        rig.ok(&["subscriptions", "import", "s.csv", "--quiet"]);
        let none = rig.ok(&["catch-up", "list"]);
        assert!(none.contains("no missed period waits for you"), "{none}");
        // as the daemon leaves them after three months
        let held = "UPDATE schedules SET parked = 'problem', problem = 'missed', missed = 3, next_look_at = NULL,
            opened_until = '2024-01-15', not_before = '2024-01-15'";
        rig.sql(held, held).await;
        let list = rig.json(&["catch-up", "list"]);
        let periods = list["missed"][0]["periods"].as_i64().unwrap();
        assert!(periods >= 34, "{list}");
        assert_eq!((&list["subscriptions"], &list["periods"]), (&3.into(), &(3 * periods).into()));
        assert_eq!((&list["plans"][0]["plan"], &list["plans"][0]["sum"]), (&"monthly".into(), &(3 * periods * 9_900).into()));
        assert_eq!(list["missed"][0]["sum"], periods * 9_900);

        assert!(rig.fails(64, &["catch-up", "open", "--reason", "x"]).contains("name subscriptions, or say --all"));
        assert!(rig.fails(65, &["catch-up", "open", "gone", "--reason", "x"]).contains("no missed period of `gone` waits"));
        let dry = rig.ok(&["catch-up", "open", "--all", "--dry-run", "--reason", "x"]);
        assert!(dry.contains("3 subscriptions of plan monthly") && dry.contains("nothing was written"), "{dry}");
        assert_eq!(rig.json(&["catch-up", "list"]), list);

        rig.ok(&["catch-up", "open", "sub-1", "--reason", "agreed"]);
        let kept = rig.json(&["catch-up", "skip", "sub-2", "--keep-latest", "--reason", "ours"]);
        assert_eq!((&kept["periods"], &kept["done"]), (&(periods - 1).into(), &true.into()));
        rig.ok(&["catch-up", "skip", "--all", "--reason", "ours"]);
        assert_eq!(rig.json(&["catch-up", "list"])["subscriptions"], 0);
        let until =
            |reference: &str| rig.json(&["subscriptions", "show", reference])["opened_until"].as_str().unwrap().to_owned();
        assert_eq!(until("sub-1"), "2024-01-15", "opened by the daemon, one after the other");
        assert!(until("sub-2") < until("sub-3"), "the latest of them is still charged");
        let actions = rig.json(&["journal", "list"]);
        let count = |action: &str| actions.as_array().unwrap().iter().filter(|entry| entry["action"] == action).count();
        assert_eq!((count("catch-up open"), count("catch-up skip")), (1, 2));
        let events = rig.json(&["events", "list", "--kind", "subscription.skipped"]);
        assert_eq!((events.as_array().unwrap().len(), &events[0]["data"]["why"]), (2, &"missed".into()));
    }
}
