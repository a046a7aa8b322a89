//! What may not stand in files: banned code, files that are too long, dependencies without a why, paths of one machine.

use super::rules::{BANNED, BANNED_IN_SRC, LONGEST_FILE, MACHINE_PATHS};
use super::source::Source;

pub fn banned(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources {
        for (word, instead) in BANNED {
            wrong.extend(source.words(word).map(|at| format!("{}: `{word}`: {instead}", source.place(at))));
        }
        let in_src = source.path.starts_with("src/");
        for (word, welcome, instead) in BANNED_IN_SRC {
            if !in_src || welcome.iter().any(|place| source.is_under(place)) {
                continue;
            }
            let outside_tests = source.words(word).filter(|&at| !source.in_tests(at));
            wrong.extend(outside_tests.map(|at| format!("{}: `{word}`: {instead}", source.place(at))));
        }
    }
    wrong
}

pub fn too_long(sources: &[Source]) -> Vec<String> {
    let long = sources.iter().filter(|source| source.lines() > LONGEST_FILE);
    long.map(|source| format!("{}: {} lines: split it (at most {LONGEST_FILE})", source.path, source.lines())).collect()
}

/// The names of Cargo.toml's `[dependencies]`, as written there.
pub fn dependencies(manifest: &str) -> Vec<String> {
    dependency_lines(manifest).into_iter().filter(|line| line.shipped).map(|line| line.name).collect()
}

/// Dependencies, development ones included, whose line does not follow a comment.
pub fn without_a_why(manifest: &str) -> Vec<String> {
    let lines = dependency_lines(manifest).into_iter().filter(|line| !line.explained);
    lines.map(|line| format!("Cargo.toml:{}: say above `{}` what it is for", line.number, line.name)).collect()
}

struct DependencyLine {
    number: usize,
    name: String,
    explained: bool,
    shipped: bool,
}

fn dependency_lines(manifest: &str) -> Vec<DependencyLine> {
    let mut found = Vec::new();
    let mut section = "";
    // inside a value that goes over several lines
    let mut open = 0;
    let mut previous = "";
    for (index, line) in manifest.lines().enumerate() {
        let line = line.trim();
        let outside = open == 0;
        let mut add = |name: &str, section: &str| {
            let name = name.split('.').next().unwrap_or(name).trim().trim_matches('"').to_owned();
            let shipped = !section.starts_with("dev-");
            found.push(DependencyLine { number: index + 1, name, explained: previous.starts_with('#'), shipped });
        };
        if outside && line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
            // [dependencies.NAME] and the like
            if let Some((table, name)) = section.split_once("dependencies.") {
                add(name, table);
            }
        } else if !line.starts_with('#') {
            if outside
                && section.ends_with("dependencies")
                && let Some((name, _)) = line.split_once('=')
            {
                add(name, section);
            }
            open += line.matches(['[', '{']).count();
            open = open.saturating_sub(line.matches([']', '}']).count());
        }
        previous = line;
    }
    found
}

/// Paths of a developer's machine in a file that others get.
pub fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    let named =
        lines.filter_map(|(index, line)| MACHINE_PATHS.iter().find(|word| line.contains(*word)).map(|word| (index, word)));
    named.map(|(index, word)| format!("{path}:{}: `{word}` is a path of one machine", index + 1)).collect()
}

#[test]
fn banned_code_is_found() {
    for (path, text) in [
        ("src/engine/claim.rs", "fn f() { todo!() }"),
        ("src/cli/mod.rs", "fn f() { unimplemented!() }"),
        ("tests/store.rs", "fn f() { dbg!(1); }"),
        ("tests/store.rs", "#[ignore] #[test] fn f() {}"),
        ("tests/store.rs", "#[ignore = \"slow\"] #[test] fn f() {}"),
        ("src/domain/mod.rs", "#![allow(dead_code)]"),
        ("src/domain/mod.rs", "#[cfg(test)] mod tests { #[allow(dead_code)] fn f() {} }"),
        ("src/engine/claim.rs", "fn f() { println!(\"x\"); }"),
        ("src/store/claim.rs", "fn f(sql: String) { sqlx::query(sqlx::AssertSqlSafe(sql)) }"),
        ("src/store/claim.rs", "fn f(sql: String) -> Statement { Statement::same(\"x\", sql.leak()) }"),
        ("src/store/claim.rs", "fn f(sql: String) -> Statement { Statement::same(\"x\", Box::leak(sql.into_boxed_str())) }"),
        ("src/engine/claim.rs", "fn f() { x.unwrap() } #[cfg(test)] mod tests { fn g() { y.unwrap() } }"),
    ] {
        assert_eq!(banned(&[Source::new(path, text)]).len(), 1, "{path}: {text}");
    }
    for (path, text) in [
        ("src/cli/mod.rs", "fn f() { println!(\"todo!\"); } // todo!"),
        ("tests/store.rs", "fn f() { println!(\"3 kills\"); x.unwrap() }"),
        ("src/store/tests.rs", "fn f() { x.unwrap() }"),
        ("src/engine/claim.rs", "fn f() { x.unwrap_or(1); my_todo!() } #[expect(dead_code, reason = \"#[allow(x)]\")] fn g() {}"),
    ] {
        assert_eq!(banned(&[Source::new(path, text)]), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn long_files_are_found() {
    assert_eq!(too_long(&[Source::new("src/a.rs", &"\n".repeat(LONGEST_FILE + 1))]).len(), 1);
    assert_eq!(too_long(&[Source::new("src/a.rs", &"\n".repeat(LONGEST_FILE))]).len(), 0);
}

#[test]
fn dependencies_without_a_why_are_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\n# why\ntokio = { version = \"1\", features = [\n  \"a\",\n] }\n\
        sqlx = \"1\"\n\n[dependencies.jiff]\nversion = \"1\"\n[dev-dependencies]\ninsta = \"1\"\n# why\nproptest = \"1\"\n";
    assert_eq!(dependencies(manifest), ["tokio", "sqlx", "jiff"]);
    let wrong = without_a_why(manifest);
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert!(wrong[0].contains("`sqlx`") && wrong[1].contains("`jiff`") && wrong[2].contains("`insta`"));
}

#[test]
fn machine_paths_are_found() {
    let path = format!("see {}notes.md", MACHINE_PATHS[0]);
    assert_eq!(machine_paths("README.md", &format!("one\n{path}\n")).len(), 1);
    assert_eq!(machine_paths("README.md", "work/notes.md and network/x"), Vec::<String>::new());
}
