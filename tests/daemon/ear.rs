//! Somebody who hears alarms and heartbeats: a real HTTP server on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::processes::until;
use crate::rig::SOON;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Heard {
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Heard {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

struct Shared {
    heard: Mutex<Vec<Heard>>,
    status: AtomicU16,
    /// It takes requests and never answers.
    silent: AtomicBool,
    /// A request with this in its body gets this status.
    refused: Mutex<Option<(&'static str, u16)>>,
}

pub struct Ear {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Ear {
    pub fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            heard: Mutex::default(),
            status: AtomicU16::new(200),
            silent: AtomicBool::new(false),
            refused: Mutex::default(),
        });
        let ours = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().flatten() {
                kept.extend(answer(stream, &ours));
            }
        });
        Self { address, shared }
    }

    /// Its path and query are secrets.
    pub fn url(&self) -> String {
        format!("http://{}/hunter2?key=hunter2", self.address)
    }

    pub fn answers(&self, status: u16) {
        self.shared.status.store(status, Ordering::Release);
    }

    /// From now on what has this in its body is refused.
    pub fn refuses(&self, words: &'static str, status: u16) {
        *self.shared.refused.lock().expect("nobody panicked") = Some((words, status));
    }

    pub fn falls_silent(&self) {
        self.shared.silent.store(true, Ordering::Release);
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().expect("nobody panicked").clone()
    }

    pub fn alarms(&self) -> Vec<Value> {
        self.heard().iter().map(Heard::json).collect()
    }

    /// What was said of a kind, in order.
    pub fn turns(&self, kind: &str) -> Vec<String> {
        let of_kind = self.alarms().into_iter().filter(|alarm| alarm["kind"] == kind);
        of_kind.map(|alarm| alarm["turn"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The last word of a kind.
    pub fn last(&self, kind: &str) -> Value {
        self.alarms().into_iter().rev().find(|alarm| alarm["kind"] == kind).unwrap_or_default()
    }

    pub async fn until_heard(&self, kind: &str, turns: &[&str]) {
        let what = format!("{kind} is {turns:?}");
        let found = crate::processes::within(SOON, async || (self.turns(kind) == turns).then_some(())).await;
        assert!(found.is_some(), "not heard: {what}, but {:#?}", self.alarms());
    }

    pub async fn until_more(&self, than: usize) {
        until("it hears more", SOON, async || (self.heard().len() > than).then_some(())).await;
    }
}

/// Reads one request. A stream that is not to be answered is given back, so that it stays open.
fn answer(mut stream: TcpStream, shared: &Shared) -> Option<TcpStream> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut line, mut headers) = (String::new(), Vec::new());
    reader.read_line(&mut line).ok()?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let heard = Heard { line: line.trim_end().to_owned(), headers, body: String::from_utf8_lossy(&body).into_owned() };
    let refused = *shared.refused.lock().expect("nobody panicked");
    let refused = refused.filter(|(words, _)| heard.body.contains(words)).map(|(_, status)| status);
    shared.heard.lock().expect("nobody panicked").push(heard);
    if shared.silent.load(Ordering::Acquire) {
        return Some(stream);
    }
    let status = refused.unwrap_or_else(|| shared.status.load(Ordering::Acquire));
    let _ = stream.write_all(format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").as_bytes());
    None
}
