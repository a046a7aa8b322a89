//! What a period costs: price, quantity, adjustments, and the parts of the tax.

use jiff::civil::Date;

use super::lifecycle::Problem;
use super::money::{Currency, Money};
use super::plan::{AccountTerms, Plan, Price};
use super::subscription::Terms;

/// A period's amount with its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Zero only where discounts leave nothing: such a period is passed over without a charge.
    pub amount: Money,
    pub tax_free: Option<i64>,
    pub vat_amount: Option<i64>,
}

/// What the period that starts on `start` costs.
///
/// The price is the subscription's last dated one, else its own amount, else the plan's last dated one, else the plan's
/// amount. It is multiplied by the quantity, and the adjustments are added. Both parts of the tax are scaled with the final
/// amount and rounded half up to the minor unit, the tax-free one first; the VAT is what remains at most.
///
/// # Errors
/// There is no price, it cannot be held, or the discounts are larger than it.
pub fn cost(
    plan: &Plan,
    terms: &Terms,
    account: Option<&AccountTerms>,
    start: Date,
    adjustments: impl Iterator<Item = i64>,
) -> Result<Cost, Problem> {
    let currency = currency(plan, terms)?;
    let price = price(plan, terms, start)?;
    let full = i64::from(terms.quantity).checked_mul(price.amount).ok_or(Problem::TooLarge)?;
    let adjusted = adjustments.into_iter().try_fold(0i64, i64::checked_add).ok_or(Problem::TooLarge)?;
    let amount = full.checked_add(adjusted).ok_or(Problem::TooLarge)?;
    if amount < 0 {
        return Err(Problem::Discounts { amount: Money::new(full, currency), by: Money::new(-adjusted, currency) });
    }
    let tax_free = price.tax_free.map(|part| scaled(part, amount, price.amount).min(amount));
    let rest = amount - tax_free.unwrap_or(0);
    let vat_amount = price.vat_amount.map(|part| scaled(part, amount, price.amount).min(rest));
    let mixed = account.is_some_and(|account| account.mixed_tax);
    Ok(Cost {
        amount: Money::new(amount, currency),
        tax_free: tax_free.or(mixed.then_some(0)),
        // the share of a price that 10 % of tax has been added to
        vat_amount: vat_amount.or(mixed.then(|| scaled(1, rest, 11))),
    })
}

pub(super) fn currency(plan: &Plan, terms: &Terms) -> Result<Currency, Problem> {
    match &terms.currency {
        None => Ok(plan.currency),
        Some(code) => code.parse().map_err(|wrong: super::money::MoneyError| Problem::Currency(wrong.to_string())),
    }
}

/// The price of one, with the parts that belong to it.
fn price(plan: &Plan, terms: &Terms, start: Date) -> Result<Price, Problem> {
    let amount = terms.amount.or(plan.amount);
    let (tax_free, vat_amount) = (terms.tax_free.or(plan.tax_free), terms.vat_amount.or(plan.vat_amount));
    let base = amount.map(|amount| Price { from: Date::MIN, amount, tax_free, vat_amount });
    let of_plan = if terms.amount.is_none() { in_force(&plan.prices, start) } else { None };
    let mut price = base;
    for dated in [of_plan, in_force(&terms.prices, start)].into_iter().flatten() {
        price = Some(replaced(price, dated));
    }
    let price = price.ok_or_else(|| Problem::NoAmount(plan.name.clone()))?;
    if price.amount <= 0 {
        return Err(Problem::Amount(price.amount));
    }
    let parts = price.tax_free.unwrap_or(0).saturating_add(price.vat_amount.unwrap_or(0));
    if parts > price.amount {
        return Err(Problem::TaxParts { parts, amount: price.amount });
    }
    Ok(price)
}

fn in_force(prices: &[Price], start: Date) -> Option<Price> {
    prices.iter().filter(|price| price.from <= start).max_by_key(|price| price.from).copied()
}

/// A dated price says its own parts, or they follow the amount.
fn replaced(before: Option<Price>, dated: Price) -> Price {
    let follow = |part: fn(&Price) -> Option<i64>| {
        let before = before.as_ref()?;
        part(before).map(|value| scaled(value, dated.amount, before.amount).min(dated.amount))
    };
    let tax_free = dated.tax_free.or_else(|| follow(|price| price.tax_free));
    let rest = dated.amount - tax_free.unwrap_or(0);
    // what is given stands as it is, so that a sum that is too large is named
    let vat_amount = dated.vat_amount.or_else(|| follow(|price| price.vat_amount).map(|part| part.min(rest)));
    Price { tax_free, vat_amount, ..dated }
}

/// `part * to / of`, rounded half up. `of` is above 0, the others are not negative.
fn scaled(part: i64, to: i64, of: i64) -> i64 {
    let (part, to, of) = (i128::from(part), i128::from(to), i128::from(of.max(1)));
    i64::try_from((2 * part * to + of) / (2 * of)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::period::Every;
    use crate::domain::recurrence::Recurrence;
    use jiff::civil::date;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    fn plan() -> Plan {
        Plan { amount: Some(11_000), ..Plan::new("monthly", Recurrence::interval(Every::MONTH, None).unwrap()) }
    }

    fn terms() -> Terms {
        Terms::new("main", "sub-1", "monthly", date(2026, 1, 1))
    }

    fn cost_of(plan: &Plan, terms: &Terms, start: Date, adjustments: &[i64]) -> (i64, Option<i64>, Option<i64>) {
        let cost = cost(plan, terms, None, start, adjustments.iter().copied()).unwrap();
        (cost.amount.minor(), cost.tax_free, cost.vat_amount)
    }

    const DAY: Date = date(2026, 1, 1);

    #[test]
    fn the_parts_follow_quantity_and_adjustments_rounded_half_up() {
        let plan = Plan { tax_free: Some(1_000), vat_amount: Some(909), ..plan() };
        assert_eq!(cost_of(&plan, &terms(), DAY, &[]), (11_000, Some(1_000), Some(909)));
        assert_eq!(cost_of(&plan, &Terms { quantity: 3, ..terms() }, DAY, &[]), (33_000, Some(3_000), Some(2_727)));
        // 1,000 x 5,500 / 11,000 = 500, and 909 / 2 = 454.5
        assert_eq!(cost_of(&plan, &terms(), DAY, &[-5_500]), (5_500, Some(500), Some(455)));
        assert_eq!(cost_of(&plan, &terms(), DAY, &[-1_000, 2_000]), (12_000, Some(1_091), Some(992)));
    }

    #[test]
    fn zero_rate_stays_zero() {
        let plan = Plan { tax_free: Some(0), vat_amount: Some(0), ..plan() };
        assert_eq!(cost_of(&plan, &Terms { quantity: 7, ..terms() }, DAY, &[-5]), (76_995, Some(0), Some(0)));
    }

    #[test]
    fn a_mixed_merchant_is_always_told_both_parts() {
        let mixed = AccountTerms { zone: TimeZone::UTC, mixed_tax: true };
        let of = |plan: &Plan, terms: &Terms| {
            let cost = cost(plan, terms, Some(&mixed), DAY, std::iter::empty()).unwrap();
            (cost.tax_free, cost.vat_amount)
        };
        assert_eq!(of(&plan(), &terms()), (Some(0), Some(1_000)));
        // (11,000 - 3,000) / 11 = 727.27, (11,000 - 6) / 11 = 999.45, and half a won goes up
        assert_eq!(of(&Plan { tax_free: Some(3_000), ..plan() }, &terms()), (Some(3_000), Some(727)));
        assert_eq!(of(&Plan { tax_free: Some(11_000), ..plan() }, &terms()), (Some(11_000), Some(0)));
        let zero = Plan { tax_free: Some(0), vat_amount: Some(0), ..plan() };
        assert_eq!(of(&zero, &terms()), (Some(0), Some(0)));
    }

    #[test]
    fn a_dated_price_holds_from_its_day_on() {
        let from = |from, amount| Price { from, amount, tax_free: None, vat_amount: None };
        let prices = vec![from(date(2026, 3, 1), 12_100), from(date(2026, 6, 1), 13_200)];
        let plan = Plan { vat_amount: Some(1_000), prices, ..plan() };
        let at = |terms: &Terms, day| cost_of(&plan, terms, day, &[]);
        assert_eq!(at(&terms(), date(2026, 2, 28)), (11_000, None, Some(1_000)));
        assert_eq!(at(&terms(), date(2026, 3, 1)), (12_100, None, Some(1_100)));
        assert_eq!(at(&terms(), date(2027, 1, 1)), (13_200, None, Some(1_200)));
        // a subscription's own amount is not touched by the plan's prices, its own dated ones win
        let own = Terms { amount: Some(22_000), prices: vec![from(date(2026, 6, 1), 5_500)], ..terms() };
        assert_eq!(at(&own, date(2026, 3, 1)), (22_000, None, Some(1_000)));
        assert_eq!(at(&own, date(2026, 6, 1)), (5_500, None, Some(250)));
        let agreed = Terms { prices: vec![from(date(2026, 4, 1), 1_100)], ..terms() };
        assert_eq!(at(&agreed, date(2026, 7, 1)), (1_100, None, Some(100)));
    }

    #[test]
    fn what_cannot_be_charged_is_a_problem() {
        let wrong = |plan: &Plan, terms: &Terms, adjustments: &[i64]| {
            cost(plan, terms, None, DAY, adjustments.iter().copied()).unwrap_err().to_string()
        };
        assert!(wrong(&Plan { amount: None, ..plan() }, &terms(), &[]).contains("has an amount"));
        assert!(wrong(&plan(), &Terms { quantity: u32::MAX, amount: Some(i64::MAX), ..terms() }, &[]).contains("too large"));
        assert!(wrong(&plan(), &terms(), &[-11_001]).contains("discounts of 11,001 KRW"));
        let parts = Plan { tax_free: Some(11_000), vat_amount: Some(1), ..plan() };
        assert!(wrong(&parts, &terms(), &[]).contains("11001"));
        assert_eq!(cost_of(&plan(), &terms(), DAY, &[-11_000]), (0, None, None));
    }

    proptest! {
        #[test]
        fn the_parts_never_exceed_the_amount(
            amount in 1i64..1_000_000_000, free in 0i64..=100, vat in 0i64..=100, quantity in 1u32..10_000, discount in 0i64..=100,
        ) {
            let tax_free = amount * free / 100;
            let vat_amount = (amount - tax_free) * vat / 100;
            let plan = Plan { amount: Some(amount), tax_free: Some(tax_free), vat_amount: Some(vat_amount), ..plan() };
            let terms = Terms { quantity, ..terms() };
            let full = amount * i64::from(quantity);
            let cost = cost(&plan, &terms, None, DAY, std::iter::once(-(full * discount / 100))).unwrap();
            let (tax_free, vat_amount) = (cost.tax_free.unwrap(), cost.vat_amount.unwrap());
            prop_assert!(tax_free >= 0 && vat_amount >= 0 && tax_free + vat_amount <= cost.amount.minor());
        }
    }
}
