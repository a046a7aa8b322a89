//! `rebilld run --dry-run`: one line for each charge that is due, and what would become of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::context::{Context, zone_of};
use super::failure::Failure;
use super::output::{Field, Listing, Output, amount, at, field, grouped, local, money, object, say};
use crate::app;
use crate::config::Loaded;
use crate::engine::rehearse::{Fate, Rehearsed};

#[derive(Debug, clap::Args)]
pub struct DryRun {
    /// Goes through every step up to the commit, shows what would be sent, and ends: nothing is sent, and nothing is kept
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: what would be due at this instant, such as 2027-01-01T01:00:00Z
    #[arg(long, value_name = "INSTANT", requires = "dry_run")]
    at: Option<Timestamp>,
    /// With --dry-run: so many charges at most
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "dry_run", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// How many, and how much by currency.
#[derive(Debug, Default)]
struct Tally {
    count: u64,
    sums: BTreeMap<String, i64>,
}

impl Tally {
    fn add(&mut self, charge: &Rehearsed) {
        self.count += 1;
        let sum = self.sums.entry(charge.amount.currency().code().to_owned()).or_default();
        *sum = sum.saturating_add(charge.amount.minor());
    }

    fn json(&self) -> Value {
        json!({ "charges": self.count, "sums": self.sums })
    }

    fn shown(&self) -> String {
        let sums: Vec<String> = self.sums.iter().map(|(currency, sum)| amount(*sum, currency)).collect();
        let s = if self.count == 1 { "" } else { "s" };
        format!("{} charge{s}, {}", grouped(self.count), sums.join(" and "))
    }
}

impl DryRun {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = context.load()?;
        let done = app::dry_run(&loaded, self.at, self.limit as usize).await?;
        let mut sent: BTreeMap<String, Tally> = BTreeMap::new();
        let mut others: BTreeMap<String, Tally> = BTreeMap::new();
        for charge in &done.wave.charges {
            match &charge.fate {
                Fate::Sent => sent.entry(charge.account.clone()).or_default().add(charge),
                Fate::Waits(what, _) => others.entry(format!("waits for {what}")).or_default().add(charge),
                Fate::Not(why) => others.entry(why.clone()).or_default().add(charge),
            }
        }
        if context.output == Output::Json {
            for charge in &done.wave.charges {
                say(&object(&fields(&loaded, charge)).to_string())?;
            }
            let tallies = |tallies: &BTreeMap<String, Tally>| -> Value {
                tallies.iter().map(|(name, tally)| (name.clone(), tally.json())).collect::<serde_json::Map<_, _>>().into()
            };
            let problems: Vec<Value> =
                done.wave.problems.iter().map(|(of, problem)| json!({ "external_ref": of, "problem": problem })).collect();
            return say(&json!({ "summary": {
                "at": done.at, "would_be_sent": tallies(&sent), "not_sent": tallies(&others), "problems": problems,
                "braked": done.braked, "moved": done.moved, "more": done.wave.more,
            }})
            .to_string());
        }
        let rows: Vec<Vec<Field>> = done.wave.charges.iter().map(|charge| fields(&loaded, charge)).collect();
        if context.output == Output::Csv {
            return Listing { rows, none: "" }.print(Output::Csv);
        }
        Listing { rows, none: "no charge is due" }.print(Output::Table)?;
        if context.quiet {
            return Ok(());
        }
        say("")?;
        for (account, tally) in &sent {
            say(&format!("account {account} would send {}", tally.shown()))?;
        }
        for (why, tally) in &others {
            say(&format!("not sent, {why}: {}", tally.shown()))?;
        }
        for (external_ref, problem) in &done.wave.problems {
            say(&format!("{external_ref} is set aside: {problem}"))?;
        }
        if done.wave.more {
            say(&format!("there is more: only {} charges were looked at (--limit)", grouped(u64::from(self.limit))))?;
        }
        for account in &done.braked {
            say(&format!("account {account} sends nothing at the moment: `rebilld hold status` says why"))?;
        }
        for account in &done.moved {
            say(&format!("account {account} is left out: its imp_key, tier or base_url have changed (`rebilld hold status`)"))?;
        }
        say("nothing was sent and nothing was written (--dry-run)")
    }
}

fn fields(loaded: &Loaded, charge: &Rehearsed) -> Vec<Field> {
    let zone = zone_of(loaded, &charge.account);
    let (word, until, shown) = match &charge.fate {
        Fate::Sent => ("sent", None, "would be sent".to_owned()),
        Fate::Waits(what, Some(until)) => ("waits", Some(*until), format!("waits for {what} until {}", local(*until, &zone))),
        Fate::Waits(what, None) => ("waits", None, format!("waits for {what}")),
        Fate::Not(why) => ("not_sent", None, why.clone()),
    };
    vec![
        field("account", charge.account.as_str()),
        field("external_ref", charge.external_ref.as_str()),
        field("customer_uid", charge.customer_uid.as_str()),
        money("amount", charge.amount.minor(), charge.amount.currency().code()),
        field("currency", charge.amount.currency().code()).hidden(),
        field("merchant_uid", charge.merchant_uid.as_str()),
        field("period_start", charge.period.start.to_string()),
        field("period_end", charge.period.end.to_string()).hidden(),
        at("due_at", Some(charge.due_at), &zone).hidden(),
        field("plan", charge.plan.as_str()).hidden(),
        field("attempt", i64::from(charge.attempt)).hidden(),
        field("fate", word).shown(shown),
        field(
            "why",
            match &charge.fate {
                Fate::Sent => None,
                Fate::Waits(what, _) => Some((*what).to_owned()),
                Fate::Not(why) => Some(why.clone()),
            },
        )
        .hidden(),
        at("until", until, &zone).hidden(),
    ]
}
