//! The config as it is written: texts and numbers, every default filled in. `config show` prints it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::dunning::{RawDeclines, RawDunning};
use super::fuse::RawFuse;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_file: Option<String>,
    pub tag: String,
    pub database: RawDatabase,
    pub accounts: BTreeMap<String, RawAccount>,
    pub plans: BTreeMap<String, RawPlan>,
    pub dunning: BTreeMap<String, RawDunning>,
    pub declines: RawDeclines,
    pub windows: RawWindows,
    pub holidays: RawHolidays,
    pub jobs: RawJobs,
    pub reload: RawReload,
    pub retention: RawRetention,
    pub worker: RawWorker,
    pub webhooks: Vec<RawWebhook>,
    pub http: RawHttp,
    pub log: RawLog,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDatabase {
    pub url: String,
    pub max_connections: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAccount {
    pub base_url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imp_key_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imp_secret_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imp_key_credential: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imp_secret_credential: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    pub include_sandbox: bool,
    pub rate: u32,
    pub in_flight: u32,
    pub merchant_uid: String,
    pub timezone: String,
    pub mixed_tax: bool,
    pub budget: RawBudget,
    pub fuse: RawFuse,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawBudget {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPlan {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_day: Option<RawDay>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charge_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    pub banking: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    pub currency: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_free: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vat_amount: Option<i64>,
    pub trial_days: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_until: Option<String>,
    pub trial_anchor: String,
    pub resume: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_periods: Option<u32>,
    pub catch_up: String,
    pub catch_up_limit: u32,
    pub while_past_due: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dunning: Option<String>,
    pub prices: Vec<RawPrice>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPrice {
    #[serde(default)]
    pub from: String,
    #[serde(default)]
    pub amount: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_free: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vat_amount: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWindows {
    pub hours: String,
    pub blackouts: String,
    pub spread: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHolidays {
    pub extra: Vec<String>,
    pub remove: Vec<String>,
}

/// `10`, or `"last"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RawDay {
    Number(i64),
    Text(String),
}

impl std::fmt::Display for RawDay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawJobs {
    pub charge: String,
    pub reconcile: String,
    pub audit: String,
    pub relay: String,
    pub report: String,
    pub prune: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawReload {
    pub watch: bool,
    pub every: String,
    pub max_change_count: u64,
    pub max_change_sum: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRetention {
    pub deliveries: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWorker {
    pub batch: u32,
    pub flights: u32,
    pub interval: String,
    pub open_ahead: String,
    pub quiet: String,
    pub shutdown_grace: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWebhook {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_credential: Option<String>,
    pub allow_private: bool,
    pub timeout: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHttp {
    pub listen: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLog {
    pub format: String,
    pub level: String,
}
