//! Statements about plans that stand in the database.

use super::Statement;

pub const ALL: &[&Statement] = &[&PLANS, &PLANS_VERSION, &PLAN_USES];

/// All plans with their dated prices and their version: one statement is one snapshot. A row for each price, one for a plan
/// without any, one if there is no plan.
pub const PLANS: Statement = Statement::same(
    "plans",
    "SELECT v.version, p.name, p.every, p.billing_day, p.schedule, p.charge_time, p.zone, p.banking, p.amount, p.currency,
            p.title, p.tax_free, p.vat_amount, p.while_past_due, p.trial_days, p.trial_until, p.trial_anchor, p.resume,
            p.max_periods, p.catch_up, p.catch_up_limit, p.dunning, x.from_date, x.amount AS price,
            x.tax_free AS price_tax_free, x.vat_amount AS price_vat_amount
        FROM plans_version v LEFT JOIN plans p ON TRUE LEFT JOIN plan_prices x ON x.plan = p.name
        ORDER BY p.name, x.from_date",
);

pub const PLANS_VERSION: Statement = Statement::same("version of the plans", "SELECT version FROM plans_version");

/// Reads all subscriptions.
pub const PLAN_USES: Statement = Statement::same(
    "uses of the plans",
    "SELECT plan, count(*) AS uses FROM subscriptions WHERE status <> 'cancelled' GROUP BY plan",
);
