//! Webhooks of the sandbox, as PortOne sends them: unsigned, once, for what was paid and never for a decline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::Shared;

/// How often the sandbox looks for payments that have become visible, in real time.
const EVERY: Duration = Duration::from_millis(50);
/// How long a receiver may take to answer; PortOne waits 30 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// A payment to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub imp_uid: String,
    pub merchant_uid: String,
}

/// Sends one for each payment that becomes visible, until the task is dropped. The URL is read from the file each time; while there is
/// no such file, nothing is sent.
pub(super) async fn run(shared: Arc<Shared>, file: Arc<Path>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let told = {
            let mut gateway = shared.lock();
            gateway.now();
            gateway.ledger.take_told()
        };
        for told in told {
            let file = Arc::clone(&file);
            tokio::spawn(async move {
                let sent = tokio::time::timeout(PATIENCE, send(&file, &told)).await;
                // sent once, as PortOne does; the address is not told, because it holds a secret
                match sent {
                    Ok(Ok(200)) => {}
                    Ok(Ok(status)) => tracing::warn!(imp_uid = %told.imp_uid, status, "a webhook was not taken"),
                    Ok(Err(why)) => tracing::warn!(imp_uid = %told.imp_uid, %why, "a webhook could not be sent"),
                    Err(_) => tracing::warn!(imp_uid = %told.imp_uid, "a webhook was not answered in time"),
                }
            });
        }
    }
}

/// Returns the status of the answer.
async fn send(file: &Path, told: &Told) -> io::Result<u16> {
    let url = match tokio::fs::read_to_string(file).await {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(200),
        read => read?,
    };
    let (address, path) = target(url.trim())?;
    let body = json!({ "imp_uid": told.imp_uid, "merchant_uid": told.merchant_uid, "status": "paid" }).to_string();
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await?;
    let status = String::from_utf8_lossy(&answer);
    let status = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"))
}

/// Of `http://127.0.0.1:9610/path`: a sandbox reaches no other machine.
fn target(url: &str) -> io::Result<(SocketAddr, &str)> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "the file has to hold http://ADDRESS:PORT/… of this machine");
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let (place, path) = rest.split_at(rest.find('/').ok_or_else(wrong)?);
    let place = place.replace("localhost", "127.0.0.1");
    let address: SocketAddr = match place.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, 80),
        Err(_) => place.parse().map_err(|_| wrong())?,
    };
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    if address.ip().is_loopback() && plain { Ok((address, path)) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_told() {
        let (address, path) = target("http://localhost:9610/webhooks/portone/main/abc").unwrap();
        assert_eq!((address.to_string().as_str(), path), ("127.0.0.1:9610", "/webhooks/portone/main/abc"));
        assert!(target("http://[::1]:80/x").is_ok());
        for wrong in
            ["https://127.0.0.1/x", "http://10.0.0.1/x", "http://127.0.0.1:80", "http://example.com/x", "http://127.0.0.1/a b"]
        {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }
}
