//! What happens around a guard: the mishaps that it is there for. The same scene is played with the guard and without.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rebilld::domain::charge::IdMode;
use rebilld::domain::fuse::Fuse;
use rebilld::engine::Engine;
use rebilld::ports::clock::Clock as _;

use crate::portone::{Deed, Interlude, Place, Play, rng};
use crate::world::{Process, Setup, Thrown, World, by_hand, due, meanwhile};

/// More in an hour blows the fuse.
const HOUR: i64 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// The gateway takes its time, and look-ups show it late: up to 15 and 10 minutes, together below Q.
    SlowGateway,
    /// A look-up takes more than an hour to be judged.
    SlowLookUp,
    /// The same, and each conclusion "not paid" is held against what the gateway was asked.
    EarlyQuestion,
    /// What was reported as failed is approved within a day and a half.
    ApprovedLater,
    /// What was declined for good is approved within a day, and nobody compares the ledgers.
    ApprovedAfterTheEnd,
    /// Requests arrive hours later: longer than Q, beyond what the protocol takes for granted.
    Overdue,
    /// Amounts, cards and answers that are not ours.
    WrongPayments,
    /// Somebody begins another attempt for charges in doubt, in SQL.
    Hand,
    /// A process is frozen after W2 was committed, for days; another one lives meanwhile.
    Frozen,
    /// A process is frozen over a look-up that may be believed; another one takes the charge over, and goes on with it.
    TakenOver,
    /// More charges fall due in an hour than the fuse lets through.
    Wave,
    /// The kill switch is thrown in the database while a send is between W2 and the gate.
    Killed,
    /// The same, outside of the database.
    KilledOutside,
}

/// A guard that is taken out around the product.
#[derive(Debug, Clone, Copy)]
pub enum Sabotage {
    /// A change of the simulation's own database.
    Sql(&'static str),
    /// Q is nothing.
    NoQuiet,
    /// No bound is set.
    NoFuse,
}

impl Scene {
    fn setup(self, seed: u64) -> Setup {
        use Play::{
            ApproveLater, Decline, ExpireFirst, Foreign, Hidden, Late, LostAfter, LostBefore, Pay, WrongAmount, WrongCard,
        };
        let slow: &[Play] = &[Pay, LostBefore, LostAfter, Late(1, 900), Hidden(600), Decline];
        let mode = if rng(seed, &["mode"]).random_bool(0.8) { IdMode::PerAttempt } else { IdMode::PerPeriod };
        let setup = |plays| Setup { mode, ..Setup::new(plays) };
        match self {
            Self::SlowGateway | Self::SlowLookUp | Self::Hand | Self::Frozen => setup(slow),
            Self::EarlyQuestion => Setup { questions: true, ..setup(slow) },
            Self::TakenOver => setup(&[Pay, LostBefore, Decline]),
            Self::ApprovedLater => setup(&[Pay, Decline, ApproveLater(36 * 3600)]),
            Self::ApprovedAfterTheEnd => Setup { audits: false, ..setup(&[Decline, ExpireFirst(24 * 3600)]) },
            Self::Overdue => Setup { within_q: false, ..setup(&[Pay, Decline, Late(3600, 4 * 3600)]) },
            Self::WrongPayments => setup(&[Pay, WrongAmount, WrongCard, Foreign, LostAfter]),
            Self::Wave => Setup {
                subscriptions: 9,
                fuse: Fuse { hour_count: Some(HOUR), ..Fuse::NONE },
                ..setup(&[Pay, Decline, LostBefore])
            },
            Self::Killed | Self::KilledOutside => setup(&[Pay, Decline, LostBefore]),
        }
    }

    /// Plays it to its end, and says what is wrong then. `sabotage` takes guards away that are none of the product's switches.
    pub async fn play(self, seed: u64, url: &str, sabotage: &[Sabotage]) -> Vec<String> {
        let mut setup = self.setup(seed);
        for one in sabotage {
            match one {
                Sabotage::Sql(_) => {}
                Sabotage::NoQuiet => setup.quiet = false,
                Sabotage::NoFuse => setup.fuse = Fuse::NONE,
            }
        }
        let mut world = World::new(seed, url, setup).await;
        for one in sabotage {
            if let Sabotage::Sql(sql) = one {
                by_hand(url, sql).await.unwrap();
            }
        }
        let mut rng = rng(seed, &["scene"]);
        let hours = SignedDuration::from_hours;
        let soon = due() - SignedDuration::from_secs(60);
        world.live_until(Process::plain(), soon).await;
        match self {
            Self::SlowGateway | Self::ApprovedLater | Self::ApprovedAfterTheEnd | Self::Overdue | Self::WrongPayments => {}
            Self::SlowLookUp | Self::EarlyQuestion => {
                let clock = Arc::clone(&world.clock);
                let takes = SignedDuration::from_mins(rng.random_range(50..120));
                let from = due() + SignedDuration::from_secs(rng.random_range(60..3600));
                let deed = Interlude::at(
                    Place::Looked,
                    from,
                    Box::new(move || Box::pin(async move { clock.move_to(clock.now() + takes) })),
                );
                let process = Process::with(deed);
                world.live_until(process, due() + hours(6)).await;
            }
            Self::Hand => {
                for _ in 0..6 {
                    let next = world.clock.now() + SignedDuration::from_mins(rng.random_range(2..20));
                    world.live_until(Process::plain(), next).await;
                    // refused by the index, as a whole
                    let _ = by_hand(url, AGAIN).await;
                }
            }
            Self::Frozen => {
                let long = hours(rng.random_range(2..80));
                let other = world.engine(Process::plain());
                world.freeze(Place::Committed, due(), long, other).await;
            }
            Self::TakenOver => {
                // the first look-up that may be believed comes 60 minutes after the send, and a claim lasts 2
                let from = due() + SignedDuration::from_mins(rng.random_range(41..60));
                let long = SignedDuration::from_mins(rng.random_range(15..180));
                let other = world.engine(Process::plain());
                world.freeze(Place::Looked, from, long, other).await;
            }
            Self::Wave => {
                world.live_until(Process::plain(), due() + hours(1)).await;
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
                let mut process = Process::with(deed);
                if outside {
                    process.switch = Arc::new(Thrown { clock: Arc::clone(&world.clock), from, to });
                }
                world.live_until(process, to).await;
                world.braked.push((from, to));
                by_hand(url, "UPDATE settings SET killed = 0, kill_reason = NULL").await.unwrap();
            }
        }
        let (mishaps, rest) = match self {
            // the ladder takes 16 days
            Self::ApprovedLater | Self::ApprovedAfterTheEnd => (20, 4),
            // what is in review stays there
            Self::WrongPayments => (2, 2),
            _ => (5, 18),
        };
        world.end(mishaps, rest).await
    }
}

/// "It has not arrived: send it again under a new number", by somebody who knows the tables and not the protocol.
const AGAIN: &str = "BEGIN;
    UPDATE sends SET state = 'answered', ended_at = begun_at, body = NULL WHERE state = 'open' AND attempt_id IN
        (SELECT a.id FROM attempts a JOIN charges c ON c.id = a.charge_id WHERE c.state = 'doubt' AND a.state = 'live');
    INSERT INTO attempts (charge_id, number, id_number, amount, customer_uid, state)
        SELECT a.charge_id, a.number + 1, a.id_number + 1, a.amount, a.customer_uid, 'live'
        FROM attempts a JOIN charges c ON c.id = a.charge_id WHERE c.state = 'doubt' AND a.state = 'live';
    UPDATE charges SET state = 'due', waiting = 'turn', attempts = attempts + 1, id_number = id_number + 1,
        next_at = (SELECT max(begun_at) FROM sends) WHERE state = 'doubt';
    COMMIT;";

impl World {
    /// A process is frozen for so long where it comes to `place`, while another one lives; then it goes on as if nothing had been.
    async fn freeze(&mut self, place: Place, from: Timestamp, long: SignedDuration, other: Arc<Engine>) {
        let clock = Arc::clone(&self.clock);
        let deed: Deed = Box::new(move || {
            Box::pin(async move {
                let until = clock.now() + long;
                meanwhile(other, &clock, until).await;
            })
        });
        let end = due() + SignedDuration::from_hours(5 * 24);
        self.live_until(Process::with(Interlude::at(place, from, deed)), end).await;
    }
}
