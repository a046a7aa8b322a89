//! `rebilld alarms`.

use std::sync::Arc;

use clap::Subcommand;
use futures::future::join_all;
use jiff::tz::TimeZone;

use super::context::Context;
use super::failure::{Code, Failure};
use super::output::{Field, Listing, at, field};
use crate::app::alarms::{Told, channels};
use crate::config::By;
use crate::courier::alarms::NotTold;
use crate::domain::alarm::{Alarm, Standing};
use crate::ports::clock::Clock;
use crate::time::SystemClock;

#[derive(Debug, Subcommand)]
pub enum Alarms {
    /// Sends a test to each channel, and says what came back
    Test {
        /// One channel instead of all
        #[arg(long, value_name = "NAME")]
        channel: Option<String>,
    },
    /// Lists alarms that last
    List {
        /// Those that are over too, the newest word first
        #[arg(long)]
        all: bool,
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
}

impl Alarms {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Test { channel } => test(context, channel.as_deref()).await,
            Self::List { all, limit } => list(context, all, limit).await,
        }
    }
}

async fn test(context: &Context, only: Option<&str>) -> Result<(), Failure> {
    let loaded = context.load()?;
    let clock = Arc::new(SystemClock::new()) as Arc<dyn Clock>;
    let mut told = channels(&loaded, &clock)?;
    told.retain(|told| only.is_none_or(|name| told.channel.name() == name));
    if told.is_empty() {
        return Err(match only {
            Some(name) => Failure::data(format!("there is no [[alarms.channel]] called `{name}` in the config")),
            None => Failure::new(Code::Config, "there is no [[alarms.channel]] in the config: nobody would hear an alarm"),
        });
    }
    let alarm = Alarm::test(clock.now());
    let answers = join_all(told.iter().map(|told| told.channel.tell(&alarm))).await;
    let failed = answers.iter().filter(|answer| answer.is_err()).count();
    let rows = told.iter().zip(answers).map(|(told, answer)| row(told, answer)).collect();
    Listing { rows, none: "" }.print(context.output)?;
    match failed {
        0 => Ok(()),
        1 => Err(Failure::new(Code::Unavailable, "a channel did not take the test")),
        many => Err(Failure::new(Code::Unavailable, format!("{many} channels did not take the test"))),
    }
}

fn row(told: &Told, answer: Result<String, NotTold>) -> Vec<Field> {
    let by = match told.settings.by {
        By::Webhook { .. } => "webhook",
        By::Slack { .. } => "slack",
        By::Command { .. } => "command",
    };
    let (delivered, said) = match answer {
        Ok(said) => (true, said),
        Err(why) => (false, why.to_string()),
    };
    vec![
        field("channel", told.channel.name()),
        field("by", by),
        field("delivered", delivered).shown(if delivered { "yes" } else { "no" }),
        field("answer", said),
    ]
}

async fn list(context: &Context, all: bool, limit: u32) -> Result<(), Failure> {
    let opened = context.open().await?;
    let mut told = opened.database.told_alarms(if all { limit } else { u32::MAX }).await?;
    told.retain(|told| all || !told.is_over());
    told.truncate(limit as usize);
    let rows = told.iter().map(|told| fields(told, &opened.zone(&told.condition.key.account))).collect();
    Listing { rows, none: if all { "there was no alarm yet" } else { "no alarm stands" } }.print(context.output)
}

fn fields(told: &Standing, zone: &TimeZone) -> Vec<Field> {
    let condition = &told.condition;
    let kind = condition.key.kind;
    let account = Some(condition.key.account.as_str()).filter(|account| !account.is_empty());
    vec![
        field("kind", kind.name()),
        field("severity", kind.severity().name()),
        field("account", account),
        field("turn", told.turn.name()).hidden(),
        field("what", condition.what.as_str()),
        at("since", Some(told.since), zone),
        at("told_at", Some(told.told_at), zone),
        field("over", told.is_over()).shown(if told.is_over() { "over" } else { "" }),
        field("concerns", condition.concerns.clone()).hidden(),
        field("next_step", condition.next_step.as_str()),
        field("runbook", kind.runbook()).hidden(),
        field("owed", told.owed.clone()).shown(told.owed.join(", ")),
    ]
}
