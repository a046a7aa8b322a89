//! Every command of the documents is one of this program: README.md and all of docs/ are read, and each `rebilld …` is parsed by the
//! command line that it is for.
//!
//! A command of a code block has to parse as it stands. One within a sentence may leave out what it is not about: there the
//! subcommands and options have to exist. A block after the line `<!-- not tested: WHY -->` is left alone.

use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;

use super::Cli;

const NOT_TESTED: &str = "<!-- not tested: ";

/// A command as it is written.
#[derive(Debug, PartialEq)]
struct Written {
    line: usize,
    /// In a block of its own.
    whole: bool,
    words: Vec<String>,
}

/// All commands of a Markdown text.
fn written(text: &str) -> Vec<Written> {
    let mut found = Vec::new();
    // the language of the fence that is open
    let mut fence: Option<&str> = None;
    let mut marked = false;
    let mut joined = String::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            marked &= fence.is_none();
            fence = if fence.is_none() { Some(language) } else { None };
            continue;
        }
        let block = fence.is_some_and(|language| ["console", "sh", "shell", "bash"].contains(&language)) || indented(line);
        if line.starts_with(NOT_TESTED) {
            marked = true;
        } else if !line.trim().is_empty() && fence.is_none() && !block {
            marked = false;
        }
        if marked || (fence.is_some() && !block) {
            continue;
        }
        if !block {
            let spans = line.split('`').skip(1).step_by(2).filter(|span| span.starts_with("rebilld "));
            let words = spans.flat_map(|span| alternatives(&split(&span.replace("\\|", "|"), true)));
            found.extend(words.map(|words| Written { line: index + 1, whole: false, words }));
            continue;
        }
        if let Some(part) = line.strip_suffix('\\') {
            joined.push_str(part);
            continue;
        }
        let line = std::mem::take(&mut joined) + line;
        let words = commands(&line).into_iter().flat_map(|command| alternatives(&split(command, false)));
        found.extend(words.map(|words| Written { line: index + 1, whole: true, words }));
    }
    found
}

/// A block is indented by four; within a list by more.
fn indented(line: &str) -> bool {
    line.starts_with("    ")
}

/// What of a shell's line begins with the program's name, up to its end. Output of a program has it in sentences only.
fn commands(line: &str) -> Vec<&str> {
    let line = line.trim_start().trim_start_matches("$ ");
    let starts = line.match_indices("rebilld ").filter(|(at, _)| {
        let before = &line[..*at];
        before.is_empty() || ["-- ", "; ", "&& ", "|| ", "| "].iter().any(|end| before.ends_with(end))
    });
    starts.map(|(at, _)| &line[at..]).collect()
}

/// The words of a command, as a shell splits them; `inline` ones have no shell around them.
fn split(command: &str, inline: bool) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut began = false;
    for c in command.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '"' | '\'') => (quote, began) = (Some(c), true),
            (None, c) if c.is_whitespace() => {
                if began || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                began = false;
            }
            // a comment, the next command, or a file
            (None, '<' | '>') if word.is_empty() => break,
            (None, '#' | '|' | '&') if word.is_empty() && !inline => break,
            (None, ';') if !inline => break,
            (None, c) => word.push(c),
        }
    }
    if began || !word.is_empty() {
        words.push(word);
    }
    words
}

/// `list|show` stands for both.
fn alternatives(words: &[String]) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    for word in words {
        let plain = !word.contains('|') || word.contains(' ') || word.contains('[');
        let choices: Vec<&str> = if plain { vec![word] } else { word.split('|').collect() };
        all = choices
            .into_iter()
            .flat_map(|choice| all.iter().map(move |before| [before.as_slice(), &[filled(choice)]].concat()))
            .collect();
    }
    all
}

/// What stands for a value of a certain form.
fn filled(word: &str) -> String {
    match word {
        "ID" | "NUMBER" | "N" => "7",
        "INSTANT" => "2026-12-01T00:00:00Z",
        "DATE" => "2026-12-01",
        // one of the journal's, and as good as any other
        "HASH" => "0000000000000000000000000000000000000000000000000000000000000000",
        other => other,
    }
    .to_owned()
}

/// Why it is none of this program's commands, if so.
fn wrong(written: &Written) -> Option<String> {
    let error = Cli::try_parse_from(&written.words).err()?;
    let unfinished = [
        ErrorKind::MissingRequiredArgument,
        ErrorKind::MissingSubcommand,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ErrorKind::InvalidValue,
    ];
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => None,
        kind if !written.whole && unfinished.contains(&kind) => None,
        _ => Some(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![root.join("README.md")];
    let mut directories = vec![root.join("docs")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("docs can be read").map(|entry| entry.expect("an entry").path()) {
            match entry.is_dir() {
                true => directories.push(entry),
                false if entry.extension().is_some_and(|extension| extension == "md") => found.push(entry),
                false => {}
            }
        }
    }
    found
}

#[test]
fn every_command_of_the_documents_is_one_of_this_program() {
    let mut count = 0;
    let mut all = Vec::new();
    for path in documents() {
        let text = std::fs::read_to_string(&path).expect("a document");
        let commands = written(&text);
        count += commands.len();
        let wrong = commands.iter().filter_map(|command| Some((command, wrong(command)?)));
        all.extend(
            wrong.map(|(command, why)| format!("{}:{}: {}: {why}", path.display(), command.line, command.words.join(" "))),
        );
    }
    assert!(all.is_empty(), "\n{}\n", all.join("\n"));
    assert!(count > 250, "only {count} commands were found");
}

#[test]
fn commands_are_found_where_they_stand() {
    let text = "Run `rebilld kill on|off --reason TEXT`, not `cargo`.\n\n    rebilld hold status      # why: `rebilld x`\n    umask 077; rebilld \
        sandbox &\n```console\n$ rebilld calendar --start 2024-01-31\n n  rebilld is up\n```\n```toml\nrebilld nothing\n```\n\
        <!-- not tested: needs a shell -->\n\n    rebilld nonsense\n\n    kubectl exec x -- rebilld import --reason 'a b' < x.csv | cat\n";
    let shown: Vec<String> =
        written(text).iter().map(|written| format!("{}: {}", written.line, written.words.join("_"))).collect();
    assert_eq!(
        shown,
        [
            "1: rebilld_kill_on_--reason_TEXT",
            "1: rebilld_kill_off_--reason_TEXT",
            "3: rebilld_hold_status",
            "4: rebilld_sandbox",
            "6: rebilld_calendar_--start_2024-01-31",
        ],
        "what follows a mark is left alone until something else is said"
    );
    let after = text.replace("    rebilld nonsense\n", "Then:");
    assert!(written(&after).iter().any(|written| written.words == ["rebilld", "import", "--reason", "a b"]));
}

#[test]
fn what_is_no_command_is_named() {
    let of = |text: &str| written(text).iter().filter_map(wrong).count();
    for (text, count) in [
        ("    rebilld hold status\n", 0),
        ("    rebilld hold stat\n", 1),
        ("    rebilld hold release\n", 1),
        ("`rebilld hold release`", 0),
        ("`rebilld hold relase`", 1),
        ("`rebilld kill on --resaon x`", 1),
        ("    rebilld incidents show ID\n", 0),
        ("    rebilld incidents show seven\n", 1),
        ("    rebilld --version\n", 0),
    ] {
        assert_eq!(of(text), count, "{text}");
    }
}
