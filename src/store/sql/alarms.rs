//! Statements of alarms: what they are judged by, and what was told. All are bounded, whatever is due.

use super::Statement;

pub const ALL: &[&Statement] =
    &[&STOPS, &TAKE_WATCH, &LEAVE_WATCH, &INCIDENTS, &UNRESOLVED, &OLDEST, &STANDING, &TOLD, &RAISE, &SAY, &TAKEN];

macro_rules! stops {
    ($lines:literal) => {
        concat!(
            "SELECT w.holder, w.until, s.killed AS all_killed, s.kill_reason AS all_kill_reason, s.held AS all_held,
                    s.hold_reason AS all_hold_reason, s.held_at AS all_held_at, s.unsteady_until, ",
            $lines,
            " AS daemons,
                    a.name, a.killed, a.kill_reason, a.held, a.hold_reason, a.held_at, a.paused, a.pause_reason, a.paused_at,
                    a.fuse, a.fuse_why, a.fuse_at, a.audited_quick_at, a.audit_summary
                FROM settings s CROSS JOIN alarm_watch w LEFT JOIN accounts a ON TRUE"
        )
    };
}

/// All that stops sends, and who looks. `$1`: daemons that were not seen since are gone. Differs because each engine has its own
/// way to put lines together.
pub const STOPS: Statement = Statement::two(
    "what stops sends",
    stops!(
        "(SELECT group_concat(d.stopped_by, char(10)) FROM config_daemons d
            WHERE d.stopped_at IS NULL AND d.stopped_by IS NOT NULL AND d.seen_at > $1)"
    ),
    stops!(
        "(SELECT string_agg(d.stopped_by, chr(10)) FROM config_daemons d
            WHERE d.stopped_at IS NULL AND d.stopped_by IS NOT NULL AND d.seen_at > $1)"
    ),
);

/// `$1` looks until `$2`, unless somebody else does at `$3`.
pub const TAKE_WATCH: Statement = Statement::same(
    "take the watch",
    "UPDATE alarm_watch SET holder = $1, until = $2 WHERE holder IS NULL OR holder = $1 OR until < $3",
);

pub const LEAVE_WATCH: Statement =
    Statement::same("leave the watch", "UPDATE alarm_watch SET holder = NULL, until = NULL WHERE holder = $1");

macro_rules! open {
    ($kind:literal) => {
        concat!(
            "SELECT * FROM (
                SELECT i.id, i.kind, a.name AS account, i.detail, i.opened_at, c.id AS charge, c.amount, c.currency
                    FROM incidents i JOIN accounts a ON a.id = i.account_id LEFT JOIN charges c ON c.id = i.charge_id
                    WHERE i.closed_at IS NULL AND i.kind = '",
            $kind,
            "' ORDER BY i.id LIMIT $1
            ) of_",
            $kind
        )
    };
}

/// The oldest open ones, at most `$1` of each kind.
pub const INCIDENTS: Statement = Statement::same(
    "open incidents",
    concat!(
        open!("double_charge"),
        " UNION ALL ",
        open!("wrong_payment"),
        " UNION ALL ",
        open!("unknown_payment"),
        " UNION ALL ",
        open!("missing_payment")
    ),
);

/// How many charges of each account are in review, and how many were in doubt before `$1`; counted up to a thousand each.
pub const UNRESOLVED: Statement = Statement::same(
    "unresolved charges of accounts",
    "SELECT a.id, a.name,
            (SELECT count(*) FROM (SELECT 1 FROM charges c WHERE c.account_id = a.id AND c.state IN ('doubt', 'review')
                AND c.state = 'review' LIMIT 1000) r) AS reviews,
            (SELECT count(*) FROM (SELECT 1 FROM charges c WHERE c.account_id = a.id AND c.state IN ('doubt', 'review')
                AND c.state = 'doubt' AND c.doubt_since < $1 LIMIT 1000) d) AS doubts
        FROM accounts a",
);

/// The five of an account (`$1`) that were in a state (`$2`) for longest.
pub const OLDEST: Statement = Statement::same(
    "oldest unresolved charges",
    "SELECT c.id, c.amount, c.currency, c.doubt_since FROM charges c
        WHERE c.account_id = $1 AND c.state IN ('doubt', 'review') AND c.state = $2 ORDER BY c.doubt_since LIMIT 5",
);

macro_rules! told {
    ($rest:literal) => {
        concat!("SELECT kind, account, subject, what, next_step, concerns, since, turn, told_at, owed FROM alarms ", $rest)
    };
}

pub const STANDING: Statement = Statement::same(
    "standing alarms",
    told!("WHERE turn <> 'resolved' OR owed <> '|' ORDER BY kind, account, subject LIMIT 1000"),
);

/// Those that are over too, the newest word first.
pub const TOLD: Statement = Statement::same("alarms", told!("ORDER BY told_at DESC, kind, account, subject LIMIT $1"));

/// Differs because Postgres keeps JSON as JSONB.
pub const RAISE: Statement = Statement::two(
    "raise an alarm",
    "INSERT INTO alarms (kind, account, subject, what, next_step, concerns, since, turn, told_at, owed)
        VALUES ($1, $2, $3, $4, $5, $6, $7, 'raised', $8, $9)
        ON CONFLICT (kind, account, subject) DO UPDATE SET what = excluded.what, next_step = excluded.next_step,
            concerns = excluded.concerns, since = excluded.since, turn = 'raised', told_at = excluded.told_at, owed = excluded.owed
        WHERE alarms.turn = 'resolved'",
    "INSERT INTO alarms (kind, account, subject, what, next_step, concerns, since, turn, told_at, owed)
        VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7, 'raised', $8, $9)
        ON CONFLICT (kind, account, subject) DO UPDATE SET what = excluded.what, next_step = excluded.next_step,
            concerns = excluded.concerns, since = excluded.since, turn = 'raised', told_at = excluded.told_at, owed = excluded.owed
        WHERE alarms.turn = 'resolved'",
);

/// Repeats or ends one that was told at `$10`. Differs because Postgres keeps JSON as JSONB.
pub const SAY: Statement = Statement::two(
    "repeat or end an alarm",
    "UPDATE alarms SET what = $4, next_step = $5, concerns = $6, turn = $7, told_at = $8, owed = $9
        WHERE kind = $1 AND account = $2 AND subject = $3 AND told_at = $10 AND turn <> 'resolved'",
    "UPDATE alarms SET what = $4, next_step = $5, concerns = $6::text::jsonb, turn = $7, told_at = $8, owed = $9
        WHERE kind = $1 AND account = $2 AND subject = $3 AND told_at = $10 AND turn <> 'resolved'",
);

/// A channel (`$5`, between bars) has taken what was told at `$4`, or was given up.
pub const TAKEN: Statement = Statement::same(
    "an alarm is taken",
    "UPDATE alarms SET owed = replace(owed, $5, '|') WHERE kind = $1 AND account = $2 AND subject = $3 AND told_at = $4",
);
