//! `rebilld hold` and `rebilld kill`.

use clap::Subcommand;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::context::{Context, Opened, Why};
use super::failure::{Code, Failure};
use super::output::{Field, Listing, Output, at, field, local, print_json, say};
use crate::app;
use crate::config::closest;
use crate::domain::fuse::FuseState;
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
                let opened = context.open().await?;
                let reach = reach(&opened, account)?;
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
        let opened = context.open().await?;
        let reach = reach(&opened, account)?;
        let done = opened.database.desk().kill(opened.now, &reach, on, &signed).await?;
        known(done, &reach)?;
        let word = if on { "on: nothing is sent from now on" } else { "off" };
        tell(context, &format!("kill switch of {} {word}", subject(&reach).replace(" is", "")))
    }
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

fn reach(opened: &Opened, account: Option<String>) -> Result<Reach, Failure> {
    let Some(name) = account else { return Ok(Reach::Database) };
    let known: Vec<&str> = opened.loaded.settings.accounts.keys().map(String::as_str).collect();
    if known.contains(&name.as_str()) {
        return Ok(Reach::Account(name));
    }
    let meant = closest(&name, known.iter().copied()).map_or_else(String::new, |meant| format!(": did you mean `{meant}`?"));
    Err(Failure::data(format!("there is no account `{name}` in the config{meant}")))
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
    let opened = context.open().await?;
    let desk = opened.database.desk();
    let zone = opened.zone(account.as_deref().unwrap_or_default());
    let mut rows = Vec::new();
    let status = desk.status().await?;
    let above = status.as_ref().map(|status| Above::of(status, opened.now)).unwrap_or_default();
    if let Some(status) = status.filter(|_| account.is_none()) {
        // the database as a whole has no endpoint, no pause and no audit of its own
        let database = AccountStatus {
            name: "database".to_owned(),
            base_url: None,
            killed: status.killed,
            kill_reason: status.kill_reason,
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
        rows.push(brake(row, &above, &zone));
    }
    Listing { rows, none: "the database knows no account yet: run `rebilld migrate`" }.print(context.output)
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
