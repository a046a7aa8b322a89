//! The dispatch loop: looks at what is due, puts it under way, and sleeps until the next due instant or a ring.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::audit::{AuditError, COMPLETE, QUICK};
use super::breaker::Passage;
use super::charge::Batch;
use super::open::Opening;
use super::rates::MEASURED_EVERY;
use super::{AccountRuntime, Engine, missed};
use crate::domain::charge::AccountId;
use crate::ports::crash;
use crate::ports::store::{Delivery, NextDue, StoreError};

/// Interrupted sends are adopted this often.
const ADOPT_EVERY: Duration = Duration::from_secs(30);
/// How long opening waits for an account that has no room at the moment.
const OPENING_WAITS: Duration = Duration::from_secs(1);
/// After a failed database call.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// Something under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Flight {
    Send(AccountId),
    LookUp(AccountId),
    Probe(AccountId),
    Audit(AccountId),
    Count,
    Relay,
}

/// What the loop itself remembers; everything else is in the database.
struct Loop {
    engine: Arc<Engine>,
    flights: JoinSet<Flight>,
    running: BTreeMap<Flight, usize>,
    /// When each account's audits are looked at next, by CLOCK_BOOTTIME.
    next_audit: BTreeMap<AccountId, Duration>,
    /// When what is due of each account is held against its fuse next.
    next_measure: BTreeMap<AccountId, Duration>,
    next_adopt: Duration,
    next_count: Duration,
    next_clock: Duration,
    /// A jump of the clock is still to be read from the database, or to be written to it.
    recall_jump: bool,
    keep_jump: bool,
    /// Until when opening waits for room, by CLOCK_BOOTTIME.
    open_by: Option<Duration>,
    /// What the last dispatch found, before it put anything under way.
    due: NextDue,
    database_failures: u32,
}

/// What an account has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// The breaker is open, a brake is on, or the clock has jumped.
    Stopped,
    Full,
    For(usize),
}

/// Runs the engine until [`Engine::stop`]; then finishes what is in flight and returns. Dropping the future is a crash:
/// everything under way is dropped with it.
pub async fn run(engine: Arc<Engine>) {
    let mut recorder = {
        let engine = Arc::clone(&engine);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { engine.run_recorder().await });
        tasks
    };
    let mut worker = Loop {
        engine,
        flights: JoinSet::new(),
        running: BTreeMap::new(),
        next_audit: BTreeMap::new(),
        next_measure: BTreeMap::new(),
        next_adopt: Duration::ZERO,
        next_count: Duration::ZERO,
        next_clock: Duration::ZERO,
        recall_jump: true,
        keep_jump: false,
        open_by: None,
        due: NextDue::default(),
        database_failures: 0,
    };
    tokio::select! {
        () = worker.turn() => {}
        // without it no outcome is stored: whoever runs this process has to start it anew
        ended = recorder.join_next() => {
            error!("the recorder has ended: the worker stops");
            if let Some(Err(why)) = ended && why.is_panic() {
                std::panic::resume_unwind(why.into_panic());
            }
        }
    }
}

impl Loop {
    async fn turn(&mut self) {
        let engine = Arc::clone(&self.engine);
        loop {
            crash::stall().await;
            engine.pulse.step(Duration::ZERO);
            while let Some(done) = self.flights.try_join_next() {
                self.landed(done);
            }
            if self.engine.is_stopping() {
                if self.flights.is_empty() {
                    return;
                }
                // a flight ends by its own deadlines; each that lands is a step
                if let Some(done) = engine.pulse.over(self.flights.join_next()).await {
                    self.landed(done);
                }
                continue;
            }
            self.engine.heed_stale_count();
            let dispatched = engine.pulse.over(self.dispatch()).await;
            let mut landed = false;
            while self.engine.in_force().tuning.one_at_a_time && !self.flights.is_empty() {
                if let Some(done) = self.flights.join_next().await {
                    self.landed(done);
                    landed = true;
                }
            }
            if dispatched.is_ok() {
                engine.pulse.has_looked();
            }
            match dispatched {
                Ok(more) if more || landed => {
                    self.database_failures = 0;
                    // let what was put under way begin before more is claimed
                    tokio::task::yield_now().await;
                }
                Ok(_) => {
                    self.database_failures = 0;
                    let until = self.next_look();
                    self.wait(until).await;
                }
                Err(why) => {
                    engine.shaken();
                    if self.database_failures.is_power_of_two() || self.database_failures == 0 {
                        warn!(%why, failures = self.database_failures, "the database does not answer: the worker waits");
                    }
                    self.database_failures = self.database_failures.saturating_add(1);
                    let pause = SignedDuration::try_from(DATABASE_PAUSE).unwrap_or(SignedDuration::ZERO);
                    let until = self.engine.now().checked_add(pause).unwrap_or(Timestamp::MAX);
                    self.wait(until).await;
                }
            }
        }
    }

    /// Puts what is due under way. Returns whether there may be more at once.
    async fn dispatch(&mut self) -> Result<bool, StoreError> {
        let engine = Arc::clone(&self.engine);
        let boot = engine.clock.boot();
        self.check_clock(boot).await?;
        engine.pulse.step(Duration::ZERO);
        if boot >= self.next_adopt {
            self.next_adopt = boot + ADOPT_EVERY;
            engine.adopt_interrupted().await?;
        }
        if boot >= self.next_count {
            self.next_count = boot + missed::EVERY;
            // a count under way for that long is told as a stale one
            if self.count(Flight::Count) == 0 {
                self.start(Flight::Count, count(Arc::clone(&engine)));
            }
        }
        // one question tells what is worth asking for: an idle daemon asks nothing else
        let now = engine.now();
        self.due = engine.store.next_due(now).await?;
        let is_due = |at: Option<Timestamp>, by: Timestamp| at.is_some_and(|at| at <= by);
        let soon = now.checked_add(engine.in_force().tuning.lead).unwrap_or(now);
        let mut more = false;
        // what cannot be sent or opened must not keep doubt from being looked up
        let mut failed = None;
        let mut take = |done: Result<bool, StoreError>| match done {
            Ok(done) => more |= done,
            Err(why) => failed = failed.take().or(Some(why)),
        };
        for account in &engine.accounts {
            self.mind_breaker(account, boot);
        }
        let ring = engine.audit_wanted.swap(false, Ordering::AcqRel);
        // what is due already goes before what is about to open: a wave must not starve the retries of yesterday
        if is_due(self.due.send, soon) {
            for account in &engine.accounts {
                engine.pulse.step(Duration::ZERO);
                take(match self.measure(account, boot).await {
                    Ok(()) => self.dispatch_sends(account).await,
                    Err(why) => Err(why),
                });
            }
        }
        engine.pulse.step(Duration::ZERO);
        if is_due(self.due.schedule, now) {
            take(self.dispatch_opening(boot).await);
        } else {
            self.open_by = None;
        }
        for account in &engine.accounts {
            engine.pulse.step(Duration::ZERO);
            match is_due(self.due.look_up, now) {
                true => take(self.dispatch_look_ups(account).await),
                false => account.reconciled(now),
            }
            take(self.dispatch_audit(account, boot, ring).await.map(|()| false));
        }
        engine.pulse.step(Duration::ZERO);
        if is_due(self.due.state, now) {
            take(engine.follow_states().await);
        }
        if is_due(self.due.delivery, now) {
            take(self.dispatch_relay().await);
        }
        match failed {
            Some(why) => Err(why),
            None => Ok(more),
        }
    }

    /// A pause of the breaker that is over is followed by one look-up.
    fn mind_breaker(&mut self, account: &Arc<AccountRuntime>, boot: Duration) {
        self.engine.settle_breaker(account);
        if account.limits.takes_probe(boot) {
            self.start(Flight::Probe(account.account.id), probe(Arc::clone(&self.engine), Arc::clone(account)));
        }
    }

    async fn dispatch_relay(&mut self) -> Result<bool, StoreError> {
        if self.count(Flight::Relay) > 0 {
            return Ok(false);
        }
        let engine = Arc::clone(&self.engine);
        let deliveries = engine.claim_deliveries().await?;
        if deliveries.is_empty() {
            return Ok(false);
        }
        // the next batch waits for this one: its landing asks again
        self.start(Flight::Relay, relay(engine, deliveries));
        Ok(false)
    }

    /// How many charges of an account may be put under way now.
    async fn room(&self, account: &AccountRuntime) -> Result<Room, StoreError> {
        let engine = &self.engine;
        let boot = engine.clock.boot();
        if account.limits.passage(boot) == Passage::Stopped || !engine.trusts_time() {
            return Ok(Room::Stopped);
        }
        // a braked account keeps its charges due, so that nothing is claimed in vain
        if engine.brakes_for(account).await?.is_some() {
            return Ok(Room::Stopped);
        }
        let enough = self.count(Flight::Send(account.account.id)) >= engine.in_force().tuning.flights;
        Ok(match account.limits.room(boot) {
            0 => Room::Full,
            _ if enough => Room::Full,
            room => Room::For(room),
        })
    }

    /// Before a wave: what is due is held against the account's fuse, once a minute, before the first of it is claimed.
    async fn measure(&mut self, account: &AccountRuntime, boot: Duration) -> Result<(), StoreError> {
        let id = account.account.id;
        if boot >= self.next_measure.get(&id).copied().unwrap_or_default() {
            self.engine.measure(account).await?;
            self.next_measure.insert(id, boot + MEASURED_EVERY);
        }
        Ok(())
    }

    async fn dispatch_sends(&mut self, account: &Arc<AccountRuntime>) -> Result<bool, StoreError> {
        let Room::For(room) = self.room(account).await? else { return Ok(false) };
        let engine = Arc::clone(&self.engine);
        let Some(batch) = engine.claim_sends(account, room).await? else { return Ok(false) };
        let more = batch.charges.len() >= room;
        self.start(Flight::Send(account.account.id), send(engine, batch));
        Ok(more)
    }

    /// Opens periods. While accounts are busy to the brim it waits for them a little, because a charge that is claimed as it
    /// opens costs a good deal less than one that is opened now and claimed later.
    async fn dispatch_opening(&mut self, boot: Duration) -> Result<bool, StoreError> {
        let engine = Arc::clone(&self.engine);
        let (mut rooms, mut full) = (Vec::new(), false);
        for account in &engine.accounts {
            match self.room(account).await? {
                Room::For(room) => rooms.push(Opening { account: Arc::clone(account), room, token: engine.token() }),
                Room::Full => full = true,
                Room::Stopped => {}
            }
        }
        // by a wrong clock, periods would fall due that have not begun, and pass over that have not been missed
        if !engine.trusts_time() {
            return Ok(false);
        }
        if full && rooms.is_empty() && boot < *self.open_by.get_or_insert(boot + OPENING_WAITS) {
            return Ok(false);
        }
        self.open_by = None;
        let room: usize = rooms.iter().map(|opening| opening.room).sum();
        let limit =
            if room == 0 { engine.in_force().tuning.batch as usize } else { room.min(engine.in_force().tuning.batch as usize) };
        let (more, batches) = engine.open_some(limit, rooms).await?;
        for batch in batches {
            self.start(Flight::Send(batch.account.account.id), send(Arc::clone(&engine), batch));
        }
        Ok(more)
    }

    async fn dispatch_look_ups(&mut self, account: &Arc<AccountRuntime>) -> Result<bool, StoreError> {
        let flight = Flight::LookUp(account.account.id);
        if self.count(flight) > 0 {
            return Ok(false);
        }
        let engine = Arc::clone(&self.engine);
        let Some(batch) = engine.claim_look_ups(account).await? else {
            account.reconciled(engine.now());
            return Ok(false);
        };
        // the next batch waits for this one: its landing asks again
        self.start(flight, look_up(engine, batch));
        Ok(false)
    }

    async fn dispatch_audit(&mut self, account: &Arc<AccountRuntime>, boot: Duration, ring: bool) -> Result<(), StoreError> {
        let id = account.account.id;
        let due = self.next_audit.get(&id).is_none_or(|next| boot >= *next);
        if self.count(Flight::Audit(id)) > 0 || !(due || ring) {
            return Ok(());
        }
        // an account that has never been audited may not send: it is tried again soon, the others at leisure
        let never = self.engine.brakes_for(account).await?.is_some();
        self.next_audit.insert(id, boot + Duration::from_secs(if never { 30 } else { 300 }));
        let wanted = account.unaudited.load(Ordering::Acquire);
        if let Some(complete) = self.engine.audit_due(account, wanted).await? {
            self.start(Flight::Audit(id), audit(Arc::clone(&self.engine), Arc::clone(account), complete));
        }
        Ok(())
    }

    /// The database clock against CLOCK_BOOTTIME, every 10 s. Before the first one, what an earlier process has seen of it; and
    /// nothing else happens before what this one has seen is kept.
    async fn check_clock(&mut self, boot: Duration) -> Result<(), StoreError> {
        let engine = Arc::clone(&self.engine);
        if self.recall_jump {
            engine.recall_jump().await?;
            self.recall_jump = false;
        }
        if let Some(every) = engine.in_force().tuning.clock_check
            && boot >= self.next_clock
        {
            self.next_clock = boot + every;
            self.keep_jump |= engine.check_clock().await?;
            engine.check_memory().await?;
        }
        if self.keep_jump {
            engine.keep_jump().await?;
            self.keep_jump = false;
        }
        Ok(())
    }

    /// When to look again if nothing rings.
    fn next_look(&self) -> Timestamp {
        let engine = &self.engine;
        let (now, boot) = (engine.now(), engine.clock.boot());
        let in_force = engine.in_force();
        let breaker = engine.accounts.iter().filter_map(|account| account.limits.breaker_changes(boot)).min();
        let held = [breaker, self.open_by].into_iter().flatten().filter_map(|until| until.checked_sub(boot));
        look_again(now, &self.due, in_force.tuning.lead, held, in_force.tuning.interval)
    }

    async fn wait(&mut self, until: Timestamp) {
        let engine = Arc::clone(&self.engine);
        engine.pulse.step(until.duration_since(engine.now()).unsigned_abs());
        let waiting = async {
            loop {
                let busy = !self.flights.is_empty();
                tokio::select! {
                    biased;
                    done = self.flights.join_next(), if busy => {
                        let Some(done) = done else { continue };
                        let is_news = !matches!(done, Ok(Flight::Count));
                        self.landed(done);
                        // a count changes nothing that is due
                        if is_news {
                            return;
                        }
                    }
                    () = engine.wake.heard() => return,
                    () = engine.clock.sleep_until(until, busy) => return,
                }
            }
        };
        engine.pulse.over(waiting).await;
    }

    fn count(&self, flight: Flight) -> usize {
        self.running.get(&flight).copied().unwrap_or(0)
    }

    fn start(&mut self, flight: Flight, work: impl Future<Output = ()> + Send + 'static) {
        *self.running.entry(flight).or_default() += 1;
        self.flights.spawn(async move {
            work.await;
            flight
        });
    }

    fn landed(&mut self, done: Result<Flight, tokio::task::JoinError>) {
        match done {
            Ok(flight) => {
                if let Some(count) = self.running.get_mut(&flight) {
                    *count = count.saturating_sub(1);
                }
            }
            Err(crashed) => {
                // its claims end by themselves, and what it left open is looked up; its permits are gone with it
                error!(%crashed, "a part of the worker crashed");
                self.running.clear();
            }
        }
    }
}

/// The next due instant, or the end of what holds back what is due (`held`, from now on), or the safety net. Never now: what is
/// due now has been put under way, or waits for something that changes with a ring or with the end of what is under way.
fn look_again(
    now: Timestamp,
    due: &NextDue,
    lead: SignedDuration,
    held: impl Iterator<Item = Duration>,
    interval: Duration,
) -> Timestamp {
    let after = |wait: Duration| {
        SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok()).unwrap_or(Timestamp::MAX)
    };
    // charges are claimed a little early, so that they are ready when they fall due
    let claimed_at = |send: Option<Timestamp>| send.map(|send| send.checked_sub(lead).unwrap_or(send));
    let sends = [claimed_at(due.send), due.send, claimed_at(due.send_later), due.send_later];
    let others = [due.schedule, due.schedule_later, due.look_up, due.look_up_later, due.delivery, due.state, due.claim_end];
    let ahead = sends.into_iter().chain(others).flatten().chain(held.map(after));
    ahead.filter(|at| *at > now).min().unwrap_or(Timestamp::MAX).min(after(interval))
}

async fn send(engine: Arc<Engine>, batch: Batch) {
    engine.charge_batch(batch).await;
}

async fn look_up(engine: Arc<Engine>, batch: Batch) {
    engine.look_up_batch(batch).await;
}

async fn probe(engine: Arc<Engine>, account: Arc<AccountRuntime>) {
    engine.probe(&account).await;
}

async fn count(engine: Arc<Engine>) {
    engine.count_missed().await;
}

async fn relay(engine: Arc<Engine>, deliveries: Vec<Delivery>) {
    engine.deliver_batch(deliveries).await;
}

async fn audit(engine: Arc<Engine>, account: Arc<AccountRuntime>, complete: bool) {
    let span = if complete { COMPLETE } else { QUICK };
    match engine.audit(&account.account, span).await {
        Ok(report) => {
            if complete && report.incidents == 0 {
                account.unaudited.store(false, Ordering::Release);
            }
            engine.brakes.forget();
            engine.wake.ring();
        }
        Err(why) => {
            if let AuditError::Gateway(why) = &why {
                engine.heed_failure(&account, why).await;
            }
            warn!(account = %account.account.name, %why, "the audit could not be finished: it counts for nothing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NET: Duration = Duration::from_secs(10);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn again(due: NextDue, held: &[u64]) -> i64 {
        let held = held.iter().map(|seconds| Duration::from_secs(*seconds));
        look_again(at(0), &due, SignedDuration::from_secs(1), held, NET).duration_since(at(0)).as_secs()
    }

    #[test]
    fn nothing_planned_is_looked_at_again_at_the_safety_net() {
        assert_eq!(again(NextDue::default(), &[]), 10);
    }

    #[test]
    fn a_charge_is_claimed_early_and_a_look_up_is_not() {
        assert_eq!(again(NextDue { send: Some(at(5)), ..NextDue::default() }, &[]), 4);
        assert_eq!(again(NextDue { look_up: Some(at(5)), ..NextDue::default() }, &[]), 5);
    }

    #[test]
    fn what_is_held_back_hides_nothing_that_falls_due_after_it() {
        let due = NextDue { send: Some(at(-60)), send_later: Some(at(3)), ..NextDue::default() };
        assert_eq!(again(due, &[]), 2);
        let due = NextDue { schedule: Some(at(-60)), schedule_later: Some(at(3)), ..NextDue::default() };
        assert_eq!(again(due, &[]), 3);
    }

    #[test]
    fn a_wait_that_is_over_never_makes_the_loop_spin() {
        let due = NextDue { schedule: Some(at(0)), ..NextDue::default() };
        assert_eq!(again(due, &[0]), 10);
        assert_eq!(again(due, &[0, 4]), 4);
    }
}
