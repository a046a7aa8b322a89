//! Events against their schemas in `docs/events`: what is delivered is what is documented, for every kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};
use jsonschema::Validator;
use rebilld::domain::attempt::{Attempt, AttemptId, Hint, IdBase, IdNumber, Send, SendId};
use rebilld::domain::charge::{AccountId, Charge, ChargeId, ChargeState, Doubt, IdMode, SubscriptionId, Waiting};
use rebilld::domain::decide::{Fact, IncidentKind, Policy, Ruling, decide};
use rebilld::domain::decline::Class;
use rebilld::domain::event::{Event, EventKind, SCHEMA_VERSION, decline_fields, envelope};
use rebilld::domain::money::Money;
use rebilld::domain::outcome::{DoubtCause, Findings, Found, Mismatch, Outcome, Record, RecordStatus};
use rebilld::domain::period::Period;
use serde_json::{Value, json};

const CLASSES: [Class; 8] = [
    Class::HardCard,
    Class::SoftFunds,
    Class::SoftContact,
    Class::Transient,
    Class::Ambiguous,
    Class::Merchant,
    Class::Request,
    Class::Unknown,
];
const SEND: SendId = SendId(7);

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/events")
}

fn schema(kind: &str) -> Value {
    let path = directory().join(format!("{kind}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{} documents {kind}: {why}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn validators() -> BTreeMap<&'static str, Validator> {
    let validator = |kind: EventKind| {
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        (kind.name(), options.build(&schema(kind.name())).unwrap_or_else(|why| panic!("{}: {why}", kind.name())))
    };
    EventKind::ALL.into_iter().map(validator).collect()
}

fn faults(validator: &Validator, delivered: &Value) -> Vec<String> {
    validator.iter_errors(delivered).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn delivered(event: &Event) -> Value {
    envelope(&event.id, event.kind.name(), at(70), &event.data)
}

fn at(minutes: i64) -> Timestamp {
    let start: Timestamp = "2026-12-01T01:00:00.25Z".parse().unwrap();
    start + SignedDuration::from_mins(minutes)
}

/// Sent at 0 min, with an answer outstanding.
fn sent() -> Charge {
    let live = Attempt {
        id: AttemptId(1),
        number: 1,
        id_number: IdNumber::FIRST,
        customer_uid: "card-1".to_owned(),
        resends: 0,
        hint: None,
        open_send: Some(Send { id: SEND, begun_at: at(0) }),
    };
    Charge {
        id: ChargeId(1),
        account: AccountId(1),
        account_name: "main".to_owned(),
        subscription: SubscriptionId(1),
        external_ref: "sub-0001".to_owned(),
        plan: "monthly".to_owned(),
        zone: None,
        base: IdBase::derive("rb".parse().unwrap(), "main", "sub-0001", date(2026, 12, 1)),
        mode: IdMode::PerAttempt,
        period: Period { start: date(2026, 12, 1), end: date(2027, 1, 1) },
        due_at: at(0),
        amount: Money::krw(9_900),
        tax_free: None,
        vat_amount: None,
        state: ChargeState::Due,
        waiting: Waiting::Turn,
        next_at: Some(at(0)),
        id_number: IdNumber::FIRST,
        attempts: 1,
        tries: 0,
        first_declined_at: None,
        refused_customer: None,
        course: Default::default(),
        not_sent: 0,
        doubt: Doubt::default(),
        newest_send_at: Some(at(0)),
        paid_elsewhere: None,
        paid_imp_uid: None,
        live: Some(live),
        version: 1,
    }
}

fn unsent() -> Charge {
    Charge { live: None, attempts: 0, newest_send_at: None, ..sent() }
}

fn in_doubt() -> Charge {
    let doubt = Doubt { since: Some(at(0)), ..Doubt::default() };
    Charge { state: ChargeState::Doubt, waiting: Waiting::LookUp, doubt, ..sent() }
}

fn in_review() -> Charge {
    let doubt = Doubt { since: Some(at(0)), quiet_twice: true, ..Doubt::default() };
    Charge { state: ChargeState::Review, waiting: Waiting::Operator, doubt, ..sent() }
}

fn paid() -> Charge {
    Charge { state: ChargeState::Paid, waiting: Waiting::Nothing, paid_imp_uid: Some("imp_1".to_owned()), live: None, ..sent() }
}

fn record(imp_uid: &str, status: RecordStatus, amount: Money) -> Record {
    Record {
        imp_uid: imp_uid.to_owned(),
        merchant_uid: sent().base.number(IdNumber::FIRST).to_string(),
        status,
        amount: Some(amount),
        customer_uid: Some("card-1".to_owned()),
        fail_reason: Some("[1254][실시간빌링실패|잔액부족]".to_owned()),
        pg_provider: Some("html5_inicis".to_owned()),
        pg_tid: None,
        at: Some(at(1)),
        cancelled_amount: 0,
    }
}

fn answer(outcome: Outcome) -> Fact {
    Fact::Answered { send: SEND, id_number: IdNumber::FIRST, customer_uid: "card-1".to_owned(), outcome }
}

fn shows(records: Vec<Record>) -> Findings {
    let found = |record| Found { id_number: IdNumber::FIRST, record, known: false, mismatch: None };
    Findings { began_at: at(70), records: records.into_iter().map(found).collect() }
}

/// Everything that `decide` tells in the situations that lead to events.
fn decided() -> Vec<Event> {
    let amount = Money::krw(9_900);
    let record = |imp_uid, status| record(imp_uid, status, amount);
    let mut hinted = in_doubt();
    if let Some(live) = &mut hinted.live {
        live.hint = Some(Hint::RefusedKey);
    }
    let nothing = || shows(Vec::new());
    let mut cases = vec![
        (sent(), answer(Outcome::Paid(record("imp_1", RecordStatus::Paid)))),
        (in_review(), Fact::LookedUp(shows(vec![record("imp_1", RecordStatus::Paid)]))),
        (in_doubt(), Fact::LookedUp(shows(["imp_1", "imp_2"].map(|id| record(id, RecordStatus::Paid)).to_vec()))),
        (sent(), answer(Outcome::PaidWrong(record("imp_1", RecordStatus::Paid), Mismatch::Amount))),
        (in_doubt(), Fact::LookedUp(shows(vec![record("imp_1", RecordStatus::Cancelled)]))),
        (Charge { doubt: Doubt { since: Some(at(-120)), ..Doubt::default() }, ..in_doubt() }, Fact::LookUpFailed),
        (Charge { doubt: Doubt { since: Some(at(-1440)), ..Doubt::default() }, ..in_doubt() }, Fact::LookUpFailed),
        (hinted, Fact::LookedUp(nothing())),
        (unsent(), Fact::Unsendable("the title is longer than 40 characters".to_owned())),
        (unsent(), Fact::SubscriptionCancelled),
        (in_review(), Fact::Ruled(Ruling::Unpaid, nothing())),
        (in_review(), Fact::Ruled(Ruling::Void, nothing())),
        (
            Charge { waiting: Waiting::Card, first_declined_at: Some(at(-20_000)), tries: 1, live: None, ..sent() },
            Fact::CardNotReplaced,
        ),
        (sent(), answer(Outcome::Doubt { cause: DoubtCause::Cancelled, detail: String::new(), record: None })),
    ];
    for class in CLASSES {
        let declined = || answer(Outcome::Declined(record("imp_1", RecordStatus::Failed), class));
        cases.push((sent(), declined()));
        cases.push((Charge { tries: 7, first_declined_at: Some(at(-10_080)), ..sent() }, declined()));
    }
    let judge = |(charge, fact): &(Charge, Fact)| {
        let decision = decide(charge, fact, at(70), &Policy::default());
        decision.unwrap_or_else(|why| panic!("{:?} refuses {fact:?}: {why}", charge.state)).events
    };
    cases.iter().flat_map(judge).collect()
}

/// The events that the store and the audit make, of the same parts.
fn told() -> Vec<Event> {
    let refund = json!({ "imp_uid": "imp_1", "refunded_amount": 4_900 });
    let incident = |kind: IncidentKind| {
        let data = json!({ "incident": kind.name(), "account": "main", "detail": "imp_9 under rb… is unknown" });
        Event::new(EventKind::IncidentOpened, &["main", kind.name(), "imp_9"], data)
    };
    let problem = json!({ "account": "main", "external_ref": "sub-0001", "problem": "there is no plan `gold`, neither in the config nor in the database" });
    let changed = json!({ "account": "main", "external_ref": "sub-0001", "status": "paused", "changed": ["status", "amount"] });
    let ended = json!({ "account": "main", "external_ref": "sub-0001", "why": "ends_on", "ended_on": "2026-12-01" });
    let skipped = json!({
        "account": "main", "external_ref": "sub-0001", "why": "missed", "periods": 2, "from": "2026-10-01", "until": "2026-12-01"
    });
    let paused = json!({ "account": "main", "reason": "the gateway refused two access tokens in a row (HTTP 401)" });
    let blown = json!({ "account": "main", "reason": "501 charges in an hour, 500 at most", "bound": "hour_count" });
    let mut events = vec![
        Event::of_charge(EventKind::ChargeRefunded, &paid(), "imp_1", refund),
        Event::new(EventKind::SubscriptionProblem, &["main", "sub-0001"], problem),
        Event::new(EventKind::SubscriptionChanged, &["main", "sub-0001"], changed),
        Event::new(EventKind::SubscriptionEnded, &["main", "sub-0001"], ended),
        Event::new(EventKind::SubscriptionSkipped, &["main", "sub-0001"], skipped),
        Event::new(EventKind::AccountPaused, &["main"], paused),
        Event::new(EventKind::AccountFuseBlown, &["main"], blown),
    ];
    events.extend([IncidentKind::UnknownPayment, IncidentKind::MissingPayment].map(incident));
    events.extend(states());
    for (class, next) in CLASSES.into_iter().flat_map(|class| [(class, None), (class, Some(at(1510)))]) {
        events.push(Event::of_charge(EventKind::ChargeDeclined, &sent(), "1", decline_fields(class, "잔액부족", next)));
    }
    events
}

/// Every change of state that facts can bring about, each with what comes next.
fn states() -> Vec<Event> {
    use rebilld::domain::state::{Facts, Just, Owed, SubscriptionState, follow};
    use rebilld::domain::subscription::Status;
    let owed = |state, waiting| Owed { first_declined_at: at(60), restarted: false, state, waiting, next_at: Some(at(1510)) };
    let tried_again = owed(ChargeState::Due, Waiting::Retry);
    let owing = [
        tried_again,
        owed(ChargeState::Due, Waiting::Card),
        owed(ChargeState::Doubt, Waiting::LookUp),
        owed(ChargeState::Review, Waiting::Operator),
    ];
    let calm = Facts {
        status: Status::Active,
        ended: false,
        trial_until: None,
        owed: Vec::new(),
        closed_unpaid: false,
        grace: SignedDuration::ZERO,
        just: None,
    };
    let just = |state, ended_it| Some(Just { state, ended_it });
    let mut cases = vec![
        calm.clone(),
        Facts { trial_until: Some(at(9000)), ..calm.clone() },
        Facts { ended: true, ..calm.clone() },
        Facts { just: just(ChargeState::Void, false), ..calm.clone() },
        Facts { grace: SignedDuration::from_mins(5), owed: vec![tried_again], ..calm.clone() },
    ];
    for status in [Status::Paused, Status::Cancelled] {
        cases.push(Facts { status, ..calm.clone() });
        cases.push(Facts { status, just: just(ChargeState::Unpaid, true), ..calm.clone() });
    }
    for owed in owing {
        cases.push(Facts { owed: vec![owed], ..calm.clone() });
        cases.push(Facts { owed: vec![owed], closed_unpaid: true, ..calm.clone() });
    }
    cases.push(Facts { closed_unpaid: true, ..calm });
    let before = SubscriptionState::ALL.map(Some).into_iter().chain([None]);
    let told = before.flat_map(|before| {
        cases.iter().filter_map(move |facts| follow(before, facts, at(70)).event("main", "sub-0001", before, at(70)))
    });
    told.collect()
}

#[test]
fn every_event_fits_its_schema_and_every_kind_is_tried() {
    let validators = validators();
    let mut tried = BTreeSet::new();
    for event in decided().iter().chain(&told()) {
        let delivered = delivered(event);
        tried.insert(event.kind);
        assert_eq!(faults(&validators[event.kind.name()], &delivered), Vec::<String>::new(), "{delivered:#}");
    }
    let missing: Vec<&str> = EventKind::ALL.into_iter().filter(|kind| !tried.contains(kind)).map(EventKind::name).collect();
    assert_eq!(missing, Vec::<&str>::new(), "no event of these kinds was made");
}

#[test]
fn every_kind_has_a_schema_and_every_schema_a_kind() {
    let readme = fs::read_to_string(directory().join("README.md")).unwrap();
    let names = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let documented: BTreeSet<String> = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    let kinds: BTreeSet<String> = EventKind::ALL.into_iter().map(|kind| kind.name().to_owned()).collect();
    assert_eq!(documented, kinds);
    for kind in &kinds {
        let schema = schema(kind);
        assert!(jsonschema::meta::is_valid(&schema), "{kind}: no valid JSON Schema");
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{kind}");
        assert_eq!(schema["properties"]["version"]["const"], SCHEMA_VERSION, "{kind}: another version");
        let described = schema["properties"]["data"]["properties"].as_object().unwrap();
        for (field, says) in described {
            assert!(says["description"].as_str().is_some_and(|text| !text.is_empty()), "{kind}: `{field}` says nothing");
        }
        assert!(readme.contains(&format!("({kind}.json)")), "the README does not lead to {kind}");
    }
}

/// The schemas' examples are deliveries, so they fit too; and they name the fields that a reader will meet.
#[test]
fn the_examples_fit() {
    for (kind, validator) in validators() {
        let schema = schema(kind);
        let examples = schema["examples"].as_array().unwrap_or_else(|| panic!("{kind} has no example"));
        assert!(!examples.is_empty(), "{kind} has no example");
        for example in examples {
            assert_eq!(faults(&validator, example), Vec::<String>::new(), "{kind}");
        }
    }
}

/// Schemas that accept anything would prove nothing: each required field is taken away, each field gets a wrong type, and
/// the kinds are mixed up.
#[test]
fn a_broken_event_is_refused() {
    let validators = validators();
    for event in decided().iter().chain(&told()) {
        let (kind, whole) = (event.kind.name(), delivered(event));
        let validator = &validators[kind];
        let refused = |broken: &Value, how: String| assert!(!validator.is_valid(broken), "{kind}: {how} is accepted");
        let required = schema(kind)["properties"]["data"]["required"].clone();
        for field in required.as_array().unwrap() {
            let mut broken = whole.clone();
            broken["data"].as_object_mut().unwrap().remove(field.as_str().unwrap());
            refused(&broken, format!("`data` without {field}"));
        }
        for field in whole["data"].as_object().unwrap().keys() {
            let mut broken = whole.clone();
            broken["data"][field] = json!([{ "no": "such thing" }]);
            refused(&broken, format!("`data.{field}` of another type"));
        }
        for field in ["id", "type", "version", "timestamp", "data"] {
            let mut broken = whole.clone();
            broken.as_object_mut().unwrap().remove(field);
            refused(&broken, format!("an envelope without `{field}`"));
        }
        for (field, wrong) in [
            ("id", json!("42")),
            ("version", json!(SCHEMA_VERSION + 1)),
            ("timestamp", json!("yesterday")),
            ("timestamp", json!("2026-12-01")),
        ] {
            let mut broken = whole.clone();
            broken[field] = wrong;
            refused(&broken, format!("an envelope with a wrong `{field}`"));
        }
        for (other, validator) in validators.iter().filter(|(other, _)| **other != kind) {
            assert!(!validator.is_valid(&whole), "{other} accepts a {kind}");
        }
    }
}

/// Within a version fields are only ever added, so receivers ignore those that they do not know.
#[test]
fn a_new_field_is_no_fault() {
    let validators = validators();
    for event in told() {
        let mut more = delivered(&event);
        more["data"]["added_later"] = json!(1);
        more["added_later"] = json!(1);
        assert_eq!(faults(&validators[event.kind.name()], &more), Vec::<String>::new());
    }
}

/// An operator may have a closed charge sent once more, and close it again before it was: a receiver that drops what it has seen
/// would take the second time for the first.
#[test]
fn a_charge_that_is_closed_again_is_told_under_another_id() {
    let rule = |charge: &Charge, ruling, minute| {
        decide(charge, &Fact::Ruled(ruling, shows(Vec::new())), at(minute), &Policy::default()).unwrap()
    };
    let first = rule(&unsent(), Ruling::Void, 70);
    let again = rule(&rule(&first.charge, Ruling::Retry, 71).charge, Ruling::Void, 72);
    assert_eq!([first.charge.state, again.charge.state], [ChargeState::Void; 2]);
    assert_eq!([first.events[0].kind, again.events[0].kind], [EventKind::ChargeVoid; 2]);
    assert_ne!(first.events[0].id, again.events[0].id);
}

/// The alarm about a doubt that lasts is not the one about what then shows up.
#[test]
fn a_wrong_payment_that_shows_up_after_a_long_doubt_is_told_once() {
    let judge = |charge: &Charge, fact, minute| decide(charge, &fact, at(minute), &Policy::default()).unwrap();
    let overdue = judge(&in_doubt(), Fact::LookUpFailed, 130);
    assert_eq!(overdue.events[0].kind, EventKind::ChargeDoubtOverdue);
    let review = judge(&overdue.charge, Fact::LookUpFailed, 1500);
    assert_eq!(review.charge.state, ChargeState::Review);
    let wrong = || {
        let mut findings = shows(vec![record("imp_1", RecordStatus::Paid, Money::krw(9_901))]);
        findings.records[0].mismatch = Some(Mismatch::Amount);
        Fact::LookedUp(findings)
    };
    let shown = judge(&review.charge, wrong(), 1560);
    assert_eq!(shown.incidents.iter().map(|incident| incident.kind).collect::<Vec<_>>(), [IncidentKind::WrongPayment]);
    assert_eq!(judge(&shown.charge, wrong(), 1620).incidents, []);
}
