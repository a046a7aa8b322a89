//! Statements behind the command line.

use crate::store::sql::Statement;

pub const ALL: &[&Statement] = &[
    &JOURNAL,
    &JOURNAL_LOCK,
    &JOURNAL_HEAD,
    &JOURNAL_IDS,
    &JOURNAL_AFTER,
    &JOURNAL_HASH,
    &JOURNAL_LIST,
    &JOURNAL_OF,
    &EXISTING,
    &ADD_SUBSCRIPTIONS,
    &CHANGE_SUBSCRIPTIONS,
    &LOCK_SUBSCRIPTION,
    &FIND_SUBSCRIPTIONS,
    &LIST_SUBSCRIPTIONS,
    &MISSED_SUBSCRIPTIONS,
    &ADD_EVENT,
    &ADD_DELIVERIES,
    &EVENTS,
    &REPLAY,
    &REPLAY_TO_NEW,
    &STATUS,
    &ACCOUNTS,
    &KILL,
    &KILL_ACCOUNT,
    &HOLD,
    &RELEASE_DATABASE,
    &HOLD_ACCOUNT,
    &RELEASE_ACCOUNT,
    &WAKE,
    &CHARGES,
    &CHARGES_OF,
    &CHARGES_BY_ID,
    &CHARGE_OF_UID,
    &CHARGE_OF_PERIOD,
    &ATTEMPTS,
    &SENDS,
    &OBSERVATIONS,
    &LAST_RULE,
    &STORY_EVENTS,
    &DELIVERIES,
    &INCIDENTS,
    &INCIDENT_LIST,
    &CLOSE_INCIDENT,
];

macro_rules! columns {
    ($before:literal) => {
        concat!(
            $before,
            "account, ",
            $before,
            "external_ref, ",
            $before,
            "status, ",
            $before,
            "plan, ",
            $before,
            "customer_uid, ",
            $before,
            "amount, ",
            $before,
            "currency, ",
            $before,
            "name, ",
            $before,
            "anchor, ",
            $before,
            "starts_on, ",
            $before,
            "zone, ",
            $before,
            "charge_time, ",
            $before,
            "tax_free, ",
            $before,
            "vat_amount, ",
            $before,
            "buyer_name, ",
            $before,
            "buyer_email, ",
            $before,
            "buyer_tel, ",
            $before,
            "buyer_addr, ",
            $before,
            "buyer_postcode, ",
            $before,
            "card_quota, ",
            $before,
            "interest_free_by_merchant, ",
            $before,
            "use_card_point, ",
            $before,
            "custom_data, ",
            $before,
            "notice_url, ",
            $before,
            "product_type, ",
            $before,
            "product_count, ",
            $before,
            "cash_receipt_type, ",
            $before,
            "bypass, ",
            $before,
            "extra, ",
            $before,
            "promotion_id, ",
            $before,
            "channel_key, ",
            $before,
            "quantity, ",
            $before,
            "next_plan, ",
            $before,
            "trial_days, ",
            $before,
            "trial_until, ",
            $before,
            "trial_anchor, ",
            $before,
            "resume, ",
            $before,
            "ends_on, ",
            $before,
            "max_periods, ",
            $before,
            "cancel_at_period_end"
        )
    };
}

/// The same columns out of a batch: SQLite's spelling of one row of it.
macro_rules! from_json {
    () => {
        "value->>'account', value->>'external_ref', value->>'status', value->>'plan', value->>'customer_uid', value->>'amount',
        value->>'currency', value->>'name', value->>'anchor', value->>'starts_on', value->>'zone', value->>'charge_time',
        value->>'tax_free', value->>'vat_amount', value->>'buyer_name', value->>'buyer_email', value->>'buyer_tel',
        value->>'buyer_addr', value->>'buyer_postcode', value->>'card_quota', value->>'interest_free_by_merchant',
        value->>'use_card_point', value->>'custom_data', value->>'notice_url', value->>'product_type', value->>'product_count',
        value->>'cash_receipt_type', value->>'bypass', value->>'extra', value->>'promotion_id', value->>'channel_key',
        value->>'quantity', value->>'next_plan', value->>'trial_days', value->>'trial_until', value->>'trial_anchor',
        value->>'resume', value->>'ends_on', value->>'max_periods', value->>'cancel_at_period_end'"
    };
}

/// And Postgres's.
macro_rules! record {
    () => {
        "json_to_recordset(CAST($1 AS JSON)) AS r (account TEXT, external_ref TEXT, status TEXT, plan TEXT, customer_uid TEXT,
        amount BIGINT, currency TEXT, name TEXT, anchor DATE, starts_on DATE, zone TEXT, charge_time TEXT, tax_free BIGINT,
        vat_amount BIGINT, buyer_name TEXT, buyer_email TEXT, buyer_tel TEXT, buyer_addr TEXT, buyer_postcode TEXT,
        card_quota BIGINT, interest_free_by_merchant BOOLEAN, use_card_point BOOLEAN, custom_data TEXT, notice_url TEXT,
        product_type TEXT, product_count BIGINT, cash_receipt_type TEXT, bypass TEXT, extra TEXT, promotion_id TEXT,
        channel_key TEXT, quantity BIGINT, next_plan TEXT, trial_days BIGINT, trial_until DATE, trial_anchor TEXT, resume TEXT,
        ends_on DATE, max_periods BIGINT, cancel_at_period_end BOOLEAN)"
    };
}

macro_rules! schedule {
    () => {
        "s.created_at, s.updated_at, d.next_look_at, d.opened_until, d.not_before, d.stopped_on, d.gaps, d.anchor AS counted_from,
            COALESCE(d.periods, 0) AS periods, d.missed, d.caught_up, d.parked, d.problem,
            COALESCE(d.version, 0) AS version"
    };
}

macro_rules! journal_columns {
    () => {
        "id, at, who, action, subject, reason, detail, config_version, previous, hash"
    };
}

/// Differs because Postgres stores JSON as JSONB, and wants to be told that an id is meant.
pub const JOURNAL: Statement = Statement::two(
    "desk: journal",
    concat!("INSERT INTO journal (", journal_columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"),
    concat!(
        "INSERT INTO journal (",
        journal_columns!(),
        ") OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, CAST($7 AS JSONB), $8, $9, $10)"
    ),
);

/// One writer of the journal at a time, until the transaction ends. Differs because SQLite has one writer anyway.
pub const JOURNAL_LOCK: Statement =
    Statement::two("desk: journal lock", "SELECT 1 AS locked", "SELECT 1 AS locked FROM pg_advisory_xact_lock(7236839)");

/// The last entry with a hash, and the config in force.
pub const JOURNAL_HEAD: Statement = Statement::same(
    "desk: journal head",
    "SELECT (SELECT id FROM journal WHERE hash IS NOT NULL ORDER BY id DESC LIMIT 1) AS id,
        (SELECT hash FROM journal WHERE hash IS NOT NULL ORDER BY id DESC LIMIT 1) AS hash,
        (SELECT version_id FROM config_daemons ORDER BY seen_at DESC LIMIT 1) AS config_version",
);

/// So many new ids. Differs because SQLite counts in a table, and Postgres in a sequence.
pub const JOURNAL_IDS: Statement = Statement::two(
    "desk: journal ids",
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
        SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'journal'), 0) + i AS id FROM n",
    "SELECT nextval(pg_get_serial_sequence('journal', 'id')) AS id FROM generate_series(1, $1)",
);

pub const JOURNAL_AFTER: Statement = Statement::same(
    "desk: journal after",
    concat!("SELECT ", journal_columns!(), " FROM journal WHERE id > $1 ORDER BY id LIMIT $2"),
);

pub const JOURNAL_HASH: Statement =
    Statement::same("desk: journal hash", "SELECT id FROM journal WHERE hash = $1 ORDER BY id LIMIT 1");

pub const JOURNAL_LIST: Statement = Statement::same(
    "desk: journal list",
    concat!(
        "SELECT ",
        journal_columns!(),
        " FROM journal WHERE CAST($1 AS TEXT) IS NULL OR subject LIKE '%' || CAST($1 AS TEXT) || '%' ORDER BY id DESC LIMIT $2"
    ),
);

/// Differs because each engine has its own lists.
pub const JOURNAL_OF: Statement = Statement::two(
    "desk: journal of",
    concat!("SELECT ", journal_columns!(), " FROM journal WHERE subject IN (SELECT value FROM json_each($1)) ORDER BY id"),
    concat!("SELECT ", journal_columns!(), " FROM journal WHERE subject = ANY ($1) ORDER BY id"),
);

/// Which rows of a batch exist. Differs because SQLite has one writer and no row locks.
pub const EXISTING: Statement = Statement::two(
    "desk: existing subscriptions",
    concat!(
        "SELECT s.id, ",
        columns!("s."),
        " FROM json_each($1) k JOIN subscriptions s
            ON s.account = k.value->>'account' AND s.external_ref = k.value->>'external_ref'"
    ),
    concat!(
        "SELECT s.id, ",
        columns!("s."),
        " FROM json_to_recordset(CAST($1 AS JSON)) AS k (account TEXT, external_ref TEXT)
            JOIN subscriptions s ON s.account = k.account AND s.external_ref = k.external_ref FOR NO KEY UPDATE OF s"
    ),
);

/// Differs because each engine unfolds JSON in its own way.
pub const ADD_SUBSCRIPTIONS: Statement = Statement::two(
    "desk: add subscriptions",
    concat!("INSERT INTO subscriptions (", columns!(""), ") SELECT ", from_json!(), " FROM json_each($1)"),
    concat!("INSERT INTO subscriptions (", columns!(""), ") SELECT ", columns!("r."), " FROM ", record!()),
);

/// `account` and `external_ref` never change. Differs because each engine unfolds JSON in its own way.
pub const CHANGE_SUBSCRIPTIONS: Statement = Statement::two(
    "desk: change subscriptions",
    concat!(
        "UPDATE subscriptions AS s SET (",
        columns!(""),
        ", updated_at) = (SELECT ",
        from_json!(),
        ", $2)
            FROM json_each($1) WHERE s.account = value->>'account' AND s.external_ref = value->>'external_ref'"
    ),
    concat!(
        "UPDATE subscriptions AS s SET (",
        columns!(""),
        ", updated_at) = (SELECT ",
        columns!("r."),
        ", CAST($2 AS TIMESTAMPTZ)) FROM ",
        record!(),
        " WHERE s.account = r.account AND s.external_ref = r.external_ref"
    ),
);

/// Differs because SQLite has one writer and no row locks.
pub const LOCK_SUBSCRIPTION: Statement = Statement::two(
    "desk: lock subscription",
    concat!(
        "SELECT s.id, ",
        columns!("s."),
        ", ",
        schedule!(),
        " FROM subscriptions s LEFT JOIN schedules d ON d.subscription_id = s.id WHERE s.id = $1"
    ),
    concat!(
        "SELECT s.id, ",
        columns!("s."),
        ", ",
        schedule!(),
        " FROM subscriptions s LEFT JOIN schedules d ON d.subscription_id = s.id WHERE s.id = $1 FOR NO KEY UPDATE OF s"
    ),
);

/// Differs because each engine has its own lists.
pub const FIND_SUBSCRIPTIONS: Statement = Statement::two(
    "desk: find subscriptions",
    concat!(
        "SELECT s.id, ",
        columns!("s."),
        ", ",
        schedule!(),
        " FROM subscriptions s LEFT JOIN schedules d ON d.subscription_id = s.id
            WHERE s.account IN (SELECT value FROM json_each($1)) AND s.external_ref = $2 ORDER BY s.id"
    ),
    concat!(
        "SELECT s.id, ",
        columns!("s."),
        ", ",
        schedule!(),
        " FROM subscriptions s LEFT JOIN schedules d ON d.subscription_id = s.id
            WHERE s.account = ANY ($1) AND s.external_ref = $2 ORDER BY s.id"
    ),
);

pub const LIST_SUBSCRIPTIONS: Statement = Statement::same(
    "desk: list subscriptions",
    concat!(
        "SELECT s.id, ",
        columns!("s."),
        ", ",
        schedule!(),
        " FROM subscriptions s LEFT JOIN schedules d ON d.subscription_id = s.id
            LEFT JOIN subscription_states t ON t.subscription_id = s.id
            WHERE s.id > $1 AND (CAST($2 AS TEXT) IS NULL OR s.account = CAST($2 AS TEXT))
                AND (CAST($3 AS TEXT) IS NULL OR s.status = CAST($3 AS TEXT))
                AND (CAST($4 AS TEXT) IS NULL OR s.plan = CAST($4 AS TEXT))
                AND ($5 = 0 OR d.problem IS NOT NULL)
                AND (CAST($7 AS TEXT) IS NULL OR COALESCE(t.state, s.status) = CAST($7 AS TEXT))
            ORDER BY s.id LIMIT $6"
    ),
);

/// Whose missed periods wait for an operator.
pub const MISSED_SUBSCRIPTIONS: Statement = Statement::same(
    "desk: missed subscriptions",
    concat!(
        "SELECT s.id, ",
        columns!("s."),
        ", ",
        schedule!(),
        " FROM schedules d JOIN subscriptions s ON s.id = d.subscription_id
            WHERE d.missed IS NOT NULL AND d.subscription_id > $1 ORDER BY d.subscription_id LIMIT $2"
    ),
);

/// Differs because Postgres stores JSON as JSONB.
pub const ADD_EVENT: Statement = Statement::two(
    "desk: add event",
    "INSERT INTO events (id, kind, at, subscription_id, data) VALUES ($1, $2, $3, $4, $5) RETURNING seq",
    "INSERT INTO events (id, kind, at, subscription_id, data) VALUES ($1, $2, $3, $4, CAST($5 AS JSONB)) RETURNING seq",
);

/// Differs because each engine has its own lists.
pub const ADD_DELIVERIES: Statement = Statement::two(
    "desk: add deliveries",
    "INSERT INTO deliveries (event_seq, endpoint, subscription_id, state, next_at)
        SELECT $1, value, $2, 'pending', $3 FROM json_each($4)",
    "INSERT INTO deliveries (event_seq, endpoint, subscription_id, state, next_at)
        SELECT $1, endpoint, $2, 'pending', $3 FROM unnest(CAST($4 AS TEXT[])) AS endpoint",
);

pub const EVENTS: Statement = Statement::same(
    "desk: events",
    "SELECT e.seq, e.id, e.kind, e.at, e.subscription_id, e.charge_id, e.data,
            (SELECT count(*) FROM deliveries d WHERE d.event_seq = e.seq AND d.state = 'pending') AS pending,
            (SELECT count(*) FROM deliveries d WHERE d.event_seq = e.seq AND d.state = 'delivered') AS delivered,
            (SELECT count(*) FROM deliveries d WHERE d.event_seq = e.seq AND d.state = 'failed') AS failed
        FROM events e
        WHERE (CAST($1 AS TEXT) IS NULL OR e.kind = CAST($1 AS TEXT)) AND (CAST($2 AS TEXT) IS NULL OR e.id = CAST($2 AS TEXT))
            AND ($3 = 0 OR EXISTS (SELECT 1 FROM deliveries d WHERE d.event_seq = e.seq AND d.state <> 'delivered'))
        ORDER BY e.seq DESC LIMIT $4",
);

pub const REPLAY: Statement = Statement::same(
    "desk: replay",
    "UPDATE deliveries SET state = 'pending', tries = 0, next_at = $1, last_error = NULL, delivered_at = NULL
        WHERE event_seq BETWEEN $2 AND $3 AND (CAST($4 AS TEXT) IS NULL OR endpoint = CAST($4 AS TEXT))
            AND ($5 = 0 OR state = 'failed')",
);

/// Endpoints that were added to the config after an event. Differs because each engine has its own lists.
pub const REPLAY_TO_NEW: Statement = Statement::two(
    "desk: replay to new endpoints",
    "INSERT INTO deliveries (event_seq, endpoint, subscription_id, state, next_at)
        SELECT e.seq, n.value, COALESCE(e.subscription_id, 0), 'pending', $1 FROM events e, json_each($4) n
        WHERE e.seq BETWEEN $2 AND $3 AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_seq = e.seq AND d.endpoint = n.value)",
    "INSERT INTO deliveries (event_seq, endpoint, subscription_id, state, next_at)
        SELECT e.seq, n.value, COALESCE(e.subscription_id, 0), 'pending', $1 FROM events e, unnest(CAST($4 AS TEXT[])) AS n (value)
        WHERE e.seq BETWEEN $2 AND $3 AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_seq = e.seq AND d.endpoint = n.value)",
);

pub const STATUS: Statement = Statement::same(
    "desk: status",
    "SELECT tag, incarnation, high_water, killed, kill_reason, held, hold_reason, held_at, unsteady_until FROM settings",
);

/// An audit counts in the incarnation of the database that it was made in.
pub const ACCOUNTS: Statement = Statement::same(
    "desk: accounts",
    "SELECT a.name, a.killed, a.kill_reason, a.held, a.hold_reason, a.held_at, a.paused, a.pause_reason, a.paused_at,
            a.audited_at, a.audited_quick_at, a.live, a.armed_at, e.base_url, a.fuse, a.fuse_why, a.fuse_at,
            COALESCE(NOT a.live OR a.armed_incarnation = (SELECT incarnation FROM settings), 1 = 0) AS armed,
            COALESCE(a.audited_incarnation = (SELECT incarnation FROM settings), 1 = 0) AS audited
        FROM accounts a LEFT JOIN endpoints e ON e.id = a.endpoint_id ORDER BY a.name",
);

pub const KILL: Statement = Statement::same("desk: kill", "UPDATE settings SET killed = $1, kill_reason = $2");

pub const KILL_ACCOUNT: Statement =
    Statement::same("desk: kill account", "UPDATE accounts SET killed = $1, kill_reason = $2 WHERE name = $3");

pub const HOLD: Statement = Statement::same("desk: hold", "UPDATE settings SET held = $1, hold_reason = $2, held_at = $3");

pub const RELEASE_DATABASE: Statement = Statement::same(
    "desk: release database",
    "UPDATE settings SET held = FALSE, hold_reason = NULL, held_at = NULL WHERE held AND (held_at = $1 OR held_at IS NULL AND $1 IS NULL)",
);

pub const HOLD_ACCOUNT: Statement =
    Statement::same("desk: hold account", "UPDATE accounts SET held = $1, hold_reason = $2, held_at = $3 WHERE name = $4");

/// Also ends the pause after a refused key. Differs because SQLite's booleans are numbers.
pub const RELEASE_ACCOUNT: Statement = Statement::two(
    "desk: release account",
    "UPDATE accounts SET held = 0, hold_reason = NULL, held_at = NULL, paused = 0, pause_reason = NULL, paused_at = NULL WHERE name = $1",
    "UPDATE accounts SET held = false, hold_reason = NULL, held_at = NULL, paused = false, pause_reason = NULL, paused_at = NULL
        WHERE name = $1",
);

/// Nothing to change: it is armed already, or is no live account.
pub const ARM: Statement = Statement::same(
    "desk: arm",
    "UPDATE accounts SET armed_incarnation = (SELECT incarnation FROM settings), armed_at = $2
        WHERE name = $1 AND live AND armed_incarnation IS DISTINCT FROM (SELECT incarnation FROM settings)",
);

/// Differs because SQLite has no way to wake another process: its daemon looks again within seconds.
pub const WAKE: Statement = Statement::two("desk: wake", "SELECT 1 AS woken", "SELECT 1 AS woken FROM pg_notify('rebilld', '')");

macro_rules! charge {
    () => {
        "c.id, s.account, s.external_ref, s.plan, s.zone, c.subscription_id, c.period_start, c.period_end, c.due_at, c.amount,
        c.currency, c.tax_free, c.vat_amount, c.id_mode, c.state, c.waiting, c.next_at, c.id_number, c.attempts, c.tries,
        c.first_declined_at, c.doubt_since, c.doubt_looks, c.quiet_since, c.quiet_twice, c.newest_send_at, c.elsewhere_imp_uid,
        c.imp_uid, c.paid_at, c.refunded, c.config_version
        FROM charges c JOIN subscriptions s ON s.id = c.subscription_id"
    };
}

macro_rules! charge_filter {
    ($from:literal, $to:literal) => {
        concat!(
            "(CAST($1 AS TEXT) IS NULL OR c.state = CAST($1 AS TEXT)) AND (CAST($2 AS TEXT) IS NULL OR s.account = CAST($2 AS TEXT)) AND (",
            $from, " IS NULL OR c.period_start >= ", $from, ") AND (", $to, " IS NULL OR c.period_start < ", $to, ")"
        )
    };
}

/// Differs because SQLite stores dates as texts.
pub const CHARGES: Statement = Statement::two(
    "desk: charges",
    concat!("SELECT ", charge!(), " WHERE ", charge_filter!("$3", "$4"), " ORDER BY c.id DESC LIMIT $5"),
    concat!(
        "SELECT ",
        charge!(),
        " WHERE ",
        charge_filter!("CAST($3 AS DATE)", "CAST($4 AS DATE)"),
        " ORDER BY c.id DESC LIMIT $5"
    ),
);

/// The same for a few subscriptions. Differs because SQLite stores dates as texts and each engine has its own lists.
pub const CHARGES_OF: Statement = Statement::two(
    "desk: charges of subscriptions",
    concat!(
        "SELECT ",
        charge!(),
        " WHERE c.subscription_id IN (SELECT value FROM json_each($6)) AND ",
        charge_filter!("$3", "$4"),
        " ORDER BY c.period_start DESC LIMIT $5"
    ),
    concat!(
        "SELECT ",
        charge!(),
        " WHERE c.subscription_id = ANY ($6) AND ",
        charge_filter!("CAST($3 AS DATE)", "CAST($4 AS DATE)"),
        " ORDER BY c.period_start DESC LIMIT $5"
    ),
);

/// Differs because each engine has its own lists.
pub const CHARGES_BY_ID: Statement = Statement::two(
    "desk: charges by id",
    concat!("SELECT ", charge!(), " WHERE c.id IN (SELECT value FROM json_each($1)) ORDER BY c.id"),
    concat!("SELECT ", charge!(), " WHERE c.id = ANY ($1) ORDER BY c.id"),
);

pub const CHARGE_OF_UID: Statement = Statement::same("desk: charge of id", "SELECT charge_id FROM ids WHERE merchant_uid = $1");

/// Differs because each engine has its own lists.
pub const CHARGE_OF_PERIOD: Statement = Statement::two(
    "desk: charge of period",
    "SELECT id FROM charges WHERE subscription_id IN (SELECT value FROM json_each($1)) AND period_start = $2 ORDER BY id",
    "SELECT id FROM charges WHERE subscription_id = ANY ($1) AND period_start = $2 ORDER BY id",
);

/// In two parts, because each has its own partial index.
pub const ATTEMPTS: Statement = Statement::same(
    "desk: attempts of a charge",
    "SELECT id, number, id_number, amount, customer_uid, state, hint, resends, imp_uid FROM attempts
        WHERE charge_id = $1 AND state IN ('live', 'paid')
    UNION ALL SELECT id, number, id_number, amount, customer_uid, state, hint, resends, imp_uid FROM attempts
        WHERE charge_id = $1 AND state NOT IN ('live', 'paid')
    ORDER BY 2, 1",
);

/// Answered sends are found through what was observed of them: there is no index for them by attempt.
pub const SENDS: Statement = Statement::same(
    "desk: sends of a charge",
    "SELECT w.id, w.attempt_id, w.state, w.begun_at, w.ended_at, w.body_hash, e.base_url, e.tier
        FROM sends w JOIN attempts a ON a.id = w.attempt_id LEFT JOIN endpoints e ON e.id = w.endpoint_id
        WHERE w.id IN (
            SELECT o.send_id FROM observations o WHERE o.charge_id = $1 AND o.send_id IS NOT NULL
            UNION SELECT w1.id FROM sends w1 JOIN attempts a1 ON a1.id = w1.attempt_id
                WHERE a1.charge_id = $1 AND a1.state IN ('live', 'paid') AND w1.state = 'open'
            UNION SELECT w2.id FROM sends w2 JOIN attempts a2 ON a2.id = w2.attempt_id
                WHERE a2.charge_id = $1 AND a2.state IN ('live', 'paid') AND w2.state NOT IN ('open', 'answered', 'found')
            UNION SELECT w3.id FROM sends w3 JOIN attempts a3 ON a3.id = w3.attempt_id
                WHERE a3.charge_id = $1 AND a3.state NOT IN ('live', 'paid') AND w3.state = 'open'
            UNION SELECT w4.id FROM sends w4 JOIN attempts a4 ON a4.id = w4.attempt_id
                WHERE a4.charge_id = $1 AND a4.state NOT IN ('live', 'paid') AND w4.state NOT IN ('open', 'answered', 'found')
        ) ORDER BY w.id",
);

pub const OBSERVATIONS: Statement = Statement::same(
    "desk: observations of a charge",
    "SELECT id, send_id, source, began_at, at, detail, rule FROM observations WHERE charge_id = $1 ORDER BY id",
);

pub const LAST_RULE: Statement = Statement::same(
    "desk: last rule of a charge",
    "SELECT rule FROM observations WHERE charge_id = $1 AND rule IS NOT NULL ORDER BY id DESC LIMIT 1",
);

pub const STORY_EVENTS: Statement =
    Statement::same("desk: events of a charge", "SELECT seq, id, kind, at, data FROM events WHERE charge_id = $1 ORDER BY seq");

/// Differs because each engine has its own lists.
pub const DELIVERIES: Statement = Statement::two(
    "desk: deliveries",
    "SELECT event_seq, endpoint, state, tries, next_at, last_error, delivered_at FROM deliveries
        WHERE event_seq IN (SELECT value FROM json_each($1)) ORDER BY event_seq, endpoint",
    "SELECT event_seq, endpoint, state, tries, next_at, last_error, delivered_at FROM deliveries
        WHERE event_seq = ANY ($1) ORDER BY event_seq, endpoint",
);

pub const INCIDENTS: Statement = Statement::same(
    "desk: incidents of a charge",
    "SELECT id, kind, detail, opened_at, closed_at FROM incidents WHERE charge_id = $1 ORDER BY id",
);

pub const INCIDENT_LIST: Statement = Statement::same(
    "desk: incidents",
    "SELECT i.id, i.kind, i.detail, i.opened_at, i.closed_at, i.charge_id, a.name AS account, s.external_ref, c.period_start
        FROM incidents i JOIN accounts a ON a.id = i.account_id
        LEFT JOIN charges c ON c.id = i.charge_id LEFT JOIN subscriptions s ON s.id = c.subscription_id
        WHERE (CAST($1 AS TEXT) IS NULL OR a.name = CAST($1 AS TEXT)) AND (CAST($2 AS TEXT) IS NULL OR i.kind = CAST($2 AS TEXT))
            AND ($3 = 1 OR i.closed_at IS NULL) AND ($4 = 0 OR i.id = $4)
        ORDER BY i.id DESC LIMIT $5",
);

pub const CLOSE_INCIDENT: Statement =
    Statement::same("desk: close incident", "UPDATE incidents SET closed_at = $2 WHERE id = $1 AND closed_at IS NULL");
