//! `rebilld hold` and `rebilld kill`.

use std::collections::BTreeSet;

use clap::Subcommand;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::context::{Context, Opened, Why};
use super::failure::{Code, Failure};
use super::output::{Field, Listing, Output, at, field, local, print_json, say};
use crate::app::{self, KillFiles};
use crate::config::closest;
use crate::domain::fuse::FuseState;
use crate::engine::missed::MISSED_AFTER;
use crate::store::DaemonRow;
use crate::store::desk::{AccountStatus, Reach, Status};

#[derive(Debug, Subcommand)]
pub enum Hold {
    /// Shows what is held, paused, not yet audited or not armed, and why
    Status,
    /// Stops sends until an operator ends the hold; look-ups go on
    Set {
        /// One account instead of the whole database
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Ends a hold (and an account's pause), once the audit and Q allow it
    Release {
        /// One account instead of the whole database
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[command(flatten)]
        why: Why,
    },
}

#[derive(Debug, Subcommand)]
pub enum Kill {
    /// Stops all sends within a second
    On {
        /// One account instead of the whole database
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Lets sends go on
    Off {
        /// One account instead of the whole database
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Shows whether the switch is on, and why
    Status {
        /// One account instead of all
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
}

impl Hold {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Status => status(context, None).await,
            Self::Set { account, why } => {
                let signed = context.signed(&why)?;
                let opened = context.open_in_spite().await?;
                let reach = reach(&opened, account).await?;
                let done = opened.database.desk().set_hold(opened.now, &reach, &signed).await?;
                known(done, &reach)?;
                tell(context, &format!("{} held: nothing is sent until `rebilld hold release`", subject(&reach)))
            }
            Self::Release { account, why } => {
                let signed = context.signed(&why)?;
                let loaded = context.load()?;
                let reach = account.map_or(Reach::Database, Reach::Account);
                let told = app::release_hold(&loaded, &reach, &signed).await?;
                tell(context, &told)
            }
        }
    }
}

impl Kill {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let (account, why, on) = match self {
            Self::Status { account } => return status(context, account).await,
            Self::On { account, why } => (account, why, true),
            Self::Off { account, why } => (account, why, false),
        };
        let signed = context.signed(&why)?;
        let opened = context.open_in_spite().await?;
        let reach = reach(&opened, account).await?;
        let done = opened.database.desk().kill(opened.now, &reach, on, &signed).await?;
        known(done, &reach)?;
        let word = if on { "on: nothing is sent from now on" } else { "off" };
        let mut told = format!("kill switch of {} {word}", subject(&reach).replace(" is", ""));
        if !on {
            let outside = outside(&opened, &opened.database.daemons().await?);
            let still: BTreeSet<String> = outside.into_iter().map(|(_, why)| why).collect();
            if !still.is_empty() {
                told.push_str(&format!("; still stopped: {}", still.into_iter().collect::<Vec<_>>().join("; ")));
            }
        }
        tell(context, &told)
    }
}

/// What stops sends from outside of the database: files on this machine, and what running daemons say of theirs. With what each
/// stops.
pub(super) fn outside(opened: &Opened, daemons: &[DaemonRow]) -> Vec<(String, String)> {
    let settings = &opened.loaded.settings;
    let files = KillFiles::new(&settings.kill_file);
    let mut found: Vec<(String, String)> = files.there(None).map(|why| ("database".to_owned(), why)).into_iter().collect();
    let of_account = |name: &String| files.there(Some(name)).map(|why| (format!("account {name}"), why));
    found.extend(settings.accounts.keys().filter_map(of_account));
    for daemon in daemons.iter().filter(|daemon| daemon.runs(opened.now)) {
        let lines = daemon.stopped_by.iter().flat_map(|text| text.lines());
        found.extend(lines.map(|line| (format!("daemon {}", daemon.instance), line.to_owned())));
    }
    found
}

fn tell(context: &Context, text: &str) -> Result<(), Failure> {
    match context.output {
        Output::Json => print_json(&json!({ "done": text })),
        _ if context.quiet => Ok(()),
        _ => say(text),
    }
}

fn subject(reach: &Reach) -> String {
    match reach {
        Reach::Database => "the whole database is".to_owned(),
        Reach::Account(name) => format!("account {name} is"),
    }
}

/// An account may be in the database alone, when the config is wrong.
async fn reach(opened: &Opened, account: Option<String>) -> Result<Reach, Failure> {
    let Some(name) = account else { return Ok(Reach::Database) };
    let rows = opened.database.desk().accounts().await?;
    let known = || rows.iter().map(|row| row.name.as_str()).chain(opened.loaded.settings.accounts.keys().map(String::as_str));
    if known().any(|known| known == name) {
        return Ok(Reach::Account(name));
    }
    let meant = closest(&name, known()).map_or_else(String::new, |meant| format!(": did you mean `{meant}`?"));
    Err(Failure::data(format!("there is no account `{name}`{meant}")))
}

fn known(done: bool, reach: &Reach) -> Result<(), Failure> {
    if done {
        return Ok(());
    }
    let what = match reach {
        Reach::Database => "the database is not bound to a tag yet".to_owned(),
        Reach::Account(name) => format!("the database does not know account `{name}` yet"),
    };
    Err(Failure::new(Code::Config, format!("{what}: run `rebilld migrate`")))
}

async fn status(context: &Context, account: Option<String>) -> Result<(), Failure> {
    let opened = context.open_in_spite().await?;
    let desk = opened.database.desk();
    let zone = opened.zone(account.as_deref().unwrap_or_default());
    let mut rows = Vec::new();
    let status = desk.status().await?;
    let mut above = status.as_ref().map(|status| Above::of(status, opened.now)).unwrap_or_default();
    let outside = outside(&opened, &opened.database.daemons().await?);
    let file = |what: &str| outside.iter().find(|(stopped, _)| stopped == what).map(|(_, why)| why.clone());
    above.killed |= file("database").is_some();
    if let Some(status) = status.filter(|_| account.is_none()) {
        // the database as a whole has no endpoint, no pause and no audit of its own
        let database = AccountStatus {
            name: "database".to_owned(),
            base_url: None,
            killed: status.killed || file("database").is_some(),
            kill_reason: both(status.kill_reason, file("database")),
            held: status.held,
            hold_reason: status.hold_reason,
            held_at: status.held_at,
            paused: false,
            pause_reason: None,
            paused_at: None,
            fuse: None,
            fuse_why: None,
            fuse_at: None,
            audited: true,
            audited_at: None,
            audited_quick_at: None,
            live: false,
            armed: true,
            armed_at: None,
        };
        rows.push(brake(database, &Above { unsteady: above.unsteady, ..Above::default() }, &zone));
    }
    for mut row in desk.accounts().await?.into_iter().filter(|row| account.as_ref().is_none_or(|name| *name == row.name)) {
        row.name = format!("account {}", row.name);
        let file = file(&row.name);
        row.killed |= file.is_some();
        row.kill_reason = both(row.kill_reason, file);
        rows.push(brake(row, &above, &zone));
    }
    let daemons = outside.into_iter().filter(|(what, _)| what.starts_with("daemon "));
    rows.extend(daemons.map(|(what, why)| of_daemon(what, why, &zone)));
    let waited = opened.now - MISSED_AFTER;
    if let Some((held, since)) = desk.held_since(waited).await?.filter(|_| account.is_none()) {
        let s = if held == 1 { "" } else { "s" };
        let why = "they look wrong, and nobody has said what becomes of them: `rebilld imports list`";
        rows.push(waits("imports", format!("{held} row{s} held"), why, since, &zone));
    }
    for (name, charges, since) in desk.waits_for_booked(waited).await? {
        if account.as_ref().is_none_or(|account| *account == name) {
            let s = if charges == 1 { " waits" } else { "s wait" };
            let why = "PortOne's own schedule has their cards, or may have charged them: `rebilld takeover check`";
            rows.push(waits(format!("bookings of {name}"), format!("{charges} charge{s}"), why, since, &zone));
        }
    }
    Listing { rows, none: "the database knows no account yet: run `rebilld migrate`" }.print(context.output)
}

fn both(one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) => Some(format!("{one}; {other}")),
        (one, other) => one.or(other),
    }
}

/// A row of `status` for what no brake stops and what waits for an operator all the same.
fn waits(what: impl Into<String>, state: String, why: &str, since: Timestamp, zone: &TimeZone) -> Vec<Field> {
    vec![
        field("what", what.into()),
        field("state", state),
        field("killed", false).hidden(),
        field("held", false).hidden(),
        field("paused", false).hidden(),
        field("fuse", None::<String>).hidden(),
        field("audited", true).hidden(),
        field("live", false).hidden(),
        field("armed", true).hidden(),
        field("base_url", None::<String>).hidden(),
        field("why", why),
        at("held_since", Some(since), zone),
        at("audited_at", None, zone),
        at("armed_at", None, zone).hidden(),
    ]
}

/// A row of `status` for what one daemon says of itself.
fn of_daemon(what: String, why: String, zone: &TimeZone) -> Vec<Field> {
    vec![
        field("what", what),
        field("state", "braked"),
        field("killed", true).hidden(),
        field("held", false).hidden(),
        field("paused", false).hidden(),
        field("audited", true).hidden(),
        field("base_url", None::<String>).hidden(),
        field("why", why),
        at("held_since", None, zone),
        at("audited_at", None, zone),
    ]
}

/// What stops every account, whatever its own brakes are.
#[derive(Debug, Clone, Copy, Default)]
struct Above {
    killed: bool,
    held: bool,
    /// Until when a jump of the clock holds sends.
    unsteady: Option<Timestamp>,
}

impl Above {
    fn of(status: &Status, now: Timestamp) -> Self {
        Self { killed: status.killed, held: status.held, unsteady: status.unsteady_until.filter(|until| *until > now) }
    }
}

/// A row of `status`: the first thing that stops sends, and all reasons.
fn brake(row: AccountStatus, above: &Above, zone: &TimeZone) -> Vec<Field> {
    let unarmed = Some(format!(
        "a live account that is not armed in this database: `rebilld arm --account {}`",
        row.name.trim_start_matches("account ")
    ));
    let state = match () {
        () if row.killed => "killed",
        () if row.held => "held",
        () if above.killed => "killed with the database",
        () if above.held => "held with the database",
        () if above.unsteady.is_some() => "clock jumped",
        () if !row.audited => "not audited",
        () if row.paused => "paused",
        () if row.fuse == Some(FuseState::Blown) => "fuse blown",
        () if row.fuse == Some(FuseState::Rejected) => "wave rejected",
        () if row.fuse == Some(FuseState::Approved) => "sends a wave",
        () if !row.armed => "not armed",
        () => "sends",
    };
    let unaudited = Some("no complete audit in this incarnation of the database yet".to_owned());
    let jumped = above.unsteady.map(|until| format!("the database clock has jumped: held until {}", local(until, zone)));
    let reasons = [
        (row.killed, row.kill_reason),
        (row.held, row.hold_reason),
        (jumped.is_some(), jumped),
        (row.paused, row.pause_reason),
        (row.fuse.is_some(), row.fuse_why),
        (!row.audited, unaudited),
        (!row.armed, unarmed),
    ];
    let reasons: Vec<String> = reasons.into_iter().filter(|(on, _)| *on).filter_map(|(_, why)| why).collect();
    vec![
        field("what", row.name),
        field("state", state),
        field("killed", row.killed).hidden(),
        field("held", row.held).hidden(),
        field("paused", row.paused).hidden(),
        field("fuse", row.fuse.map(FuseState::name)).hidden(),
        field("audited", row.audited).hidden(),
        field("live", row.live).hidden(),
        field("armed", row.armed).hidden(),
        field("base_url", row.base_url).hidden(),
        field("why", reasons.join("; ")),
        at("held_since", row.held_at.or(row.paused_at).or(row.fuse_at), zone),
        at("audited_at", row.audited_at, zone),
        at("armed_at", row.armed_at, zone).hidden(),
    ]
}
