//! The invariants of docs/protocol.md, checked after a run: this database's books against the gateway's ledger.
//!
//! Pure, and shared by the demo, the simulation and the kill tests. The ledger is never told what the daemon believes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::attempt::AttemptState;
use super::charge::{ChargeState, Waiting};
use super::decide::Policy;
use super::dunning::{DAY, KEY_WINDOW, MOST_PER_KEY, MOST_TRANSIENT};

/// A charge POST as the gateway received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerPost {
    pub merchant_uid: String,
    pub customer_uid: String,
    pub amount: i64,
    pub at: Timestamp,
    /// Whether the gateway made anything of it; a 401 comes before that.
    pub processed: bool,
}

/// A payment record as the gateway keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerPayment {
    pub imp_uid: String,
    pub merchant_uid: String,
    pub customer_uid: String,
    pub amount: i64,
    pub status: LedgerStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LedgerStatus {
    Paid,
    Failed,
    Other,
}

/// What the gateway saw and did.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub posts: Vec<LedgerPost>,
    pub payments: Vec<LedgerPayment>,
}

/// A charge as it is booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookCharge {
    pub id: i64,
    /// The 28 characters that its ids share.
    pub base: String,
    pub external_ref: String,
    pub due_at: Timestamp,
    pub amount: i64,
    pub state: ChargeState,
    pub waiting: Waiting,
    pub next_at: Option<Timestamp>,
    pub tries: u8,
    pub imp_uid: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookAttempt {
    pub id: i64,
    pub charge: i64,
    pub number: u16,
    pub id_number: u8,
    pub customer_uid: String,
    pub state: AttemptState,
    pub imp_uid: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookSend {
    pub attempt: i64,
    pub begun_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// Proven never to have left.
    pub not_sent: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookEvent {
    pub id: String,
    pub kind: String,
    pub charge: Option<i64>,
}

/// Everything that this database has booked.
#[derive(Debug, Clone, Default)]
pub struct Books {
    pub charges: Vec<BookCharge>,
    pub attempts: Vec<BookAttempt>,
    pub sends: Vec<BookSend>,
    pub events: Vec<BookEvent>,
    /// Every `imp_uid` that an observation names.
    pub observed: HashSet<String>,
    /// Open incidents, by kind.
    pub incidents: Vec<String>,
}

/// A period that fell due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The 28 characters that its charge's ids share.
    pub base: String,
    pub external_ref: String,
    pub due_at: Timestamp,
}

/// What else a run knows.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// The end of the run.
    pub end: Timestamp,
    /// Every period that fell due by the end, counted apart from the engine.
    pub expected: Vec<Expected>,
    /// When nothing might be sent: hold, kill switch.
    pub braked: Vec<(Timestamp, Timestamp)>,
    /// Event ids that the receiver saw; `None` if nobody listened.
    pub received: Option<HashSet<String>>,
    /// Secrets and personal data found in logs, errors and events: what, and where.
    pub leaks: Vec<String>,
    /// Whether charges that visibly wait for a later day count as settled (the end of a demo, not of a simulation).
    pub may_wait: bool,
}

/// One invariant's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `I1` to `I12`.
    pub name: &'static str,
    pub says: &'static str,
    /// How many things were looked at.
    pub checked: usize,
    /// What breaks it; empty if it holds.
    pub broken: Vec<String>,
}

impl Verdict {
    pub fn holds(&self) -> bool {
        self.broken.is_empty()
    }
}

/// The shared part of a charge's ids.
fn base_of(merchant_uid: &str) -> &str {
    merchant_uid.get(..28).unwrap_or(merchant_uid)
}

/// Which id of its charge it is.
fn number_of(merchant_uid: &str) -> u8 {
    merchant_uid.get(28..).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

struct Index<'a> {
    ledger: &'a Ledger,
    books: &'a Books,
    around: &'a Circumstances,
    by_base: HashMap<&'a str, &'a BookCharge>,
    paid: BTreeMap<&'a str, Vec<&'a LedgerPayment>>,
    /// Sends of each charge with their attempt, in order of time.
    sends: BTreeMap<i64, Vec<(&'a BookAttempt, &'a BookSend)>>,
}

/// Checks I1 to I12.
pub fn check(ledger: &Ledger, books: &Books, around: &Circumstances) -> Vec<Verdict> {
    let attempts: HashMap<i64, &BookAttempt> = books.attempts.iter().map(|attempt| (attempt.id, attempt)).collect();
    let mut sends: BTreeMap<i64, Vec<(&BookAttempt, &BookSend)>> = BTreeMap::new();
    for send in &books.sends {
        if let Some(attempt) = attempts.get(&send.attempt) {
            sends.entry(attempt.charge).or_default().push((attempt, send));
        }
    }
    for list in sends.values_mut() {
        list.sort_by_key(|(attempt, send)| (send.begun_at, attempt.id));
    }
    let mut paid: BTreeMap<&str, Vec<&LedgerPayment>> = BTreeMap::new();
    for payment in ledger.payments.iter().filter(|payment| payment.status == LedgerStatus::Paid) {
        paid.entry(base_of(&payment.merchant_uid)).or_default().push(payment);
    }
    let by_base = books.charges.iter().map(|charge| (charge.base.as_str(), charge)).collect();
    let index = Index { ledger, books, around, by_base, paid, sends };
    vec![
        index.one_payment(),
        index.books_agree(),
        index.unpaid_is_unpaid(),
        index.none_missing(),
        index.intent_first(),
        index.one_meaning(),
        index.no_new_id_in_doubt(),
        index.spacing(),
        index.brakes(),
        index.one_event(),
        index.answers_kept(),
        index.no_leak(),
    ]
}

impl Index<'_> {
    fn one_payment(&self) -> Verdict {
        let broken = self.paid.iter().filter(|(_, payments)| payments.len() > 1);
        let broken = broken.map(|(base, payments)| format!("{base}: {} payments", payments.len())).collect();
        Verdict { name: "I1", says: "at most one paid payment for each period", checked: self.paid.len(), broken }
    }

    fn books_agree(&self) -> Verdict {
        let mut broken = Vec::new();
        for charge in self.books.charges.iter().filter(|charge| charge.state == ChargeState::Paid) {
            let Some(payment) = self.paid.get(charge.base.as_str()).and_then(|payments| payments.first()) else {
                broken.push(format!("{} is booked as paid, the gateway has no such payment", charge.base));
                continue;
            };
            let attempt = self.books.attempts.iter().find(|attempt| attempt.imp_uid.as_ref() == charge.imp_uid.as_ref());
            let customer = attempt.map(|attempt| attempt.customer_uid.as_str()).unwrap_or_default();
            let same = charge.imp_uid.as_deref() == Some(payment.imp_uid.as_str())
                && charge.amount == payment.amount
                && customer == payment.customer_uid;
            if !same {
                broken.push(format!("{} is booked differently from {}", charge.base, payment.imp_uid));
            }
        }
        for (base, payments) in &self.paid {
            let booked = self.by_base.get(base).is_some_and(|charge| charge.state == ChargeState::Paid);
            if !booked {
                broken.push(format!("{} under {base} is paid, but not booked", payments[0].imp_uid));
            }
        }
        Verdict { name: "I2", says: "booked as paid exactly where the gateway was paid", checked: self.paid.len(), broken }
    }

    fn unpaid_is_unpaid(&self) -> Verdict {
        let closed = |charge: &&BookCharge| matches!(charge.state, ChargeState::Unpaid | ChargeState::Void);
        let broken = self.books.charges.iter().filter(closed).filter(|charge| self.paid.contains_key(charge.base.as_str()));
        let broken = broken.map(|charge| format!("{} is closed, but paid", charge.base)).collect();
        let checked = self.books.charges.iter().filter(closed).count();
        Verdict { name: "I3", says: "no period that is closed as unpaid was paid", checked, broken }
    }

    fn none_missing(&self) -> Verdict {
        let told = |kind: &str| -> HashSet<i64> {
            self.books.events.iter().filter(|event| event.kind == kind).filter_map(|event| event.charge).collect()
        };
        let alarmed = told("charge.review");
        let is_fine = |charge: &BookCharge| {
            let later = charge.next_at.is_none_or(|next| next > self.around.end);
            let visibly = matches!(
                charge.waiting,
                Waiting::Retry
                    | Waiting::Card
                    | Waiting::CardRest
                    | Waiting::Paused
                    | Waiting::Budget
                    | Waiting::Window
                    | Waiting::Fuse
            );
            match charge.state {
                ChargeState::Paid | ChargeState::Unpaid | ChargeState::Void => true,
                ChargeState::Review => alarmed.contains(&charge.id),
                ChargeState::Due => self.around.may_wait && visibly && later,
                // whoever is in doubt is looked up again, or it stays so for ever
                ChargeState::Doubt => self.around.may_wait && charge.next_at.is_some_and(|next| next > self.around.end),
            }
        };
        // a later period waits while an earlier one of the same subscription is visibly unresolved
        let unresolved = self.books.charges.iter().filter(|charge| charge.state.is_unresolved() && is_fine(charge));
        let holding: HashSet<&str> = unresolved.map(|charge| charge.external_ref.as_str()).collect();
        let mut broken = Vec::new();
        for Expected { base, external_ref, due_at } in &self.around.expected {
            match self.by_base.get(base.as_str()) {
                Some(charge) if is_fine(charge) => {}
                Some(charge) => {
                    broken.push(format!("{base}, due {due_at}, is {}/{}", charge.state.name(), charge.waiting.name()));
                }
                None if holding.contains(external_ref.as_str()) => {}
                None => broken.push(format!("{base} of {external_ref}, due {due_at}, has no charge")),
            }
        }
        // nor is one that somebody has paused or cancelled since, and that nobody counts on, left in doubt
        let counted: HashSet<&str> = self.around.expected.iter().map(|period| period.base.as_str()).collect();
        let last = self.around.expected.iter().map(|period| period.due_at).max();
        let others = self.books.charges.iter().filter(|charge| charge.state == ChargeState::Doubt);
        let others =
            others.filter(|charge| last.is_some_and(|last| charge.due_at <= last) && !counted.contains(charge.base.as_str()));
        broken.extend(others.filter(|charge| !is_fine(charge)).map(|charge| format!("{} is in doubt", charge.base)));
        let checked = self.around.expected.len();
        Verdict { name: "I4", says: "every period that fell due is settled or in review: none missing", checked, broken }
    }

    fn intent_first(&self) -> Verdict {
        let mut broken = Vec::new();
        let mut posts: BTreeMap<&str, Vec<&LedgerPost>> = BTreeMap::new();
        for post in &self.ledger.posts {
            posts.entry(post.merchant_uid.as_str()).or_default().push(post);
        }
        for (uid, posts) in posts {
            let charge = self.by_base.get(base_of(uid));
            let n = number_of(uid);
            let sends = || {
                let sends = charge.and_then(|charge| self.sends.get(&charge.id)).into_iter().flatten();
                sends.filter(|(attempt, _)| attempt.id_number == n).map(|(_, send)| send)
            };
            let covered = |posts: Vec<Timestamp>, mut begun: Vec<Timestamp>| {
                begun.sort_unstable();
                begun.len() >= posts.len() && posts.iter().zip(&begun).all(|(at, begun)| begun <= at)
            };
            let times = |processed: bool| {
                let mut times: Vec<_> = posts.iter().filter(|post| post.processed || !processed).map(|post| post.at).collect();
                times.sort_unstable();
                times
            };
            let all = covered(times(false), sends().map(|send| send.begun_at).collect());
            // one that is booked as never sent must not have been processed
            let real = covered(times(true), sends().filter(|send| !send.not_sent).map(|send| send.begun_at).collect());
            if !all || !real {
                broken.push(format!("{uid}: {} POSTs, {} committed sends", posts.len(), sends().count()));
            }
        }
        let checked = self.ledger.posts.len();
        Verdict { name: "I5", says: "every POST that the gateway saw was committed before", checked, broken }
    }

    fn one_meaning(&self) -> Verdict {
        let mut broken = Vec::new();
        let mut amounts: HashMap<&str, BTreeSet<i64>> = HashMap::new();
        for post in &self.ledger.posts {
            amounts.entry(post.merchant_uid.as_str()).or_default().insert(post.amount);
        }
        broken.extend(amounts.iter().filter(|(_, amounts)| amounts.len() > 1).map(|(uid, _)| format!("{uid}: two amounts")));
        // the cards by what arrived, and not by the books alone
        let mut cards: HashMap<(i64, u8), Vec<&str>> = HashMap::new();
        for attempt in &self.books.attempts {
            cards.entry((attempt.charge, attempt.id_number)).or_default().push(&attempt.customer_uid);
        }
        for post in &self.ledger.posts {
            let Some(charge) = self.by_base.get(base_of(&post.merchant_uid)) else { continue };
            let booked = cards.get(&(charge.id, number_of(&post.merchant_uid)));
            if !booked.is_some_and(|cards| cards.contains(&post.customer_uid.as_str())) {
                broken.push(format!("{} was sent with another card than its attempts have", post.merchant_uid));
            }
        }
        for sends in self.sends.values() {
            for (index, (attempt, send)) in sends.iter().enumerate() {
                let clash = sends[..index].iter().any(|(earlier, before)| {
                    earlier.id_number == attempt.id_number
                        && earlier.customer_uid != attempt.customer_uid
                        && before.ended_at.is_none_or(|ended| ended > send.begun_at)
                });
                if clash {
                    broken.push(format!("charge {}: another card under an unresolved id", attempt.charge));
                }
            }
        }
        let says = "no id carried two amounts, nor two cards while unresolved";
        Verdict { name: "I6", says, checked: amounts.len(), broken }
    }

    fn no_new_id_in_doubt(&self) -> Verdict {
        let mut broken = Vec::new();
        for sends in self.sends.values() {
            for (index, (attempt, send)) in sends.iter().enumerate() {
                let clash = sends[..index].iter().any(|(earlier, before)| {
                    earlier.id_number != attempt.id_number && before.ended_at.is_none_or(|ended| ended > send.begun_at)
                });
                if clash {
                    broken.push(format!("charge {}: id {:02} sent while another was open", attempt.charge, attempt.id_number));
                }
            }
        }
        Verdict { name: "I7", says: "no new id while an older send was unresolved", checked: self.books.sends.len(), broken }
    }

    fn spacing(&self) -> Verdict {
        let mut broken = Vec::new();
        let day = SignedDuration::from_hours(24);
        for charge in &self.books.charges {
            if charge.tries > Policy::MOST_TRIES {
                broken.push(format!("{}: {} tries", charge.base, charge.tries));
            }
        }
        for sends in self.sends.values() {
            for pair in sends.windows(2) {
                let [(first, before), (second, after)] = pair else { continue };
                let new_try = first.id != second.id && first.state == AttemptState::Declined;
                let same_card = first.customer_uid == second.customer_uid;
                if new_try && same_card && after.begun_at.duration_since(before.begun_at) < day {
                    broken.push(format!("charge {}: the same card twice in 24 hours", first.charge));
                }
            }
        }
        broken.extend(self.over_the_caps_of_keys());
        Verdict { name: "I8", says: "caps and spacing of tries kept", checked: self.books.charges.len(), broken }
    }

    /// Billing keys that were asked more often than they may be, over all their subscriptions.
    fn over_the_caps_of_keys(&self) -> Vec<String> {
        let mut of_key: BTreeMap<(&str, bool), Vec<Timestamp>> = BTreeMap::new();
        let sent = self.sends.values().flatten().filter(|(_, send)| !send.not_sent);
        // the sends of an attempt are one try
        let newest: BTreeMap<i64, _> = sent.map(|(attempt, send)| (attempt.id, (attempt, send.begun_at))).collect();
        for (attempt, begun_at) in newest.into_values() {
            let counts = match attempt.state {
                AttemptState::Declined => Some(true),
                AttemptState::Refused if attempt.imp_uid.is_some() => Some(false),
                _ => None,
            };
            if let Some(is_try) = counts {
                of_key.entry((attempt.customer_uid.as_str(), is_try)).or_default().push(begun_at);
            }
        }
        let over = |((key, is_try), times): (&(&str, bool), &mut Vec<Timestamp>)| {
            times.sort_unstable();
            let (most, window) = if *is_try { (MOST_PER_KEY, KEY_WINDOW) } else { (MOST_TRANSIENT, DAY) };
            let fits = |times: &[Timestamp]| times.last().is_some_and(|last| last.duration_since(times[0]) >= window);
            let what = if *is_try { "declined tries in 30 days" } else { "outages in a day" };
            (!times.windows(most + 1).all(fits)).then(|| format!("{key}: more than {most} {what}"))
        };
        of_key.iter_mut().filter_map(over).collect()
    }

    fn brakes(&self) -> Verdict {
        let grace = SignedDuration::from_secs(1);
        let stopped = |at: Timestamp| self.around.braked.iter().any(|(from, to)| at > *from + grace && at < *to);
        let broken = self.ledger.posts.iter().filter(|post| stopped(post.at));
        let broken = broken.map(|post| format!("{} was sent at {}", post.merchant_uid, post.at)).collect();
        let says = "nothing sent in hold or with the kill switch on";
        let checked = self.ledger.posts.len() * usize::from(!self.around.braked.is_empty());
        Verdict { name: "I9", says, checked, broken }
    }

    fn one_event(&self) -> Verdict {
        let mut broken = Vec::new();
        let mut ids = HashSet::new();
        for event in &self.books.events {
            if !ids.insert(event.id.as_str()) {
                broken.push(format!("{} ({}) was told twice", event.id, event.kind));
            }
        }
        let mut told: HashMap<(i64, &str), usize> = HashMap::new();
        for event in &self.books.events {
            if let Some(charge) = event.charge {
                *told.entry((charge, event.kind.as_str())).or_default() += 1;
            }
        }
        let mut checked = 0;
        for charge in &self.books.charges {
            let kind = match charge.state {
                ChargeState::Paid => "charge.paid",
                ChargeState::Unpaid => "charge.unpaid",
                ChargeState::Void => "charge.void",
                _ => continue,
            };
            checked += 1;
            let count = told.get(&(charge.id, kind)).copied().unwrap_or(0);
            // a closed charge that an operator tries again may be closed again; a payment is told once
            if count == 0 || (count > 1 && charge.state == ChargeState::Paid) {
                broken.push(format!("{} is {} and was told {count} times", charge.base, charge.state.name()));
            }
        }
        if let Some(received) = &self.around.received {
            let lost = self.books.events.iter().filter(|event| !received.contains(&event.id));
            broken.extend(lost.map(|event| format!("{} ({}) was never received", event.id, event.kind)));
        }
        Verdict { name: "I10", says: "each final state has one event, delivered at least once", checked, broken }
    }

    fn answers_kept(&self) -> Verdict {
        let answers = || self.ledger.payments.iter().filter(|payment| payment.status != LedgerStatus::Other);
        let booked: HashSet<&str> = self.books.attempts.iter().filter_map(|attempt| attempt.imp_uid.as_deref()).collect();
        let known = |imp_uid: &str| booked.contains(imp_uid) || self.books.observed.contains(imp_uid);
        // a request that is processed twice is answered once: of the failed records of an id, one less for each
        let mut unanswered: HashMap<&str, i64> = HashMap::new();
        for payment in &self.ledger.payments {
            *unanswered.entry(&payment.merchant_uid).or_default() += 1;
        }
        for post in self.ledger.posts.iter().filter(|post| post.processed) {
            *unanswered.entry(&post.merchant_uid).or_default() -= 1;
        }
        let mut broken = Vec::new();
        for payment in answers().filter(|payment| !known(&payment.imp_uid)) {
            let spare = unanswered.entry(&payment.merchant_uid).or_default();
            if payment.status == LedgerStatus::Failed && *spare > 0 {
                *spare -= 1;
            } else {
                broken.push(format!("{} under {} is unknown here", payment.imp_uid, payment.merchant_uid));
            }
        }
        let says = "every answer is stored, or was recovered by a look-up";
        Verdict { name: "I11", says, checked: answers().count(), broken }
    }

    fn no_leak(&self) -> Verdict {
        let broken = self.around.leaks.clone();
        Verdict { name: "I12", says: "no secret, token or personal field in any log", checked: 1, broken }
    }
}

#[cfg(test)]
mod tests;
