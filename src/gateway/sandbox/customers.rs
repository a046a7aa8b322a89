//! Cards: `/subscribe/customers`.

use std::borrow::Cow;

use jiff::Timestamp;

use super::call::Call;
use super::cards::CardBehaviour;
use super::gateway::Gateway;
use super::journal::Entry;
use super::ledger::Customer;
use super::wire::{Answer, CustomerView};

const NO_CUSTOMER: &str = "등록된 고객정보가 없습니다.";

impl Gateway {
    /// Registers a card, or replaces it silently, as PortOne does.
    pub fn put_customer(&mut self, scope: usize, customer_uid: &str, behaviour: CardBehaviour, now: Timestamp) {
        let inserted = self.customer(scope, customer_uid, now).map_or(now, |known| known.inserted);
        let customer = Customer { behaviour, inserted, updated: now, deleted: false, declined: 0 };
        self.write_customer(scope, customer_uid, customer);
    }

    fn write_customer(&mut self, scope: usize, customer_uid: &str, customer: Customer) {
        let shelves = self.ledger.scope_mut(scope);
        self.journal.add(&Entry::Customer {
            imp_key: Cow::Borrowed(&shelves.imp_key),
            tier: shelves.tier.as_deref().map(Cow::Borrowed),
            customer_uid: Cow::Borrowed(customer_uid),
            customer: Cow::Borrowed(&customer),
        });
        shelves.customers.insert(customer_uid.to_owned(), customer);
    }

    /// The registered card of this name. Where prefixes decide, one that nobody registered comes into being here.
    pub fn customer(&mut self, scope: usize, customer_uid: &str, now: Timestamp) -> Option<Customer> {
        if let Some(known) = self.ledger.scope(scope).customers.get(customer_uid) {
            return (!known.deleted).then(|| known.clone());
        }
        let behaviour = CardBehaviour::of_prefix(customer_uid).filter(|_| self.prefixes)?;
        let customer = Customer { behaviour, inserted: now, updated: now, deleted: false, declined: 0 };
        self.write_customer(scope, customer_uid, customer.clone());
        Some(customer)
    }

    pub(super) fn get_customer(&mut self, scope: usize, call: &Call, now: Timestamp) -> Answer {
        match self.customer(scope, call.id(), now) {
            Some(customer) => Answer::of(&CustomerView::of(call.id(), &customer, self.sandbox)),
            None => Answer::refusal(404, 1, NO_CUSTOMER),
        }
    }

    pub(super) fn get_customers(&mut self, scope: usize, call: &Call, now: Timestamp) -> Answer {
        let asked: Vec<&str> = call.list("customer_uid[]").collect();
        let known: Vec<(&str, Customer)> = asked.iter().filter_map(|uid| Some((*uid, self.customer(scope, uid, now)?))).collect();
        let views: Vec<_> = known.iter().map(|(uid, customer)| CustomerView::of(uid, customer, self.sandbox)).collect();
        match views.len() {
            0 => Answer::refusal(404, 1, NO_CUSTOMER),
            found if found < asked.len() => Answer::with_status(207, &views),
            _ => Answer::of(&views),
        }
    }

    pub(super) fn save_customer(&mut self, scope: usize, call: &Call, now: Timestamp) -> Answer {
        let uid = call.id();
        let field = |name: &str| call.fields.text(name).ok().flatten();
        let (Some(card_number), Some(_)) = (field("card_number"), field("expiry")) else {
            return Answer::refusal(200, 1, "필수 파라미터가 누락되었습니다. (card_number, expiry)");
        };
        if uid.is_empty() || uid.chars().count() > 80 {
            return Answer::refusal(200, 1, "customer_uid는 80자를 넘을 수 없습니다.");
        }
        let digits: String = card_number.chars().filter(char::is_ascii_digit).collect();
        let only_digits = card_number.chars().all(|c| c.is_ascii_digit() || c == '-');
        if !only_digits || !(14..=16).contains(&digits.len()) {
            return Answer::refusal(200, -1, "유효하지않은 카드번호를 입력하셨습니다.");
        }
        self.put_customer(scope, uid, CardBehaviour::of_card_number(&digits), now);
        self.get_customer(scope, call, now)
    }

    pub(super) fn delete_customer(&mut self, scope: usize, call: &Call, now: Timestamp) -> Answer {
        let Some(customer) = self.customer(scope, call.id(), now) else {
            return Answer::refusal(404, 1, NO_CUSTOMER);
        };
        let answer = Answer::of(&CustomerView::of(call.id(), &customer, self.sandbox));
        self.write_customer(scope, call.id(), Customer { deleted: true, ..customer });
        answer
    }
}
