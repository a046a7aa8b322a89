//! Replays the fuzzer's corpus: what `scripts/fuzz` has found worth keeping holds with every `cargo test`, without the fuzzer.
//!
//! An input that once broke something is a file of the corpus as well, so it stays mended.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use targets::TARGETS;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn every_input_that_was_ever_worth_keeping_is_treated_right() {
    for target in TARGETS {
        let files = corpus(target.name);
        assert!(files.len() >= 5, "{}: {} files are no corpus", target.name, files.len());
        for file in &files {
            let input = fs::read(file).expect("it can be read");
            let judged = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(judged.is_ok(), "{}: {}", target.name, file.display());
        }
        println!("{}: {} inputs", target.name, files.len());
    }
}

#[test]
fn a_target_has_a_name_of_its_own_and_its_corpus_no_stranger() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for entry in fs::read_dir(folder).expect("the corpus") {
        let name = entry.expect("an entry").file_name().into_string().expect("a text");
        assert!(names.contains(&name.as_str()), "fuzz/corpus/{name} belongs to no target");
    }
    for name in names {
        assert!(
            targets::named(name)
                .is_some_and(|run| TARGETS.iter().any(|target| target.name == name && target.run as usize == run as usize))
        );
    }
}
