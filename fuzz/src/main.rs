//! One program for all targets: `REBILLD_FUZZ` names the one that is fuzzed.
#![no_main]

#[path = "../targets.rs"]
mod targets;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("REBILLD_FUZZ").expect("REBILLD_FUZZ names a target");
    targets::named(&name).unwrap_or_else(|| panic!("there is no target `{name}`"))
});

fuzz_target!(|input: &[u8]| TARGET(input));
