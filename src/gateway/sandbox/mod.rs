//! The sandbox gateway: PortOne V1 on a socket, with a ledger and with faults.
//!
//! It answers as the OpenAPI file says, from a ledger that only grows, and it is never told what the daemon believes: the
//! ledger is the truth that the daemon's database is compared with. Time comes from the clock that it is given, so it works
//! the same when that clock is simulated; the delays among the faults are the only thing that takes real time.
//!
//! What PortOne does not document is answered in the way that is harder for the daemon: a merchant_uid with only failed or
//! `ready` records is accepted again, and a card that is not registered is refused before a duplicate is.
//!
//! With [`SandboxOptions::webhook_file`] it also sends webhooks, as PortOne does: unsigned, once, and for nothing that failed.
//!
//! `/_sandbox/ledger`, `/_sandbox/faults` and `/_sandbox/customers` are the sandbox's own calls and need no token: it belongs
//! on loopback.

mod call;
mod cards;
mod charge;
mod connection;
mod customers;
mod faults;
mod gateway;
mod journal;
mod ledger;
mod lookup;
mod mix;
mod schedules;
mod server;
mod tokens;
mod webhooks;
mod wire;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use call::Endpoint;
pub use cards::{CardBehaviour, Decline};
pub use faults::{Fault, FaultPlan, Malformed, Matcher, Rates, Rule, Seeded};
pub use ledger::{Cancellation, Details, LedgerSnapshot, PaymentRecord, PaymentStatus, PostRecord, Processed};
pub use schedules::{BookingRecord, BookingStatus};

use crate::ports::clock::Clock;
use connection::Gate;
use gateway::Gateway;
use server::Shared;

/// One merchant of the sandbox.
#[derive(Clone, PartialEq, Eq)]
pub struct SandboxAccount {
    /// Public half of the key pair.
    pub imp_key: String,
    /// Secret half of the key pair.
    pub imp_secret: String,
    /// `Tier` headers that it may use, three characters each. The data of each tier is apart, as is that of no tier.
    pub tiers: Vec<String>,
}

impl SandboxAccount {
    /// An account without tiers.
    pub fn new(imp_key: impl Into<String>, imp_secret: impl Into<String>) -> Self {
        Self { imp_key: imp_key.into(), imp_secret: imp_secret.into(), tiers: Vec::new() }
    }

    /// The same account with one more tier.
    pub fn tier(mut self, tier: impl Into<String>) -> Self {
        self.tiers.push(tier.into());
        self
    }
}

impl fmt::Debug for SandboxAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxAccount").field("imp_key", &self.imp_key).field("tiers", &self.tiers).finish_non_exhaustive()
    }
}

/// Which look-ups show payments of a test channel to a caller who does not ask for `include_sandbox`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SandboxRecords {
    /// All but `GET /payments/{imp_uid}`: what is documented, and nothing beyond it.
    #[default]
    ByMerchantUid,
    /// All.
    Everywhere,
    /// None.
    Nowhere,
}

/// How a sandbox starts.
#[derive(Clone)]
pub struct SandboxOptions {
    /// The sandbox's only source of time.
    pub clock: Arc<dyn Clock>,
    /// Port 0 takes a free one; see [`Sandbox::url`].
    pub bind: SocketAddr,
    /// Who may ask for a token.
    pub accounts: Vec<SandboxAccount>,
    /// What goes wrong from the start.
    pub faults: FaultPlan,
    /// The ledger is appended to this file and read from it at the start.
    pub ledger_file: Option<PathBuf>,
    /// The first word of a customer_uid that nobody registered decides what its card does: [`CardBehaviour::of_prefix`].
    pub prefixes: bool,
    /// Payments are made on a test channel (`sandbox: true`).
    pub sandbox: bool,
    /// Which look-ups show them.
    pub records: SandboxRecords,
    /// A webhook is sent to the URL in this file (on this machine) for each payment that becomes visible. It is read each time.
    pub webhook_file: Option<PathBuf>,
}

impl SandboxOptions {
    /// Loopback, any port, one account (`sandbox-key`, `sandbox-secret`), a test channel, prefixes on, no faults, no file.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            accounts: vec![SandboxAccount::new("sandbox-key", "sandbox-secret")],
            faults: FaultPlan::none(),
            ledger_file: None,
            prefixes: true,
            sandbox: true,
            records: SandboxRecords::default(),
            webhook_file: None,
        }
    }
}

/// A sandbox that answers until it is stopped or dropped.
pub struct Sandbox {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    /// Sends webhooks; ends when it is dropped.
    _teller: JoinSet<()>,
}

impl Sandbox {
    /// Reads the ledger file, if any, and listens.
    ///
    /// # Errors
    /// The address cannot be bound, or the ledger file cannot be read, written or understood.
    pub async fn start(options: SandboxOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(options.bind).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let webhook_file = options.webhook_file.clone();
        let shared = Arc::new(Shared { gateway: Mutex::new(Gateway::new(options)?), stop: stopped });
        let server = tokio::spawn(server::run(Gate(listener), Arc::clone(&shared)));
        let mut teller = JoinSet::new();
        if let Some(file) = webhook_file {
            teller.spawn(webhooks::run(Arc::clone(&shared), file.into()));
        }
        Ok(Self { address, shared, stop, server, _teller: teller })
    }

    /// Where PortOne's paths begin, e.g. `http://127.0.0.1:41234`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Registers a card under the first account, or replaces the one of that name.
    pub fn add_customer(&self, customer_uid: &str, behaviour: CardBehaviour) {
        self.register(None, None, customer_uid, behaviour);
    }

    /// Registers a card under one account and tier. `false` if there is no such account.
    pub fn add_customer_to(&self, imp_key: &str, tier: Option<&str>, customer_uid: &str, behaviour: CardBehaviour) -> bool {
        self.register(Some(imp_key), tier, customer_uid, behaviour)
    }

    fn register(&self, imp_key: Option<&str>, tier: Option<&str>, customer_uid: &str, behaviour: CardBehaviour) -> bool {
        let mut gateway = self.shared.lock();
        let now = gateway.now();
        let Some(scope) = gateway.scope_by_key(imp_key, tier) else { return false };
        gateway.put_customer(scope, customer_uid, behaviour, now);
        gateway.journal.write();
        true
    }

    /// Everything that the gateway saw and did so far.
    pub fn ledger(&self) -> LedgerSnapshot {
        self.shared.lock().snapshot()
    }

    /// How many payments were made so far, of whatever status; cheaper than [`Sandbox::ledger`].
    pub fn count_payments(&self) -> usize {
        let mut gateway = self.shared.lock();
        gateway.now();
        gateway.ledger.count_payments()
    }

    /// Replaces the whole plan; [`FaultPlan::none`] ends all faults. What is already late or invisible stays so.
    pub fn set_faults(&self, faults: FaultPlan) {
        self.shared.lock().plan = faults;
    }

    /// Closes every connection, also those in the middle of a request, and stops listening.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(Duration::from_secs(1), &mut self.server).await.is_err() {
            // somebody holds a connection open and says nothing
            self.server.abort();
        }
    }
}

/// Runs a sandbox until `shutdown` is done; `started` is told its address first.
///
/// # Errors
/// Those of [`Sandbox::start`].
pub async fn serve(
    options: SandboxOptions,
    started: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let sandbox = Sandbox::start(options).await?;
    started(sandbox.address());
    shutdown.await;
    sandbox.stop().await;
    Ok(())
}
