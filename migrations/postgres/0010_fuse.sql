-- The fuse: whether it has blown, what went through it, what was expected, and which charges an operator has let through.
-- Only adds: the release before works on beside this one, and knows no fuse. Same tables and columns as migrations/sqlite.

-- NULL: whole. In this row, because it is what batches of intents queue at: what is read of it is never older than the lock.
ALTER TABLE accounts
    ADD COLUMN fuse TEXT CHECK (fuse IN ('blown', 'rejected', 'approved')),
    ADD COLUMN fuse_why TEXT,
    ADD COLUMN fuse_at TIMESTAMPTZ,
    -- How many operators have to approve.
    ADD COLUMN fuse_approvers BIGINT,
    ADD COLUMN fuse_wave BIGINT,
    ADD COLUMN fuse_until TIMESTAMPTZ;

-- New attempts since an operator last looked: of the last hour by ten minutes (slots 0 to 7), and of the account's day (8). `at` is
-- when those ten minutes or that day began; an older one is written over.
CREATE TABLE fuse_spent (
    account_id BIGINT NOT NULL,
    slot BIGINT NOT NULL CHECK (slot BETWEEN 0 AND 8),
    currency TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    count BIGINT NOT NULL,
    sum BIGINT NOT NULL,
    PRIMARY KEY (account_id, slot, currency)
) WITH (fillfactor = 50);

-- What was expected of an account's day, written once. The currency '' counts all of them, and says that the day is known.
CREATE TABLE fuse_expected (
    account_id BIGINT NOT NULL,
    day DATE NOT NULL,
    currency TEXT NOT NULL,
    count BIGINT NOT NULL,
    sum BIGINT NOT NULL,
    known_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (account_id, day, currency)
);

-- What operators were shown and have approved: one or two of them.
CREATE TABLE waves (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id BIGINT NOT NULL,
    hash TEXT NOT NULL,
    charges BIGINT NOT NULL,
    asked_at TIMESTAMPTZ NOT NULL,
    first_by TEXT NOT NULL,
    second_by TEXT,
    approved_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    ended_why TEXT
);
CREATE INDEX waves_of ON waves (account_id, id);

-- Exactly these charges, with exactly these ids, amounts and cards.
CREATE TABLE wave_charges (
    wave_id BIGINT NOT NULL,
    charge_id BIGINT NOT NULL,
    merchant_uid TEXT NOT NULL,
    amount BIGINT NOT NULL,
    currency TEXT NOT NULL,
    -- A hash of the billing key's customer_uid.
    customer TEXT NOT NULL,
    begun BOOLEAN NOT NULL DEFAULT false,
    PRIMARY KEY (wave_id, charge_id)
);
CREATE INDEX wave_charges_open ON wave_charges (wave_id) WHERE NOT begun;
