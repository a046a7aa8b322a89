use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;
use serde_json::Value as Json;
use tempfile::NamedTempFile;

use super::keys::{Default, KEYS, Key};
use super::*;
use crate::domain::plan::{CatchUp, Price};
use jiff::civil::date;

fn file(text: &str) -> NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn sources(files: &[&NamedTempFile], environment: Environment) -> Sources {
    Sources { files: files.iter().map(|file| file.path().to_path_buf()).collect(), environment, options: Vec::new() }
}

fn load_text(text: &str) -> Result<Loaded, ConfigErrors> {
    load(&sources(&[&file(text)], Environment::default()))
}

/// What is wrong, as `LINE: text`.
fn wrong(text: &str) -> Vec<String> {
    let errors = load_text(text).err().map(|errors| errors.0).unwrap_or_default();
    let line = |problem: &Problem| match &problem.origin {
        Origin::File { line, .. } => line.to_string(),
        other => other.to_string(),
    };
    errors.iter().map(|problem| format!("{}: {}", line(problem), problem.text)).collect()
}

const FULL: &str = include_str!("tests/full.toml");

fn leaves(node: &Json, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let mut under = |part: String, child: &Json, found: &mut Vec<Vec<String>>| {
        path.push(part);
        leaves(child, path, found);
        path.pop();
    };
    match node {
        Json::Object(map) => map.iter().for_each(|(name, child)| under(name.clone(), child, found)),
        Json::Array(list) => list.iter().enumerate().for_each(|(index, child)| under(index.to_string(), child, found)),
        _ => found.push(path.clone()),
    }
}

#[test]
fn the_table_of_keys_and_the_settings_agree() {
    // there is one heartbeat, and three places for its URL
    let other = |key: &str| FULL.replace("heartbeat_url = \"https://hc.example/hunter2\"", &format!("{key} = \"x\""));
    let texts = [FULL.to_owned(), other("heartbeat_url_file"), other("heartbeat_url_credential")];
    let loaded: Vec<Loaded> = texts.iter().map(|text| load_text(text).unwrap()).collect();
    let mut found = Vec::new();
    for loaded in &loaded {
        leaves(&serde_json::to_value(&loaded.raw).unwrap(), &mut Vec::new(), &mut found);
    }
    for path in &found {
        assert!(Key::of(path).is_some(), "{path:?} is a setting and no key");
    }
    for key in KEYS {
        assert!(found.iter().any(|path| key.matches(path)), "{} is a key and no setting", key.path);
        let given = loaded.iter().flat_map(|loaded| loaded.origins.keys()).any(|path| key.matches(path));
        assert!(given, "{} is not in the full example", key.path);
    }
}

#[test]
fn without_a_file_the_defaults_are_in_effect() {
    let gone = load(&Sources { files: vec!["/nowhere/rebilld.toml".into()], ..Sources::default() });
    assert!(gone.unwrap_err().to_string().contains("/nowhere/rebilld.toml: the file cannot be read"));
    let loaded = load_text("[accounts.a]\n[plans.p]\nevery = \"1 month\"\n[dunning.d]\n").unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.database_url().unwrap(), "sqlite:rebilld.db");
    assert_eq!(settings.tag.as_str(), "rb");
    assert_eq!(settings.worker.quiet.as_secs(), 3600);
    assert_eq!(settings.accounts["a"].rate, 10);
    assert_eq!(settings.plans["p"].charge_time, jiff::civil::time(10, 0, 0, 0));
    let mut found = Vec::new();
    leaves(&loaded.json(), &mut Vec::new(), &mut found);
    for key in KEYS.iter().filter(|key| matches!(key.default, Default::Is(_)) && !key.path.contains("[]")) {
        assert!(found.iter().any(|path| key.matches(path)), "{} has no default in effect", key.path);
    }
}

#[test]
fn a_typo_is_named_with_its_line_and_the_key_that_was_meant() {
    let text = "tag = \"rb\"\n[databse]\nurl = \"sqlite:x\"\n[plans.pro]\nevery = \"1 month\"\ncharge_tme = \"10:00\"\n";
    assert_eq!(
        wrong(text),
        [
            "3: unknown key `databse.url`: did you mean `database.url`?",
            "6: unknown key `plans.pro.charge_tme`: did you mean `plans.pro.charge_time`?"
        ]
    );
    let errors = load_text(text).unwrap_err().to_string();
    assert!(errors.lines().all(|line| line.contains(".toml:")), "{errors}");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = r#"
state_dir = ""
tag = 7
[accounts.main]
rate = "10"
base_url = "http://api.iamport.kr"
merchant_uid = "per_month"
imp_key = "hunter2"
[plans.pro]
every = "1 fortnight"
charge_time = 10:00:00
amount = 0
zone = "Asia/Soul"
currency = "WON"
title = "12345678901234567890123456789012345678901"
[plans.none]
tax_free = 10
amount = 5
[worker]
quiet = "30m"
interval = 10
[jobs]
charge = "* * * * *"
[[webhooks]]
name = "a"
url = "https://x"
[[webhooks]]
name = "a"
[log]
level = "loud=now=x"
"#;
    let wrong = wrong(text);
    for (line, part) in [
        (2, "`state_dir` is empty"),
        (3, "`tag` has to be text in quotes"),
        (5, "without quotes"),
        (6, "`http://` is for loopback only"),
        (7, "\"per_attempt\" or \"per_period\""),
        (8, "unknown key `accounts.main.imp_key`: did you mean"),
        (10, "not a billing interval"),
        (11, "`plans.pro.charge_time` has to be text in quotes"),
        (12, "has to be 1 to"),
        (13, "\"Asia/Seoul\""),
        (14, "ISO 4217"),
        (15, "has 41 characters"),
        (16, "`plans.none.every` is missing"),
        (17, "are 10 together"),
        (20, "has to be 45m to 1d, not 30m"),
        (21, "`worker.interval` has to be text in quotes (duration"),
        (23, "has 5 fields"),
        (27, "`webhooks.1.url` is missing"),
        (28, "two [[webhooks]] are called \"a\""),
        (30, "log level"),
    ] {
        assert!(
            wrong.iter().any(|found| found.starts_with(&format!("{line}: ")) && found.contains(part)),
            "{line}: {part}\n{wrong:#?}"
        );
    }
    assert_eq!(wrong.len(), 20, "{wrong:#?}");
    assert!(!wrong.iter().any(|found| found.contains("hunter2")));
}

#[test]
fn a_plan_says_in_one_way_when_its_periods_start() {
    let text = r#"
[plans.both]
every = "1 month"
schedule = "0 0 10 1 * *"
[plans.none]
[plans.day]
schedule = "0 0 10 1 * *"
billing_day = 10
[plans.weeks]
every = "2 weeks"
billing_day = "last"
[plans.thirty-two]
every = "1 month"
billing_day = 32
[plans.often]
schedule = "0 0 10,14 1 * *"
"#;
    let wrong = wrong(text);
    for expected in [
        "4: `plans.both.every` and `plans.both.schedule` are both given: keep one",
        "5: `plans.none.every` is missing: a billing interval such as \"1 month\" (or `schedule`, a cron expression)",
        "8: `plans.day.billing_day` goes with `every`: a `schedule` names its days itself",
        "11: `plans.weeks.billing_day`: a billing day needs an interval of months, quarters or years, and `2 weeks` is made of days",
        "14: `plans.thirty-two.billing_day` `32` is not a billing day: write 1 to 31, or \"last\"",
    ] {
        assert!(wrong.iter().any(|found| found == expected), "{expected}\n{wrong:#?}");
    }
    assert!(wrong.iter().any(|found| found.contains("it comes 2 times a day")), "{wrong:#?}");
    assert_eq!(wrong.len(), 6, "{wrong:#?}");
}

#[test]
fn a_schedule_names_the_time_unless_the_plan_does() {
    let text = "[plans.p]\nschedule = \"0 30 9 L * *\"\n";
    let time = |text: &str| load_text(text).unwrap().settings.plans["p"].charge_time;
    assert_eq!(time(text), jiff::civil::time(9, 30, 0, 0));
    assert_eq!(time(&format!("{text}charge_time = \"11:00\"\n")), jiff::civil::time(11, 0, 0, 0));
    assert_eq!(time("[plans.p]\nevery = \"1 month\"\nbilling_day = 10\n"), jiff::civil::time(10, 0, 0, 0));
}

#[test]
fn holidays_are_added_and_removed_and_wrong_ones_are_named() {
    let day = |text: &str| text.parse().unwrap();
    let settings = load_text(FULL).unwrap().settings;
    let holidays = &settings.plans["monthly"].holidays;
    assert!(!holidays.is_banking_day(day("2031-01-23")) && holidays.is_banking_day(day("2026-06-03")));
    let text = "[holidays]\nextra = [\"2031-01-01\",\n \"2031-02-30\", 7,\n \"2031-01-03\"]\nremove = [\"2026-06-04\"]\n";
    assert_eq!(
        wrong(text),
        [
            "3: `holidays.extra.1` `2031-02-30` is not a date such as \"2026-12-01\"",
            "3: `holidays.extra.2` has to be text in quotes (date)",
            "5: `holidays.remove`: 2026-06-04 is not in the built-in calendar: there is nothing to remove",
        ]
    );
    let one = wrong("[holidays]\nextra = \"2031-01-01\"\n");
    assert_eq!(one, ["2: `holidays.extra` is a list: write it in brackets, such as [\"2027-05-03\"]"]);
}

#[test]
fn what_is_no_toml_is_named_with_its_line() {
    let wrong = wrong("tag = \"rb\"\n[database\nurl = 1\n");
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].starts_with("2: "), "{wrong:?}");
}

#[test]
fn later_layers_win_and_say_where_they_come_from() {
    let (first, second) =
        (file("tag = \"aa\"\n[accounts.my-shop]\nrate = 5\nin_flight = 3\n"), file("[accounts.my-shop]\nrate = 6\n"));
    let environment = Environment::of([
        ("REBILLD_ACCOUNTS__MY_SHOP__IN_FLIGHT", "007"),
        ("REBILLD_TAG", "07"),
        ("REBILLD_ACCOUNTS__MY_SHOP__INCLUDE_SANDBOX", "true"),
        ("REBILLD_ACCOUNTS__MY_SHOP__TIER", "007"),
        ("REBILLD_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("OTHER", "x"),
    ]);
    let mut sources = sources(&[&first, &second], environment);
    sources.options.push(("database.url", "sqlite:/tmp/x.db".into(), "--database"));
    let wrong = load(&sources).unwrap_err().to_string();
    assert_eq!(wrong.lines().count(), 1, "{wrong}");
    assert!(wrong.contains("`accounts.my-shop.in_flight` has to be a whole number without leading zeros"), "{wrong}");
    sources.environment = Environment::of([
        ("REBILLD_ACCOUNTS__MY_SHOP__IN_FLIGHT", "7"),
        ("REBILLD_TAG", "07"),
        ("REBILLD_ACCOUNTS__MY_SHOP__INCLUDE_SANDBOX", "true"),
        ("REBILLD_ACCOUNTS__MY_SHOP__TIER", "007"),
        ("REBILLD_PORT_8080_TCP_ADDR", "10.0.0.1"),
    ]);
    let loaded = load(&sources).unwrap();
    let account = &loaded.settings.accounts["my-shop"];
    assert_eq!((account.rate, account.in_flight, account.include_sandbox), (6, 7, true));
    assert_eq!(account.tier.as_deref(), Some("007"), "texts are never taken for numbers");
    assert_eq!(loaded.settings.tag.as_str(), "07");
    assert_eq!(loaded.settings.state_dir, std::path::Path::new("/tmp"));
    assert_eq!(loaded.notes.len(), 1, "{:?}", loaded.notes);
    let shown = loaded.toml();
    for part in ["# $REBILLD_TAG", "# --database", &format!("# {}:2", second.path().display()), "# default"] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
}

#[test]
fn a_variable_with_a_typo_is_an_error() {
    for (variable, meant) in [
        ("REBILLD_DATABSE__URL", "`database.url`"),
        ("REBILLD_DATABASE_URL", "`REBILLD_DATABASE__URL`"),
        ("REBILLD_ACCOUNTS_MAIN_IMP_KEY_FILE", "`REBILLD_ACCOUNTS__NAME__IMP_KEY_FILE`"),
        ("REBILLD_STATEDIR", "`REBILLD_STATE_DIR`"),
    ] {
        let wrong = load(&sources(&[&file("")], Environment::of([(variable, "x")]))).unwrap_err().to_string();
        assert!(wrong.starts_with(&format!("${variable}: ")) && wrong.contains(meant), "{wrong}");
    }
}

#[test]
fn what_is_shown_reads_back_as_the_same_settings() {
    let loaded = load_text(FULL).unwrap();
    let again = load_text(&loaded.toml()).unwrap();
    assert_eq!(again.json(), loaded.json());
    assert!(!loaded.toml().contains("hunter2"));
}

#[test]
fn missing_secrets_are_all_named() {
    let loaded =
        load_text("[accounts.main]\n[accounts.b]\nimp_key_credential = \"x\"\nimp_secret_file = \"/nowhere/s\"\n").unwrap();
    let wrong = loaded.secrets().unwrap_err();
    assert_eq!(wrong.0.len(), 4, "{wrong}");
    let wrong = wrong.to_string();
    for part in [
        ".toml:1: `accounts.main.imp_key`",
        "$CREDENTIALS_DIRECTORY is not set",
        ".toml:4: `accounts.b.imp_secret`: /nowhere/s cannot be read",
    ] {
        assert!(wrong.contains(part), "{part} in\n{wrong}");
    }
}

#[test]
fn the_database_password_comes_from_a_file_that_not_everybody_can_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let of = |url: &str| {
        let path = file.path().display();
        load_text(&format!("[database]\nurl = \"{url}\"\npassword_file = \"{path}\"\n[accounts]\n")).unwrap()
    };
    let loaded = of("postgres://rebilld@db/rebilld");
    assert_eq!(loaded.settings.database_url().unwrap(), "postgres://rebilld:hunter2@db/rebilld");
    assert!(!loaded.toml().contains("hunter2") && !format!("{:?}", loaded.settings).contains("hunter2"));
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    for wrong in [loaded.settings.database_url().unwrap_err().to_string(), loaded.secrets().unwrap_err().to_string()] {
        assert!(wrong.contains("`database.password") && wrong.contains("chmod o="), "{wrong}");
    }
    assert_eq!(of("sqlite:x.db").settings.database_url().unwrap(), "sqlite:x.db");
}

#[test]
fn the_reference_in_docs_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.md");
    let current = std::fs::read_to_string(path).unwrap_or_default();
    if current != reference() && Environment::of_process().get("REBILLD_BLESS") == Some("1") {
        std::fs::write(path, reference()).unwrap();
        return;
    }
    assert!(current == reference(), "docs/config.md is not current: run `REBILLD_BLESS=1 cargo test --lib reference`");
}

#[test]
fn a_plans_prices_windows_and_catching_up_are_read() {
    let settings = load_text(FULL).unwrap().settings;
    let plan = &settings.plans["monthly"];
    assert_eq!(plan.prices, [Price { from: date(2027, 1, 1), amount: 12_900, tax_free: Some(0), vat_amount: Some(1_172) }]);
    assert_eq!((plan.catch_up, plan.trial_days, plan.max_periods), (CatchUp::All { most: 5 }, 14, Some(12)));
    assert_eq!((settings.windows.hours.to_string().as_str(), settings.windows.blackouts.len()), ("10:00-20:00", 2));
    let catalog = settings.catalog();
    assert!(catalog.accounts["main"].mixed_tax && !catalog.accounts["second"].mixed_tax);
    let plain = load_text("[accounts.a]\n[plans.p]\nevery = \"1 month\"\n").unwrap().settings;
    assert_eq!((plain.plans["p"].zone.clone(), plain.plans["p"].catch_up), (None, CatchUp::Hold));
    assert_eq!(plain.windows.hours.to_string(), "09:00-22:00");
}

#[test]
fn a_later_file_replaces_a_plans_prices_whole() {
    let one = file(
        "[plans.p]\nevery = \"1 month\"\n[[plans.p.prices]]\nfrom = \"2027-01-01\"\namount = 1\n[[plans.p.prices]]\nfrom = \"2027-02-01\"\namount = 2\n",
    );
    let other = file("[[plans.p.prices]]\nfrom = \"2028-01-01\"\namount = 3\n");
    let loaded = load(&sources(&[&one, &other], Environment::default())).unwrap();
    let prices: Vec<i64> = loaded.settings.plans["p"].prices.iter().map(|price| price.amount).collect();
    assert_eq!(prices, [3]);
    assert!(loaded.toml().contains("[[plans.p.prices]]"), "{}", loaded.toml());
}

#[test]
fn wrong_prices_and_windows_are_named_with_their_lines() {
    let text = "[plans.p]\nevery = \"1 month\"\n[[plans.p.prices]]\nfrom = \"2027-1-1\"\namount = 1\n[[plans.p.prices]]\nfrom = \"2027-02-01\"\namount = 5\nvat_amount = 6\n[[plans.p.prices]]\nfrom = \"2027-02-01\"\n[windows]\nhours = \"9-22\"\nblackouts = \"23:30-00:40\"\n";
    let wrong = wrong(text);
    for part in [
        "4: `plans.p.prices.0.from` `2027-1-1` is not a date such as \"2026-12-01\"",
        "8: tax_free and vat_amount are 6 together, and the price from 2027-02-01 on is 5",
        "`plans.p.prices.2.amount` is missing",
        "plan `p` has two prices from 2027-02-01 on: keep one",
        "13: `windows.hours` `9-22` is no span of hours",
        "14: `windows.blackouts` `23:30-00:40` has no zone",
    ] {
        assert!(wrong.iter().any(|wrong| wrong.contains(part)), "{part} in\n{}", wrong.join("\n"));
    }
    let never = self::wrong("[windows]\nhours = \"09:00-10:00\"\nblackouts = \"08:00-11:00 Asia/Seoul\"\n");
    assert!(never[0].contains("no charge would ever start"), "{never:?}");
}

#[test]
fn a_ladder_is_a_preset_a_list_or_exponential() {
    use crate::domain::decline::Class;
    use crate::domain::dunning::{End, Ladder};
    use jiff::SignedDuration;

    let settings = load_text(FULL).unwrap().settings;
    let days = |days: &[i64]| Ladder::After(days.iter().map(|days| SignedDuration::from_hours(days * 24)).collect());
    let hours = SignedDuration::from_hours;
    assert_eq!(settings.dunning["default"].ladder, days(&[3, 8, 15]));
    assert_eq!(settings.dunning["default"].give_up, hours(16 * 24), "the preset's own");
    let listed = &settings.dunning["listed"];
    assert_eq!((&listed.ladder, listed.end, listed.give_up), (&days(&[2, 4]), End::Cancel, hours(120)));
    assert_eq!(listed.classes[&Class::Unknown], days(&[3]));
    let own = Ladder::Exponential { first: hours(36), factor: 2000, most: hours(72), tries: 2, jitter: 100 };
    assert_eq!(listed.classes[&Class::SoftContact], own, "of a class");
    assert_eq!((listed.preferred_days.len(), listed.grace), (2, hours(48)));
    assert_eq!(settings.dunning["slow"].grace, SignedDuration::ZERO);
    let doubling = Ladder::Exponential { first: hours(6), factor: 1500, most: hours(72), tries: 5, jitter: 200 };
    assert_eq!(settings.dunning["slow"].ladder, doubling);
    let dunnings = settings.dunnings();
    assert_eq!(dunnings.of("main", "monthly", None).dunning.ladder, doubling, "the plan's");
    assert_eq!(dunnings.of("main", "first", None).dunning.ladder, days(&[3, 8, 15]), "the default one");
    assert_eq!(settings.declines.classify(Some("html5_inicis"), "[1254][x]"), Class::SoftContact);
    assert_eq!(settings.declines.classify(None, "DO NOT HONOR"), Class::HardCard);
    let plain = load_text("[accounts.a]\n").unwrap().settings.dunnings();
    assert_eq!(plain.of("a", "any", None).dunning.ladder, days(&[1, 3, 5, 7]));
    let zone = |own: Option<&str>| plain.of("a", "any", own).zone.iana_name().map(str::to_owned);
    assert_eq!(zone(Some("America/New_York")).as_deref(), Some("America/New_York"), "the subscription's own");
    assert_eq!(zone(None).as_deref(), Some("Asia/Seoul"), "else the account's");
    assert_eq!(zone(Some("Nowhere/At_All")), zone(None));
}

#[test]
fn a_ladder_that_could_not_be_kept_is_named() {
    for (text, said) in [
        ("[dunning.d]\npreset = \"3-5-7\"\nretry_after = [\"1d\"]", "preset and retry_after: keep one"),
        ("[dunning.d]\nretry_after = [\"3d\", \"3d\"]", "has to rise"),
        ("[dunning.d]\nretry_after = [\"1d\", \"2d\", \"3d\", \"4d\", \"5d\", \"6d\", \"7d\", \"8d\"]", "8 in all"),
        ("[dunning.d]\nretry_after = [\"1h\"]", "has to be 1d to 60d"),
        ("[dunning.d]\nretry_after = [\"20d\"]", "after `give_up`"),
        ("[dunning.d]\nexponential = { tries = 3 }", "needs `initial`"),
        ("[dunning.d]\nexponential = { initial = \"1d\", factor = 0.5 }", "1 at least"),
        ("[dunning.d]\nexponential = { initial = \"1d\", jitter = 1.5 }", "0 to 1"),
        ("[dunning.d]\nclasses.HARD_CARD.retry_after = [\"1d\"]", "no ladder of days"),
        ("[dunning.d]\nclasses.HARD_CARD.exponential = { initial = \"1d\" }", "no ladder of days"),
        ("[dunning.d]\nclasses.UNKNOWN = { retry_after = [\"1d\"], exponential = { initial = \"1d\" } }", "keep one"),
        ("[dunning.d]\nclasses.UNKNOWN.exponential = { tries = 2 }", "needs `initial`"),
        ("[dunning.d]\nclasses.UNKNOWN.retry_after = [\"20d\"]", "after `give_up`"),
        ("[dunning.d]\ngrace = \"31d\"", "has to be 0s to 30d"),
        ("[dunning.d]\nend = \"refund\"", "\"keep\" or \"pause\" or \"cancel\""),
        ("[plans.p]\nevery = \"1 month\"\ndunning = \"none\"", "there is no `[dunning.none]`"),
        ("[[declines.rules]]\nclass = \"HARD_CARD\"", "needs a `code` or `contains`"),
        ("[[declines.rules]]\ncode = \"1254\"\nclass = \"PAID\"", "has to be \"HARD_CARD\""),
        ("[[declines.rules]]\ncode = \"1254\"", "class` is missing"),
    ] {
        let problems = wrong(&format!("[accounts.a]\n{text}\n"));
        assert!(problems.iter().any(|problem| problem.contains(said)), "{text}: {problems:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_config_with_one_spoilt_line_is_settings_or_names_a_line_of_it(
        at in any::<prop::sample::Index>(),
        value in prop_oneof!["[ -~]{0,20}", Just("{}".to_owned()), Just("[1, \"x\"]".to_owned()), Just("-9223372036854775808".to_owned())],
        whole in any::<bool>(),
    ) {
        let mut lines: Vec<String> = FULL.lines().map(str::to_owned).collect();
        let at = at.index(lines.len());
        lines[at] = match lines[at].split_once('=') {
            Some((key, _)) if !whole => format!("{key}= {value}"),
            _ => value,
        };
        if let Err(ConfigErrors(problems)) = load_text(&lines.join("\n")) {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                let placed = !matches!(&problem.origin, Origin::File { line, .. } if *line == 0 || *line > lines.len() + 1);
                prop_assert!(placed && !problem.text.is_empty(), "{problem}");
            }
        }
    }
}
