//! What is fuzzed, and what must hold for every input. The fuzzer (`scripts/fuzz`) and the replay of its corpus in every
//! `cargo test` (`tests/fuzz.rs`) share this file.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Seek, Write};
use std::pin::pin;
use std::str::FromStr;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use jiff::civil::date;
use rebilld::config::{Environment, Settings, Sources, Span, load};
use rebilld::domain::attempt::{IdBase, IdNumber, MerchantUid};
use rebilld::domain::cron::CronSchedule;
use rebilld::domain::money::{Currency, Money};
use rebilld::domain::outcome::Outcome;
use rebilld::domain::period::Every;
use rebilld::domain::recurrence::BillingDay;
use rebilld::domain::window::Hours;
use rebilld::gateway::portone::{AskedFor, LookedUp, Wire, judge_answer, judge_look_up, judge_token};
use rebilld::http::inbox;
use serde_json::value::RawValue;

/// An input may be anything; a target panics if it is treated wrongly.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: [Target; 8] = [
    Target { name: "gateway_answers", run: gateway_answers },
    Target { name: "look_up_answers", run: look_up_answers },
    Target { name: "token_answers", run: token_answers },
    Target { name: "webhook_bodies", run: webhook_bodies },
    Target { name: "csv_import", run: csv_import },
    Target { name: "config_texts", run: config_texts },
    Target { name: "cron_texts", run: cron_texts },
    Target { name: "duration_texts", run: duration_texts },
];

pub fn named(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|target| target.name == name).map(|target| target.run)
}

/// The first line is the HTTP status, the rest the body.
///
/// Whatever it says, a payment is only believed if status, id, amount and customer fit, and the card's refusal only under our id.
fn gateway_answers(input: &[u8]) {
    let (status, body) = match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            (std::str::from_utf8(&input[..end]).ok().and_then(|line| line.parse().ok()).unwrap_or(200), &input[end + 1..])
        }
        None => (200, input),
    };
    let merchant_uid =
        IdBase::derive("rb".parse().expect("a tag"), "main", "sub-0001", date(2026, 12, 1)).number(IdNumber::FIRST);
    let amount = Money::krw(9_900);
    let asked = AskedFor { merchant_uid: &merchant_uid, customer_uid: "card-1", amount };
    let answer = judge_answer(asked, Wire::Answer(status, body), 1);
    let good = (200..300).contains(&status);
    match &answer.outcome {
        Outcome::Paid(record) => {
            assert!(good && record.merchant_uid == merchant_uid.as_str() && record.amount == Some(amount));
            assert_eq!(record.mismatch(amount, &["card-1"]), None);
        }
        Outcome::PaidWrong(record, _) | Outcome::Declined(record, _) => {
            assert!(good && record.merchant_uid == merchant_uid.as_str());
        }
        Outcome::Refused { .. } => assert!(good),
        Outcome::NotSent(_) => assert_eq!(status, 401),
        Outcome::Doubt { record, .. } => {
            assert!(record.as_ref().is_none_or(|record| record.merchant_uid == merchant_uid.as_str()));
        }
    }
    // nothing that is kept of an answer may be larger than the answer could be, whatever is in it
    assert!(answer.kept.to_string().len() < 2048 + 8 * body.len());
}

/// A first line, or nothing, and the rest.
fn headed(input: &[u8]) -> (&str, &[u8]) {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (std::str::from_utf8(&input[..end]).unwrap_or_default(), &input[end + 1..]),
        None => ("", input),
    }
}

/// The first line is what was looked up and the HTTP status, the rest the body.
///
/// Records come out of an answer of the gateway's own kind alone, and only of what was asked for; nothing else is "absent" either.
fn look_up_answers(input: &[u8]) {
    let (head, body) = headed(input);
    let (kind, status) = head.split_once(' ').unwrap_or((head, "200"));
    let status = status.parse().unwrap_or(200);
    let id = |subscription: &str| {
        IdBase::derive("rb".parse().expect("a tag"), "main", subscription, date(2026, 12, 1)).number(IdNumber::FIRST)
    };
    // what a corpus can name: the first of them is `rb` and 28 digits of its own
    let ids = [id("sub-0001"), id("sub-0002")];
    let asked = match kind {
        "one" => LookedUp::One("imp_1"),
        "all" => LookedUp::All(&ids[0]),
        "list" => LookedUp::List,
        _ => LookedUp::Batch(&ids),
    };
    let Ok(records) = judge_look_up(asked, status, body) else { return };
    let absent_is_said = status == 404 && !matches!(asked, LookedUp::List);
    assert!(matches!(status, 200 | 207) || absent_is_said, "HTTP {status} is no answer");
    assert!(status != 404 || records.is_empty());
    // absent, or whatever it is: it is said in the gateway's envelope
    let code = envelope_code(body);
    assert_eq!(code == Some(0), status != 404, "{code:?}");
    for record in &records {
        match asked {
            LookedUp::One(imp_uid) => assert_eq!(record.imp_uid, imp_uid),
            LookedUp::Batch(ids) => assert!(ids.iter().any(|id| id.as_str() == record.merchant_uid)),
            LookedUp::All(id) => assert_eq!(record.merchant_uid, id.as_str()),
            LookedUp::List => {}
        }
    }
    // the same under a status of a gateway in trouble says nothing
    for trouble in [429, 500, 502, 503] {
        assert!(judge_look_up(asked, trouble, body).is_err());
    }
}

/// The code of an envelope: in an object, or in the array that serde reads for one. Every other part stays a text, for an amount may be a
/// number that is no float.
fn envelope_code(body: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(body).expect("what is understood is UTF-8");
    let named = serde_json::from_str::<BTreeMap<String, &RawValue>>(text).map(|mut parts| parts.remove("code"));
    let code = named.or_else(|_| serde_json::from_str::<Vec<&RawValue>>(text).map(|parts| parts.first().copied()));
    serde_json::from_str(code.expect("what is understood is JSON")?.get()).ok()
}

/// The first line is the HTTP status, the rest the body. A token comes out of a 200 with code 0 alone.
fn token_answers(input: &[u8]) {
    let (head, body) = headed(input);
    let status = head.parse().unwrap_or(200);
    let Ok(lifetime) = judge_token(status, body) else { return };
    assert_eq!(status, 200);
    assert!(body.len() > 20, "a token of nothing");
    // none that has ended already, and a time far away must not lead out of time
    assert!(!lifetime.is_negative(), "{lifetime}");
    let _ = jiff::Timestamp::UNIX_EPOCH.checked_add(lifetime);
}

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// The first line is the content type, the rest the body.
///
/// One id at most comes out of it, not much longer than the body; it is the one that both forms mean when it is written into them again, and
/// it counts for ours only if it is one letter for letter.
fn webhook_bodies(input: &[u8]) {
    let (kind, body) = match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (std::str::from_utf8(&input[..end]).unwrap_or_default(), &input[end + 1..]),
        None => (JSON, input),
    };
    let Some(uid) = id_in(kind, body) else { return };
    // a byte of a form that is no text becomes a character of three
    assert!(uid.len() <= 3 * body.len(), "{} bytes out of {}", uid.len(), body.len());
    // the fields beside it are passed over unread, so that they need be no text
    if !kind.starts_with(FORM)
        && let Ok(value) = serde_json::from_slice::<serde_json::Value>(body)
    {
        // serde takes a list of the fields for the fields
        let told = value.get("merchant_uid").or_else(|| value.get(0)).and_then(serde_json::Value::as_str);
        assert_eq!(told, Some(uid.as_str()));
    }
    let json = serde_json::json!({"imp_uid": "imp_1", "merchant_uid": uid, "status": "paid"}).to_string();
    assert_eq!(id_in(JSON, json.as_bytes()).as_ref(), Some(&uid));
    let spelled: String = uid.bytes().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(id_in(FORM, format!("imp_uid=imp_1&merchant_uid={spelled}&status=paid").as_bytes()).as_ref(), Some(&uid));
    let tag = "sb".parse().expect("a tag");
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    assert!(!MerchantUid::is_ours(&uid, tag) || (uid.len() == 30 && uid.starts_with("sb") && uid.bytes().all(plain)));
}

fn id_in(kind: &str, body: &[u8]) -> Option<String> {
    let asked = pin!(inbox::named(kind, body.to_vec().into()));
    match asked.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(named) => named,
        Poll::Pending => panic!("a body that is there is waited for"),
    }
}

const SHOP: &str = r#"
tag = "sb"
[database]
url = "sqlite:/var/lib/shop/shop.db"
[accounts.main]
base_url = "http://127.0.0.1:8765/"
imp_key_file = "key"
imp_secret_file = "secret"
[plans.basic]
amount = 9900
currency = "KRW"
title = "Basic"
every = "1 month"
[plans.dollars]
currency = "USD"
every = "1 week"
"#;

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| match loaded(SHOP.as_bytes()) {
    Ok(settings) => settings,
    Err(why) => panic!("the targets' own config: {why}"),
});

/// A file either has problems, each with its place, or rows.
fn csv_import(input: &[u8]) {
    match rebilld::cli::check_sheet(input, &SETTINGS, "book.csv") {
        Ok(rows) => assert!(rows <= input.len() as u64),
        Err(problems) => assert!(problems.lines().count() >= 2, "{problems}"),
    }
}

/// A config is settings, or a list of what is wrong with it.
fn config_texts(input: &[u8]) {
    if let Err(problems) = loaded(input) {
        assert!(!problems.is_empty());
    }
}

thread_local! {
    static FILE: RefCell<tempfile::NamedTempFile> =
        RefCell::new(tempfile::Builder::new().suffix(".toml").tempfile().expect("a temporary file"));
}

fn loaded(text: &[u8]) -> Result<Settings, String> {
    FILE.with_borrow_mut(|file| {
        let handle = file.as_file_mut();
        handle.set_len(0).and_then(|()| handle.rewind()).and_then(|()| handle.write_all(text)).expect("it can be written");
        let sources =
            Sources { files: vec![file.path().to_path_buf()], environment: Environment::default(), options: Vec::new() };
        load(&sources).map(|loaded| loaded.settings).map_err(|errors| errors.to_string())
    })
}

/// A schedule that is taken means the same when it is read again as it is shown, and its dates rise.
fn cron_texts(input: &[u8]) {
    let Some(schedule) = stays_itself::<CronSchedule>(input) else { return };
    let mut before = date(2026, 1, 30);
    for _ in 0..4 {
        let Some(next) = schedule.first_from(before.tomorrow().expect("a day before 9999")) else { return };
        assert!(next > before && schedule.count(before, next) == 1, "{schedule}: {next} after {before}");
        before = next;
    }
}

/// Durations, and the other small texts of a config: each is refused, or means what it shows.
fn duration_texts(input: &[u8]) {
    stays_itself::<Span>(input);
    stays_itself::<Every>(input);
    stays_itself::<BillingDay>(input);
    stays_itself::<Hours>(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    for currency in ["KRW", "USD"] {
        let currency: Currency = currency.parse().expect("a currency");
        if let Ok(money) = Money::parse(text, currency) {
            assert_eq!(Money::parse(&money.decimal(), currency).ok(), Some(money), "{text}");
        }
    }
}

fn stays_itself<T: FromStr + ToString + PartialEq>(input: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(input).ok()?;
    let value: T = text.parse().ok()?;
    let shown = value.to_string();
    assert!(shown.parse().ok().as_ref() == Some(&value), "`{text}` is shown as `{shown}`, which means something else");
    Some(value)
}
