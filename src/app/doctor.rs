//! `rebilld doctor`: looks at everything that a daemon leans on, and says how to right what is wrong. It charges nothing, changes
//! nothing, and shows no secret; it may run beside a daemon, and without one.

mod database;
mod gateway;
mod listener;
mod machine;
mod settings;

use std::sync::Arc;

use crate::config::{Sources, load_in_spite};
use crate::ports::clock::Clock;
use crate::time::SystemClock;

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// It may be well again by itself or elsewhere: something cannot be reached, or is full.
    Unavailable,
    /// It stays wrong until somebody rights it: the config, a secret, the database's settings.
    Wrong,
}

impl Verdict {
    /// `ok`, `warn` or `fail`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Unavailable | Self::Wrong => "fail",
        }
    }
}

/// What one check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// One of a fixed list, such as `secrets` or `clock`.
    pub check: &'static str,
    /// What was looked at: an account, a file. May be empty.
    pub subject: String,
    pub verdict: Verdict,
    /// How it is, in words.
    pub what: String,
    /// How to right it; empty if it is well.
    pub remedy: String,
}

/// Findings in the order in which they were made.
#[derive(Debug, Default)]
struct Report(Vec<Finding>);

impl Report {
    fn ok(&mut self, check: &'static str, subject: impl Into<String>, what: impl Into<String>) {
        self.add(check, subject, Verdict::Ok, what, "");
    }

    fn warn(&mut self, check: &'static str, subject: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, subject, Verdict::Warn, what, remedy);
    }

    fn wrong(&mut self, check: &'static str, subject: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, subject, Verdict::Wrong, what, remedy);
    }

    fn unavailable(
        &mut self,
        check: &'static str,
        subject: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(check, subject, Verdict::Unavailable, what, remedy);
    }

    fn add(
        &mut self,
        check: &'static str,
        subject: impl Into<String>,
        verdict: Verdict,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(Finding { check, subject: subject.into(), verdict, what: what.into(), remedy: remedy.into() });
    }
}

/// Certificates of authorities that this machine knows.
pub fn authorities() -> usize {
    rustls_native_certs::load_native_certs().certs.len()
}

/// Looks at everything, the config first. What cannot be looked at because of what was found before is left out.
pub async fn examine(sources: &Sources) -> Vec<Finding> {
    let mut report = Report::default();
    machine::zones(&mut report);
    let loaded = match load_in_spite(sources) {
        Ok((loaded, problems)) => {
            settings::config(&mut report, &loaded, problems);
            loaded
        }
        Err(errors) => {
            settings::problems(&mut report, errors.0);
            return report.0;
        }
    };
    let tls = machine::roots(&mut report);
    let secrets = settings::secrets(&mut report, &loaded, tls);
    machine::places(&mut report, &loaded.settings);
    let clock = Arc::new(SystemClock::new());
    let opened = database::examine(&mut report, &loaded, clock.as_ref()).await;
    if let Some(database) = &opened {
        // what the daemon goes by; the gateway's clock is compared with it
        if let Ok(now) = database.desk().clock().await {
            clock.set(now);
        }
    }
    for (name, account) in &loaded.settings.accounts {
        match secrets.accounts.get(name) {
            _ if !tls => report.warn("gateway", name, "not asked: there are no TLS roots", "right those first"),
            Some(keys) => {
                let clock = Arc::clone(&clock) as Arc<dyn Clock>;
                gateway::examine(&mut report, &loaded.settings, account, keys, clock).await;
            }
            None => report.warn("gateway", name, "not asked, because its keys cannot be read", "right its secrets first"),
        }
    }
    listener::examine(&mut report, &loaded.settings, opened.as_deref()).await;
    if let Some(database) = opened {
        database.close().await;
    }
    report.0
}
