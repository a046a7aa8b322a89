//! The database: whether it can be reached, keeps what it acknowledges, has its schema and rules, and is the one that last sent.

use std::sync::Arc;

use super::super::assemble::open;
use super::super::errors::AppError;
use super::super::guard::Memory;
use super::{Report, Verdict};
use crate::config::Loaded;
use crate::ports::clock::Clock;
use crate::ports::store::StoreError;
use crate::store::{Database, OpenError};
use crate::time::SystemClock;

/// Beyond it, in seconds, charges are sent early or late by what people see on this machine.
const APART: i64 = 5;

/// What is open is returned if its schema is that of this release.
pub(super) async fn examine(report: &mut Report, loaded: &Loaded, clock: &SystemClock) -> Option<Arc<Database>> {
    let url = loaded.settings.database.url.to_string();
    let database = match open(&loaded.settings, false).await {
        Ok(database) => database,
        Err(AppError::Open(why)) => {
            refused(report, &url, &why);
            return None;
        }
        Err(why) => {
            report.unavailable("database", url, why.to_string(), "start it, or right `database.url`");
            return None;
        }
    };
    let engine = if database.is_postgres() { "PostgreSQL" } else { "SQLite" };
    report.ok("database", &url, format!("{engine} answers, can be written, and keeps what it acknowledges when it crashes"));
    if let Err(why) = asked(report, loaded, &database, clock).await {
        report.unavailable("database", url, why.to_string(), "see what it says, and its own log");
        return None;
    }
    let current = database.pending_migrations().await.is_ok_and(|pending| pending.is_empty());
    current.then_some(database)
}

fn refused(report: &mut Report, url: &str, why: &OpenError) {
    let (verdict, remedy) = match why {
        OpenError::Missing(_) => (Verdict::Unavailable, "`rebilld migrate` makes it, if the path is right"),
        OpenError::Unreachable(_) | OpenError::Store(StoreError::Unavailable(_)) => {
            (Verdict::Unavailable, "start it, open the way to it, or right `database.url`; PGPASSFILE may hold its password")
        }
        OpenError::Busy(_) => (
            Verdict::Unavailable,
            "find who holds it (`fuser`, `lsof`): a shell with an open transaction, a backup that copies the file",
        ),
        OpenError::ReadOnly(_) => (Verdict::Unavailable, "see what it says; the daemon needs to write"),
        OpenError::NotDurable { .. } => (
            Verdict::Wrong,
            "set it as it says in the server's config: the daemon does not start on a database that may lose a commit",
        ),
        OpenError::TooNew { .. } | OpenError::MigrationChanged(_) => (Verdict::Wrong, "use the release that has migrated it"),
        OpenError::ServerTooOld { .. } => (Verdict::Wrong, "upgrade the server"),
        _ => (Verdict::Wrong, "see what it says"),
    };
    report.add("database", url, verdict, why.to_string(), remedy);
}

async fn asked(report: &mut Report, loaded: &Loaded, database: &Database, clock: &SystemClock) -> Result<(), AppError> {
    let pending = database.pending_migrations().await?;
    if pending.is_empty() {
        report.ok("migrations", "", "the schema is that of this release");
    } else {
        let names: Vec<String> = pending.iter().map(|(number, name)| format!("{number:04} {name}")).collect();
        let remedy = "`rebilld migrate`, or start this release's daemon, which does it";
        report.wrong("migrations", "", format!("the schema is an older one: {} missing", names.join(", ")), remedy);
        return Ok(());
    }
    let missing = database.missing_rules().await?;
    if missing.is_empty() {
        report.ok("database rules", "", "every index, trigger and constraint is in its place");
    } else {
        let remedy =
            "somebody has taken them away or switched them off: stop the daemon, and put them back as the migrations made them";
        report.wrong("database rules", "", format!("gone or switched off: {}", missing.join(", ")), remedy);
    }
    if let Some(gap) = database.standby_gap().await? {
        let remedy = "make it synchronous (docs/scaling.md), or treat each failover as a restore (docs/runbooks/hold.md)";
        report.warn("database", "standby", gap, remedy);
    }
    let apart = clock.now().duration_since(database.desk().clock().await?).as_secs();
    match apart.abs() <= APART {
        true => report.ok("clock", "database", "it goes as this machine's does"),
        false => {
            let what = format!("it is {} s {} this machine's", apart.abs(), if apart > 0 { "behind" } else { "ahead of" });
            report.warn("clock", "database", what, "the daemon goes by the database's: have NTP set both");
        }
    }
    plans(report, loaded, database).await?;
    bound(report, loaded, database).await?;
    daemons(report, loaded, database).await?;
    Ok(())
}

async fn plans(report: &mut Report, loaded: &Loaded, database: &Database) -> Result<(), AppError> {
    let rows = database.plan_rows().await?.rows;
    let problems = loaded.check_plans(&rows).map_or_else(|errors| errors.0, |plans| plans.problems());
    if problems.is_empty() && rows.is_empty() && loaded.settings.plans.is_empty() {
        report.warn(
            "plans",
            "",
            "there is none: no subscription can be billed",
            "add a section `[plans.NAME]`, or a row to the table `plans`",
        );
    }
    for problem in problems {
        report.warn("plans", problem.origin.to_string(), problem.text, "put it right: `rebilld plans list` shows them all");
    }
    Ok(())
}

/// Whether it is the database of this config and of this state directory, and what stops its accounts.
async fn bound(report: &mut Report, loaded: &Loaded, database: &Database) -> Result<(), AppError> {
    let Some(status) = database.desk().status().await? else {
        let what = "it has not been bound to a tag yet";
        report.warn("identity", "", what, "`rebilld migrate` binds it, and so does the daemon's first start");
        return Ok(());
    };
    let settings = &loaded.settings;
    if status.tag != settings.tag.as_str() {
        let what = format!("the database belongs to the tag `{}`, and the config says `{}`", status.tag, settings.tag);
        report.wrong("identity", "", what, "check which database this is; a sandbox has one of its own");
        return Ok(());
    }
    let shown = settings.state_dir.display().to_string();
    match Memory::peek(&settings.state_dir) {
        Err(why) => report.wrong(
            "identity",
            shown,
            format!("what the state directory remembers cannot be read: {why}"),
            "run this as the daemon's user, or check its files `rebilld.mark` and `rebilld.journal`",
        ),
        Ok(memory) => {
            let losses = memory.against(database, &database.identity().await?).await?;
            if losses.is_empty() {
                let what = format!("tag {}; database and state directory belong together", status.tag);
                report.ok("identity", &*shown, what);
            }
            for loss in losses {
                let remedy = "docs/operating.md, \"Backups and restore\": the daemon comes up on hold";
                report.wrong("identity", &*shown, loss.text, remedy);
            }
        }
    }
    if status.killed || status.held {
        let why = status.kill_reason.or(status.hold_reason).unwrap_or_default();
        report.warn("brakes", "database", format!("nothing is sent: {why}"), "`rebilld hold status` shows the way out");
    }
    let accounts = database.desk().accounts().await?;
    for name in settings.accounts.keys() {
        let Some(account) = accounts.iter().find(|account| account.name == *name) else {
            report.warn(
                "brakes",
                name,
                "the database does not know this account yet",
                "`rebilld migrate`, or the daemon's next start",
            );
            continue;
        };
        let stops = [
            (account.killed, "its kill switch is on", "`rebilld kill off --account"),
            (account.held, "it is held", "`rebilld hold release --account"),
            (account.paused, "it is paused", "`rebilld hold release --account"),
            (account.fuse.is_some(), "its fuse has blown", "`rebilld wave show --account"),
            (!account.armed, "it is not armed: nothing is sent for it", "`rebilld arm --account"),
        ];
        let found: Vec<_> = stops.iter().filter(|(is, ..)| *is).collect();
        for (_, what, remedy) in &found {
            report.warn("brakes", name, *what, format!("when that is what you want: {remedy} {name}`"));
        }
        if found.is_empty() {
            report.ok("brakes", name, "none is on");
        }
    }
    Ok(())
}

/// Which daemons run on it, and by which config.
async fn daemons(report: &mut Report, loaded: &Loaded, database: &Database) -> Result<(), AppError> {
    let now = database.desk().clock().await?;
    let rows = database.daemons().await?;
    let running: Vec<_> = rows.iter().filter(|row| row.runs(now)).collect();
    let ours = loaded.version().hash_with(&database.plan_rows().await?.rows);
    for daemon in &running {
        if let Some(why) = daemon.refused_why.as_ref().filter(|_| daemon.refused_at.is_some()) {
            let remedy = "`rebilld config plan` shows what it changes, `rebilld config apply` takes it";
            report.warn("daemons", &daemon.instance, format!("it has refused a config: {why}"), remedy);
        } else if daemon.hash != ours {
            let remedy = "`rebilld config show --running`; SIGHUP or a restart takes the files";
            report.warn("daemons", &daemon.instance, "it goes by another config than the files here", remedy);
        }
        if let Some(what) = &daemon.stopped_by {
            report.warn("daemons", &daemon.instance, what.clone(), "`rebilld kill status`");
        }
    }
    report.ok("daemons", "", format!("{} at work on this database", running.len()));
    Ok(())
}
