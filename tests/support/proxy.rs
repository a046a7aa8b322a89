//! A proxy before the gateway that understands HTTP/1.1 far enough to spoil single requests: what the wire between two machines can do,
//! and no gateway can be asked to do. It knows when an answer has come back, so it can lose exactly that.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rebilld::domain::attempt::digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

// Each test file uses some of this. Naming all of it here keeps the compiler's unused-code lint on without an exception.
const _: () = {
    let _ = (
        Proxy::before,
        Proxy::url,
        Proxy::calm,
        Proxy::let_go,
        Proxy::told,
        Proxy::requests,
        Mix::of_a_bad_wire,
        Mix::only,
        Mix::of_charges,
    );
};

/// Most of a message that is read. Beyond it the connection ends, which a test notices.
const LONGEST: usize = 4 << 20;

/// What befalls one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The connection is reset before anything is sent on: the gateway never hears of it.
    ResetBefore,
    /// The gateway has processed it and answered; then the connection is reset before the first byte of the answer.
    ResetAfter,
    /// Processed; half of the answer's bytes, then the connection is closed.
    HalfAnswer,
    /// Processed; the answer comes in small pieces, with pauses. It is whole in the end.
    SlowBytes,
    /// Processed; the answer never comes, and the connection stays open until the client goes or [`Proxy::let_go`].
    Hang,
    /// The connection was accepted and the request read, and that is all that ever happens: the gateway never hears of it.
    NeverAnswered,
}

impl Fault {
    pub const ALL: [Self; 6] =
        [Self::ResetBefore, Self::ResetAfter, Self::HalfAnswer, Self::SlowBytes, Self::Hang, Self::NeverAnswered];

    fn name(self) -> &'static str {
        match self {
            Self::ResetBefore => "reset before it was sent on",
            Self::ResetAfter => "reset after it was processed",
            Self::HalfAnswer => "half an answer",
            Self::SlowBytes => "slow bytes",
            Self::Hang => "processed and never answered",
            Self::NeverAnswered => "never sent on nor answered",
        }
    }
}

/// How often a request of one kind meets which fault, of a million.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates([u32; 6]);

/// What is spoiled. Everything that is neither a charge nor a look-up of single ids is carried as it is: without a token and an audit
/// nothing would ever be sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mix {
    charges: Rates,
    look_ups: Rates,
    /// Longest pause between two pieces of a slow answer, in milliseconds.
    pause: u64,
}

impl Mix {
    /// About one charge in twelve; hardly ever a look-up, as one that cannot be reached opens the breaker.
    pub fn of_a_bad_wire() -> Self {
        Self {
            charges: Rates([15_000, 30_000, 15_000, 20_000, 3_000, 2_000]),
            look_ups: Rates([1_000, 1_000, 1_000, 5_000, 0, 0]),
            pause: 20,
        }
    }

    /// Every charge and look-up meets this one.
    pub fn only(fault: Fault) -> Self {
        let rates = Rates(Fault::ALL.map(|of| if of == fault { 1_000_000 } else { 0 }));
        Self { charges: rates, look_ups: rates, pause: 2 }
    }

    /// Every charge meets this one, and look-ups none.
    pub fn of_charges(fault: Fault) -> Self {
        Self { look_ups: Rates::default(), ..Self::only(fault) }
    }

    fn drawn(&self, request: &Request, rng: &mut ChaCha8Rng) -> Option<Fault> {
        let (drawn, mut below) = (rng.random_range(0..1_000_000), 0);
        let rates = match request.kind()? {
            Kind::Charge => self.charges,
            Kind::LookUp => self.look_ups,
        };
        Fault::ALL.into_iter().zip(rates.0).find_map(|(fault, rate)| {
            below += rate;
            (drawn < below).then_some(fault)
        })
    }
}

/// How many requests were carried, and what befell them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    pub requests: u64,
    pub faults: BTreeMap<Fault, u64>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(|(fault, count)| format!("{count} {}", fault.name())).collect();
        write!(f, "{} requests through the proxy ({})", self.requests, faults.join(", "))
    }
}

/// Stands between a client and the gateway. It ends, with all connections, when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _carrying: JoinSet<()>,
}

struct Shared {
    upstream: SocketAddr,
    seed: u64,
    mix: Mix,
    /// No faults from now on.
    calm: AtomicBool,
    /// Counted up when whatever hangs is let go.
    rounds: watch::Sender<u64>,
    requests: AtomicU64,
    faults: Mutex<BTreeMap<Fault, u64>>,
}

impl Proxy {
    /// Listens on a free port of loopback. The same seed spoils the same requests, by the order in which they come.
    pub async fn before(upstream: SocketAddr, seed: u64, mix: Mix) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            upstream,
            seed,
            mix,
            calm: AtomicBool::new(false),
            rounds: watch::Sender::new(0),
            requests: AtomicU64::new(0),
            faults: Mutex::default(),
        });
        let mut carrying = JoinSet::new();
        carrying.spawn({
            let shared = Arc::clone(&shared);
            async move {
                let mut connections = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    while connections.try_join_next().is_some() {}
                    connections.spawn(carry(client, Arc::clone(&shared)));
                }
            }
        });
        Self { address, shared, _carrying: carrying }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on everything is carried as it is, and what hangs is let go.
    pub fn calm(&self) {
        self.shared.calm.store(true, Ordering::SeqCst);
        self.let_go();
    }

    /// Resets all connections that hang.
    pub fn let_go(&self) {
        self.shared.rounds.send_modify(|rounds| *rounds += 1);
    }

    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub fn told(&self) -> Told {
        Told { requests: self.requests(), faults: self.shared.faults.lock().expect("nobody panics while counting").clone() }
    }
}

impl Shared {
    fn fault(&self, request: &Request) -> Option<(Fault, ChaCha8Rng)> {
        let nth = self.requests.fetch_add(1, Ordering::SeqCst);
        if self.calm.load(Ordering::SeqCst) {
            return None;
        }
        let mut rng = ChaCha8Rng::from_seed(digest(&["proxy/1", &self.seed.to_string(), &nth.to_string()]));
        let fault = self.mix.drawn(request, &mut rng)?;
        *self.faults.lock().expect("nobody panics while counting").entry(fault).or_default() += 1;
        Some((fault, rng))
    }
}

enum Kind {
    Charge,
    LookUp,
}

struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn kind(&self) -> Option<Kind> {
        let line = self.bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        match std::str::from_utf8(line).ok()?.split(' ').collect::<Vec<_>>()[..] {
            ["POST", "/subscribe/payments/again", _] => Some(Kind::Charge),
            ["GET", path, _] if path.starts_with("/payments?") || path.starts_with("/payments/find") => Some(Kind::LookUp),
            _ => None,
        }
    }
}

/// What came of a message's end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// There may be another one after it.
    Whole,
    /// The sender has closed, perhaps in the middle.
    Closed,
    Reset,
}

async fn carry(mut client: TcpStream, shared: Arc<Shared>) {
    let _ = client.set_nodelay(true);
    let mut gateway: Option<TcpStream> = None;
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    loop {
        let (bytes, end) = message(&mut client, &mut asked, false).await;
        if end != End::Whole {
            return;
        }
        let request = Request { bytes };
        let fault = shared.fault(&request);
        match fault {
            Some((Fault::ResetBefore, _)) => return reset(client),
            Some((Fault::NeverAnswered, _)) => return hang(client, &shared).await,
            _ => {}
        }
        let (answer, end) = match ask(&mut gateway, shared.upstream, &request.bytes, &mut answered).await {
            Ok(answer) => answer,
            // the gateway is away or has hung up: so does this wire
            Err(_) => return reset(client),
        };
        match fault {
            Some((Fault::ResetAfter, _)) => return reset(client),
            Some((Fault::Hang, _)) => return hang(client, &shared).await,
            Some((Fault::HalfAnswer, _)) => {
                let _ = client.write_all(&answer[..answer.len() / 2]).await;
                let _ = client.shutdown().await;
                return;
            }
            Some((Fault::SlowBytes, mut rng)) => {
                for piece in answer.chunks(answer.len().div_ceil(16).max(1)) {
                    if client.write_all(piece).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(rng.random_range(0..=shared.mix.pause))).await;
                }
            }
            _ => {
                if client.write_all(&answer).await.is_err() {
                    return;
                }
            }
        }
        match end {
            End::Whole => {}
            End::Closed => {
                let _ = client.shutdown().await;
                return;
            }
            End::Reset => return reset(client),
        }
    }
}

/// Closing sends RST instead of FIN.
fn reset(client: TcpStream) {
    let _ = client.set_zero_linger();
}

/// Until the client goes, or what hangs is let go.
async fn hang(mut client: TcpStream, shared: &Shared) {
    let mut rounds = shared.rounds.subscribe();
    let mut bytes = [0; 64];
    let let_go = tokio::select! {
        _ = client.read(&mut bytes) => false,
        _ = rounds.changed() => true,
    };
    if let_go {
        reset(client);
    }
}

/// Sends a request on, once, and reads what comes back.
async fn ask(
    gateway: &mut Option<TcpStream>,
    upstream: SocketAddr,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> io::Result<(Vec<u8>, End)> {
    // a connection that the gateway has closed while it idled would lose the request: that is a fault nobody has asked for
    let idle =
        gateway.take().filter(|stream| matches!(stream.try_read(&mut [0]), Err(why) if why.kind() == io::ErrorKind::WouldBlock));
    let mut stream = match idle {
        Some(stream) => stream,
        None => {
            buffer.clear();
            let stream = TcpStream::connect(upstream).await?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    stream.write_all(request).await?;
    let (answer, end) = message(&mut stream, buffer, true).await;
    if end == End::Whole {
        *gateway = Some(stream);
    }
    Ok((answer, end))
}

/// Reads one message, head and body; what comes after it stays in the buffer. An answer without a length goes on to the end of its
/// connection.
async fn message(stream: &mut TcpStream, buffer: &mut Vec<u8>, is_answer: bool) -> (Vec<u8>, End) {
    loop {
        if let Some(length) = complete(buffer, is_answer) {
            return (buffer.drain(..length).collect(), End::Whole);
        }
        if buffer.len() > LONGEST {
            return (std::mem::take(buffer), End::Reset);
        }
        match stream.read_buf(buffer).await {
            Ok(1..) => {}
            Ok(0) => return (std::mem::take(buffer), End::Closed),
            Err(_) => return (std::mem::take(buffer), End::Reset),
        }
    }
}

/// How long the first message is, if it is all there.
fn complete(buffer: &[u8], is_answer: bool) -> Option<usize> {
    let head_length = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&buffer[..head_length]).to_ascii_lowercase();
    let header = |name: &str| {
        head.lines().skip(1).filter_map(|line| line.split_once(':')).find(|(of, _)| *of == name).map(|(_, value)| value.trim())
    };
    if header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        return chunks(&buffer[head_length..]).map(|length| head_length + length);
    }
    let status = head.split(' ').nth(1).filter(|_| is_answer);
    let length = match header("content-length") {
        Some(length) => length.parse::<usize>().ok()?,
        None if status.is_some_and(|status| !matches!(status, "204" | "304")) => return None,
        None => 0,
    };
    (buffer.len() >= head_length + length).then_some(head_length + length)
}

/// How long a body in chunks is, if it is all there.
fn chunks(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = body.get(at..)?.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&body[at..at + line]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        // its own line, the data, and what ends it; the last one has no data, and no trailers are expected
        at += line + 2 + size + 2;
        if size == 0 {
            return (body.len() >= at).then_some(at);
        }
    }
}
