//! `rebilld arm`: a live account is charged from a database only after somebody has typed its name.

use std::io::{IsTerminal, Write};

use serde_json::json;

use super::context::{Context, Opened, Why};
use super::failure::{Code, Failure};
use super::output::{Output, local, print_json, say};
use crate::config::closest;
use crate::domain::place::is_live;

#[derive(Debug, clap::Args)]
pub struct Arm {
    /// The account
    #[arg(long, value_name = "NAME")]
    account: String,
    /// The account's name once more, instead of typing it when asked
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
    #[command(flatten)]
    why: Why,
}

impl Arm {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let signed = context.signed(&self.why)?;
        let opened = context.open().await?;
        let name = self.account.as_str();
        let base_url = base_url(&opened, name)?;
        if !is_live(&base_url) {
            return told(context, name, false, &format!("account {name} is a sandbox ({base_url}): it needs no arming"));
        }
        let desk = opened.database.desk();
        let row = desk.accounts().await?.into_iter().find(|row| row.name == name);
        let Some(row) = row else {
            return Err(Failure::new(
                Code::Config,
                format!("the database does not know account `{name}` yet: run `rebilld migrate`"),
            ));
        };
        if desk.status().await?.is_some_and(|status| status.held) {
            let text =
                "the database is on hold: `rebilld hold release` first, then arm its accounts (`rebilld hold status` says why)";
            return Err(Failure::new(Code::TryLater, text));
        }
        if row.base_url.as_ref().is_some_and(|known| *known != base_url) || !row.live {
            return Err(Failure::new(
                Code::TryLater,
                format!(
                    "account {name} now points to {base_url}, and that is not confirmed: start the daemon once, then `rebilld hold release --account {name}`, then arm it"
                ),
            ));
        }
        if row.armed {
            let since = row.armed_at.map_or_else(String::new, |at| format!(" since {}", local(at, &opened.zone(name))));
            return told(context, name, true, &format!("account {name} is armed already{since}"));
        }
        let typed = match self.confirm {
            Some(typed) => typed,
            None => ask(&opened, name, &base_url)?,
        };
        if typed.trim() != name {
            return Err(Failure::data(format!("`{}` is not the account's name: nothing is armed", typed.trim())));
        }
        if !desk.arm(opened.now, name, &base_url, &signed).await? {
            return Err(Failure::new(Code::TryLater, format!("account {name} changed meanwhile: look at `rebilld hold status`")));
        }
        told(
            context,
            name,
            true,
            &format!("account {name} is armed: charges that are due are sent, unless a brake is pulled (`rebilld hold status`)"),
        )
    }
}

pub(super) fn base_url(opened: &Opened, name: &str) -> Result<String, Failure> {
    let accounts = &opened.loaded.settings.accounts;
    if let Some(account) = accounts.get(name) {
        return Ok(account.base_url.clone());
    }
    let meant = closest(name, accounts.keys().map(String::as_str));
    let meant = meant.map_or_else(String::new, |meant| format!(": did you mean `{meant}`?"));
    Err(Failure::data(format!("there is no account `{name}` in the config{meant}")))
}

/// Has the name typed, on a terminal.
fn ask(opened: &Opened, name: &str, base_url: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        let text = format!("nobody can be asked here: add --confirm {name}, if real cards are to be charged from this database");
        return Err(Failure::new(Code::Usage, text));
    }
    let settings = &opened.loaded.settings;
    let mut error = std::io::stderr().lock();
    write!(
        error,
        "account {name} charges real cards at {base_url}, from {} (tag {}).\n`rebilld run --dry-run` shows what is due.\nType the account's name to arm it: ",
        settings.database.url, settings.tag
    )?;
    error.flush()?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed)?;
    Ok(typed)
}

fn told(context: &Context, name: &str, armed: bool, text: &str) -> Result<(), Failure> {
    match context.output {
        Output::Json => print_json(&json!({ "account": name, "armed": armed, "done": text })),
        _ if context.quiet => Ok(()),
        _ => say(text),
    }
}
