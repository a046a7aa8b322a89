//! Asks a daemon's own listener, for `rebilld healthcheck`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// From the connection to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Health is a line or a few.
const MOST: u64 = 64 * 1024;

/// The status and the body of `GET path`.
///
/// # Errors
/// Nothing listens there, or it does not answer as HTTP within 8 s.
pub async fn get(listen: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let address = from_here(listen);
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MOST).read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
}

/// All addresses of this machine are reached by its loopback.
fn from_here(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_loopback() {
        for (listen, asked) in [("0.0.0.0:9610", "127.0.0.1:9610"), ("[::]:9610", "[::1]:9610"), ("10.0.0.7:80", "10.0.0.7:80")] {
            assert_eq!(from_here(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
