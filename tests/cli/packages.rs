//! What packages and images are made of: `generate`, the metadata of the Debian package, deploy/docker. `scripts/try-deb` and
//! `scripts/try-docker` try the results; here is what has to be found out before that.

use std::path::{Component, Path, PathBuf};

use toml_edit::DocumentMut;

use super::rig::Rig;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const DOCKERFILE: &str = include_str!("../../deploy/docker/Dockerfile");
const IGNORED: &str = include_str!("../../.dockerignore");
const COMPOSE: &str = include_str!("../../deploy/docker/compose.yaml");
const COMPOSE_CONFIG: &str = include_str!("../../deploy/docker/rebilld.toml");
const INSTALL: &str = include_str!("../../docs/install.md");
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap_or_else(|why| panic!("{}: {why}", directory.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The sources of the package's files, as Cargo.toml names them.
fn assets() -> Vec<String> {
    let manifest: DocumentMut = std::fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap().parse().unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    assets.iter().map(|asset| asset.as_array().unwrap().get(0).unwrap().as_str().unwrap().to_owned()).collect()
}

/// Whether a directory has a file that a name with one `*` stands for.
fn has(directory: &Path, pattern: &str) -> bool {
    let (start, end) = pattern.split_once('*').unwrap_or((pattern, ""));
    let wildcard = pattern.contains('*');
    names(directory).iter().any(|name| if wildcard { name.starts_with(start) && name.ends_with(end) } else { name == pattern })
}

#[test]
fn man_pages_and_completions_are_those_of_this_command_line() {
    let rig = Rig::sqlite();
    rig.ok(&["generate", "man", "made/man"]);
    rig.ok(&["generate", "completions", "made/completions"]);
    let pages = names(&rig.path().join("made/man"));
    for page in ["rebilld.1", "rebilld-run.1", "rebilld-charges-list.1", "rebilld-healthcheck.1"] {
        assert!(pages.iter().any(|name| name == page), "{page} in {pages:?}");
    }
    assert!(!pages.iter().any(|name| name.contains("generate")), "it is hidden: {pages:?}");
    let read = |name: &str| std::fs::read_to_string(rig.path().join("made").join(name)).unwrap();
    let page = read("man/rebilld.1");
    assert!(page.contains("Charges subscriptions through PortOne") && page.contains("Exit codes"), "{page}");
    assert_eq!(names(&rig.path().join("made/completions")), ["_rebilld", "rebilld.bash", "rebilld.fish"]);
    for file in ["_rebilld", "rebilld.bash", "rebilld.fish"] {
        let text = read(&format!("completions/{file}"));
        assert!(text.contains("catch-up") && text.contains("healthcheck"), "{file}");
        assert!(!text.contains("generate"), "{file} offers what is hidden");
    }
}

#[test]
fn generate_says_where_it_cannot_write() {
    let rig = Rig::sqlite();
    rig.write("taken", "a file");
    let why = rig.fails(65, &["generate", "man", "taken/man"]);
    assert!(why.contains("taken/man"), "{why}");
}

#[test]
fn the_debian_package_names_only_files_that_exist_or_are_made() {
    let rig = Rig::sqlite();
    rig.ok(&["generate", "man", "man"]);
    rig.ok(&["generate", "completions", "completions"]);
    for asset in assets() {
        let (directory, name) = asset.rsplit_once('/').unwrap_or((".", &asset));
        let found = match directory {
            "target/release" => name == "rebilld",
            // scripts/deb packs the pages
            "target/package/man" => name == "*.gz" && has(&rig.path().join("man"), "*.1"),
            "target/package/completions" => has(&rig.path().join("completions"), name),
            directory => has(&Path::new(ROOT).join(directory), name),
        };
        assert!(found, "Cargo.toml's package.metadata.deb names {asset}");
    }
    for script in ["postinst", "prerm", "postrm"] {
        assert!(has(&Path::new(ROOT).join("deploy/deb"), script), "{script}");
    }
}

#[test]
fn every_page_of_the_documentation_is_in_the_debian_package() {
    let packed: Vec<String> = assets();
    for entry in std::fs::read_dir(Path::new(ROOT).join("docs")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let wanted = if entry.path().is_dir() { format!("docs/{name}/") } else { "docs/*.md".to_owned() };
        assert!(packed.iter().any(|asset| asset.starts_with(&wanted)), "docs/{name} is in no asset of package.metadata.deb");
    }
}

/// What is copied from the project into the image that builds.
fn copied() -> Vec<&'static str> {
    let lines = DOCKERFILE.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from"));
    lines.flat_map(|line| line.rsplit_once(' ').unwrap().0.split(' ')).collect()
}

#[test]
fn the_dockerfile_copies_only_files_that_exist_and_are_not_ignored() {
    assert!(copied().len() > 3, "{:?}", copied());
    for source in copied() {
        assert!(Path::new(ROOT).join(source).exists(), "COPY {source}");
        assert!(IGNORED.lines().any(|line| line == format!("!{source}")), "{source} is ignored by .dockerignore");
    }
}

#[test]
fn what_the_program_includes_is_copied_into_the_image_that_builds_it() {
    let mut sources = vec![Path::new(ROOT).join("src")];
    let mut seen = 0;
    while let Some(path) = sources.pop() {
        if path.is_dir() {
            sources.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for after in text.split("include_str!(").skip(1) {
            // `concat!("../../migrations/…", …)` begins with its directory as well
            let Some(named) = after.split('"').nth(1) else { continue };
            let file = plain(&path.parent().unwrap().join(named));
            let top = file.strip_prefix(ROOT).unwrap().components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
            assert!(copied().contains(&top.as_str()), "{} includes {named}, which the Dockerfile does not copy", path.display());
            seen += 1;
        }
    }
    assert!(seen > 3, "{seen}");
}

/// Without `..`, whether or not it exists.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

#[test]
fn the_compose_file_names_only_files_that_exist_and_waits_for_charges() {
    let directory = Path::new(ROOT).join("deploy/docker");
    let values =
        |key: &str| -> Vec<&str> { COMPOSE.lines().filter_map(|line| line.trim().strip_prefix(key)).map(str::trim).collect() };
    let mounts: Vec<&str> = values("- ./").into_iter().map(|mount| mount.split(':').next().unwrap()).collect();
    assert_eq!(mounts, ["rebilld.toml"]);
    assert!(directory.join(mounts[0]).exists());
    let context = directory.join(values("context:")[0]);
    assert!(context.join(values("dockerfile:")[0]).exists());
    assert!(values("image: rebilld").iter().all(|tag| *tag == format!(":{VERSION}")), "the image is of {VERSION}");
    let grace = values("stop_grace_period:")[0].trim_end_matches('s').parse::<u32>().unwrap();
    assert!(grace >= 85, "a stop may take 70 s");
}

#[test]
fn the_config_of_the_compose_file_is_a_good_one() {
    let rig = Rig::sqlite();
    rig.write("compose.toml", COMPOSE_CONFIG.replace("/run/secrets/rebilld/", &format!("{}/", rig.path().display())));
    let done = rig.run(&["--config", "compose.toml", "config", "check"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
}

#[test]
fn the_page_on_installing_names_files_of_this_version() {
    let named = |start: &str| -> Vec<&str> { INSTALL.split(start).skip(1).collect() };
    for start in ["rebilld_", "rebilld:", "release-files/rebilld-"] {
        assert!(!named(start).is_empty(), "{start}");
        assert!(named(start).iter().all(|rest| rest.starts_with(VERSION)), "docs/install.md has {start} of another version");
    }
}
