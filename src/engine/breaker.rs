//! The breaker: a gateway that fails as a whole is left alone for a while, probed with a look-up, and taken up again slowly.
//!
//! Closed, it counts. Open, nothing is sent until a pause is over; then one look-up probes. Only if that is answered are charges
//! sent again: one in the first second, two in the next, four, eight, up to all that the account may.

use std::time::Duration;

/// Pauses after so many failures without a recovery between them; the last one repeats.
const PAUSES: [u64; 8] = [1, 2, 5, 15, 30, 60, 120, 300];
/// So many charges in a row without any answer open it: one alone may be a lost connection.
const STREAK: u32 = 3;
/// A probe that has not come back by then is lost.
const PROBE: Duration = Duration::from_secs(120);
/// Beyond 2^20 a second nothing is slow.
const MOST_DOUBLINGS: u64 = 20;

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    Stopped,
    /// So many a second, and so many at the same time, at most.
    Slow(u32),
    Free,
}

/// How badly a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// The gateway said that it is overloaded, or cannot be reached: one is enough.
    Surely,
    /// No answer, which may have been this connection alone.
    Perhaps,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Closed,
    Open {
        until: Duration,
    },
    Probing {
        since: Duration,
    },
    Slow {
        from: Duration,
    },
}

/// Of one account, in this process. Times are CLOCK_BOOTTIME.
#[derive(Debug, Default)]
pub struct Breaker {
    state: State,
    /// Probes that failed, and rounds of charges that failed from the first on, in a row: the next pause is the longer.
    failures: usize,
    /// Charges without an answer, in a row.
    streak: u32,
    opened_at: Duration,
    /// Whether a charge was answered since sends resumed.
    has_answered: bool,
}

impl Breaker {
    /// A call that began at `began` has failed. Returns the pause if that opens it.
    pub fn failed(&mut self, began: Duration, now: Duration, how: Failing) -> Option<Duration> {
        // what was under way when it opened says nothing new
        if began < self.opened_at || matches!(self.state, State::Open { .. } | State::Probing { .. }) {
            return None;
        }
        self.streak += 1;
        // look-ups are answered and charges are not: that is no recovery
        let in_vain = matches!(self.state, State::Slow { .. }) && !self.has_answered;
        if how == Failing::Perhaps && self.streak < STREAK && !in_vain {
            return None;
        }
        self.failures += usize::from(in_vain);
        Some(self.open(now))
    }

    fn open(&mut self, now: Duration) -> Duration {
        let pause = Duration::from_secs(PAUSES[self.failures.min(PAUSES.len() - 1)]);
        self.streak = 0;
        self.opened_at = now;
        self.state = State::Open { until: now + pause };
        pause
    }

    /// The gateway has answered a charge, whatever it said.
    pub fn answered(&mut self) {
        self.streak = 0;
        if matches!(self.state, State::Slow { .. }) {
            (self.has_answered, self.failures) = (true, 0);
        }
    }

    /// Whether a look-up should probe now. Whoever is told so makes it, and says how it went.
    pub fn takes_probe(&mut self, now: Duration) -> bool {
        let due = match self.state {
            State::Open { until } => now >= until,
            State::Probing { since } => now >= since + PROBE,
            State::Closed | State::Slow { .. } => false,
        };
        if due {
            self.state = State::Probing { since: now };
        }
        due
    }

    /// How the probe went. Returns the next pause if it failed.
    pub fn probed(&mut self, now: Duration, good: bool) -> Option<Duration> {
        if !matches!(self.state, State::Probing { .. }) {
            return None;
        }
        if !good {
            self.failures += 1;
            return Some(self.open(now));
        }
        (self.state, self.has_answered) = (State::Slow { from: now }, false);
        None
    }

    /// What may be sent now. `full`: what the account may send in a second, or at the same time.
    pub fn passage(&self, now: Duration, full: u32) -> Passage {
        match self.state {
            State::Closed => Passage::Free,
            State::Open { .. } | State::Probing { .. } => Passage::Stopped,
            State::Slow { from } => {
                let allowed = 1 << now.saturating_sub(from).as_secs().min(MOST_DOUBLINGS);
                if allowed < full { Passage::Slow(allowed) } else { Passage::Free }
            }
        }
    }

    /// Closes it once nothing is slow any more and a charge was answered: one that hangs fails long after the last doubling.
    /// Returns whether that is now.
    pub fn settle(&mut self, now: Duration, full: u32) -> bool {
        let over = matches!(self.state, State::Slow { .. }) && self.has_answered && self.passage(now, full) == Passage::Free;
        if over {
            (self.state, self.failures, self.streak) = (State::Closed, 0, 0);
        }
        over
    }

    /// When it changes by itself, from `now` on.
    pub fn next_change(&self, now: Duration, full: u32) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open { until } => Some(until),
            State::Probing { since } => Some(since + PROBE),
            State::Slow { from } => {
                let doublings = u64::from(full.next_power_of_two().trailing_zeros());
                let end = from + Duration::from_secs(doublings.min(MOST_DOUBLINGS));
                // after it only an answer changes anything
                Some(end).filter(|end| *end > now || self.has_answered)
            }
        }
    }

    /// For people; `None`: closed.
    pub fn word(&self) -> Option<&'static str> {
        match self.state {
            State::Closed => None,
            State::Open { .. } | State::Probing { .. } => {
                Some("the gateway fails as a whole: sends pause, and a look-up probes it")
            }
            State::Slow { .. } => Some("the gateway answers again: sends resume slowly"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn open(breaker: &mut Breaker, now: u64) -> Option<u64> {
        breaker.failed(at(now), at(now), Failing::Surely).map(|pause| pause.as_secs())
    }

    #[test]
    fn pauses_grow_while_probes_fail() {
        let mut breaker = Breaker::default();
        assert_eq!(open(&mut breaker, 0), Some(1));
        let (mut now, mut pauses) = (1, Vec::new());
        for _ in 0..9 {
            assert!(breaker.takes_probe(at(now)) && !breaker.takes_probe(at(now)), "one probe, not two");
            let pause = breaker.probed(at(now), false).unwrap().as_secs();
            assert!(!breaker.takes_probe(at(now + pause - 1)));
            pauses.push(pause);
            now += pause;
        }
        assert_eq!(pauses, [2, 5, 15, 30, 60, 120, 300, 300, 300]);
        assert_eq!(breaker.passage(at(now), 10), Passage::Stopped);
    }

    /// A gateway that fails one charge in ten and answers each look-up.
    #[test]
    fn a_gateway_that_fails_now_and_then_is_not_left_alone_for_ever() {
        let (mut breaker, mut now, mut sent) = (Breaker::default(), 0, 0);
        while sent < 5_000 {
            if breaker.takes_probe(at(now)) {
                assert_eq!(breaker.probed(at(now), true), None);
            }
            let room = match breaker.passage(at(now), 10) {
                Passage::Stopped => 0,
                Passage::Slow(room) => room.min(10),
                Passage::Free => 10,
            };
            breaker.settle(at(now), 10);
            for _ in 0..room {
                sent += 1;
                if sent % 10 == 0 {
                    breaker.failed(at(now), at(now), Failing::Surely);
                    break;
                }
                breaker.answered();
            }
            now += 1;
        }
        assert!(now < 3_600, "{now} s for 5,000 charges");
    }

    #[test]
    fn one_lost_connection_while_sends_resume_is_one_lost_connection() {
        let mut breaker = Breaker::default();
        open(&mut breaker, 0);
        assert!(breaker.takes_probe(at(1)));
        breaker.probed(at(1), true);
        breaker.answered();
        assert_eq!(breaker.failed(at(2), at(2), Failing::Perhaps), None);
        assert_ne!(breaker.passage(at(3), 10), Passage::Stopped);
    }

    #[test]
    fn look_ups_that_are_answered_while_charges_fail_are_no_recovery() {
        let mut breaker = Breaker::default();
        let mut pauses = vec![open(&mut breaker, 0).unwrap()];
        let mut now = 0;
        for _ in 0..4 {
            now += pauses.last().unwrap();
            assert!(breaker.takes_probe(at(now)));
            breaker.probed(at(now), true);
            pauses.push(open(&mut breaker, now).unwrap());
        }
        assert_eq!(pauses, [1, 2, 5, 15, 30]);
    }

    /// Charges hang for 65 s, and each look-up is answered at once.
    #[test]
    fn charges_that_hang_longer_than_sends_take_to_resume_are_no_recovery() {
        let mut breaker = Breaker::default();
        let (mut now, mut pauses) = (0, vec![open(&mut breaker, 0).unwrap()]);
        for _ in 0..4 {
            now += pauses.last().unwrap();
            assert!(breaker.takes_probe(at(now)));
            breaker.probed(at(now), true);
            breaker.settle(at(now + 10), 10);
            let failed = breaker.failed(at(now), at(now + 65), Failing::Perhaps);
            pauses.push(failed.expect("the first of them opens it").as_secs());
            now += 65;
        }
        assert_eq!(pauses, [1, 2, 5, 15, 30]);
    }

    #[test]
    fn a_good_probe_lets_twice_as_many_through_each_second() {
        let mut breaker = Breaker::default();
        open(&mut breaker, 0);
        assert!(breaker.takes_probe(at(1)));
        assert_eq!(breaker.passage(at(2), 10), Passage::Stopped, "not before the answer");
        assert_eq!(breaker.probed(at(2), true), None);
        let passages: Vec<Passage> = (2..7).map(|now| breaker.passage(at(now), 10)).collect();
        assert_eq!(passages, [Passage::Slow(1), Passage::Slow(2), Passage::Slow(4), Passage::Slow(8), Passage::Free]);
        assert_eq!(breaker.next_change(at(5), 10), Some(at(6)));
        assert!(!breaker.settle(at(6), 10), "not before a charge was answered");
        breaker.answered();
        assert!(!breaker.settle(at(5), 10) && breaker.settle(at(6), 10) && !breaker.settle(at(6), 10));
        assert_eq!(open(&mut breaker, 9), Some(1), "after a recovery pauses begin anew");
    }

    #[test]
    fn a_sure_failure_while_it_resumes_opens_it_again() {
        let mut breaker = Breaker::default();
        open(&mut breaker, 0);
        breaker.takes_probe(at(1));
        breaker.probed(at(1), true);
        breaker.answered();
        assert_eq!(breaker.failed(at(2), at(2), Failing::Surely), Some(at(1)));
    }

    #[test]
    fn answers_that_were_under_way_together_count_once() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.failed(at(1), at(5), Failing::Surely), Some(at(1)));
        assert_eq!(breaker.failed(at(1), at(5), Failing::Surely), None);
        breaker.takes_probe(at(6));
        breaker.probed(at(6), true);
        assert_eq!(breaker.failed(at(2), at(60), Failing::Perhaps), None, "it had been sent before the pause");
    }

    #[test]
    fn a_lost_connection_opens_nothing_and_three_in_a_row_do() {
        let mut breaker = Breaker::default();
        let lost = |breaker: &mut Breaker, now| breaker.failed(at(now), at(now), Failing::Perhaps).is_some();
        assert!(!lost(&mut breaker, 1) && !lost(&mut breaker, 2));
        breaker.answered();
        assert!(!lost(&mut breaker, 3) && !lost(&mut breaker, 4));
        assert!(lost(&mut breaker, 5));
    }

    #[test]
    fn a_probe_that_never_comes_back_is_made_again() {
        let mut breaker = Breaker::default();
        open(&mut breaker, 0);
        assert!(breaker.takes_probe(at(1)));
        assert!(!breaker.takes_probe(at(120)) && breaker.takes_probe(at(121)));
    }

    #[test]
    fn an_account_with_one_charge_a_second_is_closed_at_once() {
        let mut breaker = Breaker::default();
        open(&mut breaker, 0);
        breaker.takes_probe(at(1));
        breaker.probed(at(1), true);
        assert_eq!((breaker.passage(at(1), 1), breaker.next_change(at(1), 1)), (Passage::Free, None));
        breaker.answered();
        assert_eq!(breaker.next_change(at(1), 1), Some(at(1)));
        assert!(breaker.settle(at(1), 1));
    }
}
