//! What is measured: one list of metrics ([`list`]), and the numbers behind it.
//!
//! Most numbers stay where they arise (an account's limits, the gateway's client, the database) and are read when somebody asks.
//! [`Metrics`] keeps those of faces that have no other place for them.

pub mod list;
mod times;
mod values;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

pub use times::{Call, DatabaseTimes, GatewayTimes, Operation};
pub use values::{Counter, Gauge, Histogram, Seen};

/// Combinations of label values that one family keeps apart; all others are counted together as `other`.
const MOST_SERIES: usize = 500;

/// Counters that faces add to. Labels are bounded, whoever names them.
#[derive(Debug, Default)]
pub struct Metrics {
    webhooks: Labelled,
    alarms: Labelled,
    heartbeat: Gauge,
}

impl Metrics {
    /// A webhook of the gateway's has come in. `account`: its name in the config, or `unknown`; `answer`: what was made of it, a
    /// word of a fixed list.
    pub fn webhook_received(&self, account: &str, answer: &str) {
        self.webhooks.add([account, answer]);
    }

    /// An alarm was handed to a channel. `kind`: one of the alarms' kinds; `result`: `sent`, or a word for what went wrong.
    pub fn alarm_sent(&self, kind: &str, result: &str) {
        self.alarms.add([kind, result]);
    }

    /// The dead man's switch was reached at `at`.
    pub fn heartbeat_succeeded(&self, at: Timestamp) {
        self.heartbeat.set(u64::try_from(at.as_microsecond()).unwrap_or_default());
    }

    /// Webhooks by account and answer.
    pub fn webhooks(&self) -> Vec<([String; 2], u64)> {
        self.webhooks.seen()
    }

    /// Alarms by kind and result.
    pub fn alarms(&self) -> Vec<([String; 2], u64)> {
        self.alarms.seen()
    }

    /// When the dead man's switch was last reached, in microseconds since the epoch; `None`: never by this process.
    pub fn heartbeat(&self) -> Option<u64> {
        Some(self.heartbeat.get()).filter(|at| *at > 0)
    }
}

/// Counters by two labels. Not for the hot path: it takes a lock.
#[derive(Debug, Default)]
struct Labelled(Mutex<BTreeMap<[String; 2], u64>>);

impl Labelled {
    fn add(&self, labels: [&str; 2]) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = labels.map(str::to_owned);
        let labels = match counts.len() < MOST_SERIES || counts.contains_key(&labels) {
            true => labels,
            false => ["other", "other"].map(str::to_owned),
        };
        *counts.entry(labels).or_default() += 1;
    }

    fn seen(&self) -> Vec<([String; 2], u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(labels, count)| (labels.clone(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_strangers_choose_do_not_grow_without_bound() {
        let metrics = Metrics::default();
        for n in 0..10_000 {
            metrics.webhook_received(&format!("stranger-{n}"), "ignored");
        }
        metrics.webhook_received("stranger-1", "ignored");
        let seen = metrics.webhooks();
        assert_eq!(seen.len(), MOST_SERIES + 1);
        assert_eq!(seen.iter().map(|(_, count)| count).sum::<u64>(), 10_001, "none is lost");
        assert!(seen.contains(&(["stranger-1", "ignored"].map(str::to_owned), 2)));
        assert!(seen.iter().any(|(labels, count)| labels[0] == "other" && *count > 9_000));
    }
}
