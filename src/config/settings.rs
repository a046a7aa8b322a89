//! Settings, typed and ready for use.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::database_url::DatabaseUrl;
use super::dunning::{dunnings_of, rules_of};
use super::environment::Environment;
use super::fuse::fuse_of;
use super::keys;
use super::problem::Problem;
use super::raw::{Raw, RawAccount, RawHolidays, RawPlan, RawWebhook, RawWindows};
use super::secret::{Secret, SecretSource};
use super::span::Span;
use crate::domain::attempt::Tag;
use crate::domain::charge::IdMode;
use crate::domain::classify::Rules;
use crate::domain::dunning::{Dunning, Dunnings, PlanDunning};
use crate::domain::fuse::Fuse;
use crate::domain::holidays::{Banking, Holidays};
use crate::domain::money::Currency;
use crate::domain::plan::{AccountTerms, Catalog, CatchUp, Plan, Price, Resume, TrialAnchor, WhilePastDue};
use crate::domain::recurrence::Recurrence;
use crate::domain::window::{Hours, Windows};

/// When charges fall due if neither the subscription nor its plan says it.
const CHARGE_TIME: Time = Time::constant(10, 0, 0, 0);

#[derive(Debug, Clone)]
pub struct Settings {
    pub database: Database,
    pub state_dir: PathBuf,
    /// Stops all sends while it exists; with `.NAME` behind it, those of one account.
    pub kill_file: PathBuf,
    pub tag: Tag,
    pub accounts: BTreeMap<String, Account>,
    /// The plans, and what the accounts say about their subscriptions.
    pub plans: BTreeMap<String, Plan>,
    /// `[dunning.NAME]`, by name.
    pub dunning: BTreeMap<String, Arc<Dunning>>,
    /// The operator's rules for reading refusals.
    pub declines: Arc<Rules>,
    /// Plans of the database that cannot be billed by, and why; empty before `with`.
    pub wrong_plans: BTreeMap<String, String>,
    pub windows: Windows,
    /// Days without banks: the built-in calendar and what the config changes of it.
    pub holidays: Arc<Holidays>,
    pub jobs: Jobs,
    pub reload: Reload,
    pub retention: Retention,
    pub worker: Worker,
    pub webhooks: Vec<Webhook>,
    pub http: Http,
    pub log: Log,
    pub(super) environment: Environment,
}

impl fmt::Debug for Environment {
    /// Values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

#[derive(Debug, Clone)]
pub struct Database {
    pub url: DatabaseUrl,
    pub max_connections: u32,
}

/// One PortOne merchant.
#[derive(Debug, Clone)]
pub struct Account {
    pub name: String,
    pub base_url: String,
    pub imp_key: SecretSource,
    pub imp_secret: SecretSource,
    pub tier: Option<String>,
    pub include_sandbox: bool,
    /// Charges sent a second.
    pub rate: u32,
    pub in_flight: u32,
    pub id_mode: IdMode,
    pub budget_count: Option<i64>,
    /// Minor units a day and currency.
    pub budget_sum: Option<i64>,
    pub fuse: Fuse,
    /// Where the day of budget and fuse begins; and the zone of subscriptions without one.
    pub timezone: TimeZone,
    pub mixed_tax: bool,
}

/// Cron expressions with seconds, in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jobs {
    pub charge: String,
    pub reconcile: String,
    pub audit: String,
    pub relay: String,
    pub report: String,
    pub prune: String,
}

impl Jobs {
    /// Each job with its cron expression.
    pub fn named(&self) -> [(&'static str, &str); 6] {
        let Self { charge, reconcile, audit, relay, report, prune } = self;
        let jobs = [
            ("charge", charge),
            ("reconcile", reconcile),
            ("audit", audit),
            ("relay", relay),
            ("report", report),
            ("prune", prune),
        ];
        jobs.map(|(name, cron)| (name, cron.as_str()))
    }
}

/// How a changed config is taken while the daemon runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    pub watch: bool,
    pub every: Duration,
    /// Subscriptions whose next charge may change without an operator's confirmation.
    pub max_change_count: u64,
    /// Minor units, up and down added up, for each currency.
    pub max_change_sum: i64,
}

/// How long what is not money is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    pub deliveries: Duration,
    /// `None`: for ever.
    pub personal: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    pub batch: u32,
    /// Batches of one account under way at the same time.
    pub flights: u32,
    pub interval: Duration,
    pub open_ahead: Duration,
    /// Q: never below 45 minutes.
    pub quiet: Duration,
    pub shutdown_grace: Duration,
}

#[derive(Debug, Clone)]
pub struct Webhook {
    pub name: String,
    pub url: String,
    pub secret: SecretSource,
    pub allow_private: bool,
    pub timeout: Duration,
}

/// What the daemon answers itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// `None`: nothing is answered.
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    /// Directives of tracing-subscriber's `EnvFilter`.
    pub level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

/// Everything that must not be shown, read when it is needed.
#[derive(Debug, Clone)]
pub struct Secrets {
    pub accounts: BTreeMap<String, AccountKeys>,
    /// Signing secrets by the endpoint's name.
    pub webhooks: BTreeMap<String, Secret>,
}

#[derive(Debug, Clone)]
pub struct AccountKeys {
    pub imp_key: Secret,
    pub imp_secret: Secret,
}

impl Settings {
    pub(super) fn of(raw: &Raw, environment: &Environment, wrong: &mut Wrong<'_>) -> Self {
        let url = DatabaseUrl::new(raw.database.url.clone());
        let beside_the_file =
            || url.sqlite_path().and_then(Path::parent).filter(|path| *path != Path::new("")).map(Path::to_path_buf);
        let state_dir = raw.state_dir.as_ref().map(PathBuf::from).or_else(|| environment.state_directory());
        let holidays = Arc::new(holidays_of(&raw.holidays, wrong));
        for (plan, named) in raw.plans.iter().filter_map(|(plan, raw)| Some((plan, raw.dunning.as_ref()?))) {
            if !raw.dunning.contains_key(named) {
                let text = format!("plan `{plan}` names the dunning `{named}`, and there is no `[dunning.{named}]`");
                wrong.say(&format!("plans.{plan}.dunning"), text);
            }
        }
        let state_dir = state_dir.or_else(beside_the_file).unwrap_or_else(|| ".".into());
        Self {
            kill_file: raw.kill_file.as_ref().map_or_else(|| state_dir.join("kill"), PathBuf::from),
            state_dir,
            tag: wrong.parsed("tag", &raw.tag).unwrap_or_else(|| "rb".parse().expect("\"rb\" is a tag")),
            accounts: raw.accounts.iter().map(|(name, account)| (name.clone(), Account::of(name, account, wrong))).collect(),
            plans: raw
                .plans
                .iter()
                .filter_map(|(name, plan)| Some((name.clone(), plan_of(name, plan, &holidays, wrong)?)))
                .collect(),
            dunning: dunnings_of(&raw.dunning, wrong),
            declines: Arc::new(rules_of(&raw.declines, wrong)),
            wrong_plans: BTreeMap::new(),
            windows: windows_of(&raw.windows, wrong),
            holidays,
            jobs: Jobs {
                charge: raw.jobs.charge.clone(),
                reconcile: raw.jobs.reconcile.clone(),
                audit: raw.jobs.audit.clone(),
                relay: raw.jobs.relay.clone(),
                report: raw.jobs.report.clone(),
                prune: raw.jobs.prune.clone(),
            },
            reload: Reload {
                watch: raw.reload.watch,
                every: span(&raw.reload.every),
                max_change_count: raw.reload.max_change_count,
                max_change_sum: raw.reload.max_change_sum,
            },
            retention: Retention {
                deliveries: span(&raw.retention.deliveries),
                personal: raw.retention.personal.as_deref().map(span),
            },
            worker: Worker {
                batch: raw.worker.batch,
                flights: raw.worker.flights,
                interval: span(&raw.worker.interval),
                open_ahead: span(&raw.worker.open_ahead),
                quiet: span(&raw.worker.quiet),
                shutdown_grace: span(&raw.worker.shutdown_grace),
            },
            webhooks: webhooks_of(&raw.webhooks, wrong),
            // a text that is neither an address nor `off` has been named already
            http: Http { listen: raw.http.listen.parse().ok() },
            log: Log {
                format: match raw.log.format.as_str() {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => LogFormat::Auto,
                },
                level: raw.log.level.clone(),
            },
            database: Database { url, max_connections: raw.database.max_connections },
            environment: environment.clone(),
        }
    }
}

impl Settings {
    /// Which ladder the declined charges of each plan are under, and where.
    pub fn dunnings(&self) -> Dunnings {
        let default = self.dunning.get("default").cloned().unwrap_or_default();
        let of_plan = |plan: &Plan| {
            let dunning = plan.dunning.as_ref().and_then(|name| self.dunning.get(name)).unwrap_or(&default);
            PlanDunning { dunning: Arc::clone(dunning), zone: plan.zone.clone() }
        };
        Dunnings {
            plans: self.plans.iter().map(|(name, plan)| (name.clone(), of_plan(plan))).collect(),
            zones: self.accounts.iter().map(|(name, account)| (name.clone(), account.timezone.clone())).collect(),
            holidays: Arc::clone(&self.holidays),
            default,
        }
    }

    /// What the terms of a subscription refer to.
    pub fn catalog(&self) -> Catalog {
        let terms = |account: &Account| AccountTerms { zone: account.timezone.clone(), mixed_tax: account.mixed_tax };
        Catalog {
            plans: self.plans.clone(),
            wrong: self.wrong_plans.clone(),
            accounts: self.accounts.iter().map(|(name, account)| (name.clone(), terms(account))).collect(),
        }
    }
}

/// Collects what is wrong across several keys. Single values have been checked by their layer.
pub(super) struct Wrong<'a> {
    pub problem: &'a dyn Fn(&str, String) -> Problem,
    /// Whether a layer gives a key, right or wrong.
    pub given: &'a dyn Fn(&str) -> bool,
    pub problems: Vec<Problem>,
}

impl Wrong<'_> {
    pub(super) fn say(&mut self, key: &str, text: String) {
        self.problems.push((self.problem)(key, text));
    }

    fn parsed<T: FromStr>(&mut self, key: &str, text: &str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        text.parse().map_err(|wrong: T::Err| self.say(key, format!("`{key}`: {wrong}"))).ok()
    }

    fn source(&mut self, key: &str, file: Option<&String>, credential: Option<&String>, default: String) -> SecretSource {
        match (file, credential) {
            (Some(file), None) => SecretSource::File(file.into()),
            (None, Some(name)) => SecretSource::Credential(name.clone()),
            (None, None) => SecretSource::DefaultCredential(default),
            (Some(file), Some(_)) => {
                self.say(&format!("{key}_file"), format!("`{key}_file` and `{key}_credential` are both given: keep one"));
                SecretSource::File(file.into())
            }
        }
    }
}

fn span(text: &str) -> Duration {
    text.parse::<Span>().map_or(Duration::ZERO, |span| span.0)
}

impl Account {
    fn of(name: &str, raw: &RawAccount, wrong: &mut Wrong<'_>) -> Self {
        let key = |field: &str| format!("accounts.{name}.{field}");
        Self {
            name: name.to_owned(),
            base_url: raw.base_url.trim_end_matches('/').to_owned(),
            imp_key: wrong.source(
                &key("imp_key"),
                raw.imp_key_file.as_ref(),
                raw.imp_key_credential.as_ref(),
                format!("{name}-imp-key"),
            ),
            imp_secret: wrong.source(
                &key("imp_secret"),
                raw.imp_secret_file.as_ref(),
                raw.imp_secret_credential.as_ref(),
                format!("{name}-imp-secret"),
            ),
            tier: raw.tier.clone(),
            include_sandbox: raw.include_sandbox,
            rate: raw.rate,
            in_flight: raw.in_flight,
            id_mode: IdMode::from_name(&raw.merchant_uid).unwrap_or_default(),
            budget_count: raw.budget.count,
            budget_sum: raw.budget.sum,
            fuse: fuse_of(&raw.fuse),
            timezone: keys::zone(&raw.timezone).unwrap_or(TimeZone::UTC),
            mixed_tax: raw.mixed_tax,
        }
    }
}

pub(super) fn plan_of(name: &str, raw: &RawPlan, holidays: &Arc<Holidays>, wrong: &mut Wrong<'_>) -> Option<Plan> {
    let key = |field: &str| format!("plans.{name}.{field}");
    let parts = raw.tax_free.unwrap_or(0).saturating_add(raw.vat_amount.unwrap_or(0));
    if let Some(amount) = raw.amount
        && parts > amount
    {
        let part = if raw.vat_amount.is_some() { "vat_amount" } else { "tax_free" };
        wrong.say(
            &key(part),
            format!("tax_free and vat_amount of plan `{name}` are {parts} together, and its amount is {amount}"),
        );
    }
    let recurrence = recurrence_of(name, raw, wrong)?;
    let charge_time = match &raw.charge_time {
        Some(text) => keys::time_of_day(text)?,
        None => recurrence.charge_time().unwrap_or(CHARGE_TIME),
    };
    Some(Plan {
        charge_time,
        zone: raw.zone.as_ref().and_then(|name| keys::zone(name).ok()),
        banking: Banking::from_name(&raw.banking).unwrap_or_default(),
        holidays: Arc::clone(holidays),
        amount: raw.amount,
        currency: wrong.parsed(&key("currency"), &raw.currency).unwrap_or(Currency::KRW),
        title: raw.title.clone(),
        tax_free: raw.tax_free,
        vat_amount: raw.vat_amount,
        prices: prices_of(name, raw, wrong),
        trial_days: raw.trial_days,
        trial_until: raw.trial_until.as_ref().and_then(|date| date.parse().ok()),
        trial_anchor: TrialAnchor::from_name(&raw.trial_anchor).unwrap_or_default(),
        resume: Resume::from_name(&raw.resume).unwrap_or_default(),
        max_periods: raw.max_periods,
        catch_up: match raw.catch_up.as_str() {
            "all" => CatchUp::All { most: raw.catch_up_limit },
            "latest_only" => CatchUp::LatestOnly,
            _ => CatchUp::Hold,
        },
        while_past_due: if raw.while_past_due == "continue" { WhilePastDue::Continue } else { WhilePastDue::Hold },
        dunning: raw.dunning.clone(),
        ..Plan::new(name, recurrence)
    })
}

fn prices_of(name: &str, raw: &RawPlan, wrong: &mut Wrong<'_>) -> Vec<Price> {
    let mut prices: Vec<Price> = Vec::with_capacity(raw.prices.len());
    for (index, price) in raw.prices.iter().enumerate() {
        let key = |field: &str| format!("plans.{name}.prices.{index}.{field}");
        // a missing or wrong one has been named already
        let Ok(from) = price.from.parse() else { continue };
        if prices.iter().any(|other| other.from == from) {
            wrong.say(&key("from"), format!("plan `{name}` has two prices from {from} on: keep one"));
        }
        let parts = price.tax_free.unwrap_or(0).saturating_add(price.vat_amount.unwrap_or(0));
        if parts > price.amount {
            let text = format!("tax_free and vat_amount are {parts} together, and the price from {from} on is {}", price.amount);
            wrong.say(&key("amount"), text);
        }
        prices.push(Price { from, amount: price.amount, tax_free: price.tax_free, vat_amount: price.vat_amount });
    }
    prices.sort_by_key(|price| price.from);
    prices
}

fn windows_of(raw: &RawWindows, wrong: &mut Wrong<'_>) -> Windows {
    let windows = Windows {
        hours: raw.hours.parse().unwrap_or(Hours::ALL_DAY),
        blackouts: keys::blackouts(&raw.blackouts).unwrap_or_default(),
        spread: SignedDuration::try_from(span(&raw.spread)).unwrap_or(SignedDuration::ZERO),
    };
    // any day will do: hours and blackouts come again every day
    let day = Timestamp::UNIX_EPOCH;
    let never = |zone: &TimeZone| windows.next_open(day, zone).duration_since(day).as_hours() > 48;
    if windows.blackouts.iter().any(|blackout| never(&blackout.zone)) {
        wrong.say("windows.blackouts", "the blackouts leave nothing of `windows.hours`: no charge would ever start".to_owned());
    }
    windows
}

fn holidays_of(raw: &RawHolidays, wrong: &mut Wrong<'_>) -> Holidays {
    // a date that cannot be read has been named already
    let dates = |texts: &[String]| texts.iter().filter_map(|text| text.parse().ok()).collect::<Vec<Date>>();
    for (index, text) in raw.remove.iter().enumerate() {
        if text.parse().is_ok_and(|date| !Holidays::korea().contains(date)) {
            let key = format!("holidays.remove.{index}");
            wrong.say(&key, format!("`holidays.remove`: {text} is not in the built-in calendar: there is nothing to remove"));
        }
    }
    Holidays::korea().changed(&dates(&raw.extra), &dates(&raw.remove))
}

/// When a plan's periods start. `None` if that is missing or wrong: then it has been named, here or with its value.
fn recurrence_of(name: &str, raw: &RawPlan, wrong: &mut Wrong<'_>) -> Option<Recurrence> {
    let key = |field: &str| format!("plans.{name}.{field}");
    match (&raw.every, &raw.schedule) {
        (Some(_), Some(_)) => {
            let text = format!("`{}` and `{}` are both given: keep one", key("every"), key("schedule"));
            wrong.say(&key("schedule"), text);
            None
        }
        (None, None) => {
            // what is there and wrong has been named already
            if !(wrong.given)(&key("every")) && !(wrong.given)(&key("schedule")) {
                let text = format!(
                    "`{}` is missing: a billing interval such as \"1 month\" (or `schedule`, a cron expression)",
                    key("every")
                );
                wrong.say(&format!("plans.{name}"), text);
            }
            None
        }
        (None, Some(schedule)) => {
            if raw.billing_day.is_some() {
                let text = format!("`{}` goes with `every`: a `schedule` names its days itself", key("billing_day"));
                wrong.say(&key("billing_day"), text);
            }
            Some(Recurrence::Cron(schedule.parse().ok()?))
        }
        (Some(every), None) => {
            let day = raw.billing_day.as_ref().and_then(|day| day.to_string().parse().ok());
            let recurrence = Recurrence::interval(every.parse().ok()?, day);
            recurrence.map_err(|why| wrong.say(&key("billing_day"), format!("`{}`: {why}", key("billing_day")))).ok()
        }
    }
}

fn webhooks_of(raw: &[RawWebhook], wrong: &mut Wrong<'_>) -> Vec<Webhook> {
    let mut names = BTreeSet::new();
    let mut webhooks = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        if !raw.name.is_empty() && !names.insert(raw.name.as_str()) {
            let key = format!("webhooks.{index}.name");
            wrong.say(&key, format!("two [[webhooks]] are called \"{}\": deliveries are kept by name", raw.name));
        }
        webhooks.push(Webhook {
            name: raw.name.clone(),
            url: raw.url.clone(),
            secret: wrong.source(
                &format!("webhooks.{index}.secret"),
                raw.secret_file.as_ref(),
                raw.secret_credential.as_ref(),
                format!("webhook-{}", raw.name),
            ),
            allow_private: raw.allow_private,
            timeout: span(&raw.timeout),
        });
    }
    webhooks
}
