-- The fuse: whether it has blown, what went through it, what was expected, and which charges an operator has let through.
-- Only adds: the release before works on beside this one, and knows no fuse. Same tables and columns as migrations/postgres.

-- NULL: whole. In this row, because it is what batches of intents queue at: what is read of it is never older than the lock.
ALTER TABLE accounts ADD COLUMN fuse TEXT CHECK (fuse IN ('blown', 'rejected', 'approved'));
ALTER TABLE accounts ADD COLUMN fuse_why TEXT;
ALTER TABLE accounts ADD COLUMN fuse_at INTEGER;
-- How many operators have to approve.
ALTER TABLE accounts ADD COLUMN fuse_approvers INTEGER;
ALTER TABLE accounts ADD COLUMN fuse_wave INTEGER;
ALTER TABLE accounts ADD COLUMN fuse_until INTEGER;

-- New attempts since an operator last looked: of the last hour by ten minutes (slots 0 to 7), and of the account's day (8). `at` is
-- when those ten minutes or that day began; an older one is written over.
CREATE TABLE fuse_spent (
    account_id INTEGER NOT NULL,
    slot INTEGER NOT NULL CHECK (slot BETWEEN 0 AND 8),
    currency TEXT NOT NULL,
    at INTEGER NOT NULL,
    count INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (account_id, slot, currency)
) STRICT;

-- What was expected of an account's day, written once. The currency '' counts all of them, and says that the day is known.
CREATE TABLE fuse_expected (
    account_id INTEGER NOT NULL,
    day TEXT NOT NULL CHECK (day IS date(day, '+0 days')),
    currency TEXT NOT NULL,
    count INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    known_at INTEGER NOT NULL,
    PRIMARY KEY (account_id, day, currency)
) STRICT;

-- What operators were shown and have approved: one or two of them.
CREATE TABLE waves (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL,
    hash TEXT NOT NULL,
    charges INTEGER NOT NULL,
    asked_at INTEGER NOT NULL,
    first_by TEXT NOT NULL,
    second_by TEXT,
    approved_at INTEGER,
    ended_at INTEGER,
    ended_why TEXT
) STRICT;
CREATE INDEX waves_of ON waves (account_id, id);

-- Exactly these charges, with exactly these ids, amounts and cards.
CREATE TABLE wave_charges (
    wave_id INTEGER NOT NULL,
    charge_id INTEGER NOT NULL,
    merchant_uid TEXT NOT NULL,
    amount INTEGER NOT NULL,
    currency TEXT NOT NULL,
    -- A hash of the billing key's customer_uid.
    customer TEXT NOT NULL,
    begun INTEGER NOT NULL DEFAULT 0 CHECK (begun IN (0, 1)),
    PRIMARY KEY (wave_id, charge_id)
) STRICT;
CREATE INDEX wave_charges_open ON wave_charges (wave_id) WHERE NOT begun;
