-- The journal becomes a chain, daemons say what stops them, and imports hold what looks wrong. Only adds: the release before
-- works on beside this one. Same tables and columns as migrations/postgres.

-- `previous`: the hash of the entry before, `hash`: of the entry with it. Entries of older releases have neither; the next one
-- that has covers them. `config_version`: the config in force when something was done.
ALTER TABLE journal ADD COLUMN config_version INTEGER;
ALTER TABLE journal ADD COLUMN previous TEXT CHECK (length(previous) = 64);
ALTER TABLE journal ADD COLUMN hash TEXT CHECK (length(hash) = 64);
-- No two entries follow the same one: the chain never forks.
CREATE UNIQUE INDEX journal_chain ON journal (previous) WHERE previous IS NOT NULL;

-- What stops this daemon alone, such as a file on its machine, for people.
ALTER TABLE config_daemons ADD COLUMN stopped_by TEXT;

-- Rows of imports that look wrong and wait for an operator: they are in no other table, so nothing is charged by them.
CREATE TABLE import_holds (
    account TEXT NOT NULL,
    external_ref TEXT NOT NULL,
    -- Those of one import stay together.
    import_id TEXT NOT NULL,
    file TEXT NOT NULL,
    line INTEGER NOT NULL,
    -- The cells of the row by column; one that is null was empty, one that is missing was not in the file.
    cells TEXT NOT NULL,
    -- Of the cells: the same row is known again, also when it was rejected and its cells are gone.
    row_hash TEXT NOT NULL,
    -- A line each.
    reasons TEXT NOT NULL,
    who TEXT NOT NULL,
    held_at INTEGER NOT NULL,
    rejected_at INTEGER,
    PRIMARY KEY (account, external_ref)
) STRICT;
