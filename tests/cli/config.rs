//! The config as an operator meets it.

use super::rig::{CONFIG, Rig};

#[test]
fn a_typo_is_named_with_file_line_and_the_key_that_was_meant() {
    let rig = Rig::sqlite();
    rig.write("rebilld.toml", "tag = \"sb\"\n[databse]\nurl = \"sqlite:x.db\"\n[plans.p]\nevery = \"1 fortnight\"\n");
    for arguments in [&["config", "check"][..], &["run"], &["subscriptions", "list"], &["migrate"]] {
        let error = rig.fails(78, arguments);
        assert!(error.contains("rebilld.toml:3: unknown key `databse.url`: did you mean `database.url`?"), "{error}");
        assert!(error.contains("rebilld.toml:5: `plans.p.every` `1 fortnight` is not a billing interval"), "{error}");
        assert!(error.contains("2 errors"), "{error}");
    }
}

#[test]
fn secrets_that_are_missing_or_open_to_all_are_refused_with_the_remedy() {
    let rig = Rig::sqlite();
    rig.mode("main.key", 0o644);
    std::fs::remove_file(rig.path().join("main.secret")).unwrap();
    let error = rig.fails(78, &["config", "check"]);
    assert!(
        error.contains("rebilld.toml:5: `accounts.main.imp_key`: main.key can be read by everybody")
            && error.contains("chmod o= main.key"),
        "{error}"
    );
    assert!(error.contains("rebilld.toml:6: `accounts.main.imp_secret`: main.secret cannot be read"), "{error}");
    // what needs no secret works without
    rig.ok(&["migrate"]);
    rig.ok(&["subscriptions", "list"]);
}

#[test]
fn secrets_come_from_systemd_credentials() {
    let rig = Rig::sqlite();
    rig.write("rebilld.toml", "[accounts.main]\n[plans.p]\nevery = \"1 month\"\namount = 100\ntitle = \"P\"\n");
    assert!(rig.fails(78, &["config", "check"]).contains("pass the systemd credential `main-imp-key`"));
    rig.write("main-imp-key", "key-hunter2");
    rig.write("main-imp-secret", "secret-hunter2");
    let done = rig.run_with(&["config", "check"], &[("CREDENTIALS_DIRECTORY", rig.path().to_str().unwrap())]);
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn show_hides_secrets_and_says_where_values_come_from() {
    let rig = Rig::sqlite();
    let variables = [("REBILLD_DATABASE__URL", "postgres://me:hunter2@db.example.com/rebilld"), ("REBILLD_TAG", "07")];
    let done = rig.run_with(&["config", "show"], &variables);
    assert_eq!(done.code, 0, "{done:?}");
    for part in [
        "postgres://me:***@db.example.com/rebilld",
        "# $REBILLD_DATABASE__URL",
        "tag = \"07\"",
        "# rebilld.toml:4",
        "# default",
        "?***",
    ] {
        assert!(done.out.contains(part), "{part} in\n{}", done.out);
    }
    let json = rig.json(&["config", "show"]);
    assert_eq!(json["accounts"]["main"]["rate"], 10);
    assert_eq!(json["worker"]["quiet"], "60m");
    let done = rig.run_with(&["config", "show", "--database", "sqlite:other.db"], &variables);
    assert!(done.out.contains("sqlite:other.db") && done.out.contains("# --database"), "{done:?}");
}

#[test]
fn the_reference_is_the_one_in_docs() {
    let text = Rig::sqlite().ok(&["config", "reference"]);
    assert_eq!(text, include_str!("../../docs/config.md"));
}

#[test]
fn every_config_file_that_is_shipped_passes() {
    let rig = Rig::sqlite();
    for name in ["main-imp-key", "main-imp-secret"] {
        rig.write(name, "key-hunter2");
    }
    rig.write("webhook-billing", "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg==");
    let credentials = rig.path().to_str().unwrap().to_owned();
    for file in ["default", "sandbox", "production"] {
        let path = format!("{}/config/{file}.toml", env!("CARGO_MANIFEST_DIR"));
        let mut variables = vec![("CREDENTIALS_DIRECTORY", credentials.as_str())];
        let sandbox =
            [("REBILLD_ACCOUNTS__MAIN__IMP_KEY_FILE", "main.key"), ("REBILLD_ACCOUNTS__MAIN__IMP_SECRET_FILE", "main.secret")];
        if file == "sandbox" {
            variables.extend(sandbox);
        }
        let done = rig.run_with(&["--config", &path, "config", "check"], &variables);
        assert_eq!(done.code, 0, "{file}: {done:?}");
    }
    // the file of defaults says nothing but the defaults
    let path = format!("{}/config/default.toml", env!("CARGO_MANIFEST_DIR"));
    let shown = |path: &str| rig.json(&["--config", path, "config", "show"]);
    rig.write("bare.toml", "[accounts.main]\n[plans.monthly]\nevery = \"1 month\"\n");
    assert_eq!(shown(&path), shown("bare.toml"));
}

#[test]
fn files_are_layered_in_their_order() {
    let rig = Rig::sqlite();
    rig.write("more.toml", "[accounts.main]\nrate = 77\n");
    let json = rig.json(&["--config", "rebilld.toml", "--config", "more.toml", "config", "show"]);
    assert_eq!(json["accounts"]["main"]["rate"], 77);
    assert_eq!(json["tag"], "sb");
    assert!(rig.fails(78, &["--config", "gone.toml", "config", "show"]).contains("gone.toml: the file cannot be read"));
}

#[test]
fn usage_errors_have_their_own_code() {
    let rig = Rig::sqlite();
    for arguments in [
        &["nonsense"][..],
        &["kill", "on"],
        &["charges", "list", "--state", "odd"],
        &["charges", "list", "--from", "2025-02-29"],
        &[],
    ] {
        rig.fails(64, arguments);
    }
    assert_eq!(rig.run(&["--help"]).code, 0);
    assert!(rig.ok(&["--version"]).starts_with("rebilld "));
    assert!(rig.fails(64, &["kill", "on", "--reason", " "]).contains("--reason is empty"));
}

#[test]
fn a_daemon_without_accounts_or_plans_does_not_start() {
    let rig = Rig::sqlite();
    rig.write("rebilld.toml", "tag = \"sb\"\n");
    let error = rig.fails(78, &["run"]);
    assert!(error.contains("add a section `[accounts.NAME]`"), "{error}");
    let (accounts, rest) = CONFIG.split_once("[plans").unwrap();
    let (_, after) = rest.split_once("[[webhooks]]").unwrap();
    // with its `[http]`: the port that a config without it names may be another's on this machine
    rig.write("rebilld.toml", format!("{accounts}[[webhooks]]{after}"));
    let error = rig.fails(78, &["run"]);
    assert!(error.contains("add a section `[plans.NAME]`, or a row to the table `plans`"), "{error}");
}

#[test]
fn a_database_that_cannot_be_used_is_named() {
    let rig = Rig::sqlite();
    assert!(rig.fails(69, &["subscriptions", "list"]).contains("there is no database file rebilld.db"));
    assert!(
        rig.fails(69, &["--database", "postgres://nobody@127.0.0.1:1/x", "subscriptions", "list"]).contains("cannot be reached")
    );
    assert!(rig.fails(78, &["--database", "mysql://me:hunter2@x/y", "migrate"]).contains("`sqlite:`"));
    assert!(rig.fails(78, &["--database", "sqlite::memory:", "migrate"]).contains("a database in memory would forget charges"));
    rig.write("empty.db", "");
    assert!(rig.fails(78, &["--database", "sqlite:empty.db", "subscriptions", "list"]).contains("run `rebilld migrate`"));
    rig.ok(&["migrate"]);
    rig.write("other.toml", CONFIG.replace("tag = \"sb\"", "tag = \"rb\""));
    let error = rig.fails(78, &["--config", "other.toml", "subscriptions", "list"]);
    assert!(error.contains("belongs to the tag `sb`, and the config says `rb`"), "{error}");
    assert!(rig.fails(78, &["--config", "other.toml", "migrate"]).contains("belongs to the tag"));
}
