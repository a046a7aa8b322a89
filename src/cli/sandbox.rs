//! `rebilld sandbox`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::context::Context;
use super::failure::{Code, Failure};
use super::output::{Output, say};
use crate::gateway::sandbox::{FaultPlan, Rates, SandboxAccount, SandboxOptions, serve};
use crate::time::SystemClock;

/// Faults are drawn from a seed, and are the same for the same seed.
#[derive(Debug, clap::Args)]
pub struct Sandbox {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8765", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Keeps the ledger in this file, over restarts
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// The test key that may ask for a token
    #[arg(long, default_value = "sandbox-key")]
    key: String,
    /// Its secret
    #[arg(long, default_value = "sandbox-secret")]
    secret: String,
    /// `Tier` headers that the key may use
    #[arg(long, value_name = "TIER")]
    tier: Vec<String>,
    /// Sends a webhook, as PortOne does, to the URL in this file for each payment; `rebilld webhooks url` prints one
    #[arg(long, value_name = "FILE")]
    webhook_file: Option<PathBuf>,
    /// Seed of the faults; any fault switch without it means seed 1
    #[arg(long, value_name = "NUMBER")]
    fault_seed: Option<u64>,
    /// A day on which everything goes wrong now and then
    #[arg(long)]
    bad_day: bool,
    /// Requests in a million that are dropped unprocessed
    #[arg(long, value_name = "PER_MILLION", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    drop_request: Option<u32>,
    /// Requests in a million that are processed, and whose answer is dropped
    #[arg(long, value_name = "PER_MILLION", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    drop_response: Option<u32>,
    /// Answers in a million that make no sense
    #[arg(long, value_name = "PER_MILLION", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    malformed: Option<u32>,
    /// Answers in a million that are late
    #[arg(long, value_name = "PER_MILLION", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    late: Option<u32>,
    /// Payments in a million that look-ups do not show at first
    #[arg(long, value_name = "PER_MILLION", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    invisible: Option<u32>,
}

impl Sandbox {
    fn faults(&self) -> FaultPlan {
        let mut rates = if self.bad_day { Rates::bad_day() } else { Rates::default() };
        let switches = [
            (&mut rates.drop_request, self.drop_request),
            (&mut rates.drop_response, self.drop_response),
            (&mut rates.malformed, self.malformed),
            (&mut rates.late, self.late),
            (&mut rates.invisible, self.invisible),
        ];
        let mut any = self.bad_day || self.fault_seed.is_some();
        for (rate, given) in switches {
            if let Some(given) = given {
                *rate = given;
                any = true;
            }
        }
        if rates.max_seconds == 0 {
            // how late at most
            rates.max_seconds = Rates::bad_day().max_seconds;
        }
        if any { FaultPlan::seeded(self.fault_seed.unwrap_or(1), rates) } else { FaultPlan::none() }
    }

    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        if !self.listen.ip().is_loopback() && !context.quiet {
            eprintln!("note: {} can be reached from other machines, and anybody may read the ledger", self.listen);
        }
        let mut options = SandboxOptions::new(Arc::new(SystemClock::new()));
        options.faults = self.faults();
        options.bind = self.listen;
        options.ledger_file = self.ledger;
        options.webhook_file = self.webhook_file;
        let account = SandboxAccount::new(self.key, self.secret);
        options.accounts = vec![self.tier.into_iter().fold(account, SandboxAccount::tier)];
        let unreachable = |error: std::io::Error| Failure::new(Code::Unavailable, format!("the sandbox cannot start: {error}"));
        let mut term = signal(SignalKind::terminate()).map_err(unreachable)?;
        let stop = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        let output = context.output;
        let started = move |address: SocketAddr| {
            // whoever starts it reads the port here; if nobody reads, it runs all the same
            let _ = match output {
                Output::Json => say(&serde_json::json!({ "url": format!("http://{address}") }).to_string()),
                _ => say(&format!(
                    "sandbox gateway on http://{address} (ledger: http://{address}/_sandbox/ledger); Ctrl-C stops it"
                )),
            };
        };
        serve(options, started, stop).await.map_err(unreachable)
    }
}
