//! Both engines have the same migrations, tables and columns. Types may differ, names may not.

use std::collections::{BTreeMap, BTreeSet};

/// Columns by table.
type Schema = BTreeMap<String, BTreeSet<String>>;

/// A migration: its file name and its text.
pub type Migration = (String, String);

/// What one engine's migrations have and the other's do not.
pub fn parity(sqlite: &[Migration], postgres: &[Migration]) -> Vec<String> {
    let mut wrong = Vec::new();
    let names = |migrations: &[Migration]| migrations.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>();
    compare("the migration", &names(sqlite), &names(postgres), &mut wrong);
    let (sqlite, postgres) = (schema(sqlite), schema(postgres));
    let tables = |schema: &Schema| schema.keys().cloned().collect::<BTreeSet<_>>();
    compare("the table", &tables(&sqlite), &tables(&postgres), &mut wrong);
    for (table, columns) in &sqlite {
        if let Some(others) = postgres.get(table) {
            compare(&format!("in `{table}` the column"), columns, others, &mut wrong);
        }
    }
    wrong
}

fn compare(what: &str, sqlite: &BTreeSet<String>, postgres: &BTreeSet<String>, wrong: &mut Vec<String>) {
    wrong.extend(sqlite.difference(postgres).map(|name| format!("migrations: {what} `{name}` exists on sqlite only")));
    wrong.extend(postgres.difference(sqlite).map(|name| format!("migrations: {what} `{name}` exists on postgres only")));
}

/// What stands after all migrations in the order of their names.
fn schema(migrations: &[Migration]) -> Schema {
    let mut ordered: Vec<&Migration> = migrations.iter().collect();
    ordered.sort();
    let mut schema = Schema::new();
    for (_, text) in ordered {
        for statement in blank(text).split(';') {
            apply(statement, &mut schema);
        }
    }
    schema
}

fn apply(statement: &str, schema: &mut Schema) {
    let head = statement.split('(').next().unwrap_or(statement).to_lowercase();
    let words: Vec<&str> = head.split_whitespace().filter(|word| !NOISE.contains(word)).collect();
    match words.as_slice() {
        ["create", "table", table, ..] => {
            let columns = columns(statement);
            schema.insert(name(table), columns);
        }
        ["drop", "table", tables @ ..] => tables.iter().flat_map(|tables| tables.split(',')).for_each(|table| {
            schema.remove(&name(table));
        }),
        ["alter", "table", old, "rename", "to", new] => {
            if let Some(columns) = schema.remove(&name(old)) {
                schema.insert(name(new), columns);
            }
        }
        ["alter", "table", table, ..] => {
            let columns = schema.entry(name(table)).or_default();
            let lower = statement.to_lowercase();
            // what comes after the table's name, one action a comma
            let actions = lower.split_once(table).map_or("", |(_, actions)| actions);
            split_top(actions).into_iter().for_each(|action| alter(action, columns));
        }
        _ => {}
    }
}

fn alter(action: &str, columns: &mut BTreeSet<String>) {
    let words: Vec<&str> = action.split_whitespace().filter(|word| !NOISE.contains(word) && *word != "column").collect();
    match words.as_slice() {
        ["add", column, ..] if !is_constraint(column) => {
            columns.insert(name(column));
        }
        ["drop", column, ..] if *column != "constraint" => {
            columns.remove(&name(column));
        }
        ["rename", old, "to", new] => {
            columns.remove(&name(old));
            columns.insert(name(new));
        }
        _ => {}
    }
}

/// Words that say nothing about which table or column is meant.
const NOISE: &[&str] = &["if", "not", "exists", "only", "temp", "temporary", "unlogged"];

fn is_constraint(word: &str) -> bool {
    let word = word.split('(').next().unwrap_or(word);
    ["primary", "unique", "check", "foreign", "constraint", "exclude", "like"].contains(&word)
}

/// The columns in the parentheses of a CREATE TABLE.
fn columns(statement: &str) -> BTreeSet<String> {
    let lower = statement.to_lowercase();
    let Some((_, body)) = lower.split_once('(') else { return BTreeSet::new() };
    let first_words = split_top(body).into_iter().filter_map(|part| part.split_whitespace().next());
    first_words.filter(|word| !is_constraint(word)).map(name).collect()
}

/// The parts between commas that are in no parentheses, up to the parenthesis that closes the whole.
fn split_top(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' if depth == 0 => {
                parts.push(&text[start..at]);
                return parts;
            }
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn name(word: &str) -> String {
    word.trim_matches(|character| "\"`[],".contains(character)).to_owned()
}

/// `sql` without comments, strings and dollar-quoted bodies.
pub fn blank(sql: &str) -> String {
    let mut kept = String::new();
    let mut rest = sql;
    while let Some(character) = rest.chars().next() {
        let end = |from: usize, mark: &str| rest[from..].find(mark).map_or(rest.len(), |at| from + at + mark.len());
        let skipped = match character {
            '-' if rest.starts_with("--") => end(0, "\n"),
            '/' if rest.starts_with("/*") => end(2, "*/"),
            '\'' => end(1, "'"),
            '$' => match rest[1..].find('$') {
                Some(tag) if rest[1..=tag].chars().all(|letter| letter == '_' || letter.is_alphabetic()) => {
                    end(tag + 2, &rest[..tag + 2])
                }
                _ => 0,
            },
            _ => 0,
        };
        if skipped > 0 {
            kept.push(' ');
            rest = &rest[skipped..];
        } else {
            kept.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    kept
}

#[cfg(test)]
pub fn migrations(files: &[(&str, &str)]) -> Vec<Migration> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn equal_schemas_in_different_words_agree() {
    let sqlite = migrations(&[
        (
            "1_first.sql",
            "CREATE TABLE charges (id INTEGER PRIMARY KEY, -- note, x\n amount INTEGER NOT NULL DEFAULT (1), CHECK (amount > 0)) STRICT;",
        ),
        (
            "2_more.sql",
            "CREATE TABLE charges_new (id INTEGER, total TEXT, note TEXT); INSERT INTO charges_new SELECT 1, 2, 'a;b';
             DROP TABLE charges; ALTER TABLE charges_new RENAME TO charges; ALTER TABLE charges ADD COLUMN due INTEGER;
             CREATE TRIGGER t BEFORE DELETE ON charges BEGIN SELECT RAISE(ABORT, 'no'); END;",
        ),
    ]);
    let postgres = migrations(&[
        (
            "1_first.sql",
            "CREATE TABLE IF NOT EXISTS \"charges\" (id BIGINT, amount NUMERIC(3, 1), UNIQUE(id), EXCLUDE USING gist (id WITH =));",
        ),
        (
            "2_more.sql",
            "ALTER TABLE charges RENAME COLUMN amount TO total;
             ALTER TABLE charges ADD COLUMN note TEXT, ADD due TIMESTAMPTZ, ADD CONSTRAINT c CHECK (id > 0);
             CREATE FUNCTION f() RETURNS trigger AS $body$ BEGIN CREATE TABLE hidden (a INT); END $body$ LANGUAGE plpgsql;",
        ),
    ]);
    assert_eq!(parity(&sqlite, &postgres), Vec::<String>::new());
    assert_eq!(schema(&sqlite)["charges"], ["due", "id", "note", "total"].map(str::to_owned).into());
}

#[test]
fn what_one_engine_lacks_is_named() {
    let sqlite = migrations(&[("1.sql", "CREATE TABLE a (x INT, y INT); CREATE TABLE b (x INT);"), ("2.sql", "")]);
    let postgres = migrations(&[("1.sql", "CREATE TABLE a (x INT, z INT);")]);
    assert_eq!(
        parity(&sqlite, &postgres),
        [
            "migrations: the migration `2.sql` exists on sqlite only",
            "migrations: the table `b` exists on sqlite only",
            "migrations: in `a` the column `y` exists on sqlite only",
            "migrations: in `a` the column `z` exists on postgres only",
        ]
    );
}
