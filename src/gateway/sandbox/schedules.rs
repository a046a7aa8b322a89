//! PortOne's own schedule: bookings of charges to come. The sandbox keeps them and shows them; it never carries one out.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::call::Call;
use super::gateway::Gateway;
use super::journal::Entry;
use super::lookup::bad_request;
use super::wire::{Answer, PG_ID, PG_PROVIDER};
use crate::domain::money::{Currency, Money};

/// The longest span of a list: three months.
const WINDOW: i64 = 92 * 24 * 3600;
const NO_BUYER: &str = "등록되지 않은 구매자입니다.";
const NO_BOOKING: &str = "취소할 예약결제 기록이 존재하지 않습니다.";

/// Where a booking stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BookingStatus {
    Scheduled,
    Revoked,
}

/// One charge to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookingRecord {
    pub customer_uid: String,
    pub merchant_uid: String,
    /// Unix seconds.
    pub schedule_at: i64,
    pub amount_minor: i64,
    pub currency: String,
    pub name: String,
    pub status: BookingStatus,
    /// Unix seconds; 0: not taken back.
    pub revoked_at: i64,
}

/// Takes a booking in, or what it has become.
pub(super) fn put(bookings: &mut Vec<BookingRecord>, booking: BookingRecord) {
    match bookings.iter_mut().find(|known| known.merchant_uid == booking.merchant_uid) {
        Some(known) => *known = booking,
        None => bookings.push(booking),
    }
}

/// `ScheduleAnnotation`, as far as it is used.
#[derive(Deserialize)]
struct Wanted {
    merchant_uid: String,
    schedule_at: i64,
    amount: Box<RawValue>,
    #[serde(default)]
    currency: Option<String>,
    name: String,
}

/// `ScheduleResultAnnotation` of the OpenAPI file.
#[derive(Serialize)]
struct BookingView<'a> {
    customer_uid: &'a str,
    merchant_uid: &'a str,
    imp_uid: Option<&'a str>,
    pg_provider: &'static str,
    pg_id: &'static str,
    customer_id: Option<&'a str>,
    schedule_at: i64,
    executed_at: i64,
    revoked_at: i64,
    amount: Box<RawValue>,
    currency: &'a str,
    name: &'a str,
    schedule_status: BookingStatus,
    payment_status: Option<&'a str>,
    fail_reason: Option<&'a str>,
}

impl<'a> BookingView<'a> {
    fn of(booking: &'a BookingRecord) -> Self {
        let amount = Money::new(booking.amount_minor, booking.currency.parse().unwrap_or(Currency::KRW));
        Self {
            customer_uid: &booking.customer_uid,
            merchant_uid: &booking.merchant_uid,
            imp_uid: None,
            pg_provider: PG_PROVIDER,
            pg_id: PG_ID,
            customer_id: None,
            schedule_at: booking.schedule_at,
            executed_at: 0,
            revoked_at: booking.revoked_at,
            amount: RawValue::from_string(amount.decimal()).unwrap_or_default(),
            currency: &booking.currency,
            name: &booking.name,
            schedule_status: booking.status,
            payment_status: None,
            fail_reason: None,
        }
    }
}

impl Gateway {
    /// `GET /subscribe/customers/{uid}/schedules`: all on the first page.
    pub(super) fn customer_schedules(&self, scope: usize, call: &Call) -> Answer {
        let second = |name: &str| call.parameter(name).and_then(|text| text.parse::<i64>().ok());
        let (Some(from), Some(to)) = (second("from"), second("to")) else {
            return bad_request("from, to는 필수값입니다.");
        };
        if from > to || to.saturating_sub(from) > WINDOW {
            return bad_request("조회기간은 3개월을 초과할 수 없습니다.");
        }
        let status = match call.parameter("schedule-status") {
            None => None,
            Some("scheduled") => Some(BookingStatus::Scheduled),
            Some("revoked") => Some(BookingStatus::Revoked),
            // none is ever carried out
            Some("executed") => return Answer::of(&[(); 0]),
            Some(_) => return bad_request("schedule-status 값이 올바르지 않습니다."),
        };
        let first_page = call.parameter("page").is_none_or(|page| page == "1");
        let fits = |booking: &&BookingRecord| {
            first_page
                && booking.customer_uid == call.id()
                && (from..=to).contains(&booking.schedule_at)
                && status.is_none_or(|status| status == booking.status)
        };
        Answer::of(&self.ledger.scope(scope).bookings.iter().filter(fits).map(BookingView::of).collect::<Vec<_>>())
    }

    /// `POST /subscribe/payments/schedule`: all of them, or none.
    pub(super) fn schedule(&mut self, scope: usize, call: &Call, now: Timestamp) -> Answer {
        let wanted: Vec<Wanted> = match call.fields.list("schedules") {
            Ok(Some(wanted)) => wanted,
            Ok(None) => return Answer::refusal(200, 1, "필수 파라미터가 누락되었습니다. (schedules)"),
            Err(name) => return Answer::refusal(200, 1, format!("{name}의 형식이 올바르지 않습니다.")),
        };
        let uid = call.fields.text("customer_uid").ok().flatten().unwrap_or_default();
        if self.customer(scope, &uid, now).is_none() {
            return Answer::refusal(200, 1, NO_BUYER);
        }
        let mut bookings: Vec<BookingRecord> = Vec::new();
        for one in wanted {
            let currency = one.currency.unwrap_or_else(|| "KRW".to_owned());
            let amount = currency.parse().ok().and_then(|known| Money::parse(one.amount.get(), known).ok());
            let Some(amount) = amount else { return Answer::refusal(200, 1, "amount의 형식이 올바르지 않습니다.") };
            let taken = |booking: &BookingRecord| booking.merchant_uid == one.merchant_uid;
            let known = self.ledger.scope(scope).bookings.iter().chain(&bookings).any(taken);
            if known || !self.is_free(scope, &one.merchant_uid) {
                return Answer::refusal(200, 1, format!("이미 등록된 merchant_uid입니다. ({})", one.merchant_uid));
            }
            if one.schedule_at <= now.as_second() {
                return Answer::refusal(200, 1, "schedule_at은 현재시각 이후여야 합니다.");
            }
            bookings.push(BookingRecord {
                customer_uid: uid.clone(),
                merchant_uid: one.merchant_uid,
                schedule_at: one.schedule_at,
                amount_minor: amount.minor(),
                currency,
                name: one.name,
                status: BookingStatus::Scheduled,
                revoked_at: 0,
            });
        }
        self.keep(scope, bookings)
    }

    /// `POST /subscribe/payments/unschedule`: those that are named, or all of a card.
    pub(super) fn unschedule(&mut self, scope: usize, call: &Call, now: Timestamp) -> Answer {
        let uid = call.fields.text("customer_uid").ok().flatten();
        let Ok(named) = call.fields.list::<String>("merchant_uid") else {
            return Answer::refusal(200, 1, "merchant_uid의 형식이 올바르지 않습니다.");
        };
        if uid.is_none() && named.is_none() {
            return Answer::refusal(200, 1, "필수 파라미터가 누락되었습니다. (customer_uid)");
        }
        let meant = |booking: &&BookingRecord| {
            booking.status == BookingStatus::Scheduled
                && uid.as_ref().is_none_or(|uid| *uid == booking.customer_uid)
                && named.as_ref().is_none_or(|named| named.contains(&booking.merchant_uid))
        };
        let revoked = |booking: &BookingRecord| BookingRecord {
            status: BookingStatus::Revoked,
            revoked_at: now.as_second(),
            ..booking.clone()
        };
        let bookings: Vec<BookingRecord> = self.ledger.scope(scope).bookings.iter().filter(meant).map(revoked).collect();
        if bookings.is_empty() {
            return Answer::refusal(200, 1, NO_BOOKING);
        }
        self.keep(scope, bookings)
    }

    fn keep(&mut self, scope: usize, bookings: Vec<BookingRecord>) -> Answer {
        let answer = Answer::of(&bookings.iter().map(BookingView::of).collect::<Vec<_>>());
        let shelves = self.ledger.scope_mut(scope);
        for booking in bookings {
            self.journal.add(&Entry::Booking {
                imp_key: Cow::Borrowed(&shelves.imp_key),
                tier: shelves.tier.as_deref().map(Cow::Borrowed),
                booking: Cow::Borrowed(&booking),
            });
            put(&mut shelves.bookings, booking);
        }
        answer
    }
}
