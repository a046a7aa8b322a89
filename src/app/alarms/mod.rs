//! Alarms of a running daemon: looks for what is wrong, tells it once, and says when it is over; and the dead man's ping.
//!
//! One daemon looks for all that share a database; the others only see to it that it does. What was said, and to whom it is still
//! owed, stands in the database, so that a restart neither repeats nor forgets it. When the database itself is silent, each daemon
//! says so from memory.

mod heartbeat;
mod line;
mod lookout;
mod queue;

use std::sync::Arc;

use super::errors::AppError;
use crate::config::{AlarmChannel, AlarmSecrets, By, Loaded};
use crate::courier::EndpointError;
use crate::courier::alarms::{Channel, ChannelSettings, Way};
use crate::ports::clock::Clock;

pub use heartbeat::Pinger;
pub(super) use heartbeat::heartbeat;
pub use lookout::Lookout;

/// A channel as the config has it, ready to be told.
pub struct Told {
    pub settings: AlarmChannel,
    pub channel: Channel,
}

/// All channels of the config, with their secrets read.
///
/// # Errors
/// A secret is missing or open to others; a URL is none that alarms may go to.
pub fn channels(loaded: &Loaded, clock: &Arc<dyn Clock>) -> Result<Vec<Told>, AppError> {
    let secrets = loaded.alarm_secrets()?;
    let told = |settings: &AlarmChannel| Ok(Told { settings: settings.clone(), channel: ready(settings, &secrets, clock)? });
    loaded.settings.alarms.channels.iter().map(told).collect()
}

/// One of them.
pub(super) fn ready(settings: &AlarmChannel, secrets: &AlarmSecrets, clock: &Arc<dyn Clock>) -> Result<Channel, EndpointError> {
    let name = &settings.name;
    let missing = || EndpointError { endpoint: name.clone(), why: "its URL is not known".to_owned() };
    let url = || secrets.urls.get(name).cloned().ok_or_else(missing);
    let way = match &settings.by {
        By::Webhook { .. } => Way::Webhook { url: url()?, key: secrets.keys.get(name).cloned() },
        By::Slack { .. } => Way::Slack { url: url()? },
        By::Command { argv } => Way::Command { argv: argv.clone() },
    };
    let (allow_private, timeout) = (settings.allow_private, settings.timeout);
    Channel::new(ChannelSettings { name: name.clone(), way, allow_private, timeout }, Arc::clone(clock))
}
