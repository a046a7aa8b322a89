//! From facts to what is wrong.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::facts::{AccountFacts, Facts, OpenIncident, Unresolved, Waiting};
use super::{AlarmKey, AlarmKind, Condition};
use crate::domain::decide::IncidentKind;
use crate::domain::fuse::{FuseState, is_of_rates};

/// So many incidents of a kind are told one by one; the rest in one alarm.
pub const MOST_INCIDENTS: usize = 20;

/// A count of what is missed that is older says nothing any more.
const COUNT_STALE: u64 = 600;

/// What daemons write into their rows for a breaker, and for a kill file; see `app/switch.rs` and `engine/breaker.rs`.
const OF_BREAKER: &str = "the gateway ";
const OF_KILL_FILE: &str = "kill file";

/// Everything that is wrong at `now`.
pub fn judge(facts: &Facts, now: Timestamp) -> Vec<Condition> {
    let mut found = Vec::new();
    of_all(facts, now, &mut found);
    for account in &facts.accounts {
        of_account(account, &mut found);
        of_differences(account, &facts.incidents, &mut found);
    }
    of_daemons(&facts.daemons, &mut found);
    of_incidents(&facts.incidents, &mut found);
    found.extend(facts.unresolved.iter().map(of_unresolved));
    found
}

fn condition(kind: AlarmKind, account: &str, what: String, since: Option<Timestamp>, next_step: &str) -> Condition {
    let key = AlarmKey { kind, account: account.to_owned(), subject: String::new() };
    Condition { key, what, since, concerns: json!({}), next_step: next_step.to_owned() }
}

fn of_all(facts: &Facts, now: Timestamp, found: &mut Vec<Condition>) {
    if let Some(why) = &facts.killed {
        let what = format!("The kill switch is on, nothing is sent: {why}");
        found.push(condition(AlarmKind::KillSwitch, "", what, None, "rebilld kill status"));
    }
    if let Some((why, since)) = &facts.held {
        let what = format!("Everything is on hold, nothing is sent: {why}");
        found.push(condition(AlarmKind::Hold, "", what, *since, "rebilld hold status"));
    }
    if let Some(until) = facts.unsteady_until.filter(|until| *until > now) {
        let what = format!("The database's clock has jumped: sends and conclusions of \"not paid\" are held until {until}.");
        found.push(condition(AlarmKind::Clock, "", what, None, "rebilld hold status"));
    }
    let Some(missed) = facts.missed else { return };
    if missed.age > COUNT_STALE {
        let what = format!(
            "What is missed has not been counted for {} minutes: the database is slow, and charges may be missed.",
            missed.age / 60
        );
        let mut stale = condition(AlarmKind::MissedCharges, "", what, None, "rebilld hold status");
        stale.key.subject = "count".to_owned();
        found.push(stale);
        return;
    }
    let charges = |count: u64| format!("{count} charge{}", if count == 1 { " is" } else { "s are" });
    let kinds = [
        (
            "",
            missed.unexplained,
            "past due by two hours, with nothing shown to wait for (schedules and look-ups among them)",
            "rebilld charges list --state due",
        ),
        (
            "booked",
            missed.booked,
            "past due by two hours because PortOne's own schedule has the card, or may have charged it",
            "rebilld takeover check",
        ),
        ("bounded", missed.bounded, "past due by a day because the day's budget or the fuse puts it off", "rebilld wave show"),
    ];
    for (subject, count, why, next_step) in kinds.into_iter().filter(|(_, count, ..)| *count > 0) {
        let what = format!("{} {why}.", charges(count));
        let mut one = condition(AlarmKind::MissedCharges, "", what, None, next_step);
        one.key.subject = subject.to_owned();
        one.concerns = json!({ "missed": count });
        found.push(one);
    }
}

fn of_account(account: &AccountFacts, found: &mut Vec<Condition>) {
    let name = account.name.as_str();
    if let Some(why) = &account.killed {
        let what = format!("The account's kill switch is on, nothing is sent for it: {why}");
        found.push(condition(AlarmKind::KillSwitch, name, what, None, "rebilld kill status"));
    }
    if let Some((why, since)) = &account.held {
        let what = format!("The account is on hold, nothing is sent for it: {why}");
        found.push(condition(AlarmKind::Hold, name, what, *since, "rebilld hold status"));
    }
    if let Some((why, since)) = &account.paused {
        let kind = if is_of_rates(why) { AlarmKind::DeclineRate } else { AlarmKind::Hold };
        let mut paused =
            condition(kind, name, format!("The account is paused, nothing is sent for it: {why}"), *since, "rebilld hold status");
        paused.key.subject = "paused".to_owned();
        found.push(paused);
    }
    if let Some((state @ (FuseState::Blown | FuseState::Rejected), why, since)) = &account.fuse {
        let word = if *state == FuseState::Blown { "has blown" } else { "has blown, and what was due was rejected" };
        let what = format!("The account's fuse {word}, nothing is sent for it: {why}");
        found.push(condition(AlarmKind::Fuse, name, what, *since, &format!("rebilld wave show --account {name}")));
    }
}

/// Payments that one side knows and the other does not: together for each account.
fn of_differences(account: &AccountFacts, incidents: &[OpenIncident], found: &mut Vec<Condition>) {
    let name = account.name.as_str();
    let differs = |incident: &&OpenIncident| {
        incident.account == name && matches!(incident.kind, IncidentKind::UnknownPayment | IncidentKind::MissingPayment)
    };
    let open: Vec<&OpenIncident> = incidents.iter().filter(differs).collect();
    let audit = account.audited.filter(|(_, differences)| *differences > 0);
    let since = open.iter().map(|incident| incident.opened_at).min().or(audit.map(|(at, _)| at));
    let Some(since) = since else { return };
    let count = i64::try_from(open.len()).unwrap_or(i64::MAX).max(audit.map_or(0, |(_, differences)| differences));
    let s = if count == 1 { "" } else { "s" };
    let what = format!("The database and the gateway's list of payments differ: {count} difference{s}.");
    let next = format!("rebilld incidents list --account {name}");
    let mut one = condition(AlarmKind::AuditDifference, name, what, Some(since), &next);
    let ids: Vec<i64> = open.iter().map(|incident| incident.id).collect();
    one.concerns = json!({ "differences": count, "incidents": ids });
    found.push(one);
}

fn of_incidents(incidents: &[OpenIncident], found: &mut Vec<Condition>) {
    for (of, kind) in
        [(IncidentKind::DoubleCharge, AlarmKind::DoubleCharge), (IncidentKind::WrongPayment, AlarmKind::WrongAmount)]
    {
        let all: Vec<&OpenIncident> = incidents.iter().filter(|incident| incident.kind == of).collect();
        found.extend(all.iter().take(MOST_INCIDENTS).map(|incident| of_incident(kind, incident)));
        if all.len() > MOST_INCIDENTS {
            let what =
                format!("More than {MOST_INCIDENTS} incidents of this kind are open: those after them are not told one by one.");
            let next = format!("rebilld incidents list --kind {}", of.name());
            let mut more = condition(kind, "", what, None, &next);
            more.key.subject = "more".to_owned();
            found.push(more);
        }
    }
}

fn of_incident(kind: AlarmKind, incident: &OpenIncident) -> Condition {
    let words = match kind {
        AlarmKind::DoubleCharge => "A payer was charged twice for one period",
        _ => "A payment under an id of ours is not the one that was asked for",
    };
    let next = format!("rebilld incidents show {}", incident.id);
    let what = format!("{words}: {}", incident.detail);
    let mut one = condition(kind, &incident.account, what, Some(incident.opened_at), &next);
    one.key.subject = incident.id.to_string();
    one.concerns = json!({ "incident": incident.id, "charges": charges(incident.charge.as_slice()) });
    one
}

fn of_unresolved(unresolved: &Unresolved) -> Condition {
    let (count, s) = (unresolved.charges, if unresolved.charges == 1 { "" } else { "s" });
    let (kind, what, next) = match unresolved.review {
        true => (
            AlarmKind::ReviewWaiting,
            format!("{count} charge{s} in review: no rule may decide, a person has to."),
            "rebilld review list",
        ),
        false => (
            AlarmKind::DoubtOld,
            format!("{count} charge{s} in doubt for more than 2 hours: whether they were paid is not known."),
            "rebilld charges list --state doubt",
        ),
    };
    let mut one = condition(kind, &unresolved.account, what, unresolved.oldest_at, next);
    one.concerns = json!({ "count": count, "charges": charges(&unresolved.oldest) });
    one
}

fn charges(of: &[Waiting]) -> Vec<Value> {
    of.iter().map(|one| json!({ "charge": one.charge, "amount": one.amount, "currency": one.currency })).collect()
}

/// Breakers and kill files: several daemons may say the same.
fn of_daemons(lines: &[String], found: &mut Vec<Condition>) {
    for line in lines {
        let (account, why) = match line.strip_prefix("account ").and_then(|rest| rest.split_once(": ")) {
            Some((account, why)) => (account, why),
            None => ("", line.as_str()),
        };
        let mut one = if why.starts_with(OF_BREAKER) {
            condition(
                AlarmKind::Breaker,
                account,
                format!("Sends of the account are paused or slowed: {why}."),
                None,
                "rebilld kill status",
            )
        } else if why.contains(OF_KILL_FILE) {
            condition(AlarmKind::KillSwitch, account, format!("A daemon sends nothing: {why}."), None, "rebilld kill status")
        } else {
            continue;
        };
        if one.key.kind == AlarmKind::KillSwitch {
            one.key.subject = "file".to_owned();
        }
        if !found.iter().any(|known| known.key == one.key) {
            found.push(one);
        }
    }
}
