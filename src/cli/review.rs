//! `rebilld review`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::charges::one;
use super::context::{Context, Why};
use super::failure::Failure;
use super::output::{Listing, Output, at, field, local, money, print_json, say};
use crate::app;
use crate::domain::charge::ChargeState;
use crate::domain::decide::{Policy, Ruling};
use crate::store::desk::ChargeFilter;

#[derive(Debug, Subcommand)]
pub enum Review {
    /// Lists charges that need a person, with what led there
    List {
        /// One account instead of all
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Rules on a charge in review; the gateway is looked up first, whatever the ruling
    Rule {
        /// The charge: its id, a merchant_uid, REF:PERIOD_START or REF
        charge: String,
        /// In which account, if several have this reference
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[command(subcommand)]
        ruling: Word,
    },
}

#[derive(Debug, Subcommand)]
pub enum Word {
    /// It was paid by this payment, which the gateway has to show
    Paid {
        imp_uid: String,
        #[command(flatten)]
        why: Why,
    },
    /// It was not paid: only once two look-ups after Q show nothing (R2, R3)
    Unpaid {
        #[command(flatten)]
        why: Why,
    },
    /// Send it again under the same id
    Resend {
        #[command(flatten)]
        why: Why,
    },
    /// Close it without payment
    Void {
        #[command(flatten)]
        why: Why,
    },
}

impl Review {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List { account, limit } => list(context, account, limit).await,
            Self::Rule { charge, account, ruling } => {
                let (ruling, why) = match ruling {
                    Word::Paid { imp_uid, why } => (Ruling::Paid { imp_uid }, why),
                    Word::Unpaid { why } => (Ruling::Unpaid, why),
                    Word::Resend { why } => (Ruling::Resend, why),
                    Word::Void { why } => (Ruling::Void, why),
                };
                rule(context, account.as_deref(), &charge, ruling, &why).await
            }
        }
    }
}

/// Asks the engine for a ruling on the one charge that a reference means.
pub async fn rule(context: &Context, account: Option<&str>, charge: &str, ruling: Ruling, why: &Why) -> Result<(), Failure> {
    let signed = context.signed(why)?;
    let opened = context.open().await?;
    let charge = one(&opened, account, charge).await?;
    let told = app::rule(&opened.loaded, charge.id, ruling, &signed).await?;
    match context.output {
        Output::Json => print_json(&json!({ "charge": charge.id, "result": told })),
        _ if context.quiet => Ok(()),
        _ => say(&told),
    }
}

async fn list(context: &Context, account: Option<String>, limit: u32) -> Result<(), Failure> {
    let opened = context.open().await?;
    let desk = opened.database.desk();
    let filter = ChargeFilter { state: Some(ChargeState::Review), account, limit, ..ChargeFilter::default() };
    let mut rows = Vec::new();
    for charge in desk.charges(&filter).await? {
        let zone = opened.zone(&charge.account);
        let because = desk.last_rule(charge.id).await?;
        // R2 and R3: until then nobody may say "unpaid"
        let quiet = match charge.newest_send_at {
            _ if charge.quiet_twice => "any ruling".to_owned(),
            None => "any ruling".to_owned(),
            Some(sent) => {
                let quiet = opened.loaded.settings.worker.quiet;
                let from = sent.checked_add(quiet).and_then(|at| at.checked_add(Policy::QUIET_GAP)).unwrap_or(sent);
                if from > opened.now {
                    format!("unpaid not before {}", local(from, &zone))
                } else {
                    "after two look-ups".to_owned()
                }
            }
        };
        rows.push(vec![
            field("id", charge.id),
            field("account", charge.account.as_str()),
            field("external_ref", charge.external_ref.as_str()),
            field("period_start", charge.period_start.to_string()),
            money("amount", charge.amount, &charge.currency),
            field("currency", charge.currency.as_str()).hidden(),
            at("since", charge.doubt_since, &zone),
            at("next_look_up_at", charge.next_at, &zone),
            field("because", because.map_or(Value::Null, Value::from)),
            field("rulings", quiet),
        ]);
    }
    Listing { rows, none: "no charge needs a person" }.print(context.output)
}
