//! Statements about billing keys that were ever declined.

use super::Statement;
use super::missed::bookings;

pub const ALL: &[&Statement] = &[
    &KEYS_OF,
    &BOOKED_KEYS,
    &KEY_BOOKED,
    &KEY_FREE,
    &RELEASE_KEY,
    &WAITS_FOR_KEY,
    &WAITS_FOR_BOOKED,
    &WAKE_KEYS,
    &BOOKING_OF,
    &TRIES_OF_CARDS,
    &TRIES_OF_SUBSCRIPTIONS,
    &CARDS_BEGUN,
    &CARDS_DOUBTED,
    &CARDS_REFUSED,
    &FORGET_TRIES,
];

/// What billing keys have been through; with the state `booked`, which of them PortOne's own schedule is going to charge; and a row without a
/// try for each key that several subscriptions share: its tries are kept from the first one on. Differs
/// because lists are arrays on Postgres and JSON on SQLite.
pub const TRIES_OF_CARDS: Statement = Statement::two(
    "tries of cards",
    "SELECT k.attempt_id, k.customer_uid, k.charge_id, k.at, k.class, a.state
        FROM card_tries k JOIN attempts a ON a.id = k.attempt_id
        WHERE k.account_id = $1 AND k.customer_uid IN (SELECT value FROM json_each($2)) AND k.at > $3
    UNION ALL SELECT 0, b.customer_uid, 0, b.checked_at, NULL, 'booked' FROM key_bookings b
        WHERE b.account_id = $1 AND b.customer_uid IN (SELECT value FROM json_each($2))
    UNION ALL
    SELECT NULL, d.customer_uid, NULL, NULL, NULL, NULL FROM shared_cards d
        WHERE d.account = (SELECT name FROM accounts WHERE id = $1) AND d.customer_uid IN (SELECT value FROM json_each($2))",
    "SELECT k.attempt_id, k.customer_uid, k.charge_id, k.at, k.class, a.state
        FROM card_tries k JOIN attempts a ON a.id = k.attempt_id
        WHERE k.account_id = $1 AND k.customer_uid = ANY ($2) AND k.at > $3
    UNION ALL SELECT 0, b.customer_uid, 0, b.checked_at, NULL, 'booked' FROM key_bookings b
        WHERE b.account_id = $1 AND b.customer_uid = ANY ($2)
    UNION ALL
    SELECT NULL, d.customer_uid, NULL, NULL, NULL, NULL FROM shared_cards d
        WHERE d.account = (SELECT name FROM accounts WHERE id = $1) AND d.customer_uid = ANY ($2)",
);

/// What the keys of subscriptions have been through. Differs because lists are arrays on Postgres and JSON on SQLite.
pub const TRIES_OF_SUBSCRIPTIONS: Statement = Statement::two(
    "tries of subscriptions",
    concat!(tries_of_subscriptions!(), "IN (SELECT value FROM json_each($1))"),
    concat!(tries_of_subscriptions!(), "= ANY ($1)"),
);

macro_rules! tries_of_subscriptions {
    () => {
        "SELECT s.id AS subscription_id, k.charge_id, k.at, k.class, a.state
        FROM subscriptions s
        JOIN accounts c ON c.name = s.account
        JOIN card_tries k ON k.customer_uid = s.customer_uid AND k.account_id = c.id
        JOIN attempts a ON a.id = k.attempt_id
        WHERE s.id "
    };
}
use tries_of_subscriptions;

/// Differs because batches are arrays on Postgres and JSON on SQLite.
pub const CARDS_BEGUN: Statement = Statement::two(
    "cards begun",
    "INSERT INTO card_tries (attempt_id, account_id, customer_uid, charge_id, at)
        SELECT value->>'$.attempt', $1, value->>'$.customer', value->>'$.charge', $2 FROM jsonb_each($3)
        WHERE TRUE ON CONFLICT DO NOTHING",
    "INSERT INTO card_tries (attempt_id, account_id, customer_uid, charge_id, at)
        SELECT x.attempt, $1, x.customer, x.charge, $2
        FROM unnest($3::bigint[], $4::text[], $5::bigint[]) AS x(attempt, customer, charge)
        ON CONFLICT DO NOTHING",
);

/// Differs because lists are arrays on Postgres and JSON on SQLite.
pub const CARDS_DOUBTED: Statement = Statement::two(
    "cards doubted",
    "INSERT INTO card_tries (attempt_id, account_id, customer_uid, charge_id, at)
        SELECT a.id, c.account_id, a.customer_uid, a.charge_id, $2 FROM attempts a JOIN charges c ON c.id = a.charge_id
        WHERE a.id IN (SELECT value FROM json_each($1)) ON CONFLICT DO NOTHING",
    "INSERT INTO card_tries (attempt_id, account_id, customer_uid, charge_id, at)
        SELECT a.id, c.account_id, a.customer_uid, a.charge_id, $2 FROM attempts a JOIN charges c ON c.id = a.charge_id
        WHERE a.id = ANY ($1) ON CONFLICT DO NOTHING",
);

/// An attempt that only the gateway knew of is found by its payment. Differs because batches are arrays on Postgres and JSON on
/// SQLite.
pub const CARDS_REFUSED: Statement = Statement::two(
    "cards refused",
    "INSERT INTO card_tries (attempt_id, account_id, customer_uid, charge_id, at, class)
        SELECT a.id, value->>'$.account', a.customer_uid, a.charge_id, value->>'$.at', value->>'$.class'
        FROM jsonb_each($1)
        JOIN attempts a ON a.id = COALESCE(value->>'$.attempt', (SELECT o.id FROM attempts o WHERE o.imp_uid = value->>'$.imp_uid'))
        WHERE TRUE ON CONFLICT (attempt_id) DO UPDATE SET class = excluded.class, at = excluded.at",
    "INSERT INTO card_tries (attempt_id, account_id, customer_uid, charge_id, at, class)
        SELECT a.id, x.account, a.customer_uid, a.charge_id, x.at, x.class
        FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::timestamptz[], $5::text[]) AS x(account, attempt,
            imp_uid, at, class)
        JOIN attempts a ON a.id = COALESCE(x.attempt, (SELECT o.id FROM attempts o WHERE o.imp_uid = x.imp_uid))
        ON CONFLICT (attempt_id) DO UPDATE SET class = excluded.class, at = excluded.at",
);

/// What no cap counts any more. Differs because lists are arrays on Postgres and JSON on SQLite.
pub const FORGET_TRIES: Statement = Statement::two(
    "forget tries",
    "DELETE FROM card_tries WHERE customer_uid IN (SELECT value FROM json_each($1)) AND at < $2",
    "DELETE FROM card_tries WHERE customer_uid = ANY ($1) AND at < $2",
);

/// Billing keys of an account's subscriptions that are not cancelled, in pages by the subscriptions' rows.
pub const KEYS_OF: Statement = Statement::same(
    "keys of",
    "SELECT s.id, s.customer_uid, s.status FROM subscriptions s WHERE s.id > $2 AND s.account = (SELECT name FROM accounts WHERE id = $1)
        ORDER BY s.id LIMIT $3",
);

/// In the order of their names.
pub const BOOKED_KEYS: Statement = Statement::same(
    "booked keys",
    "SELECT b.customer_uid, b.bookings, b.first_at, b.checked_at FROM key_bookings b WHERE b.account_id = $1 ORDER BY b.customer_uid",
);

/// A first booking whose time has come (by `$6`) stays the first one: it may have been carried out, and a list tells of it no more.
pub const KEY_BOOKED: Statement = Statement::same(
    "key booked",
    "INSERT INTO key_bookings (account_id, customer_uid, bookings, first_at, checked_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (customer_uid, account_id)
        DO UPDATE SET bookings = excluded.bookings, checked_at = excluded.checked_at,
            first_at = CASE WHEN key_bookings.first_at IS NULL OR key_bookings.first_at <= $6
                THEN key_bookings.first_at ELSE excluded.first_at END",
);

/// Only one whose bookings were all still to come at `$3`: another may have been charged by PortOne.
pub const KEY_FREE: Statement =
    Statement::same("key free", "DELETE FROM key_bookings WHERE account_id = $1 AND customer_uid = $2 AND first_at > $3");

/// What an operator has looked at.
pub const RELEASE_KEY: Statement =
    Statement::same("release key", "DELETE FROM key_bookings WHERE account_id = $1 AND customer_uid = $2 AND checked_at = $3");

/// What of a key is due or will be: it is sent once the key is free. Charges that wait for a new card are not among them.
pub const WAITS_FOR_KEY: Statement = Statement::same(
    "waits for key",
    "SELECT s.external_ref, c.period_start, c.due_at, c.amount, c.currency FROM charges c
        JOIN subscriptions s ON s.id = c.subscription_id
        WHERE c.account_id = $1 AND c.state = 'due' AND c.next_at IS NOT NULL AND s.customer_uid = $2 ORDER BY c.due_at, c.id",
);

/// Charges past due since before `$1` that rest for a key with bookings, by account, and since when.
pub const WAITS_FOR_BOOKED: Statement = Statement::same(
    "waits for booked",
    concat!(
        "SELECT a.name, count(*) AS charges, min(c.due_at) AS since FROM charges c JOIN accounts a ON a.id = c.account_id
            WHERE c.state = 'due' AND c.waiting = 'card_rest' AND c.due_at < $1 AND ",
        bookings!(),
        " IS NOT NULL GROUP BY a.name ORDER BY a.name"
    ),
);

/// Charges that rested for a key that is free now. Differs because lists are arrays on Postgres and JSON on SQLite.
pub const WAKE_KEYS: Statement = Statement::two(
    "wake keys",
    "UPDATE charges SET next_at = $2, version = version + 1 WHERE account_id = $1 AND state = 'due' AND waiting = 'card_rest'
        AND next_at > $2 AND claim_token IS NULL
        AND (SELECT s.customer_uid FROM subscriptions s WHERE s.id = charges.subscription_id) IN (SELECT value FROM json_each($3))",
    "UPDATE charges SET next_at = $2, version = version + 1 WHERE account_id = $1 AND state = 'due' AND waiting = 'card_rest'
        AND next_at > $2 AND claim_token IS NULL
        AND (SELECT s.customer_uid FROM subscriptions s WHERE s.id = charges.subscription_id) = ANY ($3)",
);

/// The bookings of a subscription's billing key.
pub const BOOKING_OF: Statement = Statement::same(
    "booking of",
    "SELECT b.customer_uid, b.bookings, b.first_at, b.checked_at FROM subscriptions s JOIN accounts a ON a.name = s.account
        JOIN key_bookings b ON b.account_id = a.id AND b.customer_uid = s.customer_uid WHERE s.id = $1",
);
