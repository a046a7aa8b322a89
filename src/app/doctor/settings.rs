//! The config and the secrets.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::Report;
use crate::app::receiver_problems;
use crate::config::{Loaded, Problem, Secrets};

pub(super) fn problems(report: &mut Report, problems: Vec<Problem>) {
    all_wrong(report, "config", problems, "put it right; `rebilld config reference` explains each key");
}

/// Texts of problems name files and keys, and never what is in a secret.
fn all_wrong(report: &mut Report, check: &'static str, problems: Vec<Problem>, remedy: &str) {
    for problem in problems {
        report.wrong(check, problem.origin.to_string(), problem.text, remedy);
    }
}

/// `1 account`, `2 accounts`.
fn counted(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

pub(super) fn config(report: &mut Report, loaded: &Loaded, mut found: Vec<Problem>) {
    found.extend(loaded.runnable().err().map(|errors| errors.0).unwrap_or_default());
    let sound = found.is_empty();
    problems(report, found);
    for note in &loaded.notes {
        report.warn("config", "environment", note, "take it out of the environment, or write it as the reference does");
    }
    for file in &loaded.files {
        let mode = std::fs::metadata(file).map_or(0, |meta| meta.permissions().mode() & 0o777);
        if mode & 0o002 != 0 {
            let what = format!("everybody on this machine can write it (mode {mode:03o})");
            report.wrong("config", file, what, format!("chmod o-w {file}"));
        }
    }
    if sound {
        let settings = &loaded.settings;
        let files = if loaded.files.is_empty() { "the environment alone".to_owned() } else { loaded.files.join(", ") };
        let what = {
            let (accounts, plans) = (counted(settings.accounts.len(), "account"), counted(settings.plans.len(), "plan"));
            format!("{accounts}, {plans}, tag {}", settings.tag)
        };
        report.ok("config", files, what);
    }
}

/// What can be read of them is used further on. `tls`: there are roots, without which nobody could be told in any case.
pub(super) fn secrets(report: &mut Report, loaded: &Loaded, tls: bool) -> Secrets {
    let (secrets, mut problems) = loaded.secrets_in_spite();
    problems.extend(receiver_problems(loaded, &secrets, tls));
    let sound = problems.is_empty();
    let remedy = "see what is wrong; a secret has a file of mode 0600 or 0640, or is a systemd credential";
    all_wrong(report, "secrets", problems, remedy);
    loaded.secret_files().into_iter().for_each(|path| guarded(report, path));
    if sound {
        let (of_alarms, _) = loaded.alarm_secrets_in_spite();
        let count = secrets.accounts.len() * 2 + secrets.webhooks.len() + of_alarms.count();
        report.ok("secrets", "", format!("{count} can be read, and not by everybody"));
    }
    secrets
}

/// Who may write a secret may put another one in its place.
fn guarded(report: &mut Report, path: &Path) {
    let Ok(meta) = std::fs::metadata(path) else { return };
    let (shown, mode) = (path.display().to_string(), meta.permissions().mode() & 0o777);
    let ours = rustix::process::geteuid().as_raw();
    if mode & 0o022 != 0 {
        report.warn("secrets", &shown, format!("others may write it (mode {mode:03o})"), format!("chmod go-w {shown}"));
    }
    if ours != 0 && meta.uid() != ours && meta.uid() != 0 {
        let what = format!("it belongs to user {}, who is neither root nor the one who runs this", meta.uid());
        report.warn("secrets", &shown, what, format!("chown root {shown}, with a group that may read it"));
    }
}
