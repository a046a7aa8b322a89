//! The gateway itself, without sockets: requests come in one at a time and are answered from the ledger.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::io;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::call::{Call, Endpoint, Fields};
use super::charge::Charge;
use super::faults::{Asked, Fault, FaultPlan, draw};
use super::journal::{Entry, Journal};
use super::ledger::{Ledger, LedgerSnapshot, PostRecord, Processed};
use super::tokens::Tokens;
use super::wire::{Answer, PG_ID, PG_PROVIDER};
use super::{SandboxAccount, SandboxOptions, SandboxRecords};
use crate::domain::money::{Currency, Money};
use crate::ports::clock::Clock;

/// Everything that the sandbox knows.
pub(super) struct Gateway {
    pub clock: Arc<dyn Clock>,
    pub accounts: Vec<SandboxAccount>,
    pub plan: FaultPlan,
    pub ledger: Ledger,
    pub journal: Journal,
    pub prefixes: bool,
    pub sandbox: bool,
    pub records: SandboxRecords,
    tokens: Tokens,
    /// How many requests of an endpoint and ids came, by a hash of both.
    asked: HashMap<[u64; 2], u32>,
    /// Charges that are processed later, by when.
    late: BTreeMap<(Timestamp, u64), Late>,
}

struct Late {
    scope: usize,
    fields: Fields,
    invisible: SignedDuration,
}

/// A request that was taken in and not yet answered.
pub(super) struct Received {
    pub call: Call,
    pub faults: Vec<Fault>,
    /// Its record in the ledger, if it is a POST.
    pub post: Option<u64>,
    /// Whose data it may see; `None` is answered with 401.
    pub scope: Option<usize>,
    /// Real milliseconds between the refusal of duplicates and the charge.
    pub check_then_act_millis: Option<u64>,
    /// The refusal of duplicates has looked already.
    pub looked: bool,
}

#[derive(Serialize)]
struct TokenView<'a> {
    access_token: &'a str,
    now: i64,
    expired_at: i64,
}

#[derive(Serialize)]
struct PgView {
    pg_provider: &'static str,
    pg_id: &'static str,
    sandbox: bool,
    r#type: &'static str,
    channel_name: &'static str,
    channel_key: &'static str,
}

impl Gateway {
    /// Starts from the ledger file, if there is one.
    pub fn new(options: SandboxOptions) -> io::Result<Self> {
        let mut ledger = Ledger::default();
        let journal = match &options.ledger_file {
            Some(path) => Journal::open(path, &mut ledger)?,
            None => Journal::default(),
        };
        let mut gateway = Self {
            clock: options.clock,
            accounts: options.accounts,
            plan: options.faults,
            ledger,
            journal,
            prefixes: options.prefixes,
            sandbox: options.sandbox,
            records: options.records,
            tokens: Tokens::default(),
            asked: HashMap::new(),
            late: BTreeMap::new(),
        };
        gateway.resume();
        if options.webhook_file.is_some() {
            // what the file holds was told by whoever wrote it
            gateway.now();
            gateway.ledger.tell();
        }
        Ok(gateway)
    }

    /// Counts the charges of the ledger file, and takes up those that were to be processed later.
    fn resume(&mut self) {
        let posts = std::mem::take(&mut self.ledger.posts);
        for post in posts.iter().filter(|post| post.endpoint == Endpoint::Again) {
            let id = post.merchant_uid.as_deref().unwrap_or_default();
            self.asked.insert(counter(Endpoint::Again, id), post.nth);
            if let (None, Some(imp_key), Some(due)) = (&post.processed, &post.imp_key, due(&post.faults, post.received_at)) {
                let scope = self.ledger.scope_of(imp_key, post.tier.as_deref());
                let fields = Fields::read(post.body.as_bytes(), post.form);
                let late = Late { scope, fields, invisible: invisible(&post.faults) };
                self.late.insert((due, post.sequence), late);
            }
        }
        self.ledger.posts = posts;
    }

    /// What time it is, after everything that was due by then has happened.
    pub fn now(&mut self) -> Timestamp {
        let now = self.clock.now();
        while let Some(entry) = self.late.first_entry()
            && entry.key().0 <= now
        {
            let ((at, post), late) = entry.remove_entry();
            let charge = Charge { scope: late.scope, post, now: at, visible_from: after(at, late.invisible), looked: false };
            let answer = self.charge(charge, &late.fields);
            self.finish(post, at, &answer);
        }
        self.ledger.reveal(now);
        now
    }

    pub fn snapshot(&mut self) -> LedgerSnapshot {
        self.now();
        self.ledger.snapshot()
    }

    /// Takes a request in: a POST is in the ledger from here on, whatever becomes of it.
    pub fn receive(&mut self, call: Call) -> Received {
        let now = self.now();
        let ids = call.ids.join(",");
        let nth = self.asked.entry(counter(call.endpoint, &ids)).or_default();
        *nth = nth.saturating_add(1);
        let nth = *nth;
        let faults = self.plan.choose(&Asked { endpoint: call.endpoint, ids: &call.ids, nth });
        let scope = self.scope(&call, now);
        let post = if call.endpoint.is_post() {
            let scope = scope.map(|scope| self.ledger.scope(scope).imp_key.clone());
            Some(self.record(&call, scope, nth, faults.clone(), now))
        } else {
            *self.ledger.lookups.entry(call.endpoint).or_default() += 1;
            None
        };
        let check_then_act_millis = self.plan.check_then_act_millis.filter(|_| call.endpoint == Endpoint::Again);
        Received { call, faults, post, scope, check_then_act_millis, looked: false }
    }

    fn record(&mut self, call: &Call, imp_key: Option<String>, nth: u32, faults: Vec<Fault>, now: Timestamp) -> u64 {
        let text = |name: &str| call.fields.text(name).ok().flatten();
        let money = call.fields.number("amount").ok().flatten();
        let currency = text("currency").unwrap_or_else(|| "KRW".to_owned());
        let known: Option<Currency> = currency.parse().ok();
        let amount = money.zip(known).and_then(|(digits, known)| Money::parse(&digits, known).ok());
        let secret = matches!(call.endpoint, Endpoint::GetToken | Endpoint::SaveCustomer);
        let body = if secret { &[][..] } else { &call.body };
        let post = PostRecord {
            sequence: self.ledger.posts.len() as u64,
            endpoint: call.endpoint,
            imp_key,
            tier: call.tier.clone(),
            merchant_uid: text("merchant_uid"),
            customer_uid: if call.endpoint == Endpoint::SaveCustomer { Some(call.id().to_owned()) } else { text("customer_uid") },
            amount_minor: amount.map(|amount| amount.minor()),
            currency: amount.map(|_| currency),
            body_sha256: if secret { String::new() } else { hex(&Sha256::digest(body)) },
            body: String::from_utf8_lossy(body).into_owned(),
            form: call.form,
            received_at: now,
            nth,
            faults,
            processed: None,
        };
        let sequence = post.sequence;
        self.journal.add(&Entry::Post(Cow::Borrowed(&post)));
        self.journal.write();
        self.ledger.posts.push(post);
        sequence
    }

    /// Whose data this token and `Tier` header reach. A tier that the account does not have reaches nothing.
    fn scope(&mut self, call: &Call, now: Timestamp) -> Option<usize> {
        let imp_key = self.tokens.account(call.token.as_deref()?, now.as_second())?;
        let account = self.accounts.iter().find(|account| account.imp_key == imp_key)?;
        if let Some(tier) = &call.tier
            && !account.tiers.contains(tier)
        {
            return None;
        }
        Some(self.ledger.scope_of(imp_key, call.tier.as_deref()))
    }

    /// The scope of a registered account, for registrations that do not come through PortOne's own call.
    pub fn scope_by_key(&mut self, imp_key: Option<&str>, tier: Option<&str>) -> Option<usize> {
        let mut accounts = self.accounts.iter();
        let account = accounts.find(|account| imp_key.is_none_or(|imp_key| account.imp_key == imp_key))?;
        Some(self.ledger.scope_of(&account.imp_key, tier))
    }

    /// Looks for duplicates ahead of the charge; answers at once where there is one.
    pub fn look(&mut self, received: &mut Received) {
        if let Some(scope) = received.scope {
            self.now();
            received.looked = self.is_free(scope, received.call.id());
        }
    }

    /// Does what was asked, now.
    pub fn process(&mut self, received: &Received) -> Answer {
        let now = self.now();
        let answer = match (received.call.endpoint, received.scope) {
            (Endpoint::GetToken, _) => self.token(&received.call, now),
            (_, None) => Answer::unauthorized(),
            (_, Some(scope)) => self.authorized(received, scope, now),
        };
        if let Some(post) = received.post {
            self.finish(post, now, &answer);
        }
        self.journal.write();
        answer
    }

    fn authorized(&mut self, received: &Received, scope: usize, now: Timestamp) -> Answer {
        let call = &received.call;
        match call.endpoint {
            Endpoint::GetToken => self.token(call, now),
            Endpoint::Pg => Answer::of(&[PgView {
                pg_provider: PG_PROVIDER,
                pg_id: PG_ID,
                sandbox: self.sandbox,
                r#type: "payment",
                channel_name: "rebilld sandbox",
                channel_key: "channel-key-00000000-0000-0000-0000-000000000000",
            }]),
            Endpoint::Again => {
                let visible_from = after(now, invisible(&received.faults));
                let post = received.post.unwrap_or_default();
                self.charge(Charge { scope, post, now, visible_from, looked: received.looked }, &call.fields)
            }
            Endpoint::Cancel => self.cancel(scope, &call.fields, now),
            Endpoint::Customers => self.get_customers(scope, call, now),
            Endpoint::Customer => self.get_customer(scope, call, now),
            Endpoint::SaveCustomer => self.save_customer(scope, call, now),
            Endpoint::DeleteCustomer => self.delete_customer(scope, call, now),
            Endpoint::CustomerPayments => self.customer_payments(scope, call, now),
            Endpoint::CustomerSchedules => self.customer_schedules(scope, call),
            Endpoint::Schedule => self.schedule(scope, call, now),
            Endpoint::Unschedule => self.unschedule(scope, call, now),
            Endpoint::Payments => self.get_payments(scope, call),
            Endpoint::Payment => self.get_payment(scope, call),
            Endpoint::Find => self.find(scope, call),
            Endpoint::FindAll => self.find_all(scope, call),
            Endpoint::List => self.list(scope, call, now),
        }
    }

    /// Puts a charge off until the clock has moved; `false` if its faults do not say so.
    pub fn put_off(&mut self, received: &mut Received) -> bool {
        let (Some(post), Some(scope), Endpoint::Again) = (received.post, received.scope, received.call.endpoint) else {
            return false;
        };
        let now = self.now();
        let Some(due) = due(&received.faults, now) else { return false };
        let fields = std::mem::take(&mut received.call.fields);
        self.late.insert((due, post), Late { scope, fields, invisible: invisible(&received.faults) });
        true
    }

    fn finish(&mut self, post: u64, at: Timestamp, answer: &Answer) {
        let end = Processed {
            at,
            http_status: answer.http_status,
            code: answer.code,
            message: answer.message.clone(),
            imp_uid: answer.imp_uid.clone(),
        };
        self.journal.add(&Entry::Processed { post, end: Cow::Borrowed(&end) });
        self.journal.write();
        if let Some(post) = usize::try_from(post).ok().and_then(|post| self.ledger.posts.get_mut(post)) {
            post.processed = Some(end);
        }
    }

    fn token(&mut self, call: &Call, now: Timestamp) -> Answer {
        let given = |name: &str| call.fields.text(name).ok().flatten();
        let (key, secret) = (given("imp_key"), given("imp_secret"));
        let fits = |account: &&SandboxAccount| {
            key.as_deref() == Some(account.imp_key.as_str()) && secret.as_deref() == Some(account.imp_secret.as_str())
        };
        let Some(account) = self.accounts.iter().find(fits) else { return Answer::unauthorized() };
        let token = self.tokens.issue(&account.imp_key, now.as_second());
        Answer::of(&TokenView { access_token: &token.text, now: now.as_second(), expired_at: token.expired_at })
    }
}

fn counter(endpoint: Endpoint, ids: &str) -> [u64; 2] {
    let [a, b, ..] = draw(0, endpoint.name(), ids, 0);
    [a, b]
}

/// When a charge that comes late is processed.
fn due(faults: &[Fault], received_at: Timestamp) -> Option<Timestamp> {
    faults.iter().find_map(|fault| match fault {
        Fault::Late { seconds } => Some(after(received_at, span(*seconds))),
        _ => None,
    })
}

/// How long look-ups do not show what comes of a charge.
fn invisible(faults: &[Fault]) -> SignedDuration {
    let seconds = faults.iter().map(|fault| if let Fault::Invisible { seconds } = fault { *seconds } else { 0 }).max();
    span(seconds.unwrap_or(0))
}

fn span(seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn after(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
