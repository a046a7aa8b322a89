//! The operator of a seed: imports, turns switches, changes prices and cards, rules on what is in review.

use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use rebilld::domain::charge::{ChargeId, ChargeState};
use rebilld::domain::decide::{Refusal, Ruling};
use rebilld::engine::audit::COMPLETE;
use rebilld::engine::rule::RuleError;
use rebilld::ports::store::Store;
use rebilld::store::desk::{ChargeFilter, IncidentFilter, Reach, Signed, Tally};

use crate::book::twin;
use crate::faults::{Act, rng};
use crate::operations::happens;
use crate::stage::at_once;
use crate::world::World;

fn signed() -> Signed {
    Signed { who: "a test".to_owned(), reason: "it is simulated".to_owned() }
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// What a visit has left to be done at a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Chore {
    Unkill { since: Timestamp },
    Resume { row: usize },
    PutRight { row: usize },
}

/// What is ruled on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reviews {
    Alone,
    AndOthers,
}

/// What an operator remembers between visits.
#[derive(Debug, Default)]
pub struct Memory {
    visits: u64,
    chores: Vec<(Timestamp, Chore)>,
}

impl Memory {
    /// The kill switch is on, or the database has forgotten it.
    pub fn is_killed(&self) -> bool {
        self.chores.iter().any(|(_, chore)| matches!(chore, Chore::Unkill { .. }))
    }
}

impl World {
    pub fn kill(&self, on: bool) {
        at_once(self.database().desk().kill(self.now(), &Reach::Database, on, &signed())).unwrap();
        self.remember();
    }

    /// As each command does that adds to the journal: whether or not a daemon runs, the state directory knows of it.
    fn remember(&self) {
        let (database, directory) = (self.database(), &self.shared.directory);
        at_once(async {
            let newest = database.brakes().await.unwrap().newest_entry;
            if !directory.is_ahead_of(&database).await {
                newest.into_iter().for_each(|entry| directory.remember(&entry));
            }
        });
    }

    /// With an operator who looks in every few days.
    pub async fn work_until(&mut self, memory: &mut Memory, end: Timestamp) {
        while self.now() < end {
            let mut rng = rng(self.shared.swarm.seed, &["visit", &memory.visits.to_string()]);
            memory.visits += 1;
            let chore = memory.chores.iter().map(|(at, _)| *at).min().unwrap_or(Timestamp::MAX);
            let next = self.now() + SignedDuration::from_mins(rng.random_range(12 * 60..4 * 24 * 60));
            self.live_until(next.min(chore).min(end)).await;
            self.visit(memory, &mut rng).await;
            if rng.random_bool(0.2) && happens(|| format!("after visit {} somebody stays", memory.visits)) {
                self.stay(&mut rng, end).await;
            }
        }
    }

    /// Somebody sits at the book for a day and rules on what comes into review at once, before it is quiet.
    async fn stay(&mut self, rng: &mut ChaCha8Rng, end: Timestamp) {
        let over = end.min(self.now() + hours(24));
        while self.now() < over {
            self.live_until(over.min(self.now() + SignedDuration::from_mins(20))).await;
            self.rule(rng, Reviews::Alone).await;
        }
    }

    async fn visit(&mut self, memory: &mut Memory, rng: &mut ChaCha8Rng) {
        let now = self.now();
        tracing::info!(%now, counts = ?self.shared.tally.counts(), "an operator looks in");
        let (due, later) = std::mem::take(&mut memory.chores).into_iter().partition(|(at, _)| *at <= now);
        memory.chores = later;
        let due: Vec<(Timestamp, Chore)> = due;
        for (_, chore) in due {
            self.finish(chore);
        }
        self.release(memory).await;
        let faults = self.shared.faults.load(Ordering::SeqCst);
        for act in self.shared.swarm.acts.clone() {
            if act == Act::Rule || !faults {
                continue;
            }
            if rng.random_bool(0.15) && happens(|| format!("visit {}: {act:?}", memory.visits)) {
                self.act(act, memory, rng);
            }
        }
        // whoever has reviews that nobody rules on has no book that settles
        self.rule(rng, Reviews::AndOthers).await;
        self.ring();
    }

    fn finish(&mut self, chore: Chore) {
        let now = self.now();
        match chore {
            Chore::Unkill { since } => {
                self.kill(false);
                let swarm = &self.shared.swarm;
                // what was frozen or slow between the gate and the wire cannot be called back
                let mut late = SignedDuration::from_secs(if swarm.slow > 0 { 2 } else { 0 });
                late += SignedDuration::from_secs(if swarm.stalls > 0 { swarm.stall_seconds } else { 0 });
                if since + late < now {
                    self.braked.push((since + late, now));
                }
            }
            Chore::Resume { row } => {
                if self.book.rows[row].status == "paused" {
                    self.book.rows[row].status = "active";
                    self.book.go_on(row, now);
                    self.import(Some(row));
                }
            }
            Chore::PutRight { row } => {
                self.book.rows[row].amount = None;
                self.import(Some(row));
            }
        }
    }

    /// What is on hold or paused is let go of, as soon as that may be.
    async fn release(&mut self, memory: &Memory) {
        let (database, now) = (self.database(), self.now());
        let (status, accounts) = at_once(async {
            let desk = database.desk();
            (desk.status().await.unwrap().unwrap(), desk.accounts().await.unwrap())
        });
        if accounts.iter().any(|account| account.paused) {
            self.shared.tally.count("operator: an account is paused no more");
            at_once(database.desk().release_hold(now, &Reach::Account("main".to_owned()), &signed())).unwrap();
        }
        if !status.held {
            return;
        }
        let (process, engine) = self.calm();
        let report = engine.audit(&self.shared.account(&process), COMPLETE).await;
        let now = self.now();
        match report {
            Ok(report) if report.incidents == 0 => {
                let remembered = self.shared.directory.mark.load(Ordering::SeqCst);
                let mark = at_once(database.accept_copy(remembered)).unwrap();
                self.shared.directory.mark.store(mark, Ordering::SeqCst);
                let newest = at_once(database.brakes()).unwrap().newest_entry;
                newest.into_iter().for_each(|entry| self.shared.directory.accept(&entry));
                // the hold has stood in for what the copy had forgotten (docs/backup.md, "The way out")
                if status.killed != memory.is_killed() {
                    self.kill(memory.is_killed());
                }
                at_once(database.desk().release_hold(now, &Reach::Database, &signed())).unwrap();
                self.braked.extend(self.held_since.take().map(|since| (since, now)));
                self.shared.tally.count("operator: a hold is released");
            }
            Ok(_) => self.close_incidents(),
            Err(_) => {}
        }
    }

    /// Somebody has looked at what the audits found.
    fn close_incidents(&self) {
        let (database, now) = (self.database(), self.now());
        at_once(async {
            let filter = IncidentFilter { limit: 1000, ..IncidentFilter::default() };
            for found in database.desk().incidents(&filter).await.unwrap() {
                database.desk().close_incident(now, found.incident.id, &signed()).await.unwrap();
            }
        });
    }

    fn act(&mut self, act: Act, memory: &mut Memory, rng: &mut ChaCha8Rng) {
        let now = self.now();
        let restores = !self.shared.swarm.restores.is_empty();
        let (row, other) = (rng.random_range(0..self.book.rows.len()), rng.random_range(0..self.book.rows.len()));
        let days = |rng: &mut ChaCha8Rng, most: i64| hours(rng.random_range(24..most * 24));
        match act {
            Act::ImportAgain => self.import(None),
            Act::Kill => {
                if memory.is_killed() {
                    return;
                }
                self.kill(true);
                memory.chores.push((now + hours(rng.random_range(1..30)), Chore::Unkill { since: now }));
            }
            Act::Rule => {}
            // a copy that knows another amount, card or state opens other charges than those that were paid
            _ if restores => return,
            Act::WrongAmount => {
                self.book.rows[row].amount = Some(99_000);
                self.import(Some(row));
                memory.chores.push((now + days(rng, 4), Chore::PutRight { row }));
            }
            Act::Prices => {
                for plan in self.book.catalog.plans.values_mut() {
                    plan.amount = plan.amount.map(|amount| amount + 100);
                }
                *self.shared.catalog.lock().unwrap() = self.book.catalog.clone();
                if rng.random_bool(0.5) { self.restart() } else { self.reload() }
            }
            Act::Plan => {
                let Some(plan) = twin(self.book.rows[row].plan) else { return };
                self.book.rows[row].plan = plan;
                self.import(Some(row));
            }
            Act::Card => {
                self.book.rows[row].customer_uid = self.book.rows[other].customer_uid.clone();
                self.import(Some(row));
            }
            Act::Pause => {
                if self.book.rows[row].status != "active" {
                    return;
                }
                let until = now + days(rng, 20);
                self.book.rows[row].status = "paused";
                self.book.stop(row, now);
                self.book.doubt(row, now, until + hours(6 * 24));
                self.import(Some(row));
                memory.chores.push((until, Chore::Resume { row }));
            }
            Act::Cancel => {
                self.book.rows[row].status = "cancelled";
                self.book.stop(row, now);
                self.book.doubt(row, now, Timestamp::MAX);
                self.import(Some(row));
            }
        }
        self.shared.tally.count(match act {
            Act::ImportAgain => "operator: the whole book again",
            Act::WrongAmount => "operator: a wrong amount",
            Act::Kill => "operator: kill switch",
            Act::Prices => "operator: other prices",
            Act::Plan => "operator: another plan",
            Act::Card => "operator: another card",
            Act::Pause => "operator: pause",
            Act::Cancel => "operator: cancel",
            Act::Rule => "operator: ruling",
        });
    }

    /// Writes one row, or all, as the operator wants them.
    pub fn import(&self, row: Option<usize>) {
        let rows = match row {
            Some(row) => &self.book.rows[row..=row],
            None => &self.book.rows[..],
        };
        let cells: Vec<_> = rows.iter().map(crate::book::Row::cells).collect();
        let (database, now) = (self.database(), self.now());
        at_once(async {
            let mut import = database.desk().import(now, &["main".to_owned()]).await.unwrap();
            for some in cells.chunks(500) {
                import.add(some).await.unwrap();
            }
            let tally = Tally { file: "book.csv", new: 0, changed: cells.len() as u64, unchanged: 0, held: 0, hash: None };
            import.commit(&signed(), &tally).await.unwrap();
        });
        self.remember();
    }

    /// A ruling on everything that is in review, and now and then on what is not.
    async fn rule(&mut self, rng: &mut ChaCha8Rng, reviews: Reviews) {
        let database = self.database();
        let charges = |state| {
            let filter = ChargeFilter { state: Some(state), limit: 200, ..ChargeFilter::default() };
            at_once(database.desk().charges(&filter)).unwrap()
        };
        let mut about: Vec<_> =
            charges(ChargeState::Review).iter().map(|charge| (charge.id, true, charge.imp_uid.clone())).collect();
        // once faults have stopped what is closed stays so: a retry of a void charge may wait two weeks for a card
        let at_others = reviews == Reviews::AndOthers && self.shared.faults.load(Ordering::SeqCst);
        if at_others && self.shared.swarm.acts.contains(&Act::Rule) && rng.random_bool(0.2) {
            let state = [ChargeState::Due, ChargeState::Paid, ChargeState::Doubt, ChargeState::Unpaid, ChargeState::Void];
            let others = charges(state[rng.random_range(0..state.len())]);
            about.extend(others.iter().take(5).map(|charge| (charge.id, false, charge.imp_uid.clone())));
        }
        if about.is_empty() {
            return;
        }
        let (process, engine) = self.calm();
        let account = self.shared.account(&process);
        for (charge, in_review, imp_uid) in about {
            // some wait for the next visit
            if in_review && rng.random_bool(0.2) {
                continue;
            }
            let paid = Ruling::Paid { imp_uid: imp_uid.unwrap_or_else(|| "imps_of_nobody".to_owned()) };
            let mut rulings = vec![Ruling::Unpaid, Ruling::Resend, Ruling::Void, Ruling::Retry, paid];
            rulings.shuffle(rng);
            // one that is refused leaves the charge as it is; a review wants one that is not
            rulings.truncate(if in_review { rulings.len() } else { 1 });
            let mut is_ruled = false;
            for ruling in rulings {
                if !is_ruled {
                    let result = engine.rule(&account, ChargeId(charge), ruling).await;
                    is_ruled = !matches!(&result, Err(RuleError::Refused(_)));
                    self.ruled(&result);
                }
            }
            // what nothing can be ruled about is open at the gateway
            if in_review && !is_ruled && rng.random_bool(0.5) {
                let base = at_once(database.load(&[ChargeId(charge)])).unwrap().pop().unwrap().base;
                self.shared.portone.ledger.lock().unwrap().give_up(base.as_str());
                self.shared.tally.count("operator: asks the gateway to end what is `ready`");
            }
        }
    }

    fn ruled<T>(&self, result: &Result<T, RuleError>) {
        self.shared.tally.count(match result {
            Ok(_) => "R8 ruled",
            Err(RuleError::Refused(refusal)) => match refusal {
                Refusal::NotQuiet => "R8 refused: not quiet",
                Refusal::GatewayShowsMore => "R8 refused: the gateway shows more",
                Refusal::NoSuchPayment => "R8 refused: no such payment",
                Refusal::NotInReview => "R8 refused: not in review",
                Refusal::Final => "R8 refused: final",
                Refusal::InDoubt => "R8 refused: in doubt",
                Refusal::TooSoon => "R8 refused: too soon",
                Refusal::TooManyTries => "R8 refused: too many tries",
                Refusal::Stale => "R8 refused: stale",
            },
            Err(RuleError::Gateway(_)) => "R8 not ruled: no look-up",
            Err(RuleError::InHand) => "R8 not ruled: in hand",
            Err(RuleError::ClockJumped { .. }) => "R8 not ruled: the clock has jumped",
            Err(RuleError::Changed) => "R8 not ruled: changed meanwhile",
            Err(RuleError::Store(_)) => "R8 not ruled: the database",
        });
    }
}
