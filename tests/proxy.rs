//! The fault proxy of the campaigns does what it says, over real HTTP: what the gateway heard and what the client got are counted apart.

#[path = "support/proxy.rs"]
mod proxy;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proxy::{Fault, Mix, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CHARGE: &str = "POST /subscribe/payments/again HTTP/1.1\r\nhost: gateway\r\ncontent-length: 5\r\n\r\nhello";
const TOKEN: &str = "POST /users/getToken HTTP/1.1\r\nhost: gateway\r\ncontent-length: 2\r\n\r\n{}";
const LOOK_UP: &str = "GET /payments?merchant_uid[]=a HTTP/1.1\r\nhost: gateway\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz";
const IN_CHUNKS: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\na;x=y\r\n0123456789\r\n0\r\n\r\n";
/// On a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(30);
/// Nothing comes: looked for so long.
const A_WHILE: Duration = Duration::from_millis(300);

/// A server that answers each whole request with the same bytes, and counts what it heard.
struct Server {
    address: SocketAddr,
    heard: Arc<AtomicUsize>,
}

impl Server {
    async fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut buffer = String::new();
                    let mut bytes = [0; 1024];
                    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                        buffer += std::str::from_utf8(&bytes[..read]).unwrap();
                        for whole in [CHARGE, TOKEN, LOOK_UP] {
                            if let Some(rest) = buffer.strip_prefix(whole) {
                                buffer = rest.to_owned();
                                count.fetch_add(1, Ordering::SeqCst);
                                let _ = stream.write_all(answer.as_bytes()).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, heard }
    }

    fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }
}

/// What a client gets for one request: the bytes, and how its connection ended.
async fn got(proxy: &Proxy, request: &str) -> (String, std::io::Result<usize>) {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection ends");
    (String::from_utf8(answer).unwrap(), end)
}

fn is_reset(end: &std::io::Result<usize>) -> bool {
    end.as_ref().is_err_and(|why| why.kind() == std::io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn a_reset_before_it_is_sent_on_is_never_heard_of() {
    let server = Server::answering(ANSWER).await;
    let proxy = Proxy::before(server.address, 1, Mix::only(Fault::ResetBefore)).await;
    let (answer, end) = got(&proxy, CHARGE).await;
    assert!(answer.is_empty() && is_reset(&end), "{answer:?} {end:?}");
    assert_eq!(server.heard(), 0);
    assert_eq!(proxy.told().faults[&Fault::ResetBefore], 1);
}

#[tokio::test]
async fn a_reset_after_the_gateway_has_processed_loses_the_answer_alone() {
    let server = Server::answering(ANSWER).await;
    let proxy = Proxy::before(server.address, 1, Mix::only(Fault::ResetAfter)).await;
    let (answer, end) = got(&proxy, CHARGE).await;
    assert!(answer.is_empty() && is_reset(&end), "{answer:?} {end:?}");
    assert_eq!(server.heard(), 1);
    assert_eq!(proxy.told().faults[&Fault::ResetAfter], 1);
}

#[tokio::test]
async fn half_an_answer_is_half_of_its_bytes_and_an_orderly_end() {
    let server = Server::answering(ANSWER).await;
    let proxy = Proxy::before(server.address, 1, Mix::only(Fault::HalfAnswer)).await;
    let (answer, end) = got(&proxy, CHARGE).await;
    assert_eq!((answer.as_str(), end.unwrap()), (&ANSWER[..ANSWER.len() / 2], ANSWER.len() / 2));
    assert_eq!(server.heard(), 1);
}

#[tokio::test]
async fn slow_bytes_are_the_whole_answer_and_the_connection_goes_on() {
    let server = Server::answering(ANSWER).await;
    let proxy = Proxy::before(server.address, 1, Mix::only(Fault::SlowBytes)).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(CHARGE.as_bytes()).await.unwrap();
        let mut answer = vec![0; ANSWER.len()];
        tokio::time::timeout(SOON, stream.read_exact(&mut answer)).await.expect("it comes").unwrap();
        assert_eq!(answer, ANSWER.as_bytes());
    }
    assert_eq!((server.heard(), proxy.told().faults[&Fault::SlowBytes]), (2, 2));
}

#[tokio::test]
async fn what_hangs_stays_open_until_it_is_let_go() {
    for (fault, heard) in [(Fault::Hang, 1), (Fault::NeverAnswered, 0)] {
        let server = Server::answering(ANSWER).await;
        let proxy = Proxy::before(server.address, 1, Mix::only(fault)).await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(LOOK_UP.as_bytes()).await.unwrap();
        let mut answer = [0; 1];
        assert!(tokio::time::timeout(A_WHILE, stream.read(&mut answer)).await.is_err(), "{fault:?}: nothing comes");
        assert_eq!(server.heard(), heard, "{fault:?}");
        proxy.let_go();
        let end = tokio::time::timeout(SOON, stream.read(&mut answer)).await.expect("it ends");
        assert!(is_reset(&end), "{fault:?}: {end:?}");
    }
}

#[tokio::test]
async fn what_is_neither_a_charge_nor_a_look_up_is_carried_as_it_is() {
    for answer in [ANSWER, IN_CHUNKS] {
        let server = Server::answering(answer).await;
        let proxy = Proxy::before(server.address, 1, Mix::only(Fault::ResetBefore)).await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        // two at once on one connection: where a message ends is known
        stream.write_all([TOKEN, TOKEN].concat().as_bytes()).await.unwrap();
        let mut both = vec![0; 2 * answer.len()];
        tokio::time::timeout(SOON, stream.read_exact(&mut both)).await.expect("they come").unwrap();
        assert_eq!(String::from_utf8(both).unwrap(), answer.repeat(2));
        assert_eq!((server.heard(), proxy.requests()), (2, 2));
        assert!(proxy.told().faults.is_empty());
    }
}

#[tokio::test]
async fn calm_carries_everything() {
    let server = Server::answering(ANSWER).await;
    let proxy = Proxy::before(server.address, 1, Mix::only(Fault::ResetAfter)).await;
    proxy.calm();
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(CHARGE.as_bytes()).await.unwrap();
    let mut answer = vec![0; ANSWER.len()];
    tokio::time::timeout(SOON, stream.read_exact(&mut answer)).await.expect("it comes").unwrap();
    assert!(proxy.told().faults.is_empty());
}

#[tokio::test]
async fn the_same_seed_spoils_the_same_requests() {
    let mut told = Vec::new();
    for seed in [7, 7, 8] {
        let server = Server::answering(ANSWER).await;
        let proxy = Proxy::before(server.address, seed, Mix::of_a_bad_wire()).await;
        let mut spoilt = Vec::new();
        for _ in 0..300 {
            let before = proxy.told().faults;
            let mut stream = TcpStream::connect(proxy.address).await.unwrap();
            stream.write_all(CHARGE.as_bytes()).await.unwrap();
            let mut answer = vec![0; ANSWER.len()];
            // a hang is one that nothing comes of, and it is counted before
            let read = stream.read_exact(&mut answer);
            tokio::select! {
                _ = read => {}
                () = async { while proxy.told().faults == before { tokio::time::sleep(Duration::from_millis(1)).await } } => {}
            }
            spoilt.push(proxy.told().faults != before);
        }
        assert!(proxy.told().faults.len() >= 4, "{}", proxy.told());
        told.push((spoilt, proxy.told()));
    }
    assert_eq!(told[0], told[1]);
    assert_ne!(told[0], told[2]);
}
