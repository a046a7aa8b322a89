//! Words for people: what a charge waits for, what happens next.

use super::story::zone;
use crate::cli::context::Opened;
use crate::cli::output::local;
use crate::domain::charge::{ChargeState, Waiting};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::domain::fuse::FuseState;
use crate::store::desk::{AccountStatus, BookedKey, Status, Story};

pub fn waiting(waiting: Waiting) -> &'static str {
    match waiting {
        Waiting::Turn => "its turn",
        Waiting::Retry => "the next try",
        Waiting::Card => "a new card",
        Waiting::CardRest => "its card to rest",
        Waiting::Backoff => "the gateway",
        Waiting::Resend => "its resend",
        Waiting::Budget => "the budget",
        Waiting::Fuse => "the fuse",
        Waiting::Window => "its window",
        Waiting::Paused => "its subscription to be resumed",
        Waiting::LookUp => "a look-up",
        Waiting::Operator => "an operator",
        Waiting::Nothing => "",
    }
}

/// What an operator does about a key that PortOne may have charged.
pub fn may_be_charged(booked: &BookedKey, zone: &TimeZone) -> String {
    let first = booked.first_at.map_or_else(String::new, |at| format!(" on {}", local(at, zone)));
    format!(
        "PortOne may have charged this card{first}: look at the gateway, then `rebilld takeover release {} --reason …`",
        booked.customer_uid
    )
}

/// Why a billing key is not charged from here: PortOne's own schedule is going to, or may have done so.
pub fn bookings(booked: &BookedKey, now: Timestamp, zone: &TimeZone) -> String {
    if booked.may_be_charged(now) {
        return may_be_charged(booked, zone);
    }
    let s = if booked.bookings == 1 { "" } else { "s" };
    let first = booked.first_at.map_or_else(String::new, |at| format!(", the first one on {}", local(at, zone)));
    format!(
        "Its billing key has {} booking{s} in PortOne's own schedule{first} (seen on {}): it is not charged from here before they are gone (`rebilld takeover unschedule`, then `takeover check`)",
        booked.bookings,
        local(booked.checked_at, zone)
    )
}

/// What happens next, in sentences.
pub fn next(
    opened: &Opened,
    story: &Story,
    (status, account): (Option<&Status>, Option<&AccountStatus>),
    booked: Option<&BookedKey>,
) -> Vec<String> {
    let charge = &story.charge;
    let zone = zone(opened, charge);
    let when = match charge.next_at {
        Some(at) if at <= opened.now => "now".to_owned(),
        Some(at) => format!("at {}", local(at, &zone)),
        None => "when something changes".to_owned(),
    };
    let open_send = story.sends.iter().any(|send| send.state == "open");
    let mut said = vec![match (charge.state, charge.waiting) {
        (ChargeState::Due, _) if open_send => {
            format!("A send has no proven end: the gateway is asked {when}, before anything else is sent.")
        }
        (ChargeState::Paid, _) if charge.refunded => "Nothing: it is paid, and was refunded at the gateway.".to_owned(),
        (ChargeState::Paid, _) => "Nothing: it is paid, and that is final.".to_owned(),
        (ChargeState::Unpaid, _) => format!(
            "Closed without payment. A late payment would still be found: looked up {when}. `rebilld charges retry` tries again."
        ),
        (ChargeState::Void, _) => format!("Closed by an operator. A late payment would still be found: looked up {when}."),
        (ChargeState::Review, _) => format!(
            "A person decides: `rebilld review rule {} paid|unpaid|resend|void`. It is looked up {when} meanwhile.",
            charge.id
        ),
        (ChargeState::Doubt, _) => {
            format!("It may have been paid, so it is never sent while that is open. The gateway is asked {when}.")
        }
        (ChargeState::Due, Waiting::Card) => "It waits for a new billing key: `rebilld subscriptions set REF --customer-uid …`."
            .replace("REF", &charge.external_ref),
        (ChargeState::Due, Waiting::CardRest) if booked.is_some() => {
            format!("It waits for its card, which is looked at again {when}, or at once when it is free or there is a new one.")
        }
        (ChargeState::Due, Waiting::CardRest) => {
            format!(
                "Its card was asked just now, or as often as it may be; it is tried {when}, or at once with a new billing key."
            )
        }
        (ChargeState::Due, Waiting::Retry) => format!("The next try is made {when}."),
        (ChargeState::Due, Waiting::Backoff) => {
            format!("It could not be sent; the story says why. It is sent {when}, under the same id.")
        }
        (ChargeState::Due, Waiting::Resend) => format!("The send was lost for certain; the same bytes are sent again {when}."),
        (ChargeState::Due, Waiting::Window) => format!("No charge starts before its window (`[windows]`): it is sent {when}."),
        (ChargeState::Due, Waiting::Fuse) => {
            format!("The account's fuse does not let it through (`rebilld wave show`); it is looked at again {when}.")
        }
        (ChargeState::Due, Waiting::Budget) => format!("The day's budget is used up; it is sent {when}."),
        (ChargeState::Due, _) => format!("It is sent {when}."),
    }];
    let sends = matches!(charge.state, ChargeState::Due);
    if let (true, Some(booked)) = (sends, booked) {
        said.push(format!("{}.", bookings(booked, opened.now, &opened.zone(&charge.account))));
    }
    if let (true, Some(status)) = (sends, status) {
        let because = |why: &Option<String>| why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        if status.killed {
            said.push(format!("But the kill switch is on{}: nothing is sent.", because(&status.kill_reason)));
        }
        if status.held {
            said.push(format!("But the database is held{}: nothing is sent.", because(&status.hold_reason)));
        }
        if let Some(until) = status.unsteady_until.filter(|until| *until > opened.now) {
            let until = local(until, &zone);
            said.push(format!("But the database clock has jumped: nothing is sent before {until}."));
        }
        if let Some(account) = account {
            if account.killed {
                said.push(format!("But the account's kill switch is on{}: nothing is sent.", because(&account.kill_reason)));
            }
            if account.held {
                said.push(format!("But the account is held{}: nothing is sent.", because(&account.hold_reason)));
            }
            if account.paused {
                said.push(format!("But the account is paused{}: nothing is sent.", because(&account.pause_reason)));
            }
            let fuse = because(&account.fuse_why);
            match account.fuse {
                Some(FuseState::Blown) => said.push(format!(
                    "But the account's fuse has blown{fuse}: nothing is sent until an operator approves what is due (`rebilld wave show`)."
                )),
                Some(FuseState::Rejected) => {
                    said.push(format!("But an operator keeps the account stopped{fuse}: nothing is sent before `rebilld wave approve`."));
                }
                Some(FuseState::Approved) => said.push(
                    "But the account sends the charges of an approved wave and nothing else, until that is over.".to_owned(),
                ),
                None => {}
            }
            if !account.armed {
                let arm = format!("`rebilld arm --account {}`", account.name);
                said.push(format!("But the account is not armed in this database: nothing is sent before {arm}."));
            }
            if !account.audited {
                said.push(
                    "But the account has had no complete audit in this incarnation of the database: nothing is sent before."
                        .to_owned(),
                );
            }
        }
    }
    if let Some(imp_uid) = &charge.elsewhere_imp_uid {
        said.push(format!(
            "A payment under an earlier id is known ({imp_uid}); the charge is settled with it once the open send has ended."
        ));
    }
    said
}

/// What was asked or seen, in one line.
pub fn observation(source: &str) -> &'static str {
    match source {
        "answer" => "the gateway answered",
        "look_up" => "looked up",
        "operator" => "an operator ruled",
        "audit" => "the audit saw",
        "worker" => "the worker noted",
        _ => "noted",
    }
}

/// Whose observation it is, in one word.
pub fn source(source: &str) -> &'static str {
    match source {
        "answer" => "answer",
        "look_up" => "look-up",
        "operator" => "ruling",
        "audit" => "audit",
        _ => "worker",
    }
}
