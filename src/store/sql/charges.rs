//! Statements that find, claim and load charges.

use super::Statement;

pub const ALL: &[&Statement] = &[
    &CLAIM_TO_SEND,
    &CLAIM_TO_LOOK_UP,
    &CLAIM_ONE,
    &LIVE_OF,
    &RELEASE,
    &LOAD,
    &LOAD_CLAIMED,
    &ATTEMPTS_OF,
    &NEXT_DUE,
    &NEXT_CLAIM_END,
    &INTERRUPTED,
    &CHARGES_OF,
    &BOOKED,
];

/// Differs because SQLite has one writer and no row locks. On Postgres the list of ids is an array, never a join: a join can be
/// planned as a hash over the whole table.
pub const CLAIM_TO_SEND: Statement = Statement::two(
    "claim to send",
    "UPDATE charges SET claim_token = $5, claim_until = $6, version = version + 1
        WHERE id IN (
            SELECT id FROM charges WHERE account_id = $1 AND state = 'due' AND next_at IS NOT NULL AND next_at <= $3
                AND (claim_until IS NULL OR claim_until <= $2)
            ORDER BY next_at LIMIT $4
        ) RETURNING id",
    "UPDATE charges SET claim_token = $5, claim_until = $6, version = version + 1
        WHERE id = ANY (ARRAY (
            SELECT id FROM charges WHERE account_id = $1 AND state = 'due' AND next_at IS NOT NULL AND next_at <= $3
                AND (claim_until IS NULL OR claim_until <= $2)
            ORDER BY next_at LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED
        )) RETURNING id",
);

/// One charge, for an operator, whatever its state and its time.
pub const CLAIM_ONE: Statement = Statement::same(
    "claim one",
    "UPDATE charges SET claim_token = $2, claim_until = $4, version = version + 1
        WHERE id = $1 AND (claim_until IS NULL OR claim_until <= $3) RETURNING id",
);

/// What an intent may have added to charges since they were loaded: it does not write the charge's own row. Differs because a
/// list is an array on Postgres.
pub const LIVE_OF: Statement = Statement::two(
    "live attempts of charges",
    "SELECT a.charge_id, a.id AS live, s.id AS send FROM attempts a LEFT JOIN sends s ON s.attempt_id = a.id AND s.state = 'open'
        WHERE a.charge_id IN (SELECT value FROM json_each($1)) AND a.state = 'live'",
    "SELECT a.charge_id, a.id AS live, s.id AS send FROM attempts a LEFT JOIN sends s ON s.attempt_id = a.id AND s.state = 'open'
        WHERE a.charge_id = ANY ($1) AND a.state = 'live'",
);

/// Differs because SQLite has one writer and no row locks.
pub const CLAIM_TO_LOOK_UP: Statement = Statement::two(
    "claim to look up",
    "UPDATE charges SET claim_token = $5, claim_until = $6, version = version + 1
        WHERE id IN (
            SELECT id FROM charges WHERE account_id = $1 AND state IN ('doubt', 'review', 'unpaid', 'void')
                AND next_at IS NOT NULL AND next_at <= $3 AND (claim_until IS NULL OR claim_until <= $2)
            ORDER BY next_at LIMIT $4
        ) RETURNING id",
    "UPDATE charges SET claim_token = $5, claim_until = $6, version = version + 1
        WHERE id = ANY (ARRAY (
            SELECT id FROM charges WHERE account_id = $1 AND state IN ('doubt', 'review', 'unpaid', 'void')
                AND next_at IS NOT NULL AND next_at <= $3 AND (claim_until IS NULL OR claim_until <= $2)
            ORDER BY next_at LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED
        )) RETURNING id",
);

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const RELEASE: Statement = Statement::two(
    "release",
    "UPDATE charges SET claim_token = NULL, claim_until = NULL, version = version + 1
        WHERE id IN (SELECT value FROM json_each($2)) AND claim_token = $1",
    "UPDATE charges SET claim_token = NULL, claim_until = NULL, version = version + 1
        WHERE id = ANY ($2) AND claim_token = $1",
);

macro_rules! charge {
    () => {
        "SELECT c.id, c.account_id, s.account, c.subscription_id, s.external_ref, c.id_mode, c.period_start, c.period_end,
            c.due_at, c.amount, c.currency, c.tax_free, c.vat_amount, c.state, c.waiting, c.next_at, c.id_number, c.attempts,
            c.tries, c.first_declined_at, c.refused_customer, c.not_sent, c.doubt_since, c.doubt_looks, c.quiet_since,
            c.quiet_twice, c.alarmed, c.newest_send_at, c.elsewhere_imp_uid, c.elsewhere_number, c.imp_uid, c.version,
            c.declined_customer, c.restarted_after, c.transients, c.transient_since, s.plan AS charge_plan, s.zone AS charge_zone,
            a.id AS live_id, a.state AS live_state, a.number AS live_number, a.id_number AS live_id_number,
            a.customer_uid AS live_customer, a.hint AS live_hint, a.resends AS live_resends,
            o.id AS send_id, o.begun_at AS send_begun_at"
    };
}

macro_rules! from_charges {
    () => {
        "
        FROM charges c
        JOIN subscriptions s ON s.id = c.subscription_id
        LEFT JOIN attempts a ON a.charge_id = c.id AND a.state IN ('live', 'paid')
        LEFT JOIN sends o ON o.attempt_id = a.id AND o.state = 'open'"
    };
}

/// What [`super::super::rows::payer`] reads of `subscriptions s`.
macro_rules! payer_columns {
    () => {
        "s.status, s.customer_uid, s.plan, s.name, s.zone, s.buyer_name, s.buyer_email, s.buyer_tel, s.buyer_addr, s.buyer_postcode,
            s.card_quota, s.interest_free_by_merchant, s.use_card_point, s.custom_data, s.notice_url, s.product_type,
            s.product_count, s.cash_receipt_type, s.bypass, s.extra, s.promotion_id, s.channel_key"
    };
}
pub(super) use payer_columns;

macro_rules! last_body {
    () => {
        ", (SELECT b.body FROM sends b WHERE b.attempt_id = a.id AND b.state NOT IN ('open', 'answered', 'found')
                AND b.body IS NOT NULL ORDER BY b.attempt_id DESC, b.id DESC LIMIT 1) AS last_body"
    };
}

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const LOAD: Statement = Statement::two(
    "load",
    concat!(charge!(), from_charges!(), " WHERE c.id IN (SELECT value FROM json_each($1)) ORDER BY c.id"),
    concat!(charge!(), from_charges!(), " WHERE c.id = ANY ($1) ORDER BY c.id"),
);

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const LOAD_CLAIMED: Statement = Statement::two(
    "load claimed",
    concat!(
        charge!(),
        ", ",
        payer_columns!(),
        last_body!(),
        from_charges!(),
        " WHERE c.id IN (SELECT value FROM json_each($1)) ORDER BY c.next_at, c.id"
    ),
    concat!(charge!(), ", ", payer_columns!(), last_body!(), from_charges!(), " WHERE c.id = ANY ($1) ORDER BY c.next_at, c.id"),
);

/// Differs because lists are arrays on Postgres and JSON on SQLite. Both halves of the index are asked.
pub const ATTEMPTS_OF: Statement = Statement::two(
    "attempts of",
    "SELECT id, charge_id, id_number, state, customer_uid, imp_uid FROM attempts
        WHERE charge_id IN (SELECT value FROM json_each($1)) AND state IN ('live', 'paid')
    UNION ALL
    SELECT id, charge_id, id_number, state, customer_uid, imp_uid FROM attempts
        WHERE charge_id IN (SELECT value FROM json_each($1)) AND state NOT IN ('live', 'paid')
    ORDER BY charge_id, id",
    "SELECT id, charge_id, id_number, state, customer_uid, imp_uid FROM attempts
        WHERE charge_id = ANY ($1) AND state IN ('live', 'paid')
    UNION ALL
    SELECT id, charge_id, id_number, state, customer_uid, imp_uid FROM attempts
        WHERE charge_id = ANY ($1) AND state NOT IN ('live', 'paid')
    ORDER BY charge_id, id",
);

/// The first row of each index. Claimed charges stand before the first free one: at most a few thousand.
pub const NEXT_DUE: Statement = Statement::same(
    "next due",
    "SELECT
        (SELECT next_look_at FROM schedules WHERE next_look_at IS NOT NULL ORDER BY next_look_at LIMIT 1) AS schedule,
        (SELECT next_look_at FROM schedules WHERE next_look_at IS NOT NULL AND next_look_at > $1 ORDER BY next_look_at LIMIT 1)
            AS schedule_later,
        (SELECT min((
            SELECT c.next_at FROM charges c WHERE c.account_id = a.id AND c.state = 'due' AND c.next_at IS NOT NULL
                AND c.next_at > $1 ORDER BY c.next_at LIMIT 1
        )) FROM accounts a) AS send_later,
        (SELECT min((
            SELECT c.next_at FROM charges c WHERE c.account_id = a.id AND c.state IN ('doubt', 'review', 'unpaid', 'void')
                AND c.next_at IS NOT NULL AND c.next_at > $1 ORDER BY c.next_at LIMIT 1
        )) FROM accounts a) AS look_up_later,
        (SELECT min((
            SELECT c.next_at FROM charges c WHERE c.account_id = a.id AND c.state = 'due' AND c.next_at IS NOT NULL
                AND (c.claim_until IS NULL OR c.claim_until <= $1) ORDER BY c.next_at LIMIT 1
        )) FROM accounts a) AS send,
        (SELECT min((
            SELECT c.next_at FROM charges c WHERE c.account_id = a.id AND c.state IN ('doubt', 'review', 'unpaid', 'void')
                AND c.next_at IS NOT NULL AND (c.claim_until IS NULL OR c.claim_until <= $1) ORDER BY c.next_at LIMIT 1
        )) FROM accounts a) AS look_up,
        (SELECT next_at FROM deliveries WHERE state = 'pending' ORDER BY next_at LIMIT 1) AS delivery,
        (SELECT look_at FROM subscription_states WHERE look_at IS NOT NULL ORDER BY look_at LIMIT 1) AS state",
);

/// When the first claim ends, among the charges that stand before the first free one of their lane (`$2`, `$3`).
pub const NEXT_CLAIM_END: Statement = Statement::same(
    "next claim end",
    "SELECT
        (SELECT min((
            SELECT min(c.claim_until) FROM charges c WHERE c.account_id = a.id AND c.state = 'due' AND c.next_at IS NOT NULL
                AND c.next_at < $2 AND c.claim_until > $1
        )) FROM accounts a) AS send,
        (SELECT min((
            SELECT min(c.claim_until) FROM charges c WHERE c.account_id = a.id
                AND c.state IN ('doubt', 'review', 'unpaid', 'void') AND c.next_at IS NOT NULL
                AND c.next_at < $3 AND c.claim_until > $1
        )) FROM accounts a) AS look_up",
);

pub const INTERRUPTED: Statement = Statement::same(
    "interrupted",
    "SELECT c.id FROM sends o JOIN attempts a ON a.id = o.attempt_id JOIN charges c ON c.id = a.charge_id
        WHERE o.state = 'open' AND a.state = 'live' AND c.state = 'due' AND (c.claim_until IS NULL OR c.claim_until <= $1)
        ORDER BY o.attempt_id LIMIT $2",
);

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const CHARGES_OF: Statement = Statement::two(
    "charges of",
    "SELECT merchant_uid, charge_id FROM ids WHERE merchant_uid IN (SELECT value FROM json_each($1))",
    "SELECT merchant_uid, charge_id FROM ids WHERE merchant_uid = ANY ($1)",
);

/// In order of payment, after the charge `$4` (0: from the start).
pub const BOOKED: Statement = Statement::same(
    "booked",
    "SELECT c.id, c.imp_uid, c.amount, c.currency, c.state, c.refunded, c.period_start, s.account, s.external_ref, a.id_number
        FROM charges c
        JOIN subscriptions s ON s.id = c.subscription_id
        JOIN attempts a ON a.charge_id = c.id AND a.state IN ('live', 'paid')
        WHERE c.account_id = $1 AND c.state = 'paid' AND c.paid_at >= $2 AND c.paid_at < $3
            AND (c.paid_at, c.id) > (COALESCE((SELECT l.paid_at FROM charges l WHERE l.id = $4), $2), $4)
        ORDER BY c.paid_at, c.id LIMIT $5",
);
