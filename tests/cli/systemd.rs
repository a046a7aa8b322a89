//! The files of deploy/systemd against the program they start. `scripts/check-systemd` has systemd itself read them.

use super::rig::Rig;

const UNIT: &str = include_str!("../../deploy/systemd/rebilld.service");
const CONFIG: &str = include_str!("../../deploy/systemd/rebilld.toml");
const DEFAULTS: &str = include_str!("../../config/default.toml");

/// All that the unit says for a key, in its order.
fn said(key: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// The directory of credentials as systemd makes it, with what the unit hands over, but for one.
fn credentials(rig: &Rig, without: Option<&str>) -> String {
    let directory = rig.path().join("credentials");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory).unwrap();
    for credential in said("LoadCredential") {
        let (name, _) = credential.split_once(':').unwrap();
        if without != Some(name) {
            std::fs::write(directory.join(name), "hunter2\n").unwrap();
        }
    }
    directory.to_str().unwrap().to_owned()
}

#[test]
fn the_config_beside_the_unit_goes_with_its_credentials() {
    let rig = Rig::sqlite();
    rig.write("systemd.toml", CONFIG.replace("/var/lib/rebilld", rig.path().to_str().unwrap()));
    let run = |credentials: &str| {
        let variables = [("CREDENTIALS_DIRECTORY", credentials), ("STATE_DIRECTORY", rig.path().to_str().unwrap())];
        rig.run_with(&["--config", "systemd.toml", "config", "check"], &variables)
    };
    let all = run(&credentials(&rig, None));
    assert_eq!((all.code, all.err.as_str()), (0, ""), "{all:?}");
    for name in ["main-imp-key", "main-imp-secret"] {
        let missing = run(&credentials(&rig, Some(name)));
        assert_eq!(missing.code, 78, "{missing:?}");
        assert!(missing.err.contains(name), "{missing:?}");
    }
}

#[test]
fn a_stop_waits_longer_than_the_daemon_does() {
    let seconds = |text: &str| text.trim_matches('"').strip_suffix('s').unwrap().parse::<u32>().unwrap();
    let grace = DEFAULTS.lines().find_map(|line| line.strip_prefix("shutdown_grace = ")).unwrap();
    assert!(seconds(grace) > 65, "a POST may take 65 s");
    assert!(seconds(said("TimeoutStopSec")[0]) >= seconds(grace) + 15, "{grace}");
}

#[test]
fn what_trying_again_cannot_change_is_not_started_again() {
    let mut never = said("RestartPreventExitStatus")[0].split(' ');
    for code in ["64", "65", "78"] {
        assert!(never.clone().any(|of_unit| of_unit == code), "{code}");
    }
    assert!(!never.any(|of_unit| ["69", "70", "75"].contains(&of_unit)), "these may go well the next time");
    assert_eq!(said("Restart"), ["on-failure"]);
}
