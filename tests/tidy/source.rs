//! Rust source as the checks see it: comments and literals blanked out, tests marked. It is text, not a syntax tree, and knows
//! just enough of the language for the checks.

use std::ops::Range;

pub struct Source {
    pub path: String,
    /// The text with every comment, string and character replaced by spaces. Offsets and lines stay.
    pub code: String,
    tests: Vec<Range<usize>>,
}

/// A mention of a top-level module through `crate::` or `super::`.
pub struct Reference<'a> {
    pub at: usize,
    pub module: &'a str,
    /// Whether the module itself is named, not something in it, so that its name is bound in this file.
    pub bare: bool,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let tests = test_items(&code);
        Self { path: path.to_owned(), code, tests }
    }

    pub fn lines(&self) -> usize {
        self.code.lines().count()
    }

    /// `path:line` of an offset.
    pub fn place(&self, at: usize) -> String {
        format!("{}:{}", self.path, self.code[..at].matches('\n').count() + 1)
    }

    pub fn in_tests(&self, at: usize) -> bool {
        is_test_file(&self.path) || self.tests.iter().any(|tests| tests.contains(&at))
    }

    /// The top-level module that this file belongs to: `store` for `src/store/sqlite.rs`.
    pub fn module(&self) -> Option<&str> {
        self.modules().into_iter().next()
    }

    /// Whether the file is `place` or lies under it; `place` has no `.rs`.
    pub fn is_under(&self, place: &str) -> bool {
        let path = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Offsets of `word` where no identifier goes on to its left or right.
    pub fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let joins = |side: Option<char>, edge: Option<char>| side.is_some_and(is_ident) && edge.is_some_and(is_ident);
        self.code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
            !joins(self.code[..at].chars().next_back(), word.chars().next())
                && !joins(self.code[at + word.len()..].chars().next(), word.chars().next_back())
        })
    }

    /// Every mention of a top-level module of this crate.
    pub fn references(&self) -> Vec<Reference<'_>> {
        let mut found = Vec::new();
        for at in self.words("crate") {
            if let Some(after) = skip(&self.code, at + "crate".len(), "::") {
                self.named_at(after, &mut found);
            }
        }
        let mut passed = 0;
        for start in self.words("super") {
            if start < passed {
                continue;
            }
            let (mut at, mut climbed) = (start, 0);
            while let Some(after) = skip(&self.code, at, "super").and_then(|after| skip(&self.code, after, "::")) {
                (at, climbed) = (after, climbed + 1);
            }
            passed = at;
            // an inline `mod tests` is one module deeper than its file
            let depth = self.modules().len() + usize::from(self.in_tests(start) && !is_test_file(&self.path));
            if climbed > 0 && climbed >= depth {
                self.named_at(at, &mut found);
            }
        }
        found
    }

    /// Where the third-party crate `name` is mentioned in this file, as in `name::x`, `use name;` or `::name::x`.
    pub fn mentions(&self, name: &str) -> Vec<usize> {
        let module_is_bound = self.references().iter().any(|reference| reference.bare && reference.module == name)
            || self.words(name).any(|at| last_word(&self.code[..at]) == "mod");
        self.words(name)
            .filter(|&at| {
                let before = self.code[..at].trim_end();
                let path_goes_on = skip(&self.code, at + name.len(), "::").is_some();
                if let Some(head) = before.strip_suffix("::") {
                    // `::name` is the crate, `other::name` is not
                    return path_goes_on && !head.ends_with(|last: char| is_ident(last) || last == '>');
                }
                if last_word(before) == "use" || last_word(before) == "crate" {
                    return true;
                }
                path_goes_on && !before.ends_with('.') && !module_is_bound && !self.continues_a_path(at)
            })
            .collect()
    }

    /// The path of modules that this file is: `["store", "sqlite"]`.
    fn modules(&self) -> Vec<&str> {
        let path = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let path = path.strip_suffix(".rs").unwrap_or(path);
        path.strip_suffix("/mod").unwrap_or(path).split('/').collect()
    }

    fn named_at<'a>(&'a self, at: usize, found: &mut Vec<Reference<'a>>) {
        let code = &self.code;
        let at = at + (code[at..].len() - code[at..].trim_start().len());
        if let Some(inner) = code[at..].strip_prefix('{') {
            let mut depth = 0;
            let mut name_may_start = true;
            for (offset, character) in inner.char_indices() {
                match character {
                    '}' if depth == 0 => return,
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' => name_may_start = depth == 0,
                    _ if character.is_whitespace() => {}
                    _ if name_may_start => {
                        self.named_at(at + 1 + offset, found);
                        name_may_start = false;
                    }
                    _ => {}
                }
            }
            return;
        }
        let module = &code[at..at + ident_len(&code[at..])];
        if !module.is_empty() && module != "self" {
            found.push(Reference { at, module, bare: skip(code, at + module.len(), "::").is_none() });
        }
    }

    /// Whether the name at `at` stands in the braces of a `use` that have a path before them, as in `a::{b::{name::x}}`.
    fn continues_a_path(&self, at: usize) -> bool {
        let mut depth = 0;
        for (offset, character) in self.code[..at].char_indices().rev() {
            match character {
                '}' => depth += 1,
                '{' if depth == 0 => return self.code[..offset].trim_end().ends_with("::"),
                '{' => depth -= 1,
                _ => {}
            }
        }
        false
    }
}

fn is_ident(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

fn ident_len(text: &str) -> usize {
    text.find(|character| !is_ident(character)).unwrap_or(text.len())
}

fn last_word(text: &str) -> &str {
    let text = text.trim_end();
    &text[text.rfind(|character| !is_ident(character)).map_or(0, |at| at + 1)..]
}

/// The offset after `token`, if that is what comes at `at` after white space.
fn skip(code: &str, at: usize, token: &str) -> Option<usize> {
    let rest = code[at..].trim_start();
    rest.starts_with(token).then(|| code.len() - rest.len() + token.len())
}

/// `src/store/tests.rs` and `src/store/tests/claims.rs` are tests as a whole.
fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.starts_with("benches/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The items under `#[cfg(test)]`, each with its attribute.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut items: Vec<Range<usize>> = Vec::new();
    for attribute in ["#[cfg(test)]", "#[cfg(all(test"] {
        for (start, _) in code.match_indices(attribute) {
            let Some(body) = code[start..].find(['{', ';']).map(|offset| start + offset) else { continue };
            items.push(start..if code[body..].starts_with('{') { closing_brace(code, body) } else { body + 1 });
        }
    }
    items
}

fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (offset, character) in code[open..].char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + offset + 1;
        }
    }
    code.len()
}

/// `text` with comments and literals as spaces.
fn blank(text: &str) -> String {
    let mut blanked = String::with_capacity(text.len());
    let mut rest = text;
    let mut previous = ' ';
    while let Some(character) = rest.chars().next() {
        let length = literal_or_comment(rest, previous);
        let taken = if length == 0 { character.len_utf8() } else { length };
        if length == 0 {
            blanked.push(character);
        } else {
            blanked.extend(rest[..taken].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        }
        previous = if length == 0 { character } else { ' ' };
        rest = &rest[taken..];
    }
    blanked
}

/// How many bytes of comment or literal begin here; 0 if none does.
fn literal_or_comment(rest: &str, previous: char) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if !is_ident(previous) {
        let after_prefix = rest.strip_prefix("br").or_else(|| rest.strip_prefix("cr")).or_else(|| rest.strip_prefix('r'));
        if let Some(raw) = after_prefix {
            let hashes = raw.len() - raw.trim_start_matches('#').len();
            if raw[hashes..].starts_with('"') {
                let start = rest.len() - raw.len() + hashes + 1;
                let end = format!("\"{}", "#".repeat(hashes));
                return rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len());
            }
        }
    }
    if let Some(inner) = rest.strip_prefix('\'') {
        let mut characters = inner.chars();
        let first = characters.next();
        // everything else with one quote is a lifetime
        if first == Some('\\') || characters.next() == Some('\'') {
            return quoted(rest, '\'');
        }
    }
    0
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn block_comment(rest: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if rest[at..].starts_with("*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

#[test]
fn comments_and_literals_are_blanked_and_nothing_else() {
    let text = "a /* b /* c */ d */ e // f\n\"g \\\" h\" i r#\"j \" k\"# 'l' '\\'' &'m str r#type b\"n\" '가' \u{ac00}o";
    let code = blank(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "e", "i", "&'m", "str", "r#type", "b", "\u{ac00}o"]);
}

#[test]
fn references_are_found_in_every_spelling() {
    let text = "use crate::store::X;\nuse crate::{domain::{a, b}, ports};\nfn f() { super::super::cli::g(); super::near(); }";
    let source = Source::new("src/engine/worker.rs", text);
    let mut found: Vec<_> = source.references().iter().map(|reference| (reference.module.to_owned(), reference.bare)).collect();
    found.sort();
    assert_eq!(found, [("cli", false), ("domain", false), ("ports", true), ("store", false)].map(|(m, b)| (m.to_owned(), b)));
    assert_eq!(source.module(), Some("engine"));
}

#[test]
fn a_crate_is_told_from_a_module_of_the_same_name() {
    let mentions = |text: &str| Source::new("src/cli/mod.rs", text).mentions("config").len();
    assert_eq!(mentions("use crate::config;\nfn f() -> config::Settings"), 0);
    assert_eq!(mentions("use crate::{app::run, config::Settings, cli::{config::Y}};"), 0);
    assert_eq!(mentions("use crate::config::Settings;\nfn f(settings: Settings) { self.config.x(); }"), 0);
    assert_eq!(mentions("use config::{Config, File};"), 1);
    assert_eq!(mentions("use crate::config;\nfn f() -> ::config::Config"), 1);
    assert_eq!(mentions("fn f() { config::Config::builder() }"), 1);
    assert_eq!(mentions("use config as settings;"), 1);
}
