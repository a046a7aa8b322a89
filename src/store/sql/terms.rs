//! Statements about the terms of subscriptions: what is dated, what is used once, what a change of plan writes.

use super::Statement;

pub const ALL: &[&Statement] = &[
    &PRICES_OF,
    &ADJUSTMENTS_OF,
    &LOCK_SUBSCRIPTIONS,
    &TAKE_PLANS,
    &USE_ADJUSTMENTS,
    &SET_PRICE,
    &REMOVE_PRICE,
    &ADD_ADJUSTMENT,
    &REMOVE_ADJUSTMENT,
    &CATCH_UP,
];

/// A subscription (`s`) and its schedule (`h`), as `rows::terms` and `rows::progress` read them.
macro_rules! terms {
    () => {
        "h.subscription_id, h.opened_until, h.not_before, h.stopped_on, h.gaps, h.anchor AS counted_from, h.periods, h.parked, h.caught_up, h.version,
            s.account, s.external_ref, s.status, s.plan, s.next_plan, s.amount, s.currency, s.quantity, s.anchor, s.starts_on,
            s.ends_on, s.max_periods, s.cancel_at_period_end, s.trial_days, s.trial_until, s.trial_anchor, s.resume, s.zone,
            s.charge_time, s.tax_free, s.vat_amount, s.created_at"
    };
}
pub(in crate::store) use terms;

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const PRICES_OF: Statement = Statement::two(
    "prices of",
    "SELECT id, subscription_id, from_date, amount, tax_free, vat_amount FROM price_changes
        WHERE subscription_id IN (SELECT value FROM json_each($1)) ORDER BY subscription_id, from_date",
    "SELECT id, subscription_id, from_date, amount, tax_free, vat_amount FROM price_changes
        WHERE subscription_id = ANY ($1) ORDER BY subscription_id, from_date",
);

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const ADJUSTMENTS_OF: Statement = Statement::two(
    "adjustments of",
    "SELECT id, subscription_id, amount FROM adjustments
        WHERE subscription_id IN (SELECT value FROM json_each($1)) AND used_on IS NULL ORDER BY subscription_id, id",
    "SELECT id, subscription_id, amount FROM adjustments
        WHERE subscription_id = ANY ($1) AND used_on IS NULL ORDER BY subscription_id, id",
);

/// Before the schedules, as an operator's change locks them. Differs because SQLite has one writer and no row locks.
pub const LOCK_SUBSCRIPTIONS: Statement = Statement::two(
    "lock subscriptions",
    "SELECT id FROM subscriptions WHERE id IN (SELECT value FROM json_each($1)) ORDER BY id",
    "SELECT id FROM subscriptions WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED",
);

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const TAKE_PLANS: Statement = Statement::two(
    "take plans",
    "UPDATE subscriptions SET plan = next_plan, next_plan = NULL, updated_at = $2
        WHERE id IN (SELECT value FROM json_each($1)) AND next_plan IS NOT NULL",
    "UPDATE subscriptions SET plan = next_plan, next_plan = NULL, updated_at = $2
        WHERE id = ANY ($1) AND next_plan IS NOT NULL",
);

/// Differs because batches are JSON of either engine.
pub const USE_ADJUSTMENTS: Statement = Statement::two(
    "use adjustments",
    "UPDATE adjustments SET used_on = x.used_on, charge_id = x.charge_id
        FROM (
            SELECT CAST(value->>'$.id' AS INTEGER) AS id, value->>'$.used_on' AS used_on, value->>'$.charge' AS charge_id
            FROM json_each($1)
        ) AS x WHERE adjustments.id = x.id AND adjustments.used_on IS NULL",
    "UPDATE adjustments a SET used_on = x.used_on, charge_id = x.charge
        FROM json_to_recordset($1::json) AS x(id bigint, used_on date, charge bigint)
        WHERE a.id = x.id AND a.used_on IS NULL",
);

pub const SET_PRICE: Statement = Statement::same(
    "set price",
    "INSERT INTO price_changes (subscription_id, from_date, amount, tax_free, vat_amount) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (subscription_id, from_date)
        DO UPDATE SET amount = excluded.amount, tax_free = excluded.tax_free, vat_amount = excluded.vat_amount
        RETURNING id",
);

pub const REMOVE_PRICE: Statement =
    Statement::same("remove price", "DELETE FROM price_changes WHERE subscription_id = $1 AND from_date = $2 RETURNING id");

pub const ADD_ADJUSTMENT: Statement =
    Statement::same("add adjustment", "INSERT INTO adjustments (subscription_id, amount, name) VALUES ($1, $2, $3) RETURNING id");

pub const REMOVE_ADJUSTMENT: Statement = Statement::same(
    "remove adjustment",
    "DELETE FROM adjustments WHERE subscription_id = $1 AND id = $2 AND used_on IS NULL RETURNING id",
);

/// An operator's word on missed periods; `$2` is the epoch, at once. Differs because batches are JSON of either engine.
pub const CATCH_UP: Statement = Statement::two(
    "catch up",
    "UPDATE schedules SET opened_until = x.opened_until, anchor = x.anchor, caught_up = x.caught_up, parked = NULL,
            problem = NULL, missed = NULL, next_look_at = $2, version = schedules.version + 1
        FROM (
            SELECT CAST(value->>'$.id' AS INTEGER) AS id, CAST(value->>'$.version' AS INTEGER) AS version,
                value->>'$.opened_until' AS opened_until, value->>'$.anchor' AS anchor, value->>'$.caught_up' AS caught_up
            FROM json_each($1)
        ) AS x
        WHERE schedules.subscription_id = x.id AND schedules.version = x.version AND schedules.missed IS NOT NULL
        RETURNING schedules.subscription_id",
    "UPDATE schedules h SET opened_until = x.opened_until, anchor = x.anchor, caught_up = x.caught_up, parked = NULL,
            problem = NULL, missed = NULL, next_look_at = $2, version = h.version + 1
        FROM json_to_recordset($1::json) AS x(id bigint, version bigint, opened_until date, anchor date, caught_up date)
        WHERE h.subscription_id = x.id AND h.version = x.version AND h.missed IS NOT NULL
        RETURNING h.subscription_id",
);
