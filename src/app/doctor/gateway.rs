//! An account's gateway: token, channels, its clock, and a look-up of an id that nobody has.

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::date;

use super::super::assemble::client;
use super::{Report, Verdict};
use crate::config::{Account, AccountKeys, Settings};
use crate::domain::attempt::{IdBase, IdNumber};
use crate::ports::clock::Clock;
use crate::ports::gateway::{Gateway, Unavailable};

/// For each question.
const PATIENCE: Duration = Duration::from_secs(20);
/// Beyond it, in seconds, tokens and days are not what they seem.
const APART: i64 = 30;

pub(super) async fn examine(
    report: &mut Report,
    settings: &Settings,
    account: &Account,
    keys: &AccountKeys,
    clock: Arc<dyn Clock>,
) {
    let name = &account.name;
    let gateway = match client(settings, account, keys, Arc::clone(&clock)) {
        Ok(gateway) => gateway,
        Err(why) => return report.wrong("token", name, why.to_string(), "right the account's section in the config"),
    };
    if let Err(why) = patiently(gateway.ready()).await {
        return unavailable(report, "token", account, &why);
    }
    report.ok("token", name, format!("{} gives one", account.base_url));
    match patiently(gateway.survey()).await {
        Err(why) => unavailable(report, "channels", account, &why),
        Ok(survey) => {
            let shown: Vec<String> = survey
                .channels
                .iter()
                .map(|channel| {
                    format!("{} {}{}", channel.pg_provider, channel.pg_id, if channel.sandbox { " (test)" } else { "" })
                })
                .collect();
            if survey.channels.is_empty() {
                report.warn("channels", name, "PortOne shows none: no card can be charged", "add a channel in PortOne's console");
            } else if survey.channels.iter().any(|channel| channel.sandbox) && !account.include_sandbox {
                let what = format!(
                    "{}; look-ups could take payments of the test channel for absent, so the daemon pauses the account",
                    shown.join(", ")
                );
                report.wrong("channels", name, what, format!("set include_sandbox = true in [accounts.{name}]"));
            } else {
                report.ok("channels", name, shown.join(", "));
            }
            clocks(report, name, survey.date.map(|date| date.duration_since(clock.now()).as_secs()));
        }
    }
    // made like any other, of a reference that no subscription has
    let id = IdBase::derive(settings.tag, name, "rebilld doctor", date(2000, 1, 1)).number(IdNumber::FIRST);
    match patiently(gateway.look_up(std::slice::from_ref(&id))).await {
        Err(why) => unavailable(report, "look-up", account, &why),
        Ok(records) if records.is_empty() => report.ok("look-up", name, "an id that nobody has shows no record"),
        Ok(records) => {
            let what = format!("{id} was made up for this check, and shows {} records", records.len());
            report.wrong("look-up", name, what, "look at `base_url`: this is not how PortOne answers");
        }
    }
}

fn clocks(report: &mut Report, name: &str, apart: Option<i64>) {
    match apart {
        None => report.warn("clock", name, "the gateway's answers have no date", "nothing: its clock cannot be compared"),
        Some(apart) if apart.abs() <= APART => report.ok("clock", name, "the gateway's goes as the database's does"),
        Some(apart) => {
            let what =
                format!("the gateway's is {} s {} the database's", apart.abs(), if apart > 0 { "ahead of" } else { "behind" });
            report.wrong("clock", name, what, "have NTP set this machine and the database's: charges would be early or late");
        }
    }
}

fn unavailable(report: &mut Report, check: &'static str, account: &Account, why: &Unavailable) {
    let (verdict, remedy) = match why {
        Unavailable::Unauthorized => (
            Verdict::Wrong,
            "compare imp_key, imp_secret and tier with PortOne's console, and its list of allowed addresses with yours"
                .to_owned(),
        ),
        Unavailable::Unreachable(_) => (
            Verdict::Unavailable,
            format!("open the way to {} (DNS, firewall, TLS roots), or right `base_url`", account.base_url),
        ),
        Unavailable::Overload(_) => (Verdict::Unavailable, "try again later".to_owned()),
        Unavailable::Nonsense(_) => {
            (Verdict::Wrong, format!("{} does not answer as PortOne does: right `base_url`", account.base_url))
        }
    };
    report.add(check, &account.name, verdict, why.to_string(), remedy);
}

async fn patiently<T>(asked: impl Future<Output = Result<T, Unavailable>>) -> Result<T, Unavailable> {
    let late = || Unavailable::Unreachable(format!("no answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()))
}
