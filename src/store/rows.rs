//! Rows as the domain's own types.

use serde_json::Value;

use super::codec::Row;
use super::db::Fault;
use crate::domain::attempt::{Attempt, AttemptId, AttemptState, Hint, IdBase, IdNumber, Send, SendEnd, SendId, Tag};
use crate::domain::charge::{
    AccountId, Charge, ChargeId, ChargeState, Course, Doubt, IdMode, PaidElsewhere, SubscriptionId, Waiting,
};
use crate::domain::decline::Class;
use crate::domain::lifecycle::{Gaps, Progress};
use crate::domain::money::Money;
use crate::domain::period::Period;
use crate::domain::plan::{Resume, TrialAnchor};
use crate::domain::subscription::{ChargeOptions, Payer, Status, Terms};
use crate::ports::store::{Claimed, DueSchedule};

pub(super) fn charge(row: &Row, tag: Tag) -> Result<Charge, Fault> {
    let account_name = row.text("account")?;
    let external_ref = row.text("external_ref")?;
    let period = Period { start: row.day("period_start")?, end: row.day("period_end")? };
    let live = live(row)?;
    let open = live.as_ref().and_then(|live| live.open_send);
    let number: u16 = row.small("attempts")?;
    let elsewhere = row.text_opt("elsewhere_imp_uid")?;
    Ok(Charge {
        id: ChargeId(row.int("id")?),
        account: AccountId(row.int("account_id")?),
        subscription: SubscriptionId(row.int("subscription_id")?),
        plan: row.text("charge_plan")?,
        zone: row.text_opt("charge_zone")?,
        base: IdBase::derive(tag, &account_name, &external_ref, period.start),
        account_name,
        external_ref,
        mode: row.word("id_mode", IdMode::from_name)?,
        period,
        due_at: row.at("due_at")?,
        amount: money(row)?,
        tax_free: row.int_opt("tax_free")?,
        vat_amount: row.int_opt("vat_amount")?,
        state: row.word("state", ChargeState::from_name)?,
        waiting: row.word("waiting", Waiting::from_name)?,
        next_at: row.at_opt("next_at")?,
        id_number: id_number(row, "id_number")?,
        // an intent does not write the charge's own row: what it adds is read from the attempt and its send
        attempts: number.max(live.as_ref().map_or(0, |live| live.number)),
        tries: row.small("tries")?,
        first_declined_at: row.at_opt("first_declined_at")?,
        refused_customer: row.text_opt("refused_customer")?,
        course: Course {
            declined_customer: row.text_opt("declined_customer")?,
            restarted_after: row.int_opt("restarted_after")?.map(|_| row.small("restarted_after")).transpose()?,
            transients: row.small("transients")?,
            transient_since: row.at_opt("transient_since")?,
        },
        not_sent: row.small("not_sent")?,
        doubt: Doubt {
            since: row.at_opt("doubt_since")?,
            looks: row.small("doubt_looks")?,
            quiet_since: row.at_opt("quiet_since")?,
            quiet_twice: row.flag("quiet_twice")?,
            alarmed: row.flag("alarmed")?,
        },
        newest_send_at: row.at_opt("newest_send_at")?.max(open.map(|send| send.begun_at)),
        paid_elsewhere: match elsewhere {
            Some(imp_uid) => Some(PaidElsewhere { imp_uid, id_number: id_number(row, "elsewhere_number")? }),
            None => None,
        },
        paid_imp_uid: row.text_opt("imp_uid")?,
        live,
        version: row.int("version")?,
    })
}

fn live(row: &Row) -> Result<Option<Attempt>, Fault> {
    if row.text_opt("live_state")?.as_deref() != Some("live") {
        return Ok(None);
    }
    let hint = row.text_opt("live_hint")?;
    let open_send = match row.int_opt("send_id")? {
        Some(id) => Some(Send { id: SendId(id), begun_at: row.at("send_begun_at")? }),
        None => None,
    };
    Ok(Some(Attempt {
        id: AttemptId(row.int("live_id")?),
        number: row.small("live_number")?,
        id_number: id_number(row, "live_id_number")?,
        customer_uid: row.text("live_customer")?,
        resends: row.small("live_resends")?,
        hint: match hint {
            Some(text) => Some(hint_of(&text).ok_or_else(|| Fault::Corrupt(format!("there is no hint `{text}`")))?),
            None => None,
        },
        open_send,
    }))
}

pub(super) fn id_number(row: &Row, column: &str) -> Result<IdNumber, Fault> {
    let number: u8 = row.small(column)?;
    IdNumber::new(number).ok_or_else(|| Fault::Corrupt(format!("column `{column}` holds {number}, which numbers no id")))
}

pub(super) fn money(row: &Row) -> Result<Money, Fault> {
    Ok(Money::new(row.int("amount")?, row.word("currency", |code| code.parse().ok())?))
}

pub(super) fn payer(row: &Row) -> Result<Payer, Fault> {
    let options = ChargeOptions {
        buyer_name: row.text_opt("buyer_name")?,
        buyer_email: row.text_opt("buyer_email")?,
        buyer_tel: row.text_opt("buyer_tel")?,
        buyer_addr: row.text_opt("buyer_addr")?,
        buyer_postcode: row.text_opt("buyer_postcode")?,
        card_quota: row.int_opt("card_quota")?,
        interest_free_by_merchant: row.flag_opt("interest_free_by_merchant")?,
        use_card_point: row.flag_opt("use_card_point")?,
        custom_data: row.text_opt("custom_data")?,
        notice_url: row.text_opt("notice_url")?,
        product_type: row.text_opt("product_type")?,
        product_count: row.int_opt("product_count")?,
        cash_receipt_type: row.text_opt("cash_receipt_type")?,
        bypass: row.text_opt("bypass")?,
        // a text that is no JSON is handed on as it is: the check of the request names it, for this charge alone
        extra: row.text_opt("extra")?.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text))),
        promotion_id: row.text_opt("promotion_id")?,
        channel_key: row.text_opt("channel_key")?,
    };
    Ok(Payer {
        status: row.word("status", Status::from_name)?,
        customer_uid: row.text("customer_uid")?,
        plan: row.text("plan")?,
        name: row.text_opt("name")?,
        zone: row.text_opt("zone")?,
        options,
    })
}

pub(super) fn claimed(row: &Row, tag: Tag) -> Result<Claimed, Fault> {
    Ok(Claimed { charge: charge(row, tag)?, payer: payer(row)?, last_body: row.text_opt("last_body")?, owns_id: false })
}

/// The columns that `terms!` of `sql/terms.rs` names. Dated prices and adjustments come by [`super::terms`].
pub(super) fn terms(row: &Row) -> Result<Terms, Fault> {
    let narrow = |column: &str| row.int_opt(column)?.map(|_| row.small::<u32>(column)).transpose();
    let word = |column: &str| row.text_opt(column);
    Ok(Terms {
        id: SubscriptionId(row.int("subscription_id")?),
        status: row.word("status", Status::from_name)?,
        next_plan: row.text_opt("next_plan")?,
        amount: row.int_opt("amount")?,
        currency: row.text_opt("currency")?,
        quantity: narrow("quantity")?.unwrap_or(1),
        starts_on: row.day_opt("starts_on")?,
        ends_on: row.day_opt("ends_on")?,
        max_periods: narrow("max_periods")?,
        cancel_at_period_end: row.flag_opt("cancel_at_period_end")?.unwrap_or(false),
        trial_days: narrow("trial_days")?,
        trial_until: row.day_opt("trial_until")?,
        trial_anchor: word("trial_anchor")?.and_then(|name| TrialAnchor::from_name(&name)),
        resume: word("resume")?.and_then(|name| Resume::from_name(&name)),
        zone: row.text_opt("zone")?,
        charge_time: row.text_opt("charge_time")?,
        tax_free: row.int_opt("tax_free")?,
        vat_amount: row.int_opt("vat_amount")?,
        ..Terms::new(row.text("account")?, row.text("external_ref")?, row.text("plan")?, row.day("anchor")?)
    })
}

pub(super) fn progress(row: &Row) -> Result<Progress, Fault> {
    Ok(Progress {
        opened_until: row.day_opt("opened_until")?,
        not_before: row.day_opt("not_before")?,
        stopped_on: row.day_opt("stopped_on")?,
        gaps: match row.text_opt("gaps")? {
            Some(text) => text.parse().map_err(|why| Fault::Corrupt(format!("column `gaps`: {why}")))?,
            None => Gaps::default(),
        },
        anchor: row.day_opt("counted_from")?,
        periods: row.small("periods")?,
        walked: false,
    })
}

pub(super) fn due_schedule(row: &Row) -> Result<DueSchedule, Fault> {
    Ok(DueSchedule { plans_version: row.int("plans_version")?, ..schedule(row, payer(row)?)? })
}

/// A schedule for looking ahead: nothing of the payer has been read.
pub(super) fn standing(row: &Row) -> Result<DueSchedule, Fault> {
    let nobody = Payer {
        status: row.word("status", Status::from_name)?,
        customer_uid: String::new(),
        plan: row.text("plan")?,
        name: None,
        zone: row.text_opt("zone")?,
        options: ChargeOptions::default(),
    };
    schedule(row, nobody)
}

fn schedule(row: &Row, payer: Payer) -> Result<DueSchedule, Fault> {
    let (progress, parked) = (progress(row)?, row.text_opt("parked")?);
    Ok(DueSchedule {
        terms: terms(row)?,
        payer,
        account: AccountId(row.int("account_id")?),
        progress,
        // a cancelled subscription that is taken up again owes nothing for the time between either
        was_paused: matches!(parked.as_deref(), Some("paused" | "ended")) || progress.stopped_on.is_some(),
        was_waiting: matches!(parked.as_deref(), Some("blocked" | "problem")),
        known_since: row.at("created_at")?,
        caught_up: row.day_opt("caught_up")?,
        version: row.int("version")?,
        plans_version: 0,
    })
}

pub(super) fn attempt_state(name: &str) -> Option<AttemptState> {
    use AttemptState::{Declined, Live, Paid, Refused, Void};
    [Live, Paid, Declined, Refused, Void].into_iter().find(|state| attempt_state_name(*state) == name)
}

pub(super) fn attempt_state_name(state: AttemptState) -> &'static str {
    match state {
        AttemptState::Live => "live",
        AttemptState::Paid => "paid",
        AttemptState::Declined => "declined",
        AttemptState::Refused => "refused",
        AttemptState::Void => "void",
    }
}

pub(super) fn send_end_name(end: SendEnd) -> &'static str {
    match end {
        SendEnd::Answered => "answered",
        SendEnd::NotSent => "not_sent",
        SendEnd::Absent => "absent",
        SendEnd::Found => "found",
    }
}

fn hint_of(text: &str) -> Option<Hint> {
    match text {
        "refused_key" => Some(Hint::RefusedKey),
        "refused_request" => Some(Hint::RefusedRequest),
        class => Class::from_name(class).map(Hint::Text),
    }
}

pub(super) fn hint_name(hint: Hint) -> &'static str {
    match hint {
        Hint::RefusedKey => "refused_key",
        Hint::RefusedRequest => "refused_request",
        Hint::Text(class) => class.name(),
    }
}
