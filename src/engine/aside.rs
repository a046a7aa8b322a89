//! Charges that were claimed and are not to be sent, for a reason of their own.

use jiff::Timestamp;

use super::Engine;
use crate::domain::charge::Waiting;
use crate::domain::decide::{Fact, Policy};
use crate::domain::subscription::Status;
use crate::ports::store::{ClaimToken, Claimed};

impl Engine {
    /// Ends the turn of such charges, once it has come. What was claimed a little early and put off at once would be due at the same
    /// instant as before, and so be claimed and put off without end until then.
    pub(super) async fn set_aside(&self, token: &ClaimToken, charges: Vec<Claimed>) {
        let Some(due) = charges.iter().map(|claimed| claimed.charge.next_at.unwrap_or(claimed.charge.due_at)).max() else {
            return;
        };
        if due > self.now() {
            self.clock.sleep_until(due, false).await;
        }
        let now = self.now();
        let (aside, back): (Vec<_>, Vec<_>) = charges.into_iter().partition(|claimed| not_to_be_sent(claimed, now).is_some());
        // what held them has ended meanwhile: the next claim sends them
        self.give_back(token, &back).await;
        let facts = aside.iter().filter_map(|claimed| Some((&claimed.charge, not_to_be_sent(claimed, now)?, None)));
        self.judge_all(token, facts).await;
    }
}

/// Why a claimed charge is not to be sent for a reason of its own, if so.
pub(super) fn not_to_be_sent(claimed: &Claimed, now: Timestamp) -> Option<Fact> {
    let charge = &claimed.charge;
    match claimed.payer.status {
        _ if charge.in_doubt() => Some(Fact::Interrupted),
        Status::Cancelled => Some(Fact::SubscriptionCancelled),
        Status::Paused => Some(Fact::SubscriptionPaused),
        Status::Active => {
            // the live attempt keeps its card, and the subscription has another now: nothing of it is open
            if charge.live.as_ref().is_some_and(|live| live.customer_uid != claimed.payer.customer_uid) {
                return Some(Fact::CardChanged);
            }
            // the refused card stays refused, whatever the charge waited for in between (a pause, the gateway)
            if charge.refused_customer.as_deref() == Some(claimed.payer.customer_uid.as_str()) {
                return Some(Fact::CardNotReplaced);
            }
            let day = Policy::NEXT_ID_AFTER;
            let asked = charge.newest_send_at.filter(|_| charge.tries > 0).and_then(|sent| sent.checked_add(day).ok());
            let early = charge.waiting == Waiting::Paused && asked.is_some_and(|until| until > now);
            let r7 = charge.next_id_from().is_some_and(|from| from > now);
            (early || r7).then_some(Fact::ResumedEarly)
        }
    }
}
