//! Statements of W2 (intents) and W3 (outcomes).

use super::Statement;

pub const ALL: &[&Statement] = &[
    &LOCK_CHARGES,
    &LOCK_TO_BEGIN,
    &LOCK_TO_RECORD,
    &LOCK_BRAKES,
    &LIVE_ATTEMPTS,
    &INSERT_NEW_IDS,
    &INSERT_IDS,
    &SPEND,
    &INSERT_ATTEMPTS,
    &INSERT_SENDS,
    &KNOWS_SEND,
    &HIGH_WATER,
    &IMP_UIDS,
    &REVIVE_ATTEMPTS,
    &INSERT_OBSERVATIONS,
    &UPDATE_ATTEMPTS,
    &ADOPT_ATTEMPTS,
    &END_SENDS,
    &FORGET_BODIES,
    &UPDATE_CHARGES,
    &PAY_CHARGES,
    &CARD_REPLACED,
    &REFUNDED,
    &END_SUBSCRIPTION,
];

/// In order of id everywhere, so that two sessions never wait for each other in a circle. Differs because SQLite has one
/// writer and no row locks.
pub const LOCK_CHARGES: Statement = Statement::two(
    "lock charges",
    "SELECT id, subscription_id, account_id, state, claim_token, elsewhere_imp_uid, version FROM charges
        WHERE id IN (SELECT value FROM json_each($1))",
    "SELECT id, subscription_id, account_id, state, claim_token, elsewhere_imp_uid, version FROM charges
        WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE",
);

/// As [`LOCK_CHARGES`], with whether a payment may end its subscription's state: few are in such a one, and on Postgres only those
/// are in the index that is asked. Differs because SQLite has one writer and no row locks.
pub const LOCK_TO_RECORD: Statement = Statement::two(
    "lock to record",
    concat!(lock_to_record!(), " WHERE c.id IN (SELECT value FROM json_each($1))"),
    concat!(lock_to_record!(), " WHERE c.id = ANY ($1) ORDER BY c.id FOR NO KEY UPDATE OF c"),
);

macro_rules! lock_to_record {
    () => {
        "SELECT c.id, c.state, c.claim_token, c.version,
            (SELECT subscription_states.state FROM subscription_states WHERE subscription_states.subscription_id = c.subscription_id
                AND subscription_states.state IN ('trialing', 'past_due', 'unpaid')) AS open_state
        FROM charges c"
    };
}
use lock_to_record;

/// The same rows for W2, each with what its subscription paid last, discounts aside: a probe of the index that opening has just walked. Differs
/// because SQLite has one writer, no row locks and no LATERAL; for the words of the condition see [`UPDATE_ATTEMPTS`].
pub const LOCK_TO_BEGIN: Statement = Statement::two(
    "lock charges to begin",
    "SELECT c.id, c.account_id, c.state, c.claim_token, c.elsewhere_imp_uid, c.period_start, c.period_end, c.currency,
            l.amount + COALESCE((SELECT CAST(-sum(j.amount) AS BIGINT) FROM adjustments j WHERE j.charge_id = l.id AND j.amount < 0), 0)
                AS last_amount, l.currency AS last_currency, l.period_start AS last_start, l.period_end AS last_end
        FROM charges c LEFT JOIN charges l ON l.id = (
            SELECT p.id FROM charges p WHERE p.subscription_id = c.subscription_id AND p.period_start < c.period_start
                AND p.state = 'paid' ORDER BY p.period_start DESC LIMIT 1)
        WHERE c.id IN (SELECT value FROM json_each($1))",
    "SELECT c.id, c.account_id, c.state, c.claim_token, c.elsewhere_imp_uid, c.period_start, c.period_end, c.currency,
            l.amount + COALESCE((SELECT CAST(-sum(j.amount) AS BIGINT) FROM adjustments j WHERE j.charge_id = l.id AND j.amount < 0), 0)
                AS last_amount, l.currency AS last_currency, l.period_start AS last_start, l.period_end AS last_end
        FROM charges c LEFT JOIN LATERAL (
            SELECT p.id, p.amount, p.currency, p.period_start, p.period_end FROM charges p
                WHERE p.subscription_id = c.subscription_id AND p.period_start < c.period_start AND p.state IS NOT DISTINCT FROM 'paid'
                ORDER BY p.period_start DESC LIMIT 1) l ON TRUE
        WHERE c.id = ANY ($1) ORDER BY c.id FOR NO KEY UPDATE OF c",
);

/// The account's row is what its batches of intents queue at, so that budgets and the fuse add up. Differs because SQLite has one
/// writer.
pub const LOCK_BRAKES: Statement = Statement::two(
    "lock brakes",
    "SELECT s.killed AS all_killed, s.held AS all_held, a.id, a.killed, a.held, a.paused, a.endpoint_id,
            a.audited_incarnation = s.incarnation AS audited, NOT a.live OR a.armed_incarnation = s.incarnation AS armed,
            a.fuse, a.fuse_why, a.fuse_wave, a.fuse_until
        FROM accounts a CROSS JOIN settings s WHERE a.id = $1",
    "SELECT s.killed AS all_killed, s.held AS all_held, a.id, a.killed, a.held, a.paused, a.endpoint_id,
            a.audited_incarnation = s.incarnation AS audited, NOT a.live OR a.armed_incarnation = s.incarnation AS armed,
            a.fuse, a.fuse_why, a.fuse_wave, a.fuse_until
        FROM accounts a CROSS JOIN settings s WHERE a.id = $1 FOR NO KEY UPDATE OF a",
);

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const LIVE_ATTEMPTS: Statement = Statement::two(
    "live attempts",
    "SELECT a.charge_id, a.id, a.state, o.id AS send_id FROM attempts a
        LEFT JOIN sends o ON o.attempt_id = a.id AND o.state = 'open'
        WHERE a.charge_id IN (SELECT value FROM json_each($1)) AND a.state IN ('live', 'paid')",
    "SELECT a.charge_id, a.id, a.state, o.id AS send_id FROM attempts a
        LEFT JOIN sends o ON o.attempt_id = a.id AND o.state = 'open'
        WHERE a.charge_id = ANY ($1) AND a.state IN ('live', 'paid')",
);

macro_rules! insert_ids_sqlite {
    () => {
        "INSERT INTO ids (merchant_uid, charge_id) SELECT value->>'$.uid', value->>'$.charge' FROM jsonb_each($1)"
    };
}

macro_rules! insert_ids_postgres {
    () => {
        "INSERT INTO ids (merchant_uid, charge_id) SELECT x.uid, x.charge FROM unnest($1::text[], $2::bigint[]) AS x(uid, charge)"
    };
}

/// Ids that nobody can have: a conflict fails. Differs because batches are arrays on Postgres and JSON on SQLite.
pub const INSERT_NEW_IDS: Statement = Statement::two("insert new ids", insert_ids_sqlite!(), insert_ids_postgres!());

/// Ids that somebody may have; who asks looks afterwards whose they are. Differs because batches are arrays on Postgres and JSON on
/// SQLite.
pub const INSERT_IDS: Statement = Statement::two(
    "insert ids",
    concat!(insert_ids_sqlite!(), " WHERE TRUE ON CONFLICT DO NOTHING"),
    concat!(insert_ids_postgres!(), " ON CONFLICT DO NOTHING"),
);

pub const SPEND: Statement = Statement::same(
    "spend",
    "INSERT INTO budgets (account_id, day, currency, count, sum) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (account_id, day, currency)
        DO UPDATE SET count = budgets.count + excluded.count, sum = budgets.sum + excluded.sum",
);

/// Differs because batches are arrays on Postgres and JSON on SQLite.
pub const INSERT_ATTEMPTS: Statement = Statement::two(
    "insert attempts",
    "INSERT INTO attempts (charge_id, number, id_number, amount, customer_uid, state)
        SELECT value->>'$.charge', value->>'$.number', value->>'$.id_number', value->>'$.amount', value->>'$.customer', 'live'
        FROM jsonb_each($1) RETURNING id, charge_id",
    "INSERT INTO attempts (charge_id, number, id_number, amount, customer_uid, state)
        SELECT x.charge, x.number, x.id_number, x.amount, x.customer, 'live'
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[]) AS x(charge, number,
            id_number, amount, customer)
        RETURNING id, charge_id",
);

/// Differs because batches are arrays on Postgres and JSON on SQLite.
pub const INSERT_SENDS: Statement = Statement::two(
    "insert sends",
    "INSERT INTO sends (attempt_id, endpoint_id, state, begun_at, body, body_hash)
        SELECT value->>'$.attempt', $1, 'open', $2, value->>'$.body', value->>'$.hash' FROM jsonb_each($3) RETURNING id, attempt_id",
    "INSERT INTO sends (attempt_id, endpoint_id, state, begun_at, body, body_hash)
        SELECT x.attempt, $1, 'open', $2, x.body, x.hash
        FROM unnest($3::bigint[], $4::text[], $5::text[]) AS x(attempt, body, hash) RETURNING id, attempt_id",
);

/// An id may be given out again by a server that has lost the first one: the moment tells them apart.
pub const KNOWS_SEND: Statement =
    Statement::same("knows send", "SELECT id FROM sends WHERE id = $1 AND attempt_id = $2 AND begun_at = $3");

/// Refuses (no row) if the brakes of the whole database were pulled after they were read. Says whether a send is known, as
/// [`KNOWS_SEND`] does, if there is one to ask for.
pub const HIGH_WATER: Statement = Statement::same(
    "high water",
    "UPDATE settings SET high_water = high_water + 1 WHERE NOT killed AND NOT held RETURNING high_water,
        CAST($1 AS BIGINT) IS NULL OR EXISTS (SELECT 1 FROM sends WHERE id = $1 AND attempt_id = $2 AND begun_at = $3) AS knows",
);

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const IMP_UIDS: Statement = Statement::two(
    "imp uids",
    "SELECT imp_uid, id, charge_id, state FROM attempts WHERE imp_uid IN (SELECT value FROM json_each($1))",
    "SELECT imp_uid, id, charge_id, state FROM attempts WHERE imp_uid = ANY ($1)",
);

/// A payment that was reported as failed and approved later. Differs because batches are arrays on Postgres and JSON on SQLite.
pub const REVIVE_ATTEMPTS: Statement = Statement::two(
    "revive attempts",
    "UPDATE attempts SET state = 'paid'
        FROM (SELECT value->>'$.imp_uid' AS imp_uid, CAST(value->>'$.charge' AS INTEGER) AS charge FROM jsonb_each($1)) AS x
        WHERE attempts.imp_uid = x.imp_uid AND attempts.charge_id = x.charge AND attempts.state NOT IN ('live', 'paid')",
    "UPDATE attempts a SET state = 'paid' FROM unnest($1::bigint[], $2::text[]) AS x(charge, imp_uid)
        WHERE a.imp_uid = x.imp_uid AND a.charge_id = x.charge AND a.state NOT IN ('live', 'paid')",
);

/// Differs because batches are arrays on Postgres and JSON on SQLite.
pub const INSERT_OBSERVATIONS: Statement = Statement::two(
    "insert observations",
    "INSERT INTO observations (charge_id, send_id, source, began_at, at, detail, rule)
        SELECT value->>'$.charge', value->>'$.send', value->>'$.source', value->>'$.began_at', $1, value->'$.detail',
            value->>'$.rule'
        FROM jsonb_each($2)",
    "INSERT INTO observations (charge_id, send_id, source, began_at, at, detail, rule)
        SELECT x.charge, x.send, x.source, x.began_at, $1, x.detail, x.rule
        FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::timestamptz[], $6::jsonb[], $7::text[]) AS x(charge,
            send, source, began_at, detail, rule)",
);

/// Differs because batches are arrays on Postgres and JSON on SQLite. `IS NOT DISTINCT FROM` keeps Postgres from walking the index of all live
/// attempts instead of finding each by its id. The charge is named too: a server that has lost an attempt may give its id to another
/// charge's.
pub const UPDATE_ATTEMPTS: Statement = Statement::two(
    "update attempts",
    "UPDATE attempts SET state = x.state, imp_uid = x.imp_uid, hint = x.hint, resends = x.resends
        FROM (
            SELECT CAST(value->>'$.id' AS INTEGER) AS id, CAST(value->>'$.charge' AS INTEGER) AS charge, value->>'$.state' AS state,
                value->>'$.imp_uid' AS imp_uid, value->>'$.hint' AS hint, value->>'$.resends' AS resends
            FROM jsonb_each($1)
        ) AS x WHERE attempts.id = x.id AND attempts.charge_id = x.charge AND attempts.state = 'live'",
    "UPDATE attempts a SET state = x.state, imp_uid = x.imp_uid, hint = x.hint, resends = x.resends
        FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[]) AS x(id, charge, state, imp_uid,
            hint, resends)
        WHERE a.id = x.id AND a.charge_id IS NOT DISTINCT FROM x.charge AND a.state IS NOT DISTINCT FROM 'live'",
);

/// Differs because batches are arrays on Postgres and JSON on SQLite.
pub const ADOPT_ATTEMPTS: Statement = Statement::two(
    "adopt attempts",
    "INSERT INTO attempts (charge_id, number, id_number, amount, customer_uid, state, imp_uid)
        SELECT value->>'$.charge', value->>'$.number', value->>'$.id_number', value->>'$.amount', value->>'$.customer',
            value->>'$.state', value->>'$.imp_uid'
        FROM jsonb_each($1)",
    "INSERT INTO attempts (charge_id, number, id_number, amount, customer_uid, state, imp_uid)
        SELECT x.charge, x.number, x.id_number, x.amount, x.customer, x.state, x.imp_uid
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[],
            $7::text[]) AS x(charge, number, id_number, amount, customer, state, imp_uid)",
);

/// Differs because batches are arrays on Postgres and JSON on SQLite; for the words of the condition see [`UPDATE_ATTEMPTS`].
pub const END_SENDS: Statement = Statement::two(
    "end sends",
    "UPDATE sends SET state = x.state, ended_at = $1, body = CASE WHEN x.keep THEN sends.body END
        FROM (
            SELECT CAST(value->>'$.id' AS INTEGER) AS id, value->>'$.state' AS state, value->>'$.keep' AS keep FROM jsonb_each($2)
        ) AS x WHERE sends.id = x.id AND sends.state = 'open'",
    "UPDATE sends o SET state = x.state, ended_at = $1, body = CASE WHEN x.keep THEN o.body END
        FROM unnest($2::bigint[], $3::text[], $4::boolean[]) AS x(id, state, keep)
        WHERE o.id = x.id AND o.state IS NOT DISTINCT FROM 'open'",
);

/// Bodies that were kept for a resend. Differs because lists are arrays on Postgres and JSON on SQLite.
pub const FORGET_BODIES: Statement = Statement::two(
    "forget bodies",
    "UPDATE sends SET body = NULL WHERE attempt_id IN (SELECT value FROM json_each($1))
        AND state NOT IN ('open', 'answered', 'found') AND body IS NOT NULL",
    "UPDATE sends SET body = NULL WHERE attempt_id = ANY ($1)
        AND state NOT IN ('open', 'answered', 'found') AND body IS NOT NULL",
);

/// Differs because batches are arrays on Postgres and JSON on SQLite.
pub const UPDATE_CHARGES: Statement = Statement::two(
    "update charges",
    "UPDATE charges SET state = x.state, waiting = x.waiting, next_at = x.next_at, id_number = x.id_number, attempts = x.attempts,
            tries = x.tries, first_declined_at = x.first_declined_at, refused_customer = x.refused_customer,
            not_sent = x.not_sent, doubt_since = x.doubt_since, doubt_looks = x.doubt_looks, quiet_since = x.quiet_since,
            quiet_twice = x.quiet_twice, alarmed = x.alarmed, newest_send_at = x.newest_send_at,
            elsewhere_imp_uid = x.elsewhere_imp_uid, elsewhere_number = x.elsewhere_number, imp_uid = x.imp_uid,
            declined_customer = x.declined_customer, restarted_after = x.restarted_after, transients = x.transients,
            transient_since = x.transient_since,
            paid_at = CASE WHEN x.state = 'paid' THEN COALESCE(charges.paid_at, $1) END,
            claim_token = NULL, claim_until = NULL, version = charges.version + 1
        FROM (
            SELECT CAST(value->>'$.id' AS INTEGER) AS id, value->>'$.state' AS state, value->>'$.waiting' AS waiting,
                value->>'$.next_at' AS next_at, value->>'$.id_number' AS id_number, value->>'$.attempts' AS attempts,
                value->>'$.tries' AS tries, value->>'$.first_declined_at' AS first_declined_at,
                value->>'$.refused_customer' AS refused_customer, value->>'$.not_sent' AS not_sent,
                value->>'$.doubt_since' AS doubt_since, value->>'$.doubt_looks' AS doubt_looks,
                value->>'$.quiet_since' AS quiet_since, value->>'$.quiet_twice' AS quiet_twice,
                value->>'$.alarmed' AS alarmed, value->>'$.newest_send_at' AS newest_send_at,
                value->>'$.elsewhere_imp_uid' AS elsewhere_imp_uid, value->>'$.elsewhere_number' AS elsewhere_number,
                value->>'$.imp_uid' AS imp_uid, value->>'$.declined_customer' AS declined_customer,
                value->>'$.restarted_after' AS restarted_after, value->>'$.transients' AS transients,
                value->>'$.transient_since' AS transient_since
            FROM jsonb_each($2)
        ) AS x WHERE charges.id = x.id",
    "UPDATE charges c SET state = x.state, waiting = x.waiting, next_at = x.next_at, id_number = x.id_number,
            attempts = x.attempts, tries = x.tries, first_declined_at = x.first_declined_at,
            refused_customer = x.refused_customer, not_sent = x.not_sent, doubt_since = x.doubt_since,
            doubt_looks = x.doubt_looks, quiet_since = x.quiet_since, quiet_twice = x.quiet_twice,
            alarmed = x.alarmed,
            newest_send_at = x.newest_send_at, elsewhere_imp_uid = x.elsewhere_imp_uid,
            elsewhere_number = x.elsewhere_number, imp_uid = x.imp_uid, declined_customer = x.declined_customer,
            restarted_after = x.restarted_after, transients = x.transients, transient_since = x.transient_since,
            paid_at = CASE WHEN x.state = 'paid' THEN COALESCE(c.paid_at, $1) END,
            claim_token = NULL, claim_until = NULL, version = c.version + 1
        FROM unnest($2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[], $7::bigint[],
            $8::bigint[], $9::timestamptz[], $10::text[], $11::bigint[], $12::timestamptz[], $13::bigint[],
            $14::timestamptz[], $15::boolean[], $16::boolean[], $17::timestamptz[], $18::text[], $19::bigint[],
            $20::text[], $21::text[], $22::bigint[], $23::bigint[], $24::timestamptz[]) AS x(id, state, waiting, next_at, id_number, attempts, tries, first_declined_at,
            refused_customer, not_sent, doubt_since, doubt_looks, quiet_since, quiet_twice, alarmed, newest_send_at,
            elsewhere_imp_uid, elsewhere_number, imp_uid, declined_customer, restarted_after, transients,
            transient_since)
        WHERE c.id = x.id",
);

/// What [`UPDATE_CHARGES`] writes for a charge whose first send was paid, which is nearly all of them: the same row from three
/// columns instead of all. Differs because batches are arrays on Postgres and JSON on SQLite.
pub const PAY_CHARGES: Statement = Statement::two(
    "pay charges",
    concat!(
        "UPDATE charges ",
        set_paid!(),
        " paid_at = COALESCE(charges.paid_at, $1), version = charges.version + 1
        FROM (
            SELECT CAST(value->>'$.id' AS INTEGER) AS id, value->>'$.newest_send_at' AS newest_send_at,
                value->>'$.imp_uid' AS imp_uid
            FROM jsonb_each($2)
        ) AS x WHERE charges.id = x.id"
    ),
    concat!(
        "UPDATE charges c ",
        set_paid!(),
        " paid_at = COALESCE(c.paid_at, $1), version = c.version + 1
        FROM unnest($2::bigint[], $3::timestamptz[], $4::text[]) AS x(id, newest_send_at, imp_uid) WHERE c.id = x.id"
    ),
);

macro_rules! set_paid {
    () => {
        "SET state = 'paid', waiting = 'nothing', next_at = NULL, id_number = 1, attempts = 1, tries = 0,
            first_declined_at = NULL, refused_customer = NULL, not_sent = 0, doubt_since = NULL, doubt_looks = 0,
            quiet_since = NULL, quiet_twice = FALSE, alarmed = FALSE, newest_send_at = x.newest_send_at,
            elsewhere_imp_uid = NULL, elsewhere_number = NULL, imp_uid = x.imp_uid, claim_token = NULL, claim_until = NULL,"
    };
}
use set_paid;

/// A card that was replaced while its refusal was under way: nobody would wake the charge. Differs because batches are arrays on
/// Postgres and JSON on SQLite.
pub const CARD_REPLACED: Statement = Statement::two(
    "card replaced",
    "UPDATE charges SET next_at = $1
        FROM (SELECT CAST(value->>'$.id' AS INTEGER) AS id, value->>'$.customer' AS customer FROM jsonb_each($2)) AS x
        WHERE charges.id = x.id AND charges.state = 'due' AND charges.waiting IN ('card', 'retry')
            AND x.customer <> (SELECT s.customer_uid FROM subscriptions s WHERE s.id = charges.subscription_id)",
    "UPDATE charges c SET next_at = $1
        FROM unnest($2::bigint[], $3::text[]) AS x(id, customer)
        WHERE c.id = x.id AND c.state = 'due' AND c.waiting IN ('card', 'retry')
            AND x.customer <> (SELECT s.customer_uid FROM subscriptions s WHERE s.id = c.subscription_id)",
);

pub const END_SUBSCRIPTION: Statement = Statement::same(
    "end subscription",
    "UPDATE subscriptions SET status = $2, updated_at = $3 WHERE id = $1 AND status = 'active'",
);

pub const REFUNDED: Statement = Statement::same(
    "refunded",
    "UPDATE charges SET refunded = TRUE, refunded_amount = $2, version = version + 1
        WHERE id = $1 AND COALESCE(refunded_amount, 0) < $2 RETURNING subscription_id",
);
