//! Conversations that end at every byte: never more than one POST a send, and never a wrong conclusion.

use serde_json::Value;

use super::super::PortOne;
use super::server::{Act, Cut, Seen, Server, envelope, ok, payment};
use super::{charge, gateway};
use crate::domain::outcome::{DoubtCause, NotSent, Outcome};

fn paid(seen: &Seen) -> Value {
    envelope(payment(&seen.merchant_uid(), "paid"))
}

/// All ids have the same length, so that all conversations have it.
fn uid(number: usize) -> String {
    format!("rbcut{number:023}01")
}

/// The same answer, with its end marked in the three ways that HTTP/1.1 knows.
#[derive(Clone, Copy, PartialEq)]
enum Framing {
    Length,
    Chunked,
    Close,
}

fn framed(framing: Framing, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    match framing {
        Framing::Length => ok(&serde_json::from_str(&body).unwrap_or_default()),
        Framing::Close => format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}").into_bytes(),
        Framing::Chunked => {
            let (head, tail) = body.split_at(body.char_indices().nth(300).map_or(0, |(at, _)| at));
            let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}{}0\r\n\r\n", chunk(head), chunk(tail)).into_bytes()
        }
    }
}

/// The number in an id made by [`uid`]: tells the server what to do.
fn number(seen: &Seen) -> usize {
    seen.merchant_uid().get(5..28).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// A good exchange, so that the next charge goes over a connection that is already in use.
async fn warm_up(gateway: &PortOne, number: usize) {
    let answer = charge(gateway, &uid(number)).await;
    assert!(matches!(answer.outcome, Outcome::Paid(_)), "{answer:?}");
}

/// Ids of charges that are to go well.
const GOOD: usize = 1_000_000;

async fn cut_answers(framing: Framing, reset: bool, reused: bool) {
    let script = move |seen: &Seen| {
        let bytes = framed(framing, &paid(seen));
        match number(seen) {
            cut if cut < GOOD => Act::Part { bytes: bytes[..cut.min(bytes.len())].to_vec(), reset, pause: 0 },
            _ => Act::Reply(ok(&paid(seen))),
        }
    };
    let server = Server::portone(script).await;
    let seen = Seen {
        method: String::new(),
        path: String::new(),
        headers: Default::default(),
        body: super::attempt(&uid(1)).body().to_owned(),
        length: 0,
        connection: 0,
        nth: 0,
    };
    let length = framed(framing, &paid(&seen)).len();
    let gateway = gateway(&server.url);
    for cut in 0..length {
        if reused {
            warm_up(&gateway, GOOD + cut).await;
        }
        let answer = charge(&gateway, &uid(cut)).await;
        let cause = match &answer.outcome {
            Outcome::Doubt { cause, .. } => *cause,
            other => panic!("after {cut} bytes: {other:?}"),
        };
        assert!(matches!(cause, DoubtCause::Transport | DoubtCause::Nonsense), "after {cut} bytes: {cause:?}");
        assert_eq!(server.charges().get(&uid(cut)), Some(&1), "after {cut} bytes");
        if reused {
            // the charge did go over the connection of the one before
            let seen = server.seen();
            let last = seen.last().unwrap();
            assert!(last.nth > 1, "after {cut} bytes: on connection {} as {}", last.connection, last.nth);
        }
    }
    // a whole answer is paid, if no reset takes it away
    if !reset {
        let whole = charge(&gateway, &uid(length)).await;
        assert!(matches!(whole.outcome, Outcome::Paid(_)), "{whole:?}");
    }
    assert!(server.charges().values().all(|count| *count == 1));
    assert_eq!(server.begun(), server.seen().len());
}

#[tokio::test]
async fn an_answer_cut_at_every_byte_is_doubt() {
    for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
        cut_answers(framing, false, false).await;
    }
}

#[tokio::test]
async fn an_answer_reset_at_every_byte_is_doubt() {
    cut_answers(Framing::Length, true, false).await;
}

#[tokio::test]
async fn an_answer_cut_at_every_byte_on_a_reused_connection_is_doubt() {
    cut_answers(Framing::Length, false, true).await;
    cut_answers(Framing::Length, true, true).await;
}

async fn cut_requests(reset: bool, reused: bool) {
    let server = Server::portone(|seen| Act::Reply(ok(&paid(seen)))).await;
    let gateway = gateway(&server.url);
    warm_up(&gateway, GOOD).await;
    let length = server.seen().last().unwrap().length;
    for cut in 0..=length {
        if reused {
            warm_up(&gateway, GOOD + 1 + cut).await;
        }
        let fresh = super::gateway(&server.url);
        fresh.tokens.hold("token-1");
        let gateway = if reused { &gateway } else { &fresh };
        let (begun, connections) = (server.begun(), server.connections());
        server.cut_next(Cut { after: cut, reset });
        let answer = charge(gateway, &uid(cut)).await;
        assert!(
            matches!(answer.outcome, Outcome::Doubt { cause: DoubtCause::Transport, .. }),
            "request ended after {cut} bytes: {answer:?}"
        );
        assert_eq!(server.begun(), begun + 1, "after {cut} bytes");
        // nothing opened one more connection to try again
        assert_eq!(server.connections(), connections + usize::from(!reused), "after {cut} bytes");
        assert_eq!(server.charges().get(&uid(cut)), None);
    }
}

#[tokio::test]
async fn a_request_cut_at_every_byte_is_doubt_and_never_repeated() {
    for reset in [false, true] {
        cut_requests(reset, false).await;
    }
}

#[tokio::test]
async fn a_request_cut_at_every_byte_on_a_reused_connection_is_doubt_and_never_repeated() {
    for reset in [false, true] {
        cut_requests(reset, true).await;
    }
}

/// The server closes right after a good answer, while the next POST is on its way: hyper-util may notice that before it has
/// written anything and take a new connection. What it may not do is write twice.
///
/// Seen three times in some 700,000 of these charges, and not explained: a POST that the server never read waits for its
/// whole deadline, as if the client had missed the end of the connection. So the deadline is short here; that it ends in
/// doubt is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_closed_while_idle_never_makes_two_posts() {
    for reset in [false, true] {
        // sooner and later, so that the close meets the next POST at different moments
        let script = move |seen: &Seen| Act::Part { bytes: ok(&paid(seen)), reset, pause: number(seen) % 64 * 4 };
        let server = Server::portone(script).await;
        let gateway = super::hasty(&server.url);
        let (mut fine, mut unsure) = (0, 0);
        for round in 0..600 {
            let answer = charge(&gateway, &uid(round)).await;
            match answer.outcome {
                Outcome::Paid(_) => fine += 1,
                Outcome::Doubt { cause: DoubtCause::Transport, .. } => unsure += 1,
                // allowed only if nothing has arrived
                Outcome::NotSent(NotSent::Unreachable(_)) => assert_eq!(server.charges().get(&uid(round)), None),
                other => panic!("{other:?}"),
            }
        }
        println!("closed while idle (reset: {reset}): {fine} paid, {unsure} in doubt");
        assert!(fine > 0);
        assert!(server.charges().values().all(|count| *count == 1), "{:?}", server.charges());
    }
}
