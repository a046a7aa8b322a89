//! README's table of guarantees: each names the test that holds it, and must not grow old.

/// What is wrong with the table of a README, a line each. `there`: whether a file or directory exists; `tests`: all tests' source.
pub fn stale(readme: &str, there: impl Fn(&str) -> bool, tests: &str) -> Vec<String> {
    let rows: Vec<&str> = readme
        .lines()
        .skip_while(|line| *line != "| guarantee | test |")
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let mut wrong = Vec::new();
    if rows.is_empty() {
        wrong.push("README.md: there is no table of guarantees".to_owned());
    }
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [guarantee, held] = cells[..] else {
            wrong.push(format!("README.md: `{row}` is not a guarantee and its test"));
            continue;
        };
        let words: Vec<&str> = held.split('`').skip(1).step_by(2).collect();
        if words.is_empty() {
            wrong.push(format!("README.md:{guarantee}: no test is named"));
        }
        for word in words {
            // `…` stands for what the word before it begins with
            let known = match (word.strip_prefix('…'), word.contains('/')) {
                (Some(end), _) => tests.contains(&format!("{end}(")),
                (None, true) => there(word.split(' ').next().unwrap_or_default()),
                (None, false) => tests.contains(&format!("fn {word}(")),
            };
            if !known {
                wrong.push(format!("README.md:{guarantee}: there is no {word}"));
            }
        }
    }
    wrong
}

#[test]
fn a_test_that_is_gone_is_found() {
    let table = |held: &str| format!("# x\n\n| guarantee | test |\n|---|---|\n| it holds | {held} |\n\nmore `words`\n");
    let found = |held: &str| stale(&table(held), |path| path == "tests/a.rs", "fn it_is_so() {} fn it_is_so_on_sqlite() {}");
    assert_eq!(found("`tests/a.rs`: `it_is_so`, `…_on_sqlite`"), Vec::<String>::new());
    for gone in ["`tests/b.rs`", "`tests/a.rs`: `it_was_so`", "`tests/a.rs`: `it_is_so`, `…_on_postgres`", "nothing"] {
        assert_eq!(found(gone).len(), 1, "{gone}");
    }
    assert_eq!(stale("# x\n", |_| true, "").len(), 1);
}
