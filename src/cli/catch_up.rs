//! `rebilld catch-up`: periods that fell due while nobody opened them, and that wait for an operator.

use std::collections::BTreeMap;

use clap::Subcommand;
use serde_json::{Value, json};

use super::context::{Context, Opened, Why};
use super::failure::{Code, Failure};
use super::output::{Listing, Output, amount, field, money, print_json, say};
use crate::domain::lifecycle::{Missed, Next, missed, next_period, seen};
use crate::store::desk::columns::PLAN;
use crate::store::desk::{CatchUpStep, SubscriptionRow};

/// Subscriptions in one transaction.
const BATCH: u32 = 500;

#[derive(Debug, Subcommand)]
pub enum CatchUp {
    /// Shows how many subscriptions missed how many periods, and the sums
    List {
        #[command(flatten)]
        which: Which,
        /// Subscriptions that are listed one by one
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Opens the missed periods: each is charged, one after the other
    Open(Change),
    /// Passes the missed periods over: they are never charged
    Skip {
        #[command(flatten)]
        change: Change,
        /// Charges the latest of them and passes the others over
        #[arg(long)]
        keep_latest: bool,
    },
}

/// Of those that wait.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// Your own references of subscriptions
    #[arg(value_name = "SUBSCRIPTION")]
    references: Vec<String>,
    /// One account instead of all
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// One plan instead of all
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Change {
    #[command(flatten)]
    which: Which,
    /// All that wait (of the account and the plan, if given)
    #[arg(long, conflicts_with = "references")]
    all: bool,
    /// Says what would be done, and does nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    why: Why,
}

impl Which {
    fn matches(&self, row: &SubscriptionRow) -> bool {
        let named = self.references.is_empty() || self.references.iter().any(|reference| reference == row.external_ref());
        let account = self.account.as_ref().is_none_or(|account| account == row.account());
        let plan = self.plan.as_ref().is_none_or(|plan| plan == row.value(PLAN));
        named && account && plan
    }
}

/// What waits, or was decided on: by plan and currency.
#[derive(Debug, Default)]
struct Tally {
    groups: BTreeMap<(String, String), (u64, u64, i128)>,
    /// Those that were named and do not wait.
    found: Vec<String>,
}

impl Tally {
    fn add(&mut self, row: &SubscriptionRow, periods: u32, sum: Option<crate::domain::money::Money>) {
        let currency = sum.map_or_else(String::new, |sum| sum.currency().code().to_owned());
        let group = self.groups.entry((row.value(PLAN).to_owned(), currency)).or_default();
        group.0 += 1;
        group.1 += u64::from(periods);
        group.2 += sum.map_or(0, |sum| i128::from(sum.minor()));
        self.found.push(row.external_ref().to_owned());
    }

    fn json(&self) -> Value {
        let group = |((plan, currency), (subscriptions, periods, sum)): (&(String, String), &(u64, u64, i128))| {
            json!({
                "plan": plan,
                "currency": currency,
                "subscriptions": subscriptions,
                "periods": periods,
                "sum": i64::try_from(*sum).unwrap_or(i64::MAX),
            })
        };
        let subscriptions: u64 = self.groups.values().map(|group| group.0).sum();
        let periods: u64 = self.groups.values().map(|group| group.1).sum();
        json!({
            "subscriptions": subscriptions,
            "periods": periods,
            "plans": self.groups.iter().map(group).collect::<Vec<_>>(),
        })
    }

    fn say(&self, verb: &str) -> Result<(), Failure> {
        for ((plan, currency), (subscriptions, periods, sum)) in &self.groups {
            let sum = amount(i64::try_from(*sum).unwrap_or(i64::MAX), currency);
            let (s, p) = (plural(*subscriptions), plural(*periods));
            say(&format!("{subscriptions} subscription{s} of plan {plan} {verb} {periods} period{p}: {sum}"))?;
        }
        if self.groups.is_empty() { say("no missed period waits for you") } else { Ok(()) }
    }
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// What a subscription has missed, by the function that charges. `None`: nothing any more, or its row is wrong now.
fn missed_of(opened: &Opened, row: &SubscriptionRow) -> Option<(Missed, bool)> {
    let terms = row.terms()?;
    let (catalog, now) = (&opened.catalog, opened.now);
    let progress = seen(catalog, &terms, row.progress, row.created_at, row.was_paused(), now).ok()?;
    let found = missed(catalog, &terms, &progress, now).ok()??;
    let changes_plan = match next_period(catalog, &terms, &progress) {
        Ok(Next::Period(next, _)) => next.changes_plan,
        _ => false,
    };
    Some((found, changes_plan))
}

impl CatchUp {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List { which, limit } => list(context, &which, limit).await,
            Self::Open(change) => change.run(context, "opened", open).await,
            Self::Skip { change, keep_latest: false } => change.run(context, "skipped", skip_all).await,
            Self::Skip { change, keep_latest: true } => change.run(context, "skipped", keep_latest).await,
        }
    }
}

async fn list(context: &Context, which: &Which, limit: usize) -> Result<(), Failure> {
    let opened = context.open_in_force().await?;
    let mut tally = Tally::default();
    let mut rows = Vec::new();
    let mut after = 0;
    loop {
        let page = opened.database.desk().missed(after, BATCH).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for row in page.iter().filter(|row| which.matches(row)) {
            let Some((found, _)) = missed_of(&opened, row) else { continue };
            tally.add(row, found.count, found.sum);
            if rows.len() < limit {
                let sum = found.sum;
                rows.push(vec![
                    field("account", row.account()),
                    field("external_ref", row.external_ref()),
                    field("plan", row.value(PLAN)),
                    field("periods", i64::from(found.count)).right(),
                    field("first", found.first.start.to_string()),
                    field("latest", found.latest.start.to_string()),
                    sum.map_or_else(|| field("sum", None::<String>), |sum| money("sum", sum.minor(), sum.currency().code())),
                ]);
            }
        }
    }
    if context.output == Output::Json {
        let mut all = tally.json();
        all["missed"] = rows.iter().map(|row| super::output::object(row)).collect();
        return print_json(&all);
    }
    if context.output != Output::Csv {
        tally.say("missed")?;
        if rows.is_empty() {
            return Ok(());
        }
    }
    Listing { rows, none: "no missed period waits for you" }.print(context.output)
}

/// A decision on one subscription: the step, and how many periods with which sum it concerns.
type Decided = (CatchUpStep, u32, Option<crate::domain::money::Money>);

fn open(found: &Missed, _: bool) -> Option<Decided> {
    let until = found.latest.start.tomorrow().ok()?;
    Some((CatchUpStep::Open { until }, found.count, found.sum))
}

fn skip_all(found: &Missed, changes_plan: bool) -> Option<Decided> {
    Some((CatchUpStep::Skip(found.skip_all(changes_plan)), found.count, found.sum))
}

fn keep_latest(found: &Missed, changes_plan: bool) -> Option<Decided> {
    let passed = found.keep_latest(changes_plan)?;
    let count = passed.count;
    Some((CatchUpStep::Skip(passed), count, found.before_latest))
}

impl Change {
    async fn run(self, context: &Context, verb: &str, decide: fn(&Missed, bool) -> Option<Decided>) -> Result<(), Failure> {
        if !self.all && self.which.references.is_empty() {
            return Err(Failure::new(Code::Usage, "name subscriptions, or say --all: `rebilld catch-up list` shows what waits"));
        }
        let signed = context.signed(&self.why)?;
        let opened = context.open_in_force().await?;
        let desk = opened.database.desk();
        let (mut tally, mut after, mut moved) = (Tally::default(), 0, 0);
        loop {
            let page = desk.missed(after, BATCH).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            let mut decided = Vec::new();
            for row in page.iter().filter(|row| self.which.matches(row)) {
                let of_row = missed_of(&opened, row).and_then(|(found, changes_plan)| decide(&found, changes_plan));
                decided.extend(of_row.map(|(step, periods, sum)| (row, step, periods, sum)));
            }
            let steps: Vec<(&SubscriptionRow, CatchUpStep)> =
                decided.iter().map(|(row, step, ..)| (*row, step.clone())).collect();
            let done = match self.dry_run || steps.is_empty() {
                true => steps.iter().map(|(row, _)| row.id).collect(),
                false => desk.catch_up(opened.now, &steps, &signed).await?,
            };
            for (row, _, periods, sum) in decided {
                if done.contains(&row.id) {
                    tally.add(row, periods, sum);
                } else {
                    moved += 1;
                }
            }
        }
        let unknown: Vec<&String> = self.which.references.iter().filter(|reference| !tally.found.contains(reference)).collect();
        if let Some(reference) = unknown.first() {
            let done = if tally.found.is_empty() { "" } else { "; the others are done" };
            return Err(Failure::data(format!(
                "no missed period of `{reference}` waits for you (`rebilld catch-up list`){done}"
            )));
        }
        if context.output == Output::Json {
            let mut all = tally.json();
            all["done"] = json!(!self.dry_run);
            all["changed_meanwhile"] = json!(moved);
            return print_json(&all);
        }
        if context.quiet {
            return Ok(());
        }
        tally.say(if self.dry_run { "would have" } else { verb })?;
        if moved > 0 {
            say(&format!("{moved} changed meanwhile and still wait: look again"))?;
        }
        if self.dry_run { say("nothing was written (--dry-run)") } else { Ok(()) }
    }
}
