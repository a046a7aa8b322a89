//! Statements that look ahead: the whole book in pages, by key, so that each page costs the same.

use super::Statement;

pub const ALL: &[&Statement] =
    &[&STANDING, &STANDING_OF, &STANDING_ONE, &PENDING, &LAST_SUBSCRIPTION, &HISTORY, &OPENED_BETWEEN, &CARDS_OF, &REFERENCES_OF];

macro_rules! standing {
    () => {
        concat!(
            "SELECT ",
            super::terms::terms!(),
            ", a.id AS account_id FROM schedules h
        JOIN subscriptions s ON s.id = h.subscription_id
        JOIN accounts a ON a.name = s.account"
        )
    };
}

pub const STANDING: Statement = Statement::same(
    "standing subscriptions",
    concat!(standing!(), " WHERE h.subscription_id > $1 ORDER BY h.subscription_id LIMIT $2"),
);

/// Those of some plans. Differs because lists are arrays on Postgres and JSON on SQLite.
pub const STANDING_OF: Statement = Statement::two(
    "standing subscriptions of plans",
    concat!(
        standing!(),
        " WHERE h.subscription_id > $1 AND COALESCE(s.next_plan, s.plan) IN (SELECT value FROM json_each($3))
        ORDER BY h.subscription_id LIMIT $2"
    ),
    concat!(
        standing!(),
        " WHERE h.subscription_id > $1 AND COALESCE(s.next_plan, s.plan) = ANY ($3)
        ORDER BY h.subscription_id LIMIT $2"
    ),
);

pub const STANDING_ONE: Statement =
    Statement::same("one standing subscription", concat!(standing!(), " WHERE h.subscription_id = $1"));

/// Charges that have opened and fell due in a span, whatever became of them; voided ones were not to be paid.
pub const OPENED_BETWEEN: Statement = Statement::same(
    "opened between",
    "SELECT c.id, c.subscription_id, s.external_ref, s.plan, c.due_at, c.amount, c.currency
        FROM charges c JOIN subscriptions s ON s.id = c.subscription_id
        WHERE c.account_id = $1 AND c.due_at >= $2 AND c.due_at < $3 AND c.state <> 'void' ORDER BY c.id",
);

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const CARDS_OF: Statement = Statement::two(
    "cards of",
    "SELECT id, customer_uid FROM subscriptions WHERE id IN (SELECT value FROM json_each($1))",
    "SELECT id, customer_uid FROM subscriptions WHERE id = ANY ($1)",
);

/// Whose cards these are. Reads the account's subscriptions once. Differs because lists are arrays on Postgres and JSON on SQLite.
pub const REFERENCES_OF: Statement = Statement::two(
    "references of",
    "SELECT s.customer_uid, min(s.external_ref) AS external_ref FROM subscriptions s WHERE s.account = $1
        AND s.customer_uid IN (SELECT value FROM json_each($2)) GROUP BY s.customer_uid",
    "SELECT s.customer_uid, min(s.external_ref) AS external_ref FROM subscriptions s WHERE s.account = $1
        AND s.customer_uid = ANY ($2) GROUP BY s.customer_uid",
);

/// Charges that are not final. By list and not by range: a range would read every charge that these subscriptions ever had.
/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const PENDING: Statement = Statement::two(
    "pending charges",
    "SELECT id, subscription_id, period_start, period_end, due_at, next_at, amount, currency, state, waiting, tries, first_declined_at
        FROM charges WHERE subscription_id IN (SELECT value FROM json_each($1)) AND state IN ('due', 'doubt', 'review')",
    "SELECT id, subscription_id, period_start, period_end, due_at, next_at, amount, currency, state, waiting, tries, first_declined_at
        FROM charges WHERE subscription_id = ANY ($1) AND state IN ('due', 'doubt', 'review')",
);

pub const LAST_SUBSCRIPTION: Statement =
    Statement::same("last subscription", "SELECT coalesce(max(subscription_id), 0) AS last FROM schedules");

/// What became of the newest charges, so many at most. Differs because a sum of BIGINTs is NUMERIC on Postgres.
pub const HISTORY: Statement = Statement::two(
    "history",
    "SELECT currency, count(*) AS closed, sum(amount) AS closed_sum,
            count(*) FILTER (WHERE tries > 0) AS declined, coalesce(sum(amount) FILTER (WHERE tries > 0), 0) AS declined_sum,
            count(*) FILTER (WHERE tries > 0 AND state = 'paid') AS recovered,
            coalesce(sum(amount) FILTER (WHERE tries > 0 AND state = 'paid'), 0) AS recovered_sum
        FROM charges
        WHERE id > (SELECT coalesce(max(id), 0) FROM charges) - $1 AND state IN ('paid', 'unpaid') GROUP BY currency",
    "SELECT currency, count(*) AS closed, sum(amount)::bigint AS closed_sum,
            count(*) FILTER (WHERE tries > 0) AS declined,
            coalesce(sum(amount) FILTER (WHERE tries > 0), 0)::bigint AS declined_sum,
            count(*) FILTER (WHERE tries > 0 AND state = 'paid') AS recovered,
            coalesce(sum(amount) FILTER (WHERE tries > 0 AND state = 'paid'), 0)::bigint AS recovered_sum
        FROM charges
        WHERE id > (SELECT coalesce(max(id), 0) FROM charges) - $1 AND state IN ('paid', 'unpaid') GROUP BY currency",
);
