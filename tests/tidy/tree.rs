//! The project's files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::migrations::Migration;
use super::source::Source;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> Option<String> {
    let bytes = fs::read(root().join(path)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// All Rust sources under the given directories; a directory that does not exist has none.
pub fn sources(directories: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    directories.iter().for_each(|directory| walk(&root().join(directory), &mut paths));
    let rust = paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let mut names: Vec<String> = rust.map(|path| relative(&path)).collect();
    names.sort();
    names.into_iter().filter_map(|name| read(&name).map(|text| Source::new(&name, &text))).collect()
}

pub fn migrations(engine: &str) -> Vec<Migration> {
    let mut paths = Vec::new();
    walk(&root().join("migrations").join(engine), &mut paths);
    let named = paths.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    named.filter_map(|name| read(&format!("migrations/{engine}/{name}")).map(|text| (name, text))).collect()
}

/// What others get: tracked files and those that are about to be. Without git (a source archive) everything but the build.
pub fn shared_files() -> Vec<String> {
    let listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(listing).current_dir(root()).output().ok().filter(|output| output.status.success());
    if let Some(output) = listed {
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        return names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    }
    let mut paths = Vec::new();
    walk(root(), &mut paths);
    paths.iter().map(|path| relative(path)).collect()
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let generated = path.file_name().is_some_and(|name| name == "target" || name == ".git");
        match path.is_dir() {
            true if !generated && !path.is_symlink() => walk(&path, files),
            true => {}
            false => files.push(path),
        }
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}
