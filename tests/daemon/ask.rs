//! Asks a daemon's own listener, as a probe or a scraper would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::processes::until;
use crate::rig::{Rig, SOON};

/// An answer of a daemon's.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }
}

impl Rig {
    /// From now on daemons of this home listen, at any free port.
    pub fn listens(mut self) -> Self {
        self.home.layer("http", "[http]\nlisten = \"127.0.0.1:0\"\n");
        self
    }

    /// Where the newest daemon listens.
    pub async fn address(&self) -> SocketAddr {
        let said = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            line["address"].as_str().filter(|_| line["message"] == "health and metrics are answered")?.parse().ok()
        };
        until("it says where it listens", SOON, async || self.home.log("daemon").lines().rev().find_map(said)).await
    }
}

/// `GET path`, with more lines of a head if there are any.
pub fn get_with(address: SocketAddr, path: &str, head: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: rebilld\r\nconnection: close\r\n{head}\r\n").ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    get_with(address, path, "").unwrap_or_else(|| panic!("{path} is answered"))
}

/// Until a path is answered with this status.
pub async fn until_says(address: SocketAddr, path: &str, status: u16) -> Answer {
    let answered = async || get_with(address, path, "").filter(|answer| answer.status == status);
    until(&format!("{path} says {status}"), SOON, answered).await
}
