//! `rebilld run --shadow`: beside the system that charges until now. Nothing is charged; each day is compared with the gateway's list.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::ahead::walk;
use super::assemble::Assembled;
use super::errors::AppError;
use super::operate::assembled;
use super::run::serve;
use crate::config::Loaded;
use crate::domain::charge::AccountId;
use crate::domain::period::instant;
use crate::engine::Account;
use crate::engine::audit::List;
use crate::engine::shadow::{Expected, Line, Verdict, compare, expected};
use crate::http::shadow::Beside;
use crate::ports::clock::Clock;
use crate::time::SystemClock;

/// A day is compared so long after it is over: payments of its last minute are in the list by then.
const SETTLING: SignedDuration = SignedDuration::from_hours(1);
/// After a comparison that could not be made.
const AGAIN: SignedDuration = SignedDuration::from_mins(10);
/// Differences that a day's report writes to the log one by one.
const TOLD: usize = 20;
/// Subscriptions whose cards are read together.
const PAGE: usize = 1_000;

/// What some days of one account came to.
#[derive(Debug, Clone)]
pub struct Compared {
    pub account: String,
    /// Local days of the account's zone: from this one up to that one, which is not among them.
    pub from: Date,
    pub to: Date,
    pub lines: Vec<Line>,
    /// Your own references, by card, of what was charged there and would not have been from here. A card that is not among them is
    /// no subscription's.
    pub references: BTreeMap<String, String>,
    /// Subscriptions whose rows cannot be read.
    pub unreadable: u64,
}

impl Compared {
    pub fn count(&self, verdict: Verdict) -> u64 {
        self.lines.iter().filter(|line| line.verdict == verdict).count() as u64
    }

    /// Whether the same money was taken from the same cards on the same days.
    pub fn agrees(&self) -> bool {
        self.unreadable == 0 && self.lines.iter().all(|line| line.verdict.agrees())
    }
}

/// The last so many whole days, of one account or all. `back` of them at most 60.
pub async fn shadow(
    loaded: &Loaded,
    account: Option<&str>,
    back: u8,
    mut progress: impl FnMut(u64, u64),
) -> Result<Vec<Compared>, AppError> {
    let assembled = assembled(loaded).await?;
    let now = assembled.engine.time();
    let mut compared = Vec::new();
    for account in super::operate::chosen(&assembled, account)? {
        let today = (now - SETTLING).to_zoned(account.budget_zone.clone()).date();
        let from = today.checked_sub(Span::new().days(i64::from(back))).unwrap_or(today);
        compared.push(days(&assembled, &account, (from, today), &mut progress).await?);
    }
    assembled.database.close().await;
    Ok(compared)
}

/// Compares days of one account.
async fn days(
    assembled: &Assembled,
    account: &Account,
    (from, to): (Date, Date),
    progress: impl FnMut(u64, u64),
) -> Result<Compared, AppError> {
    let (database, zone) = (&assembled.database, &account.budget_zone);
    let span = (midnight(from, zone), midnight(to, zone));
    let in_force = assembled.engine.in_force();
    let mut wanted: Vec<Expected> = Vec::new();
    let of_account = |id: AccountId| id == account.id;
    let unreadable = walk(
        database,
        |standing| {
            if of_account(standing.schedule.account) {
                wanted.extend(expected(standing, &in_force, span));
            }
        },
        progress,
    )
    .await?;
    // what has opened here is no longer ahead of anything
    let opened = database.opened_between(account.id, span.0, span.1).await?;
    wanted.extend(opened.into_iter().map(|opened| Expected {
        subscription: opened.subscription,
        external_ref: opened.external_ref,
        plan: opened.plan,
        customer_uid: String::new(),
        at: opened.due_at,
        amount: opened.amount,
    }));
    for page in wanted.chunks_mut(PAGE) {
        let cards = database.cards_of(page.iter().map(|one| one.subscription.0).collect()).await?;
        for one in page {
            one.customer_uid = cards.get(&one.subscription.0).cloned().unwrap_or_default();
        }
    }
    let mut records = Vec::new();
    let mut list = List::new(span.0, span.1);
    while let Some(page) = list.next(account).await.map_err(|why| AppError::Unavailable(why.to_string()))? {
        records.extend(page);
    }
    let lines = compare(wanted, records, (from, to), zone);
    let extra: BTreeSet<String> =
        lines.iter().filter(|line| line.verdict == Verdict::Extra).map(|line| line.customer_uid.clone()).collect();
    let references = match extra.is_empty() {
        true => BTreeMap::new(),
        false => database.references_of(&account.name, extra.into_iter().collect()).await?.into_iter().collect(),
    };
    Ok(Compared { account: account.name.clone(), from, to, lines, references, unreadable })
}

fn midnight(day: Date, zone: &TimeZone) -> Timestamp {
    instant(day, Time::midnight(), zone).unwrap_or(Timestamp::MAX)
}

/// Compares each day once it is over, until SIGTERM or SIGINT. The day before the start is compared at once.
pub async fn run_shadow(loaded: Loaded) -> Result<(), AppError> {
    loaded.runnable()?;
    let quit = |kind| signal(kind).map_err(|why| AppError::Internal(format!("signals cannot be listened for: {why}")));
    let (mut terminate, mut interrupt) = (quit(SignalKind::terminate())?, quit(SignalKind::interrupt())?);
    let clock = SystemClock::new();
    let beside = Beside::default();
    // the daemon that is to take over may run here already, and has the port then
    let serving = match serve(&loaded, beside.routes()).await {
        Err(AppError::Listen { address, why }) => {
            warn!(%address, %why, "shadow: health and metrics are not answered, because nothing can be listened at here: name another `http.listen`");
            None
        }
        serving => serving?,
    };
    info!("rebilld is up in shadow mode: nothing is charged, and each day is compared with the gateway's list");
    // by account: the first day that is still to be compared
    let mut next: BTreeMap<String, Date> = BTreeMap::new();
    let work = async {
        loop {
            let until = match look(&loaded, &clock, &mut next, &beside).await {
                Ok(until) => {
                    beside.looked(clock.now());
                    until
                }
                Err(why) => {
                    beside.failed();
                    warn!(%why, "shadow: the day could not be compared; again in ten minutes");
                    clock.now().saturating_add(AGAIN).unwrap_or(Timestamp::MAX)
                }
            };
            clock.sleep_until(until, false).await;
        }
    };
    tokio::select! {
        () = work => {}
        _ = terminate.recv() => info!("SIGTERM: shadow mode ends"),
        _ = interrupt.recv() => info!("SIGINT: shadow mode ends"),
    }
    drop(serving);
    Ok(())
}

/// Compares the days that are over, and tells when the next one will be. Everything is opened anew: the config and the plans of the
/// day count.
async fn look(
    loaded: &Loaded,
    clock: &SystemClock,
    next: &mut BTreeMap<String, Date>,
    beside: &Beside,
) -> Result<Timestamp, AppError> {
    let assembled = assembled(loaded).await?;
    clock.set(assembled.engine.time());
    let settled = clock.now() - SETTLING;
    let mut until = clock.now().saturating_add(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MAX);
    for account in &assembled.accounts {
        let today = settled.to_zoned(account.budget_zone.clone()).date();
        let first = next.entry(account.name.clone()).or_insert(today.yesterday().unwrap_or(today));
        if *first < today {
            let compared = days(&assembled, account, (*first, today), |_, _| {}).await?;
            beside.compared(&account.name, Verdict::ALL.map(|verdict| compared.count(verdict)));
            tell(&compared);
            *first = today;
        }
        let over = midnight(today.tomorrow().unwrap_or(today), &account.budget_zone);
        until = until.min(over.saturating_add(SETTLING).unwrap_or(Timestamp::MAX));
    }
    assembled.database.close().await;
    Ok(until)
}

/// A day's report, in the log.
fn tell(compared: &Compared) {
    let [matches, declined, other_amount, missing, extra] = Verdict::ALL.map(|verdict| compared.count(verdict));
    let (account, from, to) = (&compared.account, compared.from, compared.to);
    if compared.agrees() {
        info!(%account, %from, %to, matches, declined, "shadow: what would have been charged is what was charged");
        return;
    }
    let unreadable = compared.unreadable;
    error!(%account, %from, %to, matches, declined, other_amount, missing, extra, unreadable, "shadow: what would have been charged differs from what was charged");
    let differences: Vec<&Line> = compared.lines.iter().filter(|line| !line.verdict.agrees()).collect();
    for line in differences.iter().take(TOLD) {
        let external_ref = line.expected.as_ref().map(|expected| expected.external_ref.as_str());
        let external_ref = external_ref.or(compared.references.get(&line.customer_uid).map(String::as_str)).unwrap_or_default();
        let would = line.expected.as_ref().map_or_else(String::new, |expected| expected.amount.to_string());
        let was = line.charged.as_ref().and_then(|record| record.amount).map_or_else(String::new, |amount| amount.to_string());
        warn!(day = %line.day, verdict = line.verdict.name(), %external_ref, customer_uid = %line.customer_uid, %would, %was, "shadow: a difference");
    }
    if differences.len() > TOLD {
        let more = differences.len() - TOLD;
        warn!(more, "shadow: more differences: `rebilld run --shadow --days 1` lists all");
    }
}
