//! `rebilld init`: the files to start from.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::context::Context;
use super::failure::{Code, Failure};
use super::output::{Output, print_json, say};
use crate::config::template;

/// Nothing that is there is ever written over.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// Where the files go; it is made if it is missing
    #[arg(default_value = ".", value_name = "DIRECTORY")]
    directory: PathBuf,
    /// For the gateway of `rebilld sandbox`, which charges nobody: with test keys, ready to run
    #[arg(long)]
    sandbox: bool,
    /// For systemd: the hardened unit, its drop-ins, and a config for it
    #[arg(long, conflicts_with_all = ["sandbox", "kubernetes"])]
    systemd: bool,
    /// For Kubernetes: a kustomize base with overlays for SQLite and PostgreSQL, and a config for each
    #[arg(long, conflicts_with = "sandbox")]
    kubernetes: bool,
}

/// A file to be written.
struct New {
    path: String,
    text: String,
    /// Only its owner may read it.
    secret: bool,
}

fn new(path: impl Into<String>, text: impl Into<String>) -> New {
    New { path: path.into(), text: text.into(), secret: false }
}

/// Files of the release, by their path below its directory, as they are.
macro_rules! files {
    ($directory:literal, $($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../deploy/", $directory, "/", $path)))),*]
    };
}

const SYSTEMD: &[(&str, &str)] =
    files!("systemd", "rebilld.service", "rebilld.toml", "drop-ins/postgresql.conf", "drop-ins/shadow.conf");
const KUBERNETES: &[(&str, &str)] = files!(
    "kubernetes",
    "base/deployment.yaml",
    "base/kustomization.yaml",
    "base/namespace.yaml",
    "base/network-policy.yaml",
    "base/service-account.yaml",
    "base/service.yaml",
    "components/service-monitor/kustomization.yaml",
    "components/service-monitor/service-monitor.yaml",
    "components/webhooks/ingress.yaml",
    "components/webhooks/kustomization.yaml",
    "components/webhooks/network-policy.yaml",
    "overlays/postgres/deployment.yaml",
    "overlays/postgres/disruption-budget.yaml",
    "overlays/postgres/egress.yaml",
    "overlays/postgres/kustomization.yaml",
    "overlays/postgres/rebilld.toml",
    "overlays/sqlite/deployment.yaml",
    "overlays/sqlite/kustomization.yaml",
    "overlays/sqlite/rebilld.toml",
    "overlays/sqlite/volumes.yaml",
);

const HEADING: &str = "rebilld's config, made by `rebilld init`. docs/operating.md says how to go on.";

impl Init {
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let told =
            |what: &str, error: &std::io::Error| Failure::new(Code::Unavailable, format!("{what} cannot be written: {error}"));
        let shown = self.directory.display().to_string();
        fs::create_dir_all(&self.directory).map_err(|error| told(&shown, &error))?;
        let directory = fs::canonicalize(&self.directory).map_err(|error| told(&shown, &error))?;
        let (files, next) = match (self.systemd, self.kubernetes) {
            (true, _) => (embedded(SYSTEMD)?, after_systemd(&directory)),
            (_, true) => (embedded(KUBERNETES)?, after_kubernetes(&directory)),
            _ => plain(&directory, self.sandbox)?,
        };
        let there: Vec<&str> = files
            .iter()
            .map(|file| file.path.as_str())
            .filter(|path| fs::symlink_metadata(directory.join(path)).is_ok())
            .collect();
        if !there.is_empty() {
            let text =
                format!("{} already has {}: nothing was written; name another directory", directory.display(), there.join(", "));
            return Err(Failure::data(text));
        }
        for file in &files {
            let path = directory.join(&file.path);
            write(&path, file).map_err(|error| told(&path.display().to_string(), &error))?;
        }
        let paths: Vec<String> = files.iter().map(|file| directory.join(&file.path).display().to_string()).collect();
        match context.output {
            Output::Json => print_json(&json!({ "files": paths, "next": next })),
            Output::Csv => say(&format!("file\n{}", paths.join("\n"))),
            Output::Table if context.quiet => Ok(()),
            Output::Table => {
                let next: Vec<String> = next.iter().map(|step| format!("    {step}")).collect();
                say(&format!("written:\n    {}\nnext:\n{}", paths.join("\n    "), next.join("\n")))
            }
        }
    }
}

fn write(path: &Path, file: &New) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mode = if file.secret { 0o600 } else { 0o644 };
    // somebody may have made it meanwhile: then it is his
    let mut written = File::options().write(true).create_new(true).mode(mode).open(path)?;
    written.write_all(file.text.as_bytes())?;
    written.sync_all()
}

/// A commented config with these values in force.
fn config(values: &str) -> Result<String, Failure> {
    template(HEADING, values).ok_or_else(|| Failure::new(Code::Internal, "the config that comes with this release is no TOML"))
}

/// Files of the release; its configs are written anew, with every key.
fn embedded(files: &[(&str, &str)]) -> Result<Vec<New>, Failure> {
    let file = |(path, text): &(&str, &str)| match path.ends_with(".toml") {
        true => config(text).map(|text| new(*path, text)),
        false => Ok(new(*path, *text)),
    };
    files.iter().map(file).collect()
}

/// A config in a directory that holds all that belongs to it. Its paths are whole, so that it can be used from anywhere.
fn plain(directory: &Path, sandbox: bool) -> Result<(Vec<New>, Vec<String>), Failure> {
    let here = directory.display();
    let quoted = |name: &str| toml_edit::Value::from(format!("{here}/{name}")).to_string();
    let database = toml_edit::Value::from(format!("sqlite:{here}/rebilld.db")).to_string();
    let (tag, account, more) = match sandbox {
        true => (
            "sb",
            "base_url = \"http://127.0.0.1:8765\"\ninclude_sandbox = true\n",
            // a plan that falls due each day, at any hour: there is something to see at once
            "amount = 9900\n[plans.trial]\nevery = \"1 day\"\ncharge_time = \"00:00\"\namount = 100\ntitle = \"Trial plan\"\n\
             [windows]\nhours = \"00:00-24:00\"\nblackouts = \"\"\n",
        ),
        false => ("rb", "", ""),
    };
    let text = format!(
        "tag = \"{tag}\"\nstate_dir = {}\n[database]\nurl = {database}\n[accounts.main]\n{account}imp_key_file = {}\nimp_secret_file = {}\n\
         [plans.monthly]\nevery = \"1 month\"\ncharge_time = \"10:00\"\ntitle = \"Monthly plan\"\n{more}",
        quoted("state"),
        quoted("main.key"),
        quoted("main.secret"),
    );
    let mut files = vec![new("rebilld.toml", config(&text)?)];
    let rebilld = format!("rebilld --config {here}/rebilld.toml");
    let mut next = Vec::new();
    if sandbox {
        let secret = |name: &str, text: &str| New { secret: true, ..new(name, text) };
        files.extend([secret("main.key", "sandbox-key\n"), secret("main.secret", "sandbox-secret\n")]);
        next.push("rebilld sandbox &   # a gateway on this machine that charges nobody".to_owned());
    } else {
        next.push(format!("umask 077; write imp_key into {here}/main.key and imp_secret into {here}/main.secret"));
    }
    next.extend([
        format!("{rebilld} migrate"),
        format!("{rebilld} doctor"),
        format!("{rebilld} run --dry-run"),
        format!("{rebilld} run"),
    ]);
    Ok((files, next))
}

fn after_systemd(directory: &Path) -> Vec<String> {
    let here = directory.display();
    [
        "install -d /etc/rebilld; umask 077; write imp_key into /etc/rebilld/main.key and imp_secret into /etc/rebilld/main.secret".to_owned(),
        format!("install -m 0644 {here}/rebilld.toml /etc/rebilld/rebilld.toml"),
        format!("install -m 0644 {here}/rebilld.service /etc/systemd/system/rebilld.service"),
        "systemctl daemon-reload && systemctl enable --now rebilld   # docs/operating.md, \"Under systemd\"".to_owned(),
    ]
    .into()
}

fn after_kubernetes(directory: &Path) -> Vec<String> {
    let here = directory.display();
    [
        format!("edit {here}/overlays/postgres/rebilld.toml and its kustomization.yaml (or those of overlays/sqlite)"),
        "kubectl create namespace rebilld; make the Secrets that docs/kubernetes.md names".to_owned(),
        format!("kubectl apply -k {here}/overlays/postgres"),
    ]
    .into()
}
