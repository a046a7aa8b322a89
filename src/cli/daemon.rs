//! Commands that need the engine: `run`, `reconcile`, `audit`.

use serde_json::json;

use super::context::Context;
use super::dry_run::DryRun;
use super::failure::Failure;
use super::logging;
use super::output::{Listing, Output, field, print_json, say};
use super::shadow::Shadow;
use crate::app;

#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    dry: DryRun,
    #[command(flatten)]
    shadow: Shadow,
}

impl Run {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        if self.dry.dry_run {
            return self.dry.run(context).await;
        }
        if self.shadow.once() {
            return self.shadow.run(context).await;
        }
        let loaded = context.load()?;
        loaded.runnable()?;
        logging::start(&loaded.settings.log)?;
        for note in &loaded.notes {
            tracing::warn!("{note}");
        }
        if self.shadow.shadow {
            return Ok(app::shadow::run_shadow(loaded).await?);
        }
        Ok(app::run(loaded, context.sources.clone()).await?)
    }
}

#[derive(Debug, clap::Args)]
pub struct Reconcile {
    /// One account instead of all
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
}

impl Reconcile {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = context.load()?;
        let (looked_up, resolved) = app::reconcile(&loaded, self.account.as_deref()).await?;
        match context.output {
            Output::Json => print_json(&json!({ "looked_up": looked_up, "resolved": resolved })),
            _ => say(&format!("{looked_up} charges looked up, {resolved} out of doubt")),
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Audit {
    /// One account instead of all
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// How far back
    #[arg(long, default_value_t = 35, value_parser = clap::value_parser!(u32).range(1..=90))]
    days: u32,
}

impl Audit {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let loaded = context.load()?;
        let audited = app::audit(&loaded, self.account.as_deref(), self.days).await?;
        let clean = audited.iter().all(|audit| audit.clean);
        let rows = audited.into_iter().map(|audit| {
            let word = if audit.clean { "both ledgers agree" } else { "the ledgers differ" };
            vec![field("account", audit.account), field("clean", audit.clean).shown(word), field("summary", audit.summary)]
        });
        Listing { rows: rows.collect(), none: "no account is configured" }.print(context.output)?;
        if clean {
            Ok(())
        } else {
            Err(Failure::data("the ledgers differ: see `rebilld review list` and `rebilld incidents list`"))
        }
    }
}
