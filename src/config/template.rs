//! A config to start from: every key with its meaning, those that are set in force and all others commented out.
//!
//! It is made from the table of keys, so it knows every key and no other. Prose begins with `# `; what can be taken in by deleting one
//! character is a `#` with no space behind it, and shows the default.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use toml_edit::{Document, Item, TableLike, Value};

use super::keys::{Default, KEYS, Key};
use super::reference::{SECTIONS, field_in};

/// Prose is broken into lines of so many characters.
const WIDTH: usize = 110;

/// What is set: paths as in a file (`accounts.main.rate`, `webhooks.0.url`), each with its value as TOML.
type Given = BTreeMap<String, String>;

/// The template, after a heading of the caller's, with the values of `given` in force: a config as TOML, whose comments are left behind.
/// `None`: it is no TOML.
pub fn template(heading: &str, given: &str) -> Option<String> {
    let document = Document::parse(given).ok()?;
    let mut values = Given::new();
    flatten(&mut values, "", document.as_table());
    let mut text = String::new();
    prose(&mut text, heading);
    text.push_str(
        "#\n# What is commented out without a space behind the # is the default, or has none (<…>). `rebilld config check` says what is\n\
         # wrong, `rebilld config show` what is in effect and why.\n",
    );
    for (section, words) in SECTIONS {
        let keys: Vec<(&Key, &str)> = KEYS.iter().filter_map(|key| Some((key, field_in(section, key.path)?))).collect();
        if section.is_empty() {
            block(&mut text, &values, "", None, &keys);
            continue;
        }
        text.push('\n');
        prose(&mut text, words);
        let list = section == "webhooks";
        for name in names(section, &values, list) {
            let path = match (&name, list) {
                (Some(name), true) => format!("{section}.{name}"),
                (name, _) => section.replace("NAME", name.as_deref().unwrap_or_else(|| example(section))),
            };
            let title = if list { format!("[[{section}]]") } else { format!("[{path}]") };
            // a section without a name is there anyway, one of somebody's naming only if there is something in it
            let on = !(section.contains("NAME") || list) || name.is_some();
            let _ = writeln!(text, "{}{title}", if on { "" } else { "#" });
            block(&mut text, &values, &path, Some(on), &keys);
        }
    }
    Some(text)
}

/// A name to begin with, where none is given.
fn example(section: &str) -> &'static str {
    match section {
        "accounts.NAME" => "main",
        "plans.NAME" => "monthly",
        _ => "default",
    }
}

/// The names that a section has; one `None` if it has none, or needs none.
fn names(section: &str, given: &Given, list: bool) -> Vec<Option<String>> {
    let head = match section.split_once(".NAME") {
        Some((head, _)) => head,
        None if list => section,
        None => return vec![None],
    };
    let found: BTreeSet<&str> =
        given.keys().filter_map(|path| path.strip_prefix(head)?.strip_prefix('.')?.split('.').next()).collect();
    if found.is_empty() { vec![None] } else { found.into_iter().map(|name| Some(name.to_owned())).collect() }
}

/// The keys of one section, those in lists of tables last.
fn block(text: &mut String, given: &Given, path: &str, on: Option<bool>, keys: &[(&Key, &str)]) {
    let inner = |field: &str| field.split_once("[].").map(|(list, key)| (list.to_owned(), key.to_owned()));
    for (key, field) in keys.iter().filter(|(_, field)| inner(field).is_none()) {
        line(text, given, path, key, field, on.unwrap_or(true));
    }
    let mut open: Option<String> = None;
    for (key, field) in keys {
        let Some((list, field)) = inner(field) else { continue };
        if open.as_ref() != Some(&list) {
            let _ = writeln!(text, "\n#[[{path}.{list}]]");
            open = Some(list);
        }
        line(text, given, path, key, &field, false);
    }
}

fn line(text: &mut String, given: &Given, path: &str, key: &Key, field: &str, on: bool) {
    let is_list = field.ends_with("[]");
    let field = field.trim_end_matches("[]").replace('*', "SOFT_FUNDS");
    let at = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
    prose(text, key.doc);
    let value = given.get(&at).filter(|_| on);
    let shown = match (value, key.default) {
        (Some(value), _) => {
            let _ = writeln!(text, "{field} = {value}");
            return;
        }
        (None, Default::Is(toml)) => toml.to_owned(),
        (None, Default::Required) => format!("<{}>", key.kind.words()),
        (None, Default::None(instead)) => {
            prose(text, &format!("Without it: {instead}."));
            let words = key.kind.words();
            if is_list { format!("[<{words}>, …]") } else { format!("<{words}>") }
        }
    };
    let _ = writeln!(text, "#{field} = {shown}");
}

/// Comment lines of bounded width.
fn prose(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

fn flatten(values: &mut Given, path: &str, table: &dyn TableLike) {
    for (name, item) in table.iter() {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match item {
            Item::ArrayOfTables(list) => {
                for (index, table) in list.iter().enumerate() {
                    flatten(values, &format!("{path}.{index}"), table);
                }
            }
            Item::Value(Value::InlineTable(table)) => flatten(values, &path, table),
            Item::Value(value) => drop(values.insert(path, value.to_string().trim().to_owned())),
            Item::Table(table) => flatten(values, &path, table),
            Item::None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, Sources, load};
    use super::*;

    fn loaded(text: &str) -> serde_json::Value {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rebilld.toml");
        std::fs::write(&path, text).unwrap();
        let sources = Sources { files: vec![path], environment: Environment::default(), options: Vec::new() };
        load(&sources).unwrap_or_else(|errors| panic!("{errors}\n{text}")).json()
    }

    /// With every default taken in.
    fn uncommented(text: &str) -> String {
        let line = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') && !rest.contains('<') && rest.contains('=') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    }

    const GIVEN: &str = "tag = \"sb\"\n[accounts.main]\nrate = 7\nbudget = { count = 3 }\n[plans.monthly]\nevery = \"1 month\"\n\
        [[webhooks]]\nname = \"crm\"\nurl = \"https://crm.example.com\"\n";

    #[test]
    fn what_is_given_is_in_force_and_nothing_else() {
        let text = template("A heading.", GIVEN).unwrap();
        assert_eq!(loaded(&text), loaded(GIVEN));
        assert!(text.starts_with("# A heading.\n"), "{text}");
    }

    #[test]
    fn every_default_that_is_shown_is_the_default() {
        let text = template("", GIVEN).unwrap();
        // those of sections that are not there have a header of their own, and that stays commented out
        let kept: Vec<&str> = text.split("\n\n").filter(|part| !part.contains("\n#[") && !part.starts_with("#[")).collect();
        let taken = uncommented(&kept.join("\n\n"));
        assert!(taken.lines().count() > 100 && taken.contains("\nquiet = \"60m\"\n"), "{taken}");
        assert_eq!(loaded(&taken), loaded(GIVEN));
    }

    #[test]
    fn every_key_is_in_it() {
        let text = template("", "").unwrap();
        let shown = |key: &Key| {
            let field = key.path.trim_end_matches("[]").rsplit(['.', ']']).next().unwrap_or_default().to_owned();
            text.lines().any(|line| {
                line.strip_prefix('#').is_some_and(|line| {
                    line.split(" = ").next().is_some_and(|name| name.rsplit('.').next() == Some(field.as_str()))
                })
            })
        };
        let missing: Vec<&str> = KEYS.iter().filter(|key| !shown(key)).map(|key| key.path).collect();
        assert_eq!(missing, [""; 0]);
    }
}
