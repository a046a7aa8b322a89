//! What the world is like at one moment: the charge's row, two workers, the wire, the gateway's ledger, an old backup.

use rebilld::domain::attempt::Hint;
use rebilld::domain::charge::ChargeState;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub row: Row,
    pub backup: Backup,
    pub workers: [Worker; 2],
    /// In the order in which the gateway made them: a record's place is its `imp_uid`.
    pub ledger: Vec<Record>,
    /// Written, and neither processed nor lost.
    pub wire: Vec<Post>,
    /// Ticks for which a restored database holds.
    pub hold: u8,
    pub declines: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Backup {
    None,
    Kept(Box<Row>),
    Restored,
}

/// A charge and its attempts as the database has them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    pub state: ChargeState,
    /// The id that the next new attempt carries.
    pub id: u8,
    pub tries: u8,
    /// Ticks since the newest intent; no further than what tells old from young.
    pub newest: Option<u8>,
    /// R2 has held once.
    pub quiet_once: bool,
    pub quiet_twice: bool,
    pub elsewhere: Option<(u8, u8)>,
    pub paid: Option<u8>,
    pub live: Option<Live>,
    /// Ids of all attempts, one bit each.
    pub used: u8,
    /// Records that an attempt carries, one bit each.
    pub known: u8,
    /// Which worker's claim is in force.
    pub claim: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Live {
    pub id: u8,
    pub resends: u8,
    pub hint: Option<Hint>,
    pub open: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Worker {
    Idle,
    /// Claimed (W1) and looked up (E1): nothing speaks against a send under this id.
    Ready {
        id: u8,
    },
    /// W2 is committed; `age` ticks ago.
    Begun {
        send: u8,
        id: u8,
        age: u8,
    },
    /// Written; no answer yet.
    Waiting {
        send: u8,
        id: u8,
    },
    /// An answer has come and is not recorded yet.
    Heard {
        send: u8,
        id: u8,
        answer: Answer,
    },
    /// Looks up the ids of `asked`; it began `age` ticks ago. What it shows is read once, at some moment after that.
    Looking {
        age: u8,
        asked: u8,
        seen: Option<Seen>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    Paid(u8),
    Failed(u8),
    /// Failed, with a text that does not say whether the card was asked.
    Ambiguous(u8),
    Pending(u8),
    /// A code that is no listed refusal, with a text about the card.
    Unclear,
    /// Refused: there is a payment under this id.
    Already,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    Failed,
    Paid,
    Ready,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Record {
    pub id: u8,
    pub status: Status,
    /// Ticks for which it has been hidden from look-ups; `None` once it shows.
    pub hidden: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Post {
    pub id: u8,
    pub age: u8,
    /// The worker that waits for its answer.
    pub from: Option<u8>,
}

/// What a look-up showed: two bits for each record of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seen(u16);

impl Seen {
    pub fn add(&mut self, record: usize, status: Status) {
        let code = match status {
            Status::Failed => 1,
            Status::Paid => 2,
            Status::Ready => 3,
        };
        self.0 |= code << (record * 2);
    }

    pub fn get(self, record: usize) -> Option<Status> {
        match self.0 >> (record * 2) & 3 {
            1 => Some(Status::Failed),
            2 => Some(Status::Paid),
            3 => Some(Status::Ready),
            _ => None,
        }
    }

    pub fn all(self) -> impl Iterator<Item = (u8, Status)> {
        (0..8u8).filter_map(move |record| Some((record, self.get(usize::from(record))?)))
    }
}

/// As many records as a history may make; beyond that the model would look away, and says so by a failed property.
const MOST_RECORDS: usize = 8;

impl Row {
    pub fn opened() -> Self {
        Self {
            state: ChargeState::Due,
            id: 1,
            tries: 0,
            newest: None,
            quiet_once: false,
            quiet_twice: false,
            elsewhere: None,
            paid: None,
            live: None,
            used: 0,
            known: 0,
            claim: None,
        }
    }

    pub fn in_doubt(&self) -> bool {
        self.live.is_some_and(|live| live.open.is_some())
    }

    pub fn live_id(&self) -> u8 {
        self.live.map_or(self.id, |live| live.id)
    }

    pub fn knows(&self, record: u8) -> bool {
        self.known >> record & 1 == 1
    }
}

impl State {
    pub fn start() -> Self {
        Self {
            row: Row::opened(),
            backup: Backup::None,
            workers: [Worker::Idle; 2],
            ledger: Vec::new(),
            wire: Vec::new(),
            hold: 0,
            declines: 0,
        }
    }

    /// Whether the gateway's ledger has no room for what one more request may file.
    pub fn is_full(&self) -> bool {
        self.ledger.len() + 2 > MOST_RECORDS
    }

    pub fn payments(&self) -> usize {
        self.ledger.iter().filter(|record| record.status == Status::Paid).count()
    }

    /// Whether anything that was sent may still come to something that no look-up shows yet.
    pub fn is_under_way(&self) -> bool {
        let hidden = self.ledger.iter().any(|record| record.hidden.is_some() || record.status == Status::Ready);
        let sending = self.workers.iter().any(|worker| matches!(worker, Worker::Begun { .. } | Worker::Waiting { .. }));
        hidden || sending || !self.wire.is_empty()
    }

    /// The smallest number that no send has which anything still refers to.
    pub fn free_send(&self) -> u8 {
        let of_row = |row: &Row| row.live.and_then(|live| live.open);
        let mut taken = vec![of_row(&self.row)];
        if let Backup::Kept(row) = &self.backup {
            taken.push(of_row(row));
        }
        taken.extend(self.workers.iter().map(|worker| match worker {
            Worker::Begun { send, .. } | Worker::Waiting { send, .. } | Worker::Heard { send, .. } => Some(*send),
            _ => None,
        }));
        (0..).find(|send| !taken.contains(&Some(*send))).unwrap_or(u8::MAX)
    }
}
