//! What is expected of an account's day, for its fuse: counted before the day begins, by the walk that forecasts make.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, Zoned};
use tracing::{info, warn};

use super::ahead;
use crate::domain::charge::AccountId;
use crate::domain::fuse::Count;
use crate::engine::outlook::{Coming, Kind, outlook};
use crate::engine::{Account, Engine, InForce};
use crate::ports::store::Expectation;
use crate::store::Database;
use crate::store::db::Fault;

/// How often it is looked whether a day is still unknown; costs one small row each.
const EVERY: Duration = Duration::from_secs(600);
/// After a walk that could not be finished.
const AGAIN: Duration = Duration::from_secs(30);
/// From this local hour on tomorrow is counted: the sign-ups of the morning are in it, and nothing that happens at night.
const FROM_HOUR: i8 = 12;

/// Tomorrow is counted anew when it was counted so long ago: what is imported or changed until it begins belongs to it.
const ANEW: SignedDuration = SignedDuration::from_hours(1);
/// And a last time from this local hour and minute on.
const LAST: (i8, i8) = (23, 50);

/// Keeps the days of all accounts known, for ever.
pub(super) async fn keep(database: Arc<Database>, engine: Arc<Engine>, accounts: Vec<Arc<Account>>) {
    loop {
        let in_force = engine.in_force();
        let zone = |account: &Arc<Account>| {
            let bounds = in_force.bounds.get(&account.id);
            (account.id, bounds.map_or(&account.budget_zone, |bounds| &bounds.budget_zone).clone())
        };
        let zones: Vec<(AccountId, TimeZone)> = accounts.iter().map(zone).collect();
        let pause = match expect(&database, &in_force, &zones, engine.time()).await {
            Ok(days) => {
                if days > 0 {
                    info!(days, "it is known what to expect of these days");
                    engine.wake.ring();
                }
                EVERY
            }
            Err(why) => {
                warn!(%why, "what is expected of the day could not be counted: above its floor the fuse lets nothing through");
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// A day that is to be counted.
struct Day {
    account: AccountId,
    day: Date,
    begins: Timestamp,
    ends: Timestamp,
    /// It has begun: what fell due before it was expected of an earlier one.
    has_begun: bool,
    count: Count,
}

impl Day {
    /// Whether a charge was to be expected of it.
    fn holds(&self, coming: &Coming) -> bool {
        let within = self.begins <= coming.at && coming.at < self.ends;
        within && (!self.has_begun || coming.due_at >= self.begins || coming.kind == Kind::Retry)
    }
}

/// Counts what is expected of today, where it is not known yet, and from noon on of tomorrow, every hour. Reads the whole book once if
/// anything is to be counted, and nothing otherwise. Returns how many days became known.
pub async fn expect(
    database: &Database,
    in_force: &InForce,
    zones: &[(AccountId, TimeZone)],
    now: Timestamp,
) -> Result<usize, Fault> {
    let today = |zone: &TimeZone| now.to_zoned(zone.clone()).date();
    let Some(first) = zones.iter().map(|(_, zone)| today(zone)).min() else { return Ok(0) };
    let known = database.expected_since(first).await?;
    let mut days: BTreeMap<AccountId, Vec<Day>> = BTreeMap::new();
    for (account, zone) in zones {
        let (today, local) = (today(zone), now.to_zoned(zone.clone()));
        for (ahead, wanted) in [(0, true), (1, local.hour() >= FROM_HOUR)] {
            let Some(day) = day(*account, zone, today, ahead).filter(|_| wanted) else { continue };
            let since = known.get(&(*account, day.day));
            if since.is_none_or(|since| !day.has_begun && is_old(*since, &local)) {
                days.entry(*account).or_default().push(day);
            }
        }
    }
    let Some(until) = days.values().flatten().map(|day| day.ends).max() else { return Ok(0) };
    let add = |standing: &crate::ports::store::Standing| {
        let Some(days) = days.get_mut(&standing.schedule.account) else { return };
        for coming in &outlook(standing, in_force, now, until).charges {
            for day in days.iter_mut().filter(|day| day.holds(coming)) {
                day.count.add(1, coming.amount);
            }
        }
    };
    ahead::walk(database, add, |_, _| {}).await?;
    let (begun, coming): (Vec<Day>, Vec<Day>) = days.into_values().flatten().partition(|day| day.has_begun);
    let expected = |days: Vec<Day>| -> Vec<Expectation> {
        days.into_iter().map(|day| Expectation { account: day.account, day: day.day, count: day.count }).collect()
    };
    let (begun, coming) = (expected(begun), expected(coming));
    database.expect(now, &begun).await?;
    database.expect_anew(now, &coming).await?;
    Ok(begun.iter().chain(&coming).filter(|one| !known.contains_key(&(one.account, one.day))).count())
}

/// Whether a day that has not begun is to be counted anew.
fn is_old(since: Timestamp, now: &Zoned) -> bool {
    let last = |at: &Zoned| (at.hour(), at.minute()) >= LAST;
    let before = since.to_zoned(now.time_zone().clone());
    now.timestamp().duration_since(since) >= ANEW || (last(now) && !last(&before))
}

fn day(account: AccountId, zone: &TimeZone, today: Date, ahead: i32) -> Option<Day> {
    let midnight = |day: Date| day.to_zoned(zone.clone()).ok().map(|at| at.timestamp());
    let day = today.checked_add(Span::new().days(ahead)).ok()?;
    let (begins, ends) = (midnight(day)?, midnight(day.tomorrow().ok()?)?);
    Some(Day { account, day, begins, ends, has_begun: ahead == 0, count: Count::default() })
}
