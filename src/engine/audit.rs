//! Compares both ledgers: what the gateway lists against what this database has booked, both ways.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tracing::{error, info, warn};

use super::look::{History, kept};
use super::{AccountRuntime, Engine};
use crate::domain::attempt::{IdNumber, MerchantUid};
use crate::domain::charge::{Charge, ChargeId, ChargeState};
use crate::domain::decide::{Fact, Incident, IncidentKind, decide};
use crate::domain::event::{Event, EventKind};
use crate::domain::outcome::{Record, RecordStatus};
use crate::ports::crash;
use crate::ports::gateway::Unavailable;
use crate::ports::store::{AuditResult, Booked, Entry, Fence, IncidentState, Observation, Recorded, StoreError};

/// A complete audit reads this far back, a quick one less.
pub const COMPLETE: SignedDuration = SignedDuration::from_hours(35 * 24);
pub const QUICK: SignedDuration = SignedDuration::from_hours(48);
/// PortOne lists at most 90 days at a time.
const WINDOW: SignedDuration = SignedDuration::from_hours(89 * 24);
/// Payments booked within this long of either end of the span may stand just outside it in the gateway's list.
const MARGIN: SignedDuration = SignedDuration::from_hours(25);
const SETTLING: SignedDuration = SignedDuration::from_mins(15);
/// Booked payments a page.
const PAGE: u32 = 1000;
/// Tries to write a truth against a charge that changes.
const TRIES: usize = 5;

/// Why an audit could not be finished. It then counts for nothing.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    Gateway(#[from] Unavailable),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an audit counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AuditReport {
    pub listed: u64,
    pub ours: u64,
    pub booked: u64,
    /// Paid there and not here: settled by this audit.
    pub settled: u64,
    /// Refunded there, told here.
    pub refunded: u64,
    /// Everything that is an incident.
    pub incidents: u64,
    /// What would be one, had an operator not closed it.
    pub known: u64,
}

impl AuditReport {
    /// For the account's row and for operators: counts, without personal data.
    pub fn summary(&self) -> serde_json::Value {
        json!({
            "listed": self.listed, "ours": self.ours, "booked": self.booked, "settled": self.settled,
            "refunded": self.refunded, "incidents": self.incidents, "known": self.known,
        })
    }
}

/// The gateway's list of at most 90 days, page by page.
pub struct List {
    from: Timestamp,
    to: Timestamp,
    /// `None`: all pages have been read.
    page: Option<u32>,
}

impl List {
    pub fn new(from: Timestamp, to: Timestamp) -> Self {
        Self { from, to, page: Some(1) }
    }

    /// The records of the next page; `None` after the last one.
    pub async fn next(&mut self, account: &super::Account) -> Result<Option<Vec<Record>>, Unavailable> {
        let Some(page) = self.page else { return Ok(None) };
        let listed = account.gateway.list(self.from, self.to, page).await?;
        crash::point("after ", "a page of the gateway's list");
        self.page = listed.next.filter(|next| *next > page);
        Ok(Some(listed.records))
    }
}

impl Engine {
    /// Which audit of an account is due: `Some(true)` a complete one, `Some(false)` a quick one.
    pub(crate) async fn audit_due(&self, account: &AccountRuntime, wanted: bool) -> Result<Option<bool>, StoreError> {
        let now = self.now();
        let (quick, complete) = self.store.last_audits(account.account.id).await?;
        let older = |last: Option<Timestamp>, age| last.is_none_or(|last| now.duration_since(last) >= age);
        if older(complete, self.in_force().tuning.audit_complete_every) || wanted {
            return Ok(Some(true));
        }
        let newest = quick.max(complete);
        Ok(older(newest, self.in_force().tuning.audit_quick_every).then_some(false))
    }

    /// Audits an account back over `span`, and records the result. One of 35 days or more is complete.
    pub async fn audit(&self, account: &super::Account, span: SignedDuration) -> Result<AuditReport, AuditError> {
        let to = self.now();
        let complete = span >= COMPLETE;
        let from = to.checked_sub(span).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut report = AuditReport::default();
        let mut seen = HashSet::new();
        let mut start = from;
        while start < to {
            let end = start.checked_add(WINDOW).unwrap_or(to).min(to);
            self.compare_window(account, (start, end), &mut seen, &mut report).await?;
            start = end;
        }
        self.compare_booked(account, (from, to), &seen, &mut report).await?;
        let summary = report.summary();
        let clean = report.incidents == 0;
        let result = AuditResult { account: account.id, from, at: to, complete, clean, summary };
        self.store.audited(&result).await?;
        if clean {
            info!(account = %account.name, complete, listed = report.listed, booked = report.booked, settled = report.settled, "audit: both ledgers agree");
        } else {
            error!(account = %account.name, complete, incidents = report.incidents, "audit: the ledgers differ");
        }
        Ok(report)
    }

    /// All pages of one window of the gateway's list. `seen` collects the payments that it shows.
    async fn compare_window(
        &self,
        account: &super::Account,
        (from, to): (Timestamp, Timestamp),
        seen: &mut HashSet<String>,
        report: &mut AuditReport,
    ) -> Result<(), AuditError> {
        let mut list = List::new(from, to);
        while let Some(records) = list.next(account).await? {
            self.compare(account, &records, report).await?;
            let shown = records.into_iter().filter(|record| record.status != RecordStatus::Failed);
            seen.extend(shown.map(|record| record.imp_uid));
        }
        Ok(())
    }

    /// One page of the gateway's list against this database.
    async fn compare(&self, account: &super::Account, records: &[Record], report: &mut AuditReport) -> Result<(), AuditError> {
        report.listed += records.len() as u64;
        let tag = self.in_force().tuning.tag;
        let ours: Vec<&Record> = records.iter().filter(|record| MerchantUid::is_ours(&record.merchant_uid, tag)).collect();
        report.ours += ours.len() as u64;
        // a charge's first id is written when its period opens, so it is found by that even if it has never been sent from here
        let first = |record: &Record| format!("{}01", record.merchant_uid.get(..28).unwrap_or_default());
        let uids: Vec<String> = ours.iter().map(|record| first(record)).collect();
        let charges = self.store.charges_of(&uids).await?;
        let ids: Vec<ChargeId> = charges.values().copied().collect::<HashSet<_>>().into_iter().collect();
        let loaded: BTreeMap<ChargeId, Charge> =
            self.store.load(&ids).await?.into_iter().map(|charge| (charge.id, charge)).collect();
        for record in ours {
            let charge = charges.get(&first(record)).and_then(|id| loaded.get(id));
            match (&record.status, charge) {
                (RecordStatus::Paid, Some(charge)) => {
                    if charge.paid_imp_uid.as_deref() != Some(record.imp_uid.as_str()) {
                        self.settle_late(account, charge.id, record, report).await?;
                    } else if record.cancelled_amount > 0 {
                        self.refund(charge, record, report).await?;
                    }
                }
                (RecordStatus::Cancelled, Some(charge)) if charge.paid_imp_uid.as_deref() == Some(record.imp_uid.as_str()) => {
                    self.refund(charge, record, report).await?;
                }
                (RecordStatus::Paid | RecordStatus::Cancelled, None) => self.unknown(account, record, report).await?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Paid there and not (or otherwise) here: the charge is looked up in full and the truth written.
    async fn settle_late(
        &self,
        account: &super::Account,
        id: ChargeId,
        listed: &Record,
        report: &mut AuditReport,
    ) -> Result<(), AuditError> {
        for _ in 0..TRIES {
            let Some(charge) = self.store.load(&[id]).await?.pop() else { return Ok(()) };
            let history = History::new(self.store.attempts_of(&[id]).await?);
            let began_at = self.now();
            // a restored database may not know of the id that the list shows, nor of those that were tried before it
            let mut numbers = BTreeSet::from_iter(history.ids(&charge));
            let shown = charge.base.number_of(&listed.merchant_uid);
            numbers.extend(shown.into_iter().flat_map(|last| IdNumber::FIRST.up_to(last)));
            let numbers: Vec<IdNumber> = numbers.into_iter().collect();
            let records = self.records_under(account.gateway.as_ref(), &charge, &numbers, false).await?;
            let findings = history.findings(&charge, began_at, None, records);
            let found = findings.records.iter().find(|found| found.record.imp_uid == listed.imp_uid);
            let second = found.map(|found| Incident::of_second_payment(&charge, found));
            let observation = Observation { source: "audit", send: None, began_at, detail: kept(&findings) };
            let Ok(decision) = decide(&charge, &Fact::LookedUp(findings), self.now(), &self.in_force().tuning.policy) else {
                return Ok(());
            };
            if !decision.is_truth {
                // e.g. refunded meanwhile, or under an id whose send is still open
                return Ok(());
            }
            let (mut incidents, mut closed, mut new) = (0, 0, 0);
            // what an earlier audit has told is not always told again
            let silent = decision.incidents.is_empty() && charge.state == ChargeState::Paid;
            for incident in decision.incidents.iter().chain(second.as_ref().filter(|_| silent)) {
                match self.store.incident_state(account.id, incident).await? {
                    IncidentState::Closed => closed += 1,
                    IncidentState::Open => incidents += 1,
                    // of this charge others were told, and it keeps silent about one more
                    IncidentState::New if silent => {
                        let Incident { kind, detail } = incident.clone();
                        self.incident(account, Some(charge.id), kind, detail, report).await?;
                    }
                    IncidentState::New => (incidents, new) = (incidents + 1, new + 1),
                }
            }
            if decision.charge.state == charge.state && (new == 0 || decision.incidents.is_empty()) {
                report.incidents += incidents;
                report.known += closed;
                return Ok(());
            }
            let settles = decision.charge.state == ChargeState::Paid && charge.state != ChargeState::Paid;
            let fence = Fence::Version(charge.version);
            let decided = decision.clone();
            let entry = Entry { charge: id, fence, observation: Some(observation), decision: Some(decision) };
            match self.store.record(self.now(), &[entry]).await?.first() {
                Some(Recorded::Written) => {
                    self.count_ends(&charge, &decided);
                    report.incidents += incidents;
                    report.known += closed;
                    if settles {
                        report.settled += 1;
                        self.stats.paid.add(1);
                        info!(charge = %charge.id, external_ref = %charge.external_ref, "the audit found a charge paid and settled it");
                    }
                    return Ok(());
                }
                Some(Recorded::FenceLost) => {}
                _ => {
                    report.incidents += 1;
                    return Ok(());
                }
            }
        }
        warn!(charge = %id, "a charge kept changing while the audit wanted to settle it: the next audit tries again");
        Ok(())
    }

    async fn refund(&self, charge: &Charge, record: &Record, report: &mut AuditReport) -> Result<(), AuditError> {
        // wholly cancelled, whatever it says of the amount
        let whole = record.status == RecordStatus::Cancelled && record.cancelled_amount <= 0;
        let total = if whole { charge.amount.minor() } else { record.cancelled_amount };
        let extra = json!({ "imp_uid": record.imp_uid, "refunded_amount": total });
        let event = Event::of_charge(EventKind::ChargeRefunded, charge, &format!("{} {total}", record.imp_uid), extra);
        if self.store.refunded(self.now(), charge.id, total, event).await? {
            report.refunded += 1;
            info!(charge = %charge.id, external_ref = %charge.external_ref, total, "the gateway shows a refund");
        }
        Ok(())
    }

    /// An id of ours whose charge this database does not know: it is not the database that last sent.
    async fn unknown(&self, account: &super::Account, record: &Record, report: &mut AuditReport) -> Result<(), AuditError> {
        let detail = format!("{} under {} carries our tag, but no charge here has that id", record.imp_uid, record.merchant_uid);
        if self.incident(account, None, IncidentKind::UnknownPayment, detail, report).await? == IncidentState::Closed {
            return Ok(());
        }
        let why = "the gateway shows payments of ours that this database does not know: was it restored from a backup?";
        if self.store.hold(self.now(), why).await? {
            self.brakes.forget();
            error!("{why} Everything is on hold: `rebilld hold status`");
        }
        Ok(())
    }

    async fn incident(
        &self,
        account: &super::Account,
        charge: Option<ChargeId>,
        kind: IncidentKind,
        detail: String,
        report: &mut AuditReport,
    ) -> Result<IncidentState, AuditError> {
        let data = json!({ "incident": kind.name(), "account": account.name, "detail": detail });
        let event = Event::new(EventKind::IncidentOpened, &[&account.name, kind.name(), &detail], data);
        let incident = Incident { kind, detail };
        let before = self.store.open_incident(self.now(), account.id, charge, &incident, event).await?;
        match before {
            IncidentState::Closed => report.known += 1,
            IncidentState::New | IncidentState::Open => report.incidents += 1,
        }
        if before == IncidentState::New {
            self.stats.incidents.add(1);
            error!(account = %account.name, kind = kind.name(), detail = %incident.detail, "incident");
        }
        Ok(before)
    }

    /// What is booked here has to stand in the gateway's list.
    async fn compare_booked(
        &self,
        account: &super::Account,
        (from, to): (Timestamp, Timestamp),
        seen: &HashSet<String>,
        report: &mut AuditReport,
    ) -> Result<(), AuditError> {
        let from = from.checked_add(MARGIN).unwrap_or(from);
        let to = to.checked_sub(SETTLING).unwrap_or(to);
        let mut after = ChargeId(0);
        loop {
            let booked = self.store.booked(account.id, from, to, after, PAGE).await?;
            let Some(last) = booked.last() else { return Ok(()) };
            after = last.charge;
            report.booked += booked.len() as u64;
            for missing in booked.iter().filter(|booked| !booked.refunded && !seen.contains(&booked.imp_uid)) {
                self.check_missing(account, missing, report).await?;
            }
        }
    }

    /// The list may be cut at its ends: asked for by id before it is called missing.
    async fn check_missing(&self, account: &super::Account, booked: &Booked, report: &mut AuditReport) -> Result<(), AuditError> {
        let uid = MerchantUid::stored(booked.merchant_uid.clone());
        let records = account.gateway.find_all(&uid).await?;
        if records.iter().any(|record| record.imp_uid == booked.imp_uid) {
            return Ok(());
        }
        let detail =
            format!("{} under {} is booked as paid here, but the gateway does not show it", booked.imp_uid, booked.merchant_uid);
        self.incident(account, Some(booked.charge), IncidentKind::MissingPayment, detail, report).await.map(drop)
    }
}
