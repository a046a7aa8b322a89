//! `rebilld init`: what it writes is sound, knows every key, and goes over nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rebilld::gateway::sandbox::{Sandbox, SandboxOptions};
use rebilld::time::SystemClock;

use super::rig::Rig;

fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => drop(found.insert(path.strip_prefix(directory).unwrap().to_path_buf())),
            }
        }
    }
    found
}

/// A file of the repository.
fn deployed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

/// The settings of a config as machines read them, without where its database is.
fn settings(rig: &Rig, path: &Path) -> serde_json::Value {
    rig.json(&["--config", path.to_str().unwrap(), "config", "show"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_config_is_ready_from_check_to_doctor() {
    let sandbox = Sandbox::start(SandboxOptions::new(Arc::new(SystemClock::new()))).await.unwrap();
    let rig = Rig::sqlite();
    let told = rig.ok(&["init", "here", "--sandbox"]);
    assert!(told.contains("rebilld.toml") && told.contains("doctor"), "{told}");
    let secrets = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(rig.path().join("here/main.secret")).unwrap());
    assert_eq!(secrets & 0o777, 0o600);
    // only the port is another one than that of a sandbox that was started without any option
    let url = sandbox.url();
    let run = |arguments: &[&str]| {
        let variables = [("REBILLD_ACCOUNTS__MAIN__BASE_URL", url.as_str()), ("REBILLD_HTTP__LISTEN", "127.0.0.1:0")];
        rig.run_with(&[&["--config", "here/rebilld.toml"], arguments].concat(), &variables)
    };
    for arguments in [&["config", "check"][..], &["migrate"], &["doctor"]] {
        let done = run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
    }
    let doctor = run(&["doctor", "--output", "json"]);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&doctor.out).unwrap();
    let worse: Vec<_> = rows.iter().filter(|row| row["result"] != "ok" && row["check"] != "database disk").collect();
    assert!(worse.is_empty(), "{worse:?}");
    assert!(rows.iter().any(|row| row["check"] == "token") && rows.iter().any(|row| row["check"] == "look-up"), "{rows:?}");
}

#[test]
fn a_live_config_waits_for_its_keys_and_for_nothing_else() {
    let rig = Rig::sqlite();
    rig.ok(&["init", "live"]);
    let check = ["--config", "live/rebilld.toml", "config", "check"];
    let error = rig.fails(78, &check);
    assert!(error.contains("live/main.key cannot be read") && error.lines().count() == 3, "{error}");
    for name in ["live/main.key", "live/main.secret"] {
        rig.write(name, "hunter2");
        rig.mode(name, 0o600);
    }
    rig.ok(&check);
    let shown = settings(&rig, &rig.path().join("live/rebilld.toml"));
    assert_eq!((&shown["tag"], &shown["accounts"]["main"]["base_url"]), (&"rb".into(), &"https://api.iamport.kr".into()));
}

#[test]
fn nothing_is_written_over() {
    let rig = Rig::sqlite();
    rig.ok(&["init", "--sandbox", "here"]);
    rig.write("here/rebilld.toml", "# mine\n");
    std::fs::remove_file(rig.path().join("here/main.key")).unwrap();
    for arguments in [&["init", "here"][..], &["init", "here", "--sandbox"], &["init", "here", "--systemd"]] {
        let error = rig.fails(65, arguments);
        assert!(error.contains("already has") && error.contains("rebilld.toml"), "{error}");
    }
    assert_eq!(std::fs::read_to_string(rig.path().join("here/rebilld.toml")).unwrap(), "# mine\n");
    let left: BTreeSet<PathBuf> = ["rebilld.toml", "main.secret"].map(PathBuf::from).into();
    assert_eq!(files(&rig.path().join("here")), left, "nor is what is missing written");
    rig.fails(64, &["init", "--systemd", "--kubernetes"]);
}

#[test]
fn the_files_for_systemd_are_those_of_the_release() {
    let rig = Rig::sqlite();
    rig.ok(&["init", "unit", "--systemd"]);
    let written = rig.path().join("unit");
    assert_eq!(files(&written), files(&deployed("systemd")), "none is forgotten");
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    for name in ["rebilld.service", "drop-ins/postgresql.conf", "drop-ins/shadow.conf"] {
        assert_eq!(text(&written.join(name)), text(&deployed("systemd").join(name)));
    }
    assert_eq!(settings(&rig, &written.join("rebilld.toml")), settings(&rig, &deployed("systemd/rebilld.toml")));
    let credentials = rig.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    for name in ["main-imp-key", "main-imp-secret"] {
        std::fs::write(credentials.join(name), "hunter2").unwrap();
    }
    let here = rig.path().to_str().unwrap();
    let database = format!("sqlite:{here}/new.db");
    let variables = [
        ("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap()),
        ("STATE_DIRECTORY", here),
        ("REBILLD_DATABASE__URL", &database),
    ];
    let done = rig.run_with(&["--config", "unit/rebilld.toml", "config", "check"], &variables);
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn the_files_for_kubernetes_are_those_of_the_release() {
    let rig = Rig::sqlite();
    rig.ok(&["init", "k8s", "--kubernetes"]);
    let (written, deployed) = (rig.path().join("k8s"), deployed("kubernetes"));
    assert_eq!(files(&written), files(&deployed), "none is forgotten");
    for path in files(&deployed) {
        if path.extension().is_some_and(|kind| kind == "toml") {
            assert_eq!(settings(&rig, &written.join(&path)), settings(&rig, &deployed.join(&path)), "{path:?}");
        } else {
            assert_eq!(std::fs::read(written.join(&path)).unwrap(), std::fs::read(deployed.join(&path)).unwrap(), "{path:?}");
        }
    }
}
