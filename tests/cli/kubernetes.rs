//! The configs in deploy/kubernetes against the program that reads them. `scripts/check-kubernetes` has the manifests.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::rig::{Done, Rig};

const CONFIGS: [(&str, &str); 2] = [
    ("sqlite", include_str!("../../deploy/kubernetes/overlays/sqlite/rebilld.toml")),
    ("postgres", include_str!("../../deploy/kubernetes/overlays/postgres/rebilld.toml")),
];

/// As Kubernetes mounts a Secret: each file is a link through `..data`, with a mode for owner and group.
fn mount(directory: &Path, names: &[&str], mode: u32) {
    let data = directory.join("..v1");
    std::fs::create_dir_all(&data).unwrap();
    std::os::unix::fs::symlink("..v1", directory.join("..data")).unwrap();
    for name in names {
        std::fs::write(data.join(name), "hunter2\n").unwrap();
        std::fs::set_permissions(data.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::symlink(format!("..data/{name}"), directory.join(name)).unwrap();
    }
}

/// Checks a config with its places moved into the rig's directory.
fn check(rig: &Rig, config: &str) -> Done {
    let here = rig.path().to_str().unwrap();
    let mut config = config.replace("/run/secrets", &format!("{here}/secrets"));
    config = config.replace("/var/lib", &format!("{here}/lib")).replace("postgresql.database.svc", "127.0.0.1:1");
    rig.write("kubernetes.toml", config);
    rig.run(&["--config", "kubernetes.toml", "config", "check"])
}

#[test]
fn the_configs_go_with_secrets_that_a_group_may_read() {
    for (overlay, config) in CONFIGS {
        let rig = Rig::sqlite();
        mount(&rig.path().join("secrets/rebilld"), &["main-imp-key", "main-imp-secret"], 0o440);
        if overlay == "postgres" {
            let without = check(&rig, config);
            assert!(without.code == 78 && without.err.contains("`database.password`"), "{without:?}");
        }
        mount(&rig.path().join("secrets/rebilld-database"), &["password", "ca.crt"], 0o440);
        let all = check(&rig, config);
        assert_eq!((all.code, all.err.as_str()), (0, ""), "{overlay}: {all:?}");
        assert!(!format!("{all:?}").contains("hunter2"));
    }
}

#[test]
fn a_secret_that_everybody_may_read_is_refused() {
    for (overlay, config) in CONFIGS {
        let rig = Rig::sqlite();
        mount(&rig.path().join("secrets/rebilld"), &["main-imp-key", "main-imp-secret"], 0o444);
        mount(&rig.path().join("secrets/rebilld-database"), &["password", "ca.crt"], 0o444);
        let refused = check(&rig, config);
        assert_eq!(refused.code, 78, "{refused:?}");
        let keys = refused.err.matches("chmod o=").count();
        assert_eq!(keys, if overlay == "postgres" { 3 } else { 2 }, "{refused:?}");
    }
}
