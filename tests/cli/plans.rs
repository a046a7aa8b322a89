//! Plans of the database, beside those of the config.

use serde_json::{Value, json};

use super::rig::{CONFIG, Rig};

const GOLD: &str = "INSERT INTO plans (name, every, amount, title) VALUES ('gold', '1 month', 5000, 'Gold');
    INSERT INTO plan_prices (plan, from_date, amount) VALUES ('gold', '2030-03-01', 6000);";
const BAD: &str = "INSERT INTO plans (name, every, amount, zone) VALUES ('bad', '1 month', 100, 'Asia/Soul');";
const BOOK: &str = "account,external_ref,plan,customer_uid,anchor,starts_on,name\n\
    main,p-1,gold,card-1,2030-01-05,2030-01-05,\n\
    main,p-2,gold,card-2,2030-02-05,2030-02-05,\n\
    main,p-3,monthly,card-3,2030-01-01,2030-01-01,N\n";

fn of<'a>(rows: &'a Value, name: &str) -> &'a Value {
    rows.as_array().and_then(|rows| rows.iter().find(|row| row["plan"] == name)).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn plans_are_listed_with_their_source_their_use_and_what_is_wrong_with_them() {
    for rig in Rig::both().await {
        rig.sql(GOLD, GOLD).await;
        rig.sql(BAD, BAD).await;
        rig.write("book.csv", BOOK);
        rig.ok(&["subscriptions", "import", "book.csv", "--quiet"]);
        let rows = rig.json(&["plans", "list"]);
        let gold = of(&rows, "gold");
        let told = json!([gold["source"], gold["every"], gold["amount"], gold["subscriptions"], gold["problem"]]);
        assert_eq!(told, json!(["database", "1 month", 5000, 2, null]));
        assert_eq!((&of(&rows, "monthly")["source"], &of(&rows, "monthly")["subscriptions"]), (&"config".into(), &1.into()));
        let bad = of(&rows, "bad")["problem"].as_str().unwrap();
        assert!(bad.contains("column `zone`") && bad.contains("did you mean \"Asia/Seoul\"?"), "{bad}");
        let table = rig.ok(&["plans", "list"]);
        assert!(table.contains("5,000 KRW") && table.contains("database"), "{table}");
        assert_eq!(rig.csv(&["plans", "list"]).len(), 6);
        let shown = rig.json(&["plans", "show", "gold"]);
        assert_eq!((&shown["catch_up"], &shown["prices"][0]["amount"]), (&"hold".into(), &6000.into()));
        assert!(rig.ok(&["plans", "show", "gold"]).contains("6,000 KRW from 2030-03-01 on"));
        assert_eq!(rig.json(&["plans", "show", "monthly"])["source"], "config");
        assert!(rig.fails(65, &["plans", "show", "golt"]).contains("did you mean `gold`?"));
        let error = rig.fails(78, &["config", "check"]);
        assert!(error.contains("database: plan `bad`: column `zone`: there is no time zone `Asia/Soul`"), "{error}");
        let mend = "UPDATE plans SET zone = NULL WHERE name = 'bad'";
        rig.sql(mend, mend).await;
        assert!(rig.ok(&["config", "check"]).contains("3 plans and 2 in the database"));
    }
}

#[tokio::test]
async fn what_looks_ahead_sees_the_plans_of_the_database() {
    for rig in Rig::both().await {
        rig.sql(GOLD, GOLD).await;
        rig.write("book.csv", BOOK);
        rig.ok(&["subscriptions", "import", "book.csv", "--quiet"]);
        let told = rig.json(&["forecast", "--days", "90", "--at", "2029-12-31T00:00:00Z", "--by", "plan"]);
        let gold = told["lines"].as_array().unwrap().iter().find(|line| line["plan"] == "gold").unwrap().clone();
        // p-1 in January and February at 5,000, p-2 in February; both in March at 6,000
        assert_eq!((&gold["charges"], &gold["sum"]), (&5.into(), &27_000.into()), "{told}");
        let why = rig.json(&["explain", "p-1"]);
        assert!(why.to_string().contains("5000") || why.to_string().contains("5,000"), "{why}");
        assert_eq!(rig.json(&["config", "plan"])["changed"], 0);
        let set = rig.run(&["subscriptions", "set", "p-3", "--plan", "gold", "--reason", "better"]);
        assert_eq!(set.code, 0, "{set:?}");
    }
}

#[tokio::test]
async fn a_name_that_is_in_both_is_refused_with_the_line_of_the_config() {
    for rig in Rig::both().await {
        let clash = "INSERT INTO plans (name, every) VALUES ('monthly', '1 week')";
        rig.sql(clash, clash).await;
        let line = CONFIG.lines().position(|line| line == "[plans.monthly]").unwrap() + 1;
        let wanted = format!("rebilld.toml:{line}: plan `monthly` is in the config and in the table `plans`");
        for command in [&["config", "check"][..], &["config", "plan"], &["run"]] {
            let error = rig.fails(78, command);
            assert!(error.contains(&wanted) && error.contains("rename or delete one"), "{command:?}: {error}");
        }
        let rows = rig.json(&["plans", "list"]);
        let monthly = of(&rows, "monthly");
        assert_eq!((&monthly["source"], &monthly["every"]), (&"config".into(), &"1 month".into()));
        assert!(monthly["problem"].as_str().unwrap().contains("rename or delete one"), "{monthly}");
    }
}
