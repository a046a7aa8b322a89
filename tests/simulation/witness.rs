//! What the books at the end cannot tell: what stood in the database at the very moment at which a request left, who owes what, and what
//! the gateway made of a send that was taken for lost.

use std::collections::HashMap;
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use rebilld::domain::proof::{self, Verdict};
use rebilld::store::Database;
use rebilld::store::codec::Param;
use rebilld::store::sql::Statement;

use crate::book::Owed;
use crate::faults::Swarm;
use crate::stage::at_once;
use crate::world::World;

/// A brake is looked at within a second before each request; the look itself takes a moment.
const FRESH: SignedDuration = SignedDuration::from_secs(2);

/// The open send of an id, and what stops sends.
const AT_THE_WIRE: Statement = Statement::same(
    "at the wire",
    "SELECT t.held, t.held_at, c.held AS account_held, c.held_at AS account_held_at, c.paused, c.paused_at,
            a.customer_uid, a.amount
        FROM settings t JOIN accounts c ON TRUE
        LEFT JOIN (ids i JOIN attempts a ON a.charge_id = i.charge_id AND a.state IN ('live', 'paid')
            JOIN sends s ON s.attempt_id = a.id AND s.state = 'open') ON i.merchant_uid = $1 AND a.id_number = $2",
);

/// Each send with what it was taken for.
const SENDS: Statement = Statement::same(
    "sends",
    "SELECT a.charge_id, a.id_number, s.begun_at, s.state FROM sends s JOIN attempts a ON a.id = s.attempt_id ORDER BY s.begun_at",
);

/// Requests as they left, and what was wrong with them.
#[derive(Debug)]
pub struct AtTheWire {
    /// How long after it is asked for a brake may be unheard of: whoever asks for one may be frozen before it is written.
    unheard: SignedDuration,
    seen: Mutex<(usize, Vec<String>)>,
}

impl AtTheWire {
    pub fn new(swarm: &Swarm) -> Self {
        let frozen = if swarm.stalls > 0 { swarm.stall_seconds } else { 0 };
        Self { unheard: FRESH + SignedDuration::from_secs(frozen), seen: Mutex::default() }
    }

    /// A request is about to leave a process. `now`: by the clock of its database; `None`: that one jumps, and nobody can say since when
    /// anything is on hold.
    pub fn leaves(&self, database: &Database, post: &proof::LedgerPost, now: Option<Timestamp>) {
        let number: i64 = post.merchant_uid.get(28..).and_then(|digits| digits.parse().ok()).unwrap_or(-1);
        let rows = at_once(database.read(&AT_THE_WIRE, &[Param::from(post.merchant_uid.as_str()), Param::from(number)])).unwrap();
        let mut wrong = Vec::new();
        let sends: Vec<_> =
            rows.iter().filter_map(|row| Some((row.text_opt("customer_uid").unwrap()?, row.int("amount").unwrap()))).collect();
        if sends != [(post.customer_uid.clone(), post.amount)] {
            wrong.push(format!("the database knows {sends:?} of it as open"));
        }
        for (brake, since) in [("held", "held_at"), ("account_held", "account_held_at"), ("paused", "paused_at")] {
            let row = &rows[0];
            let since = row.flag(brake).unwrap().then(|| row.at_opt(since).unwrap()).flatten();
            if let (Some(now), Some(since)) = (now, since)
                && since + self.unheard < now
            {
                wrong.push(format!("{brake} since {since}"));
            }
        }
        let mut seen = self.seen.lock().unwrap();
        seen.0 += 1;
        let said =
            |wrong: &String| format!("{} of {} with {} at {now:?}: {wrong}", post.merchant_uid, post.amount, post.customer_uid);
        seen.1.extend(wrong.iter().map(said));
    }

    pub fn verdict(&self) -> Verdict {
        let (checked, broken) = self.seen.lock().unwrap().clone();
        let says =
            "at the moment a request left, its database had its open send, with that card and amount, and no hold or pause";
        Verdict { name: "S3", says, checked, broken }
    }
}

/// An answer that was spoilt, and was believed.
#[derive(Debug, Default)]
pub struct Believed(Mutex<(usize, Vec<String>)>);

impl Believed {
    pub fn judged<T: std::fmt::Debug, E>(&self, what: &str, how: &dyn std::fmt::Debug, came_to: &Result<T, E>) {
        let mut seen = self.0.lock().unwrap();
        seen.0 += 1;
        if let Ok(read) = came_to {
            seen.1.push(format!("{what}, {how:?}: {read:?}"));
        }
    }

    pub fn verdict(&self) -> Verdict {
        let (checked, broken) = self.0.lock().unwrap().clone();
        Verdict { name: "S6", says: "no look-up whose answer was spoilt said anything", checked, broken }
    }
}

impl World {
    /// How long after a stop what was at the gate may still leave.
    fn straggling(&self) -> SignedDuration {
        let swarm = &self.shared.swarm;
        SignedDuration::from_secs(60 + if swarm.stalls > 0 { swarm.stall_seconds } else { 0 })
    }

    /// I4 the other way round: what nobody owes is not charged.
    pub fn nothing_unowed(&self, ledger: &proof::Ledger, books: &proof::Books) -> Verdict {
        let end = self.now();
        let owed: HashMap<String, Owed> = self.book.owed(end + SignedDuration::from_hours(24));
        let mut broken = Vec::new();
        for charge in &books.charges {
            match owed.get(&charge.base) {
                None => broken.push(format!("{} of {}: nobody owes it", charge.base, charge.external_ref)),
                Some(owed) if owed.due_at != charge.due_at => {
                    broken.push(format!("{} is due at {}, and was booked for {}", charge.base, owed.due_at, charge.due_at));
                }
                Some(_) => {}
            }
        }
        let steady = self.shared.jumps.is_empty();
        for post in &ledger.posts {
            let Some(owed) = owed.get(post.merchant_uid.get(..28).unwrap_or_default()) else {
                broken.push(format!("{}: nobody owes what was asked for", post.merchant_uid));
                continue;
            };
            if steady && post.at < owed.due_at - SignedDuration::from_secs(1) {
                broken.push(format!("{} was asked for at {}, and is due at {}", post.merchant_uid, post.at, owed.due_at));
            }
            let stopped = owed.stopped.iter().find(|(from, to)| *from + self.straggling() < post.at && post.at < *to);
            if let Some((from, to)) = stopped {
                let row = &owed.external_ref;
                broken.push(format!("{} was asked for at {}: {row} was stopped from {from} to {to}", post.merchant_uid, post.at));
            }
        }
        let says =
            "nothing is charged that nobody owes: no other period, none before its time, nobody who was paused or has cancelled";
        Verdict { name: "S4", says, checked: books.charges.len() + ledger.posts.len(), broken }
    }

    /// R2 and R3, by the ledger: no send that was taken for absent has made a record. Where the database's clock jumps, nobody can compare;
    /// and what was sent again in a database that an older copy has replaced is not in this one.
    pub fn none_taken_for_absent(&self, books: &proof::Books) -> Verdict {
        let database = self.database();
        let bases: HashMap<i64, &str> = books.charges.iter().map(|charge| (charge.id, charge.base.as_str())).collect();
        let mut sends: HashMap<String, Vec<(Timestamp, bool)>> = HashMap::new();
        for row in at_once(database.read(&SENDS, &[])).unwrap() {
            let uid = format!("{}{:02}", bases[&row.int("charge_id").unwrap()], row.int("id_number").unwrap());
            sends.entry(uid).or_default().push((row.at("begun_at").unwrap(), row.text("state").unwrap() == "absent"));
        }
        let ledger = self.shared.portone.ledger.lock().unwrap();
        // what was under way when the copy came back arrives a little later
        let late = SignedDuration::from_mins(30);
        let is_lost = |at: Timestamp| self.lost.iter().any(|(from, to)| *from <= at && at < *to + late);
        let filed = ledger.filed.iter().filter(|(_, at)| self.shared.jumps.is_empty() && !is_lost(*at));
        taken_for_absent(&sends, &filed.cloned().collect::<Vec<_>>())
    }
}

/// Sends of each id in the order of time, and whether each was taken for absent, against the records that were made.
fn taken_for_absent(sends: &HashMap<String, Vec<(Timestamp, bool)>>, filed: &[(String, Timestamp)]) -> Verdict {
    let checked = sends.values().flatten().filter(|(_, is_absent)| *is_absent).count();
    let mut broken = Vec::new();
    for (uid, at) in filed {
        let before = sends.get(uid).and_then(|sends| sends.iter().rfind(|(begun, _)| begun <= at));
        if let Some((begun, true)) = before {
            broken.push(format!("{uid}, begun at {begun}, was taken for absent, and made a record at {at}"));
        }
    }
    Verdict { name: "S5", says: "no send that was taken for absent has made a record", checked, broken }
}

#[test]
fn each_witness_can_say_no() {
    use rebilld::store::desk::{Reach, Signed};
    let swarm = Swarm { subscriptions: 6, ..Swarm::default() };
    crate::simulate(9, swarm, async |mut world| {
        world.import(None);
        world.come_up();
        world.live_until(world.start() + SignedDuration::from_hours(40 * 24)).await;
        world.go_down().await;
        let (now, database) = (world.now(), world.database());
        let (books, ledger) = (at_once(database.books()).unwrap(), world.shared.portone.ledger.lock().unwrap().books(now));
        let wire = world.shared.portone.at_the_wire.verdict();
        assert!(wire.holds() && wire.checked == ledger.posts.len() && wire.checked > 5, "{wire:?}");
        let unowed = |world: &World, books: &proof::Books, ledger: &proof::Ledger| world.nothing_unowed(ledger, books).broken;
        assert_eq!(unowed(&world, &books, &ledger), [""; 0]);
        assert_eq!(world.none_taken_for_absent(&books).broken, [""; 0]);

        // another hour, a period of nobody, too early, while it is stopped
        let mut other = books.clone();
        other.charges[0].due_at += SignedDuration::from_hours(1);
        other.charges[1].base = "sbaaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned();
        assert_eq!(unowed(&world, &other, &ledger).len(), 2);
        let mut early = ledger.clone();
        early.posts[0].at -= SignedDuration::from_secs(2);
        early.posts[1].merchant_uid = "sbaaaaaaaaaaaaaaaaaaaaaaaaaa01".to_owned();
        assert_eq!(unowed(&world, &books, &early).len(), 2);
        let start = world.start();
        world.book.stop(0, start);
        let of_row = unowed(&world, &books, &ledger);
        assert!(!of_row.is_empty() && of_row.iter().all(|said| said.contains("sub-0 was stopped")), "{of_row:?}");
        let (from, late) = (now, now + SignedDuration::from_mins(61));
        let sends = |absent| [("uid".to_owned(), vec![(from, absent), (late, false)])].into();
        let filed = [("uid".to_owned(), from + SignedDuration::from_mins(5))];
        assert_eq!([true, false].map(|absent| taken_for_absent(&sends(absent), &filed).broken.len()), [1, 0]);

        // a request of which the database knows nothing, and any while it is on hold
        let wire = AtTheWire::new(&world.shared.swarm);
        wire.leaves(&database, &ledger.posts[0], Some(now));
        assert_eq!(wire.verdict().broken.len(), 1, "its send has ended");
        let signed = Signed { who: "a test".to_owned(), reason: "a look".to_owned() };
        at_once(database.desk().set_hold(now, &Reach::Database, &signed)).unwrap();
        wire.leaves(&database, &ledger.posts[0], Some(now + FRESH));
        assert_eq!(wire.verdict().broken.len(), 2, "it may not have heard of it yet");
        wire.leaves(&database, &ledger.posts[0], Some(now + FRESH + SignedDuration::from_secs(1)));
        let said = wire.verdict().broken;
        assert!(said.len() == 4 && said[3].contains(&format!("held since {now}")), "{said:#?}");
    });
}
