//! The database clock jumps just before a charge falls due, and processes come and go while it is held.

use jiff::SignedDuration;
use rebilld::ports::clock::Clock;
use rebilld::ports::store::Store;

use crate::world::World;

const Q: SignedDuration = SignedDuration::from_mins(60);

impl World {
    /// Lives until half a day after a jump, in lives of ten minutes while it holds. Returns how many POSTs came within Q of the
    /// jump, and after it.
    pub async fn meet_a_jump(&mut self) -> (usize, usize) {
        let later = self.start + SignedDuration::from_hours(40 * 24);
        let due = self.expected(later).into_iter().map(|expected| expected.due_at).max().unwrap();
        self.clock_jumps_at = Some(due - SignedDuration::from_secs(30));
        self.live_until(due - SignedDuration::from_secs(45)).await;
        self.live_until(due + SignedDuration::from_secs(1)).await;
        let until = self.database.unsteady_until().await.unwrap();
        assert_eq!(until, Some(due + Q), "seed {}: the jump is kept, by the clock of the database", self.seed);
        while self.clock.now() < due + Q {
            self.live_until((self.clock.now() + SignedDuration::from_mins(10)).min(due + Q)).await;
        }
        self.live_until(due + SignedDuration::from_hours(12)).await;
        let ledger = self.gateway.ledger.lock().unwrap();
        let held = |at: &jiff::Timestamp| *at >= due && *at < due + Q;
        let times = || ledger.posts.iter().map(|post| post.at);
        (times().filter(held).count(), times().filter(|at| *at >= due + Q).count())
    }
}
