//! Output that a page shows, against what the command says.

/// What is compared of a line: words as they stand, and one sign for each value that changes with the day and the book.
fn mask(line: &str) -> Vec<String> {
    line.split_whitespace().filter(|word| !word.chars().all(|c| "█░".contains(c))).map(value).collect()
}

const DAYS_AND_MONTHS: [&str; 19] = [
    "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
    "Dec",
];

fn value(word: &str) -> String {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
    let version = bare.len() == 12 && bare.chars().all(|c| c.is_ascii_lowercase() || ('2'..='7').contains(&c));
    if bare.chars().any(|c| c.is_ascii_digit()) || DAYS_AND_MONTHS.contains(&bare) || version {
        return "#".to_owned();
    }
    // a plural of one is none
    match word.strip_suffix('s') {
        Some(one) if one.len() > 3 => one.to_owned(),
        _ => word.to_owned(),
    }
}

/// `Err`: a line that is shown and not said. A line of values alone, of `…` or of nothing says nothing.
pub fn compare(shown: &str, said: &str) -> Result<(), String> {
    if shown.trim_end() == said.trim_end() {
        return Ok(());
    }
    let lines: Vec<Vec<String>> = said.lines().map(mask).collect();
    let mut wrong = Vec::new();
    for line in shown.lines() {
        let masked = mask(line);
        let words: Vec<&String> = masked.iter().filter(|word| *word != "#").collect();
        // a row of a table: its head is what is compared
        let row = words.len() * 2 < masked.len();
        if row || words.iter().all(|word| *word == "…" || word.chars().count() < 2) {
            continue;
        }
        let same = |other: &Vec<String>| other.iter().filter(|word| *word != "#").collect::<Vec<_>>() == words;
        if !lines.iter().any(same) {
            wrong.push(format!("the page shows `{line}`"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}, and it says:\n{said}", wrong.join("\n"))) }
}

#[test]
fn values_may_differ_and_words_may_not() {
    let shown = " week        charges            sum\n 2026-11-23       88  1,522,900 KRW  ███░\n …\n88 charges, by config 2 (t62lbpsnzrun)\n";
    let said = " week  charges  sum\n 2027-01-04  1  9,900 KRW  ██\n1 charges, by config 12 (6wboyf3msfsm)\n";
    assert_eq!(compare(shown, said), Ok(()));
    assert!(compare(shown, &said.replace("sum", "total")).is_err());
    assert!(compare(shown, &said.replace("by config", "under config")).is_err());
    assert!(compare("a line\n", "").is_err());
}
