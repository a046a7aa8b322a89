//! What of a page is a command, and what the page says of it.

use std::fs;
use std::path::Path;

/// Why a command of this program may be left out. Anything else that begins with `rebilld` is run.
pub const REASONS: [&str; 4] = ["it asks on a terminal", "it needs a cluster", "it needs systemd", "it needs jq"];
/// The first words of what is typed into a shell; with those of SQL, which is run as well.
const TOOLS: [&str; 23] = [
    "rebilld",
    "cargo",
    "scripts/",
    "kubectl",
    "docker",
    "systemctl",
    "apt-get",
    "editor",
    "install",
    "rm",
    "cp",
    "psql",
    "pg_dump",
    "pg_restore",
    "litestream",
    "export",
    "umask",
    "curl",
    "REBILLD_",
    "sqlite3",
    "INSERT",
    "UPDATE",
    "$",
];
const UNDER: &str = "*Not run by tests: ";
const UNDER_BY: &str = "*Run by `";
const BEHIND: &str = "# not run by tests: ";
const DRAWING: &str = "<!-- not tested: ";
/// Before blocks that the test of backups carries out.
const REHEARSED: &str = "<!-- rehearsed: ";
const REHEARSAL: &str = "tests/daemon/backup.rs";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Run,
    /// By this script or test.
    RunBy(String),
    /// And why.
    NotRun(String),
}

#[derive(Debug, Clone)]
pub struct Command {
    pub line: usize,
    /// As a shell gets it, with its comment.
    pub text: String,
    /// Output that stands under it.
    pub shown: String,
    pub fate: Fate,
    /// The exit codes that the page lets it have.
    pub codes: Vec<i32>,
}

#[derive(Debug)]
pub struct Page {
    /// Relative to the repository.
    pub name: String,
    pub text: String,
    pub commands: Vec<Command>,
    pub wrong: Vec<String>,
}

impl Page {
    /// The first fenced block in this language.
    pub fn fenced(&self, language: &str) -> Option<&str> {
        let (_, rest) = self.text.split_once(&format!("```{language}\n"))?;
        Some(rest.split_once("```")?.0)
    }
}

/// README.md, and all of docs/.
pub fn all(root: &Path) -> Vec<Page> {
    let mut names = vec!["README.md".to_owned()];
    let mut open = vec!["docs".to_owned()];
    while let Some(directory) = open.pop() {
        let mut entries: Vec<_> =
            fs::read_dir(root.join(&directory)).expect("docs").map(|entry| entry.expect("an entry")).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = format!("{directory}/{}", entry.file_name().to_string_lossy());
            match entry.path().is_dir() {
                true => open.push(name),
                false if name.ends_with(".md") => names.push(name),
                false => {}
            }
        }
    }
    names.iter().map(|name| read(name, &fs::read_to_string(root.join(name)).expect("a page"), root)).collect()
}

/// The commands of a text. Scripts that it names are looked for below `root`.
pub fn read(name: &str, text: &str, root: &Path) -> Page {
    let lines: Vec<&str> = text.lines().collect();
    let mut page = Page { name: name.to_owned(), text: text.to_owned(), commands: Vec::new(), wrong: Vec::new() };
    let mut at = 0;
    while at < lines.len() {
        let fence = lines[at].trim_start().strip_prefix("```");
        let (first, end, after) = match fence {
            Some(_) => {
                let close = (at + 1..lines.len()).find(|n| lines[*n].trim_start().starts_with("```")).unwrap_or(lines.len());
                (at + 1, close, close + 1)
            }
            None if indented(lines[at]) => {
                let end = (at..lines.len()).find(|n| !indented(lines[*n]) && !lines[*n].is_empty()).unwrap_or(lines.len());
                (at, end, end)
            }
            None => {
                at += 1;
                continue;
            }
        };
        let shell = fence.is_none_or(|language| ["console", "sh", "shell", "bash"].contains(&language));
        let drawing = (0..at).rev().map(|n| lines[n]).find(|line| !line.is_empty()).is_some_and(|line| line.starts_with(DRAWING));
        if shell && !drawing && lines[first..end].iter().any(|line| is_command(line.trim_start())) {
            let before = (0..at).rev().map(|n| lines[n]).find(|line| !line.is_empty()).unwrap_or_default();
            let under = lines[after..].iter().find(|line| !line.is_empty()).copied().unwrap_or_default().trim_start();
            block(&mut page, &lines, (first, end), (before, under), root);
        }
        at = after.max(at + 1);
    }
    page
}

/// A block is indented by four; within a list by more.
fn indented(line: &str) -> bool {
    line.starts_with("    ")
}

fn is_command(line: &str) -> bool {
    TOOLS.iter().any(|tool| {
        line.strip_prefix(tool).is_some_and(|rest| tool.ends_with(['/', '_']) || rest.starts_with(' ') || rest.is_empty())
    })
}

fn block(page: &mut Page, lines: &[&str], (first, end): (usize, usize), (before, under): (&str, &str), root: &Path) {
    let fate = fate(page, first + 1, before, under, root);
    let prompted = lines[first..end].iter().any(|line| line.trim_start().starts_with("$ "));
    let indent = lines[first].len() - lines[first].trim_start().len();
    let mut joined = String::new();
    for (number, line) in (first..end).map(|n| (n + 1, lines[n])) {
        let line = line.get(indent..).unwrap_or_else(|| line.trim_start());
        let text = match line.strip_prefix("$ ") {
            None if prompted => {
                if let Some(command) = page.commands.last_mut() {
                    command.shown.push_str(line);
                    command.shown.push('\n');
                }
                continue;
            }
            stripped => stripped.unwrap_or(line),
        };
        if text.trim().is_empty() {
            continue;
        }
        if !joined.is_empty() && !text.starts_with(' ') && !joined.ends_with('\n') {
            joined.push(' ');
        }
        // a shell's line goes on after a backslash, a statement to its semicolon
        if let Some(part) = text.strip_suffix('\\') {
            joined.push_str(part.trim_start());
            continue;
        }
        joined.push_str(text.trim_start());
        if is_sql(&joined) && !joined.ends_with(';') {
            joined.push('\n');
            continue;
        }
        let text = std::mem::take(&mut joined);
        let comment = text.split_once(" #").map(|(_, comment)| comment.to_owned()).unwrap_or_default();
        let marked = text.split_once(BEHIND).map(|(_, why)| Fate::NotRun(why.to_owned()));
        let fate = marked.unwrap_or_else(|| fate.clone());
        let ours = text.starts_with("rebilld ") || is_sql(&text);
        let wrong = match &fate {
            Fate::NotRun(why) if ours && !REASONS.contains(&why.as_str()) => {
                Some(format!("`{why}` is no reason not to run a command of this program"))
            }
            Fate::Run if !ours && !RUN.iter().any(|tool| text.starts_with(tool)) => {
                Some("neither run nor marked: say under the block `*Not run by tests: WHY.*`, or which script runs it".to_owned())
            }
            Fate::RunBy(script)
                if script.starts_with("scripts/")
                    && fs::read_to_string(root.join(script)).is_ok_and(|script| !names(&script, &text)) =>
            {
                Some(format!("{script} has no such command"))
            }
            _ => None,
        };
        let fate = if wrong.is_some() && fate == Fate::Run { Fate::NotRun(String::new()) } else { fate };
        page.wrong.extend(wrong.map(|why| format!("{}:{number}: {text}: {why}", page.name)));
        page.commands.push(Command { line: number, codes: codes(&comment), text, shown: String::new(), fate });
    }
}

/// What of other tools is run: it needs nothing that is not on every machine with this repository.
const RUN: [&str; 1] = ["umask "];

pub fn is_sql(text: &str) -> bool {
    ["INSERT ", "UPDATE "].iter().any(|verb| text.starts_with(verb))
}

/// Whether a script has the command's first word, without its arguments.
fn names(script: &str, text: &str) -> bool {
    text.split_whitespace().find(|word| !word.contains('=')).is_some_and(|word| script.contains(word))
}

fn fate(page: &mut Page, line: usize, before: &str, under: &str, root: &Path) -> Fate {
    if let Some(block) = before.strip_prefix(REHEARSED).and_then(|rest| rest.strip_suffix(" -->")) {
        let test = fs::read_to_string(root.join(REHEARSAL)).unwrap_or_default();
        if !test.contains(&format!("\"{block}\"")) {
            page.wrong.push(format!("{}:{line}: {REHEARSAL} carries out no `{block}`", page.name));
        }
        return Fate::RunBy(REHEARSAL.to_owned());
    }
    if let Some(why) = under.strip_prefix(UNDER).and_then(|rest| rest.strip_suffix(".*")) {
        return Fate::NotRun(why.to_owned());
    }
    if let Some(script) = under.strip_prefix(UNDER_BY).and_then(|rest| rest.split('`').next()) {
        if !root.join(script).is_file() {
            page.wrong.push(format!("{}:{line}: there is no {script}", page.name));
        }
        return Fate::RunBy(script.to_owned());
    }
    Fate::Run
}

/// `(exit 75)` alone, or 0 and whatever the comment says that may be.
fn codes(comment: &str) -> Vec<i32> {
    let number = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    let comment = comment.replace("종료 코드 ", "exit ");
    if let Some(code) =
        comment.split_once("(exit ").filter(|(_, rest)| rest.find(')') == Some(2)).and_then(|(_, rest)| number(rest))
    {
        return vec![code];
    }
    // each number of such a sentence: `exit 65 if there are any, 69 if …`
    let named =
        comment.split_once("exit ").map(|(_, rest)| rest.split([' ', ':', ',', ';']).filter_map(number).collect::<Vec<i32>>());
    [vec![0], named.unwrap_or_default()].concat()
}

#[test]
fn commands_are_read_with_what_is_said_of_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = "Text.\n\n    rebilld kill on \\\n        --reason x    # stops\n    rebilld audit    # exit 65 if they differ\n    rebilld arm    # not run by tests: it asks on a terminal\n\n\
        Text\n\n    kubectl get pods\n\n*Not run by tests: it needs a cluster.*\n\n    cargo build\n\n1. List\n\n       rebilld takeover check  # (exit 75)\n\n\
        ```console\n$ rebilld calendar\n n  start\n$ rebilld explain x\n```\n\n    [database]\n    url = 1\n\nAnd\n\n    UPDATE a\n        SET b = 1;\n";
    let page = read("x.md", text, root);
    let told: Vec<(usize, &str, &[i32])> =
        page.commands.iter().map(|command| (command.line, command.text.as_str(), command.codes.as_slice())).collect();
    assert_eq!(
        told,
        [
            (4, "rebilld kill on --reason x    # stops", &[0][..]),
            (5, "rebilld audit    # exit 65 if they differ", &[0, 65]),
            (6, "rebilld arm    # not run by tests: it asks on a terminal", &[0]),
            (10, "kubectl get pods", &[0]),
            (14, "cargo build", &[0]),
            (18, "rebilld takeover check  # (exit 75)", &[75]),
            (21, "rebilld calendar", &[0]),
            (23, "rebilld explain x", &[0]),
            (32, "UPDATE a\nSET b = 1;", &[0]),
        ]
    );
    assert_eq!(page.commands[6].shown, " n  start\n");
    assert_eq!(page.commands[3].fate, Fate::NotRun("it needs a cluster".to_owned()));
    assert_eq!(page.wrong.len(), 1, "{:?}", page.wrong);
    assert!(page.wrong[0].starts_with("x.md:14: cargo build: neither run nor marked"), "{:?}", page.wrong);
}

#[test]
fn a_mark_without_a_reason_that_holds_is_wrong() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (text, wrong) in [
        ("    rebilld audit # not run by tests: it is slow\n", "`it is slow` is no reason"),
        ("    rebilld audit\n\n*Not run by tests: why not.*\n", "`why not` is no reason"),
        ("    dpkg -i x\n    apt-get update\n\n*Run by `scripts/nothing`.*\n", "there is no scripts/nothing"),
        ("    litestream replicate\n\n*Run by `scripts/try-deb`.*\n", "scripts/try-deb has no such command"),
        ("<!-- rehearsed: no such thing -->\n    rebilld audit\n", "carries out no `no such thing`"),
    ] {
        let page = read("x.md", text, root);
        assert!(page.wrong.iter().any(|said| said.contains(wrong)), "{text}: {:?}", page.wrong);
    }
}
