//! What waits for one channel, and which is told next: one message after the other, but none waits for another's next try.
//!
//! Each has its own pauses. Of those whose time has come, critical ones go first, then the older one. Words about the same thing keep
//! their order: a beginning that could not be told is dropped once its end, or the next word, waits.

use std::collections::BTreeMap;
use std::time::Duration;

use super::line::Parcel;
use crate::domain::alarm::Severity;
use crate::ports::retry::RetryPolicy;

/// Alarms that wait in memory for one channel; more wait in the database.
const WAITING: usize = 64;

/// 1 s, 4 s, 16 s, 64 s, then every 2 min: about three quarters of an hour in all, a tenth up or down.
const TRIES: RetryPolicy =
    RetryPolicy { tries: 26, first: Duration::from_secs(1), factor: 4, longest: Duration::from_secs(120), jitter_percent: 10 };

/// What became of a parcel, by the alarm's id. One that has ended is kept as long as its row still says that it is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    OnIt,
    Ended,
}

#[derive(Debug)]
struct Waiting {
    parcel: Parcel,
    /// The order in which they came.
    number: u64,
    failed: u32,
    /// When it is tried next, by CLOCK_BOOTTIME.
    due: Duration,
    /// It was tried again at once because another one got through, and failed all the same: it is its own fault.
    hurried: bool,
}

impl Waiting {
    /// Smaller goes first.
    fn rank(&self) -> (bool, u64) {
        (self.parcel.alarm.severity != Severity::Critical, self.number)
    }
}

/// What is next.
#[derive(Debug)]
pub(super) enum Next {
    /// Tell this one now; [`Queue::told`] or [`Queue::failed`] has to follow.
    Now(Box<Parcel>),
    /// At that time, by CLOCK_BOOTTIME.
    At(Duration),
    Nothing,
}

/// Times are CLOCK_BOOTTIME.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Vec<Waiting>,
    /// The one that is being told.
    under_way: Option<Waiting>,
    known: BTreeMap<String, Way>,
    number: u64,
}

impl Queue {
    /// Takes an alarm in, unless it is or has been here. What finds no room is offered again by the next look; a critical one takes
    /// the room of one that is not. Returns whether it has ended, and only its row does not know yet.
    pub fn offer(&mut self, parcel: Parcel, now: Duration) -> bool {
        let id = parcel.alarm.id.clone();
        if let Some(way) = self.known.get(&id) {
            return *way == Way::Ended;
        }
        self.number += 1;
        let new = Waiting { parcel, number: self.number, failed: 0, due: now, hurried: false };
        if self.waiting.len() >= WAITING {
            let last = (0..self.waiting.len()).max_by_key(|place| self.waiting[*place].rank());
            // only one that stands in a row is offered again
            let gives_way = |place: &usize| self.waiting[*place].rank() > new.rank() && self.waiting[*place].parcel.row.is_some();
            let Some(place) = last.filter(gives_way) else { return false };
            let gone = self.waiting.remove(place);
            self.known.remove(&gone.parcel.alarm.id);
        }
        self.known.insert(id, Way::OnIt);
        self.waiting.push(new);
        false
    }

    /// Forgets what has ended and is owed no more.
    pub fn forget_all_but(&mut self, owed: &[String]) {
        self.known.retain(|id, way| *way == Way::OnIt || owed.contains(id));
    }

    /// What to tell now, or when.
    pub fn next(&mut self, now: Duration) -> Next {
        self.drop_superseded();
        let free = |one: &&Waiting| !self.waiting.iter().any(|other| is_before(other, one));
        let ready = self.waiting.iter().filter(|one| one.due <= now).filter(free).min_by_key(|one| one.rank());
        let Some(number) = ready.map(|ready| ready.number) else {
            return self.waiting.iter().filter(free).map(|one| one.due).min().map_or(Next::Nothing, Next::At);
        };
        let Some(place) = self.waiting.iter().position(|one| one.number == number) else { return Next::Nothing };
        let taken = self.waiting.remove(place);
        let parcel = Box::new(taken.parcel.clone());
        self.under_way = Some(taken);
        Next::Now(parcel)
    }

    /// It got through. The channel is there: what failed before is tried again at once, for once.
    pub fn told(&mut self, now: Duration) {
        self.end();
        for one in self.waiting.iter_mut().filter(|one| one.failed > 0 && !one.hurried) {
            one.due = now;
            one.hurried = true;
        }
    }

    /// It did not get through. Returns whether it is given up: its tries are used up, or it is refused as it stands.
    pub fn failed(&mut self, refused: bool, now: Duration) -> bool {
        let Some(mut one) = self.under_way.take() else { return false };
        one.failed += 1;
        match TRIES.pause(one.failed, one.number).filter(|_| !refused) {
            Some(pause) => {
                one.due = now + pause;
                self.waiting.push(one);
                false
            }
            None => {
                self.under_way = Some(one);
                self.end();
                true
            }
        }
    }

    fn end(&mut self) {
        if let Some(one) = self.under_way.take() {
            self.known.insert(one.parcel.alarm.id, Way::Ended);
        }
    }

    /// A word that could not be told, about something of which a later word waits.
    fn drop_superseded(&mut self) {
        let newest: Vec<(u64, String)> = self
            .waiting
            .iter()
            .filter(|one| one.failed > 0)
            .filter(|one| self.waiting.iter().any(|other| is_before(one, other)))
            .map(|one| (one.number, one.parcel.alarm.id.clone()))
            .collect();
        for (number, id) in newest {
            self.waiting.retain(|one| one.number != number);
            self.known.insert(id, Way::Ended);
        }
    }
}

/// Whether `one` has to be told before `other`: an earlier word about the same thing.
fn is_before(one: &Waiting, other: &Waiting) -> bool {
    one.number < other.number && one.parcel.key == other.parcel.key
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::domain::alarm::{Alarm, AlarmKey, AlarmKind, Condition, Turn};

    const SECOND: Duration = Duration::from_secs(1);

    fn parcel(kind: AlarmKind, subject: &str, turn: Turn) -> Parcel {
        let key = AlarmKey { kind, account: String::new(), subject: subject.to_owned() };
        let condition =
            Condition { key: key.clone(), what: "odd".to_owned(), since: None, concerns: json!({}), next_step: String::new() };
        let alarm = Alarm::of(&condition, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, turn);
        Parcel { alarm, key, row: Some(Timestamp::UNIX_EPOCH) }
    }

    fn raised(kind: AlarmKind) -> Parcel {
        parcel(kind, "", Turn::Raised)
    }

    /// What is told at a time, as kind and turn.
    fn next(queue: &mut Queue, now: Duration) -> Option<(AlarmKind, Turn)> {
        match queue.next(now) {
            Next::Now(parcel) => Some((parcel.key.kind, parcel.alarm.turn)),
            Next::At(_) | Next::Nothing => None,
        }
    }

    #[test]
    fn a_critical_one_goes_first_and_none_waits_for_anothers_next_try() {
        let mut queue = Queue::default();
        for kind in [AlarmKind::Breaker, AlarmKind::ReviewWaiting, AlarmKind::DoubleCharge] {
            assert!(!queue.offer(raised(kind), SECOND));
        }
        assert_eq!(next(&mut queue, SECOND), Some((AlarmKind::DoubleCharge, Turn::Raised)));
        assert!(!queue.failed(false, SECOND));
        assert_eq!(next(&mut queue, SECOND), Some((AlarmKind::Breaker, Turn::Raised)), "while that one pauses");
        queue.told(SECOND);
        assert_eq!(next(&mut queue, SECOND), Some((AlarmKind::DoubleCharge, Turn::Raised)), "the channel is there again");
        assert!(!queue.failed(false, SECOND));
        assert_eq!(next(&mut queue, SECOND), Some((AlarmKind::ReviewWaiting, Turn::Raised)));
        queue.told(SECOND);
        assert_eq!(next(&mut queue, SECOND), None, "it is hurried once: it is its own fault");
        assert!(matches!(queue.next(SECOND), Next::At(at) if at > 4 * SECOND && at < 6 * SECOND));
        assert_eq!(next(&mut queue, 6 * SECOND), Some((AlarmKind::DoubleCharge, Turn::Raised)));
        queue.told(6 * SECOND);
        assert!(matches!(queue.next(6 * SECOND), Next::Nothing));
        assert!(queue.offer(raised(AlarmKind::DoubleCharge), 6 * SECOND), "it was told, and its row does not know");
        queue.forget_all_but(&[]);
        assert!(!queue.offer(raised(AlarmKind::DoubleCharge), 6 * SECOND), "it is a new one");
    }

    #[test]
    fn what_is_refused_as_it_stands_is_given_up_and_the_rest_after_three_quarters_of_an_hour() {
        let mut queue = Queue::default();
        queue.offer(raised(AlarmKind::Hold), SECOND);
        assert_eq!(next(&mut queue, SECOND), Some((AlarmKind::Hold, Turn::Raised)));
        assert!(queue.failed(true, SECOND));
        assert!(matches!(queue.next(SECOND), Next::Nothing) && queue.offer(raised(AlarmKind::Hold), SECOND));
        let mut now = SECOND;
        queue.offer(raised(AlarmKind::Fuse), now);
        for tried in 1.. {
            match queue.next(now) {
                Next::Now(_) if queue.failed(false, now) => {
                    assert_eq!(tried, 51, "26 tries and 25 pauses");
                    break;
                }
                Next::Now(_) => {}
                Next::At(at) => now = at,
                Next::Nothing => unreachable!("it waits"),
            }
        }
        assert!((38 * 60..=47 * 60).contains(&now.as_secs()), "{now:?}");
    }

    #[test]
    fn words_about_one_thing_keep_their_order_and_an_end_replaces_a_beginning_that_failed() {
        let mut queue = Queue::default();
        let word = |turn| parcel(AlarmKind::Hold, "paused", turn);
        queue.offer(word(Turn::Raised), SECOND);
        queue.offer(word(Turn::Resolved), SECOND);
        assert_eq!(next(&mut queue, SECOND), Some((AlarmKind::Hold, Turn::Raised)));
        assert!(!queue.failed(false, SECOND));
        assert_eq!(next(&mut queue, SECOND), Some((AlarmKind::Hold, Turn::Resolved)), "nobody has heard of its beginning");
        queue.told(SECOND);
        assert!(matches!(queue.next(900 * SECOND), Next::Nothing), "and nobody does after its end");
        queue.offer(parcel(AlarmKind::Hold, "other", Turn::Raised), SECOND);
        queue.offer(parcel(AlarmKind::Hold, "other", Turn::Resolved), SECOND);
        let told = [Turn::Raised, Turn::Resolved].map(|turn| {
            let told = next(&mut queue, SECOND) == Some((AlarmKind::Hold, turn));
            queue.told(SECOND);
            told
        });
        assert_eq!(told, [true, true], "where nothing fails both are told");
    }

    #[test]
    fn a_critical_one_finds_room_in_a_full_queue() {
        let mut queue = Queue::default();
        for n in 0..=WAITING {
            queue.offer(parcel(AlarmKind::Breaker, &n.to_string(), Turn::Raised), SECOND);
        }
        assert_eq!(queue.waiting.len(), WAITING);
        assert!(!queue.offer(raised(AlarmKind::DoubleCharge), SECOND));
        assert_eq!((queue.waiting.len(), queue.known.len()), (WAITING, WAITING), "the last warning is offered again later");
        assert_eq!(next(&mut queue, SECOND), Some((AlarmKind::DoubleCharge, Turn::Raised)));
    }
}
