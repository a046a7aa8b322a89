//! F4: the command line.
//!
//! Every command is a module; what they share is [`context`] (settings, database, who is asking), [`output`] (tables, JSON,
//! CSV) and [`failure`] (one sentence and an exit code).

mod alarms;
mod arm;
mod backup;
mod brakes;
mod calendar;
mod catch_up;
mod charges;
mod config;
mod context;
mod daemon;
mod declines;
mod demo;
mod doctor;
#[cfg(test)]
mod documented;
mod dry_run;
mod events;
mod explain;
mod failure;
mod forecast;
mod generate;
mod healthcheck;
mod imports;
mod incidents;
mod init;
mod journal;
mod logging;
mod metrics;
mod migrate;
mod output;
mod plans;
mod progress;
mod review;
mod sandbox;
mod shadow;
mod simulate;
mod subscriptions;
mod takeover;
mod wave;
mod webhooks;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};

use crate::config::{Environment, Sources};
use context::Context;
use failure::{Code, Failure};
use output::Output;
pub use subscriptions::check_sheet;

/// The release, and the commit that it was built from, if whoever built it said so, or git did (`build.rs`).
fn release() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| match option_env!("REBILLD_COMMIT") {
        Some(commit) => format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    });
    &TEXT
}

/// Charges subscriptions through PortOne: on time, once, and never in doubt for long.
#[derive(Debug, Parser)]
#[command(name = "rebilld", version = release(), propagate_version = true, after_help = AFTER_HELP)]
struct Cli {
    /// Reads this config file; given several times, later ones win [default: ./rebilld.toml, else /etc/rebilld/rebilld.toml]
    #[arg(long, value_name = "FILE", global = true)]
    config: Vec<PathBuf>,
    /// Uses this database instead of the config's: sqlite:PATH or postgres://USER@HOST/DATABASE
    #[arg(long, value_name = "URL", global = true)]
    database: Option<String>,
    /// How results are printed
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, global = true)]
    output: Output,
    /// Prints results and errors only: no progress, no notes
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Exit codes: 0 done, 64 wrong usage, 65 wrong data, 69 database or gateway unreachable, 70 internal error, \
    75 try again later, 78 wrong config.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the daemon
    Run(daemon::Run),
    /// Runs six simulated months against a sandbox gateway, and proves that nothing was charged twice
    Demo(demo::Demo),
    /// Runs a gateway on this machine that answers as PortOne does and charges nobody
    Sandbox(sandbox::Sandbox),
    /// Writes the files to start from: a config with every key explained, and what systemd or Kubernetes need
    Init(init::Init),
    /// Looks at everything that the daemon leans on, and says how to right what is wrong
    Doctor(doctor::Doctor),
    /// Asks the running daemon of this config whether it is well: exit code 0, or 69
    Healthcheck(healthcheck::Healthcheck),
    /// What the daemon tells at /metrics
    #[command(subcommand)]
    Metrics(metrics::Metrics),
    /// Brings the database up to date
    Migrate(migrate::Migrate),
    /// Lists when periods start and fall due: month ends, billing days, cron, zones, trials, banking days
    Calendar(calendar::Calendar),
    /// Checks, shows and explains the config
    #[command(subcommand)]
    Config(config::Config),
    /// Lists plans, those of the config and those of the database
    #[command(subcommand)]
    Plans(plans::Plans),
    /// Imports, lists and changes subscriptions
    #[command(subcommand)]
    Subscriptions(subscriptions::Subscriptions),
    /// Imported rows that look wrong, and wait for you
    #[command(subcommand)]
    Imports(imports::Imports),
    /// Periods that were missed, such as during downtime, and that wait for you
    #[command(subcommand)]
    CatchUp(catch_up::CatchUp),
    /// Lists charges and tells their stories
    #[command(subcommand)]
    Charges(charges::Charges),
    /// Why a subscription was charged, was not, and what happens next, rule by rule
    Explain(explain::Explain),
    /// Expected charges and sums, from the code that charges
    Forecast(forecast::ForecastCommand),
    /// Runs a copy of your book over months of simulated time, against the sandbox: nothing is charged
    Simulate(simulate::Simulate),
    /// How refusals of cards are read, and what follows from them
    #[command(subcommand)]
    Declines(declines::Declines),
    /// Charges that need a person
    #[command(subcommand)]
    Review(review::Review),
    /// Holds: look-ups only, nothing is sent
    #[command(subcommand)]
    Hold(brakes::Hold),
    /// The kill switch: within a second nothing is sent any more
    #[command(subcommand)]
    Kill(brakes::Kill),
    /// What is due of an account whose fuse has blown: shows it, releases exactly that, or keeps it stopped
    #[command(subcommand)]
    Wave(wave::Wave),
    /// Lets a live account charge from this database: asked once, by name
    Arm(arm::Arm),
    /// Billing keys that PortOne's own schedule is going to charge: not charged from here until that is taken away
    #[command(subcommand)]
    Takeover(takeover::Takeover),
    /// Looks up what is in doubt, now
    Reconcile(daemon::Reconcile),
    /// Compares the database with the gateway's list of payments
    Audit(daemon::Audit),
    /// What must not happen and did: payments that nobody asked for, that are doubled or gone
    #[command(subcommand)]
    Incidents(incidents::Incidents),
    /// What a person has to hear of at once: tries the channels, lists what lasts
    #[command(subcommand)]
    Alarms(alarms::Alarms),
    /// Events and their delivery to webhooks
    #[command(subcommand)]
    Events(events::Events),
    /// Where PortOne's webhooks come in: they hasten look-ups, and are never believed
    #[command(subcommand)]
    Webhooks(webhooks::Webhooks),
    /// What operators changed
    #[command(subcommand)]
    Journal(journal::Journal),
    /// Copies a SQLite database while the daemon works
    Backup(backup::Backup),
    /// Writes what packages bring along
    #[command(subcommand, hide = true)]
    Generate(generate::Generate),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // both TLS users share one provider, and reqwest panics without one
    let _ = rustls::crypto::ring::default_provider().install_default();
    run(std::env::args_os(), Environment::of_process())
}

fn run(arguments: impl IntoIterator<Item = OsString>, environment: Environment) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // help and version are asked for; a reader that has gone away is no failure
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(Code::Usage as u8) } else { ExitCode::SUCCESS };
        }
    };
    let options = cli.database.map(|url| ("database.url", url, "--database")).into_iter().collect();
    let sources = Sources { files: cli.config, environment, options };
    let context = Context { sources, output: cli.output, quiet: cli.quiet, signs: AtomicBool::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let done = dispatch(cli.command, &context).await;
            context.remember(&done).await;
            done
        }),
        Err(error) => Err(Failure::new(Code::Internal, format!("the runtime cannot be started: {error}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                eprintln!("rebilld: {failure}");
            }
            ExitCode::from(failure.code as u8)
        }
    }
}

async fn dispatch(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Run(command) => command.run(context).await,
        Command::Demo(command) => command.run(context).await,
        Command::Sandbox(command) => command.run(context).await,
        Command::Init(command) => command.run(context),
        Command::Doctor(command) => command.run(context).await,
        Command::Healthcheck(command) => command.run(context).await,
        Command::Metrics(command) => command.run(context),
        Command::Migrate(command) => command.run(context).await,
        Command::Calendar(command) => command.run(context),
        Command::Config(command) => command.run(context).await,
        Command::Plans(command) => command.run(context).await,
        Command::Subscriptions(command) => command.run(context).await,
        Command::Imports(command) => command.run(context).await,
        Command::CatchUp(command) => command.run(context).await,
        Command::Charges(command) => command.run(context).await,
        Command::Explain(command) => command.run(context).await,
        Command::Forecast(command) => command.run(context).await,
        Command::Simulate(command) => command.run(context).await,
        Command::Declines(command) => command.run(context),
        Command::Review(command) => command.run(context).await,
        Command::Hold(command) => command.run(context).await,
        Command::Kill(command) => command.run(context).await,
        Command::Wave(command) => command.run(context).await,
        Command::Arm(command) => command.run(context).await,
        Command::Takeover(command) => command.run(context).await,
        Command::Reconcile(command) => command.run(context).await,
        Command::Audit(command) => command.run(context).await,
        Command::Incidents(command) => command.run(context).await,
        Command::Alarms(command) => command.run(context).await,
        Command::Events(command) => command.run(context).await,
        Command::Webhooks(command) => command.run(context).await,
        Command::Journal(command) => command.run(context).await,
        Command::Backup(command) => command.run(context).await,
        Command::Generate(command) => command.run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
