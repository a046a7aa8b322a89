//! `rebilld hold` and `rebilld kill`.

use clap::Subcommand;

use super::context::{Context, Opened, Why};
use super::failure::{Code, Failure};
use super::output::{Field, Listing, at, field, say};
use crate::app;
use crate::config::closest;
use crate::store::desk::Reach;

#[derive(Debug, Subcommand)]
pub enum Hold {
    /// Shows what is held, paused or not yet audited, and why
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
    if context.quiet { Ok(()) } else { say(text) }
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
    if account.is_none()
        && let Some(status) = desk.status().await?
    {
        rows.push(brake("database", status.killed, status.kill_reason, status.held, status.hold_reason, false, None, None));
        rows[0].push(at("held_since", status.held_at, &zone));
        rows[0].push(at("audited", None, &zone));
    }
    for row in desk.accounts().await?.into_iter().filter(|row| account.as_ref().is_none_or(|name| *name == row.name)) {
        let mut fields = brake(
            &format!("account {}", row.name),
            row.killed,
            row.kill_reason,
            row.held,
            row.hold_reason,
            row.paused,
            row.pause_reason,
            Some(row.audited),
        );
        fields.push(at("held_since", row.held_at.or(row.paused_at), &zone));
        fields.push(at("audited", row.audited_at, &zone));
        rows.push(fields);
    }
    Listing { rows, none: "the database knows no account yet: run `rebilld migrate`" }.print(context.output)
}

#[expect(clippy::too_many_arguments, reason = "one row of a table, whose columns these are")]
fn brake(
    what: &str,
    killed: bool,
    kill_reason: Option<String>,
    held: bool,
    hold_reason: Option<String>,
    paused: bool,
    pause_reason: Option<String>,
    audited: Option<bool>,
) -> Vec<Field> {
    let unaudited = audited == Some(false);
    let state = match () {
        () if killed => "killed",
        () if held => "held",
        () if unaudited => "not audited",
        () if paused => "paused",
        () => "sends",
    };
    let reasons = [(killed, kill_reason), (held, hold_reason), (paused, pause_reason)];
    let mut reasons: Vec<String> = reasons.into_iter().filter(|(on, _)| *on).filter_map(|(_, why)| why).collect();
    if unaudited {
        reasons.push("no complete audit in this incarnation of the database yet".to_owned());
    }
    vec![
        field("what", what),
        field("state", state),
        field("killed", killed).hidden(),
        field("held", held).hidden(),
        field("paused", paused).hidden(),
        field("why", reasons.join("; ")),
    ]
}
