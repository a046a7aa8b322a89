//! `rebilld config`.

mod plan;

use clap::{Subcommand, ValueEnum};

use super::context::{Context, open_in_spite};
use super::failure::Failure;
use super::output::{Output, print_json, say};
use crate::app::{doctor, receiver_problems};
use crate::config::{ConfigErrors, reference};

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Names everything that is wrong with the config, with file and line; reads the secrets too
    Check,
    /// Prints the settings in effect and where each comes from, without secrets
    Show {
        /// TOML with comments (the default), or JSON
        #[arg(long, value_enum)]
        format: Option<Format>,
        /// What each running daemon goes by instead, and what it has refused
        #[arg(long)]
        running: bool,
    },
    /// Shows as money what a new config changes, before anything does
    Plan(plan::NewConfig),
    /// Approves a config: running daemons take it as soon as their files hold it
    Apply(plan::Apply),
    /// Prints the reference of all keys in Markdown
    Reference,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Toml,
    Json,
}

impl Config {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Check => check(context).await,
            Self::Plan(new) => new.plan(context).await,
            Self::Apply(apply) => apply.run(context).await,
            Self::Show { running: true, .. } => plan::running(context).await,
            Self::Show { format, .. } => {
                let loaded = context.load()?;
                let json = format == Some(Format::Json) || (format.is_none() && context.output == Output::Json);
                if json { print_json(&loaded.json()) } else { say(loaded.toml().trim_end()) }
            }
            Self::Reference => say(reference().trim_end()),
        }
    }
}

async fn check(context: &Context) -> Result<(), Failure> {
    let loaded = context.load()?;
    let mut problems = Vec::new();
    problems.extend(loaded.runnable().err().map(|errors| errors.0).unwrap_or_default());
    let (secrets, unreadable) = loaded.secrets_in_spite();
    problems.extend(unreadable);
    problems.extend(receiver_problems(&loaded, &secrets, doctor::authorities() > 0));
    // a config can be checked where its database is not, or not yet
    let rows = match open_in_spite(context).await {
        Ok(database) => Some(database.plan_rows().await?.rows),
        Err(_) => None,
    };
    if let Some(rows) = &rows {
        problems.extend(loaded.check_plans(rows).map_or_else(|errors| errors.0, |plans| plans.problems()));
    }
    ConfigErrors::unless_none(problems)?;
    let of_database = rows.map(|rows| rows.len());
    if context.output == Output::Json {
        let (files, notes) = (&loaded.files, &loaded.notes);
        return print_json(&serde_json::json!({ "ok": true, "files": files, "notes": notes, "database_plans": of_database }));
    }
    if !context.quiet {
        for note in &loaded.notes {
            eprintln!("note: {note}");
        }
    }
    let settings = &loaded.settings;
    let files = if loaded.files.is_empty() { "no file, the environment alone".to_owned() } else { loaded.files.join(", ") };
    let count = |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    let more = match of_database {
        None => " (those of the database are not checked: it cannot be opened)".to_owned(),
        Some(0) => String::new(),
        Some(number) => format!(" and {number} in the database"),
    };
    say(&format!(
        "ok: {files}\n    {}, {}{more}, {}; tag {}; {}",
        count(settings.accounts.len(), "account"),
        count(settings.plans.len(), "plan"),
        count(settings.webhooks.len(), "webhook"),
        settings.tag,
        settings.database.url,
    ))
}
