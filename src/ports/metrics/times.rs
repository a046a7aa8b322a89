//! How long calls of the gateway and of the database take, kept where the calls are made.

use std::time::Duration;

use super::list::{DATABASE_BOUNDS, GATEWAY_BOUNDS};
use super::{Gauge, Histogram};

/// What the gateway is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Charge,
    LookUp,
    Token,
    List,
    /// What is not asked in the course of business: channels, bookings. Not measured.
    Other,
}

impl Call {
    /// Those that are measured.
    pub const ALL: [Self; 4] = [Self::Charge, Self::LookUp, Self::Token, Self::List];

    pub fn name(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::LookUp => "look_up",
            Self::Token => "token",
            Self::List => "list",
            Self::Other => "other",
        }
    }
}

/// What is known of one account's calls.
#[derive(Debug)]
pub struct GatewayTimes {
    calls: [Histogram; Call::ALL.len()],
    /// When the token in hand was granted, in microseconds of CLOCK_BOOTTIME; 0: there is none.
    granted: Gauge,
    /// 1: the last request for a token was in vain.
    refused: Gauge,
}

impl Default for GatewayTimes {
    fn default() -> Self {
        Self {
            calls: [const { Histogram::new(GATEWAY_BOUNDS) }; Call::ALL.len()],
            granted: Gauge::default(),
            refused: Gauge::default(),
        }
    }
}

impl GatewayTimes {
    /// One request, from its first step to the last byte of its answer, or to where it broke.
    pub fn took(&self, call: Call, time: Duration) {
        if let Some(histogram) = self.calls.get(call as usize) {
            histogram.observe(time);
        }
    }

    pub fn of(&self, call: Call) -> Option<&Histogram> {
        self.calls.get(call as usize)
    }

    /// A new token is in hand since `boot`; `None`: there is none any more.
    pub fn token(&self, boot: Option<Duration>) {
        let micros = boot.map_or(0, |boot| u64::try_from(boot.as_micros()).unwrap_or(u64::MAX).max(1));
        self.granted.set(micros);
    }

    /// How the last request for a token ended.
    pub fn asked_for_token(&self, granted: bool) {
        self.refused.set(u64::from(!granted));
    }

    pub fn token_age(&self, boot: Duration) -> Option<Duration> {
        let granted = Some(self.granted.get()).filter(|granted| *granted > 0)?;
        Some(boot.saturating_sub(Duration::from_micros(granted)))
    }

    /// Whether the last request for a token was in vain.
    pub fn token_refused(&self) -> bool {
        self.refused.get() > 0
    }
}

/// What the worker asks of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// What is due next.
    Look,
    /// Periods, opened (W0).
    Open,
    /// W1.
    Claim,
    /// Intents (W2).
    Begin,
    /// Outcomes (W3).
    Record,
    /// The brakes.
    Brakes,
    /// Deliveries, claimed and ended.
    Relay,
    /// Everything else.
    Other,
}

impl Operation {
    pub const ALL: [Self; 8] =
        [Self::Look, Self::Open, Self::Claim, Self::Begin, Self::Record, Self::Brakes, Self::Relay, Self::Other];

    pub fn name(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Open => "open",
            Self::Claim => "claim",
            Self::Begin => "begin",
            Self::Record => "record",
            Self::Brakes => "brakes",
            Self::Relay => "relay",
            Self::Other => "other",
        }
    }
}

/// How long the database takes.
#[derive(Debug)]
pub struct DatabaseTimes([Histogram; Operation::ALL.len()]);

impl Default for DatabaseTimes {
    fn default() -> Self {
        Self([const { Histogram::new(DATABASE_BOUNDS) }; Operation::ALL.len()])
    }
}

impl DatabaseTimes {
    pub fn took(&self, operation: Operation, time: Duration) {
        if let Some(histogram) = self.0.get(operation as usize) {
            histogram.observe(time);
        }
    }

    pub fn of(&self, operation: Operation) -> Option<&Histogram> {
        self.0.get(operation as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_and_operation_has_its_own_histogram() {
        let (gateway, database) = (GatewayTimes::default(), DatabaseTimes::default());
        for call in Call::ALL {
            gateway.took(call, Duration::from_millis(1));
            assert_eq!(gateway.of(call).map(|histogram| histogram.seen().count), Some(1), "{}", call.name());
        }
        gateway.took(Call::Other, Duration::from_millis(1));
        for operation in Operation::ALL {
            database.took(operation, Duration::from_millis(1));
            assert_eq!(database.of(operation).map(|histogram| histogram.seen().count), Some(1), "{}", operation.name());
        }
    }

    #[test]
    fn a_token_ages_from_when_it_was_granted_until_it_is_gone() {
        let times = GatewayTimes::default();
        assert_eq!(times.token_age(Duration::from_secs(9)), None);
        times.token(Some(Duration::from_secs(5)));
        assert_eq!(times.token_age(Duration::from_secs(9)), Some(Duration::from_secs(4)));
        times.token(None);
        assert_eq!(times.token_age(Duration::from_secs(9)), None);
    }
}
