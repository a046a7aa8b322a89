//! The kill switch and the hold, when they are needed most: while something else is wrong.

use super::rig::{CONFIG, Done, Rig};

/// Pulls each brake, and looks at it; returns everything that was said on the side.
fn pulled(rig: &Rig, options: &[&str]) -> String {
    let done = |arguments: &[&str]| -> Done {
        let done = rig.run(&[arguments, options].concat());
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        done
    };
    let mut said = String::new();
    for account in [&[][..], &["--account", "main"]] {
        for (command, state) in [(["kill", "on"], "killed"), (["hold", "set"], "killed")] {
            said += &done(&[&command[..], account, &["--reason", "test"]].concat()).err;
            let told = done(&[&["kill", "status", "--output", "csv"], account].concat());
            assert!(told.out.lines().nth(1).is_some_and(|row| row.contains(state)), "{told:?}");
        }
        said += &done(&[&["kill", "off", "--reason", "test"], account].concat()).err;
        let told = done(&["hold", "status", "--output", "csv"]);
        assert!(told.out.lines().skip(1).all(|row| row.contains("held")), "{told:?}");
    }
    said
}

#[tokio::test]
async fn the_brakes_work_beside_a_plan_that_cannot_be_read() {
    for rig in Rig::both().await {
        let insert = |day: &str| format!("INSERT INTO plans (name, every, trial_until) VALUES ('x', '1 month', '{day}')");
        rig.sql(
            &format!("DROP TRIGGER IF EXISTS plans_days_added; {}", insert("-1000-01-01")),
            &format!("ALTER TABLE plans DROP CONSTRAINT IF EXISTS plans_days; {}", insert("infinity")),
        )
        .await;
        assert_eq!(pulled(&rig, &[]), "");
    }
}

#[tokio::test]
async fn the_brakes_work_beside_a_config_that_is_wrong() {
    for rig in Rig::both().await {
        for (text, word) in [
            (CONFIG.replace("amount = 9900", "amuont = 9900"), "unknown key `plans.monthly.amuont`"),
            (CONFIG.replace("tag = \"sb\"", "tag = \"much too long\""), "tag"),
        ] {
            rig.write("rebilld.toml", text);
            assert_eq!(rig.run(&["subscriptions", "list"]).code, 78);
            let said = pulled(&rig, &[]);
            assert!(said.contains("warning: the config has 1 error") && said.contains(word), "{said}");
        }
        // a file that is half written says of its database what it can
        let half = CONFIG.replace("every = \"1 month\"", "every = \"1 mon");
        let url = rig.database.clone().unwrap_or_else(|| "sqlite:rebilld.db".to_owned());
        rig.write("rebilld.toml", format!("[database]\nurl = \"{url}\"\n{}", half.replace("tag = \"sb\"", "")));
        let said = pulled(&rig, &[]);
        assert!(said.contains("rebilld.toml:"), "{said}");
        rig.write("rebilld.toml", &half);
        let said = pulled(&rig, &["--database", &url]);
        assert!(said.contains("rebilld.toml:"), "{said}");
    }
}

#[tokio::test]
async fn no_brake_is_pulled_on_a_database_that_is_guessed() {
    let rig = Rig::sqlite();
    rig.ok(&["migrate"]);
    for text in ["[database]\nurl = \"sqlite:", "tag = ", "[database]\nulr = \"sqlite:other.db\"\n", "[database]\nurl = 7\n"] {
        rig.write("rebilld.toml", text);
        for command in [["kill", "on"], ["hold", "set"]] {
            let said = rig.fails(78, &[&command[..], &["--reason", "test"]].concat());
            assert!(said.contains("--database"), "{said}");
        }
    }
    // a file that says where, and another one that may say otherwise
    rig.write("rebilld.toml", CONFIG);
    rig.write("other.toml", "[database]\nurl = \"sqlite:oth");
    for other in ["other.toml", "missing.toml"] {
        let two = ["--config", "rebilld.toml", "--config", other, "kill", "on", "--reason", "test"];
        assert!(rig.fails(78, &two).contains("--database"), "{other}");
        let done = rig.run(&[&two[..], &["--database", "sqlite:rebilld.db"]].concat());
        assert!(done.code == 0 && done.err.contains(other), "{done:?}");
    }
}

#[tokio::test]
async fn a_brake_of_an_unknown_account_names_the_one_that_was_meant() {
    for rig in Rig::both().await {
        let said = rig.fails(65, &["kill", "on", "--account", "mian", "--reason", "test"]);
        assert!(said.contains("there is no account `mian`: did you mean `main`?"), "{said}");
    }
}
