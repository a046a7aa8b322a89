//! `rebilld events`.

use std::io::Read;

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use jiff::Timestamp;

use super::context::{Context, Why};
use super::failure::{Code, Failure};
use super::output::{Listing, Output, at, field, print_json, say};
use crate::config::{Environment, SecretSource, closest};
use crate::courier::verify;
use crate::domain::event::EventKind;
use crate::store::desk::Replay;

#[derive(Debug, Subcommand)]
pub enum Events {
    /// Lists events, the newest first, with how far their deliveries have come
    List {
        /// One kind, such as charge.paid
        #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(kinds()))]
        kind: Option<String>,
        /// One event
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        /// Only those with a delivery that is pending or was given up
        #[arg(long)]
        open: bool,
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Delivers events again; receivers know repeats by the event's id
    Replay {
        /// The first event, by its number in `events list`
        #[arg(long, value_name = "SEQ")]
        from: i64,
        /// The last one [default: the same]
        #[arg(long, value_name = "SEQ")]
        to: Option<i64>,
        /// One endpoint instead of all
        #[arg(long, value_name = "NAME")]
        endpoint: Option<String>,
        /// Only deliveries that were given up
        #[arg(long)]
        failed: bool,
        #[command(flatten)]
        why: Why,
    },
    /// Checks the signature of a delivery whose body is on standard input
    Verify {
        /// The header `webhook-id`
        #[arg(long, value_name = "TEXT")]
        id: String,
        /// The header `webhook-timestamp`
        #[arg(long, value_name = "SECONDS")]
        timestamp: String,
        /// The header `webhook-signature`
        #[arg(long, value_name = "TEXT")]
        signature: String,
        /// Takes the secret of this endpoint of the config
        #[arg(long, value_name = "NAME", required_unless_present = "secret_file")]
        endpoint: Option<String>,
        /// Takes the secret from this file
        #[arg(long, value_name = "FILE", conflicts_with = "endpoint")]
        secret_file: Option<std::path::PathBuf>,
        /// Also accepts old and future timestamps
        #[arg(long)]
        any_time: bool,
    },
}

fn kinds() -> Vec<&'static str> {
    EventKind::ALL.iter().map(|kind| kind.name()).collect()
}

impl Events {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List { kind, id, open, limit } => list(context, kind.as_deref(), id.as_deref(), open, limit).await,
            Self::Replay { from, to, endpoint, failed, why } => {
                let replay = Replay { first: from, last: to.unwrap_or(from), endpoint, failed_only: failed };
                replay_events(context, replay, &why).await
            }
            Self::Verify { id, timestamp, signature, endpoint, secret_file, any_time } => {
                let environment = &context.sources.environment;
                let secret = match secret_file {
                    Some(file) => read_secret(&SecretSource::File(file), environment)?,
                    None => {
                        let loaded = context.load()?;
                        let name = endpoint.unwrap_or_default();
                        let webhook = loaded.settings.webhooks.iter().find(|webhook| webhook.name == name);
                        let webhook = webhook.ok_or_else(|| unknown_endpoint(&loaded.settings.webhooks, &name))?;
                        read_secret(&webhook.secret, environment)?
                    }
                };
                let mut body = Vec::new();
                std::io::stdin()
                    .read_to_end(&mut body)
                    .map_err(|error| Failure::data(format!("standard input cannot be read: {error}")))?;
                let said = timestamp.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
                let now = if any_time { said } else { Some(now()) };
                let fits = now.is_some_and(|now| verify(&secret, &id, &timestamp, &body, &signature, now));
                if fits {
                    say("the signature fits")
                } else {
                    let hint = "check that the body is the exact bytes that arrived, and the headers and the secret";
                    Err(Failure::data(format!("the signature does not fit, or its timestamp is not of the last minutes: {hint}")))
                }
            }
        }
    }
}

fn now() -> Timestamp {
    use crate::ports::clock::Clock;
    crate::time::SystemClock::new().now()
}

fn read_secret(source: &SecretSource, environment: &Environment) -> Result<crate::config::Secret, Failure> {
    source.read("secret", environment).map_err(|wrong| Failure::new(Code::Config, format!("the signing secret: {wrong}")))
}

fn unknown_endpoint(webhooks: &[crate::config::Webhook], name: &str) -> Failure {
    let meant = closest(name, webhooks.iter().map(|webhook| webhook.name.as_str()));
    let meant = meant.map_or_else(String::new, |meant| format!(": did you mean `{meant}`?"));
    Failure::data(format!("there is no [[webhooks]] called `{name}` in the config{meant}"))
}

async fn list(context: &Context, kind: Option<&str>, id: Option<&str>, open: bool, limit: u32) -> Result<(), Failure> {
    let opened = context.open().await?;
    let zone = opened.zone("");
    let events = opened.database.desk().events(kind, id, open, limit).await?;
    let rows = events.into_iter().map(|event| {
        let text = |name: &str| event.data.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let about = [text("account"), text("external_ref"), text("period_start")];
        let about: Vec<String> = about.into_iter().filter(|part| !part.is_empty()).collect();
        vec![
            field("seq", event.seq),
            at("at", Some(event.at), &zone),
            field("type", event.kind.as_str()),
            field("about", about.join(" ")),
            field("delivered", event.delivered),
            field("pending", event.pending),
            field("failed", event.failed),
            field("id", event.id.as_str()),
            field("data", event.data).hidden(),
        ]
    });
    Listing { rows: rows.collect(), none: "no event matches" }.print(context.output)
}

async fn replay_events(context: &Context, replay: Replay, why: &Why) -> Result<(), Failure> {
    let signed = context.signed(why)?;
    if replay.last < replay.first {
        return Err(Failure::new(Code::Usage, "--to is before --from"));
    }
    let opened = context.open().await?;
    let webhooks = &opened.loaded.settings.webhooks;
    if let Some(name) = &replay.endpoint
        && !webhooks.iter().any(|webhook| webhook.name == *name)
    {
        return Err(unknown_endpoint(webhooks, name));
    }
    let due = opened.database.desk().replay(opened.now, &replay, &signed).await?;
    match context.output {
        Output::Json => print_json(&serde_json::json!({ "due": due })),
        _ if context.quiet => Ok(()),
        _ => say(&format!("{due} deliveries are due again")),
    }
}
