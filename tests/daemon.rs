//! The daemon as its user meets it: the real program, its exit codes and messages, its brakes, and what it does when something
//! around it is down, full, copied or changed.

#[path = "daemon/alarms.rs"]
mod alarms;
#[path = "daemon/ask.rs"]
mod ask;
#[path = "daemon/backup.rs"]
mod backup;
#[path = "daemon/brakes.rs"]
mod brakes;
#[path = "daemon/charges.rs"]
mod charges;
#[path = "daemon/dry_run.rs"]
mod dry_run;
#[path = "daemon/ear.rs"]
mod ear;
#[path = "daemon/exposition.rs"]
mod exposition;
#[path = "daemon/fuse.rs"]
mod fuse;
#[path = "daemon/health.rs"]
mod health;
#[path = "daemon/heartbeat.rs"]
mod heartbeat;
#[path = "daemon/inbox.rs"]
mod inbox;
#[path = "daemon/kill.rs"]
mod kill;
#[path = "daemon/metrics.rs"]
mod metrics;
#[path = "daemon/notify.rs"]
mod notify;
#[path = "daemon/plans.rs"]
mod plans;
#[path = "support/processes.rs"]
mod processes;
#[path = "daemon/refusals.rs"]
mod refusals;
#[path = "daemon/reload.rs"]
mod reload;
#[path = "daemon/restored.rs"]
mod restored;
#[path = "daemon/rig.rs"]
mod rig;
#[path = "daemon/secrets.rs"]
mod secrets;
#[path = "daemon/shadow.rs"]
mod shadow;
#[path = "daemon/silence.rs"]
mod silence;
mod support;
#[path = "daemon/takeover.rs"]
mod takeover;
#[path = "daemon/terminal.rs"]
mod terminal;
#[path = "daemon/trouble.rs"]
mod trouble;
#[path = "support/wire.rs"]
mod wire;
