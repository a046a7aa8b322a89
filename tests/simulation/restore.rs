//! An old copy of the database comes back in the middle of a run: the high-water mark is ahead, everything holds, the audits
//! settle what was paid meanwhile, an operator releases the hold, and the run goes on.

use jiff::Timestamp;

use crate::operator::Memory;
use crate::stage::at_once;
use crate::world::World;

/// A copy, when it was made, and how many POSTs there were then.
pub struct Copy {
    sent: usize,
    at: Timestamp,
}

impl World {
    pub fn copy(&self) -> Copy {
        self.disk.snapshot(&self.database(), "copy.db");
        Copy { sent: self.sent(), at: self.now() }
    }

    /// Everybody dies, and the copy is the database from now on.
    pub async fn come_back(&mut self, memory: &Memory, copy: Copy) {
        self.go_down().await;
        at_once(self.database().close());
        self.disk.restore("copy.db");
        *self.shared.database.lock().unwrap() = self.disk.open();
        self.shared.tally.count("fault: restored");
        let now = self.now();
        self.forgotten.push(copy.sent..self.sent());
        self.lost.push((copy.at, now));
        // as the guard at a daemon's start does
        if at_once(self.shared.directory.is_ahead_of(&self.database())) {
            self.held_since = Some(now);
        } else {
            assert_eq!(self.sent(), copy.sent, "something was sent, and the mark does not tell");
            let status = at_once(self.database().desk().status()).unwrap().unwrap();
            assert_eq!(status.killed, memory.is_killed(), "the kill switch was turned, and nothing tells");
        }
        self.come_up();
        // what the operator has changed since comes from the book
        self.import(None);
    }

    pub fn sent(&self) -> usize {
        self.shared.portone.ledger.lock().unwrap().posts.len()
    }
}
