//! Statements that copy a book into a file of its own, for a simulation. Rows come over as JSON; personal fields, billing keys
//! and titles stay where they are.

use super::Statement;

pub const ALL: &[&Statement] = &[
    &BOOK,
    &PRICES,
    &ADJUSTMENTS,
    &OPEN_CHARGES,
    &PASTE_SUBSCRIPTIONS,
    &PASTE_PRICES,
    &PASTE_ADJUSTMENTS,
    &PASTE_SCHEDULES,
    &PASTE_CHARGES,
    &PASTE_ATTEMPTS,
    &PASTE_TRIES,
    &RESULTS,
];

/// Instants become microseconds, as SQLite stores them. Differs because each engine builds JSON in its own words.
pub const BOOK: Statement = Statement::two(
    "copy: subscriptions",
    "SELECT s.id, json_object('id', s.id, 'account', s.account, 'external_ref', s.external_ref, 'status', s.status, 'plan', s.plan,
            'next_plan', s.next_plan, 'amount', s.amount, 'currency', s.currency, 'quantity', s.quantity, 'anchor', s.anchor,
            'starts_on', s.starts_on, 'ends_on', s.ends_on, 'max_periods', s.max_periods,
            'cancel_at_period_end', s.cancel_at_period_end, 'trial_days', s.trial_days, 'trial_until', s.trial_until,
            'trial_anchor', s.trial_anchor, 'resume', s.resume, 'zone', s.zone, 'charge_time', s.charge_time,
            'tax_free', s.tax_free, 'vat_amount', s.vat_amount, 'created_at', s.created_at, 'next_look_at', h.next_look_at,
            'opened_until', h.opened_until, 'not_before', h.not_before, 'stopped_on', h.stopped_on, 'gaps', h.gaps, 'counted_from', h.anchor, 'periods', h.periods,
            'missed', h.missed, 'caught_up', h.caught_up, 'parked', h.parked, 'problem', h.problem) AS body
        FROM subscriptions s JOIN schedules h ON h.subscription_id = s.id
        WHERE s.id > $1 ORDER BY s.id LIMIT $2",
    "SELECT s.id, (to_jsonb(b) || jsonb_build_object('created_at', (extract(epoch FROM s.created_at) * 1000000)::bigint,
            'next_look_at', (extract(epoch FROM h.next_look_at) * 1000000)::bigint))::text AS body
        FROM subscriptions s JOIN schedules h ON h.subscription_id = s.id
        CROSS JOIN LATERAL (SELECT s.id, s.account, s.external_ref, s.status, s.plan, s.next_plan, s.amount, s.currency,
            s.quantity, s.anchor, s.starts_on, s.ends_on, s.max_periods, s.cancel_at_period_end, s.trial_days, s.trial_until,
            s.trial_anchor, s.resume, s.zone, s.charge_time, s.tax_free, s.vat_amount, h.opened_until, h.not_before,
            h.stopped_on, h.gaps, h.anchor AS counted_from, h.periods, h.missed, h.caught_up, h.parked, h.problem) b
        WHERE s.id > $1 ORDER BY s.id LIMIT $2",
);

/// Differs because each engine builds JSON in its own words.
pub const PRICES: Statement = Statement::two(
    "copy: prices",
    "SELECT json_object('subscription', subscription_id, 'from_date', from_date, 'amount', amount, 'tax_free', tax_free,
            'vat_amount', vat_amount) AS body
        FROM price_changes WHERE subscription_id > $1 AND subscription_id <= $2",
    "SELECT json_build_object('subscription', subscription_id, 'from_date', from_date, 'amount', amount, 'tax_free', tax_free,
            'vat_amount', vat_amount)::text AS body
        FROM price_changes WHERE subscription_id > $1 AND subscription_id <= $2",
);

/// Differs because each engine builds JSON in its own words.
pub const ADJUSTMENTS: Statement = Statement::two(
    "copy: adjustments",
    "SELECT json_object('subscription', subscription_id, 'amount', amount) AS body
        FROM adjustments WHERE subscription_id > $1 AND subscription_id <= $2 AND used_on IS NULL ORDER BY id",
    "SELECT json_build_object('subscription', subscription_id, 'amount', amount)::text AS body
        FROM adjustments WHERE subscription_id > $1 AND subscription_id <= $2 AND used_on IS NULL ORDER BY id",
);

/// What is in doubt is taken for ended, as `forecast` does. Differs because each engine builds JSON in its own words.
pub const OPEN_CHARGES: Statement = Statement::two(
    "copy: open charges",
    "SELECT json_object('id', c.id, 'subscription', c.subscription_id, 'account', a.name, 'period_start', c.period_start,
            'period_end', c.period_end, 'due_at', c.due_at, 'amount', c.amount, 'currency', c.currency, 'tax_free', c.tax_free,
            'vat_amount', c.vat_amount, 'id_mode', c.id_mode, 'state', c.state, 'waiting', c.waiting, 'next_at', c.next_at,
            'id_number', c.id_number, 'attempts', c.attempts, 'tries', c.tries, 'first_declined_at', c.first_declined_at,
            'refused', c.refused_customer IS NOT NULL, 'newest_send_at', c.newest_send_at) AS body
        FROM charges c JOIN accounts a ON a.id = c.account_id
        WHERE c.subscription_id IN (SELECT value FROM json_each($1)) AND c.state IN ('due', 'doubt', 'review') AND c.state <> 'doubt'
        ORDER BY c.id",
    "SELECT json_build_object('id', c.id, 'subscription', c.subscription_id, 'account', a.name, 'period_start', c.period_start,
            'period_end', c.period_end, 'due_at', (extract(epoch FROM c.due_at) * 1000000)::bigint, 'amount', c.amount,
            'currency', c.currency, 'tax_free', c.tax_free, 'vat_amount', c.vat_amount, 'id_mode', c.id_mode, 'state', c.state,
            'waiting', c.waiting, 'next_at', (extract(epoch FROM c.next_at) * 1000000)::bigint, 'id_number', c.id_number,
            'attempts', c.attempts, 'tries', c.tries,
            'first_declined_at', (extract(epoch FROM c.first_declined_at) * 1000000)::bigint,
            'refused', c.refused_customer IS NOT NULL,
            'newest_send_at', (extract(epoch FROM c.newest_send_at) * 1000000)::bigint)::text AS body
        FROM charges c JOIN accounts a ON a.id = c.account_id
        WHERE c.subscription_id = ANY ($1) AND c.state IN ('due', 'doubt', 'review') AND c.state <> 'doubt'
        ORDER BY c.id",
);

/// Into a SQLite file only: on Postgres these would be spelled otherwise, and are never run.
const NEVER: &str = "SELECT 1 AS never WHERE $1::text IS NULL";

/// Differs because only SQLite is pasted into.
pub const PASTE_SUBSCRIPTIONS: Statement = Statement::two(
    "paste: subscriptions",
    "INSERT INTO subscriptions (id, account, external_ref, status, plan, customer_uid, next_plan, amount, currency, quantity, anchor,
            starts_on, ends_on, max_periods, cancel_at_period_end, trial_days, trial_until, trial_anchor, resume, zone,
            charge_time, tax_free, vat_amount, created_at)
        SELECT value->>'id', value->>'account', value->>'external_ref', value->>'status', value->>'plan', value->>'card',
            value->>'next_plan', value->>'amount', value->>'currency', value->>'quantity', value->>'anchor', value->>'starts_on',
            value->>'ends_on', value->>'max_periods', value->>'cancel_at_period_end', value->>'trial_days', value->>'trial_until',
            value->>'trial_anchor', value->>'resume', value->>'zone', value->>'charge_time', value->>'tax_free',
            value->>'vat_amount', value->>'created_at'
        FROM json_each($1)",
    NEVER,
);

/// Differs because only SQLite is pasted into.
pub const PASTE_PRICES: Statement = Statement::two(
    "paste: prices",
    "INSERT INTO price_changes (subscription_id, from_date, amount, tax_free, vat_amount)
        SELECT value->>'subscription', value->>'from_date', value->>'amount', value->>'tax_free', value->>'vat_amount'
        FROM json_each($1)",
    NEVER,
);

/// Differs because only SQLite is pasted into.
pub const PASTE_ADJUSTMENTS: Statement = Statement::two(
    "paste: adjustments",
    "INSERT INTO adjustments (subscription_id, amount) SELECT value->>'subscription', value->>'amount' FROM json_each($1)",
    NEVER,
);

/// After everything that rings a schedule. One that waits for a charge in doubt waits no longer. Differs because only SQLite
/// is pasted into.
pub const PASTE_SCHEDULES: Statement = Statement::two(
    "paste: schedules",
    "UPDATE schedules SET next_look_at = x.next_look_at, opened_until = x.opened_until, not_before = x.not_before,
            stopped_on = x.stopped_on, gaps = x.gaps, anchor = x.counted_from, periods = x.periods, missed = x.missed, caught_up = x.caught_up, parked = x.parked,
            problem = x.problem
        FROM (
            SELECT CAST(value->>'id' AS INTEGER) AS id, value->>'opened_until' AS opened_until,
                value->>'not_before' AS not_before, value->>'stopped_on' AS stopped_on, value->>'gaps' AS gaps,
                value->>'counted_from' AS counted_from, value->>'periods' AS periods,
                value->>'missed' AS missed, value->>'caught_up' AS caught_up, value->>'problem' AS problem,
                CASE WHEN value->>'parked' = 'blocked' AND NOT value->>'blocked' THEN NULL ELSE value->>'parked' END AS parked,
                CASE WHEN value->>'parked' = 'blocked' AND NOT value->>'blocked' THEN 0 ELSE value->>'next_look_at' END
                    AS next_look_at
            FROM json_each($1)
        ) AS x WHERE schedules.subscription_id = x.id",
    NEVER,
);

/// Differs because only SQLite is pasted into.
pub const PASTE_CHARGES: Statement = Statement::two(
    "paste: charges",
    "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, tax_free, vat_amount,
            id_mode, state, waiting, next_at, id_number, attempts, tries, first_declined_at, refused_customer, newest_send_at)
        SELECT value->>'subscription', a.id, value->>'period_start', value->>'period_end', value->>'due_at', value->>'amount',
            value->>'currency', value->>'tax_free', value->>'vat_amount', value->>'id_mode', value->>'state', value->>'waiting',
            CASE WHEN value->>'state' = 'review' THEN NULL ELSE value->>'next_at' END, value->>'id_number', value->>'attempts',
            value->>'tries', value->>'first_declined_at',
            CASE WHEN value->>'refused' THEN (SELECT customer_uid FROM subscriptions WHERE id = value->>'subscription') END,
            value->>'newest_send_at'
        FROM json_each($1) CROSS JOIN accounts a WHERE a.name = value->>'account'",
    NEVER,
);

/// What billing keys have been through. Of the attempts only what the caps read: numbers below zero belong to none of the copy's own.
/// Differs because only SQLite is pasted into.
pub const PASTE_ATTEMPTS: Statement = Statement::two(
    "paste: attempts",
    "INSERT INTO attempts (id, charge_id, number, id_number, amount, customer_uid, state)
        SELECT -(value->>'n'), -(value->>'n'), 1, 1, 0, s.customer_uid, value->>'state'
        FROM json_each($1) JOIN subscriptions s ON s.id = value->>'subscription'",
    NEVER,
);

/// After the charges. Differs because only SQLite is pasted into.
pub const PASTE_TRIES: Statement = Statement::two(
    "paste: tries",
    "INSERT INTO card_tries (attempt_id, account_id, customer_uid, charge_id, at, class)
        SELECT -(value->>'n'), a.id, s.customer_uid, COALESCE(c.id, -(value->>'n')), value->>'at', value->>'class'
        FROM json_each($1)
        JOIN subscriptions s ON s.id = value->>'subscription'
        JOIN accounts a ON a.name = s.account
        LEFT JOIN charges c ON c.subscription_id = s.id AND c.period_start = value->>'period_start'",
    NEVER,
);

/// What became of charges, in pages.
pub const RESULTS: Statement = Statement::same(
    "results",
    "SELECT c.id, c.due_at, c.amount, c.currency, s.plan, c.state, c.tries, c.paid_at, c.first_declined_at
        FROM charges c JOIN subscriptions s ON s.id = c.subscription_id WHERE c.id > $1 ORDER BY c.id LIMIT $2",
);
