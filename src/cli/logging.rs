//! Logs: on standard error, text for people at a terminal, JSON for collectors.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::failure::{Code, Failure};
use crate::config::{Log, LogFormat};

/// Sets up the process's logs, once.
pub fn start(log: &Log) -> Result<(), Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::new(Code::Config, format!("`log.level`: {error}"));
    // libraries chat about their own start-up; whoever writes directives decides for himself
    let level = match log.level.contains([',', '=']) {
        true => log.level.clone(),
        false => format!("{},tokio_cron_scheduler=warn,sqlx=warn", log.level),
    };
    let filter = EnvFilter::builder().parse(&level).map_err(|error| wrong(&error))?;
    let terminal = std::io::stderr().is_terminal();
    let text = match log.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = if text {
        subscriber.with_ansi(terminal && super::output::colours()).with_target(false).try_init()
    } else {
        // one object a line, fields at its top: what collectors expect
        subscriber.json().flatten_event(true).with_current_span(false).try_init()
    };
    set.map_err(|error| Failure::new(Code::Internal, format!("logs cannot be set up: {error}")))
}
