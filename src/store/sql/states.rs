//! Statements about the states of subscriptions.

use super::Statement;

pub const ALL: &[&Statement] = &[&DUE_STATES, &STATE_FACTS, &KEEP_STATES, &MARK_STATES, &FORGET_LOOKS, &UNOPENED];

pub const DUE_STATES: Statement = Statement::same(
    "due states",
    "SELECT subscription_id FROM subscription_states WHERE look_at IS NOT NULL AND look_at <= $1 ORDER BY look_at LIMIT $2",
);

macro_rules! facts {
    () => {
        "SELECT s.id, s.account, s.external_ref, s.plan, s.status, h.parked, h.opened_until, t.state, t.since, t.look_at, t.version,
            (SELECT c.state FROM charges c WHERE c.subscription_id = s.id AND c.state IN ('paid', 'unpaid')
                ORDER BY c.period_start DESC LIMIT 1) AS closed,
            o.first_declined_at, o.restarted_after, o.state AS owed_state, o.waiting, o.next_at
        FROM subscriptions s
        LEFT JOIN schedules h ON h.subscription_id = s.id
        LEFT JOIN subscription_states t ON t.subscription_id = s.id
        LEFT JOIN charges o ON o.subscription_id = s.id AND o.state IN ('due', 'doubt', 'review')
            AND o.first_declined_at IS NOT NULL"
    };
}

/// A row for each owed charge, or one for a subscription without any. Differs because lists are arrays on Postgres and JSON on
/// SQLite.
pub const STATE_FACTS: Statement = Statement::two(
    "state facts",
    concat!(facts!(), " WHERE s.id IN (SELECT value FROM json_each($1)) ORDER BY s.id"),
    concat!(facts!(), " WHERE s.id = ANY ($1) ORDER BY s.id"),
);

/// Only as they were read: what is returned was kept. Differs because batches are arrays on Postgres and JSON on SQLite.
pub const KEEP_STATES: Statement = Statement::two(
    "keep states",
    "INSERT INTO subscription_states (subscription_id, state, since, look_at, version)
        SELECT value->>'$.id', value->>'$.state', value->>'$.since', value->>'$.look_at', value->>'$.version' + 1
        FROM jsonb_each($1) WHERE TRUE
        ON CONFLICT (subscription_id) DO UPDATE SET state = excluded.state, since = excluded.since, look_at = excluded.look_at,
            version = excluded.version
        WHERE subscription_states.version = excluded.version - 1
        RETURNING subscription_id",
    "INSERT INTO subscription_states (subscription_id, state, since, look_at, version)
        SELECT x.id, x.state, x.since, x.look_at, x.version + 1
        FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[]) AS x(id, state, since, look_at,
            version)
        ON CONFLICT (subscription_id) DO UPDATE SET state = excluded.state, since = excluded.since, look_at = excluded.look_at,
            version = excluded.version
        WHERE subscription_states.version = excluded.version - 1
        RETURNING subscription_id",
);

/// `$1` is now. Differs because batches are arrays on Postgres and JSON on SQLite.
pub const MARK_STATES: Statement = Statement::two(
    "mark states",
    "INSERT INTO subscription_states (subscription_id, state, since, look_at)
        SELECT value->>'$.id', value->>'$.state', $1, $1 FROM jsonb_each($2) WHERE TRUE
        ON CONFLICT (subscription_id) DO UPDATE SET look_at = $1, version = subscription_states.version + 1",
    "INSERT INTO subscription_states (subscription_id, state, since, look_at)
        SELECT x.id, x.state, $1, $1 FROM unnest($2::bigint[], $3::text[]) AS x(id, state)
        ON CONFLICT (subscription_id) DO UPDATE SET look_at = $1, version = subscription_states.version + 1",
);

/// Of rows that cannot be read, or are there no more. Differs because lists are arrays on Postgres and JSON on SQLite.
pub const FORGET_LOOKS: Statement = Statement::two(
    "forget looks",
    "UPDATE subscription_states SET look_at = NULL, version = version + 1
        WHERE subscription_id IN (SELECT value FROM json_each($1))",
    "UPDATE subscription_states SET look_at = NULL, version = version + 1 WHERE subscription_id = ANY ($1)",
);

/// What trials follow from. Differs because lists are arrays on Postgres and JSON on SQLite.
pub const UNOPENED: Statement = Statement::two(
    "unopened subscriptions",
    concat!(
        "SELECT ",
        super::terms::terms!(),
        ", a.id AS account_id
        FROM schedules h
        JOIN subscriptions s ON s.id = h.subscription_id
        JOIN accounts a ON a.name = s.account
        WHERE h.subscription_id IN (SELECT value FROM json_each($1)) AND h.opened_until IS NULL AND s.status = 'active'"
    ),
    concat!(
        "SELECT ",
        super::terms::terms!(),
        ", a.id AS account_id
        FROM schedules h
        JOIN subscriptions s ON s.id = h.subscription_id
        JOIN accounts a ON a.name = s.account
        WHERE h.subscription_id = ANY ($1) AND h.opened_until IS NULL AND s.status = 'active'"
    ),
);
