//! Statements about rows of imports that look wrong.

use super::Statement;

pub const ALL: &[&Statement] = &[&HOLDS, &HELD_SINCE, &ADD_HOLDS, &REJECT, &LET_GO, &KEYS_ELSEWHERE];

pub const HOLDS: Statement = Statement::same(
    "imports: held rows",
    "SELECT account, external_ref, import_id, file, line, cells, row_hash, before_hash, reasons, who, held_at,
        rejected_at FROM import_holds
        ORDER BY held_at, import_id, line",
);

/// Those that have waited for a ruling since before `$1`.
pub const HELD_SINCE: Statement = Statement::same(
    "imports: held since",
    "SELECT count(*) AS held, min(held_at) AS since FROM import_holds WHERE rejected_at IS NULL AND held_at < $1",
);

/// Differs because each engine unfolds JSON in its own way.
pub const ADD_HOLDS: Statement = Statement::two(
    "imports: hold rows",
    "INSERT INTO import_holds (account, external_ref, import_id, file, line, cells, row_hash, before_hash, reasons, who, held_at)
        SELECT value->>'account', value->>'external_ref', value->>'import_id', value->>'file', value->>'line', value->>'cells',
            value->>'row_hash', value->>'before_hash', value->>'reasons', value->>'who', $2 FROM json_each($1) WHERE true
        ON CONFLICT (account, external_ref) DO UPDATE SET import_id = excluded.import_id, file = excluded.file,
            line = excluded.line, cells = excluded.cells, row_hash = excluded.row_hash, before_hash = excluded.before_hash,
            reasons = excluded.reasons, who = excluded.who, rejected_at = NULL,
            held_at = CASE WHEN import_holds.rejected_at IS NULL THEN import_holds.held_at ELSE excluded.held_at END",
    "INSERT INTO import_holds (account, external_ref, import_id, file, line, cells, row_hash, before_hash, reasons, who, held_at)
        SELECT account, external_ref, import_id, file, line, CAST(cells AS JSONB), row_hash, before_hash, reasons, who,
            CAST($2 AS TIMESTAMPTZ)
        FROM json_to_recordset(CAST($1 AS JSON)) AS r (account TEXT, external_ref TEXT, import_id TEXT, file TEXT, line BIGINT,
            cells TEXT, row_hash TEXT, before_hash TEXT, reasons TEXT, who TEXT)
        ON CONFLICT (account, external_ref) DO UPDATE SET import_id = excluded.import_id, file = excluded.file,
            line = excluded.line, cells = excluded.cells, row_hash = excluded.row_hash, before_hash = excluded.before_hash,
            reasons = excluded.reasons, who = excluded.who, rejected_at = NULL,
            held_at = CASE WHEN import_holds.rejected_at IS NULL THEN import_holds.held_at ELSE excluded.held_at END",
);

/// What was in a rejected row is forgotten; that it was rejected is not. Differs because each engine unfolds JSON in its own way.
pub const REJECT: Statement = Statement::two(
    "imports: reject rows",
    "UPDATE import_holds SET rejected_at = $2, cells = '{}'
        WHERE (account, external_ref) IN (SELECT value->>'account', value->>'external_ref' FROM json_each($1))",
    "UPDATE import_holds h SET rejected_at = $2, cells = '{}'
        FROM json_to_recordset(CAST($1 AS JSON)) AS r (account TEXT, external_ref TEXT)
        WHERE h.account = r.account AND h.external_ref = r.external_ref",
);

/// Differs because each engine unfolds JSON in its own way.
pub const LET_GO: Statement = Statement::two(
    "imports: let held rows go",
    "DELETE FROM import_holds WHERE (account, external_ref) IN (SELECT value->>'account', value->>'external_ref' FROM json_each($1))",
    "DELETE FROM import_holds h USING json_to_recordset(CAST($1 AS JSON)) AS r (account TEXT, external_ref TEXT)
        WHERE h.account = r.account AND h.external_ref = r.external_ref",
);

/// Billing keys that another subscription has. Reads all subscriptions once: there is no index by key, and imports are rare.
/// Differs because each engine unfolds JSON in its own way.
pub const KEYS_ELSEWHERE: Statement = Statement::two(
    "imports: keys elsewhere",
    "WITH k AS MATERIALIZED (SELECT value->>'place' AS place, value->>'account' AS account, value->>'external_ref' AS external_ref,
            value->>'customer_uid' AS customer_uid FROM json_each($1))
        SELECT DISTINCT k.place FROM subscriptions s CROSS JOIN k
        WHERE k.customer_uid = s.customer_uid AND s.status <> 'cancelled'
            AND NOT (s.account = k.account AND s.external_ref = k.external_ref)",
    "SELECT DISTINCT k.place FROM json_to_recordset(CAST($1 AS JSON)) AS k (place BIGINT, account TEXT, external_ref TEXT,
            customer_uid TEXT) JOIN subscriptions s ON s.customer_uid = k.customer_uid
        WHERE s.status <> 'cancelled' AND NOT (s.account = k.account AND s.external_ref = k.external_ref)",
);
