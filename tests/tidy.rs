//! The house is kept in order by a test: floors, homes of crates, sizes, migrations on both engines, banned words.
//!
//! The rules are constants in `tidy/rules.rs`. Each check takes texts, and each has a test beside it that shows it can fail.

mod tidy {
    pub mod dashboard;
    pub mod deploy;
    pub mod expand;
    pub mod floors;
    pub mod guarantees;
    pub mod guards;
    pub mod migrations;
    pub mod rules;
    pub mod source;
    pub mod tree;
    pub mod words;
}

use std::collections::BTreeSet;

use rebilld::domain::alarm::AlarmKind;
use tidy::{dashboard, deploy, expand, floors, guarantees, guards, migrations, tree, words};

fn tidy(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn manifest() -> String {
    tree::read("Cargo.toml").expect("Cargo.toml can be read")
}

#[test]
fn imports_go_down_only() {
    tidy(floors::imports(&tree::sources(&["src"])));
}

#[test]
fn third_party_crates_stay_at_home() {
    tidy(floors::crates(&tree::sources(&["src"]), &words::dependencies(&manifest())));
}

#[test]
fn only_the_store_says_that_an_intent_is_durable() {
    tidy(floors::durable_attempts(&tree::sources(&["src"])));
}

#[test]
fn nothing_banned_is_in_the_code() {
    tidy(words::banned(&tree::sources(&["src", "tests", "benches"])));
}

#[test]
fn every_guard_that_is_taken_out_stands_where_the_list_says() {
    let tests: String = tree::sources(&["src", "tests"]).into_iter().map(|source| source.code).collect();
    tidy(guards::stale(&tree::read("tests/guards.tsv").expect("the list of guards"), tree::read, &tests));
}

#[test]
fn every_guarantee_names_a_test_that_is_there() {
    let tests: String = tree::sources(&["src", "tests"]).into_iter().map(|source| source.code).collect();
    let readme = tree::read("README.md").expect("README.md");
    tidy(guarantees::stale(&readme, |path| tree::root().join(path).exists(), &tests));
}

#[test]
fn readme_says_what_the_campaigns_have_kept() {
    let readme = tree::read("README.md").expect("README.md");
    let row = |command: &str, kept: &str| {
        guarantees::other_figures(&readme, command, &tree::read(&format!("tests/simulation/{kept}")).expect(kept))
    };
    let rows =
        [row("scripts/prove simulation", "totals-sqlite.json"), row("scripts/prove simulation-postgres", "totals-postgres.json")];
    tidy(rows.concat());
}

#[test]
fn every_seed_of_the_campaigns_is_accounted_for() {
    let of = |kept: &str| guarantees::unaccounted(kept, &tree::read(&format!("tests/simulation/{kept}")).expect(kept));
    tidy([of("totals-sqlite.json"), of("totals-postgres.json")].concat());
}

#[test]
fn the_faults_by_kind_are_what_the_campaigns_have_kept() {
    let [proof, sqlite, postgres] =
        ["docs/proof.md", "tests/simulation/totals-sqlite.json", "tests/simulation/totals-postgres.json"]
            .map(|path| tree::read(path).expect(path));
    tidy(guarantees::other_faults(&proof, [&sqlite, &postgres]));
}

#[test]
fn no_file_is_too_long() {
    tidy(words::too_long(&tree::sources(&["src", "tests", "benches"])));
}

#[test]
fn every_dependency_says_why() {
    tidy(words::without_a_why(&manifest()));
}

#[test]
fn no_migration_locks_charges_against_writers() {
    let ahead = std::fs::read_to_string("src/store/ahead.rs").unwrap();
    tidy(expand::holds_up_writers(&tree::migrations("postgres"), &ahead));
}

#[test]
fn a_migration_only_adds_unless_its_name_says_otherwise() {
    tidy(["sqlite", "postgres"].into_iter().flat_map(|engine| expand::takes_away(engine, &tree::migrations(engine))).collect());
}

#[test]
fn both_engines_have_the_same_migrations() {
    tidy(migrations::parity(&tree::migrations("sqlite"), &tree::migrations("postgres")));
}

#[test]
fn dashboard_and_alerts_name_metrics_that_exist() {
    let text = |path| tree::read(path).expect("a file of deploy/");
    let mut all = deploy::of_dashboard(&text(deploy::DASHBOARD));
    all.extend(deploy::of_rules(&text(deploy::RULES)));
    assert!(all.len() > 60, "{} expressions", all.len());
    tidy(all.iter().flat_map(|(place, expression)| deploy::unknown(place, expression)).collect());
}

#[test]
fn the_dashboard_shows_every_metric_and_nothing_wrongly() {
    let json = tree::read(deploy::DASHBOARD).expect("the dashboard");
    tidy(dashboard::faults(&json));
    tidy(dashboard::not_shown(&json));
}

#[test]
fn every_alarm_has_an_alert_and_a_page() {
    let rules = tree::read(deploy::RULES).expect("the alert rules");
    let kinds: BTreeSet<&str> = deploy::said(&rules, "alarm").into_iter().collect();
    let expected: BTreeSet<&str> = AlarmKind::NAMES.into_iter().chain(["process-down"]).collect();
    assert_eq!(kinds, expected);
    for page in deploy::said(&rules, "runbook") {
        let text = tree::read(page).unwrap_or_else(|| panic!("{page}: an alert names it, and it is not there"));
        tidy(deploy::not_a_runbook(page, &text));
    }
    let count = deploy::of_rules(&rules).len();
    for (key, every) in [("alarm", count), ("severity", count), ("summary", count), ("description", count), ("runbook", count)] {
        assert_eq!(deploy::said(&rules, key).len(), every, "{key}");
    }
    let pages = tree::shared_files().into_iter().filter_map(|path| Some(path.strip_prefix("docs/runbooks/")?.to_owned()));
    let pages: BTreeSet<String> = pages.filter(|page| page != "README.md").collect();
    assert_eq!(pages, expected.iter().map(|kind| format!("{kind}.md")).collect());
}

#[test]
fn no_shared_file_names_a_path_of_one_machine() {
    let texts = tree::shared_files().into_iter().filter_map(|path| tree::read(&path).map(|text| (path, text)));
    tidy(texts.flat_map(|(path, text)| words::machine_paths(&path, &text)).collect());
}

#[test]
fn architecture_md_has_the_floors() {
    let document = tree::read("ARCHITECTURE.md").expect("ARCHITECTURE.md explains the floors, and exists");
    let current = floors::with_table(&document).unwrap_or_else(|wrong| panic!("{wrong}"));
    if current == document {
        return;
    }
    assert!(
        blessing(),
        "ARCHITECTURE.md's floors are not those of tests/tidy/rules.rs: run `REBILLD_BLESS=1 cargo test --test tidy`"
    );
    std::fs::write(tree::root().join("ARCHITECTURE.md"), current).expect("ARCHITECTURE.md can be written");
}

#[expect(clippy::disallowed_methods, reason = "asked for on the command line of a test; `config` is not under test")]
fn blessing() -> bool {
    std::env::var("REBILLD_BLESS").is_ok_and(|value| value == "1")
}
