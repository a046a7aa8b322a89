//! What subscriptions come to, as it is told: by declines, graces, trials, pauses, ends and late payments.

use std::sync::Arc;

use jiff::SignedDuration;
use rebilld::domain::dunning::{Dunning, End};
use rebilld::domain::plan::{Plan, WhilePastDue};

use super::rig::{Engine, Post, World, at, both, plan};

const FUNDS: &str = "[1254][실시간빌링실패|잔액부족]";
const EXPIRED: &str = "[1204][실시간빌링실패|유효기간 만료(기간오류)]";

async fn world(engine: Engine, dunning: Dunning) -> World {
    let monthly = plan("monthly", "1 month", 9_900);
    let going_on = Plan { while_past_due: WhilePastDue::Continue, ..plan("going-on", "1 month", 9_900) };
    let mut world = World::new(engine, "2028-01-03T12:00", [monthly, going_on]).await;
    world.dunning.default = Arc::new(dunning);
    world
}

/// `from to reason next_step next_at`, in the order in which they were told; instants in Seoul.
async fn told(world: &World) -> Vec<String> {
    let events = world.events("subscription.state_changed").await;
    let word = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    let line = |data: &serde_json::Value| {
        let at = data["next_at"].as_str().map_or("-".to_owned(), |at| {
            let at: jiff::Timestamp = at.parse().unwrap();
            at.to_zoned(super::rig::seoul()).strftime("%d %H:%M").to_string()
        });
        assert!(data["payer_message"]["ko"].as_str().is_some_and(|text| !text.is_empty()));
        [word(&data["from"]), word(&data["to"]), word(&data["reason"]), word(&data["next_step"]), at].join(" ")
    };
    events.iter().map(line).collect()
}

async fn states(world: &World) -> Vec<String> {
    let rows = world
        .sql(
            "SELECT s.external_ref, COALESCE(t.state, '-') AS state FROM subscriptions s
                LEFT JOIN subscription_states t ON t.subscription_id = s.id ORDER BY s.id",
        )
        .await;
    rows.iter().map(|row| format!("{} {}", row.text("external_ref").unwrap(), row.text("state").unwrap())).collect()
}

both! {
    async fn the_first_decline_is_past_due_at_once_and_a_payment_makes_it_active_again(engine) {
        let world = world(engine, Dunning::default()).await;
        world.subscribe("a", "monthly", "2028-01-10", &[]).await;
        world.refuse("card-a", Some(FUNDS));
        world.live_until("2028-01-12T12:00").await;
        assert_eq!(told(&world).await, ["active past_due declined retry 11 10:00"]);
        let kinds = world.sql("SELECT kind, at FROM events ORDER BY seq").await;
        assert_eq!(kinds[0].text("kind").unwrap(), "charge.declined");
        assert_eq!(kinds[1].text("kind").unwrap(), "subscription.state_changed");
        assert_eq!(kinds[0].at("at").unwrap(), kinds[1].at("at").unwrap(), "told with the fact itself");
        world.refuse("card-a", None);
        world.live_until("2028-01-14T00:00").await;
        assert_eq!(told(&world).await[1..], ["past_due active paid next_period -"]);
        assert_eq!(states(&world).await, ["a active"]);
    }

    async fn a_grace_ends_by_itself_and_only_where_something_is_still_owed(engine) {
        let world = world(engine, Dunning { grace: SignedDuration::from_hours(48), ..Dunning::default() }).await;
        for name in ["a", "b"] {
            world.subscribe(name, "monthly", "2028-01-10", &[]).await;
            world.refuse(&format!("card-{name}"), Some(FUNDS));
        }
        world.live_until("2028-01-10T12:00").await;
        assert_eq!(told(&world).await, Vec::<String>::new());
        assert_eq!(world.events("charge.declined").await.len(), 2, "the decline itself is told at once");
        world.refuse("card-a", None);
        world.live_until("2028-01-13T00:00").await;
        assert_eq!(told(&world).await, ["active past_due grace_over retry 13 10:00"]);
        let rows = world.sql("SELECT at FROM events WHERE kind = 'subscription.state_changed'").await;
        assert_eq!(rows[0].at("at").unwrap(), at("2028-01-12T10:00"), "on the instant");
        assert_eq!(states(&world).await, ["a active", "b past_due"]);
    }

    async fn a_new_card_that_is_declined_too_gets_no_second_grace(engine) {
        let world = world(engine, Dunning { grace: SignedDuration::from_hours(48), ..Dunning::default() }).await;
        world.subscribe("a", "monthly", "2028-01-10", &[]).await;
        world.refuse("card-a", Some(FUNDS));
        world.refuse("second", Some(FUNDS));
        world.live_until("2028-01-12T12:00").await;
        world.sql("UPDATE subscriptions SET customer_uid = 'second'").await;
        world.live_until("2028-01-12T13:00").await;
        assert_eq!(told(&world).await.len(), 1);
        assert_eq!(states(&world).await, ["a past_due"]);
    }

    async fn a_charge_that_is_given_up_leaves_the_subscription_unpaid_until_one_is_paid(engine) {
        let world = world(engine, Dunning::default()).await;
        world.subscribe("a", "monthly", "2028-01-10", &[]).await;
        world.refuse("card-a", Some(FUNDS));
        world.live_until("2028-01-25T00:00").await;
        assert_eq!(told(&world).await[1..], ["past_due unpaid given_up next_period -"]);
        world.refuse("card-a", None);
        world.live_until("2028-02-11T00:00").await;
        assert_eq!(told(&world).await[2..], ["unpaid active paid next_period -"], "by the next period, at its first try");
        assert_eq!(world.count("SELECT count(*) AS n FROM charges WHERE state = 'unpaid'").await, 1);
    }

    async fn the_next_period_is_paid_while_the_last_one_is_owed(engine) {
        let world = world(engine, Dunning { give_up: SignedDuration::from_hours(24 * 60), ..Dunning::default() }).await;
        world.subscribe("a", "going-on", "2028-01-10", &[]).await;
        world.refuse("card-a", Some(EXPIRED));
        world.live_until("2028-01-11T00:00").await;
        assert_eq!(told(&world).await, ["active past_due declined new_card 10 10:00"]);
        world.live_until("2028-02-11T00:00").await;
        assert_eq!(told(&world).await.len(), 1, "no news: it is past due as it was");
        world.sql("UPDATE subscriptions SET customer_uid = 'second'").await;
        world.live_until("2028-02-12T00:00").await;
        assert_eq!(world.charged().await.len(), 2);
        assert_eq!(told(&world).await[1..], ["past_due active paid next_period -"]);
    }

    async fn a_trial_begins_and_ends_and_nothing_walks_over_all_subscriptions(engine) {
        let world = world(engine, Dunning::default()).await;
        world.subscribe("a", "monthly", "2028-01-03", &[("trial_days", "14")]).await;
        world.subscribe("b", "monthly", "2028-01-05", &[]).await;
        world.live_until("2028-01-04T00:00").await;
        assert_eq!(told(&world).await, ["- trialing trial_started trial_end 17 00:00"]);
        world.live_until("2028-01-18T00:00").await;
        assert_eq!(told(&world).await[1..], ["trialing active trial_ended next_period -"]);
        let rows = world.sql("SELECT at FROM events WHERE kind = 'subscription.state_changed' ORDER BY seq").await;
        assert_eq!(rows[1].at("at").unwrap(), at("2028-01-17T00:00"));
        assert_eq!(states(&world).await, ["a active", "b -"], "what was never anything else has no row");
        assert_eq!(world.count("SELECT count(*) AS n FROM subscription_states WHERE look_at IS NOT NULL").await, 0);
    }

    async fn a_trial_that_is_moved_or_taken_away_ends_when_its_row_says(engine) {
        let world = world(engine, Dunning::default()).await;
        for name in ["a", "b"] {
            world.subscribe(name, "monthly", "2028-01-03", &[("trial_days", "14")]).await;
        }
        world.live_until("2028-01-04T00:00").await;
        world.sql("UPDATE subscriptions SET trial_days = 30 WHERE external_ref = 'a'").await;
        world.sql("UPDATE subscriptions SET trial_days = 0 WHERE external_ref = 'b'").await;
        world.live_until("2028-01-05T00:00").await;
        assert_eq!(states(&world).await, ["a trialing", "b active"]);
        world.live_until("2028-02-01T00:00").await;
        assert_eq!(states(&world).await, ["a trialing", "b active"]);
        world.live_until("2028-02-03T00:00").await;
        assert_eq!(states(&world).await, ["a active", "b active"]);
        assert_eq!(told(&world).await.len(), 4);
    }

    async fn a_plan_that_has_no_trial_any_more_ends_the_trials_that_it_gave(engine) {
        let mut world = world(engine, Dunning::default()).await;
        world.catalog.plans.get_mut("monthly").unwrap().trial_days = 14;
        world.subscribe("a", "monthly", "2028-01-03", &[("starts_on", "'2028-01-10'")]).await;
        world.live_until("2028-01-04T00:00").await;
        assert_eq!(states(&world).await, ["a trialing"]);
        world.catalog.plans.get_mut("monthly").unwrap().trial_days = 0;
        // as a reload does
        let epoch = if world.db.is_postgres() { "to_timestamp(0)" } else { "0" };
        world.sql(&format!("UPDATE schedules SET next_look_at = {epoch}")).await;
        world.live_until("2028-01-04T01:00").await;
        assert_eq!(told(&world).await[1..], ["trialing active trial_ended next_period -"]);
    }

    async fn pauses_returns_and_cancellations_by_sql_are_told(engine) {
        let world = world(engine, Dunning::default()).await;
        world.subscribe("a", "monthly", "2028-01-10", &[]).await;
        world.live_until("2028-01-11T00:00").await;
        for (status, until) in [("paused", "2028-01-12T00:00"), ("active", "2028-01-13T00:00"), ("cancelled", "2028-01-14T00:00")] {
            world.sql(&format!("UPDATE subscriptions SET status = '{status}'")).await;
            world.live_until(until).await;
        }
        let all = ["active paused paused resume -", "paused active resumed next_period -", "active cancelled cancelled nothing -"];
        assert_eq!(told(&world).await, all);
    }

    async fn a_subscription_at_its_end_is_cancelled_and_active_when_it_is_taken_up_again(engine) {
        let world = world(engine, Dunning::default()).await;
        world.subscribe("a", "monthly", "2028-01-10", &[("ends_on", "'2028-02-10'")]).await;
        world.live_until("2028-02-11T00:00").await;
        assert_eq!(told(&world).await, ["active cancelled ended nothing -"]);
        world.sql("UPDATE subscriptions SET ends_on = NULL").await;
        world.live_until("2028-02-12T00:00").await;
        assert_eq!(told(&world).await[1..], ["cancelled active resumed next_period -"]);
    }

    async fn the_end_of_a_ladder_says_that_it_was_the_ladder(engine) {
        let world = world(engine, Dunning { end: End::Cancel, ..Dunning::default() }).await;
        world.subscribe("a", "monthly", "2028-01-10", &[]).await;
        world.refuse("card-a", Some(FUNDS));
        world.live_until("2028-01-25T00:00").await;
        assert_eq!(told(&world).await[1..], ["past_due cancelled given_up nothing -"]);
        // paid after all: booked and told, and nothing revives it
        let mut late: Post = world.posts().last().unwrap().clone();
        (late.refused, late.at) = (None, at("2028-01-25T00:00"));
        late.merchant_uid = late.merchant_uid.replace(&late.merchant_uid[28..], "06");
        world.till.posts.lock().unwrap().push(late);
        world.live_until("2028-03-20T00:00").await;
        assert_eq!(world.events("charge.paid").await[0]["late"], true);
        assert_eq!((told(&world).await.len(), states(&world).await), (2, vec!["a cancelled".to_owned()]));
        assert_eq!(world.count("SELECT count(*) AS n FROM charges").await, 1);
    }

    async fn a_late_payment_of_what_was_given_up_makes_it_active_again(engine) {
        let world = world(engine, Dunning::default()).await;
        world.subscribe("a", "monthly", "2028-01-10", &[]).await;
        world.refuse("card-a", Some(FUNDS));
        world.live_until("2028-01-25T00:00").await;
        let mut late: Post = world.posts().last().unwrap().clone();
        (late.refused, late.at) = (None, at("2028-01-25T00:00"));
        late.merchant_uid = late.merchant_uid.replace(&late.merchant_uid[28..], "06");
        world.till.posts.lock().unwrap().push(late);
        world.live_until("2028-02-01T00:00").await;
        assert_eq!(told(&world).await[2..], ["unpaid active paid next_period -"]);
    }

    async fn what_the_release_before_left_is_found_and_who_is_away_is_not_told_again(engine) {
        let world = world(engine, Dunning::default()).await;
        for (name, anchor, columns) in [
            ("owing", "2028-01-20", vec![]),
            ("unpaid", "2028-01-04", vec![]),
            ("paid", "2028-01-10", vec![]),
            ("paused", "2028-01-10", vec![]),
            ("cancelled", "2028-01-10", vec![]),
            ("ended", "2028-01-04", vec![("ends_on", "'2028-01-19'")]),
            ("trial", "2028-01-15", vec![("trial_days", "30")]),
        ] {
            world.subscribe(name, "monthly", anchor, &columns).await;
        }
        world.refuse("card-owing", Some(FUNDS));
        world.refuse("card-unpaid", Some(FUNDS));
        world.live_until("2028-01-15T00:00").await;
        for name in ["paused", "cancelled"] {
            world.sql(&format!("UPDATE subscriptions SET status = '{name}' WHERE external_ref = '{name}'")).await;
        }
        world.live_until("2028-01-20T12:00").await;
        let before = states(&world).await;
        assert_eq!(before, [
            "owing past_due", "unpaid unpaid", "paid -", "paused paused", "cancelled cancelled", "ended cancelled", "trial trialing",
        ]);
        let told_before = told(&world).await.len();
        // as if the table were made only now
        let migration = match engine {
            Engine::Postgres => include_str!("../../migrations/postgres/0009_states.sql"),
            Engine::Sqlite => include_str!("../../migrations/sqlite/0009_states.sql"),
        };
        let (_, rest) = migration.split_once("-- From the release before.").unwrap();
        let (fill, _) = rest.split_once("-- A status written by hand").unwrap();
        let fill: Vec<String> = fill.split_inclusive(';').map(|one| one.lines().filter(|line| !line.starts_with("--") && !line.starts_with(" Who")).collect::<Vec<_>>().join("\n")).collect();
        world.sql("DELETE FROM subscription_states").await;
        for one in fill.iter().filter(|one| one.contains("INSERT")) {
            world.sql(one).await;
        }
        world.live_until("2028-01-20T13:00").await;
        let after = states(&world).await;
        assert_eq!((&after[..2], &after[3..]), (&before[..2], &before[3..]), "and of who is active nobody minds a row");
        let told = told(&world).await;
        let mut again: Vec<String> = told[told_before..].iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
        again.sort();
        assert_eq!(again, ["- trialing", "active past_due", "active unpaid"]);
    }
}
