//! A charge: what one subscription owes for one billing period.

use jiff::Timestamp;

use super::attempt::{Attempt, IdBase, IdNumber, row_id};
use super::money::Money;
use super::period::Period;
use std::fmt;

row_id!(
    /// A charge's row.
    ChargeId
);
row_id!(
    /// A subscription's row.
    SubscriptionId
);
row_id!(
    /// An account's row.
    AccountId
);

/// Where a charge stands. A `Due` charge whose live attempt has an open send IS in doubt, so a crash needs no write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChargeState {
    /// Will be sent at `next_at`: for the first time, again after a decline, or again after a proven loss.
    Due,
    /// May have been paid: looked up at `next_at`, never sent.
    Doubt,
    /// For a person; still looked up.
    Review,
    /// Final: exactly one payment.
    Paid,
    /// Closed without payment; a late `paid` overrides it.
    Unpaid,
    /// Closed by an operator without payment; a late `paid` overrides it.
    Void,
}

impl ChargeState {
    pub const ALL: [Self; 6] = [Self::Due, Self::Doubt, Self::Review, Self::Paid, Self::Unpaid, Self::Void];

    /// As it stands in the database and in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Doubt => "doubt",
            Self::Review => "review",
            Self::Paid => "paid",
            Self::Unpaid => "unpaid",
            Self::Void => "void",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether the next period of a `while_past_due = "hold"` plan waits for it.
    pub fn is_unresolved(self) -> bool {
        matches!(self, Self::Due | Self::Doubt | Self::Review)
    }

    /// Whether nobody has paid it, and nothing sends it again by itself.
    pub fn rests(self) -> bool {
        matches!(self, Self::Review | Self::Unpaid | Self::Void)
    }
}

/// What a charge that is not final waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Waiting {
    /// Its due time, or its turn.
    Turn,
    /// The next step of the dunning ladder.
    Retry,
    /// A new billing key; until then it is not sent.
    Card,
    /// The gateway to be reachable again.
    Backoff,
    /// Its resend after a proven loss.
    Resend,
    /// The day's budget.
    Budget,
    /// An operator to look at what is due, or its account's fuse to know the day.
    Fuse,
    /// Its billing key, which was asked just now or as often as it may be.
    CardRest,
    /// The hours in which charges may start, or its place in the spread of a wave.
    Window,
    /// Its subscription to be resumed.
    Paused,
    /// The next look-up.
    LookUp,
    /// An operator.
    Operator,
    /// Nothing: final.
    Nothing,
}

impl Waiting {
    pub const ALL: [Self; 13] = [
        Self::Turn,
        Self::Retry,
        Self::Card,
        Self::CardRest,
        Self::Backoff,
        Self::Resend,
        Self::Budget,
        Self::Fuse,
        Self::Window,
        Self::Paused,
        Self::LookUp,
        Self::Operator,
        Self::Nothing,
    ];

    /// As it stands in the database and in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Retry => "retry",
            Self::Card => "card",
            Self::CardRest => "card_rest",
            Self::Backoff => "backoff",
            Self::Resend => "resend",
            Self::Budget => "budget",
            Self::Fuse => "fuse",
            Self::Window => "window",
            Self::Paused => "paused",
            Self::LookUp => "look_up",
            Self::Operator => "operator",
            Self::Nothing => "nothing",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|waiting| waiting.name() == name)
    }
}

/// How ids advance (docs/protocol.md, The id). Fixed per charge when it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IdMode {
    /// A failed record uses its id up.
    #[default]
    PerAttempt,
    /// One id for the whole period.
    PerPeriod,
}

impl IdMode {
    pub fn name(self) -> &'static str {
        match self {
            Self::PerAttempt => "per_attempt",
            Self::PerPeriod => "per_period",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::PerAttempt, Self::PerPeriod].into_iter().find(|mode| mode.name() == name)
    }
}

/// What is known of a doubt, or of a review that is still looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doubt {
    pub since: Option<Timestamp>,
    /// Look-ups since then: the ladder of R5.
    pub looks: u16,
    /// When the first look-up began that R2 allows to believe "not paid"; forgotten when one says otherwise.
    pub quiet_since: Option<Timestamp>,
    /// R3 holds: a second such look-up, at least five minutes later.
    pub quiet_twice: bool,
    /// The alarm after two hours has been raised; in review and after it: that a wrong or second payment was told.
    pub alarmed: bool,
}

/// A payment that turned up under an earlier id while a later attempt has an open send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidElsewhere {
    pub imp_uid: String,
    pub id_number: IdNumber,
}

/// What dunning remembers of a charge, besides its tries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Course {
    /// The billing key of the last declined try.
    pub declined_customer: Option<String>,
    /// Declined tries before a new billing key restarted the ladder; once.
    pub restarted_after: Option<u8>,
    /// TRANSIENT refusals that used up no try, since `transient_since`.
    pub transients: u8,
    pub transient_since: Option<Timestamp>,
}

/// A charge as the worker that claimed it sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub id: ChargeId,
    pub account: AccountId,
    pub account_name: String,
    pub subscription: SubscriptionId,
    pub external_ref: String,
    /// The plan whose dunning it is under.
    pub plan: String,
    /// The subscription's own zone: that of its retries, before the plan's.
    pub zone: Option<String>,
    pub base: IdBase,
    pub mode: IdMode,
    pub period: Period,
    pub due_at: Timestamp,
    /// Frozen when the period opened.
    pub amount: Money,
    pub tax_free: Option<i64>,
    pub vat_amount: Option<i64>,
    pub state: ChargeState,
    pub waiting: Waiting,
    pub next_at: Option<Timestamp>,
    /// The id that the next new attempt carries.
    pub id_number: IdNumber,
    /// Attempts so far.
    pub attempts: u16,
    /// Declined tries so far: the ladder and the caps count these.
    pub tries: u8,
    pub first_declined_at: Option<Timestamp>,
    /// The billing key that the last decline refused for good, while waiting for a new one.
    pub refused_customer: Option<String>,
    pub course: Course,
    /// Sends in a row that did not leave: the backoff counts these.
    pub not_sent: u16,
    pub doubt: Doubt,
    pub newest_send_at: Option<Timestamp>,
    pub paid_elsewhere: Option<PaidElsewhere>,
    pub paid_imp_uid: Option<String>,
    pub live: Option<Attempt>,
    /// Changes with every write: a truth that comes without a claim is written against it.
    pub version: i64,
}

/// What a charge is opened with.
#[derive(Debug)]
pub struct Opening<'a> {
    pub tag: super::attempt::Tag,
    pub account: AccountId,
    pub terms: &'a super::subscription::Terms,
    pub next: &'a super::lifecycle::NextPeriod,
    /// When it may start; not before it is due.
    pub first_at: Timestamp,
    pub mode: IdMode,
}

impl Charge {
    /// A charge that has just been opened: nothing of it has been tried.
    pub fn opened(id: ChargeId, opening: &Opening<'_>) -> Self {
        let Opening { tag, account, terms, next, first_at, mode } = *opening;
        Self {
            id,
            account,
            account_name: terms.account.clone(),
            subscription: terms.id,
            external_ref: terms.external_ref.clone(),
            plan: terms.coming_plan().to_owned(),
            zone: terms.zone.clone(),
            base: IdBase::derive(tag, &terms.account, &terms.external_ref, next.period.start),
            mode,
            period: next.period,
            due_at: next.due_at,
            amount: next.amount,
            tax_free: next.tax_free,
            vat_amount: next.vat_amount,
            state: ChargeState::Due,
            waiting: if first_at > next.due_at { Waiting::Window } else { Waiting::Turn },
            next_at: Some(first_at),
            id_number: IdNumber::FIRST,
            attempts: 0,
            tries: 0,
            first_declined_at: None,
            refused_customer: None,
            course: Course::default(),
            not_sent: 0,
            doubt: Doubt::default(),
            newest_send_at: None,
            paid_elsewhere: None,
            paid_imp_uid: None,
            live: None,
            version: 0,
        }
    }

    /// The id of the live attempt, or the one that the next attempt carries.
    pub fn live_id(&self) -> IdNumber {
        self.live.as_ref().map_or(self.id_number, |live| live.id_number)
    }

    /// R7: when the next id may be used at the earliest, if a look-up and not an answer ended the last doubt. A new card does
    /// not shorten it.
    pub fn next_id_from(&self) -> Option<Timestamp> {
        let ended = self.doubt.since.filter(|_| self.state == ChargeState::Due && self.tried());
        ended.and_then(|ended| ended.checked_add(super::decide::Policy::NEXT_ID_AFTER).ok())
    }

    /// The same for a charge that an operator opens again. What closed it may have been a look-up, long after its sends; which of
    /// them it was is not kept, so each counts.
    pub(super) fn next_id_from_closed(&self) -> Option<Timestamp> {
        let is_new = self.mode == IdMode::PerAttempt && self.state != ChargeState::Due && self.tried();
        let ended = self.doubt.since.filter(|_| is_new);
        ended.and_then(|ended| ended.checked_add(super::decide::Policy::NEXT_ID_AFTER).ok())
    }

    /// Whether a card was asked, or a billing key refused, for it.
    fn tried(&self) -> bool {
        self.tries > 0 || self.refused_customer.is_some()
    }

    /// Declined tries on the present ladder: a new billing key restarts it, once.
    pub fn rung(&self) -> u8 {
        self.tries.saturating_sub(self.course.restarted_after.unwrap_or(0))
    }

    /// Whether a send of this charge has no proven end.
    pub fn in_doubt(&self) -> bool {
        self.live.as_ref().is_some_and(|attempt| attempt.open_send.is_some())
    }
}
