-- The address that PortOne's webhooks come in by. Only adds: the release before works on beside this one. Same tables and columns as
-- migrations/sqlite.

-- The part of it that nobody can guess, shared by all replicas. NULL: no daemon of this release has started yet. It is not stored as a
-- hash, because an operator has to be able to read it again: all that it opens is a request to look something up.
ALTER TABLE accounts
    ADD COLUMN webhook_token TEXT CHECK (length(webhook_token) = 26),
    ADD COLUMN webhook_token_at TIMESTAMPTZ;
