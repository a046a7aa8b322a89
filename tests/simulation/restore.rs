//! An old copy of the database comes back in the middle of a run: the high-water mark is ahead, everything holds, the audits
//! settle what was paid meanwhile, an operator releases the hold, and the run goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::SignedDuration;
use rand::RngExt;
use rebilld::engine::audit::COMPLETE;
use rebilld::ports::clock::Clock;
use rebilld::ports::store::Store;
use rebilld::store::desk::{Reach, Signed};
use rebilld::store::{Database, OpenOptions};

use crate::faults::rng;
use crate::world::{World, by_hand};

/// Q, and some.
const HELD_FOR: SignedDuration = SignedDuration::from_hours(2);

impl World {
    /// Lives for some days, is copied, lives on, and comes back as the copy. Returns whether anything had been sent meanwhile.
    pub async fn be_restored(&mut self) -> bool {
        let mut rng = rng(self.seed, &["restore"]);
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        self.hands_off = true;
        self.work_until(self.start + days(rng.random_range(3..25))).await;
        let copy = format!("{}.copy", self.url.trim_start_matches("sqlite:"));
        sqlx::query("VACUUM INTO $1").bind(&copy).execute(&mut by_hand(&self.url).await).await.unwrap();
        let copied_at = self.clock.now();
        let sent = self.sent();
        self.work_until(copied_at + days(rng.random_range(1..12))).await;

        self.database.close().await;
        let file = self.url.trim_start_matches("sqlite:").to_owned();
        std::fs::copy(&copy, &file).unwrap();
        for rest in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{file}{rest}"));
        }
        let options =
            OpenOptions { endpoints: vec!["app".to_owned()], create: false, max_connections: 4, ..OpenOptions::default() };
        self.database = Arc::new(Database::open(&self.url, options).await.unwrap());
        let restored_at = self.clock.now();
        self.forgotten = Some((copied_at, restored_at));
        // as the guard at a daemon's start does
        let known = self.database.identity().await.unwrap().high_water;
        let remembered = self.mark.mark.load(Ordering::SeqCst);
        if remembered <= known {
            assert_eq!(self.sent(), sent, "something was sent, and the mark does not tell");
            self.hands_off = false;
            return false;
        }
        assert!(self.database.hold(restored_at, "the state directory remembers more").await.unwrap());
        let before = self.sent();
        self.live_until(restored_at + HELD_FOR).await;
        self.release(remembered).await;
        assert_eq!(self.sent(), before, "nothing is sent in hold");
        self.braked.push((restored_at, self.clock.now()));
        self.hands_off = false;
        true
    }

    fn sent(&self) -> usize {
        self.gateway.ledger.lock().unwrap().posts.len()
    }

    /// What `rebilld hold release` does, tried again every day until the audit is clean.
    async fn release(&mut self, remembered: i64) {
        let signed = Signed { who: "a test".to_owned(), reason: "restored on purpose".to_owned() };
        let mut differs = String::new();
        for _ in 0..10 {
            let account = self.account();
            let audit = self.engine().audit(&account, COMPLETE).await;
            match audit {
                Ok(report) if report.incidents == 0 => {
                    let mark = self.database.accept_copy(remembered).await.unwrap();
                    self.mark.mark.store(mark, Ordering::SeqCst);
                    let now = self.clock.now();
                    assert!(self.database.desk().release_hold(now, &Reach::Database, &signed).await.unwrap());
                    return;
                }
                other => differs = format!("{other:?}"),
            }
            self.live_until(self.clock.now() + SignedDuration::from_hours(24)).await;
        }
        panic!("seed {}: no audit was clean within ten days: {differs}", self.seed);
    }
}
