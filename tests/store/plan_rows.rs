//! Plans that operators write with their own SQL.

use std::collections::BTreeMap;

use rebilld::config::{Settings, Sources, load, reference};
use rebilld::ports::store::Store;
use serde_json::{Value, json};

use super::rig::{Engine, World, both, later, now};

const GOLD: &str = "INSERT INTO plans (name, every, amount) VALUES ('gold', '1 month', 9900)";

async fn subscribed(world: &World, reference: &str, plan: &str) {
    let columns = "account, external_ref, plan, customer_uid, anchor";
    let sql = format!("INSERT INTO subscriptions ({columns}) VALUES ('main', '{reference}', '{plan}', 'card', '2026-12-01')");
    world.sql(&sql).await.unwrap();
}

async fn rows(world: &World) -> BTreeMap<String, Value> {
    world.db.plan_rows().await.unwrap().rows
}

/// Those of a config without plans.
fn settings() -> Settings {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.toml");
    std::fs::write(&file, "[accounts.main]\n").unwrap();
    load(&Sources { files: vec![file], ..Sources::default() }).unwrap().settings
}

both! {
    async fn a_plan_is_read_with_its_dated_prices_as_the_config_would_write_it(world: World) {
        assert_eq!(rows(&world).await, BTreeMap::new());
        world.sql("INSERT INTO plans (name, every, billing_day, charge_time, zone, banking, amount, currency, title, tax_free, vat_amount,
                while_past_due, trial_days, trial_until, trial_anchor, resume, max_periods, catch_up, catch_up_limit)
            VALUES ('gold', '1 month', 'last', '09:30', 'Asia/Seoul', 'next', 9900, 'KRW', 'Gold', 0, 900,
                'continue', 7, '2027-02-28', 'keep', 'anchor', 12, 'all', 5)").await.unwrap();
        world.sql("INSERT INTO plans (name, schedule) VALUES ('first', '0 0 10 1 * *')").await.unwrap();
        for price in ["('gold', '2027-06-01', 12100, NULL, NULL)", "('gold', '2027-03-01', 11000, 0, 1000)"] {
            world.sql(&format!("INSERT INTO plan_prices (plan, from_date, amount, tax_free, vat_amount) VALUES {price}")).await.unwrap();
        }
        let gold = json!({
            "every": "1 month", "billing_day": "last", "charge_time": "09:30", "zone": "Asia/Seoul", "banking": "next", "amount": 9900,
            "currency": "KRW", "title": "Gold", "tax_free": 0, "vat_amount": 900, "while_past_due": "continue", "trial_days": 7,
            "trial_until": "2027-02-28", "trial_anchor": "keep", "resume": "anchor", "max_periods": 12, "catch_up": "all",
            "catch_up_limit": 5,
            "prices": [
                { "from": "2027-03-01", "amount": 11000, "tax_free": 0, "vat_amount": 1000 }, { "from": "2027-06-01", "amount": 12100 },
            ],
        });
        let first = json!({ "schedule": "0 0 10 1 * *", "prices": [] });
        assert_eq!(rows(&world).await, BTreeMap::from([("gold".to_owned(), gold), ("first".to_owned(), first)]));
        world.sql("UPDATE plans SET name = 'gilt' WHERE name = 'gold'").await.unwrap();
        assert_eq!(rows(&world).await["gilt"]["prices"][1]["amount"], 12100, "prices follow the name");
        world.sql("DELETE FROM plans WHERE name = 'gilt'").await.unwrap();
        assert_eq!(world.count("SELECT count(*) AS n FROM plan_prices").await, 0);
    }

    async fn the_version_grows_with_each_change_of_a_plan_and_with_nothing_else(world: World) {
        let mut last = world.db.plans_version().await.unwrap();
        for change in [
            GOLD,
            "UPDATE plans SET amount = 11000",
            "INSERT INTO plan_prices (plan, from_date, amount) VALUES ('gold', '2027-01-01', 12000)",
            "UPDATE plan_prices SET amount = 13000",
            "DELETE FROM plan_prices",
            "DELETE FROM plans",
        ] {
            world.sql(change).await.unwrap();
            let version = world.db.plans_version().await.unwrap();
            assert!(version > last, "{change}");
            assert_eq!(world.db.plan_rows().await.unwrap().version, version);
            last = version;
        }
        subscribed(&world, "s-1", "gold").await;
        assert_eq!(world.db.plans_version().await.unwrap(), last);
        // what is due tells which plans it was seen with
        let due = world.db.due_schedules(now(), 9).await.unwrap();
        assert_eq!(due.iter().map(|schedule| schedule.plans_version).collect::<Vec<_>>(), [last]);
    }

    async fn what_can_never_be_billed_is_refused_by_the_table(world: World) {
        world.sql(GOLD).await.unwrap();
        for wrong in [
            "INSERT INTO plans (name, amount) VALUES ('x', 1)",
            "INSERT INTO plans (name, every, schedule) VALUES ('x', '1 day', '0 0 10 1 * *')",
            "INSERT INTO plans (name, schedule, billing_day) VALUES ('x', '0 0 10 1 * *', '10')",
            "INSERT INTO plans (name, every, billing_day) VALUES ('x', '1 month', '32')",
            "INSERT INTO plans (name, every, charge_time) VALUES ('x', '1 day', '24:00')",
            "INSERT INTO plans (name, every, amount) VALUES ('x', '1 day', 0)",
            "INSERT INTO plans (name, every, currency) VALUES ('x', '1 day', 'won')",
            "INSERT INTO plans (name, every, banking) VALUES ('x', '1 day', 'never')",
            "INSERT INTO plans (name, every, catch_up) VALUES ('x', '1 day', 'some')",
            "INSERT INTO plans (name, every, amount, tax_free, vat_amount) VALUES ('x', '1 day', 100, 60, 41)",
            "INSERT INTO plans (name, every, title) VALUES ('x', '1 day', '12345678901234567890123456789012345678901')",
            "INSERT INTO plans (name, every) VALUES ('', '1 day')",
            "INSERT INTO plans (name, every) VALUES ('gold', '1 day')",
            "INSERT INTO plan_prices (plan, from_date, amount) VALUES ('nobody', '2027-01-01', 1)",
            "INSERT INTO plan_prices (plan, from_date, amount) VALUES ('gold', '2027-02-30', 1)",
            "INSERT INTO plan_prices (plan, from_date, amount, vat_amount) VALUES ('gold', '2027-01-01', 1, 2)",
            "INSERT INTO plans_version (id, version) VALUES (2, 0)",
        ] {
            assert!(world.sql(wrong).await.is_err(), "{wrong}");
        }
        assert_eq!(rows(&world).await.len(), 1);
    }

    async fn a_row_that_cannot_be_read_is_wrong_by_itself(world: World) {
        let (days, off) = match world.db.is_postgres() {
            true => (["infinity", "10000-01-01"], [
                "ALTER TABLE plans DROP CONSTRAINT IF EXISTS plans_days",
                "ALTER TABLE plan_prices DROP CONSTRAINT IF EXISTS plan_prices_days",
            ]),
            false => (["-1000-01-01", "-1000-01-01"], ["DROP TRIGGER IF EXISTS plans_days_added", "DROP TRIGGER IF EXISTS plan_prices_days_added"]),
        };
        let [trial, from] = days;
        let insert = [
            format!("INSERT INTO plans (name, every, trial_until) VALUES ('trial', '1 month', '{trial}')"),
            format!("INSERT INTO plan_prices (plan, from_date, amount) VALUES ('dated', '{from}', 5)"),
        ];
        for sql in [GOLD, "INSERT INTO plans (name, every, amount) VALUES ('dated', '1 month', 100)"] {
            world.sql(sql).await.unwrap();
        }
        for sql in &insert {
            assert!(world.sql(sql).await.is_err(), "no new row can hold such a day: {sql}");
        }
        // rows from before there was a check
        for sql in off.into_iter().chain(insert.iter().map(String::as_str)) {
            world.sql(sql).await.unwrap();
        }
        let found = rows(&world).await;
        assert_eq!(found["gold"], json!({ "every": "1 month", "amount": 9900, "prices": [] }));
        let read = settings().database_plans(&found);
        assert_eq!(read.plans.keys().collect::<Vec<_>>(), ["gold"]);
        for (plan, column) in [("trial", "trial_until"), ("dated", "from_date")] {
            assert!(read.wrong[plan].contains(&format!("column `{column}` cannot be read")), "{:?}", read.wrong);
        }
        // put right, it is a plan again
        world.sql("DELETE FROM plan_prices").await.unwrap();
        assert_eq!(settings().database_plans(&rows(&world).await).plans.keys().collect::<Vec<_>>(), ["dated", "gold"]);
    }

    async fn no_day_that_no_calendar_has_is_taken(world: World) {
        world.sql(GOLD).await.unwrap();
        world.sql("INSERT INTO plan_prices (plan, from_date, amount) VALUES ('gold', '2027-01-01', 1)").await.unwrap();
        for day in ["infinity", "-infinity", "10000-01-01", "20270-01-01", "-1000-01-01"] {
            for sql in [
                format!("INSERT INTO plans (name, every, trial_until) VALUES ('x', '1 month', '{day}')"),
                format!("UPDATE plans SET trial_until = '{day}'"),
                format!("INSERT INTO plan_prices (plan, from_date, amount) VALUES ('gold', '{day}', 1)"),
                format!("UPDATE plan_prices SET from_date = '{day}'"),
            ] {
                assert!(world.sql(&sql).await.is_err(), "{sql}");
            }
        }
        world.sql("UPDATE plans SET trial_until = '9999-12-31'").await.unwrap();
        world.sql("UPDATE plan_prices SET from_date = '9999-12-31'").await.unwrap();
    }

    async fn a_version_names_the_plans_that_were_in_force_beside_its_config(world: World) {
        let plans = BTreeMap::from([("gold".to_owned(), json!({ "every": "1 month", "amount": 9900 }))]);
        let body = json!({ "plans": {} });
        let alone = world.db.remember_config("config", &body, now(), "a").await.unwrap();
        let both = world.db.remember_version(("both", "config"), (&body, &plans), now(), "a").await.unwrap();
        assert_ne!(alone, both);
        assert_eq!(world.db.remember_version(("both", "config"), (&body, &plans), later(1), "a").await.unwrap(), both);
        let stored = world.db.config_version(both).await.unwrap().unwrap();
        assert_eq!((stored.hash.as_str(), &stored.plans, &stored.body), ("config", &plans, &body));
        world.db.config_taken("one", both, now()).await.unwrap();
        assert_eq!(world.db.daemons().await.unwrap()[0].hash, "config", "daemons are compared by their configs");
        assert_eq!(world.db.config_version(alone).await.unwrap().unwrap().plans, BTreeMap::new());
    }

    async fn uses_are_counted_and_found_by_the_plan_that_comes(world: World) {
        for (reference, plan) in [("s-1", "gold"), ("s-2", "gold"), ("s-3", "other")] {
            subscribed(&world, reference, plan).await;
        }
        world.sql("UPDATE subscriptions SET status = 'cancelled' WHERE external_ref = 's-2'").await.unwrap();
        world.sql("UPDATE subscriptions SET next_plan = 'gold' WHERE external_ref = 's-3'").await.unwrap();
        let uses = world.db.plan_uses().await.unwrap();
        assert_eq!(uses, BTreeMap::from([("gold".to_owned(), 1), ("other".to_owned(), 1)]));
        let page = world.db.standing_of_plans(0, 10, &["gold".to_owned()]).await.unwrap();
        let found: Vec<&str> = page.subscriptions.iter().map(|one| one.schedule.terms.external_ref.as_str()).collect();
        assert_eq!(found, ["s-1", "s-2", "s-3"]);
        assert!(world.db.standing_of_plans(0, 10, &["other".to_owned()]).await.unwrap().subscriptions.is_empty());
    }

    async fn every_key_of_a_plan_in_the_config_is_a_column(world: World) {
        let text = reference();
        let section = text.split("\n## ").find(|section| section.starts_with("`[plans.NAME]`")).unwrap();
        let keys = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let columns: Vec<&str> = keys.filter(|key| !key.starts_with("prices")).collect();
        assert!(columns.len() >= 19, "{columns:?}");
        world.sql(&format!("SELECT {} FROM plans", columns.join(", "))).await.unwrap();
        world.sql("SELECT plan, from_date, amount, tax_free, vat_amount FROM plan_prices").await.unwrap();
    }
}
