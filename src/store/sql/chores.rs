//! Statements of the jobs that look after the database: the daily line, and what is no longer kept.

use super::Statement;

pub const ALL: &[&Statement] = &[&PAID_SINCE, &UNRESOLVED_NOW, &LAST_DELIVERY, &PRUNE_DELIVERIES, &LAST_ROW, &PRUNE_PERSONAL];

/// Differs because a sum of BIGINTs is NUMERIC on Postgres.
pub const PAID_SINCE: Statement = Statement::two(
    "paid since",
    "SELECT a.name, c.currency, count(*) AS charges, sum(c.amount) AS sum,
            count(*) FILTER (WHERE c.tries > 0) AS recovered
        FROM accounts a JOIN charges c ON c.account_id = a.id AND c.state = 'paid' AND c.paid_at >= $1
        GROUP BY a.name, c.currency ORDER BY a.name, c.currency",
    "SELECT a.name, c.currency, count(*) AS charges, sum(c.amount)::bigint AS sum,
            count(*) FILTER (WHERE c.tries > 0) AS recovered
        FROM accounts a JOIN charges c ON c.account_id = a.id AND c.state = 'paid' AND c.paid_at >= $1
        GROUP BY a.name, c.currency ORDER BY a.name, c.currency",
);

/// Differs because SQLite, which knows of no numbers of rows, would read the whole table.
pub const UNRESOLVED_NOW: Statement = Statement::two(
    "unresolved now",
    "SELECT count(*) FILTER (WHERE state = 'due' AND tries > 0) AS dunning, count(*) FILTER (WHERE state = 'doubt') AS doubt,
            count(*) FILTER (WHERE state = 'review') AS review
        FROM charges INDEXED BY charges_unresolved WHERE state IN ('due', 'doubt', 'review')",
    "SELECT count(*) FILTER (WHERE state = 'due' AND tries > 0) AS dunning, count(*) FILTER (WHERE state = 'doubt') AS doubt,
            count(*) FILTER (WHERE state = 'review') AS review
        FROM charges WHERE state IN ('due', 'doubt', 'review')",
);

pub const LAST_DELIVERY: Statement = Statement::same("last delivery", "SELECT coalesce(max(id), 0) AS last FROM deliveries");

pub const PRUNE_DELIVERIES: Statement = Statement::same(
    "prune deliveries",
    "DELETE FROM deliveries WHERE id > $1 AND id <= $2 AND state = 'delivered' AND delivered_at < $3",
);

pub const LAST_ROW: Statement = Statement::same("last row", "SELECT coalesce(max(id), 0) AS last FROM subscriptions");

/// Only what the payer is; not what was owed or paid.
pub const PRUNE_PERSONAL: Statement = Statement::same(
    "prune personal fields",
    "UPDATE subscriptions SET buyer_name = NULL, buyer_email = NULL, buyer_tel = NULL, buyer_addr = NULL, buyer_postcode = NULL,
            custom_data = NULL, notice_url = NULL, bypass = NULL, extra = NULL
        WHERE id > $1 AND id <= $2 AND status = 'cancelled' AND updated_at < $3
            AND COALESCE(buyer_name, buyer_email, buyer_tel, buyer_addr, buyer_postcode, custom_data, notice_url, bypass, extra)
                IS NOT NULL
            AND NOT EXISTS (
                SELECT 1 FROM charges c WHERE c.subscription_id = subscriptions.id AND (c.due_at >= $3 OR c.state IN ('due', 'doubt', 'review'))
            )",
);
