//! Statements about webhooks that come in. None of them runs unless one has come.

use super::Statement;

pub const ALL: &[&Statement] = &[&WEBHOOK_TOKENS, &ADD_WEBHOOK_TOKEN, &ROTATE_WEBHOOK_TOKEN, &HINTED, &LOOK_UP_SOON];

pub const WEBHOOK_TOKENS: Statement = Statement::same(
    "webhook tokens",
    "SELECT id, name, webhook_token, webhook_token_at FROM accounts WHERE webhook_token IS NOT NULL ORDER BY id",
);

/// Whoever comes first makes it.
pub const ADD_WEBHOOK_TOKEN: Statement = Statement::same(
    "add webhook token",
    "UPDATE accounts SET webhook_token = $2, webhook_token_at = $3 WHERE name = $1 AND webhook_token IS NULL",
);

pub const ROTATE_WEBHOOK_TOKEN: Statement =
    Statement::same("rotate webhook token", "UPDATE accounts SET webhook_token = $2, webhook_token_at = $3 WHERE name = $1");

/// The charges of one account that some ids belong to. Differs because lists are arrays on Postgres and JSON on SQLite.
pub const HINTED: Statement = Statement::two(
    "hinted",
    "SELECT i.merchant_uid, c.id, c.state, c.next_at, c.claim_until FROM ids i JOIN charges c ON c.id = i.charge_id
        WHERE i.merchant_uid IN (SELECT value FROM json_each($1)) AND c.account_id = $2",
    "SELECT i.merchant_uid, c.id, c.state, c.next_at, c.claim_until FROM ids i JOIN charges c ON c.id = i.charge_id
        WHERE i.merchant_uid = ANY ($1) AND c.account_id = $2",
);

/// Their version stays: nothing of what was decided about them has changed, and a fence that names it must go on holding. A charge that
/// somebody has in hand is left to them. Differs because SQLite has one writer and no row locks.
pub const LOOK_UP_SOON: Statement = Statement::two(
    "look up soon",
    "UPDATE charges SET next_at = $2 WHERE id IN (SELECT value FROM json_each($1))
        AND state IN ('doubt', 'review', 'unpaid', 'void') AND (next_at IS NULL OR next_at > $2)
        AND (claim_until IS NULL OR claim_until <= $2) RETURNING id",
    "UPDATE charges SET next_at = $2 WHERE id = ANY (ARRAY (
            SELECT id FROM charges WHERE id = ANY ($1) AND state IN ('doubt', 'review', 'unpaid', 'void')
                AND (next_at IS NULL OR next_at > $2) AND (claim_until IS NULL OR claim_until <= $2)
            ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
        )) RETURNING id",
);
