use std::collections::BTreeSet;

use jiff::ToSpan;
use serde_json::json;

use super::*;
use crate::domain::decide::IncidentKind;
use crate::domain::fuse::{DECLINED, FuseState};

fn now() -> Timestamp {
    "2026-12-01T01:00:00Z".parse().unwrap()
}

fn ago(hours: i64) -> Timestamp {
    now() - hours.hours()
}

fn account(change: impl FnOnce(&mut AccountFacts)) -> Facts {
    let mut account = AccountFacts { name: "main".to_owned(), ..AccountFacts::default() };
    change(&mut account);
    Facts { accounts: vec![account], ..Facts::default() }
}

fn incident(id: i64, kind: IncidentKind) -> OpenIncident {
    let charge = Some(Waiting { charge: 7, amount: 9_900, currency: "KRW".to_owned() });
    OpenIncident {
        id,
        kind,
        account: "main".to_owned(),
        detail: "imps_1 and imps_2 are both paid".to_owned(),
        opened_at: ago(1),
        charge,
    }
}

/// Kinds, accounts and subjects of what is wrong.
fn found(facts: &Facts) -> Vec<(&'static str, String, String)> {
    let keys = judge(facts, now()).into_iter().map(|condition| condition.key);
    keys.map(|key| (key.kind.name(), key.account, key.subject)).collect()
}

fn one(kind: &'static str, account: &str, subject: &str) -> Vec<(&'static str, String, String)> {
    vec![(kind, account.to_owned(), subject.to_owned())]
}

#[test]
fn every_kind_has_its_name() {
    for kind in AlarmKind::ALL {
        assert_eq!(AlarmKind::from_name(kind.name()), Some(kind));
    }
    assert_eq!(AlarmKind::NAMES.iter().collect::<BTreeSet<_>>().len(), AlarmKind::ALL.len());
    assert_eq!(AlarmKind::WrongAmount.runbook(), "docs/runbooks/wrong-amount.md");
}

#[test]
fn nothing_wrong_is_no_alarm() {
    let mut facts = account(|account| account.audited = Some((ago(1), 0)));
    facts.missed = Some(MissedFacts { unexplained: 0, booked: 0, bounded: 0, age: 300 });
    facts.unsteady_until = Some(ago(1));
    facts.accounts[0].fuse = Some((FuseState::Approved, "a wave".to_owned(), None));
    facts.daemons = vec!["something that a newer release writes".to_owned()];
    assert_eq!(found(&facts), []);
}

#[test]
fn each_brake_is_an_alarm_of_its_kind() {
    let why = || "too many calls".to_owned();
    let all = Facts { killed: Some(why()), ..Facts::default() };
    assert_eq!(found(&all), one("kill-switch", "", ""));
    let all = Facts { held: Some((why(), Some(ago(1)))), ..Facts::default() };
    assert_eq!(found(&all), one("hold", "", ""));
    assert_eq!(judge(&all, now())[0].since, Some(ago(1)));
    assert_eq!(found(&account(|account| account.killed = Some(why()))), one("kill-switch", "main", ""));
    assert_eq!(found(&account(|account| account.held = Some((why(), None)))), one("hold", "main", ""));
    assert_eq!(found(&account(|account| account.paused = Some((why(), None)))), one("hold", "main", "paused"));
    let rates = format!("11 of 21 {DECLINED}: look at the gateway");
    assert_eq!(found(&account(|account| account.paused = Some((rates, None)))), one("decline-rate", "main", "paused"));
    for state in [FuseState::Blown, FuseState::Rejected] {
        assert_eq!(found(&account(|account| account.fuse = Some((state, why(), None)))), one("fuse", "main", ""));
    }
    let all = Facts { unsteady_until: Some(now() + 1.minutes()), ..Facts::default() };
    assert_eq!(found(&all), one("clock", "", ""));
}

#[test]
fn what_several_daemons_say_is_one_alarm() {
    let breaker = "account main: the gateway fails as a whole: sends pause, and a look-up probes it";
    let slowly = "account main: the gateway answers again: sends resume slowly";
    let file = "the kill file /var/lib/rebilld/kill exists";
    let unknown = "account second: whether the kill file /x/kill exists cannot be told: permission denied";
    let daemons = [breaker, slowly, file, file, unknown].map(str::to_owned).to_vec();
    let expected = [one("breaker", "main", ""), one("kill-switch", "", "file"), one("kill-switch", "second", "file")].concat();
    assert_eq!(found(&Facts { daemons, ..Facts::default() }), expected);
}

#[test]
fn incidents_are_told_one_by_one_up_to_a_bound() {
    let facts = |count: i64| Facts {
        incidents: (1..=count).map(|id| incident(id, IncidentKind::DoubleCharge)).collect(),
        ..Facts::default()
    };
    let two = judge(&facts(2), now());
    assert_eq!(found(&facts(2)), [one("double-charge", "main", "1"), one("double-charge", "main", "2")].concat());
    assert_eq!(two[0].concerns, json!({ "incident": 1, "charges": [{ "charge": 7, "amount": 9_900, "currency": "KRW" }] }));
    assert_eq!(two[1].next_step, "rebilld incidents show 2");
    let many = found(&facts(21));
    assert_eq!((many.len(), many.last()), (21, one("double-charge", "", "more").first()));
    let wrong = Facts { incidents: vec![incident(3, IncidentKind::WrongPayment)], ..Facts::default() };
    assert_eq!(found(&wrong), one("wrong-amount", "main", "3"));
}

#[test]
fn differences_of_both_ledgers_are_one_alarm_of_their_account() {
    let mut facts = account(|account| account.audited = Some((ago(1), 3)));
    assert_eq!(found(&facts), one("audit-difference", "main", ""));
    facts.incidents = vec![incident(1, IncidentKind::UnknownPayment), incident(2, IncidentKind::MissingPayment)];
    let all = judge(&facts, now());
    assert_eq!((all.len(), &all[0].concerns), (1, &json!({ "differences": 3, "incidents": [1, 2] })));
    facts.accounts[0].audited = Some((ago(1), 0));
    assert_eq!(found(&facts), one("audit-difference", "main", ""), "incidents stand until somebody closes them");
}

#[test]
fn what_waits_and_what_is_missed_is_told_with_its_numbers() {
    let unresolved = |review, charges| Unresolved {
        account: "main".to_owned(),
        review,
        charges,
        oldest_at: Some(ago(30)),
        oldest: vec![Waiting { charge: 7, amount: 9_900, currency: "KRW".to_owned() }],
    };
    let facts = Facts { unresolved: vec![unresolved(true, 1), unresolved(false, 2)], ..Facts::default() };
    assert_eq!(found(&facts), [one("review-waiting", "main", ""), one("doubt-old", "main", "")].concat());
    let all = judge(&facts, now());
    assert_eq!((all[0].since, &all[0].what[..18]), (Some(ago(30)), "1 charge in review"));
    assert_eq!(all[1].concerns["count"], 2);
    let missed = |unexplained, booked, bounded, age| Facts {
        missed: Some(MissedFacts { unexplained, booked, bounded, age }),
        ..Facts::default()
    };
    assert_eq!(found(&missed(1, 0, 0, 60)), one("missed-charges", "", ""));
    assert_eq!(found(&missed(0, 0, 0, 601)), one("missed-charges", "", "count"));
    // where the wait is shown, it is named, and so is the command that ends it
    let all = judge(&missed(1, 2, 3, 60), now());
    let told: Vec<_> =
        all.iter().map(|one| (one.key.subject.as_str(), one.next_step.as_str(), &one.concerns["missed"])).collect();
    let (one, two, three) = (json!(1), json!(2), json!(3));
    let wanted = [
        ("", "rebilld charges list --state due", &one),
        ("booked", "rebilld takeover check", &two),
        ("bounded", "rebilld wave show", &three),
    ];
    assert_eq!(told, wanted);
    assert!(all[1].what.contains("PortOne's own schedule") && !all[2].what.contains("nothing shown"), "{all:?}");
}

/// An alarm of a kind that was told so many hours ago.
fn told(kind: AlarmKind, hours: i64) -> Standing {
    Standing { condition: held(kind), since: ago(9), told_at: ago(hours), turn: Turn::Raised, owed: Vec::new() }
}

fn held(kind: AlarmKind) -> Condition {
    let key = AlarmKey { kind, account: "main".to_owned(), subject: String::new() };
    Condition {
        key,
        what: "It is on hold.".to_owned(),
        since: Some(ago(9)),
        concerns: json!({}),
        next_step: "rebilld hold status".to_owned(),
    }
}

fn turns(standing: &[Standing], conditions: &[Condition]) -> Vec<(AlarmKind, Turn, Option<Timestamp>)> {
    let steps = steps(standing, conditions, now(), SignedDuration::from_hours(4));
    steps.into_iter().map(|step| (step.condition.key.kind, step.turn, step.seen)).collect()
}

#[test]
fn an_alarm_is_raised_once_repeated_while_it_lasts_and_resolved_once() {
    let hold = AlarmKind::Hold;
    assert_eq!(turns(&[], &[held(hold)]), [(hold, Turn::Raised, None)]);
    assert_eq!(turns(&[told(hold, 3)], &[held(hold)]), []);
    assert_eq!(turns(&[told(hold, 4)], &[held(hold)]), [(hold, Turn::Repeated, Some(ago(4)))]);
    assert_eq!(turns(&[told(hold, 1)], &[]), [(hold, Turn::Resolved, Some(ago(1)))]);
    let over = Standing { turn: Turn::Resolved, ..told(hold, 1) };
    assert_eq!(turns(std::slice::from_ref(&over), &[]), []);
    assert_eq!(turns(&[over], &[held(hold)]), [(hold, Turn::Raised, None)], "it is wrong again");
    let both = turns(&[told(hold, 1)], &[held(AlarmKind::Fuse)]);
    assert_eq!(both, [(AlarmKind::Fuse, Turn::Raised, None), (hold, Turn::Resolved, Some(ago(1)))]);
}

#[test]
fn an_alarm_is_json_with_an_id_of_its_own_for_each_word() {
    let standing = told(AlarmKind::Hold, 1);
    let alarm = standing.alarm();
    assert_eq!(alarm, standing.alarm(), "each try has the same id");
    assert_ne!(alarm.id, told(AlarmKind::Hold, 2).alarm().id);
    assert_ne!(alarm.id, Standing { turn: Turn::Resolved, ..standing }.alarm().id);
    assert_eq!(
        alarm.json(),
        json!({
            "version": 1, "id": alarm.id, "kind": "hold", "turn": "raised", "severity": "critical", "account": "main",
            "what": "It is on hold.", "since": ago(9), "at": ago(1), "concerns": {}, "next_step": "rebilld hold status",
            "runbook": "docs/runbooks/hold.md",
        })
    );
    let test = Alarm::test(now()).json();
    assert_eq!((&test["kind"], &test["account"], &test["runbook"]), (&json!("test"), &json!(null), &json!(null)));
}

#[test]
fn slack_shows_text_and_no_markup_of_ours() {
    let mut alarm = told(AlarmKind::Hold, 1).alarm();
    alarm.what = "<!channel> & co".to_owned();
    let text = alarm.slack()["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("*critical* hold (main)\n&lt;!channel&gt; &amp; co\nsince "), "{text}");
    assert!(text.ends_with("next: `rebilld hold status`\ndocs/runbooks/hold.md"), "{text}");
    alarm.turn = Turn::Resolved;
    assert!(!alarm.slack()["text"].as_str().unwrap().contains("next:"));
}
