//! Statements about events, their deliveries, and incidents.

use super::Statement;

pub const ALL: &[&Statement] = &[
    &INSERT_EVENTS,
    &INSERT_EVENTS_TO_DELIVER,
    &INSERT_DELIVERIES,
    &DUE_DELIVERIES,
    &MOVE_DELIVERIES,
    &END_DELIVERIES,
    &PULL_FOLLOWERS,
    &OPEN_INCIDENT,
    &KNOWN_INCIDENT,
];

macro_rules! insert_events_sqlite {
    () => {
        "INSERT INTO events (id, kind, at, subscription_id, charge_id, data)
        SELECT value->>'$.id', value->>'$.kind', $1, value->>'$.subscription', value->>'$.charge', value->'$.data'
        FROM jsonb_each($2)"
    };
}

macro_rules! insert_events_postgres {
    () => {
        "INSERT INTO events (id, kind, at, subscription_id, charge_id, data)
        SELECT x.id, x.kind, $1, x.subscription, x.charge, x.data
        FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::jsonb[]) AS x(id, kind, subscription,
            charge, data)"
    };
}

/// Differs because batches are arrays on Postgres and JSON on SQLite.
pub const INSERT_EVENTS: Statement = Statement::two("insert events", insert_events_sqlite!(), insert_events_postgres!());

/// Differs because batches are arrays on Postgres and JSON on SQLite.
pub const INSERT_EVENTS_TO_DELIVER: Statement = Statement::two(
    "insert events to deliver",
    concat!(insert_events_sqlite!(), " RETURNING seq, subscription_id"),
    concat!(insert_events_postgres!(), " RETURNING seq, subscription_id"),
);

/// Differs because batches are arrays on Postgres and JSON on SQLite.
pub const INSERT_DELIVERIES: Statement = Statement::two(
    "insert deliveries",
    "INSERT INTO deliveries (event_seq, endpoint, subscription_id, state, next_at)
        SELECT value->>'$.seq', value->>'$.endpoint', value->>'$.subscription', 'pending', $1 FROM jsonb_each($2)",
    "INSERT INTO deliveries (event_seq, endpoint, subscription_id, state, next_at)
        SELECT x.seq, x.endpoint, x.subscription, 'pending', $1
        FROM unnest($2::bigint[], $3::text[], $4::bigint[]) AS x(seq, endpoint, subscription)",
);

/// With each, when an older one of the same endpoint and subscription is tried, if there is one. Differs because SQLite has one
/// writer and no row locks.
pub const DUE_DELIVERIES: Statement = Statement::two(
    "due deliveries",
    "SELECT d.id, d.endpoint, d.tries, e.id AS event_id, e.kind, e.at, e.data,
            (SELECT h.next_at FROM deliveries h WHERE h.state = 'pending' AND h.endpoint = d.endpoint
                AND h.subscription_id = d.subscription_id AND h.event_seq < d.event_seq
                ORDER BY h.event_seq LIMIT 1) AS older_at
        FROM deliveries d JOIN events e ON e.seq = d.event_seq
        WHERE d.state = 'pending' AND d.next_at <= $1 ORDER BY d.next_at, d.id LIMIT $2",
    "SELECT d.id, d.endpoint, d.tries, e.id AS event_id, e.kind, e.at, e.data,
            (SELECT h.next_at FROM deliveries h WHERE h.state = 'pending' AND h.endpoint = d.endpoint
                AND h.subscription_id = d.subscription_id AND h.event_seq < d.event_seq
                ORDER BY h.event_seq LIMIT 1) AS older_at
        FROM deliveries d JOIN events e ON e.seq = d.event_seq
        WHERE d.state = 'pending' AND d.next_at <= $1 ORDER BY d.next_at, d.id LIMIT $2 FOR UPDATE OF d SKIP LOCKED",
);

/// Differs because batches are arrays on Postgres and JSON on SQLite.
pub const MOVE_DELIVERIES: Statement = Statement::two(
    "move deliveries",
    "UPDATE deliveries SET next_at = x.next_at
        FROM (SELECT CAST(value->>'$.id' AS INTEGER) AS id, value->>'$.next_at' AS next_at FROM jsonb_each($1)) AS x
        WHERE deliveries.id = x.id",
    "UPDATE deliveries d SET next_at = x.next_at FROM unnest($1::bigint[], $2::timestamptz[]) AS x(id, next_at)
        WHERE d.id = x.id",
);

/// Differs because batches are arrays on Postgres and JSON on SQLite. `IS NOT DISTINCT FROM` keeps Postgres from walking the index of all
/// pending deliveries instead of finding each by its id.
pub const END_DELIVERIES: Statement = Statement::two(
    "end deliveries",
    "UPDATE deliveries SET state = x.state, tries = deliveries.tries + 1, next_at = COALESCE(x.next_at, deliveries.next_at),
            last_error = x.error, delivered_at = CASE WHEN x.state = 'delivered' THEN $1 END
        FROM (
            SELECT CAST(value->>'$.id' AS INTEGER) AS id, value->>'$.state' AS state, value->>'$.next_at' AS next_at,
                value->>'$.error' AS error
            FROM jsonb_each($2)
        ) AS x WHERE deliveries.id = x.id AND deliveries.state = 'pending'",
    "UPDATE deliveries d SET state = x.state, tries = d.tries + 1, next_at = COALESCE(x.next_at, d.next_at),
            last_error = x.error, delivered_at = CASE WHEN x.state = 'delivered' THEN $1::timestamptz END
        FROM unnest($2::bigint[], $3::text[], $4::timestamptz[], $5::text[]) AS x(id, state, next_at, error)
        WHERE d.id = x.id AND d.state IS NOT DISTINCT FROM 'pending'",
);

/// The next delivery after each that has ended waits no longer. Differs because lists are arrays on Postgres and JSON on
/// SQLite.
pub const PULL_FOLLOWERS: Statement = Statement::two(
    "pull followers",
    "UPDATE deliveries SET next_at = $2 WHERE state = 'pending' AND next_at > $2 AND id IN (
            SELECT (SELECT f.id FROM deliveries f WHERE f.state = 'pending' AND f.endpoint = d.endpoint
                AND f.subscription_id = d.subscription_id ORDER BY f.event_seq LIMIT 1)
            FROM deliveries d WHERE d.id IN (SELECT value FROM json_each($1)))",
    "UPDATE deliveries SET next_at = $2 WHERE state IS NOT DISTINCT FROM 'pending' AND next_at > $2 AND id = ANY (ARRAY (
            SELECT (SELECT f.id FROM deliveries f WHERE f.state = 'pending' AND f.endpoint = d.endpoint
                AND f.subscription_id = d.subscription_id ORDER BY f.event_seq LIMIT 1)
            FROM deliveries d WHERE d.id = ANY ($1)))",
);

/// One that an operator has closed stays closed.
pub const OPEN_INCIDENT: Statement = Statement::same(
    "open incident",
    "INSERT INTO incidents (account_id, charge_id, kind, detail, opened_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (account_id, kind, detail) DO NOTHING",
);

pub const KNOWN_INCIDENT: Statement =
    Statement::same("known incident", "SELECT closed_at FROM incidents WHERE account_id = $1 AND kind = $2 AND detail = $3");
