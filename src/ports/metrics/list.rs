//! Every metric: the one source of `/metrics`, of its help and units, and of docs/metrics.md.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    Gauge,
    /// With these bounds, in microseconds.
    Histogram(&'static [u64]),
    /// Always 1; what it says is in its labels.
    Info,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
            Self::Info => "info",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// As its samples are called; counters end in `_total`.
    pub name: &'static str,
    pub kind: Kind,
    /// For people. `seconds` is told to Prometheus too, and then the name ends with it.
    pub unit: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// What [`Metric::unit`] is called in Prometheus, if it is one there.
pub const SECONDS: &str = "seconds";

impl Metric {
    /// The name of the family, which `# TYPE` and `# UNIT` are about in OpenMetrics.
    pub fn family(&self) -> &'static str {
        match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Info => self.name.strip_suffix("_info").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram(_) => self.name,
        }
    }
}

macro_rules! metrics {
    ($($id:ident = $name:literal, $kind:expr, $unit:expr, $labels:expr, $help:literal;)*) => {
        $(pub static $id: Metric = Metric { name: $name, kind: $kind, unit: $unit, labels: &$labels, help: $help };)*
        /// In the order in which they are told.
        pub static METRICS: &[&Metric] = &[$(&$id),*];
    };
}

/// Bounds of [`LATENESS`], in microseconds.
pub const LATENESS_BOUNDS: &[u64] = &[
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    7_200_000_000,
];
/// Bounds of [`GATEWAY_TIME`].
pub const GATEWAY_BOUNDS: &[u64] =
    &[25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 30_000_000, 65_000_000];
/// Bounds of [`DATABASE_TIME`].
pub const DATABASE_BOUNDS: &[u64] =
    &[500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 30_000_000];

const FLAG: &str = "0 or 1";
const ACCOUNT: [&str; 1] = ["account"];

metrics! {
    BUILD = "rebilld_build_info", Kind::Info, "", ["version", "commit"],
        "The release that runs, and the commit that it was built from.";
    CONFIG = "rebilld_config_info", Kind::Info, "", ["version"],
        "The version of the config that is in force: `rebilld config show --running` tells more of it.";
    CONFIG_REFUSED = "rebilld_config_refused", Kind::Gauge, FLAG, [],
        "Whether the config that was read last is not in force.";
    HEARTBEAT_AGE = "rebilld_dispatch_heartbeat_age_seconds", Kind::Gauge, SECONDS, [],
        "How long ago the dispatch loop last beat: above 30 s it is stuck, and /livez says so.";
    CLOCK_OFFSET = "rebilld_clock_offset_seconds", Kind::Gauge, SECONDS, [],
        "The database's clock minus this machine's wall clock, when last compared. Charges go by the database's.";
    DATABASE_UP = "rebilld_database_up", Kind::Gauge, FLAG, [],
        "Whether the database answered when it was last asked for what stands below; if it did not, that is left out.";

    HOLD = "rebilld_hold", Kind::Gauge, FLAG, ACCOUNT,
        "Whether a hold stops the account's sends: its own, that of the whole database, or for want of an audit.";
    KILLED = "rebilld_killed", Kind::Gauge, FLAG, ACCOUNT,
        "Whether a kill switch stops the account's sends: in the database, by a file, or by a signal.";
    PAUSED = "rebilld_paused", Kind::Gauge, FLAG, ACCOUNT,
        "Whether the account is paused.";
    PAUSED_BY_RATES = "rebilld_paused_by_rates", Kind::Gauge, FLAG, ACCOUNT,
        "Whether it is paused because far too much was declined or in doubt.";
    ARMED = "rebilld_armed", Kind::Gauge, FLAG, ACCOUNT,
        "Whether the account may charge from this database; always 1 on a sandbox.";
    BREAKER_OPEN = "rebilld_breaker_open", Kind::Gauge, FLAG, ACCOUNT,
        "Whether this process leaves the gateway alone because it fails as a whole.";
    FUSE_BLOWN = "rebilld_fuse_blown", Kind::Gauge, FLAG, ACCOUNT,
        "Whether the account's fuse has blown, and what is due waits for an operator.";

    OLDEST_DUE = "rebilld_oldest_due_age_seconds", Kind::Gauge, SECONDS, ACCOUNT,
        "How long the first charge of the account that is due has been due; 0: none is.";
    DUE = "rebilld_due_charges", Kind::Gauge, "charges", ACCOUNT,
        "Charges that are due and not yet sent, retries among them. 100,000 means that many or more.";
    MISSED = "rebilld_missed_charges", Kind::Gauge, "charges and schedules", ACCOUNT,
        "Past due by two hours, and waiting for nothing that is shown. Counted every five minutes by this process.";
    MISSED_AGE = "rebilld_missed_count_age_seconds", Kind::Gauge, SECONDS, [],
        "How long ago that was last counted: beyond ten minutes it says nothing any more.";
    MISSED_BOOKED = "rebilld_missed_booked_charges", Kind::Gauge, "charges", [],
        "Past due by two hours, of billing keys that PortOne's own schedule has or may have charged (`rebilld takeover check`).";
    MISSED_BOUNDED = "rebilld_missed_bounded_charges", Kind::Gauge, "charges", [],
        "Past due by a day, and put off by the budget or the fuse.";
    IN_DOUBT = "rebilld_in_doubt", Kind::Gauge, "charges", ACCOUNT,
        "Charges that may have been paid, and are being looked up. 20,000 means that many or more.";
    OLDEST_DOUBT = "rebilld_oldest_doubt_age_seconds", Kind::Gauge, SECONDS, ACCOUNT,
        "How long the oldest of them has been in doubt; 0: there is none.";
    IN_REVIEW = "rebilld_in_review", Kind::Gauge, "charges", ACCOUNT,
        "Charges that wait for an operator (`rebilld review list`). 20,000 means that many or more.";
    INCIDENTS = "rebilld_incidents_open", Kind::Gauge, "incidents", ["kind"],
        "Incidents that nobody has closed (`rebilld incidents list`). 10,000 means that many or more.";

    CHARGES = "rebilld_charges_total", Kind::Counter, "charges", ["account", "outcome", "class", "plan"],
        "Changes of charges that this process has recorded. `outcome`: paid, declined (one try; `class` says how), doubt, review, \
         unpaid or void. `class` is `none` for all but declined. `plan`: at most 50 names an account, the rest is `other`.";
    AMOUNT = "rebilld_charged_amount_total", Kind::Counter, "minor units", ["account", "currency", "outcome"],
        "The amounts of those charges, in won for KRW and cents for USD.";
    SENDS = "rebilld_sends_total", Kind::Counter, "POSTs", ACCOUNT,
        "Charges that this process has sent to the gateway, resends among them.";
    SEND_LIMIT = "rebilld_send_limit", Kind::Gauge, "charges a second", ACCOUNT,
        "The account's `rate`: what one process sends a second, at most.";
    LATENESS = "rebilld_lateness_seconds", Kind::Histogram(LATENESS_BOUNDS), SECONDS, ACCOUNT,
        "From when a charge was due, or its retry, to when it was sent. A subscription that is added after its first due time counts \
         from that time too.";
    GATEWAY_TIME = "rebilld_gateway_seconds", Kind::Histogram(GATEWAY_BOUNDS), SECONDS, ["account", "call"],
        "How long the gateway took to answer, or not to. `call`: charge, look_up, token or list.";
    TOKEN_AGE = "rebilld_token_age_seconds", Kind::Gauge, SECONDS, ACCOUNT,
        "How old the access token in hand is. It lives for 30 minutes and is renewed when it is needed.";
    TOKEN_REFUSED = "rebilld_token_refused", Kind::Gauge, FLAG, ACCOUNT,
        "Whether the last request for an access token was in vain.";
    DATABASE_TIME = "rebilld_database_seconds", Kind::Histogram(DATABASE_BOUNDS), SECONDS, ["operation"],
        "How long the worker's calls of the database took, successful or not, the wait for a connection included.";

    OUTBOX_LAG = "rebilld_outbox_lag_seconds", Kind::Gauge, SECONDS, [],
        "How long ago the oldest event happened that some endpoint has not accepted yet; 0: none waits.";
    OUTBOX_WAITING = "rebilld_outbox_waiting", Kind::Gauge, "deliveries", [],
        "Deliveries of events that have not been accepted yet. 20,000 means that many or more.";
    RECONCILED = "rebilld_reconcile_last_success_timestamp_seconds", Kind::Gauge, SECONDS, ACCOUNT,
        "When this process last looked up all that was due to be, or found that nothing was; Unix time.";
    AUDITED = "rebilld_audit_last_success_timestamp_seconds", Kind::Gauge, SECONDS, ACCOUNT,
        "When both ledgers were last compared to the end; Unix time. What differed is an incident.";

    WEBHOOKS = "rebilld_webhooks_received_total", Kind::Counter, "requests", ["account", "answer"],
        "Webhooks of the gateway's that came in, by what was made of them. They are hints and change nothing by themselves.";
    ALARMS = "rebilld_alarms_sent_total", Kind::Counter, "alarms", ["kind", "result"],
        "Alarms that this process handed to its channels.";
    HEARTBEAT = "rebilld_heartbeat_last_success_timestamp_seconds", Kind::Gauge, SECONDS, [],
        "When this process last reached the `heartbeat_url`; Unix time.";

    SHADOW = "rebilld_shadow_charges", Kind::Gauge, "charges", ["account", "verdict"],
        "Of `run --shadow` alone: what the days that were compared last came to.";
    SHADOW_COMPARED = "rebilld_shadow_last_success_timestamp_seconds", Kind::Gauge, SECONDS, [],
        "Of `run --shadow` alone: when it last could look at the days that are over; Unix time.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_rules_of_openmetrics() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.family()).collect();
        assert_eq!(names.len(), METRICS.len(), "each family is there once");
        for metric in METRICS {
            let name = metric.name;
            assert!(name.starts_with("rebilld_") && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert_eq!(metric.kind == Kind::Info, name.ends_with("_info"), "{name}");
            assert_eq!(metric.unit == SECONDS, metric.family().ends_with("_seconds"), "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '"']), "{name}");
            if let Kind::Histogram(bounds) = metric.kind {
                assert!(bounds.is_sorted() && bounds.len() <= 16, "{name}");
            }
        }
    }
}
