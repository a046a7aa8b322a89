//! What the engine asks of the database: the ledger of charges, the schedules, the brakes, the outbox.

mod audit;
mod fuse;
mod lost;

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

use super::gateway::DurableAttempt;
use super::guard::{self, Guard};
pub use super::missed::{Fresh, Missed, Unscheduled};
pub use super::states::{StateFacts, StateStep};
use crate::domain::attempt::{AttemptId, AttemptState, IdNumber, MerchantUid, SendId};
use crate::domain::charge::{AccountId, Charge, ChargeId, ChargeState, SubscriptionId, Waiting};
use crate::domain::decide::{Decision, Incident};
use crate::domain::dunning::{KeyStop, KeyTry};
use crate::domain::event::Event;
use crate::domain::fuse::{Fuse, FuseState};
use crate::domain::lifecycle::{Ending, NextPeriod, Progress};
pub use crate::domain::lifecycle::{Passed, PassedWhy};
use crate::domain::money::Money;
use crate::domain::period::Period;
use crate::domain::plan::WhilePastDue;
use crate::domain::subscription::{Payer, Terms};

pub use audit::{AuditResult, Booked, IncidentState};
pub use fuse::{DueWave, Expectation};
pub use lost::{Loss, SeenEntry, SeenSend};

/// What can go wrong between the engine and the database, named for what the reader must do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Try again: the connection broke, the server restarts, the file is busy, the disk is full.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A person must look: a row breaks a rule, or does not read back as what was written.
    #[error("the database holds what it should not: {0}")]
    Corrupt(String),
}

/// The random token of a claim: sole right to work on a charge until a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimToken(pub String);

/// A subscription whose next period is to be looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct DueSchedule {
    pub terms: Terms,
    /// What it takes to charge the card, for a charge that is claimed as it opens.
    pub payer: Payer,
    pub account: AccountId,
    pub progress: Progress,
    /// Whether the schedule was parked because the subscription was paused or had ended.
    pub was_paused: bool,
    /// Whether it was parked because its next period could not open: it was blocked, or there was a problem.
    pub was_waiting: bool,
    /// When the row was made: what fell due before was asked for, and has not been missed.
    pub known_since: Timestamp,
    /// Missed periods that start before this day are opened without asking: an operator said so.
    pub caught_up: Option<Date>,
    /// What the row was when it was read: a step is refused if it has changed since.
    pub version: i64,
    /// The version of the database's plans in the same snapshot; 0 where only looking ahead.
    pub plans_version: i64,
}

/// A subscription as it stands: everything that its future follows from, apart from the config.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    pub schedule: DueSchedule,
    /// Its charges that are not final, the oldest period first.
    pub pending: Vec<Pending>,
    /// What its billing key has been through, with the charge of each try; `own` is not set.
    pub key_tries: Vec<(ChargeId, KeyTry)>,
}

/// A charge that has opened and is not final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub id: ChargeId,
    pub period: Period,
    pub due_at: Timestamp,
    pub amount: Money,
    pub state: ChargeState,
    pub waiting: Waiting,
    pub next_at: Option<Timestamp>,
    /// Declined tries so far.
    pub tries: u8,
    pub first_declined_at: Option<Timestamp>,
}

/// What becomes of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleStep {
    pub subscription: SubscriptionId,
    pub version: i64,
    /// As the subscription was seen; what the action changes comes on top.
    pub progress: Progress,
    pub action: ScheduleAction,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ScheduleAction {
    /// Open this period's charge now; look at the schedule again at `next_look`.
    Open {
        next: NextPeriod,
        /// When it may start: in its window, and at its place in the spread. Never before it is due.
        first_at: Timestamp,
        id_mode: crate::domain::charge::IdMode,
        policy: WhilePastDue,
        after: Progress,
        /// When the period after this one is to be opened.
        next_look: Option<Timestamp>,
        /// The config that it opens under: a row of `config_versions`.
        config_version: Option<i64>,
        /// The charge is claimed (W1) by the statement that opens it: a row version and a statement less.
        claim: Option<OpenClaim>,
    },
    /// These periods are never charged, and the row is looked at again at once.
    Pass(Passed),
    /// Nothing to open before then. `trial`: that is a trial's first charge.
    Wait { until: Timestamp, trial: bool },
    /// Paused or cancelled: until the row changes.
    Park { paused: bool },
    /// As the row and the plan say: until they change. Told as an event.
    End { why: Ending, on: Option<Date> },
    /// So many periods were missed: until an operator opens or skips them. Shown and told as a problem.
    Hold { missed: u32, text: String },
    /// The row or the config is wrong: until either changes. Shown, and told once as an event.
    Problem { text: String },
}

/// A claim (W1) that is made with the charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenClaim {
    pub token: ClaimToken,
    pub until: Timestamp,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// Done as asked.
    Done,
    /// Opened, and claimed as asked.
    Claimed {
        charge: ChargeId,
        /// Its first id was written with it; `false`: somebody else may own that id.
        owns_id: bool,
    },
    /// The period waits until the subscription's unresolved charge has ended (`while_past_due = "hold"`).
    Blocked,
    /// The row has changed since it was read or is just being written, or such a charge exists already: look again.
    Stale,
    /// Overlaps an opened period, or breaks another rule of the schema. The schedule stays as it is, and so stays due: the
    /// caller parks it with [`ScheduleAction::Problem`].
    Refused,
}

/// When there will next be something to do, of each kind; `None`: nothing is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NextDue {
    /// A schedule to be looked at.
    pub schedule: Option<Timestamp>,
    /// The first one after now: what is due may be held back (by a brake, say), and hides it.
    pub schedule_later: Option<Timestamp>,
    /// A charge to be sent that nobody has claimed.
    pub send: Option<Timestamp>,
    pub send_later: Option<Timestamp>,
    /// One to be looked up.
    pub look_up: Option<Timestamp>,
    pub look_up_later: Option<Timestamp>,
    pub delivery: Option<Timestamp>,
    /// A subscription's state to be derived anew.
    pub state: Option<Timestamp>,
    /// When the first claim ends, in case its worker has died. Only told when nothing else is due.
    pub claim_end: Option<Timestamp>,
}

impl NextDue {
    pub fn first(&self) -> Option<Timestamp> {
        [self.schedule, self.send, self.look_up, self.delivery, self.state, self.claim_end].into_iter().flatten().min()
    }
}

/// Which charges to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Due for a send.
    Send,
    /// Due for a look-up: doubt, review, and closed charges that are swept.
    LookUp,
}

/// A request for a claim (W1).
#[derive(Debug, Clone)]
pub struct Claim {
    pub account: AccountId,
    pub lane: Lane,
    pub token: ClaimToken,
    pub now: Timestamp,
    /// Claims charges that fall due until then (`now`, or a little later so that they can be prepared).
    pub due_until: Timestamp,
    pub claim_until: Timestamp,
    pub limit: u32,
}

/// A claimed charge with what is needed to send it.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    pub charge: Charge,
    pub payer: Payer,
    /// The bytes of the last send of the live attempt, for a resend (R4) or a send that never left.
    pub last_body: Option<String>,
    /// The id that it is sent under is known to be its own: written by the transaction that opened it.
    pub owns_id: bool,
}

/// An attempt in short: enough to tell known records from unknown ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastAttempt {
    pub charge: ChargeId,
    pub id_number: IdNumber,
    pub state: AttemptState,
    pub customer_uid: String,
    pub imp_uid: Option<String>,
}

/// A send to be committed (W2).
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    pub charge: ChargeId,
    /// `None`: a new attempt.
    pub attempt: Option<AttemptId>,
    /// The number of the attempt: that of the live one, or the next.
    pub attempt_number: u16,
    pub id_number: IdNumber,
    pub merchant_uid: MerchantUid,
    /// See [`Claimed::owns_id`].
    pub owns_id: bool,
    pub customer_uid: String,
    pub amount: Money,
    pub body: String,
}

/// A batch of intents of one account.
#[derive(Debug, Clone)]
pub struct Begin {
    pub account: AccountId,
    /// Which fingerprint (key hash, tier, base URL) the sends go to.
    pub endpoint: i64,
    pub token: ClaimToken,
    pub now: Timestamp,
    /// The local day that the budget counts.
    pub budget_day: Date,
    /// New attempts a day; `None`: no bound.
    pub budget_count: Option<i64>,
    /// Minor units a day, per currency; `None`: no bound.
    pub budget_sum: Option<i64>,
    pub fuse: Fuse,
    /// The newest send that this process has seen committed: a database that takes this batch has to know it.
    pub newest: Option<SeenSend>,
    pub intents: Vec<Intent>,
}

/// Why an intent was not committed. Its neighbours are not concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotBegun {
    /// Somebody else has the charge now.
    ClaimLost,
    /// It was paid under another id.
    PaidElsewhere,
    /// A live attempt with an open send, or a paid one, exists.
    Unresolved,
    Killed,
    Held,
    Paused,
    /// A live account that nobody has armed in this database (`rebilld arm`).
    Unarmed,
    OverBudget,
    /// The fuse has blown, lets only the charges of a wave through, or does not know the day yet. `None`: until an operator
    /// approves what is due.
    Fuse {
        until: Option<Timestamp>,
    },
    /// Its billing key may not be asked before then.
    CardStopped {
        stop: KeyStop,
        until: Timestamp,
    },
    /// The id belongs to another charge.
    IdTaken,
}

/// What came of a batch of intents, in their order.
#[derive(Debug)]
pub struct Begun {
    pub attempts: Vec<Result<DurableAttempt, NotBegun>>,
    /// To be made durable in the state directory before the first POST.
    pub high_water: i64,
    /// The database does not know [`Begin::newest`]: it has lost commits, and nothing was begun.
    pub has_lost: bool,
}

/// By which right a decision is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fence {
    /// The claim has to be still ours.
    Claim(ClaimToken),
    /// A truth without a claim: the charge has to be as it was when it was judged, its live attempt and open send too.
    Version(i64),
}

/// Something that the gateway said, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// `answer`, `look_up`, `operator`, `audit` or `worker`.
    pub source: &'static str,
    pub send: Option<SendId>,
    /// When the request began, by the database clock.
    pub began_at: Timestamp,
    /// What was said, without secrets and personal fields.
    pub detail: Value,
}

/// One charge's part of a batch of writes (W3).
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub charge: ChargeId,
    pub fence: Fence,
    /// Stored in any case, even if the fence refuses the decision.
    pub observation: Option<Observation>,
    pub decision: Option<Decision>,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recorded {
    Written,
    /// The claim or the version is no longer ours: only the observation was stored.
    FenceLost,
    /// The payment's `imp_uid` is booked to another attempt: only the observation was stored.
    ImpUidTaken,
    /// It breaks a rule of the schema that nothing foresaw: only the observation was stored. A person has to look.
    Refused,
}

/// What stops sends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Brakes {
    pub killed: bool,
    pub held: bool,
    /// Grows with every batch of intents that anybody commits.
    pub high_water: i64,
    /// The newest thing that an operator did. `None`: nothing yet, or it was written by a release that sealed nothing.
    pub newest_entry: Option<SeenEntry>,
    pub accounts: BTreeMap<AccountId, AccountBrakes>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountBrakes {
    pub killed: bool,
    pub held: bool,
    pub paused: bool,
    /// Whether a complete clean audit of 35 days has been made in this incarnation of the database.
    pub audited: bool,
    /// Whether it may charge real cards from this incarnation of the database, or cannot because it is a sandbox.
    pub armed: bool,
    /// Where an operator has confirmed that it sends.
    pub endpoint: Option<i64>,
    /// `None`: whole.
    pub fuse: Option<FuseState>,
}

impl Brakes {
    /// The first thing that stops sends of an account to an endpoint, if any. One that an operator has moved meanwhile does
    /// not send to the old place any more: a look-up at the new one would not see it.
    pub fn stop(&self, account: AccountId, endpoint: i64) -> Option<NotBegun> {
        let of_account = self.accounts.get(&account).cloned().unwrap_or_default();
        match () {
            () if (self.killed || of_account.killed) && guard::stands(Guard::KillSwitch) => Some(NotBegun::Killed),
            () if self.held || of_account.held || !of_account.audited || of_account.endpoint != Some(endpoint) => {
                Some(NotBegun::Held)
            }
            () if of_account.paused => Some(NotBegun::Paused),
            () if !of_account.armed => Some(NotBegun::Unarmed),
            () if matches!(of_account.fuse, Some(FuseState::Blown | FuseState::Rejected)) => Some(NotBegun::Fuse { until: None }),
            () => None,
        }
    }
}

/// An event on its way to one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    pub id: i64,
    pub endpoint: String,
    pub event_id: String,
    pub kind: String,
    pub at: Timestamp,
    pub data: Value,
    /// Tries so far.
    pub tries: u32,
}

/// What came of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    pub id: i64,
    /// `None`: accepted. Otherwise what went wrong, without the endpoint's secret.
    pub error: Option<String>,
    /// When to try again; `None` with an error: given up.
    pub next_at: Option<Timestamp>,
}

/// The database, as the engine sees it.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The database's clock.
    async fn clock(&self) -> Result<Timestamp, StoreError>;

    /// When there will next be something to do. Costs the same for ten subscriptions and for ten million.
    async fn next_due(&self, now: Timestamp) -> Result<NextDue, StoreError>;

    /// Schedules to be looked at, the most overdue first.
    async fn due_schedules(&self, now: Timestamp, limit: u32) -> Result<Vec<DueSchedule>, StoreError>;

    /// Opens periods (W0): charges and schedules in one transaction; each step stands alone.
    async fn step_schedules(&self, now: Timestamp, steps: &[ScheduleStep]) -> Result<Vec<Stepped>, StoreError>;

    /// Claims charges (W1) and loads them.
    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>, StoreError>;

    /// Claims one charge, whatever its state and its time, for an operator. `None`: somebody has it in hand.
    async fn claim_one(
        &self,
        charge: ChargeId,
        token: &ClaimToken,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Claimed>, StoreError>;

    /// Gives claims back untouched.
    async fn release(&self, token: &ClaimToken, charges: &[ChargeId]) -> Result<(), StoreError>;

    /// All attempts of some charges, oldest first.
    async fn attempts_of(&self, charges: &[ChargeId]) -> Result<Vec<PastAttempt>, StoreError>;

    /// A charge as it is now, without a claim.
    async fn load(&self, charges: &[ChargeId]) -> Result<Vec<Charge>, StoreError>;

    /// Holds all that is due of an account against its fuse, and blows it if that is too much. Returns whether it blew.
    async fn measure(&self, wave: &DueWave<'_>) -> Result<bool, StoreError>;

    /// Commits intents (W2). The attempts come back only once COMMIT has been acknowledged.
    async fn begin(&self, batch: Begin) -> Result<Begun, StoreError>;

    /// Commits observations, states and events (W3). Each entry stands alone. A written decision gives the claim back.
    async fn record(&self, now: Timestamp, entries: &[Entry]) -> Result<Vec<Recorded>, StoreError>;

    /// Subscriptions whose state is to be derived anew, the most overdue first.
    async fn due_states(&self, now: Timestamp, limit: u32) -> Result<Vec<StateFacts>, StoreError>;

    /// Keeps states, each change with its event. Returns how many were kept: one whose facts have changed since stays due.
    async fn keep_states(&self, now: Timestamp, steps: &[StateStep]) -> Result<u64, StoreError>;

    /// Puts charges whose send was left open by an ended claim into doubt, so that they are looked up even while nothing
    /// may be sent. Returns how many.
    async fn adopt_interrupted(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError>;

    /// Kill switch, hold, pauses: as they are now.
    async fn brakes(&self) -> Result<Brakes, StoreError>;

    /// Pauses an account, with an event.
    async fn pause_account(&self, account: AccountId, now: Timestamp, why: &str) -> Result<(), StoreError>;

    /// Puts the whole database on hold. Returns whether it was not yet.
    async fn hold(&self, now: Timestamp, why: &str) -> Result<bool, StoreError>;

    /// The same, and no account is armed any more: the database has lost what it had acknowledged.
    async fn hold_as_restored(&self, now: Timestamp, loss: &Loss) -> Result<(), StoreError>;

    /// Whether the database knows a send whose COMMIT it has acknowledged.
    async fn knows(&self, seen: &SeenSend) -> Result<bool, StoreError>;

    /// Whether the database knows an entry of the journal that was read from it.
    async fn knows_entry(&self, seen: &SeenEntry) -> Result<bool, StoreError>;

    /// Whether it still keeps what it acknowledges: asked whenever another server may have taken its place.
    ///
    /// # Errors
    /// It does not, or it does not answer: nothing may be sent.
    async fn durable(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// How many connections were made so far: while the number stays, so does the server.
    fn connections(&self) -> u64;

    /// Until when, by the database's clock, a jump of that clock holds sends and conclusions of "not paid"; may be past.
    async fn unsteady_until(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Keeps that for the processes that come after this one.
    async fn hold_for_clock(&self, until: Timestamp) -> Result<(), StoreError>;

    /// Counts what is past due by more than `grace` and neither final nor visibly waiting.
    async fn missed(&self, now: Timestamp, grace: jiff::SignedDuration) -> Result<Missed, StoreError>;

    /// The same by account, for a count that was not 0. What belongs to no account is left out.
    async fn missed_by_account(
        &self,
        _now: Timestamp,
        _grace: jiff::SignedDuration,
    ) -> Result<BTreeMap<AccountId, u64>, StoreError> {
        Ok(BTreeMap::new())
    }

    /// Subscriptions that no schedule serves, in the page of `limit` that comes after one. All pages together read all
    /// subscriptions.
    async fn unscheduled(&self, after: SubscriptionId, limit: u32) -> Result<Unscheduled, StoreError>;

    /// Which of these `merchant_uid`s belong to which charge.
    async fn charges_of(&self, uids: &[String]) -> Result<BTreeMap<String, ChargeId>, StoreError>;

    /// Payments booked as paid by an account in a span of time, in order of payment. `after`: the last charge of the page
    /// before, 0 for the first page.
    async fn booked(
        &self,
        account: AccountId,
        from: Timestamp,
        to: Timestamp,
        after: ChargeId,
        limit: u32,
    ) -> Result<Vec<Booked>, StoreError>;

    /// Tells that `total` minor units of a payment have been given back, unless as much was told before. Returns whether it
    /// is news.
    async fn refunded(&self, now: Timestamp, charge: ChargeId, total: i64, event: Event) -> Result<bool, StoreError>;

    /// Opens an incident unless the same one is known already. Returns what it was before.
    async fn open_incident(
        &self,
        now: Timestamp,
        account: AccountId,
        charge: Option<ChargeId>,
        incident: &Incident,
        event: Event,
    ) -> Result<IncidentState, StoreError>;

    /// What is known of an incident of an account.
    async fn incident_state(&self, account: AccountId, incident: &Incident) -> Result<IncidentState, StoreError>;

    async fn audited(&self, result: &AuditResult) -> Result<(), StoreError>;

    /// When the account was last audited: over 48 hours, and completely.
    async fn last_audits(&self, account: AccountId) -> Result<(Option<Timestamp>, Option<Timestamp>), StoreError>;

    /// Claims deliveries that are due: per endpoint the oldest undelivered event of each subscription.
    async fn due_deliveries(&self, now: Timestamp, claim_until: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError>;

    /// Records what came of deliveries.
    async fn delivered(&self, now: Timestamp, results: &[Delivered]) -> Result<(), StoreError>;
}
