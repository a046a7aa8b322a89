//! README's table of guarantees: each names the test that holds it, and must not grow old. Its figures of the simulation are those that
//! the campaigns have kept.

use std::collections::BTreeSet;

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

/// A number as README writes it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let from_the_right = |(place, digit): (usize, char)| {
        let comma = place > 0 && (digits.len() - place).is_multiple_of(3);
        [comma.then_some(','), Some(digit)]
    };
    digits.chars().enumerate().flat_map(from_the_right).flatten().collect()
}

/// README's row of a campaign, held against the totals that the campaign has kept (`tests/simulation/totals-*.json`).
pub fn other_figures(readme: &str, command: &str, totals: &str) -> Vec<String> {
    let kept: serde_json::Value = serde_json::from_str(totals).unwrap_or_default();
    let of = |name: &str| kept[name].as_u64().map(grouped).unwrap_or_default();
    let says = format!(
        "| {} subscription-months, {} charges, {} crashes, {} seeds",
        of("months"),
        of("charges"),
        of("crashes"),
        of("seeds")
    );
    let row = readme.lines().find(|line| line.starts_with('|') && line.contains(&format!("| `{command}` |")));
    match row {
        Some(row) if row.contains(&says) => vec![],
        Some(_) => vec![format!("README.md: the row of `{command}` does not say \"{says}\", which is what was kept")],
        None => vec![format!("README.md: no row is of `{command}`")],
    }
}

/// Each kind of fault, and how often the campaigns on both databases have met it: rows of a table.
fn faults(totals: [&str; 2]) -> Vec<String> {
    let kept = totals.map(|totals| serde_json::from_str::<serde_json::Value>(totals).unwrap_or_default()["counts"].clone());
    let kinds: BTreeSet<&str> =
        kept.iter().filter_map(|counts| counts.as_object()).flat_map(|counts| counts.keys().map(String::as_str)).collect();
    let is_fault = |kind: &&str| (kind.starts_with("POST: ") && *kind != "POST: no fault") || kind.starts_with("fault: ");
    let count = |kind: &str, n: usize| grouped(kept[n][kind].as_u64().unwrap_or(0));
    kinds.into_iter().filter(is_fault).map(|kind| format!("| {kind} | {} | {} |", count(kind, 0), count(kind, 1))).collect()
}

/// The table of faults by kind in docs/proof.md, held against the totals of the campaign on SQLite and of that on PostgreSQL.
pub fn other_faults(proof: &str, totals: [&str; 2]) -> Vec<String> {
    let rows = faults(totals);
    let stands = !rows.is_empty() && proof.contains(&format!("|---|---|---|\n{}\n\n", rows.join("\n")));
    if stands {
        vec![]
    } else {
        vec![format!("docs/proof.md: the table of faults by kind is not what was kept:\n{}", rows.join("\n"))]
    }
}

#[test]
fn a_count_of_faults_that_no_campaign_has_kept_is_found() {
    let kept = r#"{"counts": {"POST: no fault": 7, "POST: late": 1200, "fault: crash": 3, "R1 paid": 9}}"#;
    let table = |late: &str| format!("x\n|---|---|---|\n| POST: late | {late} | 0 |\n| fault: crash | 3 | 2 |\n\ny\n");
    let other = |late: &str| other_faults(&table(late), [kept, r#"{"counts": {"fault: crash": 2}}"#]).len();
    assert_eq!([other("1,200"), other("1,201")], [0, 1]);
    assert_eq!(other_faults("", ["{}", "{}"]).len(), 1, "no totals at all");
}

/// Seeds of a campaign that nobody can account for: left out between sittings, or run by code that no commit has.
pub fn unaccounted(name: &str, totals: &str) -> Vec<String> {
    let kept: serde_json::Value = serde_json::from_str(totals).unwrap_or_default();
    let mut wrong = Vec::new();
    let mut next = 0;
    for sitting in kept["sittings"].as_array().into_iter().flatten() {
        let (commit, from, to) = (sitting[0].as_str().unwrap_or_default(), sitting[1].as_u64(), sitting[2].as_u64());
        if from != Some(next) {
            wrong.push(format!("{name}: a sitting begins at seed {from:?}, and the one before it ended at {next}"));
        }
        if commit.is_empty() || commit.ends_with("-dirty") {
            wrong.push(format!("{name}: seeds from {from:?} were run by `{commit}`, which is no commit"));
        }
        next = to.unwrap_or_default();
    }
    if kept["seeds"] != next || kept["next"] != next || next == 0 {
        wrong.push(format!("{name}: its sittings end at seed {next}, and it counts {} seeds", kept["seeds"]));
    }
    wrong
}

#[test]
fn a_seed_that_nobody_ran_is_found() {
    let kept = |sittings: &str, seeds: u64| format!(r#"{{"seeds": {seeds}, "next": {seeds}, "sittings": {sittings}}}"#);
    let found = |sittings: &str, seeds| unaccounted("totals", &kept(sittings, seeds)).len();
    assert_eq!(found(r#"[["abc", 0, 32], ["def", 32, 40]]"#, 40), 0);
    assert_eq!(found(r#"[["abc", 0, 32], ["def", 47, 64]]"#, 64), 1);
    assert_eq!(found(r#"[["abc-dirty", 0, 32]]"#, 32), 1);
    assert_eq!(found(r#"[["abc", 0, 32]]"#, 33), 1);
    assert_eq!(found("[]", 0), 1);
}

#[test]
fn a_figure_that_no_campaign_has_kept_is_found() {
    let kept = r#"{"seeds": 12, "months": 1000050, "charges": 999, "crashes": 1000, "incidents": 3}"#;
    let row = |months: &str| {
        let says = format!("{months} subscription-months, 999 charges, 1,000 crashes, 12 seeds; 0 violations");
        other_figures(&format!("# x\n\n| histories | `scripts/prove x` | {says} |\n"), "scripts/prove x", kept).len()
    };
    assert_eq!([row("1,000,050"), row("1,000,051"), row("91,000,050")], [0, 1, 1]);
    assert_eq!(other_figures("# x\n", "scripts/prove x", kept).len(), 1);
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
