//! What happens around a guard: the mishaps that it is there for. The same scene is played with the guard and without.

use std::sync::Arc;

use jiff::SignedDuration;
use rand::RngExt;
use rebilld::domain::charge::IdMode;
use rebilld::domain::fuse::Fuse;
use rebilld::ports::clock::Clock as _;

use crate::portone::{Interlude, Place, Play, rng};
use crate::world::{Ahead, Process, Setup, Thrown, World, by_hand, due, meanwhile};

/// More in an hour blows the fuse.
const HOUR: i64 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// The gateway takes its time, and look-ups show it late: up to 15 and 10 minutes, together below Q.
    SlowGateway,
    /// A look-up takes more than an hour to be judged.
    SlowLookUp,
    /// What was reported as failed is approved within a day and a half.
    ApprovedLater,
    /// What was declined for good is approved a day later, and nobody compares the ledgers.
    ApprovedAfterTheEnd,
    /// Requests arrive hours later: longer than Q, beyond what the protocol takes for granted.
    Overdue,
    /// Amounts, cards and answers that are not ours.
    WrongPayments,
    /// Somebody begins another attempt for charges in doubt, in SQL.
    Hand,
    /// A process is frozen after W2 was committed, for days; another one lives meanwhile.
    Frozen,
    /// Two processes, one of them frozen for a while, or with a clock that is an hour ahead.
    Replicas,
    /// More charges fall due in an hour than the fuse lets through.
    Wave,
    /// The kill switch is thrown in the database while a send is between W2 and the gate.
    Killed,
    /// The same, outside of the database.
    KilledOutside,
}

impl Scene {
    fn setup(self, seed: u64) -> Setup {
        use Play::{ApproveLater, Decline, Expire, Foreign, Hidden, Late, LostAfter, LostBefore, Pay, WrongAmount, WrongCard};
        let slow: &[Play] = &[Pay, LostBefore, LostAfter, Late(1, 900), Hidden(600), Decline];
        let mode = if rng(seed, &["mode"]).random_bool(0.8) { IdMode::PerAttempt } else { IdMode::PerPeriod };
        let setup = |plays| Setup { mode, ..Setup::new(plays) };
        match self {
            Self::SlowGateway | Self::SlowLookUp | Self::Hand | Self::Frozen | Self::Replicas => setup(slow),
            Self::ApprovedLater => setup(&[Pay, Decline, ApproveLater(36 * 3600)]),
            Self::ApprovedAfterTheEnd => Setup { audits: false, ..setup(&[Decline, Expire, ApproveLater(24 * 3600)]) },
            Self::Overdue => setup(&[Pay, Decline, Late(3600, 4 * 3600)]),
            Self::WrongPayments => setup(&[Pay, WrongAmount, WrongCard, Foreign, LostAfter]),
            Self::Wave => Setup {
                subscriptions: 9,
                fuse: Fuse { hour_count: Some(HOUR), ..Fuse::NONE },
                ..setup(&[Pay, Decline, LostBefore])
            },
            Self::Killed | Self::KilledOutside => setup(&[Pay, Decline, LostBefore]),
        }
    }

    /// Plays it to its end, and says what is wrong then. `sabotage` takes a guard of the database away.
    pub async fn play(self, seed: u64, url: &str, sabotage: &'static [&'static str]) -> Vec<String> {
        let mut world = World::new(seed, url, self.setup(seed)).await;
        for sql in sabotage {
            by_hand(url, sql).await.unwrap();
        }
        let mut rng = rng(seed, &["scene"]);
        let hours = SignedDuration::from_hours;
        let soon = due() - SignedDuration::from_secs(60);
        world.live_until(Process::plain(&world.clock), soon).await;
        match self {
            Self::SlowGateway | Self::ApprovedLater | Self::ApprovedAfterTheEnd | Self::Overdue | Self::WrongPayments => {}
            Self::SlowLookUp => {
                let clock = Arc::clone(&world.clock);
                let takes = SignedDuration::from_mins(rng.random_range(50..120));
                let from = due() + SignedDuration::from_secs(rng.random_range(60..3600));
                let deed = Interlude::at(
                    Place::Looked,
                    from,
                    Box::new(move || Box::pin(async move { clock.move_to(clock.now() + takes) })),
                );
                let process = Process { interlude: deed, ..Process::plain(&world.clock) };
                world.live_until(process, due() + hours(6)).await;
            }
            Self::Hand => {
                for _ in 0..6 {
                    let next = world.clock.now() + SignedDuration::from_mins(rng.random_range(2..20));
                    world.live_until(Process::plain(&world.clock), next).await;
                    // refused by the index, as a whole
                    let _ = by_hand(url, AGAIN).await;
                }
            }
            Self::Frozen => {
                let long = hours(rng.random_range(2..80));
                let other = world.engine(Process::plain(&world.clock));
                world.freeze(Place::Committed, due(), long, other).await;
            }
            Self::Replicas => {
                let place = [Place::Looked, Place::Committed, Place::Answered][rng.random_range(0..3)];
                let from = due() + SignedDuration::from_mins(if rng.random_bool(0.5) { 0 } else { rng.random_range(0..180) });
                let ahead = rng.random_bool(0.5);
                let long = match rng.random_range(0..3) {
                    0 => SignedDuration::from_secs(rng.random_range(1..10)),
                    1 => SignedDuration::from_mins(rng.random_range(1..180)),
                    _ => hours(rng.random_range(2..80)),
                };
                let by = if ahead { hours(1) } else { SignedDuration::ZERO };
                let clock = Arc::new(Ahead { clock: Arc::clone(&world.clock), by });
                let other = world.engine(Process { clock, ..Process::plain(&world.clock) });
                world.freeze(place, from, long, other).await;
            }
            Self::Wave => {
                world.live_until(Process::plain(&world.clock), due() + hours(1)).await;
                let sent = world.portone.books().posts.len();
                if sent > usize::try_from(HOUR).unwrap() {
                    world.seen.push(format!("fuse: {sent} charges within an hour, and {HOUR} are the most"));
                }
                return world.seen;
            }
            Self::Killed | Self::KilledOutside => {
                let clock = Arc::clone(&world.clock);
                let long = SignedDuration::from_millis(rng.random_range(2_000..9_000));
                let (database, outside) = (url.to_owned(), self == Self::KilledOutside);
                let deed = Interlude::at(
                    Place::Committed,
                    due(),
                    Box::new(move || {
                        Box::pin(async move {
                            if !outside {
                                by_hand(&database, "UPDATE settings SET killed = 1, kill_reason = 'a test'").await.unwrap();
                            }
                            clock.move_to(clock.now() + long);
                        })
                    }),
                );
                let (from, to) = (due() + SignedDuration::from_millis(1), due() + hours(5));
                let mut process = Process { interlude: deed, ..Process::plain(&world.clock) };
                if outside {
                    process.switch = Arc::new(Thrown { clock: Arc::clone(&world.clock), from, to });
                }
                world.live_until(process, to).await;
                world.braked.push((from, to));
                by_hand(url, "UPDATE settings SET killed = 0, kill_reason = NULL").await.unwrap();
            }
        }
        let days = if self == Self::ApprovedAfterTheEnd { 40 } else { 12 };
        world.end(due() + hours(24 * days)).await
    }
}

/// "It has not arrived: send it again under a new number", by somebody who knows the tables and not the protocol.
const AGAIN: &str = "BEGIN;
    INSERT INTO attempts (charge_id, number, id_number, amount, customer_uid, state)
        SELECT a.charge_id, a.number + 1, a.id_number + 1, a.amount, a.customer_uid, 'live'
        FROM attempts a JOIN charges c ON c.id = a.charge_id WHERE c.state = 'doubt' AND a.state = 'live';
    UPDATE charges SET state = 'due', waiting = 'turn', attempts = attempts + 1, id_number = id_number + 1,
        next_at = (SELECT max(begun_at) FROM sends) WHERE state = 'doubt';
    COMMIT;";

impl World {
    /// A process that is frozen for so long where it comes to `place`, while another one lives; then it goes on as if nothing had been.
    async fn freeze(
        &mut self,
        place: Place,
        from: jiff::Timestamp,
        long: SignedDuration,
        other: Arc<rebilld::engine::Engine>,
    ) {
        let clock = Arc::clone(&self.clock);
        let deed = Interlude::at(
            place,
            from,
            Box::new(move || {
                Box::pin(async move {
                    let until = clock.now() + long;
                    meanwhile(other, &clock, until).await;
                })
            }),
        );
        let process = Process { interlude: deed, ..Process::plain(&self.clock) };
        self.live_until(process, due() + SignedDuration::from_hours(5 * 24)).await;
    }
}
