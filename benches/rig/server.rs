//! The smallest server that answers as PortOne does: enough HTTP for one client, a fixed latency, counts, and nothing kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Default)]
struct Counts {
    posts: AtomicU64,
    /// Unix time of the first and the last charge, in microseconds.
    first: AtomicU64,
    last: AtomicU64,
    lateness: std::sync::Mutex<Vec<i64>>,
}

fn micros() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a measurement of real time")]
    let now = SystemTime::now();
    u64::try_from(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros()).unwrap_or(0)
}

/// Serves until killed; prints its port first.
pub async fn serve(latency: Duration) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let counts = Arc::new(Counts::default());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(talk(stream, latency, Arc::clone(&counts)));
    }
}

async fn talk(mut stream: TcpStream, latency: Duration, counts: Arc<Counts>) {
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let Some((head, length)) = read_request(&mut stream, &mut buffer).await else { return };
        let request = std::str::from_utf8(&buffer[..head + length]).unwrap_or_default();
        let (line, body) = (request.lines().next().unwrap_or_default(), &request[head..]);
        let (status, answer) = answer(line, body, latency, &counts).await;
        let reply =
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
        buffer.drain(..head + length);
    }
}

/// Reads one request; returns the length of its head and of its body.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(usize, usize)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = std::str::from_utf8(&buffer[..end]).ok()?;
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, value)| value.trim().parse::<usize>().ok())
                .unwrap_or(0);
            if buffer.len() >= end + 4 + length {
                return Some((end + 4, length));
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// The text of a field of a flat JSON object.
fn field<'a>(body: &'a str, name: &str) -> &'a str {
    let key = format!("\"{name}\":");
    let Some(at) = body.find(&key) else { return "" };
    let rest = &body[at + key.len()..];
    match rest.strip_prefix('"') {
        Some(text) => text.split('"').next().unwrap_or(""),
        None => rest.split([',', '}']).next().unwrap_or(""),
    }
}

async fn answer(line: &str, body: &str, latency: Duration, counts: &Counts) -> (&'static str, String) {
    if line.starts_with("POST /subscribe/payments/again") {
        let now = micros();
        counts.first.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).ok();
        if let Ok(due) = field(body, "custom_data").parse::<i64>() {
            counts.lateness.lock().unwrap().push(i64::try_from(now).unwrap_or(0) - due);
        }
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        // in the shape and the order of the gateway's own: twelve digits that grow
        let nth = counts.posts.fetch_add(1, Ordering::Relaxed);
        counts.last.store(micros(), Ordering::Relaxed);
        let uid = field(body, "merchant_uid");
        let answer = format!(
            r#"{{"code":0,"message":null,"response":{{"imp_uid":"imps_{nth:012}","merchant_uid":"{uid}","pay_method":"card","channel":"api","pg_provider":"html5_inicis","emb_pg_provider":null,"pg_tid":"INIpayBILL_{uid}","pg_id":"INIBillTst","sandbox":false,"escrow":false,"apply_num":"00000000","card_code":"366","card_name":null,"card_quota":0,"card_number":"123456******1234","card_type":null,"name":"Pro","amount":{},"cancel_amount":0,"currency":"KRW","status":"paid","started_at":1790000000,"paid_at":1790000003,"failed_at":0,"cancelled_at":0,"fail_reason":null,"customer_uid":"{}","customer_uid_usage":"payment"}}}}"#,
            field(body, "amount"),
            field(body, "customer_uid"),
        );
        return ("200 OK", answer);
    }
    if line.starts_with("POST /users/getToken") {
        let now = micros() / 1_000_000;
        let answer = format!(
            r#"{{"code":0,"message":null,"response":{{"access_token":"bench","now":{now},"expired_at":{}}}}}"#,
            now + 1800
        );
        return ("200 OK", answer);
    }
    if line.starts_with("GET /counts") {
        let mut lateness = counts.lateness.lock().unwrap();
        lateness.sort_unstable();
        let answer = serde_json::json!({
            "posts": counts.posts.load(Ordering::Relaxed),
            "first": counts.first.load(Ordering::Relaxed),
            "last": counts.last.load(Ordering::Relaxed),
            "lateness": *lateness,
        });
        return ("200 OK", answer.to_string());
    }
    if line.starts_with("GET /payments/status/") {
        let answer = r#"{"code":0,"message":null,"response":{"total":0,"previous":0,"next":0,"list":[]}}"#;
        return ("200 OK", answer.to_owned());
    }
    ("404 Not Found", r#"{"code":-1,"message":"존재하지 않는 결제정보입니다.","response":null}"#.to_owned())
}
