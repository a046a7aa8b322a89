//! A run from its first day to its verdict: faults for as long as the seed says, then none, and everything has to settle.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};
use rebilld::domain::decide::Policy;
use rebilld::domain::proof::{self, Circumstances, Verdict, check};

use crate::faults::DAY;
use crate::operator::Memory;
use crate::process::shifted;
use crate::stage::at_once;
use crate::world::{Outcome, SETTLING, World};

impl World {
    /// All of it.
    pub async fn run(mut self) -> Outcome {
        let (start, swarm) = (self.start(), self.shared.swarm.clone());
        let day = |day: i64| start + SignedDuration::from_hours(24 * day);
        let end = day(swarm.days);
        let mut memory = Memory::default();
        self.import(None);
        self.come_up();
        let minute = |minute: i64| start + SignedDuration::from_mins(minute);
        for (copied, later) in swarm.restores.iter().filter(|(copied, later)| copied + later < DAY * swarm.days) {
            self.work_until(&mut memory, minute(*copied)).await;
            let copy = self.copy();
            self.work_until(&mut memory, minute(copied + later)).await;
            self.come_back(&memory, copy).await;
        }
        self.work_until(&mut memory, end).await;
        // then faults stop and time runs on: everything must settle
        self.shared.faults.store(false, Ordering::SeqCst);
        *self.shared.portone.swarm.lock().unwrap() = None;
        self.shared.portone.ledger.lock().unwrap().calm();
        self.go_down().await;
        self.come_up();
        self.work_until(&mut memory, end + SETTLING).await;
        self.live_until(end + SETTLING + SignedDuration::from_hours(13)).await;
        self.go_down().await;
        self.verify(end)
    }

    fn circumstances(&self, end: Timestamp) -> Circumstances {
        Circumstances {
            end: self.now(),
            expected: self.book.expected(end),
            received: Some(self.received()),
            leaks: crate::logs::leaks(),
            braked: self.braked.clone(),
            ..Circumstances::default()
        }
    }

    fn verify(self, end: Timestamp) -> Outcome {
        let database = self.database();
        let books = at_once(database.books()).unwrap();
        let around = self.circumstances(end);
        let now = self.now();
        let ledger = self.shared.portone.ledger.lock().unwrap().books(now);
        let mut verdicts = check(&ledger, &books, &around);
        if !self.forgotten.is_empty() || !self.shared.jumps.is_empty() {
            let sent = |verdict: &Verdict| matches!(verdict.name, "I5" | "I6");
            let of_rest = check(&self.remembered(&ledger), &books, &around).into_iter().filter(sent);
            // one id has one amount whatever a database has forgotten
            let amounts = verdicts.iter().filter(|verdict| verdict.name == "I6").flat_map(|verdict| &verdict.broken);
            let amounts: Vec<String> = amounts.filter(|said| said.contains("two amounts")).cloned().collect();
            verdicts.retain(|verdict| !sent(verdict));
            verdicts.extend(of_rest);
            let one_meaning = verdicts.iter_mut().find(|verdict| verdict.name == "I6");
            one_meaning.into_iter().for_each(|verdict| verdict.broken.extend(amounts.clone()));
        }
        verdicts.push(Self::no_second_payment(&ledger));
        verdicts.push(self.nothing_after_a_jump(&ledger));
        verdicts.push(self.shared.portone.at_the_wire.verdict());
        verdicts.push(self.nothing_unowed(&ledger, &books));
        verdicts.push(self.none_taken_for_absent(&books));
        verdicts.push(self.shared.portone.believed.verdict());
        if let Some(base) = crate::setting("REBILLD_SIM_CHARGE") {
            println!("{}", story(&base, &ledger, &books));
        }
        let mut states = BTreeMap::new();
        for charge in &books.charges {
            *states.entry(charge.state.name()).or_default() += 1;
        }
        let history = [
            lines(&books.charges),
            lines(&books.attempts),
            lines(&books.sends),
            lines(&books.events),
            lines(&ledger.posts),
            format!("{:?}", self.shared.tally.counts()),
        ]
        .join("\n");
        at_once(database.close());
        for (at, _) in self.shared.jumps.iter().filter(|(at, _)| *at < end) {
            let asked = self.shared.stage.clock_asked.load(Ordering::Relaxed);
            let nth = self.shared.jumps.iter().position(|(other, _)| other == at).unwrap_or_default();
            if asked & (1 << (nth + 1)) != 0 {
                self.shared.tally.count("fault: the database's clock jumped");
            }
        }
        for charge in &books.charges {
            if let Some(hour) = self.book.odd_hour(&charge.external_ref, charge.due_at) {
                self.shared.tally.count(hour);
            }
        }
        let counts = self.shared.tally.counts();
        Outcome {
            verdicts,
            crashes: counts.get("fault: crash").copied().unwrap_or(0),
            charges: books.charges.len() as u64,
            months: self.shared.swarm.months(),
            states,
            counts,
            incidents: books.incidents,
            history,
            swarm: self.shared.swarm.clone(),
        }
    }

    /// The ledger for I5 and I6, which ask what was committed when: without what was forgotten with a database that was replaced (that it
    /// was committed before is for that one to show), and by the latest clock that a process may have gone by.
    fn remembered(&self, ledger: &proof::Ledger) -> proof::Ledger {
        let mut ledger = ledger.clone();
        let mut number = 0..;
        ledger.posts.retain(|_| number.next().is_none_or(|number| !self.forgotten.iter().any(|lost| lost.contains(&number))));
        let instants: Vec<Timestamp> = self.shared.jumps.iter().map(|(at, _)| *at).collect();
        for post in &mut ledger.posts {
            let before = instants.iter().filter(|at| **at <= post.at);
            let off = before.map(|at| shifted(*at, &self.shared.jumps).duration_since(*at)).max().unwrap_or_default();
            post.at += off.max(SignedDuration::ZERO);
        }
        ledger
    }

    /// I1 again, in other words: of all records that the gateway ever approved, whatever became of them.
    fn no_second_payment(ledger: &proof::Ledger) -> Verdict {
        let mut approved: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for payment in ledger.payments.iter().filter(|payment| payment.status != proof::LedgerStatus::Failed) {
            approved.entry(payment.merchant_uid.get(..28).unwrap_or_default()).or_default().push(&payment.imp_uid);
        }
        let checked = approved.len();
        let broken = approved.iter().filter(|(_, all)| all.len() > 1).map(|(base, all)| format!("{base}: {all:?}")).collect();
        Verdict { name: "S1", says: "nothing was approved twice for one period, not even what was cancelled", checked, broken }
    }

    /// Where nobody is killed and no copy comes back, each process sees a jump of the database's clock before it claims again. What
    /// was at the gate just then, or frozen there, may still leave.
    fn nothing_after_a_jump(&self, ledger: &proof::Ledger) -> Verdict {
        let swarm = &self.shared.swarm;
        let seen = SignedDuration::from_secs(60 + if swarm.stalls > 0 { swarm.stall_seconds } else { 0 });
        let certain = swarm.crashes.is_none() && swarm.restores.is_empty();
        let all = &self.shared.jumps;
        // put right before anybody asked what time it is: nobody ever went by the wrong one
        let asked = self.shared.stage.clock_asked.load(Ordering::Relaxed);
        let unnoticed = |first: usize| {
            let pair = all.get(first..first + 2);
            asked & (1 << (first + 1)) == 0 && pair.is_some_and(|pair| pair[0].1 + pair[1].1 == 0)
        };
        let noticed = (0..all.len()).filter(|nth| !unnoticed(*nth) && !nth.checked_sub(1).is_some_and(unnoticed));
        let jumps: Vec<Timestamp> = noticed.filter(|_| certain).map(|nth| all[nth].0).collect();
        let held = |post: &&proof::LedgerPost| {
            jumps.iter().any(|at| *at + seen < post.at && post.at < *at + Policy::SHORTEST_QUIET - SignedDuration::from_mins(1))
        };
        let broken = ledger.posts.iter().filter(held).map(|post| format!("{} at {}", post.merchant_uid, post.at)).collect();
        let says = "nothing was sent for Q after the database's clock had jumped";
        Verdict { name: "S2", says, checked: jumps.len(), broken }
    }
}

/// What both sides hold of one charge.
fn story(base: &str, ledger: &proof::Ledger, books: &proof::Books) -> String {
    let Some(charge) = books.charges.iter().find(|charge| charge.base == base) else { return format!("no charge is {base}") };
    fn of<T: Clone>(rows: &[T], is_one: impl Fn(&T) -> bool) -> Vec<T> {
        rows.iter().filter(|row| is_one(row)).cloned().collect()
    }
    let attempts = of(&books.attempts, |attempt| attempt.charge == charge.id);
    let sends = of(&books.sends, |send| attempts.iter().any(|attempt| attempt.id == send.attempt));
    let events = of(&books.events, |event| event.charge == Some(charge.id));
    let posts = of(&ledger.posts, |post| post.merchant_uid.starts_with(base));
    let payments = of(&ledger.payments, |payment| payment.merchant_uid.starts_with(base));
    [format!("{charge:?}"), lines(&attempts), lines(&sends), lines(&events), lines(&posts), lines(&payments)].join("\n")
}

fn lines<T: std::fmt::Debug>(rows: &[T]) -> String {
    rows.iter().map(|row| format!("{row:?}")).collect::<Vec<_>>().join("\n")
}
