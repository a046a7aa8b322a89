//! Dunning: the days-long schedule of tries after a decline, and the caps that no schedule can raise.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::attempt::digest;
use super::charge::Charge;
use super::decline::Class;
use super::holidays::{Banking, Holidays};
use super::period::instant;
use super::recurrence::BillingDay;
use super::subscription::Status;
use super::window::{Hours, Windows};

/// Declined tries of one charge, at most. Card networks charge for reattempts (Visa: above 15 in 30 days), and acquirers look at
/// merchants long before that; sources in docs/declines.md. None of these can be set.
pub const MOST_TRIES: u8 = 8;
/// Declined tries of one billing key within [`KEY_WINDOW`], over all its subscriptions.
pub const MOST_PER_KEY: usize = 10;
pub const KEY_WINDOW: SignedDuration = SignedDuration::from_hours(30 * 24);
/// TRANSIENT refusals of one billing key within a day.
pub const MOST_TRANSIENT: usize = 6;
pub const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Between two charges to one billing key: some providers refuse the second of two equal amounts as a duplicate.
pub const KEY_SPACING: SignedDuration = SignedDuration::from_mins(10);

/// The first wait after a TRANSIENT refusal; each further one is twice as long, with jitter.
const TRANSIENT_FIRST: SignedDuration = SignedDuration::from_mins(10);
/// In thousandths, both ways.
const TRANSIENT_JITTER: u16 = 200;

const fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(days * 24)
}

/// When to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ladder {
    /// Offsets from the first decline, rising.
    After(Vec<SignedDuration>),
    /// Waits that grow by a factor, each from the one before.
    Exponential {
        first: SignedDuration,
        /// In thousandths: 2000 doubles.
        factor: u32,
        /// No wait is longer.
        most: SignedDuration,
        tries: u8,
        /// In thousandths, both ways: 200 is up to a fifth earlier or later.
        jitter: u16,
    },
}

impl Ladder {
    /// The offset of a step from the first decline; step 0 follows the first decline. `None`: the ladder is used up.
    pub fn offset(&self, step: u8, seed: u64) -> Option<SignedDuration> {
        match self {
            Self::After(offsets) => offsets.get(usize::from(step)).copied(),
            Self::Exponential { first, factor, most, tries, jitter } => {
                if step >= *tries {
                    return None;
                }
                let mut wait = *first;
                let mut offset = SignedDuration::ZERO;
                for step in 0..=step {
                    let capped = wait.min(*most);
                    offset = offset.saturating_add(jittered(capped, *jitter, mixed(seed, step)));
                    wait = SignedDuration::from_secs(capped.as_secs().saturating_mul(i64::from(*factor)) / 1000).max(*first);
                }
                Some(offset)
            }
        }
    }

    pub fn steps(&self) -> u8 {
        match self {
            Self::After(offsets) => u8::try_from(offsets.len()).unwrap_or(u8::MAX),
            Self::Exponential { tries, .. } => *tries,
        }
    }
}

/// A wait moved by up to `jitter` thousandths of itself, both ways, always the same for one seed.
fn jittered(wait: SignedDuration, jitter: u16, seed: u64) -> SignedDuration {
    let span = u64::from(jitter) * 2 + 1;
    let thousandths = 1000 - i64::from(jitter) + i64::try_from(seed % span).unwrap_or(0);
    SignedDuration::from_millis((wait.as_secs().saturating_mul(1000) / 1000).saturating_mul(thousandths))
}

fn mixed(seed: u64, step: u8) -> u64 {
    // the splitting step of SplitMix64: neighbouring steps have nothing in common
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(u64::from(step) + 1));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A seed that belongs to a charge: the same in every process and after every restore.
pub fn seed(base: &str) -> u64 {
    digest(&["jitter/1", base]).iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// What becomes of the subscription when a charge is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum End {
    /// Nothing: the next period is charged as usual.
    #[default]
    Keep,
    /// It is paused.
    Pause,
    /// It is cancelled.
    Cancel,
}

impl End {
    pub const NAMES: [&'static str; 3] = ["keep", "pause", "cancel"];

    /// The status that it gives the subscription.
    pub fn status(self) -> Option<Status> {
        match self {
            Self::Keep => None,
            Self::Pause => Some(Status::Paused),
            Self::Cancel => Some(Status::Cancelled),
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|place| [Self::Keep, Self::Pause, Self::Cancel][place])
    }
}

/// One `[dunning.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dunning {
    pub ladder: Ladder,
    /// Ladders of their own for some classes.
    pub classes: BTreeMap<Class, Ladder>,
    /// Local hours in which a retry starts.
    pub hours: Hours,
    /// A retry moves on to the next of these days of the month, and from there to a banking day. Empty: any day.
    pub preferred_days: Vec<BillingDay>,
    /// After the first decline: no try and no new card is waited for beyond it.
    pub give_up: SignedDuration,
    /// After the first decline, before the subscription is `past_due`.
    pub grace: SignedDuration,
    pub end: End,
}

/// A ladder with a name, and how long a charge on it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    pub name: &'static str,
    /// Days after the first decline.
    pub days: &'static [i64],
    pub give_up_days: i64,
}

/// The ladders that have a name.
pub const PRESETS: [Preset; 4] = [
    Preset { name: "1-3-5-7", days: &[1, 3, 5, 7], give_up_days: 14 },
    // waits of 3, 5 and 7 days, each after the try before
    Preset { name: "3-5-7", days: &[3, 8, 15], give_up_days: 16 },
    // waits of 2, 5, 7 and 7 days, each after the try before
    Preset { name: "2-5-7-7", days: &[2, 7, 14, 21], give_up_days: 22 },
    // the first try and seven more
    Preset { name: "8-in-14-days", days: &[1, 3, 5, 7, 9, 11, 13], give_up_days: 14 },
];

impl Preset {
    pub const NAMES: [&'static str; 4] = [PRESETS[0].name, PRESETS[1].name, PRESETS[2].name, PRESETS[3].name];

    pub fn of(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    pub fn ladder(&self) -> Ladder {
        Ladder::After(self.days.iter().copied().map(days).collect())
    }

    pub fn give_up(&self) -> SignedDuration {
        days(self.give_up_days)
    }
}

impl Default for Dunning {
    /// 1, 3, 5 and 7 days after the first decline, 09:00 to 18:00, given up after 14 days; past due at once.
    fn default() -> Self {
        Self {
            ladder: PRESETS[0].ladder(),
            classes: BTreeMap::new(),
            hours: Hours::between(9, 18),
            preferred_days: Vec::new(),
            give_up: days(14),
            grace: SignedDuration::ZERO,
            end: End::Keep,
        }
    }
}

/// A ladder where it is used: the dunning of a plan, in a zone, with its holidays.
#[derive(Debug, Clone, PartialEq)]
pub struct Local {
    pub dunning: Arc<Dunning>,
    pub zone: TimeZone,
    pub holidays: Arc<Holidays>,
}

impl Default for Local {
    /// In Korea.
    fn default() -> Self {
        let zone = TimeZone::fixed(jiff::tz::offset(9));
        Self { dunning: Arc::default(), zone, holidays: Arc::new(Holidays::korea().clone()) }
    }
}

/// What is known when the next try is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Declined {
    pub class: Class,
    /// Declined tries on this ladder so far, at least 1.
    pub rung: u8,
    pub first_at: Timestamp,
    pub now: Timestamp,
    pub seed: u64,
}

impl Local {
    /// When the next try falls due. `None` once the ladder is used up, or the charge too old: it becomes unpaid.
    ///
    /// With the default ladder: 1 day, 3 days, 5 days, 7 days after the first decline, then `None`. Never within a day of now,
    /// never outside the hours. Texts that nobody knows, and those that had to be looked up, get the first step only; a payer
    /// who has to call the card company gets two.
    pub fn next_try(&self, declined: &Declined) -> Option<Timestamp> {
        let Declined { class, rung, first_at, now, seed } = *declined;
        let step = rung.checked_sub(1)?;
        let own = self.dunning.classes.get(&class);
        let shortest = match class {
            _ if own.is_some() => u8::MAX,
            Class::Unknown | Class::Ambiguous => 1,
            Class::SoftContact => 2,
            _ => u8::MAX,
        };
        let offset = own.unwrap_or(&self.dunning.ladder).offset(step, seed).filter(|_| step < shortest)?;
        let wanted = first_at.saturating_add(offset).ok()?.max(now.saturating_add(DAY).ok()?);
        let last = self.give_up_at(first_at);
        let preferred = self.on_a_preferred_day(wanted).map(|at| self.within_hours(at)).filter(|at| *at <= last);
        Some(preferred.unwrap_or_else(|| self.within_hours(wanted))).filter(|at| *at <= last)
    }

    /// Until when a charge is tried, or waits for a new card, before it becomes unpaid.
    pub fn give_up_at(&self, first_declined_at: Timestamp) -> Timestamp {
        first_declined_at.saturating_add(self.dunning.give_up).unwrap_or(Timestamp::MAX)
    }

    /// The first instant from `at` on that is within the hours.
    fn within_hours(&self, at: Timestamp) -> Timestamp {
        Windows { hours: self.dunning.hours, ..Windows::ALWAYS }.next_open(at, &self.zone)
    }

    /// The same time on the next preferred day, or on the banking day that follows it; `None` where no day is preferred.
    fn on_a_preferred_day(&self, at: Timestamp) -> Option<Timestamp> {
        let preferred = &self.dunning.preferred_days;
        if preferred.is_empty() {
            return None;
        }
        let local = self.zone.to_datetime(at);
        let mut date = local.date();
        // within a month and a day each of them comes
        for _ in 0..32 {
            if preferred.iter().any(|day| day.falls_on(date)) {
                let banking = Banking::Next.shift(date, &self.holidays)?;
                return instant(banking, local.time(), &self.zone).map(|then| then.max(at));
            }
            date = date.tomorrow().ok()?;
        }
        None
    }
}

/// Which dunning a charge is under: its plan's, or the default one.
#[derive(Debug, Clone, PartialEq)]
pub struct Dunnings {
    pub default: Arc<Dunning>,
    pub plans: BTreeMap<String, PlanDunning>,
    /// Of the accounts, where neither the subscription nor its plan has a zone.
    pub zones: BTreeMap<String, TimeZone>,
    pub holidays: Arc<Holidays>,
}

/// What a plan says of its declined charges.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanDunning {
    pub dunning: Arc<Dunning>,
    pub zone: Option<TimeZone>,
}

impl Default for Dunnings {
    fn default() -> Self {
        let holidays = Local::default().holidays;
        Self { default: Arc::default(), plans: BTreeMap::new(), zones: BTreeMap::new(), holidays }
    }
}

impl Dunnings {
    /// How long a subscription of a plan stays as it was after a first decline.
    pub fn grace(&self, plan: &str) -> SignedDuration {
        self.plans.get(plan).map_or(&self.default, |plan| &plan.dunning).grace
    }

    pub fn of_charge(&self, charge: &Charge) -> Local {
        self.of(&charge.account_name, &charge.plan, charge.zone.as_deref())
    }

    /// `zone`: the subscription's own; one that nobody knows counts for nothing.
    pub fn of(&self, account: &str, plan: &str, zone: Option<&str>) -> Local {
        let plan = self.plans.get(plan);
        let own = zone.and_then(|name| TimeZone::get(name).ok());
        let zone = own.or_else(|| plan.and_then(|plan| plan.zone.as_ref()).or_else(|| self.zones.get(account)).cloned());
        Local {
            dunning: Arc::clone(plan.map_or(&self.default, |plan| &plan.dunning)),
            zone: zone.unwrap_or_else(|| Local::default().zone),
            holidays: Arc::clone(&self.holidays),
        }
    }
}

/// The wait after the `count`th TRANSIENT refusal of a day, from 1: 10, 20, 40, 80, 160 minutes, a fifth more or less. `None`:
/// the day's cap is reached, and the charge joins its ladder.
pub fn transient_wait(count: u8, seed: u64) -> Option<SignedDuration> {
    if count == 0 || usize::from(count) >= MOST_TRANSIENT {
        return None;
    }
    let wait = SignedDuration::from_secs(TRANSIENT_FIRST.as_secs() << (count - 1));
    Some(jittered(wait, TRANSIENT_JITTER, mixed(seed, count)))
}

/// A past try of a billing key, as the caps see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTry {
    pub at: Timestamp,
    /// It is a try of the charge that asks.
    pub own: bool,
    pub end: KeyEnd,
}

/// What a try of a billing key came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEnd {
    /// Not known yet: it may still be declined.
    Open,
    /// It counts as a declined try.
    Declined(Class),
    /// An outage, or the merchant's own trouble: no try of the payer.
    Transient,
    Paid,
}

/// Why a billing key is not asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyStop {
    /// Another charge to it was sent just now, or is under way.
    Spacing,
    /// It declined this charge within a day.
    Day,
    /// [`MOST_PER_KEY`].
    Month,
    /// [`MOST_TRANSIENT`].
    Transient,
    /// The card company refused it for good, for another charge: nothing is sent until a new one comes.
    Refused,
    /// PortOne's own schedule is going to charge it: nothing is sent from here until its bookings are gone.
    Booked,
}

/// How long a charge rests whose billing key is booked elsewhere, before it is looked at again. What takes the bookings away
/// (`rebilld takeover`) wakes it at once.
pub const BOOKED_REST: SignedDuration = SignedDuration::from_hours(1);

impl KeyStop {
    /// Whether a charge that lives until `give_up` waits for the stop to end, at `until`. Otherwise only another card helps it.
    pub fn passes(self, until: Timestamp, give_up: Timestamp) -> bool {
        match self {
            Self::Spacing | Self::Day | Self::Transient | Self::Booked => true,
            Self::Month => until < give_up,
            Self::Refused => false,
        }
    }
}

/// Whether a billing key may be asked now; otherwise why not, and until when. Tries that may still be declined count as declined.
pub fn key_may_be_asked(tries: &[KeyTry], now: Timestamp) -> Result<(), (KeyStop, Timestamp)> {
    let within = |window: SignedDuration| move |one: &&KeyTry| now.duration_since(one.at) < window;
    let until = |at: Timestamp, window: SignedDuration| at.saturating_add(window).unwrap_or(Timestamp::MAX);
    let declined = |one: &&KeyTry| matches!(one.end, KeyEnd::Declined(_) | KeyEnd::Open);
    let paid_at = tries.iter().filter(|one| one.end == KeyEnd::Paid).map(|one| one.at).max();
    let hard =
        |one: &&KeyTry| one.end == KeyEnd::Declined(Class::HardCard) && !one.own && paid_at.is_none_or(|paid| paid < one.at);
    if let Some(refused) = tries.iter().filter(within(KEY_WINDOW)).filter(hard).map(|one| one.at).max() {
        return Err((KeyStop::Refused, until(refused, KEY_WINDOW)));
    }
    // the bound is met again once the oldest of the newest so many leaves the window
    let over = |mut times: Vec<Timestamp>, most: usize, window: SignedDuration| {
        times.sort_unstable_by(|one, other| other.cmp(one));
        times.get(most - 1).map(|at| until(*at, window))
    };
    let times = |window: SignedDuration, counts: &dyn Fn(&&KeyTry) -> bool| -> Vec<Timestamp> {
        tries.iter().filter(within(window)).filter(counts).map(|one| one.at).collect()
    };
    if let Some(until) = over(times(KEY_WINDOW, &declined), MOST_PER_KEY, KEY_WINDOW) {
        return Err((KeyStop::Month, until));
    }
    let of_this = |one: &&KeyTry| one.own && matches!(one.end, KeyEnd::Declined(_));
    if let Some(until) = over(times(DAY, &of_this), 1, DAY) {
        return Err((KeyStop::Day, until));
    }
    let outage = |one: &&KeyTry| matches!(one.end, KeyEnd::Transient | KeyEnd::Open | KeyEnd::Declined(Class::Transient));
    if let Some(until) = over(times(DAY, &outage), MOST_TRANSIENT, DAY) {
        return Err((KeyStop::Transient, until));
    }
    let others = |one: &&KeyTry| !one.own;
    match over(times(KEY_SPACING, &others), 1, KEY_SPACING) {
        Some(until) => Err((KeyStop::Spacing, until)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
