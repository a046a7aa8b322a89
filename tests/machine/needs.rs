//! What these tests need of a machine. Where it is missing, what is not tested is said aloud, also by a run that shows nothing else.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Set in the process that a test runs in once it has name spaces of its own.
const ALONE: &str = "MACHINE_TEST_IS_ALONE";

/// Something that a machine has or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Mounts,
    Network,
    Preload,
    FakeTime,
    MemoryGroup,
}

impl Need {
    pub const ALL: [Self; 5] = [Self::Mounts, Self::Network, Self::Preload, Self::FakeTime, Self::MemoryGroup];

    /// As in docs/proof.md, with what is missing where it is not there.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mounts => "a mount name space: root and `unshare`",
            Self::Network => "a network name space: root, `unshare`, `ip` and `iptables`",
            Self::Preload => "a C compiler `cc`, and a program that is linked dynamically",
            Self::FakeTime => "libfaketime (Debian: libfaketime)",
            Self::MemoryGroup => "a memory group of cgroup v1 that root may make",
        }
    }

    /// What is not tested without it, as in docs/proof.md.
    pub fn tests(self) -> &'static str {
        match self {
            Self::Mounts => "a full disk under the database",
            Self::Network => "a network that drops what is sent to PostgreSQL",
            Self::Preload => "failing syncs and power cuts",
            Self::FakeTime => "clocks that jump under a running daemon",
            Self::MemoryGroup => "a bound on memory",
        }
    }

    pub fn is_there(self) -> bool {
        let runs = |program: &str, arguments: &[&str]| {
            let ran =
                Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            ran.is_ok_and(|status| status.success())
        };
        match self {
            Self::Mounts => runs("unshare", &["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]),
            Self::Network => runs(
                "unshare",
                &["--mount", "--net", "sh", "-c", "ip link set lo up && iptables -A INPUT -p tcp --dport 9 -j DROP"],
            ),
            Self::Preload => runs("cc", &["--version"]) && is_dynamic(),
            Self::FakeTime => fake_time().is_some() && is_dynamic(),
            Self::MemoryGroup => super::memory::Group::new("probe").is_some(),
        }
    }

    /// Whether it is there; says so aloud if it is not.
    pub fn or_tell(self) -> bool {
        let there = self.is_there();
        if !there {
            tell(&format!("NOT TESTED HERE: {}, which takes {}", self.tests(), self.name()));
        }
        there
    }
}

/// A line that no capture holds back, and that the digest of scripts/test shows.
fn tell(what: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {what}");
}

/// Where libfaketime is.
pub fn fake_time() -> Option<PathBuf> {
    let places = ["x86_64-linux-gnu", "aarch64-linux-gnu"].map(|arch| format!("/usr/lib/{arch}/faketime/libfaketime.so.1"));
    places.into_iter().map(PathBuf::from).find(|path| path.exists())
}

/// A static program takes no library in between.
fn is_dynamic() -> bool {
    let output = Command::new("ldd").arg(crate::processes::BINARY).output();
    output.is_ok_and(|output| output.status.success() && String::from_utf8_lossy(&output.stdout).contains("libc.so"))
}

/// Runs the test of this name once more, in name spaces of its own that end with it. `true`: this is that process, go on. What it
/// mounts and filters there, nobody else sees.
pub fn alone(test: &str, spaces: &[&str]) -> bool {
    if variable(ALONE).is_some() {
        return true;
    }
    let itself = std::env::current_exe().expect("the test's own program");
    let mut command = Command::new("unshare");
    command.args(["--propagation", "private", "--fork", "--kill-child", "--mount"]).args(spaces).arg("--").arg(itself);
    command.args(["--exact", test, "--nocapture"]).env(ALONE, "yes").stdin(Stdio::null());
    let output = command.output().expect("unshare can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{test}, in name spaces of its own");
    false
}

#[expect(clippy::disallowed_methods, reason = "a test tells itself that it is alone, and campaigns take their sizes from there")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The size of `scripts/prove machine`.
pub fn is_large() -> bool {
    variable("REBILLD_MACHINE").is_some_and(|size| size == "large")
}

/// Compiles the library that goes between a daemon and the C library.
pub fn shim(directory: &Path) -> PathBuf {
    let (source, library) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine/shim.c"), directory.join("shim.so"));
    let mut command = Command::new("cc");
    command
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source)
        .args(["-ldl", "-lpthread"]);
    let output = command.output().expect("cc can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}
