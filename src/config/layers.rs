//! Layers: built-in defaults, files, `REBILLD_…__…` variables, options of the command line. The `config` crate puts them on
//! top of each other; before that each is checked by itself, so that what is wrong is named with its line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use toml_edit::{Item, TableLike, Value};

use super::environment::Environment;
use super::keys::{Default, KEYS, Key, Kind, Segment, is_name};
use super::problem::{Origin, Problem};
use super::suggest::closest;

/// Files that are read if none is named.
pub const USUAL_FILES: [&str; 2] = ["rebilld.toml", "/etc/rebilld/rebilld.toml"];

/// Where settings come from.
#[derive(Clone, std::default::Default)]
pub struct Sources {
    /// Later ones win. Empty: the first of [`USUAL_FILES`] that exists.
    pub files: Vec<PathBuf>,
    pub environment: Environment,
    /// Key, value, and the option's name.
    pub options: Vec<(&'static str, String, &'static str)>,
}

/// All layers as one tree, and where each value is from.
#[derive(Debug, std::default::Default)]
pub struct Layered {
    pub tree: Json,
    pub origins: BTreeMap<Vec<String>, Origin>,
    pub files: Vec<String>,
    pub problems: Vec<Problem>,
    /// Variables that look like ours and are not.
    pub notes: Vec<String>,
    /// Whether a file could not be read as TOML at all: then nothing else is worth saying.
    pub broken: bool,
    bad: Vec<Vec<String>>,
}

pub fn read(sources: &Sources) -> Layered {
    layered(sources, false)
}

/// The same of a config that may be half written: of a file that is no TOML, the sections that are.
pub fn read_in_spite(sources: &Sources) -> Layered {
    layered(sources, true)
}

fn layered(sources: &Sources, in_spite: bool) -> Layered {
    let mut layered = Layered::default();
    let mut builder = config::Config::builder();
    let usual = || USUAL_FILES.iter().map(PathBuf::from).find(|path| path.is_file()).into_iter().collect();
    let files: Vec<PathBuf> = if sources.files.is_empty() { usual() } else { sources.files.clone() };
    for path in &files {
        if let Some(text) = layered.file(path, in_spite) {
            builder = builder.add_source(config::File::from_str(&text, config::FileFormat::Toml));
        }
    }
    if layered.broken && !in_spite {
        return layered;
    }
    let mut set = |layered: &mut Layered, path: Vec<String>, value: &str, origin: Origin| {
        let expression = expression(&path);
        layered.leaf(path, Found::Text(value.to_owned()), origin.clone());
        match std::mem::take(&mut builder).set_override(expression, value) {
            Ok(next) => builder = next,
            Err(error) => layered.problems.push(Problem { origin, text: error.to_string() }),
        }
    };
    for (name, value) in sources.environment.settings() {
        let origin = Origin::Environment(format!("REBILLD_{name}"));
        match variable(name, &layered.origins) {
            Variable::Key(path) => set(&mut layered, path, value, origin),
            Variable::Unknown(text) => layered.problems.push(Problem { origin, text }),
            Variable::Foreign => layered.notes.push(format!("REBILLD_{name} is no key of the config and is ignored")),
        }
    }
    for (key, value, option) in &sources.options {
        let path = key.split('.').map(str::to_owned).collect();
        set(&mut layered, path, value, Origin::CommandLine((*option).to_owned()));
    }
    match builder.build().and_then(config::Config::try_deserialize::<Json>) {
        Ok(tree) => layered.tree = tree,
        Err(error) => layered.problems.push(Problem { origin: Origin::Default, text: error.to_string() }),
    }
    layered.finish();
    layered
}

/// A tree that was checked when it was first read, with the defaults of keys that it does not have yet.
pub fn again(tree: Json) -> Layered {
    let mut layered = Layered { tree, ..Layered::default() };
    layered.finish();
    layered
}

/// A value as a layer gives it.
enum Found {
    Text(String),
    Integer(String),
    Float(String),
    Boolean(bool),
    Other(&'static str),
}

impl Layered {
    /// Checks a file and remembers its lines. Returns its text for the layering.
    fn file(&mut self, path: &Path, in_spite: bool) -> Option<String> {
        let name = path.display().to_string();
        let mut broken = |line, text| {
            self.problems.push(Problem { origin: Origin::File { name: name.clone(), line }, text });
            self.broken = true;
        };
        let mut text = match std::fs::read_to_string(path) {
            Ok(text) => text.trim_start_matches('\u{feff}').to_owned(),
            Err(error) => {
                broken(0, format!("the file cannot be read: {error}"));
                return None;
            }
        };
        if let Err(error) = toml_edit::Document::parse(text.as_str()) {
            let line = error.span().map_or(1, |span| line_of(&text, span.start));
            broken(line, error.message().replace('\n', ", "));
            if !in_spite {
                return None;
            }
            let sound = sections_of(&text);
            if sound.matches("database").count() < text.matches("database").count() {
                broken(line, "what cannot be read of it speaks of a database".to_owned());
            }
            text = sound;
        }
        let document = toml_edit::Document::parse(text.as_str()).ok()?;
        self.files.push(name.clone());
        self.table(&mut Vec::new(), document.as_table(), &File { name: &name, text: &text });
        Some(text)
    }

    fn table(&mut self, path: &mut Vec<String>, table: &dyn TableLike, file: &File<'_>) {
        for (name, item) in table.iter() {
            let span = table.get_key_value(name).and_then(|(key, item)| key.span().or_else(|| item.span()));
            let origin = file.at(span.map_or(0, |span| span.start));
            path.push(name.to_owned());
            self.item(path, item, origin, file);
            path.pop();
        }
    }

    fn item(&mut self, path: &mut Vec<String>, item: &Item, origin: Origin, file: &File<'_>) {
        if let Some(table) = item.as_table_like() {
            let section = KEYS.iter().any(|key| is_section(key, path));
            if !section && table.is_empty() {
                return self.unknown(path.clone(), origin);
            }
            self.origins.insert(path.clone(), origin);
            return self.table(path, table, file);
        }
        let entries: Vec<(Item, Option<usize>)> = match item {
            Item::ArrayOfTables(tables) => {
                tables.iter().map(|table| (Item::Table(table.clone()), table.span().map(|span| span.start))).collect()
            }
            Item::Value(Value::Array(array)) => {
                array.iter().map(|value| (Item::Value(value.clone()), value.span().map(|span| span.start))).collect()
            }
            _ => {
                let found = match item {
                    Item::Value(Value::String(text)) => Found::Text(text.value().clone()),
                    Item::Value(Value::Integer(number)) => Found::Integer(number.value().to_string()),
                    Item::Value(Value::Float(number)) => Found::Float(number.value().to_string()),
                    Item::Value(Value::Boolean(flag)) => Found::Boolean(*flag.value()),
                    other => Found::Other(other.type_name()),
                };
                return self.leaf(path.clone(), found, origin);
            }
        };
        if !KEYS.iter().any(|key| is_section(key, path)) {
            return self.leaf(path.clone(), Found::Other("array"), origin);
        }
        // a list is replaced whole by a later file
        self.origins.retain(|known, _| known.len() == path.len() || !known.starts_with(path));
        self.origins.insert(path.clone(), origin.clone());
        for (index, (entry, start)) in entries.into_iter().enumerate() {
            path.push(index.to_string());
            self.item(path, &entry, start.map_or_else(|| origin.clone(), |start| file.at(start)), file);
            path.pop();
        }
    }

    /// Checks one value against the table of keys.
    fn leaf(&mut self, path: Vec<String>, found: Found, origin: Origin) {
        let Some(key) = Key::of(&path) else { return self.unknown(path, origin) };
        let from_text = matches!(origin, Origin::Environment(_) | Origin::CommandLine(_));
        let quoted = format!("has to be text in quotes ({})", key.kind.words());
        let wrong = match (&found, key.kind.is_text()) {
            (Found::Text(text), true) => key.kind.wrong(text),
            (Found::Float(number), _) if matches!(key.kind, Kind::Decimal { .. }) => key.kind.wrong(number),
            (Found::Float(_), true) => Some(format!("{quoted}, not a TOML float")),
            (Found::Float(_), false) => Some(format!("has to be a {}, not a TOML float", key.kind.words())),
            (Found::Integer(number), false) => key.kind.wrong(number),
            (Found::Boolean(flag), false) => key.kind.wrong(&flag.to_string()),
            (Found::Text(text), false) if from_text || key.kind.may_be_text() => key.kind.wrong(text),
            (Found::Text(_), false) => Some(format!("has to be a {}, without quotes", key.kind.words())),
            (Found::Integer(_) | Found::Boolean(_), true) => Some(quoted),
            (Found::Other(kind), true) => Some(format!("{quoted}, not a TOML {kind}")),
            (Found::Other(kind), false) => Some(format!("has to be a {}, not a TOML {kind}", key.kind.words())),
        };
        if let Some(wrong) = wrong {
            self.problems.push(Problem { origin: origin.clone(), text: format!("`{}` {wrong}", dotted(&path)) });
            self.bad.push(path.clone());
        }
        self.origins.insert(path, origin);
    }

    fn unknown(&mut self, path: Vec<String>, origin: Origin) {
        self.problems.push(Problem { origin, text: unknown_key(&path) });
        // with the unknown section around it, if there is one
        let known = (1..path.len()).find(|&end| !KEYS.iter().any(|key| is_section(key, &path[..end])));
        self.bad.push(path[..known.unwrap_or(path.len())].to_vec());
    }

    /// Takes out what is wrong, reads texts of the environment as what they have to be, and adds the defaults.
    fn finish(&mut self) {
        if !self.tree.is_object() {
            self.tree = Json::Object(Map::new());
        }
        for path in std::mem::take(&mut self.bad) {
            remove(&mut self.tree, &path);
        }
        for (path, origin) in &self.origins {
            let typed = Key::of(path).is_some_and(|key| !key.kind.is_text());
            if typed
                && matches!(origin, Origin::Environment(_) | Origin::CommandLine(_))
                && let Some(value) = get_mut(&mut self.tree, path)
                && let Some(text) = value.as_str()
                && let Ok(read) = serde_json::from_str(text)
            {
                *value = read;
            }
        }
        for key in KEYS {
            let segments: Vec<Segment<'_>> = key.segments().collect();
            fill(&mut self.tree, &segments, &mut Vec::new(), key, &self.origins, &mut self.problems);
        }
    }
}

/// The sections of a text that are TOML, one after the other. Lines keep their places.
fn sections_of(text: &str) -> String {
    let mut kept = String::new();
    let mut section = String::new();
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        section.push_str(line);
        if lines.peek().is_none_or(|next| next.starts_with('[')) {
            let both = format!("{kept}{section}");
            let sound = toml_edit::Document::parse(both.as_str()).is_ok();
            kept = if sound { both } else { kept + &"\n".repeat(section.matches('\n').count()) };
            section.clear();
        }
    }
    kept
}

struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn at(&self, offset: usize) -> Origin {
        Origin::File { name: self.name.to_owned(), line: line_of(self.text, offset) }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Whether `path` is a table or list on the way to `key`.
fn is_section(key: &Key, path: &[String]) -> bool {
    let mut segments = key.segments();
    let on_the_way = path.iter().all(|part| match segments.next() {
        Some(Segment::Field(field)) => field == part,
        Some(Segment::Any) => true,
        Some(Segment::Entry) => part.bytes().all(|byte| byte.is_ascii_digit()),
        None => false,
    });
    on_the_way && segments.next().is_some()
}

pub fn dotted(path: &[String]) -> String {
    path.join(".")
}

fn unknown_key(path: &[String]) -> String {
    let shown = dotted(path);
    if KEYS.iter().any(|key| key.path.strip_suffix("[]") == Some(&shown)) {
        return format!("`{shown}` is a list: write it in brackets, such as [\"2027-05-03\"]");
    }
    if KEYS.iter().any(|key| is_section(key, path)) {
        return format!("`{shown}` is a section, not a value: its keys go under `[{shown}]`");
    }
    if let [section, name, ..] = path
        && ["accounts", "plans"].contains(&section.as_str())
        && !is_name(name)
    {
        return format!("`{name}` cannot be a name in [{section}]: 1 to 64 letters, digits, `-` and `_`");
    }
    // known keys, with the names that were written here
    let candidates: Vec<String> = KEYS
        .iter()
        .map(|key| {
            let parts = key.segments().enumerate().map(|(at, segment)| match segment {
                Segment::Field(field) => field.to_owned(),
                Segment::Any => path.get(at).cloned().unwrap_or_else(|| "NAME".to_owned()),
                Segment::Entry => path.get(at).cloned().unwrap_or_else(|| "0".to_owned()),
            });
            parts.collect::<Vec<_>>().join(".")
        })
        .collect();
    let last = path.last().map(String::as_str).unwrap_or_default();
    let meant = closest(&shown, candidates.iter().map(String::as_str)).or_else(|| {
        let mut same = candidates.iter().filter(|candidate| candidate.rsplit('.').next() == Some(last));
        same.next().filter(|_| same.next().is_none()).map(String::as_str)
    });
    let meant = meant.map_or_else(String::new, |meant| format!(": did you mean `{meant}`?"));
    format!("unknown key `{shown}`{meant}")
}

enum Variable {
    Key(Vec<String>),
    Unknown(String),
    /// Another program's, such as those that Kubernetes makes for a service called rebilld.
    Foreign,
}

/// What a variable (without `REBILLD_`) sets.
fn variable(name: &str, origins: &BTreeMap<Vec<String>, Origin>) -> Variable {
    let lower = name.to_lowercase();
    let mut path: Vec<String> = lower.split("__").map(str::to_owned).collect();
    if let [section, name, ..] = path.as_mut_slice()
        && ["accounts", "plans"].contains(&section.as_str())
    {
        // names are written in capitals and with `_` in the environment: take the one that a file has
        let same = |known: &str| known.to_lowercase().replace('-', "_") == *name;
        let known = origins.keys().filter(|path| path[0] == *section).filter_map(|path| path.get(1)).find(|known| same(known));
        if let Some(known) = known {
            name.clone_from(known);
        }
    }
    if Key::of(&path).is_some() {
        return Variable::Key(path);
    }
    if path.len() > 1 {
        return Variable::Unknown(unknown_key(&path));
    }
    let joined = lower.replace('_', "");
    let meant = KEYS.iter().find(|key| {
        let (head, tail) = key.path.split_once(".*.").unwrap_or((key.path, ""));
        if tail.is_empty() {
            return strsim::levenshtein(&head.replace(['.', '_'], ""), &joined) <= 1;
        }
        lower.starts_with(&format!("{head}_")) && lower.ends_with(&format!("_{}", tail.replace('.', "_")))
    });
    match meant {
        Some(key) => {
            let variable = key.path.to_uppercase().replace(".*.", "__NAME__").replace('.', "__");
            Variable::Unknown(format!("sections and keys are parted by two underscores: did you mean `REBILLD_{variable}`?"))
        }
        None => Variable::Foreign,
    }
}

/// A path as the `config` crate writes it.
fn expression(path: &[String]) -> String {
    let mut expression = String::new();
    for part in path {
        if part.bytes().all(|byte| byte.is_ascii_digit())
            && ["webhooks", "alarms.channel", "holidays.extra", "holidays.remove"].contains(&expression.as_str())
        {
            expression.push_str(&format!("[{part}]"));
        } else {
            if !expression.is_empty() {
                expression.push('.');
            }
            expression.push_str(part);
        }
    }
    expression
}

fn get_mut<'a>(tree: &'a mut Json, path: &[String]) -> Option<&'a mut Json> {
    path.iter().try_fold(tree, |node, part| match node {
        Json::Object(map) => map.get_mut(part),
        Json::Array(list) => list.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    })
}

fn remove(tree: &mut Json, path: &[String]) {
    let Some((last, parents)) = path.split_last() else { return };
    match get_mut(tree, parents) {
        Some(Json::Object(map)) => {
            map.remove(last);
        }
        // the others keep their places
        Some(Json::Array(list)) => {
            if let Some(entry) = last.parse::<usize>().ok().and_then(|at| list.get_mut(at)) {
                *entry = Json::String(String::new());
            }
        }
        _ => {}
    }
}

fn fill(
    node: &mut Json,
    rest: &[Segment<'_>],
    path: &mut Vec<String>,
    key: &Key,
    origins: &BTreeMap<Vec<String>, Origin>,
    problems: &mut Vec<Problem>,
) {
    match (rest, node) {
        ([Segment::Field(field)], Json::Object(map)) if !map.contains_key(*field) => match key.default {
            Default::Is(toml) => {
                let value = serde_json::from_str(toml).unwrap_or(Json::Null);
                map.insert((*field).to_owned(), value);
            }
            Default::Required => {
                let origin = origins.get(path.as_slice()).cloned().unwrap_or(Origin::Default);
                path.push((*field).to_owned());
                // what is there and wrong has been named already
                if !origins.contains_key(path.as_slice()) {
                    let text = format!("`{}` is missing: {}", dotted(path), key.kind.words());
                    problems.push(Problem { origin, text });
                }
                path.pop();
            }
            Default::None(_) => {}
        },
        ([Segment::Field(field), rest @ ..], Json::Object(map)) if !rest.is_empty() => {
            // `budget` of an account and `prices` of a plan may be left out and are not at the top
            let empty = if rest.first() == Some(&Segment::Entry) { Json::Array(Vec::new()) } else { Json::Object(Map::new()) };
            let child = map.entry((*field).to_owned()).or_insert(empty);
            path.push((*field).to_owned());
            fill(child, rest, path, key, origins, problems);
            path.pop();
        }
        ([Segment::Any, rest @ ..], Json::Object(map)) => {
            for (name, child) in map {
                path.push(name.clone());
                fill(child, rest, path, key, origins, problems);
                path.pop();
            }
        }
        ([Segment::Entry, rest @ ..], Json::Array(list)) => {
            for (index, child) in list.iter_mut().enumerate() {
                path.push(index.to_string());
                fill(child, rest, path, key, origins, problems);
                path.pop();
            }
        }
        _ => {}
    }
}
