//! A webhook receiver as an operator's own system would have it: it verifies the signature and remembers each event once.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::courier::verify;
use crate::ports::clock::Clock;
use crate::ports::secret::Secret;

/// What has come in.
#[derive(Debug, Default, Clone)]
pub struct Received {
    /// Ids of all events that were accepted.
    pub ids: HashSet<String>,
    /// How many of each type.
    pub kinds: BTreeMap<String, u64>,
    /// Deliveries of events that had been accepted before.
    pub repeats: u64,
    /// Deliveries whose signature was wrong.
    pub forged: u64,
}

struct Shared {
    secret: Secret,
    clock: Arc<dyn Clock>,
    received: Mutex<Received>,
}

/// A running receiver; it ends when this is dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Listens on loopback for events signed with `secret`.
    pub async fn start(secret: Secret, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { secret, clock, received: Mutex::default() });
        let router = Router::new().route("/", post(accept)).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // it serves until it is aborted
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, task })
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn received(&self) -> Received {
        self.shared.received.lock().unwrap_or_else(|broken| broken.into_inner()).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, timestamp, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    let genuine = verify(&shared.secret, id, timestamp, &body, signature, shared.clock.now());
    let mut received = shared.received.lock().unwrap_or_else(|broken| broken.into_inner());
    if !genuine {
        received.forged += 1;
        return StatusCode::UNAUTHORIZED;
    }
    if !received.ids.insert(id.to_owned()) {
        received.repeats += 1;
        return StatusCode::OK;
    }
    let kind = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|event| event["type"].as_str().map(str::to_owned))
        .unwrap_or_else(|| "?".to_owned());
    *received.kinds.entry(kind).or_default() += 1;
    StatusCode::OK
}
