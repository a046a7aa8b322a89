//! The daemon's own listener. A stranger who reaches it gets bounded time, bounded memory and a bounded number of connections,
//! and cannot keep anybody else from an answer: the oldest connection makes room for the newest, and one whose whole request is here
//! only where there is no other.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tracing::warn;

/// Connections at the same time.
const CONNECTIONS: usize = 128;
/// From the first byte of a request to the end of its head; also how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(10);
/// From the head of a request to its answer, the body included.
const ANSWER: Duration = Duration::from_secs(15);
/// A connection is used for no longer than this; what is under way then is answered first.
const LIFE: Duration = Duration::from_secs(120);
/// The largest head of a request, and what is buffered of its body at a time.
const HEAD_BYTES: usize = 16 * 1024;
/// The largest body of a request, unless its route says otherwise.
const BODY_BYTES: usize = 64 * 1024;
/// After a connection could not be accepted: the machine is out of something.
const PAUSE: Duration = Duration::from_secs(1);

/// A socket that listens, before anything is answered on it.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// Answers until it is dropped.
#[derive(Debug)]
pub struct Serving {
    router: Arc<RwLock<Router>>,
    task: JoinHandle<()>,
}

impl Listener {
    /// # Errors
    /// The address is in use, not this machine's, or not for this user.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Where it listens: the port that was taken, if any would do.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to answer.
    pub fn serve(self, router: Router) -> Serving {
        let router = Arc::new(RwLock::new(router.layer(DefaultBodyLimit::max(BODY_BYTES))));
        let task = tokio::spawn(accept(self.socket, Arc::clone(&router)));
        Serving { router, task }
    }
}

impl Serving {
    /// More routes, from the next request on. A route that is there already panics: two parts of the program would answer it.
    pub fn add(&self, routes: Router) {
        let mut router = self.router.write().unwrap_or_else(PoisonError::into_inner);
        *router = std::mem::take(&mut *router).merge(routes.layer(DefaultBodyLimit::max(BODY_BYTES)));
    }
}

impl Serving {
    /// Waits until nothing is answered any more, which does not happen by itself.
    pub async fn ended(&mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // its connections are its own, and end with it
        self.task.abort();
    }
}

/// A connection.
struct Open {
    task: AbortHandle,
    /// A whole request has come, and its answer is being made.
    asked: Arc<AtomicBool>,
}

async fn accept(socket: TcpListener, router: Arc<RwLock<Router>>) {
    let mut tasks = JoinSet::new();
    let mut connections: BTreeMap<u64, Open> = BTreeMap::new();
    let mut number: u64 = 0;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Ok(number) = ended {
                    connections.remove(&number);
                }
                continue;
            }
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(why) if why.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(why) => {
                warn!(%why, "a connection could not be accepted: health and metrics wait a moment");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while connections.len() >= CONNECTIONS {
            // an honest request has come long before it is the oldest; its answer may take as long as the database does
            let waits = |(number, open): (&u64, &Open)| (!open.asked.load(Ordering::Acquire)).then_some(*number);
            let oldest = connections.iter().find_map(waits).or_else(|| connections.keys().next().copied());
            if let Some(open) = oldest.and_then(|number| connections.remove(&number)) {
                open.task.abort();
            }
        }
        number += 1;
        let (this, router, asked) = (number, Arc::clone(&router), Arc::<AtomicBool>::default());
        let ours = Arc::clone(&asked);
        let task = tasks.spawn(async move {
            converse(stream, router, ours).await;
            this
        });
        connections.insert(number, Open { task, asked });
    }
}

/// One connection to its end, which is never a failure of ours.
async fn converse(stream: TcpStream, router: Arc<RwLock<Router>>, asked: Arc<AtomicBool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.read().unwrap_or_else(PoisonError::into_inner).clone();
        let asked = Arc::clone(&asked);
        async move {
            // a body that is still to come may never come
            asked.store(request.body().is_end_stream(), Ordering::Release);
            let answer = TowerToHyperService::new(router).call(request);
            let answer = tokio::time::timeout(ANSWER, answer).await.unwrap_or_else(|_| Ok(too_slow()));
            asked.store(false, Ordering::Release);
            answer
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(LIFE) => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(ANSWER, connection).await;
}

fn too_slow() -> Response<Body> {
    let mut response = Response::new(Body::from("this took too long\n"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}
