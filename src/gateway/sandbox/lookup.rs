//! Look-ups: one payment, batches, every record of a merchant_uid, and the list by status.

use jiff::Timestamp;

use super::SandboxRecords;
use super::call::Call;
use super::gateway::Gateway;
use super::ledger::PaymentStatus;
use super::wire::{Answer, Page, PaymentView};

const WINDOW: i64 = 90 * 24 * 3600;
const BATCH: usize = 100;

/// `-started started -paid paid -updated updated`
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sorting {
    newest_first: bool,
    by: SortKey,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SortKey {
    Started,
    Paid,
    Updated,
}

impl Sorting {
    fn of(call: &Call) -> Option<Self> {
        let text = call.parameter("sorting").unwrap_or("-started");
        let (newest_first, name) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
        let by = match name {
            "started" => SortKey::Started,
            "paid" => SortKey::Paid,
            "updated" => SortKey::Updated,
            _ => return None,
        };
        Some(Self { newest_first, by })
    }
}

/// Which page of how many.
struct Paging {
    page: usize,
    limit: usize,
}

impl Paging {
    fn of(call: &Call) -> Option<Self> {
        let number = |name: &str, default: usize| call.parameter(name).map_or(Some(default), |text| text.parse().ok());
        let (page, limit) = (number("page", 1)?, number("limit", 20)?);
        ((1..=1000).contains(&limit) && page >= 1).then_some(Self { page, limit })
    }
}

pub(super) fn bad_request(message: &str) -> Answer {
    Answer::refusal(400, 1, message)
}

impl Gateway {
    /// `GET /payments/{imp_uid}`: hides payments of test channels unless told otherwise.
    pub(super) fn get_payment(&self, scope: usize, call: &Call) -> Answer {
        let shown = |number: &usize| {
            let hides = self.records != SandboxRecords::Everywhere && self.ledger.payment(*number).sandbox;
            !hides || include_sandbox(call)
        };
        match self.ledger.of_imp_uid(scope, call.id()).filter(shown) {
            Some(number) => Answer::of(&PaymentView::of(self.ledger.payment(number))),
            None => Answer::no_payment(),
        }
    }

    /// `GET /payments`: up to 100 ids; one record each, the newest where a merchant_uid has several.
    pub(super) fn get_payments(&self, scope: usize, call: &Call) -> Answer {
        let by_imp_uid: Vec<&str> = call.list("imp_uid[]").collect();
        let by_merchant_uid: Vec<&str> = call.list("merchant_uid[]").collect();
        let asked = by_imp_uid.len() + by_merchant_uid.len();
        if asked == 0 || asked > BATCH {
            return bad_request("imp_uid[] 또는 merchant_uid[]는 1개 이상 100개 이하여야 합니다.");
        }
        let found: Vec<usize> = (by_imp_uid.iter().map(|uid| self.ledger.of_imp_uid(scope, uid)))
            .chain(by_merchant_uid.iter().map(|uid| self.ledger.find(scope, uid).last().copied()))
            .flatten()
            .filter(|&number| self.shows(call, number))
            .collect();
        let views: Vec<_> = found.iter().map(|&number| PaymentView::of(self.ledger.payment(number))).collect();
        match views.len() {
            0 => Answer::no_payment(),
            some if some < asked => Answer::with_status(207, &views),
            _ => Answer::of(&views),
        }
    }

    /// `GET /payments/find/{merchant_uid}[/{status}]`: one record, the newest of its status where one is given.
    pub(super) fn find(&self, scope: usize, call: &Call) -> Answer {
        let (Some(sorting), Some(status)) = (Sorting::of(call), status_filter(call)) else { return Answer::no_payment() };
        let sorting = if status.is_some() { Sorting { newest_first: true, by: SortKey::Started } } else { sorting };
        let mut numbers = self.records_of(scope, call, status);
        self.sort(&mut numbers, sorting);
        numbers.first().map_or_else(Answer::no_payment, |&number| Answer::of(&PaymentView::of(self.ledger.payment(number))))
    }

    /// `GET /payments/findAll/{merchant_uid}[/{status}]`: every record.
    pub(super) fn find_all(&self, scope: usize, call: &Call) -> Answer {
        let (Some(sorting), Some(paging)) = (Sorting::of(call), Paging::of(call)) else {
            return bad_request("page, limit 또는 sorting 값이 올바르지 않습니다.");
        };
        let Some(status) = status_filter(call) else { return bad_request("payment_status 값이 올바르지 않습니다.") };
        let mut numbers = self.records_of(scope, call, status);
        if numbers.is_empty() {
            return Answer::no_payment();
        }
        self.sort(&mut numbers, sorting);
        self.page(&paging, numbers.len(), numbers.iter().copied())
    }

    /// `GET /payments/status/{status}`: everything of at most 90 days.
    pub(super) fn list(&self, scope: usize, call: &Call, now: Timestamp) -> Answer {
        let (Some(sorting), Some(paging)) = (Sorting::of(call), Paging::of(call)) else {
            return bad_request("page, limit 또는 sorting 값이 올바르지 않습니다.");
        };
        let shelf = match call.status.as_deref() {
            Some("all") => None,
            Some(status) => match PaymentStatus::parse(status) {
                Some(status) => Some(status),
                None => return bad_request("payment_status 값이 올바르지 않습니다."),
            },
            None => return bad_request("payment_status 값이 올바르지 않습니다."),
        };
        let second = |name: &str| call.parameter(name).map(str::parse::<i64>).transpose();
        let (Ok(from), Ok(to)) = (second("from"), second("to")) else {
            return bad_request("from, to는 unix timestamp여야 합니다.");
        };
        let to = to.or(from.map(|from| from.saturating_add(WINDOW))).unwrap_or_else(|| now.as_second());
        let from = from.unwrap_or_else(|| to.saturating_sub(WINDOW));
        if from > to || to.saturating_sub(from) > WINDOW {
            return bad_request("조회기간은 90일을 초과할 수 없습니다.");
        }
        let all_shown = self.records != SandboxRecords::Nowhere || include_sandbox(call);
        let in_order = match sorting.by {
            SortKey::Started => shelf != Some(PaymentStatus::Cancelled),
            SortKey::Paid => matches!(shelf, Some(PaymentStatus::Paid)),
            SortKey::Updated => shelf.is_some() && shelf != Some(PaymentStatus::Paid),
        };
        let between = self.ledger.between(scope, shelf, from, to);
        if all_shown && in_order {
            // the index is in the order that was asked for: nothing is collected
            let total = between.len();
            return if sorting.newest_first {
                self.page(&paging, total, between.rev())
            } else {
                self.page(&paging, total, between)
            };
        }
        let mut numbers: Vec<usize> = between.filter(|&number| self.shows(call, number)).collect();
        self.sort(&mut numbers, sorting);
        self.page(&paging, numbers.len(), numbers.iter().copied())
    }

    /// `GET /subscribe/customers/{uid}/payments`
    pub(super) fn customer_payments(&mut self, scope: usize, call: &Call, now: Timestamp) -> Answer {
        let Some(paging) = Paging::of(call) else { return bad_request("page 값이 올바르지 않습니다.") };
        let mut numbers = self.ledger.of_customer(scope, call.id());
        numbers.retain(|&number| self.shows(call, number));
        if numbers.is_empty() && self.customer(scope, call.id(), now).is_none() {
            return Answer::refusal(404, 1, "등록된 고객정보가 없습니다.");
        }
        self.sort(&mut numbers, Sorting { newest_first: true, by: SortKey::Started });
        self.page(&paging, numbers.len(), numbers.iter().copied())
    }

    fn records_of(&self, scope: usize, call: &Call, status: Option<PaymentStatus>) -> Vec<usize> {
        let mut numbers = self.ledger.find(scope, call.id());
        numbers.retain(|&number| status.is_none_or(|status| self.ledger.payment(number).status == status));
        numbers.retain(|&number| self.shows(call, number));
        numbers
    }

    /// Whether a look-up other than the one by a single imp_uid shows this record.
    fn shows(&self, call: &Call, number: usize) -> bool {
        self.records != SandboxRecords::Nowhere || !self.ledger.payment(number).sandbox || include_sandbox(call)
    }

    fn sort(&self, numbers: &mut [usize], sorting: Sorting) {
        numbers.sort_by_cached_key(|&number| {
            let payment = self.ledger.payment(number);
            let charged = matches!(payment.status, PaymentStatus::Paid | PaymentStatus::Cancelled);
            let instant = match sorting.by {
                SortKey::Started => payment.at,
                SortKey::Paid if charged => payment.at,
                SortKey::Paid => Timestamp::UNIX_EPOCH,
                SortKey::Updated => payment.cancelled_at().unwrap_or(payment.at),
            };
            (instant, number)
        });
        if sorting.newest_first {
            numbers.reverse();
        }
    }

    fn page(&self, paging: &Paging, total: usize, numbers: impl Iterator<Item = usize>) -> Answer {
        let skipped = (paging.page - 1).saturating_mul(paging.limit);
        if paging.page > 1 && skipped >= total {
            return bad_request("존재하지 않는 페이지입니다.");
        }
        let list = numbers.skip(skipped).take(paging.limit).map(|number| PaymentView::of(self.ledger.payment(number)));
        let list: Vec<_> = list.collect();
        let next = if skipped + list.len() < total { paging.page + 1 } else { 0 };
        Answer::of(&Page { total, previous: paging.page - 1, next, list })
    }
}

fn include_sandbox(call: &Call) -> bool {
    matches!(call.parameter("include_sandbox"), Some("true" | "1"))
}

/// The status in the path; `None` if it is none, `Some(None)` if there is none.
fn status_filter(call: &Call) -> Option<Option<PaymentStatus>> {
    call.status.as_deref().map_or(Some(None), |text| PaymentStatus::parse(text).map(Some))
}
