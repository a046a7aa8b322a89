//! Tells the program the commit that it is built from, for `rebilld --version`: what `REBILLD_COMMIT` of the environment says, else what git says
//! of this checkout. `+changes` behind it: what is built is not what was committed.
//!
//! Only builds for use (profile `release` and those that inherit from it) ask git, so that a commit makes nobody's tests build anew. Without git, or
//! outside of a checkout, the program does not know its commit.

use std::env::var_os;
use std::path::Path;
use std::process::Command;

/// What the program is made of.
const SOURCES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "migrations", "src"];

fn main() {
    println!("cargo::rerun-if-env-changed=REBILLD_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let for_use = var_os("PROFILE").is_some_and(|profile| profile == "release");
    let told = var_os("REBILLD_COMMIT").is_some_and(|commit| !commit.is_empty());
    // a checkout of its own: one that these files only lie in has commits of something else
    if !for_use || told || !Path::new(".git").exists() {
        return;
    }
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return };
    let changes = git(&[&["status", "--porcelain", "--"][..], &SOURCES].concat()).is_some_and(|changes| !changes.is_empty());
    println!("cargo::rustc-env=REBILLD_COMMIT={commit}{}", if changes { "+changes" } else { "" });
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    // written with each commit, and with whatever else moves HEAD
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
}

/// What git prints; `None`: it fails, or is not there.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
