//! What the gateway saw and did: the public records, and the indexes over them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cards::CardBehaviour;
use super::schedules::BookingRecord;
use super::webhooks::Told;
use super::{Endpoint, Fault};
use crate::domain::money::Money;
use crate::domain::proof;

/// Everything up to one moment. Nothing is ever taken out of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerSnapshot {
    /// Every POST, in the order of arrival.
    pub posts: Vec<PostRecord>,
    /// Every payment, in the order in which it was made.
    pub payments: Vec<PaymentRecord>,
    /// How many requests of each other kind came since the sandbox started.
    pub lookups: BTreeMap<Endpoint, u64>,
}

impl LedgerSnapshot {
    /// The POSTs that ask for a charge.
    pub fn charges(&self) -> impl Iterator<Item = &PostRecord> {
        self.posts.iter().filter(|post| post.endpoint == Endpoint::Again)
    }

    /// The payments under one merchant_uid.
    pub fn payments_of<'a>(&'a self, merchant_uid: &'a str) -> impl Iterator<Item = &'a PaymentRecord> {
        self.payments.iter().filter(move |payment| payment.merchant_uid == merchant_uid)
    }

    /// The same in the words of the proof.
    pub fn neutral(&self) -> proof::Ledger {
        let posts = self.charges().map(|post| proof::LedgerPost {
            merchant_uid: post.merchant_uid.clone().unwrap_or_default(),
            customer_uid: post.customer_uid.clone().unwrap_or_default(),
            amount: post.amount_minor.unwrap_or(0),
            at: post.received_at,
            processed: post.processed.is_some(),
        });
        let payments = self.payments.iter().map(|payment| proof::LedgerPayment {
            imp_uid: payment.imp_uid.clone(),
            merchant_uid: payment.merchant_uid.clone(),
            customer_uid: payment.customer_uid.clone(),
            amount: payment.amount_minor,
            status: match payment.status {
                PaymentStatus::Paid => proof::LedgerStatus::Paid,
                PaymentStatus::Failed => proof::LedgerStatus::Failed,
                PaymentStatus::Ready | PaymentStatus::Cancelled => proof::LedgerStatus::Other,
            },
        });
        proof::Ledger { posts: posts.collect(), payments: payments.collect() }
    }
}

/// One POST as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostRecord {
    /// From 0, in the order of arrival, without gaps.
    pub sequence: u64,
    /// Which call.
    pub endpoint: Endpoint,
    /// Whose token it came with; `None` without a valid one.
    pub imp_key: Option<String>,
    /// The `Tier` header.
    pub tier: Option<String>,
    /// As asked for, valid or not.
    pub merchant_uid: Option<String>,
    /// As asked for, valid or not.
    pub customer_uid: Option<String>,
    /// In minor units; `None` if it could not be read.
    pub amount_minor: Option<i64>,
    /// KRW where nothing was said.
    pub currency: Option<String>,
    /// SHA-256 of the exact bytes, in hex. Empty where `body` is left out.
    pub body_sha256: String,
    /// The exact body. Left out for tokens and card registrations, which carry secrets and card data.
    pub body: String,
    /// Whether the body is a form and not JSON.
    pub form: bool,
    /// By the sandbox's clock.
    pub received_at: Timestamp,
    /// The how-many-th POST of this endpoint and id, from 1.
    pub nth: u32,
    /// What went wrong with it.
    pub faults: Vec<Fault>,
    /// What the gateway made of it, whether or not anybody was told; `None` while or if it was not processed.
    pub processed: Option<Processed>,
}

/// The end of a POST inside the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processed {
    /// By the sandbox's clock.
    pub at: Timestamp,
    /// HTTP status of the answer that PortOne would give.
    pub http_status: u16,
    /// Envelope code of that answer.
    pub code: i64,
    /// Envelope message of that answer.
    pub message: Option<String>,
    /// The payment that was made or cancelled.
    pub imp_uid: Option<String>,
}

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    Ready,
    Paid,
    Failed,
    Cancelled,
}

impl PaymentStatus {
    /// As PortOne writes it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ready" => Some(Self::Ready),
            "paid" => Some(Self::Paid),
            "failed" => Some(Self::Failed),
            "cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }
}

/// One payment record of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRecord {
    /// Unique in the sandbox.
    pub imp_uid: String,
    /// The POST that made it.
    pub post: u64,
    /// Whose payment.
    pub imp_key: String,
    /// Under which tier.
    pub tier: Option<String>,
    /// Several records may share it.
    pub merchant_uid: String,
    /// The card.
    pub customer_uid: String,
    /// In minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// Now; what it was at `at` follows from `cancellations`.
    pub status: PaymentStatus,
    /// When it was started and became paid or failed.
    pub at: Timestamp,
    /// No look-up shows it earlier than that.
    pub visible_from: Timestamp,
    /// PG text of a declined charge.
    pub fail_reason: Option<String>,
    /// What was given back, oldest first.
    pub cancellations: Vec<Cancellation>,
    /// Made on a test channel.
    pub sandbox: bool,
    /// Echoed fields.
    pub details: Details,
}

impl PaymentRecord {
    /// What was charged.
    pub fn amount(&self) -> Money {
        Money::new(self.amount_minor, self.currency.parse().unwrap_or(crate::domain::money::Currency::KRW))
    }

    /// What was given back, in minor units.
    pub fn cancelled_minor(&self) -> i64 {
        self.cancellations.iter().map(|cancellation| cancellation.amount_minor).sum()
    }

    /// When it was cancelled last.
    pub fn cancelled_at(&self) -> Option<Timestamp> {
        self.cancellations.last().map(|cancellation| cancellation.at)
    }
}

/// Money given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    pub amount_minor: i64,
    pub at: Timestamp,
    pub reason: String,
}

/// Fields of a charge that the gateway stores and gives back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    pub name: Option<String>,
    pub buyer_name: Option<String>,
    pub buyer_email: Option<String>,
    pub buyer_tel: Option<String>,
    pub buyer_addr: Option<String>,
    pub buyer_postcode: Option<String>,
    pub custom_data: Option<String>,
    pub card_quota: Option<i64>,
}

/// A registered card. Personal fields are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Customer {
    pub behaviour: CardBehaviour,
    pub inserted: Timestamp,
    pub updated: Timestamp,
    /// The key was deleted: nobody of that name is registered, whatever the prefix says.
    pub deleted: bool,
    /// Charges declined since the card was registered.
    #[serde(skip)]
    pub declined: u32,
}

/// Which key of the time index: one status, or all.
type Shelf = Option<PaymentStatus>;

/// The payments and customers that one account sees with one `Tier` header (or none).
#[derive(Debug)]
pub(super) struct Scope {
    pub imp_key: String,
    pub tier: Option<String>,
    pub customers: HashMap<String, Customer>,
    /// Bookings of PortOne's own schedule, in the order in which they were made.
    pub bookings: Vec<BookingRecord>,
    by_merchant_uid: HashMap<String, Vec<usize>>,
    by_imp_uid: HashMap<String, usize>,
    by_customer_uid: HashMap<String, Vec<usize>>,
    by_time: TimeIndex,
}

/// Visible payments of each shelf by (Unix second, payment). Sorted lists and not trees, because payments come in order of
/// time, nearly all of them, and because a page far into a long list must not be counted up to.
#[derive(Debug, Default)]
struct TimeIndex(BTreeMap<Shelf, Vec<(i64, usize)>>);

impl TimeIndex {
    fn insert(&mut self, shelf: Shelf, entry: (i64, usize)) {
        let list = self.0.entry(shelf).or_default();
        list.insert(list.partition_point(|known| *known < entry), entry);
    }

    fn remove(&mut self, shelf: Shelf, entry: (i64, usize)) {
        if let Some(list) = self.0.get_mut(&shelf)
            && let Ok(at) = list.binary_search(&entry)
        {
            list.remove(at);
        }
    }

    fn between(&self, shelf: Shelf, from: i64, to: i64) -> &[(i64, usize)] {
        let list = self.0.get(&shelf).map_or(&[][..], Vec::as_slice);
        let start = list.partition_point(|(second, _)| *second < from);
        let end = list.partition_point(|(second, _)| *second <= to);
        list.get(start..end).unwrap_or_default()
    }
}

/// All records, with indexes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub posts: Vec<PostRecord>,
    payments: Vec<PaymentRecord>,
    pub lookups: BTreeMap<Endpoint, u64>,
    scopes: Vec<Scope>,
    /// Payments that no look-up shows yet, by when one will; with their scope.
    hidden: BTreeSet<(Timestamp, usize, usize)>,
    /// What webhooks are still to be sent for; `None`: nobody wants any.
    told: Option<Vec<Told>>,
}

impl Ledger {
    pub fn snapshot(&self) -> LedgerSnapshot {
        LedgerSnapshot { posts: self.posts.clone(), payments: self.payments.clone(), lookups: self.lookups.clone() }
    }

    /// The number of the scope of this account and tier.
    pub fn scope_of(&mut self, imp_key: &str, tier: Option<&str>) -> usize {
        let known = self.scopes.iter().position(|scope| scope.imp_key == imp_key && scope.tier.as_deref() == tier);
        known.unwrap_or_else(|| {
            self.scopes.push(Scope {
                imp_key: imp_key.to_owned(),
                tier: tier.map(str::to_owned),
                customers: HashMap::new(),
                bookings: Vec::new(),
                by_merchant_uid: HashMap::new(),
                by_imp_uid: HashMap::new(),
                by_customer_uid: HashMap::new(),
                by_time: TimeIndex::default(),
            });
            self.scopes.len() - 1
        })
    }

    pub fn scope(&self, scope: usize) -> &Scope {
        &self.scopes[scope]
    }

    pub fn scope_mut(&mut self, scope: usize) -> &mut Scope {
        &mut self.scopes[scope]
    }

    pub fn count_payments(&self) -> usize {
        self.payments.len()
    }

    pub fn payment(&self, payment: usize) -> &PaymentRecord {
        &self.payments[payment]
    }

    /// Takes a new payment in.
    pub fn add_payment(&mut self, payment: PaymentRecord) {
        let scope = self.scope_of(&payment.imp_key, payment.tier.as_deref());
        let number = self.payments.len();
        let shelves = &mut self.scopes[scope];
        shelves.by_merchant_uid.entry(payment.merchant_uid.clone()).or_default().push(number);
        shelves.by_customer_uid.entry(payment.customer_uid.clone()).or_default().push(number);
        shelves.by_imp_uid.insert(payment.imp_uid.clone(), number);
        if payment.status == PaymentStatus::Failed
            && let Some(customer) = shelves.customers.get_mut(&payment.customer_uid)
        {
            customer.declined += 1;
        }
        self.hidden.insert((payment.visible_from, number, scope));
        self.payments.push(payment);
    }

    /// Gives money back; the payment is `cancelled` once all of it is.
    pub fn add_cancellation(&mut self, imp_key: &str, tier: Option<&str>, imp_uid: &str, cancellation: Cancellation) {
        let scope = self.scope_of(imp_key, tier);
        let Some(&number) = self.scopes[scope].by_imp_uid.get(imp_uid) else { return };
        let visible = !self.is_hidden(number, scope);
        let old = keys(&self.payments[number]);
        let payment = &mut self.payments[number];
        payment.cancellations.push(cancellation);
        if payment.cancelled_minor() >= payment.amount_minor {
            payment.status = PaymentStatus::Cancelled;
        }
        if visible {
            let shelves = &mut self.scopes[scope].by_time;
            for (shelf, second) in old {
                shelves.remove(shelf, (second, number));
            }
            for (shelf, second) in keys(&self.payments[number]) {
                shelves.insert(shelf, (second, number));
            }
        }
    }

    fn is_hidden(&self, number: usize, scope: usize) -> bool {
        self.hidden.contains(&(self.payments[number].visible_from, number, scope))
    }

    /// Lets look-ups see what has become visible by `now`.
    pub fn reveal(&mut self, now: Timestamp) {
        while let Some(&(visible_from, number, scope)) = self.hidden.first()
            && visible_from <= now
        {
            self.hidden.pop_first();
            for (shelf, second) in keys(&self.payments[number]) {
                self.scopes[scope].by_time.insert(shelf, (second, number));
            }
            let payment = &self.payments[number];
            if let Some(told) = self.told.as_mut().filter(|_| payment.status == PaymentStatus::Paid) {
                told.push(Told { imp_uid: payment.imp_uid.clone(), merchant_uid: payment.merchant_uid.clone() });
            }
        }
    }

    /// From now on, what is paid is told by a webhook as soon as it is visible.
    pub fn tell(&mut self) {
        self.told = Some(Vec::new());
    }

    /// What has to be told, once.
    pub fn take_told(&mut self) -> Vec<Told> {
        self.told.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Every record of a merchant_uid, oldest first, visible or not.
    pub fn all_of(&self, scope: usize, merchant_uid: &str) -> impl Iterator<Item = &PaymentRecord> {
        let numbers = self.scopes[scope].by_merchant_uid.get(merchant_uid);
        numbers.into_iter().flatten().map(|&number| &self.payments[number])
    }

    /// The visible records of a merchant_uid, oldest first.
    pub fn find(&self, scope: usize, merchant_uid: &str) -> Vec<usize> {
        self.visible(scope, self.scopes[scope].by_merchant_uid.get(merchant_uid))
    }

    /// The visible records of a card, oldest first.
    pub fn of_customer(&self, scope: usize, customer_uid: &str) -> Vec<usize> {
        self.visible(scope, self.scopes[scope].by_customer_uid.get(customer_uid))
    }

    /// The visible record of this imp_uid.
    pub fn of_imp_uid(&self, scope: usize, imp_uid: &str) -> Option<usize> {
        let number = *self.scopes[scope].by_imp_uid.get(imp_uid)?;
        (!self.is_hidden(number, scope)).then_some(number)
    }

    fn visible(&self, scope: usize, numbers: Option<&Vec<usize>>) -> Vec<usize> {
        numbers.into_iter().flatten().copied().filter(|&number| !self.is_hidden(number, scope)).collect()
    }

    /// The visible payments of a shelf between two Unix seconds (both included), oldest first.
    pub fn between(
        &self,
        scope: usize,
        shelf: Shelf,
        from: i64,
        to: i64,
    ) -> impl ExactSizeIterator<Item = usize> + DoubleEndedIterator {
        self.scopes[scope].by_time.between(shelf, from, to).iter().map(|&(_, number)| number)
    }
}

/// Where a payment stands in the time index: among all by its start, and among those of its status by when it got it.
fn keys(payment: &PaymentRecord) -> [(Shelf, i64); 2] {
    let became = match payment.status {
        PaymentStatus::Cancelled => payment.cancelled_at().unwrap_or(payment.at),
        PaymentStatus::Ready | PaymentStatus::Paid | PaymentStatus::Failed => payment.at,
    };
    [(None, payment.at.as_second()), (Some(payment.status), became.as_second())]
}
