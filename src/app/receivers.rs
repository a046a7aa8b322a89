//! Whether all who are told could be told: receivers of events and of alarms, and whoever waits for the heartbeat.

use std::sync::Arc;

use super::alarms;
use super::assemble::endpoints;
use crate::config::{Loaded, Problem, Secrets};
use crate::courier::WebhookCourier;
use crate::ports::clock::Clock;
use crate::time::SystemClock;

/// What would keep a daemon from starting, or from telling somebody. Nothing is sent. What has no secret in `secrets` was named
/// when those were read. `tls`: this machine knows certificates of authorities; one that does not can tell nobody, and is asked for
/// the secrets alone.
pub fn problems(loaded: &Loaded, secrets: &Secrets, tls: bool) -> Vec<Problem> {
    let settings = &loaded.settings;
    let clock = Arc::new(SystemClock::new()) as Arc<dyn Clock>;
    let (of_alarms, mut problems) = loaded.alarm_secrets_in_spite();
    if !tls {
        return problems;
    }
    let ready = endpoints(settings, secrets);
    for (index, webhook) in settings.webhooks.iter().enumerate() {
        let endpoint = ready.iter().filter(|endpoint| endpoint.name == webhook.name).cloned().collect();
        if let Err(why) = WebhookCourier::new(endpoint, Arc::clone(&clock)) {
            problems.push(loaded.problem(&format!("webhooks.{index}.url"), why.to_string()));
        }
    }
    for (index, channel) in settings.alarms.channels.iter().enumerate() {
        if of_alarms.knows(channel)
            && let Err(why) = alarms::ready(channel, &of_alarms, &clock)
        {
            problems.push(loaded.problem(&format!("alarms.channel.{index}.name"), why.to_string()));
        }
    }
    if let Err(why) = alarms::heartbeat(&settings.alarms, &of_alarms) {
        problems.push(loaded.problem("alarms.heartbeat_url", why.to_string()));
    }
    problems
}
