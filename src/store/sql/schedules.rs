//! Statements that open periods.

use super::Statement;
use super::charges::payer_columns;

pub const ALL: &[&Statement] = &[
    &DUE_SCHEDULES,
    &FREE_SCHEDULES,
    &LOCK_STEPS,
    &UNRESOLVED,
    &LOCK_UNRESOLVED,
    &LAST_BEFORE,
    &INSERT_CHARGES,
    &UPDATE_SCHEDULES,
    &PARK_UNREADABLE,
    &UNBLOCK,
    &RETRY_PROBLEMS,
];

macro_rules! due_schedules {
    ($locks:literal) => {
        concat!(
            "SELECT ",
            super::terms::terms!(),
            ", a.id AS account_id, (SELECT version FROM plans_version) AS plans_version, ",
            payer_columns!(),
            " FROM (
            SELECT subscription_id, next_look_at, opened_until, not_before, stopped_on, gaps, anchor, periods, parked, caught_up,
                    version
                FROM schedules
                WHERE next_look_at IS NOT NULL AND next_look_at <= $1 ORDER BY next_look_at LIMIT $2",
            $locks,
            "
        ) h
        JOIN subscriptions s ON s.id = h.subscription_id
        JOIN accounts a ON a.name = s.account
        ORDER BY h.next_look_at, h.subscription_id"
        )
    };
}

pub const DUE_SCHEDULES: Statement = Statement::same("due schedules", due_schedules!(""));

/// The same without rows that another session holds. It writes to each row that it reads, so it is asked only after such rows were
/// met. Differs because SQLite has one writer and no row locks.
pub const FREE_SCHEDULES: Statement =
    Statement::two("free schedules", due_schedules!(""), due_schedules!(" FOR NO KEY UPDATE SKIP LOCKED"));

/// Differs because SQLite has one writer and no row locks. A row that another session holds is left for later: it is about to
/// change.
pub const LOCK_STEPS: Statement = Statement::two(
    "lock steps",
    "SELECT h.subscription_id, h.version, h.parked, h.problem, s.account, s.external_ref, a.id AS account_id,
            (SELECT t.state FROM subscription_states t WHERE t.subscription_id = h.subscription_id AND t.state = 'trialing') AS trialing
        FROM schedules h JOIN subscriptions s ON s.id = h.subscription_id JOIN accounts a ON a.name = s.account
        WHERE h.subscription_id IN (SELECT value FROM json_each($1)) ORDER BY h.subscription_id",
    "SELECT h.subscription_id, h.version, h.parked, h.problem, s.account, s.external_ref, a.id AS account_id,
            (SELECT t.state FROM subscription_states t WHERE t.subscription_id = h.subscription_id AND t.state = 'trialing') AS trialing
        FROM schedules h JOIN subscriptions s ON s.id = h.subscription_id JOIN accounts a ON a.name = s.account
        WHERE h.subscription_id = ANY ($1) ORDER BY h.subscription_id FOR UPDATE OF h SKIP LOCKED",
);

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const UNRESOLVED: Statement = Statement::two(
    "unresolved",
    "SELECT id, subscription_id FROM charges
        WHERE subscription_id IN (SELECT value FROM json_each($1)) AND state IN ('due', 'doubt', 'review')",
    "SELECT id, subscription_id FROM charges
        WHERE subscription_id = ANY ($1) AND state IN ('due', 'doubt', 'review')",
);

/// Differs because SQLite has one writer and no row locks. On Postgres a charge that is just being written is left out, and
/// one that is returned cannot end before the schedule's `blocked` is committed: so its end always sees it.
pub const LOCK_UNRESOLVED: Statement = Statement::two(
    "lock unresolved",
    "SELECT subscription_id FROM charges
        WHERE id IN (SELECT value FROM json_each($1)) AND state IN ('due', 'doubt', 'review')",
    "SELECT subscription_id FROM charges
        WHERE id = ANY ($1) AND state IN ('due', 'doubt', 'review') FOR SHARE SKIP LOCKED",
);

/// The last period of each subscription that starts before the new one's end. Differs because batches are arrays on
/// Postgres and JSON on SQLite.
pub const LAST_BEFORE: Statement = Statement::two(
    "last before",
    "SELECT c.subscription_id, c.period_start, c.period_end FROM jsonb_each($1) x CROSS JOIN charges c
        WHERE c.subscription_id = x.value->>'$.id' AND c.period_start = (
            SELECT max(b.period_start) FROM charges b
                WHERE b.subscription_id = x.value->>'$.id' AND b.period_start < x.value->>'$.period_end')",
    "SELECT c.subscription_id, c.period_start, c.period_end
        FROM unnest($1::bigint[], $2::date[]) AS x(id, period_end)
        CROSS JOIN LATERAL (
            SELECT b.subscription_id, b.period_start, b.period_end FROM charges b
                WHERE b.subscription_id = x.id AND b.period_start < x.period_end ORDER BY b.period_start DESC LIMIT 1
        ) c",
);

/// Differs because batches are arrays on Postgres and JSON on SQLite.
pub const INSERT_CHARGES: Statement = Statement::two(
    "insert charges",
    "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, tax_free, vat_amount,
            id_mode, config_version, state, waiting, next_at, claim_token, claim_until)
        SELECT value->>'$.id', value->>'$.account', value->>'$.period_start', value->>'$.period_end', value->>'$.due_at',
            value->>'$.amount', value->>'$.currency', value->>'$.tax_free', value->>'$.vat_amount', value->>'$.id_mode',
            value->>'$.config_version', 'due', value->>'$.waiting', value->>'$.first_at', value->>'$.claim_token',
            value->>'$.claim_until'
        FROM jsonb_each($1) RETURNING id, subscription_id, period_start",
    "INSERT INTO charges (subscription_id, account_id, period_start, period_end, due_at, amount, currency, tax_free, vat_amount,
            id_mode, config_version, state, waiting, next_at, claim_token, claim_until)
        SELECT x.id, x.account, x.period_start, x.period_end, x.due_at, x.amount, x.currency, x.tax_free, x.vat_amount,
            x.id_mode, x.config_version, 'due', x.waiting, x.first_at, x.claim_token, x.claim_until
        FROM unnest($1::bigint[], $2::bigint[], $3::date[], $4::date[], $5::timestamptz[], $6::bigint[], $7::text[], $8::bigint[],
            $9::bigint[], $10::text[], $11::bigint[], $12::text[], $13::timestamptz[], $14::text[], $15::timestamptz[])
            AS x(id, account, period_start, period_end, due_at, amount, currency, tax_free, vat_amount, id_mode, config_version,
                waiting, first_at, claim_token, claim_until)
        RETURNING id, subscription_id, period_start",
);

/// Differs because batches are arrays on Postgres and JSON on SQLite.
pub const UPDATE_SCHEDULES: Statement = Statement::two(
    "update schedules",
    "UPDATE schedules SET next_look_at = x.next_look_at, opened_until = COALESCE(x.opened_until, schedules.opened_until),
            not_before = x.not_before, stopped_on = x.stopped_on, gaps = x.gaps, anchor = x.anchor,
            periods = COALESCE(x.periods, schedules.periods), parked = x.parked, problem = x.problem, missed = x.missed, version = schedules.version + 1
        FROM (
            SELECT CAST(value->>'$.id' AS INTEGER) AS id, value->>'$.next_look_at' AS next_look_at,
                value->>'$.opened_until' AS opened_until, value->>'$.not_before' AS not_before,
                value->>'$.stopped_on' AS stopped_on, value->>'$.gaps' AS gaps, value->>'$.anchor' AS anchor, value->>'$.periods' AS periods, value->>'$.missed' AS missed,
                value->>'$.parked' AS parked, value->>'$.problem' AS problem
            FROM jsonb_each($1)
        ) AS x WHERE schedules.subscription_id = x.id",
    "UPDATE schedules h SET next_look_at = x.next_look_at, opened_until = COALESCE(x.opened_until, h.opened_until),
            not_before = x.not_before, stopped_on = x.stopped_on, gaps = x.gaps, anchor = x.anchor,
            periods = COALESCE(x.periods, h.periods), parked = x.parked, problem = x.problem, missed = x.missed, version = h.version + 1
        FROM unnest($1::bigint[], $2::timestamptz[], $3::date[], $4::date[], $5::date[], $6::text[], $7::date[], $8::bigint[],
            $9::bigint[], $10::text[], $11::text[])
            AS x(id, next_look_at, opened_until, not_before, stopped_on, gaps, anchor, periods, missed, parked, problem)
        WHERE h.subscription_id = x.id",
);

/// Nothing else of it is touched: what it says cannot be read.
pub const PARK_UNREADABLE: Statement = Statement::same(
    "park unreadable",
    "UPDATE schedules SET next_look_at = NULL, parked = 'problem', problem = $3, version = version + 1
        WHERE subscription_id = $1 AND version = $2 RETURNING subscription_id",
);

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const UNBLOCK: Statement = Statement::two(
    "unblock",
    "UPDATE schedules SET parked = NULL, next_look_at = $2, version = version + 1
        WHERE subscription_id IN (SELECT value FROM json_each($1)) AND parked = 'blocked'",
    "UPDATE schedules SET parked = NULL, next_look_at = $2, version = version + 1
        WHERE subscription_id = ANY ($1) AND parked = 'blocked'",
);

/// Reads all schedules: for the start of a daemon, whose config may have been put right.
pub const RETRY_PROBLEMS: Statement = Statement::same(
    "retry problems",
    "UPDATE schedules SET next_look_at = $1, version = version + 1 WHERE parked = 'problem' AND next_look_at IS NULL",
);
