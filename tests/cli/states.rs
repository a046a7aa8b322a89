//! What subscriptions have come to, in `subscriptions list|show` and in `explain`: without a daemon, from the facts.

use super::rig::Rig;

const BOOK: &str = "account,external_ref,plan,customer_uid,anchor,amount,status,trial_until,name\n\
    main,calm,monthly,card-1,2030-01-31,,,,N\n\
    main,owing,monthly,card-2,2020-01-05,,,,N\n\
    main,paused,monthly,card-3,2030-01-01,,paused,,N\n\
    main,trial,monthly,card-4,2020-01-01,,,2099-01-01,N\n";

async fn rigs() -> [Rig; 2] {
    let rigs = Rig::both().await;
    for rig in &rigs {
        rig.write("book.csv", BOOK);
        rig.ok(&["subscriptions", "import", "book.csv", "--quiet"]);
        let owed = |instant: fn(&str) -> String| {
            let (due, declined, next) =
                (instant("2026-01-05T01:00:00Z"), instant("2026-01-05T01:00:01Z"), instant("2099-01-06T01:00:00Z"));
            format!(
                "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, id_mode, state,
                        waiting, next_at, tries, first_declined_at)
                    SELECT id, 1, '2026-01-05', '2026-02-05', {due}, 9900, 'KRW', 'per_attempt', 'due', 'retry', {next}, 1, {declined}
                    FROM subscriptions WHERE external_ref = 'owing'"
            )
        };
        let micros = |at: &str| at.parse::<jiff::Timestamp>().unwrap().as_microsecond().to_string();
        let quoted = |at: &str| format!("TIMESTAMPTZ '{at}'");
        rig.sql(&owed(micros), &owed(quoted)).await;
    }
    rigs
}

#[tokio::test]
async fn states_are_listed_as_they_follow_from_the_facts() {
    for rig in rigs().await {
        let rows = rig.json(&["subscriptions", "list"]);
        let states: Vec<String> = rows
            .as_array()
            .unwrap()
            .iter()
            .map(|row| format!("{} {}", row["external_ref"].as_str().unwrap(), row["state"].as_str().unwrap()))
            .collect();
        assert_eq!(states, ["calm active", "owing past_due", "paused paused", "trial trialing"]);
        let head = &rig.csv(&["subscriptions", "list"])[0];
        assert!(head.iter().any(|column| column == "state"), "{head:?}");
        // by what was told last: a daemon has not been here yet
        assert_eq!(rig.json(&["subscriptions", "list", "--state", "paused"]).as_array().unwrap().len(), 1);
        assert_eq!(rig.json(&["subscriptions", "list", "--state", "unpaid"]).as_array().unwrap().len(), 0);
        rig.fails(64, &["subscriptions", "list", "--state", "late"]);
    }
}

#[tokio::test]
async fn a_subscription_shows_its_state_and_what_comes_next() {
    for rig in rigs().await {
        let owing = rig.json(&["subscriptions", "show", "owing"]);
        assert_eq!((&owing["state"], &owing["next_step"]), (&"past_due".into(), &"retry".into()));
        assert_eq!((&owing["next_step_at"], owing["state_since"].is_null()), (&"2099-01-06T01:00:00Z".into(), true));
        let trial = rig.ok(&["subscriptions", "show", "trial"]);
        assert!(trial.contains("trialing") && trial.contains("its trial ends"), "{trial}");
        let explained = rig.json(&["explain", "owing"]);
        assert_eq!((&explained["state"]["state"], &explained["state"]["next_step"]), (&"past_due".into(), &"retry".into()));
        let said = rig.ok(&["explain", "owing"]);
        assert!(said.contains("Its state is past_due: a charge was declined and is still being tried"), "{said}");
    }
}
