//! Statements of the fuse: what went through it, what was expected, and the waves that operators let through.

use super::Statement;

pub const ALL: &[&Statement] = &[
    &SPENT,
    &DUE_WAVE,
    &SPEND_FUSE,
    &BLOW,
    &CLOSE_INCIDENTS,
    &MEND,
    &END_WAVE,
    &WAKE_FUSED,
    &WAVE_MEMBERS,
    &WAVE_OPEN,
    &WAVE_BEGUN,
    &EXPECT,
    &FORGET_EXPECTED,
    &EXPECTED,
    &FUSES,
    &LOCK_FUSE,
    &WAVE_PLAN,
    &WAVE_ASKED,
    &ADD_WAVE,
    &SECOND_APPROVAL,
    &ADD_WAVE_CHARGES,
    &APPROVE,
    &REJECT,
    &FORGET_SPENT,
];

/// All that a batch of intents is held against: the day's budget, what went through the fuse, what was expected of the day.
pub const SPENT: Statement = Statement::same(
    "spent",
    "SELECT 'budget' AS what, currency, count, sum, CAST(NULL AS TIMESTAMPTZ) AS at FROM budgets WHERE account_id = $1 AND day = $2
        UNION ALL SELECT CASE WHEN slot = 8 THEN 'day' ELSE 'hour' END, currency, count, sum, at
            FROM fuse_spent WHERE account_id = $1
        UNION ALL SELECT 'expected', currency, count, sum, CAST(NULL AS TIMESTAMPTZ)
            FROM fuse_expected WHERE account_id = $1 AND day = $2",
);

/// What is due of an account and in nobody's hand, `$4` charges at most.
pub const DUE_WAVE: Statement = Statement::same(
    "due wave",
    "SELECT currency, count(*) AS count, CAST(sum(amount) AS BIGINT) AS sum, max(amount) AS largest FROM (
            SELECT currency, amount FROM charges WHERE account_id = $1 AND state = 'due' AND next_at IS NOT NULL
                AND next_at <= $3 AND (claim_until IS NULL OR claim_until <= $2) ORDER BY next_at LIMIT $4
        ) AS due GROUP BY currency",
);

/// Differs because batches are arrays on Postgres and JSON on SQLite.
pub const SPEND_FUSE: Statement = Statement::two(
    "spend fuse",
    "INSERT INTO fuse_spent (account_id, slot, currency, at, count, sum)
        SELECT $1, value->>'$.slot', value->>'$.currency', value->>'$.at', value->>'$.count', value->>'$.sum'
        FROM jsonb_each($2) WHERE TRUE
        ON CONFLICT (account_id, slot, currency) DO UPDATE SET at = excluded.at,
            count = excluded.count + CASE WHEN fuse_spent.at = excluded.at THEN fuse_spent.count ELSE 0 END,
            sum = excluded.sum + CASE WHEN fuse_spent.at = excluded.at THEN fuse_spent.sum ELSE 0 END",
    "INSERT INTO fuse_spent (account_id, slot, currency, at, count, sum)
        SELECT $1, x.slot, x.currency, x.at, x.count, x.sum
        FROM unnest($2::bigint[], $3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[]) AS x(slot, currency, at, count, sum)
        ON CONFLICT (account_id, slot, currency) DO UPDATE SET at = excluded.at,
            count = excluded.count + CASE WHEN fuse_spent.at = excluded.at THEN fuse_spent.count ELSE 0 END,
            sum = excluded.sum + CASE WHEN fuse_spent.at = excluded.at THEN fuse_spent.sum ELSE 0 END",
);

/// From now on nothing of the account is sent.
pub const BLOW: Statement = Statement::same(
    "blow",
    "UPDATE accounts SET fuse = 'blown', fuse_why = $2, fuse_at = $3, fuse_approvers = $4, fuse_wave = NULL, fuse_until = NULL
        WHERE id = $1 RETURNING name",
);

pub const CLOSE_INCIDENTS: Statement = Statement::same(
    "close incidents of the fuse",
    "UPDATE incidents SET closed_at = $2 WHERE account_id = $1 AND kind = 'fuse_blown' AND closed_at IS NULL",
);

/// Whole again.
pub const MEND: Statement = Statement::same(
    "mend",
    "UPDATE accounts SET fuse = NULL, fuse_why = NULL, fuse_at = NULL, fuse_approvers = NULL, fuse_wave = NULL, fuse_until = NULL
        WHERE id = $1",
);

pub const END_WAVE: Statement =
    Statement::same("end wave", "UPDATE waves SET ended_at = $2, ended_why = $3 WHERE id = $1 AND ended_at IS NULL");

/// What waited for the fuse falls due now. Differs because SQLite has one writer and no row locks: whoever has a charge in hand may
/// wait for the account's row.
pub const WAKE_FUSED: Statement = Statement::two(
    "wake fused",
    "UPDATE charges SET next_at = $2, version = version + 1
        WHERE account_id = $1 AND state = 'due' AND next_at IS NOT NULL AND next_at > $2 AND waiting = 'fuse'",
    "UPDATE charges SET next_at = $2, version = version + 1
        WHERE id = ANY (ARRAY (
            SELECT id FROM charges
                WHERE account_id = $1 AND state = 'due' AND next_at IS NOT NULL AND next_at > $2 AND waiting = 'fuse'
                ORDER BY next_at FOR NO KEY UPDATE SKIP LOCKED
        ))",
);

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const WAVE_MEMBERS: Statement = Statement::two(
    "wave members",
    "SELECT charge_id, merchant_uid, amount, currency, customer, begun FROM wave_charges
        WHERE wave_id = $1 AND charge_id IN (SELECT value FROM json_each($2))",
    "SELECT charge_id, merchant_uid, amount, currency, customer, begun FROM wave_charges
        WHERE wave_id = $1 AND charge_id = ANY ($2)",
);

/// Whether a charge of the wave is still to come before the approval ends. One that has been looked at and waits for its card, the
/// budget or its subscription holds up nobody, unless its moment has come by `$3`: it goes through the fuse by itself, later.
pub const WAVE_OPEN: Statement = Statement::same(
    "wave open",
    "SELECT w.charge_id FROM wave_charges w JOIN charges c ON c.id = w.charge_id
        WHERE w.wave_id = $1 AND NOT w.begun AND c.state = 'due' AND c.next_at IS NOT NULL AND c.next_at < $2
            AND (c.next_at <= $3 OR c.waiting NOT IN ('card_rest', 'card', 'budget', 'paused')) LIMIT 1",
);

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const WAVE_BEGUN: Statement = Statement::two(
    "wave begun",
    "UPDATE wave_charges SET begun = TRUE WHERE wave_id = $1 AND charge_id IN (SELECT value FROM json_each($2))",
    "UPDATE wave_charges SET begun = TRUE WHERE wave_id = $1 AND charge_id = ANY ($2)",
);

/// Written once: what has been expected does not change during the day. Differs because batches are arrays on Postgres and JSON
/// on SQLite.
pub const EXPECT: Statement = Statement::two(
    "expect",
    "INSERT INTO fuse_expected (account_id, day, currency, count, sum, known_at)
        SELECT value->>'$.account', value->>'$.day', value->>'$.currency', value->>'$.count', value->>'$.sum', $1
        FROM jsonb_each($2) WHERE TRUE ON CONFLICT DO NOTHING",
    "INSERT INTO fuse_expected (account_id, day, currency, count, sum, known_at)
        SELECT x.account, x.day, x.currency, x.count, x.sum, $1
        FROM unnest($2::bigint[], $3::date[], $4::text[], $5::bigint[], $6::bigint[]) AS x(account, day, currency, count, sum)
        ON CONFLICT DO NOTHING",
);

/// What was expected of a day that is counted anew.
pub const FORGET_EXPECTED: Statement =
    Statement::same("forget expected", "DELETE FROM fuse_expected WHERE account_id = $1 AND day = $2");

/// Which days are known from one on.
pub const EXPECTED: Statement = Statement::same(
    "expected",
    "SELECT account_id, day, currency, count, sum, known_at FROM fuse_expected WHERE day >= $1 ORDER BY account_id, day, currency",
);

/// Accounts whose fuse is not whole.
pub const FUSES: Statement = Statement::same(
    "fuses",
    "SELECT id, name, fuse, fuse_why, fuse_at, fuse_approvers, fuse_until FROM accounts WHERE fuse IS NOT NULL ORDER BY name",
);

/// Differs because SQLite has one writer and no row locks.
pub const LOCK_FUSE: Statement = Statement::two(
    "lock fuse",
    "SELECT id, name, fuse, fuse_why, fuse_at, fuse_approvers, fuse_until FROM accounts WHERE name = $1",
    "SELECT id, name, fuse, fuse_why, fuse_at, fuse_approvers, fuse_until FROM accounts WHERE name = $1 FOR NO KEY UPDATE",
);

/// What an account would send that was due by `$2`, in its order. What the fuse has put off is due again within minutes, so `$3`, an
/// hour from now, bounds what is read. The inner SELECT keeps Postgres to
/// an index of what is not settled, whichever: an operator asks, and no tick.
pub const WAVE_PLAN: Statement = Statement::same(
    "wave plan",
    "SELECT c.id, s.account, s.external_ref, c.period_start, c.due_at, c.amount, c.currency, c.id_number, c.refused_customer,
            s.customer_uid, a.id_number AS live_id_number, o.id AS send_id
        FROM (
            SELECT id, subscription_id, period_start, due_at, amount, currency, id_number, refused_customer FROM charges
                WHERE account_id = $1 AND state = 'due' AND next_at IS NOT NULL AND next_at <= $3
                    AND (next_at <= $2 OR (waiting = 'fuse' AND due_at <= $2))
                ORDER BY next_at LIMIT 100000000
        ) c
        JOIN subscriptions s ON s.id = c.subscription_id
        LEFT JOIN attempts a ON a.charge_id = c.id AND a.state IN ('live', 'paid')
        LEFT JOIN sends o ON o.attempt_id = a.id AND o.state = 'open'
        WHERE s.status = 'active'
        ORDER BY c.due_at, c.id",
);

/// What the first of two operators has approved; the newest.
pub const WAVE_ASKED: Statement = Statement::same(
    "wave asked",
    "SELECT id, hash, first_by, asked_at, approved_at FROM waves WHERE account_id = $1 AND ended_at IS NULL ORDER BY id DESC LIMIT 1",
);

pub const ADD_WAVE: Statement = Statement::same(
    "add wave",
    "INSERT INTO waves (account_id, hash, charges, asked_at, first_by) VALUES ($1, $2, $3, $4, $5) RETURNING id",
);

pub const SECOND_APPROVAL: Statement =
    Statement::same("second approval", "UPDATE waves SET approved_at = $2, second_by = $3 WHERE id = $1");

/// Differs because batches are arrays on Postgres and JSON on SQLite.
pub const ADD_WAVE_CHARGES: Statement = Statement::two(
    "add wave charges",
    "INSERT INTO wave_charges (wave_id, charge_id, merchant_uid, amount, currency, customer)
        SELECT $1, value->>'$.charge', value->>'$.uid', value->>'$.amount', value->>'$.currency', value->>'$.customer'
        FROM jsonb_each($2)",
    "INSERT INTO wave_charges (wave_id, charge_id, merchant_uid, amount, currency, customer)
        SELECT $1, x.charge, x.uid, x.amount, x.currency, x.customer
        FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::text[]) AS x(charge, uid, amount, currency, customer)",
);

pub const APPROVE: Statement =
    Statement::same("approve", "UPDATE accounts SET fuse = 'approved', fuse_wave = $2, fuse_until = $3 WHERE id = $1");

pub const REJECT: Statement = Statement::same(
    "reject",
    "UPDATE accounts SET fuse = 'rejected', fuse_why = $2, fuse_wave = NULL, fuse_until = NULL WHERE id = $1",
);

/// The fuse counts anew: a person has looked.
pub const FORGET_SPENT: Statement = Statement::same("forget spent", "DELETE FROM fuse_spent WHERE account_id = $1");
