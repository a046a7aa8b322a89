//! The independent count: what is past due and waits for nothing that is shown.

use super::Statement;

pub const ALL: &[&Statement] = &[&MISSED, &MISSED_BY_ACCOUNT, &RESTING, &FRESH, &UNSCHEDULED];

/// A brake that `rebilld hold status` shows. `$1` is now.
macro_rules! stopped {
    () => {
        "(s.killed OR s.held OR a.killed OR a.held OR a.paused OR a.audited_incarnation IS DISTINCT FROM s.incarnation
            OR (a.live AND a.armed_incarnation IS DISTINCT FROM s.incarnation) OR COALESCE(s.unsteady_until > $1, FALSE)
            OR COALESCE(a.fuse IN ('blown', 'rejected'), FALSE))"
    };
}

/// Whether periods open at all: not while the clock is in question.
macro_rules! opens {
    () => {
        "COALESCE(s.unsteady_until <= $1, TRUE)"
    };
}

/// Everything unresolved is read, whatever it is said to wait for: nothing is trusted but a moment that is still to come, a
/// subscription that is paused, and a brake. `$2` is two hours ago, `$3` the epoch: what was written by hand a moment ago (see
/// [`FRESH`]). The backoff's moment is always near, so twelve tries count as well: two hours of them.
macro_rules! late {
    ($index:literal) => {
        concat!(
            "WITH late AS (
                SELECT c.account_id, c.state, ",
            stopped!(),
            " AS stopped,
                    (a.held AND EXISTS (SELECT 1 FROM endpoints e WHERE e.account_id = a.id AND e.id <> a.endpoint_id)) AS moved
                FROM charges c ",
            $index,
            " JOIN accounts a ON a.id = c.account_id CROSS JOIN settings s
                WHERE c.state IN ('due', 'doubt', 'review') AND (
                    (c.next_at > $3 AND c.next_at < $2)
                    OR (c.next_at IS NULL AND NOT (c.state = 'due' AND c.waiting = 'paused' AND EXISTS (
                        SELECT 1 FROM subscriptions p WHERE p.id = c.subscription_id AND p.status = 'paused')))
                    OR (c.state = 'due' AND c.waiting = 'backoff' AND c.not_sent >= 12 AND c.due_at < $2)
                )
            )"
        )
    };
}

macro_rules! missed {
    ($index:literal) => {
        concat!(
            late!($index),
            "
            SELECT count(*) FILTER (WHERE state = 'due' AND NOT stopped) AS sends,
                count(*) FILTER (WHERE state <> 'due' AND NOT moved) AS look_ups,
                count(*) FILTER (WHERE CASE WHEN state = 'due' THEN stopped ELSE moved END) AS braked,
                (SELECT count(*) FROM schedules CROSS JOIN settings s
                    WHERE next_look_at IS NOT NULL AND next_look_at > $3 AND next_look_at < $2 AND ",
            opens!(),
            ")
                + (SELECT count(*) FROM schedules WHERE parked IS NULL AND next_look_at IS NULL)
                + (SELECT count(*) FROM schedules h WHERE h.parked = 'blocked' AND h.next_look_at IS NULL AND NOT EXISTS (
                    SELECT 1 FROM charges c
                        WHERE c.subscription_id = h.subscription_id AND c.state IN ('due', 'doubt', 'review'))) AS schedules,
                (SELECT count(*) FROM import_holds WHERE rejected_at IS NULL AND held_at < $2) AS imports
            FROM late"
        )
    };
}

/// Independent of the indexes that the worker goes by. Differs because SQLite has to be told the index: after ANALYZE it would
/// rather read the whole table.
pub const MISSED: Statement = Statement::two("missed", missed!("INDEXED BY charges_unresolved"), missed!(""));

macro_rules! missed_by_account {
    ($index:literal) => {
        concat!(
            late!($index),
            "
            SELECT account_id, count(*) AS missed FROM (
                SELECT account_id FROM late WHERE NOT CASE WHEN state = 'due' THEN stopped ELSE moved END
                UNION ALL SELECT a.id FROM schedules h CROSS JOIN settings s
                    JOIN subscriptions p ON p.id = h.subscription_id JOIN accounts a ON a.name = p.account
                    WHERE h.next_look_at IS NOT NULL AND h.next_look_at > $3 AND h.next_look_at < $2 AND ",
            opens!(),
            "
                UNION ALL SELECT a.id FROM schedules h
                    JOIN subscriptions p ON p.id = h.subscription_id JOIN accounts a ON a.name = p.account
                    WHERE h.parked IS NULL AND h.next_look_at IS NULL
                UNION ALL SELECT a.id FROM schedules h
                    JOIN subscriptions p ON p.id = h.subscription_id JOIN accounts a ON a.name = p.account
                    WHERE h.parked = 'blocked' AND h.next_look_at IS NULL AND NOT EXISTS (
                        SELECT 1 FROM charges c
                            WHERE c.subscription_id = h.subscription_id AND c.state IN ('due', 'doubt', 'review'))
            ) m GROUP BY account_id"
        )
    };
}

/// The bookings of a charge's billing key in PortOne's own schedule, `NULL` if none are known. Not EXISTS: Postgres might then read all
/// subscriptions at once.
macro_rules! bookings {
    () => {
        "(SELECT k.bookings FROM subscriptions b JOIN key_bookings k ON k.customer_uid = b.customer_uid AND k.account_id = c.account_id
            WHERE b.id = c.subscription_id)"
    };
}
pub(super) use bookings;

macro_rules! resting {
    ($index:literal) => {
        concat!(
            "SELECT count(*) FILTER (WHERE booked) AS booked, count(*) FILTER (WHERE NOT booked) AS bounded FROM (
                SELECT c.waiting = 'card_rest' AS booked FROM charges c ",
            $index,
            " JOIN accounts a ON a.id = c.account_id CROSS JOIN settings s
                WHERE c.state IN ('due', 'doubt', 'review') AND c.state = 'due' AND c.next_at >= $2 AND (
                    (c.waiting = 'card_rest' AND c.due_at < $2 AND ",
            bookings!(),
            " IS NOT NULL)
                    OR (c.waiting IN ('budget', 'fuse') AND c.due_at < $3 AND NOT ",
            stopped!(),
            "))
            ) AS resting"
        )
    };
}

/// Whose they are: asked only when there are any. Differs as [`MISSED`] does.
pub const MISSED_BY_ACCOUNT: Statement =
    Statement::two("missed by account", missed_by_account!("INDEXED BY charges_unresolved"), missed_by_account!(""));

/// What is put off again and again, each time to a moment that is still to come, so that [`MISSED`] trusts it: for a billing key that is
/// booked elsewhere, past due before `$2`, and for the budget or the fuse, before `$3`. Differs as [`MISSED`] does.
pub const RESTING: Statement = Statement::two("resting", resting!("INDEXED BY charges_unresolved"), resting!(""));

/// What triggers have put at the epoch, which means "at once" and does not tell since when: the first of each lane. `$2` is the
/// epoch. A lane that a brake stops is left out.
pub const FRESH: Statement = Statement::same(
    "fresh",
    concat!(
        "SELECT 'schedule' AS lane, (
            SELECT h.subscription_id FROM schedules h CROSS JOIN settings s
                WHERE h.next_look_at IS NOT NULL AND h.next_look_at <= $2 AND ",
        opens!(),
        "
                ORDER BY h.next_look_at LIMIT 1
        ) AS id
        UNION ALL SELECT 'charge' AS lane, (
            SELECT c.id FROM charges c WHERE c.account_id = a.id AND c.state = 'due' AND c.next_at IS NOT NULL
                AND c.next_at <= $2 ORDER BY c.next_at LIMIT 1
        ) AS id FROM accounts a CROSS JOIN settings s WHERE NOT ",
        stopped!()
    ),
);

/// A page of all subscriptions (after `$1`, `$2` of them): those without a schedule, and active ones whose schedule is parked as
/// paused. Mostly answered by two indexes; `rebilld` asks for the whole at most once an hour.
pub const UNSCHEDULED: Statement = Statement::same(
    "unscheduled",
    "SELECT max(p.id) AS last, count(*) FILTER (WHERE schedules.subscription_id IS NULL
            OR (schedules.parked = 'paused' AND schedules.next_look_at IS NULL
                AND (SELECT s.status FROM subscriptions s WHERE s.id = p.id) = 'active')) AS found
        FROM (SELECT id FROM subscriptions WHERE id > $1 ORDER BY id LIMIT $2) p
        LEFT JOIN schedules ON schedules.subscription_id = p.id",
);
