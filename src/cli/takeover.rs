//! `rebilld takeover`: from PortOne's own schedule to this one.

use clap::Subcommand;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use serde_json::json;

use super::charges::words;
use super::context::{Context, Why, zone_of};
use super::failure::{Code, Failure};
use super::output::{Field, Listing, Output, at, field, grouped, object, print_json, say};
use super::progress::Progress;
use crate::app::takeover::{self, Released};
use crate::config::Loaded;
use crate::store::desk::{BookedKey, WaitingCharge};

#[derive(Debug, Subcommand)]
pub enum Takeover {
    /// Asks PortOne for the bookings of every billing key of the book, and keeps which keys have some: those are not charged from here
    Check {
        /// One account instead of all
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[command(flatten)]
        ahead: Ahead,
    },
    /// Takes all bookings of the keys that the last check found out of PortOne's schedule; without --confirm or --yes it only shows them
    Unschedule {
        /// One account instead of all
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        /// One billing key instead of all; may be given several times
        #[arg(long = "customer-uid", value_name = "UID")]
        customer_uids: Vec<String>,
        /// Takes away exactly what was shown under this hash
        #[arg(long, value_name = "HASH", conflicts_with = "yes")]
        confirm: Option<String>,
        /// Takes away whatever the last check found
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        ahead: Ahead,
        #[command(flatten)]
        why: Why,
    },
    /// Charges a key from here again that PortOne may have charged, once you have looked at the gateway; nothing waits for it, or --send
    Release {
        /// The billing key
        #[arg(value_name = "CUSTOMER_UID")]
        customer_uid: String,
        /// In which account, if there are several
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        /// What waits for the key may be sent: PortOne charged none of it
        #[arg(long)]
        send: bool,
        #[command(flatten)]
        ahead: Ahead,
        #[command(flatten)]
        why: Why,
    },
}

#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Ahead {
    /// How many days into the future bookings are looked for
    #[arg(long = "days", value_name = "DAYS", default_value_t = 400, value_parser = clap::value_parser!(u16).range(1..=3660))]
    days: u16,
}

impl Ahead {
    fn span(self) -> SignedDuration {
        SignedDuration::from_hours(i64::from(self.days) * 24)
    }
}

impl Takeover {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Check { account, ahead } => check(context, account.as_deref(), ahead).await,
            Self::Unschedule { account, customer_uids, confirm, yes, ahead, why } => {
                let asked = Asked { account, customer_uids, confirm, yes };
                unschedule(context, asked, ahead, &why).await
            }
            Self::Release { customer_uid, account, send, ahead, why } => {
                release(context, (account.as_deref(), &customer_uid), ahead, send, &why).await
            }
        }
    }
}

async fn check(context: &Context, account: Option<&str>, ahead: Ahead) -> Result<(), Failure> {
    let loaded = context.load()?;
    let progress = Progress::start(context, "asking for bookings");
    let checked = takeover::check(&loaded, account, ahead.span(), |done, of| progress.at(done, of)).await?;
    drop(progress);
    let json = context.output == Output::Json;
    let keys: u64 = checked.iter().map(|checked| checked.keys).sum();
    let booked: usize = checked.iter().map(|checked| checked.booked.len()).sum();
    let failed: Vec<(&str, &(String, String))> =
        checked.iter().flat_map(|of| of.failed.iter().map(|failed| (of.account.as_str(), failed))).collect();
    let passed: Vec<(&str, &BookedKey)> =
        checked.iter().flat_map(|of| of.passed.iter().map(|key| (of.account.as_str(), key))).collect();
    let rows = || -> Vec<Vec<Field>> {
        let listed = checked
            .iter()
            .map(|of| (&of.account, if json { of.booked.iter().chain(&[]) } else { of.booked.iter().chain(&of.passed) }));
        let rows = listed.flat_map(|(account, keys)| keys.map(|key| row(&loaded, account, key)));
        rows.collect()
    };
    match context.output {
        Output::Json => {
            let failed: Vec<_> = failed
                .iter()
                .map(|(account, (key, why))| json!({ "account": account, "customer_uid": key, "why": why }))
                .collect();
            let booked: Vec<_> = rows().iter().map(|row| object(row)).collect();
            let passed: Vec<_> = passed.iter().map(|(account, key)| object(&row(&loaded, account, key))).collect();
            print_json(&json!({ "keys": keys, "booked": booked, "passed": passed, "failed": failed }))?;
        }
        Output::Csv => Listing { rows: rows(), none: "" }.print(Output::Csv)?,
        Output::Table => {
            if booked + passed.len() > 0 {
                Listing { rows: rows(), none: "" }.print(Output::Table)?;
            }
            if !context.quiet {
                say(&format!(
                    "{} billing keys asked for: {} have bookings in PortOne's own schedule",
                    grouped(keys),
                    grouped(booked as u64)
                ))?;
            }
        }
    }
    if let Some((account, (key, why))) = failed.first() {
        let count = failed.len();
        let text = format!(
            "{count} billing keys could not be asked for, such as {key} of account {account}: {why}; what was known of them stays"
        );
        return Err(Failure::new(Code::Unavailable, text));
    }
    if let Some((account, key)) = passed.first() {
        let (count, told) = (passed.len(), words::may_be_charged(key, &zone_of(&loaded, account)));
        return Err(Failure::data(format!(
            "{count} billing keys have no booking any more whose time had come: they stay uncharged from here, such as {} of account \
             {account}. {told}",
            key.customer_uid
        )));
    }
    match booked {
        0 => Ok(()),
        _ => Err(Failure::data("they are not charged from here until their bookings are gone: `rebilld takeover unschedule`")),
    }
}

struct Asked {
    account: Option<String>,
    customer_uids: Vec<String>,
    confirm: Option<String>,
    yes: bool,
}

async fn unschedule(context: &Context, asked: Asked, ahead: Ahead, why: &Why) -> Result<(), Failure> {
    let signed = context.signed(why)?;
    let loaded = context.load()?;
    let mut keys = takeover::known(&loaded, asked.account.as_deref()).await?;
    if let Some(unknown) = asked.customer_uids.iter().find(|uid| !keys.iter().any(|(_, key)| key.customer_uid == **uid)) {
        return Err(Failure::data(format!(
            "the last check found no bookings of `{unknown}`: `rebilld takeover check` asks again"
        )));
    }
    keys.retain(|(_, key)| asked.customer_uids.is_empty() || asked.customer_uids.contains(&key.customer_uid));
    if keys.is_empty() {
        return match context.output {
            Output::Json => print_json(&json!({ "unscheduled": [] })),
            _ => say("no billing key is known to have bookings: `rebilld takeover check` asks"),
        };
    }
    let hash = takeover::hash(&keys);
    if let Some(confirmed) = asked.confirm.as_ref().filter(|confirmed| **confirmed != hash) {
        return Err(Failure::data(format!(
            "what is known has changed since {confirmed} was shown: look again, it is {hash} now"
        )));
    }
    if asked.confirm.is_none() && !asked.yes {
        let rows: Vec<Vec<Field>> = keys.iter().map(|(account, key)| row(&loaded, account, key)).collect();
        if context.output == Output::Json {
            let rows: Vec<_> = rows.iter().map(|row| object(row)).collect();
            print_json(&json!({ "would_unschedule": rows, "confirm": hash }))?;
        } else {
            Listing { rows, none: "" }.print(context.output)?;
        }
        let text = format!(
            "nothing is taken away yet: once more with --confirm {hash} takes away all bookings of these {} keys",
            keys.len()
        );
        return Err(Failure::new(Code::TryLater, text));
    }
    let progress = Progress::start(context, "unscheduling");
    let done = takeover::unschedule(&loaded, &keys, ahead.span(), &signed, |done, of| progress.at(done, of)).await?;
    drop(progress);
    let zone = |account: &str| zone_of(&loaded, account);
    let mut done = done;
    for one in &mut done {
        one.problem = one.problem.take().or(one.passed.as_ref().map(|key| words::may_be_charged(key, &zone(&one.account))));
    }
    let problems = done.iter().filter(|one| one.problem.is_some()).count();
    let rows = done.iter().map(|one| {
        vec![
            field("account", one.account.as_str()),
            field("customer_uid", one.customer_uid.as_str()),
            field("revoked", one.revoked),
            field("problem", one.problem.clone()).shown(one.problem.clone().unwrap_or_else(|| "gone".to_owned())),
        ]
    });
    let rows: Vec<Vec<Field>> = rows.collect();
    if context.output == Output::Json {
        print_json(&json!({ "unscheduled": rows.iter().map(|row| object(row)).collect::<Vec<_>>() }))?;
    } else {
        Listing { rows, none: "" }.print(context.output)?;
    }
    match problems {
        0 => Ok(()),
        _ => Err(Failure::new(
            Code::Unavailable,
            format!("{problems} keys are still booked, or may have been charged by PortOne: not charged from here"),
        )),
    }
}

async fn release(
    context: &Context,
    (account, uid): (Option<&str>, &str),
    ahead: Ahead,
    send: bool,
    why: &Why,
) -> Result<(), Failure> {
    let signed = context.signed(why)?;
    let loaded = context.load()?;
    let mut known = takeover::known(&loaded, account).await?;
    known.retain(|(_, key)| key.customer_uid == uid);
    let unknown =
        || Failure::data(format!("`{uid}` is not known to be booked, or was checked meanwhile: `rebilld takeover check`"));
    let account = match &known[..] {
        [] => return Err(unknown()),
        [(account, _)] => account.clone(),
        _ => return Err(Failure::data(format!("`{uid}` is a key of several accounts: say which with --account"))),
    };
    let zone = zone_of(&loaded, &account);
    let list = |waits: &[WaitingCharge]| -> Vec<Vec<Field>> {
        let rows = waits.iter().map(|one| {
            vec![
                field("ref", one.external_ref.as_str()),
                field("period_start", one.period_start.to_string()),
                at("due_at", Some(one.due_at), &zone),
                field("amount", one.amount.to_string()),
            ]
        });
        rows.collect()
    };
    match takeover::release(&loaded, (&account, uid), ahead.span(), send, &signed).await? {
        Released::Unknown => Err(unknown()),
        Released::StillBooked(key) => Err(Failure::data(format!(
            "{} bookings of `{uid}` are still to come: first `rebilld takeover unschedule --customer-uid {uid} --reason …`",
            key.bookings
        ))),
        Released::WouldSend(waits) => {
            let rows = list(&waits);
            match context.output {
                Output::Json => print_json(&json!({ "would_send": rows.iter().map(|row| object(row)).collect::<Vec<_>>() }))?,
                output => Listing { rows, none: "" }.print(output)?,
            }
            let text = "nothing is released yet: what PortOne has charged is closed with `rebilld review rule REF:PERIOD_START void --reason …`; \
                        then once more with --send, which sends the others";
            Err(Failure::new(Code::TryLater, text))
        }
        Released::Free(waits) => {
            let rows = list(&waits);
            match context.output {
                Output::Json => {
                    print_json(&json!({ "released": uid, "sends": rows.iter().map(|row| object(row)).collect::<Vec<_>>() }))
                }
                Output::Csv => Listing { rows, none: "" }.print(Output::Csv),
                Output::Table => {
                    let (count, s) = (waits.len(), if waits.len() == 1 { "" } else { "s" });
                    say(&format!("`{uid}` is charged from here again; {count} charge{s} waited for it"))
                }
            }
        }
    }
}

fn row(loaded: &Loaded, account: &str, key: &BookedKey) -> Vec<Field> {
    let zone: TimeZone = zone_of(loaded, account);
    vec![
        field("account", account),
        field("customer_uid", key.customer_uid.as_str()),
        field("bookings", key.bookings),
        at("first_at", key.first_at, &zone),
        at("checked_at", Some(key.checked_at), &zone),
    ]
}
