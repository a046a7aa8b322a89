//! Statements about the database as a whole, accounts, their endpoints and their brakes.

use super::Statement;

pub const ALL: &[&Statement] = &[
    &CLOCK,
    &SYSTEM_IDENTIFIER,
    &DURABILITY,
    &STANDBYS,
    &TRY_TO_WRITE,
    &RULES,
    &MIGRATIONS_TABLE,
    &APPLIED_MIGRATIONS,
    &SETTINGS,
    &BIND_SETTINGS,
    &RENEW_INCARNATION,
    &ADD_ACCOUNT,
    &PLACE,
    &DISARM_ALL,
    &LOCK_ACCOUNT,
    &ADD_ENDPOINT,
    &FIND_ENDPOINT,
    &USE_ENDPOINT,
    &HOLD_ACCOUNT,
    &BRAKES,
    &KNOWS_ENTRY,
    &PAUSE_ACCOUNT,
    &HOLD,
    &HOLD_AS_RESTORED,
    &UNSTEADY_UNTIL,
    &HOLD_FOR_CLOCK,
    &AUDITED,
    &LAST_AUDITS,
];

/// Differs because SQLite has no server: its clock is this machine's, in milliseconds.
pub const CLOCK: Statement =
    Statement::two("clock", "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER) AS now", "SELECT clock_timestamp() AS now");

/// Differs because a SQLite file has no identity of its own.
pub const SYSTEM_IDENTIFIER: Statement = Statement::two(
    "system identifier",
    "SELECT NULL AS system_identifier",
    "SELECT system_identifier::text AS system_identifier FROM pg_control_system()",
);

/// Differs because each engine has its own switches for losing commits.
pub const DURABILITY: Statement = Statement::two(
    "durability",
    "SELECT (SELECT journal_mode FROM pragma_journal_mode) AS journal_mode,
        (SELECT synchronous FROM pragma_synchronous) AS synchronous,
        (SELECT foreign_keys FROM pragma_foreign_keys) AS foreign_keys,
        (SELECT timeout FROM pragma_busy_timeout) AS busy_timeout",
    "SELECT current_setting('server_version_num')::bigint AS version, current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
        current_setting('synchronous_commit') AS synchronous_commit",
);

/// Who replicates from it, and what a COMMIT waits for. Differs because a SQLite file has no standby.
pub const STANDBYS: Statement = Statement::two(
    "standbys",
    "SELECT 'on' AS synchronous_commit, '' AS names, 0 AS standbys",
    "SELECT current_setting('synchronous_commit') AS synchronous_commit, current_setting('synchronous_standby_names') AS names,
        (SELECT count(*) FROM pg_stat_get_wal_senders()) AS standbys",
);

/// Writes to the file's header, for a transaction that is rolled back. Differs because Postgres refuses to begin one that writes.
pub const TRY_TO_WRITE: Statement = Statement::two("try to write", "PRAGMA user_version = 1", "SELECT 1 AS written");

/// Indexes and triggers that are at work. Differs because each engine keeps its own catalog, and only Postgres can switch a trigger off or
/// have an index that is not valid.
pub const RULES: Statement = Statement::two(
    "rules",
    "SELECT name FROM sqlite_schema WHERE type IN ('index', 'trigger')",
    "SELECT CAST(c.relname AS TEXT) AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE i.indisvalid AND i.indisready AND pg_table_is_visible(c.oid)
    UNION SELECT CAST(t.tgname AS TEXT) FROM pg_trigger t
        WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND pg_table_is_visible(t.tgrelid)
    UNION SELECT CAST(k.conname AS TEXT) FROM pg_constraint k WHERE pg_table_is_visible(k.conrelid)",
);

/// Differs because each engine keeps its own catalog.
pub const MIGRATIONS_TABLE: Statement = Statement::two(
    "migrations table",
    "SELECT count(*) AS present FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'",
    "SELECT count(*) AS present FROM pg_class WHERE oid = to_regclass('_sqlx_migrations')",
);

pub const APPLIED_MIGRATIONS: Statement =
    Statement::same("applied migrations", "SELECT version, description FROM _sqlx_migrations ORDER BY version");

pub const SETTINGS: Statement = Statement::same(
    "settings",
    "SELECT tag, incarnation, system_identifier, high_water, killed, kill_reason, held, hold_reason FROM settings",
);

pub const BIND_SETTINGS: Statement = Statement::same(
    "bind settings",
    "INSERT INTO settings (id, tag, incarnation, system_identifier, created_at) VALUES (1, $1, $2, $3, $4) ON CONFLICT DO NOTHING",
);

pub const RENEW_INCARNATION: Statement =
    Statement::same("renew incarnation", "UPDATE settings SET incarnation = $1, system_identifier = $2");

pub const ADD_ACCOUNT: Statement =
    Statement::same("add account", "INSERT INTO accounts (name, live) VALUES ($1, $2) ON CONFLICT DO NOTHING");

/// What was armed for one place is not armed for another kind of it.
pub const PLACE: Statement = Statement::same(
    "place",
    "UPDATE accounts SET live = $2, armed_incarnation = NULL, armed_at = NULL WHERE id = $1 AND live <> $2",
);

pub const DISARM_ALL: Statement = Statement::same(
    "disarm all",
    "UPDATE accounts SET armed_incarnation = NULL, armed_at = NULL WHERE armed_incarnation IS NOT NULL",
);

/// Differs because SQLite has one writer and no row locks.
pub const LOCK_ACCOUNT: Statement = Statement::two(
    "lock account",
    "SELECT id, name, endpoint_id, held FROM accounts WHERE name = $1",
    "SELECT id, name, endpoint_id, held FROM accounts WHERE name = $1 FOR NO KEY UPDATE",
);

pub const ADD_ENDPOINT: Statement = Statement::same(
    "add endpoint",
    "INSERT INTO endpoints (account_id, fingerprint, base_url, tier, first_seen_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT DO NOTHING",
);

pub const FIND_ENDPOINT: Statement =
    Statement::same("find endpoint", "SELECT id FROM endpoints WHERE account_id = $1 AND fingerprint = $2");

pub const USE_ENDPOINT: Statement = Statement::same("use endpoint", "UPDATE accounts SET endpoint_id = $2 WHERE id = $1");

pub const HOLD_ACCOUNT: Statement =
    Statement::same("hold account", "UPDATE accounts SET held = TRUE, hold_reason = $2, held_at = $3 WHERE id = $1 AND NOT held");

pub const BRAKES: Statement = Statement::same(
    "brakes",
    "SELECT s.killed AS all_killed, s.held AS all_held, s.high_water, a.id, a.killed, a.held, a.paused, a.endpoint_id,
            a.audited_incarnation = s.incarnation AS audited, NOT a.live OR a.armed_incarnation = s.incarnation AS armed, a.fuse,
            j.id AS entry, j.hash AS seal, j.action AS done, j.subject AS done_to, j.at AS done_at
        FROM settings s LEFT JOIN accounts a ON TRUE LEFT JOIN journal j ON j.id = (SELECT max(id) FROM journal)",
);

pub const KNOWS_ENTRY: Statement = Statement::same("knows entry", "SELECT id FROM journal WHERE id = $1 AND hash = $2");

pub const PAUSE_ACCOUNT: Statement = Statement::same(
    "pause account",
    "UPDATE accounts SET paused = TRUE, pause_reason = $2, paused_at = $3 WHERE id = $1 AND NOT paused RETURNING name",
);

pub const HOLD: Statement =
    Statement::same("hold", "UPDATE settings SET held = TRUE, hold_reason = $1, held_at = $2 WHERE NOT held");

/// A copy may have been made while it was on hold for something else: Q counts anew, and the operator reads both.
pub const HOLD_AS_RESTORED: Statement = Statement::same(
    "hold as restored",
    "UPDATE settings SET held = TRUE, held_at = $2,
            hold_reason = CASE WHEN held THEN COALESCE(hold_reason, 'a hold') || ' Also: ' ELSE '' END || CAST($1 AS TEXT)
        WHERE NOT held OR replace(replace(COALESCE(hold_reason, ''), CAST($3 AS TEXT), ''), CAST($4 AS TEXT), '') = COALESCE(hold_reason, '')",
);

pub const UNSTEADY_UNTIL: Statement = Statement::same("unsteady until", "SELECT unsteady_until FROM settings");

/// The last word counts, even if it is earlier: after a clock was set back, what was written before it is far ahead.
pub const HOLD_FOR_CLOCK: Statement = Statement::same("hold for clock", "UPDATE settings SET unsteady_until = $1");

/// Differs because Postgres keeps JSON as JSONB.
pub const AUDITED: Statement = Statement::two(
    "audited",
    "UPDATE accounts SET audited_quick_at = $2, audited_at = CASE WHEN $3 THEN $2 ELSE audited_at END, audit_summary = $5,
            audited_incarnation = CASE WHEN $4 THEN (SELECT incarnation FROM settings) ELSE audited_incarnation END
        WHERE id = $1",
    "UPDATE accounts SET audited_quick_at = $2, audited_at = CASE WHEN $3 THEN $2 ELSE audited_at END,
            audit_summary = $5::text::jsonb,
            audited_incarnation = CASE WHEN $4 THEN (SELECT incarnation FROM settings) ELSE audited_incarnation END
        WHERE id = $1",
);

pub const LAST_AUDITS: Statement =
    Statement::same("last audits", "SELECT audited_quick_at, audited_at FROM accounts WHERE id = $1");
