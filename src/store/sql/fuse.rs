//! Statements of the fuse: what went through it, what was expected, and the waves that operators let through.

use super::Statement;

pub const ALL: &[&Statement] = &[
    &SPENT,
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
    &EXPECTED,
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
                ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
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

/// Whether a charge of the wave is still to come before the approval ends.
pub const WAVE_OPEN: Statement = Statement::same(
    "wave open",
    "SELECT w.charge_id FROM wave_charges w JOIN charges c ON c.id = w.charge_id
        WHERE w.wave_id = $1 AND NOT w.begun AND c.state = 'due' AND c.next_at IS NOT NULL AND c.next_at < $2 LIMIT 1",
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

/// Which days are known from one on.
pub const EXPECTED: Statement = Statement::same(
    "expected",
    "SELECT account_id, day, currency, count, sum FROM fuse_expected WHERE day >= $1 ORDER BY account_id, day, currency",
);
