//! What may happen next, and what it does: the protocol's steps, the gateway, the wire, the faults.

use rebilld::domain::charge::{ChargeState, IdMode};

use super::config::{Config, Restore, Shortcut};
use super::judge::{Told, judge};
use super::state::{Answer, Backup, Live, Post, Record, Row, Seen, State, Status, Worker};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A quarter of an hour passes.
    Tick,
    /// W1 and E1.
    Claim(u8),
    /// W2.
    Begin(u8),
    /// The gate closes after W2: nothing leaves.
    CloseGate(u8),
    /// E3: the request is on the wire.
    Write(u8),
    /// W3 of the answer that was heard.
    Record(u8, Aged),
    /// Timeout, reset, 5xx: recorded as a doubt.
    GiveUp(u8, Aged),
    /// A look-up begins.
    Look(u8),
    /// The gateway's answer to it.
    Read(u8),
    /// What it showed is judged and written.
    Conclude(u8, Aged),
    /// A claim has ended with an open send: the charge is put into doubt.
    Adopt,
    /// The process dies.
    Crash(u8),
    /// A request on the wire never arrives.
    Lose(u8),
    /// The gateway processes a request; its answer arrives, or does not.
    Process(u8, Outcome, Reply),
    /// A pending payment comes to its end.
    Settle(u8, Status),
    /// A look-up shows a record from now on.
    Show(u8),
    Backup,
    Restore,
    /// The gateway's list shows a payment of this charge that the database does not know.
    Audit,
}

/// Whether the doubt has lasted for a day by now (R5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aged {
    Fresh,
    ADay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Paid,
    Failed,
    Ambiguous,
    Pending,
    /// Paid, and answered with a code.
    PaidUnclear,
    /// Not filed at all, and answered with the same code.
    Nothing,
    /// There is a payment under this id.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reply {
    Arrives,
    Lost,
}

const AGES: [Aged; 2] = [Aged::Fresh, Aged::ADay];
const REPLIES: [Reply; 2] = [Reply::Arrives, Reply::Lost];

impl Config {
    pub fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        self.steps_of_workers(state, steps);
        self.steps_of_the_gateway(state, steps);
        if self.may_tick(state) {
            steps.push(Step::Tick);
        }
        if state.row.state == ChargeState::Due && state.row.in_doubt() && !self.takes(Shortcut::NewAttemptAfterTakeover) {
            steps.push(Step::Adopt);
        }
        if self.restore != Restore::Never {
            if state.backup == Backup::None {
                steps.push(Step::Backup);
            }
            let idle = self.restore != Restore::Idle || !state.is_under_way();
            if matches!(state.backup, Backup::Kept(_)) && idle {
                steps.push(Step::Restore);
            }
            let unknown =
                |place: u8, record: &Record| record.status == Status::Paid && record.hidden.is_none() && !state.row.knows(place);
            if (0u8..).zip(&state.ledger).any(|(place, record)| unknown(place, record)) {
                steps.push(Step::Audit);
            }
        }
    }

    fn steps_of_workers(&self, state: &State, steps: &mut Vec<Step>) {
        let row = &state.row;
        // a day passes only where something asks for it
        let ages = if row.state == ChargeState::Doubt { &AGES[..] } else { &AGES[..1] };
        for (number, worker) in (0u8..).zip(&state.workers) {
            match worker {
                Worker::Idle => {
                    let overlapping = self.takes(Shortcut::NewAttemptAfterTakeover) || self.takes(Shortcut::DeclineEndsAttempt);
                    if row.state == ChargeState::Due && (!row.in_doubt() || overlapping) && state.hold == 0 {
                        steps.push(Step::Claim(number));
                    }
                    if matches!(row.state, ChargeState::Doubt | ChargeState::Review | ChargeState::Unpaid | ChargeState::Void) {
                        steps.push(Step::Look(number));
                    }
                    continue;
                }
                Worker::Ready { .. } => steps.push(Step::Begin(number)),
                Worker::Begun { age, .. } => {
                    if *age <= self.stall {
                        steps.push(Step::Write(number));
                    }
                    steps.push(Step::CloseGate(number));
                }
                Worker::Waiting { .. } => steps.extend(ages.iter().map(|age| Step::GiveUp(number, *age))),
                Worker::Heard { .. } => steps.extend(ages.iter().map(|age| Step::Record(number, *age))),
                Worker::Looking { seen: None, age, .. } if *age <= self.look => steps.push(Step::Read(number)),
                Worker::Looking { seen: Some(_), age, .. } if *age <= self.look => {
                    steps.extend(ages.iter().map(|age| Step::Conclude(number, *age)));
                }
                Worker::Looking { .. } => {}
            }
            steps.push(Step::Crash(number));
        }
    }

    fn steps_of_the_gateway(&self, state: &State, steps: &mut Vec<Step>) {
        for (number, post) in (0u8..).zip(&state.wire) {
            steps.push(Step::Lose(number));
            let taken = |record: &Record| record.id == post.id && record.status != Status::Failed;
            let mut outcomes = vec![];
            if state.ledger.iter().any(taken) {
                outcomes.push(Outcome::Refused);
            } else {
                outcomes.push(Outcome::Paid);
                let declines = state.declines < self.declines;
                outcomes.extend(declines.then_some(Outcome::Failed));
                outcomes.extend((declines && self.ambiguous).then_some(Outcome::Ambiguous));
                outcomes.extend(self.unclear.then_some(Outcome::PaidUnclear));
                outcomes.extend((declines && self.unclear).then_some(Outcome::Nothing));
                outcomes.extend(self.pending.then_some(Outcome::Pending));
            }
            for outcome in outcomes {
                // without a listener nothing arrives
                let replies = if post.from.is_some() { &REPLIES[..] } else { &REPLIES[1..] };
                steps.extend(replies.iter().map(|reply| Step::Process(number, outcome, *reply)));
            }
        }
        for (number, record) in (0u8..).zip(&state.ledger) {
            if record.hidden.is_some() {
                steps.push(Step::Show(number));
            }
            if record.status == Status::Ready {
                steps.push(Step::Settle(number, Status::Paid));
                if state.declines < self.declines {
                    steps.push(Step::Settle(number, Status::Failed));
                }
            }
        }
    }

    /// Time cannot pass what has to happen within its bounds.
    fn may_tick(&self, state: &State) -> bool {
        state.wire.iter().all(|post| post.age < self.delay)
            && state.ledger.iter().all(|record| record.hidden.is_none_or(|age| age < self.lag))
    }

    /// `None`: nothing changes.
    pub fn step(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        match step {
            Step::Tick => self.tick(&mut next),
            Step::Claim(w) => self.claim(&mut next, w),
            Step::Begin(w) => self.begin(&mut next, w),
            Step::CloseGate(w) => {
                let Worker::Begun { send, id, .. } = next.workers[usize::from(w)] else { return None };
                self.conclude(&mut next, w, Told::NotSent { send, id }, false);
            }
            Step::Write(w) => {
                let Worker::Begun { send, id, .. } = next.workers[usize::from(w)] else { return None };
                next.wire.push(Post { id, age: 0, from: Some(w) });
                next.workers[usize::from(w)] = Worker::Waiting { send, id };
            }
            Step::Record(w, age) => self.record(&mut next, w, age == Aged::ADay)?,
            Step::GiveUp(w, age) => self.give_up(&mut next, w, age == Aged::ADay)?,
            Step::Look(w) => {
                next.row.claim = Some(w);
                let asked = next.row.used | 1 << next.row.live_id();
                next.workers[usize::from(w)] = Worker::Looking { age: 0, asked, seen: None };
            }
            Step::Read(w) => {
                let Worker::Looking { age, asked, .. } = next.workers[usize::from(w)] else { return None };
                let seen = Some(self.shown(state, asked));
                next.workers[usize::from(w)] = Worker::Looking { age, asked, seen };
            }
            Step::Conclude(w, age) => self.looked_up(&mut next, w, age == Aged::ADay)?,
            Step::Adopt => {
                let judged = judge(self, &next.row, Told::Interrupted, false)?;
                next.row = judged.row;
            }
            Step::Crash(w) => next.leave(w),
            Step::Lose(p) => {
                next.wire.remove(usize::from(p));
            }
            Step::Process(p, outcome, reply) => self.process(&mut next, p, outcome, reply)?,
            Step::Settle(r, status) => {
                next.declines += u8::from(status == Status::Failed);
                next.ledger[usize::from(r)].status = status;
            }
            Step::Show(r) => next.ledger[usize::from(r)].hidden = None,
            Step::Backup => next.backup = Backup::Kept(Box::new(Row { claim: None, ..next.row.clone() })),
            Step::Restore => self.restore(&mut next)?,
            Step::Audit => {
                let seen = self.shown(state, u8::MAX);
                let judged = judge(self, &next.row, Told::LookedUp { age: 0, seen, ids: ids_of(state, seen) }, false)?;
                // it settles what is paid, and concludes nothing else
                next.row = judged.is_truth.then_some(judged.row)?;
            }
        }
        next.in_order();
        (next != *state).then_some(next)
    }

    fn tick(&self, next: &mut State) {
        let oldest = self.quiet + self.look;
        let older = |age: &mut Option<u8>| *age = age.map(|age| (age + 1).min(oldest));
        older(&mut next.row.newest);
        if let Backup::Kept(row) = &mut next.backup {
            older(&mut row.newest);
        }
        for worker in &mut next.workers {
            match worker {
                Worker::Begun { age, .. } => *age = (*age + 1).min(self.stall + 1),
                Worker::Looking { age, .. } => *age = (*age + 1).min(self.look + 1),
                _ => {}
            }
        }
        for post in &mut next.wire {
            post.age += 1;
        }
        for record in &mut next.ledger {
            record.hidden = record.hidden.map(|age| age + 1);
        }
        next.hold = next.hold.saturating_sub(1);
    }

    fn claim(&self, next: &mut State, w: u8) {
        let row = &mut next.row;
        row.claim = Some(w);
        let mut looks = !self.takes(Shortcut::NoLookBeforeSend);
        if row.in_doubt() && self.takes(Shortcut::NewAttemptAfterTakeover) {
            self.next_id(row);
            looks = false;
        }
        if let (true, Some(live)) = (self.takes(Shortcut::DeclineEndsAttempt), &mut row.live) {
            live.open = None;
        }
        let id = row.live_id();
        let row = row.clone();
        let up_to = (1..=id).fold(0, |ids, id| ids | 1 << id);
        let newest = |number: u8| {
            let of_id = |(_, record): &(u8, &Record)| record.id == number && record.hidden.is_none();
            (0u8..).zip(&next.ledger).filter(of_id).last()
        };
        // a failure of an earlier id is over; one of the id about to be sent has to be known
        let is_news = |number: u8| {
            let unknown = |place| number == id && !row.knows(place);
            newest(number).is_some_and(|(place, record)| record.status != Status::Failed || unknown(place))
        };
        let worker = if looks && (1..=id).any(is_news) {
            // and every later id, as long as there is a record of it
            let later = (id + 1..8).take_while(|number| newest(*number).is_some());
            let asked = later.fold(up_to, |ids, id| ids | 1 << id);
            let seen = self.shown(next, asked);
            Worker::Looking { age: 0, asked, seen: Some(seen) }
        } else {
            Worker::Ready { id }
        };
        next.workers[usize::from(w)] = worker;
    }

    fn begin(&self, next: &mut State, w: u8) {
        let Worker::Ready { id } = next.workers[usize::from(w)] else { return };
        let send = next.free_send();
        let row = &mut next.row;
        let fits =
            row.state == ChargeState::Due && !row.in_doubt() && row.elsewhere.is_none() && row.live_id() == id && next.hold == 0;
        if row.claim == Some(w) && fits {
            let attempt = Live { id, resends: 0, hint: None, open: None };
            let live = row.live.get_or_insert(attempt);
            live.open = Some(send);
            row.used |= 1 << id;
            row.newest = Some(0);
        } else if !self.takes(Shortcut::NoFence) {
            // refused: the claim is gone, or the charge is no longer what it was
            next.leave(w);
            return;
        }
        next.workers[usize::from(w)] = Worker::Begun { send, id, age: 0 };
    }

    fn record(&self, next: &mut State, w: u8, old: bool) -> Option<()> {
        let Worker::Heard { send, id, answer } = next.workers[usize::from(w)] else { return None };
        let mine = next.row.claim == Some(w);
        if answer == Answer::Already && self.takes(Shortcut::AlreadyPaidIsFailure) {
            if mine {
                self.next_id(&mut next.row);
            }
            next.leave(w);
            return Some(());
        }
        self.conclude(next, w, Told::Answered { send, id, answer }, old);
        Some(())
    }

    fn give_up(&self, next: &mut State, w: u8, old: bool) -> Option<()> {
        let Worker::Waiting { send, id } = next.workers[usize::from(w)] else { return None };
        let mine = next.row.claim == Some(w);
        if self.takes(Shortcut::NewIdAfterTimeout) && mine {
            self.next_id(&mut next.row);
        } else if self.takes(Shortcut::AlreadyPaidIsFailure) && mine {
            send_again(&mut next.row);
        } else {
            self.conclude(next, w, Told::NoAnswer { send, id }, old);
            return Some(());
        }
        next.leave(w);
        Some(())
    }

    fn looked_up(&self, next: &mut State, w: u8, old: bool) -> Option<()> {
        let Worker::Looking { age, seen: Some(seen), .. } = next.workers[usize::from(w)] else { return None };
        let mine = next.row.claim == Some(w);
        let id = next.row.live_id();
        let absent = !seen.all().any(|(place, _)| next.ledger[usize::from(place)].id == id);
        if absent && mine && next.row.state == ChargeState::Doubt {
            let row = &mut next.row;
            let taken = match self.shortcut {
                Some(Shortcut::AbsentThenNewId) => {
                    self.next_id(row);
                    true
                }
                Some(Shortcut::AbsentThenSameId) => {
                    send_again(row);
                    true
                }
                _ => false,
            };
            if taken {
                next.leave(w);
                return Some(());
            }
        }
        let late = self.takes(Shortcut::QuietWhenDeciding) || self.takes(Shortcut::QuietWhenDecidingTwice);
        let age = if late { 0 } else { age };
        if self.takes(Shortcut::QuietWhenDeciding) || self.takes(Shortcut::OneLookUp) {
            next.row.quiet_once = true;
        }
        let ids = ids_of(next, seen);
        self.conclude(next, w, Told::LookedUp { age, seen, ids }, old);
        Some(())
    }

    /// W3: not-paid conclusions need the claim, truths do not.
    fn conclude(&self, next: &mut State, w: u8, told: Told, old: bool) {
        let mine = next.row.claim == Some(w);
        if let Some(judged) = judge(self, &next.row, told, old)
            && (mine || judged.is_truth)
        {
            next.row = judged.row;
        }
        next.leave(w);
    }

    /// A shortcut's new attempt: the live one is given up, and the next carries a new id.
    fn next_id(&self, row: &mut Row) {
        let id = row.live_id();
        row.live = None;
        row.state = ChargeState::Due;
        row.id = if self.mode == IdMode::PerPeriod { id } else { id + 1 };
    }

    fn shown(&self, state: &State, asked: u8) -> Seen {
        let mut seen = Seen::default();
        for (place, record) in state.ledger.iter().enumerate() {
            let newer = |other: &Record| other.id == record.id && other.hidden.is_none();
            let is_newest = !state.ledger[place + 1..].iter().any(newer);
            let read = is_newest || !self.takes(Shortcut::NewestOnly);
            if record.hidden.is_none() && asked >> record.id & 1 == 1 && read {
                seen.add(place, record.status);
            }
        }
        seen
    }

    fn process(&self, next: &mut State, p: u8, outcome: Outcome, reply: Reply) -> Option<()> {
        let post = next.wire.remove(usize::from(p));
        if next.is_full() {
            return None;
        }
        let place = u8::try_from(next.ledger.len()).ok()?;
        let mut file = |status| {
            let hidden = (self.lag > 0).then_some(0);
            next.ledger.push(Record { id: post.id, status, hidden });
        };
        let answer = match outcome {
            Outcome::Paid => {
                file(Status::Paid);
                if self.copies {
                    file(Status::Failed);
                }
                Answer::Paid(place)
            }
            Outcome::Failed => {
                file(Status::Failed);
                Answer::Failed(place)
            }
            Outcome::Ambiguous => {
                file(Status::Failed);
                Answer::Ambiguous(place)
            }
            Outcome::Pending => {
                file(Status::Ready);
                Answer::Pending(place)
            }
            Outcome::PaidUnclear => {
                file(Status::Paid);
                Answer::Unclear
            }
            Outcome::Nothing => Answer::Unclear,
            Outcome::Refused => Answer::Already,
        };
        next.declines += u8::from(matches!(outcome, Outcome::Failed | Outcome::Ambiguous | Outcome::Nothing));
        if let (Reply::Arrives, Some(w)) = (reply, post.from)
            && let Worker::Waiting { send, id } = next.workers[usize::from(w)]
        {
            next.workers[usize::from(w)] = Worker::Heard { send, id, answer };
        }
        Some(())
    }

    fn restore(&self, next: &mut State) -> Option<()> {
        let Backup::Kept(row) = std::mem::replace(&mut next.backup, Backup::Restored) else { return None };
        next.leave(0);
        next.leave(1);
        next.row = *row;
        if self.restore == Restore::Noticed {
            next.hold = self.quiet;
        }
        Some(())
    }
}

/// The ids of what was seen, four bits each.
fn ids_of(state: &State, seen: Seen) -> u32 {
    seen.all().fold(0, |ids, (place, _)| ids | u32::from(state.ledger[usize::from(place)].id) << (place * 4))
}

/// A shortcut's resend: the open send is forgotten.
fn send_again(row: &mut Row) {
    row.state = ChargeState::Due;
    if let Some(live) = &mut row.live {
        live.open = None;
    }
}

impl State {
    /// A worker ends what it does: its claim is given back or runs out, and nobody hears its answer.
    fn leave(&mut self, w: u8) {
        self.workers[usize::from(w)] = Worker::Idle;
        if self.row.claim == Some(w) {
            self.row.claim = None;
        }
        for post in self.wire.iter_mut().filter(|post| post.from == Some(w)) {
            post.from = None;
        }
    }

    /// The workers are alike, and so are requests on the wire: one order of each stands for all.
    fn in_order(&mut self) {
        if self.workers[0] > self.workers[1] {
            self.workers.swap(0, 1);
            let other = |w: &mut Option<u8>| *w = w.map(|w| 1 - w);
            other(&mut self.row.claim);
            self.wire.iter_mut().for_each(|post| other(&mut post.from));
        }
        self.wire.sort_unstable_by_key(|post| (post.id, post.age, post.from));
    }
}
