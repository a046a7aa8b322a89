-- Alarms: what was told of, to whom it is still owed, and who looks. Only adds: the release before works on beside this one. Same
-- tables and columns as migrations/sqlite.

CREATE TABLE alarms (
    kind TEXT NOT NULL,
    -- Empty: no single account's.
    account TEXT NOT NULL,
    -- Tells apart several of one kind and account, such as incidents; mostly empty.
    subject TEXT NOT NULL,
    what TEXT NOT NULL,
    next_step TEXT NOT NULL,
    concerns JSONB NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    -- What was said last, and when; `resolved`: it is over.
    turn TEXT NOT NULL CHECK (turn IN ('raised', 'repeated', 'resolved')),
    told_at TIMESTAMPTZ NOT NULL,
    -- Names of the channels that have not taken that yet, each with a bar before and behind it.
    owed TEXT NOT NULL,
    PRIMARY KEY (kind, account, subject)
);
CREATE INDEX alarms_standing ON alarms (kind, account, subject) WHERE turn <> 'resolved' OR owed <> '|';

-- Which daemon looks and tells; the others only see to it that it does.
CREATE TABLE alarm_watch (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    holder TEXT,
    until TIMESTAMPTZ
);
INSERT INTO alarm_watch (id) VALUES (1);

-- What alarms ask for every few seconds must not grow with what is due.
CREATE INDEX incidents_open ON incidents (kind, id) WHERE closed_at IS NULL;
-- Built before this, while others write, where the table is there already (src/store/ahead.rs).
CREATE INDEX IF NOT EXISTS charges_troubled ON charges (account_id, state, doubt_since) WHERE state IN ('doubt', 'review');
