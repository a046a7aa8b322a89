//! A release works on the schema of the next one: a migration only adds, or its name begins with `contract_`.

use std::collections::BTreeSet;

#[cfg(test)]
use super::migrations::migrations;
use super::migrations::{Migration, blank};

/// Those up to here were there before the rule; no release is so old that it met them.
const BEFORE: u32 = 14;

/// Tables that grow with every charge: nobody may be kept from writing them while they are read from end to end.
const LARGE: &[&str] =
    &["charges", "attempts", "sends", "observations", "events", "deliveries", "ids", "schedules", "subscriptions"];

/// Indexes that PostgreSQL would build over a large table in the transaction of a migration. `ahead`: those of src/store/ahead.rs.
pub fn holds_up_writers(migrations: &[Migration], ahead: &str) -> Vec<String> {
    let number = |name: &str| name.split('_').next().and_then(|digits| digits.parse::<u32>().ok()).unwrap_or(u32::MAX);
    let mut wrong = Vec::new();
    for (name, text) in migrations.iter().filter(|(name, _)| number(name) > BEFORE) {
        let text = blank(text).to_lowercase();
        for statement in text.split(';') {
            let words: Vec<&str> = statement.split_whitespace().collect();
            let (index, rest) = match words.as_slice() {
                ["create", "index", "if", "not", "exists", index, rest @ ..] if ahead.contains(&format!("\"{index}\"")) => {
                    (index, rest)
                }
                ["create", "index", "if", "not", "exists", index, rest @ ..]
                | ["create", "unique", "index", index, rest @ ..]
                | ["create", "index", index, rest @ ..] => {
                    if let ["on", table, ..] = rest
                        && LARGE.contains(&bare(table))
                    {
                        wrong.push(format!(
                            "migrations/postgres/{name}: {index} holds up writers of {}: build it in src/store/ahead.rs",
                            bare(table)
                        ));
                    }
                    continue;
                }
                _ => continue,
            };
            let squeeze = |text: &str| blank(text).to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
            let same = squeeze(statement);
            let same = same.split_once(" (").map_or("", |(_, on)| on);
            let line = ahead.lines().find(|line| line.contains(&format!("\"{index}\""))).unwrap_or_default();
            let line = squeeze(line);
            let bare = |on: &str| on.trim_end_matches(['"', ')', ',', ' ']).to_owned();
            if rest.is_empty() || line.split_once("\"(").is_none_or(|(_, on)| bare(on) != bare(same)) {
                wrong.push(format!("migrations/postgres/{name}: {index} is another one in src/store/ahead.rs"));
            }
        }
    }
    wrong
}

/// What takes something away that the release before may still use.
pub fn takes_away(engine: &str, migrations: &[Migration]) -> Vec<String> {
    let number = |name: &str| name.split('_').next().and_then(|digits| digits.parse::<u32>().ok()).unwrap_or(u32::MAX);
    let held = |(name, _): &&Migration| {
        number(name) > BEFORE && !name.split_once('_').is_some_and(|(_, rest)| rest.starts_with("contract_"))
    };
    migrations.iter().filter(held).flat_map(|(name, text)| of_one(&format!("migrations/{engine}/{name}"), text)).collect()
}

fn of_one(file: &str, text: &str) -> Vec<String> {
    let text = blank(text).to_lowercase();
    let statements: Vec<Vec<&str>> = text.split(';').map(|statement| statement.split_whitespace().collect()).collect();
    let made: BTreeSet<&str> = statements.iter().filter_map(|words| made(words)).collect();
    let wrong = |words: &Vec<&str>| {
        Some(format!("{file}: {}: the release before still uses it; see docs/operating.md", taken(words, &made)?))
    };
    statements.iter().filter_map(wrong).collect()
}

/// The table that a statement makes.
fn made<'a>(words: &[&'a str]) -> Option<&'a str> {
    match words {
        ["create", "table", "if", "not", "exists", table, ..] | ["create", "table", table, ..] => Some(bare(table)),
        _ => None,
    }
}

fn bare(table: &str) -> &str {
    table.split('(').next().unwrap_or(table).trim_matches('"')
}

fn taken(words: &[&str], made: &BTreeSet<&str>) -> Option<String> {
    let has = |wanted: &[&str]| words.windows(wanted.len()).any(|window| window == wanted);
    match words {
        ["drop", "table" | "view" | "function", what, ..] if !made.contains(bare(what)) => Some(format!("drops {what}")),
        ["create", "unique", "index", ..] => {
            let table = words.iter().skip_while(|word| **word != "on").nth(1).map(|table| bare(table))?;
            (!made.contains(table)).then(|| format!("makes rows of {table} unique"))
        }
        ["alter", "table", table, ..] if !made.contains(bare(table)) => match () {
            () if has(&["rename"]) => Some(format!("renames in {table}")),
            () if has(&["drop", "column"]) || has(&["drop", "constraint"]) && has(&["add", "constraint"]) => {
                Some(format!("drops or replaces in {table}"))
            }
            () if has(&["set", "not", "null"]) || has(&["type"]) => Some(format!("changes a column of {table}")),
            () if has(&["not", "null"]) && !has(&["default"]) => Some(format!("wants of {table} what it did not")),
            () => None,
        },
        _ => None,
    }
}

#[test]
fn what_only_adds_is_left_alone() {
    let files = migrations(&[
        ("0014_old.sql", "DROP TABLE a;"),
        (
            "0015_more.sql",
            "ALTER TABLE a ADD COLUMN b BIGINT NOT NULL DEFAULT 0; -- DROP TABLE a;\nCREATE INDEX i ON a (b); DROP TRIGGER t ON a;",
        ),
        ("0016_new.sql", "CREATE TABLE n (id BIGINT NOT NULL); CREATE UNIQUE INDEX u ON n (id); ALTER TABLE n RENAME TO m;"),
        ("0017_contract_old.sql", "ALTER TABLE a DROP COLUMN b;"),
    ]);
    assert_eq!(takes_away("postgres", &files), Vec::<String>::new());
}

#[test]
fn what_takes_away_is_named() {
    let wrong = |text: &str| takes_away("sqlite", &migrations(&[("0015_x.sql", text)])).concat();
    for (text, says) in [
        ("DROP TABLE a", "drops a"),
        ("ALTER TABLE a DROP COLUMN b", "drops or replaces in a"),
        ("ALTER TABLE a RENAME COLUMN b TO c", "renames in a"),
        ("ALTER TABLE a ALTER COLUMN b SET NOT NULL", "changes a column of a"),
        ("ALTER TABLE a ALTER COLUMN b TYPE TEXT", "changes a column of a"),
        ("ALTER TABLE a ADD COLUMN b BIGINT NOT NULL", "wants of a"),
        ("CREATE UNIQUE INDEX u ON a (b)", "makes rows of a unique"),
    ] {
        assert!(wrong(text).contains(says), "{text}: {}", wrong(text));
    }
}

#[test]
fn an_index_on_a_large_table_is_built_before_its_migration() {
    let ahead = "index!(\"big\", \"charges\", \"(a, b) WHERE c IN ('d')\"),";
    let wrong = |text: &str| holds_up_writers(&migrations(&[("0015_x.sql", text)]), ahead).concat();
    assert_eq!(
        wrong("CREATE INDEX IF NOT EXISTS big ON charges (a, b)\n    WHERE c IN ('d'); CREATE INDEX i ON alarms (a);"),
        ""
    );
    assert!(wrong("CREATE INDEX big ON charges (a, b) WHERE c IN ('d');").contains("holds up writers of charges"));
    assert!(wrong("CREATE INDEX IF NOT EXISTS small ON charges (a);").contains("holds up writers"));
    assert!(wrong("CREATE UNIQUE INDEX u ON sends (a);").contains("holds up writers of sends"));
    assert!(wrong("CREATE INDEX IF NOT EXISTS big ON charges (a);").contains("another one"));
}
