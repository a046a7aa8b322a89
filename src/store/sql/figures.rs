//! What `/metrics` tells of the database: asked when somebody scrapes, four times a minute at most. Each reads an index in its
//! order and ends after so many rows, however many there are.

use super::Statement;

pub const ALL: &[&Statement] = &[&ACCOUNTS, &OUTBOX, &INCIDENTS];

macro_rules! looked_up {
    () => {
        "(SELECT c.state, c.doubt_since FROM charges c WHERE c.account_id = a.id
            AND c.state IN ('doubt', 'review', 'unpaid', 'void') AND c.next_at IS NOT NULL AND c.next_at <= $3
            ORDER BY c.next_at LIMIT 20000) l"
    };
}

/// The charges that are due, by the index that the worker claims by; and what is looked up, in the order in which it is: doubts and
/// reviews come within the hour, so that the sweep of closed charges, which shares the index, is at its end.
/// `$1`: now, `$2`: the epoch, which does not say since when a charge is due, `$3`: a little after the next look-up of any doubt.
pub const ACCOUNTS: Statement = Statement::same(
    "figures of accounts",
    concat!(
        "SELECT a.id, a.name, a.audited_quick_at AS audited_at, a.paused, a.pause_reason,
            (SELECT count(*) FROM (
                SELECT c.next_at FROM charges c WHERE c.account_id = a.id AND c.state = 'due' AND c.next_at IS NOT NULL
                    AND c.next_at <= $1 ORDER BY c.next_at LIMIT 100000) d) AS due,
            (SELECT c.next_at FROM charges c WHERE c.account_id = a.id AND c.state = 'due' AND c.next_at IS NOT NULL
                AND c.next_at > $2 AND c.next_at <= $1 ORDER BY c.next_at LIMIT 1) AS oldest_due,
            (SELECT count(*) FILTER (WHERE l.state = 'doubt') FROM ",
        looked_up!(),
        ") AS doubt,
            (SELECT count(*) FILTER (WHERE l.state = 'review') FROM ",
        looked_up!(),
        ") AS review,
            (SELECT min(l.doubt_since) FILTER (WHERE l.state = 'doubt') FROM ",
        looked_up!(),
        ") AS oldest_doubt
        FROM accounts a"
    ),
);

/// The first of them by their next try; with the oldest event among those.
pub const OUTBOX: Statement = Statement::same(
    "figures of the outbox",
    "SELECT w.waiting, (SELECT e.at FROM events e WHERE e.seq = w.oldest) AS oldest_at
        FROM (SELECT count(*) AS waiting, min(d.event_seq) AS oldest FROM (
            SELECT event_seq FROM deliveries WHERE state = 'pending' ORDER BY next_at LIMIT 20000) d) w",
);

macro_rules! open {
    ($kind:literal) => {
        concat!(
            "SELECT '",
            $kind,
            "' AS kind, (SELECT count(*) FROM (
                SELECT 1 FROM incidents WHERE closed_at IS NULL AND kind = '",
            $kind,
            "' LIMIT 10000) of_",
            $kind,
            ") AS open"
        )
    };
}

/// However old they are: nothing is ever deleted, and what is closed is not read.
pub const INCIDENTS: Statement = Statement::same(
    "figures of incidents",
    concat!(
        open!("double_charge"),
        " UNION ALL ",
        open!("wrong_payment"),
        " UNION ALL ",
        open!("unknown_payment"),
        " UNION ALL ",
        open!("missing_payment"),
        " UNION ALL ",
        open!("fuse_blown")
    ),
);
