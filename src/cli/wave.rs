//! `rebilld wave`: what is due of an account whose fuse has blown.

use clap::Subcommand;
use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use super::context::{Context, Opened, Why};
use super::failure::{Code, Failure};
use super::output::{Field, Listing, Output, at, field, grouped, local, money, object, print_json, say};
use crate::domain::fuse::FuseState;
use crate::domain::money::{Currency, Money};
use crate::store::desk::{Approved, BlownFuse, NotApproved, Signed, Wave as Due, WaveHash};

#[derive(Debug, Subcommand)]
pub enum Wave {
    /// Shows exactly what is due of an account whose fuse has blown, and the hash that stands for it
    Show {
        /// One account instead of all whose fuse has blown
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
    /// Releases exactly what was shown, and nothing else; whatever has changed since voids it
    Approve {
        /// The hash that `wave show` printed
        #[arg(value_name = "HASH")]
        hash: String,
        /// Which account, if the fuses of several have blown
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[command(flatten)]
        named: Named,
    },
    /// Keeps the account stopped
    Reject {
        /// Which account, if the fuses of several have blown
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[command(flatten)]
        named: Named,
    },
}

/// Who, and why. A wave is never let through by nobody in particular.
#[derive(Debug, Clone, clap::Args)]
pub struct Named {
    /// The operator's name
    #[arg(long = "by", alias = "as", value_name = "NAME")]
    by: String,
    /// Why, for the journal
    #[arg(long = "why", alias = "reason", value_name = "TEXT")]
    why: String,
}

impl Named {
    fn signed(&self, context: &Context) -> Result<(String, Signed), Failure> {
        let by = self.by.trim().to_owned();
        if by.is_empty() {
            return Err(Failure::new(Code::Usage, "--by is empty: say who, by name"));
        }
        let signed = context.signed(&Why { reason: self.why.clone(), by: Some(by.clone()) })?;
        Ok((by, signed))
    }
}

impl From<NotApproved> for Failure {
    fn from(why: NotApproved) -> Self {
        let code = if why == NotApproved::NotAHash { Code::Usage } else { Code::Data };
        Self::new(code, why.to_string())
    }
}

impl Wave {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Show { account } => show(context, account).await,
            Self::Approve { hash, account, named } => approve(context, &hash, account, &named).await,
            Self::Reject { account, named } => reject(context, account, &named).await,
        }
    }
}

async fn blown(opened: &Opened, account: Option<&str>) -> Result<Vec<BlownFuse>, Failure> {
    if let Some(name) = account.filter(|name| !opened.loaded.settings.accounts.contains_key(*name)) {
        return Err(Failure::data(format!("there is no account `{name}` in the config")));
    }
    let mut found = opened.database.desk().blown_fuses().await?;
    found.retain(|fuse| account.is_none_or(|name| fuse.account == name));
    Ok(found)
}

/// The one account that is meant.
async fn one(opened: &Opened, account: Option<&str>) -> Result<BlownFuse, Failure> {
    let mut found = blown(opened, account).await?;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => match account {
            Some(name) => Err(NotApproved::Whole(name.to_owned()).into()),
            None => Err(Failure::data("no fuse has blown: nothing waits for an approval")),
        },
        _ => {
            let names: Vec<&str> = found.iter().map(|fuse| fuse.account.as_str()).collect();
            Err(Failure::new(Code::Usage, format!("the fuses of {} have blown: add --account", names.join(" and "))))
        }
    }
}

async fn show(context: &Context, account: Option<String>) -> Result<(), Failure> {
    let opened = context.open().await?;
    let mut waves = Vec::new();
    for fuse in blown(&opened, account.as_deref()).await? {
        waves.push(opened.database.desk().wave(&fuse, opened.now).await?);
    }
    match context.output {
        Output::Json => print_json(&Value::Array(waves.iter().map(|wave| in_json(wave, &opened)).collect())),
        Output::Csv => {
            let rows = waves.iter().flat_map(|wave| rows(wave, &opened, true)).collect();
            Listing { rows, none: "" }.print(Output::Csv)
        }
        Output::Table if waves.is_empty() => say("no fuse has blown: nothing waits for an approval"),
        Output::Table => {
            let texts: Vec<String> = waves.iter().map(|wave| text(wave, &opened)).collect();
            say(&texts.join("\n\n"))
        }
    }
}

fn in_minor(sum: i128) -> Value {
    i64::try_from(sum).map_or_else(|_| sum.to_string().into(), Value::from)
}

fn of(sum: i128, currency: Currency) -> String {
    i64::try_from(sum).map_or_else(|_| format!("{sum} {currency:?}"), |minor| Money::new(minor, currency).to_string())
}

fn in_json(wave: &Due, opened: &Opened) -> Value {
    let sums: Map<String, Value> =
        wave.sums().into_iter().map(|(currency, sum)| (currency.code().to_owned(), in_minor(sum))).collect();
    json!({
        "account": wave.fuse.account,
        "state": wave.fuse.state.name(),
        "why": wave.fuse.why,
        "blown_at": wave.fuse.blown_at,
        "approved_until": wave.fuse.until,
        "approvers": needed(wave, opened),
        "first_by": wave.first_by,
        "hash": wave.hash().to_string(),
        "due_by": wave.due_by,
        "count": wave.charges.len(),
        "sums": sums,
        "charges": rows(wave, opened, false).iter().map(|row| object(row)).collect::<Vec<_>>(),
    })
}

/// Operators that have to approve: as many as the config says, and no fewer than when the fuse blew.
fn needed(wave: &Due, opened: &Opened) -> i64 {
    let account = opened.loaded.settings.accounts.get(&wave.fuse.account);
    account.map_or(1, |account| i64::from(account.fuse.approvers)).max(wave.fuse.approvers)
}

fn rows(wave: &Due, opened: &Opened, alone: bool) -> Vec<Vec<Field>> {
    let zone = opened.zone(&wave.fuse.account);
    let hash = wave.hash().to_string();
    let row = |(number, one): (usize, &crate::store::desk::WaveCharge)| {
        let mut row = vec![
            field("number", number as u64 + 1),
            field("charge", one.charge),
            field("external_ref", one.external_ref.as_str()),
            field("period_start", one.period_start.to_string()),
            at("due_at", Some(one.due_at), &zone),
            money("amount", one.amount.minor(), one.amount.currency().code()),
            field("currency", one.amount.currency().code()).hidden(),
            field("merchant_uid", one.merchant_uid.as_str()),
        ];
        if alone {
            row.push(field("account", wave.fuse.account.as_str()));
            row.push(field("hash", hash.as_str()));
        }
        row
    };
    wave.charges.iter().enumerate().map(row).collect()
}

fn text(wave: &Due, opened: &Opened) -> String {
    let (fuse, zone) = (&wave.fuse, opened.zone(&wave.fuse.account));
    let when = fuse.blown_at.map_or_else(String::new, |at| format!(" at {}", local(at, &zone)));
    let mut lines = vec![match fuse.state {
        FuseState::Blown => format!("account {}: the fuse has blown{when}: {}", fuse.account, fuse.why),
        FuseState::Rejected => format!("account {}: {}", fuse.account, fuse.why),
        FuseState::Approved => {
            let until = fuse.until.map_or_else(String::new, |until| format!(" until {}", local(until, &zone)));
            format!("account {}: exactly the charges of an approved wave are sent{until}, and nothing else", fuse.account)
        }
    }];
    let count = grouped(wave.charges.len() as u64);
    let by = local(wave.due_by, &zone);
    if wave.charges.is_empty() {
        lines.push(format!("Nothing that can be sent was due by {by}."));
    } else {
        let sums: Vec<String> = wave.sums().into_iter().map(|(currency, sum)| of(sum, currency)).collect();
        let largest: Vec<String> = wave.largest().iter().map(|one| format!("{} ({})", one.amount, one.external_ref)).collect();
        lines.push(format!(
            "Due by {by}: {count} charges, {} together, the largest {}",
            sums.join(" and "),
            largest.join(" and ")
        ));
        lines.push(String::new());
        lines.push(Listing { rows: rows(wave, opened, false), none: "" }.lines());
        lines.push(String::new());
    }
    if fuse.state == FuseState::Approved {
        return lines.join("\n");
    }
    let two = needed(wave, opened) > 1;
    match (&wave.first_by, two) {
        (Some(first), true) => lines.push(format!("{first} has approved exactly this; one more operator has to.")),
        (None, true) => lines.push("Two operators have to approve it.".to_owned()),
        _ => {}
    }
    let what =
        if wave.charges.is_empty() { "To let the account send again:" } else { "To send exactly these, and nothing else:" };
    lines.push(format!("{what} rebilld wave approve {} --account {} --by NAME --why TEXT", wave.hash(), fuse.account));
    lines.push(format!("To keep the account stopped: rebilld wave reject --account {} --by NAME --why TEXT", fuse.account));
    lines.join("\n")
}

async fn approve(context: &Context, hash: &str, account: Option<String>, named: &Named) -> Result<(), Failure> {
    let (by, signed) = named.signed(context)?;
    let hash: WaveHash = hash.parse()?;
    let opened = context.open().await?;
    let fuse = one(&opened, account.as_deref()).await?;
    let name = fuse.account.as_str();
    let config = opened.loaded.settings.accounts.get(name).map(|account| &account.fuse);
    let (approvers, lasts) = config.map_or((1, SignedDuration::from_hours(24)), |config| (config.approvers, config.approval));
    let done = opened.database.desk().approve_wave(opened.now, name, &hash, (approvers, lasts), &by, &signed).await??;
    let zone = opened.zone(name);
    let (state, until, told) = match &done {
        Approved::Mended => ("whole", None, format!("nothing was due: account {name} sends again, and its fuse counts anew")),
        Approved::First { wave } => (
            "asked",
            None,
            format!(
                "approved by {by}: one more operator has to approve {} before {} charges of account {name} are sent",
                wave.hash(),
                grouped(wave.charges.len() as u64)
            ),
        ),
        Approved::Released { wave, until } => (
            "approved",
            Some(*until),
            format!(
                "exactly these {} charges of account {name} are sent, until {}. What else is due waits until they are through; then the fuse is whole again and counts anew",
                grouped(wave.charges.len() as u64),
                local(*until, &zone)
            ),
        ),
    };
    tell(context, &json!({ "account": name, "state": state, "until": until, "done": told }), &told)
}

async fn reject(context: &Context, account: Option<String>, named: &Named) -> Result<(), Failure> {
    let (by, signed) = named.signed(context)?;
    let opened = context.open().await?;
    let fuse = one(&opened, account.as_deref()).await?;
    let name = fuse.account.as_str();
    opened.database.desk().reject_wave(opened.now, name, &by, &signed).await??;
    let told = format!(
        "account {name} stays stopped: look-ups go on, nothing is sent. Put right what is wrong (`rebilld subscriptions set|pause|cancel`, `rebilld review rule CHARGE void`), then `rebilld wave show --account {name}` and approve what is left"
    );
    tell(context, &json!({ "account": name, "state": "rejected", "done": told }), &told)
}

fn tell(context: &Context, json: &Value, text: &str) -> Result<(), Failure> {
    match context.output {
        Output::Json => print_json(json),
        _ if context.quiet => Ok(()),
        _ => say(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_back_and_nothing_else_is_one() {
        let text = "abcdefghijklmnopqrst-1796086800";
        assert_eq!(text.parse::<WaveHash>().unwrap().to_string(), text);
        for wrong in ["", "abc", "abcdefghijklmnopqrst", "abcdefghijklmnopqrst-", "abcdefghijklmnopqrst-x", "short-1796086800"] {
            assert_eq!(wrong.parse::<WaveHash>(), Err(NotApproved::NotAHash), "{wrong}");
        }
    }
}
