//! Statements about configs: those that were in force, what operators approved, what each daemon goes by.

use super::Statement;

pub const ALL: &[&Statement] = &[
    &REMEMBER,
    &VERSION_OF,
    &VERSION,
    &IN_FORCE,
    &LAST_SETTLED,
    &BEGIN_SETTLING,
    &SETTLED,
    &APPROVE,
    &LAST_APPROVAL,
    &TAKEN,
    &SEEN,
    &STOPPED,
    &STOPPED_BY,
    &REFUSED,
    &UNCONFIRMED,
    &FORGET_DAEMONS,
    &DAEMONS,
    &LOOK_AGAIN,
];

/// Differs because Postgres keeps JSON as JSONB.
pub const REMEMBER: Statement = Statement::two(
    "remember a config",
    "INSERT INTO config_versions (hash, config_hash, body, plans, loaded_at, who) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (hash) DO NOTHING",
    "INSERT INTO config_versions (hash, config_hash, body, plans, loaded_at, who)
        VALUES ($1, $2, $3::text::jsonb, $4::text::jsonb, $5, $6) ON CONFLICT (hash) DO NOTHING",
);

macro_rules! version {
    ($rest:literal) => {
        concat!(
            "SELECT v.id, COALESCE(v.config_hash, v.hash) AS hash, v.body, v.plans, v.loaded_at, v.who FROM config_versions v ",
            $rest
        )
    };
}

pub const VERSION_OF: Statement = Statement::same("config by hash", version!("WHERE v.hash = $1"));

pub const VERSION: Statement = Statement::same("config by number", version!("WHERE v.id = $1"));

/// What the daemon that was seen last goes by.
pub const IN_FORCE: Statement =
    Statement::same("config in force", version!("JOIN config_daemons d ON d.version_id = v.id ORDER BY d.seen_at DESC LIMIT 1"));

pub const LAST_SETTLED: Statement =
    Statement::same("last settled config", version!("WHERE v.settled_at IS NOT NULL ORDER BY v.settled_at DESC LIMIT 1"));

pub const BEGIN_SETTLING: Statement =
    Statement::same("begin settling", "UPDATE config_versions SET settled_at = NULL WHERE id = $1");

pub const SETTLED: Statement = Statement::same("settled", "UPDATE config_versions SET settled_at = $2 WHERE id = $1");

pub const APPROVE: Statement = Statement::same(
    "approve a config",
    "INSERT INTO config_approvals (hash, base, approved_at, who, reason) VALUES ($1, $2, $3, $4, $5)",
);

pub const LAST_APPROVAL: Statement =
    Statement::same("last approval", "SELECT id, hash, base, approved_at FROM config_approvals ORDER BY id DESC LIMIT 1");

pub const TAKEN: Statement = Statement::same(
    "config taken",
    "INSERT INTO config_daemons (instance, version_id, taken_at, seen_at) VALUES ($1, $2, $3, $3)
        ON CONFLICT (instance) DO UPDATE SET version_id = excluded.version_id, taken_at = excluded.taken_at,
            seen_at = excluded.seen_at, stopped_at = NULL, refused_hash = NULL, refused_why = NULL, refused_at = NULL,
            unconfirmed_hash = NULL",
);

pub const SEEN: Statement = Statement::same("daemon seen", "UPDATE config_daemons SET seen_at = $2 WHERE instance = $1");

pub const STOPPED: Statement =
    Statement::same("daemon stopped", "UPDATE config_daemons SET seen_at = $2, stopped_at = $2 WHERE instance = $1");

pub const STOPPED_BY: Statement =
    Statement::same("daemon stopped by", "UPDATE config_daemons SET stopped_by = $2 WHERE instance = $1");

pub const REFUSED: Statement = Statement::same(
    "config refused",
    "UPDATE config_daemons SET refused_hash = $2, refused_why = $3, refused_at = $4, seen_at = $4,
            unconfirmed_hash = COALESCE($5, unconfirmed_hash) WHERE instance = $1",
);

/// The newest refusal of a config because of what it would do to money.
pub const UNCONFIRMED: Statement = Statement::same(
    "unconfirmed config",
    "SELECT CASE WHEN refused_hash = unconfirmed_hash THEN refused_why END AS why, refused_at FROM config_daemons
        WHERE unconfirmed_hash = $1 ORDER BY refused_at DESC LIMIT 1",
);

/// Daemons that have not been seen for long; the last one of all stays, so that what was in force is known.
pub const FORGET_DAEMONS: Statement = Statement::same(
    "forget daemons",
    "DELETE FROM config_daemons WHERE seen_at < $1 AND seen_at < (SELECT max(seen_at) FROM config_daemons)",
);

pub const DAEMONS: Statement = Statement::same(
    "daemons",
    "SELECT d.instance, d.version_id, COALESCE(v.config_hash, v.hash) AS hash, d.taken_at, d.seen_at, d.stopped_at,
            d.refused_hash, d.refused_why, d.refused_at, d.stopped_by
        FROM config_daemons d JOIN config_versions v ON v.id = d.version_id ORDER BY d.instance",
);

/// Rows by their keys; one that waits for its row to change, or for a charge, is left alone. Differs because lists are arrays on
/// Postgres and JSON on SQLite.
pub const LOOK_AGAIN: Statement = Statement::two(
    "look again",
    "UPDATE schedules SET next_look_at = $2, version = version + 1
        WHERE subscription_id IN (SELECT value FROM json_each($1))
            AND (next_look_at > $2 OR (next_look_at IS NULL AND parked = 'ended'))",
    "UPDATE schedules SET next_look_at = $2, version = version + 1
        WHERE subscription_id = ANY ($1) AND (next_look_at > $2 OR (next_look_at IS NULL AND parked = 'ended'))",
);
