//! What has come in of one account and waits to be taken up: bounded in every way.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::domain::charge::ChargeId;

/// Ids that wait at the same time, at most. Beyond it nothing is taken in.
pub const MOST: usize = 1000;
/// Ids that are asked of the database together.
pub const ASKED: usize = 200;
/// Look-ups that are moved each time, at most. The gateway names no limit; the rest waits its turn.
pub const LOOK_UPS: usize = 10;
/// A charge is not moved again for so long, however often it is named.
pub const GAP: Duration = Duration::from_secs(60);
/// How often a charge that somebody has in hand is tried, a second apart.
const TRIES: u8 = 60;
const A_SECOND: Duration = Duration::from_secs(1);

/// What an id turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No charge of this account, or one that is not looked up.
    Nothing,
    /// It is looked up at once as it is.
    Due,
    /// It is being looked up: that look-up may have begun before what the webhook tells.
    InHand,
    /// Its look-up is later, or never.
    Waits(ChargeId),
}

#[derive(Debug)]
struct Entry {
    merchant_uid: String,
    /// By CLOCK_BOOTTIME.
    not_before: Duration,
    tries: u8,
}

/// Times are CLOCK_BOOTTIME.
#[derive(Debug, Default)]
pub struct Waiting {
    entries: VecDeque<Entry>,
    known: HashSet<String>,
    /// Being asked about.
    asked: HashMap<String, Entry>,
    /// When charges were moved last.
    moved: HashMap<ChargeId, Duration>,
    /// The second that is counted, and how many came in it.
    second: u64,
    count: u32,
}

impl Waiting {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.asked.is_empty()
    }

    pub fn len(&self) -> usize {
        self.entries.len() + self.asked.len()
    }

    /// Whether one more may come in now. Counts it.
    pub fn admits(&mut self, boot: Duration, per_second: u32) -> bool {
        if self.second != boot.as_secs() {
            (self.second, self.count) = (boot.as_secs(), 0);
        }
        self.count = self.count.saturating_add(1);
        self.count <= per_second && self.len() < MOST
    }

    /// An id that waits already waits on.
    pub fn add(&mut self, merchant_uid: String, boot: Duration) {
        if self.known.insert(merchant_uid.clone()) {
            self.entries.push_back(Entry { merchant_uid, not_before: boot, tries: 0 });
        }
    }

    /// The ids that may be asked about now, those that came first before the others. They wait on until [`Waiting::sort_out`]; asked for
    /// again before it, they are among them once more.
    pub fn ripe(&mut self, boot: Duration) -> Vec<String> {
        let mut later = VecDeque::with_capacity(self.entries.len());
        for entry in self.entries.drain(..) {
            if self.asked.len() < ASKED && entry.not_before <= boot {
                self.asked.insert(entry.merchant_uid.clone(), entry);
            } else {
                later.push_back(entry);
            }
        }
        self.entries = later;
        self.asked.keys().cloned().collect()
    }

    /// What to do with each id that was asked about. Returns those whose look-up is to be moved now, with their charges.
    pub fn sort_out(&mut self, asked: &[String], boot: Duration, found: impl Fn(&str) -> Found) -> Vec<(String, ChargeId)> {
        self.moved.retain(|_, at| boot.saturating_sub(*at) < GAP);
        let mut to_move: Vec<(String, ChargeId)> = Vec::new();
        for uid in asked {
            match found(uid) {
                Found::Nothing | Found::Due => self.forget(uid),
                Found::InHand => self.again(uid, boot + A_SECOND),
                Found::Waits(charge) => match self.moved.get(&charge) {
                    Some(at) => self.put_off(uid, *at + GAP),
                    // two ids of one charge are one look-up
                    None if to_move.iter().any(|(_, other)| *other == charge) => self.forget(uid),
                    None if to_move.len() == LOOK_UPS => self.put_off(uid, boot + A_SECOND),
                    None => to_move.push((uid.clone(), charge)),
                },
            }
        }
        to_move
    }

    /// Which of them were moved. The others are in somebody's hands by now.
    pub fn moved(&mut self, to_move: &[(String, ChargeId)], moved: &[ChargeId], boot: Duration) {
        for (uid, charge) in to_move {
            if moved.contains(charge) {
                self.moved.insert(*charge, boot);
                self.forget(uid);
            } else {
                self.again(uid, boot + A_SECOND);
            }
        }
    }

    fn forget(&mut self, uid: &str) {
        self.asked.remove(uid);
        self.known.remove(uid);
    }

    fn put_off(&mut self, uid: &str, not_before: Duration) {
        if let Some(entry) = self.asked.remove(uid) {
            self.entries.push_back(Entry { not_before, ..entry });
        }
    }

    /// Some time it is given up: the look-ups of its own go on.
    fn again(&mut self, uid: &str, not_before: Duration) {
        match self.asked.remove(uid) {
            Some(entry) if entry.tries < TRIES => {
                self.entries.push_back(Entry { not_before, tries: entry.tries + 1, ..entry });
            }
            _ => drop(self.known.remove(uid)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Everything that came in is a charge of this number, and is looked up later.
    fn charge_of(uid: &str) -> Found {
        Found::Waits(ChargeId(uid.parse().unwrap()))
    }

    fn take_up(waiting: &mut Waiting, now: u64) -> Vec<ChargeId> {
        let asked = waiting.ripe(at(now));
        let to_move = waiting.sort_out(&asked, at(now), charge_of);
        let charges: Vec<ChargeId> = to_move.iter().map(|(_, charge)| *charge).collect();
        waiting.moved(&to_move, &charges, at(now));
        charges
    }

    #[test]
    fn a_charge_that_is_named_all_the_time_is_looked_up_once_a_minute() {
        let mut waiting = Waiting::default();
        let mut moved = Vec::new();
        for now in 0..600 {
            for _ in 0..50 {
                waiting.add("7".to_owned(), at(now));
            }
            moved.extend(take_up(&mut waiting, now).into_iter().map(|_| now));
        }
        assert_eq!(moved, [0, 60, 120, 180, 240, 300, 360, 420, 480, 540]);
    }

    #[test]
    fn a_charge_that_was_named_within_the_minute_is_looked_up_at_its_end() {
        let mut waiting = Waiting::default();
        waiting.add("7".to_owned(), at(0));
        assert_eq!(take_up(&mut waiting, 0).len(), 1);
        waiting.add("7".to_owned(), at(5));
        assert_eq!((take_up(&mut waiting, 6).len(), take_up(&mut waiting, 59).len()), (0, 0));
        assert_eq!((take_up(&mut waiting, 60).len(), waiting.len()), (1, 0), "nothing of it is lost, and nothing is left");
    }

    #[test]
    fn a_thousand_charges_are_looked_up_ten_a_second_and_more_are_not_taken_in() {
        let mut waiting = Waiting::default();
        let taken = (0..5000).filter(|id| {
            waiting.admits(at(0), 10_000) && {
                waiting.add(id.to_string(), at(0));
                true
            }
        });
        assert_eq!(taken.count(), MOST);
        let most = (0..100).map(|now| take_up(&mut waiting, now).len()).max();
        assert_eq!((most, waiting.len()), (Some(LOOK_UPS), 0));
    }

    #[test]
    fn so_many_come_in_each_second_and_the_next_second_begins_anew() {
        let mut waiting = Waiting::default();
        let mut admitted = |now| (0..500).filter(|_| waiting.admits(at(now), 50)).count();
        assert_eq!([admitted(1), admitted(1), admitted(2)], [50, 0, 50]);
    }

    #[test]
    fn a_charge_in_somebodys_hands_is_tried_again_and_given_up_after_a_minute() {
        let mut waiting = Waiting::default();
        waiting.add("7".to_owned(), at(0));
        let mut tried = 0;
        for now in 0..200 {
            let asked = waiting.ripe(at(now));
            tried += asked.len();
            assert!(waiting.sort_out(&asked, at(now), |_| Found::InHand).is_empty());
        }
        assert_eq!((tried, waiting.len()), (61, 0));
    }

    #[test]
    fn what_could_not_be_asked_about_waits_on() {
        let mut waiting = Waiting::default();
        waiting.add("7".to_owned(), at(0));
        assert_eq!(waiting.ripe(at(0)), ["7"]);
        // the database did not answer
        assert_eq!((waiting.ripe(at(1)), waiting.len()), (vec!["7".to_owned()], 1));
        let asked = waiting.ripe(at(2));
        waiting.sort_out(&asked, at(2), |_| Found::Nothing);
        assert!(waiting.is_empty());
    }
}
