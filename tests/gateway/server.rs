//! An HTTP server made of raw sockets, which counts every POST and misbehaves at any byte of a conversation.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A complete request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// Bytes of head and body.
    pub length: usize,
    /// Which connection it came on, and as which request of it; both from 1.
    pub connection: usize,
    pub nth: usize,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// What the server does with a complete request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Sends this and keeps the connection.
    Reply(Vec<u8>),
    /// Sends this and ends the connection, by a reset or in good order; after giving way so many times.
    Part { bytes: Vec<u8>, reset: bool, pause: usize },
    /// Sends this, then nothing, and keeps the connection open.
    Stall(Vec<u8>),
}

/// A fault that strikes the next request before it is complete: so many bytes are read, then the connection ends.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    pub after: usize,
    pub reset: bool,
}

type Script = Box<dyn Fn(&Seen) -> Act + Send + Sync>;

struct Shared {
    script: Script,
    cut: Mutex<Option<Cut>>,
    /// Requests of which at least one byte arrived.
    begun: AtomicUsize,
    connections: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
}

pub struct Server {
    pub url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

impl Server {
    /// Answers tokens by itself, and everything else as `script` says.
    pub async fn portone(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        Self::start(move |seen| match seen.path.ends_with("/users/getToken") {
            true => Act::Reply(ok(&token("token-1", 1800))),
            false => script(seen),
        })
        .await
    }

    pub async fn start(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared {
            script: Box::new(script),
            cut: Mutex::default(),
            begun: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        let task = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
                    tokio::spawn(serve(stream, shared.clone(), number));
                }
            }
        });
        Self { url, shared, task }
    }

    /// The next request meets this fault.
    pub fn cut_next(&self, cut: Cut) {
        *lock(&self.shared.cut) = Some(cut);
    }

    /// Requests of which at least one byte arrived.
    pub fn begun(&self) -> usize {
        self.shared.begun.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Complete requests, in order.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    pub fn count(&self, path: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.starts_with(path)).count()
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>, connection: usize) {
    let mut buffer = Vec::new();
    for nth in 1.. {
        let Some(mut seen) = request(&mut stream, &mut buffer, &shared).await else { return };
        (seen.connection, seen.nth) = (connection, nth);
        lock(&shared.seen).push(seen.clone());
        match (shared.script)(&seen) {
            Act::Reply(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::Part { bytes, reset, pause } => {
                let _ = stream.write_all(&bytes).await;
                for _ in 0..pause {
                    tokio::task::yield_now().await;
                }
                return end(stream, reset);
            }
            Act::Stall(bytes) => {
                let _ = stream.write_all(&bytes).await;
                // until the client goes
                let _ = stream.read(&mut [0; 64]).await;
                return;
            }
        }
    }
}

fn end(stream: TcpStream, reset: bool) {
    if reset {
        let _ = stream.set_zero_linger();
    }
}

/// Reads one request; `None` if the client went, or a cut struck.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>, shared: &Shared) -> Option<Seen> {
    if buffer.is_empty() && stream.peek(&mut [0]).await.ok()? == 0 {
        return None;
    }
    shared.begun.fetch_add(1, Ordering::SeqCst);
    let cut = lock(&shared.cut).take();
    if let Some(cut) = cut {
        return struck(stream, buffer, cut).await;
    }
    loop {
        if let Some(seen) = complete(buffer) {
            buffer.drain(..seen.length);
            return Some(seen);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn struck(stream: &mut TcpStream, buffer: &[u8], cut: Cut) -> Option<Seen> {
    let mut left = vec![0; cut.after.saturating_sub(buffer.len())];
    stream.read_exact(&mut left).await.ok()?;
    if cut.reset {
        stream.set_zero_linger().ok()?;
    }
    None
}

fn complete(buffer: &[u8]) -> Option<Seen> {
    let head_length = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&buffer[..head_length]).ok()?;
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let body_length = headers.get("content-length").map_or(Some(0), |length| length.parse().ok())?;
    let length = head_length + body_length;
    let body = String::from_utf8_lossy(buffer.get(head_length..length)?).into_owned();
    Some(Seen { method, path, headers, body, length, connection: 0, nth: 0 })
}

/// A response with a JSON body.
pub fn ok(body: &Value) -> Vec<u8> {
    respond(200, "application/json", body.to_string().as_bytes())
}

pub fn respond(status: u16, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub fn envelope(response: Value) -> Value {
    json!({ "code": 0, "message": null, "response": response })
}

pub fn refusal(code: i64, message: &str) -> Value {
    json!({ "code": code, "message": message, "response": null })
}

pub fn token(text: &str, lifetime: i64) -> Value {
    let now = 1_790_000_000;
    envelope(json!({ "access_token": text, "now": now, "expired_at": now + lifetime }))
}

/// A payment as PortOne shows it.
pub fn payment(merchant_uid: &str, status: &str) -> Value {
    json!({
        "imp_uid": format!("imps_{merchant_uid}"),
        "merchant_uid": merchant_uid,
        "pay_method": "card",
        "channel": "api",
        "pg_provider": "html5_inicis",
        "pg_tid": "tid-1",
        "pg_id": "INIBillTst",
        "sandbox": true,
        "apply_num": "00000000",
        "card_name": "신한카드",
        "card_number": "433012******1234",
        "name": "Pro plan",
        "amount": 9900,
        "cancel_amount": 0,
        "currency": "KRW",
        "buyer_name": "홍길동",
        "buyer_email": "hong@example.com",
        "buyer_tel": "010-1234-5678",
        "custom_data": null,
        "status": status,
        "started_at": 1_790_000_000,
        "paid_at": if status == "paid" { 1_790_000_003 } else { 0 },
        "failed_at": if status == "failed" { 1_790_000_003 } else { 0 },
        "cancelled_at": 0,
        "fail_reason": if status == "failed" { json!("[1254][실시간빌링실패|잔액부족]") } else { Value::Null },
        "cancel_history": [],
        "customer_uid": "cus-0001",
        "customer_uid_usage": "payment",
    })
}
