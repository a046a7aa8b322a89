//! What the machine gives: zone data, certificates of authorities, room on its disks.

use std::path::{Path, PathBuf};

use jiff::civil::date;
use jiff::tz::TimeZone;
use rustix::fs::{Access, access, statfs, statvfs};

use super::Report;
use crate::config::Settings;
use crate::domain::place::is_live;

/// Zones whose offset in January and in July of 2026, in seconds, is known to us: Korea, and two with summer time.
const ZONES: [(&str, i32, i32); 3] =
    [("Asia/Seoul", 32_400, 32_400), ("Europe/Berlin", 3_600, 7_200), ("America/New_York", -18_000, -14_400)];
/// Less room than this, in MiB: the next wave may not find any.
const TOO_LITTLE: u64 = 64;
/// Less than this is worth a look.
const LITTLE: u64 = 1024;
/// File systems of other machines (NFS, SMB, CIFS, Ceph): WAL needs memory that all processes share.
const REMOTE: [i64; 4] = [0x6969, 0x517B, 0xFF53_4D42, 0x00C3_6400];
/// Those that are gone with the machine's memory (tmpfs, ramfs).
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58F6];

pub(super) fn zones(report: &mut Report) {
    let mut sound = true;
    for (name, winter, summer) in ZONES {
        let offset = |zone: &TimeZone, month| Some(date(2026, month, 15).to_zoned(zone.clone()).ok()?.offset().seconds());
        let found = TimeZone::get(name).ok().and_then(|zone| Some((offset(&zone, 1)?, offset(&zone, 7)?)));
        if found != Some((winter, summer)) {
            sound = false;
            let remedy = "install your system's zone data anew (tzdata), or take $TZDIR out of the environment";
            report.wrong("zone data", name, "its offsets are not those of 2026: charges would fall due at wrong hours", remedy);
        }
    }
    if sound {
        report.ok("zone data", "", "known zones have their known offsets");
    }
}

/// Whether TLS can tell a gateway from a stranger. Without any authority no client is made, not even one for this machine.
pub(super) fn roots(report: &mut Report) -> bool {
    let count = super::authorities();
    if count == 0 {
        let remedy = "install your system's certificates of authorities (ca-certificates), or name them with $SSL_CERT_FILE";
        report.wrong("tls roots", "", "there are none: neither the gateway nor a webhook's receiver can be asked", remedy);
    } else {
        report.ok("tls roots", "", format!("{count} certificates of authorities"));
    }
    count > 0
}

/// The state directory, and where the SQLite file is.
pub(super) fn places(report: &mut Report, settings: &Settings) {
    let state = existing(&settings.state_dir);
    if access(&state, Access::WRITE_OK).is_err() {
        let shown = settings.state_dir.display().to_string();
        let what = format!("{} cannot be written by this user", state.display());
        report.wrong("state directory", shown, what, "set `state_dir`, or make it writable for the daemon's user");
    } else {
        room(report, "state directory", &settings.state_dir);
    }
    let Some(file) = settings.database.url.sqlite_path() else { return };
    room(report, "database disk", file);
    let Ok(system) = statfs(existing(file)) else { return };
    #[expect(clippy::useless_conversion, reason = "its type differs between machines")]
    let kind = i64::from(system.f_type);
    let shown = file.display().to_string();
    if REMOTE.contains(&kind) {
        let what = "it is on a file system of another machine, where SQLite may lose what it has acknowledged";
        report.wrong("database disk", shown, what, "put the file on a disk of this machine, or use PostgreSQL");
    } else if IN_MEMORY.contains(&kind) && settings.accounts.values().any(|account| is_live(&account.base_url)) {
        let what = "it is in memory: a restart of this machine would forget every charge";
        report.wrong("database disk", shown, what, "put the file on a disk");
    } else if IN_MEMORY.contains(&kind) {
        report.warn("database disk", shown, "it is in memory, and gone with a restart of this machine", "put the file on a disk");
    }
}

/// The directory that is there already, of a path that may be made later.
fn existing(path: &Path) -> PathBuf {
    let mut ancestors = path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty());
    ancestors.find(|ancestor| ancestor.exists()).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn room(report: &mut Report, check: &'static str, path: &Path) {
    let shown = path.display().to_string();
    let stat = match statvfs(existing(path)) {
        Ok(stat) => stat,
        Err(why) => {
            report.unavailable(check, shown, format!("it cannot be looked at: {why}"), "check the path and its permissions");
            return;
        }
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize) / (1024 * 1024);
    let remedy = "make room, or move it to a larger disk: nothing is charged that cannot be recorded";
    match free {
        free if free < TOO_LITTLE => report.unavailable(check, shown, format!("{free} MiB are left"), remedy),
        // file systems that do not count files tell 0 of 0
        _ if stat.f_files > 0 && stat.f_favail == 0 => report.unavailable(check, shown, "no more files can be made", remedy),
        free if free < LITTLE => report.warn(check, shown, format!("{free} MiB are left"), remedy),
        free => report.ok(check, shown, format!("{} GiB are left", free / 1024)),
    }
}
